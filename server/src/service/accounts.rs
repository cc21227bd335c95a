//! Accounts and API keys.

use likeness_engine::{Account, AccountSettings, Act};
use likeness_proto::v1::account_service_server::AccountService;
use likeness_proto::v1::{
    CloseAccountRequest, CloseAccountResponse, CreateAccountRequest, CreateAccountResponse,
    CreateApiKeyRequest, CreateApiKeyResponse, GetAccountRequest, GetAccountResponse, ListAccountsRequest,
    ListAccountsResponse, ListApiKeysRequest, ListApiKeysResponse, ListAuditLogRequest, ListAuditLogResponse,
    RevokeApiKeyRequest, RevokeApiKeyResponse, UpdateAccountRequest, UpdateAccountResponse,
};
use tonic::{Request, Response, Status};

use super::{Ongoing, Service};
use crate::convert;
use crate::rpcs;
use crate::status::Refusal;

/// Entries that are looked at for one page: an account that has few among many goes on from there.
const AUDIT_SEEN_MAX: usize = 10_000;

#[tonic::async_trait]
impl AccountService for Service {
    async fn create_account(
        &self,
        request: Request<CreateAccountRequest>,
    ) -> Result<Response<CreateAccountResponse>, Status> {
        let mut call = self.begin("CreateAccount", &request)?;
        let answer = create(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn get_account(
        &self,
        request: Request<GetAccountRequest>,
    ) -> Result<Response<GetAccountResponse>, Status> {
        let mut call = self.begin("GetAccount", &request)?;
        let answer = get(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn list_accounts(
        &self,
        request: Request<ListAccountsRequest>,
    ) -> Result<Response<ListAccountsResponse>, Status> {
        let mut call = self.begin("ListAccounts", &request)?;
        let answer = list(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn update_account(
        &self,
        request: Request<UpdateAccountRequest>,
    ) -> Result<Response<UpdateAccountResponse>, Status> {
        let mut call = self.begin("UpdateAccount", &request)?;
        let answer = update(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn close_account(
        &self,
        request: Request<CloseAccountRequest>,
    ) -> Result<Response<CloseAccountResponse>, Status> {
        let mut call = self.begin("CloseAccount", &request)?;
        let answer = close(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn list_audit_log(
        &self,
        request: Request<ListAuditLogRequest>,
    ) -> Result<Response<ListAuditLogResponse>, Status> {
        let mut call = self.begin("ListAuditLog", &request)?;
        let answer = list_audit(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn create_api_key(
        &self,
        request: Request<CreateApiKeyRequest>,
    ) -> Result<Response<CreateApiKeyResponse>, Status> {
        let mut call = self.begin("CreateApiKey", &request)?;
        let answer = create_key(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn list_api_keys(
        &self,
        request: Request<ListApiKeysRequest>,
    ) -> Result<Response<ListApiKeysResponse>, Status> {
        let mut call = self.begin("ListApiKeys", &request)?;
        let answer = list_keys(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn revoke_api_key(
        &self,
        request: Request<RevokeApiKeyRequest>,
    ) -> Result<Response<RevokeApiKeyResponse>, Status> {
        let mut call = self.begin("RevokeApiKey", &request)?;
        let answer = revoke_key(&mut call, request.into_inner()).await;
        call.finish(answer)
    }
}

/// The account that a request names: the key's own, or for the operator any. Others do not exist.
fn named(call: &Ongoing, field: &'static str, name: &str) -> Result<Account, Refusal> {
    if name.is_empty() {
        return Ok(call.caller.account.clone());
    }
    let account = convert::in_field(field, Account::parse(name))?;
    let operates = call.caller.may(rpcs::OPERATOR).is_ok();
    if account == call.caller.account || operates {
        Ok(account)
    } else {
        Err(convert::no_such_account().into())
    }
}

async fn create(call: &mut Ongoing, request: CreateAccountRequest) -> Result<CreateAccountResponse, Refusal> {
    let name = convert::in_field("name", Account::parse(&request.name))?;
    let settings = AccountSettings {
        region: request.region,
        quotas: convert::quotas(request.quotas),
    };
    let entry = call.act(Act::CreateAccount, &name, "");
    let made = call
        .store(move |work, _| {
            let administration = work.engine.administration();
            let made = administration.audited(&entry, |a| a.create_account(&name, settings))?;
            Ok(convert::account(made, &administration))
        })
        .await?;
    Ok(CreateAccountResponse {
        call: None,
        account: Some(made),
    })
}

async fn get(call: &mut Ongoing, request: GetAccountRequest) -> Result<GetAccountResponse, Refusal> {
    let name = named(call, "name", &request.name)?;
    let found = call
        .store(move |work, _| {
            let administration = work.engine.administration();
            Ok(convert::account(administration.account(&name)?, &administration))
        })
        .await?;
    Ok(GetAccountResponse {
        call: None,
        account: Some(found),
    })
}

async fn list(call: &mut Ongoing, request: ListAccountsRequest) -> Result<ListAccountsResponse, Refusal> {
    let items_max = convert::page_size(request.page_size)?;
    let after = match request.cursor.as_str() {
        "" => None,
        cursor => Some(convert::in_field("cursor", Account::parse(cursor))?),
    };
    call.store(move |work, _| {
        let administration = work.engine.administration();
        let page = administration.accounts(after.as_ref(), items_max);
        let accounts = page.items.into_iter();
        Ok(ListAccountsResponse {
            call: None,
            accounts: accounts
                .map(|info| convert::account(info, &administration))
                .collect(),
            next_cursor: page.next.unwrap_or_default(),
        })
    })
    .await
}

async fn update(call: &mut Ongoing, request: UpdateAccountRequest) -> Result<UpdateAccountResponse, Refusal> {
    let name = convert::in_field("name", Account::parse(&request.name))?;
    let change = move |before: AccountSettings| AccountSettings {
        region: request.region.unwrap_or(before.region),
        quotas: request
            .quotas
            .map_or(before.quotas, |quotas| convert::quotas(Some(quotas))),
    };
    let entry = call.act(Act::UpdateAccount, &name, "");
    let changed = call
        .store(move |work, _| {
            let administration = work.engine.administration();
            let changed = administration.audited(&entry, |a| a.update_account(&name, change))?;
            Ok(convert::account(changed, &administration))
        })
        .await?;
    Ok(UpdateAccountResponse {
        call: None,
        account: Some(changed),
    })
}

async fn close(call: &mut Ongoing, request: CloseAccountRequest) -> Result<CloseAccountResponse, Refusal> {
    let name = convert::closing(&request)?;
    let entry = call.act(Act::CloseAccount, &name, "");
    let closed = call
        .store(move |work, call| {
            let request = call.request();
            let administration = work.engine.administration();
            Ok(administration.audited(&entry, |a| a.close_account(&name, request))?)
        })
        .await?;
    Ok(CloseAccountResponse {
        call: None,
        persons_erased: closed.persons,
        receipts: closed.receipts,
        final_receipt: Some(convert::receipt(closed.receipt)),
        unreadable_collections: closed.unreadable_collections,
        unreadable_collections_left: closed.unreadable_left,
    })
}

async fn list_audit(
    call: &mut Ongoing,
    request: ListAuditLogRequest,
) -> Result<ListAuditLogResponse, Refusal> {
    let items_max = convert::page_size(request.page_size)?;
    let all = call.caller.is_operator();
    call.store(move |work, _| {
        let (mut entries, mut last, mut seen) = (Vec::new(), request.first, 0);
        let size = work
            .engine
            .administration()
            .audit_log(request.first, &mut |audited| {
                last = audited.sequence + 1;
                seen += 1;
                // Another's entries do not exist; only how many there are shows, in the numbers.
                if all || audited.entry.account == work.account || audited.entry.of == work.account {
                    entries.push(convert::audited(audited));
                }
                entries.len() < items_max && seen < AUDIT_SEEN_MAX
            })?;
        Ok(ListAuditLogResponse {
            call: None,
            entries,
            next: if last < size { last } else { 0 },
        })
    })
    .await
}

async fn create_key(
    call: &mut Ongoing,
    request: CreateApiKeyRequest,
) -> Result<CreateApiKeyResponse, Refusal> {
    let account = named(call, "account", &request.account)?;
    let new = convert::new_api_key(request)?;
    let entry = call.act(Act::CreateApiKey, &account, &new.label);
    let (shown, info) = call
        .store(move |work, _| {
            let administration = work.engine.administration();
            Ok(administration.audited(&entry, |a| a.create_api_key(&account, new))?)
        })
        .await?;
    Ok(CreateApiKeyResponse {
        call: None,
        api_key: Some(convert::api_key(info)),
        secret_text: shown.text().to_string(),
    })
}

async fn list_keys(call: &mut Ongoing, request: ListApiKeysRequest) -> Result<ListApiKeysResponse, Refusal> {
    let account = named(call, "account", &request.account)?;
    let keys = call
        .store(move |work, _| Ok(work.engine.administration().api_keys(&account)?))
        .await?;
    Ok(ListApiKeysResponse {
        call: None,
        api_keys: keys.into_iter().map(convert::api_key).collect(),
    })
}

async fn revoke_key(
    call: &mut Ongoing,
    request: RevokeApiKeyRequest,
) -> Result<RevokeApiKeyResponse, Refusal> {
    let account = named(call, "account", &request.account)?;
    let id = convert::key_id(&request.key_id)?;
    let entry = call.act(Act::RevokeApiKey, &account, &id.to_string());
    call.store(move |work, call| {
        let administration = work.engine.administration();
        let request = call.request();
        // The audit log has no room for what is not there: whoever may ask could fill it.
        if !administration.has_api_key(&account, id) {
            return Err(convert::no_such_api_key().into());
        }
        Ok(administration.audited(&entry, |a| a.revoke_api_key(&account, id, request))?)
    })
    .await?;
    Ok(RevokeApiKeyResponse { call: None })
}
