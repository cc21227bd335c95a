//! The search of the flat index: a cascade of stages, each reading more of fewer rows.
//!
//! 1. The first 256 bits of every row, by shuffles ([`lookup`](crate::gallery::lookup)).
//! 2. The first 512 bits of the groups of 16 rows in which a row is left, likewise.
//! 3. The whole integer score of the rows that are left, which alone decides what is found.
//!
//! What a stage may drop follows from the bar by [`Bound`]: a mated face at the bar or above is dropped by
//! any of them with probability [`MISS`]. The bar rises as better candidates are found, and the limits
//! with it. Where they let too much pass, or where nothing may be missed, the scan is a full one:
//! an upper bound of every row's score, that no row can exceed, and the score of each row that reaches
//! the bar with it.
//!
//! All probes of a pass meet a block while it is in the cache, and share its nibbles.

mod stages;

use zeroize::Zeroizing;

use crate::gallery::arena::{Arena, GROUP, SLABS};
use crate::gallery::bound::{Bound, Limits};
use crate::gallery::cascade::stages::{Pass, Place};
use crate::gallery::full::Full;
use crate::gallery::index::{Person, Row};
use crate::gallery::lookup::{SLAB_BITS, Table};
use crate::gallery::simd::Kernel;
use crate::template::Probe;

/// The probability that a mated face which reaches the threshold is not found: one in a million.
pub(super) const MISS: f64 = 1e-6;

/// Blocks that a probe goes through before the next one's turn: 64 KiB of a slab, within the second cache.
const RUN: usize = 32;

/// Groups, and rows, that wait for their other bits to arrive from memory.
const RING: usize = 32;

/// Probes whose first stage is computed together.
const TOGETHER: usize = 4;

/// The part of the rows that the stages may leave before a full scan is faster.
const LEFT_MAX: f64 = 0.05;

/// Rows from which on it is worth while to compute limits.
const ROWS_MIN: usize = 4096;

/// The bar rises by this part of the largest score before the limits are computed again.
const RUNG: f64 = 0.01;

/// Who wants to know of the faces that reach a bar.
pub(super) trait Sink {
    /// The least score that is wanted from now on. It never falls.
    fn bar(&self) -> i32;
    /// A face that reaches it.
    fn offer(&mut self, score: i32, person: Person, row: Row);
}

/// One probe's search.
pub(super) struct Seek<'a, K: Sink> {
    probe: &'a Probe,
    sink: K,
    full: Full,
    staged: Option<Staged>,
    /// Whether the limits are of use at the present bar.
    narrow: bool,
    /// Groups that wait for the second stage.
    groups: Ring<Waiting>,
    /// Rows that wait for the last.
    rows: Ring<usize>,
    tally: Tally,
}

/// What was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Rows that went through the first stage.
    pub(super) first: u64,
    /// Groups that went through the second.
    pub(super) second: u64,
    /// Rows that went through the full scan.
    pub(super) full: u64,
    /// Rows whose whole score was computed.
    pub(super) whole: u64,
}

/// The stages' tables and limits.
struct Staged {
    bound: Bound,
    tables: Vec<Table>,
    limits: Limits,
    /// The bar that the limits were made for.
    bar: i32,
}

/// A group, and of its rows those that are left and all penalties so far.
#[derive(Clone, Copy, Default)]
struct Waiting {
    group: usize,
    left: u16,
    penalties: [u8; GROUP],
}

/// What waits.
struct Ring<T> {
    waiting: [T; RING],
    len: usize,
}

impl<T: Copy + Default> Ring<T> {
    fn new() -> Self {
        Self {
            waiting: [T::default(); RING],
            len: 0,
        }
    }

    /// Whether it is full with this one.
    #[inline(always)]
    fn push(&mut self, one: T) -> bool {
        self.waiting[self.len] = one;
        self.len += 1;
        self.len == RING
    }

    /// All that waited.
    #[inline(always)]
    fn take(&mut self) -> ([T; RING], usize) {
        (self.waiting, std::mem::take(&mut self.len))
    }
}

impl<'a, K: Sink> Seek<'a, K> {
    /// A search that misses a mated face with probability `miss` at most; 0: never.
    pub(super) fn new(arena: &Arena, probe: &'a Probe, sink: K, miss: f64) -> Self {
        assert_eq!(
            probe.bits(),
            arena.bits(),
            "templates of two schemes are never compared"
        );
        let values = probe.values();
        let bar = sink.bar();
        let worth = miss > 0.0 && arena.len() >= ROWS_MIN;
        let bound = worth
            .then(|| Bound::new(&values, probe.block(), bar, miss))
            .flatten();
        let staged = bound.map(|bound| Staged::new(bound, &values, bar));
        Self {
            narrow: staged.is_some(),
            full: Full::new(&values),
            probe,
            sink,
            staged,
            groups: Ring::new(),
            rows: Ring::new(),
            tally: Tally::default(),
        }
    }

    /// What was found, and what was looked at for it.
    pub(super) fn finish(self) -> (K, Tally) {
        (self.sink, self.tally)
    }
}

impl Staged {
    fn new(mut bound: Bound, values: &Zeroizing<Vec<i8>>, bar: i32) -> Self {
        let limits = bound.limits(bar);
        let cost = |differing: &[u8]| differing.iter().map(|m| bound.steps(*m)).sum();
        let slabs = values.chunks(SLAB_BITS).take(SLABS);
        let tables = slabs.map(|values| Table::new(values, cost)).collect();
        Self {
            bound,
            tables,
            limits,
            bar,
        }
    }
}

/// Offers every row that reaches the bar to each of `seeks`.
///
/// `allowed` answers, for the block whose first row is given, which of its rows count.
pub(super) fn scan<K: Sink>(arena: &Arena, seeks: &mut [Seek<'_, K>], allowed: impl Fn(Row) -> u64 + Copy) {
    scan_with(Kernel::best(), arena, seeks, allowed);
}

/// As [`scan`], with these instructions.
pub(super) fn scan_with<K: Sink>(
    kernel: Kernel,
    arena: &Arena,
    seeks: &mut [Seek<'_, K>],
    allowed: impl Fn(Row) -> u64 + Copy,
) {
    for (chunk, blocks) in arena.used() {
        let place = Place {
            chunk,
            stride: arena.stride(),
            allowed,
        };
        kernel.run(Pass { place, blocks, seeks });
    }
}

impl<K: Sink> Seek<'_, K> {
    /// Follows the bar, and goes on as the last run went: so many of its `rows` were `left` to the last stage.
    #[inline(always)]
    fn follow(&mut self, left: usize, rows: usize) {
        let Some(staged) = &mut self.staged else {
            return;
        };
        self.narrow &= left as f64 <= LEFT_MAX * rows as f64;
        let bar = self.sink.bar();
        if f64::from(bar) >= f64::from(staged.bar) + RUNG * f64::from(self.probe.score_max()) {
            staged.limits = staged.bound.limits(bar);
            staged.bar = bar;
            self.narrow = true;
        }
    }
}

#[cfg(test)]
mod tests;
