//! Likeness, the engine: photographs in, irreversible templates kept, people found and erased.

mod call;
mod config;
mod embedding;
mod error;
mod manifest;
mod model;
mod pipeline;
mod tensor;
#[cfg(test)]
mod testing;
mod wipe;

pub use call::{Call, Cancel, Step};
pub use config::Limits;
pub use embedding::{EMBEDDING_DIM_MAX, Embedding};
pub use error::{Error, OperatorError, Rejection, RequestError, Result, Stopped};
pub use manifest::{Calibration, DEFAULT_MANIFEST, MANIFEST_FILE};
pub use pipeline::{Bounds, Choose, Detection, Face, Pipeline, SchemeParts};
