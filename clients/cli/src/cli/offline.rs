//! Options that name a deployment whose server does not run.

use std::path::PathBuf;

use clap::Args;

/// Keys and data of a deployment whose server does not run.
#[derive(Debug, Args)]
pub struct OfflineArguments {
    /// Key store of a deployment whose server does not run
    #[arg(long, value_name = "DIR", requires = "data")]
    pub keys: Option<PathBuf>,
    /// Its data directory
    #[arg(long, value_name = "DIR", requires = "keys")]
    pub data: Option<PathBuf>,
    /// Shell command that prints the root key, instead of the file root.key
    #[arg(long, value_name = "COMMAND", requires = "keys")]
    pub root_key_command: Option<String>,
}

impl OfflineArguments {
    /// Whether a deployment is named.
    pub fn is_given(&self) -> bool {
        self.keys.is_some()
    }
}
