//! The upright face to plain features.

use ndarray::Array1;

use super::align::AlignedFace;
use super::resample::put_row;
use crate::embedding::Embedding;
use crate::manifest::{Input, ModelSpec};
use crate::model::Model;
use crate::tensor::Tensor;
use likeness_types::error::{OperatorError, Result};

/// An embedder and the shape of what it takes.
pub(crate) struct Embedder {
    name: String,
    input: Input,
    dim: usize,
    model: Box<dyn Model>,
}

impl Embedder {
    pub(crate) fn new(spec: &ModelSpec, model: Box<dyn Model>) -> Self {
        let dim = spec.outputs[0].shape[1];
        Self {
            name: spec.file.clone(),
            input: spec.input.clone(),
            dim,
            model,
        }
    }

    /// Values of an embedding.
    pub(crate) fn dim(&self) -> usize {
        self.dim
    }

    /// The features of a face, as a unit vector. The pixels end here.
    pub(crate) fn embed(&self, face: AlignedFace) -> Result<Embedding> {
        let raw = self.raw(face)?;
        Embedding::from_raw(Array1::from_iter(raw.values().iter().copied()), &self.name)
    }

    /// The mean of the features of a face and of its mirror image, as a unit vector.
    pub(crate) fn embed_mirrored(&self, face: AlignedFace) -> Result<Embedding> {
        let mirrored = self.embed(face.mirrored(self.input.width()))?;
        self.embed(face)?.mean(mirrored, &self.name)
    }

    /// The network's own output, `[1, dim]`.
    pub(super) fn raw(&self, face: AlignedFace) -> Result<Tensor> {
        let mut tensor = Tensor::filled(&self.input.shape, 0.0);
        for (y, row) in face.0.values().chunks_exact(self.input.width() * 3).enumerate() {
            put_row(&mut tensor, &self.input, 0, y, row);
        }
        let mut outputs = self.model.run(&tensor)?;
        outputs.pop().ok_or_else(|| {
            OperatorError::Inference {
                model: self.name.clone(),
                detail: "expected one output".into(),
            }
            .into()
        })
    }
}
