//! Exact index: scans every template. The cascade drops a row only when its bits put it below the threshold.
//!
//! The rows and their layout are [`Arena`]'s, the search [`cascade`]'s. This file puts the two together
//! with a query: the rows that count, and the faces of a person that are compared.

use crate::arena::Arena;
use crate::cascade;
use crate::cascade::{MISS_PROBABILITY, Seek};
use crate::index::{Ask, Found, Near, PersonNo, Row};
use crate::nearness;
use crate::rows::Rows;
use crate::top::Tally;
use likeness_types::template::{Bits, Template};

pub struct Flat {
    arena: Arena,
}

impl Flat {
    pub fn new(bits: Bits) -> Self {
        Self {
            arena: Arena::new(bits),
        }
    }

    pub fn insert(&mut self, person: PersonNo, template: &Template) -> Row {
        self.arena.insert(person, template)
    }

    pub fn remove(&mut self, row: Row) {
        self.arena.remove(row);
    }

    pub fn top(&self, ask: &Ask<'_>) -> Found {
        let mut seeks = self.seeks(ask);
        match ask.among {
            None => cascade::scan(&self.arena, &mut seeks, |_| u64::MAX),
            Some(rows) => cascade::scan(&self.arena, &mut seeks, |first| rows.mask(first)),
        }
        self.found(ask, seeks)
    }

    pub fn top_together(&self, asks: &[Ask<'_>]) -> Vec<Found> {
        assert!(
            asks.iter().all(|ask| ask.among.is_none()),
            "only those who look at every row share a pass"
        );
        let mut seeks: Vec<_> = asks.iter().flat_map(|ask| self.seeks(ask)).collect();
        cascade::scan(&self.arena, &mut seeks, |_| u64::MAX);
        let mut seeks = seeks.into_iter();
        let own = |ask| self.found(ask, seeks.by_ref().take(self.sought(ask)).collect());
        asks.iter().map(own).collect()
    }

    pub fn looked_at(&self, ask: &Ask<'_>) -> Vec<u64> {
        let mut seeks = self.seeks(ask);
        cascade::scan(&self.arena, &mut seeks, |_| u64::MAX);
        let tallies = seeks.into_iter().map(|seek| seek.finish().1);
        tallies.map(|tally| tally.second + tally.full).collect()
    }

    /// Probes that are looked for.
    fn sought(&self, ask: &Ask<'_>) -> usize {
        if ask.k > 0 { ask.probes.len() } else { 0 }
    }

    fn seeks<'a>(&self, ask: &'a Ask<'a>) -> Vec<Seek<'a, Tally<'a>>> {
        let miss = if ask.exact { 0.0 } else { MISS_PROBABILITY };
        let tallies = Tally::of_each(ask).take(self.sought(ask));
        tallies
            .map(|tally| Seek::new(&self.arena, tally.probe(), tally, miss))
            .collect()
    }

    fn found<'a>(&self, ask: &'a Ask<'a>, seeks: Vec<Seek<'a, Tally<'a>>>) -> Found {
        let mut tallies: Vec<_> = seeks.into_iter().map(|seek| seek.finish().0).collect();
        for tally in tallies.iter_mut().filter(|tally| tally.lacks_scores()) {
            // Rare: somebody with several faces was found by one, and is compared by all.
            let lacking = self
                .arena
                .rows_of(|person| tally.lacks(person))
                .collect::<Vec<_>>();
            for (row, person) in lacking {
                tally.add(person, tally.probe().score(&self.arena.template(row)));
            }
        }
        let mut hits: Vec<_> = tallies.into_iter().map(Tally::finish).collect();
        hits.resize_with(ask.probes.len(), Vec::new);
        Found {
            hits,
            compared: ask.among.map_or(self.len(), Rows::len),
        }
    }

    pub fn template(&self, row: Row) -> Template {
        self.arena.template(row)
    }

    pub fn near(&self, templates: &[Template], distance_max: u32, tell: &mut dyn FnMut(Near)) {
        nearness::near(&self.arena, templates, distance_max, tell);
    }

    pub fn len(&self) -> usize {
        self.arena.len()
    }
}

