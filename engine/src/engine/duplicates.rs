//! Finding who is enrolled twice, as the service asks for it.

use crate::call::{Call, Step};
use crate::engine::{CollectionRef, Engine};
use crate::error::Result;
use crate::gallery::{DuplicateCursor, Duplicates};
use crate::template::Bits;

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
    /// `max_far` may pass. Takes some 50 milliseconds.
    ///
    /// # Errors
    /// The collection is gone, or a record cannot be read from the disk.
    pub fn duplicates(
        &self,
        collection: &CollectionRef,
        max_far: f64,
        cursor: DuplicateCursor,
        call: &mut Call,
    ) -> Result<Duplicates> {
        let similarity_min = self.stored_threshold(max_far, collection.0.scheme.bits);
        call.reads(&collection.0.readers);
        call.step(Step::Match, || {
            self.gallery.duplicates(&collection.0, similarity_min, cursor)
        })
    }

    /// The similarity that this part of unrelated pairs of stored faces reaches.
    ///
    /// Between and beyond the two points of the calibration as the tail of a normal distribution falls, in
    /// which the logarithm of the rate is linear in the square of the threshold; wider by the noise of two
    /// templates of m bits, whose estimate of a cosine near 0 has the variance pi^2 / 4 m.
    fn stored_threshold(&self, far: f64, bits: Bits) -> f32 {
        let calibration = self.calibration();
        let square = |similarity: f32| f64::from(similarity).powi(2);
        let (at_1e3, at_1e4) = (square(calibration.far_1e3), square(calibration.far_1e4));
        let noise = 2.0 * std::f64::consts::LN_10 * std::f64::consts::PI.powi(2) / (4 * bits.get()) as f64;
        let decades = -far.log10();
        let squared = at_1e3 + (decades - 3.0) * (at_1e4 - at_1e3) + decades * noise;
        squared.max(0.0).sqrt().min(1.0) as f32
    }
}
