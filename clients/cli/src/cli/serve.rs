//! `likeness serve`.

use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use likeness_engine::swap_warning;
use likeness_server::config::ServeConfig;
use likeness_server::tls::Certificate;
use likeness_server::{Listeners, ServeError, descriptors};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::client;
use super::exit::Failure;

/// For work that is cut off to reach its next stage, and for the data to be closed. What is not done by then is as
/// after a crash: complete or absent.
const CUT_OFF_TIME_MAX: Duration = Duration::from_secs(10);

const EXAMPLES: &str = "\
Example:
  likeness serve --keys /media/keys/likeness --data /var/lib/likeness

SIGTERM or SIGINT: the server finishes the calls in flight, then ends. The log goes to standard error;
LIKENESS_LOG sets its level (error, warn, info, debug). It never holds a photograph, a template, a key or
a PersonID.";

/// Start the server
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ServeCommand {
    #[command(flatten)]
    config: ServeConfig,

    /// Removed; accepted for one version, without effect
    #[arg(long, env = "LIKENESS_GATHER_MICROS", value_name = "MICROS", hide = true)]
    gather_micros: Option<String>,
}

impl ServeCommand {
    /// Serves until a signal asks to stop.
    pub fn run(self) -> Result<(), Failure> {
        let config = self.config;
        let (loopback, encrypted) = (config.listen.ip().is_loopback(), config.tls.tls_cert.is_some());
        if !loopback && !encrypted && !config.plaintext_off_loopback {
            return Err(Failure::Usage(format!(
                "--listen {}: expected a loopback address, or --tls-cert and --tls-key, since nothing is encrypted; \
                 --plaintext-off-loopback listens there all the same",
                config.listen
            )));
        }
        if let Some(metrics) = config.metrics.filter(|metrics| !metrics.ip().is_loopback())
            && !config.metrics_off_loopback
        {
            return Err(Failure::Usage(format!(
                "--metrics {metrics}: expected a loopback address, since nobody is asked for a key there; \
                 --metrics-off-loopback shows them there all the same"
            )));
        }
        start_logging();
        no_core_dumps();
        if self.gather_micros.is_some() {
            tracing::warn!(
                "--gather-micros (LIKENESS_GATHER_MICROS) has no effect; the next version refuses it"
            );
        }
        if let Some(warning) = std::fs::read_to_string("/proc/swaps")
            .ok()
            .and_then(|s| swap_warning(&s))
        {
            tracing::warn!("{warning}");
        }
        // A certificate that cannot be used is known before anything is loaded.
        Certificate::load(&config.tls).map_err(ServeError::from)?;
        if !loopback && !encrypted {
            tracing::warn!(listen = %config.listen, "serving without encryption");
        }
        // ORDER: before anything is opened: of a limit that is too low the store would learn in the midst of a write.
        descriptors::secure(config.limits.connections).map_err(ServeError::from)?;
        let runtime = client::runtime()?;
        let served = runtime.block_on(run(config));
        // A runtime that is dropped waits for blocking work without end, and for a rotation of keys that is minutes.
        runtime.shutdown_timeout(CUT_OFF_TIME_MAX);
        served
    }
}

async fn run(config: ServeConfig) -> Result<(), Failure> {
    // Bound first: a port that is taken is known before anything is loaded.
    let (calls, address) = bind("--listen", config.listen).await?;
    let mut listeners = Listeners::from(calls);
    let mut metrics_said = String::new();
    if let Some(metrics) = config.metrics {
        let (metrics, address) = bind("--metrics", metrics).await?;
        listeners.metrics = Some(metrics);
        metrics_said = format!("metrics on http://{address}/metrics\n");
    }
    let opening = config.clone();
    let (engine, report) = tokio::task::spawn_blocking(move || likeness_server::open(&opening))
        .await
        .map_err(|_| Failure::Defect("opening failed unexpectedly".to_owned()))??;
    tracing::info!(?report, "opened");
    if engine.is_rotation_unfinished() {
        let engine = Arc::clone(&engine);
        tokio::task::spawn_blocking(move || match engine.rotate_wrapping(&mut |_, _| {}) {
            Ok(rotation) => tracing::info!(?rotation, "finished a rotation of the wrapping key"),
            Err(error) => tracing::error!(%error, "a rotation of the wrapping key is unfinished"),
        });
    }
    // ORDER: signals are caught before the line is printed: its reader may stop the server at once.
    let stop = StopSignals::catch()?;
    let scheme = if config.tls.tls_cert.is_some() {
        "https"
    } else {
        "http"
    };
    let said = format!("serving on {scheme}://{address}\n{metrics_said}");
    listeners.ready = Box::new(move || {
        // The reader of the pipe may close it after the first line.
        let mut stdout = std::io::stdout();
        let _ = stdout.write_all(said.as_bytes()).and_then(|()| stdout.flush());
    });
    likeness_server::serve(&config, engine, listeners, stop.asked()).await?;
    tracing::info!("stopped");
    Ok(())
}

async fn bind(option: &str, wanted: SocketAddr) -> Result<(TcpListener, SocketAddr), Failure> {
    let failed = |e: std::io::Error| Failure::Usage(format!("{option} {wanted}: {e}"));
    let listener = TcpListener::bind(wanted).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
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
