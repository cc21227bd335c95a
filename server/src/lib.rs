//! Likeness, the service: gRPC around the engine.

mod auth;
mod bodies;
mod budgets;
mod calls;
pub mod config;
mod connections;
mod convert;
pub mod credential;
mod deadline;
pub mod descriptors;
mod gate;
mod incoming;
pub mod logs;
mod metrics;
mod rates;
mod rpcs;
mod scrub;
mod service;
mod status;
pub mod tls;

pub use crate::convert::policy;
/// Accounts and keys, from the wire and to it, for commands that need no server.
pub mod wire {
    pub use crate::convert::{api_key, key_id, new_api_key, wire_scope};
}

use std::sync::Arc;
use std::time::Duration;

use likeness_engine::{Engine, LoadReport};
use likeness_proto::v1;
use likeness_proto::v1::account_service_server::AccountServiceServer;
use likeness_proto::v1::collection_service_server::CollectionServiceServer;
use likeness_proto::v1::erasure_service_server::ErasureServiceServer;
use likeness_proto::v1::key_service_server::KeyServiceServer;
use likeness_proto::v1::log_service_server::LogServiceServer;
use likeness_proto::v1::matching_service_server::MatchingServiceServer;
use likeness_proto::v1::person_service_server::PersonServiceServer;
use tokio::net::TcpListener;
use tonic::server::NamedService;
use tonic::service::InterceptorLayer;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic_health::ServingStatus;

use crate::auth::Door;
use crate::bodies::Bodies;
use crate::calls::Calls;
use crate::config::{
    FAULTY_STREAMS_MAX, HEADER_BYTES_MAX, HEALTH_BYTES_MAX, MESSAGE_BYTES_MAX, REFLECTION_BYTES_MAX,
    RESET_STREAMS_MAX, STREAMS_MAX, ServeConfig,
};
use crate::connections::Roster;
use crate::incoming::Incoming;
use crate::logs::Logs;
use crate::metrics::{Fullness, scrape};
use crate::service::Service;
use crate::tls::Certificate;

