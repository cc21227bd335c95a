//! What an earlier call under the same token did, answered again from what is there now.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::erasure_receipt::{ErasureReceipt, PersonErasure};
use crate::gallery::Gallery;
use crate::gallery::collection::Collection;
use crate::gallery::collection::exists;
use crate::gallery::collections::CollectionErasure;
use crate::guard::idempotency::key::Caller;
use crate::guard::idempotency::{Claim, Done, Where};
use crate::people::erase_everywhere::ErasureIn;
use likeness_store::codec;
use likeness_store::erasure_log::Issued;
use likeness_store::receipts::Receipt;
use likeness_store::records::Family;
use likeness_store::vault::Asked;
use likeness_types::error::{Error, RequestError, Result};
use likeness_types::names::{Account, CollectionName, PersonId};
use likeness_types::person::Person;

/// Latest receipts that are looked through for one that has no row: a crash between the log and the row, in
/// which at most one group of changes is, and what the start and its purge logged since.
const LATEST_RECEIPTS: u64 = 1024;

impl Gallery {
    pub(crate) fn claim(&self, caller: &Caller) -> Option<Claim> {
        let once = caller.once.as_ref()?;
        Some(Claim::new(&self.vault.ring.digest().secret, once))
    }

    /// What the caller's write did when it was made before.
    fn look(&self, caller: &Caller) -> Result<Option<(Claim, Done)>> {
        let Some(claim) = self.claim(caller) else {
            return Ok(None);
        };
        let done = self.vault.tokens.done(&claim)?;
        Ok(done.map(|done| (claim, done)))
    }

    /// The person whom this very call enrolled or changed before.
    pub fn person_before(
        &self,
        caller: &Caller,
        account: &Account,
        name: &CollectionName,
        id: &PersonId,
    ) -> Result<Option<Person>> {
        let Some((claim, done)) = self.look(caller)? else {
            return Ok(None);
        };
        let collection = self.collection(account, name);
        let collection = collection.map_err(|_| RequestError::TokenSpent)?;
        self.person_again(&claim, &done, &collection, id).map(Some)
    }

    pub(crate) fn person_again(
        &self,
        claim: &Claim,
        done: &Done,
        collection: &Collection,
        id: &PersonId,
    ) -> Result<Person> {
        let (Done::Kept { mark } | Done::Reduced { mark, .. }) = done else {
            return Err(RequestError::TokenSpent.into());
        };
        match self.person(collection, id) {
            Ok(person) if claim.mark(person.mark) == *mark => {
                claim.set_replayed();
                Ok(person)
            }
            // Somebody else's enrolment, or nobody's.
            Ok(_) | Err(Error::Request(RequestError::NoPerson | RequestError::NoCollection)) => {
                Err(RequestError::TokenSpent.into())
            }
            Err(error) => Err(error),
        }
    }

    /// The person of whom this very call deleted faces before, and the receipt.
    pub fn reduction_before(
        &self,
        caller: &Caller,
        account: &Account,
        name: &CollectionName,
        id: &PersonId,
    ) -> Result<Option<(Option<Person>, ErasureReceipt)>> {
        match self.look(caller)? {
            Some((claim, done)) => self.reduction_again(&claim, &done, account, name, id).map(Some),
            None => Ok(None),
        }
    }

    pub(crate) fn reduction_again(
        &self,
        claim: &Claim,
        done: &Done,
        account: &Account,
        name: &CollectionName,
        id: &PersonId,
    ) -> Result<(Option<Person>, ErasureReceipt)> {
        let Done::Reduced { faces, from, .. } = *done else {
            return Err(RequestError::TokenSpent.into());
        };
        let collection = self.collection(account, name);
        // The receipt outlives the person.
        let person = match collection.and_then(|own| self.person_again(claim, done, &own, id)) {
            Err(Error::Operator(error)) => return Err(error.into()),
            person => person.ok(),
        };
        claim.set_replayed();
        let places = [Where::named(name)];
        let receipt = match self.receipts_again(claim, &places, account, id, from)?.pop() {
            Some((_, _, receipt)) => receipt,
            None => self.receipt_late(claim, account, name, id, faces)?,
        };
        Ok((person, receipt))
    }

    /// The receipt of a reduction that a crash had kept out of the log.
    fn receipt_late(
        &self,
        claim: &Claim,
        account: &Account,
        name: &CollectionName,
        id: &PersonId,
        faces: u32,
    ) -> Result<ErasureReceipt> {
        let nonce = claim.nonce(&Where::named(name));
        let asked = Asked {
            subject: nonce.subject(account, Some(name), Some(id)),
            faces,
            owner: Some(self.vault.owner(account)),
            ..Asked::default()
        };
        // As if it had been logged in time: what was there before is purged from the data files.
        let touched = self.collection(account, name).ok().map(|collection| {
            let digest = self.digest(&collection, id);
            (Family::Persons, codec::person_key(collection.id, digest))
        });
        let issued = self.writer.alone(move |vault| vault.log_late(asked, touched))?;
        self.purger.wake();
        nonce.receipt(issued)
    }

    /// The erasure that this very call made before.
    pub fn erasure_before(
        &self,
        caller: &Caller,
        account: &Account,
        id: &PersonId,
    ) -> Result<Option<PersonErasure>> {
        match self.look(caller)? {
            Some((claim, done)) => self.erasure_again(&claim, &done, account, id).map(Some),
            None => Ok(None),
        }
    }

