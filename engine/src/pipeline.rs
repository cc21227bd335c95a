//! A photograph to faces, and a face to its features: the stages in order.
//!
//! ```text
//! bytes -> Image -> Candidate -> five points -> AlignedFace -> Embedding
//!        image     detect      landmarks      align          embed
//! ```

mod align;
mod detect;
mod embed;
mod face;
mod image;
mod landmarks;
pub(crate) mod protect;
mod resample;
pub(crate) mod stages;

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

pub use face::{Bounds, Choose, Detection, Face};

use self::align::Aligner;
use self::detect::Detector;
use self::embed::Embedder;
use self::face::{CANDIDATE_SCORE_MIN, Candidate};
use self::image::Image;
use self::landmarks::Landmarks;
use crate::call::{Call, Step};
use crate::config::Limits;
use crate::embedding::Embedding;
use crate::error::{OperatorError, Rejection, Result};
use crate::manifest::{Calibration, DEFAULT_MANIFEST, MANIFEST_FILE, Manifest, ModelSpec};
use crate::model::{Model, Runtime};

/// The version of this code's own part of an embedding: crops, resampling, points and warp. A change
/// that moves embeddings is a new number, and templates of two numbers are never compared.
const RECIPE: u32 = 1;

/// Models, limits, and the way from a photograph to features. Shared by all workers.
pub struct Pipeline {
    limits: Limits,
    detector: Detector,
    landmarks: Landmarks,
    aligner: Aligner,
    embedder: Embedder,
    calibration: Calibration,
    scheme: SchemeParts,
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
    /// manifest. `runtime` is the shared library of ONNX Runtime. With `sessions` sessions of each model
    /// as many calls run at once; more of them wait.
    ///
    /// # Errors
    /// [`OperatorError`], naming what was expected and what was found, whenever a file is not the one
    /// that the manifest describes.
    pub fn load(models_dir: &Path, runtime: &Path, limits: Limits, sessions: usize) -> Result<Self> {
        let path = models_dir.join(MANIFEST_FILE);
        let manifest = match fs::read_to_string(&path) {
            Ok(text) => Manifest::parse(&text)?,
            Err(error) if error.kind() == ErrorKind::NotFound => Manifest::parse(DEFAULT_MANIFEST)?,
            Err(error) => return Err(OperatorError::file("reading", path, error).into()),
        };
        let runtime = Runtime::load(runtime)?;
        let model = |spec: &ModelSpec| -> Result<Box<dyn Model>> {
            Ok(Box::new(runtime.model(models_dir, spec, sessions)?))
        };
        let models = [
            model(&manifest.detector)?,
            model(&manifest.landmarks)?,
            model(&manifest.embedder)?,
        ];
        Ok(Self::new(&manifest, models, limits))
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
            embedder: Embedder::new(&manifest.embedder, embedder),
            calibration: manifest.calibration,
            scheme: SchemeParts::new(manifest),
        }
    }

    /// All faces of a photograph, also the unsure and the small, each with the reason why it would not
    /// be enrolled.
    ///
    /// # Errors
    /// A [`Rejection`] of the photograph; no face at all is an empty list and no error.
    pub fn detect(&self, photo: &[u8], call: &mut Call) -> Result<Detection> {
        let image = call.step(Step::Decode, || Image::decode(photo, &self.limits))?;
        let candidates = call.step(Step::Detect, || self.candidates(&image))?;
        let faces = call.step(Step::Align, || {
            candidates
                .iter()
                .map(|found| Ok(self.face(found, self.landmarks.five(&image, &found.bounds)?)))
                .collect()
        })?;
        Ok(Detection {
            width: image.width() as u32,
            height: image.height() as u32,
            faces,
        })
    }

    /// The features of one face of a photograph, and where that face is.
    ///
    /// # Errors
    /// A [`Rejection`] of the photograph or of its faces.
    pub fn embedding(&self, photo: &[u8], choose: Choose, call: &mut Call) -> Result<(Embedding, Face)> {
        let image = call.step(Step::Decode, || Image::decode(photo, &self.limits))?;
        let found = call.step(Step::Detect, || {
            let size = [image.width() as f32, image.height() as f32];
            choose.among(&self.candidates(&image)?, size, &self.limits)
        })?;
        let (points, aligned) = call.step(Step::Align, || {
            let points = self.landmarks.five(&image, &found.bounds)?;
            Ok((points, self.aligner.align(&image, &points)?))
        })?;
        drop(image);
        let embedding = call.step(Step::Embed, || self.embedder.embed(aligned))?;
        Ok((embedding, self.face(&found, points)))
    }

    /// The features of every acceptable face of a photograph, the surest first, and the faces that are not
    /// acceptable; both may be none.
    ///
    /// # Errors
    /// A [`Rejection`] of the photograph; [`Rejection::TooManyFaces`] for more than `faces_max` acceptable
    /// ones.
    pub fn embeddings(
        &self,
        photo: &[u8],
        faces_max: usize,
        call: &mut Call,
    ) -> Result<(Vec<(Embedding, Face)>, Vec<Face>)> {
        let image = call.step(Step::Decode, || Image::decode(photo, &self.limits))?;
        let (wanted, unwanted): (Vec<_>, Vec<_>) = call.step(Step::Detect, || {
            let candidates = self.candidates(&image)?.into_iter();
            let (wanted, unwanted): (Vec<_>, _) =
                candidates.partition(|c| c.rejection(&self.limits).is_none());
            let found = wanted.len();
            if found > faces_max {
                return Err(Rejection::TooManyFaces { found, faces_max }.into());
            }
            Ok((wanted, unwanted))
        })?;
        let face = |found: &Candidate| Ok(self.face(found, self.landmarks.five(&image, &found.bounds)?));
        let rejected = call.step(Step::Align, || unwanted.iter().map(face).collect::<Result<_>>())?;
        let mut embedded = Vec::with_capacity(wanted.len());
        for found in &wanted {
            let (face, aligned) = call.step(Step::Align, || {
                let face = face(found)?;
                let aligned = self.aligner.align(&image, &face.points)?;
                Ok((face, aligned))
            })?;
            let embedding = call.step(Step::Embed, || self.embedder.embed(aligned))?;
            embedded.push((embedding, face));
        }
        Ok((embedded, rejected))
    }

    /// Values of an embedding.
    pub fn dim(&self) -> usize {
        self.embedder.dim()
    }

    /// The embedder's thresholds.
    pub fn calibration(&self) -> Calibration {
        self.calibration
    }

    /// What makes embeddings of this pipeline comparable.
    pub fn scheme_parts(&self) -> &SchemeParts {
        &self.scheme
    }

    /// Every box worth mentioning, the surest first.
    fn candidates(&self, image: &Image) -> Result<Vec<Candidate>> {
        let score_min = CANDIDATE_SCORE_MIN.min(self.limits.face_score_min);
        let candidates = self.detector.find(image, score_min)?;
        let (found, faces_max) = (candidates.len(), self.limits.detected_faces_max);
        if found > faces_max {
            return Err(Rejection::TooManyFaces { found, faces_max }.into());
        }
        Ok(candidates)
    }

    fn face(&self, found: &Candidate, points: [[f32; 2]; 5]) -> Face {
        let Candidate { bounds, score } = *found;
        Face {
            bounds,
            points,
            score,
            rejection: found.rejection(&self.limits),
        }
    }
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
