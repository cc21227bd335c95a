//! Error log, operation log and monitoring data: facts about calls, and none about people.
//!
//! Every call leaves one record, made of numbers, constants and random ids: no text of a request can get into it.
//! One thread makes lines of them and writes them into segment files; calls never wait for it, and what finds no
//! room in its queue is lost, counted, and said in a line of its own.

mod day_log;
mod record;
mod rejected;
pub mod retention;
mod segments;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use likeness_engine::Timestamp;
use likeness_engine::retention::Registry;

use self::day_log::{DayLog, LogSweep};
pub use self::record::{
    CallRecord, ClientOrigin, Downstream, Output, RejectedCall, Shape, Shaped, date, day_of_date, today,
};
use self::rejected::RejectedCalls;
use self::retention::Retention;
use self::segments::{Limits, Segments};

/// Calls that may wait to be written.
const QUEUE_MAX: usize = 8192;
/// Whoever leaves a record wakes the writer at most so often: to wake a thread costs a call more than its line.
const PAUSE: Duration = Duration::from_millis(100);
/// Calls by nobody known are counted for so long, and then a line says of each kind how many there were: a flood of
/// them takes a dozen lines in this time, and pushes nothing of use out of the error log.
const GATHER: Duration = Duration::from_secs(60);
/// A segment is closed at this size; what is removed, is removed by the segment.
const SEGMENT_BYTES: u64 = 16 << 20;

/// The folder in the data directory.
pub const FOLDER: &str = "logs";

enum Job {
    Write(Box<CallRecord>),
    Stop,
}

/// The three logs of calls.
pub struct Logs {
    queue: SyncSender<Job>,
    lost: Arc<Lost>,
    rejected: Arc<RejectedCalls>,
    sweeps: Vec<LogSweep>,
    thread: Option<JoinHandle<()>>,
}

/// Calls that were not written.
#[derive(Default)]
struct Lost {
    /// And that no line says yet.
    unsaid: AtomicU64,
    total: AtomicU64,
}

impl Lost {
    fn count(&self) {
        self.unsaid.fetch_add(1, Ordering::AcqRel);
        self.total.fetch_add(1, Ordering::AcqRel);
    }
}

impl Logs {
    /// Opens the three logs below the data directory, closes lines that a crash tore, and removes what is too old.
    ///
    /// # Errors
    /// The folder cannot be made, read or written.
    pub fn open(data: &Path, retention: &Retention, region: &str) -> std::io::Result<Self> {
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
            operations: DayLog::new(open("operation", by_days(retention.operation_log_days))?),
            monitoring: DayLog::new(open("monitoring", by_days(retention.monitoring_days))?),
            region: region.to_owned(),
            lost: Arc::default(),
            rejected: Arc::default(),
            failed: false,
        };
        let (lost, rejected) = (Arc::clone(&scribe.lost), Arc::clone(&scribe.rejected));
        let sweeps = vec![
            scribe.operations.sweep("operation_log"),
            scribe.monitoring.sweep("monitoring_data"),
        ];
        let (queue, jobs) = sync_channel(QUEUE_MAX);
        let thread = thread::Builder::new()
            .name("likeness-logs".to_owned())
            .spawn(move || scribe.run(&jobs))?;
        Ok(Self {
            queue,
            lost,
            rejected,
            sweeps,
            thread: Some(thread),
        })
    }

    /// Lets what is too old be removed while the logs are open.
    pub fn register_sweeps(&self, registry: &Registry) {
        for sweep in &self.sweeps {
            registry.register(Box::new(sweep.clone()));
        }
    }

    /// Records a call that is over. Never waits.
    pub fn record_call(&self, call: CallRecord) {
        if self.queue.try_send(Job::Write(Box::new(call))).is_err() {
            self.lost.count();
        }
    }

    /// Counts a call by nobody known; the error log has a line for all of a kind that came in a time.
    pub fn reject(&self, call: RejectedCall) {
        self.rejected.count(call);
    }

    /// Calls that were not written since the start.
    pub fn lost_in_total(&self) -> u64 {
        self.lost.total.load(Ordering::Acquire)
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
    operations: DayLog,
    monitoring: DayLog,
    region: String,
    lost: Arc<Lost>,
    rejected: Arc<RejectedCalls>,
    /// Said once, until it works again.
    failed: bool,
}

