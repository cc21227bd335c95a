//! Five points to the upright face: a least-squares similarity and a warp.

use std::ops::Range;

use super::image::Image;
use super::resample::{Axis, resample};
use crate::manifest::Manifest;
use crate::tensor::Tensor;
use likeness_types::error::{OperatorError, Result};

/// Below this scale interpolation would skip pixels of the photograph, so it is shrunk first...
const SHRUNK_BELOW: f64 = 0.5;
/// ...to this multiple of the scale.
const SHRUNK_TO: f64 = 1.5;

/// How far the middle of the face reaches beyond the five points, in eye distances: brows, the whole of the
/// mouth, no background.
const MIDDLE_MARGIN: f64 = 0.4;

/// An upright face: `[height, width, 3]`, red, green, blue of 0 to 255, black where the photograph ends.
pub(crate) struct AlignedFace(pub Tensor);

impl AlignedFace {
    /// The face as in a mirror.
    pub(crate) fn mirrored(&self, width: usize) -> Self {
        let values = self.0.values();
        let mut mirrored = Tensor::filled(&[values.len() / (width * 3), width, 3], 0.0);
        let rows = mirrored.values_mut().chunks_exact_mut(width * 3);
        for (row, from) in rows.zip(values.chunks_exact(width * 3)) {
            for (pixel, from) in row.chunks_exact_mut(3).zip(from.chunks_exact(3).rev()) {
                pixel.copy_from_slice(from);
            }
        }
        Self(mirrored)
    }
}

/// Where the five points have to come to lie.
pub(crate) struct Aligner {
    width: usize,
    height: usize,
    targets: [[f64; 2]; 5],
}

/// x + iy -> a (x + iy) + b, in complex numbers: turn, scale and shift, and no reflection.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Similarity {
    a: [f64; 2],
    b: [f64; 2],
}

impl Aligner {
    pub(crate) fn new(manifest: &Manifest) -> Self {
        let input = &manifest.embedder.input;
        let targets = manifest.align.map(|point| point.map(f64::from));
        Self {
            width: input.width(),
            height: input.height(),
            targets,
        }
    }

    /// The columns and rows of an upright face that show nothing but the face.
    pub(crate) fn middle(&self) -> [Range<usize>; 2] {
        let [left, right, ..] = self.targets;
        let margin = MIDDLE_MARGIN * (right[0] - left[0]).hypot(right[1] - left[1]);
        let range = |axis: usize, length: usize| {
            let values = self.targets.map(|target| target[axis]);
            let low = values.into_iter().fold(f64::INFINITY, f64::min) - margin;
            let high = values.into_iter().fold(f64::NEG_INFINITY, f64::max) + margin;
            // At least three, for a Laplacian; targets of one's own may lie anywhere.
            let end = (high.ceil().max(3.0) as usize).min(length);
            (low.floor().max(0.0) as usize).min(end.saturating_sub(3))..end
        };
        [range(0, self.width), range(1, self.height)]
    }

    /// The upright face with its points (x and y in pixels of the photograph) on the targets.
    ///
    /// # Errors
    /// [`OperatorError::Inference`] if the points have no extent: the landmark network is broken.
    pub(crate) fn align(&self, image: &Image, points: &[[f32; 2]; 5]) -> Result<AlignedFace> {
        let points = points.map(|point| point.map(f64::from));
        let to_face = Similarity::fit(&points, &self.targets).ok_or_else(|| OperatorError::Inference {
            model: "landmarks".into(),
            detail: "expected five points apart, found them in one place".into(),
        })?;
        let to_photo = to_face.inverse();
        if to_face.scale() >= SHRUNK_BELOW {
            return Ok(self.warp(image, to_photo));
        }
        let (shrunk, to_shrunk) = self.shrink(image, to_photo, to_face.scale() * SHRUNK_TO);
        Ok(self.warp(&shrunk, to_photo.then(to_shrunk)))
    }

