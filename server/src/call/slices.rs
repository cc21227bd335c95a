//! Long work in slices, each an answer of a stream, for as long as the client reads.
//!
//! A slice is worked on when the client is ready for its answer, and not before: so no answer with names in it
//! waits here, nothing goes on for a client that went away, and an erasure waits for one slice at most.
//!
//! The work is a task of its own. A transport may ask for an answer and then, when the client's window is full, look
//! for it no more; work that went on only while it is looked for would then keep its place at the gate for ever.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_stream::Stream;

use super::context::{Answered, CallContext};
use super::messages::Answer;
use super::streams::{Answers, Kind, LastWord, OpenStream};
use crate::refusal::{Refusal, Refused};

/// How long work without a waiting person steps back from the calls that fill the queue.
const STEP_BACK: Duration = Duration::from_millis(500);

/// Work that is done slice by slice.
pub trait Job: Sized + Send + 'static {
    /// What a slice answers.
    type Answer: Answer + Send + 'static;

    /// The next slice.
    fn slice(
        &mut self,
        call: &mut CallContext,
    ) -> impl Future<Output = Result<Slice<Self::Answer>, Refusal>> + Send;
}

/// A slice of the work.
pub enum Slice<T> {
    /// More are to follow.
    One(T),
    /// None is.
    Last(T),
}

/// Begins the work of a call whose answers are a stream.
///
/// # Errors
/// What is wrong with the request is said at once, and not in the stream.
pub async fn begin<J: Job>(
    mut call: CallContext,
    job: impl AsyncFnOnce(&mut CallContext) -> Result<J, Refusal>,
) -> Result<Answered<Slices<J::Answer>>, Refused> {
    let open = match call.resources.streams.open(call.account(), Kind::Other) {
        Ok(open) => open,
        Err(refusal) => return Err(call.refuse(refusal)),
    };
    // The stream lasts as long as the client reads it; only its slices are short.
    let patience = call.patience();
    call.deadline = None;
    let job = match job(&mut call).await {
        Ok(job) => job,
        Err(refusal) => return Err(call.refuse(refusal)),
    };
    let request_id = call.request_id.clone();
    // One is asked for at a time.
    let ((wanted, asked), (answers, given)) = (mpsc::channel(1), mpsc::channel(1));
    let (given, last) = Answers::new(given);
    let work = Work {
        call,
        job,
        patience,
        asked,
        answers,
        last,
        _open: open,
    };
    let reply = Slices {
        wanted,
        is_asked: false,
        given,
        work: tokio::spawn(work.run()).abort_handle(),
    };
    Ok(Answered { request_id, reply })
}

/// The work of one call.
struct Work<J: Job> {
    call: CallContext,
    job: J,
    /// How long the client may take for an answer.
    patience: Duration,
    asked: mpsc::Receiver<()>,
    answers: mpsc::Sender<Result<J::Answer, Refused>>,
    last: LastWord,
    _open: OpenStream,
}

impl<J: Job> Work<J> {
    /// Until it is done, or the client asks for no next answer: it may take as long as a call may for each.
    async fn run(mut self) {
        let mut stopping = self.call.resources.stopping.subscribe();
        loop {
            let asked = tokio::select! {
                asked = tokio::time::timeout(self.patience, self.asked.recv()) => asked,
                _ = stopping.wait_for(|stopping| *stopping) => {
                    return self.last.say(self.call.refuse(Refusal::Stopping));
                }
            };
            match asked {
                Ok(Some(())) => {}
                Ok(None) => return,
                Err(_) => return self.last.say(self.call.refuse(Refusal::Late)),
            }
            match self.slice().await {
                Ok(Slice::One(answer)) => {
                    // ORDER: the answer is built before erasures stop waiting for it.
                    self.call.call.read();
                    // There is room for the one that was asked for; without a client it is dropped.
                    let _ = self.answers.try_send(Ok(answer));
                }
                Ok(Slice::Last(answer)) => {
                    let answer = self.call.finish(Ok(answer)).map(|answered| answered.reply);
                    let _ = self.answers.try_send(answer);
                    return;
                }
                Err(refusal) => return self.last.say(self.call.refuse(refusal)),
            }
        }
    }

    /// The next slice, as soon as there is a place for it.
    async fn slice(&mut self) -> Result<Slice<J::Answer>, Refusal> {
        loop {
            if *self.call.resources.stopping.borrow() {
                return Err(Refusal::Stopping);
            }
            match self.job.slice(&mut self.call).await {
                Err(Refusal::Busy(_) | Refusal::TooMuchWork(_)) => tokio::time::sleep(STEP_BACK).await,
                slice => return slice,
            }
        }
    }
}

/// The answers of one call; each is worked on when it is asked for.
pub struct Slices<T> {
    wanted: mpsc::Sender<()>,
    is_asked: bool,
    given: Answers<T>,
    work: AbortHandle,
}

impl<T> Stream for Slices<T> {
    type Item = Result<T, Refused>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !self.is_asked {
            // Who works no more has said the last word.
            let _ = self.wanted.try_send(());
            self.is_asked = true;
        }
        let answer = ready!(Pin::new(&mut self.given).poll_next(context));
        self.is_asked = false;
        Poll::Ready(answer)
    }
}

impl<T> Drop for Slices<T> {
    fn drop(&mut self) {
        // A client that went away is not worked for.
        self.work.abort();
    }
}
