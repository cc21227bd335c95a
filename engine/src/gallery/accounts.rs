//! Accounts and their keys: few rows, sealed like everything else, and a table in memory that answers who
//! calls without a look at the disk.
//!
//! A key that is revoked is erased: its record's data key is overwritten and named in the erasure log, so
//! that an older copy of the data that is put back does not revive it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::access::{
    ACCOUNTS_MAX, API_KEYS_MAX, AccountInfo, AccountSettings, ApiKey, ApiKeyInfo, KeyDigest, NewApiKey,
    Quotas, Scope, Scopes,
};
use crate::clock::Clock;
use crate::crypto::{self, Secret};
use crate::error::{RequestError, Result};
use crate::gallery::Gallery;
use crate::gallery::codec::{self, Binding, Digest, Header, Unreadable};
use crate::gallery::erasures::Issued;
use crate::gallery::persons::{ErasureReceipt, Nonce};
use crate::gallery::records::{Family, Scan};
use crate::gallery::vault::{Asked, NewRecord, Plan, Vault};
use crate::names::{Account, CollectionName, RandomId};
use crate::person::Timestamp;
use crate::scheme::SchemeId;

/// The place of an account's own record among its keys'.
const OWN: RandomId = RandomId([0; 16]);

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

struct Entry {
    name: Account,
    settings: AccountSettings,
    created: Timestamp,
    closed: Option<Timestamp>,
    /// Set once everything of a closed account is gone.
    final_receipt: Option<u64>,
}

struct Key {
    info: ApiKeyInfo,
    digest: KeyDigest,
    revoked: AtomicBool,
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

/// One sealed row.
pub(crate) enum Row {
    Account,
    Key,
}

/// Which row a key of the family names.
pub(crate) fn row(id: RandomId) -> Row {
    if id == OWN { Row::Account } else { Row::Key }
}

/// What a row is bound to; the digest stands for the account.
pub(crate) fn binding(deployment: RandomId, digest: Digest, id: RandomId) -> Binding<'static> {
    Binding {
        kind: match row(id) {
            Row::Account => "account",
            Row::Key => "api key",
        },
        deployment,
        account: "",
        collection: id,
        digest,
    }
}

#[derive(Serialize, Deserialize)]
struct AccountContents<'a> {
    name: &'a str,
    region: &'a str,
    persons_max: u64,
    faces_max: u64,
    calls_per_second: u32,
    created_ms: u64,
    closed_ms: Option<u64>,
    final_receipt: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct KeyContents<'a> {
    account: &'a str,
    digest: [u8; 32],
    scopes: u8,
    collections: Option<Vec<&'a str>>,
    created_ms: u64,
    expires_ms: Option<u64>,
    label: &'a str,
}

impl Entry {
    fn to_contents(&self) -> Zeroizing<Vec<u8>> {
        crypto::plain_bytes(&AccountContents {
            name: self.name.as_str(),
            region: &self.settings.region,
            persons_max: self.settings.quotas.persons,
            faces_max: self.settings.quotas.faces,
            calls_per_second: self.settings.quotas.calls_per_second,
            created_ms: self.created.0,
            closed_ms: self.closed.map(|closed| closed.0),
            final_receipt: self.final_receipt,
        })
    }

    fn from_contents(contents: &[u8]) -> Result<Self, Unreadable> {
        let contents: AccountContents<'_> = codec::from_contents(contents)?;
        Ok(Self {
            name: Account::parse(contents.name).map_err(|_| Unreadable)?,
            settings: AccountSettings {
                region: contents.region.to_owned(),
                quotas: Quotas {
                    persons: contents.persons_max,
                    faces: contents.faces_max,
                    calls_per_second: contents.calls_per_second,
                },
            },
            created: Timestamp(contents.created_ms),
            closed: contents.closed_ms.map(Timestamp),
            final_receipt: contents.final_receipt,
        })
    }
}

impl Key {
    fn to_contents(&self) -> Zeroizing<Vec<u8>> {
        let only = self.info.collections.as_ref();
        let collections = only.map(|only| only.iter().map(CollectionName::as_str).collect());
        crypto::plain_bytes(&KeyContents {
            account: self.info.account.as_str(),
            digest: *self.digest.as_bytes(),
            scopes: self.info.scopes.0,
            collections,
            created_ms: self.info.created.0,
            expires_ms: self.info.expires.map(|expires| expires.0),
            label: &self.info.label,
        })
    }

