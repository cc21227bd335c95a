//! Readers: calls whose replies may hold what they read of a person. An erasure waits for the readers that began before
//! it.
//!
//! An erasure is acknowledged only when every reply that could still hold the person has been built. A reader may put
//! what it read into its reply; no reply is built from it after the caller of the erasure was told that the person is
//! gone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Longest wait for older readers; matching and building a reply take milliseconds.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Whoever has read for so long may not be waited for, and looks once more at everybody who is about to be named.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The readers of one collection.
#[derive(Default)]
pub(crate) struct Readers(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    gone: Condvar,
}

#[derive(Default)]
struct State {
    next: u64,
    reading: BTreeSet<u64>,
}

impl Readers {
    /// From before the first look at the collection until the reply is built.
    pub fn begin(&self) -> Reading {
        let mut state = self.0.state.lock();
        let number = state.next;
        state.next += 1;
        state.reading.insert(number);
        Reading {
            shared: Arc::clone(&self.0),
            number,
        }
    }

    /// Waits until every reader that began before this call is done; answers whether all were in time.
    pub fn wait_for_older(&self) -> bool {
        let until = Instant::now() + WAIT_MAX;
        let mut state = self.0.state.lock();
        let now = state.next;
        while state.reading.first().is_some_and(|oldest| *oldest < now) {
            if self.0.gone.wait_until(&mut state, until).timed_out() {
                tracing::warn!("a reply is still being built that began before an erasure");
                return false;
            }
        }
        true
    }
}

/// A reader; done when dropped.
pub(crate) struct Reading {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.shared.state.lock().reading.remove(&self.number);
        self.shared.gone.notify_all();
    }
}
