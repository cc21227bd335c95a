//! People enrolled, read, changed and erased.

use std::sync::Arc;

use crate::gallery::collection::Collection;
use crate::gallery::commit::{Changed, Current, Edit};
use crate::gallery::{Gallery, Page, exists};
use crate::guard::once::Caller;
use crate::guard::tokens::{Claim, Where};
use likeness_store::codec;
use likeness_store::codec::{Digest, Header};
use likeness_store::erasure_log::Issued;
use likeness_store::receipts;
use likeness_store::records::{Family, Scan};
use likeness_store::residue;
use likeness_store::residue::Needles;
use likeness_store::vault::{Asked, Found};
use likeness_types::crypto;
use likeness_types::error::{OperatorError, RequestError, Result};
use likeness_types::names::{Account, CollectionName, FaceId, PersonId, RandomId};
use likeness_types::person::{
    Consent, LogKey, NewFace, Person, Profile, StoredFace, Timestamp, checked_consent, checked_expiry,
};

/// What of a profile changes; `None` leaves it.
#[derive(Default)]
pub struct ProfileChange {
    /// Another name.
    pub name: Option<String>,
    /// Other tags.
    pub tags: Option<Vec<String>>,
    /// Another consent in the place of the one on record.
    pub consent: Option<Consent>,
    /// Another expiry; `Some(None)` is never.
    pub expires: Option<Option<Timestamp>>,
    /// An earlier end than the one on record is refused: an expiry is an erasure that is due.
    pub refuses_earlier_expiry: bool,
}

impl ProfileChange {
    /// Whether it would end the person's record before its time.
    fn is_earlier_expiry(&self, stored: Option<Timestamp>) -> bool {
        let wanted = self.expires.flatten();
        wanted.is_some_and(|wanted| stored.is_none_or(|stored| wanted < stored))
    }

    fn of(self, profile: Profile) -> Result<Profile> {
        Profile {
            name: self.name.unwrap_or(profile.name),
            tags: self.tags.unwrap_or(profile.tags),
            consent: self.consent.or(profile.consent),
            expires: self.expires.unwrap_or(profile.expires),
        }
        .checked()
    }
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
    /// Under an idempotency token it can be told again, to whoever makes the same call with that token.
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

pub(crate) struct Nonce(pub [u8; 32]);

impl Nonce {
    pub fn new() -> Self {
        Self(crypto::random())
    }

