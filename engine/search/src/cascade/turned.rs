//! The middles of a run's rows by columns, as their fronts lie, for several probes that scan all rows.
//!
//! Looked up by columns, a middle costs a probe less than half of what counting its bits by planes does, and a quarter with
//! AVX2. Turning it around costs once what two or three probes save by that, and half of what one does with AVX2 (`cargo
//! bench --bench search -- kernels`); a probe alone saves nothing all the same, since it waits for memory, or has tables to
//! make. The arena keeps middles by rows: to read one row's is to read one line.

use std::ops::Range;

use zeroize::Zeroize;

use super::BLOCKS_PER_RUN;
use crate::arena::{BLOCK, COLUMNS, Chunk, Columns, LINE_WORDS, Line};
use crate::pages::Pages;
use crate::simd::Simd;
use likeness_types::swap;

/// Rows that are turned at once, and bytes of a word.
pub(crate) const EIGHT: usize = 8;

/// Columns hold half a line.
pub(crate) const HALVES: usize = LINE_WORDS / HALF_WORDS;
pub(crate) const HALF_WORDS: usize = COLUMNS / EIGHT;

/// The middles of at most [`BLOCKS_PER_RUN`] blocks. Wiped on drop.
pub(crate) struct Turned {
    /// ORDER: first, as in [`Chunk`].
    #[allow(dead_code, reason = "held for its lock")]
    lock: Option<region::LockGuard>,
    /// `[halves of a row's middle][BLOCKS_PER_RUN]`: 256 bits of each row of a block.
    columns: Pages<Columns>,
}

impl Turned {
    /// For rows of so many lines in their middle.
    pub(crate) fn new(lines: usize) -> Self {
        let columns = Pages::zeroed(HALVES * lines * BLOCKS_PER_RUN);
        Self {
            lock: swap::keep_out(&columns),
            columns,
        }
    }

    /// Takes a run of which these `blocks` count.
    #[inline(always)]
    pub(crate) fn fill<S: Simd>(
        &mut self,
        chunk: Chunk<'_>,
        blocks: Range<usize>,
        counts: impl Fn(usize) -> bool,
    ) {
        let columns = &mut *self.columns;
        for (n, block) in blocks.enumerate() {
            if !counts(block) {
                continue;
            }
            // The fronts are read next, several at a time, as the processor does not foresee.
            for column in &chunk.fronts[block].0 {
                S::prefetch(column);
            }
            let rows = chunk.middle_of_block(block);
            for at in 0..chunk.lines {
                let halves = [
                    HALVES * at * BLOCKS_PER_RUN + n,
                    (HALVES * at + 1) * BLOCKS_PER_RUN + n,
                ];
                let halves = columns.get_disjoint_mut(halves).expect("two halves");
                S::turn(&rows[at..], chunk.lines, halves);
            }
        }
    }

    /// That half of a middle, of the `B` blocks from the `n`-th of the run on.
    #[inline(always)]
    pub(crate) fn of_blocks<const B: usize>(&self, half: usize, n: usize) -> &[Columns; B] {
        self.columns[half * BLOCKS_PER_RUN + n..]
            .first_chunk()
            .expect("blocks of one run")
    }
}

impl Drop for Turned {
    fn drop(&mut self) {
        for columns in &mut *self.columns {
            columns.0.as_flattened_mut().zeroize();
        }
    }
}

/// As [`Simd::turn`], a word of eight rows at a time.
#[inline(always)]
pub(crate) fn by_words(lines: &[Line], apart: usize, halves: [&mut Columns; HALVES]) {
    for word in 0..LINE_WORDS {
        let columns = &mut halves[word / HALF_WORDS].0[word % HALF_WORDS * EIGHT..][..EIGHT];
        for eighth in 0..BLOCK / EIGHT {
            let mut words = [0; EIGHT];
            for (i, row) in words.iter_mut().enumerate() {
                *row = lines[(eighth * EIGHT + i) * apart].0[word];
            }
            turn(&mut words);
            for (column, word) in columns.iter_mut().zip(words) {
                column.as_chunks_mut().0[eighth] = word.to_le_bytes();
            }
        }
    }
}

/// Byte b of word i and byte i of word b change places: by halves of the matrix, then by halves of those (Warren, Hacker's
/// Delight, 2nd edition, section 7-3).
#[inline(always)]
fn turn(words: &mut [u64; EIGHT]) {
    exchange::<4>(words, 0x0000_0000_ffff_ffff);
    exchange::<2>(words, 0x0000_ffff_0000_ffff);
    exchange::<1>(words, 0x00ff_00ff_00ff_00ff);
}

/// The upper bytes, `BYTES` at a time, of the words whose number lacks that bit, for the lower ones of those that have it.
#[inline(always)]
fn exchange<const BYTES: usize>(words: &mut [u64; EIGHT], lower: u64) {
    for i in 0..EIGHT {
        if i & BYTES == 0 {
            let (a, b) = (words[i], words[i | BYTES]);
            let changed = (a >> (BYTES * 8) ^ b) & lower;
            words[i] = a ^ changed << (BYTES * 8);
            words[i | BYTES] = b ^ changed;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arena::Arena;
    use crate::simd::{Kernel, Task};
    use likeness_types::template::Bits;
    use likeness_types::testing::template;

    struct Fill<'a>(&'a mut Turned, Chunk<'a>, Range<usize>);

    impl Task for Fill<'_> {
        #[inline(always)]
        fn run<S: Simd>(self) {
            self.0.fill::<S>(self.1, self.2, |_| true);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn a_column_has_one_byte_of_each_rows_middle(
            templates in prop::sample::select(vec![Bits::B1024, Bits::B2048])
                .prop_flat_map(|bits| prop::collection::vec(template(bits), 4 * BLOCK)),
            first in 0..3usize,
        ) {
            let mut arena = Arena::new(templates[0].bits());
            for template in &templates {
                arena.insert(1, template);
            }
            let (chunk, blocks) = arena.used().next().expect("a chunk");
            for kernel in Kernel::all() {
                let mut turned = Turned::new(chunk.lines);
                kernel.run(Fill(&mut turned, chunk, first..blocks));
                for i in first * BLOCK..blocks * BLOCK {
                    let words = chunk.middle(i).iter().flat_map(|line| line.0);
                    for (at, byte) in words.flat_map(u64::to_le_bytes).enumerate() {
                        let [columns] = turned.of_blocks(at / COLUMNS, i / BLOCK - first);
                        prop_assert_eq!(columns.0[at % COLUMNS][i % BLOCK], byte);
                    }
                }
            }
        }
    }
}
