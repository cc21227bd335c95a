//! Finding who is enrolled twice, as the service asks for it.

use crate::call::Call;
use crate::engine::{CollectionRef, Engine};
use crate::gallery::{DuplicateCursor, Duplicates};
use likeness_types::error::Result;
use likeness_types::person::Names;
use likeness_types::span::Step;

/// The largest power of ten that is not above.
fn step_below(rate: f64) -> f64 {
    // Rates are written in decimals: what is a power of ten but for rounding is one.
    const ROUNDING: f64 = 1e-9;
    10f64.powi((rate.log10() + ROUNDING).floor() as i32)
}

impl DuplicateCursor {
    /// Where a search in this collection goes on: after the answer that gave out `text`, or where it begins.
    ///
    /// # Errors
    /// A text that no answer for this collection gave out.
    pub fn of(collection: &CollectionRef, text: Option<&str>) -> Result<Self> {
        match text {
            None => Ok(Self::begin(&collection.0)),
            Some(text) => Self::parse(text, &collection.0),
        }
    }
}

impl Engine {
    /// The next pairs of people who may be one, by their stored faces: of all unrelated pairs of faces
    /// [`Engine::applied_far`] may pass. Takes some 50 milliseconds. Each pair is counted for both people, and has a row
    /// in the running log of both.
    ///
    /// # Errors
    /// The collection is gone, or a record cannot be read from the disk.
    pub fn duplicates(
        &self,
        collection: &CollectionRef,
        (max_far, names): (f64, Names),
        cursor: DuplicateCursor,
        call: &mut Call,
    ) -> Result<Duplicates> {
        let max_far = self.applied_far(max_far);
        let similarity_min = self
            .calibration()
            .similarity(collection.stored_scoring(), max_far);
        call.reads(&collection.0.readers);
        let found = call.step(Step::Match, || {
            self.gallery
                .duplicates(&collection.0, similarity_min, names, cursor)
        })?;
        self.note_pairs(call, &collection.0, &found.pairs);
        Ok(found)
    }

    /// The rate that a search for duplicates is held to: the floor at most, and below it a power of ten. A caller who
    /// could name any rate would learn by a few searches how similar two people are.
    pub fn applied_far(&self, max_far: f64) -> f64 {
        let floor = self.scores.floor_far;
        if floor >= 1.0 || max_far >= floor {
            return max_far.min(floor);
        }
        step_below(max_far)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_taken_for_the_power_of_ten_below_it() {
        for (asked, taken) in [
            (1e-4, 1e-4),
            (9.9e-5, 1e-5),
            (1e-6, 1e-6),
            (2e-9, 1e-9),
            (1e-9, 1e-9),
        ] {
            let step = step_below(asked);
            assert!((step / taken - 1.0).abs() < 1e-9, "{asked}: {step}");
        }
    }
}
