//! Memory that photographs in work may take together: it is reserved before anything is decoded, and a photograph for
//! which there is none is refused instead of ending the process.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::NoMemory;

/// So many bytes, shared by all who hold a clone.
#[derive(Clone)]
pub struct MemoryBudget(Arc<Inner>);

struct Inner {
    bytes_max: u64,
    reserved: AtomicU64,
}

impl MemoryBudget {
    /// So many bytes together.
    pub fn new(bytes_max: u64) -> Self {
        Self(Arc::new(Inner {
            bytes_max,
            reserved: AtomicU64::new(0),
        }))
    }

    /// So many of them, until what is returned is dropped.
    ///
    /// # Errors
    /// The others have them.
    pub fn reserve(&self, bytes: u64) -> Result<Reservation, NoMemory> {
        let with_these = |reserved: u64| {
            let all = reserved.checked_add(bytes)?;
            (all <= self.0.bytes_max).then_some(all)
        };
        let (set, fetch) = (Ordering::AcqRel, Ordering::Acquire);
        match self.0.reserved.fetch_update(set, fetch, with_these) {
            Ok(_) => Ok(Reservation {
                budget: self.clone(),
                bytes,
            }),
            Err(_) => Err(NoMemory { bytes }),
        }
    }

    /// How many are reserved.
    pub fn reserved(&self) -> u64 {
        self.0.reserved.load(Ordering::Acquire)
    }

    /// How many there are.
    pub fn bytes_max(&self) -> u64 {
        self.0.bytes_max
    }
}

/// No limit: for tools that work on one photograph at a time.
impl Default for MemoryBudget {
    fn default() -> Self {
        Self::new(u64::MAX)
    }
}

impl fmt::Debug for MemoryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.reserved(), self.bytes_max())
    }
}

/// Bytes of a budget, given back on drop.
pub struct Reservation {
    budget: MemoryBudget,
    bytes: u64,
}

impl Reservation {
    /// Gives back what is over so many bytes.
    pub fn shrink(&mut self, bytes: u64) {
        let over = self.bytes.saturating_sub(bytes);
        self.budget.0.reserved.fetch_sub(over, Ordering::AcqRel);
        self.bytes -= over;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_is_there_once_and_comes_back() {
        let budget = MemoryBudget::new(100);
        let mut first = budget.reserve(60).expect("there are 100");
        assert_eq!(budget.reserve(41).err(), Some(NoMemory { bytes: 41 }));
        first.shrink(20);
        first.shrink(30);
        let second = budget.reserve(80).expect("20 are taken");
        assert_eq!(budget.reserved(), 100);
        drop((first, second));
        assert_eq!(budget.reserved(), 0);
        assert!(budget.reserve(u64::MAX).is_err());
    }
}
