//! Verifying and searching: people found by their faces.

pub(crate) mod comparisons;
pub(crate) mod filter;

use std::sync::Arc;

use crate::access_log::row::Part;
use crate::call::Call;
use crate::engine::{COLLECTIONS_MAX, CollectionRef, Engine, TOP_K_MAX};
use crate::gallery::collection::Collection;
use crate::guard::comparison_limiter::{Asker, Withheld};
use crate::search::filter::Filter;
use likeness_faces::calibration::Scoring;
use likeness_types::error::{RequestError, Result};
use likeness_types::names::{CollectionName, PersonId};
use likeness_types::person::Person;
use likeness_types::scheme::SchemeId;
use likeness_types::span::Step;
use likeness_types::template::Probe;

/// The rate of false accepts that the manifest's threshold is stated for.
const STATED_FAR: f64 = 1e-4;

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
    /// Whether a search of these collections would wait for another search, as far as can be told before it.
    pub fn search_would_wait(&self, collections: &[CollectionRef]) -> bool {
        collections
            .iter()
            .any(|collection| collection.0.batcher.is_full())
    }

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
        let asker = self.gallery.asker(call.asker());
        let found = call.step(Step::Match, || {
            let search = Search {
                places: &places,
                queries,
                k: searching.top_k.clamp(1, TOP_K_MAX),
                comparison: searching.comparison,
                filter: &filter,
                exact: searching.exact,
                asker,
            };
            self.gallery.search_batched(&search)
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

    /// Whether somebody may verify or search for this person by PersonID now: worth asking before a photograph is
    /// looked at. Whoever does not exist may be asked for.
    ///
    /// # Errors
    /// [`RequestError::ComparisonsLimited`].
    pub fn may_compare(&self, collection: &CollectionRef, id: &PersonId, call: &Call) -> Result<()> {
        self.gallery.may_compare(&collection.0, id, call.asker())
    }

    /// One person's similarity to a query; from `similarity_min` on it is the person, or from the
    /// [`threshold`](Match::threshold) of the answer where that is higher.
    ///
    /// # Errors
    /// Nobody has that PersonID, a query of another scheme, or too many comparisons with the person.
    pub fn verify(
        &self,
        collection: &CollectionRef,
        id: &PersonId,
        query: &Query,
        (comparison, similarity_min): (Comparison, f32),
        call: &mut Call,
    ) -> Result<Match> {
        call.reads(&collection.0.readers);
        let asking = Asking {
            similarity_min,
            told_below: self.scores.floor_far >= 1.0,
            asker: self.gallery.asker(call.asker()),
        };
        let found = call.step(Step::Match, || {
            self.gallery.verify(&collection.0, id, query, comparison, asking)
        })?;
        let same = found.similarity >= found.threshold;
        self.note(call, &collection.0, &found.person, Part::Compared { same });
        Ok(found)
    }

    /// What the limits on comparisons kept from callers since the start.
    pub fn withheld(&self) -> Withheld {
        self.gallery.withheld()
    }

    /// The least similarity that one comparison may be decided by: below it, every answer would be a step towards
    /// the face of somebody who is enrolled. -1 where there is no floor.
    pub fn floor(&self, scoring: Scoring) -> f32 {
        self.similarity_at(scoring, self.scores.floor_far)
    }

    /// The same of a search among so many faces.
    pub fn search_floor(&self, scoring: Scoring, searched: u64) -> f32 {
        let far = self.scores.floor_fpir / searched.max(1) as f64;
        self.similarity_at(scoring, self.scores.floor_far.min(far))
    }

    fn similarity_at(&self, scoring: Scoring, far: f64) -> f32 {
        if far >= 1.0 {
            return -1.0;
        }
        let measured = self.calibration().similarity(scoring, far);
        // Never above what the models' manifest states for this rate: collections begin with that threshold.
        if far >= STATED_FAR {
            measured.min(self.default_threshold())
        } else {
            measured
        }
    }

    /// A similarity as it is told.
    pub fn rounded(&self, similarity: f32) -> f32 {
        match self.scores.step {
            step if step > 0.0 => (similarity / step).round() * step,
            _ => similarity,
        }
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

/// A face to look for, as each scheme of the collections in question sees it.
pub struct Query {
    pub(crate) probes: Vec<(SchemeId, Arc<Probe>)>,
}

/// What of a person is compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Comparison {
    /// The face that resembles the one in question most.
    #[default]
    BestFace,
    /// All faces together.
    Fused,
}

/// A person found.
pub struct Match {
    /// Who.
    pub person: Person,
    /// Where the person is enrolled.
    pub collection: CollectionName,
    /// The similarity of the person's best face, or of all of them together, -1 to 1 (an estimate of the
    /// cosine).
    pub similarity: f32,
    /// From where on it is the person: that of the call, or above it where the person was recognised in doubt too
    /// often.
    pub threshold: f32,
    /// Whether the caller may be told how similar; otherwise only that the person is the one.
    pub is_told: bool,
    /// Whether a check for duplicates found the person by faces alone that came as features.
    pub by_features: bool,
}

/// From where on a comparison says yes, whether it says below it how similar, and who asks.
#[derive(Clone, Copy)]
pub(crate) struct Asking {
    pub similarity_min: f32,
    pub told_below: bool,
    pub asker: Asker,
}

/// A search over collections as if they were one.
pub(crate) struct Search<'a> {
    /// Where, each with the similarity from which on its people match. No collection comes twice.
    pub places: &'a [(Arc<Collection>, f32)],
    /// The faces to look for, each answered by itself.
    pub queries: &'a [Query],
    /// Most people for each.
    pub k: usize,
    pub comparison: Comparison,
    pub filter: &'a Filter,
    /// Whether nobody may be missed, see [`Ask::exact`].
    pub exact: bool,
    pub asker: Asker,
}

/// Who was found.
pub struct Matches {
    /// For each face that was looked for, the nearest people, best first.
    pub matches: Vec<Vec<Match>>,
    /// Faces that each was compared with.
    pub compared: usize,
}

impl Query {
    /// The face as this collection's scheme sees it.
    fn probe(&self, collection: &Collection) -> Result<&Arc<Probe>> {
        let scheme = collection.scheme.id();
        let probe = self.probes.iter().find(|(of, _)| *of == scheme);
        probe.map(|(_, probe)| probe).ok_or_else(|| {
            let other = self.probes.first();
            RequestError::SchemeMismatch {
                stored: collection.scheme.to_string(),
                current: other.map_or_else(|| "none".to_owned(), |(scheme, _)| scheme.to_string()),
            }
            .into()
        })
    }
}