    /// Random; under a token what the token gives, so that it can be told again.
    pub fn of(claim: Option<&Claim>, place: &Where) -> Self {
        claim.map_or_else(Self::new, |claim| claim.nonce(place))
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
    /// The counters of comparisons on disk, and the rows that join them with those of copies.
    pub counters: usize,
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

    /// Enrols a person who is not yet in the collection.
    pub fn enroll(
        &self,
        collection: &Arc<Collection>,
        id: &PersonId,
        profile: Profile,
        faces: Vec<NewFace>,
        caller: impl Into<Caller>,
    ) -> Result<Person> {
        checked_expiry(profile.expires, self.eraser.clock.now())?;
        self.make_way(collection, id)?;
        let edit = enrolling(collection, id, profile);
        self.change(collection, id, &caller.into(), move |current| {
            edit(current, faces)
        })
    }

    /// Adds faces to a person.
    pub fn add_faces(
        &self,
        collection: &Arc<Collection>,
        id: &PersonId,
        faces: Vec<NewFace>,
        caller: impl Into<Caller>,
    ) -> Result<Person> {
        let edit = adding(collection, self.eraser.clock.now());
        self.change(collection, id, &caller.into(), move |current| {
            edit(current, faces)
        })
    }

    /// Changes what is kept with a person beside the faces.
    pub fn update(
        &self,
        collection: &Arc<Collection>,
        id: &PersonId,
        change: ProfileChange,
        caller: impl Into<Caller>,
    ) -> Result<Person> {
        let now = self.eraser.clock.now();
        if let Some(expires) = change.expires {
            checked_expiry(expires, now)?;
        }
        let own = Arc::clone(collection);
        self.change(collection, id, &caller.into(), move |current| {
            let mut person = present(current, now)?;
            if change.refuses_earlier_expiry && change.is_earlier_expiry(person.profile.expires) {
                return Err(RequestError::EarlierExpiry.into());
            }
            let consent_changes = change.consent.is_some();
            person.profile = change.of(std::mem::take(&mut person.profile))?;
            // Whoever was enrolled before consents were asked for may still get another name.
            if consent_changes {
                consented(&own, &person.profile)?;
            }
            person.updated = Timestamp::now();
            // What was replaced is removed: it must not stay readable.
            Ok(Edit::Replace(person))
        })
    }

    /// Deletes faces of a person, but never the last.
    pub fn delete_faces(
        &self,
        collection: &Arc<Collection>,
        id: &PersonId,
        faces: Vec<FaceId>,
        caller: impl Into<Caller>,
    ) -> Result<(Option<Person>, ErasureReceipt)> {
        let caller = caller.into();
        let claim = self.claim(&caller);
        let (mut asked, nonce) = asked(collection, id, &caller, claim.as_ref());
        let (digest, now) = (self.digest(collection, id), self.eraser.clock.now());
        let changed = self
            .writer
            .change(collection, digest, claim.clone(), move |current| {
                if faces.is_empty() {
                    return Err(RequestError::invalid("face_ids", "at least one face", "none").into());
                }
                let mut person = present(current, now)?;
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
        if let Some((claim, done)) = claim.zip(changed.done) {
            return self.reduction_again(&claim, &done, &collection.account, &collection.name, id);
        }
        self.purger.wake();
        // ORDER: as in `delete`.
        collection.readers.wait_for_older();
        Ok((changed.person, nonce.receipt(changed.receipt)?))
    }

    /// Changes a person without removing a face; or answers who is there, when this very call did before.
    fn change(
        &self,
        collection: &Arc<Collection>,
        id: &PersonId,
        caller: &Caller,
        edit: impl FnOnce(Current) -> Result<Edit> + Send + 'static,
    ) -> Result<Person> {
        let claim = self.claim(caller);
        let digest = self.digest(collection, id);
        let changed = self.writer.change(collection, digest, claim.clone(), edit)?;
        self.kept(collection, id, claim, changed)
    }

    /// Who is kept: by this change, or by the one that this very call made before. What was removed is
    /// purged, and named by nobody any more when this returns.
    pub(super) fn kept(
        &self,
        collection: &Collection,
        id: &PersonId,
        claim: Option<Claim>,
        changed: Changed,
    ) -> Result<Person> {
        if let Some((claim, done)) = claim.zip(changed.done) {
            return self.person_again(&claim, &done, collection, id);
        }
        if changed.receipt.is_some() {
            self.purger.wake();
            // ORDER: as in `delete`.
            collection.readers.wait_for_older();
        }
        changed.person.ok_or_else(|| RequestError::NoPerson.into())
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

    /// Erases a person: the erasure is logged, the data key is overwritten and synced, the record is
    /// deleted, the bits in the index are overwritten; then the purge follows.
    pub fn delete(
        &self,
        collection: &Arc<Collection>,
        id: &PersonId,
        caller: impl Into<Caller>,
    ) -> Result<PersonErasure> {
        let caller = caller.into();
        let claim = self.claim(&caller);
        let (mut asked, nonce) = asked(collection, id, &caller, claim.as_ref());
        let (count, faces) = std::sync::mpsc::sync_channel(1);
        let digest = self.digest(collection, id);
        let changed = self
            .writer
            .change(collection, digest, claim.clone(), move |current| {
                let faces = match current {
                    Current::Absent => return Err(RequestError::NoPerson.into()),
                    Current::Present(person) => person.faces.len(),
                    Current::Damaged => 0,
                };
                asked.faces = u32::try_from(faces).unwrap_or(u32::MAX);
                // Room for the one number was made above.
                let _ = count.send(faces);
                Ok(Edit::Erase(asked))
            });
        let changed = match (changed, claim) {
            (Err(crate::Error::Request(RequestError::NoPerson)), Some(claim)) => {
                let places = [Where::named(&collection.name)];
                let logged = self
                    .erasures_without_row(&claim, &places, &collection.account, id)?
                    .pop();
                return Ok(logged.ok_or(RequestError::NoPerson)?.erasure);
            }
            (Ok(Changed { done: Some(done), .. }), Some(claim)) => {
                return self.erasure_again(&claim, &done, &collection.account, id);
            }
            (changed, _) => changed?,
        };
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

    /// Whoever is past the expiry is nobody, erased or not yet.
    pub(super) fn read_person(&self, collection: &Collection, digest: Digest) -> Result<Option<Person>> {
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

/// Who asks for an erasure of whom, and the nonce that alone can tell whom a receipt is about.
fn asked(collection: &Collection, id: &PersonId, caller: &Caller, claim: Option<&Claim>) -> (Asked, Nonce) {
    let nonce = Nonce::of(claim, &Where::named(&collection.name));
    let asked = Asked {
        request: caller.request,
        subject: nonce.subject(&collection.account, Some(&collection.name), Some(id)),
        ..Asked::default()
    };
    (asked, nonce)
}

/// Makes a new person of faces.
pub(super) fn enrolling(
    collection: &Arc<Collection>,
    id: &PersonId,
    profile: Profile,
) -> impl FnOnce(Current, Vec<NewFace>) -> Result<Edit> + Send + 'static {
    let (own, person_id) = (Arc::clone(collection), id.clone());
    move |current, faces| {
        match current {
            Current::Absent => {}
            Current::Present(_) => return Err(RequestError::PersonExists.into()),
            Current::Damaged => return Err(RequestError::Damaged.into()),
        }
        consented(&own, &profile)?;
        let now = Timestamp::now();
        let mut person = Person {
            id: person_id,
            mark: RandomId::random(),
            log: LogKey::random(),
            profile,
            enrolled: now,
            updated: now,
            faces: Vec::new(),
        };
        add_faces(&mut person, faces, &own)?;
        Ok(Edit::Keep(person))
    }
}

/// Adds faces to a person.
pub(super) fn adding(
    collection: &Arc<Collection>,
    now: Timestamp,
) -> impl FnOnce(Current, Vec<NewFace>) -> Result<Edit> + Send + 'static {
    let own = Arc::clone(collection);
    move |current, faces| {
        let mut person = present(current, now)?;
        add_faces(&mut person, faces, &own)?;
        Ok(Edit::Keep(person))
    }
}

/// Refuses whoever has no consent where one is asked for. In the writer's turn, so that nobody is enrolled beside
/// the change of the setting.
pub(super) fn consented(collection: &Collection, profile: &Profile) -> Result<()> {
    if collection.settings.read().consent_required {
        return checked_consent(profile);
    }
    Ok(())
}

pub(super) fn present(current: Current, now: Timestamp) -> Result<Person> {
    match current {
        Current::Present(person) if !person.is_expired(now) => Ok(person),
        Current::Absent | Current::Present(_) => Err(RequestError::NoPerson.into()),
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
