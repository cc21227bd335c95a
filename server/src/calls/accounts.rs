//! Accounts and API keys.

use likeness_engine::{Account, AccountSettings, Act};
use likeness_proto::v1::{
    CloseAccountRequest, CloseAccountResponse, CreateAccountRequest, CreateAccountResponse,
    CreateApiKeyRequest, CreateApiKeyResponse, GetAccountRequest, GetAccountResponse, ListAccountsRequest,
    ListAccountsResponse, ListApiKeysRequest, ListApiKeysResponse, ListAuditLogRequest, ListAuditLogResponse,
    RevokeApiKeyRequest, RevokeApiKeyResponse, UpdateAccountRequest, UpdateAccountResponse,
};

use crate::call::context::CallContext;
use crate::call::rpcs;
use crate::convert;
use crate::refusal::Refusal;

/// Entries that are looked at for one page: an account that has few among many goes on from there.
const AUDIT_SEEN_MAX: usize = 10_000;

/// The account that a request names: the key's own, or for the operator any. Others do not exist.
fn named(call: &CallContext, field: &'static str, name: &str) -> Result<Account, Refusal> {
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

pub async fn create(
    call: &mut CallContext,
    request: CreateAccountRequest,
) -> Result<CreateAccountResponse, Refusal> {
    let name = convert::in_field("name", Account::parse(&request.name))?;
    let settings = AccountSettings {
        region: request.region,
        quotas: convert::quotas(request.quotas),
    };
    let entry = call.act(Act::CreateAccount, &name, "");
    let made = call
        .on_storage_pool(move |work, _| {
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

pub async fn get(call: &mut CallContext, request: GetAccountRequest) -> Result<GetAccountResponse, Refusal> {
    let name = named(call, "name", &request.name)?;
    let found = call
        .on_storage_pool(move |work, _| {
            let administration = work.engine.administration();
            Ok(convert::account(administration.account(&name)?, &administration))
        })
        .await?;
    Ok(GetAccountResponse {
        call: None,
        account: Some(found),
    })
}

pub async fn list(
    call: &mut CallContext,
    request: ListAccountsRequest,
) -> Result<ListAccountsResponse, Refusal> {
    let items_max = convert::page_size(request.page_size)?;
    let after = match request.cursor.as_str() {
        "" => None,
        cursor => Some(convert::in_field("cursor", Account::parse(cursor))?),
    };
    call.on_storage_pool(move |work, _| {
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

pub async fn update(
    call: &mut CallContext,
    request: UpdateAccountRequest,
) -> Result<UpdateAccountResponse, Refusal> {
    let name = convert::in_field("name", Account::parse(&request.name))?;
    let change = move |before: AccountSettings| AccountSettings {
        region: request.region.unwrap_or(before.region),
        quotas: request
            .quotas
            .map_or(before.quotas, |quotas| convert::quotas(Some(quotas))),
    };
    let entry = call.act(Act::UpdateAccount, &name, "");
    let changed = call
        .on_storage_pool(move |work, _| {
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

pub async fn close(
    call: &mut CallContext,
    request: CloseAccountRequest,
) -> Result<CloseAccountResponse, Refusal> {
    let name = convert::closing(&request)?;
    let entry = call.act(Act::CloseAccount, &name, "");
    let closed = call
        .on_storage_pool(move |work, call| {
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

pub async fn list_audit(
    call: &mut CallContext,
    request: ListAuditLogRequest,
) -> Result<ListAuditLogResponse, Refusal> {
    let items_max = convert::page_size(request.page_size)?;
    let all = call.caller.is_operator();
    call.on_storage_pool(move |work, _| {
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

pub async fn create_key(
    call: &mut CallContext,
    request: CreateApiKeyRequest,
) -> Result<CreateApiKeyResponse, Refusal> {
    let account = named(call, "account", &request.account)?;
    let new = convert::new_api_key(request)?;
    let entry = call.act(Act::CreateApiKey, &account, &new.label);
    let (shown, info) = call
        .on_storage_pool(move |work, _| {
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

pub async fn list_keys(
    call: &mut CallContext,
    request: ListApiKeysRequest,
) -> Result<ListApiKeysResponse, Refusal> {
    let account = named(call, "account", &request.account)?;
    let keys = call
        .on_storage_pool(move |work, _| Ok(work.engine.administration().api_keys(&account)?))
        .await?;
    Ok(ListApiKeysResponse {
        call: None,
        api_keys: keys.into_iter().map(convert::api_key).collect(),
    })
}

pub async fn revoke_key(
    call: &mut CallContext,
    request: RevokeApiKeyRequest,
) -> Result<RevokeApiKeyResponse, Refusal> {
    let account = named(call, "account", &request.account)?;
    let id = convert::key_id(&request.key_id)?;
    let entry = call.act(Act::RevokeApiKey, &account, &id.to_string());
    call.on_storage_pool(move |work, call| {
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
