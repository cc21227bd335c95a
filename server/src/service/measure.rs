//! How good a graph would be for a collection, measured for as long as the client reads.
//!
//! As with a search for duplicates a slice is worked on when the client is ready for its answer; when the client goes
//! away, what was made for the measurement goes with its stream.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use likeness_engine::{CollectionName, Measuring, Scope};
use likeness_proto::v1::{CallInfo, MeasureIndexRequest, MeasureIndexResponse};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::streams::{Kind, OpenStream};
use super::{Answer, Ongoing, Service, insert_id};
use crate::auth::Needs;
use crate::convert;
use crate::status::Refusal;

/// How long a measurement steps back from the calls that fill the queue.
const STEP_BACK: Duration = Duration::from_millis(500);

impl Answer for MeasureIndexResponse {
    /// A message of a stream says nothing about its call; the metadata do.
    fn set_call(&mut self, _: CallInfo) {}
}

pub(super) async fn measure_index(
    service: &Service,
    request: Request<MeasureIndexRequest>,
) -> Result<Response<Measurements>, Status> {
    let mut call = service.begin("MeasureIndex", Needs::Of(Scope::Admin), &request)?;
    let open = match service.0.streams.open(call.account(), Kind::Other) {
        Ok(open) => open,
        Err(refusal) => return Err(call.refuse(refusal)),
    };
    // The stream lasts as long as the client reads it; only its slices are short.
    call.deadline = None;
    match begin(&mut call, request.into_inner()).await {
        Ok(measuring) => {
            let request_id = call.request_id.clone();
            let measuring = Arc::new(Mutex::new(measuring));
            let running = Running {
                call,
                measuring,
                _open: open,
            };
            let mut response = Response::new(Measurements::Idle(Box::new(running)));
            insert_id(response.metadata_mut(), &request_id);
            Ok(response)
        }
        // What is wrong with the request is said at once, and not in the stream.
        Err(refusal) => Err(call.refuse(refusal)),
    }
}

async fn begin(call: &mut Ongoing, request: MeasureIndexRequest) -> Result<Measuring, Refusal> {
    let name = CollectionName::parse(&request.collection)?;
    let plan = convert::measurement(request.people_max, request.probes)?;
    call.compute(move |work, _| {
        let collection = work.collection(&name)?;
        Ok(work.engine.begin_measuring(&collection, plan)?)
    })
    .await
}

/// A measurement between two answers.
pub struct Running {
    call: Ongoing,
    /// Shared with the slice that is worked on, if there is one: it outlives a client that went away.
    measuring: Arc<Mutex<Measuring>>,
    _open: OpenStream,
}

/// An answer, and what may follow; no answer when the server stops.
type Answered = (Option<Result<MeasureIndexResponse, Status>>, Option<Box<Running>>);

impl Running {
    async fn next(mut self: Box<Self>) -> Answered {
        let slice = loop {
            if *self.call.service.stopping.borrow() {
                return (None, None);
            }
            let measuring = Arc::clone(&self.measuring);
            let slice = self.call.compute(move |work, call| {
                let mut measuring = measuring.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(work.engine.measure(&mut measuring, call)?)
            });
            match slice.await {
                Err(Refusal::Busy(_)) => tokio::time::sleep(STEP_BACK).await,
                slice => break slice,
            }
        };
        match slice {
            Ok(slice) if slice.rows.is_some() => {
                let Self { call, .. } = *self;
                let last = call.finish(Ok(convert::measured(slice)));
                (Some(last.map(Response::into_inner)), None)
            }
            Ok(slice) => (Some(Ok(convert::measured(slice))), Some(self)),
            Err(refusal) => {
                let Self { call, .. } = *self;
                (Some(Err(call.refuse(refusal))), None)
            }
        }
    }
}

/// The answers of one measurement; each is worked on when it is asked for.
pub enum Measurements {
    /// Nobody has asked for the next one.
    Idle(Box<Running>),
    /// It is being worked on.
    Working(Pin<Box<dyn Future<Output = Answered> + Send>>),
    /// There are no more.
    Over,
}

impl Stream for Measurements {
    type Item = Result<MeasureIndexResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        *self = match std::mem::replace(&mut *self, Self::Over) {
            Self::Idle(running) => Self::Working(Box::pin(running.next())),
            other => other,
        };
        let Self::Working(working) = &mut *self else {
            return Poll::Ready(None);
        };
        let (answer, rest) = ready!(working.as_mut().poll(context));
        *self = rest.map_or(Self::Over, Self::Idle);
        Poll::Ready(answer)
    }
}
