//! The `likeness` program: one binary for serving, for asking, and for the operator.

#[cfg(feature = "serve")]
mod assets;
mod cli;
#[cfg(feature = "serve")]
mod plot;

use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match cli::Cli::from_arguments() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no mistakes; everything else is the caller's.
            let code = if error.use_stderr() { cli::exit::USAGE } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    cli.run()
}
