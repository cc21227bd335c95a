//! What becomes of people after enrolment, as the service asks for it: copied, renamed, shown everything.

use crate::access_log::row::Part;
use crate::call::Call;
use crate::engine::{CollectionRef, Engine};
use crate::gallery::{Footprint, Gallery};
use likeness_types::error::{Error, RequestError, Result};
use likeness_types::names::{Account, CollectionName, PersonId};
use likeness_types::person::Person;
use likeness_types::span::Step;

/// Everything that is kept of a person in one collection, for the person to see. Of the templates it is what
/// made them and how long they are.
pub struct PersonExport {
    /// Where.
    pub collection: CollectionName,
    /// Who; none where the record cannot be read.
    pub person: Option<Person>,
    /// What the templates depend on, for people.
    pub scheme: String,
    /// How much is kept.
    pub footprint: Footprint,
}

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

    /// Everything that is kept under this PersonID in the collections of an account, by their names; nothing
    /// is no error.
    ///
    /// # Errors
    /// The store failed.
    pub fn export_person(
        &self,
        account: &Account,
        id: &PersonId,
        call: &mut Call,
    ) -> Result<Vec<PersonExport>> {
        let own: Vec<_> = self.gallery.collections_of(account).map(CollectionRef).collect();
        own.iter()
            .for_each(|collection| call.reads(&collection.0.readers));
        let exports: Vec<_> = call.step(Step::Store, || {
            let exports = own.iter().map(|collection| export(&self.gallery, collection, id));
            exports.filter_map(Result::transpose).collect::<Result<_>>()
        })?;
        for export in &exports {
            let place = own
                .iter()
                .find(|collection| *collection.name() == export.collection);
            if let Some((place, person)) = place.zip(export.person.as_ref()) {
                self.note(call, &place.0, person, Part::Subject);
            }
        }
        Ok(exports)
    }
}

/// None where nobody has the PersonID, or not any more.
fn export(gallery: &Gallery, collection: &CollectionRef, id: &PersonId) -> Result<Option<PersonExport>> {
    let read = || {
        let person = match gallery.person(&collection.0, id) {
            Ok(person) => Some(person),
            Err(Error::Request(RequestError::Damaged)) => None,
            Err(error) => return Err(error),
        };
        Ok(PersonExport {
            collection: collection.0.name.clone(),
            person,
            scheme: collection.scheme(),
            footprint: gallery.footprint(&collection.0, id)?,
        })
    };
    match read() {
        Ok(export) => Ok(Some(export)),
        Err(Error::Request(RequestError::NoPerson | RequestError::NoCollection)) => Ok(None),
        Err(error) => Err(error),
    }
}
