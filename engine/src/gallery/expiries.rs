//! The expiries of the people of a collection, in the order of time.

use std::collections::{BTreeSet, HashMap};

use likeness_store::codec::Digest;
use likeness_types::person::Timestamp;

/// When the people of a collection expire; knows only those who do.
#[derive(Default)]
pub(crate) struct Expiries {
    pub(crate) in_order: BTreeSet<(Timestamp, Digest)>,
    pub(crate) by_person: HashMap<Digest, Timestamp>,
}

impl Expiries {
    pub fn set(&mut self, digest: Digest, expires: Option<Timestamp>) {
        if let Some(before) = self.by_person.remove(&digest) {
            self.in_order.remove(&(before, digest));
        }
        if let Some(expires) = expires {
            self.by_person.insert(digest, expires);
            self.in_order.insert((expires, digest));
        }
    }

    pub fn of(&self, digest: Digest) -> Option<Timestamp> {
        self.by_person.get(&digest).copied()
    }

    pub fn is_due(&self, digest: Digest, now: Timestamp) -> bool {
        self.of(digest).is_some_and(|expires| expires <= now)
    }

    pub fn due(&self, now: Timestamp) -> impl Iterator<Item = Digest> {
        let due = self
            .in_order
            .iter()
            .take_while(move |(expires, _)| *expires <= now);
        due.map(|(_, digest)| *digest)
    }
}
