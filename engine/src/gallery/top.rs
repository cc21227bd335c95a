//! The best k persons of a stream of scored faces.

use std::cmp::Reverse;

use crate::gallery::index::{Person, Row};

/// A face with its score, on its way to becoming a hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) score: i32,
    pub(super) person: Person,
    pub(super) row: Row,
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
        let best_first = |c: &Candidate| (Reverse(c.score), c.person, c.row);
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
