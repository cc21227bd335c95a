//! Photographs to faces that can be kept or looked for.

use std::sync::Arc;

use crate::call::Call;
use crate::engine::{CollectionRef, Engine, QUERY_FACES_MAX};
use crate::people::admission::Checks;
use crate::search::Query;
use likeness_faces::embedding::Embedding;
use likeness_faces::pipeline::protect::Protector;
use likeness_faces::pipeline::{Detection, EveryFace, Face, Wanted};
use likeness_faces::quality::QualityLevel;
use likeness_types::error::{OperatorError, RequestError, Result};
use likeness_types::person::{FEATURES_SCORE, NewFace};
use likeness_types::scheme::SchemeId;
use likeness_types::span::Step;
use likeness_types::template::Bits;

impl Engine {
    /// All faces of a photograph, each with the reason why it would be refused at this level; keeps nothing.
    ///
    /// # Errors
    /// A rejection of the photograph.
    pub fn detect(&self, photo: &[u8], level: QualityLevel, call: &mut Call) -> Result<Detection> {
        self.pipeline.detect(photo, level, call.span())
    }

    /// The cosine of two faces, -1 to 1; keeps nothing.
    ///
    /// # Errors
    /// A rejection of either photograph.
    pub fn compare(
        &self,
        first: &[u8],
        second: &[u8],
        wanted: Wanted,
        call: &mut Call,
    ) -> Result<(f32, Face, Face)> {
        let (one, first) = self.pipeline.embedding(first, wanted, call.span())?;
        let (other, second) = self.pipeline.embedding(second, wanted, call.span())?;
        let cosine = call.step(Step::Match, || Ok(one.cosine(other)))?;
        Ok((cosine, first, second))
    }

    /// A photograph to a face that can be enrolled in this collection.
    ///
    /// # Errors
    /// A rejection of the photograph, or a collection of another scheme.
    pub fn new_face(
        &self,
        collection: &CollectionRef,
        photo: &[u8],
        wanted: Wanted,
        checks: Checks,
        call: &mut Call,
    ) -> Result<(NewFace, Face)> {
        let protector = self.protector(collection)?;
        let (embedding, face) = self
            .pipeline
            .embedding_by(checks.looks, photo, wanted, call.span())?;
        let new = call.step(Step::Protect, || {
            let new = protect(&protector, embedding, collection, face.score);
            Ok(if checks.need_probes() {
                new
            } else {
                new.without_probe()
            })
        })?;
        Ok((new, face))
    }

    /// Features that a client brings to a face that can be enrolled in this collection. How sure a detector
    /// was of it is not known: 0.
    ///
    /// # Errors
    /// Values that are no features of these models, or a collection of another scheme.
    pub fn face_of_features(
        &self,
        collection: &CollectionRef,
        values: Vec<f32>,
        call: &mut Call,
    ) -> Result<NewFace> {
        let protector = self.protector(collection)?;
        let embedding = Embedding::from_client(values, self.pipeline.dim())?;
        call.step(Step::Protect, || {
            Ok(protect(&protector, embedding, collection, FEATURES_SCORE))
        })
    }

    /// The model whose features can be brought: the BLAKE3 digest of its file in hex, and their number.
    pub fn embedder(&self) -> (String, usize) {
        (
            self.pipeline.embedder_digest().to_hex().to_string(),
            self.pipeline.dim(),
        )
    }

    /// A photograph to a face that can be looked for in these collections.
    ///
    /// # Errors
    /// A rejection of the photograph, or a collection of another scheme.
    pub fn query(
        &self,
        collections: &[CollectionRef],
        photo: &[u8],
        wanted: Wanted,
        call: &mut Call,
    ) -> Result<(Query, Face)> {
        let schemes = self.schemes(collections)?;
        let (embedding, face) = self.pipeline.embedding(photo, wanted, call.span())?;
        let query = call.step(Step::Protect, || Ok(schemes.query(embedding)))?;
        Ok((query, face))
    }

    /// Every face of a photograph that is acceptable at this level as one that can be looked for in these collections.
    ///
    /// # Errors
    /// A rejection of the photograph, one that shows more than [`QUERY_FACES_MAX`] acceptable faces, or a
    /// collection of another scheme.
    pub fn queries(
        &self,
        collections: &[CollectionRef],
        photo: &[u8],
        level: QualityLevel,
        call: &mut Call,
    ) -> Result<EveryFace<Query>> {
        let schemes = self.schemes(collections)?;
        let EveryFace { accepted, rejected } =
            self.pipeline
                .embeddings(photo, level, QUERY_FACES_MAX, call.span())?;
        let accepted = call.step(Step::Protect, || {
            let accepted = accepted.into_iter();
            Ok(accepted
                .map(|(embedding, face)| (schemes.query(embedding), face))
                .collect())
        })?;
        Ok(EveryFace { accepted, rejected })
    }

    /// The schemes of some collections, each once.
    fn schemes(&self, collections: &[CollectionRef]) -> Result<Schemes> {
        let mut schemes: Vec<Schemes> = Vec::new();
        for collection in collections {
            let protector = self.protector(collection)?;
            let scheme = &collection.0.scheme;
            let own = (scheme.id(), scheme.bits);
            match schemes.iter_mut().find(|s| Arc::ptr_eq(&s.protector, &protector)) {
                Some(known) if known.schemes.contains(&own) => {}
                Some(known) => known.schemes.push(own),
                None => schemes.push(Schemes {
                    protector,
                    schemes: vec![own],
                }),
            }
        }
        match <[_; 1]>::try_from(schemes) {
            Ok([schemes]) => Ok(schemes),
            Err(several) => {
                let received = format!("{} key groups", several.len());
                Err(RequestError::invalid("collections", "one key group", received).into())
            }
        }
    }

    /// What protects features for this collection, if these models made the features in it.
    fn protector(&self, collection: &CollectionRef) -> Result<Arc<Protector>> {
        let scheme = &collection.0.scheme;
        let models = self.pipeline.scheme_parts();
        if scheme.models != models.digest {
            return Err(RequestError::SchemeMismatch {
                stored: scheme.to_string(),
                current: models.name.clone(),
            }
            .into());
        }
        let dim = self.pipeline.dim();
        let protector = self.protectors.of(&self.ring, scheme.projection, dim);
        protector.ok_or_else(|| {
            OperatorError::Keys {
                what: "projection key",
                expected: scheme.projection.to_string(),
                found: "a keyring without it".to_owned(),
            }
            .into()
        })
    }
}

/// What one face must become to be looked for among templates of one key group.
struct Schemes {
    protector: Arc<Protector>,
    schemes: Vec<(SchemeId, Bits)>,
}

impl Schemes {
    /// The plain features end here.
    fn query(&self, embedding: Embedding) -> Query {
        let lengths: Vec<_> = self.schemes.iter().map(|(_, bits)| *bits).collect();
        let probes = self.protector.probes(embedding, &lengths).into_iter();
        Query {
            probes: self
                .schemes
                .iter()
                .map(|(id, _)| *id)
                .zip(probes.map(Arc::new))
                .collect(),
        }
    }
}

/// The plain features end here.
fn protect(protector: &Protector, embedding: Embedding, collection: &CollectionRef, score: f32) -> NewFace {
    let scheme = &collection.0.scheme;
    let (template, probe) = protector.protect_and_probe(embedding, scheme.bits);
    NewFace::new(template, scheme.id(), score).with_probe(probe)
}
