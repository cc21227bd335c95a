//! The time of day. What depends on it asks a clock that tests can set.

#[cfg(any(test, feature = "testing"))]
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::person::Timestamp;

/// Tells the time.
#[derive(Clone)]
pub enum Clock {
    /// The system's. It may be set back or forth at any moment.
    System,
    /// What a test set last.
    #[cfg(any(test, feature = "testing"))]
    Set(Arc<AtomicU64>),
}

impl Clock {
    /// The time by this clock.
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => Timestamp::now(),
            #[cfg(any(test, feature = "testing"))]
            Self::Set(ms) => Timestamp(ms.load(Ordering::SeqCst)),
        }
    }
}
