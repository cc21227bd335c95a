//! `likeness key`: the key store.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use likeness_proto::v1;
use likeness_proto::v1::key_service_client::KeyServiceClient;
use serde_json::json;

use super::Outcome;
use super::client::{Connection, RECEIPTS_BYTES_MAX, call_json, hex};
use super::delete::{receipt_json, receipt_lines};
use super::exit::Failure;
use super::local;

const EXAMPLES: &str = "\
Examples:
  likeness key init --keys /media/keys/likeness --data /var/lib/likeness
  likeness key rotate root --keys /media/keys/likeness        # with the server stopped
  likeness key rotate wrapping                                # while it serves
  likeness key rotate signing                                 # the same

Without the keys the data cannot be decrypted, not even by the operator: keep the keys on another device than the
data, keep a copy in a safe, and never put both into the same backup.

A lost root key, without a copy: the data cannot be decrypted any more; create a new deployment.
A leaked root key: rotate the root key, then the wrapping key. The leaked key together with
an old copy of keyring, slots and records still decrypts that copy.";

/// Make, rotate and destroy keys
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct KeyCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the keys of a new deployment
    #[command(after_help = EXAMPLES)]
    Init {
        #[command(flatten)]
        store: StoreArguments,
        /// The data directory of the deployment; it must not hold data yet
        #[arg(long, env = "LIKENESS_DATA", value_name = "DIR")]
        data: PathBuf,
    },
    /// Replace a key by a new one
    #[command(after_help = "Example:\n  likeness key rotate wrapping")]
    Rotate {
        #[command(subcommand)]
        which: Rotate,
    },
    /// Erase all people of a key group, and destroy the key of their templates
    #[command(after_help = "Example:\n  likeness key destroy-group default")]
    DestroyGroup {
        /// The group: `default`
        group: String,
    },
}

#[derive(Debug, Subcommand)]
enum Rotate {
    /// The root key; the server must be stopped
    #[command(after_help = "Example:\n  likeness key rotate root --keys /media/keys/likeness")]
    Root {
        #[command(flatten)]
        store: StoreArguments,
        /// Command that provides the root key from now on, instead of the file or the present command
        #[arg(long, value_name = "COMMAND")]
        new_root_key_command: Option<String>,
    },
    /// The wrapping key, while the server runs; an interrupted rotation continues
    #[command(after_help = "Example:\n  likeness key rotate wrapping")]
    Wrapping,
    /// The key that signs receipts, while the server runs; the old key signs the new one
    #[command(after_help = "Example:\n  likeness key rotate signing")]
    Signing,
}

/// Where a key store is, and its root key.
#[derive(Debug, Args)]
pub struct StoreArguments {
    /// Where the key store is
    #[arg(long, env = "LIKENESS_KEYS", value_name = "DIR")]
    pub keys: PathBuf,
    /// Shell command that prints the root key (a client of a KMS or HSM), instead of the file root.key
    #[arg(long, env = "LIKENESS_ROOT_KEY_COMMAND", value_name = "COMMAND")]
    pub root_key_command: Option<String>,
}

impl KeyCommand {
    /// Carries the command out.
    pub async fn run(self, connection: &Connection) -> Result<Outcome, Failure> {
        match self.command {
            Command::Init { store, data } => {
                let public_key = hex(&local::init_keys(&store, &data)?);
                let text = format!(
                    "made a key store in {}\n\
                     Without it the data cannot be read by anyone: keep a copy of its files in a safe.\n\
                     Receipts of erasure are signed with {public_key}: publish it, or note it down.\n",
                    store.keys.display()
                );
                Ok(Outcome::done(
                    json!({ "keys": store.keys, "public_key": public_key }),
                    text,
                ))
            }
            Command::Rotate {
                which:
                    Rotate::Root {
                        store,
                        new_root_key_command,
                    },
            } => {
                local::rotate_root_key(&store, new_root_key_command)?;
                let text = "rotated the root key; the old one opens nothing but old copies of the keyring\n";
                Ok(Outcome::done(json!({ "rotated": "root" }), text))
            }
            Command::Rotate {
                which: Rotate::Wrapping,
            } => rotate_wrapping(connection).await,
            Command::Rotate {
                which: Rotate::Signing,
            } => rotate_signing(connection).await,
            Command::DestroyGroup { group } => destroy_group(connection, group).await,
        }
    }
}

async fn rotate_wrapping(connection: &Connection) -> Result<Outcome, Failure> {
    let mut client = KeyServiceClient::new(connection.open().await?);
    let mut messages = client
        .rotate_wrapping_key(v1::RotateWrappingKeyRequest {})
        .await?
        .into_inner();
    let bar = indicatif::ProgressBar::no_length();
    let mut last = v1::RotateWrappingKeyResponse::default();
    while let Some(message) = messages.message().await? {
        bar.set_length(message.total);
        bar.set_position(message.done);
        last = message;
    }
    bar.finish_and_clear();
    if !last.finished {
        return Err(Failure::Unreachable(
            "the server ended the rotation; call again to go on".to_owned(),
        ));
    }
    let fate = if last.old_key_destroyed {
        "the old key is destroyed".to_owned()
    } else {
        format!("the old key is kept for {} damaged slots", last.unreadable)
    };
    let json = json!({
        "rotated": "wrapping",
        "rewrapped": last.rewrapped,
        "unreadable": last.unreadable,
        "old_key_destroyed": last.old_key_destroyed,
    });
    Ok(Outcome::done(
        json,
        format!("wrapped {} data keys anew; {fate}\n", last.rewrapped),
    ))
}

async fn rotate_signing(connection: &Connection) -> Result<Outcome, Failure> {
    let mut client = KeyServiceClient::new(connection.open().await?);
    let reply = client
        .rotate_signing_key(v1::RotateSigningKeyRequest {})
        .await?
        .into_inner();
    let public_key = hex(&reply.public_key);
    let text = format!(
        "receipts are signed with {public_key} from now on, and the log says so:\n\
         whoever has the first public key verifies with that one, as before\n"
    );
    let json =
        json!({ "call": call_json(reply.call.as_ref()), "rotated": "signing", "public_key": public_key });
    Ok(Outcome::done(json, text))
}

async fn destroy_group(connection: &Connection, key_group: String) -> Result<Outcome, Failure> {
    let client = KeyServiceClient::new(connection.open().await?);
    let mut client = client.max_decoding_message_size(RECEIPTS_BYTES_MAX);
    let reply = client
        .destroy_key_group(v1::DestroyKeyGroupRequest { key_group })
        .await?
        .into_inner();
    let receipts: Vec<_> = reply.receipts.iter().map(receipt_json).collect();
    let text = format!(
        "erased {} people and destroyed the key of their templates; {} receipts\n{}",
        reply.persons_erased,
        receipts.len(),
        receipt_lines(&reply.receipts)
    );
    let json = json!({ "persons_erased": reply.persons_erased, "receipts": receipts });
    Ok(Outcome::done(json, text))
}
