//! The running log: who was asked about when, by whom and with what result, kept as long as the person.
//!
//! A call seals its rows itself, for it has just read the key, and leaves them in a bounded queue; one thread
//! writes what has gathered. No call waits for it: what finds no room is lost, and counted.

pub(crate) mod entry;
pub(crate) mod export;
mod notes;
pub(crate) mod row;
pub(crate) mod usage;

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::access_log::row::LogRow;
use crate::access_log::usage::{Asked, Totals, Usage};
use crate::gallery::{Gallery, Page};
use likeness_store::codec;
use likeness_store::records::{Extent, Scan};
use likeness_store::vault::{Row, Vault};
use likeness_types::error::{OperatorError, RequestError, Result};
use likeness_types::names::{Account, RandomId};
use likeness_types::person::Person;
use likeness_types::wipe::wipe_stack;

/// Calls that may wait to be written.
const CALLS_MAX: usize = 8192;
/// Rows of theirs, at some 400 bytes each: one search may name a thousand people.
const ROWS_MAX: usize = 65_536;
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

/// What one call leaves.
pub(crate) struct Left {
    /// Counted in the totals; none of rows that come before the end of their call.
    pub asked: Option<Asked>,
    pub rows: Vec<Row>,
}

enum Job {
    Write(Left),
    /// Everything before this is to be on disk when the answer comes.
    Flush(SyncSender<()>),
    Stop,
}

/// Where calls leave what they have to say. Never waits.
pub(crate) struct Sink {
    queue: SyncSender<Job>,
    waiting: AtomicUsize,
    lost_rows: AtomicU64,
    lost_calls: AtomicU64,
    deployment: RandomId,
}

impl Sink {
    /// Leaves what a call has to say, or counts it as lost.
    pub fn leave(&self, left: Left) {
        let rows = left.rows.len();
        let fits = self.waiting.fetch_add(rows, Ordering::AcqRel) + rows <= ROWS_MAX;
        let sent = if fits {
            self.queue
                .try_send(Job::Write(left))
                .map_err(|error| match error {
                    TrySendError::Full(_) => "it is full",
                    TrySendError::Disconnected(_) => "the server is about to end",
                })
        } else {
            Err("it is full")
        };
        if sent.is_err() {
            self.waiting.fetch_sub(rows, Ordering::AcqRel);
            self.count_lost(1, rows);
        }
    }

    fn count_lost(&self, calls: u64, rows: usize) {
        // Once, and then whoever looks at the counts sees the rest.
        if self.lost_calls.fetch_add(calls, Ordering::AcqRel) == 0 {
            tracing::error!("the running log loses calls: they come faster than they can be written");
        }
        self.lost_rows.fetch_add(rows as u64, Ordering::AcqRel);
    }

    /// What rows are bound to.
    pub fn deployment(&self) -> RandomId {
        self.deployment
    }
}

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

impl Gallery {
    /// A person's rows in the order of time, after the cursor.
    pub fn rows_of(&self, person: &Person, cursor: Option<&str>, items_max: usize) -> Result<Page<LogRow>> {
        let log = &person.log;
        let after = match cursor {
            None => Vec::new(),
            Some(text) => {
                let place = RandomId::parse(text).ok_or_else(|| {
                    let received = format!("{} bytes", text.len());
                    RequestError::invalid("cursor", "a cursor from an earlier page", received)
                })?;
                [log.id.0, place.0].concat()
            }
        };
        let mut page = Page {
            items: Vec::new(),
            damaged: 0,
            next: None,
        };
        let (mut seen, mut unreadable, mut last, mut next) = (0, 0, None, None);
        page.damaged = self.vault.scan_rows(log.id, &after, &mut |key, row| {
            if seen == items_max {
                next = last.map(|place: RandomId| place.to_string());
                return Scan::Stop;
            }
            seen += 1;
            last = key
                .get(16..)
                .and_then(|place| place.try_into().ok())
                .map(RandomId);
            match row::open(log, self.vault.ring.deployment, key, row) {
                Ok(row) => page.items.push(row),
                Err(codec::Unreadable) => unreadable += 1,
            }
            Scan::Continue
        })?;
        page.damaged += unreadable;
        page.next = next;
        Ok(page)
    }

    /// What an account asked on these days, by day.
    pub fn usage(&self, account: &Account, days: &RangeInclusive<u32>) -> Result<Vec<Usage>> {
        usage::of_account(&self.vault, account, days)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access_log::entry::Charge;

    #[test]
    fn a_call_never_waits_for_the_log_and_what_is_lost_is_counted() {
        let (queue, jobs) = sync_channel(2);
        let sink = Sink {
            queue,
            waiting: AtomicUsize::new(0),
            lost_rows: AtomicU64::new(0),
            lost_calls: AtomicU64::new(0),
            deployment: RandomId::default(),
        };
        let left = |rows: usize| Left {
            asked: Some(Asked {
                account: Account::default(),
                interface: "SearchPersons",
                day: 0,
                charge: Charge::Billed,
            }),
            rows: (0..rows)
                .map(|_| Row {
                    person: Vec::new(),
                    log: RandomId::default(),
                    key: [0; 32],
                    sealed: Vec::new(),
                })
                .collect(),
        };
        let lost = || {
            let count = |of: &AtomicU64| of.load(Ordering::Acquire);
            (count(&sink.lost_calls), count(&sink.lost_rows))
        };
        sink.leave(left(ROWS_MAX));
        assert_eq!(lost(), (0, 0));
        sink.leave(left(1));
        assert_eq!(lost(), (1, 1), "too many rows");
        sink.leave(left(0));
        sink.leave(left(0));
        assert_eq!(lost(), (2, 1), "too many calls");
        drop(jobs);
        sink.leave(left(0));
        assert_eq!(lost(), (3, 1), "nobody writes any more");
        assert_eq!(sink.waiting.load(Ordering::Acquire), ROWS_MAX);
    }
}
