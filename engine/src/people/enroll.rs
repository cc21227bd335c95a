//! Enrolling a person, and adding faces to one: from the service's request to the edit that the writer makes durable.

use std::sync::Arc;

use crate::access_log::row::Part;
use crate::call::Call;
use crate::engine::{CollectionRef, Engine};
use crate::gallery::Gallery;
use crate::gallery::collection::Collection;
use crate::gallery::commit::edit::{Current, Edit};
use crate::guard::idempotency::key::Caller;
use crate::people::rules::{consented, present};
use likeness_types::error::{RequestError, Result};
use likeness_types::names::{PersonId, RandomId};
use likeness_types::person::{LogKey, NewFace, Person, Profile, StoredFace, Timestamp, checked_expiry};
use likeness_types::span::Step;

impl Engine {
    /// Enrols a person; durable when it returns.
    ///
    /// # Errors
    /// The PersonID is taken, the collection allows fewer faces, or an expiry does not lie ahead.
    pub fn enroll(
        &self,
        collection: &CollectionRef,
        id: &PersonId,
        profile: Profile,
        faces: Vec<NewFace>,
        call: &mut Call,
    ) -> Result<Person> {
        let profile = profile.checked()?;
        let caller = call.caller();
        call.reads(&collection.0.readers);
        let person = call.step(Step::Store, || {
            self.gallery.enroll(&collection.0, id, profile, faces, caller)
        })?;
        self.note(call, &collection.0, &person, Part::Subject);
        Ok(person)
    }

    /// Adds faces to a person; durable when it returns.
    ///
    /// # Errors
    /// Nobody has that PersonID, or the collection allows fewer faces.
    pub fn add_faces(
        &self,
        collection: &CollectionRef,
        id: &PersonId,
        faces: Vec<NewFace>,
        call: &mut Call,
    ) -> Result<Person> {
        let caller = call.caller();
        call.reads(&collection.0.readers);
        let person = call.step(Step::Store, || {
            self.gallery.add_faces(&collection.0, id, faces, caller)
        })?;
        self.note(call, &collection.0, &person, Part::Subject);
        Ok(person)
    }
}

impl Gallery {
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
}

/// Makes a new person of faces.
pub(crate) fn enrolling(
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
pub(crate) fn adding(
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
