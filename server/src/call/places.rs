//! Places of calls, of which each account and each key has a share.
//!
//! A call has its place before its message is read, so that a client that sends slowly holds many. None can hold them all:
//! an account takes at most three times what it leaves free, a key at most three times what it leaves to the other
//! keys of its account, calls without a valid key a few in all, and the last places are for the operator's
//! administrators.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use likeness_engine::{Account, RandomId, Scope};

use super::caller::{Caller, Needs};

/// An account may take so many times what it leaves free, and so may a key of what its account may have.
const SHARE: usize = 3;
/// Of so many places one is kept for the operator's administrators, and one is the most that calls without a valid
/// key have.
const KEPT_OF: usize = 16;

/// When a call that found no place is worth another try: places come free all the time.
pub const RETRY_AFTER: Duration = Duration::from_millis(500);

/// All places, and who has them.
#[derive(Clone)]
pub struct Places {
    /// So many.
    pub max: u32,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    strangers: usize,
    accounts: HashMap<Account, usize>,
    keys: HashMap<RandomId, usize>,
}

/// A place, given back on drop.
pub struct Place {
    places: Places,
    /// None of a call without a valid key.
    owner: Option<(Account, RandomId)>,
}

impl Places {
    /// So many places.
    pub fn new(max: u32) -> Self {
        Self {
            max,
            taken: Arc::default(),
        }
    }

    /// A place for a call of this caller, or of a stranger; none where its share is taken.
    pub fn take(&self, caller: Option<&Caller>) -> Option<Place> {
        match caller {
            None => self.take_for(None, false),
            Some(caller) => {
                let administers = caller.may(Needs::Operator(Scope::Admin)).is_ok();
                self.take_for(Some((caller.account.clone(), caller.key)), administers)
            }
        }
    }

    fn take_for(&self, owner: Option<(Account, RandomId)>, administers: bool) -> Option<Place> {
        let max = self.max as usize;
        let kept = max / KEPT_OF;
        let mut taken = self.taken();
        let may = match &owner {
            // Where there are few places in all, a stranger has one of them.
            None => taken.all + kept < max && taken.strangers < kept.max(1),
            Some(_) if administers => taken.all < max,
            Some((account, key)) => {
                let free = (max - kept).saturating_sub(taken.all);
                let left = (SHARE * free).saturating_sub(of(&taken.accounts, account));
                of(&taken.keys, key) < SHARE * left
            }
        };
        if !may {
            return None;
        }
        taken.all += 1;
        match &owner {
            None => taken.strangers += 1,
            Some((account, key)) => {
                *taken.accounts.entry(account.clone()).or_default() += 1;
                *taken.keys.entry(*key).or_default() += 1;
            }
        }
        drop(taken);
        Some(Place {
            places: self.clone(),
            owner,
        })
    }

    /// How many are taken.
    pub fn taken_count(&self) -> usize {
        self.taken().all
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn of<K: Eq + Hash>(counts: &HashMap<K, usize>, key: &K) -> usize {
    counts.get(key).copied().unwrap_or_default()
}

fn give_back<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all -= 1;
        match &self.owner {
            None => taken.strangers -= 1,
            Some((account, key)) => {
                give_back(&mut taken.accounts, account);
                give_back(&mut taken.keys, key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key of this account.
    fn key(account: &str) -> Option<(Account, RandomId)> {
        Some((Account::parse(account).expect("a name"), RandomId::random()))
    }

    /// As many as a key of this account can have.
    fn all(places: &Places, account: &str) -> Vec<Place> {
        let owner = key(account);
        std::iter::from_fn(|| places.take_for(owner.clone(), false)).collect()
    }

    #[test]
    fn a_key_leaves_places_to_its_account_and_an_account_to_the_others_and_all_to_the_operator() {
        let places = Places::new(1024);
        let (one, sister, other) = (all(&places, "a"), all(&places, "a"), all(&places, "b"));
        println!("{} {} {}", one.len(), sister.len(), other.len());
        assert!(one.len() >= 512 && sister.len() >= 32 && other.len() >= 128);
        assert!(one.len() + sister.len() <= 3 * 960 / 4);
        let strangers: Vec<_> = std::iter::from_fn(|| places.take_for(None, false)).collect();
        assert!(strangers.len() <= 64);
        let third = places.take_for(key("c"), false);
        assert!(third.is_some(), "three accounts do not take all of what is there");
        let operator = key("operator");
        let kept: Vec<_> = std::iter::from_fn(|| places.take_for(operator.clone(), true)).collect();
        assert!(kept.len() >= 64, "{}", kept.len());
        assert_eq!(places.taken_count(), 1024);
        drop((one, sister, other, strangers, third, kept));
        assert_eq!(places.taken_count(), 0);
        let taken = places.taken();
        assert!(taken.accounts.is_empty() && taken.keys.is_empty());
    }

    #[test]
    fn where_there_is_one_place_whoever_comes_first_has_it() {
        let places = Places::new(1);
        let only = places.take_for(key("a"), false).expect("it is free");
        assert!(places.take_for(key("b"), true).is_none());
        drop(only);
        assert!(places.take_for(None, false).is_some());
    }
}
