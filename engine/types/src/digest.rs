//! The keyed digest that stands for a name on disk and in memory.

use crate::crypto::{self, Secret};
use crate::names::{Account, CollectionName, PersonId, RandomId};

/// The keyed digest that stands for a name on disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 16]);

impl Digest {
    /// Of a person's name, within one collection of one account.
    pub fn of_person(key: &Secret, account: &Account, collection: RandomId, person: &PersonId) -> Self {
        let parts: [&[u8]; 3] = [
            account.as_str().as_bytes(),
            &collection.0,
            person.as_str().as_bytes(),
        ];
        Self(crypto::keyed_digest(key, "likeness v1 person digest", &parts))
    }

    /// Of an account's name.
    pub fn of_account(key: &Secret, account: &Account) -> Self {
        let parts = [account.as_str().as_bytes()];
        Self(crypto::keyed_digest(key, "likeness v1 account digest", &parts))
    }

    /// Of a collection's name, within one account.
    pub fn of_collection(key: &Secret, account: &Account, name: &CollectionName) -> Self {
        let parts = [account.as_str().as_bytes(), name.as_str().as_bytes()];
        Self(crypto::keyed_digest(key, "likeness v1 collection digest", &parts))
    }
}
