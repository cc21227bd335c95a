//! The search of the flat index: a cascade of stages, each reading more of fewer rows.
//!
//! 1. The first 256 bits of every row, by shuffles ([`lookup`]).
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

use std::ops::Range;

use zeroize::Zeroizing;

use crate::gallery::arena::{
    Arena, BLOCK, Chunk, GROUP, GROUPS, LINE, LINE_WORDS, NOBODY, SLAB_WORDS, SLABS, groups, row, row_of,
};
use crate::gallery::bound::{Bound, Limits};
use crate::gallery::full::Full;
use crate::gallery::index::{Person, Row};
use crate::gallery::lookup::{self, SLAB_BITS, Table};
use crate::gallery::simd::{Kernel, Simd, Task};
use crate::template::{PLANE_WEIGHTS, PLANES, Probe};

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

/// All probes over one chunk.
struct Pass<'p, 'a, K: Sink, F> {
    place: Place<'p, F>,
    blocks: usize,
    seeks: &'p mut [Seek<'a, K>],
}

/// A chunk, the lines of its rows, and which of them count.
#[derive(Clone, Copy)]
struct Place<'p, F> {
    chunk: &'p Chunk,
    stride: usize,
    allowed: F,
}

impl<K: Sink, F: Fn(Row) -> u64 + Copy> Task for Pass<'_, '_, K, F> {
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { place, blocks, seeks } = self;
        for start in (0..blocks).step_by(RUN) {
            let end = (start + RUN).min(blocks);
            let mut at = 0;
            while at < seeks.len() {
                // Those that go through the stages and come together are looked at together.
                let together = seeks[at..]
                    .iter()
                    .take(TOGETHER)
                    .take_while(|seek| seek.narrow)
                    .count();
                let count = if together == TOGETHER { TOGETHER } else { 1 };
                match &mut seeks[at..at + count] {
                    [a, b, c, d] => place.first::<S, K, TOGETHER>(start..end, [a, b, c, d]),
                    [one] if one.narrow => place.first::<S, K, 1>(start..end, [one]),
                    others => others
                        .iter_mut()
                        .for_each(|seek| place.full::<S, K>(start..end, seek)),
                }
                at += count;
            }
            // What several probes wait for they read while it is in the cache.
            if seeks.len() >= TOGETHER {
                for seek in seeks.iter_mut() {
                    place.second::<S, K>(seek);
                }
            }
        }
        for seek in seeks {
            place.second::<S, K>(seek);
            place.last(seek);
        }
    }
}

