//! One scoring's map from similarity to false accept rate: monotone, and invertible.
//!
//! Where impostors were counted, a line through counted points; beyond, their tail. Both are straight in
//! the logarithm of the rate: what an exponential tail is, and what the upper end of a bell curve falls below,
//! so that a rate read off the tail is rather too high than too low.

use crate::manifest::mismatch;
use likeness_types::error::Result;

/// No rate below it is told: it would be a statement about more pairs of people than there are.
pub(super) const FAR_MIN: f64 = 1e-15;

/// The rates of one scoring.
#[derive(Debug, Clone, PartialEq)]
pub struct Rates {
    /// Similarity (rising) and the decimal logarithm of the rate (falling, the first 0); two at least.
    knots: Vec<(f64, f64)>,
    /// Powers of ten that the rate falls for each 1 of similarity beyond the last point; above 0.
    tail: f64,
    /// The least rate that the counted pairs can show; above 1 they show none.
    supported: f64,
}

impl Rates {
    /// As they were counted.
    ///
    /// # Errors
    /// As of [`Self::new`].
    pub(crate) fn of(count: &super::ScoringCount) -> Result<Self> {
        Self::new(
            &super::name(count.scoring),
            &count.points,
            count.tail,
            count.supported,
        )
    }

    /// From points of similarity and rate, the rates falling from 1.
    ///
    /// # Errors
    /// Points that are not as described above, named as `what`.
    pub(super) fn new(what: &str, points: &[(f64, f64)], tail: f64, supported: f64) -> Result<Self> {
        let refuse = |expected: &str| Err(mismatch(super::FILE, "rates", expected, what));
        let finite = points
            .iter()
            .all(|(s, far)| (-1.0..=1.0).contains(s) && (FAR_MIN..=1.0).contains(far));
        let ordered = points.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 > w[1].1);
        if points.len() < 2 || !finite || !ordered || points[0].1 != 1.0 {
            return refuse("two points at least, similarities rising from -1 to 1, rates falling from 1");
        }
        if !(tail > 0.0 && tail.is_finite() && supported > 0.0 && supported.is_finite()) {
            return refuse("a tail that falls, and a supported rate above 0");
        }
        Ok(Self {
            knots: points.iter().map(|(s, far)| (*s, far.log10())).collect(),
            tail,
            supported,
        })
    }

    /// The line through two similarities, that of 1e-3 and that of 1e-4; nothing is known of the pairs
    /// behind them. `noise` is the variance that a template adds to the cosine, which moves an exponential
    /// tail of b powers of ten for each 1 of similarity by b ln(10) noise / 2; all rates are then `times` as
    /// high.
    pub(super) fn of_two_points(far_1e3: f32, far_1e4: f32, noise: f64, times: f64) -> Self {
        // Two points in one place are no line; a hundredth is steeper than any embedder's.
        let step = f64::from(far_1e4 - far_1e3).max(0.01);
        let shift = std::f64::consts::LN_10 / step * noise / 2.0 + step * times.log10();
        let last = f64::from(far_1e4) + shift;
        Self {
            knots: vec![(last - 4.0 * step, 0.0), (last, -4.0)],
            tail: 1.0 / step,
            supported: f64::INFINITY,
        }
    }

    /// The part of unrelated pairs that are at least as similar; 1 for what is no number.
    pub fn far(&self, similarity: f32) -> f64 {
        10f64
            .powf(self.log_far(f64::from(similarity)))
            .clamp(FAR_MIN, 1.0)
    }

    /// The least similarity at which no more than this part of unrelated pairs pass, -1 to 1.
    pub fn similarity(&self, far: f64) -> f32 {
        if far >= 1.0 {
            return -1.0;
        }
        let mut similarity = (self.inverse(far.max(FAR_MIN).log10()) as f32).clamp(-1.0, 1.0);
        // Rounding moved it by a step of f32 at most; the limit errs on the strict side.
        while similarity < 1.0 && self.far(similarity) > far {
            similarity = similarity.next_up();
        }
        while similarity > -1.0 && self.far(similarity.next_down()) <= far {
            similarity = similarity.next_down();
        }
        similarity
    }

    /// Whether a rate lies below what the counted pairs can show.
    pub(crate) fn is_extrapolated(&self, far: f64) -> bool {
        far < self.supported
    }

    fn log_far(&self, similarity: f64) -> f64 {
        let after = self.knots.partition_point(|(s, _)| *s < similarity);
        match (after.checked_sub(1).map(|i| self.knots[i]), self.knots.get(after)) {
            (None, _) => 0.0,
            (Some((s, log)), None) => log - (similarity - s) * self.tail,
            (Some((s0, log0)), Some((s1, log1))) => log0 + (log1 - log0) * (similarity - s0) / (s1 - s0),
        }
    }

    /// The similarity of a logarithm below 0.
    fn inverse(&self, log: f64) -> f64 {
        let after = self.knots.partition_point(|(_, l)| *l > log).max(1);
        let (s0, log0) = self.knots[after - 1];
        match self.knots.get(after) {
            None => s0 + (log0 - log) / self.tail,
            Some((s1, log1)) => s0 + (s1 - s0) * (log0 - log) / (log0 - log1),
        }
    }
}
