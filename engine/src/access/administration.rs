//! Accounts and keys, as the service and the operator ask for them.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::access::accounts::Grant;
use crate::access::closing::{ClosedAccount, ClosedDeployment};
use crate::access::{AccountInfo, AccountSettings, ApiKey, ApiKeyInfo, Holding, NewApiKey};
use crate::engine::{Engine, PAGE_ITEMS_MAX};
use crate::gallery::collections::CollectionErasure;
use crate::gallery::{Background, Gallery};
use crate::page::Page;
use likeness_store::directory;
use likeness_store::keys::store::{KeyStore, KeyStoreLock};
use likeness_store::keys::{KeyRing, Purpose, RingKey};
use likeness_types::Inside;
use likeness_types::act::{Act, AuditEntry, Audited};
use likeness_types::error::{Error, RequestError, Result};
use likeness_types::names::{Account, RandomId};

/// What can be done to accounts and keys, whether a server runs or not.
pub struct Administration<'a> {
    gallery: &'a Gallery,
    ring: &'a KeyRing,
    store: &'a KeyStore,
    rotating: &'a Mutex<()>,
}

/// Data and keys without models: for the operator, while no server runs.
pub struct Offline {
    gallery: Gallery,
    ring: Arc<KeyRing>,
    store: KeyStore,
    rotating: Mutex<()>,
    _lock: KeyStoreLock,
}

impl Offline {
    /// Opens data and keys, and does whatever else a start does, so that a start finds them in order.
    ///
    /// # Errors
    /// A server uses them; or what only the operator can mend.
    pub fn open(store: &KeyStore, data: &Path) -> Result<Self> {
        // ORDER: as in a start, before any key is read.
        likeness_types::wipe::overwrite_what_is_freed();
        let lock = store.lock(Inside)?;
        let ring = Arc::new(store.open(Inside)?);
        let (gallery, _) = Gallery::open(
            |counters| directory::open(data, store.directory(), Arc::clone(&ring), false, counters),
            Background::default(),
        )?;
        let offline = Self {
            gallery,
            ring,
            store: store.clone(),
            rotating: Mutex::new(()),
            _lock: lock,
        };
        offline.administration().finish_closings()?;
        Ok(offline)
    }

    /// Over parts that a test has made.
    #[cfg(test)]
    pub(crate) fn over(gallery: Gallery, ring: Arc<KeyRing>, store: &KeyStore) -> Result<Self> {
        let offline = Self {
            gallery,
            ring,
            _lock: store.lock(Inside)?,
            store: store.clone(),
            rotating: Mutex::new(()),
        };
        offline.administration().finish_closings()?;
        Ok(offline)
    }

    /// What is behind it.
    #[cfg(test)]
    pub(crate) fn gallery(&self) -> &Gallery {
        &self.gallery
    }

    /// Ends the deployment: every account, then the keys without which the data are noise. Answers how many
    /// accounts there were, and the last checkpoint of the erasure log.
    ///
    /// # Errors
    /// The store or the key store failed; calling it again goes on, unless the keys are gone.
    pub fn close_deployment(self, request: RandomId) -> Result<ClosedDeployment> {
        let administration = self.administration();
        let entry = AuditEntry {
            account: Account::default(),
            key: None,
            request,
            act: Act::CloseDeployment,
            of: Account::default(),
            object: String::new(),
        };
        let (accounts, persons, unreadable) = administration.audited(&entry, |administration| {
            let mut closed = (0, 0);
            let unreadable = self.gallery.unreadable_collections()?;
            for account in self.gallery.owners() {
                match administration.close_account(&account, request) {
                    Ok(account) => closed = (closed.0 + 1, closed.1 + account.persons),
                    Err(Error::Request(RequestError::AccountClosed)) => {}
                    // Collections from before there were accounts.
                    Err(Error::Request(RequestError::NoAccount)) => {
                        let erased = administration.destroy_key_group(&account, request)?;
                        closed.1 += erased.iter().map(|erasure| erasure.persons as u64).sum::<u64>();
                    }
                    Err(error) => return Err(error),
                }
            }
            // ORDER: last, when nobody else is left: whoever cannot be read has no account to go with.
            let rest = self.gallery.erase_unreadable(request)?;
            Ok((closed.0, closed.1 + rest, unreadable))
        })?;
        self.gallery.purge_now()?;
        let closed = ClosedDeployment {
            deployment: self.ring.deployment,
            accounts,
            persons,
            unreadable_collections: unreadable,
            receipts: self.gallery.receipts(),
            checkpoint: self.gallery.checkpoint().unwrap_or_default(),
        };
        let Self {
            gallery,
            store,
            _lock,
            ..
        } = self;
        // ORDER: whatever still writes ends before the keys go.
        drop(gallery);
        store.destroy(Inside)?;
        Ok(closed)
    }

