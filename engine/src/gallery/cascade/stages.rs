//! The stages of one chunk, for every probe of a pass.

use std::ops::Range;

use super::{RUN, Seek, Sink, Staged, TOGETHER, Waiting};
use crate::gallery::arena::{
    BLOCK, Chunk, GROUP, GROUPS, LINE, LINE_WORDS, NOBODY, SLAB_WORDS, SLABS, groups, row, row_of,
};
use crate::gallery::full::Full;
use crate::gallery::index::Row;
use crate::gallery::lookup;
use crate::gallery::simd::{Simd, Task};
use crate::template::{PLANE_WEIGHTS, PLANES};

/// All probes over one chunk.
pub(super) struct Pass<'p, 'a, K: Sink, F> {
    pub(super) place: Place<'p, F>,
    pub(super) blocks: Range<usize>,
    pub(super) seeks: &'p mut [Seek<'a, K>],
}

/// A chunk, the lines of its rows, and which of them count.
#[derive(Clone, Copy)]
pub(super) struct Place<'p, F> {
    pub(super) chunk: &'p Chunk,
    pub(super) stride: usize,
    pub(super) allowed: F,
}

impl<K: Sink, F: Fn(Row) -> u64 + Copy> Task for Pass<'_, '_, K, F> {
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { place, blocks, seeks } = self;
        for start in blocks.clone().step_by(RUN) {
            let end = (start + RUN).min(blocks.end);
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
        let full = seek
            .full
            .take()
            .unwrap_or_else(|| Full::new(&seek.probe.values()));
        for block in blocks.clone() {
            let allowed = self.allowed(block);
            if allowed == 0 {
                continue;
            }
            let bar = seek.bar();
            let mut left = full.reaching::<S>(self.chunk, self.stride, block, bar) & allowed;
            while left != 0 {
                let i = block * BLOCK + left.trailing_zeros() as usize;
                left &= left - 1;
                self.whole(seek, i);
            }
        }
        seek.full = Some(full);
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
        if score >= seek.bar() && person != NOBODY {
            seek.offer(score, person, row(self.chunk.first + i));
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
