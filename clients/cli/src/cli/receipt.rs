//! `likeness receipt`: proofs of erasure.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use likeness_proto::v1;
use likeness_proto::v1::erasure_service_client::ErasureServiceClient;
use serde_json::json;

use super::Outcome;
use super::client::{Connection, RECEIPTS_BYTES_MAX, call_json, hex, time_text};
use super::exit::Failure;
use super::local;

const EXAMPLES: &str = "\
Examples:
  likeness receipt status --checkpoint today.checkpoint      # keep it, or publish it
  likeness receipt export receipts.log
  likeness receipt verify receipts.log --checkpoint today.checkpoint --public-key HEX
  likeness receipt get 7
  likeness receipt subject staff ada NONCE                   # compare with the receipt";

const SUBJECT_EXAMPLES: &str = "\
Examples:
  likeness receipt subject staff ada NONCE                   # a person's
  likeness receipt subject staff '' NONCE                    # a whole collection's
  likeness receipt subject '' '' NONCE --account branch      # the last one of a closed account";

/// Receipts that are asked for at once. A full one has 224 bytes, and 32 for each of its keys.
pub const PAGE_RECEIPTS: u32 = 100;

/// Export and verify the proofs of erasure
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ReceiptCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the length of the log and the erasures that are not purged yet
    #[command(after_help = "Example:\n  likeness receipt status --checkpoint today.checkpoint")]
    Status {
        /// Write the latest signed checkpoint to this file
        #[arg(long, value_name = "FILE")]
        checkpoint: Option<PathBuf>,
    },
    /// Show one receipt
    #[command(after_help = "Example:\n  likeness receipt get 7")]
    Get {
        /// Its place in the log, from 0
        sequence: u64,
    },
    /// Write the whole log to a file
    #[command(after_help = "Example:\n  likeness receipt export receipts.log")]
    Export {
        /// The file
        file: PathBuf,
    },
    /// Verify an exported log, without a server; exit code 1 when it is not valid
    #[command(
        after_help = "Example:\n  likeness receipt verify receipts.log --checkpoint earlier.checkpoint"
    )]
    Verify {
        /// The log
        file: PathBuf,
        /// A checkpoint from an earlier time: without one a missing end cannot be noticed
        #[arg(long, value_name = "FILE")]
        checkpoint: Option<PathBuf>,
        /// The public key that the log must begin with, 64 hex digits: without it any consistent log is valid
        #[arg(long, value_name = "HEX")]
        public_key: Option<String>,
    },
    /// Print the subject that a receipt has, for the holder of its nonce: compare it with the receipt's
    #[command(after_help = SUBJECT_EXAMPLES)]
    Subject {
        /// The collection; '' for a receipt without one
        collection: String,
        /// The PersonID; '' for the receipt of a whole collection, and without a collection of a closed account
        person_id: String,
        /// The nonce of the receipt, 64 hex digits
        nonce: String,
        /// The account
        #[arg(long, default_value = "default")]
        account: String,
    },
}

impl ReceiptCommand {
    /// Carries the command out.
    pub async fn run(self, connection: &Connection) -> Result<Outcome, Failure> {
        match self.command {
            Command::Status { checkpoint } => status(connection, checkpoint.as_deref()).await,
            Command::Get { sequence } => get(connection, sequence).await,
            Command::Export { file } => export(connection, &file).await,
            Command::Verify {
                file,
                checkpoint,
                public_key,
            } => {
                let log = read(&file)?;
                let checkpoint = checkpoint.as_deref().map(read).transpose()?;
                local::verify_receipts(&log, checkpoint.as_deref(), public_key.as_deref())
            }
            Command::Subject {
                collection,
                person_id,
                nonce,
                account,
            } => {
                let digest = hex(&local::subject(&account, &collection, &person_id, &nonce)?);
                Ok(Outcome::done(json!({ "subject": digest }), format!("{digest}\n")))
            }
        }
    }
}

async fn status(connection: &Connection, file: Option<&Path>) -> Result<Outcome, Failure> {
    let mut client = ErasureServiceClient::new(connection.open().await?);
    let reply = client
        .get_erasure_status(v1::GetErasureStatusRequest {})
        .await?
        .into_inner();
    let mut text = format!(
        "{} receipts, {} erasures not purged yet\n",
        reply.size, reply.unpurged
    );
    if let Some(oldest) = &reply.oldest_unpurged {
        let _ = writeln!(text, "the oldest of them is of {}", time_text(Some(oldest)));
    }
    if reply.quarantined_files > 0 {
        let _ = writeln!(
            text,
            "damaged data files: {}; nothing is purged before a copy of the data directory is put back",
            reply.quarantined_files
        );
    }
    let mut json = json!({
        "call": call_json(reply.call.as_ref()),
        "quarantined_files": reply.quarantined_files,
        "size": reply.size,
        "unpurged": reply.unpurged,
        "oldest_unpurged": reply.oldest_unpurged.as_ref().map(|t| time_text(Some(t))),
        "checkpoint": hex(&reply.checkpoint),
    });
    if let Some((line, keys)) = local::checkpoint(&reply.checkpoint) {
        text += &line;
        json["keys"] = keys;
    }
    if let Some(file) = file {
        write(file, &reply.checkpoint)?;
        let _ = writeln!(text, "wrote {}", file.display());
    }
    Ok(Outcome::done(json, text))
}

async fn get(connection: &Connection, sequence: u64) -> Result<Outcome, Failure> {
    let mut client = ErasureServiceClient::new(connection.open().await?);
    let request = v1::GetErasureReceiptRequest { sequence };
    let reply = client.get_erasure_receipt(request).await?.into_inner();
    local::receipt(sequence, &reply.receipt)
}

async fn export(connection: &Connection, file: &Path) -> Result<Outcome, Failure> {
    let client = ErasureServiceClient::new(connection.open().await?);
    let mut client = client.max_decoding_message_size(RECEIPTS_BYTES_MAX);
    let (mut log, mut count, mut first) = (Vec::new(), 0, 0);
    loop {
        let request = v1::ListErasureReceiptsRequest {
            first,
            page_size: PAGE_RECEIPTS,
        };
        let reply = client.list_erasure_receipts(request).await?.into_inner();
        count += reply.receipts.len();
        reply
            .receipts
            .iter()
            .for_each(|receipt| log.extend_from_slice(receipt));
        first = reply.next;
        if first == 0 {
            break;
        }
    }
    write(file, &log)?;
    let text = format!("wrote {count} receipts to {}\n", file.display());
    Ok(Outcome::done(json!({ "file": file, "receipts": count }), text))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|source| Failure::File {
        doing: "reading",
        path: path.to_owned(),
        source,
    })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    std::fs::write(path, bytes).map_err(|source| Failure::File {
        doing: "writing",
        path: path.to_owned(),
        source,
    })
}
