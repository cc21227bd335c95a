//! The search of the flat index: a cascade of stages, each reading more of fewer rows.
//!
//! 1. The first 256 bits of every row, by shuffles ([`lookup`](crate::lookup)).
//! 2. Those of the rows that are left that fill whole lines behind them (768 bits of 1024, with the first), roughly:
//!    the probe's values rounded to three bits ([`weights`](crate::weights)).
//! 3. All others, as roughly.
//! 4. The whole integer score of the rows that are left, which alone decides what is found.
//!
//! What a stage may drop follows from the bar by [`Bound`]: a mated face at the bar or above is dropped by
//! any of them with probability [`MISS_PROBABILITY`]. The bar rises as better candidates are found, and the limits
//! with it. Where they let too much pass, or where nothing may be missed, the scan is a full one: the second stage
//! of every row, whose rounding is always in the row's favour, with the limit that no row at the bar can exceed.
//! The limit of the third stage serves the second too: a penalty only grows.
//!
//! All probes of a pass meet a block while it is in the cache, and share what is made of it for the shuffles.
//!
//! Where cores are idle a pass borrows them ([`cores`]): a core that finishes its blocks takes the next
//! ones. Each core has a sink of its own, and the highest of their bars holds for all: as many faces as are wanted reach
//! it in one sink already, so that none below it is among the best of all.

pub(crate) mod stages;
pub(crate) mod turned;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

use crate::cores;
use crate::cores::{Busy, CORES};

use crate::arena::{Arena, BLOCK, Chunk};
use crate::bound::{Bound, Limits};
use crate::cascade::stages::{Pass, Place};
use crate::index::{PersonNo, Row};
use crate::simd::Kernel;
use crate::weights::Weights;
use likeness_types::Inside;
use likeness_types::template::Probe;

/// The probability that a mated face which reaches the threshold is not found: one in a million.
pub(crate) const MISS_PROBABILITY: f64 = 1e-6;

/// Blocks that a probe goes through before the next one's turn: 64 KiB of columns, within the second cache.
pub(crate) const BLOCKS_PER_RUN: usize = 32;

/// Rows that wait at once for their other bits to arrive from memory.
const PENDING_ROWS: usize = 32;

/// In a full scan, from so many rows on of the 64 of a block that the second stage leaves, the third stage computes the whole
/// block: their tails lie in up to a third of its lines, and all of those follow each other. An estimate; it decides
/// nothing but time.
const DENSE_BLOCK_ROWS_MIN: u32 = 12;

/// Probes whose first stage is computed together.
pub(crate) const PROBES_PER_BATCH: usize = 4;

/// Blocks in the cache that are computed in one step, for several probes and for one: each entry of a table is loaded
/// once for all of them. Blocks that come from memory are computed one by one: the processor reads on by itself only where
/// one line follows the other.
pub(crate) const BLOCKS_PER_STEP: usize = 2;
pub(crate) const BLOCKS_PER_STEP_ALONE: usize = 4;

/// The part of the rows that the first stage may leave before a full scan is faster: of a row by itself two lines are
/// read from anywhere, of all rows each line once, in order. Chosen by trial on synthetic people at the default
/// threshold, where the stage leaves less.
const LEFT_MAX: f64 = 0.25;

/// For a single probe, the rows that a block's front leaves go to the next stage so many blocks later. The processor predicts
/// their number, and discards what it has begun where the prediction is wrong: by then it need not predict.
const DEFER_BLOCKS: usize = 2;

/// Rows from which on it is worth while to compute limits.
const ROWS_MIN: usize = 4096;

/// Blocks of one task, which a core takes and finishes: 16 thousand rows, half a megabyte of columns.
const BLOCKS_PER_TASK: usize = 256;

/// Least tasks for each core that is borrowed: waking a thread takes time too.
const TASKS_PER_CORE_MIN: usize = 2;

/// The limits are computed again when the bar has risen by this part of the largest score.
const LIMITS_REFRESH_STEP: f64 = 0.01;

/// Receives the faces that reach a bar.
pub(crate) trait Sink {
    /// The least score that is wanted from now on. It never falls.
    fn bar(&self) -> i32;
    /// A face that reaches it.
    fn offer(&mut self, score: i32, person: PersonNo, row: Row);
    /// A sink that wants the same, for another part of the rows.
    fn fork(&self) -> Self;
    /// Takes over what that one was offered.
    fn merge(&mut self, other: Self);
}

