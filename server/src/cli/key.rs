//! `likeness key`: the key store.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::Outcome;
use super::exit::Failure;

const EXAMPLES: &str = "\
Example:
  likeness key init --keys /media/keys/likeness --data /var/lib/likeness

Without these keys the data are noise, for you as for anyone else: keep them on another device than the
data, keep a copy in a safe, and never put both into the same backup.";

/// Make the key store
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  likeness key init --keys /media/hsm/likeness --data /var/lib/likeness")]
pub struct KeyCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the keys of a new deployment
    #[command(after_help = EXAMPLES)]
    Init {
        /// Where the key store will be
        #[arg(long, env = "LIKENESS_KEYS", value_name = "DIR")]
        keys: PathBuf,
        /// The data directory they are for; it must not hold data yet
        #[arg(long, env = "LIKENESS_DATA", value_name = "DIR")]
        data: PathBuf,
    },
}

impl KeyCommand {
    /// Carries the command out.
    pub fn run(self) -> Result<Outcome, Failure> {
        let Command::Init { keys, data } = self.command;
        likeness_engine::init_keys(&keys, &data)?;
        let text = format!(
            "made a key store in {}\nWithout it the data cannot be read by anyone: keep a copy of root.key and keyring in a safe.\n",
            keys.display()
        );
        Ok(Outcome::done(json!({ "keys": keys }), text))
    }
}
