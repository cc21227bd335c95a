//! Penalties of a row for bits that differ from a probe, in integers that never exceed the exact ones.
//!
//! The probe's magnitudes |q| are rounded down: where the bits lie in columns to steps of a byte, one by one or what is
//! looked up at a time together, behind them to three bits. A row's penalty by them is at most D, the sum of |q| over all
//! bits that differ, and by S = sum |q| - 2 D no row that reaches a bar has a D above its limit: so a scan that drops by that
//! limit misses no mated face.

use std::sync::OnceLock;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::arena::{BLOCK, Chunk, Columns, FRONT_BITS, LINE_WORDS, Line};
use crate::lookup::{Cost, Table};
use crate::simd::{ROWS, Simd};
use likeness_types::Inside;
use likeness_types::template::Probe;

/// Bit planes of what the bits behind the columns are worth.
pub(crate) const PLANES: usize = 3;

/// What one unit of those is, for a probe's magnitudes of 0 to 127: somewhat more than a quarter of their standard
/// deviation, so that a fifth of their sum is lost. With two planes two fifths were, and every block of a full scan had to
/// go through the third stage.
const UNIT: u8 = 10;

/// A front's 255 steps are so many times what a face at the bar is expected to cost there. Strangers cost twice as much
/// as a rule: with less they would all cost the same, with more each step would be rounded by more. Chosen by trial.
const SPAN: f64 = 2.0;

/// A probe, as a pass needs it.
#[derive(ZeroizeOnDrop)]
pub(crate) struct Weights {
    #[zeroize(skip)] // A table wipes itself.
    front: Table,
    /// `[lines of a row's middle]`.
    middle: Vec<Worth>,
    /// `[halves of a row's middle]`: the same in the front's steps, as soon as somebody looks it up by columns.
    #[zeroize(skip)]
    middle_tables: OnceLock<Vec<Table>>,
    /// Of both rows whose tails share a line.
    tail: Option<Worth>,
    /// What one of the front's steps is worth.
    #[zeroize(skip)]
    step: i32,
    /// What one of the others' units is worth.
    #[zeroize(skip)]
    unit: i32,
    /// The sum of all magnitudes.
    #[zeroize(skip)]
    sum: i32,
}

/// What the bits of a line are expected to be, and the planes of what they are worth otherwise.
#[derive(Zeroize)]
pub(crate) struct Worth {
    pub expected: Line,
    pub planes: [Line; PLANES],
}

impl Weights {
    /// For values of which a step of the front is worth so much, 1 at least: each bit by itself is rounded down.
    pub(crate) fn new(values: &[i8], step: u32) -> Self {
        Self::of::<UNIT>(values, Table::new(costs(values, step), 1), step)
    }

    /// For a scan that looks at everybody for whoever reaches this bar: what a kernel looks up at a time is rounded down.
    pub(crate) fn in_full(values: &[i8], bar: i32) -> Self {
        let step = Self::step_at(values, bar);
        Self::of::<UNIT>(values, Table::new(costs(values, 1), step), step)
    }

    /// For values of 1 and -1: nothing is rounded, but a front of which all bits differ.
    pub(crate) fn of_signs(values: &[i8]) -> Self {
        Self::of::<1>(values, Table::new(costs(values, 1), 1), 1)
    }

    fn of<const U: u8>(values: &[i8], front: Table, step: u32) -> Self {
        let (middle, tail) = values[FRONT_BITS..].as_chunks::<{ LINE_WORDS * 64 }>();
        let tail = (!tail.is_empty()).then(|| Worth::new::<U>(&Zeroizing::new([tail, tail].concat())));
        Self {
            front,
            middle_tables: OnceLock::new(),
            middle: middle.iter().map(|values| Worth::new::<U>(values)).collect(),
            tail,
            step: step.cast_signed(),
            unit: U.into(),
            sum: values.iter().map(|q| i32::from(*q).abs()).sum(),
        }
    }

    /// A step of the front with which a row that is at the bar, or near it, has less than 255.
    fn step_at(values: &[i8], bar: i32) -> u32 {
        let sum = |values: &[i8]| -> f64 { values.iter().map(|q| f64::from(q.unsigned_abs())).sum() };
        let all = sum(values).max(1.0);
        let differing = ((1.0 - f64::from(bar) / all) / 2.0).clamp(0.0, 0.5);
        (SPAN * differing * sum(&values[..FRONT_BITS]) / 255.0)
            .ceil()
            .max(1.0) as u32
    }

