//! Calls under an idempotency token that were made before: answered before any work is done for them.

use crate::access_log::row::Part;
use crate::call::Call;
use crate::engine::{CollectionRef, Engine};
use crate::erasure_receipt::{ErasureReceipt, PersonErasure};
use crate::gallery::collections::CollectionErasure;
use crate::guard::idempotency::key::Caller;
use likeness_types::error::Result;
use likeness_types::names::{Account, CollectionName, PersonId};
use likeness_types::person::Person;
use likeness_types::span::Step;

impl Engine {
    /// The person whom this very call enrolled or changed before, as kept now.
    ///
    /// # Errors
    /// Another call was made under the token, or the person was erased since.
    pub fn person_before(
        &self,
        account: &Account,
        collection: &CollectionName,
        id: &PersonId,
        call: &mut Call,
    ) -> Result<Option<Person>> {
        if !call.is_once() {
            return Ok(None);
        }
        let caller = self.reading(account, collection, call);
        let person = call.step(Step::Store, || {
            self.gallery.person_before(&caller, account, collection, id)
        })?;
        self.note_again(account, collection, person.as_ref(), call);
        Ok(person)
    }

    /// The person of whom this very call deleted faces before, if there still is one, and the same receipt.
    ///
    /// # Errors
    /// As of [`Engine::person_before`].
    pub fn reduction_before(
        &self,
        account: &Account,
        collection: &CollectionName,
        id: &PersonId,
        call: &mut Call,
    ) -> Result<Option<(Option<Person>, ErasureReceipt)>> {
        if !call.is_once() {
            return Ok(None);
        }
        let caller = self.reading(account, collection, call);
        let reduced = call.step(Step::Store, || {
            self.gallery.reduction_before(&caller, account, collection, id)
        })?;
        let person = reduced.as_ref().and_then(|(person, _)| person.as_ref());
        self.note_again(account, collection, person, call);
        Ok(reduced)
    }

    /// The erasure that this very call made before, with the same receipt and nonce.
    ///
    /// # Errors
    /// Another call was made under the token.
    pub fn erasure_before(
        &self,
        account: &Account,
        _collection: &CollectionName,
        id: &PersonId,
        call: &mut Call,
    ) -> Result<Option<PersonErasure>> {
        let caller = call.caller();
        call.step(Step::Store, || self.gallery.erasure_before(&caller, account, id))
    }

    /// The collection that this very call made or changed before, as it is now.
    ///
    /// # Errors
    /// Another call was made under the token, or the collection was erased since.
    pub fn collection_before(
        &self,
        account: &Account,
        name: &CollectionName,
        call: &mut Call,
    ) -> Result<Option<CollectionRef>> {
        if !call.is_once() {
            return Ok(None);
        }
        let caller = call.caller();
        let before = call.step(Step::Store, || {
            self.gallery.collection_before(&caller, account, name)
        })?;
        Ok(before.map(CollectionRef))
    }

    /// The deletion of a collection that this very call made before; none where there is something to delete.
    ///
    /// # Errors
    /// There is nothing to delete, and nothing was deleted under the token; or another call was made under it.
    pub fn collection_erased_before(
        &self,
        account: &Account,
        name: &CollectionName,
        call: &mut Call,
    ) -> Result<Option<CollectionErasure>> {
        let caller = call.caller();
        call.step(Step::Store, || {
            self.gallery.collection_erased_before(&caller, account, name)
        })
    }

    fn note_again(
        &self,
        account: &Account,
        collection: &CollectionName,
        person: Option<&Person>,
        call: &mut Call,
    ) {
        if let Some((person, own)) = person.zip(self.gallery.collection(account, collection).ok()) {
            self.note(call, &own, person, Part::Subject);
        }
    }

    /// ORDER: a reader before the first look, so that an erasure waits for the reply.
    fn reading(&self, account: &Account, collection: &CollectionName, call: &mut Call) -> Caller {
        if let Ok(collection) = self.gallery.collection(account, collection) {
            call.reads(&collection.readers);
        }
        call.caller()
    }
}
