//! A photograph to faces, and a face to its features: the stages in order.
//!
//! ```text
//! bytes -> Image -> Candidate -> five points -> AlignedFace -> Embedding
//!        image     detect      landmarks      align          embed
//! ```
//!
//! A photograph that lies on its side is turned on the way (`upright`), and a large one is looked at more
//! than once (`scales`).

pub(crate) mod align;
pub(crate) mod detect;
pub(crate) mod embed;
pub(crate) mod face;
pub(crate) mod image;
pub(crate) mod landmarks;
pub mod protect;
pub mod quality;
pub(crate) mod resample;
pub(crate) mod scales;
pub mod stages;
pub(crate) mod texture;
pub(crate) mod upright;

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

pub use face::{Bounds, Choose, Detection, EveryFace, Face, Wanted};

use self::align::{AlignedFace, Aligner};
use self::detect::Detector;
use self::embed::Embedder;
use self::face::{CANDIDATE_SCORE_MIN, Candidate, acceptable};
use self::image::{Image, Turn};
use self::landmarks::{Landmarks, Shape};
use self::upright::Upright;
use crate::calibration::{CALIBRATION_FILE, Calibration};
use crate::embedding::Embedding;
use crate::manifest::{DEFAULT_MANIFEST, MANIFEST_FILE, Manifest, ModelSpec, StatedRates};
use crate::model::{Model, Runtime};
use crate::quality::QualityLevel;
use likeness_types::config::Limits;
use likeness_types::error::{OperatorError, Rejection, Result};
use likeness_types::span::{Span, Step};

/// The version of this code's own part of an embedding: crops, resampling, points and warp. A change
/// that moves embeddings is a new number, and templates of two numbers are never compared.
const RECIPE: u32 = 1;

/// How far the points of a face may move that shows only at a finer scale: see [`Shape::wander`]. In
/// gravel and grass tiles show things that the detector takes for faces, in 26 such pictures at four sizes
/// 59, and of these three quarters move more; of 580 faces of LFW at 36 px, half faces at the border
/// included, 97 % move less. These pictures and that script were not kept: the figures cannot be had again.
const SMALL_WANDER_MAX: f32 = 0.06;

/// Boxes that are worth a closer look, in multiples of the faces that one photograph may show. A closer look
/// takes 0.4 ms, and a photograph can be made to have tens of thousands.
const CANDIDATES_A_FACE_MAX: usize = 8;

/// Models, limits, and the way from a photograph to features. Shared by all workers.
pub struct Pipeline {
    limits: Limits,
    detector: Detector,
    landmarks: Landmarks,
    aligner: Aligner,
    embedder: Embedder,
    embedder_digest: blake3::Hash,
    stated: StatedRates,
    calibration: Calibration,
    scheme: SchemeParts,
}

/// How often a face is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Looks {
    /// As it is.
    #[default]
    Plain,
    /// As it is and as in a mirror, and the mean of both kept. It compares with plain ones.
    Mirrored,
}

/// What makes two embeddings comparable: the same models, spoken to in the same way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemeParts {
    /// BLAKE3 over everything that moves an embedding.
    pub digest: [u8; 32],
    /// The same for people.
    pub name: String,
}

impl Pipeline {
    /// Loads the models of a directory: its `models.toml` says which, or, where it has none, the default
    /// manifest. Its `calibration.toml` says what similarities mean, where it has one. `runtime` is the shared library of ONNX Runtime. With `sessions` sessions of each model
    /// as many calls run at once; more of them wait.
    ///
    /// # Errors
    /// [`OperatorError`], naming what was expected and what was found, whenever a file is not the one
    /// that the manifest describes.
    pub fn load(models_dir: &Path, runtime: &Path, limits: Limits, sessions: usize) -> Result<Self> {
        let manifest = beside(models_dir, MANIFEST_FILE)?;
        let manifest = Manifest::parse(manifest.as_deref().unwrap_or(DEFAULT_MANIFEST))?;
        let calibration = beside(models_dir, CALIBRATION_FILE)?;
        let calibration = Calibration::of(&manifest, calibration.as_deref())?;
        let runtime = Runtime::load(runtime)?;
        let model = |spec: &ModelSpec| -> Result<Box<dyn Model>> {
            Ok(Box::new(runtime.model(models_dir, spec, sessions)?))
        };
        let models = [
            model(&manifest.detector)?,
            model(&manifest.landmarks)?,
            model(&manifest.embedder)?,
        ];
        Ok(Self {
            calibration,
            ..Self::new(&manifest, models, limits)
        })
    }

    /// A pipeline of these models: detector, landmarks, embedder.
    fn new(
        manifest: &Manifest,
        [detector, landmarks, embedder]: [Box<dyn Model>; 3],
        limits: Limits,
    ) -> Self {
        Self {
            limits,
            detector: Detector::new(&manifest.detector, detector),
            landmarks: Landmarks::new(&manifest.landmarks, landmarks),
            aligner: Aligner::new(manifest),
            embedder_digest: manifest.embedder.blake3,
            embedder: Embedder::new(&manifest.embedder, embedder),
            stated: manifest.calibration,
            calibration: Calibration::stated(manifest.calibration),
            scheme: SchemeParts::new(manifest),
        }
    }

