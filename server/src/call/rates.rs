//! Call rates: each API key, each account, and searches of an account by themselves.
//!
//! The rates are in memory: a restart resets them. Comparisons with a person are counted on disk (the engine's comparison
//! limiter), where a restart resets nothing.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, NotUntil, Quota, RateLimiter};
use likeness_engine::{Account, RandomId};

use crate::config::LimitArgs;
use crate::refusal::Refusal;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// What all callers may do how often.
pub struct Rates {
    per_second: u32,
    keys: Limiters<RandomId>,
    accounts: Limiters<Account>,
    searches_a_second: Limiters<Account>,
    searches_a_day: Limiters<Account>,
    limits: LimitArgs,
}

impl Rates {
    /// Before the first call.
    pub fn new(limits: &LimitArgs) -> Self {
        Self {
            per_second: limits.calls_per_second,
            keys: Limiters::default(),
            accounts: Limiters::default(),
            searches_a_second: Limiters::default(),
            searches_a_day: Limiters::default(),
            limits: limits.clone(),
        }
    }

    /// Counts a call by a key of an account, whose own limit is `quota` calls a second; 0 is none of its own.
    ///
    /// # Errors
    /// Too many, with the time until the next.
    pub fn call(&self, account: &Account, quota: u32, key: RandomId) -> Result<(), Refusal> {
        let of_account = if quota == 0 { self.per_second } else { quota };
        self.keys.check(&key, Rate::a_second(self.per_second))?;
        self.accounts.check(account, Rate::a_second(of_account))
    }

    /// Counts a search by an account, beside the call.
    ///
    /// # Errors
    /// Too many, with the time until the next.
    pub fn search(&self, account: &Account) -> Result<(), Refusal> {
        let LimitArgs {
            searches_per_second,
            searches_per_day,
            ..
        } = self.limits;
        self.searches_a_second
            .check(account, Rate::a_second(searches_per_second))?;
        self.searches_a_day.check(account, Rate::a_day(searches_per_day))
    }
}

/// So many in such a time, which may come together.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Rate {
    most: NonZeroU32,
    every: Duration,
}

impl Rate {
    fn a_second(most: u32) -> Self {
        Self::of(most, Duration::from_secs(1))
    }

    fn a_day(most: u32) -> Self {
        Self::of(most, DAY)
    }

    fn of(most: u32, time: Duration) -> Self {
        let most = NonZeroU32::new(most).unwrap_or(NonZeroU32::MIN);
        let every = (time / most.get()).max(Duration::from_nanos(1));
        Self { most, every }
    }

    fn limiter(self) -> DefaultDirectRateLimiter {
        let quota = Quota::with_period(self.every).expect("not zero, see `of`");
        RateLimiter::direct(quota.allow_burst(self.most))
    }
}

/// One limiter each; as many as there are keys or accounts, for an unknown key does not get this far.
struct Limiters<K>(Mutex<HashMap<K, (Rate, Arc<DefaultDirectRateLimiter>)>>);

impl<K> Default for Limiters<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + Eq + std::hash::Hash> Limiters<K> {
    fn check(&self, of: &K, rate: Rate) -> Result<(), Refusal> {
        let limiter = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match all.get(of) {
                Some((now, limiter)) if *now == rate => Arc::clone(limiter),
                _ => {
                    let limiter = Arc::new(rate.limiter());
                    all.insert(of.clone(), (rate, Arc::clone(&limiter)));
                    limiter
                }
            }
        };
        limiter.check().map_err(|until: NotUntil<_>| {
            let wait = until.wait_time_from(DefaultClock::default().now());
            Refusal::TooManyCalls(wait.max(Duration::from_millis(1)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str) -> Account {
        Account::parse(name).expect("a name")
    }

    fn wait(outcome: Result<(), Refusal>) -> Option<Duration> {
        match outcome {
            Ok(()) => None,
            Err(Refusal::TooManyCalls(wait)) => Some(wait),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_key_and_an_account_have_their_own_limits_and_learn_how_long_to_wait() {
        let rates = Rates::new(&LimitArgs {
            calls_per_second: 3,
            ..LimitArgs::DEFAULT
        });
        let (one, other) = (RandomId::random(), RandomId::random());
        for _ in 0..3 {
            assert_eq!(wait(rates.call(&account("a"), 5, one)), None);
        }
        let waits = wait(rates.call(&account("a"), 5, one)).expect("the key has made three");
        assert!(
            waits > Duration::from_millis(100) && waits <= Duration::from_millis(334),
            "{waits:?}"
        );
        for _ in 0..2 {
            assert_eq!(wait(rates.call(&account("a"), 5, other)), None);
        }
        assert!(
            wait(rates.call(&account("a"), 5, other)).is_some(),
            "the account has made five"
        );
        assert_eq!(wait(rates.call(&account("b"), 0, RandomId::random())), None);
    }

    #[test]
    fn searches_of_a_day_may_come_together_and_then_one_by_one() {
        let rates = Rates::new(&LimitArgs {
            searches_per_day: 24,
            ..LimitArgs::DEFAULT
        });
        for _ in 0..24 {
            assert_eq!(wait(rates.search(&account("a"))), None);
        }
        let waits = wait(rates.search(&account("a"))).expect("24 of 24");
        assert!(
            waits > Duration::from_secs(3500) && waits <= Duration::from_secs(3600),
            "{waits:?}"
        );
        assert_eq!(wait(rates.search(&account("b"))), None);
    }
}
