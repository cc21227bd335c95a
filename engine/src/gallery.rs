//! The people of every collection: store and index in step.
//!
//! The store is the truth; the index is a projection that is rebuilt at every start. Every change
//! passes the [`writer`], every read of a record the [`vault`].

pub(crate) mod codec;
pub(crate) mod collection;
mod collections;
pub(crate) mod directory;
pub(crate) mod erasures;
mod gaps;
pub(crate) mod index;
mod load;
mod persons;
pub(crate) mod purge;
pub(crate) mod readers;
pub(crate) mod records;
mod rotate;
mod search;
pub(crate) mod vault;
mod writer;

mod flat;
mod graph;
mod scan;
mod top;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;

use crate::error::{RequestError, Result};
use crate::gallery::collection::{Collection, CollectionInfo};
use crate::gallery::erasures::Backlog;
use crate::gallery::purge::Purger;
use crate::gallery::vault::Vault;
use crate::gallery::writer::Writer;
use crate::keys::KeyRing;
use crate::names::{Account, CollectionName, RandomId};

pub use crate::gallery::collections::CollectionErasure;
pub use crate::gallery::load::LoadReport;
pub use crate::gallery::persons::{ErasureReceipt, Footprint, PersonErasure, ProfileChange};
pub use crate::gallery::rotate::Rotation;
pub use crate::gallery::search::{Match, Query};

/// A page of a listing by cursor.
pub struct Page<T> {
    /// What is on the page.
    pub items: Vec<T>,
    /// Records that could not be read and are therefore missing above.
    pub damaged: usize,
    /// Where the next page begins; none after the last.
    pub next: Option<String>,
}

/// All collections of a deployment.
pub(crate) struct Gallery {
    vault: Arc<Vault>,
    // Dropped in this order: what the writer finishes, the next start purges.
    purger: Purger,
    writer: Writer,
    /// Changed by the writer alone, so that disk and memory never disagree on who exists.
    collections: Arc<RwLock<Collections>>,
}

type Collections = BTreeMap<(Account, CollectionName), Arc<Collection>>;

impl Gallery {
    /// Rebuilds everything in memory from the vault, and finishes what a crash left unfinished.
    ///
    /// `destroyed` are the keys that the erasure log says are gone.
    /// One purge serves all erasures of a time as long as `gather`.
    pub fn open(vault: Vault, destroyed: &HashSet<RandomId>, gather: Duration) -> Result<(Self, LoadReport)> {
        let vault = Arc::new(vault);
        let (collections, report) = load::load(&vault, destroyed)?;
        vault.advance_anchor()?;
        let gallery = Self {
            purger: Purger::start(Arc::clone(&vault), report.removed_anything(), gather)?,
            writer: Writer::start(Arc::clone(&vault))?,
            vault,
            collections: Arc::new(RwLock::new(collections)),
        };
        Ok((gallery, report))
    }

    /// The collection of that name, for the calls below.
    pub fn collection(&self, account: &Account, name: &CollectionName) -> Result<Arc<Collection>> {
        let collections = self.collections.read();
        let found = collections.get(&(account.clone(), name.clone()));
        found.cloned().ok_or_else(|| RequestError::NoCollection.into())
    }

    /// The collections of an account after `after`, by name.
    pub fn list_collections(
        &self,
        account: &Account,
        after: Option<&CollectionName>,
        items_max: usize,
    ) -> Page<CollectionInfo> {
        let collections = self.collections.read();
        let own = collections.values().filter(|c| c.account == *account);
        let mut later = own.filter(|c| after.is_none_or(|after| c.name > *after));
        let items: Vec<_> = later.by_ref().take(items_max).map(|c| c.info()).collect();
        let more = later.next().is_some();
        Page {
            next: items.last().filter(|_| more).map(|c| c.name.as_str().to_owned()),
            items,
            damaged: 0,
        }
    }

    /// Wraps every data key under a new wrapping key and destroys the old one.
    pub fn rotate_wrapping(
        &self,
        save: impl Fn(&KeyRing) -> Result<()>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Rotation> {
        rotate::rotate_wrapping(&self.writer, &self.vault.ring, save, progress)
    }

    /// Purges now, without waiting for more.
    #[cfg(test)]
    pub(crate) fn purge_now(&self) -> Result<()> {
        self.purger.purge_now()
    }

    /// What is erased and not yet purged.
    pub fn backlog(&self) -> Backlog {
        self.vault.log.backlog()
    }

    /// Receipts in the log.
    pub fn receipts(&self) -> u64 {
        self.vault.log.size()
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

fn exists(collection: &Collection) -> Result<()> {
    if collection.is_deleted() {
        return Err(RequestError::NoCollection.into());
    }
    Ok(())
}