    /// All faces of a photograph, also the unsure and the small, each with the reason why it would not
    /// be enrolled where this quality is asked for.
    ///
    /// # Errors
    /// A [`Rejection`] of the photograph; no face at all is an empty list and no error.
    pub fn detect(&self, photo: &[u8], level: QualityLevel, span: &mut Span) -> Result<Detection> {
        let image = self.decoded(photo, span)?;
        let mut upright = self.upright(image, span)?;
        let candidates = self.search(&mut upright, SearchDepth::All, span)?;
        let mut faces = Vec::with_capacity(candidates.len());
        for found in &candidates {
            span.give_way(Step::Align)?;
            faces.push(span.step(Step::Align, || {
                let shape = upright.place(self, found)?;
                let aligned = self.aligner.align(&upright.image, &shape.five())?;
                Ok(self.face(found, &shape, &aligned, upright.turn, level))
            })?);
        }
        Ok(Detection {
            width: upright.image.width() as u32,
            height: upright.image.height() as u32,
            faces,
        })
    }

    /// The features of one face of a photograph, and where that face is. None are made of a face that is
    /// not as good as wanted.
    ///
    /// # Errors
    /// A [`Rejection`] of the photograph or of its faces.
    pub fn embedding(&self, photo: &[u8], wanted: Wanted, span: &mut Span) -> Result<(Embedding, Face)> {
        self.embedding_by(Looks::Plain, photo, wanted, span)
    }

    /// As [`Self::embedding`], by more than one look.
    ///
    /// # Errors
    /// As there.
    pub fn embedding_by(
        &self,
        looks: Looks,
        photo: &[u8],
        wanted: Wanted,
        span: &mut Span,
    ) -> Result<(Embedding, Face)> {
        let image = self.decoded(photo, span)?;
        let mut upright = self.upright(image, span)?;
        let candidates = self.search(&mut upright, SearchDepth::Acceptable, span)?;
        let size = [upright.image.width() as f32, upright.image.height() as f32];
        let found = wanted.choose.among(&candidates, size, &self.limits)?;
        let (face, aligned) = span.step(Step::Align, || {
            let shape = upright.place(self, &found)?;
            let aligned = self.aligner.align(&upright.image, &shape.five())?;
            let face = self.face(&found, &shape, &aligned, upright.turn, wanted.level);
            Ok((face, aligned))
        })?;
        drop(upright);
        // ORDER: after the choice, which quality has no say in; before the embedder, so that there are no
        // features of a face that is refused.
        if let Some(rejection) = face.rejection {
            return Err(rejection.into());
        }
        let embedding = span.step(Step::Embed, || match looks {
            Looks::Plain => self.embedder.embed(aligned),
            Looks::Mirrored => self.embedder.embed_mirrored(aligned),
        })?;
        Ok((embedding, face))
    }

    /// The features of every face of a photograph that is acceptable at this level; there may be none.
    ///
    /// # Errors
    /// A [`Rejection`] of the photograph; [`Rejection::TooManyFaces`] for more than `faces_max` acceptable
    /// ones.
    pub fn embeddings(
        &self,
        photo: &[u8],
        level: QualityLevel,
        faces_max: usize,
        span: &mut Span,
    ) -> Result<EveryFace<Embedding>> {
        let image = self.decoded(photo, span)?;
        let mut upright = self.upright(image, span)?;
        let candidates = self.search(&mut upright, SearchDepth::All, span)?;
        let (mut wanted, mut found, mut rejected) = (Vec::new(), 0, Vec::new());
        for candidate in &candidates {
            span.give_way(Step::Align)?;
            let (aligned, face) = span.step(Step::Align, || {
                let shape = upright.place(self, candidate)?;
                let aligned = self.aligner.align(&upright.image, &shape.five())?;
                let face = self.face(candidate, &shape, &aligned, upright.turn, level);
                Ok((aligned, face))
            })?;
            if face.rejection.is_some() {
                rejected.push(face);
            } else {
                found += 1;
                wanted.extend((found <= faces_max).then_some((aligned, face)));
            }
        }
        drop(upright);
        if found > faces_max {
            return Err(Rejection::TooManyFaces { found, faces_max }.into());
        }
        let mut accepted = Vec::with_capacity(found);
        for (aligned, face) in wanted {
            let embedding = span.step(Step::Embed, || self.embedder.embed(aligned))?;
            accepted.push((embedding, face));
        }
        Ok(EveryFace { accepted, rejected })
    }

    /// The pixels of a photograph.
    fn decoded(&self, photo: &[u8], span: &mut Span) -> Result<Image> {
        let charge = span.pixel_charge();
        let image = span.step(Step::Decode, || {
            Image::decode_charged(photo, &self.limits, &charge)
        })?;
        span.give_way(Step::Detect)?;
        Ok(image)
    }

    /// Values of an embedding.
    pub fn dim(&self) -> usize {
        self.embedder.dim()
    }

    /// What similarities of this embedder mean.
    pub fn calibration(&self) -> &Calibration {
        &self.calibration
    }

