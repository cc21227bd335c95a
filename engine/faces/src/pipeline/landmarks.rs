//! A face box to five points: two passes of a network that finds 68.

use super::face::Bounds;
use super::image::Image;
use super::resample::{Axis, Edge, put_row, resample};
use crate::manifest::{Input, ModelSpec};
use crate::model::Model;
use crate::tensor::Tensor;
use likeness_types::error::{OperatorError, Result};

/// The first crop's side in heights of the face box.
const FIRST_SIDE: f32 = 0.9;
/// How far below the box's centre the first crop's lies, in heights of the face box.
const FIRST_DROP: f32 = 0.1;
/// The second crop's side in larger sides of the 68 points' bounding box.
const SECOND_SIDE: f32 = 1.1;
/// A crop that shrinks by more than this is averaged over areas, not interpolated.
const INTERPOLATED_STEP_MAX: f64 = 2.0;

/// Which of the 68 points (counted from 0) are averaged to left eye, right eye, nose tip, left and right
/// corner of the mouth.
const FIVE_OF_68: [&[usize]; 5] = [&[37, 38, 40, 41], &[43, 44, 46, 47], &[30], &[48, 60], &[54, 64]];

/// A landmark network and the shape of what it takes.
pub(crate) struct Landmarks {
    name: String,
    input: Input,
    model: Box<dyn Model>,
}

/// What the network says of one face: 68 points, x and y in pixels of the photograph.
#[derive(Clone)]
pub(crate) struct Shape {
    /// Those of the second pass, which count.
    pub points: Vec<[f32; 2]>,
    /// Those of the first, which differ where the network is unsure.
    pub first: Vec<[f32; 2]>,
}

/// A square crop, in pixels of the photograph.
#[derive(Clone, Copy)]
struct Square {
    centre: [f32; 2],
    side: f32,
}

impl Landmarks {
    pub(crate) fn new(spec: &ModelSpec, model: Box<dyn Model>) -> Self {
        Self {
            name: spec.file.clone(),
            input: spec.input.clone(),
            model,
        }
    }

    /// The points of the face in this box.
    pub(crate) fn find(&self, image: &Image, bounds: &Bounds) -> Result<Shape> {
        let [x, y] = bounds.centre();
        let height = bounds.height();
        let first = Square {
            centre: [x, y + FIRST_DROP * height],
            side: FIRST_SIDE * height,
        };
        let first = self.points(image, first)?;
        // Once more around the points themselves: the result then hardly depends on the box.
        let points = self.points(image, around(&first))?;
        Ok(Shape { points, first })
    }

    /// How far the points move in a third pass, around those of the second: see [`Shape::wander`].
    pub(crate) fn wander_again(&self, image: &Image, shape: &Shape) -> Result<f32> {
        let third = Shape {
            points: self.points(image, around(&shape.points))?,
            first: shape.points.clone(),
        };
        Ok(third.wander())
    }

    /// 68 points in pixels of the photograph.
    fn points(&self, image: &Image, square: Square) -> Result<Vec<[f32; 2]>> {
        let Square { centre, side } = square;
        // A network that puts points far outside its crop is broken, and must not size the next one.
        let most = 4.0 * image.width().max(image.height()) as f32;
        if !(side > 0.0 && side <= most && centre.iter().all(|c| c.abs() <= most)) {
            return Err(self.failed(format!(
                "expected a crop of 0 to {most} px, found {side} px at {centre:?}"
            )));
        }
        let crop = self.crop(image, square);
        let [points] = &self.model.run(&crop)?[..] else {
            return Err(self.failed("expected one output".into()));
        };
        let place = |part: f32, axis: usize| centre[axis] + (part - 0.5) * side;
        let (points, _) = points.values().as_chunks::<2>();
        let points: Vec<_> = points.iter().map(|&[x, y]| [place(x, 0), place(y, 1)]).collect();
        if points.as_flattened().iter().all(|value| value.abs() <= most) {
            return Ok(points);
        }
        Err(self.failed(format!(
            "expected points within {most} px of the photograph, found others"
        )))
    }

    /// The crop as the network takes it: grey, black outside the photograph.
    fn crop(&self, image: &Image, Square { centre, side }: Square) -> Tensor {
        let outputs = self.input.width();
        let step = f64::from(side) / outputs as f64;
        let axis = |centre: f32, length: usize| {
            let origin = f64::from(centre) - f64::from(side) / 2.0;
            if step > INTERPOLATED_STEP_MAX {
                Axis::area(origin, step, outputs, length)
            } else {
                Axis::linear(origin, step, outputs, length, Edge::Black)
            }
        };
        let (across, down) = (axis(centre[0], image.width()), axis(centre[1], image.height()));
        let mut tensor = Tensor::filled(&self.input.shape, 0.0);
        resample(image, &across, &down, |y, row| {
            put_row(&mut tensor, &self.input, 0, y, row)
        });
        tensor
    }

    fn failed(&self, detail: String) -> likeness_types::error::Error {
        OperatorError::Inference {
            model: self.name.clone(),
            detail,
        }
        .into()
    }
}

impl Shape {
    /// Left eye, right eye, tip of the nose, left and right corner of the mouth.
    pub(crate) fn five(&self) -> [[f32; 2]; 5] {
        FIVE_OF_68.map(|of| mean(&self.points, of))
    }

    /// Between the eyes, in sides of the second crop: about a third on a face seen from the front.
    pub(crate) fn eyes_apart(&self) -> f32 {
        let [left, right, ..] = self.five();
        (right[0] - left[0]).hypot(right[1] - left[1]) / around(&self.first).side
    }

    /// How far these five moved from the first pass to the second (root of the mean square), in sides of
    /// the second crop. On an upright face the two agree; on anything else the network guesses twice.
    pub(crate) fn wander(&self) -> f32 {
        let moved = FIVE_OF_68.map(|of| {
            let (now, before) = (mean(&self.points, of), mean(&self.first, of));
            (now[0] - before[0]).powi(2) + (now[1] - before[1]).powi(2)
        });
        (moved.iter().sum::<f32>() / moved.len() as f32).sqrt() / around(&self.first).side
    }
}

fn mean(points: &[[f32; 2]], of: &[usize]) -> [f32; 2] {
    [0, 1].map(|axis| of.iter().map(|&i| points[i][axis]).sum::<f32>() / of.len() as f32)
}

/// The square around the points' bounding box.
fn around(points: &[[f32; 2]]) -> Square {
    let extent = |axis: usize| {
        let values = points.iter().map(|point| point[axis]);
        let (low, high) = (
            values.clone().fold(f32::INFINITY, f32::min),
            values.fold(f32::NEG_INFINITY, f32::max),
        );
        ((low + high) / 2.0, high - low)
    };
    let ((x, width), (y, height)) = (extent(0), extent(1));
    Square {
        centre: [x, y],
        side: SECOND_SIDE * width.max(height),
    }
}
