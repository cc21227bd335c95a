//! The memory of an index: the beginnings of all templates by columns, the rest by rows, in whole lines and halves.
//!
//! A search reads the first 256 bits of every row and the others of few. Sixty-four rows make a block, and in each of
//! its [`Columns`] lies one byte of all of them: a byte shuffle looks up what some bits of sixty-four rows are worth
//! (as in FAISS' "FastScan" of product quantisation, whose codes are nibbles: where the processor shuffles whole
//! registers six bits are looked up at once, and two thirds of the work is left).
//!
//! The other bits lie row by row: first all that fill whole cache lines, then, elsewhere, the half line that remains of
//! every length but the shortest, beside another row's. With 1024 bits a search that wants one row reads one line, and
//! the second of hardly any: 768 bits tell nearly all people apart.
//!
//! Rows live in chunks that never move and never grow: growing one long vector would leave copies of its
//! templates in freed memory, and removing a face could not reach them. Every row belongs to a person, or is free,
//! and then it is zero. The first chunk is little enough for a collection of ten people (66 KiB at 1024
//! bits), and they double until their ends no longer matter.
//!
//! They lie in huge pages where the system has them ([`pages`](crate::pages)).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
use zeroize::{Zeroize, Zeroizing};

use crate::index::{PERSONS_MAX, PersonNo, Row};
use crate::pages::Pages;
use likeness_types::Inside;
use likeness_types::swap;
use likeness_types::template::{Bits, Template};

/// Rows of a block: the bits of a mask, and the bytes of a register.
pub(crate) const BLOCK: usize = 64;

/// Rows of the first two chunks, and of the last ones.
const CHUNK_MIN: usize = 512;
const CHUNK_MAX: usize = 1 << 17;

/// Chunks until their rows together are [`CHUNK_MAX`], from where on all are of that size.
const DOUBLING: usize = (CHUNK_MAX / CHUNK_MIN).ilog2() as usize + 1;

/// Words, and bits, of a row that lie in columns.
pub(crate) const FRONT_WORDS: usize = 4;
pub(crate) const FRONT_BITS: usize = FRONT_WORDS * 64;

/// Columns of a block.
pub(crate) const COLUMNS: usize = FRONT_WORDS * 8;

/// Bytes of a cache line, the unit of loading and of shuffling.
pub(crate) const LINE: usize = 64;

/// Words of a line.
pub(crate) const LINE_WORDS: usize = 8;

/// Owner of a row that is free.
pub(crate) const NO_PERSON: PersonNo = PERSONS_MAX;

/// The first 256 bits of each row of a block: byte r of column j is byte j of row r.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(64))]
pub(crate) struct Columns(pub [[u8; LINE]; COLUMNS]);

/// 512 bits.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(64))]
pub(crate) struct Line(pub [u64; LINE_WORDS]);

/// The rows of an index, and whose they are. Wiped on drop.
pub(crate) struct Arena {
    bits: Bits,
    chunks: Vec<Memory>,
    /// Rows that were somebody's; the last one is used next.
    free: Vec<Row>,
    /// Rows that were ever used: this is the next one when none is free.
    fresh: usize,
}

/// Rows that lie together.
struct Memory {
    /// Clear bits belong in no swap file. ORDER: first, since fields are dropped in their order: what is given back to
    /// the system may be somebody else's when it is unlocked.
    #[allow(dead_code, reason = "held for its locks")]
    locks: [Option<region::LockGuard>; 3],
    fronts: Pages<Columns>,
    middles: Pages<Line>,
    lines: usize,
    tails: Pages<Line>,
    owners: Box<[PersonNo]>,
    first: usize,
}

/// The same, to be read: where everything lies was looked up once, and not for every row.
#[derive(Clone, Copy)]
pub(crate) struct Chunk<'a> {
    /// `[rows / 64]`.
    pub fronts: &'a [Columns],
    /// `[rows][lines]`: behind the first 256 bits what fills whole lines.
    middles: &'a [Line],
    /// Lines of a row in its middle: none, none, one or three.
    pub lines: usize,
    /// `[rows / 2]`: the last 256 bits of two rows; of templates of 256 bits, which have no more than their front, none.
    tails: &'a [Line],
    /// `[rows]`.
    pub owners: &'a [PersonNo],
    /// The number of the first row.
    first: usize,
}

impl Arena {
    pub(crate) fn new(bits: Bits) -> Self {
        Self {
            bits,
            chunks: Vec::new(),
            free: Vec::new(),
            fresh: 0,
        }
    }

    pub(crate) fn bits(&self) -> Bits {
        self.bits
    }

    /// Rows that are somebody's.
    pub(crate) fn len(&self) -> usize {
        self.fresh - self.free.len()
    }

