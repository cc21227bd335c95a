//! Pixels to face boxes.

use super::face::{Bounds, Candidate};
use super::image::Image;
use super::resample::{Axis, Edge, put_row, resample};
use crate::error::{OperatorError, Result};
use crate::manifest::{Input, ModelSpec};
use crate::model::Model;
use crate::tensor::Tensor;

/// Boxes that overlap by more than this (intersection over union) show one face.
const OVERLAP_MAX: f32 = 0.4;

/// The grey beside a photograph that has not the input's proportions, 0 to 255.
const BESIDE: f32 = 127.0;

/// A detector and the shape of what it takes.
pub(crate) struct Detector {
    name: String,
    input: Input,
    model: Box<dyn Model>,
}

impl Detector {
    pub fn new(spec: &ModelSpec, model: Box<dyn Model>) -> Self {
        Self {
            name: spec.file.clone(),
            input: spec.input.clone(),
            model,
        }
    }

    /// All boxes with at least `score_min`, the surest first, one a face.
    pub fn find(&self, image: &Image, score_min: f32) -> Result<Vec<Candidate>> {
        let fit = Fit::new(image, &self.input);
        let tensor = self.letterboxed(image, &fit);
        let [scores, boxes] = &self.model.run(&tensor)?[..] else {
            return Err(self.failed("expected scores and boxes"));
        };
        let (boxes, _) = boxes.values().as_chunks::<4>();
        let (scores, _) = scores.values().as_chunks::<2>();
        let mut candidates = Vec::new();
        for (&[_, score], corners) in scores.iter().zip(boxes) {
            if !score.is_finite() || !corners.iter().all(|corner| corner.is_finite()) {
                return Err(self.failed("a score or a corner is not a number"));
            }
            let bounds = fit.to_photo(*corners);
            // A box without an inside cannot be cropped.
            if score >= score_min && bounds.width() > 0.0 && bounds.height() > 0.0 {
                candidates.push(Candidate { bounds, score });
            }
        }
        Ok(one_a_face(candidates))
    }

    /// The whole photograph in the middle of the detector's input, in its own proportions. Stretched to
    /// the input, a wide photograph would show faces that are twice as high as broad.
    fn letterboxed(&self, image: &Image, fit: &Fit) -> Tensor {
        let grey = (BESIDE - self.input.mean) / self.input.scale;
        let mut tensor = Tensor::filled(&self.input.shape, grey);
        let axis = |length: usize, outputs: usize| {
            Axis::linear(0.0, length as f64 / outputs as f64, outputs, length, Edge::Repeat)
        };
        let (across, down) = (axis(image.width(), fit.width), axis(image.height(), fit.height));
        resample(image, &across, &down, |y, row| {
            put_row(&mut tensor, &self.input, fit.left, fit.top + y, row)
        });
        tensor
    }

    fn failed(&self, detail: &str) -> crate::Error {
        OperatorError::Inference {
            model: self.name.clone(),
            detail: detail.to_owned(),
        }
        .into()
    }
}

/// Where the photograph lies in the input, in pixels of the input.
struct Fit {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
    /// Photograph pixels an input pixel, across and down; equal but for rounding.
    step: [f32; 2],
    /// The whole input.
    input: [f32; 2],
}

impl Fit {
    fn new(image: &Image, input: &Input) -> Self {
        let scale =
            (input.width() as f64 / image.width() as f64).min(input.height() as f64 / image.height() as f64);
        let side = |length: usize, most: usize| ((length as f64 * scale).round() as usize).clamp(1, most);
        let (width, height) = (
            side(image.width(), input.width()),
            side(image.height(), input.height()),
        );
        Self {
            left: (input.width() - width) / 2,
            top: (input.height() - height) / 2,
            width,
            height,
            step: [
                image.width() as f32 / width as f32,
                image.height() as f32 / height as f32,
            ],
            input: [input.width() as f32, input.height() as f32],
        }
    }

    /// Corners in parts of the input to pixels of the photograph.
    fn to_photo(&self, [left, top, right, bottom]: [f32; 4]) -> Bounds {
        let x = |x: f32| (x * self.input[0] - self.left as f32) * self.step[0];
        let y = |y: f32| (y * self.input[1] - self.top as f32) * self.step[1];
        Bounds {
            left: x(left),
            top: y(top),
            right: x(right),
            bottom: y(bottom),
        }
    }
}

/// Non-maximum suppression: the surest box of each heap of overlapping ones.
fn one_a_face(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept: Vec<Candidate> = Vec::new();
    for candidate in candidates {
        if kept
            .iter()
            .all(|sure| sure.bounds.overlap(&candidate.bounds) <= OVERLAP_MAX)
        {
            kept.push(candidate);
        }
    }
    kept
}
