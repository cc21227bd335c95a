//! A start: everything in memory rebuilt from disk, and everything a crash left unfinished finished.
//!
//! - a record whose key is gone was being erased: it goes;
//! - people of a collection that is gone were being erased: they go;
//! - a key that no record names was being written or superseded: it is overwritten;
//! - a record that cannot be read marks that person damaged, and nobody else.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::error::{OperatorError, Result};
use crate::gallery::Collections;
use crate::gallery::codec::{self, Digest, Header};
use crate::gallery::collection::Collection;
use crate::gallery::collections::{ERASE_GROUP, collection_binding};
use crate::gallery::records::{Family, Scan};
use crate::gallery::vault::{Asked, Found, Named, Plan, Vault};
use crate::names::RandomId;

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
    /// People who were past their expiry, erased now.
    pub expired: usize,
    /// Keys that the erasure log says are destroyed and that an older copy of the data, or a crash, had
    /// left: overwritten now.
    pub erasures_repeated: usize,
    /// Erasures that a crash had interrupted, finished now.
    pub erasures_finished: usize,
    /// Damaged places of the disk that were passed over: the people in them are not found by a search,
    /// and are reported as damaged to whoever asks for them by PersonID.
    pub gaps: usize,
    /// Keys without records, overwritten now.
    pub keys_overwritten: usize,
}

impl LoadReport {
    /// Something was removed whose bytes may lie anywhere in the data files.
    pub(super) fn removed_anything(&self) -> bool {
        self.erasures_repeated + self.erasures_finished + self.keys_overwritten > 0
    }
}

struct Loader<'a> {
    vault: &'a Vault,
    report: LoadReport,
    destroyed: &'a HashSet<RandomId>,
    by_id: HashMap<RandomId, Arc<Collection>>,
    damaged: HashSet<RandomId>,
    named: Named,
    /// Records to be erased, and the key that each still has.
    erasures: Vec<(Family, Vec<u8>, Option<Header>)>,
    /// Records whose keys are gone although the log does not say so.
    lost: usize,
}

/// Keys without records, and records without keys, that crashes may leave: more than the largest
/// group of either. Beyond it, records and slots are not of one piece.
const LEFT_BEHIND_MAX: usize = 2 * ERASE_GROUP;

pub(super) fn load(vault: &Vault, destroyed: &HashSet<RandomId>) -> Result<(Collections, LoadReport)> {
    let mut loader = Loader {
        vault,
        report: LoadReport {
            erasures_repeated: vault.empty_destroyed(destroyed)?,
            ..LoadReport::default()
        },
        destroyed,
        by_id: HashMap::new(),
        damaged: HashSet::new(),
        named: Named::default(),
        erasures: Vec::new(),
        lost: 0,
    };
    loader.each_record(Family::Collections, Loader::collection)?;
    loader.each_record(Family::Persons, Loader::person)?;
    // ORDER: everything is read before anything is overwritten, so that parts that do not belong
    // together are refused as they were found.
    loader.refuse_lost_keys()?;
    loader.report.keys_overwritten = vault.settle_slots(&loader.named, LEFT_BEHIND_MAX)?;
    loader.finish_erasures()?;
    vault.sweep_all_tokens()?;
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
        let gaps = vault.scan(family, &[], &[], &mut |key, record| {
            outcome = read(self, key.to_vec(), record);
            if outcome.is_ok() {
                Scan::Continue
            } else {
                Scan::Stop
            }
        })?;
        self.named.note_gaps(gaps);
        self.report.gaps += gaps;
        outcome
    }

    fn collection(&mut self, key: Vec<u8>, record: &[u8]) -> Result<()> {
        let Some((digest, id)) = split(&key) else {
            self.erase(Family::Collections, key, None);
            return Ok(());
        };
        let binding = collection_binding(self.vault.ring.deployment, digest, id);
        match self.vault.open(record, &binding)? {
            Found::Nothing => self.forget(Family::Collections, key, record),
            Found::Damaged(header) => {
                self.named.note(header.as_ref());
                self.damaged.insert(id);
            }
            Found::Open { header, contents } => {
                self.named.note(Some(&header));
                match Collection::from_contents(digest, &contents) {
                    Ok(collection) => drop(self.by_id.insert(id, Arc::new(collection))),
                    Err(codec::Unreadable) => drop(self.damaged.insert(id)),
                }
            }
        }
        Ok(())
    }

    fn person(&mut self, key: Vec<u8>, record: &[u8]) -> Result<()> {
        let Some((id, digest)) = split(&key).map(|(id, digest)| (RandomId(id.0), Digest(digest.0))) else {
            self.erase(Family::Persons, key, None);
            return Ok(());
        };
        let header = Header::parse(record).ok();
        let Some(collection) = self.by_id.get(&id).cloned() else {
            // Behind a gap may be this person's collection: then it is damaged, and nobody is erased.
            if self.damaged.contains(&id) || self.report.gaps > 0 {
                self.named.note(header.as_ref());
            } else {
                // Named, so that its key goes with the record and does not count as left behind.
                header.iter().for_each(|header| self.named.note(Some(header)));
                let live = header.filter(|header| !self.destroyed.contains(&header.data_key));
                self.erase(Family::Persons, key, live);
            }
            return Ok(());
        };
        let binding = collection.person_binding(self.vault.ring.deployment, digest);
        let person = match self.vault.open(record, &binding)? {
            Found::Nothing => {
                self.forget(Family::Persons, key, record);
                return Ok(());
            }
            Found::Damaged(_) => None,
            Found::Open { contents, .. } => codec::person_from_contents(&contents).ok(),
        };
        self.named.note(header.as_ref());
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

    /// A record whose key is gone.
    fn forget(&mut self, family: Family, key: Vec<u8>, record: &[u8]) {
        let logged = Header::parse(record).is_ok_and(|header| self.destroyed.contains(&header.data_key));
        self.lost += usize::from(!logged);
        self.erase(family, key, None);
    }

    fn erase(&mut self, family: Family, key: Vec<u8>, header: Option<Header>) {
        self.erasures.push((family, key, header));
    }

    fn refuse_lost_keys(&self) -> Result<()> {
        let lost = self.lost;
        if lost <= LEFT_BEHIND_MAX {
            return Ok(());
        }
        Err(OperatorError::Format {
            what: "slot file",
            expected: format!("keys for all but {LEFT_BEHIND_MAX} of the records"),
            found: format!(
                "{lost} records without keys; a slot file that does not belong to the records, or a part of it"
            ),
        }
        .into())
    }

    fn finish_erasures(&mut self) -> Result<()> {
        self.report.erasures_finished = self.erasures.len();
        if self.erasures.iter().any(|(_, _, header)| header.is_none()) {
            self.vault.log_leftovers()?;
        }
        for group in self.erasures.chunks(ERASE_GROUP) {
            let mut plan = Plan::default();
            if group.iter().any(|(_, _, header)| header.is_some()) {
                plan.begin_erasure(Asked::default());
            }
            for (family, key, header) in group {
                match header {
                    Some(header) => self
                        .vault
                        .plan_erase(&mut plan, *family, key.clone(), Some(header))?,
                    None => self.vault.plan_forget(&mut plan, *family, key.clone()),
                }
            }
            self.vault.commit(plan)?;
        }
        Ok(())
    }
}

/// A record key is two 16-byte names.
fn split(key: &[u8]) -> Option<(Digest, RandomId)> {
    let (first, second) = key.split_first_chunk::<16>()?;
    Some((Digest(*first), RandomId(second.try_into().ok()?)))
}
