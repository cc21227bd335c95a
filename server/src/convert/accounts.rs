//! Accounts and API keys, from the wire and to it.

use likeness_engine::{
    Account, AccountInfo, Administration, ApiKeyInfo, Audited, CollectionName, Error, NewApiKey, Quotas,
    RandomId, RequestError, Result, Scope,
};
use likeness_proto::v1;

use super::replies::{count, time};
use super::requests::{expires, in_field};

/// An account that is not the caller's, in the engine's own words: it must not be told from one that there is
/// not.
pub fn no_such_account() -> Error {
    RequestError::NoAccount.into()
}

/// A key that the account does not have.
pub fn no_such_api_key() -> Error {
    RequestError::NoApiKey.into()
}

/// Quotas; none are no limits.
pub fn quotas(quotas: Option<v1::Quotas>) -> Quotas {
    let v1::Quotas {
        persons,
        faces,
        calls_per_second,
    } = quotas.unwrap_or_default();
    Quotas {
        persons,
        faces,
        calls_per_second,
    }
}

/// An account, on the wire.
pub fn account(info: AccountInfo, administration: &Administration<'_>) -> v1::Account {
    let holding = administration.holding(&info.name);
    let warning = administration.faces_warning();
    v1::Account {
        collections: holding.collections,
        persons: holding.persons,
        faces: holding.faces,
        faces_warning: warning,
        above_warning: warning != 0 && holding.faces >= warning,
        final_receipt: info.final_receipt,
        name: info.name.as_str().to_owned(),
        region: info.settings.region,
        quotas: Some(v1::Quotas {
            persons: info.settings.quotas.persons,
            faces: info.settings.quotas.faces,
            calls_per_second: info.settings.quotas.calls_per_second,
        }),
        created: time(info.created),
        closed: info.closed.and_then(time),
        api_keys: count(info.keys),
    }
}

/// A guard against closing by mistake: the caller says the name twice. The operator's own account is closed with
/// the deployment.
pub fn closing(request: &v1::CloseAccountRequest) -> Result<Account> {
    let name = in_field("name", Account::parse(&request.name))?;
    if request.confirm_name != request.name {
        let received = format!("{} bytes of another name", request.confirm_name.len());
        return Err(RequestError::invalid("confirm_name", "the same name again", received).into());
    }
    if name == Account::default() {
        let expected = "another account than the operator's, which ends with the deployment";
        return Err(RequestError::invalid("name", expected, "the operator's").into());
    }
    Ok(name)
}

/// An entry of the audit log, on the wire.
pub fn audited(audited: Audited) -> v1::AuditEntry {
    v1::AuditEntry {
        sequence: audited.sequence,
        time: time(audited.time),
        account: audited.entry.account.as_str().to_owned(),
        key_id: audited.entry.key.map(|key| key.to_string()).unwrap_or_default(),
        request_id: audited.entry.request.to_string(),
        act: audited.entry.act.name().to_owned(),
        of_account: audited.entry.of.as_str().to_owned(),
        object: audited.entry.object,
        failed: audited.failed,
        previous_hash: audited.previous.to_vec(),
        hash: audited.hash.to_vec(),
    }
}

/// What a new key is to be able to do.
pub fn new_api_key(request: v1::CreateApiKeyRequest) -> Result<NewApiKey> {
    let names = request.collections.iter().map(|name| CollectionName::parse(name));
    let collections = in_field("collections", names.collect::<Result<_>>())?;
    let scopes = request.scopes.iter().map(|scope| self::scope(*scope));
    Ok(NewApiKey {
        scopes: scopes.collect::<Result<_>>()?,
        collections: Some(collections).filter(|_| !request.collections.is_empty()),
        expires: expires(request.expires)?,
        label: request.label,
    })
}

fn scope(wire: i32) -> Result<Scope> {
    let known = Scope::ALL
        .into_iter()
        .find(|scope| i32::from(wire_scope(*scope)) == wire);
    known.ok_or_else(|| RequestError::invalid("scopes", "known scopes", wire.to_string()).into())
}

/// A scope, on the wire.
pub fn wire_scope(scope: Scope) -> v1::Scope {
    match scope {
        Scope::Read => v1::Scope::Read,
        Scope::Enrol => v1::Scope::Enrol,
        Scope::Import => v1::Scope::Import,
        Scope::Search => v1::Scope::Search,
        Scope::Verify => v1::Scope::Verify,
        Scope::Erase => v1::Scope::Erase,
        Scope::Admin => v1::Scope::Admin,
        Scope::Audit => v1::Scope::Audit,
        Scope::Duplicates => v1::Scope::Duplicates,
    }
}

/// A key, on the wire.
pub fn api_key(info: ApiKeyInfo) -> v1::ApiKey {
    let names = info.collections.into_iter().flatten();
    v1::ApiKey {
        key_id: info.id.to_string(),
        account: info.account.as_str().to_owned(),
        scopes: info.scopes.iter().map(|scope| wire_scope(scope).into()).collect(),
        collections: names.map(|name| name.as_str().to_owned()).collect(),
        created: time(info.created),
        expires: info.expires.and_then(time),
        label: info.label,
    }
}

/// A key's public name.
pub fn key_id(text: &str) -> Result<RandomId> {
    RandomId::parse(text).ok_or_else(|| {
        RequestError::invalid("key_id", "32 hex digits", format!("{} bytes", text.len())).into()
    })
}
