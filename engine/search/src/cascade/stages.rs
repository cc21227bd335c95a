//! The stages of one chunk, for every probe of a pass.

use std::ops::Range;
use std::sync::Arc;

use super::turned::Turned;
use super::{
    BLOCKS_PER_RUN, BLOCKS_PER_STEP, BLOCKS_PER_STEP_ALONE, DEFER_BLOCKS, DENSE_BLOCK_ROWS_MIN,
    PROBES_PER_BATCH, Seek, Sink, Waiting,
};
use crate::arena::{BLOCK, Chunk, FRONT_WORDS, NO_PERSON};
use crate::index::Row;
use crate::simd::{Simd, Task};
use likeness_types::Inside;
use likeness_types::template::{PLANE_WEIGHTS, PLANES};

/// All probes over one chunk.
pub(super) struct Pass<'p, 'a, K: Sink, F> {
    pub(super) place: Place<'p, F>,
    pub(super) blocks: Range<usize>,
    pub(super) seeks: &'p mut [Seek<'a, K>],
    /// Where middles are turned around, once they are.
    pub(super) turned: &'p mut Option<Turned>,
}

/// A chunk, and which of its rows count.
#[derive(Clone, Copy)]
pub(super) struct Place<'p, F> {
    pub(super) chunk: Chunk<'p>,
    pub(super) allowed: F,
}

impl<K: Sink, F: Fn(Row) -> u64 + Copy> Task for Pass<'_, '_, K, F> {
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self {
            place,
            blocks,
            seeks,
            turned,
        } = self;
        for start in blocks.clone().step_by(BLOCKS_PER_RUN) {
            let end = (start + BLOCKS_PER_RUN).min(blocks.end);
            let full = seeks.iter().filter(|seek| !seek.narrow).count();
            let by_columns = if full >= S::TURNS_FROM && place.chunk.lines > 0 {
                let turned = turned.get_or_insert_with(|| Turned::new(place.chunk.lines));
                turned.fill::<S>(place.chunk, start..end, |block| place.allowed(block) != 0);
                Some(&*turned)
            } else {
                None
            };
            let mut at = 0;
            while at < seeks.len() {
                // Those that go through the stages and come together are looked at together.
                let together = seeks[at..]
                    .iter()
                    .take(PROBES_PER_BATCH)
                    .take_while(|seek| seek.narrow)
                    .count();
                let count = if together == PROBES_PER_BATCH {
                    PROBES_PER_BATCH
                } else {
                    1
                };
                match &mut seeks[at..at + count] {
                    [a, b, c, d] => place.first_together::<S, K>(start..end, [a, b, c, d], at > 0),
                    [one] if one.narrow => place.first::<S, K>(start..end, one),
                    // No closure: its instructions would be compiled for no processor in particular.
                    others => {
                        for seek in others {
                            match by_columns {
                                Some(turned) => place.full_by_columns::<S, K>(start..end, seek, turned),
                                None => place.full::<S, K>(start..end, seek),
                            }
                        }
                    }
                }
                at += count;
            }
            // What several probes wait for they read while it is in the cache.
            if seeks.len() >= PROBES_PER_BATCH {
                for seek in seeks.iter_mut() {
                    place.second::<S, K>(seek);
                    place.third::<S, K>(seek);
                }
            }
        }
        for seek in seeks {
            place.second::<S, K>(seek);
            place.third::<S, K>(seek);
        }
    }
}

