//! What it costs a row to differ from a probe, in whole numbers that never exceed the truth.
//!
//! The probe's magnitudes |q| are rounded down: where the bits lie in columns to steps of a byte, behind them to two
//! bits. A row's penalty by them is at most D, the sum of |q| over all bits that differ, and by S = sum |q| - 2 D no
//! row that reaches a bar has a D above its limit: so a scan that drops by that limit misses nobody.

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::gallery::arena::{BLOCK, Chunk, FRONT_BITS, FRONT_WORDS, LINE_WORDS, Line};
use crate::gallery::lookup::Table;
use crate::gallery::simd::{ROWS, Simd};

/// Bit planes of what the bits behind the columns are worth.
pub(super) const PLANES: usize = 2;

/// What one unit of those is, for a probe's magnitudes of 0 to 127: two thirds of their standard deviation,
/// chosen by trial. A third plane would let fewer pass, and every row would pay for it.
const UNIT: u8 = 24;

/// A probe, as a pass needs it.
#[derive(ZeroizeOnDrop)]
pub(super) struct Weights {
    front: Table,
    rest: Rest,
    /// What one of the front's steps is worth.
    #[zeroize(skip)]
    step: u32,
    /// What one of the rest's units is worth.
    #[zeroize(skip)]
    unit: u8,
    /// The sum of all magnitudes.
    #[zeroize(skip)]
    sum: i32,
}

/// What the bits behind the columns are expected to be and worth: as the rows lie, two behind each other.
#[derive(ZeroizeOnDrop)]
pub(super) struct Rest(pub(super) Vec<Worth>);

/// Of 512 bits.
#[derive(Zeroize)]
pub(super) struct Worth {
    pub(super) expected: Line,
    pub(super) planes: [Line; PLANES],
}

impl Weights {
    /// For values of which a step of the front is worth so much, 1 at least.
    pub(super) fn new(values: &[i8], step: u32) -> Self {
        Self::of(values, step, UNIT)
    }

    /// For values of 1 and -1: nothing is rounded, but a front of which all bits differ.
    pub(super) fn of_signs(values: &[i8]) -> Self {
        Self::of(values, 1, 1)
    }

    fn of(values: &[i8], step: u32, unit: u8) -> Self {
        let (front, rest) = values.split_at(FRONT_BITS);
        let costs = front
            .iter()
            .map(|q| (*q >= 0, u32::from(q.unsigned_abs()) / step));
        Self {
            front: Table::new(&costs.collect::<Vec<_>>()),
            rest: Rest::new(rest, unit),
            step,
            unit,
            sum: values.iter().map(|q| i32::from(*q).abs()).sum(),
        }
    }

    /// A step of the front with which a row that is at the bar, or near it, has less than 255.
    pub(super) fn step_at(values: &[i8], bar: i32) -> u32 {
        let sum = |values: &[i8]| -> f64 { values.iter().map(|q| f64::from(q.unsigned_abs())).sum() };
        let all = sum(values).max(1.0);
        let differing = ((1.0 - f64::from(bar) / all) / 2.0).clamp(0.0, 0.5);
        (1.5 * differing * sum(&values[..FRONT_BITS]) / 255.0)
            .ceil()
            .max(1.0) as u32
    }

    pub(super) fn front(&self) -> &Table {
        &self.front
    }

    pub(super) fn rest(&self) -> &Rest {
        &self.rest
    }

    /// The largest D of a row that reaches this bar.
    pub(super) fn penalty_max(&self, bar: i32) -> i32 {
        self.sum.saturating_sub(bar).div_euclid(2)
    }

    /// What a magnitude counts as behind the columns.
    pub(super) fn worth(magnitude: u8) -> u8 {
        UNIT * units(magnitude, UNIT)
    }

    /// A bit for each row of a block whose penalty is at most `limit`.
    ///
    /// Nothing is asked for ahead of its time: the processor does that by itself where lines follow each other, and
    /// asking as well only takes its time.
    #[inline(always)]
    #[allow(
        clippy::needless_range_loop,
        reason = "a closure's instructions are compiled for no processor in particular"
    )]
    pub(super) fn within<S: Simd>(&self, chunk: &Chunk, stride: usize, block: usize, limit: i32) -> u64 {
        let [front] = S::columns(&chunk.fronts[block], [&self.front]);
        let front = S::store(front);
        let mut penalties = [0i32; BLOCK];
        if stride > 0 {
            let own = BLOCK / 2 * stride;
            let lines = &chunk.rest[block * own..];
            let some = ROWS / 2 * stride;
            for (n, penalties) in penalties.as_chunks_mut::<ROWS>().0.iter_mut().enumerate() {
                *penalties = S::rests(&lines[n * some..][..some], &self.rest);
            }
        }
        let (step, unit) = (self.step.cast_signed(), i32::from(self.unit));
        for i in 0..BLOCK {
            // At most 256 * 127 and 1792 * 127.
            penalties[i] = penalties[i]
                .wrapping_mul(unit)
                .wrapping_add(i32::from(front[i]).wrapping_mul(step));
        }
        S::all_at_most(&penalties, limit)
    }

    /// The penalty of one row, of whose front it is known.
    #[inline(always)]
    pub(super) fn of_row<S: Simd>(&self, chunk: &Chunk, stride: usize, i: usize, front: u8) -> i32 {
        let rest = if stride > 0 {
            S::rest(chunk.pair(i, stride), i % 2, &self.rest)
        } else {
            0
        };
        let front = i32::from(front).wrapping_mul(self.step.cast_signed());
        rest.wrapping_mul(i32::from(self.unit)).wrapping_add(front)
    }
}

fn units(magnitude: u8, unit: u8) -> u8 {
    (magnitude / unit).min((1 << PLANES) - 1)
}

impl Rest {
    fn new(values: &[i8], unit: u8) -> Self {
        let words = values.len() / 64;
        let none = Line([0; LINE_WORDS]);
        let mut worths: Vec<_> = (0..words * 2 / LINE_WORDS)
            .map(|_| Worth {
                expected: none,
                planes: [none; PLANES],
            })
            .collect();
        for (n, values) in values.chunks(64).enumerate() {
            let (mut expected, mut planes) = (0u64, [0u64; PLANES]);
            for (i, q) in values.iter().enumerate() {
                expected |= u64::from(*q >= 0) << i;
                let units = units(q.unsigned_abs(), unit);
                for (p, plane) in planes.iter_mut().enumerate() {
                    *plane |= u64::from(units >> p & 1) << i;
                }
            }
            // For each of the two rows that lie behind each other.
            for at in [n, n + words] {
                let worth = &mut worths[at / LINE_WORDS];
                worth.expected.0[at % LINE_WORDS] = expected;
                for (plane, word) in worth.planes.iter_mut().zip(planes) {
                    plane.0[at % LINE_WORDS] = word;
                }
            }
        }
        Self(worths)
    }

    /// What it costs one row of a pair, word by word.
    #[inline(always)]
    #[allow(
        clippy::needless_range_loop,
        reason = "a closure's instructions are compiled for no processor in particular"
    )]
    pub(super) fn plainly(&self, pair: &[Line], second: usize) -> i32 {
        let mut counts = [0u32; PLANES];
        let words = pair.len() * FRONT_WORDS;
        for at in second * words..(second + 1) * words {
            let (l, w) = (at / LINE_WORDS, at % LINE_WORDS);
            let differing = pair[l].0[w] ^ self.0[l].expected.0[w];
            for p in 0..PLANES {
                let count = (differing & self.0[l].planes[p].0[w]).count_ones();
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
