//! Messages of one request, collected as their bytes come and handed to their decoder when they are whole.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use http_body::{Body as HttpBody, Frame as HttpFrame};
use likeness_proto::handed::Hand;
use tokio::time::{Instant, Sleep};
use tonic::Status;
use tonic::codegen::Bytes;
use tonic::codegen::http::HeaderMap;

use super::frames::{Frames, Next};
use super::intake::{Bodies, Of};
use super::wiped::{Frame, Wiped};
use crate::call::message_memory::{FREE_BYTES, Progress, RETRY_AFTER, Reservation};
use crate::refusal::Refusal;

/// A message's head: whether it is compressed, and its length.
const HEAD_BYTES: usize = 5;

/// What the messages of a request have reserved for as long as the call lasts.
pub type Held = Arc<Mutex<Vec<Reservation>>>;

/// The body of a request as tonic reads it: each message whole, or the call refused.
pub struct Collected {
    bodies: Bodies,
    of: Of,
    frames: Frames,
    /// What has not been read of the last one.
    frame: Option<Frame>,
    head: Vec<u8>,
    message: Option<Message>,
    pace: Option<Pace>,
    hand: Hand,
    /// Where a single message's reservation goes when it is whole; its call holds it.
    held: Held,
    /// The same for the last of a stream's, which is let go of when the next is asked for.
    last: Option<Reservation>,
    is_over: bool,
}

/// A message that is not yet whole.
struct Message {
    length: usize,
    bytes: Wiped,
    reservation: Option<Reservation>,
}

/// When a message that is not yet whole is too slow.
struct Pace {
    began: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Collected {
    /// Of a request that was let in.
    pub fn new(bodies: Bodies, of: Of, frames: Frames, held: Held) -> Self {
        Self {
            bodies,
            of,
            frames,
            frame: None,
            head: Vec::with_capacity(HEAD_BYTES),
            message: None,
            pace: None,
            hand: Hand::default(),
            held,
            last: None,
            is_over: false,
        }
    }

    /// Reads what there is of the last frame; answers the message if that makes it whole.
    fn read(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(mut frame) = self.frame.take() else {
            return Ok(None);
        };
        if self.message.is_none() {
            let missing = HEAD_BYTES - self.head.len();
            let rest = frame.rest();
            let taken = missing.min(rest.len());
            self.head.extend_from_slice(&rest[..taken]);
            frame.advance(taken);
            if self.head.len() < HEAD_BYTES {
                return Ok(None);
            }
            let length = self.length()?;
            self.head.clear();
            self.message = Some(Message {
                length,
                bytes: Wiped::default(),
                reservation: None,
            });
        }
        let message = self.message.as_mut().expect("made above");
        let is_whole = match message.take(&mut frame, &self.bodies, &self.of) {
            Ok(is_whole) => is_whole,
            Err(refusal) => return Err(self.refuse(refusal)),
        };
        if !frame.rest().is_empty() {
            self.frame = Some(frame);
        }
        Ok(is_whole.then(|| self.whole()))
    }

    /// The length that the head says.
    fn length(&self) -> Result<usize, Status> {
        let head: [u8; HEAD_BYTES] = self.head.as_slice().try_into().expect("it is whole");
        let [flag, length @ ..] = head;
        match flag {
            0 => {}
            1 => {
                return Err(Status::internal(
                    "protocol error: compressed messages are not taken",
                ));
            }
            _ => return Err(Status::internal("protocol error: invalid compression flag")),
        }
        let length = u32::from_be_bytes(length);
        let most = self.of.rpc.message_bytes_max();
        match usize::try_from(length) {
            Ok(length) if length <= most => Ok(length),
            _ => Err(self.refuse(Refusal::MessageTooLong { length, most })),
        }
    }

    fn whole(&mut self) -> Bytes {
        let message = self.message.take().expect("it is whole");
        self.pace = None;
        if self.of.rpc.takes_stream {
            self.last = message.reservation;
        } else {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            held.extend(message.reservation);
        }
        Bytes::from_owner(message.bytes)
    }

    /// What has come of the message that is not yet whole.
    fn come(&self) -> usize {
        self.head.len() + self.message.as_ref().map_or(0, |message| message.bytes.len())
    }

    /// Ready when the message is too slow. A stream may be silent between its messages: that has its own limit.
    fn poll_too_slow(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let come = self.come();
        let is_between = come == 0 && self.message.is_none();
        if is_between && self.of.rpc.takes_stream {
            self.pace = None;
            return Poll::Pending;
        }
        let pace = self.pace.get_or_insert_with(|| {
            let began = Instant::now();
            let timer = Box::pin(tokio::time::sleep_until(self.bodies.due(began, come)));
            Pace { began, timer }
        });
        loop {
            ready!(pace.timer.as_mut().poll(context));
            let due = self.bodies.due(pace.began, come);
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            pace.timer.as_mut().reset(due);
        }
    }

    /// No more is read of a body that was refused.
    fn refuse(&self, refusal: Refusal) -> Status {
        self.bodies.refuse(&self.of, refusal)
    }

    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Result<Step, Status>> {
        self.last = None;
        loop {
            if let Some(message) = self.read()? {
                return Poll::Ready(Ok(Step::Message(message)));
            }
            if self.frame.is_some() {
                continue;
            }
            match self.frames.poll_next(context)? {
                Poll::Ready(Next::Data(frame)) => self.frame = Some(frame),
                Poll::Ready(_) if self.message.is_some() || !self.head.is_empty() => {
                    return Poll::Ready(Err(Status::internal("the request ended within a message")));
                }
                Poll::Ready(Next::Trailers(trailers)) => return Poll::Ready(Ok(Step::Trailers(trailers))),
                Poll::Ready(Next::End) => return Poll::Ready(Ok(Step::End)),
                Poll::Pending => {
                    ready!(self.poll_too_slow(context));
                    return Poll::Ready(Err(self.refuse(Refusal::TooSlow)));
                }
            }
        }
    }
}

/// What tonic is told.
enum Step {
    Message(Bytes),
    Trailers(HeaderMap),
    End,
}

impl Message {
    /// As much of the frame as belongs to it; answers whether it is whole.
    fn take(&mut self, frame: &mut Frame, bodies: &Bodies, of: &Of) -> Result<bool, Refusal> {
        loop {
            let rest = frame.rest();
            let wanted = rest.len().min(self.length - self.bytes.len());
            let taken = self.bytes.fill(&rest[..wanted]);
            frame.advance(taken);
            if self.bytes.len() == self.length {
                return Ok(true);
            }
            if taken == wanted {
                return Ok(false);
            }
            self.grow(self.bytes.len() + wanted - taken, bodies, of)?;
        }
    }

