//! Accounts and their keys: few rows, sealed like everything else, and a table in memory that answers who
//! calls without a look at the disk.
//!
//! A key that is revoked is erased: its record's data key is overwritten and named in the erasure log, so
//! that an older copy of the data that is put back does not revive it.

mod changes;
mod rows;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::RwLock;

pub(crate) use self::rows::binding;
use self::rows::{Row, row};
use crate::access::accounts::rows::{Entry, Key};
use crate::access::{AccountInfo, AccountSettings, ApiKey, ApiKeyInfo, KeyDigest, Quotas, Scope};
use likeness_store::codec::Unreadable;
use likeness_types::clock::Clock;
use likeness_types::crypto::Secret;
use likeness_types::error::{RequestError, Result};
use likeness_types::names::{Account, CollectionName, RandomId};

/// Who is known: the projection of the records that the doors ask.
pub(crate) struct Accounts {
    table: RwLock<Table>,
    clock: Clock,
}

/// Everything that the records say.
#[derive(Default)]
pub(crate) struct Table {
    accounts: BTreeMap<Account, Arc<Entry>>,
    keys: HashMap<RandomId, Arc<Key>>,
}

/// What a key that fits lets its holder do. It stays with the call, and says at any time whether it still does.
#[derive(Clone)]
pub struct Grant {
    key: Arc<Key>,
    account: Arc<Entry>,
    clock: Clock,
}

impl Grant {
    /// Whose key it is.
    pub fn account(&self) -> &Account {
        &self.key.info.account
    }

    /// The key's public name.
    pub fn key_id(&self) -> RandomId {
        self.key.info.id
    }

    /// Region and quotas of the account, as they were when the call arrived.
    pub fn settings(&self) -> &AccountSettings {
        &self.account.settings
    }

    /// Whether the key has a scope.
    pub fn may(&self, scope: Scope) -> bool {
        self.key.info.scopes.has(scope)
    }

    /// Whether the key is good for a collection of this name.
    pub fn sees(&self, collection: &CollectionName) -> bool {
        let only = self.key.info.collections.as_ref();
        only.is_none_or(|only| only.contains(collection))
    }

    /// Whether the key is good for some collections only.
    pub fn is_restricted(&self) -> bool {
        self.key.info.collections.is_some()
    }

    /// Whether the key is still good: neither revoked nor expired since.
    pub fn is_live(&self) -> bool {
        !self.key.revoked.load(Ordering::Acquire)
            && self.key.info.expires.is_none_or(|end| end > self.clock.now())
    }
}

impl Table {
    /// Takes in a row that was opened.
    pub fn take(&mut self, id: RandomId, contents: &[u8]) -> Result<(), Unreadable> {
        match row(id) {
            Row::Account => {
                let entry = Entry::from_contents(contents)?;
                self.accounts.insert(entry.name.clone(), Arc::new(entry));
            }
            Row::Key => {
                let key = Key::from_contents(id, contents)?;
                self.keys.insert(id, Arc::new(key));
            }
        }
        Ok(())
    }

    fn account(&self, name: &Account) -> Result<&Arc<Entry>> {
        self.accounts
            .get(name)
            .ok_or_else(|| RequestError::NoAccount.into())
    }

    fn keys_of(&self, name: &Account) -> impl Iterator<Item = &Arc<Key>> {
        self.keys.values().filter(move |key| key.info.account == *name)
    }

    fn info(&self, entry: &Entry) -> AccountInfo {
        AccountInfo {
            name: entry.name.clone(),
            settings: entry.settings.clone(),
            created: entry.created,
            closed: entry.closed,
            final_receipt: entry.final_receipt,
            keys: self.keys_of(&entry.name).count(),
        }
    }
}

impl Accounts {
    pub fn new(table: Table, clock: Clock) -> Self {
        Self {
            table: RwLock::new(table),
            clock,
        }
    }

    /// What a key lets its holder do; none for one that is unknown, wrong, revoked or expired, or whose
    /// account cannot be read or is closed. All take the same time, up to a look into a table.
    pub fn grant(&self, digest_key: &Secret, shown: &ApiKey) -> Option<Grant> {
        let digest = shown.digest(digest_key);
        let table = self.table.read();
        let key = table.keys.get(&shown.id);
        let kept = key.map_or_else(|| KeyDigest::from_bytes([0; 32]), |key| key.digest);
        // In constant time, as the digest's equality is.
        let fits = kept == digest;
        let key = key.filter(|_| fits)?;
        let account = table.accounts.get(&key.info.account)?;
        let grant = Grant {
            key: Arc::clone(key),
            account: Arc::clone(account),
            clock: self.clock.clone(),
        };
        (account.closed.is_none() && grant.is_live()).then_some(grant)
    }

    /// How much an account may hold and ask; of one that is not known, anything.
    pub fn quotas(&self, account: &Account) -> Quotas {
        let table = self.table.read();
        table
            .accounts
            .get(account)
            .map_or_else(Quotas::default, |entry| entry.settings.quotas)
    }

    /// # Errors
    /// The account was closed.
    pub fn refuse_closed(&self, account: &Account) -> Result<()> {
        let table = self.table.read();
        let closed = table
            .accounts
            .get(account)
            .is_some_and(|entry| entry.closed.is_some());
        if closed {
            return Err(RequestError::AccountClosed.into());
        }
        Ok(())
    }

    /// Accounts whose end was begun and not carried out.
    pub fn closing(&self) -> Vec<Account> {
        let table = self.table.read();
        let unfinished = table
            .accounts
            .values()
            .filter(|entry| entry.closed.is_some() && entry.final_receipt.is_none());
        unfinished.map(|entry| entry.name.clone()).collect()
    }

    pub fn info(&self, account: &Account) -> Result<AccountInfo> {
        let table = self.table.read();
        table.account(account).map(|entry| table.info(entry))
    }

    /// The accounts after `after`, by name.
    pub fn list(&self, after: Option<&Account>, items_max: usize) -> Vec<AccountInfo> {
        let table = self.table.read();
        let later = table
            .accounts
            .values()
            .filter(|entry| after.is_none_or(|after| entry.name > *after));
        later.take(items_max).map(|entry| table.info(entry)).collect()
    }

    /// Every account's name.
    pub fn names(&self) -> impl Iterator<Item = Account> {
        let names: Vec<_> = self.table.read().accounts.keys().cloned().collect();
        names.into_iter()
    }

    /// Whether the account has a key of this id.
    pub fn has_key(&self, account: &Account, id: RandomId) -> bool {
        let table = self.table.read();
        table
            .keys
            .get(&id)
            .is_some_and(|key| key.info.account == *account)
    }

    /// An account's keys, oldest first.
    pub fn keys(&self, account: &Account) -> Result<Vec<ApiKeyInfo>> {
        let table = self.table.read();
        table.account(account)?;
        let mut keys: Vec<_> = table.keys_of(account).map(|key| key.info.clone()).collect();
        keys.sort_by_key(|key| (key.created, key.id));
        Ok(keys)
    }
}
