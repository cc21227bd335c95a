//! The people of every collection: store and index in step.
//!
//! The store is the truth; the index is a projection that is rebuilt at every start. Every change
//! passes the [`writer`], every read of a record the [`vault`].

pub(crate) mod codec;
pub(crate) mod collection;
pub(crate) mod directory;
pub(crate) mod erasures;
mod gaps;
pub(crate) mod index;
mod load;
pub(crate) mod purge;
pub(crate) mod readers;
pub(crate) mod records;
mod rotate;
pub(crate) mod vault;
mod writer;

mod flat;
mod scan;
mod top;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;

use crate::crypto;
use crate::error::{OperatorError, RequestError, Result};
use crate::gallery::codec::{Binding, Digest, Header};
use crate::gallery::collection::{Collection, CollectionInfo, CollectionSettings};
use crate::gallery::erasures::{Backlog, Issued};
use crate::gallery::purge::Purger;
use crate::gallery::records::{Family, Scan};
use crate::gallery::vault::{Asked, Found, NewRecord, Plan, Vault};
use crate::gallery::writer::{Changed, Current, Edit, Writer};
use crate::keys::KeyRing;
use crate::names::{Account, CollectionName, FaceId, PersonId, RandomId};
use crate::person::{NewFace, Person, Profile, StoredFace, Timestamp};
use crate::receipts::{self, KEYS_PER_RECEIPT_MAX};
use crate::residue::{self, Needles};
use crate::scheme::{Scheme, SchemeId};
use crate::template::Probe;

pub use crate::gallery::load::LoadReport;
pub use crate::gallery::rotate::Rotation;

/// A face to look for, as one scheme sees it.
pub struct Query {
    pub(crate) probe: Probe,
    pub(crate) scheme: SchemeId,
}

/// A person found.
pub struct Match {
    /// Who.
    pub person: Person,
    /// The similarity of the person's best face, -1 to 1 (an estimate of the cosine).
    pub similarity: f32,
}

/// A page of a listing by cursor.
pub struct Page<T> {
    /// What is on the page.
    pub items: Vec<T>,
    /// Records that could not be read and are therefore missing above.
    pub damaged: usize,
    /// Where the next page begins; none after the last.
    pub next: Option<String>,
}

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

/// A collection erased.
#[derive(Debug, Clone)]
pub struct CollectionErasure {
    /// People that went with it.
    pub persons: usize,
    /// One receipt for the collection, then one for every 4,096 people.
    pub receipts: Vec<Issued>,
    /// As of [`ErasureReceipt::nonce`], for the account and the collection.
    pub nonce: [u8; 32],
}

struct Nonce([u8; 32]);

impl Nonce {
    fn new() -> Self {
        Self(crypto::random())
    }

    fn subject(&self, account: &Account, collection: &CollectionName, id: Option<&PersonId>) -> [u8; 32] {
        receipts::subject(&self.0, account, collection, id)
    }

