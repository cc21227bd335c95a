//! The stages one at a time, each with what the stage before it made: for the benchmarks alone.

use std::path::Path;
use std::sync::mpsc;

use super::align::AlignedFace;
use super::image::Image;
use super::{Bounds, Choose, Pipeline, Wanted};
use crate::embedding::Embedding;
use crate::manifest::{DEFAULT_MANIFEST, Manifest, ModelSpec};
use crate::model::{Model, OnnxModel, Runtime};
use crate::quality::QualityLevel;
use crate::tensor::Tensor;
use likeness_types::Inside;
use likeness_types::config::Limits;
use likeness_types::error::Result;
use likeness_types::span::Span;

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
        let (embedding, _) = self.0.embedding(photo, ANY, &mut Span::default())?;
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
        let (pipeline, recorded) = recording(&manifest, models_dir, &runtime)?;
        pipeline.embedding(photo, ANY, &mut Span::default())?;
        let (mut needed, mut beyond) = (Vec::<Self>::new(), 0);
        for Recorded { spec, input, .. } in recorded.try_iter() {
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

/// What a photograph becomes on its way, as plain numbers: for a search of a server's memory, which must find none of it.
pub struct Traces {
    /// Of the photograph: red, green and blue of 0 to 255, row by row.
    pub pixels: Vec<u8>,
    /// Of the upright face: the same.
    pub crop: Vec<f32>,
    /// What the models were given, and what they made of it.
    pub tensors: Vec<Vec<f32>>,
    /// The features at length 1.
    pub features: Vec<f32>,
}

impl Traces {
    /// Those of a photograph of one face, under the default models.
    pub fn of(models_dir: &Path, runtime: &Path, photo: &[u8]) -> Result<Self> {
        let manifest = Manifest::parse(DEFAULT_MANIFEST)?;
        let runtime = Runtime::load(runtime)?;
        let (pipeline, recorded) = recording(&manifest, models_dir, &runtime)?;
        let (features, _) = pipeline.embedding(photo, ANY, &mut Span::default())?;
        let tensors = recorded.try_iter().flat_map(|Recorded { input, outputs, .. }| {
            std::iter::once(input)
                .chain(outputs)
                .map(|tensor| tensor.values().to_vec())
        });
        let tensors = tensors.collect();
        let stages = Stages(pipeline);
        let image = stages.decode(photo)?;
        let points = stages.landmarks(&image, &stages.detect(&image)?)?;
        let Aligned(face) = stages.align(&image, &points)?;
        Ok(Self {
            pixels: (0..image.height()).flat_map(|y| image.row(y).to_vec()).collect(),
            crop: face.0.values().to_vec(),
            tensors,
            features: features.values(Inside).to_vec(),
        })
    }
}

/// What a model was asked once, and answered.
struct Recorded {
    spec: ModelSpec,
    input: Tensor,
    outputs: Vec<Tensor>,
}

/// A model that keeps a copy of what it is asked and answers.
struct Recording {
    spec: ModelSpec,
    model: OnnxModel,
    put: mpsc::Sender<Recorded>,
}

/// A pipeline of models that do.
fn recording(
    manifest: &Manifest,
    models_dir: &Path,
    runtime: &Runtime,
) -> Result<(Pipeline, mpsc::Receiver<Recorded>)> {
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
    Ok((Pipeline::new(manifest, models, Limits::default()), recorded))
}

impl Model for Recording {
    fn run(&self, input: &Tensor) -> Result<Vec<Tensor>> {
        let copy = |tensor: &Tensor| {
            Tensor::from_slice(tensor.shape(), tensor.values()).expect("its own shape fits")
        };
        let outputs = self.model.run(input)?;
        // The receiver outlives the pipeline's use.
        let _ = self.put.send(Recorded {
            spec: self.spec.clone(),
            input: copy(input),
            outputs: outputs.iter().map(copy).collect(),
        });
        Ok(outputs)
    }
}
