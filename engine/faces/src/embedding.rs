//! The plain features of a face: transient, and unable to leave.

use ndarray::{Array1, ArrayView1};
use zeroize::Zeroize;

use likeness_types::Inside;
use likeness_types::error::{OperatorError, RequestError, Result};

/// Most values an embedder may put out.
pub const EMBEDDING_DIM_MAX: usize = 2048;

/// The features of one face as the embedder made them: a unit vector, `[dim]` values of f32.
///
/// There is no `Clone`, no `Debug` and no way to write one out: an embedding is made by the
/// embedder, consumed by the protector or by one comparison, and wiped when it goes.
///
/// ```compile_fail
/// fn copy(e: &likeness_faces::embedding::Embedding) -> likeness_faces::embedding::Embedding { e.clone() }
/// ```
/// ```compile_fail
/// fn show(e: &likeness_faces::embedding::Embedding) { println!("{e:?}"); }
/// ```
pub struct Embedding(Array1<f32>);

impl Embedding {
    /// Normalises raw network output to unit length.
    ///
    /// # Errors
    /// An operator error when the output is not finite or has no length: the model is broken.
    pub fn from_raw(mut values: Array1<f32>, model: &str) -> Result<Self> {
        let norm = values
            .iter()
            .map(|v| f64::from(*v) * f64::from(*v))
            .sum::<f64>()
            .sqrt();
        if !norm.is_finite() || norm < 1e-6 || values.is_empty() || values.len() > EMBEDDING_DIM_MAX {
            wipe(&mut values);
            return Err(OperatorError::Inference {
                model: model.to_owned(),
                detail: format!("the output has no usable length ({norm})"),
            }
            .into());
        }
        values.mapv_inplace(|v| (f64::from(v) / norm) as f32);
        Ok(Self(values))
    }

    /// Features that a client brings, normalised to unit length.
    ///
    /// # Errors
    /// Another number of values than the embedder makes, or values of no usable length.
    pub fn from_client(values: Vec<f32>, dim: usize) -> Result<Self> {
        let mut values = Array1::from_vec(values);
        let refusal = |received: String| {
            let expected = format!("{dim} finite values, not all of them 0");
            RequestError::invalid("embeddings", expected, received)
        };
        if values.len() != dim {
            let received = format!("{} values", values.len());
            wipe(&mut values);
            return Err(refusal(received).into());
        }
        // What network output may not be, a client's values may not be either.
        Self::from_raw(values, "").map_err(|_| refusal("values without a usable length".to_owned()).into())
    }

    /// The cosine between two faces, -1 to 1; both embeddings end here.
    pub fn cosine(self, other: Self) -> f32 {
        self.0.dot(&other.0)
    }

    /// The direction between two looks at one face; both embeddings end here.
    ///
    /// # Errors
    /// As of [`Self::from_raw`]: the looks are opposite, so the model is broken.
    pub fn mean(self, other: Self, model: &str) -> Result<Self> {
        Self::from_raw(&self.0 + &other.0, model)
    }

    /// The values, for the protector and the evaluation alone.
    pub fn values(&self, _: Inside) -> ArrayView1<'_, f32> {
        self.0.view()
    }
}

impl Drop for Embedding {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

fn wipe(values: &mut Array1<f32>) {
    if let Some(slice) = values.as_slice_memory_order_mut() {
        slice.zeroize();
    }
}
