//! What the bits of a slab are worth, by byte shuffles: tables, and sums over slabs.

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::gallery::arena::{BLOCK, GROUP, GROUPS, LINE, LINES, SLAB_WORDS, Slab};
use crate::gallery::simd::Simd;

/// Bits of a slab's rows.
pub(super) const SLAB_BITS: usize = SLAB_WORDS * 64;

/// What each nibble of a slab costs: the sum over a row's nibbles is the row's penalty.
///
/// For each line of a slab the entries of its lower nibbles and of its upper ones, a lane for each byte.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct Table(Box<[[Entries; 2]; LINES]>);

#[derive(Clone, Copy, Zeroize)]
#[repr(align(64))]
struct Entries([u8; LINE]);

impl Table {
    /// For the values of a probe that meet the slab. `cost` is that of some bits that all differ, whose
    /// magnitudes it is given.
    pub(super) fn new(values: &[i8], cost: impl Fn(&[u8]) -> u32) -> Self {
        let mut table = Box::new([[Entries([0; LINE]); 2]; LINES]);
        for (at, values) in values.as_chunks::<4>().0.iter().enumerate() {
            let (byte, half) = (at / 2, at % 2);
            let lane = byte * GROUP % LINE;
            let entries = &mut table[byte * GROUP / LINE][half].0[lane..lane + 16];
            for (nibble, entry) in entries.iter_mut().enumerate() {
                let (mut differing, mut n) = ([0; 4], 0);
                for (i, value) in values.iter().enumerate() {
                    if (nibble >> i & 1 == 1) != (*value >= 0) {
                        differing[n] = value.unsigned_abs();
                        n += 1;
                    }
                }
                // Sums saturate there too.
                *entry = cost(&differing[..n]).min(255) as u8;
            }
        }
        Self(table)
    }
}

/// For each of `P` tables the penalties of `B` groups, in four lanes that are still to be added: nibbles and
/// entries are loaded once for all, and there are enough sums not to wait for each other.
#[inline(always)]
#[allow(
    clippy::needless_range_loop,
    reason = "a closure's instructions are compiled for no processor in particular"
)]
pub(super) fn sums<S: Simd, const P: usize, const B: usize>(
    slabs: &[Slab; B],
    tables: [&Table; P],
) -> [[S::Bytes; B]; P] {
    let mut sums = [[S::zero(); B]; P];
    for line in 0..LINES {
        let mut nibbles = [[S::zero(); 2]; B];
        for b in 0..B {
            nibbles[b] = S::nibbles(S::load(&slabs[b].0[line]));
        }
        for p in 0..P {
            for half in 0..2 {
                let entries = S::load(&tables[p].0[line][half].0);
                for b in 0..B {
                    sums[p][b] = S::add(sums[p][b], S::lookup(entries, nibbles[b][half]));
                }
            }
        }
    }
    sums
}

/// The penalties of a block's rows, a byte each, for each of `P` tables.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "as above")]
pub(super) fn penalties<S: Simd, const P: usize>(
    slabs: &[Slab; GROUPS],
    tables: [&Table; P],
) -> [S::Bytes; P] {
    let sums = sums::<S, P, GROUPS>(slabs, tables);
    let mut folded = [S::zero(); P];
    for p in 0..P {
        folded[p] = S::fold(sums[p]);
    }
    folded
}

/// Adds the penalties of a block's rows, `step` times each, where those of a lane fit a byte and all do not.
#[inline(always)]
pub(super) fn add_wide<S: Simd>(totals: &mut [i32; BLOCK], slabs: &[Slab; GROUPS], table: &Table, step: i32) {
    let [sums] = sums::<S, 1, GROUPS>(slabs, [table]);
    for (totals, sums) in totals.as_chunks_mut::<GROUP>().0.iter_mut().zip(sums) {
        let lanes = S::store(sums);
        for (r, total) in totals.iter_mut().enumerate() {
            let lanes = (0..4).map(|lane| u16::from(lanes[lane * GROUP + r]));
            let sum = lanes.fold(0, u16::wrapping_add);
            // A score at most, and far from the ends of an i32.
            *total = total.wrapping_add(i32::from(sum).wrapping_mul(step));
        }
    }
}
