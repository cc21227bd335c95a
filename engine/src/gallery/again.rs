//! What an earlier call under the same token did, answered again from what is there now.

use std::collections::HashSet;
use std::sync::Arc;

use crate::error::{Error, RequestError, Result};
use crate::gallery::collection::Collection;
use crate::gallery::collections::CollectionErasure;
use crate::gallery::erasures::Issued;
use crate::gallery::persons::{ErasureReceipt, PersonErasure};
use crate::gallery::tokens::{Claim, Done};
use crate::gallery::vault::Asked;
use crate::gallery::{Gallery, exists};
use crate::names::{Account, CollectionName, PersonId};
use crate::once::Caller;
use crate::person::Person;
use crate::receipts::Receipt;

/// Latest receipts that are looked through for one that has no row: a crash between the log and the row, in
/// which at most one group of changes is, and what the start and its purge logged since.
const LATEST_RECEIPTS: u64 = 1024;

impl Gallery {
    pub(super) fn claim(&self, caller: &Caller) -> Option<Claim> {
        let once = caller.once.as_ref()?;
        Some(Claim::new(&self.vault.ring.digest().secret, once))
    }

    /// What the caller's write did when it was made before.
    fn look(&self, caller: &Caller) -> Result<Option<(Claim, Done)>> {
        let Some(claim) = self.claim(caller) else {
            return Ok(None);
        };
        let done = self.vault.done(&claim)?;
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

    pub(super) fn person_again(
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
    ) -> Result<Option<(Person, ErasureReceipt)>> {
        let Some((claim, done)) = self.look(caller)? else {
            return Ok(None);
        };
        let collection = self.collection(account, name);
        let collection = collection.map_err(|_| RequestError::TokenSpent)?;
        self.reduction_again(&claim, &done, &collection, id).map(Some)
    }

    pub(super) fn reduction_again(
        &self,
        claim: &Claim,
        done: &Done,
        collection: &Collection,
        id: &PersonId,
    ) -> Result<(Person, ErasureReceipt)> {
        let Done::Reduced { faces, from, .. } = *done else {
            return Err(RequestError::TokenSpent.into());
        };
        let person = self.person_again(claim, done, collection, id)?;
        let (account, name) = (collection.account.clone(), collection.name.clone());
        let logged = self.receipt_again(claim, &account, &name, id, from)?;
        if let Some((_, receipt)) = logged {
            return Ok((person, receipt));
        }
        let nonce = claim.nonce(name.as_str().as_bytes());
        let asked = Asked {
            subject: nonce.subject(&account, &name, Some(id)),
            faces,
            ..Asked::default()
        };
        let issued = self.writer.alone(move |vault| vault.log_late(asked))?;
        self.purger.wake();
        Ok((person, nonce.receipt(issued)?))
    }

    /// The erasure that this very call made before.
    pub fn erasure_before(
        &self,
        caller: &Caller,
        account: &Account,
        name: &CollectionName,
        id: &PersonId,
    ) -> Result<Option<PersonErasure>> {
        match self.look(caller)? {
            Some((claim, done)) => self.erasure_again(&claim, &done, account, name, id).map(Some),
            None => Ok(None),
        }
    }

    pub(super) fn erasure_again(
        &self,
        claim: &Claim,
        done: &Done,
        account: &Account,
        name: &CollectionName,
        id: &PersonId,
    ) -> Result<PersonErasure> {
        let Done::Erased { from, .. } = *done else {
            return Err(RequestError::TokenSpent.into());
        };
        let erasure = self.logged_erasure(claim, account, name, id, from)?;
        Ok(erasure.ok_or(RequestError::TokenSpent)?)
    }

    /// The erasure of a person who is not there any more, if this very call is in the log but a crash kept
    /// its row from the disk.
    pub(super) fn erasure_without_row(
        &self,
        claim: &Claim,
        collection: &Collection,
        id: &PersonId,
    ) -> Result<Option<PersonErasure>> {
        let from = self.vault.log.size().saturating_sub(LATEST_RECEIPTS);
        self.logged_erasure(claim, &collection.account, &collection.name, id, from)
    }

    fn logged_erasure(
        &self,
        claim: &Claim,
        account: &Account,
        name: &CollectionName,
        id: &PersonId,
        from: u64,
    ) -> Result<Option<PersonErasure>> {
        let found = self.receipt_again(claim, account, name, id, from)?;
        Ok(found.map(|(logged, receipt)| {
            claim.set_replayed();
            PersonErasure {
                faces: logged.faces as usize,
                receipt,
            }
        }))
    }

    /// The receipt whose subject only this call's nonce gives.
    fn receipt_again(
        &self,
        claim: &Claim,
        account: &Account,
        name: &CollectionName,
        id: &PersonId,
        from: u64,
    ) -> Result<Option<(Receipt, ErasureReceipt)>> {
        let nonce = claim.nonce(name.as_str().as_bytes());
        let subjects = HashSet::from([nonce.subject(account, name, Some(id))]);
        let found = self.vault.log.about(&subjects, from, 1)?.pop();
        found
            .map(|(logged, issued)| Ok((logged, nonce.receipt(Some(issued))?)))
            .transpose()
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

    pub(super) fn collection_again(
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
    pub(super) fn collection_erasure_again(
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
        let nonce = claim.nonce(name.as_str().as_bytes());
        let subjects = HashSet::from([nonce.subject(account, name, None)]);
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