impl<F: Fn(Row) -> u64 + Copy> Place<'_, F> {
    #[inline(always)]
    fn allowed(&self, block: usize) -> u64 {
        (self.allowed)(row(self.chunk.first + block * BLOCK))
    }

    /// The first stage of some blocks, for `P` probes.
    #[inline(always)]
    fn first<S: Simd, K: Sink, const P: usize>(
        &self,
        blocks: Range<usize>,
        mut seeks: [&mut Seek<'_, K>; P],
    ) {
        let mut left = [0; P];
        for block in blocks.clone() {
            if self.allowed(block) == 0 {
                continue;
            }
            let staged = seeks
                .each_ref()
                .map(|seek| seek.staged.as_ref().expect("it has stages"));
            let penalties =
                lookup::penalties::<S, P>(groups(&self.chunk.slabs[0], block), staged.map(|s| &s.tables[0]));
            for p in 0..P {
                let staged = seeks[p].staged.as_ref().expect("it has stages");
                let mask = S::at_most(penalties[p], staged.limits[0]);
                if mask != 0 {
                    left[p] += self.left::<S, K>(seeks[p], block, mask, S::store(penalties[p]));
                }
            }
        }
        for (seek, left) in seeks.iter_mut().zip(left) {
            seek.tally.first += (blocks.len() * BLOCK) as u64;
            seek.follow(left, blocks.len() * BLOCK);
        }
    }

    /// Lets the groups of a block wait in which a row is left; how many rows were left by the second stage.
    #[inline(always)]
    fn left<S: Simd, K: Sink>(
        &self,
        seek: &mut Seek<'_, K>,
        block: usize,
        mask: u64,
        penalties: [u8; LINE],
    ) -> usize {
        let mask = mask & self.allowed(block);
        let mut left = 0;
        for (g, penalties) in penalties.as_chunks::<GROUP>().0.iter().enumerate() {
            let rows = (mask >> (g * GROUP)) as u16;
            if rows == 0 {
                continue;
            }
            let group = block * GROUPS + g;
            if let Some(slab) = self.chunk.slabs[1].get(group) {
                for line in &slab.0 {
                    S::prefetch(line);
                }
            }
            if seek.groups.push(Waiting {
                group,
                left: rows,
                penalties: *penalties,
            }) {
                left += self.second::<S, K>(seek);
            }
        }
        left
    }

    /// The second stage of the groups that waited; how many rows were left.
    #[inline(always)]
    fn second<S: Simd, K: Sink>(&self, seek: &mut Seek<'_, K>) -> usize {
        let (waiting, len) = seek.groups.take();
        seek.tally.second += len as u64;
        let mut count = 0;
        for waiting in waiting[..len].chunks(GROUPS) {
            let (mut left, mut before) = (0, [0; LINE]);
            for (n, waiting) in waiting.iter().enumerate() {
                left |= u64::from(waiting.left) << (n * GROUP);
                before[n * GROUP..][..GROUP].copy_from_slice(&waiting.penalties);
            }
            if let Some(Staged { tables, limits, .. }) = &seek.staged
                && let [_, table] = &tables[..]
            {
                let mut sums = [S::zero(); GROUPS];
                for (sums, waiting) in sums.iter_mut().zip(waiting) {
                    let slab = std::array::from_ref(&self.chunk.slabs[1][waiting.group]);
                    [[*sums]] = lookup::sums::<S, 1, 1>(slab, [table]);
                }
                left &= S::at_most(S::add(S::fold(sums), S::load(&before)), limits[1]);
            }
            while left != 0 {
                let at = left.trailing_zeros() as usize;
                left &= left - 1;
                count += 1;
                let i = waiting[at / GROUP].group * GROUP + at % GROUP;
                if let Some(line) = self.chunk.rest.get(i * self.stride) {
                    S::prefetch(line);
                }
                if seek.rows.push(i) {
                    self.last(seek);
                }
            }
        }
        count
    }

    /// The whole score of the rows that waited.
    #[inline(always)]
    fn last<K: Sink>(&self, seek: &mut Seek<'_, K>) {
        let (waiting, len) = seek.rows.take();
        waiting[..len].iter().for_each(|i| self.whole(seek, *i));
    }

    /// All rows of some blocks, by an upper bound of the score.
    #[inline(always)]
    fn full<S: Simd, K: Sink>(&self, blocks: Range<usize>, seek: &mut Seek<'_, K>) {
        for block in blocks.clone() {
            let allowed = self.allowed(block);
            if allowed == 0 {
                continue;
            }
            let bar = seek.sink.bar();
            let mut left = seek.full.reaching::<S>(self.chunk, self.stride, block, bar) & allowed;
            while left != 0 {
                let i = block * BLOCK + left.trailing_zeros() as usize;
                left &= left - 1;
                self.whole(seek, i);
            }
        }
        seek.tally.full += (blocks.len() * BLOCK) as u64;
        seek.follow(0, blocks.len() * BLOCK);
    }

    /// The integer score of a row, and whoever reaches the bar by it.
    #[inline(always)]
    fn whole<K: Sink>(&self, seek: &mut Seek<'_, K>, i: usize) {
        let mut counts = [0; PLANES];
        let (mut slabs, rest) = seek
            .probe
            .planes()
            .split_at(seek.probe.planes().len().min(SLABS * SLAB_WORDS));
        for slab in &self.chunk.slabs {
            let planes;
            (planes, slabs) = slabs.split_at(slabs.len().min(SLAB_WORDS));
            if let Some(planes) = planes.first_chunk::<SLAB_WORDS>() {
                count(&mut counts, &row_of(slab, i), planes);
            }
        }
        let lines = &self.chunk.rest[i * self.stride..][..self.stride];
        for (line, planes) in lines.iter().zip(rest.as_chunks::<LINE_WORDS>().0) {
            count(&mut counts, &line.0, planes);
        }
        seek.tally.whole += 1;
        let score = score(&counts, seek.probe.sum());
        let person = self.chunk.owners[i];
        // A free row has a score too.
        if score >= seek.sink.bar() && person != NOBODY {
            seek.sink.offer(score, person, row(self.chunk.first + i));
        }
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

/// Adds the ones that a template's words have in common with each plane.
///
/// Wrapping arithmetic, because overflow checks would keep it out of the vector registers: a count is at
/// most 2048, and a score at most 2048 * 127.
#[inline(always)]
fn count<const N: usize>(counts: &mut [u64; PLANES], words: &[u64; N], planes: &[[u64; PLANES]; N]) {
    for (word, planes) in words.iter().zip(planes) {
        for (count, plane) in counts.iter_mut().zip(planes) {
            *count = count.wrapping_add(u64::from((word & plane).count_ones()));
        }
    }
}

/// The score of these counts, where `sum` is that of the values.
#[inline(always)]
fn score(counts: &[u64; PLANES], sum: i32) -> i32 {
    let ones = counts
        .iter()
        .zip(PLANE_WEIGHTS)
        .fold(0i32, |ones, (count, weight)| {
            ones.wrapping_add((*count as i32).wrapping_mul(weight))
        });
    ones.wrapping_mul(2).wrapping_sub(sum)
}

#[cfg(test)]
mod tests;
