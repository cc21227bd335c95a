//! One call's way through the stages: its deadline, its caller's presence, and its step timings.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Result, Stopped};

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

/// Raised by whoever waits for a call when it no longer does; seen before the next stage.
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
/// let mut call = Call::unbounded();
/// let three = call.step(Step::Match, || Ok(1 + 2)).expect("no deadline");
/// assert_eq!(three, 3);
/// assert_eq!(call.steps().len(), 1);
/// ```
pub struct Call {
    deadline: Option<Instant>,
    cancel: Cancel,
    steps: Vec<(Step, Duration)>,
}

impl Call {
    /// A call that may take as long as it needs (tools and tests).
    pub fn unbounded() -> Self {
        Self::new(None, Cancel::default())
    }

    /// A call that stops before the first stage after `deadline`, or after `cancel` was raised.
    pub fn new(deadline: Option<Instant>, cancel: Cancel) -> Self {
        Self {
            deadline,
            cancel,
            steps: Vec::with_capacity(12),
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

    /// The stages that ran, in order, with the time each took in all.
    pub fn steps(&self) -> &[(Step, Duration)] {
        &self.steps
    }

    fn check(&self, step: Step) -> Result<()> {
        let before = step.name();
        if self.cancel.is_cancelled() {
            return Err(Stopped::Cancelled { before }.into());
        }
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(Stopped::Deadline { before }.into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn an_expired_call_stops_before_its_next_stage() {
        let mut call = Call::new(Some(Instant::now()), Cancel::default());
        let mut ran = false;
        let outcome = call.step(Step::Embed, || {
            ran = true;
            Ok(())
        });
        assert!(!ran);
        assert!(matches!(
            outcome,
            Err(Error::Stopped(Stopped::Deadline { before: "embed" }))
        ));
    }

    #[test]
    fn a_cancelled_call_stops_before_its_next_stage() {
        let cancel = Cancel::default();
        let mut call = Call::new(None, cancel.clone());
        call.step(Step::Decode, || Ok(())).expect("not cancelled yet");
        cancel.cancel();
        let outcome = call.step(Step::Detect, || Ok(()));
        assert!(matches!(
            outcome,
            Err(Error::Stopped(Stopped::Cancelled { before: "detect" }))
        ));
        assert_eq!(call.steps().len(), 1);
    }

    #[test]
    fn the_same_step_adds_up() {
        let mut call = Call::unbounded();
        call.add(Step::Embed, Duration::from_millis(2));
        call.add(Step::Embed, Duration::from_millis(3));
        assert_eq!(call.steps(), [(Step::Embed, Duration::from_millis(5))]);
    }
}
