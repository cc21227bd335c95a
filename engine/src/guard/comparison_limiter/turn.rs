//! One comparison with one person: first the meter lets it begin, then the templates are read, then it is counted.

use super::counts::Begun;
use super::doors::{Comparing, Door};
use super::{Asker, ComparisonLimiter, Key, Likeness};
use likeness_types::error::Result;

/// A comparison that the meter let begin. Without it no template of the person is read, so that nothing is compared
/// for a call that is refused. Whoever drops it without [`Turn::settle`] has asked and was refused.
#[must_use = "a comparison that has begun is counted"]
pub(crate) struct Turn<'a> {
    limiter: &'a ComparisonLimiter,
    key: Key,
    asker: Asker,
    begun: Begun,
    faces: usize,
    comparing: Comparing,
    is_settled: bool,
}

/// What the faces of one call may do together.
#[derive(Default)]
pub(crate) struct Evaluation {
    has_regained: bool,
}

impl Evaluation {
    /// The faces of a call that were compared one after the other regain doubts as one.
    pub fn settle(&mut self, turn: Turn<'_>, similarity: f32, threshold: f32) -> Result<f32> {
        let seen = Likeness {
            may_regain: !self.has_regained,
            ..Likeness::of_one(&similarity, threshold)
        };
        self.has_regained |= seen.is_clear(&turn.limiter.counters.limits);
        turn.settle(&seen)
    }
}

impl ComparisonLimiter {
    /// Begins a comparison of so many faces with the person.
    ///
    /// # Errors
    /// [`crate::RequestError::ComparisonsLimited`]: nothing is compared.
    pub fn begin_turn(&self, door: &'static Door, key: &Key, asker: Asker, faces: usize) -> Result<Turn<'_>> {
        let mut turn = Turn {
            limiter: self,
            key: *key,
            asker,
            begun: Begun::Free,
            faces,
            comparing: Comparing::at(door),
            is_settled: true,
        };
        if self.counters.limits.compared_at_will() {
            return Ok(turn);
        }
        turn.begun = self.metered(key, |metered, limits, now| {
            let begun = metered.counts.begin(limits, now, asker.0, metered.pending);
            if begun.is_ok() {
                metered.pending = metered.pending.saturating_add(turn.pending());
            }
            begun.map_err(|wait| self.limited(wait))
        })??;
        turn.is_settled = false;
        Ok(turn)
    }
}

impl Turn<'_> {
    /// What the person's templates are read with.
    pub fn comparing(&self) -> &Comparing {
        &self.comparing
    }

    /// Counts the comparison, before it is answered. Answers from which similarity on it is the person.
    ///
    /// # Errors
    /// The store failed: then it must not be answered.
    pub fn settle(mut self, seen: &Likeness<'_>) -> Result<f32> {
        self.count(seen)
    }

    fn count(&mut self, seen: &Likeness<'_>) -> Result<f32> {
        if std::mem::replace(&mut self.is_settled, true) {
            return Ok(seen.threshold);
        }
        let (begun, pending) = (self.begun, self.pending());
        self.limiter.metered(&self.key, |metered, limits, now| {
            metered.pending = metered.pending.saturating_sub(pending);
            metered.counts.compared(limits, now, self.asker.0, begun, seen)
        })
    }

    fn pending(&self) -> u32 {
        u32::try_from(self.faces).unwrap_or(u32::MAX)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let seen = Likeness {
            faces: self.faces,
            similarities: &[],
            threshold: f32::INFINITY,
            may_regain: false,
        };
        // What cannot be counted now was not answered either.
        let _ = self.count(&seen);
    }
}
