//! The settings of a server.

mod limits;
mod model_files;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use likeness_engine::{EngineConfig, FACES_WARNING, KeyStore, LABEL_BYTES_MAX, Limits, MemoryBudget};

pub use self::limits::{
    CHANGES_MAX, FAULTY_STREAMS_MAX, HEADER_BYTES_MAX, HEALTH_BYTES_MAX, IMPORTS_MAX,
    IMPORTS_PER_ACCOUNT_MAX, LimitArgs, PARKED_MEMORY_MB, REFLECTION_BYTES_MAX, RENAMED_VARIABLES,
    RESET_STREAMS_MAX, SMALL_MESSAGE_BYTES_MAX, STREAMS_MAX, STREAMS_PER_ACCOUNT_MAX, WORK_MEMORY_MB,
};
pub use self::model_files::{ModelFiles, ModelFilesError, assets_dir};
use crate::logs::retention::Retention;
use crate::tls::TlsFiles;

/// Largest request message: room for six photographs of the largest kind.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Searches that may wait for a pass over an index at once, or make one; they cost a thread each, and the passes
/// share the cores.
pub const MATCHES_MAX: usize = 64;

/// Where a server listens, and where its files are.
#[derive(Debug, Clone, Args)]
pub struct ServeConfig {
    /// Address and port to listen on; port 0 takes a free one
    #[arg(
        long,
        env = "LIKENESS_LISTEN",
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:50051"
    )]
    pub listen: SocketAddr,

    /// Data directory; made at the first start
    #[arg(long, env = "LIKENESS_DATA", value_name = "DIR")]
    pub data: PathBuf,

    /// Key store made by `likeness key init`; keep it on another device than the data
    #[arg(long, env = "LIKENESS_KEYS", value_name = "DIR")]
    pub keys: PathBuf,

    /// Shell command that prints the root key (a client of a KMS or HSM), instead of the file root.key
    #[arg(long, env = "LIKENESS_ROOT_KEY_COMMAND", value_name = "COMMAND")]
    pub root_key_command: Option<String>,

    /// Models and runtime
    #[command(flatten)]
    pub models: ModelFiles,

    /// Certificate
    #[command(flatten)]
    pub tls: TlsFiles,

    /// Photographs in work at once [default: one for each core]
    #[arg(long, env = "LIKENESS_WORKERS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,

    /// Calls that may wait for a worker; more are refused with RESOURCE_EXHAUSTED
    #[arg(long, env = "LIKENESS_QUEUE", value_name = "N", default_value_t = 128)]
    pub queue: u16,

    /// Limits on callers
    #[command(flatten)]
    pub limits: LimitArgs,

    /// Longest time a call may take, in seconds
    #[arg(long, env = "LIKENESS_CALL_SECONDS", value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub call_seconds: u64,

    /// Longest time that calls in flight are given to finish at shutdown, in seconds
    #[arg(
        long,
        env = "LIKENESS_DRAIN_SECONDS",
        value_name = "SECONDS",
        default_value_t = 30
    )]
    pub drain_seconds: u64,

    /// Retention periods
    #[command(flatten)]
    pub retention: Retention,

    /// Start although the erasure log is shorter than its anchor: erasures may be undone. The log records the
    /// acceptance
    #[arg(long)]
    pub accept_short_erasure_log: bool,

    /// Start although the audit log does not reach its anchor: entries may be missing. The log records the acceptance
    #[arg(long)]
    pub accept_short_audit_log: bool,

    /// Listen on an address other than loopback without encryption: only behind a proxy that encrypts, since every
    /// photograph and API key can be read on the way
    #[arg(long)]
    pub plaintext_off_loopback: bool,

    /// Address and port of the metrics, in Prometheus's text format at /metrics; without it they are not served
    #[arg(long, env = "LIKENESS_METRICS", value_name = "ADDRESS:PORT")]
    pub metrics: Option<SocketAddr>,

    /// Serve metrics on an address other than loopback, without encryption and without a key: they show how much
    /// the server does, and nothing of people
    #[arg(long)]
    pub metrics_off_loopback: bool,

    /// Region of this deployment: accounts that are bound to another one are refused, and logs have it
    #[arg(long, env = "LIKENESS_REGION", value_name = "NAME", default_value = "local", value_parser = region)]
    pub region: String,

    /// Number of faces of one account at which the log warns, once; 0 for never
    #[arg(long, env = "LIKENESS_FACES_WARNING", value_name = "N", default_value_t = FACES_WARNING)]
    pub faces_warning: u64,

    /// Answer reflection without an API key: the contract is public, but the fact that this host serves it may not be
    #[arg(long)]
    pub open_reflection: bool,
}

/// A region's name: what an account can be bound to.
fn region(text: &str) -> Result<String, String> {
    let fits = (1..=LABEL_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
    if fits {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "expected 1 to {LABEL_BYTES_MAX} bytes without control characters"
        ))
    }
}

impl ServeConfig {
    /// Photographs in work at once.
    pub fn workers(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        self.workers.map_or(cores, usize::from)
    }

    /// What the engine is opened with.
    ///
    /// # Errors
    /// As of [`ModelFiles::resolve`].
    pub fn engine(&self) -> Result<EngineConfig, ModelFilesError> {
        let (models, runtime) = self.models.resolve()?;
        Ok(EngineConfig {
            data: self.data.clone(),
            keys: KeyStore::new(&self.keys, self.root_key_command.clone()),
            models,
            runtime,
            limits: Limits {
                memory: self.work_memory(),
                ..Limits::default()
            },
            scores: self.limits.scores(),
            workers: self.workers(),
            running_log_bytes_warning: self.retention.running_log_bytes_warning(),
            accept_short_log: self.accept_short_erasure_log,
            accept_short_audit_log: self.accept_short_audit_log,
        })
    }

    /// What photographs in work may take together.
    fn work_memory(&self) -> MemoryBudget {
        MemoryBudget::new(self.work_memory_mb().saturating_mul(1 << 20))
    }

    fn work_memory_mb(&self) -> u64 {
        let of_workers = || (WORK_MEMORY_MB + PARKED_MEMORY_MB).saturating_mul(self.workers() as u64);
        self.limits.work_memory_mb.map_or_else(of_workers, u64::from)
    }

    /// Calls that may step back in the middle of a photograph: one for each worker, and fewer where the memory is needed
    /// for the pictures of those at work.
    pub fn parked_max(&self) -> usize {
        let workers = self.workers();
        let left = self
            .work_memory_mb()
            .saturating_sub(WORK_MEMORY_MB.saturating_mul(workers as u64));
        let parked = usize::try_from(left / PARKED_MEMORY_MB).unwrap_or(usize::MAX);
        parked.clamp(1, workers.max(1))
    }

    /// Longest time a call may take.
    pub fn call_time_max(&self) -> Duration {
        Duration::from_secs(self.call_seconds)
    }

    /// Longest time that calls in flight are given at shutdown.
    pub fn drain_time_max(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }
}
