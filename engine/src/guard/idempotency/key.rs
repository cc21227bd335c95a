//! Who asks for a write, and under which token: a write that is made once, however often it is asked for.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use likeness_types::names::{Account, RandomId, Token};

/// A write under an idempotency token. The token is scoped by account and interface; `payload` is a digest
/// of everything else that the call says, so that another call under the same token is seen.
pub struct Once {
    pub(crate) account: Account,
    pub(crate) interface: &'static str,
    pub(crate) token: Token,
    pub(crate) payload: [u8; 32],
    replayed: AtomicBool,
}

impl Once {
    /// A write that is made at most once in 24 hours.
    pub fn new(account: Account, interface: &'static str, token: Token, payload: [u8; 32]) -> Self {
        Self {
            account,
            interface,
            token,
            payload,
            replayed: AtomicBool::new(false),
        }
    }

    /// An earlier call made the write; this one only says what is there.
    pub fn is_replayed(&self) -> bool {
        self.replayed.load(Ordering::Acquire)
    }

    pub(crate) fn set_replayed(&self) {
        self.replayed.store(true, Ordering::Release);
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Once({})", self.interface)
    }
}

/// Who asks for a write: the call's name, and its token if it has one.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// As receipts record it.
    pub request: RandomId,
    /// None: the write is made whenever it is asked for.
    pub once: Option<Arc<Once>>,
}

impl From<RandomId> for Caller {
    fn from(request: RandomId) -> Self {
        Self { request, once: None }
    }
}
