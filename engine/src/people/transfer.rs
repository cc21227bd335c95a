//! People copied into other collections, and given other PersonIDs.
//!
//! A copy is a person of its own from then on: an erasure of one of the two leaves the other. Only erasing everywhere
//! means both, as long as they share the PersonID.

use std::sync::Arc;

use crate::access_log::row::Part;
use crate::call::Call;
use crate::engine::{CollectionRef, Engine};
use crate::gallery::Gallery;
use crate::gallery::collection::Collection;
use crate::gallery::commit::edit::{Passage, Place};
use crate::guard::idempotency::key::Caller;
use crate::people::expire::is_due;
use crate::people::rules::consented;
use crate::people::rules::present;
use likeness_store::codec::Digest;
use likeness_store::vault::Asked;
use likeness_types::error::{RequestError, Result};
use likeness_types::names::{FaceId, PersonId, RandomId};
use likeness_types::person::{LogKey, Person, StoredFace, Timestamp};
use likeness_types::scheme::Scheme;
use likeness_types::span::Step;

impl Engine {
    /// Copies a person with all faces into another collection, or under another PersonID; durable when it
    /// returns.
    ///
    /// # Errors
    /// Nobody to copy, the target PersonID is taken, the target allows fewer faces, or its templates cannot
    /// be made of the person's.
    pub fn copy_person(
        &self,
        source: (&CollectionRef, &PersonId),
        target: (&CollectionRef, &PersonId),
        call: &mut Call,
    ) -> Result<Person> {
        let caller = call.caller();
        call.reads(&target.0.0.readers);
        let copy = call.step(Step::Store, || {
            self.gallery
                .copy((&source.0.0, source.1), (&target.0.0, target.1), caller)
        })?;
        self.note(call, &target.0.0, &copy, Part::Subject);
        // Whoever was copied may have gone since; then there is nobody to note.
        call.reads(&source.0.0.readers);
        if let Ok(person) = self.gallery.person(&source.0.0, source.1) {
            self.note(call, &source.0.0, &person, Part::Subject);
        }
        Ok(copy)
    }

    /// Gives a person another PersonID; the old one is no longer readable when it returns.
    ///
    /// # Errors
    /// Nobody has the PersonID, or somebody has the new one.
    pub fn rename_person(
        &self,
        collection: &CollectionRef,
        id: &PersonId,
        new: &PersonId,
        call: &mut Call,
    ) -> Result<Person> {
        let caller = call.caller();
        call.read();
        let person = call.step(Step::Store, || {
            self.gallery.rename(&collection.0, id, new, caller)
        })?;
        call.reads(&collection.0.readers);
        self.gallery.still_there(&collection.0, new)?;
        self.note(call, &collection.0, &person, Part::Subject);
        Ok(person)
    }
}

impl Gallery {
    /// Copies a person with all faces, profile, consent and expiry. The copy is enrolled now; its faces have
    /// new ids and keep the times of their enrolment, which say how old the photographs are.
    pub fn copy(
        &self,
        source: (&Arc<Collection>, &PersonId),
        target: (&Arc<Collection>, &PersonId),
        caller: impl Into<Caller>,
    ) -> Result<Person> {
        let claim = self.claim(&caller.into());
        same_models(&source.0.scheme, &target.0.scheme)?;
        let (from, to) = self.places(source, target)?;
        let (now, own) = (self.eraser.clock.now(), Arc::clone(&from.collection));
        let (new, new_id) = (Arc::clone(&to.collection), target.1.clone());
        let changed = self.writer.pass(from, to, claim.clone(), move |current| {
            copied(present(current, now)?, &own.scheme, &new, new_id).map(Passage::Copy)
        })?;
        self.kept(target.0, target.1, claim, changed)
    }

