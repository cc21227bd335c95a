//! The frames of a request as the transport gives them, each overwritten when it goes, read or not.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http_body::Body as _;
use tonic::body::Body;
use tonic::codegen::http::HeaderMap;
use tonic::{Code, Status};

use super::wiped::Frame;

/// What comes next of a request.
pub enum Next {
    /// Bytes of its messages.
    Data(Frame),
    /// Metadata after them.
    Trailers(HeaderMap),
    /// Nothing more.
    End,
}

/// The body of one request. What has come and was not read is overwritten with it.
pub struct Frames(Body);

impl Frames {
    /// Of a request as it came from the transport, before anything else has read it.
    pub fn of(body: Body) -> Self {
        Self(body)
    }

    /// # Errors
    /// The client is gone, or broke the protocol.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Next, Status>> {
        let frame = match ready!(Pin::new(&mut self.0).poll_frame(context)) {
            Some(Ok(frame)) => frame,
            Some(Err(status)) => return Poll::Ready(Err(status)),
            None => return Poll::Ready(Ok(Next::End)),
        };
        Poll::Ready(match frame.into_data() {
            Ok(bytes) => Ok(Next::Data(Frame::new(bytes))),
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) => Ok(Next::Trailers(trailers)),
                Err(_) => Err(Status::new(Code::Internal, "a frame of no known kind")),
            },
        })
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        // What waits in the transport; as much at most as a client may send ahead.
        let mut context = Context::from_waker(std::task::Waker::noop());
        while let Poll::Ready(Ok(Next::Data(_))) = self.poll_next(&mut context) {}
    }
}