    /// Every chunk, and of how many of its blocks rows were ever used.
    pub(crate) fn used(&self) -> impl Iterator<Item = (Chunk<'_>, usize)> {
        let blocks = |chunk: &Memory| (self.fresh - chunk.first).min(chunk.owners.len()).div_ceil(BLOCK);
        self.chunks
            .iter()
            .map(move |chunk| (chunk.to_read(), blocks(chunk)))
    }

    /// Every row of the persons who are `wanted`.
    pub(crate) fn rows_of(&self, wanted: impl Fn(PersonNo) -> bool) -> impl Iterator<Item = (Row, PersonNo)> {
        let owners = self.chunks.iter().flat_map(|chunk| &chunk.owners).copied();
        let wanted = owners.enumerate().filter(move |(_, person)| wanted(*person));
        wanted.map(|(number, person)| (row(number), person))
    }

    pub(crate) fn insert(&mut self, person: PersonNo, template: &Template) -> Row {
        assert!(person != NO_PERSON, "person numbers are below {PERSONS_MAX}");
        assert_eq!(
            template.bits(),
            self.bits,
            "templates of two schemes are never compared"
        );
        let row = self.free.pop().unwrap_or_else(|| self.grow());
        self.overwrite(row, person, template.words(Inside));
        row
    }

    pub(crate) fn remove(&mut self, row: Row) {
        let (n, i) = place(row);
        // Removed twice, a row would be handed out twice, and two people would share a face.
        assert!(self.chunks[n].owners[i] != NO_PERSON, "the row is nobody's");
        self.overwrite(row, NO_PERSON, &[0; Bits::MAX / 64][..self.bits.words()]);
        self.free.push(row);
    }

    /// Bytes of all chunks.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        let bytes = |chunk: &Memory| {
            size_of_val(&*chunk.fronts)
                + size_of_val(&*chunk.middles)
                + size_of_val(&*chunk.tails)
                + size_of_val(&*chunk.owners)
                + size_of::<Memory>()
        };
        self.chunks.iter().map(bytes).sum()
    }

    /// A copy of one row.
    pub(crate) fn template(&self, row: Row) -> Template {
        let (n, i) = place(row);
        let chunk = self.chunks[n].to_read();
        let mut words = Zeroizing::new([0; Bits::MAX / 64]);
        words[..FRONT_WORDS].copy_from_slice(&chunk.front(i));
        let rest = words[FRONT_WORDS..].as_chunks_mut().0.iter_mut();
        for (words, stored) in rest.zip(chunk.rest(i)) {
            *words = *stored;
        }
        Template::from_words(words[..self.bits.words()].iter().copied())
    }

    fn grow(&mut self) -> Row {
        let capacity = self
            .chunks
            .last()
            .map_or(0, |last| last.first + last.owners.len());
        if self.fresh == capacity {
            let rows = chunk_rows(self.chunks.len());
            self.chunks.push(Memory::new(capacity, rows, self.bits));
        }
        self.fresh += 1;
        row(self.fresh - 1)
    }

    fn overwrite(&mut self, row: Row, owner: PersonNo, words: &[u64]) {
        let (n, i) = place(row);
        let chunk = &mut self.chunks[n];
        chunk.owners[i] = owner;
        let (front, rest) = words.split_at(FRONT_WORDS);
        let (middle, tail) = rest.split_at(chunk.lines * LINE_WORDS);
        let columns = &mut chunk.fronts[i / BLOCK].0;
        let bytes = front.iter().flat_map(|word| word.to_le_bytes());
        columns
            .iter_mut()
            .zip(bytes)
            .for_each(|(column, byte)| column[i % BLOCK] = byte);
        for (line, words) in chunk.middles[i * chunk.lines..]
            .iter_mut()
            .zip(middle.as_chunks().0)
        {
            line.0 = *words;
        }
        if !tail.is_empty() {
            chunk.tails[i / 2].0.as_chunks_mut::<FRONT_WORDS>().0[i % 2].copy_from_slice(tail);
        }
    }
}

impl Memory {
    fn new(first: usize, rows: usize, bits: Bits) -> Self {
        let lines = (bits.words() - FRONT_WORDS) / LINE_WORDS;
        let has_tail = bits.words() > FRONT_WORDS + lines * LINE_WORDS;
        let fronts = Pages::zeroed(rows / BLOCK);
        let middles = Pages::zeroed(rows * lines);
        let tails = Pages::zeroed(if has_tail { rows / 2 } else { 0 });
        Self {
            locks: [
                swap::keep_out(&fronts),
                swap::keep_out(&middles),
                swap::keep_out(&tails),
            ],
            fronts,
            middles,
            lines,
            tails,
            owners: vec![NO_PERSON; rows].into_boxed_slice(),
            first,
        }
    }

