//! A start: everything in memory rebuilt from disk, and everything a crash left unfinished finished.
//!
//! - a record whose key is gone was being erased: it goes;
//! - people of a collection that is gone were being erased: they go;
//! - a key that no record names was being written or superseded: it is overwritten;
//! - a record that cannot be read marks that person damaged, and nobody else.

mod ahead;
mod known;
mod opening;
mod progress;

use std::collections::HashSet;
use std::sync::Arc;

use crate::access::accounts;
use crate::access::accounts::Table;
use crate::gallery::collection::{Collection, Collections};
use crate::gallery::collection_records::{ERASE_GROUP, collection_binding};
use crate::gallery::load::known::{Known, split};
use crate::gallery::load::opening::{Opening, Read, Whose};
use crate::gallery::load::progress::Progress;
use crate::gallery::storage::Storage;
use likeness_store::codec;
use likeness_store::codec::Header;
use likeness_store::records::{Family, Scan};
use likeness_store::vault::{Asked, Found, KEYS_PER_COMMIT_MAX, Named, Plan};
use likeness_types::error::{OperatorError, Result};
use likeness_types::names::RandomId;

/// What a start found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Collections that serve.
    pub collections: usize,
    /// Collections whose records cannot be read; their people are kept and not served.
    pub damaged_collections: usize,
    /// Accounts and keys whose records cannot be read: nobody is let in by them.
    pub damaged_accounts: usize,
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
    /// Keys of which no record was found, kept because damaged places hide records: at most as many people,
    /// collections and API keys are hidden.
    pub hidden: usize,
    /// Keys without records, overwritten now.
    pub keys_overwritten: usize,
}

impl LoadReport {
    /// Something was removed whose bytes may lie anywhere in the data files.
    pub(super) fn removed_anything(&self) -> bool {
        self.erasures_repeated + self.erasures_finished + self.keys_overwritten > 0
    }
}

/// What the records say, gathered in their order.
struct Gathered<'a> {
    vault: &'a Storage,
    destroyed: &'a HashSet<RandomId>,
    report: LoadReport,
    named: Named,
    /// Records to be erased.
    erasures: Vec<Going>,
    /// Records whose keys are gone although the log does not say so.
    lost: usize,
}

/// A record to be erased.
struct Going {
    family: Family,
    key: Vec<u8>,
    /// None where it cannot be read.
    header: Option<Header>,
    /// Whether its key is still there.
    is_live: bool,
}

/// Keys without records, and records without keys, that crashes may leave: more than the largest
/// group of either. Beyond it, records and slots are not of one piece.
const LEFT_BEHIND_MAX: usize = 2 * ERASE_GROUP;

/// What is in memory from here on.
pub(super) struct Loaded {
    pub collections: Collections,
    pub accounts: Table,
    pub report: LoadReport,
}

pub(super) fn load(vault: &Storage, destroyed: &HashSet<RandomId>) -> Result<Loaded> {
    // ORDER: before any slot is overwritten: records of another moment name other slots.
    vault.refuse_records_of_another_moment()?;
    vault.read_owners()?;
    let unnamed_max = match vault.counts_turns() {
        true => LEFT_BEHIND_MAX,
        false => KEYS_PER_COMMIT_MAX,
    };
    let mut gathered = Gathered {
        vault,
        destroyed,
        report: LoadReport {
            erasures_repeated: vault.empty_destroyed(destroyed)?,
            ..LoadReport::default()
        },
        named: Named::default(),
        erasures: Vec::new(),
        lost: 0,
    };
    let accounts = gathered.accounts()?;
    let known = gathered.collections()?;
    gathered.persons(&known)?;
    vault.tokens.count_tokens()?;
    vault.refuse_unproven_damage()?;
    // ORDER: everything is read before anything is overwritten, so that parts that do not belong
    // together are refused as they were found.
    gathered.refuse_lost_keys()?;
    gathered.report.keys_overwritten = vault.settle_slots(&gathered.named, unnamed_max)?;
    if gathered.report.gaps > 0 {
        gathered.report.hidden = vault.unnamed_kept();
    }
    vault.agree_on_the_turn()?;
    // ORDER: rows of nobody before the records that would have said so: a crash between looks again.
    gathered.remove_nobodys_rows()?;
    gathered.finish_erasures()?;
    vault.tokens.sweep_all_tokens()?;
    gathered.report.collections = known.by_id.len();
    gathered.report.damaged_collections = known.damaged.len();
    let key = |c: &Arc<Collection>| (c.account.clone(), c.name.clone());
    let collections = known.by_id.into_values().map(|c| (key(&c), c)).collect();
    Ok(Loaded {
        collections,
        accounts,
        report: gathered.report,
    })
}

