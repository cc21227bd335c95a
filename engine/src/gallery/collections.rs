//! Collections made, changed and erased.

use std::sync::Arc;

use crate::call::Call;
use crate::engine::{CollectionChange, CollectionRef, Engine, NewCollection, PAGE_ITEMS_MAX};
use crate::gallery::Gallery;
use crate::gallery::collection::{Collection, CollectionInfo, CollectionSettings, exists};
use crate::gallery::collection_records::{ERASE_GROUP, Keyed, collection_binding, collection_records};
#[cfg(feature = "graph")]
use crate::gallery::measure::{MeasuredSlice, Measurement, Measuring};
use crate::gallery::storage::Storage;
use crate::guard::idempotency::key::Caller;
use crate::guard::idempotency::{Claim, Done, Where, nonce_of};
use crate::page::Page;
use likeness_store::codec::{Digest, Header};
use likeness_store::erasure_log::Issued;
use likeness_store::records::{Family, Scan};
use likeness_store::vault::{Asked, NewRecord, Plan, hidden};
use likeness_types::error::{OperatorError, RequestError, Result};
use likeness_types::names::{Account, CollectionName, RandomId};
use likeness_types::scheme::Scheme;
use likeness_types::span::Step;

/// A collection erased.
#[derive(Debug, Clone)]
pub struct CollectionErasure {
    /// People that went with it.
    pub persons: usize,
    /// One receipt for the collection, then one for every 4,096 people.
    pub receipts: Vec<Issued>,
    /// As of [`crate::ErasureReceipt::nonce`], for the account and the collection.
    pub nonce: [u8; 32],
}

impl Engine {
    /// Makes an empty collection.
    ///
    /// # Errors
    /// The name is taken, or a setting is out of its range.
    pub fn create_collection(
        &self,
        account: &Account,
        name: &CollectionName,
        new: &NewCollection,
        call: &mut Call,
    ) -> Result<CollectionRef> {
        let settings = CollectionSettings {
            bits: new.bits.unwrap_or_default(),
            threshold: new.threshold.unwrap_or(self.default_threshold()),
            faces_per_person_max: new
                .faces_per_person_max
                .unwrap_or(crate::gallery::collection::FACES_PER_PERSON_MAX),
            quality_level: new.quality_level,
            index: new.index,
            ef: new.ef.unwrap_or(crate::gallery::collection::EF_DEFAULT),
            consent_required: new.consent_required,
        }
        .checked()?;
        let group = account.as_str();
        let projection = self.ring.projection(group).ok_or_else(|| OperatorError::Keys {
            what: "projection key",
            expected: "a key group for the account".to_owned(),
            found: "none in the keyring".to_owned(),
        })?;
        let models = self.pipeline.scheme_parts();
        let scheme = Scheme {
            models: models.digest,
            models_name: models.name.clone(),
            bits: settings.bits,
            projection: projection.id,
        };
        let caller = call.caller();
        call.step(Step::Store, || {
            self.gallery
                .create_collection(account, name, scheme, settings, caller)
                .map(CollectionRef)
        })
    }

    /// Begins to measure how good a graph would be for a collection, or is; [`Engine::measure`] goes on.
    ///
    /// # Errors
    /// It is being measured already.
    #[cfg(feature = "graph")]
    pub fn begin_measuring(&self, collection: &CollectionRef, plan: Measurement) -> Result<Measuring> {
        Measuring::begin(&collection.0, plan)
    }

    /// Goes on for some 50 milliseconds.
    ///
    /// # Errors
    /// The collection went, or is searched in another way since it was begun.
    #[cfg(feature = "graph")]
    pub fn measure(&self, measuring: &mut Measuring, call: &mut Call) -> Result<MeasuredSlice> {
        call.step(Step::Match, || measuring.go_on())
    }

    /// The collection of that name.
    ///
    /// # Errors
    /// There is none.
    pub fn collection(&self, account: &Account, name: &CollectionName) -> Result<CollectionRef> {
        self.gallery.collection(account, name).map(CollectionRef)
    }

    /// The collections of an account that are seen, by name, beginning after `after`.
    pub fn list_collections(
        &self,
        account: &Account,
        after: Option<&CollectionName>,
        items_max: usize,
        seen: &dyn Fn(&CollectionName) -> bool,
    ) -> Page<CollectionInfo> {
        self.gallery
            .list_collections(account, after, items_max.clamp(1, PAGE_ITEMS_MAX), seen)
    }

