//! The limit from which on faces count as one person's, as a request states it.

use std::ops::RangeInclusive;

use super::{Calibration, Scoring, far_of_fpir, far_of_score};
use likeness_types::error::{RequestError, Result};

/// A limit, as it was stated. What similarity it comes to depends on the scoring, and for a rate of searches
/// on how many faces are searched.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limit(Stated);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Stated {
    Similarity(f32),
    Far(f64),
    Fpir(f64),
}

impl Limit {
    /// A similarity, 0 to 1.
    ///
    /// # Errors
    /// Anything else.
    pub fn of_similarity(similarity: f32) -> Result<Self> {
        let stated = Stated::Similarity(similarity);
        within(
            f64::from(similarity),
            0.0..=1.0,
            "a similarity from 0 to 1",
            stated,
        )
    }

    /// A score, 0 to 100.
    ///
    /// # Errors
    /// Anything else.
    pub fn of_score(score: f32) -> Result<Self> {
        let stated = Stated::Far(far_of_score(score));
        within(f64::from(score), 0.0..=100.0, "a score from 0 to 100", stated)
    }

    /// Of unrelated pairs at most this part may pass, 1e-9 to 0.5.
    ///
    /// # Errors
    /// Anything else.
    pub fn of_far(far: f64) -> Result<Self> {
        within(
            far,
            1e-9..=0.5,
            "a rate of comparisons from 1e-9 to 0.5",
            Stated::Far(far),
        )
    }

    /// Of searches for somebody not enrolled at most this part may find anybody, 1e-6 to 0.5.
    ///
    /// # Errors
    /// Anything else.
    pub fn of_fpir(fpir: f64) -> Result<Self> {
        within(
            fpir,
            1e-6..=0.5,
            "a rate of searches from 1e-6 to 0.5",
            Stated::Fpir(fpir),
        )
    }

    /// Whether it has a meaning for searches only.
    pub fn is_of_searches(self) -> bool {
        matches!(self.0, Stated::Fpir(_))
    }

    /// The similarity it comes to where so many faces are compared.
    pub fn similarity(self, calibration: &Calibration, scoring: Scoring, faces: u64) -> f32 {
        match self.0 {
            Stated::Similarity(similarity) => similarity,
            Stated::Far(far) => calibration.similarity(scoring, far),
            Stated::Fpir(fpir) => calibration.similarity(scoring, far_of_fpir(fpir, faces)),
        }
    }
}

fn within(value: f64, range: RangeInclusive<f64>, expected: &str, stated: Stated) -> Result<Limit> {
    if range.contains(&value) {
        return Ok(Limit(stated));
    }
    Err(RequestError::invalid("threshold", expected, value.to_string()).into())
}