    /// What can be done.
    pub fn administration(&self) -> Administration<'_> {
        Administration {
            gallery: &self.gallery,
            ring: &self.ring,
            store: &self.store,
            rotating: &self.rotating,
        }
    }
}

impl Engine {
    /// What can be done to accounts and keys.
    pub fn administration(&self) -> Administration<'_> {
        Administration {
            gallery: &self.gallery,
            ring: &self.ring,
            store: &self.store,
            rotating: &self.rotating,
        }
    }

    /// What a key lets its holder do; none for one that does not fit, for whatever reason.
    pub fn grant(&self, shown: &ApiKey) -> Option<Grant> {
        self.gallery.accounts.grant(&self.ring.digest().secret, shown)
    }

    /// How many calls a second an account may make; 0 where it has no limit of its own.
    pub fn calls_per_second(&self, account: &Account) -> u32 {
        self.gallery.accounts.quotas(account).calls_per_second
    }
}

impl Administration<'_> {
    /// Makes an account, with a key group of its own.
    ///
    /// # Errors
    /// The name is taken, also by an account that was closed; or there are as many as may be.
    pub fn create_account(&self, name: &Account, settings: AccountSettings) -> Result<AccountInfo> {
        let settings = settings.checked()?;
        let _one_at_a_time = self.rotating.lock();
        if self.gallery.accounts.info(name).is_ok() {
            return Err(RequestError::AccountExists.into());
        }
        // ORDER: the key group before the account: a crash between leaves a key without an account, which
        // making it again takes; the other order could leave an account that cannot keep anybody.
        if self.ring.projection(name.as_str()).is_none() {
            let with = self
                .ring
                .with(RingKey::random(Purpose::Projection, name.as_str()));
            self.store.save(&with, Inside)?;
            self.ring.replace_by(&with);
        }
        self.gallery.create_account(name, settings)
    }

    /// The account of that name, made with the defaults if there is none.
    ///
    /// # Errors
    /// The store or the key store failed.
    pub fn ensure_account(&self, name: &Account) -> Result<AccountInfo> {
        match self.create_account(name, AccountSettings::default()) {
            Err(Error::Request(RequestError::AccountExists)) => self.account(name),
            made => made,
        }
    }

    /// Changes what of an account can be changed.
    ///
    /// # Errors
    /// No such account, or one that was closed; a setting out of its range.
    pub fn update_account(
        &self,
        name: &Account,
        change: impl FnOnce(AccountSettings) -> AccountSettings + Send + 'static,
    ) -> Result<AccountInfo> {
        self.gallery.update_account(name, change)
    }

    /// One account.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn account(&self, name: &Account) -> Result<AccountInfo> {
        self.gallery.accounts.info(name)
    }

    /// The accounts by name, beginning after `after`.
    pub fn accounts(&self, after: Option<&Account>, items_max: usize) -> Page<AccountInfo> {
        let items_max = items_max.clamp(1, PAGE_ITEMS_MAX);
        let mut items = self.gallery.accounts.list(after, items_max + 1);
        let more = items.len() > items_max;
        items.truncate(items_max);
        let last = items.last().map(|last| last.name.as_str().to_owned());
        Page {
            next: last.filter(|_| more),
            items,
            damaged: 0,
        }
    }

    /// Erases every collection of an account, and destroys the key that its templates were made with. Nobody
    /// can be enrolled under the account again.
    ///
    /// # Errors
    /// The store or the key store failed; calling it again goes on.
    pub fn destroy_key_group(&self, account: &Account, request: RandomId) -> Result<Vec<CollectionErasure>> {
        let _one_at_a_time = self.rotating.lock();
        let erased = self.gallery.delete_collections_of(account, request)?;
        let without = self
            .ring
            .without(|key| key.purpose == Purpose::Projection && key.group == account.as_str());
        // ORDER: the people before the key: a crash between leaves a key without people.
        self.store.save(&without, Inside)?;
        self.ring.replace_by(&without);
        Ok(erased)
    }

    /// Ends an account: its keys are revoked, its collections erased, its key group destroyed, and a last
    /// receipt says so. The name is never used again. An end that was interrupted is carried out by the next
    /// start.
    ///
    /// # Errors
    /// No such account, or one that is gone already; the store or the key store failed.
    pub fn close_account(&self, account: &Account, request: RandomId) -> Result<ClosedAccount> {
        // ORDER: nobody can make anything in it, then it is emptied: the other order would leave what was made
        // between.
        self.gallery.begin_closing(account)?;
        let unreadable = self.gallery.unreadable_collections()?;
        let erased = self.destroy_key_group(account, request)?;
        let unreadable_left = self.gallery.unreadable_collections()?;
        // ORDER: the last receipt last: until it is there, the next start carries all of this out again.
        let receipt = self.gallery.finish_closing(account, request)?;
        Ok(ClosedAccount {
            persons: erased.iter().map(|erasure| erasure.persons as u64).sum(),
            receipts: erased.iter().map(|erasure| erasure.receipts.len() as u64).sum(),
            unreadable_collections: unreadable.saturating_sub(unreadable_left),
            unreadable_left,
            receipt,
        })
    }

    /// Carries out the ends of accounts that were interrupted; answers how many.
    pub(crate) fn finish_closings(&self) -> Result<usize> {
        let closing = self.gallery.accounts.closing();
        let mut carried_out = 0;
        for account in &closing {
            match self.close_account(account, RandomId::random()) {
                Ok(_) => {
                    carried_out += 1;
                    tracing::info!(account = account.as_str(), "carried out the end of an account");
                }
                // Nobody can use it meanwhile, and everybody else is served.
                Err(error) => {
                    tracing::error!(account = account.as_str(), %error, "an account could not be ended");
                }
            }
        }
        Ok(carried_out)
    }

    /// What an account holds now.
    pub fn holding(&self, account: &Account) -> Holding {
        self.gallery.census.holding(account)
    }

    /// What all accounts hold together.
    pub fn holding_in_total(&self) -> Holding {
        self.gallery.census.total()
    }

    /// From how many faces of an account on the operator is told, in the log; 0 for never.
    pub fn faces_warning(&self) -> u64 {
        self.gallery.census.warning()
    }

    /// Sets it, and looks at once.
    pub fn warn_from(&self, faces: u64) {
        self.gallery.census.warn_from(faces);
    }

    /// Writes an act down in the audit log, then carries it out; if it fails, that is written down too.
    ///
    /// # Errors
    /// The act's own; or it could not be written down, and then it was not carried out.
    pub fn audited<T>(&self, entry: &AuditEntry, act: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        self.gallery.audited(entry, || act(self))
    }

    /// Entries of the audit log from this number on, as long as they are wanted; answers how many there are.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn audit_log(&self, first: u64, wanted: &mut dyn FnMut(Audited) -> bool) -> Result<u64> {
        self.gallery.audit_log(first, wanted)
    }

    /// Makes a key of an account. Nobody can show it again.
    ///
    /// # Errors
    /// No such account, or one that was closed; a field out of its range; as many keys as may be.
    pub fn create_api_key(&self, account: &Account, new: NewApiKey) -> Result<(ApiKey, ApiKeyInfo)> {
        self.gallery.create_api_key(account, new)
    }

    /// The keys of an account, oldest first; revoked ones are gone.
    ///
    /// # Errors
    /// No such account.
    pub fn api_keys(&self, account: &Account) -> Result<Vec<ApiKeyInfo>> {
        self.gallery.accounts.keys(account)
    }

    /// Whether an account has a key of this id.
    pub fn has_api_key(&self, account: &Account, id: RandomId) -> bool {
        self.gallery.accounts.has_key(account, id)
    }

    /// Ends a key at once and for good, also in older copies of the data. `request` names the call in the
    /// receipt.
    ///
    /// # Errors
    /// The account has no key of that id.
    pub fn revoke_api_key(&self, account: &Account, id: RandomId, request: RandomId) -> Result<()> {
        self.gallery.revoke_api_key(account, id, request)
    }
}
