//! The people of every collection: store and index in step.
//!
//! The store is the truth; the index is a projection that is rebuilt at every start. Every change
//! passes the [`writer`], every read of a record the [`vault`].
//!
//! # All that is kept of a person
//!
//! and what an erasure does with it, in this order:
//!
//! | kept | where | the erasure | class |
//! |---|---|---|---|
//! | | erasure log, anchor | is in the log, durably, before anything is touched ([`erasures`]); names nobody | `erasure_log` |
//! | data key, wrapped | slot file | overwritten in place, synced ([`vault`]) | `data_keys` |
//! | PersonID, name, tags, consent, templates, log key | one sealed record | unreadable with its key; deleted | `person_id`, `consent`, `face_features` |
//! | rows of the running log: who asked when, and the result | store, sealed under the log key in the record | unreadable with it; deleted in the record's own batch ([`running`]) | `running_log` |
//! | rows on their way there, sealed | memory | not written any more (`engine/store/src/vault/rows.rs`) | `running_log` |
//! | the record's key: a keyed digest of the PersonID | store, index | goes with the record | `person_id` |
//! | counters of comparisons under the record's key | a row of their own, memory | deleted and dropped with the record ([`meter`]) | `comparison_counters` |
//! | which lineage a copied or renamed person carries, and that it carries it: random ids | two rows, memory | deleted and dropped with the record | `comparison_counters` |
//! | counters of comparisons of a lineage, which copies have in common | a row of their own, memory | deleted and dropped with the last record that carries it | `comparison_counters` |
//! | a keyed digest of the record's random mark, in a token's row | store | nothing: the mark goes with the record, the row within 24 hours ([`tokens`]) | `idempotency_tokens` |
//! | the templates' bits, in clear | index, memory only | overwritten ([`collection`]); a graph's numbers of rows name nobody | `search_index` |
//! | a number under keyed digests of the tags; how far several faces agree | index, memory only | taken out | `search_index` |
//! | replies that are being built | memory | waited for ([`readers`]), after the anchor, before the reply | `calls_in_memory` |
//! | bytes of deleted records | old data files | rewritten without them ([`mod@purge`]), seconds after the reply | `deleted_records` |
//!
//! The last column names the row of the table of retention ([`likeness_store::retention::DataClass::table`]).
//!
//! There are no hooks to register, because there is nothing else: photographs end in the pipeline, log lines
//! and receipts name nobody, and the totals of usage are of accounts. Whoever is to keep more of a person puts it into the record
//! ([`likeness_types::person::Person`]), which every way of erasing reaches; `tests/residue.rs` and
//! `gallery/tests/clear.rs` then look for it in every file. If something cannot lie there, it needs a line
//! above, an overwriting in the writer's commit between store and anchor, and a place in those searches.

pub(crate) mod collection;
pub(crate) mod collection_records;
pub(crate) mod collections;
pub(crate) mod commit;
pub(crate) mod expiries;
#[cfg(feature = "graph")]
mod keeper;
pub(crate) mod load;
#[cfg(feature = "graph")]
pub(crate) mod measure;
pub(crate) mod readers;
pub(crate) mod rotate;
#[cfg(feature = "graph")]
pub(crate) mod shadow;
pub(crate) mod storage;
mod sweeps;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use crate::access::accounts::Accounts;
use crate::access::census::Census;
use crate::access_log::RunningLog;
use crate::gallery::collection::{Collection, CollectionInfo, Collections};
use crate::gallery::collection_records::collection_records;
use crate::gallery::commit::Writer;
#[cfg(feature = "graph")]
use crate::gallery::keeper::Keeper;
use crate::gallery::load::LoadReport;
use crate::gallery::rotate::Rotation;
use crate::gallery::storage::Storage;
use crate::guard::comparison_limiter::PersonCounters;
use crate::page::Page;
use crate::people::expire::Eraser;
use likeness_store::audit::AuditLog;
use likeness_store::codec::Digest;
use likeness_store::erasure_log::Backlog;
use likeness_store::keys::KeyRing;
use likeness_store::purge::Purger;
use likeness_store::retention::{Registry, Sweeper};
use likeness_store::vault::Vault;
use likeness_types::act::{AuditEntry, Audited};
use likeness_types::clock::Clock;
use likeness_types::config::ScoreLimits;
use likeness_types::error::{OperatorError, RequestError, Result};
use likeness_types::names::{Account, CollectionName, RandomId};

/// All collections of a deployment.
pub(crate) struct Gallery {
    pub(crate) vault: Arc<Storage>,
    // Dropped in this order: what the writer finishes, the next start purges.
    #[cfg(feature = "graph")]
    _keeper: Keeper,
    // ORDER: before the writer, which its sweeps wait for.
    sweeper: Sweeper,
    pub(crate) running: RunningLog,
    pub(crate) eraser: Arc<Eraser>,
    pub(crate) purger: Arc<Purger>,
    pub(crate) writer: Arc<Writer>,
    pub accounts: Arc<Accounts>,
    pub census: Arc<Census>,
    pub(crate) audit: AuditLog,
    /// Held through the deletion of a collection.
    pub(crate) deleting: Mutex<()>,
    /// Changed by the writer alone, so that disk and memory never disagree on who exists.
    pub(crate) collections: Arc<RwLock<Collections>>,
}

