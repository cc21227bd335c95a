//! The running log: who was asked about when, by whom and with what result, kept as long as the person.
//!
//! A call seals its rows itself, for it has just read the key, and leaves them in a bounded queue; one thread
//! writes what has gathered. No call waits for it: what finds no room is lost, and counted.

pub(crate) mod entry;
pub(crate) mod export;
mod notes;
pub(crate) mod row;
pub(crate) mod sink;
pub(crate) mod usage;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::access_log::sink::{CALLS_MAX, Job, Sink};
use crate::access_log::usage::{Asked, Totals};
use likeness_store::records::Extent;
use likeness_store::vault::{Row, Vault};
use likeness_types::error::{OperatorError, Result};
use likeness_types::wipe::wipe_stack;

/// What comes in this time is written together, with one sync: the rows of so long are lost when the process is
/// killed. They are synced, although nobody waits for them, because the store takes only the end of its
/// write-ahead log for incomplete: a hole where the disk had not yet written unsynced rows would pass for damage.
const GATHER: Duration = Duration::from_millis(100);

/// Rows written together, a search's over it: whoever has so many does not wait for more.
const TOGETHER_MAX: usize = 2048;

/// Calls written together.
const CALLS_TOGETHER_MAX: u64 = CALLS_MAX as u64;

/// From one look at the size of the log to the next.
const MEASURE: Duration = Duration::from_secs(3600);

/// How large the running log is, and what it lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunningLogSize {
    /// Rows, roughly.
    pub rows: u64,
    /// Bytes on disk and on the way there, roughly.
    pub bytes: u64,
    /// Above this many bytes the server's log warns.
    pub bytes_warning: u64,
    /// Calls that found no room since the start: they are missing from the totals too.
    pub lost_calls: u64,
    /// Rows of theirs, and of writes that failed.
    pub lost_rows: u64,
}

/// The thread that writes.
pub(crate) struct RunningLog {
    vault: Arc<Vault>,
    sink: Arc<Sink>,
    bytes_warning: u64,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl RunningLog {
    pub fn start(vault: Arc<Vault>, bytes_warning: u64) -> Result<Self> {
        let (queue, jobs) = sync_channel(CALLS_MAX);
        let sink = Arc::new(Sink {
            queue,
            waiting: AtomicUsize::new(0),
            lost_rows: AtomicU64::new(0),
            lost_calls: AtomicU64::new(0),
            deployment: vault.ring.deployment,
        });
        let mut scribe = Scribe {
            vault: Arc::clone(&vault),
            sink: Arc::clone(&sink),
            totals: Totals::default(),
            bytes_warning,
            measured: None,
        };
        let thread = thread::Builder::new()
            .name("likeness-log".to_owned())
            .spawn(move || scribe.run(&jobs))
            .map_err(|e| OperatorError::Store {
                doing: "starting the running log",
                detail: e.to_string(),
            })?;
        Ok(Self {
            vault,
            sink,
            bytes_warning,
            thread: Mutex::new(Some(thread)),
        })
    }

    pub fn sink(&self) -> &Arc<Sink> {
        &self.sink
    }

    /// Everything that was left before is on disk when this returns.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.sink.queue.send(Job::Flush(done)).is_ok() {
            if let Some(thread) = &*self.thread.lock() {
                thread.thread().unpark();
            }
            // A thread that ended has nothing left to write.
            let _ = wait.recv();
        }
    }

    pub fn size(&self) -> Result<RunningLogSize> {
        let Extent { rows, bytes } = self.vault.rows_extent()?;
        Ok(RunningLogSize {
            rows,
            bytes,
            bytes_warning: self.bytes_warning,
            lost_calls: self.sink.lost_calls.load(Ordering::Acquire),
            lost_rows: self.sink.lost_rows.load(Ordering::Acquire),
        })
    }
}

impl Drop for RunningLog {
    fn drop(&mut self) {
        // Behind everything that was left before. Calls may still hold the queue; they find it closed.
        let _ = self.sink.queue.send(Job::Stop);
        if let Some(thread) = self.thread.get_mut().take() {
            thread.thread().unpark();
            // A panic there lost what it was writing; the queue then counts the rest as lost.
            let _ = thread.join();
        }
    }
}

struct Scribe {
    vault: Arc<Vault>,
    sink: Arc<Sink>,
    totals: Totals,
    bytes_warning: u64,
    measured: Option<Instant>,
}

impl Scribe {
    fn run(&mut self, jobs: &Receiver<Job>) {
        self.warn_if_large();
        let mut behind = false;
        loop {
            wipe_stack();
            let first = match jobs.recv_timeout(MEASURE) {
                Ok(job) => job,
                Err(RecvTimeoutError::Timeout) => {
                    self.warn_if_large();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if matches!(first, Job::Write(_)) && !behind {
                // Meanwhile calls only fill the queue: to wake a thread would cost them more than their rows.
                thread::park_timeout(GATHER);
            }
            let (mut rows, mut asked, mut calls) = (Vec::new(), HashMap::new(), 0);
            let (mut next, mut waiter, mut stop) = (Some(first), None, false);
            while let Some(job) = next.take() {
                match job {
                    Job::Write(left) => {
                        calls += 1;
                        rows.extend(left.rows);
                        if let Some(call) = left.asked {
                            *asked.entry(call).or_insert(0_u64) += 1;
                        }
                    }
                    Job::Flush(done) => waiter = Some(done),
                    Job::Stop => stop = true,
                }
                behind = rows.len() >= TOGETHER_MAX || calls >= CALLS_TOGETHER_MAX;
                if waiter.is_none() && !stop && !behind {
                    next = jobs.try_recv().ok();
                }
            }
            self.write(rows, asked, calls);
            // Whoever waited may have gone.
            if let Some(done) = waiter {
                let _ = done.send(());
            }
            if stop {
                return;
            }
            if self.measured.is_none_or(|at| at.elapsed() >= MEASURE) {
                self.warn_if_large();
            }
        }
    }

    fn write(&mut self, rows: Vec<Row>, asked: HashMap<Asked, u64>, calls: u64) {
        let count = rows.len();
        let totals = self.totals.add(&self.vault, asked);
        match totals.and_then(|totals| self.vault.write_rows(rows, totals)) {
            Ok(_) => {}
            Err(error) => {
                tracing::error!(%error, "writing the running log failed");
                self.totals.forget();
                self.sink.count_lost(calls, count);
            }
        }
        self.sink.waiting.fetch_sub(count, Ordering::AcqRel);
    }

    fn warn_if_large(&mut self) {
        self.measured = Some(Instant::now());
        match self.vault.rows_extent() {
            Ok(Extent { rows, bytes }) if bytes > self.bytes_warning => {
                tracing::warn!(
                    rows,
                    bytes,
                    "the running log is larger than it was meant to become"
                );
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "the running log could not be measured"),
        }
    }
}
