//! An API key made in this process, for a deployment of which this process is the only client.

use likeness_engine::{Account, Administration, ApiKey, NewApiKey, Result, Scopes};
use likeness_proto::credential::Credential;

/// Makes a key of the operator's account with all scopes.
///
/// # Errors
/// The store failed.
pub fn all_scopes(administration: &Administration<'_>, label: &str) -> Result<ApiKey> {
    let account = Account::default();
    administration.ensure_account(&account)?;
    let new = NewApiKey {
        scopes: Scopes::ALL,
        label: label.to_owned(),
        ..NewApiKey::default()
    };
    Ok(administration.create_api_key(&account, new)?.0)
}

/// The key as a client sends it.
pub fn of(key: &ApiKey) -> Credential {
    Credential::parse(&key.text()).expect("the text of a key has the form of a key")
}
