//! Counts the cores of this machine that compute for this process.
//!
//! A photograph keeps one core busy, a pass over an index another, and what is idle can be borrowed.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Cores that this process may use.
pub static CORES: LazyLock<usize> = LazyLock::new(|| thread::available_parallelism().map_or(1, usize::from));

/// Threads that compute, borrowed ones included.
static BUSY: AtomicUsize = AtomicUsize::new(0);

/// Cores in use, until it is dropped.
pub struct Busy(AtomicUsize);

impl Busy {
    fn of(cores: usize) -> Self {
        Self(AtomicUsize::new(cores))
    }

    /// How many.
    pub fn cores(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Gives one of them back while more threads compute than there are cores; answers whether it did. So one guest goes
    /// for each core that somebody else wants, and the others stay.
    pub fn leave(&self) -> bool {
        let leaves = BUSY.fetch_update(Ordering::Relaxed, Ordering::Relaxed, without_one);
        if leaves.is_ok() {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
        leaves.is_ok()
    }

    /// So many for a test, whether they are idle or not.
    #[cfg(any(test, feature = "testing"))]
    pub fn taken(cores: usize) -> Self {
        BUSY.fetch_add(cores, Ordering::Relaxed);
        Self::of(cores)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        BUSY.fetch_sub(self.cores(), Ordering::Relaxed);
    }
}

/// Notes that this thread computes.
pub fn busy() -> Busy {
    BUSY.fetch_add(1, Ordering::Relaxed);
    Busy::of(1)
}

/// Takes what is idle, at most so many cores.
pub fn idle(at_most: usize) -> Busy {
    let mut taken = 0;
    // Never an error: it takes none where none is idle.
    let _ = BUSY.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |busy| {
        taken = CORES.saturating_sub(busy).min(at_most);
        Some(busy + taken)
    });
    Busy::of(taken)
}

/// One thread fewer, if there are as many as cores even so.
fn without_one(busy: usize) -> Option<usize> {
    busy.checked_sub(1).filter(|others| *others >= *CORES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_guests_leave_as_cores_are_wanted() {
        let busy = std::iter::successors(Some(*CORES + 3), |busy| without_one(*busy));
        assert_eq!(busy.count() - 1, 3);
        assert_eq!((without_one(*CORES), without_one(0)), (None, None));
    }

    #[test]
    fn no_more_cores_are_borrowed_than_there_are() {
        let taken = [idle(1), idle(usize::MAX), idle(1)];
        let cores: usize = taken.iter().map(Busy::cores).sum();
        assert!(cores <= *CORES, "{cores} of {}", *CORES);
        assert_eq!(idle(0).cores(), 0);
    }
}
