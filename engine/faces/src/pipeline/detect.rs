//! Pixels to face boxes.

use super::face::{Bounds, Candidate};
use super::image::Image;
use super::resample::{Axis, Edge, put_row, resample};
use crate::manifest::{Input, ModelSpec};
use crate::model::Model;
use crate::tensor::Tensor;
use likeness_types::error::{OperatorError, Result};

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
    pub(crate) fn new(spec: &ModelSpec, model: Box<dyn Model>) -> Self {
        Self {
            name: spec.file.clone(),
            input: spec.input.clone(),
            model,
        }
    }

    /// What a detector of this shape takes of the photograph at once.
    pub(crate) fn input(&self) -> [usize; 2] {
        [self.input.width(), self.input.height()]
    }

    /// All boxes with at least `score_min` in the photograph as a whole, the surest first, one a face.
    pub(crate) fn find(&self, image: &Image, score_min: f32) -> Result<Vec<Candidate>> {
        self.find_in(image, &View::whole(image, self.input()), score_min)
            .map(one_a_face)
    }

    /// All boxes with at least `score_min` in a part of the photograph, in no order, several a face.
    pub(crate) fn find_in(&self, image: &Image, view: &View, score_min: f32) -> Result<Vec<Candidate>> {
        let tensor = self.letterboxed(image, view);
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
            let bounds = view.to_photo(*corners, self.input());
            // A box without an inside cannot be cropped.
            if score >= score_min && bounds.width() > 0.0 && bounds.height() > 0.0 {
                candidates.push(Candidate { bounds, score });
            }
        }
        Ok(candidates)
    }

    /// That part of the photograph in the middle of the detector's input, in its own proportions.
    /// Stretched to the input, a wide photograph would show faces that are twice as high as broad.
    fn letterboxed(&self, image: &Image, view: &View) -> Tensor {
        let grey = (BESIDE - self.input.mean) / self.input.scale;
        let mut tensor = Tensor::filled(&self.input.shape, grey);
        let [across, down] = [image.width(), image.height()];
        let (across, down) = (view.axis(0, across), view.axis(1, down));
        resample(image, &across, &down, |y, row| {
            put_row(&mut tensor, &self.input, view.offset[0], view.offset[1] + y, row)
        });
        tensor
    }

    fn failed(&self, detail: &str) -> likeness_types::error::Error {
        OperatorError::Inference {
            model: self.name.clone(),
            detail: detail.to_owned(),
        }
        .into()
    }
}

/// A rectangle of the photograph in the detector's input; across and down.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct View {
    /// Its left top corner, in pixels of the photograph.
    pub origin: [f64; 2],
    /// Photograph pixels an input pixel; equal in both directions but for rounding.
    pub step: [f64; 2],
    /// Its sides, in pixels of the input.
    pub sides: [usize; 2],
    /// Its place in the input, in pixels.
    pub offset: [usize; 2],
    /// Whether what is shrunk is averaged over areas, not interpolated.
    pub(crate) averaged: bool,
}

impl View {
    /// All of the photograph. It is interpolated however much it shrinks, as the recipe has it.
    pub(crate) fn whole(image: &Image, input: [usize; 2]) -> Self {
        let photo = [image.width(), image.height()];
        let scale = [0, 1]
            .map(|axis| input[axis] as f64 / photo[axis] as f64)
            .into_iter()
            .fold(f64::INFINITY, f64::min);
        let sides = [0, 1].map(|axis| ((photo[axis] as f64 * scale).round() as usize).clamp(1, input[axis]));
        Self {
            origin: [0.0; 2],
            step: [0, 1].map(|axis| photo[axis] as f64 / sides[axis] as f64),
            sides,
            offset: [0, 1].map(|axis| (input[axis] - sides[axis]) / 2),
            averaged: false,
        }
    }

    fn axis(&self, axis: usize, length: usize) -> Axis {
        let (origin, step, outputs) = (self.origin[axis], self.step[axis], self.sides[axis]);
        if self.averaged {
            Axis::area(origin, step, outputs, length)
        } else {
            Axis::linear(origin, step, outputs, length, Edge::Repeat)
        }
    }

    /// Corners in parts of the input to pixels of the photograph.
    fn to_photo(&self, [left, top, right, bottom]: [f32; 4], input: [usize; 2]) -> Bounds {
        let place = |part: f32, axis: usize| {
            let beyond_corner = part * input[axis] as f32 - self.offset[axis] as f32;
            self.origin[axis] as f32 + beyond_corner * self.step[axis] as f32
        };
        Bounds {
            left: place(left, 0),
            top: place(top, 1),
            right: place(right, 0),
            bottom: place(bottom, 1),
        }
    }
}

/// Non-maximum suppression: the surest box of each heap of overlapping ones, the surest first.
pub(super) fn one_a_face(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
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
