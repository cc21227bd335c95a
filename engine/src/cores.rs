//! Which of this machine's cores compute for us right now, and who borrows the idle ones.
//!
//! A photograph keeps one core busy, a pass over an index another. A pass that finds cores idle borrows them, piece
//! by piece, and gives them back as soon as somebody else comes to compute: a search alone is faster, and under
//! load there are never more threads at work than without.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rayon::{ThreadPool, ThreadPoolBuilder};

/// Cores that this process may use.
pub(crate) static CORES: LazyLock<usize> =
    LazyLock::new(|| thread::available_parallelism().map_or(1, usize::from));

/// Threads that compute, borrowed ones included.
static BUSY: AtomicUsize = AtomicUsize::new(0);

/// Threads for all cores but the borrower's own. None where there is one core, or no thread to be had: everybody
/// then computes alone.
static POOL: LazyLock<Option<ThreadPool>> = LazyLock::new(|| {
    let threads = CORES.saturating_sub(1);
    let builder = ThreadPoolBuilder::new().thread_name(|n| format!("likeness-core-{n}"));
    (threads > 0)
        .then(|| builder.num_threads(threads).build().ok())
        .flatten()
});

/// Cores in use, until it is dropped.
pub(crate) struct Busy(AtomicUsize);

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
    #[cfg(test)]
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
pub(crate) fn busy() -> Busy {
    BUSY.fetch_add(1, Ordering::Relaxed);
    Busy::of(1)
}

/// Takes what is idle, at most so many cores.
pub(crate) fn idle(at_most: usize) -> Busy {
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

/// Does `work` on this thread, and at the same time for each of `others` on a borrowed one.
pub(crate) fn together<T: Send>(others: &mut [T], own: impl FnOnce(), work: impl Fn(&mut T) + Sync) {
    match (&*POOL, others) {
        (_, []) => own(),
        (None, others) => {
            own();
            others.iter_mut().for_each(work);
        }
        (Some(pool), others) => pool.in_place_scope(|scope| {
            let work = &work;
            for other in others {
                scope.spawn(move |_| work(other));
            }
            own();
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_do_is_done_when_the_own_work_is() {
        let (mut others, mut own) = ([1, 2, 3], 0);
        together(&mut others, || own = 7, |other| *other *= 10);
        assert_eq!((others, own), ([10, 20, 30], 7));
    }

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
