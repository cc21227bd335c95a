//! A set of rows: which faces of an index a search looks at.
//!
//! A bit a row, so that a filtered search touches the blocks that hold somebody who passes and no others:
//! what it costs follows who passes, without a point from where on another way would be better.

use crate::gallery::index::Row;
use crate::gallery::scan::LANES;

/// Rows of a mask's byte: those of a block of the index.
const BLOCK: usize = 8;
const _: () = assert!(BLOCK == LANES && BLOCK == u8::BITS as usize);

/// A set of rows.
#[derive(Default)]
pub(crate) struct Rows {
    /// Bit i of byte b is row 8 b + i. It ends with the last block that holds a row of the set.
    blocks: Vec<u8>,
    len: usize,
}

impl Rows {
    /// Adds a row.
    pub fn insert(&mut self, row: Row) {
        let (block, bit) = (row.0 as usize / BLOCK, 1 << (row.0 as usize % BLOCK));
        if block >= self.blocks.len() {
            self.blocks.resize(block + 1, 0);
        }
        self.len += usize::from(self.blocks[block] & bit == 0);
        self.blocks[block] |= bit;
    }

    /// Rows in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Of `count` blocks from `first` on, the runs of blocks that hold a row of the set: where each begins,
    /// counted from `first`, and its masks.
    pub fn runs(&self, first: usize, count: usize) -> impl Iterator<Item = (usize, &[u8])> {
        let end = (first + count).min(self.blocks.len());
        let blocks = self.blocks.get(first..end).unwrap_or_default();
        let mut at = 0;
        std::iter::from_fn(move || {
            at += blocks[at..].iter().position(|mask| *mask != 0)?;
            let rest = &blocks[at..];
            let length = rest.iter().position(|mask| *mask == 0).unwrap_or(rest.len());
            let run = (at, &rest[..length]);
            at += length;
            Some(run)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_runs_hold_exactly_the_rows_that_were_inserted(
            inserted in prop::collection::vec(0..300u32, 0..60),
            first in 0..30usize,
            count in 0..30usize,
        ) {
            let mut rows = Rows::default();
            inserted.iter().for_each(|row| rows.insert(Row(*row)));
            let expected: BTreeSet<usize> = inserted.iter().map(|row| *row as usize).collect();
            prop_assert_eq!(rows.len(), expected.len());
            let mut found = Vec::new();
            for (begin, masks) in rows.runs(first, count) {
                for (n, mask) in masks.iter().enumerate() {
                    prop_assert!(*mask != 0, "no block is visited in vain");
                    let bits = (0..BLOCK).filter(|bit| mask >> bit & 1 == 1);
                    found.extend(bits.map(|bit| (first + begin + n) * BLOCK + bit));
                }
            }
            let within = first * BLOCK..(first + count) * BLOCK;
            let expected: Vec<_> = expected.into_iter().filter(|row| within.contains(row)).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