    /// Changes settings. People who are enrolled stay as they are.
    ///
    /// # Errors
    /// A setting is out of its range.
    pub fn update_collection(
        &self,
        collection: &CollectionRef,
        change: CollectionChange,
        call: &mut Call,
    ) -> Result<()> {
        let caller = call.caller();
        let change = move |settings: CollectionSettings| {
            CollectionSettings {
                threshold: change.threshold.unwrap_or(settings.threshold),
                faces_per_person_max: change
                    .faces_per_person_max
                    .unwrap_or(settings.faces_per_person_max),
                quality_level: change.quality_level.unwrap_or(settings.quality_level),
                index: change.index.unwrap_or(settings.index),
                ef: change.ef.unwrap_or(settings.ef),
                consent_required: change.consent_required.unwrap_or(settings.consent_required),
                ..settings
            }
            .checked()
        };
        call.step(Step::Store, || {
            self.gallery.update_collection(&collection.0, change, caller)
        })
    }

    /// Erases a collection and everyone in it; answers how many people were.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn delete_collection(
        &self,
        account: &Account,
        name: &CollectionName,
        call: &mut Call,
    ) -> Result<CollectionErasure> {
        let caller = call.caller();
        call.read();
        call.step(Step::Store, || {
            self.gallery.delete_collection(account, name, caller)
        })
    }
}

impl Gallery {
    pub fn create_collection(
        &self,
        account: &Account,
        name: &CollectionName,
        scheme: Scheme,
        settings: CollectionSettings,
        caller: impl Into<Caller>,
    ) -> Result<Arc<Collection>> {
        let claim = self.claim(&caller.into());
        let digest = Digest::of_collection(&self.vault.ring.digest().secret, account, name);
        let collection = Arc::new(Collection::new(
            account.clone(),
            name.clone(),
            digest,
            scheme,
            settings,
        ));
        let collections = Arc::clone(&self.collections);
        let making = claim.clone();
        let accounts = Arc::clone(&self.accounts);
        let made = self.writer.alone(move |vault| {
            if let Some(done) = vault.tokens.done_before(making.as_ref())? {
                return Ok(Err(done));
            }
            accounts.refuse_closed(&collection.account)?;
            let (there, gaps) = collection_records(vault, &digest.0)?;
            if !there.is_empty() {
                return Err(RequestError::CollectionExists.into());
            }
            if gaps > 0 {
                return Err(hidden("creating a collection"));
            }
            let settings = collection.settings.read().clone();
            put_collection(vault, &collection, &settings, None, making.as_ref())?;
            let key = (collection.account.clone(), collection.name.clone());
            collections.write().insert(key, Arc::clone(&collection));
            Ok(Ok(collection))
        })?;
        match (made, claim) {
            (Err(done), Some(claim)) => self.collection_again(&claim, &done, account, name),
            (made, _) => made.map_err(|_| RequestError::TokenSpent.into()),
        }
    }

    /// Changes the settings that may change.
    pub fn update_collection(
        &self,
        collection: &Arc<Collection>,
        change: impl FnOnce(CollectionSettings) -> Result<CollectionSettings> + Send + 'static,
        caller: impl Into<Caller>,
    ) -> Result<()> {
        let claim = self.claim(&caller.into());
        let (changing, collection) = (claim.clone(), Arc::clone(collection));
        let (account, name) = (collection.account.clone(), collection.name.clone());
        let done = self.writer.alone(move |vault| {
            if let Some(done) = vault.tokens.done_before(changing.as_ref())? {
                return Ok(Some(done));
            }
            exists(&collection)?;
            let settings = change(collection.settings.read().clone())?;
            let (mut records, gaps) = collection_records(vault, &collection.digest.0)?;
            let record = records.pop();
            if record.is_none() && gaps > 0 {
                return Err(hidden("changing a collection"));
            }
            let header = record.and_then(|(_, record)| Header::parse(&record).ok());
            put_collection(vault, &collection, &settings, header.as_ref(), changing.as_ref())?;
            collection.set_settings(settings);
            Ok(None)
        })?;
        if let Some((claim, done)) = claim.zip(done) {
            self.collection_again(&claim, &done, &account, &name)?;
        }
        Ok(())
    }

