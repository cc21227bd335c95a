//! The command line.

pub mod models;

use clap::{Parser, Subcommand};

/// Face-feature matching: photographs in, irreversible templates kept, people found and erased
#[derive(Debug, Parser)]
#[command(name = "likeness", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Models(models::ModelsCommand),
}

impl Cli {
    /// Carries the command out.
    pub fn run(self) -> Result<(), likeness_server::assets::AssetsError> {
        match self.command {
            Command::Models(models) => models.run(),
        }
    }
}
