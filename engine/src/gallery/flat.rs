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

    pub(super) fn len(&self) -> usize {
        self.chunks.len() * CHUNK_ROWS - self.free.len()
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

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::template::tests::{probe_values, score_by_definition, template};

    const BITS: Bits = Bits::B256;

    /// A template with ones at the first `ones` places.
    fn with_ones(ones: usize) -> Template {
        Template::from_signs(&std::array::from_fn::<i32, 256, _>(
            |i| if i < ones { 1 } else { -1 },
        ))
    }

    /// Scores 2 * ones - 256 against `with_ones`.
    fn counting_probe() -> Probe {
        Probe::from_values(&[1; 256])
    }

    fn persons(hits: &[Hit]) -> Vec<Person> {
        hits.iter().map(|hit| hit.person).collect()
    }

    /// What `top` must answer, computed plainly from all faces.
    fn naive_top(
        faces: &BTreeMap<Row, (Person, Vec<u8>)>,
        values: &[i8],
        k: usize,
        min: f32,
    ) -> Vec<(Person, Row, i32)> {
        let probe = Probe::from_values(values);
        let mut all: Vec<_> = faces
            .iter()
            .map(|(row, (person, bytes))| {
                let template = Template::from_bytes(bytes).expect("made by to_bytes");
                (*person, *row, score_by_definition(values, &template))
            })
            .filter(|(_, _, score)| probe.similarity(*score) >= min)
            .collect();
        all.sort_by_key(|(person, row, score)| (Reverse(*score), *person, *row));
        let mut seen = Vec::new();
        all.retain(|(person, ..)| {
            !seen.contains(person) && {
                seen.push(*person);
                true
            }
        });
        all.truncate(k);
        all
    }

    #[derive(Debug)]
    enum Change {
        Insert(Person, Template),
        Remove(prop::sample::Index),
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            3 => (0..12u32, template(BITS)).prop_map(|(person, template)| Change::Insert(person, template)),
            // Few distinct templates, for equal scores.
            3 => (0..12u32, 0..4usize).prop_map(|(person, n)| Change::Insert(person, with_ones(n * 64))),
            2 => any::<prop::sample::Index>().prop_map(Change::Remove),
        ]
    }

    proptest! {
        #[test]
        fn top_equals_a_plain_sort_after_any_changes(
            changes in prop::collection::vec(change(), 0..80),
            values in probe_values(BITS),
            k in 0..20usize,
            min in prop_oneof![Just(-1.0f32), -0.3f32..0.3],
        ) {
            let mut flat = Flat::new(BITS);
            let mut faces = BTreeMap::new();
            for change in changes {
                match change {
                    Change::Insert(person, template) => {
                        let bytes = template.to_bytes().to_vec();
                        let clash = faces.insert(flat.insert(person, &template), (person, bytes));
                        prop_assert!(clash.is_none());
                    }
                    Change::Remove(at) if !faces.is_empty() => {
                        let row = *at.get(&faces.keys().collect::<Vec<_>>()).to_owned();
                        flat.remove(row);
                        faces.remove(&row);
                    }
                    Change::Remove(_) => {}
                }
            }
            prop_assert_eq!(flat.len(), faces.len());
            let probe = Probe::from_values(&values);
            let hits = flat.top(&probe, k, min);
            let found: Vec<_> = hits.iter().map(|hit| (hit.person, hit.row, hit.score)).collect();
            prop_assert_eq!(found, naive_top(&faces, &values, k, min));
        }
    }

    #[test]
    fn an_empty_index_and_no_places_give_no_hits() {
        let mut flat = Flat::new(BITS);
        assert!(flat.top(&counting_probe(), 5, -1.0).is_empty());
        flat.insert(1, &with_ones(9));
        assert!(flat.top(&counting_probe(), 0, -1.0).is_empty());
        assert_eq!(flat.top(&counting_probe(), usize::MAX, -1.0).len(), 1);
    }

    #[test]
    fn a_person_with_many_faces_takes_one_place() {
        let mut flat = Flat::new(BITS);
        for ones in 200..220 {
            flat.insert(7, &with_ones(ones));
        }
        flat.insert(8, &with_ones(100));
        flat.insert(9, &with_ones(90));
        let hits = flat.top(&counting_probe(), 2, -1.0);
        assert_eq!(persons(&hits), [7, 8]);
        assert_eq!(hits[0].score, 2 * 219 - 256);
    }

    #[test]
    fn equal_scores_come_by_person_number_across_chunks() {
        let mut flat = Flat::new(BITS);
        let persons_in_all = 3 * CHUNK_ROWS as u32;
        for person in (0..persons_in_all).rev() {
            flat.insert(person, &with_ones(128));
        }
        let hits = flat.top(&counting_probe(), 100, -1.0);
        assert_eq!(persons(&hits), (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn the_threshold_is_reached_by_the_similarity_that_was_reported() {
        let mut flat = Flat::new(BITS);
        flat.insert(1, &with_ones(213));
        let similarity = flat.top(&counting_probe(), 1, -1.0)[0].similarity;
        assert_eq!(flat.top(&counting_probe(), 1, similarity).len(), 1);
        assert!(flat.top(&counting_probe(), 1, similarity + 1e-6).is_empty());
    }

    #[test]
    fn a_removed_face_is_overwritten_and_its_row_used_again() {
        let mut flat = Flat::new(BITS);
        let row = flat.insert(1, &with_ones(256));
        flat.remove(row);
        assert_eq!(flat.len(), 0);
        assert!(flat.chunks[0].lanes.iter().all(|lanes| lanes.0 == [0; LANES]));
        assert!(flat.top(&counting_probe(), 1, -1.0).is_empty());
        assert_eq!(flat.insert(2, &with_ones(3)), row);
        assert_eq!(persons(&flat.top(&counting_probe(), 1, -1.0)), [2]);
    }

    #[test]
    #[should_panic(expected = "nobody's")]
    fn a_row_is_not_removed_twice() {
        let mut flat = Flat::new(BITS);
        let row = flat.insert(1, &with_ones(1));
        flat.remove(row);
        flat.remove(row);
    }
}
