//! People found and verified by their faces.

use std::sync::Arc;

use crate::error::{RequestError, Result};
use crate::gallery::codec::Digest;
use crate::gallery::collection::Collection;
use crate::gallery::{Gallery, exists};
use crate::names::PersonId;
use crate::person::Person;
use crate::scheme::SchemeId;
use crate::template::Probe;

/// A face to look for, as one scheme sees it.
pub struct Query {
    pub(crate) probe: Probe,
    pub(crate) scheme: SchemeId,
}

/// A person found.
pub struct Match {
    /// Who.
    pub person: Person,
    /// The similarity of the person's best face, -1 to 1 (an estimate of the cosine).
    pub similarity: f32,
}

impl Gallery {
    /// The nearest people at and above a similarity, best first.
    pub fn search(
        &self,
        collection: &Arc<Collection>,
        query: &Query,
        k: usize,
        similarity_min: f32,
    ) -> Result<Vec<Match>> {
        exists(collection)?;
        same_scheme(query.scheme, collection)?;
        let generation = collection.generation();
        let digests: Vec<Digest> = {
            let people = collection.people.read();
            let hits = people.index.top(&query.probe, k, similarity_min);
            hits.iter().map(|hit| people.digest(hit.person)).collect()
        };
        let mut matches = Vec::with_capacity(digests.len());
        for digest in digests {
            match self.read_seen(collection, digest) {
                // Deleted since the scan: never named again.
                Ok(None) => {}
                // The record has the last word: the face that was found may be gone since, and the
                // PersonID may be another person's.
                Ok(Some(person)) => matches.extend(best_face(person, query)),
                Err(crate::Error::Request(RequestError::Damaged)) => self.note_damage(collection, digest),
                Err(error) => return Err(error),
            }
        }
        // Erasers wait for who reads; who took too long to be waited for looks once more.
        if collection.generation() != generation {
            exists(collection)?;
            matches.retain_mut(|found: &mut Match| self.still_named(collection, &mut found.person));
        }
        matches.retain(|found| found.similarity >= similarity_min);
        matches.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
        Ok(matches)
    }

    /// Lets the writer look at a record that could not be read; it marks the person damaged unless
    /// the record was replaced meanwhile.
    pub(super) fn note_damage(&self, collection: &Arc<Collection>, digest: Digest) {
        tracing::warn!(collection = collection.name.as_str(), "a record cannot be read");
        // The answer is known; what matters is that the writer has looked.
        drop(
            self.writer
                .change(collection, digest, None, |_| Err(RequestError::Damaged.into())),
        );
    }

    /// The similarity of a person's best face.
    pub fn verify(&self, collection: &Collection, id: &PersonId, query: &Query) -> Result<Match> {
        same_scheme(query.scheme, collection)?;
        let person = self.person(collection, id)?;
        best_face(person, query).ok_or_else(|| {
            RequestError::SchemeMismatch {
                stored: "only faces of earlier schemes".to_owned(),
                current: collection.scheme.to_string(),
            }
            .into()
        })
    }
}

/// The person with the similarity of the best face, if one can be compared.
fn best_face(person: Person, query: &Query) -> Option<Match> {
    let comparable = person.faces.iter().filter(|face| face.scheme == query.scheme);
    let score = comparable.map(|face| query.probe.score(&face.template)).max()?;
    Some(Match {
        similarity: query.probe.similarity(score),
        person,
    })
}

pub(super) fn same_scheme(scheme: SchemeId, collection: &Collection) -> Result<()> {
    if scheme == collection.scheme.id() {
        return Ok(());
    }
    Err(RequestError::SchemeMismatch {
        stored: collection.scheme.to_string(),
        current: scheme.to_string(),
    }
    .into())
}
