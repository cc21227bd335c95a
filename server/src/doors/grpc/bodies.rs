//! Requests on their way to their handlers: refused, or counted, before a byte of them is read; then collected as
//! their bytes come, in memory that is reserved first and overwritten afterwards, and handed on when they are whole.
//!
//! A message takes memory by what has come of it, not by what its client announces. Its bytes are copied out of the
//! transport's frames, which are overwritten in place; the copy is overwritten when it has been decoded.

mod collect;
mod frames;
mod intake;
mod wiped;

use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codegen::{Body as HttpBody, BoxFuture, Bytes, Service, StdError, http};
use tower_layer::Layer;

use self::collect::{Collected, Held};
use self::frames::Frames;
pub use self::intake::Bodies;
use self::intake::Of;
use crate::call::rpcs::Rpc;

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
        match self.bodies.admit(rpc, &parts.extensions) {
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
