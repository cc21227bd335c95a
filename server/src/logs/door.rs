//! Calls that were refused before anybody was known: counted by what is the same of them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Came;

/// What the error log says of such a call: constants only, so there are few kinds, however many calls come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TurnedAway {
    /// The gRPC code by its name.
    pub code: &'static str,
    /// The reason of the refusal.
    pub reason: &'static str,
    /// The class of the client's address.
    pub came: Came,
}

/// How many of each came, and since when.
#[derive(Default)]
pub struct Door(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    calls: BTreeMap<TurnedAway, u64>,
    since: Option<Instant>,
}

impl Door {
    /// One more.
    pub fn count(&self, whom: TurnedAway) {
        let mut counts = self.lock();
        *counts.calls.entry(whom).or_default() += 1;
        counts.since.get_or_insert_with(Instant::now);
    }

    /// Whether somebody has been counted for so long.
    pub fn is_due(&self, gather: Duration) -> bool {
        self.lock().since.is_some_and(|since| since.elapsed() >= gather)
    }

    /// What was counted; from here on it is counted anew.
    pub fn take(&self) -> BTreeMap<TurnedAway, u64> {
        std::mem::take(&mut *self.lock()).calls
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Nothing under the lock leaves it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
