//! Verifying and searching, as the service asks for it.

use std::sync::Arc;

use crate::call::{Call, Step};
use crate::engine::{COLLECTIONS_MAX, CollectionRef, Engine, TOP_K_MAX};
use crate::error::{RequestError, Result};
use crate::gallery::{Comparison, Filter, Match, Matches, Query, Search};
use crate::names::PersonId;

/// Where to search, each collection with the similarity from which on its people match.
pub type Places<'a> = &'a [(CollectionRef, f32)];

impl Engine {
    /// For each of the faces the nearest people of all these collections, at and above each one's
    /// similarity, best first; exact. Who is in two collections is found twice.
    ///
    /// Similarities of collections of different template sizes stand in one list: each estimates the same
    /// cosine, the shorter templates with more noise.
    ///
    /// # Errors
    /// No collections, more than [`COLLECTIONS_MAX`], or one twice; a filter over its limits; a query of
    /// another scheme.
    pub fn search(
        &self,
        places: Places<'_>,
        queries: &[Query],
        top_k: usize,
        comparison: Comparison,
        filter: Filter,
        call: &mut Call,
    ) -> Result<Matches> {
        let filter = filter.checked()?;
        distinct(places)?;
        let places: Vec<_> = places
            .iter()
            .map(|(collection, similarity_min)| (Arc::clone(&collection.0), *similarity_min))
            .collect();
        // ORDER: before the first look at any of them, so that whoever is erased from now on waits.
        places
            .iter()
            .for_each(|(collection, _)| call.reads(&collection.readers));
        call.step(Step::Match, || {
            self.gallery.find(&Search {
                places: &places,
                queries,
                k: top_k.clamp(1, TOP_K_MAX),
                comparison,
                filter: &filter,
            })
        })
    }

    /// One person's similarity to a query.
    ///
    /// # Errors
    /// Nobody has that PersonID, or a query of another scheme.
    pub fn verify(
        &self,
        collection: &CollectionRef,
        id: &PersonId,
        query: &Query,
        comparison: Comparison,
        call: &mut Call,
    ) -> Result<Match> {
        call.reads(&collection.0.readers);
        call.step(Step::Match, || {
            self.gallery.verify(&collection.0, id, query, comparison)
        })
    }
}

/// Refuses what a client should have noticed.
fn distinct(places: Places<'_>) -> Result<()> {
    let refused = |expected: String, received: String| {
        Err(RequestError::invalid("collections", expected, received).into())
    };
    if !(1..=COLLECTIONS_MAX).contains(&places.len()) {
        return refused(format!("1 to {COLLECTIONS_MAX}"), places.len().to_string());
    }
    let repeats = |n: usize| {
        places[..n]
            .iter()
            .any(|(other, _)| other.0.id == places[n].0.0.id)
    };
    match (1..places.len()).find(|n| repeats(*n)) {
        Some(n) => refused("no collection twice".to_owned(), format!("the one at {n} again")),
        None => Ok(()),
    }
}
