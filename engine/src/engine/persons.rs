//! People, as the service asks for them.

use crate::access_log::row::Part;
use crate::call::Call;
use crate::engine::{CollectionRef, Engine, PAGE_ITEMS_MAX};
use crate::gallery::{ErasureIn, ErasureReceipt, Footprint, Page, PersonErasure, ProfileChange};
use likeness_types::error::Result;
use likeness_types::names::{Account, FaceId, PersonId};
use likeness_types::person::{NewFace, Person, Profile};
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

    /// Changes what is kept with a person beside the faces; what was replaced is no longer readable when it returns.
    ///
    /// # Errors
    /// Nobody has that PersonID, a text is over its limit, an expiry does not lie ahead, or it is earlier than the one on
    /// record where the change refuses that.
    pub fn update_person(
        &self,
        collection: &CollectionRef,
        id: &PersonId,
        change: ProfileChange,
        call: &mut Call,
    ) -> Result<Person> {
        let caller = call.caller();
        call.read();
        let person = call.step(Step::Store, || {
            self.gallery.update(&collection.0, id, change, caller)
        })?;
        call.reads(&collection.0.readers);
        self.gallery.still_there(&collection.0, id)?;
        self.note(call, &collection.0, &person, Part::Subject);
        Ok(person)
    }

    /// Deletes faces, but never a person's last; they are no longer readable when it returns. Answers
    /// what is kept, unless the person was erased meanwhile: the receipt outlives that.
    ///
    /// # Errors
    /// Nobody has that PersonID, a face does not exist, or none would be left.
    pub fn delete_faces(
        &self,
        collection: &CollectionRef,
        id: &PersonId,
        faces: Vec<FaceId>,
        call: &mut Call,
    ) -> Result<(Option<Person>, ErasureReceipt)> {
        let caller = call.caller();
        call.read();
        let (person, receipt) = call.step(Step::Store, || {
            self.gallery.delete_faces(&collection.0, id, faces, caller)
        })?;
        call.reads(&collection.0.readers);
        let still_there = self.gallery.still_there(&collection.0, id).is_ok();
        let person = person.filter(|_| still_there);
        if let Some(person) = &person {
            self.note(call, &collection.0, person, Part::Subject);
        }
        Ok((person, receipt))
    }

    /// Erases a person; answers how many faces went. When it returns, the key of the record is
    /// overwritten and synced, the bits in memory are overwritten, and no later search finds the
    /// person. Not reached: backups, snapshots, and storage that does not overwrite in place.
    ///
    /// # Errors
    /// Nobody has that PersonID.
    pub fn delete_person(
        &self,
        collection: &CollectionRef,
        id: &PersonId,
        call: &mut Call,
    ) -> Result<PersonErasure> {
        let caller = call.caller();
        call.read();
        call.step(Step::Store, || self.gallery.delete(&collection.0, id, caller))
    }

    /// Erases everyone of this PersonID in every collection of an account, in one commit; nobody is no
    /// error. Collections that cannot be read are gone through too.
    ///
    /// # Errors
    /// The store failed: before the commit nothing was erased; in the midst of it, what reached the log is
    /// carried out by the next start. Calling it again erases what is left.
    pub fn erase_everywhere(
        &self,
        account: &Account,
        id: &PersonId,
        call: &mut Call,
    ) -> Result<Vec<ErasureIn>> {
        let caller = call.caller();
        call.read();
        call.step(Step::Store, || self.gallery.erase_everywhere(account, id, caller))
    }
}
