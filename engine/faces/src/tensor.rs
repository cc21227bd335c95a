//! Tensors: inputs and outputs of a model.

use std::ops::{Deref, DerefMut};

use likeness_types::wipe::wipe;
use ndarray::{ArrayD, IxDyn};

/// An array of f32 in row-major order that is wiped when it goes: pixels, points or features.
///
/// No `Clone` and no `Debug`: what it holds was part of a photograph.
pub(crate) struct Tensor(ArrayD<f32>);

impl Tensor {
    /// A tensor of this shape with the same value everywhere.
    pub(crate) fn filled(shape: &[usize], value: f32) -> Self {
        Self(ArrayD::from_elem(IxDyn(shape), value))
    }

    /// A tensor of this shape with these values, or `None` if their number does not fit it.
    pub(crate) fn from_slice(shape: &[usize], values: &[f32]) -> Option<Self> {
        // The one copy goes straight into the array that is wiped.
        ArrayD::from_shape_vec(IxDyn(shape), values.to_vec())
            .ok()
            .map(Self)
    }

    /// The values in row-major order.
    pub(crate) fn values(&self) -> &[f32] {
        self.0
            .as_slice()
            .expect("made in row-major order, and never reshaped")
    }

    /// The values in row-major order, to be written.
    pub(crate) fn values_mut(&mut self) -> &mut [f32] {
        self.0
            .as_slice_mut()
            .expect("made in row-major order, and never reshaped")
    }
}

impl Deref for Tensor {
    type Target = ArrayD<f32>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Tensor {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl Drop for Tensor {
    fn drop(&mut self) {
        wipe(self.values_mut());
    }
}
