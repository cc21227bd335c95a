//! What the program cannot do when it is built without the feature `serve`: it has no engine in its process then.

use std::ffi::OsString;
use std::path::Path;

use clap::Args;
use likeness_proto::v1;
use serde_json::Value;

use super::Outcome;
use super::exit::{CONFIGURATION, Failure};
use super::key::StoreArguments;
use super::offline::OfflineArguments;

/// Not in this build of the program: it lacks the feature `serve`
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct AbsentCommand {
    /// Any arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    arguments: Vec<OsString>,
}

impl AbsentCommand {
    /// Refuses.
    pub fn run<T>(&self) -> Result<T, Failure> {
        let words: Vec<_> = self.arguments.iter().map(|word| word.to_string_lossy()).collect();
        let words = words.join(" ");
        absent(if words.is_empty() { "the command" } else { &words })
    }
}

fn absent<T>(what: &str) -> Result<T, Failure> {
    Err(Failure::Local {
        code: CONFIGURATION,
        message: format!(
            "{what}: expected a program with the engine in it, and this one is built without the feature `serve`"
        ),
    })
}

/// Leaves the stack: nothing of a deployment is on it.
pub fn wipe_stack() {}

/// Refuses.
pub fn init_keys(_store: &StoreArguments, _data: &Path) -> Result<[u8; 32], Failure> {
    absent("key init")
}

/// Refuses.
pub fn rotate_root_key(_store: &StoreArguments, _new_command: Option<String>) -> Result<(), Failure> {
    absent("key rotate root")
}

/// Refuses.
pub fn create_api_key(
    _arguments: &OfflineArguments,
    _name: Option<&str>,
    _request: v1::CreateApiKeyRequest,
) -> Result<(v1::ApiKey, String), Failure> {
    absent("--keys and --data")
}

/// Refuses.
pub fn api_keys(_arguments: &OfflineArguments, _name: Option<&str>) -> Result<Vec<v1::ApiKey>, Failure> {
    absent("--keys and --data")
}

/// Refuses.
pub fn revoke_api_key(
    _arguments: &OfflineArguments,
    _name: Option<&str>,
    _key_id: &str,
) -> Result<(), Failure> {
    absent("--keys and --data")
}

/// Refuses.
pub fn close_deployment(_arguments: &OfflineArguments, _confirm: &str) -> Result<Outcome, Failure> {
    absent("account close-deployment")
}

/// Refuses.
pub fn verify_audit_log(_arguments: &OfflineArguments) -> Result<Outcome, Failure> {
    absent("audit verify")
}

/// Refuses.
pub fn scan_residue(_prints: &[u8], _data: &Path) -> Result<Outcome, Failure> {
    absent("audit residue scan")
}

/// Refuses.
pub fn subject(
    _account: &str,
    _collection: &str,
    _person_id: &str,
    _nonce: &str,
) -> Result<[u8; 32], Failure> {
    absent("receipt subject")
}

/// Reads no checkpoint.
pub fn checkpoint(_bytes: &[u8]) -> Option<(String, Value)> {
    None
}

/// Refuses.
pub fn receipt(_sequence: u64, _bytes: &[u8]) -> Result<Outcome, Failure> {
    absent("receipt get")
}

/// Refuses.
pub fn verify_receipts(
    _log: &[u8],
    _checkpoint: Option<&[u8]>,
    _public_key: Option<&str>,
) -> Result<Outcome, Failure> {
    absent("receipt verify")
}
