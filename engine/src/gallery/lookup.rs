//! What the bits of a block's columns are worth, by byte shuffles.

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::gallery::arena::{COLUMNS, Columns, FRONT_BITS, LINE};
use crate::gallery::simd::Simd;

/// Lookups of six bits: the lower ones of each column, and the upper two of three columns together.
const SIXES: usize = COLUMNS + COLUMNS.div_ceil(3);

/// What some bits cost: the sum over all of a row's is the row's penalty, and at 255 it ends.
///
/// It is the same however the bits are divided, since every bit costs its own: processors that shuffle lanes
/// of 16 bytes look up four at a time, others six.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct Table {
    /// Of each column the lower nibble and the upper one, in each lane.
    nibbles: Box<[[Entries; 2]; COLUMNS]>,
    /// Of each three columns the lower six bits of each, and the upper two of all.
    sixes: Box<[Entries; SIXES]>,
}

#[derive(Clone, Copy, Zeroize)]
#[repr(align(64))]
pub(super) struct Entries(pub(super) [u8; LINE]);

/// A bit: whether it is expected to be set, and what it costs if it is otherwise.
pub(super) type Cost = (bool, u32);

impl Table {
    /// For what each bit costs, `[256]`.
    pub(super) fn new(costs: &[Cost]) -> Self {
        assert_eq!(
            costs.len(),
            FRONT_BITS,
            "a cost for each bit that lies in columns"
        );
        let mut nibbles = Box::new([[Entries([0; LINE]); 2]; COLUMNS]);
        let mut sixes = Box::new([Entries([0; LINE]); SIXES]);
        for (three, (columns, sixes)) in costs.chunks(24).zip(sixes.chunks_mut(4)).enumerate() {
            let mut tops = Vec::with_capacity(6);
            for (column, byte) in columns.chunks(8).enumerate() {
                sixes[column] = entries(&byte[..6]);
                nibbles[three * 3 + column] = [entries(&byte[..4]), entries(&byte[4..])];
                tops.extend_from_slice(&byte[6..]);
            }
            sixes[columns.len() / 8] = entries(&tops);
        }
        Self { nibbles, sixes }
    }

    pub(super) fn sixes(&self) -> &[Entries; SIXES] {
        &self.sixes
    }
}

/// What each value of these bits, at most six, costs; the same again where they are fewer.
fn entries(costs: &[Cost]) -> Entries {
    let mut all = [0u32; LINE];
    for (value, entry) in all.iter_mut().enumerate() {
        let bits = costs.iter().enumerate();
        *entry = bits.fold(0, |sum, (i, (expected, cost))| {
            sum + if (value >> i & 1 == 1) == *expected {
                0
            } else {
                *cost
            }
        });
    }
    Entries(all.map(|entry| entry.min(255) as u8))
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
