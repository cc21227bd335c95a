//! One call's way through the stages: whether anybody still waits for it, and how long each stage took.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::cores;
use crate::error::{Result, Stopped};
use crate::gallery::passes::Coming;
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
    deadline: Option<Instant>,
    cancel: Cancel,
    steps: Vec<(Step, Duration)>,
    /// Without one, it computes as long as it needs (tools and tests).
    lease: Option<Arc<dyn Lease>>,
    /// Dropped, and so left in the running log, before erasures stop waiting for this call.
    pub(crate) entry: Option<Entry>,
    reading: Vec<Reading>,
    /// The passes that it will join.
    coming: Vec<Coming>,
}

impl Call {
    /// A call named `request` that stops before the first stage after `cancel` was raised.
    /// [`Call::default`] has no name and never stops (tools and tests).
    pub fn new(request: RandomId, cancel: Cancel) -> Self {
        Self {
            caller: request.into(),
            asker: RandomId::default(),
            deadline: None,
            cancel,
            steps: Vec::with_capacity(8),
            lease: None,
            entry: None,
            reading: Vec::new(),
            coming: Vec::new(),
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
        self.deadline = deadline;
        self
    }

    /// From here on the call computes by this right.
    pub fn compute_by(&mut self, lease: Option<Arc<dyn Lease>>) {
        self.lease = lease;
    }

    /// Between two steps of one photograph: other calls may compute first. No lock may be held here.
    ///
    /// # Errors
    /// [`Stopped`] before this step, if the call's time is up.
    pub(crate) fn give_way(&mut self, next: Step) -> Result<()> {
        if let Some(lease) = &self.lease {
            let waited = lease.give_way(&|| self.is_over());
            if !waited.is_zero() {
                self.add(Step::Queue, waited);
            }
        }
        self.check(next)
    }

    /// Charges the pixels of a picture, before it is decoded.
    pub(crate) fn pixel_charge(&self) -> impl Fn(u64) + use<> {
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
        let _busy = step.computes().then(cores::busy);
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

    /// Whoever gathers for a pass may wait for this call, until it has come or is dropped.
    pub(crate) fn comes(&mut self, coming: Coming) {
        self.coming.push(coming);
    }

    /// The passes that it was to join, in order.
    pub(crate) fn has_come(&mut self) -> Vec<Coming> {
        std::mem::take(&mut self.coming)
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
    fn a_late_call_begins_no_stage() {
        let mut call = Call::default().until(Some(Instant::now()));
        let outcome = call.step(Step::Embed, || Ok(()));
        assert!(matches!(
            outcome,
            Err(Error::Stopped(Stopped { before: "embed" }))
        ));
        let ahead = Instant::now() + Duration::from_secs(3600);
        assert!(
            Call::default()
                .until(Some(ahead))
                .step(Step::Embed, || Ok(()))
                .is_ok()
        );
    }

    /// Makes each call wait.
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
        let mut call = Call::new(RandomId::default(), cancel.clone());
        call.give_way(Step::Detect).expect("it needs no lease");
        call.compute_by(Some(crowded.clone()));
        call.give_way(Step::Detect).expect("it goes on");
        assert_eq!(call.steps(), [(Step::Queue, Duration::from_millis(5))]);
        call.pixel_charge()(12);
        assert_eq!(crowded.0.load(Ordering::Relaxed), 12);
        call.compute_by(None);
        cancel.cancel();
        assert!(matches!(
            call.give_way(Step::Align),
            Err(Error::Stopped(Stopped { before: "align" }))
        ));
    }

    #[test]
    fn the_same_step_adds_up() {
        let mut call = Call::default();
        call.add(Step::Embed, Duration::from_millis(2));
        call.add(Step::Embed, Duration::from_millis(3));
        assert_eq!(call.steps(), [(Step::Embed, Duration::from_millis(5))]);
    }
}
