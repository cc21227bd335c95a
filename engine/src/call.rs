//! One call's way through the stages: whether anybody still waits for it, and how long each stage took.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Result, Stopped};
use crate::gallery::readers::{Readers, Reading};
use crate::gallery::running::entry::{Charge, Entry};
use crate::names::RandomId;
use crate::once::{Caller, Once};

/// A stage of a call, in the order in which a reader meets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Waiting for a worker.
    Queue,
    /// Bytes to pixels.
    Decode,
    /// Pixels to face boxes.
    Detect,
    /// Box to five points to the upright 112x112 face.
    Align,
    /// Aligned face to plain features.
    Embed,
    /// Plain features to bits, or to a probe.
    Protect,
    /// Comparing.
    Match,
    /// Reading or writing the store.
    Store,
}

impl Step {
    /// The name used in replies and errors.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Decode => "decode",
            Self::Detect => "detect",
            Self::Align => "align",
            Self::Embed => "embed",
            Self::Protect => "protect",
            Self::Match => "match",
            Self::Store => "store",
        }
    }
}

/// Raised when nobody waits for a call any more (its deadline passed, or its caller went away); seen
/// before the next stage.
#[derive(Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Tells the call to stop before its next stage.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

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
    cancel: Cancel,
    steps: Vec<(Step, Duration)>,
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
            cancel,
            steps: Vec::with_capacity(8),
            entry: None,
            reading: Vec::new(),
        }
    }

    /// Runs one stage and adds its duration, unless the call's time is up.
    ///
    /// # Errors
    /// [`Stopped`] before the stage, or the stage's own error.
    pub fn step<T>(&mut self, step: Step, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.check(step)?;
        let start = Instant::now();
        let result = work();
        self.add(step, start.elapsed());
        result
    }

    /// Adds time measured elsewhere (waiting in the queue, say); the same step adds up.
    pub fn add(&mut self, step: Step, took: Duration) {
        match self.steps.iter_mut().find(|(seen, _)| *seen == step) {
            Some((_, total)) => *total += took,
            None => self.steps.push((step, took)),
        }
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

    pub(crate) fn caller(&self) -> Caller {
        self.caller.clone()
    }

    /// Whoever was compared counts as the same person, or does not: for the running log.
    pub fn conclude(&mut self, is_same: bool) {
        if let Some(entry) = &mut self.entry {
            entry.conclude(is_same);
        }
    }

    /// How the call ended, for the running log: "OK", or the reason of its refusal.
    pub fn end(&mut self, result: &'static str, charge: Charge) {
        if let Some(entry) = &mut self.entry {
            entry.end(result, charge);
        }
    }

    /// The stages that ran, in order, with the time each took in all.
    pub fn steps(&self) -> &[(Step, Duration)] {
        &self.steps
    }

    fn check(&self, step: Step) -> Result<()> {
        if self.cancel.is_cancelled() {
            return Err(Stopped { before: step.name() }.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn a_cancelled_call_stops_before_its_next_stage() {
        let cancel = Cancel::default();
        let mut call = Call::new(RandomId::default(), cancel.clone());
        call.step(Step::Decode, || Ok(())).expect("not cancelled yet");
        cancel.cancel();
        let mut ran = false;
        let outcome = call.step(Step::Detect, || {
            ran = true;
            Ok(())
        });
        assert!(!ran);
        assert!(matches!(
            outcome,
            Err(Error::Stopped(Stopped { before: "detect" }))
        ));
        assert_eq!(call.steps().len(), 1);
    }

    #[test]
    fn the_same_step_adds_up() {
        let mut call = Call::default();
        call.add(Step::Embed, Duration::from_millis(2));
        call.add(Step::Embed, Duration::from_millis(3));
        assert_eq!(call.steps(), [(Step::Embed, Duration::from_millis(5))]);
    }
}
