//! What a class of data brings with it to be swept.

use std::time::Duration;

use likeness_types::error::Result;
use likeness_types::person::Timestamp;

/// Destroys what of one class of data is past its period.
pub trait Sweep: Send {
    /// The name of the class, as in the table.
    fn class(&self) -> &'static str;

    /// How often and by which thread.
    fn pace(&self) -> Pace;

    /// Called once by the thread of the lane, before the first sweep; stops early when `goes_on` says no.
    fn prepare(&mut self, goes_on: &dyn Fn() -> bool) {
        let _ = goes_on;
    }

    /// Destroys what is past its period at `now`, or a part of it. Sweeps of one lane take turns, so a sweep that may
    /// take longer than a second works in parts, or belongs to the lane of long work.
    ///
    /// # Errors
    /// Something that is past its period is still there; the sweep is tried again.
    fn sweep(&mut self, now: Timestamp) -> Result<Progress>;
}

/// How far a sweep got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Nothing that is past its period is left.
    Done,
    /// There may be more; the next part follows after this pause at the earliest.
    More(Duration),
    /// The owner of the data is closed: the sweep is removed.
    Closed,
}

/// How often a class is swept.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The thread.
    pub lane: Lane,
    /// From the end of a sweep to the next one, so the longest time that something stays after its deadline; none for a
    /// class that is swept after a wake-up only.
    pub interval: Option<Duration>,
    /// From a wake-up to the sweep: one sweep serves all wake-ups of this time.
    pub wake_delay: Duration,
    /// Retries come after two seconds, four, eight and so on, and never later than this.
    pub retry_max: Duration,
}

/// The threads of the sweeper. Rewriting data files takes minutes and cannot be divided; what has a deadline of a second
/// does not wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Sweeps, or parts of sweeps, of less than a second.
    Short,
    /// Sweeps of any length.
    Long,
}
