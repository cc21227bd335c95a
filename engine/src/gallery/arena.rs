//! Where the bits of an index lie: the beginnings of all templates by columns, the rest by rows.
//!
//! A search reads the first 256 bits of every row, the next 256 of some and the others of few. Sixteen rows
//! make a group, and in each of two [`Slab`]s lie 256 bits of a group, byte by byte: a byte shuffle looks up
//! what a nibble of sixteen rows is worth (as in FAISS' "FastScan" of product quantisation, with the groups
//! as small as the shuffle allows: in a second stage that is asked for one row in a hundred, a group of
//! sixteen is touched 15 % of the time, one of 64 half of it). The other bits lie row by row, in cache lines.
//!
//! Rows live in chunks that never move and never grow: growing one long vector would leave copies of its
//! templates in freed memory, and removing a face could not reach them. Every row is somebody's, or free,
//! and then it is zero. The first chunk is little enough for a collection of ten people (66 KiB at 1024
//! bits), and they double until their ends no longer matter.
//!
//! Pages are ordinary ones: asked for huge ones (`madvise`), the system gave 2 to 14 MiB of 128, and no time
//! of a search changed.

use zeroize::{Zeroize, Zeroizing};

use crate::gallery::index::{PERSONS_MAX, Person, Row};
use crate::swap;
use crate::template::{Bits, Template};

/// Rows of a group: the bytes of a shuffle's lane.
pub(super) const GROUP: usize = 16;

/// Rows of a block: the bits of a mask.
pub(super) const BLOCK: usize = 64;

/// Groups of a block.
pub(super) const GROUPS: usize = BLOCK / GROUP;

/// Rows of the first two chunks, and of the last ones.
const CHUNK_MIN: usize = 512;
const CHUNK_MAX: usize = 1 << 17;

/// Chunks until their rows together are [`CHUNK_MAX`], from where on all are of that size.
const DOUBLING: usize = (CHUNK_MAX / CHUNK_MIN).ilog2() as usize + 1;

/// Words of a row in a slab, and in a line.
pub(super) const SLAB_WORDS: usize = 4;
pub(super) const LINE_WORDS: usize = 8;

/// Most slabs of a template; those of 256 bits have one.
pub(super) const SLABS: usize = 2;

/// Bytes of a cache line, the unit of loading and of shuffling.
pub(super) const LINE: usize = 64;

/// Lines of a slab.
pub(super) const LINES: usize = SLAB_WORDS * 8 * GROUP / LINE;

/// Owner of a row that is free.
pub(super) const NOBODY: Person = PERSONS_MAX;

/// 256 bits of each row of a group: byte r + 16 j, counted through all lines, is byte j of row r.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Slab(pub(super) [[u8; LINE]; LINES]);

/// 512 bits of one row.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Line(pub(super) [u64; LINE_WORDS]);

/// The rows of an index, and whose they are. Wiped on drop.
pub(super) struct Arena {
    bits: Bits,
    chunks: Vec<Chunk>,
    /// Rows that were somebody's; the last one is used next.
    free: Vec<Row>,
    /// Rows that were ever used: this is the next one when none is free.
    fresh: usize,
}

/// Rows that lie together.
pub(super) struct Chunk {
    /// `[rows / 16]` each, the second one empty where templates have 256 bits.
    pub(super) slabs: [Box<[Slab]>; SLABS],
    /// `[rows][bits / 512 - 1]`.
    pub(super) rest: Box<[Line]>,
    /// `[rows]`.
    pub(super) owners: Box<[Person]>,
    /// The number of the first row.
    pub(super) first: usize,
    /// Clear bits belong in no swap file.
    #[allow(dead_code, reason = "held for their locks")]
    locks: [Option<region::LockGuard>; 3],
}

impl Arena {
    pub(super) fn new(bits: Bits) -> Self {
        Self {
            bits,
            chunks: Vec::new(),
            free: Vec::new(),
            fresh: 0,
        }
    }

    pub(super) fn bits(&self) -> Bits {
        self.bits
    }

    /// Rows that are somebody's.
    pub(super) fn len(&self) -> usize {
        self.fresh - self.free.len()
    }

    /// Every chunk, and of how many of its blocks rows were ever used.
    pub(super) fn used(&self) -> impl Iterator<Item = (&Chunk, usize)> {
        let blocks = |chunk: &Chunk| (self.fresh - chunk.first).min(chunk.owners.len()).div_ceil(BLOCK);
        self.chunks.iter().map(move |chunk| (chunk, blocks(chunk)))
    }

    /// Every row of the persons who are `wanted`.
    pub(super) fn rows_of(&self, wanted: impl Fn(Person) -> bool) -> impl Iterator<Item = (Row, Person)> {
        let owners = self.chunks.iter().flat_map(|chunk| &chunk.owners).copied();
        let wanted = owners.enumerate().filter(move |(_, person)| wanted(*person));
        wanted.map(|(number, person)| (row(number), person))
    }

    /// Lines of a row behind its slabs.
    pub(super) fn stride(&self) -> usize {
        self.bits.words().saturating_sub(SLABS * SLAB_WORDS) / LINE_WORDS
    }

