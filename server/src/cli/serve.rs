//! `likeness serve`.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;

use clap::Args;
use likeness_engine::swap_warning;
use likeness_server::config::ServeConfig;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::client;
use super::exit::Failure;

const EXAMPLES: &str = "\
Example:
  likeness serve --keys /media/keys/likeness --data /var/lib/likeness

SIGTERM or SIGINT: calls in flight are finished, then the server ends. The log goes to standard error;
LIKENESS_LOG sets its level (error, warn, info, debug). It never holds a photograph, a template, a key or
a PersonID.";

/// Start the server
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ServeCommand {
    #[command(flatten)]
    config: ServeConfig,
}

impl ServeCommand {
    /// Serves until a signal asks to stop.
    pub fn run(self) -> Result<(), Failure> {
        let config = self.config;
        if !config.listen.ip().is_loopback() && !config.plaintext_off_loopback {
            return Err(Failure::Usage(format!(
                "--listen {}: expected a loopback address, since nothing is encrypted; \
                 --plaintext-off-loopback listens there all the same",
                config.listen
            )));
        }
        start_logging();
        no_core_dumps();
        if let Some(warning) = std::fs::read_to_string("/proc/swaps")
            .ok()
            .and_then(|s| swap_warning(&s))
        {
            tracing::warn!("{warning}");
        }
        if !config.listen.ip().is_loopback() {
            tracing::warn!(listen = %config.listen, "serving without encryption");
        }
        client::block_on(run(config))
    }
}

async fn run(config: ServeConfig) -> Result<(), Failure> {
    // Bound first: a port that is taken is known before anything is loaded.
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|e| Failure::Usage(format!("--listen {}: {e}", config.listen)))?;
    let address = listener
        .local_addr()
        .map_err(|e| Failure::Usage(format!("--listen {}: {e}", config.listen)))?;
    let opening = config.clone();
    let (engine, report) = tokio::task::spawn_blocking(move || likeness_server::open(&opening))
        .await
        .map_err(|_| Failure::Usage("opening failed unexpectedly".to_owned()))??;
    tracing::info!(?report, "opened");
    if engine.is_rotation_unfinished() {
        let engine = Arc::clone(&engine);
        tokio::task::spawn_blocking(move || match engine.rotate_wrapping(&mut |_, _| {}) {
            Ok(rotation) => tracing::info!(?rotation, "finished a rotation of the wrapping key"),
            Err(error) => tracing::error!(%error, "a rotation of the wrapping key is unfinished"),
        });
    }
    // ORDER: caught before anybody is told: whoever reads the line may stop the server at once.
    let stop = StopSignals::catch()?;
    println!("serving on http://{address}");
    // Whoever waits for this line waits for a pipe.
    let _ = std::io::stdout().flush();
    likeness_server::serve(&config, engine, listener, stop.asked()).await?;
    tracing::info!("stopped");
    Ok(())
}

/// The signals that ask to stop, caught from the moment this exists.
struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    fn catch() -> Result<Self, Failure> {
        let caught =
            |kind| signal(kind).map_err(|e| Failure::Usage(format!("signals cannot be caught: {e}")));
        Ok(Self {
            interrupt: caught(SignalKind::interrupt())?,
            terminate: caught(SignalKind::terminate())?,
        })
    }

    async fn asked(mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("LIKENESS_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Colours are for people; in a file or a journal they are noise.
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

/// A core dump would hold clear bits and keys.
fn no_core_dumps() {
    let none = rustix::process::Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Core, none) {
        tracing::warn!(%error, "core dumps could not be switched off");
    }
}
