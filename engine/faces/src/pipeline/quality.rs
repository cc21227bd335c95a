//! Measures of a face: of its light on the aligned face, of its shape on the landmarks.
//!
//! No further network is asked. That of the default models' package for the pose takes as long as the
//! detector and the landmarks together; the yaw below agrees with it to 2 degrees in the median, and its
//! network for the eyes says of dark glasses that they are closed eyes. What no number here sees: a mask, a
//! hand or glasses on a face that has its landmarks found all the same. docs/quality.md has the figures.

use std::ops::Range;

use super::align::AlignedFace;
use super::landmarks::Shape;
use crate::quality::Quality;
use crate::tensor::Tensor;

/// The ratio of detail to change (see [`sharpness`]) that is a sharpness of 0.5: the middle of 1,046
/// photographs of Labeled Faces in the Wild.
const SHARPNESS_MIDDLE: f64 = 0.8;
/// What rounding the colours to whole levels adds to the energy of the Laplacian, in grey levels squared:
/// 20 times that of a rounding error (1/12) and of the luminance's weights (0.45). In a face without contrast
/// it would be all the detail there is.
const ROUNDING: f64 = 20.0 / 12.0 * 0.45;

/// How far the tip of the nose stands out of the plane of eyes and mouth, in eye distances: the value
/// that makes degrees of yaw those of the pose network of the default models' package (correlation 0.97).
const NOSE_HEIGHT: f32 = 0.7;
/// From the middle of the eyes to that of the mouth, in eye distances: the median of the 1,046.
const MOUTH_DROP: f32 = 1.09;
/// Where on that way the nose comes to lie of somebody who looks straight ahead: the median of the 1,046.
const NOSE_PART: f32 = 0.507;

/// The mean distance between the points of the two passes, in eye distances, at which the landmarks are
/// worth nothing: the most that was seen in the 1,046, whose median is 0.0165.
const DISAGREEMENT_MAX: f32 = 0.1;

/// The six points of either eye: corner, two above, corner, two below.
const EYES: [[usize; 6]; 2] = [[36, 37, 38, 39, 40, 41], [42, 43, 44, 45, 46, 47]];
/// Height by width of an eye that is shut: below the least of the 1,046, 0.12...
const EYE_SHUT: f32 = 0.1;
/// ...and of one that is open: a little above their median of 0.27.
const EYE_OPEN: f32 = 0.3;

/// Less than any distance in a photograph, so that nothing is divided by 0.
const TINY: f32 = 1e-6;

/// Measures a face. `middle` is the part of the aligned face that is measured for its light, in columns and
/// rows: forehead, hair and what is behind them say nothing of how well the face can be seen.
pub(super) fn measure(shape: &Shape, face: &AlignedFace, middle: &[Range<usize>; 2]) -> Quality {
    let light = Light::of(&grey(face, middle));
    let five = shape.five();
    let [left, right, ..] = five;
    let eye_distance_px = distance(left, right);
    let [yaw_degrees, pitch_degrees] = turn(&five);
    Quality {
        eye_distance_px,
        sharpness: light.sharpness,
        brightness: light.brightness,
        contrast: light.contrast,
        yaw_degrees,
        pitch_degrees,
        roll_degrees: (right[1] - left[1]).atan2(right[0] - left[0]).to_degrees(),
        landmark_confidence: confidence(shape, eye_distance_px),
        eyes_open: EYES.map(|eye| open(shape, eye)).into_iter().fold(1.0, f32::min),
    }
}

/// The luminance (BT.601) of a part of the aligned face, `[rows, columns]`.
fn grey(AlignedFace(face): &AlignedFace, [columns, rows]: &[Range<usize>; 2]) -> Tensor {
    let width = face.shape()[1];
    let mut grey = Tensor::filled(&[rows.len(), columns.len()], 0.0);
    let (pixels, _) = face.values().as_chunks::<3>();
    let lines = pixels.chunks_exact(width).skip(rows.start);
    for (line, target) in lines.zip(grey.values_mut().chunks_exact_mut(columns.len())) {
        for ([red, green, blue], value) in line[columns.clone()].iter().zip(target) {
            *value = 0.299 * red + 0.587 * green + 0.114 * blue;
        }
    }
    grey
}

