//! Reading people: one, a page of a collection, and how much is kept of one.

use crate::access_log::row::Part;
use crate::call::Call;
use crate::engine::{CollectionRef, Engine, PAGE_ITEMS_MAX};
use crate::gallery::Gallery;
use crate::gallery::collection::Collection;
use crate::gallery::collection::exists;
use crate::page::Page;
use likeness_store::codec::{Digest, Header};
use likeness_store::records::{Family, Scan};
use likeness_store::residue::Needles;
use likeness_store::vault::Found;
use likeness_store::{codec, residue};
use likeness_types::error::{RequestError, Result};
use likeness_types::names::{PersonId, RandomId};
use likeness_types::person::Person;
use likeness_types::span::Step;

/// What is kept of one person, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// The sealed record on disk.
    pub record: usize,
    /// The wrapped data key on disk.
    pub slot: usize,
    /// One face's clear bits, in memory only.
    pub template: usize,
    /// The counters of comparisons on disk, and the rows that join them with those of copies.
    pub counters: usize,
}

impl Engine {
    /// One person.
    ///
    /// # Errors
    /// Nobody has that PersonID, or the record is damaged.
    pub fn person(&self, collection: &CollectionRef, id: &PersonId, call: &mut Call) -> Result<Person> {
        call.reads(&collection.0.readers);
        let person = call.step(Step::Store, || self.gallery.person(&collection.0, id))?;
        self.note(call, &collection.0, &person, Part::Subject);
        Ok(person)
    }

    /// How much is kept of one person.
    ///
    /// # Errors
    /// Nobody has that PersonID.
    pub fn footprint(&self, collection: &CollectionRef, id: &PersonId) -> Result<Footprint> {
        self.gallery.footprint(&collection.0, id)
    }

    /// The people of a collection, a page at a time.
    ///
    /// # Errors
    /// A cursor that no page gave out.
    pub fn list_persons(
        &self,
        collection: &CollectionRef,
        cursor: Option<&str>,
        items_max: usize,
        call: &mut Call,
    ) -> Result<Page<Person>> {
        let items_max = items_max.clamp(1, PAGE_ITEMS_MAX);
        call.reads(&collection.0.readers);
        call.step(Step::Store, || {
            self.gallery.list(&collection.0, cursor, items_max)
        })
    }
}

impl Gallery {
    pub(crate) fn digest(&self, collection: &Collection, id: &PersonId) -> Digest {
        Digest::of_person(
            &self.vault.ring.digest().secret,
            &collection.account,
            collection.id,
            id,
        )
    }

    /// The key of a person's record.
    pub fn record_key(&self, collection: &Collection, id: &PersonId) -> Vec<u8> {
        codec::person_key(collection.id, self.digest(collection, id))
    }

    /// One person.
    pub fn person(&self, collection: &Collection, id: &PersonId) -> Result<Person> {
        let person = self.read_person(collection, self.digest(collection, id))?;
        person.ok_or_else(|| RequestError::NoPerson.into())
    }

    /// Whoever is past the expiry is nobody, erased or not yet.
    pub(crate) fn read_person(&self, collection: &Collection, digest: Digest) -> Result<Option<Person>> {
        exists(collection)?;
        let key = codec::person_key(collection.id, digest);
        let binding = collection.person_binding(self.vault.ring.deployment, digest);
        match self.vault.read(Family::Persons, &key, &binding)? {
            Found::Nothing => Ok(None),
            Found::Damaged(_) => Err(RequestError::Damaged.into()),
            Found::Open { contents, .. } => match codec::person_from_contents(&contents) {
                Ok(person) => Ok(Some(person).filter(|person| !person.is_expired(self.eraser.clock.now()))),
                Err(codec::Unreadable) => Err(RequestError::Damaged.into()),
            },
        }
    }

    /// Whether a person who was changed is still there when the reply is built.
    pub fn still_there(&self, collection: &Collection, id: &PersonId) -> Result<()> {
        let key = codec::person_key(collection.id, self.digest(collection, id));
        exists(collection)?;
        self.vault
            .record_bytes(Family::Persons, &key)?
            .map(drop)
            .ok_or_else(|| RequestError::NoPerson.into())
    }

    /// How much is kept of one person.
    pub fn footprint(&self, collection: &Collection, id: &PersonId) -> Result<Footprint> {
        let key = codec::person_key(collection.id, self.digest(collection, id));
        let record = self.vault.record_bytes(Family::Persons, &key)?;
        Ok(Footprint {
            record: record.ok_or(RequestError::NoPerson)?,
            slot: likeness_store::slots::SLOT_BYTES,
            template: collection.scheme.bits.get() / 8,
            counters: self.vault.limiter.counter_bytes(&key)?,
        })
    }

    /// Fingerprints of everything that is on disk of one person.
    pub fn fingerprints(&self, collection: &Collection, id: &PersonId) -> Result<Vec<u8>> {
        exists(collection)?;
        let digest = self.digest(collection, id);
        let key = codec::person_key(collection.id, digest);
        let sealed = self.vault.sealed(Family::Persons, &key)?;
        let (record, slot) = sealed.ok_or(RequestError::NoPerson)?;
        let log = Header::parse(&record).ok().map(|header| header.log);
        Ok(residue::prepare(&Needles {
            record: &record,
            slot: &slot,
            digest: &digest.0,
            log: log.as_ref().map(|log| &log.0),
        }))
    }

    /// The people of a collection, in an order of the store's own.
    pub fn list(
        &self,
        collection: &Collection,
        cursor: Option<&str>,
        items_max: usize,
    ) -> Result<Page<Person>> {
        exists(collection)?;
        let after = match cursor {
            None => Vec::new(),
            Some(text) => {
                let id = RandomId::parse(text).ok_or_else(|| {
                    RequestError::invalid(
                        "cursor",
                        "a cursor from an earlier page",
                        format!("{} bytes", text.len()),
                    )
                })?;
                codec::person_key(collection.id, Digest(id.0))
            }
        };
        let mut digests = Vec::new();
        let gaps = self
            .vault
            .scan(Family::Persons, &collection.id.0, &after, &mut |key, _| {
                digests.extend(key[16..].try_into().ok().map(Digest));
                if digests.len() > items_max {
                    Scan::Stop
                } else {
                    Scan::Continue
                }
            })?;
        if gaps > 0 {
            // A scan passes over who lies beside a damaged place; memory knows them from the start.
            let people = collection.people.read();
            let known = people.everybody().map(|(digest, _)| digest);
            digests.extend(known.filter(|digest| codec::person_key(collection.id, *digest) > after));
            digests.sort_unstable();
            digests.dedup();
        }
        let more = digests.len() > items_max;
        digests.truncate(items_max);
        let mut page = Page {
            items: Vec::with_capacity(digests.len()),
            // At least as many people are not listed.
            damaged: gaps,
            next: digests.last().filter(|_| more).map(|d| RandomId(d.0).to_string()),
        };
        for digest in digests {
            match self.read_person(collection, digest) {
                Ok(person) => page.items.extend(person),
                Err(error) if error.is_damage() => page.damaged += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(page)
    }
}