    pub(crate) fn erasure_again(
        &self,
        claim: &Claim,
        done: &Done,
        account: &Account,
        id: &PersonId,
    ) -> Result<PersonErasure> {
        let erased = self.erasures_again(claim, done, account, id)?.pop();
        Ok(erased.ok_or(RequestError::TokenSpent)?.erasure)
    }

    /// What this very call erased before, in one collection or several.
    pub(crate) fn erasures_again(
        &self,
        claim: &Claim,
        done: &Done,
        account: &Account,
        id: &PersonId,
    ) -> Result<Vec<ErasureIn>> {
        let Done::Erased { places, from } = done else {
            return Err(RequestError::TokenSpent.into());
        };
        claim.set_replayed();
        self.logged_erasures(claim, places, account, id, *from)
    }

    /// The erasures of somebody who is not there any more, if this very call is in the log but a crash kept
    /// its row from the disk.
    pub(crate) fn erasures_without_row(
        &self,
        claim: &Claim,
        places: &[Where],
        account: &Account,
        id: &PersonId,
    ) -> Result<Vec<ErasureIn>> {
        let from = self.vault.log.size().saturating_sub(LATEST_RECEIPTS);
        let found = self.logged_erasures(claim, places, account, id, from)?;
        if !found.is_empty() {
            claim.set_replayed();
        }
        Ok(found)
    }

    fn logged_erasures(
        &self,
        claim: &Claim,
        places: &[Where],
        account: &Account,
        id: &PersonId,
        from: u64,
    ) -> Result<Vec<ErasureIn>> {
        let found = self.receipts_again(claim, places, account, id, from)?;
        let erasures = found.into_iter().map(|(place, logged, receipt)| ErasureIn {
            collection: place.name(),
            erasure: PersonErasure {
                faces: logged.faces as usize,
                receipt,
            },
        });
        Ok(erasures.collect())
    }

    /// The receipts whose subjects only this call's nonces give, in the order of the places.
    fn receipts_again<'a>(
        &self,
        claim: &Claim,
        places: &'a [Where],
        account: &Account,
        id: &PersonId,
        from: u64,
    ) -> Result<Vec<(&'a Where, Receipt, ErasureReceipt)>> {
        let nonces = places.iter().map(|place| {
            let nonce = claim.nonce(place);
            let subject = nonce.subject(account, place.name().as_ref(), Some(id));
            (subject, (place, nonce))
        });
        let nonces: HashMap<_, _> = nonces.collect();
        let subjects = nonces.keys().copied().collect();
        let found = self.vault.log.about(&subjects, from, places.len())?;
        let receipts = found.into_iter().map(|(logged, issued)| {
            let (place, nonce) = &nonces[&logged.subject];
            Ok((*place, logged, nonce.receipt(Some(issued))?))
        });
        receipts.collect()
    }

    /// The collection that this very call made or changed before.
    pub fn collection_before(
        &self,
        caller: &Caller,
        account: &Account,
        name: &CollectionName,
    ) -> Result<Option<Arc<Collection>>> {
        match self.look(caller)? {
            Some((claim, done)) => self.collection_again(&claim, &done, account, name).map(Some),
            None => Ok(None),
        }
    }

    pub(crate) fn collection_again(
        &self,
        claim: &Claim,
        done: &Done,
        account: &Account,
        name: &CollectionName,
    ) -> Result<Arc<Collection>> {
        let found = self.collection(account, name);
        let found = found.ok().filter(|collection| {
            let mark = claim.mark(collection.id);
            exists(collection).is_ok() && *done == Done::Kept { mark }
        });
        let found = found.ok_or(RequestError::TokenSpent)?;
        claim.set_replayed();
        Ok(found)
    }

    /// What this very call erased before: all of it, or, where a crash cut it short, what the log has of it.
    pub(crate) fn collection_erasure_again(
        &self,
        claim: &Claim,
        done: Option<&Done>,
        account: &Account,
        name: &CollectionName,
    ) -> Result<Option<CollectionErasure>> {
        let latest = self.vault.log.size().saturating_sub(LATEST_RECEIPTS);
        let (persons, count, from) = match done {
            Some(Done::Collection {
                persons,
                receipts,
                from,
            }) => (*persons, *receipts as usize, *from),
            Some(_) => return Err(RequestError::TokenSpent.into()),
            None => (0, 0, latest),
        };
        let nonce = claim.nonce(&Where::named(name));
        let subjects = HashSet::from([nonce.subject(account, Some(name), None)]);
        let most = if count == 0 { usize::MAX } else { count };
        let found = self.vault.log.about(&subjects, from, most)?;
        if found.is_empty() {
            return Ok(None);
        }
        claim.set_replayed();
        let in_log: usize = found.iter().skip(1).map(|(logged, _)| logged.keys.len()).sum();
        let complete = count > 0;
        Ok(Some(CollectionErasure {
            persons: if complete { persons as usize } else { in_log },
            receipts: found
                .into_iter()
                .map(|(_, issued): (Receipt, Issued)| issued)
                .collect(),
            nonce: nonce.0,
        }))
    }
}
