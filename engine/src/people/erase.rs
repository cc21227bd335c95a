//! Erasing a person, or some of the faces, with a receipt.

use std::sync::Arc;

use crate::access_log::row::Part;
use crate::call::Call;
use crate::engine::{CollectionRef, Engine};
use crate::erasure_receipt::{ErasureReceipt, Nonce, PersonErasure};
use crate::gallery::Gallery;
use crate::gallery::collection::Collection;
use crate::gallery::commit::edit::{Changed, Current, Edit};
use crate::guard::idempotency::key::Caller;
use crate::guard::idempotency::{Claim, Where, nonce_of};
use crate::people::rules::present;
use likeness_store::vault::Asked;
use likeness_types::error::{RequestError, Result};
use likeness_types::names::{FaceId, PersonId};
use likeness_types::person::{Person, Timestamp};
use likeness_types::span::Step;

impl Engine {
    /// Erases a person; answers how many faces went. When it returns, the key of the record is
    /// overwritten and synced, the bits in memory are overwritten, and no later search finds the
    /// person. Not reached: backups, snapshots, and storage that does not overwrite in place.
    ///
    /// # Errors
    /// Nobody has that PersonID.
    pub fn delete_person(
        &self,
        collection: &CollectionRef,
        id: &PersonId,
        call: &mut Call,
    ) -> Result<PersonErasure> {
        let caller = call.caller();
        call.read();
        call.step(Step::Store, || self.gallery.delete(&collection.0, id, caller))
    }

    /// Deletes faces, but never a person's last; they are no longer readable when it returns. Answers
    /// what is kept, unless the person was erased meanwhile: the receipt outlives that.
    ///
    /// # Errors
    /// Nobody has that PersonID, a face does not exist, or none would be left.
    pub fn delete_faces(
        &self,
        collection: &CollectionRef,
        id: &PersonId,
        faces: Vec<FaceId>,
        call: &mut Call,
    ) -> Result<(Option<Person>, ErasureReceipt)> {
        let caller = call.caller();
        call.read();
        let (person, receipt) = call.step(Step::Store, || {
            self.gallery.delete_faces(&collection.0, id, faces, caller)
        })?;
        call.reads(&collection.0.readers);
        let still_there = self.gallery.still_there(&collection.0, id).is_ok();
        let person = person.filter(|_| still_there);
        if let Some(person) = &person {
            self.note(call, &collection.0, person, Part::Subject);
        }
        Ok((person, receipt))
    }
}

impl Gallery {
    /// Erases a person: the erasure is logged, the data key is overwritten and synced, the record is
    /// deleted, the bits in the index are overwritten; then the purge follows.
    pub fn delete(
        &self,
        collection: &Arc<Collection>,
        id: &PersonId,
        caller: impl Into<Caller>,
    ) -> Result<PersonErasure> {
        let caller = caller.into();
        let claim = self.claim(&caller);
        let (mut asked, nonce) = asked(collection, id, &caller, claim.as_ref());
        let (count, faces) = std::sync::mpsc::sync_channel(1);
        let digest = self.digest(collection, id);
        let changed = self
            .writer
            .change(collection, digest, claim.clone(), move |current| {
                let faces = match current {
                    Current::Absent => return Err(RequestError::NoPerson.into()),
                    Current::Present(person) => person.faces.len(),
                    Current::Damaged => 0,
                };
                asked.faces = u32::try_from(faces).unwrap_or(u32::MAX);
                // Room for the one number was made above.
                let _ = count.send(faces);
                Ok(Edit::Erase(asked))
            });
        let changed = match (changed, claim) {
            (Err(crate::Error::Request(RequestError::NoPerson)), Some(claim)) => {
                let places = [Where::named(&collection.name)];
                let logged = self
                    .erasures_without_row(&claim, &places, &collection.account, id)?
                    .pop();
                return Ok(logged.ok_or(RequestError::NoPerson)?.erasure);
            }
            (Ok(Changed { done: Some(done), .. }), Some(claim)) => {
                return self.erasure_again(&claim, &done, &collection.account, id);
            }
            (changed, _) => changed?,
        };
        self.purger.wake();
        // ORDER: carried out, then waited, then acknowledged: a reply that began before does not come
        // after. Not on the writer's thread, where it would hold up everyone's changes.
        collection.readers.wait_for_older();
        Ok(PersonErasure {
            faces: faces.recv().unwrap_or(0),
            receipt: nonce.receipt(changed.receipt)?,
        })
    }

    /// Deletes faces of a person, but never the last.
    pub fn delete_faces(
        &self,
        collection: &Arc<Collection>,
        id: &PersonId,
        faces: Vec<FaceId>,
        caller: impl Into<Caller>,
    ) -> Result<(Option<Person>, ErasureReceipt)> {
        let caller = caller.into();
        let claim = self.claim(&caller);
        let (mut asked, nonce) = asked(collection, id, &caller, claim.as_ref());
        let (digest, now) = (self.digest(collection, id), self.eraser.clock.now());
        let changed = self
            .writer
            .change(collection, digest, claim.clone(), move |current| {
                if faces.is_empty() {
                    return Err(RequestError::invalid("face_ids", "at least one face", "none").into());
                }
                let mut person = present(current, now)?;
                if !faces
                    .iter()
                    .all(|id| person.faces.iter().any(|face| face.id == *id))
                {
                    return Err(RequestError::NoFaceOfThatId.into());
                }
                person.faces.retain(|face| !faces.contains(&face.id));
                if person.faces.is_empty() {
                    return Err(RequestError::LastFace.into());
                }
                asked.faces = u32::try_from(faces.len()).unwrap_or(u32::MAX);
                person.updated = Timestamp::now();
                Ok(Edit::Reduce(person, asked))
            })?;
        if let Some((claim, done)) = claim.zip(changed.done) {
            return self.reduction_again(&claim, &done, &collection.account, &collection.name, id);
        }
        self.purger.wake();
        // ORDER: as in `delete`.
        collection.readers.wait_for_older();
        Ok((changed.person, nonce.receipt(changed.receipt)?))
    }
}

/// Who asks for an erasure of whom, and the nonce that alone can tell whom a receipt is about.
fn asked(collection: &Collection, id: &PersonId, caller: &Caller, claim: Option<&Claim>) -> (Asked, Nonce) {
    let nonce = nonce_of(claim, &Where::named(&collection.name));
    let asked = Asked {
        request: caller.request,
        subject: nonce.subject(&collection.account, Some(&collection.name), Some(id)),
        ..Asked::default()
    };
    (asked, nonce)
}