    /// Gives a person another PersonID. When this returns, the old one opens nothing, and nobody is about to
    /// name it.
    ///
    /// The erasure log names no key for it, because nobody is erased: where an older copy of the data is
    /// put back, the person is back under the old PersonID, as anybody who was not erased.
    pub fn rename(
        &self,
        collection: &Arc<Collection>,
        id: &PersonId,
        new: &PersonId,
        caller: impl Into<Caller>,
    ) -> Result<Person> {
        let caller = caller.into();
        let (request, claim) = (caller.request, self.claim(&caller));
        let (from, to) = self.places((collection, id), (collection, new))?;
        let (now, new_id) = (self.eraser.clock.now(), new.clone());
        let (own, old_digest, new_digest) = (Arc::clone(collection), from.digest, to.digest);
        let changed = self.writer.pass(from, to, claim.clone(), move |current| {
            let mut person = present(current, now)?;
            // ORDER: before the record moves: a search that sees the person in the index until then finds
            // the record under one PersonID or the other, and not the person gone.
            own.people.write().renames.insert(old_digest, new_digest);
            person.id = new_id;
            person.updated = Timestamp::now();
            let asked = Asked {
                request,
                ..Asked::default()
            };
            Ok(Passage::Rename(person, asked))
        });
        let renamed = changed.and_then(|changed| self.kept(collection, new, claim, changed));
        // Whoever saw the person under the old PersonID has been waited for.
        let renames = &mut collection.people.write().renames;
        if renames.get(&old_digest) == Some(&new_digest) {
            renames.remove(&old_digest);
        }
        renamed
    }

    /// Who was seen in the index under this digest, renamed since or not.
    pub(crate) fn read_seen(&self, collection: &Collection, digest: Digest) -> Result<Option<Person>> {
        match self.read_person(collection, digest)? {
            None => {
                let renamed = collection.people.read().renames.get(&digest).copied();
                renamed.map_or(Ok(None), |new| self.read_person(collection, new))
            }
            person => Ok(person),
        }
    }

    /// Whether a person who was read is still there, by this PersonID or, from now on, by the one given
    /// since. Whoever was enrolled under the PersonID after an erasure is somebody else.
    pub(crate) fn still_named(&self, collection: &Collection, person: &mut Person) -> bool {
        match self.read_seen(collection, self.digest(collection, &person.id)) {
            Ok(Some(now)) if now.mark == person.mark => {
                person.id = now.id;
                true
            }
            _ => false,
        }
    }

    /// Where a copy or a rename begins and ends.
    fn places(
        &self,
        (collection, id): (&Arc<Collection>, &PersonId),
        (target, new): (&Arc<Collection>, &PersonId),
    ) -> Result<(Place, Place)> {
        let place = |collection: &Arc<Collection>, id| Place {
            collection: Arc::clone(collection),
            digest: self.digest(collection, id),
        };
        let (from, to) = (place(collection, id), place(target, new));
        if collection.id == target.id && id == new {
            self.person(collection, id)?;
            return Err(RequestError::PersonExists.into());
        }
        self.make_way(target, new)?;
        Ok((from, to))
    }

    /// Whoever is past the expiry, and not erased yet, holds no PersonID.
    pub(crate) fn make_way(&self, collection: &Collection, id: &PersonId) -> Result<()> {
        let digest = self.digest(collection, id);
        if is_due(collection, digest, self.eraser.clock.now()) {
            self.eraser.erase_due()?;
        }
        Ok(())
    }
}

/// A shorter template is the beginning of a longer one under the same key (`pipeline/protect.rs`), and no
/// other way from one template to another is without loss: to project the bits again under another key costs
/// about 0.4 points of TAR at a FAR of 1e-4 (1024 bits, all of LFW) for every such step.
fn same_models(source: &Scheme, target: &Scheme) -> Result<()> {
    let same = source.models == target.models && source.projection == target.projection;
    if same && target.bits <= source.bits {
        return Ok(());
    }
    Err(RequestError::NoPassage {
        source_scheme: source.to_string(),
        target: target.to_string(),
    }
    .into())
}

fn copied(person: Person, source: &Scheme, target: &Collection, id: PersonId) -> Result<Person> {
    let faces_max = target.settings.read().faces_per_person_max as usize;
    if person.faces.len() > faces_max {
        return Err(RequestError::FacesPerPerson {
            faces: person.faces.len(),
            faces_max,
        }
        .into());
    }
    consented(target, &person.profile)?;
    let now = Timestamp::now();
    let faces = person.faces.into_iter();
    Ok(Person {
        id,
        mark: RandomId::random(),
        log: LogKey::random(),
        profile: person.profile,
        enrolled: now,
        updated: now,
        faces: faces
            .map(|face| shortened(face, source, target))
            .collect::<Result<_>>()?,
    })
}

fn shortened(face: StoredFace, source: &Scheme, target: &Collection) -> Result<StoredFace> {
    let scheme = &target.scheme;
    if face.scheme != source.id() {
        return Err(RequestError::NoPassage {
            source_scheme: "a face of an earlier scheme".to_owned(),
            target: scheme.to_string(),
        }
        .into());
    }
    Ok(StoredFace {
        id: FaceId::random(),
        scheme: scheme.id(),
        template: face.template.beginning(scheme.bits),
        ..face
    })
}
