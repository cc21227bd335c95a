//! The manifest: what each model file is, and how it wants to be spoken to.
//!
//! Models declare themselves; nothing is guessed from shapes or file names. The roles, and the kind of
//! output each has:
//!
//! | role | input | output |
//! |---|---|---|
//! | `detector` | 1x3xHxW | `decoded-boxes`: `scores` 1xNx2 (column 1 is "face", 0 to 1), `boxes` 1xNx4 (left, top, right, bottom, 0 to 1 of the input) |
//! | `landmarks` | 1x1xSxS | `points-68`: `points` 1x136 (x and y of the 68 points of the iBUG scheme, 0 to 1 of the input) |
//! | `embedder` | 1x3xHxW or 1x1xHxW | `embedding`: `values` 1xD, of any length but zero |

use std::fmt;

use serde::Deserialize;

use crate::embedding::EMBEDDING_DIM_MAX;
use crate::error::{OperatorError, Result};

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
    pub calibration: Calibration,
}

/// One model file and its tensors.
#[derive(Debug)]
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
#[derive(Debug, Clone, PartialEq, Deserialize)]
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

impl Input {
    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.shape[2]
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.shape[3]
    }
}

/// A tensor that comes out.
#[derive(Debug, Clone, PartialEq, Deserialize)]
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

impl Colour {
    fn planes(self) -> usize {
        match self {
            Self::Rgb | Self::Bgr => 3,
            Self::Grey => 1,
        }
    }
}

/// Cosines of this embedder at and above which unrelated faces are accepted at a stated rate.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// One unrelated pair in a thousand.
    #[serde(rename = "far_1e-3")]
    pub far_1e3: f32,
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
    _package: serde::de::IgnoredAny,
    #[serde(default, rename = "file")]
    _file: serde::de::IgnoredAny,
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
    calibration: Option<Calibration>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Role {
    Detector,
    Landmarks,
    Embedder,
}

#[derive(Deserialize)]
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
    pub fn parse(text: &str) -> Result<Self> {
        let document: Document = toml::from_str(text).map_err(|error| {
            mismatch(
                MANIFEST_FILE,
                "form",
                "a manifest of format 1",
                error.to_string().trim_end(),
            )
        })?;
        if document.format != 1 {
            return Err(mismatch(MANIFEST_FILE, "format", 1, document.format));
        }
        let mut entries = document.model;
        let detector = take(&mut entries, Role::Detector)?;
        let landmarks = take(&mut entries, Role::Landmarks)?;
        let mut embedder = take(&mut entries, Role::Embedder)?;
        let align = embedder.align.take();
        let align = align.ok_or_else(|| mismatch(&embedder.file, "align", "five points", "nothing"))?;
        let calibration = embedder.calibration.take();
        let calibration =
            calibration.ok_or_else(|| mismatch(&embedder.file, "calibration", "two cosines", "nothing"))?;
        let manifest = Self {
            detector: detector.check()?,
            landmarks: landmarks.check()?,
            embedder: embedder.check()?,
            align,
            calibration,
        };
        manifest.check_align()?;
        manifest.check_calibration()?;
        Ok(manifest)
    }

    fn check_align(&self) -> Result<()> {
        let Input {
            shape: [_, _, height, width],
            ..
        } = self.embedder.input;
        let inside =
            |[x, y]: &[f32; 2]| (0.0..=width as f32).contains(x) && (0.0..=height as f32).contains(y);
        if self.align.iter().all(inside) {
            return Ok(());
        }
        let expected = format!("points inside the input of {width}x{height}");
        Err(mismatch(
            &self.embedder.file,
            "align",
            expected,
            format!("{:?}", self.align),
        ))
    }

    fn check_calibration(&self) -> Result<()> {
        let Calibration { far_1e3, far_1e4 } = self.calibration;
        if -1.0 < far_1e3 && far_1e3 <= far_1e4 && far_1e4 < 1.0 {
            return Ok(());
        }
        let expected = "-1 < far_1e-3 <= far_1e-4 < 1";
        Err(mismatch(
            &self.embedder.file,
            "calibration",
            expected,
            format!("{far_1e3} and {far_1e4}"),
        ))
    }
}