    /// The deletion that this very call made before; none where there is something to delete, readable or not.
    pub fn collection_erased_before(
        &self,
        caller: &Caller,
        account: &Account,
        name: &CollectionName,
    ) -> Result<Option<CollectionErasure>> {
        // As below.
        let _one_at_a_time = self.deleting.lock();
        self.collection_gone(self.claim(caller).as_ref(), account, name)
    }

    fn collection_gone(
        &self,
        claim: Option<&Claim>,
        account: &Account,
        name: &CollectionName,
    ) -> Result<Option<CollectionErasure>> {
        if let Some(claim) = claim
            && let Some(done) = self.vault.tokens.done(claim)?
        {
            let before = self.collection_erasure_again(claim, Some(&done), account, name)?;
            return before.map(Some).ok_or_else(|| RequestError::TokenSpent.into());
        }
        let digest = Digest::of_collection(&self.vault.ring.digest().secret, account, name);
        let (records, gaps) = collection_records(&self.vault, &digest.0)?;
        if !records.is_empty() || gaps > 0 {
            return Ok(None);
        }
        let logged = match claim {
            Some(claim) => self.collection_erasure_again(claim, None, account, name)?,
            None => None,
        };
        logged.map(Some).ok_or_else(|| RequestError::NoCollection.into())
    }

    /// Erases a collection and everyone in it; answers how many people were. Its people go in groups,
    /// between which other changes run.
    pub fn delete_collection(
        &self,
        account: &Account,
        name: &CollectionName,
        caller: impl Into<Caller>,
    ) -> Result<CollectionErasure> {
        // Whoever is told that there is no such collection may believe that nobody is left of it either.
        let _one_at_a_time = self.deleting.lock();
        let caller = caller.into();
        let claim = self.claim(&caller);
        if let Some(before) = self.collection_gone(claim.as_ref(), account, name)? {
            return Ok(before);
        }
        let nonce = nonce_of(claim.as_ref(), &Where::named(name));
        let asked = Asked {
            request: caller.request,
            subject: nonce.subject(account, Some(name), None),
            owner: Some(self.vault.owner(account)),
            ..Asked::default()
        };
        // ORDER: the collection before its people. A crash between leaves people of no collection, whom the
        // next start erases; the other order could leave half a collection serving.
        let gone = self.delete_collection_alone(account, name, asked, claim.clone())?;
        let from = gone.receipt.sequence;
        let (mut persons, mut receipts, mut hides) = (0, vec![gone.receipt], false);
        for id in gone.ids {
            let mut after = Vec::new();
            loop {
                let id = id.clone();
                let group = self
                    .writer
                    .alone(move |vault| erase_group_of(vault, &id, &after, asked))?;
                let Some(group) = group else { break };
                persons += group.persons;
                receipts.push(group.receipt);
                hides |= group.hides;
                after = group.last;
            }
        }
        // Whoever can be read is erased; nobody is told that everybody is.
        if hides {
            self.purger.wake();
            return Err(hidden("erasing a collection"));
        }
        let count = receipts.len();
        self.writer.alone(move |vault| {
            if let Some(claim) = &claim {
                note_all_erased(vault, claim, persons, count, from)?;
            }
            vault.advance_anchor()
        })?;
        self.purger.wake();
        if let Some(collection) = gone.collection {
            collection.readers.wait_for_older();
        }
        Ok(CollectionErasure {
            persons,
            receipts,
            nonce: nonce.0,
        })
    }

    /// Erases a collection's own record, and overwrites its faces in memory.
    fn delete_collection_alone(
        &self,
        account: &Account,
        name: &CollectionName,
        asked: Asked,
        claim: Option<Claim>,
    ) -> Result<Gone> {
        let digest = Digest::of_collection(&self.vault.ring.digest().secret, account, name);
        let key = (account.clone(), name.clone());
        let collections = Arc::clone(&self.collections);
        self.writer.alone(move |vault| {
            let (records, gaps) = collection_records(vault, &digest.0)?;
            if records.is_empty() {
                return Err(match gaps {
                    0 => RequestError::NoCollection.into(),
                    // It may be there.
                    _ => hidden("erasing a collection"),
                });
            }
            let ids = records.iter().map(|(key, _)| key[16..].to_vec()).collect();
            let receipt = erase_collections(vault, records, asked, claim.as_ref())?;
            // ORDER: store before memory: a refused deletion leaves the collection as it was.
            let collection = collections.write().remove(&key);
            if let Some(collection) = &collection {
                collection.set_deleted();
            }
            Ok(Gone {
                ids,
                collection,
                receipt,
            })
        })
    }
}