impl Gathered<'_> {
    fn accounts(&mut self) -> Result<Table> {
        let (vault, mut table) = (self.vault, Table::default());
        let mut outcome = Ok(());
        let gaps = vault.scan(Family::Accounts, &[], &[], &mut |key, record| {
            outcome = self.account(&mut table, key.to_vec(), record);
            if outcome.is_ok() {
                Scan::Continue
            } else {
                Scan::Stop
            }
        })?;
        // No person can be behind these gaps, but slots can be.
        self.named.note_gaps(gaps);
        self.report.damaged_accounts += gaps;
        outcome.map(|()| table)
    }

    fn account(&mut self, table: &mut Table, key: Vec<u8>, record: &[u8]) -> Result<()> {
        let Some((digest, id)) = split(&key) else {
            self.erase(Family::Accounts, key, None, false);
            return Ok(());
        };
        let binding = accounts::binding(self.vault.ring.deployment, digest, id);
        let header = Header::parse(record).ok();
        match self.vault.open(record, &binding)? {
            Found::Nothing if self.was_erased(header.as_ref()) => {
                self.erase(Family::Accounts, key, header, false);
            }
            Found::Nothing | Found::Damaged(_) => {
                self.named.note(header.as_ref());
                self.report.damaged_accounts += 1;
            }
            Found::Open { header, contents } => {
                self.named.note(Some(&header));
                let taken = table.take(id, &contents);
                self.report.damaged_accounts += usize::from(taken.is_err());
            }
        }
        Ok(())
    }

    fn collections(&mut self) -> Result<Known> {
        let (vault, mut known) = (self.vault, Known::default());
        let mut outcome = Ok(());
        let gaps = vault.scan(Family::Collections, &[], &[], &mut |key, record| {
            outcome = self.collection(&mut known, key.to_vec(), record);
            if outcome.is_ok() {
                Scan::Continue
            } else {
                Scan::Stop
            }
        })?;
        self.note_gaps(gaps);
        outcome?;
        vault.scan_beside(Family::Collections, &mut |key, record| {
            self.collection(&mut known, key.to_vec(), record)
        })?;
        Ok(known)
    }

    fn collection(&mut self, known: &mut Known, key: Vec<u8>, record: &[u8]) -> Result<()> {
        let Some((digest, id)) = split(&key) else {
            self.erase(Family::Collections, key, None, false);
            return Ok(());
        };
        let binding = collection_binding(self.vault.ring.deployment, digest, id);
        let header = Header::parse(record).ok();
        match self.vault.open(record, &binding)? {
            Found::Nothing if self.was_erased(header.as_ref()) => {
                self.erase(Family::Collections, key, header, false);
            }
            Found::Nothing | Found::Damaged(_) => {
                self.named.note(header.as_ref());
                known.damaged.insert(id);
            }
            Found::Open { header, contents } => {
                self.named.note(Some(&header));
                match Collection::from_contents(digest, &contents) {
                    Ok(collection) => drop(known.by_id.insert(id, Arc::new(collection))),
                    Err(codec::Unreadable) => drop(known.damaged.insert(id)),
                }
            }
        }
        Ok(())
    }

    fn persons(&mut self, known: &Known) -> Result<()> {
        let (vault, keys) = (self.vault, self.vault.keys_at_rest()?);
        let opening = Opening {
            vault,
            keys: &keys,
            known,
        };
        let mut progress = Progress::of(keys.used);
        let gaps = ahead::in_order(
            |visit| vault.scan(Family::Persons, &[], &[], visit),
            |key, record| opening.person(key, record),
            |read| {
                progress.one_more();
                self.person(known, read?);
                Ok(())
            },
        )?;
        self.note_gaps(gaps);
        vault.scan_beside(Family::Persons, &mut |key, record| {
            let read = opening.person(key, record)?;
            self.person(known, read);
            Ok(())
        })
    }

    fn note_gaps(&mut self, gaps: usize) {
        self.named.note_gaps(gaps);
        self.report.gaps += gaps;
    }

    fn person(&mut self, known: &Known, read: Read<'_>) {
        let Read { key, header, whose } = read;
        match whose {
            Whose::Nobodys => self.erase(Family::Persons, key, header, false),
            Whose::Keyless(..) if self.was_erased(header.as_ref()) => {
                self.erase(Family::Persons, key, header, false);
            }
            Whose::Keyless(collection, digest) => {
                self.named.note(header.as_ref());
                collection.people.write().set_damaged(digest);
                self.report.damaged_persons += 1;
            }
            // Behind a gap may be this person's collection: then it is damaged, and nobody is erased.
            Whose::Of(id) if known.damaged.contains(&id) || self.report.gaps > 0 => {
                self.named.note(header.as_ref());
            }
            Whose::Of(_) => {
                // Named, so that its key goes with the record and does not count as left behind.
                header.iter().for_each(|header| self.named.note_going(header));
                let is_live = header.is_some_and(|header| !self.destroyed.contains(&header.data_key));
                self.erase(Family::Persons, key, header, is_live);
            }
            Whose::Somebodys(collection, digest, person) => {
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
            }
        }
    }

    /// Whether a record without its key is one that was erased. The log says so before a key is overwritten:
    /// one that is gone without that was lost, and nobody is erased for it.
    fn was_erased(&mut self, header: Option<&Header>) -> bool {
        let logged = header.is_some_and(|header| self.destroyed.contains(&header.data_key));
        self.lost += usize::from(!logged);
        logged
    }

    fn erase(&mut self, family: Family, key: Vec<u8>, header: Option<Header>, is_live: bool) {
        self.erasures.push(Going {
            family,
            key,
            header,
            is_live,
        });
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
        if self.erasures.iter().any(|going| !going.is_live) {
            self.vault.log_leftovers()?;
        }
        for group in self.erasures.chunks(ERASE_GROUP) {
            let mut plan = Plan::default();
            if group.iter().any(|going| going.is_live) {
                plan.begin_erasure(Asked::default());
            }
            for going in group {
                let (family, key, header) = (going.family, going.key.clone(), going.header.as_ref());
                if going.is_live {
                    self.vault.plan_erase(&mut plan, family, key, header)?;
                } else {
                    header.iter().for_each(|header| plan.forget_rows(header));
                    self.vault.plan_forget(&mut plan, family, key)?;
                }
            }
            self.vault.commit(plan)?;
        }
        Ok(())
    }
}

impl Gathered<'_> {
    /// The rows of the running log that belonged to records which go and cannot say which were theirs.
    fn remove_nobodys_rows(&mut self) -> Result<()> {
        let cannot_say = |going: &Going| going.family == Family::Persons && going.header.is_none();
        if !self.erasures.iter().any(cannot_say) {
            return Ok(());
        }
        self.vault.remove_nobodys_rows(std::mem::take(&mut self.named))
    }
}
