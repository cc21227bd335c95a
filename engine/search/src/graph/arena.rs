//! Template words by row, readable by everyone while the writer writes them.
//!
//! A graph is walked while people are enrolled and erased, and built anew for minutes without holding
//! anything up. So the words are relaxed atomics: whoever reads a row that is being overwritten compares with a
//! mixture, and who is named in an answer is decided by the records. Chunks double and never move.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use likeness_types::swap;
use likeness_types::template::Bits;

/// Rows of the first chunk; each later one has twice as many.
const FIRST_ROWS: u32 = 512;
/// Chunks until row numbers are used up.
const CHUNKS: usize = 23;

pub(super) struct Arena {
    words: usize,
    chunks: [OnceLock<Chunk>; CHUNKS],
    wiped: AtomicBool,
}

struct Chunk {
    /// Clear bits belong in no swap file. ORDER: first, since fields are dropped in their order: what is given back to
    /// the system may be somebody else's when it is unlocked.
    #[allow(dead_code, reason = "held for its lock")]
    lock: Option<region::LockGuard>,
    words: Box<[AtomicU64]>,
}

impl Arena {
    pub(crate) fn new(bits: Bits) -> Self {
        Self {
            words: bits.words(),
            chunks: std::array::from_fn(|_| OnceLock::new()),
            wiped: AtomicBool::new(false),
        }
    }

    /// The words of a row, `[bits / 64]`.
    ///
    /// # Panics
    /// Of a row that was never written.
    pub(crate) fn row(&self, row: u32) -> &[AtomicU64] {
        let (chunk, place) = self.place(row);
        let chunk = self.chunks[chunk]
            .get()
            .expect("only rows that were written are named");
        &chunk.words[place..place + self.words]
    }

    /// Overwrites a row, and makes room for it where there was none.
    pub(crate) fn write(&self, row: u32, words: impl Iterator<Item = u64>) {
        let (chunk, place) = self.place(row);
        let chunk =
            self.chunks[chunk].get_or_init(|| Chunk::new((FIRST_ROWS << chunk) as usize * self.words));
        for (stored, word) in chunk.words[place..place + self.words].iter().zip(words) {
            stored.store(word, Ordering::Relaxed);
        }
    }

    /// Overwrites all rows, for good: nothing is written any more.
    pub(crate) fn wipe(&self) {
        self.wiped.store(true, Ordering::Relaxed);
        self.chunks.iter().filter_map(OnceLock::get).for_each(Chunk::wipe);
    }

    pub(crate) fn is_wiped(&self) -> bool {
        self.wiped.load(Ordering::Relaxed)
    }

    /// Chunk number, and the place of the row's first word in it.
    fn place(&self, row: u32) -> (usize, usize) {
        let chunk = (row / FIRST_ROWS + 1).ilog2();
        let first = FIRST_ROWS * ((1 << chunk) - 1);
        (chunk as usize, (row - first) as usize * self.words)
    }
}

impl Chunk {
    fn new(words: usize) -> Self {
        let words: Box<[_]> = (0..words).map(|_| AtomicU64::new(0)).collect();
        Self {
            lock: swap::keep_out(&words),
            words,
        }
    }
}

impl Chunk {
    fn wipe(&self) {
        self.words
            .iter()
            .for_each(|word| word.store(0, Ordering::Relaxed));
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.wipe();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_place_of_its_own() {
        let arena = Arena::new(Bits::B256);
        let rows = [0, 1, 511, 512, 513, 1535, 1536, 5000, 100_000];
        for row in rows {
            arena.write(row, [u64::from(row) + 1; 4].into_iter());
        }
        for row in rows {
            let words: Vec<_> = arena
                .row(row)
                .iter()
                .map(|word| word.load(Ordering::Relaxed))
                .collect();
            assert_eq!(words, [u64::from(row) + 1; 4]);
        }
        assert!(arena.row(2).iter().all(|word| word.load(Ordering::Relaxed) == 0));
    }

    #[test]
    fn the_last_row_of_all_has_a_place() {
        let (chunk, _) = Arena::new(Bits::B256).place(u32::MAX - FIRST_ROWS);
        assert_eq!(chunk, CHUNKS - 1);
    }
}