impl<F: Fn(Row) -> u64 + Copy> Place<'_, F> {
    #[inline(always)]
    fn allowed(&self, block: usize) -> u64 {
        (self.allowed)(self.chunk.row(block * BLOCK))
    }

    /// The first stage of at most [`BLOCKS_PER_RUN`] blocks for one probe, which goes on with what a block leaves while others come
    /// from memory.
    #[inline(always)]
    fn first<S: Simd, K: Sink>(&self, blocks: Range<usize>, seek: &mut Seek<'_, K>) {
        let first = blocks.start;
        let limit = seek.front_limit();
        let weights = Arc::clone(&seek.weights);
        let mut count = 0;
        for (n, columns) in self.chunk.fronts[blocks.clone()].iter().enumerate() {
            // Whoever asks for few passes over the blocks that have none of them.
            seek.run.left[n] = match self.allowed(first.wrapping_add(n)) {
                0 => 0,
                allowed => S::front(columns, weights.front(), limit, &mut seek.run.fronts[n]) & allowed,
            };
            if n >= DEFER_BLOCKS {
                count += self.left_by_front::<S, K>(seek, first, n.wrapping_sub(DEFER_BLOCKS));
            }
        }
        for n in blocks.len().saturating_sub(DEFER_BLOCKS)..blocks.len() {
            count += self.left_by_front::<S, K>(seek, first, n);
        }
        seek.tally.first += (blocks.len() * BLOCK) as u64;
        seek.follow(count, blocks.len() * BLOCK);
    }

    /// The same for several probes: all of the blocks first, without a branch, and then what they left, so that the
    /// processor has little to guess. Whether the blocks are in the cache already decides nothing but time.
    #[inline(always)]
    fn first_together<S: Simd, K: Sink>(
        &self,
        blocks: Range<usize>,
        mut seeks: [&mut Seek<'_, K>; PROBES_PER_BATCH],
        cached: bool,
    ) {
        let mut n = 0;
        while cached && n + BLOCKS_PER_STEP <= blocks.len() {
            let seeks = seeks.each_mut().map(|seek| &mut **seek);
            self.of_fronts::<S, K, BLOCKS_PER_STEP, PROBES_PER_BATCH>(blocks.start + n, n, seeks);
            n += BLOCKS_PER_STEP;
        }
        while n < blocks.len() {
            let seeks = seeks.each_mut().map(|seek| &mut **seek);
            self.of_fronts::<S, K, 1, PROBES_PER_BATCH>(blocks.start + n, n, seeks);
            n += 1;
        }
        for seek in seeks {
            let mut count = 0;
            for n in 0..blocks.len() {
                count += self.left_by_front::<S, K>(seek, blocks.start, n);
            }
            seek.tally.first += (blocks.len() * BLOCK) as u64;
            seek.follow(count, blocks.len() * BLOCK);
        }
    }

    /// Notes the penalties of `B` blocks, and which of their rows are left, from the `n`-th of a run on.
    #[inline(always)]
    #[allow(
        clippy::needless_range_loop,
        reason = "a closure's instructions are compiled for no processor in particular"
    )]
    fn of_fronts<S: Simd, K: Sink, const B: usize, const P: usize>(
        &self,
        block: usize,
        n: usize,
        seeks: [&mut Seek<'_, K>; P],
    ) {
        let mut allowed = [0; B];
        for b in 0..B {
            allowed[b] = self.allowed(block + b);
        }
        if allowed == [0; B] {
            for seek in seeks {
                seek.run.left[n..n + B].fill(0);
            }
            return;
        }
        let tables = seeks.each_ref().map(|seek| seek.weights.front());
        let penalties = S::columns(self.chunk.fronts_of_blocks::<B>(block), tables);
        for p in 0..P {
            let limit = seeks[p].front_limit();
            let run = &mut seeks[p].run;
            for b in 0..B {
                run.left[n + b] = S::at_most(penalties[b][p], limit) & allowed[b];
                run.fronts[n + b] = S::store(penalties[b][p]);
            }
        }
    }

    /// Lets the rows wait that the front of the `n`-th block of a run left, whose first is that one: so many.
    #[inline(always)]
    fn left_by_front<S: Simd, K: Sink>(&self, seek: &mut Seek<'_, K>, first: usize, n: usize) -> u32 {
        let all = seek.run.left[n];
        let mut left = all;
        while left != 0 {
            let r = left.trailing_zeros() as usize;
            left &= left.wrapping_sub(1);
            let i = first.wrapping_add(n).wrapping_mul(BLOCK) | r;
            for line in self.chunk.middle(i) {
                S::prefetch(line);
            }
            let waiting = Waiting {
                row: i as u32,
                penalty: seek.weights.of_front(seek.run.fronts[n][r]),
            };
            if seek.for_middle.push(waiting) {
                self.second::<S, K>(seek);
            }
        }
        all.count_ones()
    }

    /// The second stage of the rows that waited.
    #[inline(always)]
    fn second<S: Simd, K: Sink>(&self, seek: &mut Seek<'_, K>) {
        let (waiting, len) = seek.for_middle.take();
        seek.tally.second += len as u64;
        let limit = seek.limit();
        for waiting in &waiting[..len] {
            let middle = seek.weights.of_middle::<S>(self.chunk, waiting.row as usize);
            let penalty = waiting.penalty.wrapping_add(middle);
            if penalty <= limit {
                self.left_by_middle::<S, K>(seek, waiting.row as usize, penalty);
            }
        }
    }

    /// Lets a row wait that is left.
    #[inline(always)]
    fn left_by_middle<S: Simd, K: Sink>(&self, seek: &mut Seek<'_, K>, i: usize, penalty: i32) {
        if let Some(line) = self.chunk.tail(i) {
            S::prefetch(line);
        }
        let waiting = Waiting {
            row: i as u32,
            penalty,
        };
        if seek.for_tail.push(waiting) {
            self.third::<S, K>(seek);
        }
    }

    /// The third stage of the rows that waited, and the last of those that are left.
    #[inline(always)]
    fn third<S: Simd, K: Sink>(&self, seek: &mut Seek<'_, K>) {
        let (waiting, len) = seek.for_tail.take();
        seek.tally.third += len as u64;
        for waiting in &waiting[..len] {
            let tail = seek.weights.of_tail::<S>(self.chunk, waiting.row as usize);
            if waiting.penalty.wrapping_add(tail) <= seek.limit() {
                self.whole(seek, waiting.row as usize);
            }
        }
    }

    /// All rows of some blocks, by penalties that none at the bar exceeds.
    #[inline(always)]
    fn full<S: Simd, K: Sink>(&self, blocks: Range<usize>, seek: &mut Seek<'_, K>) {
        // Whatever lies together is read together: the processor reads on by itself, as long as one line follows the other.
        for (n, block) in blocks.clone().enumerate() {
            if self.allowed(block) != 0 {
                seek.run.fronts[n] = seek.weights.of_fronts::<S>(self.chunk, block);
            }
        }
        for (n, block) in blocks.clone().enumerate() {
            if self.allowed(block) != 0 {
                let penalties = seek
                    .weights
                    .of_middles::<S>(self.chunk, block, &seek.run.fronts[n]);
                self.note::<S, K>(seek, block, n, penalties);
            } else {
                seek.run.left[n] = 0;
            }
        }
        self.left_by_run::<S, K>(blocks, seek);
    }

    /// The same for one of several probes, by what lies in columns for all of them.
    #[inline(always)]
    fn full_by_columns<S: Simd, K: Sink>(
        &self,
        blocks: Range<usize>,
        seek: &mut Seek<'_, K>,
        turned: &Turned,
    ) {
        let mut n = 0;
        while n + BLOCKS_PER_STEP_ALONE <= blocks.len() {
            self.of_columns::<S, K, BLOCKS_PER_STEP_ALONE>(blocks.start + n, n, seek, turned);
            n += BLOCKS_PER_STEP_ALONE;
        }
        while n < blocks.len() {
            self.of_columns::<S, K, 1>(blocks.start + n, n, seek, turned);
            n += 1;
        }
        self.left_by_run::<S, K>(blocks, seek);
    }

    /// `B` blocks of it, from the `n`-th of the run on.
    #[inline(always)]
    fn of_columns<S: Simd, K: Sink, const B: usize>(
        &self,
        block: usize,
        n: usize,
        seek: &mut Seek<'_, K>,
        turned: &Turned,
    ) {
        let weights = &seek.weights;
        let fronts = (self.chunk.fronts_of_blocks::<B>(block), weights.front());
        let halves = weights.middle_tables(seek.probe).iter().enumerate();
        let middles = halves.map(|(half, table)| (turned.of_blocks::<B>(half, n), table));
        let penalties = weights.of_columns::<S, B>(std::iter::once(fronts).chain(middles));
        for (b, penalties) in penalties.into_iter().enumerate() {
            self.note::<S, K>(seek, block + b, n + b, penalties);
        }
    }

    /// Notes a block of a full scan, the `n`-th of its run.
    #[inline(always)]
    fn note<S: Simd, K: Sink>(
        &self,
        seek: &mut Seek<'_, K>,
        block: usize,
        n: usize,
        penalties: [i32; BLOCK],
    ) {
        seek.run.left[n] = S::all_at_most(&penalties, seek.limit()) & self.allowed(block);
        seek.run.penalties[n] = penalties;
    }

    /// Goes on with what a run of a full scan left: not before, for where the processor guessed wrong how many rows a block
    /// leaves, all that it has begun of the next one is in vain.
    #[inline(always)]
    fn left_by_run<S: Simd, K: Sink>(&self, blocks: Range<usize>, seek: &mut Seek<'_, K>) {
        for (n, block) in blocks.clone().enumerate() {
            self.left_by_block::<S, K>(seek, block, n);
        }
        seek.tally.full += (blocks.len() * BLOCK) as u64;
        seek.follow(0, blocks.len() * BLOCK);
    }

    /// What is left of a block, the `n`-th of its run, by the penalties of its fronts and middles.
    #[inline(always)]
    fn left_by_block<S: Simd, K: Sink>(&self, seek: &mut Seek<'_, K>, block: usize, n: usize) {
        let mut left = seek.run.left[n];
        let by_row = left.count_ones() < DENSE_BLOCK_ROWS_MIN;
        if !by_row {
            let penalties = &mut seek.run.penalties[n];
            seek.weights.add_tails::<S>(self.chunk, block, penalties);
            left &= S::all_at_most(&seek.run.penalties[n], seek.limit());
        }
        while left != 0 {
            let r = left.trailing_zeros() as usize;
            left &= left - 1;
            let i = block * BLOCK + r;
            if by_row {
                self.left_by_middle::<S, K>(seek, i, seek.run.penalties[n][r]);
            } else {
                self.whole(seek, i);
            }
        }
    }

    /// The integer score of a row, and whoever reaches the bar by it.
    #[inline(always)]
    fn whole<K: Sink>(&self, seek: &mut Seek<'_, K>, i: usize) {
        let mut counts = [0; PLANES];
        let (planes, rest) = seek.probe.planes(Inside).as_chunks::<FRONT_WORDS>().0.split_at(1);
        count(&mut counts, &self.chunk.front(i), &planes[0]);
        for (words, planes) in self.chunk.rest(i).zip(rest) {
            count(&mut counts, words, planes);
        }
        seek.tally.whole += 1;
        let score = score(&counts, seek.probe.sum());
        let person = self.chunk.owners[i];
        // A free row has a score too.
        if score >= seek.bar() && person != NO_PERSON {
            seek.offer(score, person, self.chunk.row(i));
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