    /// The similarities that the manifest states.
    pub fn stated_rates(&self) -> StatedRates {
        self.stated
    }

    /// The digest of the embedder's file, to which a calibration is bound.
    pub fn embedder_digest(&self) -> blake3::Hash {
        self.embedder_digest
    }

    /// What makes embeddings of this pipeline comparable.
    pub fn scheme_parts(&self) -> &SchemeParts {
        &self.scheme
    }

    /// Every box worth mentioning in the photograph as a whole, the surest first.
    fn whole(&self, image: &Image) -> Result<Vec<Candidate>> {
        self.detector.find(image, self.score_min())
    }

    /// Every box worth mentioning, from large faces to small, the surest first.
    fn search(&self, upright: &mut Upright, depth: SearchDepth, span: &mut Span) -> Result<Vec<Candidate>> {
        let limits = &self.limits;
        let within = |found: usize, faces_max: usize| {
            let too_many = Rejection::TooManyFaces { found, faces_max };
            if found > faces_max { Err(too_many) } else { Ok(()) }
        };
        let mut candidates = upright.candidates.clone();
        for scale in scales::finer(&upright.image, self.detector.input(), limits) {
            if depth == SearchDepth::Acceptable && acceptable(&candidates, limits).next().is_some() {
                break;
            }
            let texture = upright.texture(span)?;
            for tile in scale.tiles().iter().filter(|tile| texture.shows(tile)) {
                span.give_way(Step::Detect)?;
                candidates.extend(span.step(Step::Detect, || {
                    scale.look(tile, &self.detector, &upright.image, self.score_min())
                })?);
            }
            let merged = scales::merged(candidates, limits.face_score_min);
            within(merged.len(), limits.detected_faces_max * CANDIDATES_A_FACE_MAX)?;
            candidates = self.settled(upright, merged, span)?;
        }
        within(candidates.len(), limits.detected_faces_max)?;
        Ok(candidates)
    }

    /// Without those that only a finer look has shown and that turn out to be none.
    fn settled(
        &self,
        upright: &mut Upright,
        candidates: Vec<Candidate>,
        span: &mut Span,
    ) -> Result<Vec<Candidate>> {
        let mut settled = Vec::with_capacity(candidates.len());
        for found in candidates {
            let at_first_sight = upright.candidates.contains(&found);
            if at_first_sight || found.score < self.limits.face_score_min {
                settled.push(found);
                continue;
            }
            span.give_way(Step::Align)?;
            if span.step(Step::Align, || upright.place(self, &found))?.wander() <= SMALL_WANDER_MAX {
                settled.push(found);
            }
        }
        Ok(settled)
    }

    /// The score from which a box is worth mentioning.
    fn score_min(&self) -> f32 {
        CANDIDATE_SCORE_MIN.min(self.limits.face_score_min)
    }

    fn face(
        &self,
        found: &Candidate,
        shape: &Shape,
        aligned: &AlignedFace,
        turn: Option<Turn>,
        level: QualityLevel,
    ) -> Face {
        let Candidate { bounds, score } = *found;
        let quality = quality::measure(shape, aligned, &self.aligner.middle());
        let rejection = found.rejection(&self.limits);
        Face {
            bounds,
            points: shape.five(),
            score,
            quality,
            rejection: rejection.or_else(|| quality.rejection(level)),
            rotated_degrees: turn.map_or(0, Turn::degrees),
        }
    }
}

/// The text of a file beside the models, if it is there.
fn beside(models_dir: &Path, name: &str) -> Result<Option<String>> {
    let path = models_dir.join(name);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(OperatorError::file("reading", path, error).into()),
    }
}

/// How finely a photograph is searched.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SearchDepth {
    /// Down to the smallest faces that are accepted.
    All,
    /// Down to the first acceptable face: a face much smaller than that one is not meant.
    Acceptable,
}

impl SchemeParts {
    fn new(manifest: &Manifest) -> Self {
        let Manifest {
            detector,
            landmarks,
            embedder,
            align,
            calibration: _,
        } = manifest;
        let models = [detector, landmarks, embedder];
        let mut digest = blake3::Hasher::new_derive_key("likeness 2026 what makes embeddings comparable");
        let mut add = |part: &str| {
            digest.update(&(part.len() as u64).to_le_bytes());
            digest.update(part.as_bytes());
        };
        add(&format!("recipe {RECIPE}"));
        for ModelSpec {
            file: _,
            blake3,
            input,
            outputs: _,
        } in models
        {
            add(&format!(
                "{blake3} {:?} {:?} {:?} {:?}",
                input.shape, input.colour, input.mean, input.scale
            ));
        }
        add(&format!("{align:?}"));
        let stems = models.map(|model| model.file.trim_end_matches(".onnx"));
        let digest = *digest.finalize().as_bytes();
        let short = blake3::Hash::from_bytes(digest).to_hex();
        Self {
            digest,
            name: format!("{}/recipe-{RECIPE}/{}", stems.join("+"), &short[..8]),
        }
    }
}

#[cfg(test)]
mod golden;
#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod residue;
#[cfg(test)]
mod tests;
