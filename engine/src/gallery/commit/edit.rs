//! What a change finds, what it makes of it, and what comes of it.

use std::sync::Arc;

use crate::gallery::collection::Collection;
use crate::guard::idempotency::Done;
use likeness_store::codec::Digest;
use likeness_store::erasure_log::Issued;
use likeness_store::vault::{Asked, Ticket};
use likeness_types::error::Result;
use likeness_types::person::Person;

/// What a change finds under the PersonID.
pub(crate) enum Current {
    Absent,
    Present(Person),
    Damaged,
}

/// What a change makes of it.
pub(crate) enum Edit {
    /// A person with everything that was there, and perhaps more.
    Keep(Person),
    /// A person with something else in the place of what was there: under a new key, but not in the
    /// erasure log, for what the log names would be missing as a whole person after an old copy of the
    /// data was put back.
    Replace(Person),
    /// A person without faces that were there.
    Reduce(Person, Asked),
    /// No person.
    Erase(Asked),
    /// What was there before; whoever asked learns the reason by another way.
    Leave,
}

/// What a change of two PersonIDs makes of whoever is under the first.
pub(crate) enum Passage {
    /// Nothing; and this copy under the second.
    Copy(Person),
    /// Nobody under the first any more, and this person under the second. Not in the erasure log as an
    /// erasure of anybody, for the reason of [`Edit::Replace`].
    Rename(Person, Asked),
}

/// Somewhere a person may be.
#[derive(Clone)]
pub(crate) struct Place {
    pub collection: Arc<Collection>,
    pub digest: Digest,
}

/// What a change comes to.
pub(crate) struct Planned {
    /// Who was there is elsewhere in the same collection.
    pub(crate) left: Option<Digest>,
    pub(crate) at: Place,
    pub(crate) person: Option<Person>,
    pub(crate) ticket: Option<Ticket>,
}

pub(crate) type EditFn = Box<dyn FnOnce(Current) -> Result<Edit> + Send>;

pub(crate) type PassageFn = Box<dyn FnOnce(Current) -> Result<Passage> + Send>;

pub(crate) enum Making {
    Edit(EditFn),
    /// Looks at the index, and must find there what every change before it made.
    Looking(EditFn),
    /// Leads to another place, where nobody may be yet.
    Passage(PassageFn, Place),
}

/// What a change made.
#[derive(Default)]
pub(crate) struct Changed {
    /// An earlier call had made the change already; nothing was changed now.
    pub done: Option<Done>,
    /// Who is kept now.
    pub person: Option<Person>,
    /// For whatever was removed.
    pub receipt: Option<Issued>,
}

impl Planned {
    pub fn kept(at: Place, person: Person, ticket: Option<Ticket>) -> Self {
        Self {
            left: None,
            at,
            person: Some(person),
            ticket,
        }
    }
}
