//! Verifying and searching, as the service asks for it.

use crate::call::{Call, Step};
use crate::engine::{CollectionRef, Engine, TOP_K_MAX};
use crate::error::Result;
use crate::gallery::{Match, Query};
use crate::names::PersonId;

impl Engine {
    /// The nearest people at and above a similarity, best first; exact.
    ///
    /// # Errors
    /// A query of another scheme.
    pub fn search(
        &self,
        collection: &CollectionRef,
        query: &Query,
        top_k: usize,
        similarity_min: f32,
        call: &mut Call,
    ) -> Result<Vec<Match>> {
        let top_k = top_k.clamp(1, TOP_K_MAX);
        call.reads(&collection.0.readers);
        call.step(Step::Match, || {
            self.gallery.search(&collection.0, query, top_k, similarity_min)
        })
    }

    /// One person's similarity to a query: that of the best face.
    ///
    /// # Errors
    /// Nobody has that PersonID, or a query of another scheme.
    pub fn verify(
        &self,
        collection: &CollectionRef,
        id: &PersonId,
        query: &Query,
        call: &mut Call,
    ) -> Result<Match> {
        call.reads(&collection.0.readers);
        call.step(Step::Match, || self.gallery.verify(&collection.0, id, query))
    }
}
