//! The best k persons of a stream of scored faces.

use std::cmp::Reverse;

use crate::gallery::flat::NOBODY;
use crate::gallery::index::{Ask, By, Hit, Person};
use crate::template::Probe;

/// A face with its score, on its way to becoming a hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) score: i32,
    pub(super) person: Person,
}

/// Collects candidates and keeps the best face of each of the best k persons.
///
/// A person has several faces and takes one place, so this is no plain heap: candidates are
/// gathered and thinned once there are twice as many as asked for. That costs O(log k) a
/// candidate, and the bar rises with every thinning, so that soon few faces become candidates.
pub(super) struct Top {
    k: usize,
    bar: i32,
    candidates: Vec<Candidate>,
}

impl Top {
    /// The best `k` persons of those that score at least `score_min`.
    pub(super) fn new(k: usize, score_min: i32) -> Self {
        Self {
            k,
            bar: score_min,
            candidates: Vec::new(),
        }
    }

    /// The score below which a face need not be offered.
    pub(super) fn bar(&self) -> i32 {
        self.bar
    }

    /// Considers a face.
    pub(super) fn offer(&mut self, candidate: Candidate) {
        if candidate.score < self.bar || self.k == 0 {
            return;
        }
        self.candidates.push(candidate);
        // Some slack for small k, or thinning would run on every other candidate.
        if self.candidates.len() >= self.k.saturating_mul(2).max(32) {
            self.thin();
        }
    }

    /// The best face of each of the best k persons, best first.
    pub(super) fn finish(mut self) -> Vec<Candidate> {
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
pub(super) struct Tally<'a> {
    probe: &'a Probe,
    ask: &'a Ask<'a>,
    top: Top,
    /// By place in `Several`, the sum of the scores of a person's faces that were met.
    sums: Vec<Option<i32>>,
}

impl<'a> Tally<'a> {
    pub(super) fn new(probe: &'a Probe, ask: &'a Ask<'a>) -> Self {
        let several = match ask.by {
            By::BestFace => 0,
            By::AllFaces(several) => several.people().len(),
        };
        Self {
            probe,
            ask,
            top: Top::new(ask.k, probe.score_at(ask.similarity_min)),
            sums: vec![None; several],
        }
    }

    pub(super) fn probe(&self) -> &'a Probe {
        self.probe
    }

    /// Considers a row's score; a row that is nobody's has a score too.
    pub(super) fn offer(&mut self, score: i32, person: Person) {
        if let By::AllFaces(several) = self.ask.by
            && let Some(place) = several.place(person)
        {
            // At most 20 faces of 2048 * 127 each.
            self.sums[place] = Some(self.sums[place].unwrap_or(0) + score);
            return;
        }
        // The owner is looked at second because it rarely comes to that.
        if score >= self.top.bar() && person != NOBODY {
            self.top.offer(Candidate { score, person });
        }
    }

    /// The best persons, best first.
    pub(super) fn finish(self) -> Vec<Hit> {
        let probe = self.probe;
        let alone = self.top.finish().into_iter().map(|c| Hit {
            person: c.person,
            similarity: probe.similarity(c.score),
        });
        let mut hits: Vec<Hit> = alone.collect();
        if let By::AllFaces(several) = self.ask.by {
            let together = several.people().iter().zip(&self.sums);
            let together = together.filter_map(|(one, sum)| {
                let similarity = one.agreement.similarity(probe, (*sum)?);
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
