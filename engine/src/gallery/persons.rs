//! People enrolled, read, changed and erased.

use std::sync::Arc;

use crate::crypto;
use crate::error::{OperatorError, RequestError, Result};
use crate::gallery::codec::{self, Digest};
use crate::gallery::collection::Collection;
use crate::gallery::erasures::Issued;
use crate::gallery::records::{Family, Scan};
use crate::gallery::vault::{Asked, Found};
use crate::gallery::writer::{Changed, Current, Edit};
use crate::gallery::{Gallery, Page, exists};
use crate::names::{Account, CollectionName, FaceId, PersonId, RandomId};
use crate::person::{NewFace, Person, Profile, StoredFace, Timestamp};
use crate::receipts;
use crate::residue::{self, Needles};

/// What of a profile changes; `None` leaves it.
#[derive(Default)]
pub struct ProfileChange {
    /// Another name.
    pub name: Option<String>,
    /// Other tags.
    pub tags: Option<Vec<String>>,
}

/// A receipt of an erasure, and what alone can tell whom it is about.
#[derive(Debug, Clone)]
pub struct ErasureReceipt {
    /// Its place in the log.
    pub sequence: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The receipt's subject is BLAKE3, keyed with this, of the length-prefixed account, collection and
    /// PersonID. It is not kept: a digest that could be recomputed would itself name the person for ever.
    pub nonce: [u8; 32],
}

/// A person erased.
#[derive(Debug, Clone)]
pub struct PersonErasure {
    /// Faces that went; 0 for a damaged record.
    pub faces: usize,
    /// The proof.
    pub receipt: ErasureReceipt,
}

pub(super) struct Nonce(pub [u8; 32]);

impl Nonce {
    pub fn new() -> Self {
        Self(crypto::random())
    }

    pub fn subject(
        &self,
        account: &Account,
        collection: Option<&CollectionName>,
        id: Option<&PersonId>,
    ) -> [u8; 32] {
        receipts::subject(&self.0, account, collection, id)
    }

    pub fn receipt(&self, issued: Option<Issued>) -> Result<ErasureReceipt> {
        let issued = issued.ok_or_else(|| OperatorError::Store {
            doing: "reading the receipt of an erasure",
            detail: "the erasure was carried out without one".to_owned(),
        })?;
        Ok(ErasureReceipt {
            sequence: issued.sequence,
            bytes: issued.bytes,
            nonce: self.0,
        })
    }
}

/// What is kept of one person, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// The sealed record on disk.
    pub record: usize,
    /// The wrapped data key on disk.
    pub slot: usize,
    /// One face's clear bits, in memory only.
    pub template: usize,
}

impl Gallery {
    pub(super) fn digest(&self, collection: &Collection, id: &PersonId) -> Digest {
        Digest::of_person(
            &self.vault.ring.digest().secret,
            &collection.account,
            collection.id,
            id,
        )
    }

    /// Enrols a person who is not yet in the collection.
    pub fn enroll(
        &self,
        collection: &Arc<Collection>,
        id: &PersonId,
        profile: Profile,
        faces: Vec<NewFace>,
    ) -> Result<Person> {
        let (own, person_id) = (Arc::clone(collection), id.clone());
        self.change(collection, id, move |current| {
            match current {
                Current::Absent => {}
                Current::Present(_) => return Err(RequestError::PersonExists.into()),
                Current::Damaged => return Err(RequestError::Damaged.into()),
            }
            let now = Timestamp::now();
            let mut person = Person {
                id: person_id,
                profile,
                enrolled: now,
                updated: now,
                faces: Vec::new(),
            };
            add_faces(&mut person, faces, &own)?;
            Ok(Edit::Keep(person))
        })
        .map(|(person, _)| person)
    }

    /// Adds faces to a person.
    pub fn add_faces(
        &self,
        collection: &Arc<Collection>,
        id: &PersonId,
        faces: Vec<NewFace>,
    ) -> Result<Person> {
        let own = Arc::clone(collection);
        self.change(collection, id, move |current| {
            let mut person = present(current)?;
            add_faces(&mut person, faces, &own)?;
            Ok(Edit::Keep(person))
        })
        .map(|(person, _)| person)
    }