/// One probe's search.
pub(crate) struct Seek<'a, K: Sink> {
    probe: &'a Probe,
    sink: K,
    /// The highest bar of all who look for this probe.
    bar: Arc<AtomicI32>,
    weights: Arc<Weights>,
    staged: Option<Staged>,
    /// Whether the limits are of use at the present bar.
    narrow: bool,
    run: Noted,
    /// Rows that wait for the second stage.
    for_middle: Ring,
    /// Rows that wait for the third.
    for_tail: Ring,
    tally: Tally,
}

/// What was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Rows that went through the first stage.
    pub first: u64,
    /// Rows that went through the second.
    pub second: u64,
    /// Rows that went through the third one by one.
    pub third: u64,
    /// Rows that went through the full scan.
    pub full: u64,
    /// Rows whose whole score was computed.
    pub whole: u64,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.first += other.first;
        self.second += other.second;
        self.third += other.third;
        self.full += other.full;
        self.whole += other.whole;
    }
}

/// What the stages drop by.
#[derive(Clone)]
struct Staged {
    bound: Bound,
    limits: Limits,
    /// The bar that the limits were made for.
    bar: i32,
}

/// What is known of the blocks of a run.
struct Noted {
    /// A bit for each row that is left.
    left: [u64; BLOCKS_PER_RUN],
    /// By the fronts, in their steps.
    fronts: [[u8; BLOCK]; BLOCKS_PER_RUN],
    /// In a full scan, by fronts and middles.
    penalties: [[i32; BLOCK]; BLOCKS_PER_RUN],
}

impl Noted {
    fn new() -> Self {
        Self {
            left: [0; BLOCKS_PER_RUN],
            fronts: [[0; BLOCK]; BLOCKS_PER_RUN],
            penalties: [[0; BLOCK]; BLOCKS_PER_RUN],
        }
    }
}

/// A row of a chunk, and its penalty so far.
#[derive(Clone, Copy, Default)]
struct Waiting {
    row: u32,
    penalty: i32,
}

/// What waits.
struct Ring {
    waiting: [Waiting; PENDING_ROWS],
    len: usize,
}

impl Ring {
    fn new() -> Self {
        Self {
            waiting: [Waiting::default(); PENDING_ROWS],
            len: 0,
        }
    }

    /// Whether it is full with this one.
    #[inline(always)]
    fn push(&mut self, one: Waiting) -> bool {
        self.waiting[self.len] = one;
        self.len = self.len.wrapping_add(1);
        self.len == PENDING_ROWS
    }

    /// All that waited.
    #[inline(always)]
    fn take(&mut self) -> ([Waiting; PENDING_ROWS], usize) {
        (self.waiting, std::mem::take(&mut self.len))
    }
}

impl<'a, K: Sink> Seek<'a, K> {
    /// A search that misses a mated face with probability `miss` at most; 0: never.
    pub(crate) fn new(arena: &Arena, probe: &'a Probe, sink: K, miss: f64) -> Self {
        assert_eq!(
            probe.bits(),
            arena.bits(),
            "templates of two schemes are never compared"
        );
        let values = probe.values(Inside);
        let bar = sink.bar();
        let worth = miss > 0.0 && arena.len() >= ROWS_MIN;
        let bound = worth
            .then(|| Bound::new(&values, probe.block(), bar, miss))
            .flatten();
        let weights = match &bound {
            Some(bound) => Weights::new(&values, bound.step()),
            None => Weights::in_full(&values, bar),
        };
        let staged = bound.map(|bound| Staged::new(bound, bar));
        Self {
            narrow: staged.is_some(),
            bar: Arc::new(AtomicI32::new(bar)),
            weights: Arc::new(weights),
            probe,
            sink,
            staged,
            run: Noted::new(),
            for_middle: Ring::new(),
            for_tail: Ring::new(),
            tally: Tally::default(),
        }
    }

    /// The same search, of another part of the rows.
    fn fork(&self) -> Self {
        Self {
            probe: self.probe,
            sink: self.sink.fork(),
            bar: Arc::clone(&self.bar),
            weights: Arc::clone(&self.weights),
            staged: self.staged.clone(),
            narrow: self.narrow,
            run: Noted::new(),
            for_middle: Ring::new(),
            for_tail: Ring::new(),
            tally: Tally::default(),
        }
    }

