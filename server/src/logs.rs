//! Error log, operation log and monitoring data: what the operator learns of calls, and nobody of people.
//!
//! Every call leaves one record, made of numbers, constants and random ids: no text of a request can get into it.
//! One thread makes lines of them and writes them into segment files; calls never wait for it, and what finds no
//! room in its queue is lost, counted, and said in a line of its own.

mod record;
pub mod retention;
mod segments;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use likeness_engine::Timestamp;

pub use self::record::{Came, Downstream, Ended, Output, Shape, Shaped, date, day_of_date, today};
use self::retention::Retention;
use self::segments::{Limits, Segments};

/// Calls that may wait to be written.
const QUEUE_MAX: usize = 8192;
/// Whoever leaves a record wakes the writer at most so often: to wake a thread costs a call more than its line.
const GATHER: Duration = Duration::from_millis(100);
/// From one look for old segments to the next.
const SWEEP: Duration = Duration::from_secs(3600);
/// A segment is closed at this size; what is removed, is removed by the segment.
const SEGMENT_BYTES: u64 = 16 << 20;

/// The folder in the data directory.
pub const FOLDER: &str = "logs";

enum Job {
    Write(Box<Ended>),
    Stop,
}

/// Where calls leave their records.
pub struct Logs {
    queue: SyncSender<Job>,
    lost: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Logs {
    /// Opens the three logs below the data directory, closes lines that a crash tore, and removes what is too old.
    ///
    /// # Errors
    /// The folder cannot be made, read or written.
    pub fn open(data: &Path, retention: &Retention) -> std::io::Result<Self> {
        let folder = data.join(FOLDER);
        let now = Timestamp::now();
        let open = |class: &str, limits| Segments::open(&folder.join(class), limits, now);
        let by_days = |days: u32| Limits {
            bytes_max: None,
            days_max: Some(days),
            segment_bytes: SEGMENT_BYTES,
        };
        let error_bytes = retention.error_log_bytes();
        let mut scribe = Scribe {
            errors: open(
                "error",
                Limits {
                    bytes_max: Some(error_bytes),
                    days_max: None,
                    segment_bytes: SEGMENT_BYTES.min(error_bytes / 8),
                },
            )?,
            operations: open("operation", by_days(retention.operation_log_days))?,
            monitoring: open("monitoring", by_days(retention.monitoring_days))?,
            lost: Arc::default(),
            failed: false,
        };
        let lost = Arc::clone(&scribe.lost);
        let (queue, jobs) = sync_channel(QUEUE_MAX);
        let thread = thread::Builder::new()
            .name("likeness-logs".to_owned())
            .spawn(move || scribe.run(&jobs))?;
        Ok(Self {
            queue,
            lost,
            thread: Some(thread),
        })
    }

    /// Leaves the record of a call. Never waits.
    pub fn leave(&self, ended: Ended) {
        if self.queue.try_send(Job::Write(Box::new(ended))).is_err() {
            self.lost.fetch_add(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        // Behind everything that was left before.
        let _ = self.queue.send(Job::Stop);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic there lost lines, and nothing else.
            let _ = thread.join();
        }
    }
}

struct Scribe {
    errors: Segments,
    operations: Segments,
    monitoring: Segments,
    lost: Arc<AtomicU64>,
    /// Said once, until it works again.
    failed: bool,
}

impl Scribe {
    fn run(&mut self, jobs: &Receiver<Job>) {
        loop {
            match jobs.recv_timeout(SWEEP) {
                Ok(Job::Write(ended)) => {
                    self.write(&ended);
                    // Meanwhile lines wait in the queue, and only its owner's end wakes this thread.
                    thread::park_timeout(GATHER);
                    for job in jobs.try_iter().take(QUEUE_MAX) {
                        match job {
                            Job::Write(ended) => self.write(&ended),
                            Job::Stop => return,
                        }
                    }
                }
                Ok(Job::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.sweep_if_due();
        }
    }

    fn write(&mut self, ended: &Ended) {
        let now = Timestamp::now();
        let lost = self.lost.swap(0, Ordering::AcqRel);
        let mut outcome = Ok(());
        if lost > 0 {
            let line = record::lost_line(now, lost);
            for log in [&mut self.errors, &mut self.operations, &mut self.monitoring] {
                outcome = outcome.and(log.append(&line, now));
            }
        }
        outcome = outcome.and(self.operations.append(&ended.operation_line(), now));
        outcome = outcome.and(self.monitoring.append(&ended.monitoring_line(), now));
        if ended.is_of_interest() {
            outcome = outcome.and(self.errors.append(&ended.error_line(), now));
        }
        self.note(outcome);
    }

    fn sweep_if_due(&mut self) {
        let now = Timestamp::now();
        let mut outcome = Ok(());
        for log in [&mut self.operations, &mut self.monitoring] {
            outcome = outcome.and(log.sweep_if_another_day(now));
        }
        self.note(outcome);
    }

    fn note(&mut self, outcome: std::io::Result<()>) {
        match outcome {
            Ok(()) => self.failed = false,
            Err(error) => {
                self.lost.fetch_add(1, Ordering::AcqRel);
                if !std::mem::replace(&mut self.failed, true) {
                    tracing::error!(%error, "calls cannot be logged");
                }
            }
        }
    }
}
