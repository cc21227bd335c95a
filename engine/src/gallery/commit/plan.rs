//! What a change writes: decided by what is there, on the writer's thread and in its turn.

use crate::access::census::Rooms;
use crate::gallery::commit::edit::{Current, Edit, EditFn, Passage, PassageFn, Place, Planned};
use crate::gallery::storage::Storage;
use crate::guard::comparison_limiter::Origin;
use crate::guard::idempotency::{Claim, Done, Where};
use likeness_store::codec;
use likeness_store::codec::Header;
use likeness_store::records::Family;
use likeness_store::vault::{Asked, Found, NewRecord, Plan, hidden};
use likeness_types::error::{RequestError, Result};
use likeness_types::person::Person;

pub(super) fn plan_change(
    vault: &Storage,
    plan: &mut Plan,
    rooms: &mut Rooms<'_>,
    at: Place,
    claim: Option<&Claim>,
    edit: EditFn,
) -> Result<Option<Planned>> {
    let (current, header) = read_current(vault, &at)?;
    let collection = &at.collection;
    let had = held(&current);
    let (person, resealed) = match edit(current)? {
        Edit::Erase(mut asked) => {
            asked.generation = collection.next_generation();
            asked.owner = Some(vault.owner(&collection.account));
            let ticket = plan.begin_erasure(asked);
            vault.plan_erase(plan, Family::Persons, at.key(), header.as_ref())?;
            if !vault.plan_unnamed_keys(plan)? {
                return Err(hidden("erasing a person"));
            }
            if let Some(claim) = claim {
                let places = vec![Where::named(&collection.name)];
                let from = vault.log.size();
                vault.tokens.plan_done(plan, claim, Done::Erased { places, from });
            }
            return Ok(Some(Planned {
                left: None,
                at,
                person: None,
                ticket: Some(ticket),
            }));
        }
        Edit::Leave => return Ok(None),
        Edit::Keep(person) => (person, None),
        Edit::Replace(person) => (person, Some(None)),
        Edit::Reduce(person, asked) => (person, Some(Some(asked))),
    };
    let more_faces = (person.faces.len() as u64).saturating_sub(had.1);
    rooms.take(&collection.account, 1 - had.0, more_faces)?;
    let contents = codec::person_to_contents(&person);
    let record = at.record(vault, &person, &contents);
    let generation = collection.next_generation();
    let faces = resealed.flatten().map_or(0, |asked| asked.faces);
    let ticket = match (header, resealed) {
        (Some(header), Some(asked)) => {
            let owner = Some(vault.owner(&at.collection.account));
            let asked = asked.map(|asked| Asked {
                generation,
                owner,
                ..asked
            });
            vault.plan_reseal(plan, &record, &header, asked)?
        }
        (header, _) => {
            vault.plan_put(plan, &record, header.as_ref())?;
            None
        }
    };
    drop(record);
    if let Some(claim) = claim {
        let (mark, from) = (claim.mark(person.mark), vault.log.size());
        let done = match &ticket {
            Some(_) => Done::Reduced { mark, faces, from },
            None => Done::Kept { mark },
        };
        vault.tokens.plan_done(plan, claim, done);
    }
    Ok(Some(Planned::kept(at, person, ticket)))
}

/// People and faces that are there.
fn held(current: &Current) -> (u64, u64) {
    match current {
        Current::Absent => (0, 0),
        Current::Present(person) => (1, person.faces.len() as u64),
        // Its faces cannot be found, and do not count.
        Current::Damaged => (1, 0),
    }
}

/// ORDER: both places are read and written in the writer's one turn, so that no erasure comes between: one
/// that was acknowledged before finds nobody copied, and one that comes after finds the copy.
pub(super) fn plan_passage(
    vault: &Storage,
    plan: &mut Plan,
    rooms: &mut Rooms<'_>,
    (at, to): (Place, Place),
    claim: Option<&Claim>,
    passage: PassageFn,
) -> Result<Planned> {
    let (current, header) = read_current(vault, &at)?;
    let (there, _) = read_current(vault, &to)?;
    let passage = passage(current)?;
    match there {
        Current::Absent => {}
        Current::Present(_) => return Err(RequestError::PersonExists.into()),
        Current::Damaged => return Err(RequestError::Damaged.into()),
    }
    let generation = to.collection.next_generation();
    match passage {
        Passage::Copy(person) => {
            rooms.take(&to.collection.account, 1, person.faces.len() as u64)?;
            let contents = codec::person_to_contents(&person);
            vault.plan_put(plan, &to.record(vault, &person, &contents), None)?;
            vault
                .limiter
                .plan_lineage(plan, &at.key(), &to.key(), Origin::Stays)?;
            vault.tokens.plan_kept(plan, claim, &person);
            Ok(Planned::kept(to, person, None))
        }
        Passage::Rename(person, asked) => {
            // Whoever is present has a header.
            let header = header.ok_or(RequestError::NoPerson)?;
            let contents = codec::person_to_contents(&person);
            let asked = Asked {
                generation,
                owner: Some(vault.owner(&at.collection.account)),
                ..asked
            };
            vault
                .limiter
                .plan_lineage(plan, &at.key(), &to.key(), Origin::Goes)?;
            let ticket = vault.plan_move(
                plan,
                &to.record(vault, &person, &contents),
                at.key(),
                &header,
                asked,
            )?;
            vault.tokens.plan_kept(plan, claim, &person);
            Ok(Planned {
                left: Some(at.digest),
                ..Planned::kept(to, person, Some(ticket))
            })
        }
    }
}

impl Place {
    fn key(&self) -> Vec<u8> {
        codec::person_key(self.collection.id, self.digest)
    }

    fn record<'a>(&'a self, vault: &Storage, person: &Person, contents: &'a [u8]) -> NewRecord<'a> {
        NewRecord {
            family: Family::Persons,
            key: self.key(),
            binding: self.collection.person_binding(vault.ring.deployment, self.digest),
            scheme: self.collection.scheme.id(),
            log: person.log.id,
            contents,
        }
    }
}

fn read_current(vault: &Storage, at: &Place) -> Result<(Current, Option<Header>)> {
    let Place { collection, digest } = at;
    if collection.is_deleted() {
        return Err(RequestError::NoCollection.into());
    }
    let binding = collection.person_binding(vault.ring.deployment, *digest);
    let found = vault
        .read(Family::Persons, &at.key(), &binding)
        .inspect_err(|error| {
            // Of somebody who is not known, a damaged place says nothing.
            if error.is_damage() && collection.people.read().number(*digest).is_some() {
                collection.people.write().set_damaged(*digest);
            }
        })?;
    let (current, header) = match found {
        Found::Nothing => (Current::Absent, None),
        Found::Damaged(header) => (Current::Damaged, header),
        Found::Open { header, contents } => match codec::person_from_contents(&contents) {
            Ok(person) => (Current::Present(person), Some(header)),
            Err(codec::Unreadable) => (Current::Damaged, Some(header)),
        },
    };
    if matches!(current, Current::Damaged) {
        collection.people.write().set_damaged(*digest);
    }
    Ok((current, header))
}
