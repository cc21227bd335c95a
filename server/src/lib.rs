//! Likeness, the service: gRPC around the engine.

mod call;
mod calls;
pub mod config;
mod controller;
mod convert;
pub mod descriptors;
mod doors;
mod fullness;
pub mod logs;
mod metrics;
pub mod policy;
mod refusal;
pub mod tls;

pub use crate::controller::ControllerArgs;
pub use crate::doors::grpc::credential;
/// Accounts and keys, from the wire and to it, for commands that need no server.
pub mod wire {
    pub use crate::convert::{api_key, key_id, new_api_key, wire_scope};
}

use std::sync::Arc;

use likeness_engine::{Engine, LoadReport};
use tokio::net::TcpListener;

pub use crate::call::context::Answered;
pub use crate::call::front::Front;
pub use crate::call::kinds::{ReplyStreamCall, RequestStreamCall, UnaryCall};
use crate::config::ServeConfig;
pub use crate::doors::grpc::server::STREAM_WINDOW_BYTES;
use crate::doors::grpc::server::{GrpcServer, ReflectionError};
pub use crate::doors::in_process::Credentials;
use crate::fullness::Fullness;
use crate::metrics::scrape;
pub use crate::refusal::{Code, Explanation, Refused};
use crate::tls::Certificate;

/// Why a server did not start, or stopped serving.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Keys, models or data.
    #[error(transparent)]
    Engine(#[from] likeness_engine::Error),
    /// Where models and runtime are.
    #[error(transparent)]
    ModelFiles(#[from] config::ModelFilesError),
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// The limit of open files.
    #[error(transparent)]
    Descriptors(#[from] descriptors::DescriptorsError),
    /// The logs beside the data.
    #[error("opening the logs in the data directory: {0}")]
    Logs(#[source] std::io::Error),
    /// The descriptors compiled into this program.
    #[error("reflection: {0}")]
    Reflection(#[from] ReflectionError),
    /// The drain deadline passed with calls in flight.
    #[error("calls were still in flight {0} seconds after the shutdown began")]
    NotDrained(u64),
}

/// Opens the engine: keys, models, data, indexes.
///
/// # Errors
/// Only what the operator can mend.
pub fn open(config: &ServeConfig) -> Result<(Arc<Engine>, LoadReport), ServeError> {
    let (engine, report) = Engine::open(&config.engine()?)?;
    engine.administration().warn_from(config.faces_warning);
    Ok((Arc::new(engine), report))
}

/// The listeners of the server.
pub struct Listeners {
    /// Calls.
    pub calls: TcpListener,
    /// Scrapes of the metrics; without one there are none.
    pub metrics: Option<TcpListener>,
    /// Called when everything that a start may fail of is done.
    pub ready: Box<dyn FnOnce() + Send>,
}

impl From<TcpListener> for Listeners {
    fn from(calls: TcpListener) -> Self {
        Self {
            calls,
            metrics: None,
            ready: Box::new(|| {}),
        }
    }
}

/// Serves until `shutdown` is ready, then finishes the calls in flight.
///
/// # Errors
/// A transport that fails, or calls that outlast the drain deadline.
pub async fn serve(
    config: &ServeConfig,
    engine: Arc<Engine>,
    listeners: impl Into<Listeners>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let front = Front::open(config, engine).map_err(ServeError::Logs)?;
    serve_front(config, front, listeners, shutdown).await
}

/// The same for a front that has other doors too.
///
/// # Errors
/// A transport that fails, or calls that outlast the drain deadline.
pub async fn serve_front(
    config: &ServeConfig,
    front: Front,
    listeners: impl Into<Listeners>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let Listeners {
        calls,
        metrics,
        ready,
    } = listeners.into();
    let certificate = Certificate::load(&config.tls)?;
    let server = GrpcServer::new(config, front.clone(), calls, certificate)?;
    let registry = front.recorder().metrics().registry(Fullness {
        front: front.clone(),
        connections: server.roster().clone(),
    });
    let scraping = async {
        match metrics {
            Some(listener) => scrape::serve(listener, registry).await,
            None => std::future::pending().await,
        }
    };
    drop(front);
    ready();
    let (begun, draining) = tokio::sync::oneshot::channel();
    let serving = server.serve(async {
        shutdown.await;
        let _ = begun.send(());
    });
    let deadline = async {
        if draining.await.is_err() {
            // The server ended by itself, and `serving` says why.
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(config.drain_time_max()).await;
    };
    tokio::select! {
        () = scraping => unreachable!("scrapes are served for as long as calls are"),
        () = serving => Ok(()),
        () = deadline => Err(ServeError::NotDrained(config.drain_seconds)),
    }
}