    /// The part of the photograph that the face needs, made smaller by averaging over areas, and the way
    /// from the photograph to it. Values are rounded to 8 bits as in the photograph.
    fn shrink(&self, image: &Image, to_photo: Similarity, scale: f64) -> (Image, Similarity) {
        let (width, height) = (self.width as f64, self.height as f64);
        let corners = [[0.0, 0.0], [width, 0.0], [0.0, height], [width, height]].map(|at| to_photo.apply(at));
        // In shrunk pixels, whole ones, with one more on each side to interpolate with.
        let range = |axis: usize, length: usize| {
            let values = corners.map(|corner| corner[axis] * scale);
            let low = values.into_iter().fold(f64::INFINITY, f64::min).floor() - 1.0;
            let high = values.into_iter().fold(f64::NEG_INFINITY, f64::max).ceil() + 1.0;
            let end = (length as f64 * scale).ceil();
            (low.clamp(0.0, end - 1.0), high.clamp(1.0, end))
        };
        let ((left, right), (top, bottom)) = (range(0, image.width()), range(1, image.height()));
        let axis = |from: f64, to: f64, length: usize| {
            Axis::area(from / scale, 1.0 / scale, (to - from).max(1.0) as usize, length)
        };
        let (across, down) = (
            axis(left, right, image.width()),
            axis(top, bottom, image.height()),
        );
        let (width, height) = (across.len(), down.len());
        let mut rgb = Vec::with_capacity(width * height * 3);
        resample(image, &across, &down, |_, row| {
            rgb.extend(row.iter().map(|&value| (value + 0.5) as u8))
        });
        (
            Image::new(width, height, rgb),
            Similarity {
                a: [scale, 0.0],
                b: [-left, -top],
            },
        )
    }

    /// Bilinear interpolation, black outside.
    fn warp(&self, image: &Image, to_photo: Similarity) -> AlignedFace {
        let mut face = Tensor::filled(&[self.height, self.width, 3], 0.0);
        let (pixels, _) = face.values_mut().as_chunks_mut::<3>();
        for (y, row) in pixels.chunks_exact_mut(self.width).enumerate() {
            for (x, pixel) in row.iter_mut().enumerate() {
                let [at_x, at_y] = to_photo.apply([x as f64 + 0.5, y as f64 + 0.5]);
                *pixel = interpolate(image, at_x - 0.5, at_y - 0.5);
            }
        }
        AlignedFace(face)
    }
}

/// The colour between the centres of four pixels, black outside. x and y count from the first pixel's
/// centre.
fn interpolate(image: &Image, x: f64, y: f64) -> [f32; 3] {
    let (left, right_part) = split(x);
    let (top, lower_part) = split(y);
    let row = |y: i32| blend(image.pair(left, y), right_part);
    let (upper, lower) = (row(top), row(top + 1));
    [0, 1, 2].map(|c| upper[c] + lower_part * (lower[c] - upper[c]))
}

/// The colour between two neighbours.
fn blend([left, right]: [[u8; 3]; 2], right_part: f32) -> [f32; 3] {
    [0, 1, 2].map(|c| {
        let (left, right) = (f32::from(left[c]), f32::from(right[c]));
        left + right_part * (right - left)
    })
}

/// The whole number below, and the rest. `f64::floor` is a function call where the processor is not
/// known to have an instruction for it, and took half the time of a warp.
fn split(value: f64) -> (i32, f32) {
    let value = value.clamp(-2e9, 2e9); // as far outside as it was, with room for the next pixel
    let towards_zero = value as i32;
    let whole = towards_zero - i32::from(value < f64::from(towards_zero));
    (whole, (value - f64::from(whole)) as f32)
}