    pub(crate) fn front(&self) -> &Table {
        &self.front
    }

    pub(crate) fn middle(&self) -> &[Worth] {
        &self.middle
    }

    /// What the middle's bits cost, 256 of them in each table, where these weights are the probe's.
    pub(crate) fn middle_tables(&self, probe: &Probe) -> &[Table] {
        self.middle_tables.get_or_init(|| {
            let values = probe.values(Inside);
            let middle = &values[FRONT_BITS..][..LINE_WORDS * 64 * self.middle.len()];
            let halves = middle.chunks(FRONT_BITS);
            halves
                .map(|half| Table::new(costs(half, 1), self.step.cast_unsigned()))
                .collect()
        })
    }

    #[cfg(test)]
    pub(crate) fn tail(&self) -> Option<&Worth> {
        self.tail.as_ref()
    }

    /// The largest D of a row that reaches this bar.
    pub(crate) fn penalty_max(&self, bar: i32) -> i32 {
        self.sum.saturating_sub(bar).div_euclid(2)
    }

    /// What a magnitude counts as behind the columns.
    pub(crate) fn worth(magnitude: u8) -> u8 {
        UNIT * units::<UNIT>(magnitude)
    }

    /// A row's penalty by its front, of so many steps.
    #[inline(always)]
    pub(crate) fn of_front(&self, steps: u8) -> i32 {
        i32::from(steps).wrapping_mul(self.step)
    }

    /// The penalties of a block's rows by their fronts and middles: at most 256 * 127 and 1536 * 127.
    ///
    /// Nothing is asked for ahead of its time: the processor does that by itself where lines follow each other, and
    /// asking as well only takes its time.
    #[inline(always)]
    pub(crate) fn of_block<S: Simd>(&self, chunk: Chunk<'_>, block: usize) -> [i32; BLOCK] {
        self.of_middles::<S>(chunk, block, &self.of_fronts::<S>(chunk, block))
    }

    /// The penalties of a block's rows by their fronts, in steps.
    #[inline(always)]
    pub(crate) fn of_fronts<S: Simd>(&self, chunk: Chunk<'_>, block: usize) -> [u8; BLOCK] {
        let [[fronts]] = S::columns(std::array::from_ref(&chunk.fronts[block]), [&self.front]);
        S::store(fronts)
    }

