//! What the program does with the engine in its own process: keys, a deployment whose server does not run, receipts.

mod receipts;

use std::fmt::Write as _;
use std::path::Path;

use likeness_engine::{Account, Act, AuditEntry, Error, KeyStore, Offline, RandomId, residue};
use likeness_proto::v1;
use likeness_server::config::{MESSAGE_BYTES_MAX, ModelFilesError};
use likeness_server::{ServeError, wire};
use serde_json::json;

pub use likeness_engine::wipe_stack;

pub use self::receipts::{checkpoint, receipt, subject, verify_receipts};
use super::Outcome;
use super::client::{RECEIPTS_BYTES_MAX, counted, hex};
use super::exit::{CONFIGURATION, DATA, Failure, UNAVAILABLE};
use super::key::StoreArguments;
use super::offline::OfflineArguments;
use crate::assets::AssetsError;

const _: () = assert!(RECEIPTS_BYTES_MAX == MESSAGE_BYTES_MAX);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match error {
            Error::Photo(_) | Error::Request(_) => DATA,
            _ => CONFIGURATION,
        };
        let message = error.to_string();
        Self::Local { code, message }
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        let code = match error {
            ServeError::NotDrained(_) => UNAVAILABLE,
            _ => CONFIGURATION,
        };
        let message = error.to_string();
        Self::Local { code, message }
    }
}

impl From<AssetsError> for Failure {
    fn from(error: AssetsError) -> Self {
        let (code, message) = (CONFIGURATION, error.to_string());
        Self::Local { code, message }
    }
}

impl From<ModelFilesError> for Failure {
    fn from(error: ModelFilesError) -> Self {
        AssetsError::from(error).into()
    }
}

/// Makes the keys of a new deployment; answers the public key that receipts are verified with.
pub fn init_keys(store: &StoreArguments, data: &Path) -> Result<[u8; 32], Failure> {
    Ok(key_store(store).init(data)?)
}

/// Replaces the root key.
pub fn rotate_root_key(store: &StoreArguments, new_command: Option<String>) -> Result<(), Failure> {
    Ok(key_store(store).rotate_root(new_command)?)
}

fn key_store(store: &StoreArguments) -> KeyStore {
    KeyStore::new(&store.keys, store.root_key_command.clone())
}

/// Opens the deployment that the options name.
fn open(arguments: &OfflineArguments) -> Result<Offline, Failure> {
    let (Some(keys), Some(data)) = (&arguments.keys, &arguments.data) else {
        return Err(Failure::Usage(
            "expected --keys and --data of the deployment".to_owned(),
        ));
    };
    let store = KeyStore::new(keys, arguments.root_key_command.clone());
    Ok(Offline::open(&store, data)?)
}

/// The account, which is the operator's where none is named.
fn account(name: Option<&str>) -> Result<Account, Failure> {
    Ok(name.map_or_else(|| Ok(Account::default()), Account::parse)?)
}

/// Makes an API key; answers it with its text.
pub fn create_api_key(
    arguments: &OfflineArguments,
    name: Option<&str>,
    request: v1::CreateApiKeyRequest,
) -> Result<(v1::ApiKey, String), Failure> {
    let offline = open(arguments)?;
    let account = account(name)?;
    let administration = offline.administration();
    let new = wire::new_api_key(request)?;
    let entry = offline_act(Act::CreateApiKey, &account, &new.label);
    let (shown, info) = administration.audited(&entry, |administration| {
        administration.ensure_account(&account)?;
        administration.create_api_key(&account, new)
    })?;
    Ok((wire::api_key(info), shown.text().to_string()))
}

/// The API keys of an account.
pub fn api_keys(arguments: &OfflineArguments, name: Option<&str>) -> Result<Vec<v1::ApiKey>, Failure> {
    let keys = open(arguments)?.administration().api_keys(&account(name)?)?;
    Ok(keys.into_iter().map(wire::api_key).collect())
}

/// Revokes an API key.
pub fn revoke_api_key(arguments: &OfflineArguments, name: Option<&str>, key_id: &str) -> Result<(), Failure> {
    let offline = open(arguments)?;
    let id = wire::key_id(key_id)?;
    let administration = offline.administration();
    let account = account(name)?;
    let entry = offline_act(Act::RevokeApiKey, &account, key_id);
    administration.audited(&entry, |administration| {
        administration.revoke_api_key(&account, id, entry.request)
    })?;
    Ok(())
}

