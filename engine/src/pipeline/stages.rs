//! The stages one at a time, each with what the stage before it made: for the benchmarks alone.

use std::path::Path;
use std::sync::mpsc;

use super::align::AlignedFace;
use super::image::Image;
use super::{Bounds, Choose, Pipeline, Wanted};
use crate::call::Call;
use crate::config::Limits;
use crate::embedding::Embedding;
use crate::error::Result;
use crate::manifest::{DEFAULT_MANIFEST, Manifest, ModelSpec};
use crate::model::{Model, OnnxModel, Runtime};
use crate::quality::QualityLevel;
use crate::tensor::Tensor;

/// The only face, however good.
const ANY: Wanted = Choose::Only.at(QualityLevel::None);

/// A pipeline that stops after every stage.
pub struct Stages(Pipeline);

/// An upright face on its way to the embedder.
pub struct Aligned(AlignedFace);

impl Stages {
    /// The stages of the default models, one session each.
    pub fn load(models_dir: &Path, runtime: &Path) -> Result<Self> {
        Pipeline::load(models_dir, runtime, Limits::default(), 1).map(Self)
    }

    /// Values of an embedding.
    pub fn dim(&self) -> usize {
        self.0.dim()
    }

    /// Bytes to pixels.
    pub fn decode(&self, photo: &[u8]) -> Result<Image> {
        Image::decode(photo, &self.0.limits)
    }

    /// Pixels to the one face's box, which shows in the photograph as a whole.
    pub fn detect(&self, image: &Image) -> Result<Bounds> {
        let size = [image.width() as f32, image.height() as f32];
        let found = Choose::Only.among(&self.0.whole(image)?, size, &self.0.limits)?;
        Ok(found.bounds)
    }

    /// A box to five points.
    pub fn landmarks(&self, image: &Image, bounds: &Bounds) -> Result<[[f32; 2]; 5]> {
        Ok(self.0.landmarks.find(image, bounds)?.five())
    }

    /// Five points to the upright face.
    pub fn align(&self, image: &Image, points: &[[f32; 2]; 5]) -> Result<Aligned> {
        self.0.aligner.align(image, points).map(Aligned)
    }

    /// The upright face to features.
    pub fn embed(&self, face: Aligned) -> Result<Embedding> {
        self.0.embedder.embed(face.0)
    }

    /// All of these, as the engine does them.
    pub fn embedding(&self, photo: &[u8]) -> Result<Embedding> {
        let (embedding, _) = self.0.embedding(photo, ANY, &mut Call::default())?;
        Ok(embedding)
    }
}

/// A model by itself, with what it was asked for one photograph: on constant input a network can be
/// faster than on what it is for.
pub struct RawModel {
    spec: ModelSpec,
    model: OnnxModel,
    input: Tensor,
}

impl RawModel {
    /// The models as the main path asks them for a face that stands upright: detector, landmarks twice, embedder. How
    /// often they were asked for this photograph beyond that (a third pass, looks at other sides) is answered too: it is
    /// the pipeline's doing, and no part of what a photograph has to cost.
    pub fn load(models_dir: &Path, runtime: &Path, photo: &[u8]) -> Result<(Vec<Self>, usize)> {
        let manifest = Manifest::parse(DEFAULT_MANIFEST)?;
        let runtime = Runtime::load(runtime)?;
        let (put, recorded) = mpsc::channel();
        let recording = |spec: &ModelSpec| -> Result<Box<dyn Model>> {
            Ok(Box::new(Recording {
                spec: spec.clone(),
                model: runtime.model(models_dir, spec, 1)?,
                put: put.clone(),
            }))
        };
        let models = [
            recording(&manifest.detector)?,
            recording(&manifest.landmarks)?,
            recording(&manifest.embedder)?,
        ];
        let pipeline = Pipeline::new(&manifest, models, Limits::default());
        pipeline.embedding(photo, ANY, &mut Call::default())?;
        let (mut needed, mut beyond) = (Vec::<Self>::new(), 0);
        for (spec, input) in recorded.try_iter() {
            let asked = needed.iter().filter(|one| one.spec.file == spec.file).count();
            if asked < 1 + usize::from(spec.file == manifest.landmarks.file) {
                let model = runtime.model(models_dir, &spec, 1)?;
                needed.push(Self { spec, model, input });
            } else {
                beyond += 1;
            }
        }
        Ok((needed, beyond))
    }

    /// The model's file.
    pub fn file(&self) -> &str {
        &self.spec.file
    }

    /// Runs it, and leaves its answer unread.
    pub fn run(&self) -> Result<()> {
        self.model.run_alone(&self.input)
    }
}

/// A model that keeps a copy of what it is asked.
struct Recording {
    spec: ModelSpec,
    model: OnnxModel,
    put: mpsc::Sender<(ModelSpec, Tensor)>,
}

impl Model for Recording {
    fn run(&self, input: &Tensor) -> Result<Vec<Tensor>> {
        let copy = Tensor::from_slice(input.shape(), input.values()).expect("its own shape fits");
        // The receiver outlives the pipeline.
        let _ = self.put.send((self.spec.clone(), copy));
        self.model.run(input)
    }
}
