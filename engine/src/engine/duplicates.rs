//! Finding who is enrolled twice, as the service asks for it.

use crate::call::{Call, Step};
use crate::engine::{CollectionRef, Engine};
use crate::error::Result;
use crate::gallery::{DuplicateCursor, Duplicates};

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
    /// `max_far` may pass, and no more than the floor of similarities allows. Takes some 50 milliseconds.
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
        // Whoever may enrol could otherwise enrol probes, and be told here how similar they are to everybody.
        let max_far = max_far.min(self.scores.floor_far);
        let similarity_min = self
            .calibration()
            .similarity(collection.stored_scoring(), max_far);
        call.reads(&collection.0.readers);
        let asker = self.gallery.asker(call.asker());
        call.step(Step::Match, || {
            self.gallery
                .duplicates(&collection.0, similarity_min, cursor, asker)
        })
    }
}
