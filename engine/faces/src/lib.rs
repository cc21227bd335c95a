//! Photographs to templates: decoding, detection, alignment, quality, embedding, protection; and what scores mean.

#![forbid(unsafe_code)]

pub mod calibration;
pub mod embedding;
pub mod evaluate;
pub mod manifest;
pub mod model;
pub mod pipeline;
pub mod quality;
pub mod tensor;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