/// What is measured of the luminance.
struct Light {
    brightness: f32,
    contrast: f32,
    sharpness: f32,
}

impl Light {
    fn of(grey: &Tensor) -> Self {
        let count = grey.values().len() as f64;
        let values = || grey.values().iter().map(|&value| f64::from(value));
        let mean = values().sum::<f64>() / count;
        let variance = values().map(|value| (value - mean) * (value - mean)).sum::<f64>() / count;
        Self {
            brightness: mean as f32,
            contrast: variance.sqrt() as f32,
            sharpness: sharpness(grey),
        }
    }
}

/// How much of what changes is fine detail.
///
/// The energy of the Laplacian over that of the gradient is the mean square of the spatial frequency,
/// weighted by how much the picture changes at it: contrast cancels out, and blurring, or enlarging a small
/// face, lowers it. It is mapped to 0 to 1 by x / (x + middle).
fn sharpness(grey: &Tensor) -> f32 {
    let (mut detail, mut change, mut count) = (0.0f64, 0.0f64, 0.0f64);
    let rows: Vec<&[f32]> = grey.values().chunks_exact(grey.shape()[1]).collect();
    for three in rows.windows(3) {
        let (above, row, below) = (three[0], three[1], three[2]);
        for x in 1..row.len() - 1 {
            let (right, down) = (row[x + 1] - row[x], below[x] - row[x]);
            let laplacian = right + down + (row[x - 1] - row[x]) + (above[x] - row[x]);
            detail += f64::from(laplacian * laplacian);
            change += f64::from(right * right + down * down);
            count += 1.0;
        }
    }
    let rounding = ROUNDING * count.max(1.0);
    let ratio = (detail - rounding).max(0.0) / (change + rounding);
    (ratio / (ratio + SHARPNESS_MIDDLE)) as f32
}

/// Yaw and pitch, in degrees: how far the nose, which stands out, has moved from its place between eyes and
/// mouth, which do not. It is a guess of pitch, for noses differ more in length than in symmetry.
fn turn(&[left, right, nose, mouth_left, mouth_right]: &[[f32; 2]; 5]) -> [f32; 2] {
    let middle = |a: [f32; 2], b: [f32; 2]| [(a[0] + b[0]) / 2.0, (a[1] + b[1]) / 2.0];
    let eyes = middle(left, right);
    let from_eyes = |[x, y]: [f32; 2]| [x - eyes[0], y - eyes[1]];
    let (mouth, nose) = (from_eyes(middle(mouth_left, mouth_right)), from_eyes(nose));
    let drop = mouth[0].hypot(mouth[1]).max(TINY);
    let sideways = (nose[0] * mouth[1] - nose[1] * mouth[0]) / drop;
    let upwards = NOSE_PART * drop - (nose[0] * mouth[0] + nose[1] * mouth[1]) / drop;
    let degrees = |moved: f32, height: f32| moved.atan2(height).to_degrees();
    [
        degrees(sideways, NOSE_HEIGHT * distance(left, right).max(TINY)),
        degrees(upwards, NOSE_HEIGHT / MOUTH_DROP * drop),
    ]
}

/// How well the two passes agree.
fn confidence(shape: &Shape, eye_distance: f32) -> f32 {
    let pairs = shape.points.iter().zip(&shape.first);
    let sum: f32 = pairs.map(|(&now, &before)| distance(now, before)).sum();
    let mean = sum / shape.points.len().max(1) as f32;
    (1.0 - mean / eye_distance.max(TINY) / DISAGREEMENT_MAX).clamp(0.0, 1.0)
}

/// How open an eye is, from its height by its width.
fn open(shape: &Shape, [outer, above, above_too, inner, below_too, below]: [usize; 6]) -> f32 {
    let between = |a: usize, b: usize| distance(shape.points[a], shape.points[b]);
    let height = (between(above, below) + between(above_too, below_too)) / 2.0;
    let ratio = height / between(outer, inner).max(TINY);
    ((ratio - EYE_SHUT) / (EYE_OPEN - EYE_SHUT)).clamp(0.0, 1.0)
}

fn distance(a: [f32; 2], b: [f32; 2]) -> f32 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

#[cfg(test)]
mod tests;
