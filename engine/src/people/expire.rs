//! Who is kept for a time only, and is erased when it is over: by the same erasure as on request.
//!
//! Whoever is past the expiry is gone for every reader at once; the bytes follow within [`LOOK`], or at
//! the next start before it serves. What decides is the clock of the machine: set back, it lets people
//! stay longer; set forth, it erases them, and nothing brings them back. The receipt of such an erasure is
//! in the log as any other, but its nonce has nobody to go to and is dropped: the log shows that somebody
//! was erased, and to nobody who.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;

use crate::gallery::collection::{Collection, Collections};
use crate::gallery::commit::Writer;
use crate::gallery::commit::edit::{Current, Edit, Place};
use likeness_store::codec::Digest;
use likeness_store::purge::Purger;
use likeness_store::vault::Asked;
use likeness_types::clock::Clock;
use likeness_types::crypto;
use likeness_types::error::{Error, OperatorError, RequestError, Result};
use likeness_types::person::Timestamp;

/// How often somebody looks whose time is over.
pub(crate) const LOOK: Duration = Duration::from_secs(1);
/// People erased before their replies are waited for: enough for the group commit.
const TOGETHER: usize = 256;

/// Erases whoever is due.
pub(crate) struct Eraser {
    pub collections: Arc<RwLock<Collections>>,
    pub writer: Arc<Writer>,
    pub purger: Arc<Purger>,
    pub clock: Clock,
}

impl Eraser {
    /// Erases everybody whose time is over; answers how many.
    pub fn erase_due(&self) -> Result<usize> {
        let mut erased = 0;
        loop {
            match self.erase_some()? {
                0 => return Ok(erased),
                some => erased += some,
            }
        }
    }

    /// Erases some of them; answers how many, 0 if no person is due.
    pub fn erase_some(&self) -> Result<usize> {
        let mut erased = 0;
        let begun: Result<Vec<_>> = self.due().into_iter().map(|place| self.begin(place)).collect();
        for outcome in begun? {
            match outcome.recv().map_err(|_| OperatorError::Poisoned)? {
                Ok(_) => erased += 1,
                // Erased by another call meanwhile, or given more time.
                Err(Error::Request(RequestError::NoPerson | RequestError::NoCollection)) => {}
                Err(error) => return Err(error),
            }
        }
        if erased > 0 {
            self.purger.wake();
        }
        Ok(erased)
    }

    fn due(&self) -> Vec<Place> {
        let now = self.clock.now();
        let mut due = Vec::new();
        for collection in self.collections.read().values() {
            let people = collection.people.read();
            let places = people.expiries.due(now).map(|digest| Place {
                collection: Arc::clone(collection),
                digest,
            });
            due.extend(places.take(TOGETHER - due.len()));
        }
        due
    }

    fn begin(&self, place: Place) -> Result<crate::gallery::commit::Outcome> {
        let (clock, own, digest) = (self.clock.clone(), Arc::clone(&place.collection), place.digest);
        self.writer.begin(place, move |current| {
            if !is_due(&own, digest, clock.now()) {
                return Err(RequestError::NoPerson.into());
            }
            let faces = match current {
                Current::Absent => return Err(RequestError::NoPerson.into()),
                Current::Present(person) => person.faces.len(),
                Current::Damaged => 0,
            };
            Ok(Edit::Erase(Asked {
                // What a nonce that nobody has makes of a name: as good as random.
                subject: crypto::random(),
                faces: u32::try_from(faces).unwrap_or(u32::MAX),
                ..Asked::default()
            }))
        })
    }
}

/// Whether this person's time is over.
pub(crate) fn is_due(collection: &Collection, digest: Digest, now: Timestamp) -> bool {
    collection.people.read().expiries.is_due(digest, now)
}
