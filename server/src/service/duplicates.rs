//! The same person enrolled twice: a collection compared with itself, for as long as the client reads.
//!
//! A slice is worked on when the client is ready for its answer, and not before: so no answer with names in it
//! waits here, nothing goes on for a client that went away, and an erasure waits for one slice at most.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use likeness_engine::{CollectionName, CollectionRef, DuplicateCursor, Duplicates, Scope};
use likeness_proto::v1::{CallInfo, FindDuplicatesRequest, FindDuplicatesResponse};
use tokio::task::AbortHandle;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::streams::{Kind, OpenStream};
use super::{Answer, Ongoing, Service, insert_id};
use crate::auth::Needs;
use crate::convert;
use crate::status::Refusal;

/// How long a search that nobody waits for by the second steps back from the calls that fill the queue.
const STEP_BACK: Duration = Duration::from_millis(500);

impl Answer for FindDuplicatesResponse {
    /// A message of a stream says nothing about its call; the metadata do.
    fn set_call(&mut self, _: CallInfo) {}
}

pub(super) async fn find_duplicates(
    service: &Service,
    request: Request<FindDuplicatesRequest>,
) -> Result<Response<Answers>, Status> {
    let mut call = service.begin("FindDuplicates", Needs::Of(Scope::Search), &request)?;
    let open = match service.0.streams.open(call.account(), Kind::Other) {
        Ok(open) => open,
        Err(refusal) => return Err(call.refuse(refusal)),
    };
    // The stream lasts as long as the client reads it; only its slices are short.
    let patience = call.patience();
    call.deadline = None;
    match Job::begin(&mut call, request.into_inner()).await {
        Ok(job) => {
            let request_id = call.request_id.clone();
            let running = Running {
                call,
                job,
                patience,
                _open: open,
            };
            let mut response = Response::new(Answers::Idle(Idle::new(Box::new(running))));
            insert_id(response.metadata_mut(), &request_id);
            Ok(response)
        }
        // What is wrong with the request is said at once, and not in the stream.
        Err(refusal) => Err(call.refuse(refusal)),
    }
}

/// What is looked for, and how far it got.
struct Job {
    collection: CollectionRef,
    max_far: f64,
    cursor: DuplicateCursor,
}

impl Job {
    async fn begin(call: &mut Ongoing, request: FindDuplicatesRequest) -> Result<Self, Refusal> {
        let name = CollectionName::parse(&request.collection)?;
        let max_far = convert::max_far(request.max_far)?;
        let cursor = Some(request.cursor).filter(|cursor| !cursor.is_empty());
        call.compute(move |work, _| {
            let collection = work.collection(&name)?;
            Ok(Self {
                cursor: DuplicateCursor::of(&collection, cursor.as_deref())?,
                collection,
                max_far,
            })
        })
        .await
    }

    async fn slice(&self, call: &mut Ongoing) -> Result<Duplicates, Refusal> {
        let (collection, max_far, cursor) = (self.collection.clone(), self.max_far, self.cursor);
        call.compute(move |work, call| Ok(work.engine.duplicates(&collection, max_far, cursor, call)?))
            .await
    }
}

/// A search between two answers.
pub struct Running {
    call: Ongoing,
    job: Job,
    /// How long the client may take for an answer.
    patience: Duration,
    _open: OpenStream,
}

/// A search that nobody has asked for its next answer: whoever never does holds it no longer than a call may take.
/// What is left then is an empty stream among those of its connection.
pub struct Idle {
    running: Arc<Mutex<Option<Result<Box<Running>, Status>>>>,
    patience: AbortHandle,
}

impl Idle {
    fn new(running: Box<Running>) -> Self {
        let patience = running.patience;
        let running = Arc::new(Mutex::new(Some(Ok(running))));
        let held = Arc::clone(&running);
        let waiting = tokio::spawn(async move {
            tokio::time::sleep(patience).await;
            let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
            *held = match held.take() {
                Some(Ok(running)) => Some(Err(running.call.refuse(Refusal::Late))),
                other => other,
            };
        });
        Self {
            running,
            patience: waiting.abort_handle(),
        }
    }

    /// None where it is taken already.
    fn take(self) -> Option<Result<Box<Running>, Status>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.take()
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        // What the task held goes with it: a client that went away is not waited for.
        self.patience.abort();
    }
}

/// An answer, and what may follow; no answer when the server stops.
type Answered = (
    Option<Result<FindDuplicatesResponse, Status>>,
    Option<Box<Running>>,
);

impl Running {
    async fn next(mut self: Box<Self>) -> Answered {
        let slice = loop {
            if *self.call.service.stopping.borrow() {
                return (None, None);
            }
            match self.job.slice(&mut self.call).await {
                Err(Refusal::Busy(_)) => tokio::time::sleep(STEP_BACK).await,
                slice => break slice,
            }
        };
        let (next, answer) = match slice {
            Ok(found) => {
                let (engine, scoring) = (&self.call.service.engine, self.job.collection.stored_scoring());
                (found.next, convert::duplicates(found, engine, scoring))
            }
            Err(refusal) => return (Some(Err(self.call.refuse(refusal))), None),
        };
        match next {
            Some(cursor) => {
                self.job.cursor = cursor;
                // ORDER: the answer is built before erasures stop waiting for it.
                self.call.call.read();
                (Some(Ok(answer)), Some(self))
            }
            None => {
                let last = self.call.finish(Ok(answer)).map(Response::into_inner);
                (Some(last), None)
            }
        }
    }
}

/// The answers of one search; each is worked on when it is asked for.
pub enum Answers {
    /// Nobody has asked for the next one.
    Idle(Idle),
    /// It is being worked on.
    Working(Pin<Box<dyn Future<Output = Answered> + Send>>),
    /// There are no more.
    Over,
}

impl Stream for Answers {
    type Item = Result<FindDuplicatesResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        *self = match std::mem::replace(&mut *self, Self::Over) {
            Self::Idle(idle) => match idle.take() {
                Some(Ok(running)) => Self::Working(Box::pin(running.next())),
                Some(Err(late)) => return Poll::Ready(Some(Err(late))),
                None => Self::Over,
            },
            other => other,
        };
        let Self::Working(working) = &mut *self else {
            return Poll::Ready(None);
        };
        let (answer, rest) = ready!(working.as_mut().poll(context));
        *self = rest.map_or(Self::Over, |running| Self::Idle(Idle::new(running)));
        Poll::Ready(answer)
    }
}