    pub(super) fn insert(&mut self, person: Person, template: &Template) -> Row {
        assert!(person != NOBODY, "person numbers are below {PERSONS_MAX}");
        assert_eq!(
            template.bits(),
            self.bits,
            "templates of two schemes are never compared"
        );
        let row = self.free.pop().unwrap_or_else(|| self.grow());
        self.overwrite(row, person, template.words());
        row
    }

    pub(super) fn remove(&mut self, row: Row) {
        let (n, i) = place(row);
        // Removed twice, a row would be handed out twice, and two people would share a face.
        assert!(self.chunks[n].owners[i] != NOBODY, "the row is nobody's");
        self.overwrite(row, NOBODY, &[0; Bits::MAX / 64][..self.bits.words()]);
        self.free.push(row);
    }

    /// A copy of one row.
    pub(super) fn template(&self, row: Row) -> Template {
        let (n, i) = place(row);
        let chunk = &self.chunks[n];
        let lines = &chunk.rest[i * self.stride()..][..self.stride()];
        let slabs = chunk.slabs.iter().filter(|slab| !slab.is_empty());
        let mut words = Zeroizing::new([0; Bits::MAX / 64]);
        let (front, back) = words.split_at_mut(SLABS * SLAB_WORDS);
        for (words, slab) in front.chunks_mut(SLAB_WORDS).zip(slabs) {
            words.copy_from_slice(&row_of(slab, i));
        }
        for (words, line) in back.chunks_mut(LINE_WORDS).zip(lines) {
            words.copy_from_slice(&line.0);
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
            self.chunks.push(Chunk::new(capacity, rows, self.bits));
        }
        self.fresh += 1;
        row(self.fresh - 1)
    }

    fn overwrite(&mut self, row: Row, owner: Person, words: &[u64]) {
        let (n, i) = place(row);
        let stride = self.stride();
        let chunk = &mut self.chunks[n];
        chunk.owners[i] = owner;
        let (front, back) = words.split_at(words.len().min(SLABS * SLAB_WORDS));
        for (words, slab) in front.chunks(SLAB_WORDS).zip(&mut chunk.slabs) {
            let bytes = slab[i / GROUP].0.as_flattened_mut();
            for (j, byte) in words.iter().flat_map(|word| word.to_le_bytes()).enumerate() {
                bytes[i % GROUP + GROUP * j] = byte;
            }
        }
        let lines = &mut chunk.rest[i * stride..][..stride];
        for (line, words) in lines.iter_mut().zip(back.chunks(LINE_WORDS)) {
            line.0.copy_from_slice(words);
        }
    }
}

impl Chunk {
    fn new(first: usize, rows: usize, bits: Bits) -> Self {
        let slab = |n: usize| {
            let rows = if bits.words() > n * SLAB_WORDS { rows } else { 0 };
            vec![Slab([[0; LINE]; LINES]); rows / GROUP].into_boxed_slice()
        };
        let slabs = [0, 1].map(slab);
        let lines = rows * (bits.words() / LINE_WORDS).saturating_sub(1);
        let rest = vec![Line([0; LINE_WORDS]); lines].into_boxed_slice();
        Self {
            locks: [
                swap::keep_out(&slabs[0]),
                swap::keep_out(&slabs[1]),
                swap::keep_out(&rest),
            ],
            slabs,
            rest,
            owners: vec![NOBODY; rows].into_boxed_slice(),
            first,
        }
    }
}

/// The groups of a block.
#[inline(always)]
pub(super) fn groups(slabs: &[Slab], block: usize) -> &[Slab; GROUPS] {
    slabs[block * GROUPS..][..GROUPS]
        .try_into()
        .expect("a block's groups")
}

/// The words that a slab's column `i` holds.
#[inline(always)]
pub(super) fn row_of(slabs: &[Slab], i: usize) -> [u64; SLAB_WORDS] {
    let bytes: &[u8; LINE * LINES] = slabs[i / GROUP]
        .0
        .as_flattened()
        .try_into()
        .expect("a slab's bytes");
    std::array::from_fn(|at| {
        u64::from_le_bytes(std::array::from_fn(|j| bytes[i % GROUP + GROUP * (8 * at + j)]))
    })
}

impl Drop for Chunk {
    fn drop(&mut self) {
        for slab in self.slabs.iter_mut().flatten() {
            slab.0.as_flattened_mut().zeroize();
        }
        self.rest.iter_mut().for_each(|line| line.0.zeroize());
    }
}

/// Rows of chunk `n`: the first two are equal, each further one as large as all before it, up to a limit.
fn chunk_rows(n: usize) -> usize {
    CHUNK_MIN << (n.clamp(1, DOUBLING) - 1)
}

pub(super) fn row(number: usize) -> Row {
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
    use crate::template::tests::template;

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
            prop_assert!(arena.template(gone).words().iter().all(|word| *word == 0));
            prop_assert_eq!(arena.insert(2, &templates[0]), gone);
        }
    }
}
