//! From gRPC's requests to calls, and from what they answer to gRPC's responses: one way for each kind of call.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use super::auth;
use super::status;
use crate::call::context::CallContext;
use crate::call::front::{Admitted, Front};
use crate::call::kinds::{ReplyStreamCall, RequestStreamCall, UnaryCall};
use crate::logs::Shape;
use crate::refusal::{Refusal, Refused};

/// The replies of a call whose request is one message.
pub type Replies<C> = Statuses<<C as ReplyStreamCall>::Replies>;
/// The replies of a call whose requests are a stream.
pub type RequestReplies<C> = Statuses<<C as RequestStreamCall>::Replies>;

/// All services of the contract.
#[derive(Clone)]
pub struct Adapter {
    front: Front,
}

impl Adapter {
    /// Of this server.
    pub fn new(front: Front) -> Self {
        Self { front }
    }

    /// A call that one reply answers.
    pub async fn unary<C: UnaryCall>(&self, request: Request<C>) -> Result<Response<C::Reply>, Status> {
        let mut call = self.begin(C::METHOD, &request, request.get_ref().shape())?;
        let answer = request.into_inner().run(&mut call).await;
        call.finish(answer).map(status::response).map_err(status::of)
    }

    /// A call that a stream of replies answers.
    pub async fn reply_stream<C: ReplyStreamCall>(
        &self,
        request: Request<C>,
    ) -> Result<Response<Replies<C>>, Status> {
        let call = self.begin(C::METHOD, &request, request.get_ref().shape())?;
        let answered = request.into_inner().run(call).await.map_err(status::of)?;
        Ok(status::response(answered).map(Statuses))
    }

    /// A call that is a stream of requests; each is measured when it arrives.
    pub async fn request_stream<C: RequestStreamCall>(
        &self,
        request: Request<Streaming<C>>,
    ) -> Result<Response<RequestReplies<C>>, Status> {
        let call = self.begin(C::METHOD, &request, Shape::default())?;
        let requests = request
            .into_inner()
            .map(|message| message.map_err(status::broken));
        let answered = C::run(call, Box::pin(requests)).await.map_err(status::of)?;
        Ok(status::response(answered).map(Statuses))
    }

    /// A call by a caller who may make it, and was let in before its message was read.
    fn begin<T>(
        &self,
        method: &'static str,
        request: &Request<T>,
        shape: Shape,
    ) -> Result<CallContext, Status> {
        let admitted = request.extensions().get::<Admitted>();
        let Some(admitted) = admitted.filter(|admitted| admitted.rpc().method == method) else {
            // A handler without the layers in front of it lets no caller in.
            let refusal = auth::keyless(request).unwrap_or(Refusal::Panicked);
            let client = request.extensions().get().copied();
            return Err(status::of(self.front.reject(method, refusal, client)));
        };
        self.front.begin(admitted, shape).map_err(status::of)
    }
}

/// A stream of replies whose refusal is a status.
pub struct Statuses<S>(S);

impl<T, S: Stream<Item = Result<T, Refused>> + Unpin> Stream for Statuses<S> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let reply = Pin::new(&mut self.0).poll_next(context);
        reply.map(|reply| reply.map(|reply| reply.map_err(status::of)))
    }
}