    /// Changes a person's name or tags.
    pub fn update(
        &self,
        collection: &Arc<Collection>,
        id: &PersonId,
        change: ProfileChange,
    ) -> Result<Person> {
        self.change(collection, id, move |current| {
            let mut person = present(current)?;
            if let Some(name) = change.name {
                person.profile.name = name;
            }
            if let Some(tags) = change.tags {
                person.profile.tags = tags;
            }
            person.profile = person.profile.checked()?;
            person.updated = Timestamp::now();
            // What was replaced is removed: it must not stay readable.
            Ok(Edit::Replace(person))
        })
        .map(|(person, _)| person)
    }

    /// Deletes faces of a person, but never the last.
    pub fn delete_faces(
        &self,
        collection: &Arc<Collection>,
        id: &PersonId,
        faces: Vec<FaceId>,
        request: RandomId,
    ) -> Result<(Person, ErasureReceipt)> {
        let (mut asked, nonce) = self.asked(collection, id, request);
        let (person, receipt) = self.change(collection, id, move |current| {
            if faces.is_empty() {
                return Err(RequestError::invalid("face_ids", "at least one face", "none").into());
            }
            let mut person = present(current)?;
            if !faces
                .iter()
                .all(|id| person.faces.iter().any(|face| face.id == *id))
            {
                return Err(RequestError::NoFaceOfThatId.into());
            }
            person.faces.retain(|face| !faces.contains(&face.id));
            if person.faces.is_empty() {
                return Err(RequestError::LastFace.into());
            }
            asked.faces = u32::try_from(faces.len()).unwrap_or(u32::MAX);
            person.updated = Timestamp::now();
            Ok(Edit::Reduce(person, asked))
        })?;
        Ok((person, nonce.receipt(receipt)?))
    }

