//! Budget for the memory of messages that are incomplete or not yet answered: in all, and of one account.
//!
//! A message less than half complete may use three quarters of either budget. The last quarter is for messages at least half
//! complete: such a message reserves its remaining length at once. When many messages arrive together, the most advanced
//! complete and the others are refused; no message waits for another. The first bytes of every message ([`FREE_BYTES`])
//! are not counted: otherwise an account's photographs would keep its own deletions out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use likeness_engine::Account;
use tokio::time::Instant;

use crate::config::LimitArgs;

/// Of each message: as much as most messages without a photograph need. `--calls` limits how many there are.
pub const FREE_BYTES: usize = 16 << 10;
/// When a call that found no memory is worth another try: messages come and go all the time.
pub const RETRY_AFTER: Duration = Duration::from_millis(500);
/// From one look for memory to the next.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Memory for messages.
#[derive(Clone)]
pub struct MessageMemory(Arc<Inner>);

struct Inner {
    most: usize,
    most_of_account: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    in_all: usize,
    /// Of those that have any.
    accounts: HashMap<Account, usize>,
}

/// How far a message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Less than half of it is here.
    Begun,
    /// Half or more.
    Advanced,
}

impl Progress {
    /// Of these, what messages that far may use.
    const fn part(self, most: usize) -> usize {
        match self {
            Self::Begun => most / 4 * 3,
            Self::Advanced => most,
        }
    }
}

impl MessageMemory {
    /// As the operator limits it.
    pub fn of(limits: &LimitArgs) -> Self {
        let bytes = |mb: u32| usize::try_from(mb).unwrap_or(usize::MAX).saturating_mul(1 << 20);
        Self::new(
            bytes(limits.message_memory_mb),
            bytes(limits.message_memory_account_mb),
        )
    }

    /// So many bytes in all, and of one account.
    pub fn new(most: usize, most_of_account: usize) -> Self {
        Self(Arc::new(Inner {
            most,
            most_of_account,
            taken: Mutex::default(),
        }))
    }

    /// So many bytes for a message of this account, until what is returned is dropped; none where they are not there.
    pub fn reserve(&self, account: &Account, bytes: usize, progress: Progress) -> Option<Reservation> {
        if bytes <= FREE_BYTES {
            return Some(self.reservation(account, 0));
        }
        let mut taken = self.taken();
        let in_all = taken.in_all.checked_add(bytes)?;
        let of_account = taken.accounts.get(account).copied().unwrap_or_default();
        let of_account = of_account.checked_add(bytes)?;
        if in_all > progress.part(self.0.most) || of_account > progress.part(self.0.most_of_account) {
            return None;
        }
        taken.in_all = in_all;
        taken.accounts.insert(account.clone(), of_account);
        Some(self.reservation(account, bytes))
    }

    /// The same for a message that is whole, as soon as it is there: within `wait`.
    pub async fn reserve_within(
        &self,
        account: &Account,
        bytes: usize,
        wait: Duration,
    ) -> Option<Reservation> {
        let until = Instant::now().checked_add(wait);
        loop {
            let reserved = self.reserve(account, bytes, Progress::Advanced);
            if reserved.is_some() || until.is_some_and(|until| until <= Instant::now()) {
                return reserved;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    fn reservation(&self, account: &Account, bytes: usize) -> Reservation {
        Reservation {
            memory: self.clone(),
            account: account.clone(),
            bytes,
        }
    }

    /// Bytes that are reserved now.
    pub fn reserved(&self) -> usize {
        self.taken().in_all
    }

    /// As many as may be.
    pub fn most(&self) -> usize {
        self.0.most
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of the memory, given back on drop.
pub struct Reservation {
    memory: MessageMemory,
    account: Account,
    bytes: usize,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut taken = self.memory.taken();
        taken.in_all = taken.in_all.saturating_sub(self.bytes);
        if let Some(of_account) = taken.accounts.get_mut(&self.account) {
            *of_account = of_account.saturating_sub(self.bytes);
            if *of_account == 0 {
                taken.accounts.remove(&self.account);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str) -> Account {
        Account::parse(name).expect("a name")
    }

    const MIB: usize = 1 << 20;

    #[test]
    fn the_last_quarter_is_for_messages_that_are_nearly_here() {
        let memory = MessageMemory::new(4 * MIB, 4 * MIB);
        let begun = memory.reserve(&account("a"), 3 * MIB, Progress::Begun);
        assert!(begun.is_some());
        assert!(memory.reserve(&account("b"), MIB / 8, Progress::Begun).is_none());
        let advanced = memory.reserve(&account("b"), MIB, Progress::Advanced);
        assert!(advanced.is_some());
        assert!(
            memory
                .reserve(&account("a"), MIB / 8, Progress::Advanced)
                .is_none()
        );
        drop(begun);
        assert_eq!(memory.reserved(), MIB);
        assert!(memory.reserve(&account("a"), 2 * MIB, Progress::Begun).is_some());
    }

    #[test]
    fn an_account_has_its_share_and_leaves_the_rest_to_others() {
        let memory = MessageMemory::new(4 * MIB, 2 * MIB);
        let own = memory.reserve(&account("a"), 3 * MIB / 2, Progress::Begun);
        assert!(own.is_some());
        assert!(memory.reserve(&account("a"), MIB / 8, Progress::Begun).is_none());
        let other = memory.reserve(&account("b"), 3 * MIB / 2, Progress::Begun);
        assert!(other.is_some());
        drop((own, other));
        assert_eq!(memory.reserved(), 0);
        assert!(memory.taken().accounts.is_empty(), "no account is remembered");
        assert!(
            memory
                .reserve(&account("a"), usize::MAX, Progress::Advanced)
                .is_none()
        );
    }

    #[tokio::test]
    async fn a_small_message_needs_no_memory_of_the_budget_and_a_large_one_is_waited_for() {
        let memory = MessageMemory::new(4 * MIB, 4 * MIB);
        let all = memory.reserve(&account("a"), 4 * MIB, Progress::Advanced);
        let small = memory.reserve(&account("a"), FREE_BYTES, Progress::Begun);
        assert!(all.is_some() && small.is_some());
        let (account, wait) = (account("a"), Duration::from_millis(60));
        assert!(memory.reserve_within(&account, MIB, wait).await.is_none());
        let waiting = memory.reserve_within(&account, MIB, Duration::MAX);
        let (found, ()) = tokio::join!(waiting, async move {
            tokio::time::sleep(Duration::from_millis(60)).await;
            drop(all);
        });
        assert!(found.is_some());
    }
}
