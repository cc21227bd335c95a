//! Lends idle cores of this machine to passes over an index.
//!
//! A photograph keeps one core busy, a pass over an index another. A pass that finds cores idle borrows them, piece
//! by piece, and gives them back as soon as other work starts: a search alone is faster, and under
//! load there are never more threads at work than without.

use std::sync::LazyLock;

use rayon::{ThreadPool, ThreadPoolBuilder};

pub use likeness_types::busy::{Busy, CORES, busy, idle};

/// Threads for all cores but the borrower's own. None where there is one core, or no thread to be had: everybody
/// then computes alone.
static POOL: LazyLock<Option<ThreadPool>> = LazyLock::new(|| {
    let threads = CORES.saturating_sub(1);
    let builder = ThreadPoolBuilder::new().thread_name(|n| format!("likeness-core-{n}"));
    (threads > 0)
        .then(|| builder.num_threads(threads).build().ok())
        .flatten()
});

/// Does `work` on this thread, and at the same time for each of `others` on a borrowed one.
pub fn together<T: Send>(others: &mut [T], own: impl FnOnce(), work: impl Fn(&mut T) + Sync) {
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
}
