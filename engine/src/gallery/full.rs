//! The full scan: an upper bound of every row's score that no row exceeds, so that nothing is missed.
//!
//! The first 512 bits are bounded by tables whose entries are rounded in the row's favour. Of the others
//! the probe's values are taken as q = 16 h + l with h from -8 to 7: the part of h is computed, with half
//! of the bit planes, and that of l is at most the sum of |l|.

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::gallery::arena::{BLOCK, Chunk, GROUPS, LINE_WORDS, Line, SLABS, groups};
use crate::gallery::lookup::{self, SLAB_BITS, Table};
use crate::gallery::simd::{HIGH, Simd};

/// A probe, as the full scan needs it.
#[derive(ZeroizeOnDrop)]
pub(super) struct Full {
    /// For each slab; the penalties of a lane fit a byte.
    tables: Vec<Table>,
    /// What a step of each table is worth in scores: twice the penalty.
    #[zeroize(skip)]
    steps: [i32; SLABS],
    /// `[bits / 512 - 1]`: the bit planes of h.
    planes: Vec<[Line; HIGH]>,
    /// The score of a row without penalty in the slabs, and without a one in the others.
    base: i32,
}

impl Full {
    pub(super) fn new(values: &[i8]) -> Self {
        let (front, rest) = values.split_at(values.len().min(SLABS * SLAB_BITS));
        let mut steps = [1; SLABS];
        let tables = front.chunks(SLAB_BITS).zip(&mut steps);
        let tables = tables.map(|(values, score)| {
            let step = lane_sums(values)
                .into_iter()
                .max()
                .unwrap_or(0)
                .div_ceil(255)
                .max(1);
            *score = 2 * step.cast_signed();
            Table::new(values, |differing| {
                differing.iter().map(|m| u32::from(*m)).sum::<u32>() / step
            })
        });
        let tables = tables.collect();
        let highs: i32 = rest.iter().map(|q| 16 * i32::from(high(*q))).sum();
        let lows: i32 = rest
            .iter()
            .map(|q| (i32::from(*q) - 16 * i32::from(high(*q))).abs())
            .sum();
        let magnitudes: i32 = front.iter().map(|q| i32::from(*q).abs()).sum();
        Self {
            tables,
            steps,
            planes: rest.chunks(LINE_WORDS * 64).map(planes).collect(),
            base: magnitudes - highs + lows,
        }
    }

    /// A bit for each row of a block that may reach the bar.
    #[inline(always)]
    pub(super) fn reaching<S: Simd>(&self, chunk: &Chunk, stride: usize, block: usize, bar: i32) -> u64 {
        let mut penalties = [0i32; BLOCK];
        for ((table, slabs), step) in self.tables.iter().zip(&chunk.slabs).zip(self.steps) {
            for slab in slabs[block * GROUPS..].iter().skip(GROUPS).take(GROUPS) {
                for line in &slab.0 {
                    S::prefetch(line);
                }
            }
            lookup::add_wide::<S>(&mut penalties, groups(slabs, block), table, step);
        }
        let (rest, next) = chunk.rest[block * BLOCK * stride..].split_at(BLOCK * stride);
        let bar = bar.saturating_sub(self.base);
        let mut mask = 0;
        let mut bounds = [0i32; BLOCK];
        for i in 0..BLOCK {
            for line in next.iter().skip(i * stride).take(stride) {
                S::prefetch(line);
            }
            let ones = S::ones(&rest[i * stride..][..stride], &self.planes);
            bounds[i] = ones.wrapping_mul(2 * 16).wrapping_sub(penalties[i]);
        }
        for (i, bound) in bounds.iter().enumerate() {
            mask |= u64::from(*bound >= bar) << i;
        }
        mask
    }
}

/// The magnitudes that come together in each lane.
fn lane_sums(values: &[i8]) -> [u32; 4] {
    let mut sums = [0; 4];
    for (byte, values) in values.chunks(8).enumerate() {
        sums[byte % 4] += values.iter().map(|q| u32::from(q.unsigned_abs())).sum::<u32>();
    }
    sums
}

/// A value's h.
fn high(q: i8) -> i8 {
    ((i16::from(q) + 8) >> 4).min(7) as i8
}

/// The bit planes of 512 values' h.
fn planes(values: &[i8]) -> [Line; HIGH] {
    std::array::from_fn(|p| {
        let mut line = Line([0; LINE_WORDS]);
        for (i, q) in values.iter().enumerate() {
            line.0[i / 64] |= u64::from(high(*q).cast_unsigned() >> p & 1) << (i % 64);
        }
        line
    })
}

impl Zeroize for Line {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}
