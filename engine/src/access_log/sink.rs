//! The queue of the access log: calls leave their rows here and never wait.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};

use crate::access_log::usage::Asked;
use likeness_store::vault::Row;
use likeness_types::names::RandomId;

/// What one call leaves.
pub(crate) struct Left {
    /// Counted in the totals; none of rows that come before the end of their call.
    pub asked: Option<Asked>,
    pub rows: Vec<Row>,
}

pub(crate) enum Job {
    Write(Left),
    /// Everything before this is to be on disk when the answer comes.
    Flush(SyncSender<()>),
    Stop,
}

/// Where calls leave what they have to say. Never waits.
pub(crate) struct Sink {
    pub(crate) queue: SyncSender<Job>,
    pub(crate) waiting: AtomicUsize,
    pub(crate) lost_rows: AtomicU64,
    pub(crate) lost_calls: AtomicU64,
    pub(crate) deployment: RandomId,
}

/// Calls that may wait to be written.
pub(crate) const CALLS_MAX: usize = 8192;

/// Rows of theirs, at some 400 bytes each: one search may name a thousand people.
pub(crate) const ROWS_MAX: usize = 65_536;

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

    pub fn count_lost(&self, calls: u64, rows: usize) {
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;
    use crate::access_log::usage::{Asked, Charge};
    use likeness_store::vault::Row;
    use likeness_types::names::Account;

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
