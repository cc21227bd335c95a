//! The purge: after an erasure has destroyed the data keys, it removes the sealed records from the data files.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::records::Family;
use crate::retention::{Lane, Pace, Progress, Registry, Sweep};
use crate::vault::Vault;
use likeness_types::error::Result;
use likeness_types::person::Timestamp;

/// Erasures that come in this time are purged together.
pub const GATHER: Duration = Duration::from_millis(250);
/// The longest pause after a failure: a purge follows within seconds of an erasure.
const RETRY_MAX: Duration = Duration::from_secs(10);
/// Above this many places, two for each person, it is cheaper to rewrite everything.
const PLACES_MAX: usize = 200;
/// In the table of data classes.
const CLASS: &str = "deleted_records";

/// Purges by itself after an erasure, and when asked to.
pub struct Purger {
    shared: Arc<Shared>,
    registry: Registry,
}

struct Shared {
    vault: Arc<Vault>,
    /// Something was removed at the start that no receipt is open for.
    everything: AtomicBool,
    purging: Mutex<()>,
}

impl Purger {
    /// Starts with what earlier runs left; `everything` when the start itself removed records.
    /// One purge serves all erasures of a time as long as `gather`.
    pub fn start(registry: &Registry, vault: Arc<Vault>, everything: bool, gather: Duration) -> Self {
        let is_wanted = everything || vault.log.backlog().erasures > 0;
        let shared = Arc::new(Shared {
            vault,
            everything: AtomicBool::new(everything),
            purging: Mutex::new(()),
        });
        registry.register(Box::new(PurgeSweep {
            shared: Arc::clone(&shared),
            gather,
        }));
        let purger = Self {
            shared,
            registry: registry.clone(),
        };
        if is_wanted {
            purger.wake();
        }
        purger
    }

    /// Something was erased.
    pub fn wake(&self) {
        self.registry.wake(CLASS);
    }

    /// Purges now, without waiting for more.
    pub fn purge_now(&self) -> Result<()> {
        self.shared
            .purge(self.shared.everything.swap(false, Ordering::AcqRel))
    }
}

struct PurgeSweep {
    shared: Arc<Shared>,
    gather: Duration,
}

impl Sweep for PurgeSweep {
    fn class(&self) -> &'static str {
        CLASS
    }

    fn pace(&self) -> Pace {
        Pace {
            lane: Lane::Long,
            interval: None,
            wake_delay: self.gather,
            retry_max: RETRY_MAX,
        }
    }

    fn prepare(&mut self, goes_on: &dyn Fn() -> bool) {
        if let Err(error) = self.shared.vault.verify(goes_on) {
            tracing::error!(%error, "the data files could not all be read; none is rewritten before they are");
        }
    }

    fn sweep(&mut self, _now: Timestamp) -> Result<Progress> {
        let everything = self.shared.everything.swap(false, Ordering::AcqRel);
        if let Err(error) = self.shared.purge(everything) {
            self.shared.everything.fetch_or(everything, Ordering::AcqRel);
            return Err(error);
        }
        Ok(Progress::Done)
    }
}

impl Shared {
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
