//! When each sweep of a lane runs next. It has no thread and no clock of its own, so tests decide the time.
//!
//! Pauses are measured from the start of the process, so a system clock that is set back delays no sweep. Deadlines of data
//! are times of day: a sweep compares them with the `now` that it is given.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::sweep::{Pace, Progress, Sweep};
use likeness_types::error::Result;
use likeness_types::person::Timestamp;

/// After the first failure of a sweep.
pub(super) const RETRY_MIN: Duration = Duration::from_secs(2);

/// The sweeps of one lane.
#[derive(Default)]
pub(super) struct Schedule {
    entries: Vec<Entry>,
}

struct Entry {
    sweep: Box<dyn Sweep>,
    pace: Pace,
    /// None until it is woken.
    due: Option<Duration>,
    /// When a sweep was due that has not succeeded since.
    owed_since: Option<Duration>,
    failures: u32,
}

/// How late a class is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owed {
    pub(super) class: &'static str,
    /// The time, past or coming, from which on the class is overdue; none if nothing is to be done.
    pub(super) since: Option<Duration>,
}

impl Schedule {
    pub(super) fn add(&mut self, sweep: Box<dyn Sweep>, at: Duration) {
        let pace = sweep.pace();
        self.entries.push(Entry {
            due: pace.interval.map(|interval| at + interval),
            sweep,
            pace,
            owed_since: None,
            failures: 0,
        });
    }

    /// Brings the next sweep of a class forward. A class that failed waits for its retry all the same.
    pub(super) fn wake(&mut self, class: &str, at: Duration) {
        for entry in self.entries.iter_mut().filter(|entry| entry.failures == 0) {
            if entry.sweep.class() == class {
                let woken = at + entry.pace.wake_delay;
                entry.due = Some(entry.due.map_or(woken, |due| due.min(woken)));
            }
        }
    }

    /// When the next sweep is due.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.entries.iter().filter_map(|entry| entry.due).min()
    }

    pub(super) fn owed(&self) -> impl Iterator<Item = Owed> {
        self.entries.iter().map(|entry| Owed {
            class: entry.sweep.class(),
            since: entry.owed_since.or(entry.due),
        })
    }

    /// Runs the sweep that has been due for the longest time; answers whether one was due. `elapsed` tells the time
    /// before and after.
    pub(super) fn run_one(&mut self, now: Timestamp, elapsed: &dyn Fn() -> Duration) -> bool {
        let at = elapsed();
        let waiting = self.entries.iter_mut().enumerate();
        let due = waiting.filter_map(|(number, entry)| Some((entry.due.filter(|due| *due <= at)?, number)));
        let Some((due, number)) = due.min() else {
            return false;
        };
        let entry = &mut self.entries[number];
        entry.owed_since.get_or_insert(due);
        match entry.run(now) {
            Some(Ok(Progress::Closed)) => drop(self.entries.swap_remove(number)),
            Some(Ok(progress)) => entry.succeeded(progress, elapsed()),
            Some(Err(error)) => {
                let retry = entry.failed(elapsed());
                let class = entry.sweep.class();
                tracing::error!(%error, class, ?retry, "data past their period were not destroyed; the sweep is tried again");
            }
            None => {
                let retry = entry.failed(elapsed());
                let class = entry.sweep.class();
                tracing::error!(
                    class,
                    ?retry,
                    "a sweep of data past their period panicked; it is tried again"
                );
            }
        }
        true
    }
}

impl Entry {
    /// None of a panic: it must not end the sweeps of the other classes.
    fn run(&mut self, now: Timestamp) -> Option<Result<Progress>> {
        catch_unwind(AssertUnwindSafe(|| self.sweep.sweep(now))).ok()
    }

    fn succeeded(&mut self, progress: Progress, at: Duration) {
        self.failures = 0;
        match progress {
            Progress::More(pause) => self.due = Some(at + pause),
            Progress::Done | Progress::Closed => {
                self.due = self.pace.interval.map(|interval| at + interval);
                self.owed_since = None;
            }
        }
    }

    /// Answers the pause until the retry.
    fn failed(&mut self, at: Duration) -> Duration {
        let retry = RETRY_MIN.saturating_mul(1 << self.failures.min(16));
        let retry = retry.min(self.pace.retry_max);
        self.failures += 1;
        self.due = Some(at + retry);
        retry
    }
}
