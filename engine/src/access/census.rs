//! How much each account holds, and whether there is room for more.
//!
//! Whoever adds to an account passes the writer, which asks here before it plans: so a quota is exact, however
//! many callers reach it at once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use crate::access::accounts::Accounts;
use crate::access::{FACES_WARNING, Holding, Quotas};
use crate::gallery::collection::Collection;
use crate::gallery::collection::Collections;
use likeness_types::error::{RequestError, Result};
use likeness_types::names::Account;

/// What the accounts hold, read off the collections in memory: nothing of it is kept twice.
pub(crate) struct Census {
    collections: Arc<RwLock<Collections>>,
    accounts: Arc<Accounts>,
    /// Faces of one account from which the operator is told.
    warning: AtomicU64,
    warned: Mutex<HashSet<Account>>,
}

impl Census {
    pub fn new(collections: Arc<RwLock<Collections>>, accounts: Arc<Accounts>) -> Self {
        Self {
            collections,
            accounts,
            warning: AtomicU64::new(FACES_WARNING),
            warned: Mutex::new(HashSet::new()),
        }
    }

    /// What an account holds now.
    pub fn holding(&self, account: &Account) -> Holding {
        let collections = self.collections.read();
        held(collections.values().filter(|c| c.account == *account))
    }

    /// What all accounts hold together.
    pub fn total(&self) -> Holding {
        held(self.collections.read().values())
    }

    /// From how many faces on the operator is told of an account.
    pub fn warning(&self) -> u64 {
        self.warning.load(Ordering::Relaxed)
    }

    /// Sets it, and looks at once.
    pub fn warn_from(&self, faces: u64) {
        self.warning.store(faces, Ordering::Relaxed);
        self.warned.lock().clear();
        let accounts: HashSet<_> = self
            .collections
            .read()
            .keys()
            .map(|(owner, _)| owner.clone())
            .collect();
        accounts.iter().for_each(|account| self.warn_once(account));
    }

    /// Tells the operator, once each time that an account comes to hold so many faces.
    pub fn warn_once(&self, account: &Account) {
        let (faces, from) = (self.holding(account).faces, self.warning());
        let mut warned = self.warned.lock();
        if from == 0 || faces < from {
            warned.remove(account);
        } else if warned.insert(account.clone()) {
            let account = account.as_str();
            tracing::warn!(
                account,
                faces,
                from,
                "an account holds as many faces as the operator wanted to be told of"
            );
        }
    }
}

fn held<'a>(collections: impl Iterator<Item = &'a Arc<Collection>>) -> Holding {
    let mut holding = Holding::default();
    for collection in collections {
        let (persons, faces) = collection.count();
        holding.collections += 1;
        holding.persons += persons as u64;
        holding.faces += faces as u64;
    }
    holding
}

/// Room for the changes of one group: what earlier ones of it take, later ones do not have.
pub(crate) struct Rooms<'a> {
    census: &'a Census,
    left: HashMap<Account, Room>,
}

/// What may be added yet.
struct Room {
    quotas: Quotas,
    persons: u64,
    faces: u64,
}

impl<'a> Rooms<'a> {
    pub fn of(census: &'a Census) -> Self {
        Self {
            census,
            left: HashMap::new(),
        }
    }

    /// Takes room for what a change adds.
    ///
    /// # Errors
    /// There is none; nothing was taken.
    pub fn take(&mut self, account: &Account, persons: u64, faces: u64) -> Result<()> {
        if persons == 0 && faces == 0 {
            return Ok(());
        }
        let census = self.census;
        let room = self
            .left
            .entry(account.clone())
            .or_insert_with(|| Room::of(census, account));
        let persons_left = room.persons.checked_sub(persons);
        let faces_left = room.faces.checked_sub(faces);
        room.persons = persons_left.ok_or(RequestError::QuotaPersons {
            max: room.quotas.persons,
        })?;
        match faces_left {
            Some(left) => room.faces = left,
            None => {
                room.persons += persons;
                return Err(RequestError::QuotaFaces {
                    max: room.quotas.faces,
                }
                .into());
            }
        }
        Ok(())
    }

    /// The accounts that something was added to.
    pub fn grown(self) -> impl Iterator<Item = Account> {
        self.left.into_keys()
    }
}

impl Room {
    fn of(census: &Census, account: &Account) -> Self {
        let quotas = census.accounts.quotas(account);
        // Only who has a limit is counted.
        let holding = if quotas.persons == 0 && quotas.faces == 0 {
            Holding::default()
        } else {
            census.holding(account)
        };
        let left = |max: u64, held: u64| match max {
            0 => u64::MAX,
            max => max.saturating_sub(held),
        };
        Self {
            quotas,
            persons: left(quotas.persons, holding.persons),
            faces: left(quotas.faces, holding.faces),
        }
    }
}
