//! Accounts and keys, as the service and the operator ask for them.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::access::{AccountInfo, AccountSettings, ApiKey, ApiKeyInfo, NewApiKey};
use crate::engine::{Engine, PAGE_ITEMS_MAX};
use crate::error::{Error, RequestError, Result};
use crate::gallery::accounts::Grant;
use crate::gallery::{Background, Gallery, Page, directory};
use crate::keys::store::{KeyStore, KeyStoreLock};
use crate::keys::{KeyRing, Purpose, RingKey};
use crate::names::{Account, RandomId};

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
        crate::wipe::overwrite_what_is_freed();
        let lock = store.lock()?;
        let ring = Arc::new(store.open()?);
        let (vault, destroyed) = directory::open(data, store.directory(), Arc::clone(&ring), false)?;
        let (gallery, _) = Gallery::open(vault, &destroyed, Background::default())?;
        Ok(Self {
            gallery,
            ring,
            store: store.clone(),
            rotating: Mutex::new(()),
            _lock: lock,
        })
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
}

impl Administration<'_> {
    /// Makes an account, with a key group of its own.
    ///
    /// # Errors
    /// The name is taken, also by an account that was closed; or there are as many as may be.
    pub fn create_account(&self, name: &Account, settings: AccountSettings) -> Result<AccountInfo> {
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
            self.store.save(&with)?;
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

    /// Ends a key at once and for good, also in older copies of the data. `request` names the call in the
    /// receipt.
    ///
    /// # Errors
    /// The account has no key of that id.
    pub fn revoke_api_key(&self, account: &Account, id: RandomId, request: RandomId) -> Result<()> {
        self.gallery.revoke_api_key(account, id, request)
    }
}