    fn from_contents(id: RandomId, contents: &[u8]) -> Result<Self, Unreadable> {
        let contents: KeyContents<'_> = codec::from_contents(contents)?;
        let names = |only: Vec<&str>| only.into_iter().map(CollectionName::parse).collect::<Result<_>>();
        let collections = contents.collections.map(names).transpose();
        Ok(Self {
            info: ApiKeyInfo {
                id,
                account: Account::parse(contents.account).map_err(|_| Unreadable)?,
                scopes: Scopes(contents.scopes),
                collections: collections.map_err(|_| Unreadable)?,
                created: Timestamp(contents.created_ms),
                expires: contents.expires_ms.map(Timestamp),
                label: contents.label.to_owned(),
            },
            digest: KeyDigest::from_bytes(contents.digest),
            revoked: AtomicBool::new(false),
        })
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

    /// An account's keys, oldest first.
    pub fn keys(&self, account: &Account) -> Result<Vec<ApiKeyInfo>> {
        let table = self.table.read();
        table.account(account)?;
        let mut keys: Vec<_> = table.keys_of(account).map(|key| key.info.clone()).collect();
        keys.sort_by_key(|key| (key.created, key.id));
        Ok(keys)
    }
}

impl Gallery {
    /// Makes an account. Its key group must be in the keyring already.
    pub fn create_account(&self, name: &Account, settings: AccountSettings) -> Result<AccountInfo> {
        let settings = settings.checked()?;
        let digest = self.account_digest(name);
        let entry = Arc::new(Entry {
            name: name.clone(),
            settings,
            created: self.accounts.clock.now(),
            closed: None,
            final_receipt: None,
        });
        let accounts = Arc::clone(&self.accounts);
        self.writer.alone(move |vault| {
            // Asked of the disk: a record that cannot be read is an account too.
            if account_record(vault, digest)?.is_some() {
                return Err(RequestError::AccountExists.into());
            }
            if accounts.table.read().accounts.len() >= ACCOUNTS_MAX {
                return Err(RequestError::TooMany {
                    what: "accounts",
                    max: ACCOUNTS_MAX,
                }
                .into());
            }
            put(vault, digest, OWN, &entry.to_contents(), None)?;
            let mut table = accounts.table.write();
            table.accounts.insert(entry.name.clone(), Arc::clone(&entry));
            Ok(table.info(&entry))
        })
    }

    /// Changes what of an account can be changed.
    pub fn update_account(
        &self,
        name: &Account,
        change: impl FnOnce(AccountSettings) -> AccountSettings + Send + 'static,
    ) -> Result<AccountInfo> {
        let (digest, accounts, name) = (
            self.account_digest(name),
            Arc::clone(&self.accounts),
            name.clone(),
        );
        self.writer.alone(move |vault| {
            let before = Arc::clone(accounts.table.read().account(&name)?);
            if before.closed.is_some() {
                return Err(RequestError::AccountClosed.into());
            }
            let entry = Arc::new(Entry {
                settings: change(before.settings.clone()).checked()?,
                name,
                ..*before
            });
            put_account(vault, digest, &entry)?;
            let mut table = accounts.table.write();
            table.accounts.insert(entry.name.clone(), Arc::clone(&entry));
            Ok(table.info(&entry))
        })
    }

    /// Makes a key of an account, and shows it this once.
    pub fn create_api_key(&self, account: &Account, new: NewApiKey) -> Result<(ApiKey, ApiKeyInfo)> {
        let now = self.accounts.clock.now();
        let new = new.checked(now)?;
        let shown = ApiKey::random();
        let key = Arc::new(Key {
            info: ApiKeyInfo {
                id: shown.id,
                account: account.clone(),
                scopes: new.scopes,
                collections: new.collections,
                created: now,
                expires: new.expires,
                label: new.label,
            },
            digest: shown.digest(&self.vault.ring.digest().secret),
            revoked: AtomicBool::new(false),
        });
        let info = key.info.clone();
        let (digest, accounts) = (self.account_digest(account), Arc::clone(&self.accounts));
        self.writer.alone(move |vault| {
            {
                let table = accounts.table.read();
                if table.account(&key.info.account)?.closed.is_some() {
                    return Err(RequestError::AccountClosed.into());
                }
                if table.keys_of(&key.info.account).count() >= API_KEYS_MAX {
                    return Err(RequestError::TooMany {
                        what: "keys of an account",
                        max: API_KEYS_MAX,
                    }
                    .into());
                }
            }
            put(vault, digest, key.info.id, &key.to_contents(), None)?;
            // ORDER: store before memory: nobody is let in by a key that a power cut would forget.
            accounts.table.write().keys.insert(key.info.id, key);
            Ok(())
        })?;
        Ok((shown, info))
    }

    /// Ends a key for good. When this returns, no call by it begins, and none goes on for longer than its
    /// present step.
    pub fn revoke_api_key(&self, account: &Account, id: RandomId, request: RandomId) -> Result<()> {
        let (digest, accounts) = (self.account_digest(account), Arc::clone(&self.accounts));
        let account = account.clone();
        self.writer.alone(move |vault| {
            let key = {
                let table = accounts.table.read();
                let own = table.keys.get(&id).filter(|key| key.info.account == account);
                Arc::clone(own.ok_or(RequestError::NoApiKey)?)
            };
            // ORDER: memory before store, here alone: if the disk fails, the key is refused all the same
            // until the next start.
            key.revoked.store(true, Ordering::Release);
            let asked = Asked {
                request,
                ..Asked::default()
            };
            erase(vault, vec![row_key(digest, id)], asked)?;
            accounts.table.write().keys.remove(&id);
            vault.advance_anchor()
        })?;
        self.purger.wake();
        Ok(())
    }

