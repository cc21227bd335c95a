//! What the bits of a block's columns are worth, by byte shuffles.

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::gallery::arena::{COLUMNS, Columns, FRONT_BITS, LINE};
use crate::gallery::simd::Simd;

/// Lookups of six bits: the lower ones of each of three columns, and the upper two of all; and of the two that are left.
const THREES: usize = COLUMNS / 3;

/// What some bits cost, in steps: the sum over all of a row's is the row's penalty, and at 255 it ends.
///
/// Processors that shuffle lanes of 16 bytes look up four bits at a time, others six. Where a step is 1 they find the same,
/// since every bit costs its own. Otherwise what is looked up at a time is rounded down together: the more it is, the
/// less is lost.
#[derive(Zeroize, ZeroizeOnDrop)]
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, reason = "no other processor looks up six bits")
)]
pub(super) struct Table {
    /// Of each column the lower nibble and the upper one, in each lane.
    nibbles: Box<[[Entries; 2]; COLUMNS]>,
    /// Of each three columns the lower six bits of each, and the upper two of all.
    threes: Box<[[Entries; 4]; THREES]>,
    /// Of the last two columns likewise.
    last: Box<[Entries; 3]>,
}

#[derive(Clone, Copy, Zeroize)]
#[repr(align(64))]
pub(super) struct Entries(pub(super) [u8; LINE]);

/// A bit: whether it is expected to be set, and what it costs if it is otherwise.
pub(super) type Cost = (bool, u32);

impl Table {
    /// For what each bit costs, `[256]`, and what a step is of it, 1 at least.
    pub(super) fn new(costs: &[Cost], step: u32) -> Self {
        let step = step.cast_signed();
        assert_eq!(
            costs.len(),
            FRONT_BITS,
            "a cost for each bit that lies in columns"
        );
        let none = Entries([0; LINE]);
        let mut nibbles = Box::new([[none; 2]; COLUMNS]);
        for (nibbles, byte) in nibbles.iter_mut().zip(costs.chunks(8)) {
            *nibbles = [entries(&byte[..4], step), entries(&byte[4..], step)];
        }
        let mut threes = Box::new([[none; 4]; THREES]);
        let mut last = Box::new([none; 3]);
        let (most, rest) = costs.split_at(THREES * 24);
        for (sixes, columns) in threes.iter_mut().zip(most.chunks(24)) {
            by_sixes(sixes, columns, step);
        }
        by_sixes(&mut *last, rest, step);
        Self {
            nibbles,
            threes,
            last,
        }
    }

    #[cfg(target_arch = "x86_64")]
    pub(super) fn sixes(&self) -> (&[[Entries; 4]; THREES], &[Entries; 3]) {
        (&self.threes, &self.last)
    }
}

/// The entries of two or three columns.
fn by_sixes(sixes: &mut [Entries], columns: &[Cost], step: i32) {
    let mut tops = [(false, 0); 6];
    let count = columns.len() / 8;
    for (n, byte) in columns.chunks(8).enumerate() {
        sixes[n] = entries(&byte[..6], step);
        tops[2 * n..][..2].copy_from_slice(&byte[6..]);
    }
    sixes[count] = entries(&tops[..2 * count], step);
}

/// What each value of these bits, at most six, costs in steps; the same again where they are fewer.
fn entries(costs: &[Cost], step: i32) -> Entries {
    let mut all = [0i32; LINE];
    // Without any bit, whoever is expected differs.
    all[0] = costs
        .iter()
        .map(|(expected, cost)| if *expected { cost.cast_signed() } else { 0 })
        .sum();
    for (i, (expected, cost)) in costs.iter().enumerate() {
        let cost = cost.cast_signed();
        let (without, with) = all[..2 << i].split_at_mut(1 << i);
        for (with, without) in with.iter_mut().zip(without) {
            *with = *without + if *expected { -cost } else { cost };
        }
    }
    let last = (1 << costs.len()) - 1;
    Entries(std::array::from_fn(|value| {
        (all[value & last] / step).min(255) as u8
    }))
}

/// The penalties of a block's rows for each of `P` tables, nibble by nibble: those are found once for all.
#[inline(always)]
#[allow(
    clippy::needless_range_loop,
    reason = "a closure's instructions are compiled for no processor in particular"
)]
pub(super) fn by_nibbles<S: Simd, const P: usize>(columns: &Columns, tables: [&Table; P]) -> [S::Bytes; P] {
    let mut sums = [S::zero(); P];
    for column in 0..COLUMNS {
        let [low, high] = S::nibbles(S::load(&columns.0[column]));
        for p in 0..P {
            let [lows, highs] = &tables[p].nibbles[column];
            sums[p] = S::add(sums[p], S::lookup(S::load(&lows.0), low));
            sums[p] = S::add(sums[p], S::lookup(S::load(&highs.0), high));
        }
    }
    sums
}