impl Similarity {
    /// The least-squares similarity (Umeyama 1991) in closed form: in the plane, with complex numbers,
    /// turn and scale are one linear regression. `None` where all points coincide.
    fn fit(from: &[[f64; 2]; 5], to: &[[f64; 2]; 5]) -> Option<Self> {
        let mean =
            |points: &[[f64; 2]; 5]| [0, 1].map(|axis| points.iter().map(|p| p[axis]).sum::<f64>() / 5.0);
        let (from_mean, to_mean) = (mean(from), mean(to));
        let (mut a, mut spread) = ([0.0; 2], 0.0);
        for (p, q) in from.iter().zip(to) {
            let p = [p[0] - from_mean[0], p[1] - from_mean[1]];
            let q = [q[0] - to_mean[0], q[1] - to_mean[1]];
            a[0] += p[0] * q[0] + p[1] * q[1];
            a[1] += p[0] * q[1] - p[1] * q[0];
            spread += p[0] * p[0] + p[1] * p[1];
        }
        let a = [a[0] / spread, a[1] / spread];
        let [x, y] = multiply(a, from_mean);
        let fit = Self {
            a,
            b: [to_mean[0] - x, to_mean[1] - y],
        };
        (fit.scale().is_normal() && fit.b.iter().all(|b| b.is_finite())).then_some(fit)
    }

    fn scale(self) -> f64 {
        self.a[0].hypot(self.a[1])
    }

    fn apply(self, at: [f64; 2]) -> [f64; 2] {
        let [x, y] = multiply(self.a, at);
        [x + self.b[0], y + self.b[1]]
    }

    fn inverse(self) -> Self {
        let square = self.a[0] * self.a[0] + self.a[1] * self.a[1];
        let a = [self.a[0] / square, -self.a[1] / square];
        Self {
            a,
            b: multiply(a, self.b).map(|value| -value),
        }
    }

    /// This one first, then the next.
    fn then(self, next: Self) -> Self {
        Self {
            a: multiply(next.a, self.a),
            b: next.apply(self.b),
        }
    }
}

/// The product of two complex numbers.
fn multiply(a: [f64; 2], b: [f64; 2]) -> [f64; 2] {
    [a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]]
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINTS: [[f64; 2]; 5] = [
        [10.0, 10.0],
        [30.0, 12.0],
        [20.0, 20.0],
        [12.0, 30.0],
        [28.0, 31.0],
    ];

    fn close(a: [f64; 2], b: [f64; 2]) -> bool {
        (a[0] - b[0]).hypot(a[1] - b[1]) < 1e-9
    }

    #[test]
    fn a_similarity_is_found_again() {
        let exact = Similarity {
            a: [0.3, -1.2],
            b: [7.0, 40.0],
        };
        let found = Similarity::fit(&POINTS, &POINTS.map(|point| exact.apply(point))).expect("points apart");
        assert!(close(found.a, exact.a) && close(found.b, exact.b), "{found:?}");
        for point in POINTS {
            assert!(close(found.inverse().apply(found.apply(point)), point));
            assert!(close(
                found.then(exact).apply(point),
                exact.apply(found.apply(point))
            ));
        }
    }

    #[test]
    fn points_in_one_place_have_no_similarity() {
        assert_eq!(Similarity::fit(&[[5.0, 5.0]; 5], &POINTS), None);
        assert_eq!(Similarity::fit(&[[f64::NAN; 2]; 5], &POINTS), None);
        assert_eq!(Similarity::fit(&[[1e300, 0.0]; 5], &POINTS), None);
    }

    #[test]
    fn interpolation_is_linear_between_centres_and_black_outside() {
        let image = Image::new(2, 2, [0, 100, 200, 40].into_iter().flat_map(|v| [v; 3]).collect());
        assert_eq!(interpolate(&image, 0.0, 0.0), [0.0; 3]);
        assert_eq!(interpolate(&image, 1.0, 0.0), [100.0; 3]);
        assert_eq!(interpolate(&image, 0.5, 0.5), [85.0; 3]);
        assert_eq!(interpolate(&image, 1.5, 0.0), [50.0; 3]);
        assert_eq!(interpolate(&image, -0.5, 1.0), [100.0; 3]);
        assert_eq!(interpolate(&image, -1e12, 1e12), [0.0; 3]);
    }
}
