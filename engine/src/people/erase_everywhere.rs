//! One PersonID erased in every collection of an account, in one commit: all of it, or nothing that
//! anybody was told.

use std::collections::HashSet;
use std::sync::Arc;

use crate::access::closing;
use crate::call::Call;
use crate::engine::Engine;
use crate::erasure_receipt::{Nonce, PersonErasure};
use crate::gallery::Gallery;
use crate::gallery::collection::{Collection, Collections};
use crate::guard::idempotency::key::Caller;
use crate::guard::idempotency::{Claim, Done, Where, nonce_of};
use likeness_store::codec;
use likeness_store::codec::{Binding, Digest};
use likeness_store::records::{Family, Scan};
use likeness_store::vault::{Asked, Found, Plan, Ticket, Vault, hidden};
use likeness_types::error::Result;
use likeness_types::names::{Account, CollectionName, PersonId, RandomId};
use likeness_types::span::Step;

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
    id: RandomId,
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
        caller: impl Into<Caller>,
    ) -> Result<Vec<ErasureIn>> {
        let caller = caller.into();
        let claim = self.claim(&caller);
        let (owner, whom) = (account, id);
        let (account, id, collections) = (account.clone(), id.clone(), Arc::clone(&self.collections));
        let (request, erasing) = (caller.request, claim.clone());
        let outcome = self.writer.alone(move |vault| {
            if let Some(done) = vault.tokens.done_before(erasing.as_ref())? {
                return Ok(Outcome::Done(done));
            }
            let (mut plan, mut planned, mut looked) = (Plan::default(), Vec::new(), Vec::new());
            for place in places(vault, &collections.read(), &account)? {
                looked.push(place.name());
                planned.extend(plan_at(
                    vault,
                    &mut plan,
                    place,
                    &account,
                    &id,
                    request,
                    erasing.as_ref(),
                )?);
            }
            if plan.is_empty() {
                return Ok(Outcome::Nobody(looked));
            }
            if !vault.plan_unnamed_keys(&mut plan)? {
                return Err(hidden("erasing a person everywhere"));
            }
            if let Some(claim) = &erasing {
                let (places, from) = (planned.iter().map(Planned::place).collect(), vault.log.size());
                vault
                    .tokens
                    .plan_done(&mut plan, claim, Done::Erased { places, from });
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
            Ok(Outcome::Now(planned))
        })?;
        let erased = match (outcome, claim) {
            (Outcome::Now(erased), _) => erased,
            (Outcome::Done(done), Some(claim)) => return self.erasures_again(&claim, &done, owner, whom),
            (Outcome::Nobody(looked), Some(claim)) => return self.nobody_again(&claim, &looked, owner, whom),
            (Outcome::Done(_) | Outcome::Nobody(_), None) => return Ok(Vec::new()),
        };
        self.purger.wake();
        for collection in erased.iter().filter_map(|planned| planned.collection.as_ref()) {
            collection.readers.wait_for_older();
        }
        erased.into_iter().map(Planned::erasure).collect()
    }
}

impl Gallery {
    /// Nobody is there: nobody was, which is noted, or a crash came between the log and the row.
    fn nobody_again(
        &self,
        claim: &Claim,
        looked: &[Where],
        account: &Account,
        id: &PersonId,
    ) -> Result<Vec<ErasureIn>> {
        let logged = self.erasures_without_row(claim, looked, account, id)?;
        if logged.is_empty() {
            let claim = claim.clone();
            self.writer.alone(move |vault| {
                let (mut plan, from) = (Plan::default(), vault.log.size());
                let places = Vec::new();
                vault
                    .tokens
                    .plan_done(&mut plan, &claim, Done::Erased { places, from });
                vault.commit(plan)
            })?;
        }
        Ok(logged)
    }
}

/// What became of the call.
enum Outcome {
    Now(Vec<Planned>),
    /// It was made before.
    Done(Done),
    /// In these places.
    Nobody(Vec<Where>),
}

impl Place {
    fn name(&self) -> Where {
        place_of(self.id, self.collection.as_deref())
    }
}

fn place_of(id: RandomId, collection: Option<&Collection>) -> Where {
    collection.map_or(Where::Unnamed(id.0), |collection| Where::named(&collection.name))
}

impl Planned {
    fn place(&self) -> Where {
        place_of(self.id, self.collection.as_deref())
    }

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
    let (mut after, mut gaps) = (Vec::new(), 0);
    loop {
        let (next, passed) = next_collection(vault, &after)?;
        gaps += passed;
        let Some(id) = next else { break };
        if !served.contains(&id) {
            places.push(Place { id, collection: None });
        }
        after = codec::person_key(id, Digest([u8::MAX; 16]));
    }
    // Where people are hidden, a collection of theirs that does not serve may be hidden with them.
    if gaps > 0 && !closing::unreadable(vault, collections)?.is_empty() {
        return Err(hidden("looking for a person in every collection"));
    }
    Ok(places)
}

/// The collection of the first person after a key, and the damaged places before it.
fn next_collection(vault: &Vault, after: &[u8]) -> Result<(Option<RandomId>, usize)> {
    let mut next = None;
    let gaps = vault.scan(Family::Persons, &[], after, &mut |key, _| {
        next = key.first_chunk().copied().map(RandomId);
        Scan::Stop
    })?;
    Ok((next, gaps))
}

fn plan_at(
    vault: &Vault,
    plan: &mut Plan,
    place: Place,
    account: &Account,
    id: &PersonId,
    request: RandomId,
    claim: Option<&Claim>,
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
    let nonce = nonce_of(claim, &place.name());
    let (place_id, collection) = (place.id, place.collection);
    let name = collection.as_ref().map(|collection| &collection.name);
    let ticket = plan.begin_erasure(Asked {
        request,
        subject: nonce.subject(account, name, Some(id)),
        generation: collection
            .as_ref()
            .map_or(0, |collection| collection.next_generation()),
        faces: u32::try_from(faces).unwrap_or(u32::MAX),
        owner: Some(vault.owner(account)),
    });
    vault.plan_erase(plan, Family::Persons, key, header.as_ref())?;
    Ok(Some(Planned {
        id: place_id,
        collection,
        digest,
        faces,
        nonce,
        ticket,
    }))
}

impl Engine {
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
