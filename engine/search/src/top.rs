//! The best k persons of a stream of scored faces.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::cascade::Sink;
use crate::index::{Ask, ComparedFaces, Hit, PersonNo, Row};
use likeness_types::template::Probe;

/// A face with its score, on its way to becoming a hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub score: i32,
    pub person: PersonNo,
}

/// Collects candidates and keeps the best face of each of the best k persons.
///
/// A person has several faces and takes one place, so this is no plain heap: candidates are
/// gathered and thinned once there are twice as many as asked for. That costs O(log k) a
/// candidate, and the bar rises with every thinning, so that soon few faces become candidates.
pub(crate) struct Top {
    k: usize,
    bar: i32,
    candidates: Vec<Candidate>,
}

impl Top {
    /// The best `k` persons of those that score at least `score_min`.
    pub(crate) fn new(k: usize, score_min: i32) -> Self {
        Self {
            k,
            bar: score_min,
            candidates: Vec::new(),
        }
    }

    /// The score below which a face need not be offered.
    pub(crate) fn bar(&self) -> i32 {
        self.bar
    }

    /// Considers a face.
    pub(crate) fn offer(&mut self, candidate: Candidate) {
        if candidate.score < self.bar || self.k == 0 {
            return;
        }
        self.candidates.push(candidate);
        // Some slack for small k, or thinning would run on every other candidate.
        if self.candidates.len() >= self.k.saturating_mul(2).max(32) {
            self.thin();
        }
    }

    /// Considers everything that another one kept.
    pub(crate) fn merge(&mut self, other: Self) {
        other
            .candidates
            .into_iter()
            .for_each(|candidate| self.offer(candidate));
    }

    /// The best face of each of the best k persons, best first.
    pub(crate) fn finish(mut self) -> Vec<Candidate> {
        self.thin();
        self.candidates
    }

    /// One candidate a person, k persons, best first; the bar is then the last one's score.
    fn thin(&mut self) {
        let best_first = |c: &Candidate| (Reverse(c.score), c.person);
        self.candidates
            .sort_unstable_by_key(|c| (c.person, best_first(c)));
        self.candidates.dedup_by_key(|c| c.person);
        self.candidates.sort_unstable_by_key(best_first);
        self.candidates.truncate(self.k);
        if let Some(last) = self.candidates.get(self.k.wrapping_sub(1)) {
            // Not above it: an equal score of a lower person number still comes first.
            self.bar = last.score;
        }
    }
}

/// What one probe of an [`Ask`] has found so far.
pub(crate) struct Tally<'a> {
    probe: &'a Probe,
    ask: &'a Ask<'a>,
    top: Top,
    /// For whoever has several faces and was found by one, the sum of the scores of all. They are few, and every row is
    /// looked up here: nothing of them is kept for those who were not found.
    sums: BTreeMap<PersonNo, i32>,
    /// The least score of a face by which somebody with several can reach the threshold.
    best_face_min: i32,
}

impl<'a> Tally<'a> {
    /// One for each probe.
    pub(crate) fn of_each(ask: &'a Ask<'a>) -> impl Iterator<Item = Self> {
        let several = match ask.by {
            ComparedFaces::BestFace => &[],
            ComparedFaces::AllFaces(several) => several.people(),
        };
        let best_faces = several
            .iter()
            .map(|one| one.agreement.best_face(ask.similarity_min));
        let best_face_min = best_faces.min_by(f32::total_cmp);
        ask.probes.iter().map(move |probe| {
            let best_face_min = best_face_min.map_or(i32::MAX, |similarity| probe.score_at(similarity));
            Self::empty(probe, ask, best_face_min)
        })
    }

    /// One that has found nothing yet.
    fn empty(probe: &'a Probe, ask: &'a Ask<'a>, best_face_min: i32) -> Self {
        Self {
            probe,
            ask,
            top: Top::new(ask.k, probe.score_at(ask.similarity_min)),
            sums: BTreeMap::new(),
            best_face_min,
        }
    }

    pub(crate) fn probe(&self) -> &'a Probe {
        self.probe
    }

    /// Whether somebody was found who is compared by all faces.
    pub(crate) fn lacks_scores(&self) -> bool {
        !self.sums.is_empty()
    }

    /// Whether all faces of this person are to be added.
    pub(crate) fn lacks(&self, person: PersonNo) -> bool {
        self.sums.contains_key(&person)
    }

    /// Adds a face of somebody who lacks it.
    pub(crate) fn add(&mut self, person: PersonNo, score: i32) {
        if let Some(sum) = self.sums.get_mut(&person) {
            // At most 20 faces of 2048 * 127 each.
            *sum += score;
        }
    }

    fn place(&self, person: PersonNo) -> Option<usize> {
        match self.ask.by {
            ComparedFaces::BestFace => None,
            ComparedFaces::AllFaces(several) => several.place(person),
        }
    }

    /// The best persons, best first.
    pub(crate) fn finish(self) -> Vec<Hit> {
        let probe = self.probe;
        let alone = self.top.finish().into_iter().map(|c| Hit {
            person: c.person,
            similarity: probe.similarity(c.score),
        });
        let mut hits: Vec<Hit> = alone.collect();
        if let ComparedFaces::AllFaces(several) = self.ask.by {
            let together = self.sums.iter().filter_map(|(person, sum)| {
                let one = several.people()[several.place(*person)?];
                let similarity = one.agreement.similarity(probe, *sum);
                (similarity >= self.ask.similarity_min).then_some(Hit {
                    person: one.person,
                    similarity,
                })
            });
            hits.extend(together);
            hits.sort_unstable_by(|a, b| {
                b.similarity
                    .total_cmp(&a.similarity)
                    .then(a.person.cmp(&b.person))
            });
            hits.truncate(self.ask.k);
        }
        hits
    }
}

impl Sink for Tally<'_> {
    fn bar(&self) -> i32 {
        self.top.bar().min(self.best_face_min)
    }

    fn offer(&mut self, score: i32, person: PersonNo, _: Row) {
        match self.place(person) {
            Some(_) => {
                self.sums.insert(person, 0);
            }
            None => self.top.offer(Candidate { score, person }),
        }
    }

    fn fork(&self) -> Self {
        Self::empty(self.probe, self.ask, self.best_face_min)
    }

    fn merge(&mut self, other: Self) {
        self.top.merge(other.top);
        // Nothing is added up before all have looked.
        self.sums.extend(other.sums);
    }
}
