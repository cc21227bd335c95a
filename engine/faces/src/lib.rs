//! Photographs to templates: decoding, detection, alignment, quality, embedding, protection; and the meaning of scores.

#![forbid(unsafe_code)]
#![warn(unreachable_pub)]

pub mod calibration;
pub mod embedding;
pub mod evaluate;
pub mod manifest;
mod model;
pub mod pipeline;
pub mod quality;
mod tensor;
#[cfg(test)]
mod testing;