#[cfg(test)]
mod tests {
    use likeness_types::Inside;
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::index::{ComparedFaces, Hit};
    use crate::multi_face::Several;
    use likeness_types::fused::Agreement;
    use likeness_types::template::Probe;
    use likeness_types::testing::{probe_values, template};

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

    fn persons(hits: &[Hit]) -> Vec<PersonNo> {
        hits.iter().map(|hit| hit.person).collect()
    }

    /// What one probe finds among all rows, each person by the best face.
    fn top(flat: &Flat, probe: &Probe, k: usize, similarity_min: f32) -> Vec<Hit> {
        let found = flat.top(&Ask {
            probes: &[probe],
            k,
            similarity_min,
            among: None,
            by: ComparedFaces::BestFace,
            exact: false,
        });
        assert_eq!(found.compared, flat.len());
        found.hits.into_iter().next().expect("one answer for each probe")
    }

    type Faces = BTreeMap<Row, (PersonNo, Vec<u8>)>;

    /// What `top` must answer, computed plainly from all faces; `fused`: by all faces of each person.
    fn naive_top(faces: &Faces, probe: &Probe, k: usize, min: f32, fused: bool) -> Vec<Hit> {
        let mut people: BTreeMap<PersonNo, Vec<Template>> = BTreeMap::new();
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
        Insert(PersonNo, Template),
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
                    let bytes = template.to_bytes(Inside).to_vec();
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
                by: if fused { ComparedFaces::AllFaces(&several) } else { ComparedFaces::BestFace },
                exact: false,
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
                prop_assert_eq!(&stored.to_bytes(Inside)[..], &bytes[..]);
                for (n, template) in asking.iter().enumerate() {
                    let distance = template.distance(&stored);
                    expected.push(Near { asking: n, person: *person, row: *row, distance });
                }
            }
            expected.retain(|one| one.distance <= distance_max);
            near.sort();
            expected.sort();
            prop_assert_eq!(near, expected);
        }
    }

    /// Enough faces for stages, which the few of the other tests are not.
    #[test]
    fn by_one_face_or_by_all_a_search_in_stages_finds_what_an_exact_one_does() {
        let mut state = 1u64;
        let mut random = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u32
        };
        let (mut flat, mut several) = (Flat::new(Bits::B512), Several::default());
        let mut probes = Vec::new();
        for person in 0..2500 {
            let base: Vec<i32> = (0..512).map(|_| if random() % 2 == 0 { 1 } else { -1 }).collect();
            let mut alike = || {
                base.iter()
                    .map(|bit| if random() % 5 == 0 { -bit } else { *bit })
                    .collect::<Vec<_>>()
            };
            // A third of the people has one face.
            let faces: Vec<_> = (0..person % 3 + 1)
                .map(|_| Template::from_signs(&alike()))
                .collect();
            if person % 100 < 3 {
                let signs = alike();
                let values = signs.iter().map(|sign| (sign * (random() % 100) as i32) as i8);
                probes.push(Probe::from_values(&values.collect::<Vec<_>>()));
            }
            if faces.len() > 1 {
                several.set(person, Agreement::of(&faces.iter().collect::<Vec<_>>()));
            }
            faces.iter().for_each(|face| _ = flat.insert(person, face));
        }
        for by in [ComparedFaces::BestFace, ComparedFaces::AllFaces(&several)] {
            let [exact, staged] = [true, false].map(|exact| {
                flat.top(&Ask {
                    probes: &probes.iter().collect::<Vec<_>>(),
                    k: 3,
                    similarity_min: 0.3,
                    among: None,
                    by,
                    exact,
                })
                .hits
            });
            assert_eq!(staged, exact);
            assert!(exact.iter().filter(|hits| !hits.is_empty()).count() > probes.len() / 2);
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
        let persons_in_all = 1536;
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
        assert!(flat.template(row).words(Inside).iter().all(|word| *word == 0));
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