    fn change(
        &self,
        collection: &Arc<Collection>,
        id: &PersonId,
        edit: impl FnOnce(Current) -> Result<Edit> + Send + 'static,
    ) -> Result<(Person, Option<Issued>)> {
        let Changed { person, receipt } =
            self.writer
                .change(collection, self.digest(collection, id), edit)?;
        if receipt.is_some() {
            self.purger.wake();
            // ORDER: as in `delete`.
            collection.readers.wait_for_older();
        }
        Ok((person.ok_or(RequestError::NoPerson)?, receipt))
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

    /// Who asks for an erasure of whom, and the nonce that alone can tell whom a receipt is about.
    fn asked(&self, collection: &Collection, id: &PersonId, request: RandomId) -> (Asked, Nonce) {
        let nonce = Nonce::new();
        let asked = Asked {
            request,
            subject: nonce.subject(&collection.account, Some(&collection.name), Some(id)),
            ..Asked::default()
        };
        (asked, nonce)
    }

    /// Erases a person: the erasure is logged, the data key is overwritten and synced, the record is
    /// deleted, the bits in the index are overwritten; then the purge follows.
    pub fn delete(
        &self,
        collection: &Arc<Collection>,
        id: &PersonId,
        request: RandomId,
    ) -> Result<PersonErasure> {
        let (mut asked, nonce) = self.asked(collection, id, request);
        let (count, faces) = std::sync::mpsc::sync_channel(1);
        let changed = self
            .writer
            .change(collection, self.digest(collection, id), move |current| {
                let faces = match current {
                    Current::Absent => return Err(RequestError::NoPerson.into()),
                    Current::Present(person) => person.faces.len(),
                    Current::Damaged => 0,
                };
                asked.faces = u32::try_from(faces).unwrap_or(u32::MAX);
                // Room for the one number was made above.
                let _ = count.send(faces);
                Ok(Edit::Erase(asked))
            })?;
        self.purger.wake();
        // ORDER: carried out, then waited, then acknowledged: a reply that began before does not come
        // after. Not on the writer's thread, where it would hold up everyone's changes.
        collection.readers.wait_for_older();
        Ok(PersonErasure {
            faces: faces.recv().unwrap_or(0),
            receipt: nonce.receipt(changed.receipt)?,
        })
    }

    /// One person.
    pub fn person(&self, collection: &Collection, id: &PersonId) -> Result<Person> {
        let person = self.read_person(collection, self.digest(collection, id))?;
        person.ok_or_else(|| RequestError::NoPerson.into())
    }

    /// How much is kept of one person.
    pub fn footprint(&self, collection: &Collection, id: &PersonId) -> Result<Footprint> {
        let key = codec::person_key(collection.id, self.digest(collection, id));
        let record = self.vault.record_bytes(Family::Persons, &key)?;
        Ok(Footprint {
            record: record.ok_or(RequestError::NoPerson)?,
            slot: crate::slots::SLOT_BYTES,
            template: collection.scheme.bits.get() / 8,
        })
    }

    /// Fingerprints of everything that is on disk of one person.
    pub fn fingerprints(&self, collection: &Collection, id: &PersonId) -> Result<Vec<u8>> {
        exists(collection)?;
        let digest = self.digest(collection, id);
        let key = codec::person_key(collection.id, digest);
        let sealed = self.vault.sealed(Family::Persons, &key)?;
        let (record, slot) = sealed.ok_or(RequestError::NoPerson)?;
        Ok(residue::prepare(&Needles {
            record: &record,
            slot: &slot,
            digest: &digest.0,
        }))
    }

    pub(super) fn read_person(&self, collection: &Collection, digest: Digest) -> Result<Option<Person>> {
        exists(collection)?;
        let key = codec::person_key(collection.id, digest);
        let binding = collection.person_binding(self.vault.ring.deployment, digest);
        match self.vault.read(Family::Persons, &key, &binding)? {
            Found::Nothing => Ok(None),
            Found::Damaged(_) => Err(RequestError::Damaged.into()),
            Found::Open { contents, .. } => match codec::person_from_contents(&contents) {
                Ok(person) => Ok(Some(person)),
                Err(codec::Unreadable) => Err(RequestError::Damaged.into()),
            },
        }
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
        self.vault
            .scan(Family::Persons, &collection.id.0, &after, &mut |key, _| {
                digests.extend(key[16..].try_into().ok().map(Digest));
                if digests.len() > items_max {
                    Scan::Stop
                } else {
                    Scan::Continue
                }
            })?;
        let more = digests.len() > items_max;
        digests.truncate(items_max);
        let mut page = Page {
            items: Vec::with_capacity(digests.len()),
            damaged: 0,
            next: digests.last().filter(|_| more).map(|d| RandomId(d.0).to_string()),
        };
        for digest in digests {
            match self.read_person(collection, digest) {
                Ok(person) => page.items.extend(person),
                Err(crate::Error::Request(RequestError::Damaged)) => page.damaged += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(page)
    }
}

fn present(current: Current) -> Result<Person> {
    match current {
        Current::Present(person) => Ok(person),
        Current::Absent => Err(RequestError::NoPerson.into()),
        Current::Damaged => Err(RequestError::Damaged.into()),
    }
}

fn add_faces(person: &mut Person, faces: Vec<NewFace>, collection: &Collection) -> Result<()> {
    let (scheme, settings) = (&collection.scheme, collection.settings.read());
    let faces_max = settings.faces_per_person_max as usize;
    if faces.is_empty() {
        return Err(RequestError::invalid("faces", "at least one face", "none").into());
    }
    let count = person.faces.len() + faces.len();
    if count > faces_max {
        return Err(RequestError::FacesPerPerson {
            faces: count,
            faces_max,
        }
        .into());
    }
    if let Some(face) = faces.iter().find(|face| face.scheme != scheme.id()) {
        return Err(RequestError::SchemeMismatch {
            stored: scheme.to_string(),
            current: face.scheme.to_string(),
        }
        .into());
    }
    let now = Timestamp::now();
    person.updated = now;
    person
        .faces
        .extend(faces.into_iter().map(|face| StoredFace::new(face, now)));
    Ok(())
}
