//! The door for code in the server's own process: no bytes and no connection, and otherwise the same way as over the
//! network.

use std::pin::Pin;
use std::task::{Context, Poll};

use likeness_proto::Message;
use tokio_stream::{Stream, StreamExt as _};
use zeroize::Zeroizing;

use crate::call::caller::Identity;
use crate::call::context::Answered;
use crate::call::front::{Admitted, Front};
use crate::call::kinds::{ReplyStreamCall, RequestStreamCall, UnaryCall};
use crate::call::message_memory::{self, Progress, Reservation};
use crate::call::places::{self, Place};
use crate::call::rpcs::Rpc;
use crate::logs::Shape;
use crate::refusal::broken_stream::BrokenStream;
use crate::refusal::{Refusal, Refused};

/// What a call in this process shows: the text of an API key, or none.
#[derive(Default)]
pub struct Credentials(Option<Zeroizing<String>>);

impl Credentials {
    /// This key, as `likeness api-key create` printed it.
    pub fn key(text: &str) -> Self {
        Self(Some(Zeroizing::new(text.to_owned())))
    }
}

/// Replies of a call that has its place until they end, or are dropped.
pub struct Replies<S> {
    replies: S,
    _place: Place,
}

impl<S: Stream + Unpin> Stream for Replies<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<S::Item>> {
        Pin::new(&mut self.replies).poll_next(context)
    }
}

impl Front {
    /// Makes a call in this process: through the same authentication, limits, gates, logs and metrics as a call over
    /// the network.
    ///
    /// # Errors
    /// The refusal.
    pub async fn call<C: UnaryCall>(
        &self,
        credentials: &Credentials,
        message: C,
    ) -> Result<Answered<C::Reply>, Refused> {
        let (admitted, _place) = self.enter(credentials, C::METHOD)?;
        let _memory = self.memory_for(&admitted, &message)?;
        let mut call = self.begin(&admitted, message.shape())?;
        let answer = message.run(&mut call).await;
        call.finish(answer)
    }

    /// The same for a call that a stream of replies answers.
    ///
    /// # Errors
    /// The refusal; a later one is the last item of the stream.
    pub async fn call_for_stream<C: ReplyStreamCall>(
        &self,
        credentials: &Credentials,
        message: C,
    ) -> Result<Answered<Replies<C::Replies>>, Refused> {
        let (admitted, place) = self.enter(credentials, C::METHOD)?;
        let _memory = self.memory_for(&admitted, &message)?;
        let call = self.begin(&admitted, message.shape())?;
        message
            .run(call)
            .await
            .map(|answered| with_place(answered, place))
    }

    /// The same for a call that is a stream of requests.
    ///
    /// # Errors
    /// The refusal; a later one is the last item of the stream.
    pub async fn call_with_stream<C: RequestStreamCall>(
        &self,
        credentials: &Credentials,
        requests: impl Stream<Item = C> + Send + 'static,
    ) -> Result<Answered<Replies<C::Replies>>, Refused> {
        let (admitted, place) = self.enter(credentials, C::METHOD)?;
        let call = self.begin(&admitted, Shape::default())?;
        let rpc = admitted.rpc();
        let requests = requests.map(move |request| match too_long(rpc, &request) {
            None => Ok(request),
            Some(refusal) => {
                let explanation = refusal.explain();
                Err(BrokenStream::new(explanation.code, explanation.message))
            }
        });
        let answered = C::run(call, Box::pin(requests)).await?;
        Ok(with_place(answered, place))
    }

    /// ORDER: as at the other doors: the place, the key, the call's rate; then the message.
    fn enter(&self, credentials: &Credentials, method: &str) -> Result<(Admitted, Place), Refused> {
        let identity = match &credentials.0 {
            Some(key) => Identity::of_key(key, self.engine()),
            None => Identity::KeyMissing,
        };
        let caller = identity.caller();
        let Some(place) = self.places().take(caller.as_ref().ok().copied()) else {
            return Err(self.reject("", Refusal::Busy(places::RETRY_AFTER), None));
        };
        let caller = caller.map_err(|refusal| self.reject("", refusal, None))?;
        let admitted = self.admit(Rpc::named(method), caller, None, Some(self.deadline()))?;
        Ok((admitted, place))
    }

    fn memory_for(&self, admitted: &Admitted, message: &impl Message) -> Result<Reservation, Refused> {
        if let Some(refusal) = too_long(admitted.rpc(), message) {
            return Err(self.refuse_unread(admitted, refusal));
        }
        let (account, bytes) = (admitted.account(), message.encoded_len());
        let reserved = self.message_memory().reserve(account, bytes, Progress::Advanced);
        reserved.ok_or_else(|| self.refuse_unread(admitted, Refusal::MemoryBusy(message_memory::RETRY_AFTER)))
    }
}

fn too_long(rpc: &Rpc, message: &impl Message) -> Option<Refusal> {
    let (bytes, most) = (message.encoded_len(), rpc.message_bytes_max());
    let length = u32::try_from(bytes).unwrap_or(u32::MAX);
    (bytes > most).then_some(Refusal::MessageTooLong { length, most })
}

fn with_place<S>(answered: Answered<S>, place: Place) -> Answered<Replies<S>> {
    Answered {
        request_id: answered.request_id,
        reply: Replies {
            replies: answered.reply,
            _place: place,
        },
    }
}
