//! Calls at once, over all connections: a place is taken before the message is read, and given back with the last
//! byte of the answer. So what waits in memory has a limit, however many clients send however slowly.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use likeness_engine::RandomId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::body::Body;
use tonic::codegen::{Body as HttpBody, BoxFuture, Bytes, Service, StdError, http};
use tower_layer::Layer;

use crate::service::insert_id;
use crate::status::Refusal;

/// Somebody is always let in, or no load balancer could tell that the server lives.
const HEALTH: &str = "/grpc.health.v1.Health/";
/// Places come free all the time.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// The limit, as a layer around all services.
#[derive(Clone)]
pub struct Calls(Arc<Semaphore>);

impl Calls {
    /// At most so many at once.
    pub fn new(calls_max: u32) -> Self {
        Self(Arc::new(Semaphore::new(calls_max as usize)))
    }
}

impl<S> Layer<S> for Calls {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        Limited {
            inner,
            places: Arc::clone(&self.0),
        }
    }
}

/// Services behind the limit.
#[derive(Clone)]
pub struct Limited<S> {
    inner: S,
    places: Arc<Semaphore>,
}

impl<S, B> Service<http::Request<Body>> for Limited<S>
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
        let place = if request.uri().path().starts_with(HEALTH) {
            None
        } else {
            match Arc::clone(&self.places).try_acquire_owned() {
                Ok(place) => Some(place),
                Err(_) => return Box::pin(async { Ok(refused()) }),
            }
        };
        let answering = self.inner.call(request);
        Box::pin(async move {
            let response = answering.await?;
            Ok(response.map(|body| {
                let body = Body::new(body);
                Body::new(Held { body, _place: place })
            }))
        })
    }
}

fn refused() -> http::Response<Body> {
    let request_id = RandomId::random().to_string();
    let mut status = Refusal::Busy(RETRY_AFTER).into_status(&request_id);
    insert_id(status.metadata_mut(), &request_id);
    tracing::info!(request_id, "a call was refused: there are as many as may be");
    status.into_http()
}

/// An answer, with the place of its call.
struct Held {
    body: Body,
    _place: Option<OwnedSemaphorePermit>,
}

impl HttpBody for Held {
    type Data = <Body as HttpBody>::Data;
    type Error = <Body as HttpBody>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
