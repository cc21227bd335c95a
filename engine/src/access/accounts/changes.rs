//! Accounts and keys made, changed and ended: the order of every change.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::rows;
use crate::access::accounts::rows::{Entry, Key, OWN};
use crate::access::{
    ACCOUNTS_MAX, API_KEYS_MAX, AccountInfo, AccountSettings, ApiKey, ApiKeyInfo, NewApiKey,
};
use crate::erasure_receipt::{ErasureReceipt, Nonce};
use crate::gallery::Gallery;
use likeness_store::codec::{Digest, Header};
use likeness_store::erasure_log::Issued;
use likeness_store::records::{Family, Scan};
use likeness_store::vault::{Asked, NewRecord, Plan, Vault, hidden};
use likeness_types::error::{OperatorError, RequestError, Result};
use likeness_types::names::{Account, RandomId};
use likeness_types::scheme::SchemeId;

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
                owner: Some(digest),
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
                    owner: Some(digest),
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
    let gaps = vault.scan(Family::Accounts, &row_key(digest, OWN), &[], &mut |_, record| {
        found = Some(record.to_vec());
        Scan::Stop
    })?;
    if found.is_none() && gaps > 0 {
        return Err(OperatorError::DamagedPlace.into());
    }
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
        binding: rows::binding(vault.ring.deployment, digest, id),
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
    let gaps = vault.scan(
        Family::Accounts,
        &digest.0,
        &row_key(digest, OWN),
        &mut |key, _| {
            rows.push(key.to_vec());
            Scan::Continue
        },
    )?;
    if gaps > 0 {
        return Err(OperatorError::DamagedPlace.into());
    }
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
    if !vault.plan_unnamed_keys(&mut plan)? {
        return Err(hidden("erasing an account"));
    }
    vault.commit(plan)?;
    Ok(ticket.get().cloned())
}