    fn to_read(&self) -> Chunk<'_> {
        Chunk {
            fronts: &self.fronts,
            middles: &self.middles,
            lines: self.lines,
            tails: &self.tails,
            owners: &self.owners,
            first: self.first,
        }
    }
}

impl<'a> Chunk<'a> {
    /// The number of row `i` of the chunk: it was handed out, and so is one.
    #[inline(always)]
    pub(crate) fn row(&self, i: usize) -> Row {
        Row(self.first.wrapping_add(i) as u32)
    }

    /// The first words of row `i`.
    #[inline(always)]
    pub(crate) fn front(&self, i: usize) -> [u64; FRONT_WORDS] {
        let columns = &self.fronts[i / BLOCK].0;
        std::array::from_fn(|at| u64::from_le_bytes(std::array::from_fn(|j| columns[8 * at + j][i % BLOCK])))
    }

    /// The columns of `B` blocks from that one on.
    #[inline(always)]
    pub(crate) fn fronts_of_blocks<const B: usize>(&self, block: usize) -> &'a [Columns; B] {
        self.fronts[block..].first_chunk().expect("blocks of one chunk")
    }

    /// The other words of row `i`, in order.
    #[inline(always)]
    pub(crate) fn rest(&self, i: usize) -> impl Iterator<Item = &'a [u64; FRONT_WORDS]> {
        let middle = self.middle(i).iter().flat_map(|line| line.0.as_chunks().0);
        middle.chain(self.tail(i).map(|line| &line.0.as_chunks().0[i % 2]))
    }

    /// The lines in the middle of row `i`.
    #[inline(always)]
    pub(crate) fn middle(&self, i: usize) -> &'a [Line] {
        &self.middles[i.wrapping_mul(self.lines)..][..self.lines]
    }

    /// The lines in the middle of a block's rows, one row's behind the other's.
    #[inline(always)]
    pub(crate) fn middle_of_block(&self, block: usize) -> &'a [Line] {
        &self.middles[block * BLOCK * self.lines..][..BLOCK * self.lines]
    }

    /// The line of which half number `i % 2` is row `i`'s tail.
    #[inline(always)]
    pub(crate) fn tail(&self, i: usize) -> Option<&'a Line> {
        self.tails.get(i / 2)
    }

    /// The tails of a block's rows, if they have any.
    #[inline(always)]
    pub(crate) fn tails_of_block(&self, block: usize) -> Option<&'a [Line; BLOCK / 2]> {
        self.tails.as_chunks().0.get(block)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        for columns in &mut *self.fronts {
            columns.0.as_flattened_mut().zeroize();
        }
        let rest = self.middles.iter_mut().chain(&mut *self.tails);
        rest.for_each(|line| line.0.zeroize());
    }
}

/// Rows of chunk `n`: the first two are equal, each further one as large as all before it, up to a limit.
fn chunk_rows(n: usize) -> usize {
    CHUNK_MIN << (n.clamp(1, DOUBLING) - 1)
}

fn row(number: usize) -> Row {
    Row(u32::try_from(number).expect("2^32 rows are 128 GiB of the shortest templates"))
}

/// The chunk of a row, and the row's place in it.
fn place(row: Row) -> (usize, usize) {
    let number = row.0 as usize;
    if number >= CHUNK_MAX {
        return (DOUBLING + number / CHUNK_MAX - 1, number % CHUNK_MAX);
    }
    match number / CHUNK_MIN {
        0 => (0, number),
        units => {
            let n = units.ilog2() as usize + 1;
            (n, number - (CHUNK_MIN << (n - 1)))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use likeness_types::testing::template;

    #[test]
    fn every_row_has_a_place_of_its_own() {
        let mut number = 0;
        for n in 0..DOUBLING + 3 {
            for i in [0, 1, chunk_rows(n) - 1] {
                assert_eq!(place(row(number + i)), (n, i));
            }
            number += chunk_rows(n);
        }
    }

    proptest! {
        #[test]
        fn a_template_comes_back_as_it_was_and_a_removed_one_is_zero(
            templates in prop::sample::select(Bits::ALL.to_vec())
                .prop_flat_map(|bits| prop::collection::vec(template(bits), 1..70)),
            removed in any::<prop::sample::Index>(),
        ) {
            let mut arena = Arena::new(templates[0].bits());
            let rows: Vec<_> = templates.iter().map(|template| arena.insert(1, template)).collect();
            for (row, template) in rows.iter().zip(&templates) {
                prop_assert_eq!(&arena.template(*row), template);
            }
            let gone = *removed.get(&rows);
            arena.remove(gone);
            prop_assert_eq!(arena.len(), rows.len() - 1);
            prop_assert!(arena.template(gone).words(Inside).iter().all(|word| *word == 0));
            prop_assert_eq!(arena.insert(2, &templates[0]), gone);
        }
    }
}
