//! What each account may have of the workers, if the operator sets a limit: pixels to decode, and milliseconds of work.
//!
//! Both are spent before they are known to be there: a call begins while its account is not in debt, pixels are charged
//! from the header of each picture and milliseconds when they are over, and the next call waits until the debt is paid.
//! So a call that has begun is never refused half-way. The balances are in memory: a restart begins them anew.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use likeness_engine::Account;

use crate::config::LimitArgs;
use crate::refusal::Refusal;

/// An account that asks for little saves up what so many seconds bring.
const SAVED_SECONDS_MAX: f64 = 10.0;
/// A client is told to come back no sooner.
const RETRY_MIN: Duration = Duration::from_millis(10);

/// The balances of all accounts.
pub struct Budgets {
    /// Pixels, and milliseconds of work, in a second; without one there is no limit.
    rates: [Option<f64>; 2],
    balances: Mutex<HashMap<Account, [Balance; 2]>>,
}

/// What an account has left, in pixels or in milliseconds; less than nothing is a debt.
#[derive(Clone, Copy)]
struct Balance {
    left: f64,
    at: Instant,
}

const PIXELS: usize = 0;
const MILLIS: usize = 1;

impl Budgets {
    /// Every account begins with what it can save up.
    pub fn new(limits: &LimitArgs) -> Self {
        let rate = |a_second: f64| (a_second > 0.0).then_some(a_second);
        Self {
            rates: [
                rate(f64::from(limits.megapixels_per_second) * 1e6),
                rate(f64::from(limits.work_millis_per_second)),
            ],
            balances: Mutex::default(),
        }
    }

    /// Whether the account may begin a call.
    ///
    /// # Errors
    /// It is in debt, with the time until that is paid.
    pub fn check(&self, account: &Account) -> Result<(), Refusal> {
        let waits = [PIXELS, MILLIS].map(|of| self.spend(account, of, 0.0));
        match waits.into_iter().flatten().max() {
            None => Ok(()),
            Some(wait) => Err(Refusal::TooMuchWork(wait.max(RETRY_MIN))),
        }
    }

    /// A picture of so many pixels is about to be decoded for the account.
    pub fn decodes(&self, account: &Account, pixels: u64) {
        self.spend(account, PIXELS, pixels as f64);
    }

    /// The account has had a worker for so long.
    pub fn worked(&self, account: &Account, took: Duration) {
        self.spend(account, MILLIS, took.as_secs_f64() * 1e3);
    }

    /// Charges the account; answers when it is out of debt, if it is in one.
    fn spend(&self, account: &Account, of: usize, amount: f64) -> Option<Duration> {
        let rate = self.rates[of]?;
        let now = Instant::now();
        let mut balances = self.balances.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |of: usize| Balance {
            left: self.rates[of].unwrap_or(0.0) * SAVED_SECONDS_MAX,
            at: now,
        };
        let balance = &mut balances
            .entry(account.clone())
            .or_insert_with(|| [full(PIXELS), full(MILLIS)])[of];
        let earned = now.saturating_duration_since(balance.at).as_secs_f64() * rate;
        balance.left = (balance.left + earned).min(rate * SAVED_SECONDS_MAX) - amount;
        balance.at = now;
        (balance.left < 0.0).then(|| Duration::from_secs_f64(-balance.left / rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str) -> Account {
        Account::parse(name).expect("a name")
    }

    fn budgets(megapixels_per_second: u32, work_millis_per_second: u32) -> Budgets {
        Budgets::new(&LimitArgs {
            megapixels_per_second,
            work_millis_per_second,
            ..LimitArgs::DEFAULT
        })
    }

    fn wait(outcome: Result<(), Refusal>) -> Option<Duration> {
        match outcome {
            Ok(()) => None,
            Err(Refusal::TooMuchWork(wait)) => Some(wait),
            Err(other) => panic!("{other:?}"),
        }
    }

    fn about(wait: Option<Duration>, seconds: f64) -> bool {
        wait.is_some_and(|wait| (wait.as_secs_f64() - seconds).abs() < 0.5)
    }

    #[test]
    fn an_account_in_debt_waits_until_it_is_paid_and_no_other_does() {
        let budgets = budgets(4, 0);
        // Ten seconds bring 40 megapixels: that much may come at once, and more once it has begun.
        budgets.decodes(&account("a"), 40_000_000);
        budgets.decodes(&account("a"), 40_000_000);
        assert!(about(wait(budgets.check(&account("a"))), 10.0));
        assert_eq!(wait(budgets.check(&account("b"))), None);
    }

    #[test]
    fn work_is_charged_when_it_is_over() {
        let budgets = budgets(0, 500);
        budgets.decodes(&account("a"), u64::MAX);
        assert_eq!(wait(budgets.check(&account("a"))), None, "pixels have no limit");
        budgets.worked(&account("a"), Duration::from_secs(6));
        assert!(about(wait(budgets.check(&account("a"))), 2.0));
    }

    #[test]
    fn without_limits_nothing_is_kept() {
        let budgets = budgets(0, 0);
        budgets.worked(&account("a"), Duration::from_secs(3600));
        assert_eq!(wait(budgets.check(&account("a"))), None);
        assert!(budgets.balances.lock().expect("whole").is_empty());
    }
}
