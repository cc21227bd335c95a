//! Rectangles of a photograph at another size: one weighted sum a pixel, along each axis in turn.
//!
//! Coordinates count from the photograph's left and top edge, so that pixel `i` covers `i..i + 1` and
//! its centre is at `i + 0.5`, everywhere in the pipeline.

use super::image::Image;
use crate::manifest::{Colour, Input};
use crate::tensor::Tensor;
use likeness_types::wipe::Wiped;

/// What lies beyond the photograph.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Edge {
    /// Its outermost pixels, again and again.
    Repeat,
    /// Black.
    Black,
}

/// For each pixel of the output along one axis: consecutive pixels of the source, and their weights.
pub(super) struct Axis {
    taps: Vec<Tap>,
    weights: Vec<f32>,
}

/// `weights[at..at + count]` belong to the source pixels from `first` on.
#[derive(Clone, Copy)]
struct Tap {
    first: usize,
    at: usize,
    count: usize,
}

impl Axis {
    /// Linear interpolation between the two nearest centres: `outputs` pixels of `step` source pixels
    /// each, from `origin` on, in a source of `length` pixels.
    pub(crate) fn linear(origin: f64, step: f64, outputs: usize, length: usize, edge: Edge) -> Self {
        let last = length as f64 - 1.0;
        Self::new(outputs, length, |i, put| {
            let mut centre = origin + (i as f64 + 0.5) * step - 0.5;
            if edge == Edge::Repeat {
                centre = centre.clamp(0.0, last);
            }
            let (left, part) = (centre.floor(), centre - centre.floor());
            put(left, 1.0 - part);
            put(left + 1.0, part);
        })
    }

    /// The mean over the whole area that an output pixel covers, for shrinking without aliases; black
    /// outside. Parameters as for [`Axis::linear`].
    pub(crate) fn area(origin: f64, step: f64, outputs: usize, length: usize) -> Self {
        Self::new(outputs, length, |i, put| {
            let (from, to) = (origin + i as f64 * step, origin + (i as f64 + 1.0) * step);
            let mut pixel = from.floor().max(0.0);
            while pixel < to.min(length as f64) {
                put(pixel, (to.min(pixel + 1.0) - from.max(pixel)) / step);
                pixel += 1.0;
            }
        })
    }

    /// Weights of pixels outside the source, and of nothing, are left out.
    fn new(outputs: usize, length: usize, weigh: impl Fn(usize, &mut dyn FnMut(f64, f64))) -> Self {
        let mut axis = Self {
            taps: Vec::with_capacity(outputs),
            weights: Vec::with_capacity(2 * outputs),
        };
        for i in 0..outputs {
            let at = axis.weights.len();
            let mut first = 0;
            weigh(i, &mut |pixel, weight| {
                if weight > 0.0 && (0.0..length as f64).contains(&pixel) {
                    if axis.weights.len() == at {
                        first = pixel as usize;
                    }
                    axis.weights.push(weight as f32);
                }
            });
            axis.taps.push(Tap {
                first,
                at,
                count: axis.weights.len() - at,
            });
        }
        axis
    }

    /// Pixels of the output.
    pub(crate) fn len(&self) -> usize {
        self.taps.len()
    }

    fn weights(&self, tap: Tap) -> &[f32] {
        &self.weights[tap.at..][..tap.count]
    }

    /// The source pixels that any output needs.
    fn needed(&self) -> std::ops::Range<usize> {
        let used = || self.taps.iter().filter(|tap| tap.count > 0);
        let from = used().map(|tap| tap.first).min().unwrap_or(0);
        let to = used().map(|tap| tap.first + tap.count).max().unwrap_or(0);
        from..to
    }
}

/// Resamples the photograph and hands on each row: its number and its pixels, red, green, blue of 0 to 255.
pub(super) fn resample(image: &Image, across: &Axis, down: &Axis, mut put: impl FnMut(usize, &[f32])) {
    let columns = across.needed();
    let mut blended = Wiped::zeros(columns.len() * 3);
    let mut row = Wiped::zeros(across.len() * 3);
    for (y, &tap) in down.taps.iter().enumerate() {
        let source = |k: usize| &image.row(tap.first + k)[columns.start * 3..columns.end * 3];
        match *down.weights(tap) {
            [] => blended.fill(0.0),
            // The common case in one pass.
            [upper, lower] => {
                for ((sum, &a), &b) in blended.iter_mut().zip(source(0)).zip(source(1)) {
                    *sum = upper * f32::from(a) + lower * f32::from(b);
                }
            }
            ref weights => {
                blended.fill(0.0);
                for (k, &weight) in weights.iter().enumerate() {
                    for (sum, &value) in blended.iter_mut().zip(source(k)) {
                        *sum += weight * f32::from(value);
                    }
                }
            }
        }
        for (pixel, &tap) in row.as_chunks_mut::<3>().0.iter_mut().zip(&across.taps) {
            let start = tap.first.saturating_sub(columns.start);
            *pixel = match (blended[start * 3..].as_chunks::<3>().0, across.weights(tap)) {
                ([left, right, ..], &[a, b]) => [0, 1, 2].map(|c| a * left[c] + b * right[c]),
                (pixels, weights) => pixels.iter().zip(weights).fold([0.0; 3], |sum, (pixel, weight)| {
                    [0, 1, 2].map(|c| sum[c] + weight * pixel[c])
                }),
            };
        }
        put(y, &row);
    }
}

