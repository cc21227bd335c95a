//! Checks of a manifest's entries beyond their form, before a model file is read.

use std::fmt::Debug;

use super::{Colour, Entry, Input, ModelSpec, Output, Port, Role, StatedRates, mismatch};
use crate::embedding::EMBEDDING_DIM_MAX;
use likeness_types::error::Result;

/// The sides an input may have, in pixels.
const SIDES: std::ops::RangeInclusive<usize> = 8..=4096;

impl Entry {
    /// The entry as a valid specification.
    pub(super) fn checked(self) -> Result<ModelSpec> {
        let plain = !self.file.is_empty() && !self.file.contains(['/', '\\']) && !self.file.starts_with('.');
        self.demand(plain, "file", "a file name beside the manifest", &self.file)?;
        let Ok(blake3) = blake3::Hash::from_hex(&self.blake3) else {
            return Err(mismatch(
                &self.file,
                "blake3",
                "64 hexadecimal digits",
                &self.blake3,
            ));
        };
        let extras = self.align.is_some() || self.calibration.is_some();
        let allowed = self.role == Role::Embedder || !extras;
        self.demand(
            allowed,
            "align and calibration",
            "only with the embedder",
            &self.role,
        )?;
        self.check_input()?;
        self.check_output()?;
        Ok(ModelSpec {
            file: self.file,
            blake3,
            input: self.input,
            outputs: self.output.ports(),
        })
    }

    fn check_input(&self) -> Result<()> {
        let Input {
            shape,
            colour,
            mean,
            scale,
            ..
        } = self.input;
        let [batch, planes, height, width] = shape;
        let fits = match self.role {
            Role::Detector => planes == 3,
            Role::Landmarks => planes == 1 && height == width,
            Role::Embedder => true,
        };
        let sides = SIDES.contains(&height) && SIDES.contains(&width);
        let expected = "the shape of its role, of batch 1 and sides of 8 to 4096";
        self.demand(fits && sides && batch == 1, "input shape", expected, &shape)?;
        self.demand(
            planes == colour.planes(),
            "colour",
            "as many planes as the shape has",
            &colour,
        )?;
        let usable = mean.is_finite() && scale.is_finite() && scale > 0.0;
        self.demand(
            usable,
            "normalisation",
            "a finite mean and a positive scale",
            &(mean, scale),
        )
    }

    fn check_output(&self) -> Result<()> {
        let (fits, expected) = match (self.role, &self.output) {
            (Role::Detector, Output::DecodedBoxes { scores, boxes }) => (
                matches!((&scores.shape[..], &boxes.shape[..]), ([1, n, 2], [1, m, 4]) if n == m && *n > 0),
                "scores of [1, n, 2] and boxes of [1, n, 4]",
            ),
            (Role::Landmarks, Output::Points68 { points }) => {
                (points.shape[..] == [1, 136], "points of [1, 136]")
            }
            (Role::Embedder, Output::Embedding { values }) => (
                matches!(values.shape[..], [1, dim] if (1..=EMBEDDING_DIM_MAX).contains(&dim)),
                "values of [1, dim], dim of 1 to 2048",
            ),
            (Role::Detector, _) => (false, "kind decoded-boxes"),
            (Role::Landmarks, _) => (false, "kind points-68"),
            (Role::Embedder, _) => (false, "kind embedding"),
        };
        self.demand(fits, "output", expected, &self.output)
    }

    /// The keys that an embedder has beside the common ones.
    pub(super) fn embedder_only(&self) -> Result<([[f32; 2]; 5], StatedRates)> {
        let (Some(align), Some(calibration)) = (self.align, self.calibration) else {
            return Err(mismatch(
                &self.file,
                "embedder",
                "align and calibration",
                "not both",
            ));
        };
        let [_, _, height, width] = self.input.shape;
        let inside =
            |[x, y]: [f32; 2]| (0.0..=width as f32).contains(&x) && (0.0..=height as f32).contains(&y);
        self.demand(
            align.into_iter().all(inside),
            "align",
            "five points inside the input",
            &align,
        )?;
        let StatedRates { far_1e3, far_1e4 } = calibration;
        let ordered = -1.0 < far_1e3 && far_1e3 <= far_1e4 && far_1e4 < 1.0;
        self.demand(
            ordered,
            "calibration",
            "-1 < far_1e-3 <= far_1e-4 < 1",
            &calibration,
        )?;
        Ok((align, calibration))
    }

    fn demand(&self, holds: bool, what: &'static str, expected: &str, found: &dyn Debug) -> Result<()> {
        if holds {
            return Ok(());
        }
        Err(mismatch(&self.file, what, expected, format!("{found:?}")))
    }
}

impl Colour {
    fn planes(self) -> usize {
        match self {
            Self::Rgb | Self::Bgr => 3,
            Self::Grey => 1,
        }
    }
}

impl Output {
    fn ports(self) -> Vec<Port> {
        match self {
            Self::DecodedBoxes { scores, boxes } => vec![scores, boxes],
            Self::Points68 { points } => vec![points],
            Self::Embedding { values } => vec![values],
        }
    }
}