/// An act of the operator, without a server.
fn offline_act(act: Act, of: &Account, object: &str) -> AuditEntry {
    AuditEntry {
        account: Account::default(),
        key: None,
        request: RandomId::random(),
        act,
        of: of.clone(),
        object: object.to_owned(),
    }
}

/// What must be typed to end everything.
const CONFIRMATION: &str = "close everything";
/// What is left to say, beside the copy of the erasure log in the key store.
const CLOSED_FILE: &str = "closed";

/// Ends the deployment.
pub fn close_deployment(arguments: &OfflineArguments, confirm: &str) -> Result<Outcome, Failure> {
    if confirm != CONFIRMATION {
        return Err(Failure::Usage(format!(
            "--confirm: expected the words '{CONFIRMATION}'"
        )));
    }
    let offline = open(arguments)?;
    let keys = arguments.keys.as_deref().expect("a deployment was opened");
    let closed = offline.close_deployment(RandomId::random())?;
    let mut said = format!(
        "deployment {} is closed: {}, {} erased, {} in the erasure log\ncheckpoint {}\n",
        closed.deployment,
        counted(closed.accounts, "account", "accounts"),
        counted(closed.persons, "person", "people"),
        counted(closed.receipts, "receipt", "receipts"),
        hex(&closed.checkpoint)
    );
    if closed.unreadable_collections > 0 {
        let unreadable = counted(closed.unreadable_collections, "collection", "collections");
        said += &format!("{unreadable} could not be read, and went with the others\n");
    }
    let path = keys.join(CLOSED_FILE);
    std::fs::write(&path, &said).map_err(|source| Failure::File {
        doing: "writing",
        path: path.clone(),
        source,
    })?;
    let text = format!(
        "{said}The keys are destroyed, and the data are noise. Kept in {}: {CLOSED_FILE}, the erasure log and its \
         anchor.\n",
        keys.display()
    );
    let json = json!({
        "deployment": closed.deployment.to_string(),
        "accounts": closed.accounts,
        "persons_erased": closed.persons,
        "unreadable_collections": closed.unreadable_collections,
        "receipts": closed.receipts,
        "checkpoint": hex(&closed.checkpoint),
    });
    Ok(Outcome::done(json, text))
}

/// Opening the deployment is what verifies it, as in every start.
pub fn verify_audit_log(arguments: &OfflineArguments) -> Result<Outcome, Failure> {
    let offline = open(arguments)?;
    let mut last = [0; 32];
    let entries = offline.administration().audit_log(0, &mut |audited| {
        last = audited.hash;
        true
    })?;
    let text = format!(
        "whole: {}, the last {}\n",
        counted(entries, "entry", "entries"),
        hex(&last)
    );
    Ok(Outcome::done(
        json!({ "entries": entries, "last_hash": hex(&last) }),
        text,
    ))
}

/// Looks for the fingerprints in every file of a directory.
pub fn scan_residue(prints: &[u8], data: &Path) -> Result<Outcome, Failure> {
    Ok(report(&residue::scan(prints, data)?))
}

fn report(scanned: &residue::Scanned) -> Outcome {
    let mut text = String::new();
    for finding in &scanned.findings {
        let (file, kind) = (finding.file.display(), finding.kind.name());
        let _ = writeln!(text, "{file}: a part of the {kind} at byte {}", finding.offset);
    }
    let clean = scanned.findings.is_empty();
    let verdict = if clean {
        "nothing is left"
    } else {
        "something is left"
    };
    let _ = writeln!(
        text,
        "{verdict}: {} files, {} bytes",
        scanned.files, scanned.bytes
    );
    Outcome {
        json: json!({
            "clean": clean,
            "files": scanned.files,
            "bytes": scanned.bytes,
            "findings": scanned.findings.iter().map(|f| json!({
                "file": f.file.display().to_string(),
                "offset": f.offset,
                "kind": f.kind.name(),
            })).collect::<Vec<_>>(),
        }),
        text,
        holds: clean,
    }
}
