//! One PersonID erased in every collection of an account, in one commit: all of it, or nothing that
//! anybody was told.

use std::collections::HashSet;
use std::sync::Arc;

use crate::error::Result;
use crate::gallery::codec::{self, Binding, Digest};
use crate::gallery::collection::Collection;
use crate::gallery::persons::{Nonce, PersonErasure};
use crate::gallery::records::{Family, Scan};
use crate::gallery::vault::{Asked, Found, Plan, Ticket, Vault};
use crate::gallery::{Collections, Gallery};
use crate::names::{Account, CollectionName, PersonId, RandomId};

/// A person erased in one of several collections.
#[derive(Debug, Clone)]
pub struct ErasureIn {
    /// `None` for a collection whose own record cannot be read: its name is in that record.
    pub collection: Option<CollectionName>,
    /// What went.
    pub erasure: PersonErasure,
}

/// Where the person may be.
struct Place {
    id: RandomId,
    /// `None` where the collection does not serve, because its own record cannot be read.
    collection: Option<Arc<Collection>>,
}

/// Where the person is.
struct Planned {
    collection: Option<Arc<Collection>>,
    digest: Digest,
    faces: usize,
    nonce: Nonce,
    ticket: Ticket,
}

impl Gallery {
    /// Erases everyone of this PersonID in every collection of an account, those that cannot be read
    /// included.
    pub fn erase_everywhere(
        &self,
        account: &Account,
        id: &PersonId,
        request: RandomId,
    ) -> Result<Vec<ErasureIn>> {
        let (account, id, collections) = (account.clone(), id.clone(), Arc::clone(&self.collections));
        let erased = self.writer.alone(move |vault| {
            let (mut plan, mut planned) = (Plan::default(), Vec::new());
            for place in places(vault, &collections.read(), &account)? {
                planned.extend(plan_at(vault, &mut plan, place, &account, &id, request)?);
            }
            if plan.is_empty() {
                return Ok(planned);
            }
            // ORDER: as for one person: the store, then the bits in memory, then the anchor, then the reply.
            vault.commit(plan)?;
            for Planned {
                collection, digest, ..
            } in &planned
            {
                collection
                    .iter()
                    .for_each(|served| served.people.write().remove(*digest));
            }
            vault.advance_anchor()?;
            Ok(planned)
        })?;
        self.purger.wake();
        for collection in erased.iter().filter_map(|planned| planned.collection.as_ref()) {
            collection.readers.wait_for_older();
        }
        erased.into_iter().map(Planned::erasure).collect()
    }
}

impl Planned {
    fn erasure(self) -> Result<ErasureIn> {
        Ok(ErasureIn {
            collection: self.collection.map(|collection| collection.name.clone()),
            erasure: PersonErasure {
                faces: self.faces,
                receipt: self.nonce.receipt(self.ticket.get().cloned())?,
            },
        })
    }
}

/// The account's collections by name, then whatever the records of people belong to besides: collections
/// that cannot be read. Whose those are is not known; but nobody of another account has this PersonID's
/// digest.
fn places(vault: &Vault, collections: &Collections, account: &Account) -> Result<Vec<Place>> {
    let served: HashSet<RandomId> = collections.values().map(|collection| collection.id).collect();
    let own = collections
        .values()
        .filter(|collection| collection.account == *account);
    let mut places: Vec<_> = own
        .map(|collection| Place {
            id: collection.id,
            collection: Some(Arc::clone(collection)),
        })
        .collect();
    let mut after = Vec::new();
    while let Some(id) = next_collection(vault, &after)? {
        if !served.contains(&id) {
            places.push(Place { id, collection: None });
        }
        after = codec::person_key(id, Digest([u8::MAX; 16]));
    }
    Ok(places)
}

/// The collection of the first person after a key.
fn next_collection(vault: &Vault, after: &[u8]) -> Result<Option<RandomId>> {
    let mut next = None;
    vault.scan(Family::Persons, &[], after, &mut |key, _| {
        next = key.first_chunk().copied().map(RandomId);
        Scan::Stop
    })?;
    Ok(next)
}

fn plan_at(
    vault: &Vault,
    plan: &mut Plan,
    place: Place,
    account: &Account,
    id: &PersonId,
    request: RandomId,
) -> Result<Option<Planned>> {
    let digest = Digest::of_person(&vault.ring.digest().secret, account, place.id, id);
    let key = codec::person_key(place.id, digest);
    let binding = Binding::of_person(vault.ring.deployment, account, place.id, digest);
    let (header, faces) = match vault.read(Family::Persons, &key, &binding)? {
        Found::Nothing => return Ok(None),
        Found::Damaged(header) => (header, 0),
        Found::Open { header, contents } => {
            let faces = codec::person_from_contents(&contents).map_or(0, |person| person.faces.len());
            (Some(header), faces)
        }
    };
    let (nonce, collection) = (Nonce::new(), place.collection);
    let name = collection.as_ref().map(|collection| &collection.name);
    let ticket = plan.begin_erasure(Asked {
        request,
        subject: nonce.subject(account, name, Some(id)),
        generation: collection
            .as_ref()
            .map_or(0, |collection| collection.next_generation()),
        faces: u32::try_from(faces).unwrap_or(u32::MAX),
    });
    vault.plan_erase(plan, Family::Persons, key, header.as_ref())?;
    Ok(Some(Planned {
        collection,
        digest,
        faces,
        nonce,
        ticket,
    }))
}