/// Writes a row of pixels into a model's input at row `y`, from column `x` on: in the planes' order, and
/// normalised.
pub(super) fn put_row(tensor: &mut Tensor, input: &Input, x: usize, y: usize, row: &[f32]) {
    let (width, plane) = (input.width(), input.width() * input.height());
    let (pixels, _) = row.as_chunks::<3>();
    let start = y * width + x;
    let factor = 1.0 / input.scale;
    let values = tensor.values_mut();
    let mut write = |number: usize, value: &dyn Fn(&[f32; 3]) -> f32| {
        let target = &mut values[number * plane + start..][..pixels.len()];
        for (target, pixel) in target.iter_mut().zip(pixels) {
            *target = (value(pixel) - input.mean) * factor;
        }
    };
    match input.colour {
        Colour::Rgb => [0, 1, 2]
            .into_iter()
            .enumerate()
            .for_each(|(number, c)| write(number, &|pixel| pixel[c])),
        Colour::Bgr => [2, 1, 0]
            .into_iter()
            .enumerate()
            .for_each(|(number, c)| write(number, &|pixel| pixel[c])),
        Colour::Grey => write(0, &|&[red, green, blue]| {
            0.299 * red + 0.587 * green + 0.114 * blue
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resampled(image: &Image, across: &Axis, down: &Axis) -> Vec<f32> {
        let mut red = Vec::new();
        resample(image, across, down, |_, row| red.extend(row.iter().step_by(3)));
        red
    }

    fn image(width: usize, height: usize, values: &[u8]) -> Image {
        Image::new(
            width,
            height,
            values.iter().flat_map(|&value| [value; 3]).collect(),
        )
    }

    #[test]
    fn the_same_size_is_the_same_picture() {
        let image = image(3, 2, &[1, 2, 3, 40, 50, 60]);
        let axis = |length| Axis::linear(0.0, 1.0, length, length, Edge::Repeat);
        assert_eq!(
            resampled(&image, &axis(3), &axis(2)),
            [1.0, 2.0, 3.0, 40.0, 50.0, 60.0]
        );
    }

    #[test]
    fn half_the_size_is_the_mean_of_four() {
        let image = image(4, 2, &[0, 10, 100, 110, 20, 30, 120, 130]);
        let linear = |outputs, length| Axis::linear(0.0, 2.0, outputs, length, Edge::Repeat);
        let area = |outputs, length| Axis::area(0.0, 2.0, outputs, length);
        assert_eq!(resampled(&image, &linear(2, 4), &linear(1, 2)), [15.0, 115.0]);
        assert_eq!(resampled(&image, &area(2, 4), &area(1, 2)), [15.0, 115.0]);
    }

    #[test]
    fn twice_the_size_repeats_the_edge_or_fades_to_black() {
        let image = image(2, 1, &[0, 100]);
        let one = || Axis::linear(0.0, 1.0, 1, 1, Edge::Repeat);
        let across = |edge| Axis::linear(0.0, 0.5, 4, 2, edge);
        assert_eq!(
            resampled(&image, &across(Edge::Repeat), &one()),
            [0.0, 25.0, 75.0, 100.0]
        );
        assert_eq!(
            resampled(&image, &across(Edge::Black), &one()),
            [0.0, 25.0, 75.0, 75.0]
        );
    }

    #[test]
    fn parts_of_pixels_count_in_part_and_the_outside_is_black() {
        let image = image(3, 1, &[30, 60, 90]);
        let one = || Axis::area(0.0, 1.0, 1, 1);
        assert_eq!(
            resampled(&image, &Axis::area(0.0, 1.5, 2, 3), &one()),
            [40.0, 80.0]
        );
        assert_eq!(
            resampled(&image, &Axis::area(-3.0, 3.0, 3, 3), &one()),
            [0.0, 60.0, 0.0]
        );
        assert_eq!(
            resampled(&image, &Axis::linear(50.0, 1.0, 2, 3, Edge::Black), &one()),
            [0.0, 0.0]
        );
    }
}
