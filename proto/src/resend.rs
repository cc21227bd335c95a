//! Calls that are made again when their connection ended before it took anything of their messages.
//!
//! A server ends connections that rest, and a client may learn of it only when it makes its next call. A call whose
//! message was not read cannot have been carried out, so it is made once more, over a new connection. Client libraries
//! of other languages do the same.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Body as HttpBody, BoxFuture, Bytes, Service, http};

/// A connection that makes such calls again.
#[derive(Clone)]
pub struct Resending<S>(S);

impl<S> Resending<S> {
    /// Over this connection.
    pub fn new(channel: S) -> Self {
        Self(channel)
    }
}

impl<S> Service<http::Request<Body>> for Resending<S>
where
    S: Service<http::Request<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    S::Response: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<S::Response, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (head, body) = request.into_parts();
        let unread = Unread::of(body);
        let body = Body::new(Lent::of(&unread));
        let first = self.0.call(http::Request::from_parts(head.clone(), body));
        let mut channel = self.0.clone();
        Box::pin(async move {
            let error = match first.await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            let Some(body) = unread.take() else {
                return Err(error);
            };
            std::future::poll_fn(|context| channel.poll_ready(context)).await?;
            channel.call(http::Request::from_parts(head, body)).await
        })
    }
}

/// A body for as long as no byte of it was asked for.
#[derive(Clone)]
struct Unread(Arc<Mutex<Option<Body>>>);

impl Unread {
    fn of(body: Body) -> Self {
        Self(Arc::new(Mutex::new(Some(body))))
    }

    fn take(&self) -> Option<Body> {
        self.body().take()
    }

    fn body(&self) -> MutexGuard<'_, Option<Body>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body that a connection is given: it is the connection's own from the first look at its bytes on.
struct Lent {
    unread: Unread,
    taken: Option<Body>,
}

impl Lent {
    fn of(unread: &Unread) -> Self {
        Self {
            unread: unread.clone(),
            taken: None,
        }
    }

    fn seen<T>(&self, look: impl Fn(&Body) -> T) -> Option<T> {
        match &self.taken {
            Some(body) => Some(look(body)),
            None => self.unread.body().as_ref().map(look),
        }
    }
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.taken.is_none() {
            self.taken = self.unread.take();
        }
        match &mut self.taken {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.seen(Body::is_end_stream).unwrap_or(true)
    }

    fn size_hint(&self) -> SizeHint {
        self.seen(Body::size_hint).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A connection whose first calls fail, after it has read their messages or before.
    #[derive(Clone)]
    struct Failing {
        reads: bool,
        failures: usize,
        calls: Arc<AtomicUsize>,
    }

    impl Service<http::Request<Body>> for Failing {
        type Response = Option<Bytes>;
        type Error = &'static str;
        type Future = BoxFuture<Option<Bytes>, &'static str>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: http::Request<Body>) -> Self::Future {
            let fails = self.calls.fetch_add(1, Ordering::Relaxed) < self.failures;
            let reads = self.reads || !fails;
            let mut body = request.into_body();
            Box::pin(async move {
                let read = match reads {
                    true => std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await,
                    false => None,
                };
                match fails {
                    true => Err("connection closed"),
                    false => Ok(read.and_then(|frame| frame.ok()?.into_data().ok())),
                }
            })
        }
    }

    async fn called(reads: bool, failures: usize) -> (Result<Option<Bytes>, &'static str>, usize) {
        let calls = Arc::default();
        let failing = Failing {
            reads,
            failures,
            calls: Arc::clone(&calls),
        };
        let message = Message(Some(Bytes::from_static(b"a message")));
        let request = http::Request::new(Body::new(message));
        let answer = Resending::new(failing).call(request).await;
        (answer, calls.load(Ordering::Relaxed))
    }

    /// A body of one frame.
    struct Message(Option<Bytes>);

    impl HttpBody for Message {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
        }
    }

    #[tokio::test]
    async fn a_call_whose_message_was_not_read_is_made_once_more() {
        let whole = Ok(Some(Bytes::from_static(b"a message")));
        assert_eq!(called(false, 0).await, (whole.clone(), 1));
        assert_eq!(called(false, 1).await, (whole, 2));
        assert_eq!(called(false, 2).await, (Err("connection closed"), 2));
    }

    #[tokio::test]
    async fn a_call_whose_message_was_read_is_not_made_again() {
        assert_eq!(called(true, 1).await, (Err("connection closed"), 1));
    }
}