    /// The penalties of all rows of `B` blocks by what was looked up of each 256 bits: at most 255 steps each time.
    #[inline(always)]
    #[allow(
        clippy::needless_range_loop,
        reason = "a closure's instructions are compiled for no processor in particular"
    )]
    pub(crate) fn of_columns<'c, S: Simd, const B: usize>(
        &self,
        parts: impl Iterator<Item = (&'c [Columns; B], &'c Table)>,
    ) -> [[i32; BLOCK]; B] {
        let mut steps = [[0u16; BLOCK]; B];
        for (columns, table) in parts {
            let found = S::columns(columns, [table]);
            for b in 0..B {
                let bytes = S::store(found[b][0]);
                for i in 0..BLOCK {
                    steps[b][i] = steps[b][i].wrapping_add(bytes[i].into());
                }
            }
        }
        let mut penalties = [[0; BLOCK]; B];
        for b in 0..B {
            for i in 0..BLOCK {
                penalties[b][i] = i32::from(steps[b][i]).wrapping_mul(self.step);
            }
        }
        penalties
    }

    /// Those by their fronts and middles, where these are by their fronts.
    #[inline(always)]
    #[allow(
        clippy::needless_range_loop,
        reason = "a closure's instructions are compiled for no processor in particular"
    )]
    pub(crate) fn of_middles<S: Simd>(
        &self,
        chunk: Chunk<'_>,
        block: usize,
        fronts: &[u8; BLOCK],
    ) -> [i32; BLOCK] {
        let mut penalties = [0; BLOCK];
        if !self.middle.is_empty() {
            let lines = chunk.middle_of_block(block);
            let some = ROWS * self.middle.len();
            for (n, penalties) in penalties.as_chunks_mut::<ROWS>().0.iter_mut().enumerate() {
                *penalties = S::middles(&lines[n * some..][..some], &self.middle);
            }
        }
        for i in 0..BLOCK {
            penalties[i] = penalties[i]
                .wrapping_mul(self.unit)
                .wrapping_add(self.of_front(fronts[i]));
        }
        penalties
    }

    /// Adds those by their tails, which are at most 256 * 127.
    #[inline(always)]
    #[allow(
        clippy::needless_range_loop,
        reason = "a closure's instructions are compiled for no processor in particular"
    )]
    pub(crate) fn add_tails<S: Simd>(&self, chunk: Chunk<'_>, block: usize, penalties: &mut [i32; BLOCK]) {
        let (Some(tail), Some(lines)) = (&self.tail, chunk.tails_of_block(block)) else {
            return;
        };
        let lines = lines.as_chunks().0;
        for (n, penalties) in penalties.as_chunks_mut::<ROWS>().0.iter_mut().enumerate() {
            let more = S::tails(&lines[n], tail);
            for i in 0..ROWS {
                penalties[i] = penalties[i].wrapping_add(more[i].wrapping_mul(self.unit));
            }
        }
    }

    /// The penalty of one row by its middle.
    #[inline(always)]
    pub(crate) fn of_middle<S: Simd>(&self, chunk: Chunk<'_>, i: usize) -> i32 {
        if self.middle.is_empty() {
            return 0;
        }
        S::middle(chunk.middle(i), &self.middle).wrapping_mul(self.unit)
    }

    /// The penalty of one row by its tail.
    #[inline(always)]
    pub(crate) fn of_tail<S: Simd>(&self, chunk: Chunk<'_>, i: usize) -> i32 {
        match (&self.tail, chunk.tail(i)) {
            (Some(tail), Some(line)) => S::tail(line, i % 2, tail).wrapping_mul(self.unit),
            _ => 0,
        }
    }
}

/// What the first bits of these values cost in steps, each rounded down.
fn costs(values: &[i8], step: u32) -> Zeroizing<Vec<Cost>> {
    let cost = |q: &i8| (*q >= 0, u32::from(q.unsigned_abs()) / step);
    Zeroizing::new(values[..FRONT_BITS].iter().map(cost).collect())
}

fn units<const U: u8>(magnitude: u8) -> u8 {
    (magnitude / U).min((1 << PLANES) - 1)
}

impl Worth {
    /// Of the values of a line, in units of `U`.
    fn new<const U: u8>(values: &[i8]) -> Self {
        let mut worth = Self {
            expected: Line([0; LINE_WORDS]),
            planes: [Line([0; LINE_WORDS]); PLANES],
        };
        for (n, values) in values.chunks(64).enumerate() {
            let (mut expected, mut planes) = (0, [0; PLANES]);
            for (i, q) in values.iter().enumerate() {
                expected |= u64::from(*q >= 0) << i;
                let units = units::<U>(q.unsigned_abs());
                for (p, plane) in planes.iter_mut().enumerate() {
                    *plane |= u64::from(units >> p & 1) << i;
                }
            }
            worth.expected.0[n] = expected;
            for (line, plane) in worth.planes.iter_mut().zip(planes) {
                line.0[n] = plane;
            }
        }
        worth
    }

    /// What it costs words of a line, from this one on, to differ: word by word.
    #[inline(always)]
    #[allow(
        clippy::needless_range_loop,
        reason = "a closure's instructions are compiled for no processor in particular"
    )]
    pub(crate) fn plainly<const N: usize>(&self, from: usize, words: &[u64; N]) -> i32 {
        let mut counts = [0u32; PLANES];
        for w in 0..N {
            let differing = words[w] ^ self.expected.0[from + w];
            for p in 0..PLANES {
                let count = (differing & self.planes[p].0[from + w]).count_ones();
                counts[p] = counts[p].wrapping_add(count);
            }
        }
        let mut sum = 0u32;
        for (p, count) in counts.iter().enumerate() {
            sum = sum.wrapping_add(count << p);
        }
        sum.cast_signed()
    }
}

impl Zeroize for Line {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}
