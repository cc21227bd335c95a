//! Calls at once, over all connections: a place is taken before the message is read, and given back with the last
//! byte of the answer, or when the client takes none of it for as long as a call may take. So what is to be answered
//! has a limit, however many clients send however slowly; answers that no client takes have that of the connections and
//! their streams.

mod held;

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tonic::body::Body;
use tonic::codegen::{Body as HttpBody, BoxFuture, Bytes, Service, StdError, http};
use tower_layer::Layer;

use self::held::{Given, Held};
use crate::call::caller::{ClientAddress, Identity};
use crate::call::front::Front;
use crate::call::places;
use crate::doors::grpc::connections::{Link, OpenCall};
use crate::doors::grpc::status;
use crate::refusal::Refusal;

/// Has no limit, or no load balancer could tell that the server lives.
const HEALTH: &str = "/grpc.health.v1.Health/";
/// Reflection is the library's own, and would go on for as long as its client asks.
const REFLECTION: &str = "/grpc.reflection.";

/// The limit, as a layer around all services.
#[derive(Clone)]
pub struct CallLimit {
    given: Given,
    /// How long a reflecting client may ask.
    patience: Duration,
    front: Front,
}

impl CallLimit {
    /// As many at once as have a place at the front, each waiting so long for its client. Must be called where tasks can
    /// be spawned.
    pub fn new(patience: Duration, front: Front) -> Self {
        Self {
            given: Given::new(patience),
            patience,
            front,
        }
    }
}

impl<S> Layer<S> for CallLimit {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        Limited {
            inner,
            calls: self.clone(),
        }
    }
}

/// Services behind the limit.
#[derive(Clone)]
pub struct Limited<S> {
    inner: S,
    calls: CallLimit,
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
        let asks_health = request.uri().path().starts_with(HEALTH);
        let open = request
            .extensions()
            .get::<Link>()
            .map(|link| link.begin(asks_health));
        let place = if asks_health {
            None
        } else {
            let caller = match request.extensions().get() {
                Some(Identity::Caller(caller)) => Some(caller),
                _ => None,
            };
            match self.calls.front.places().take(caller) {
                Some(place) => Some(place),
                None => {
                    let refused = self.calls.refuse(&request);
                    return Box::pin(async { Ok(refused) });
                }
            }
        };
        let request = if request.uri().path().starts_with(REFLECTION) {
            request.map(|body| Body::new(self.calls.ending(body)))
        } else {
            request
        };
        let answering = self.inner.call(request);
        let given = self.calls.given.clone();
        Box::pin(async move {
            let response = answering.await?;
            Ok(response.map(|body| {
                let body = Body::new(Noted {
                    body: Body::new(body),
                    _open: open,
                });
                match place {
                    Some(place) => Body::new(Held::new(body, place, given)),
                    None => body,
                }
            }))
        })
    }
}

impl CallLimit {
    fn refuse(&self, request: &http::Request<Body>) -> http::Response<Body> {
        let from = request.extensions().get::<Link>();
        let address = from.map(|link| ClientAddress(link.address()));
        let refusal = Refusal::Busy(places::RETRY_AFTER);
        status::of(self.front.reject("", refusal, address)).into_http()
    }

    /// A request that ends when a call must have its answer, or when the server does.
    fn ending(&self, body: Body) -> Ending {
        let (late, stopping) = (tokio::time::sleep(self.patience), self.front.stopping());
        let over = async move {
            tokio::select! {
                () = late => {}
                () = stopping => {}
            }
        };
        Ending {
            body,
            over: Some(Box::pin(over)),
        }
    }
}

/// An answer whose call is under way on its connection until it is over.
struct Noted {
    body: Body,
    _open: Option<OpenCall>,
}

impl HttpBody for Noted {
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

/// A request that ends by the clock, whatever its client would still say.
struct Ending {
    body: Body,
    /// None when it is over.
    over: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl HttpBody for Ending {
    type Data = <Body as HttpBody>::Data;
    type Error = <Body as HttpBody>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        let Some(over) = &mut self.over else {
            return Poll::Ready(None);
        };
        if over.as_mut().poll(context).is_ready() {
            self.over = None;
            return Poll::Ready(None);
        }
        Pin::new(&mut self.body).poll_frame(context)
    }
}