    /// Room for this many bytes at least: twice what there was, so that a message of any length is moved a few times.
    fn grow(&mut self, bytes: usize, bodies: &Bodies, of: &Of) -> Result<(), Refusal> {
        let doubled = (2 * self.bytes.capacity()).max(FREE_BYTES);
        let room = doubled.max(bytes).min(self.length);
        let progress = match 2 * self.bytes.len() < self.length {
            true => Progress::Begun,
            false => Progress::Advanced,
        };
        let reserved = bodies.memory.reserve(of.caller.account(), room, progress);
        let reserved = reserved.ok_or(Refusal::MemoryBusy(RETRY_AFTER))?;
        self.bytes
            .grow(room)
            .map_err(|_| Refusal::MemoryBusy(RETRY_AFTER))?;
        // ORDER: what was reserved for the smaller buffer goes after it: both were there at once.
        self.reservation = Some(reserved);
        Ok(())
    }
}

impl HttpBody for Collected {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<HttpFrame<Bytes>, Status>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        match ready!(self.poll_message(context)) {
            // ORDER: given last: tonic decodes it before it asks for anything else.
            Ok(Step::Message(message)) => Poll::Ready(Some(Ok(HttpFrame::data(self.hand.give(message))))),
            Ok(Step::Trailers(trailers)) => Poll::Ready(Some(Ok(HttpFrame::trailers(trailers)))),
            Ok(Step::End) => {
                self.is_over = true;
                Poll::Ready(None)
            }
            Err(status) => {
                self.is_over = true;
                (self.frame, self.message) = (None, None);
                Poll::Ready(Some(Err(status)))
            }
        }
    }
}