/// What a client may send ahead: with HTTP/2's default of 64 KiB a photograph takes several round trips.
pub const STREAM_WINDOW_BYTES: u32 = 2 << 20;
/// Half of it is what the HTTP/2 library lets small frames waste before it closes the connection: each that
/// waits to be read counts 256 bytes less its own. A stream's window full of the smallest items of a stream
/// (16 bytes, each in a frame of its own, as most client libraries send them) comes to 31 MB.
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;
/// A connection that does not answer a ping for this long is closed.
const KEEPALIVE: Duration = Duration::from_secs(30);

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
    Reflection(#[from] tonic_reflection::server::Error),
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

/// Where clients come, and whoever watches.
pub struct Listeners {
    /// Calls.
    pub calls: TcpListener,
    /// Scrapes of the metrics; without one nobody can.
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
    let Listeners {
        calls,
        metrics,
        ready,
    } = listeners.into();
    let logs = Logs::open(&config.data, &config.retention, &config.region).map_err(ServeError::Logs)?;
    let calling = Arc::clone(&engine);
    let service = Service::new(config, engine, logs);
    let (mut reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<CollectionServiceServer<Service>>().await;
    reporter.set_serving::<PersonServiceServer<Service>>().await;
    reporter.set_serving::<MatchingServiceServer<Service>>().await;
    reporter.set_serving::<ErasureServiceServer<Service>>().await;
    reporter.set_serving::<KeyServiceServer<Service>>().await;
    reporter.set_serving::<LogServiceServer<Service>>().await;
    reporter.set_serving::<AccountServiceServer<Service>>().await;
    // Under both names: the client library for Python asks by the older one only.
    let descriptors = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(v1::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let keyed = Door::Keyed(service.clone());
    let reflecting = if config.open_reflection {
        Door::Open
    } else {
        keyed.clone()
    };
    let reflection = descriptors()
        .build_v1()?
        .max_decoding_message_size(REFLECTION_BYTES_MAX);
    let reflection_alpha = descriptors()
        .build_v1alpha()?
        .max_decoding_message_size(REFLECTION_BYTES_MAX);

    let limits = &config.limits;
    let incoming = Incoming {
        listener: calls,
        certificate: Certificate::load(&config.tls)?,
        roster: Roster::new(limits.connections()),
        times: limits.connection_times(),
        stall_max: limits.stall_time_max(),
    };
    let calls = Calls::new(limits.calls, config.call_time_max(), service.clone());
    let bodies = Bodies::new(service.clone(), limits);
    let scraping = metrics.map(|listener| {
        let fullness = Fullness {
            service: service.clone(),
            calls: calls.places(),
            connections: incoming.roster.clone(),
        };
        scrape::serve(listener, service.metrics().registry(fullness))
    });
    ready();
    let (begun, draining) = tokio::sync::oneshot::channel();
    let streams = service.clone();
    let router = Server::builder()
        .timeout(config.call_time_max())
        .layer(InterceptorLayer::new(deadline::note(config.call_time_max())))
        // ORDER: before every service: whoever is not looked up is nobody.
        .layer(InterceptorLayer::new(auth::note(calling)))
        // ORDER: after the key is looked up, for each account has a share of the places; before the message is read.
        .layer(calls)
        // ORDER: behind the look-up: whose call it is decides whether a byte of it is read, and whose memory it takes.
        .layer(bodies)
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_max_pending_accept_reset_streams(Some(RESET_STREAMS_MAX))
        .http2_max_local_error_reset_streams(Some(FAULTY_STREAMS_MAX))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .add_service(health.max_decoding_message_size(HEALTH_BYTES_MAX))
        .add_service(InterceptedService::new(reflection, reflecting.clone()))
        .add_service(InterceptedService::new(reflection_alpha, reflecting))
        .add_service(keyed.before(
            CollectionServiceServer::new(service.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
        ))
        .add_service(
            keyed.before(
                PersonServiceServer::new(service.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
            ),
        )
        .add_service(keyed.before(ErasureServiceServer::new(service.clone())))
        .add_service(keyed.before(KeyServiceServer::new(service.clone())))
        .add_service(keyed.before(AccountServiceServer::new(service.clone())))
        .add_service(keyed.before(LogServiceServer::new(service.clone())))
        .add_service(
            keyed.before(MatchingServiceServer::new(service).max_decoding_message_size(MESSAGE_BYTES_MAX)),
        );
    let shutdown = async move {
        shutdown.await;
        let _ = begun.send(());
        streams.stop();
        for service in [
            "",
            CollectionServiceServer::<Service>::NAME,
            PersonServiceServer::<Service>::NAME,
            MatchingServiceServer::<Service>::NAME,
            ErasureServiceServer::<Service>::NAME,
            KeyServiceServer::<Service>::NAME,
            LogServiceServer::<Service>::NAME,
            AccountServiceServer::<Service>::NAME,
        ] {
            // Load balancers look elsewhere while the calls in flight finish.
            reporter
                .set_service_status(service, ServingStatus::NotServing)
                .await;
            // ORDER: told before forgotten. Forgetting ends the watchers' streams, which would
            // otherwise count as calls in flight until the drain deadline.
            reporter.clear_service_status(service).await;
        }
    };
    let serving = incoming.serve(
        |only, over| router.serve_with_incoming_shutdown(only, over),
        shutdown,
    );
    let deadline = async {
        if draining.await.is_err() {
            // The server ended by itself, and `serving` says why.
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(config.drain_time_max()).await;
    };
    let scraping = async move {
        match scraping {
            Some(scraping) => scraping.await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = scraping => unreachable!("scrapes are served for as long as calls are"),
        () = serving => Ok(()),
        () = deadline => Err(ServeError::NotDrained(config.drain_seconds)),
    }
}
