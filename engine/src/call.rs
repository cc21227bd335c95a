//! One call's way through the stages: whether anybody still waits for it, and how long each stage took.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::access_log::entry::Entry;
use crate::access_log::usage::Charge;
use crate::gallery::readers::{Readers, Reading};
use crate::guard::idempotency::key::{Caller, Once};
use likeness_types::error::Result;
use likeness_types::names::RandomId;
use likeness_types::span::{Cancel, Lease, Span, Step};

/// Travels through the stages of one call.
///
/// ```
/// use likeness_engine::{Call, Step};
/// let mut call = Call::default();
/// let three = call.step(Step::Match, || Ok(1 + 2)).expect("nobody cancelled");
/// assert_eq!(three, 3);
/// assert_eq!(call.steps().len(), 1);
/// ```
#[derive(Default)]
pub struct Call {
    caller: Caller,
    asker: RandomId,
    span: Span,
    /// Dropped, and so left in the running log, before erasures stop waiting for this call.
    pub(crate) entry: Option<Entry>,
    reading: Vec<Reading>,
}

impl Call {
    /// A call named `request` that stops before the first stage after `cancel` was raised.
    /// [`Call::default`] has no name and never stops (tools and tests).
    pub fn new(request: RandomId, cancel: Cancel) -> Self {
        Self {
            caller: request.into(),
            asker: RandomId::default(),
            span: Span::new(cancel),
            entry: None,
            reading: Vec::new(),
        }
    }

    /// The same, asked by whoever has this id: what one caller is told of a person is counted by it.
    #[must_use]
    pub fn asked_by(mut self, asker: RandomId) -> Self {
        self.asker = asker;
        self
    }

    /// The same, which begins no stage after this moment.
    #[must_use]
    pub fn until(mut self, deadline: Option<Instant>) -> Self {
        self.span.set_deadline(deadline);
        self
    }

    /// The call's work in time, for the pillars below.
    pub(crate) fn span(&mut self) -> &mut Span {
        &mut self.span
    }

    /// From here on the call computes by this right.
    pub fn compute_by(&mut self, lease: Option<Arc<dyn Lease>>) {
        self.span.compute_by(lease);
    }

    /// Runs one stage and adds its duration, unless the call's time is up.
    ///
    /// # Errors
    /// [`crate::Stopped`] before the stage, or the stage's own error.
    pub fn step<T>(&mut self, step: Step, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.span.step(step, work)
    }

    /// Adds time measured elsewhere (waiting in the queue, say); the same step adds up.
    pub fn add(&mut self, step: Step, took: Duration) {
        self.span.add(step, took);
    }

    /// The stages that ran, in order, with the time each took in all.
    pub fn steps(&self) -> &[(Step, Duration)] {
        self.span.steps()
    }

    /// From here until the call is dropped its reply may name people: erasures wait for it. Drop the call
    /// when the reply is built.
    pub(crate) fn reads(&mut self, readers: &Readers) {
        self.reading.push(readers.begin());
    }

    /// What was read before is not named any more, or its reply is built. Who waits for readers must not be
    /// one.
    pub fn read(&mut self) {
        self.reading.clear();
    }

    /// The call's name, as receipts record it.
    pub fn request(&self) -> RandomId {
        self.caller.request
    }

    /// The writes of this call are made at most once.
    pub fn once(&mut self, once: Once) {
        self.caller.once = Some(Arc::new(once));
    }

    /// Whether this call has a token.
    pub fn is_once(&self) -> bool {
        self.caller.once.is_some()
    }

    /// An earlier call under the same token made the write.
    pub fn is_replayed(&self) -> bool {
        self.caller.once.as_ref().is_some_and(|once| once.is_replayed())
    }

    pub(crate) fn asker(&self) -> RandomId {
        self.asker
    }

    pub(crate) fn caller(&self) -> Caller {
        self.caller.clone()
    }

    /// How the call ended, for the running log: "OK", or the reason of its refusal.
    pub fn end(&mut self, result: &'static str, charge: Charge) {
        if let Some(entry) = &mut self.entry {
            entry.end(result, charge);
        }
    }
}
