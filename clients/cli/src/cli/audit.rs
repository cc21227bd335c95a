//! `likeness audit`: what administrators did, and looking for what should not be there.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use likeness_proto::v1;
use likeness_proto::v1::account_service_client::AccountServiceClient;
use likeness_proto::v1::erasure_service_client::ErasureServiceClient;
use serde_json::{Value, json};

use super::Outcome;
use super::client::{Connection, call_json, hex, time_text};
use super::exit::Failure;
use super::local;
use super::offline::OfflineArguments;

const EXAMPLES: &str = "\
Examples:
  likeness audit residue prepare staff ada --out ada.prints   # while the server runs
  likeness delete staff ada
  likeness receipt status                                     # until nothing is unpurged
  likeness audit residue scan ada.prints --data DIR           # exit code 0: nothing is left";

/// List the acts of administrators, and scan for residue of erased people
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct AuditCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Scan the data files for residue of an erased person
    #[command(subcommand, after_help = EXAMPLES)]
    Residue(Residue),
    /// List the acts of administrators, oldest first
    #[command(after_help = "Example:\n  likeness audit log --json")]
    Log {
        /// Number of the first entry
        #[arg(long, value_name = "N", default_value_t = 0)]
        first: u64,
    },
    /// Verify that the audit log of a deployment is complete up to its anchor, while the server does not run
    #[command(after_help = "Example:\n  likeness audit verify --keys DIR --data DIR")]
    Verify {
        #[command(flatten)]
        offline: OfflineArguments,
    },
}

#[derive(Debug, Subcommand)]
enum Residue {
    /// Before an erasure: make a file of fingerprints for the scan after it
    #[command(after_help = "Example:\n  likeness audit residue prepare staff ada --out ada.prints")]
    Prepare {
        /// The collection
        collection: String,
        /// The PersonID
        person_id: String,
        /// The file to write; it holds no readable data of the person
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// After it: scan every file for them, without a server; exit code 1 when something is left
    #[command(after_help = "Example:\n  likeness audit residue scan ada.prints --data /var/lib/likeness")]
    Scan {
        /// The file of fingerprints
        file: PathBuf,
        /// The data directory, or any other
        #[arg(long, env = "LIKENESS_DATA", value_name = "DIR")]
        data: PathBuf,
    },
}

impl AuditCommand {
    /// Carries the command out.
    pub async fn run(self, connection: &Connection) -> Result<Outcome, Failure> {
        let command = match self.command {
            Command::Log { first } => return log(connection, first).await,
            Command::Verify { offline } => return local::verify_audit_log(&offline),
            Command::Residue(command) => command,
        };
        match command {
            Residue::Prepare {
                collection,
                person_id,
                out,
            } => {
                let mut client = ErasureServiceClient::new(connection.open().await?);
                let request = v1::PrepareResidueAuditRequest {
                    collection,
                    person_id,
                };
                let reply = client.prepare_residue_audit(request).await?.into_inner();
                std::fs::write(&out, &reply.fingerprints).map_err(|source| Failure::File {
                    doing: "writing",
                    path: out.clone(),
                    source,
                })?;
                let json =
                    json!({ "call": call_json(reply.call.as_ref()), "bytes": reply.fingerprints.len() });
                Ok(Outcome::done(
                    json,
                    format!("fingerprints written to {}\n", out.display()),
                ))
            }
            Residue::Scan { file, data } => {
                let prints = std::fs::read(&file).map_err(|source| Failure::File {
                    doing: "reading",
                    path: file,
                    source,
                })?;
                local::scan_residue(&prints, &data)
            }
        }
    }
}

async fn log(connection: &Connection, mut first: u64) -> Result<Outcome, Failure> {
    let mut client = AccountServiceClient::new(connection.open().await?);
    let (mut text, mut entries) = (String::new(), Vec::new());
    loop {
        let request = v1::ListAuditLogRequest { first, page_size: 0 };
        let reply = client.list_audit_log(request).await?.into_inner();
        for entry in &reply.entries {
            let _ = writeln!(text, "{}", entry_line(entry));
            entries.push(entry_json(entry));
        }
        first = reply.next;
        if first == 0 {
            break;
        }
    }
    if entries.is_empty() {
        text.push_str("nothing was done\n");
    }
    Ok(Outcome::done(json!({ "entries": entries }), text))
}

fn entry_line(entry: &v1::AuditEntry) -> String {
    let by = match entry.key_id.as_str() {
        "" => "without a server".to_owned(),
        key => format!("by {} with key {key}", entry.account),
    };
    let failed = if entry.failed { " FAILED" } else { "" };
    let object = match entry.object.as_str() {
        "" => String::new(),
        object => format!(" {object}"),
    };
    let (sequence, time, act) = (entry.sequence, time_text(entry.time.as_ref()), &entry.act);
    format!(
        "{sequence}  {time}  {act}{failed}{object} of {}, {by}",
        entry.of_account
    )
}

fn entry_json(entry: &v1::AuditEntry) -> Value {
    json!({
        "sequence": entry.sequence,
        "time": time_text(entry.time.as_ref()),
        "account": entry.account,
        "key_id": entry.key_id,
        "request_id": entry.request_id,
        "act": entry.act,
        "of_account": entry.of_account,
        "object": entry.object,
        "failed": entry.failed,
        "previous_hash": hex(&entry.previous_hash),
        "hash": hex(&entry.hash),
    })
}
