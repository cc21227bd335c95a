//! Everything that is kept of a person, for the person to see.

use crate::access_log::row::Part;
use crate::call::Call;
use crate::engine::{CollectionRef, Engine};
use crate::gallery::Gallery;
use crate::people::read::Footprint;
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