/// The one entry of a role.
fn take(entries: &mut Vec<Entry>, role: Role) -> Result<Entry> {
    let mut found: Vec<_> = entries.extract_if(.., |entry| entry.role == role).collect();
    match (found.pop(), found.len()) {
        (Some(entry), 0) => Ok(entry),
        (None, _) => Err(mismatch(
            MANIFEST_FILE,
            role.name(),
            "one model of this role",
            "none",
        )),
        (Some(_), others) => Err(mismatch(
            MANIFEST_FILE,
            role.name(),
            "one model of this role",
            others + 1,
        )),
    }
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::Detector => "detector",
            Self::Landmarks => "landmarks",
            Self::Embedder => "embedder",
        }
    }
}

impl Entry {
    fn check(self) -> Result<ModelSpec> {
        let wrong = |what, expected: &str, found: String| Err(mismatch(&self.file, what, expected, found));
        if self.file.is_empty() || self.file.contains(['/', '\\']) || self.file.starts_with('.') {
            return wrong("file", "a file name beside the manifest", self.file.clone());
        }
        let Ok(blake3) = blake3::Hash::from_hex(&self.blake3) else {
            return wrong("blake3", "64 hexadecimal digits", format!("'{}'", self.blake3));
        };
        if self.role != Role::Embedder && (self.align.is_some() || self.calibration.is_some()) {
            return wrong(
                "align, calibration",
                "only with the embedder",
                self.role.name().to_owned(),
            );
        }

        let Input {
            shape: [batch, planes, height, width],
            colour,
            mean,
            scale,
            ..
        } = self.input;
        if batch != 1
            || planes != colour.planes()
            || !(8..=4096).contains(&height)
            || !(8..=4096).contains(&width)
        {
            let expected = "[1, planes of the colour, height, width], sides of 8 to 4096";
            return wrong(
                "input shape",
                expected,
                format!("{:?} with {colour:?}", self.input.shape),
            );
        }
        if !mean.is_finite() || !scale.is_finite() || scale <= 0.0 {
            return wrong(
                "normalisation",
                "a finite mean and a positive scale",
                format!("{mean} and {scale}"),
            );
        }
        let grey = colour == Colour::Grey;
        match self.role {
            Role::Detector if grey => return wrong("colour", "rgb or bgr", "grey".into()),
            Role::Landmarks if !grey => return wrong("colour", "grey", format!("{colour:?}")),
            Role::Landmarks if height != width => {
                return wrong("input shape", "a square", format!("{width}x{height}"));
            }
            _ => {}
        }

        let outputs = match (self.role, self.output) {
            (Role::Detector, Output::DecodedBoxes { scores, boxes }) => vec![scores, boxes],
            (Role::Landmarks, Output::Points68 { points }) => vec![points],
            (Role::Embedder, Output::Embedding { values }) => vec![values],
            (role, _) => {
                return Err(mismatch(
                    &self.file,
                    "output kind",
                    role.output_kind(),
                    "the kind of another role",
                ));
            }
        };
        let shapes: Vec<&[usize]> = outputs.iter().map(|port| port.shape.as_slice()).collect();
        let (fits, expected) = match self.role {
            Role::Detector => (
                matches!(shapes[..], [[1, n, 2], [1, m, 4]] if n == m && *n > 0),
                "scores of [1, n, 2] and boxes of [1, n, 4]",
            ),
            Role::Landmarks => (matches!(shapes[..], [[1, 136]]), "[1, 136]"),
            Role::Embedder => (
                matches!(shapes[..], [[1, dim]] if (1..=EMBEDDING_DIM_MAX).contains(dim)),
                "[1, dim], dim of 1 to 2048",
            ),
        };
        if !fits {
            return Err(mismatch(
                &self.file,
                "output shape",
                expected,
                format!("{shapes:?}"),
            ));
        }
        Ok(ModelSpec {
            file: self.file,
            blake3,
            input: self.input,
            outputs,
        })
    }
}

impl Role {
    const fn output_kind(self) -> &'static str {
        match self {
            Self::Detector => "decoded-boxes",
            Self::Landmarks => "points-68",
            Self::Embedder => "embedding",
        }
    }
}

/// A mismatch in words for the operator.
pub(crate) fn mismatch(
    model: &str,
    what: &'static str,
    expected: impl fmt::Display,
    found: impl fmt::Display,
) -> crate::Error {
    OperatorError::ModelMismatch {
        model: model.to_owned(),
        what,
        expected: expected.to_string(),
        found: found.to_string(),
    }
    .into()
}
