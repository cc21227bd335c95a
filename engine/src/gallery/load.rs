//! A start: everything in memory rebuilt from disk, and everything a crash left unfinished finished.
//!
//! - a record whose key is gone was being erased: it goes;
//! - people of a collection that is gone were being erased: they go;
//! - a key that no record names was being written or superseded: it is overwritten;
//! - a record that cannot be read marks that person damaged, and nobody else.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::error::Result;
use crate::gallery::codec::{self, Digest, Header};
use crate::gallery::collection::Collection;
use crate::gallery::records::{Family, Scan};
use crate::gallery::vault::{Found, Plan, Vault};
use crate::gallery::{ERASE_GROUP, collection_binding};
use crate::names::{Account, CollectionName, RandomId};

/// What a start found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Collections that serve.
    pub collections: usize,
    /// Collections whose records cannot be read; their people are kept and not served.
    pub damaged_collections: usize,
    /// People that serve.
    pub persons: usize,
    /// People whose records cannot be read.
    pub damaged_persons: usize,
    /// Erasures that a crash had interrupted, finished now.
    pub erasures_finished: usize,
    /// Keys without records, overwritten now.
    pub keys_overwritten: usize,
}

type Collections = BTreeMap<(Account, CollectionName), Arc<Collection>>;

struct Loader<'a> {
    vault: &'a Vault,
    report: LoadReport,
    by_id: HashMap<RandomId, Arc<Collection>>,
    damaged: HashSet<RandomId>,
    named_slots: HashSet<u32>,
    all_named: bool,
    erase: Plan,
    erasing: usize,
}

pub(super) fn load(vault: &Vault) -> Result<(Collections, LoadReport)> {
    let mut loader = Loader {
        vault,
        report: LoadReport::default(),
        by_id: HashMap::new(),
        damaged: HashSet::new(),
        named_slots: HashSet::new(),
        all_named: true,
        erase: Plan::default(),
        erasing: 0,
    };
    loader.each_record(Family::Collections, Loader::collection)?;
    loader.each_record(Family::Persons, Loader::person)?;
    loader.report.keys_overwritten = vault.settle_slots(&loader.named_slots, loader.all_named)?;
    loader.report.collections = loader.by_id.len();
    loader.report.damaged_collections = loader.damaged.len();
    let key = |c: &Arc<Collection>| (c.account.clone(), c.name.clone());
    let collections = loader.by_id.values().map(|c| (key(c), Arc::clone(c))).collect();
    Ok((collections, loader.report))
}

impl Loader<'_> {
    fn each_record(
        &mut self,
        family: Family,
        read: fn(&mut Self, Vec<u8>, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let vault = self.vault;
        let mut outcome = Ok(());
        vault.scan(family, &[], &[], &mut |key, record| {
            outcome = read(self, key.to_vec(), record);
            if outcome.is_ok() {
                Scan::Continue
            } else {
                Scan::Stop
            }
        })?;
        outcome?;
        self.finish_erasures()
    }

    fn collection(&mut self, key: Vec<u8>, record: &[u8]) -> Result<()> {
        let Some((digest, id)) = split(&key) else {
            return self.erase(Family::Collections, key, None);
        };
        let binding = collection_binding(self.vault.ring.deployment, digest, id);
        match self.vault.open(record, &binding)? {
            Found::Nothing => self.erase(Family::Collections, key, None),
            Found::Damaged(header) => {
                self.name(header.as_ref());
                self.damaged.insert(id);
                Ok(())
            }
            Found::Open { header, contents } => {
                self.name(Some(&header));
                match Collection::from_contents(digest, &contents) {
                    Ok(collection) => drop(self.by_id.insert(id, Arc::new(collection))),
                    Err(codec::Unreadable) => drop(self.damaged.insert(id)),
                }
                Ok(())
            }
        }
    }

    fn person(&mut self, key: Vec<u8>, record: &[u8]) -> Result<()> {
        let Some((id, digest)) = split(&key).map(|(id, digest)| (RandomId(id.0), Digest(digest.0))) else {
            return self.erase(Family::Persons, key, None);
        };
        let header = Header::parse(record).ok();
        let Some(collection) = self.by_id.get(&id).cloned() else {
            if self.damaged.contains(&id) {
                self.name(header.as_ref());
                return Ok(());
            }
            return self.erase(Family::Persons, key, header);
        };
        let binding = collection.person_binding(self.vault.ring.deployment, digest);
        let person = match self.vault.open(record, &binding)? {
            Found::Nothing => return self.erase(Family::Persons, key, None),
            Found::Damaged(_) => None,
            Found::Open { contents, .. } => codec::person_from_contents(&contents).ok(),
        };
        self.name(header.as_ref());
        let mut people = collection.people.write();
        match person {
            Some(person) => {
                people.set(digest, &person, &collection.scheme);
                self.report.persons += 1;
            }
            None => {
                people.set_damaged(digest);
                self.report.damaged_persons += 1;
            }
        }
        Ok(())
    }

    /// Remembers which slot a record names, or that it could not say.
    fn name(&mut self, header: Option<&Header>) {
        match header {
            Some(header) => drop(self.named_slots.insert(header.slot)),
            None => self.all_named = false,
        }
    }

    fn erase(&mut self, family: Family, key: Vec<u8>, header: Option<Header>) -> Result<()> {
        self.vault
            .plan_erase(&mut self.erase, family, key, header.as_ref());
        self.erasing += 1;
        self.report.erasures_finished += 1;
        if self.erasing >= ERASE_GROUP {
            self.finish_erasures()
        } else {
            Ok(())
        }
    }

    fn finish_erasures(&mut self) -> Result<()> {
        self.erasing = 0;
        let plan = std::mem::take(&mut self.erase);
        if plan.is_empty() {
            Ok(())
        } else {
            self.vault.commit(plan)
        }
    }
}

/// A record key is two 16-byte names.
fn split(key: &[u8]) -> Option<(Digest, RandomId)> {
    let (first, second) = key.split_first_chunk::<16>()?;
    Some((Digest(*first), RandomId(second.try_into().ok()?)))
}