    /// From here on nobody acts for the account, and nothing is made in it.
    ///
    /// # Errors
    /// No such account, or one whose end was carried out.
    pub fn begin_closing(&self, name: &Account) -> Result<()> {
        let (digest, accounts, name) = (
            self.account_digest(name),
            Arc::clone(&self.accounts),
            name.clone(),
        );
        self.writer.alone(move |vault| {
            let before = Arc::clone(accounts.table.read().account(&name)?);
            if before.final_receipt.is_some() {
                return Err(RequestError::AccountClosed.into());
            }
            let closed = before.closed.unwrap_or_else(|| accounts.clock.now());
            let entry = Entry {
                settings: before.settings.clone(),
                closed: Some(closed),
                name: name.clone(),
                ..*before
            };
            put_account(vault, digest, &entry)?;
            let mut table = accounts.table.write();
            for key in table.keys_of(&name) {
                key.revoked.store(true, Ordering::Release);
            }
            table.accounts.insert(name, Arc::new(entry));
            Ok(())
        })
    }

    /// Erases the keys of a closed account, and writes down that it is gone. The receipt's subject is the
    /// account.
    pub fn finish_closing(&self, name: &Account, request: RandomId) -> Result<ErasureReceipt> {
        let nonce = Nonce::new();
        let subject = nonce.subject(name, None, None);
        let (digest, accounts, account) = (
            self.account_digest(name),
            Arc::clone(&self.accounts),
            name.clone(),
        );
        let issued = self.writer.alone(move |vault| {
            let rows = key_rows(vault, digest)?;
            let issued = erase(
                vault,
                rows,
                Asked {
                    request,
                    subject,
                    ..Asked::default()
                },
            )?;
            let mut table = accounts.table.write();
            table.keys.retain(|_, key| key.info.account != account);
            let before = Arc::clone(table.account(&account)?);
            let entry = Entry {
                settings: before.settings.clone(),
                final_receipt: issued.as_ref().map(|issued| issued.sequence),
                name: account.clone(),
                ..*before
            };
            // ORDER: the keys before the last word: a crash between leaves an end to be carried out again.
            put_account(vault, digest, &entry)?;
            table.accounts.insert(account, Arc::new(entry));
            drop(table);
            vault.advance_anchor()?;
            Ok(issued)
        })?;
        self.purger.wake();
        nonce.receipt(issued)
    }

    fn account_digest(&self, name: &Account) -> Digest {
        Digest::of_account(&self.vault.ring.digest().secret, name)
    }
}

fn row_key(digest: Digest, id: RandomId) -> Vec<u8> {
    [digest.0, id.0].concat()
}

fn account_record(vault: &Vault, digest: Digest) -> Result<Option<Vec<u8>>> {
    let mut found = None;
    vault.scan(Family::Accounts, &row_key(digest, OWN), &[], &mut |_, record| {
        found = Some(record.to_vec());
        Scan::Stop
    })?;
    Ok(found)
}

fn put(
    vault: &Vault,
    digest: Digest,
    id: RandomId,
    contents: &[u8],
    previous: Option<&Header>,
) -> Result<()> {
    let record = NewRecord {
        family: Family::Accounts,
        key: row_key(digest, id),
        binding: binding(vault.ring.deployment, digest, id),
        scheme: SchemeId([0; 16]),
        log: RandomId::default(),
        contents,
    };
    let mut plan = Plan::default();
    vault.plan_put(&mut plan, &record, previous)?;
    vault.commit(plan)
}

/// Writes what is known of an account in the place of what was.
fn put_account(vault: &Vault, digest: Digest, entry: &Entry) -> Result<()> {
    let record = account_record(vault, digest)?;
    let header = record.and_then(|record| Header::parse(&record).ok());
    put(vault, digest, OWN, &entry.to_contents(), header.as_ref())
}

/// The rows of an account's keys, also of those that cannot be read.
fn key_rows(vault: &Vault, digest: Digest) -> Result<Vec<Vec<u8>>> {
    let mut rows = Vec::new();
    vault.scan(
        Family::Accounts,
        &digest.0,
        &row_key(digest, OWN),
        &mut |key, _| {
            rows.push(key.to_vec());
            Scan::Continue
        },
    )?;
    Ok(rows)
}

/// Erases rows, in one receipt that names nobody.
fn erase(vault: &Vault, rows: Vec<Vec<u8>>, asked: Asked) -> Result<Option<Issued>> {
    let mut plan = Plan::default();
    let ticket = plan.begin_erasure(asked);
    for key in rows {
        let sealed = vault.sealed(Family::Accounts, &key)?;
        let header = sealed.and_then(|(record, _)| Header::parse(&record).ok());
        vault.plan_erase(&mut plan, Family::Accounts, key, header.as_ref())?;
    }
    vault.commit(plan)?;
    Ok(ticket.get().cloned())
}
