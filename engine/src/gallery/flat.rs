//! The flat index: every face is compared, so every answer is exact.
//!
//! Rows live in chunks that never move and never grow: growing one long vector would leave
//! copies of its templates in freed memory, and removing a face could not reach them. Every row
//! is either somebody's or in the free list, and then it is zero.

use zeroize::Zeroize;

use crate::gallery::index::{Hit, PERSONS_MAX, Person, Row};
use crate::gallery::scan::{self, LANES, Lanes};
use crate::gallery::top::{Candidate, Top};
use crate::template::{Bits, Probe, Template};

/// Rows of a chunk: 64 KiB of 1024-bit templates, little enough for a collection of ten people
/// and long enough that the scan does not notice the seams.
const CHUNK_ROWS: usize = 512;

/// Owner of a row in the free list.
const NOBODY: Person = PERSONS_MAX;

pub(crate) struct Flat {
    bits: Bits,
    chunks: Vec<Chunk>,
    /// Rows that are nobody's; the last one is used next.
    free: Vec<Row>,
}

struct Chunk {
    /// `[CHUNK_ROWS / 8][bits / 64]`, see [`Lanes`].
    lanes: Box<[Lanes]>,
    owners: [Person; CHUNK_ROWS],
}

impl Flat {
    pub(super) fn new(bits: Bits) -> Self {
        Self {
            bits,
            chunks: Vec::new(),
            free: Vec::new(),
        }
    }

    pub(super) fn insert(&mut self, person: Person, template: &Template) -> Row {
        assert!(person != NOBODY, "person numbers are below {PERSONS_MAX}");
        assert_eq!(
            template.bits(),
            self.bits,
            "templates of two schemes are never compared"
        );
        let row = match self.free.pop() {
            Some(row) => row,
            None => self.grow(),
        };
        self.overwrite(row, person, template.words().iter().copied());
        row
    }

    pub(super) fn remove(&mut self, row: Row) {
        // Removed twice, a row would be handed out twice, and two people would share a face.
        assert!(self.owner(row) != NOBODY, "the row is nobody's");
        self.overwrite(row, NOBODY, std::iter::repeat(0));
        self.free.push(row);
    }

    pub(super) fn top(&self, probe: &Probe, k: usize, similarity_min: f32) -> Vec<Hit> {
        assert_eq!(
            probe.bits(),
            self.bits,
            "templates of two schemes are never compared"
        );
        if k == 0 {
            return Vec::new();
        }
        let mut top = Top::new(k, probe.score_at(similarity_min));
        let mut scores = [0; CHUNK_ROWS];
        for (n, chunk) in self.chunks.iter().enumerate() {
            scan::scores(probe, &chunk.lanes, &mut scores);
            for (i, (&score, &person)) in scores.iter().zip(&chunk.owners).enumerate() {
                // A free row has a score too; the owner is looked at second because it rarely comes to that.
                if score >= top.bar() && person != NOBODY {
                    top.offer(Candidate {
                        score,
                        person,
                        row: row(n, i),
                    });
                }
            }
        }
        top.finish().into_iter().map(|c| hit(probe, c)).collect()
    }

    pub(super) fn best_of(&self, probe: &Probe, rows: &[Row]) -> Option<Hit> {
        let scored = rows.iter().map(|&row| Candidate {
            score: probe.score(&self.template(row)),
            person: self.owner(row),
            row,
        });
        let best = scored.min_by_key(|c| (std::cmp::Reverse(c.score), c.row))?;
        Some(hit(probe, best))
    }

    pub(super) fn len(&self) -> usize {
        self.chunks.len() * CHUNK_ROWS - self.free.len()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let lanes = CHUNK_ROWS / LANES * self.bits.words() * size_of::<Lanes>();
        self.chunks.len() * lanes
            + self.chunks.capacity() * size_of::<Chunk>()
            + self.free.capacity() * size_of::<Row>()
    }

    /// Adds a chunk and hands out its first row; the others go to the free list.
    fn grow(&mut self) -> Row {
        let n = self.chunks.len();
        self.chunks.push(Chunk {
            lanes: vec![Lanes([0; LANES]); CHUNK_ROWS / LANES * self.bits.words()].into_boxed_slice(),
            owners: [NOBODY; CHUNK_ROWS],
        });
        self.free.extend((1..CHUNK_ROWS).rev().map(|i| row(n, i)));
        row(n, 0)
    }

    fn overwrite(&mut self, row: Row, owner: Person, words: impl Iterator<Item = u64>) {
        let (n, i) = place(row);
        let chunk = &mut self.chunks[n];
        chunk.owners[i] = owner;
        let first = i / LANES * self.bits.words();
        for (lanes, word) in chunk.lanes[first..first + self.bits.words()]
            .iter_mut()
            .zip(words)
        {
            lanes.0[i % LANES] = word;
        }
    }

    fn owner(&self, row: Row) -> Person {
        let (n, i) = place(row);
        self.chunks[n].owners[i]
    }

    /// A copy of one row, wiped when it goes.
    fn template(&self, row: Row) -> Template {
        let (n, i) = place(row);
        let first = i / LANES * self.bits.words();
        Template::from_words(
            self.chunks[n].lanes[first..first + self.bits.words()]
                .iter()
                .map(|l| l.0[i % LANES]),
        )
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.lanes.iter_mut().for_each(|lanes| lanes.0.zeroize());
    }
}

/// The row in place `i` of chunk `n`.
fn row(n: usize, i: usize) -> Row {
    Row(u32::try_from(n * CHUNK_ROWS + i).expect("2^32 rows are 128 GiB of the shortest templates"))
}

/// Chunk and place of a row.
fn place(row: Row) -> (usize, usize) {
    (row.0 as usize / CHUNK_ROWS, row.0 as usize % CHUNK_ROWS)
}

fn hit(probe: &Probe, c: Candidate) -> Hit {
    Hit {
        person: c.person,
        row: c.row,
        score: c.score,
        similarity: probe.similarity(c.score),
    }
}
