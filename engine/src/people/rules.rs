//! Rules that several changes of a person share.

use crate::gallery::collection::Collection;
use crate::gallery::commit::edit::Current;
use likeness_types::error::{RequestError, Result};
use likeness_types::person::{Person, Profile, Timestamp, checked_consent};

/// Refuses whoever has no consent where one is asked for. In the writer's turn, so that nobody is enrolled beside
/// the change of the setting.
pub(crate) fn consented(collection: &Collection, profile: &Profile) -> Result<()> {
    if collection.settings.read().consent_required {
        return checked_consent(profile);
    }
    Ok(())
}

pub(crate) fn present(current: Current, now: Timestamp) -> Result<Person> {
    match current {
        Current::Present(person) if !person.is_expired(now) => Ok(person),
        Current::Absent | Current::Present(_) => Err(RequestError::NoPerson.into()),
        Current::Damaged => Err(RequestError::Damaged.into()),
    }
}
