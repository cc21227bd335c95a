//! The span of one call's work: its deadline, its cancellation, its right to compute, and the time of each stage.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::busy;
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

    /// Whether it keeps a core busy from begin to end.
    const fn computes(self) -> bool {
        match self {
            Self::Decode | Self::Detect | Self::Align | Self::Embed | Self::Protect => true,
            Self::Queue | Self::Match | Self::Store => false,
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

/// The right of a call to compute, lent by the pool of workers.
pub trait Lease: Send + Sync {
    /// Called between two steps. Where another call goes first, this one waits until it may go on, or until soon after
    /// `is_over` answers true: no client waits for it any more. Answers how long it waited.
    fn give_way(&self, is_over: &dyn Fn() -> bool) -> Duration;

    /// A picture of so many pixels is about to be decoded.
    fn decodes(&self, pixels: u64);
}

/// The work of one call in time. [`Span::default`] never stops (tools and tests).
///
/// ```
/// use likeness_types::span::{Span, Step};
/// let mut span = Span::default();
/// let three = span.step(Step::Match, || Ok(1 + 2)).expect("nothing was cancelled");
/// assert_eq!(three, 3);
/// assert_eq!(span.steps().len(), 1);
/// ```
#[derive(Default)]
pub struct Span {
    deadline: Option<Instant>,
    cancel: Cancel,
    steps: Vec<(Step, Duration)>,
    /// Without one, it computes as long as it needs (tools and tests).
    lease: Option<Arc<dyn Lease>>,
}

impl Span {
    /// A span that begins no stage after `cancel` was raised.
    pub fn new(cancel: Cancel) -> Self {
        Self {
            deadline: None,
            cancel,
            steps: Vec::with_capacity(8),
            lease: None,
        }
    }

    /// From here on no stage begins after this moment.
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    /// From here on the call computes by this right.
    pub fn compute_by(&mut self, lease: Option<Arc<dyn Lease>>) {
        self.lease = lease;
    }

    /// Between two steps of one photograph: other calls may compute first. No lock may be held here.
    ///
    /// # Errors
    /// [`Stopped`] before this step, if the call's time is up.
    pub fn give_way(&mut self, next: Step) -> Result<()> {
        if let Some(lease) = &self.lease {
            let waited = lease.give_way(&|| self.is_over());
            if !waited.is_zero() {
                self.add(Step::Queue, waited);
            }
        }
        self.check(next)
    }

    /// Charges the pixels of a picture, before it is decoded.
    pub fn pixel_charge(&self) -> impl Fn(u64) + use<> {
        let lease = self.lease.clone();
        move |pixels| lease.iter().for_each(|lease| lease.decodes(pixels))
    }

    /// Runs one stage and adds its duration, unless the call's time is up.
    ///
    /// # Errors
    /// [`Stopped`] before the stage, or the stage's own error.
    pub fn step<T>(&mut self, step: Step, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.check(step)?;
        let start = Instant::now();
        // A pass notes by itself what it takes: whoever waits for one takes nothing.
        let _busy = step.computes().then(busy::busy);
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
        match self.is_over() {
            true => Err(Stopped { before: step.name() }.into()),
            false => Ok(()),
        }
    }

    /// Whether its time is up, or its caller has gone.
    fn is_over(&self) -> bool {
        let late = self.deadline.is_some_and(|deadline| deadline <= Instant::now());
        late || self.cancel.is_cancelled()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn a_cancelled_call_stops_before_its_next_stage() {
        let cancel = Cancel::default();
        let mut span = Span::new(cancel.clone());
        span.step(Step::Decode, || Ok(())).expect("not cancelled yet");
        cancel.cancel();
        let mut ran = false;
        let outcome = span.step(Step::Detect, || {
            ran = true;
            Ok(())
        });
        assert!(!ran);
        assert!(matches!(
            outcome,
            Err(Error::Stopped(Stopped { before: "detect" }))
        ));
        assert_eq!(span.steps().len(), 1);
    }

    #[test]
    fn a_late_call_begins_no_stage() {
        let mut span = Span::default();
        span.set_deadline(Some(Instant::now()));
        let outcome = span.step(Step::Embed, || Ok(()));
        assert!(matches!(
            outcome,
            Err(Error::Stopped(Stopped { before: "embed" }))
        ));
        let ahead = Instant::now() + Duration::from_secs(3600);
        let mut span = Span::default();
        span.set_deadline(Some(ahead));
        assert!(span.step(Step::Embed, || Ok(())).is_ok());
    }

    /// Makes each span wait.
    struct Crowded(std::sync::atomic::AtomicU64);

    impl Lease for Crowded {
        fn give_way(&self, is_over: &dyn Fn() -> bool) -> Duration {
            assert!(!is_over());
            Duration::from_millis(5)
        }

        fn decodes(&self, pixels: u64) {
            self.0.fetch_add(pixels, Ordering::Relaxed);
        }
    }

    #[test]
    fn what_a_call_waited_between_two_steps_is_waiting_for_a_worker() {
        let crowded = Arc::new(Crowded(0.into()));
        let cancel = Cancel::default();
        let mut span = Span::new(cancel.clone());
        span.give_way(Step::Detect).expect("it needs no lease");
        span.compute_by(Some(crowded.clone()));
        span.give_way(Step::Detect).expect("it goes on");
        assert_eq!(span.steps(), [(Step::Queue, Duration::from_millis(5))]);
        span.pixel_charge()(12);
        assert_eq!(crowded.0.load(Ordering::Relaxed), 12);
        span.compute_by(None);
        cancel.cancel();
        assert!(matches!(
            span.give_way(Step::Align),
            Err(Error::Stopped(Stopped { before: "align" }))
        ));
    }

    #[test]
    fn the_same_step_adds_up() {
        let mut span = Span::default();
        span.add(Step::Embed, Duration::from_millis(2));
        span.add(Step::Embed, Duration::from_millis(3));
        assert_eq!(span.steps(), [(Step::Embed, Duration::from_millis(5))]);
    }
}
