//! Changing what is kept with a person beside the faces.

use std::sync::Arc;

use crate::access_log::row::Part;
use crate::call::Call;
use crate::engine::{CollectionRef, Engine};
use crate::gallery::Gallery;
use crate::gallery::collection::Collection;
use crate::gallery::commit::edit::{Changed, Current, Edit};
use crate::guard::idempotency::Claim;
use crate::guard::idempotency::key::Caller;
use crate::people::rules::{consented, present};
use likeness_types::error::{RequestError, Result};
use likeness_types::names::PersonId;
use likeness_types::person::{Consent, Person, Profile, Timestamp, checked_expiry};
use likeness_types::span::Step;

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

impl Engine {
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
}

impl Gallery {
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

    /// Changes a person without removing a face; or answers who is there, when this very call did before.
    pub(crate) fn change(
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
    pub(crate) fn kept(
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
}