    fn receipt(&self, issued: Option<Issued>) -> Result<ErasureReceipt> {
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

/// All collections of a deployment.
pub(crate) struct Gallery {
    vault: Arc<Vault>,
    // Dropped in this order: what the writer finishes, the next start purges.
    purger: Purger,
    writer: Writer,
    /// Changed by the writer alone, so that disk and memory never disagree on who exists.
    collections: Arc<RwLock<Collections>>,
}

type Collections = BTreeMap<(Account, CollectionName), Arc<Collection>>;

impl Gallery {
    /// Rebuilds everything in memory from the vault, and finishes what a crash left unfinished.
    ///
    /// `destroyed` are the keys that the erasure log says are gone.
    /// One purge serves all erasures of a time as long as `gather`.
    pub fn open(vault: Vault, destroyed: &HashSet<RandomId>, gather: Duration) -> Result<(Self, LoadReport)> {
        let vault = Arc::new(vault);
        let (collections, report) = load::load(&vault, destroyed)?;
        vault.advance_anchor()?;
        let gallery = Self {
            purger: Purger::start(Arc::clone(&vault), report.removed_anything(), gather)?,
            writer: Writer::start(Arc::clone(&vault))?,
            vault,
            collections: Arc::new(RwLock::new(collections)),
        };
        Ok((gallery, report))
    }

    /// The collection of that name, for the calls below.
    pub fn collection(&self, account: &Account, name: &CollectionName) -> Result<Arc<Collection>> {
        let collections = self.collections.read();
        let found = collections.get(&(account.clone(), name.clone()));
        found.cloned().ok_or_else(|| RequestError::NoCollection.into())
    }

    /// The collections of an account after `after`, by name.
    pub fn list_collections(
        &self,
        account: &Account,
        after: Option<&CollectionName>,
        items_max: usize,
    ) -> Page<CollectionInfo> {
        let collections = self.collections.read();
        let own = collections.values().filter(|c| c.account == *account);
        let mut later = own.filter(|c| after.is_none_or(|after| c.name > *after));
        let items: Vec<_> = later.by_ref().take(items_max).map(|c| c.info()).collect();
        let more = later.next().is_some();
        Page {
            next: items.last().filter(|_| more).map(|c| c.name.as_str().to_owned()),
            items,
            damaged: 0,
        }
    }

    pub fn create_collection(
        &self,
        account: &Account,
        name: &CollectionName,
        scheme: Scheme,
        settings: CollectionSettings,
    ) -> Result<Arc<Collection>> {
        let digest = Digest::of_collection(&self.vault.ring.digest().secret, account, name);
        let collection = Arc::new(Collection::new(
            account.clone(),
            name.clone(),
            digest,
            scheme,
            settings,
        ));
        let collections = Arc::clone(&self.collections);
        self.writer.alone(move |vault| {
            if !collection_records(vault, digest)?.is_empty() {
                return Err(RequestError::CollectionExists.into());
            }
            let settings = collection.settings.read().clone();
            put_collection(vault, &collection, &settings, None)?;
            let key = (collection.account.clone(), collection.name.clone());
            collections.write().insert(key, Arc::clone(&collection));
            Ok(collection)
        })
    }

    /// Changes the settings that may change.
    pub fn update_collection(
        &self,
        collection: &Arc<Collection>,
        change: impl FnOnce(CollectionSettings) -> Result<CollectionSettings> + Send + 'static,
    ) -> Result<()> {
        let collection = Arc::clone(collection);
        self.writer.alone(move |vault| {
            exists(&collection)?;
            let settings = change(collection.settings.read().clone())?;
            let record = collection_records(vault, collection.digest)?.pop();
            let header = record.and_then(|(_, record)| Header::parse(&record).ok());
            put_collection(vault, &collection, &settings, header.as_ref())?;
            *collection.settings.write() = settings;
            Ok(())
        })
    }

    /// Erases a collection and everyone in it; answers how many people were.
    pub fn delete_collection(
        &self,
        account: &Account,
        name: &CollectionName,
        request: RandomId,
    ) -> Result<CollectionErasure> {
        let nonce = Nonce::new();
        let asked = Asked {
            request,
            subject: nonce.subject(account, name, None),
            ..Asked::default()
        };
        let digest = Digest::of_collection(&self.vault.ring.digest().secret, account, name);
        let key = (account.clone(), name.clone());
        let collections = Arc::clone(&self.collections);
        let (erased, persons, receipts) = self.writer.alone(move |vault| {
            let records = collection_records(vault, digest)?;
            if records.is_empty() {
                return Err(RequestError::NoCollection.into());
            }
            let ids: Vec<Vec<u8>> = records.iter().map(|(key, _)| key[16..].to_vec()).collect();
            // ORDER: the collection before its people. A crash between leaves people of no collection,
            // whom the next start erases; the other order could leave half a collection serving.
            let mut receipts = vec![erase_collections(vault, records, asked)?];
            // ORDER: store before memory: a refused deletion leaves the collection as it was.
            let collection = collections.write().remove(&key);
            if let Some(collection) = &collection {
                collection.set_deleted();
            }
            let mut persons = 0;
            for id in ids {
                persons += erase_people_of(vault, &id, asked, &mut receipts)?;
            }
            vault.advance_anchor()?;
            Ok((collection, persons, receipts))
        })?;
        self.purger.wake();
        if let Some(collection) = erased {
            collection.readers.wait_for_older();
        }
        Ok(CollectionErasure {
            persons,
            receipts,
            nonce: nonce.0,
        })
    }

    /// Erases every collection of an account.
    pub fn delete_collections_of(
        &self,
        account: &Account,
        request: RandomId,
    ) -> Result<Vec<CollectionErasure>> {
        let names: Vec<_> = {
            let collections = self.collections.read();
            let own = collections.keys().filter(|(owner, _)| owner == account);
            own.map(|(_, name)| name.clone()).collect()
        };
        let mut erased = Vec::with_capacity(names.len());
        for name in names {
            match self.delete_collection(account, &name, request) {
                Ok(erasure) => erased.push(erasure),
                Err(crate::Error::Request(RequestError::NoCollection)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(erased)
    }

    /// Erases everyone of this PersonID in every collection of an account.
    pub fn erase_everywhere(
        &self,
        account: &Account,
        id: &PersonId,
        request: RandomId,
    ) -> Result<Vec<(CollectionName, PersonErasure)>> {
        let own: Vec<_> = {
            let collections = self.collections.read();
            collections
                .values()
                .filter(|c| c.account == *account)
                .cloned()
                .collect()
        };
        let mut erased = Vec::new();
        for collection in own {
            match self.delete(&collection, id, request) {
                Ok(erasure) => erased.push((collection.name.clone(), erasure)),
                Err(crate::Error::Request(RequestError::NoPerson | RequestError::NoCollection)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(erased)
    }

    /// Wraps every data key under a new wrapping key and destroys the old one.
    pub fn rotate_wrapping(
        &self,
        save: impl Fn(&KeyRing) -> Result<()>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Rotation> {
        rotate::rotate_wrapping(&self.writer, &self.vault.ring, save, progress)
    }

    /// Purges now, without waiting for more.
    #[cfg(test)]
    pub(crate) fn purge_now(&self) -> Result<()> {
        self.purger.purge_now()
    }

    /// What is erased and not yet purged.
    pub fn backlog(&self) -> Backlog {
        self.vault.log.backlog()
    }

    /// Receipts in the log.
    pub fn receipts(&self) -> u64 {
        self.vault.log.size()
    }

    /// The bytes of one receipt.
    pub fn receipt(&self, sequence: u64) -> Result<Option<Vec<u8>>> {
        self.vault.log.receipt(sequence)
    }

    /// The latest signed checkpoint.
    pub fn checkpoint(&self) -> Option<Vec<u8>> {
        self.vault.log.anchor()
    }

    fn digest(&self, collection: &Collection, id: &PersonId) -> Digest {
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
            subject: nonce.subject(&collection.account, &collection.name, Some(id)),
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

    fn read_person(&self, collection: &Collection, digest: Digest) -> Result<Option<Person>> {
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

    /// The nearest people at and above a similarity, best first.
    pub fn search(
        &self,
        collection: &Arc<Collection>,
        query: &Query,
        k: usize,
        similarity_min: f32,
    ) -> Result<Vec<Match>> {
        exists(collection)?;
        same_scheme(query.scheme, collection)?;
        let generation = collection.generation();
        let digests: Vec<Digest> = {
            let people = collection.people.read();
            let hits = people.index.top(&query.probe, k, similarity_min);
            hits.iter().map(|hit| people.digest(hit.person)).collect()
        };
        let mut matches = Vec::with_capacity(digests.len());
        for digest in digests {
            match self.read_person(collection, digest) {
                // Deleted since the scan: never named again.
                Ok(None) => {}
                // The record has the last word: the face that was found may be gone since, and the
                // PersonID may be another person's.
                Ok(Some(person)) => matches.extend(best_face(person, query)),
                Err(crate::Error::Request(RequestError::Damaged)) => self.note_damage(collection, digest),
                Err(error) => return Err(error),
            }
        }
        // Erasers wait for who reads; who took too long to be waited for looks once more.
        if collection.generation() != generation {
            exists(collection)?;
            matches.retain(|found: &Match| self.still_there(collection, &found.person.id).is_ok());
        }
        matches.retain(|found| found.similarity >= similarity_min);
        matches.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
        Ok(matches)
    }

    /// Lets the writer look at a record that could not be read; it marks the person damaged unless
    /// the record was replaced meanwhile.
    fn note_damage(&self, collection: &Arc<Collection>, digest: Digest) {
        tracing::warn!(collection = collection.name.as_str(), "a record cannot be read");
        // The answer is known; what matters is that the writer has looked.
        drop(
            self.writer
                .change(collection, digest, |_| Err(RequestError::Damaged.into())),
        );
    }

    /// The similarity of a person's best face.
    pub fn verify(&self, collection: &Collection, id: &PersonId, query: &Query) -> Result<Match> {
        same_scheme(query.scheme, collection)?;
        let person = self.person(collection, id)?;
        best_face(person, query).ok_or_else(|| {
            RequestError::SchemeMismatch {
                stored: "only faces of earlier schemes".to_owned(),
                current: collection.scheme.to_string(),
            }
            .into()
        })
    }
}

/// The person with the similarity of the best face, if one can be compared.
fn best_face(person: Person, query: &Query) -> Option<Match> {
    let comparable = person.faces.iter().filter(|face| face.scheme == query.scheme);
    let score = comparable.map(|face| query.probe.score(&face.template)).max()?;
    Some(Match {
        similarity: query.probe.similarity(score),
        person,
    })
}

fn exists(collection: &Collection) -> Result<()> {
    if collection.is_deleted() {
        return Err(RequestError::NoCollection.into());
    }
    Ok(())
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

fn same_scheme(scheme: SchemeId, collection: &Collection) -> Result<()> {
    if scheme == collection.scheme.id() {
        return Ok(());
    }
    Err(RequestError::SchemeMismatch {
        stored: collection.scheme.to_string(),
        current: scheme.to_string(),
    }
    .into())
}

/// What a collection's record is bound to; the digest stands for account and name.
fn collection_binding(deployment: RandomId, digest: Digest, id: RandomId) -> Binding<'static> {
    Binding {
        kind: "collection",
        deployment,
        account: "",
        collection: id,
        digest,
    }
}

/// The records under a collection's digest: at most one, unless the disk is damaged.
fn collection_records(vault: &Vault, digest: Digest) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut records = Vec::new();
    vault.scan(Family::Collections, &digest.0, &[], &mut |key, record| {
        records.push((key.to_vec(), record.to_vec()));
        Scan::Continue
    })?;
    Ok(records)
}

fn put_collection(
    vault: &Vault,
    collection: &Collection,
    settings: &CollectionSettings,
    previous: Option<&Header>,
) -> Result<()> {
    let contents = collection.to_contents(settings);
    let record = NewRecord {
        family: Family::Collections,
        key: [collection.digest.0, collection.id.0].concat(),
        binding: collection_binding(vault.ring.deployment, collection.digest, collection.id),
        scheme: collection.scheme.id(),
        contents: &contents,
    };
    let mut plan = Plan::default();
    vault.plan_put(&mut plan, &record, previous)?;
    vault.commit(plan)
}

/// Records erased together when a collection goes.
const ERASE_GROUP: usize = KEYS_PER_RECEIPT_MAX;

fn erase_collections(vault: &Vault, records: Vec<(Vec<u8>, Vec<u8>)>, asked: Asked) -> Result<Issued> {
    let mut plan = Plan::default();
    let ticket = plan.begin_erasure(asked);
    for (key, record) in records {
        let header = Header::parse(&record).ok();
        vault.plan_erase(&mut plan, Family::Collections, key, header.as_ref())?;
    }
    vault.commit(plan)?;
    Ok(ticket.get().cloned().expect("a commit issues its receipts"))
}

/// Erases every person whose key begins with a collection's id.
fn erase_people_of(
    vault: &Vault,
    collection: &[u8],
    asked: Asked,
    receipts: &mut Vec<Issued>,
) -> Result<usize> {
    let mut erased = 0;
    loop {
        let mut group = Vec::new();
        vault.scan(Family::Persons, collection, &[], &mut |key, record| {
            group.push((key.to_vec(), Header::parse(record).ok()));
            if group.len() < ERASE_GROUP {
                Scan::Continue
            } else {
                Scan::Stop
            }
        })?;
        if group.is_empty() {
            return Ok(erased);
        }
        erased += group.len();
        let mut plan = Plan::default();
        let ticket = plan.begin_erasure(asked);
        for (key, header) in group {
            vault.plan_erase(&mut plan, Family::Persons, key, header.as_ref())?;
        }
        vault.commit(plan)?;
        receipts.extend(ticket.get().cloned());
    }
}
