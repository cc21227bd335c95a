//! The flat index: every face is compared, so every answer is exact.
//!
//! Rows live in chunks that never move and never grow: growing one long vector would leave
//! copies of its templates in freed memory, and removing a face could not reach them. Every row
//! is either somebody's or in the free list, and then it is zero.

use zeroize::Zeroize;

use crate::gallery::index::{Ask, Found, Near, PERSONS_MAX, Person, Row};
use crate::gallery::rows::Rows;
use crate::gallery::scan::{self, LANES, Lanes};
use crate::gallery::top::Tally;
use crate::swap;
use crate::template::{Bits, Template};

/// Rows of a chunk: 64 KiB of 1024-bit templates, little enough for a collection of ten people
/// and long enough that the scan does not notice the seams.
const CHUNK_ROWS: usize = 512;
const CHUNK_BLOCKS: usize = CHUNK_ROWS / LANES;

/// Owner of a row in the free list.
pub(super) const NOBODY: Person = PERSONS_MAX;

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
    /// Clear bits belong in no swap file.
    #[allow(dead_code, reason = "held for its lock")]
    lock: Option<region::LockGuard>,
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

    pub(super) fn top(&self, ask: &Ask<'_>) -> Found {
        for probe in ask.probes {
            assert_eq!(
                probe.bits(),
                self.bits,
                "templates of two schemes are never compared"
            );
        }
        let compared = ask.among.map_or(self.len(), Rows::len);
        let mut tallies: Vec<_> = ask.probes.iter().map(|probe| Tally::new(probe, ask)).collect();
        if ask.k > 0 {
            // Each chunk is read from memory once, for all probes.
            for (n, chunk) in self.chunks.iter().enumerate() {
                match ask.among {
                    None => tallies.iter_mut().for_each(|tally| chunk.scan(tally)),
                    Some(rows) => {
                        for (at, masks) in rows.runs(n * CHUNK_BLOCKS, CHUNK_BLOCKS) {
                            let tallies = tallies.iter_mut();
                            tallies.for_each(|tally| chunk.scan_blocks(tally, at, masks));
                        }
                    }
                }
            }
        }
        Found {
            hits: tallies.into_iter().map(Tally::finish).collect(),
            compared,
        }
    }

    pub(super) fn template(&self, row: Row) -> Template {
        let (n, i) = place(row);
        let first = i / LANES * self.bits.words();
        let lanes = &self.chunks[n].lanes[first..first + self.bits.words()];
        Template::from_words(lanes.iter().map(|lanes| lanes.0[i % LANES]))
    }

    pub(super) fn near(&self, templates: &[Template], distance_max: u32, tell: &mut dyn FnMut(Near)) {
        let mut distances = [0; CHUNK_ROWS];
        for chunk in &self.chunks {
            for (asking, template) in templates.iter().enumerate() {
                scan::distances(template.words(), &chunk.lanes, &mut distances);
                for (&distance, &person) in distances.iter().zip(&chunk.owners) {
                    if distance <= distance_max && person != NOBODY {
                        tell(Near {
                            asking,
                            person,
                            distance,
                        });
                    }
                }
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.chunks.len() * CHUNK_ROWS - self.free.len()
    }

    /// Adds a chunk and hands out its first row; the others go to the free list.
    fn grow(&mut self) -> Row {
        let n = self.chunks.len();
        let lanes = vec![Lanes([0; LANES]); CHUNK_BLOCKS * self.bits.words()].into_boxed_slice();
        self.chunks.push(Chunk {
            lock: swap::keep_out(&lanes),
            lanes,
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

impl Chunk {
    /// Offers every row.
    fn scan(&self, tally: &mut Tally<'_>) {
        let mut scores = [0; CHUNK_ROWS];
        scan::scores(tally.probe(), &self.lanes, &mut scores);
        for (&score, &person) in scores.iter().zip(&self.owners) {
            tally.offer(score, person);
        }
    }

    /// Offers the rows of a set: those of the blocks from `at` on whose bits are set in `masks`.
    fn scan_blocks(&self, tally: &mut Tally<'_>, at: usize, masks: &[u8]) {
        let words = tally.probe().planes().len();
        let (blocks, rows) = (at..at + masks.len(), at * LANES..(at + masks.len()) * LANES);
        let mut scores = [0; CHUNK_ROWS];
        let scores = &mut scores[..rows.len()];
        scan::scores(
            tally.probe(),
            &self.lanes[blocks.start * words..blocks.end * words],
            scores,
        );
        for (i, (&score, &person)) in scores.iter().zip(&self.owners[rows]).enumerate() {
            if masks[i / LANES] >> (i % LANES) & 1 == 1 {
                tally.offer(score, person);
            }
        }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::fused::Agreement;
    use crate::gallery::index::{By, Hit};
    use crate::gallery::several::Several;
    use crate::template::Probe;
    use crate::template::tests::{probe_values, template};

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

    /// What one probe finds among all rows, each person by the best face.
    fn top(flat: &Flat, probe: &Probe, k: usize, similarity_min: f32) -> Vec<Hit> {
        let found = flat.top(&Ask {
            probes: &[probe],
            k,
            similarity_min,
            among: None,
            by: By::BestFace,
        });
        assert_eq!(found.compared, flat.len());
        found.hits.into_iter().next().expect("one answer for each probe")
    }

    type Faces = BTreeMap<Row, (Person, Vec<u8>)>;

    /// What `top` must answer, computed plainly from all faces; `fused`: by all faces of each person.
    fn naive_top(faces: &Faces, probe: &Probe, k: usize, min: f32, fused: bool) -> Vec<Hit> {
        let mut people: BTreeMap<Person, Vec<Template>> = BTreeMap::new();
        for (person, bytes) in faces.values() {
            let template = Template::from_bytes(bytes).expect("made by to_bytes");
            people.entry(*person).or_default().push(template);
        }
        let similarity = |templates: Vec<Template>| {
            let all: Vec<_> = templates.iter().collect();
            let scores = || all.iter().map(|template| probe.score(template));
            if fused {
                Agreement::of(&all).similarity(probe, scores().sum())
            } else {
                probe.similarity(scores().max().expect("everybody has a face"))
            }
        };
        let hits = people.into_iter().map(|(person, templates)| Hit {
            person,
            similarity: similarity(templates),
        });
        let mut hits: Vec<_> = hits.filter(|hit| hit.similarity >= min).collect();
        hits.sort_by(|a, b| {
            b.similarity
                .total_cmp(&a.similarity)
                .then(a.person.cmp(&b.person))
        });
        hits.truncate(k);
        hits
    }

    /// Who has several faces, as the gallery notes it.
    fn several(faces: &Faces) -> Several {
        let mut several = Several::default();
        for person in 0..12 {
            let own = faces.values().filter(|(owner, _)| *owner == person);
            let own: Vec<_> = own
                .map(|(_, bytes)| Template::from_bytes(bytes).expect("whole"))
                .collect();
            if own.len() > 1 {
                several.set(person, Agreement::of(&own.iter().collect::<Vec<_>>()));
            }
        }
        several
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

    /// An index after some changes, and what is in it.
    fn changed(changes: Vec<Change>) -> (Flat, Faces) {
        let (mut flat, mut faces) = (Flat::new(BITS), Faces::new());
        for change in changes {
            match change {
                Change::Insert(person, template) => {
                    let bytes = template.to_bytes().to_vec();
                    let clash = faces.insert(flat.insert(person, &template), (person, bytes));
                    assert!(clash.is_none());
                }
                Change::Remove(at) if !faces.is_empty() => {
                    let row = *at.get(&faces.keys().collect::<Vec<_>>()).to_owned();
                    flat.remove(row);
                    faces.remove(&row);
                }
                Change::Remove(_) => {}
            }
        }
        assert_eq!(flat.len(), faces.len());
        (flat, faces)
    }

    proptest! {
        #[test]
        fn top_equals_a_plain_sort_after_any_changes(
            changes in prop::collection::vec(change(), 0..80),
            values in prop::collection::vec(probe_values(BITS), 0..4),
            k in 0..20usize,
            similarity_min in prop_oneof![Just(-1.0f32), -0.3f32..0.3],
            allowed in prop::option::of(prop::collection::btree_set(0..12u32, 0..12)),
            fused in any::<bool>(),
        ) {
            let (flat, mut faces) = changed(changes);
            let several = several(&faces);
            let among = allowed.map(|allowed| {
                faces.retain(|_, (person, _)| allowed.contains(person));
                let mut rows = Rows::default();
                faces.keys().for_each(|row| rows.insert(*row));
                rows
            });
            let probes: Vec<_> = values.iter().map(|values| Probe::from_values(values)).collect();
            let found = flat.top(&Ask {
                probes: &probes.iter().collect::<Vec<_>>(),
                k,
                similarity_min,
                among: among.as_ref(),
                by: if fused { By::AllFaces(&several) } else { By::BestFace },
            });
            prop_assert_eq!(found.compared, faces.len());
            prop_assert_eq!(found.hits.len(), probes.len());
            for (hits, probe) in found.hits.iter().zip(&probes) {
                prop_assert_eq!(hits, &naive_top(&faces, probe, k, similarity_min, fused));
            }
        }

        #[test]
        fn every_stored_face_within_a_distance_is_told_and_no_other(
            changes in prop::collection::vec(change(), 0..80),
            asking in prop::collection::vec(template(BITS), 0..3),
            distance_max in 90..160u32,
        ) {
            let (flat, faces) = changed(changes);
            let mut near = Vec::new();
            flat.near(&asking, distance_max, &mut |one| near.push(one));
            let mut expected = Vec::new();
            for (row, (person, bytes)) in &faces {
                let stored = flat.template(*row);
                prop_assert_eq!(&stored.to_bytes()[..], &bytes[..]);
                for (n, template) in asking.iter().enumerate() {
                    let distance = template.distance(&stored);
                    expected.push(Near { asking: n, person: *person, distance });
                }
            }
            expected.retain(|one| one.distance <= distance_max);
            near.sort();
            expected.sort();
            prop_assert_eq!(near, expected);
        }
    }

    #[test]
    fn an_empty_index_and_no_places_give_no_hits() {
        let mut flat = Flat::new(BITS);
        assert!(top(&flat, &counting_probe(), 5, -1.0).is_empty());
        flat.insert(1, &with_ones(9));
        assert!(top(&flat, &counting_probe(), 0, -1.0).is_empty());
        assert_eq!(top(&flat, &counting_probe(), usize::MAX, -1.0).len(), 1);
    }

    #[test]
    fn a_person_with_many_faces_takes_one_place() {
        let mut flat = Flat::new(BITS);
        for ones in 200..220 {
            flat.insert(7, &with_ones(ones));
        }
        flat.insert(8, &with_ones(100));
        flat.insert(9, &with_ones(90));
        let hits = top(&flat, &counting_probe(), 2, -1.0);
        assert_eq!(persons(&hits), [7, 8]);
        assert_eq!(hits[0].similarity, (2.0 * 219.0 - 256.0) / 256.0);
    }

    #[test]
    fn equal_scores_come_by_person_number_across_chunks() {
        let mut flat = Flat::new(BITS);
        let persons_in_all = 3 * CHUNK_ROWS as u32;
        for person in (0..persons_in_all).rev() {
            flat.insert(person, &with_ones(128));
        }
        let hits = top(&flat, &counting_probe(), 100, -1.0);
        assert_eq!(persons(&hits), (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn the_threshold_is_reached_by_the_similarity_that_was_reported() {
        let mut flat = Flat::new(BITS);
        flat.insert(1, &with_ones(213));
        let similarity = top(&flat, &counting_probe(), 1, -1.0)[0].similarity;
        assert_eq!(top(&flat, &counting_probe(), 1, similarity).len(), 1);
        assert!(top(&flat, &counting_probe(), 1, similarity + 1e-6).is_empty());
    }

    #[test]
    fn a_removed_face_is_overwritten_and_its_row_used_again() {
        let mut flat = Flat::new(BITS);
        let row = flat.insert(1, &with_ones(256));
        flat.remove(row);
        assert_eq!(flat.len(), 0);
        assert!(flat.chunks[0].lanes.iter().all(|lanes| lanes.0 == [0; LANES]));
        assert!(top(&flat, &counting_probe(), 1, -1.0).is_empty());
        assert_eq!(flat.insert(2, &with_ones(3)), row);
        assert_eq!(persons(&top(&flat, &counting_probe(), 1, -1.0)), [2]);
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
