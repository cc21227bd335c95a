//! The purge: after an erasure has destroyed the data keys, it removes the sealed records from the data files.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::records::Family;
use crate::vault::Vault;
use likeness_types::error::{OperatorError, Result};
use likeness_types::wipe::wipe_stack;

/// Erasures that come in this time are purged together.
pub const GATHER: Duration = Duration::from_millis(250);
/// After a failure.
const RETRY: Duration = Duration::from_secs(2);
/// Above this many places, two for each person, it is cheaper to rewrite everything.
const PLACES_MAX: usize = 200;

/// The thread that purges.
pub struct Purger {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    vault: Arc<Vault>,
    state: Mutex<State>,
    changed: Condvar,
    gather: Duration,
    purging: Mutex<()>,
}

#[derive(Default)]
struct State {
    wanted: bool,
    stopping: bool,
    /// Something was removed at the start that no receipt is open for.
    everything: bool,
}

impl Purger {
    /// Starts with what earlier runs left; `everything` when the start itself removed records.
    /// One purge serves all erasures of a time as long as `gather`.
    pub fn start(vault: Arc<Vault>, everything: bool, gather: Duration) -> Result<Self> {
        let state = State {
            wanted: everything || vault.log.backlog().erasures > 0,
            everything,
            ..State::default()
        };
        let shared = Arc::new(Shared {
            vault,
            gather,
            state: Mutex::new(state),
            changed: Condvar::new(),
            purging: Mutex::new(()),
        });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("likeness-purge".to_owned())
            .spawn(move || theirs.run())
            .map_err(|e| OperatorError::Store {
                doing: "starting the purge",
                detail: e.to_string(),
            })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Something was erased.
    pub fn wake(&self) {
        self.shared.state.lock().wanted = true;
        self.shared.changed.notify_all();
    }

    /// Purges now, without waiting for more.
    pub fn purge_now(&self) -> Result<()> {
        let everything = std::mem::take(&mut self.shared.state.lock().everything);
        self.shared.purge(everything)
    }
}

impl Drop for Purger {
    fn drop(&mut self) {
        self.shared.state.lock().stopping = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // What it had not purged is purged by the next start.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self) {
        let goes_on = || !self.state.lock().stopping;
        if let Err(error) = self.vault.verify(&goes_on) {
            tracing::error!(%error, "the data files could not all be read; none is rewritten before they are");
        }
        loop {
            wipe_stack();
            let everything = {
                let mut state = self.state.lock();
                while !state.wanted && !state.stopping {
                    self.changed.wait(&mut state);
                }
                if !state.stopping {
                    self.gather(&mut state);
                }
                if state.stopping {
                    return;
                }
                state.wanted = false;
                std::mem::take(&mut state.everything)
            };
            if let Err(error) = self.purge(everything) {
                tracing::error!(%error, "a purge failed and will be tried again");
                let mut state = self.state.lock();
                state.wanted = true;
                state.everything |= everything;
                if !state.stopping {
                    self.changed.wait_for(&mut state, RETRY);
                }
            }
        }
    }

    /// Lets more erasures come, for one purge serves them all.
    fn gather(&self, state: &mut parking_lot::MutexGuard<'_, State>) {
        let until = Instant::now() + self.gather;
        while !state.stopping && !self.changed.wait_until(state, until).timed_out() {}
    }

    /// Purges everything that is erased, and says so in the log.
    fn purge(&self, everything: bool) -> Result<()> {
        let _alone = self.purging.lock();
        let unpurged = self.vault.unpurged()?;
        if unpurged.is_empty() && !everything {
            return Ok(());
        }
        // What was erased before this start may lie anywhere.
        let mut places: Option<BTreeSet<(Family, Vec<u8>)>> = (!everything).then(BTreeSet::new);
        for erasure in unpurged.values() {
            places = places.zip(erasure.touched.as_ref()).map(|(mut all, touched)| {
                all.extend(touched.iter().cloned());
                all
            });
        }
        let places = places.filter(|places| places.len() <= PLACES_MAX);
        let places = places.map(|places| places.into_iter().collect::<Vec<_>>());
        self.vault.purge_records(places.as_deref())?;
        // ORDER: the bytes before the receipt: PURGED is never said too early. A crash between purges
        // again.
        let sequences: Vec<u64> = unpurged.into_keys().collect();
        if sequences.is_empty() {
            return Ok(());
        }
        self.vault.say_purged(&sequences)?;
        self.vault.advance_anchor()
    }
}