/// What goes on beside the calls, and by which clock.
pub(crate) struct Background {
    /// One purge serves all erasures of a time as long as this.
    pub gather: Duration,
    /// From one look at who expired to the next.
    pub look: Duration,
    /// From one look at graphs that lack faces to the next.
    #[cfg(feature = "graph")]
    pub keep: Duration,
    /// A running log of more bytes is warned of.
    pub log_bytes_warning: u64,
    /// What may be learnt of people by comparing with them.
    pub scores: ScoreLimits,
    /// An audit log that does not reach its anchor is taken, and says so.
    pub accept_short_audit_log: bool,
    pub clock: Clock,
}

impl Default for Background {
    fn default() -> Self {
        Self {
            gather: likeness_store::purge::GATHER,
            look: crate::people::expire::LOOK,
            #[cfg(feature = "graph")]
            keep: keeper::KEEP,
            log_bytes_warning: u64::MAX,
            scores: ScoreLimits::default(),
            accept_short_audit_log: false,
            clock: Clock::System,
        }
    }
}

impl Gallery {
    /// Rebuilds everything in memory from the vault, finishes what a crash left unfinished, and erases who
    /// expired since.
    ///
    /// `open_vault` also answers the keys that the erasure log says are gone.
    pub fn open(
        open_vault: impl FnOnce(Arc<PersonCounters>) -> Result<(Vault, HashSet<RandomId>)>,
        background: Background,
    ) -> Result<(Self, LoadReport)> {
        let Background {
            gather,
            look,
            #[cfg(feature = "graph")]
            keep,
            log_bytes_warning,
            scores,
            accept_short_audit_log,
            clock,
        } = background;
        let counters = Arc::new(PersonCounters::new(scores, clock.clone()));
        let (vault, destroyed) = open_vault(Arc::clone(&counters))?;
        let storage = Arc::new(Storage::new(vault, counters, clock.clone()));
        let load::Loaded {
            collections,
            accounts,
            mut report,
        } = load::load(&storage, &destroyed)?;
        let accounts = Arc::new(Accounts::new(accounts, clock.clone()));
        storage.advance_anchor()?;
        let sweeper = Sweeper::start(&clock)?;
        let purger = Purger::start(
            sweeper.registry(),
            storage.vault(),
            report.removed_anything(),
            gather,
        );
        let audit = AuditLog::open(&storage, accept_short_audit_log, clock.now())?;
        let collections = Arc::new(RwLock::new(collections));
        let census = Arc::new(Census::new(Arc::clone(&collections), Arc::clone(&accounts)));
        let eraser = Arc::new(Eraser {
            collections,
            writer: Arc::new(Writer::start(Arc::clone(&storage), Arc::clone(&census))?),
            purger: Arc::new(purger),
            clock,
        });
        report.expired = eraser.erase_due()?;
        report.persons -= report.expired;
        sweeps::register(sweeper.registry(), &eraser, look);
        let gallery = Self {
            #[cfg(feature = "graph")]
            _keeper: Keeper::start(Arc::clone(&eraser.collections), keep)?,
            sweeper,
            running: RunningLog::start(storage.vault(), log_bytes_warning)?,
            purger: Arc::clone(&eraser.purger),
            writer: Arc::clone(&eraser.writer),
            accounts,
            census,
            audit,
            collections: Arc::clone(&eraser.collections),
            eraser,
            vault: storage,
            deleting: Mutex::new(()),
        };
        Ok((gallery, report))
    }

    /// The collection of that name, for the calls below.
    pub fn collection(&self, account: &Account, name: &CollectionName) -> Result<Arc<Collection>> {
        let collections = self.collections.read();
        let found = collections.get(&(account.clone(), name.clone())).cloned();
        drop(collections);
        if let Some(found) = found {
            return Ok(found);
        }
        // Beside a damaged file it may be there all the same.
        if !self.vault.damaged_files().is_empty() {
            let digest = Digest::of_collection(&self.vault.ring.digest().secret, account, name);
            let (_, gaps) = collection_records(&self.vault, &digest.0)?;
            if gaps > 0 {
                return Err(OperatorError::DamagedPlace.into());
            }
        }
        Err(RequestError::NoCollection.into())
    }

    /// How many data files are damaged, as far as is known.
    pub fn quarantined_files(&self) -> usize {
        self.vault.damaged_files().len()
    }