fn put_collection(
    vault: &Storage,
    collection: &Collection,
    settings: &CollectionSettings,
    previous: Option<&Header>,
    claim: Option<&Claim>,
) -> Result<()> {
    let contents = collection.to_contents(settings);
    let record = NewRecord {
        family: Family::Collections,
        key: [collection.digest.0, collection.id.0].concat(),
        binding: collection_binding(vault.ring.deployment, collection.digest, collection.id),
        scheme: collection.scheme.id(),
        log: RandomId::default(),
        contents: &contents,
    };
    let mut plan = Plan::default();
    vault.plan_put(&mut plan, &record, previous)?;
    if let Some(claim) = claim {
        let mark = claim.mark(collection.id);
        vault.tokens.plan_done(&mut plan, claim, Done::Kept { mark });
    }
    vault.commit(plan)
}

/// Until this is said, whoever asks again is told what the log has.
fn note_all_erased(vault: &Storage, claim: &Claim, persons: usize, receipts: usize, from: u64) -> Result<()> {
    let mut plan = Plan::default();
    let done = Done::Collection {
        persons: persons as u64,
        receipts: u32::try_from(receipts).unwrap_or(u32::MAX),
        from,
    };
    vault.tokens.plan_done_anew(&mut plan, claim, done);
    vault.commit(plan)
}

pub(crate) fn erase_collections(
    vault: &Storage,
    records: Vec<Keyed>,
    asked: Asked,
    claim: Option<&Claim>,
) -> Result<Issued> {
    let mut plan = Plan::default();
    let ticket = plan.begin_erasure(asked);
    for (key, record) in records {
        let header = Header::parse(&record).ok();
        vault.plan_erase(&mut plan, Family::Collections, key, header.as_ref())?;
    }
    if !vault.plan_unnamed_keys(&mut plan)? {
        return Err(hidden("erasing a collection"));
    }
    if let Some(claim) = claim {
        let from = vault.log.size();
        let done = Done::Collection {
            persons: 0,
            receipts: 0,
            from,
        };
        vault.tokens.plan_done(&mut plan, claim, done);
    }
    vault.commit(plan)?;
    Ok(ticket.get().cloned().expect("a commit issues its receipts"))
}

/// A collection whose people have yet to go.
struct Gone {
    /// What their records' keys begin with: one id, unless the disk is damaged.
    ids: Vec<Vec<u8>>,
    /// `None` if it could not be read.
    collection: Option<Arc<Collection>>,
    receipt: Issued,
}

/// People erased together.
pub(crate) struct Group {
    pub persons: usize,
    /// The key of the last of them.
    pub last: Vec<u8>,
    /// Whether somebody may be left among them whom the disk hides.
    pub hides: bool,
    receipt: Issued,
}

/// Erases the next people whose keys begin with a collection's id, if there are any.
pub(crate) fn erase_group_of(
    vault: &Storage,
    collection: &[u8],
    after: &[u8],
    asked: Asked,
) -> Result<Option<Group>> {
    let mut group = Vec::new();
    let gaps = vault.scan(Family::Persons, collection, after, &mut |key, record| {
        group.push((key.to_vec(), Header::parse(record).ok()));
        if group.len() < ERASE_GROUP {
            Scan::Continue
        } else {
            Scan::Stop
        }
    })?;
    let (persons, Some((last, _))) = (group.len(), group.last().cloned()) else {
        return match gaps {
            0 => Ok(None),
            _ => Err(hidden("erasing people")),
        };
    };
    let mut plan = Plan::default();
    let ticket = plan.begin_erasure(asked);
    for (key, header) in group {
        vault.plan_erase(&mut plan, Family::Persons, key, header.as_ref())?;
    }
    let hides = !vault.plan_unnamed_keys(&mut plan)? || gaps > 0;
    vault.commit(plan)?;
    let receipt = ticket.get().cloned().expect("a commit issues its receipts");
    Ok(Some(Group {
        persons,
        last,
        hides,
        receipt,
    }))
}
