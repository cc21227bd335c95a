//! The manifest: the role, digest, inputs and outputs of each model file.
//!
//! Models declare themselves; nothing is guessed from shapes or file names. The roles, and the kind of
//! output each has:
//!
//! | role | input | output |
//! |---|---|---|
//! | `detector` | 1x3xHxW | `decoded-boxes`: `scores` 1xNx2 (column 1 is "face", 0 to 1), `boxes` 1xNx4 (left, top, right, bottom, 0 to 1 of the input) |
//! | `landmarks` | 1x1xSxS | `points-68`: `points` 1x136 (x and y of the 68 points of the iBUG scheme, 0 to 1 of the input) |
//! | `embedder` | 1x3xHxW or 1x1xHxW | `embedding`: `values` 1xD, of any length but zero |

pub(crate) mod check;

use std::fmt;

use serde::Deserialize;
use serde::de::IgnoredAny;

use likeness_types::error::{OperatorError, Result};

/// The manifest of the default models, used where an operator's directory has none.
pub const DEFAULT_MANIFEST: &str = include_str!("../models.toml");

/// The name of the manifest beside the models.
pub const MANIFEST_FILE: &str = "models.toml";

/// One model for each role.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub detector: ModelSpec,
    pub landmarks: ModelSpec,
    pub embedder: ModelSpec,
    /// Where the five points come to lie in the embedder's input, x and y in pixels.
    pub align: [[f32; 2]; 5],
    pub calibration: StatedRates,
}

/// One model file and its tensors.
#[derive(Debug, Clone)]
pub(crate) struct ModelSpec {
    /// A plain file name beside the manifest.
    pub file: String,
    /// Of the whole file.
    pub blake3: blake3::Hash,
    pub input: Input,
    /// In the order of the table above.
    pub outputs: Vec<Port>,
}

/// The one tensor that goes in.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    pub name: String,
    /// Batch (always 1), planes, height, width.
    pub shape: [usize; 4],
    pub colour: Colour,
    /// A value v of 0 to 255 goes in as (v - mean) / scale.
    pub mean: f32,
    pub scale: f32,
}

/// A tensor that comes out.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Port {
    pub name: String,
    pub shape: Vec<usize>,
}

/// The order of the planes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Colour {
    Rgb,
    Bgr,
    /// One plane, weighted as in ITU-R BT.601.
    Grey,
}

/// Cosines of this embedder at and above which unrelated faces are accepted at a stated rate. The second is
/// the threshold of collections that are made without one, and of comparisons that name none.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatedRates {
    /// One unrelated pair in a thousand.
    #[serde(rename = "far_1e-3")]
    pub(crate) far_1e3: f32,
    /// One unrelated pair in ten thousand.
    #[serde(rename = "far_1e-4")]
    pub far_1e4: f32,
}

/// The file as written. Packages and files to fetch are another reader's part.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: u32,
    #[serde(default, rename = "package")]
    _package: IgnoredAny,
    #[serde(default, rename = "file")]
    _file: IgnoredAny,
    model: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    role: Role,
    file: String,
    blake3: String,
    /// For people; required so that nobody forgets to ask.
    #[serde(rename = "licence")]
    _licence: String,
    input: Input,
    output: Output,
    align: Option<[[f32; 2]; 5]>,
    calibration: Option<StatedRates>,
}

#[derive(Debug, Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Role {
    Detector,
    Landmarks,
    Embedder,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum Output {
    DecodedBoxes {
        scores: Port,
        boxes: Port,
    },
    #[serde(rename = "points-68")]
    Points68 {
        points: Port,
    },
    Embedding {
        values: Port,
    },
}

impl Manifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// [`OperatorError::ModelMismatch`] with what was expected and what was found.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let Document {
            format, mut model, ..
        } = toml::from_str(text)
            .map_err(|error| mismatch(MANIFEST_FILE, "form", "a manifest of format 1", error))?;
        if format != 1 {
            return Err(mismatch(MANIFEST_FILE, "format", 1, format));
        }
        let detector = take(&mut model, Role::Detector)?;
        let landmarks = take(&mut model, Role::Landmarks)?;
        let embedder = take(&mut model, Role::Embedder)?;
        let (align, calibration) = embedder.embedder_only()?;
        Ok(Self {
            detector: detector.checked()?,
            landmarks: landmarks.checked()?,
            embedder: embedder.checked()?,
            align,
            calibration,
        })
    }
}

/// The one entry of a role.
fn take(entries: &mut Vec<Entry>, role: Role) -> Result<Entry> {
    let mut found: Vec<_> = entries.extract_if(.., |entry| entry.role == role).collect();
    let number = found.len();
    match found.pop() {
        Some(entry) if number == 1 => Ok(entry),
        _ => Err(mismatch(
            MANIFEST_FILE,
            "models of a role",
            format!("one {role:?}"),
            number,
        )),
    }
}

impl Input {
    /// In pixels.
    pub(crate) fn height(&self) -> usize {
        self.shape[2]
    }

    /// In pixels.
    pub(crate) fn width(&self) -> usize {
        self.shape[3]
    }
}

/// A mismatch in words for the operator.
pub fn mismatch(
    model: &str,
    what: &'static str,
    expected: impl fmt::Display,
    found: impl fmt::Display,
) -> likeness_types::error::Error {
    OperatorError::ModelMismatch {
        model: model.to_owned(),
        what,
        expected: expected.to_string(),
        found: found.to_string().trim_end().to_owned(),
    }
    .into()
}

#[cfg(test)]
mod tests;
