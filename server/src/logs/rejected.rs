//! Calls that were refused before their callers were known: counted by kind.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::record::RejectedCall;

/// How many of each came, and since when.
#[derive(Default)]
pub struct RejectedCalls(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    calls: BTreeMap<RejectedCall, u64>,
    since: Option<Instant>,
}

impl RejectedCalls {
    /// One more.
    pub fn count(&self, call: RejectedCall) {
        let mut counts = self.lock();
        *counts.calls.entry(call).or_default() += 1;
        counts.since.get_or_insert_with(Instant::now);
    }

    /// Whether the oldest count is so old.
    pub fn is_due(&self, gather: Duration) -> bool {
        self.lock().since.is_some_and(|since| since.elapsed() >= gather)
    }

    /// What was counted; from here on it is counted anew.
    pub fn take(&self) -> BTreeMap<RejectedCall, u64> {
        std::mem::take(&mut *self.lock()).calls
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Nothing under the lock leaves it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
