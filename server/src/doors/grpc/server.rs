//! The server of the gRPC door, from its listener to its end.

use std::sync::Arc;
use std::time::Duration;

use likeness_proto::v1;
use tokio::net::TcpListener;
use tonic::service::interceptor::InterceptedService;
use tonic::service::{InterceptorLayer, Routes};
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
pub use tonic_reflection::server::Error as ReflectionError;

use super::auth::{self, AuthInterceptor};
use super::bodies::Bodies;
use super::connections::{Most, Roster, Times};
use super::deadline;
use super::incoming::Incoming;
use super::limit::CallLimit;
use super::services;
use crate::call::front::Front;
use crate::config::{
    FAULTY_STREAMS_MAX, HEADER_BYTES_MAX, HEALTH_BYTES_MAX, REFLECTION_BYTES_MAX, RESET_STREAMS_MAX,
    STREAMS_MAX, ServeConfig,
};
use crate::tls::Certificate;

/// What a client may send ahead: with HTTP/2's default of 64 KiB a photograph takes several round trips.
pub const STREAM_WINDOW_BYTES: u32 = 2 << 20;
/// Half of it is what the HTTP/2 library lets small frames waste before it closes the connection: each that
/// waits to be read counts 256 bytes less its own. A stream's window full of the smallest items of a stream
/// (16 bytes, each in a frame of its own, as most client libraries send them) comes to 31 MB.
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;
/// A connection that does not answer a ping for this long is closed.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// A server that has everything it needs to serve.
pub struct GrpcServer {
    front: Front,
    routes: Routes,
    health: HealthReporter,
    incoming: Incoming,
    bodies: Bodies,
    call_time_max: Duration,
}

impl GrpcServer {
    /// Prepares everything that a start may fail of beside the certificate.
    ///
    /// # Errors
    /// The descriptors compiled into this program.
    pub fn new(
        config: &ServeConfig,
        front: Front,
        listener: TcpListener,
        certificate: Option<Arc<Certificate>>,
    ) -> Result<Self, ReflectionError> {
        let keyed = AuthInterceptor::Keyed(front.clone());
        let reflecting = match config.open_reflection {
            true => AuthInterceptor::Open,
            false => keyed.clone(),
        };
        let (reporter, health) = tonic_health::server::health_reporter();
        let routes = Routes::new(health.max_decoding_message_size(HEALTH_BYTES_MAX));
        let routes = services::add_to(reflection(routes, &reflecting)?, &front, &keyed);
        let limits = &config.limits;
        Ok(Self {
            routes,
            health: reporter,
            incoming: Incoming {
                listener,
                certificate,
                roster: Roster::new(Most::of(limits)),
                times: Times::of(limits),
                stall_max: limits.stall_time_max(),
            },
            bodies: Bodies::new(front.clone(), limits),
            front,
            call_time_max: config.call_time_max(),
        })
    }

    /// Connections, for the metrics.
    pub fn roster(&self) -> &Roster {
        &self.incoming.roster
    }

    /// Serves until `shutdown` is ready, then finishes the calls in flight.
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send) {
        let Self {
            front,
            routes,
            health,
            incoming,
            bodies,
            call_time_max,
        } = self;
        for service in services::NAMES {
            health.set_service_status(service, ServingStatus::Serving).await;
        }
        let router = Server::builder()
            .timeout(call_time_max)
            .layer(InterceptorLayer::new(deadline::note(call_time_max)))
            // ORDER: before every service: a caller who is not looked up is not known.
            .layer(InterceptorLayer::new(auth::identify(Arc::clone(front.engine()))))
            // ORDER: after the key is looked up, for each account has a share of the places; before the message is read.
            .layer(CallLimit::new(call_time_max, front.clone()))
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
            .add_routes(routes);
        let ending = async move {
            shutdown.await;
            front.stop();
            end_health(health).await;
        };
        incoming
            .serve(
                |only, over| router.serve_with_incoming_shutdown(only, over),
                ending,
            )
            .await;
    }
}

/// Load balancers look elsewhere while the calls in flight finish.
async fn end_health(mut health: HealthReporter) {
    for service in std::iter::once("").chain(services::NAMES) {
        health
            .set_service_status(service, ServingStatus::NotServing)
            .await;
        // ORDER: told before forgotten. Forgetting ends the watchers' streams, which would
        // otherwise count as calls in flight until the drain deadline.
        health.clear_service_status(service).await;
    }
}

/// Reflection under both of its names: the client library for Python asks by the older one only.
fn reflection(routes: Routes, reflecting: &AuthInterceptor) -> Result<Routes, ReflectionError> {
    let descriptors = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(v1::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let current = descriptors()
        .build_v1()?
        .max_decoding_message_size(REFLECTION_BYTES_MAX);
    let older = descriptors()
        .build_v1alpha()?
        .max_decoding_message_size(REFLECTION_BYTES_MAX);
    Ok(routes
        .add_service(InterceptedService::new(current, reflecting.clone()))
        .add_service(InterceptedService::new(older, reflecting.clone())))
}
