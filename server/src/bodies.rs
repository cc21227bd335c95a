//! Requests on their way to their handlers: refused, or counted, before a byte of them is read; then collected as
//! their bytes come, in memory that is reserved first and overwritten afterwards, and handed on when they are whole.
//!
//! A message takes memory by what has come of it, not by what its client announces. Its bytes are copied out of the
//! transport's frames, which are overwritten in place; the copy is overwritten when it has been decoded.

mod budget;
mod collect;
mod frames;
mod wiped;

use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Body as HttpBody, BoxFuture, Bytes, Service, StdError, http};
use tower_layer::Layer;

pub use self::budget::{Budget, Reservation};
use self::collect::{Collected, Held};
use self::frames::Frames;
use crate::config::LimitArgs;
use crate::rpcs::Rpc;
use crate::service::{self, Admitted};
use crate::status::Refusal;

/// Collects requests, as a layer around all services, behind the one that looks keys up.
#[derive(Clone)]
pub struct Bodies {
    service: service::Service,
    budget: Budget,
    /// A message that has come so slowly is given up: its first bytes may take the grace, and each second more must
    /// have brought as many bytes.
    grace: Duration,
    bytes_per_second_min: u32,
}

/// Whose request it is, and which.
#[derive(Clone)]
struct Of {
    rpc: &'static Rpc,
    caller: Admitted,
}

impl Bodies {
    /// Within these limits.
    pub fn new(service: service::Service, limits: &LimitArgs) -> Self {
        Self {
            budget: service.message_budget().clone(),
            service,
            grace: limits.stall_time_max(),
            bytes_per_second_min: limits.message_bytes_per_second,
        }
    }

    /// When a message is too slow that began then, and of which so much has come.
    fn due(&self, began: Instant, bytes: usize) -> Instant {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let earned = bytes.saturating_mul(1000) / u64::from(self.bytes_per_second_min.max(1));
        began + self.grace + Duration::from_millis(earned)
    }

    /// The status of a request that is refused while its body is read; the logs have it.
    fn refuse(&self, of: &Of, refusal: Refusal) -> Status {
        // A stream's call has begun, and its own record says how it ended.
        if of.rpc.takes_stream {
            self.service.broken_stream(of.rpc, refusal)
        } else {
            self.service.refuse_unread(&of.caller, refusal)
        }
    }
}

impl<S> Layer<S> for Bodies {
    type Service = Collecting<S>;

    fn layer(&self, inner: S) -> Collecting<S> {
        Collecting {
            inner,
            bodies: self.clone(),
        }
    }
}

/// Services whose requests come whole.
#[derive(Clone)]
pub struct Collecting<S> {
    inner: S,
    bodies: Bodies,
}

impl<S, B> Service<http::Request<Body>> for Collecting<S>
where
    S: Service<http::Request<Body>, Response = http::Response<B>>,
    S::Future: Send + 'static,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError>,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        // Health and reflection have small messages with nothing of a person in them, and limits of their own.
        let Some(rpc) = Rpc::of(request.uri().path()) else {
            return answered(self.inner.call(request));
        };
        let (mut parts, body) = request.into_parts();
        let frames = Frames::of(body);
        match self.bodies.service.admit(rpc, &parts.extensions) {
            Err(status) => Box::pin(async move {
                // What has come already is overwritten; no more is read.
                drop(frames);
                Ok(status.into_http())
            }),
            Ok(None) => {
                // Without a key that is good nothing is read: the door of the services refuses the call.
                drop(frames);
                answered(self.inner.call(http::Request::from_parts(parts, Body::empty())))
            }
            Ok(Some(caller)) => {
                parts.extensions.insert(caller.clone());
                let (of, held) = (Of { rpc, caller }, Held::default());
                let body = Collected::new(self.bodies.clone(), of, frames, Held::clone(&held));
                let request = http::Request::from_parts(parts, Body::new(body));
                let answering = self.inner.call(request);
                Box::pin(async move {
                    let response = answering.await?;
                    // The handler has what it was asked no longer.
                    drop(held);
                    Ok(response.map(Body::new))
                })
            }
        }
    }
}

fn answered<F, B, E>(answering: F) -> BoxFuture<http::Response<Body>, E>
where
    F: Future<Output = Result<http::Response<B>, E>> + Send + 'static,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError>,
{
    Box::pin(async move { Ok(answering.await?.map(Body::new)) })
}