impl Scribe {
    fn run(&mut self, jobs: &Receiver<Job>) {
        loop {
            let is_over = match jobs.recv_timeout(GATHER) {
                Ok(Job::Write(call)) => {
                    self.write(&call);
                    // Meanwhile lines wait in the queue, and only its owner's end wakes this thread.
                    thread::park_timeout(PAUSE);
                    self.write_what_waits(jobs)
                }
                Ok(Job::Stop) | Err(RecvTimeoutError::Disconnected) => true,
                Err(RecvTimeoutError::Timeout) => false,
            };
            if is_over || self.rejected.is_due(GATHER) {
                self.write_rejected();
            }
            if is_over {
                return;
            }
        }
    }

    /// Answers whether that was all that will ever come.
    fn write_what_waits(&mut self, jobs: &Receiver<Job>) -> bool {
        for job in jobs.try_iter().take(QUEUE_MAX) {
            match job {
                Job::Write(call) => self.write(&call),
                Job::Stop => return true,
            }
        }
        false
    }

    fn write(&mut self, call: &CallRecord) {
        let now = Timestamp::now();
        let lost = self.lost.unsaid.swap(0, Ordering::AcqRel);
        let mut outcome = Ok(());
        if lost > 0 {
            let line = record::lost_line(now, lost);
            outcome = outcome.and(self.errors.append(&line, now));
            for log in [&self.operations, &self.monitoring] {
                outcome = outcome.and(log.append(&line, now));
            }
        }
        outcome = outcome.and(self.operations.append(&call.operation_line(), now));
        outcome = outcome.and(self.monitoring.append(&call.monitoring_line(), now));
        if call.is_of_interest() {
            outcome = outcome.and(self.errors.append(&call.error_line(), now));
        }
        self.note(outcome);
    }

    fn write_rejected(&mut self) {
        let now = Timestamp::now();
        let mut outcome = Ok(());
        for (kind, calls) in self.rejected.take() {
            let line = record::rejected_line(now, &kind, calls, &self.region);
            outcome = outcome.and(self.errors.append(&line, now));
        }
        self.note(outcome);
    }

    fn note(&mut self, outcome: std::io::Result<()>) {
        match outcome {
            Ok(()) => self.failed = false,
            Err(error) => {
                self.lost.count();
                if !std::mem::replace(&mut self.failed, true) {
                    tracing::error!(%error, "calls cannot be logged");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_calls_by_nobody_known_takes_a_line_for_each_kind_and_none_is_lost() {
        let home = tempfile::tempdir().expect("a directory");
        let logs = Logs::open(home.path(), &Retention::default(), "here").expect("opened");
        for number in 0..100_000 {
            logs.reject(RejectedCall {
                code: "UNAUTHENTICATED",
                reason: ["KEY_REQUIRED", "KEY_NOT_VALID"][number % 2],
                client_origin: [ClientOrigin::Private, ClientOrigin::Elsewhere][number / 50_000],
            });
        }
        drop(logs);
        let folder = home.path().join(FOLDER).join("error");
        let text: String = std::fs::read_dir(folder)
            .expect("listed")
            .map(|file| std::fs::read_to_string(file.expect("listed").path()).expect("text"))
            .collect();
        assert_eq!(text.lines().count(), 4, "{text}");
        let counts = text.lines().map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            assert_eq!(
                (&line["region"], &line["success"]),
                (&"here".into(), &false.into())
            );
            line["calls"].as_u64().expect("a count")
        });
        assert_eq!(counts.sum::<u64>(), 100_000);
    }

    #[test]
    fn calls_by_nobody_known_are_due_when_their_time_has_come_and_not_before() {
        let rejected = RejectedCalls::default();
        assert!(!rejected.is_due(Duration::ZERO), "nobody came");
        rejected.count(RejectedCall {
            code: "UNAUTHENTICATED",
            reason: "KEY_REQUIRED",
            client_origin: ClientOrigin::Unknown,
        });
        assert!(!rejected.is_due(GATHER) && rejected.is_due(Duration::ZERO));
        assert_eq!(rejected.take().into_values().sum::<u64>(), 1);
        assert!(!rejected.is_due(Duration::ZERO) && rejected.take().is_empty());
    }
}