    fn merge(&mut self, other: Self) {
        self.sink.merge(other.sink);
        self.tally.add(other.tally);
    }

    /// The least score that anybody who looks for this probe wants.
    #[inline(always)]
    fn bar(&self) -> i32 {
        self.bar.load(Ordering::Relaxed)
    }

    /// The largest penalty of fronts whose rows are looked at again, of a search in stages.
    #[inline(always)]
    fn front_limit(&self) -> u8 {
        self.staged.as_ref().expect("it has stages").limits.front
    }

    /// The largest penalty of rows that are looked at again.
    #[inline(always)]
    fn limit(&self) -> i32 {
        match &self.staged {
            Some(staged) if self.narrow => staged.limits.all,
            _ => self.weights.penalty_max(self.bar()),
        }
    }

    #[inline(always)]
    fn offer(&mut self, score: i32, person: PersonNo, row: Row) {
        self.sink.offer(score, person, row);
        self.bar.fetch_max(self.sink.bar(), Ordering::Relaxed);
    }

    /// What was found, and what was looked at for it.
    pub(crate) fn finish(self) -> (K, Tally) {
        (self.sink, self.tally)
    }
}

impl Staged {
    fn new(mut bound: Bound, bar: i32) -> Self {
        Self {
            limits: bound.limits(bar),
            bound,
            bar,
        }
    }
}

/// Offers every row that reaches the bar to each of `seeks`, with whatever cores are idle.
///
/// `allowed` answers, for the block whose first row is given, which of its rows count.
pub(crate) fn scan<K: Sink + Send>(
    arena: &Arena,
    seeks: &mut [Seek<'_, K>],
    allowed: impl Fn(Row) -> u64 + Copy + Sync,
) {
    let _own = cores::busy();
    let tasks = arena.len() / (BLOCKS_PER_TASK * BLOCK);
    let borrowed = cores::idle((tasks / TASKS_PER_CORE_MIN).min(*CORES));
    scan_with(Kernel::best(), &borrowed, arena, seeks, allowed);
}

/// As [`scan`], with these instructions, and on these cores as well.
pub(crate) fn scan_with<K: Sink + Send>(
    kernel: Kernel,
    borrowed: &Busy,
    arena: &Arena,
    seeks: &mut [Seek<'_, K>],
    allowed: impl Fn(Row) -> u64 + Copy + Sync,
) {
    let tasks: Vec<_> = tasks(arena).collect();
    let next = AtomicUsize::new(0);
    let look = |seeks: &mut [Seek<'_, K>], is_guest: bool| {
        let mut turned = None;
        while let Some((chunk, blocks)) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
            let place = Place {
                chunk: *chunk,
                allowed,
            };
            let blocks = blocks.clone();
            kernel.run(Pass {
                place,
                blocks,
                seeks,
                turned: &mut turned,
            });
            if is_guest && borrowed.leave() {
                return;
            }
        }
    };
    let mut forks: Vec<Vec<_>> = (0..borrowed.cores())
        .map(|_| seeks.iter().map(Seek::fork).collect())
        .collect();
    cores::together(&mut forks, || look(&mut *seeks, false), |fork| look(fork, true));
    for fork in forks {
        seeks
            .iter_mut()
            .zip(fork)
            .for_each(|(seek, fork)| seek.merge(fork));
    }
}

/// All rows that were ever used, by blocks of a chunk.
fn tasks(arena: &Arena) -> impl Iterator<Item = (Chunk<'_>, Range<usize>)> {
    arena.used().flat_map(|(chunk, blocks)| {
        let starts = (0..blocks).step_by(BLOCKS_PER_TASK);
        starts.map(move |start| (chunk, start..(start + BLOCKS_PER_TASK).min(blocks)))
    })
}

impl<K: Sink> Seek<'_, K> {
    /// Follows the bar, and goes on as the last run went: so many of its `rows` were `left` to the second stage.
    #[inline(always)]
    fn follow(&mut self, left: u32, rows: usize) {
        let bar = self.bar();
        let Some(staged) = &mut self.staged else {
            return;
        };
        self.narrow &= f64::from(left) <= LEFT_MAX * rows as f64;
        if f64::from(bar) >= f64::from(staged.bar) + LIMITS_REFRESH_STEP * f64::from(self.probe.score_max()) {
            staged.limits = staged.bound.limits(bar);
            staged.bar = bar;
            self.narrow = true;
        }
    }
}

#[cfg(test)]
mod tests;