    /// The collections of an account that are seen, after `after`, by name.
    pub fn list_collections(
        &self,
        account: &Account,
        after: Option<&CollectionName>,
        items_max: usize,
        seen: &dyn Fn(&CollectionName) -> bool,
    ) -> Page<CollectionInfo> {
        let collections = self.collections.read();
        let own = collections
            .values()
            .filter(|c| c.account == *account && seen(&c.name));
        let mut later = own.filter(|c| after.is_none_or(|after| c.name > *after));
        let items: Vec<_> = later.by_ref().take(items_max).map(|c| c.info()).collect();
        let more = later.next().is_some();
        Page {
            next: items.last().filter(|_| more).map(|c| c.name.as_str().to_owned()),
            items,
            damaged: 0,
        }
    }

    /// Whoever has an account, or a collection.
    pub fn owners(&self) -> BTreeSet<Account> {
        let mut owners: BTreeSet<_> = self.accounts.names().collect();
        owners.extend(self.collections.read().keys().map(|(owner, _)| owner.clone()));
        owners
    }

    /// The collections of an account, by name.
    pub fn collections_of(&self, account: &Account) -> impl Iterator<Item = Arc<Collection>> {
        let collections = self.collections.read();
        let own = collections.values().filter(|c| c.account == *account);
        own.cloned().collect::<Vec<_>>().into_iter()
    }

    /// Wraps every data key under a new wrapping key and destroys the old one.
    pub fn rotate_wrapping(
        &self,
        save: impl Fn(&KeyRing) -> Result<()>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Rotation> {
        rotate::rotate_wrapping(&self.writer, &self.vault.ring, save, progress)
    }

    /// Lets a new key sign receipts; answers the public key.
    pub fn rotate_signing(&self, save: impl Fn(&KeyRing) -> Result<()>) -> Result<[u8; 32]> {
        rotate::rotate_signing(&self.writer, &self.vault.ring, save)
    }

    /// Writes an act down, then carries it out; if it fails, that is written down too.
    pub fn audited<T>(&self, entry: &AuditEntry, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let now = || self.eraser.clock.now();
        // ORDER: written down before it is done: nothing is done that the log does not know.
        self.audit.append(&self.vault, entry, false, now())?;
        act().inspect_err(|_| {
            // The failure that the caller hears of is the act's.
            if let Err(error) = self.audit.append(&self.vault, entry, true, now()) {
                tracing::error!(%error, "the audit log does not say that an act failed");
            }
        })
    }

    /// Entries of the audit log from this number on, as long as they are wanted; answers how many there are.
    pub fn audit_log(&self, first: u64, wanted: &mut dyn FnMut(Audited) -> bool) -> Result<u64> {
        let size = self.audit.size();
        self.audit.visit(&self.vault, first, wanted)?;
        Ok(size)
    }

    /// Where sweeps of other data are registered.
    pub fn retention(&self) -> &Registry {
        self.sweeper.registry()
    }

    /// Purges now, without waiting for more.
    pub(crate) fn purge_now(&self) -> Result<()> {
        self.purger.purge_now()
    }

    /// Does now what the keeper of the graphs would do, on the caller's thread.
    #[cfg(test)]
    pub(crate) fn keep_now(&self) {
        #[cfg(feature = "graph")]
        keeper::keep(&self.collections, &std::sync::atomic::AtomicBool::new(false));
    }

    /// What is erased and not yet purged.
    pub fn backlog(&self) -> Backlog {
        self.vault.log.backlog()
    }

    /// The same, as far as an account sees it; none is the operator.
    pub fn backlog_for(&self, account: Option<&Account>) -> Backlog {
        let reader = account.map(|account| self.vault.owner(account));
        self.vault.log.backlog_for(reader.as_ref())
    }

    /// Receipts in the log.
    pub fn receipts(&self) -> u64 {
        self.vault.log.size()
    }

    /// The same, as far as an account sees them.
    pub fn receipts_for(&self, account: Option<&Account>) -> u64 {
        let reader = account.map(|account| self.vault.owner(account));
        self.vault.log.size_for(reader.as_ref())
    }

    /// The numbers of the next receipts from one on that an account sees, and of the one after them.
    pub fn receipts_seen_by(
        &self,
        account: Option<&Account>,
        first: u64,
        most: usize,
    ) -> (Vec<u64>, Option<u64>) {
        let reader = account.map(|account| self.vault.owner(account));
        self.vault.log.seen_by(reader.as_ref(), first, most)
    }

    /// Whether an account sees a receipt that there is.
    pub fn is_receipt_seen_by(&self, account: Option<&Account>, sequence: u64) -> bool {
        let reader = account.map(|account| self.vault.owner(account));
        self.vault.log.is_seen_by(reader.as_ref(), sequence)
    }

    /// The bytes of one receipt.
    pub fn receipt(&self, sequence: u64) -> Result<Option<Vec<u8>>> {
        self.vault.log.receipt(sequence)
    }

    /// The latest signed checkpoint.
    pub fn checkpoint(&self) -> Option<Vec<u8>> {
        self.vault.log.anchor()
    }
}
