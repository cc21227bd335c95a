//! Penalties of the bits in a block's columns, looked up by byte shuffles.

use std::sync::OnceLock;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::arena::{COLUMNS, Columns, FRONT_BITS, LINE};
use crate::simd::Simd;

/// Lookups of six bits: the lower ones of each of three columns, and the upper two of all; and of the two that are left.
const THREES: usize = COLUMNS / 3;

/// What some bits cost, in steps: the sum over all of a row's is the row's penalty, and at 255 it ends.
///
/// Processors that shuffle lanes of 16 bytes look up four bits at a time, others six; the entries that this one needs are
/// made as soon as it does. Where a step is 1 both find the same, since every bit costs its own. Otherwise what is looked up
/// at a time is rounded down together: the more it is, the less is lost.
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, reason = "no other processor looks up six bits")
)]
pub(crate) struct Table {
    costs: Zeroizing<Vec<Cost>>,
    step: u32,
    nibbles: OnceLock<Nibbles>,
    sixes: OnceLock<Sixes>,
}

/// Of each column the lower nibble and the upper one, in each lane.
#[derive(Zeroize, ZeroizeOnDrop)]
struct Nibbles(Box<[[Entries; 2]; COLUMNS]>);

/// Of each three columns the lower six bits of each, and the upper two of all; of the last two columns likewise.
#[derive(Zeroize, ZeroizeOnDrop)]
struct Sixes(Box<[[Entries; 4]; THREES]>, Box<[Entries; 3]>);

#[derive(Clone, Copy, Zeroize)]
#[repr(align(64))]
pub(crate) struct Entries(pub [u8; LINE]);

/// A bit: whether it is expected to be set, and what it costs if it is otherwise.
pub(crate) type Cost = (bool, u32);

impl Table {
    /// For what each bit costs, `[256]` of at most 127, and what a step is of it, 1 at least.
    pub(crate) fn new(costs: Zeroizing<Vec<Cost>>, step: u32) -> Self {
        assert_eq!(
            costs.len(),
            FRONT_BITS,
            "a cost for each bit that lies in columns"
        );
        Self {
            costs,
            step,
            nibbles: OnceLock::new(),
            sixes: OnceLock::new(),
        }
    }

    fn nibbles(&self) -> &[[Entries; 2]; COLUMNS] {
        let nibbles = self.nibbles.get_or_init(|| {
            let mut nibbles = Box::new([[NONE; 2]; COLUMNS]);
            for (nibbles, byte) in nibbles.iter_mut().zip(self.costs.chunks(8)) {
                *nibbles = [entries(&byte[..4], self.step), entries(&byte[4..], self.step)];
            }
            Nibbles(nibbles)
        });
        &nibbles.0
    }

    #[cfg(target_arch = "x86_64")]
    pub(crate) fn sixes(&self) -> (&[[Entries; 4]; THREES], &[Entries; 3]) {
        let Sixes(threes, last) = self.sixes.get_or_init(|| {
            let mut threes = Box::new([[NONE; 4]; THREES]);
            let mut last = Box::new([NONE; 3]);
            let (most, rest) = self.costs.split_at(THREES * 24);
            for (sixes, columns) in threes.iter_mut().zip(most.chunks(24)) {
                by_sixes(sixes, columns, self.step);
            }
            by_sixes(&mut *last, rest, self.step);
            Sixes(threes, last)
        });
        (threes, last)
    }
}

const NONE: Entries = Entries([0; LINE]);

/// The entries of two or three columns.
fn by_sixes(sixes: &mut [Entries], columns: &[Cost], step: u32) {
    let mut tops = [(false, 0); 6];
    let count = columns.len() / 8;
    for (n, byte) in columns.chunks(8).enumerate() {
        sixes[n] = entries(&byte[..6], step);
        tops[2 * n..][..2].copy_from_slice(&byte[6..]);
    }
    sixes[count] = entries(&tops[..2 * count], step);
}

/// What each value of these bits, at most six, costs in steps; the same again where they are fewer.
fn entries(costs: &[Cost], step: u32) -> Entries {
    // Dividing is multiplying here: of at most 6 * 127 by a step of at most 1024, the quotient is too large by less than 1 / step.
    const SHIFT: u32 = 20;
    let a_step = (1u32 << SHIFT).div_ceil(step);
    let mut all = [0u32; LINE];
    // Without any bit, whoever is expected differs.
    all[0] = costs
        .iter()
        .map(|(expected, cost)| if *expected { *cost } else { 0 })
        .sum();
    let mut known = 1;
    for (expected, cost) in costs {
        let more = if *expected { cost.wrapping_neg() } else { *cost };
        let (without, with) = all[..2 * known].split_at_mut(known);
        for (with, without) in with.iter_mut().zip(without) {
            *with = without.wrapping_add(more);
        }
        known *= 2;
    }
    while known < LINE {
        all.copy_within(..known, known);
        known *= 2;
    }
    Entries(all.map(|cost| (cost.wrapping_mul(a_step) >> SHIFT).min(255) as u8))
}

/// The penalties of a block's rows for each of `P` tables, nibble by nibble: those are found once for all.
#[inline(always)]
#[allow(
    clippy::needless_range_loop,
    reason = "a closure's instructions are compiled for no processor in particular"
)]
pub(crate) fn by_nibbles<S: Simd, const P: usize>(columns: &Columns, tables: [&Table; P]) -> [S::Bytes; P] {
    let entries = tables.map(Table::nibbles);
    let mut sums = [S::zero(); P];
    for column in 0..COLUMNS {
        let [low, high] = S::nibbles(S::load(&columns.0[column]));
        for p in 0..P {
            let [lows, highs] = &entries[p][column];
            sums[p] = S::add(sums[p], S::lookup(S::load(&lows.0), low));
            sums[p] = S::add(sums[p], S::lookup(S::load(&highs.0), high));
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_entry_is_what_the_differing_bits_cost_by_whole_steps(
            costs in prop::collection::vec((any::<bool>(), 0..128u32), 1..=6),
            step in 1..1024u32,
        ) {
            let Entries(entries) = entries(&costs, step);
            for (value, entry) in entries.into_iter().enumerate() {
                let differing = costs.iter().enumerate().filter(|(i, (expected, _))| (value >> i & 1 == 1) != *expected);
                let sum: u32 = differing.map(|(_, (_, cost))| cost).sum();
                prop_assert_eq!(u32::from(entry), (sum / step).min(255));
            }
        }
    }
}
