//! The kinds of calls, by what a door has to carry: one message or a stream of them, in each direction.

use std::pin::Pin;

use likeness_proto::Message;
use tokio_stream::Stream;

use super::context::{Answered, CallContext};
use super::messages::Answer;
use crate::logs::Shaped;
use crate::refusal::broken_stream::BrokenStream;
use crate::refusal::{Refusal, Refused};

/// The request of a call that one reply answers.
pub trait UnaryCall: Message + Shaped + Sized + 'static {
    /// The name of the RPC.
    const METHOD: &'static str;
    /// What answers it.
    type Reply: Answer + 'static;

    /// Carries the call out.
    fn run(self, call: &mut CallContext) -> impl Future<Output = Result<Self::Reply, Refusal>> + Send;
}

/// The request of a call that a stream of replies answers.
pub trait ReplyStreamCall: Message + Shaped + Sized + 'static {
    /// The name of the RPC.
    const METHOD: &'static str;
    /// One of the replies.
    type Reply: Answer + 'static;
    /// All of them. A refusal is the last item.
    type Replies: Stream<Item = Result<Self::Reply, Refused>> + Send + Unpin + 'static;

    /// Begins the call.
    fn run(self, call: CallContext) -> impl Future<Output = Result<Answered<Self::Replies>, Refused>> + Send;
}

/// One request of a call that is a stream of them, each answered in a stream of replies.
pub trait RequestStreamCall: Message + Sized + 'static {
    /// The name of the RPC.
    const METHOD: &'static str;
    /// One of the replies.
    type Reply: Answer + 'static;
    /// All of them. A refusal is the last item.
    type Replies: Stream<Item = Result<Self::Reply, Refused>> + Send + Unpin + 'static;

    /// Begins the call.
    fn run(
        call: CallContext,
        requests: Requests<Self>,
    ) -> impl Future<Output = Result<Answered<Self::Replies>, Refused>> + Send;
}

/// The requests of a stream as they arrive, until the client ends it or it breaks off.
pub type Requests<T> = Pin<Box<dyn Stream<Item = Result<T, BrokenStream>> + Send>>;
