//! A set of rows: the faces of an index that a search compares.
//!
//! A bit a row, so that a filtered search touches only blocks with a row that passes. Its cost is
//! proportional to their number, at every share of the rows.

use crate::index::Row;

/// Rows of a mask.
pub const BLOCK: usize = u64::BITS as usize;

/// A set of rows.
#[derive(Default)]
pub struct Rows {
    /// Bit i of mask b is row 64 b + i. It ends with the last block that holds a row of the set.
    blocks: Vec<u64>,
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

    /// Takes a row out.
    pub fn remove(&mut self, row: Row) {
        let (block, bit) = (row.0 as usize / BLOCK, 1 << (row.0 as usize % BLOCK));
        if let Some(mask) = self.blocks.get_mut(block)
            && *mask & bit != 0
        {
            *mask &= !bit;
            self.len -= 1;
        }
        while self.blocks.last() == Some(&0) {
            self.blocks.pop();
        }
    }

    /// Whether a row is in it.
    pub fn has(&self, row: Row) -> bool {
        let block = self.blocks.get(row.0 as usize / BLOCK);
        block.is_some_and(|mask| mask >> (row.0 as usize % BLOCK) & 1 == 1)
    }

    /// Rows in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no row.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Which of the 64 rows from this one on, the first of a block, are in it.
    pub fn mask(&self, first: Row) -> u64 {
        self.blocks.get(first.0 as usize / BLOCK).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_masks_hold_exactly_the_rows_that_were_inserted(
            inserted in prop::collection::vec(0..300u32, 0..60),
        ) {
            let mut rows = Rows::default();
            inserted.iter().for_each(|row| rows.insert(Row(*row)));
            let expected: BTreeSet<u32> = inserted.into_iter().collect();
            prop_assert_eq!(rows.len(), expected.len());
            let holds = |row: &u32| rows.mask(Row(row / 64 * 64)) >> (row % 64) & 1 == 1;
            let found: BTreeSet<u32> = (0..640).filter(holds).collect();
            prop_assert_eq!(&found, &expected);
            for row in expected {
                prop_assert!(rows.has(Row(row)));
                rows.remove(Row(row));
                rows.remove(Row(row));
                prop_assert!(!rows.has(Row(row)));
            }
            prop_assert!(rows.is_empty() && rows.blocks.is_empty());
        }
    }
}
