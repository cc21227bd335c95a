//! Verifying and searching, as the service asks for it.

use std::sync::Arc;

use crate::call::{Call, Step};
use crate::engine::{COLLECTIONS_MAX, CollectionRef, Engine, TOP_K_MAX};
use crate::error::{RequestError, Result};
use crate::gallery::running::row::Part;
use crate::gallery::{Comparison, Filter, Match, Matches, Query, Search};
use crate::names::PersonId;

/// Where to search, each collection with the similarity from which on its people match.
pub type Places<'a> = &'a [(CollectionRef, f32)];

/// How to search.
#[derive(Clone, Default)]
pub struct Searching {
    /// Most people for each face, 1 to [`TOP_K_MAX`].
    pub top_k: usize,
    /// What of a person is compared.
    pub comparison: Comparison,
    /// Whose faces are compared.
    pub filter: Filter,
    /// Whether nobody may be missed; otherwise one in a million may who reaches the similarity exactly.
    pub exact: bool,
}

impl Engine {
    /// For each of the faces the nearest people of all these collections, at and above each one's
    /// similarity, best first. Who is in two collections is found twice.
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
        searching: Searching,
        call: &mut Call,
    ) -> Result<Matches> {
        let filter = searching.filter.checked()?;
        distinct(places)?;
        let places: Vec<_> = places
            .iter()
            .map(|(collection, similarity_min)| (Arc::clone(&collection.0), *similarity_min))
            .collect();
        // ORDER: before the first look at any of them, so that whoever is erased from now on waits.
        places
            .iter()
            .for_each(|(collection, _)| call.reads(&collection.readers));
        let found = call.step(Step::Match, || {
            self.gallery.find(&Search {
                places: &places,
                queries,
                k: searching.top_k.clamp(1, TOP_K_MAX),
                comparison: searching.comparison,
                filter: &filter,
                exact: searching.exact,
            })
        })?;
        for (face, matches) in found.matches.iter().enumerate() {
            let named = matches.iter().enumerate().filter_map(|(at, found)| {
                let mut own = places.iter().map(|(collection, _)| &**collection);
                own.find(|collection| collection.name == found.collection)
                    .map(|collection| (at, collection, found))
            });
            self.note_found(call, face, named);
        }
        Ok(found)
    }

    /// One person's similarity to a query. Whether that is the same person is for the caller to say
    /// ([`Call::conclude`]).
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
        let found = call.step(Step::Match, || {
            self.gallery.verify(&collection.0, id, query, comparison)
        })?;
        self.note(call, &collection.0, &found.person, Part::Compared { same: false });
        Ok(found)
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
