//! A log that is kept for days: one thread appends to it, another removes what is too old.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use likeness_engine::retention::{Lane, Pace, Progress, Sweep};
use likeness_engine::{OperatorError, Result, Timestamp};

use super::segments::Segments;

/// From one look at the day to the next. A look that finds the same day costs nothing.
const INTERVAL: Duration = Duration::from_secs(1);
/// The longest pause after a failure.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// The log.
pub struct DayLog(Arc<Mutex<Segments>>);

impl DayLog {
    /// Over segments that are open.
    pub fn new(segments: Segments) -> Self {
        Self(Arc::new(Mutex::new(segments)))
    }

    /// Appends a line.
    pub fn append(&self, line: &[u8], now: Timestamp) -> io::Result<()> {
        lock(&self.0).append(line, now)
    }

    /// Removes segments that are too old, for as long as the log is open.
    pub fn sweep(&self, class: &'static str) -> LogSweep {
        LogSweep {
            class,
            log: Arc::downgrade(&self.0),
        }
    }
}

/// A panic of another thread leaves at most a line that is not counted, so the log is usable.
fn lock(log: &Mutex<Segments>) -> MutexGuard<'_, Segments> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The sweep of a class of the table of retention.
#[derive(Clone)]
pub struct LogSweep {
    class: &'static str,
    log: Weak<Mutex<Segments>>,
}

impl Sweep for LogSweep {
    fn class(&self) -> &'static str {
        self.class
    }

    fn pace(&self) -> Pace {
        Pace {
            lane: Lane::Short,
            interval: Some(INTERVAL),
            wake_delay: Duration::ZERO,
            retry_max: RETRY_MAX,
        }
    }

    fn sweep(&mut self, now: Timestamp) -> Result<Progress> {
        let Some(log) = self.log.upgrade() else {
            return Ok(Progress::Closed);
        };
        let swept = lock(&log).sweep_if_another_day(now);
        swept.map_err(|e| OperatorError::Store {
            doing: "removing log files that are too old",
            detail: e.to_string(),
        })?;
        Ok(Progress::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::super::segments::Limits;
    use super::*;

    #[test]
    fn a_sweep_removes_the_days_that_are_over_and_ends_with_its_log() {
        const DAY_MS: u64 = 24 * 3600 * 1000;
        let home = tempfile::tempdir().expect("a directory");
        let limits = Limits {
            bytes_max: None,
            days_max: Some(90),
            segment_bytes: 1 << 20,
        };
        let log = Segments::open(home.path(), limits, Timestamp(DAY_MS)).expect("opened");
        let log = DayLog::new(log);
        let mut sweep = log.sweep("operation_log");
        log.append(b"{}\n", Timestamp(DAY_MS)).expect("appended");
        let files = || std::fs::read_dir(home.path()).expect("listed").count();
        let mut at = |day| sweep.sweep(Timestamp(day * DAY_MS)).expect("swept");
        assert_eq!((at(91), files()), (Progress::Done, 1), "the last day");
        assert_eq!((at(92), files()), (Progress::Done, 0), "the day after");
        drop(log);
        assert_eq!(at(92), Progress::Closed);
    }
}
