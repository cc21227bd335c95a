//! The orientation of a photograph without one in its metadata.
//!
//! The detector cannot tell: it finds faces in photographs that lie on their side too, upside down in nearly all, and
//! of some it is surer then (`where_points_settle` counts them). The landmarks can: on a face that is not upright the network guesses, and guesses something else in its second pass.
//! Both passes are made anyway, so an upright portrait costs nothing more. A doubtful one costs a third pass, and only
//! if that leaves doubts is the photograph looked at from its other sides.

use std::sync::Arc;

use super::Pipeline;
use super::face::{Bounds, Candidate, acceptable};
use super::image::{Image, Turn};
use super::landmarks::Shape;
use super::resample::{Axis, resample};
use super::texture::Texture;
use likeness_types::config::Limits;
use likeness_types::error::Result;
use likeness_types::span::{Span, Step};

/// How far the points of an upright face move between the two passes, at most: see [`Shape::wander`]. Most upright
/// faces keep below, and next to none of those turned by 90, 180 or 270 degrees. What this and the next numbers
/// rest on, the test `where_points_settle` measures on a folder; `docs/detection.md` has the figures.
const WANDER_MAX: f32 = 0.014;

/// A face whose points move by no more than this is doubtful, and worth a third pass: a third of the upright
/// ones that do not settle in two do in three.
const DOUBTFUL_WANDER_MAX: f32 = 0.03;
/// How far the points may move in that third pass: upright they come to rest, and otherwise they go on. With 0.006,
/// and 0.035 above, one photograph in a thousand that stood on its head was taken for upright.
const THIRD_WANDER_MAX: f32 = 0.005;
/// What the detector must be sure of a face that needed three, 0 to 1: of upright faces it is.
const THIRD_SCORE_MIN: f32 = 0.99;

/// How far points may move of a face that is upright only once the photograph is turned. It must also wander less than
/// half as far as the one found before, so that a face that is hard to place is not turned for a little less.
const TURNED_WANDER_MAX: f32 = 0.03;

/// Between the eyes of a face that does not settle as it is, in sides of the crop, at least: a face half hidden
/// makes its own points wander, and must not lose to a pattern that has none.
const EYES_MIN: f32 = 0.15;

/// What the landmarks of a face are looked for in: a part of the photograph as large as so many of the face's longer
/// sides, whose own longer side is at most so many pixels. The network takes 64 of 0.9 heights.
const PART_FACES: f32 = 2.0;
const PART_FACE_PX_MAX: f32 = 128.0;

/// A photograph the right way up, and what the detector sees in it as a whole.
pub(super) struct Upright {
    pub image: Image,
    /// By which it was turned, if it was.
    pub turn: Option<Turn>,
    /// The surest first, one a face.
    pub candidates: Vec<Candidate>,
    /// Candidates whose points are known.
    placed: Vec<(Candidate, Shape)>,
    /// Where it shows anything, once that is known.
    texture: Option<Arc<Texture>>,
}

impl Upright {
    /// Where the photograph shows anything.
    pub(crate) fn texture(&mut self, span: &mut Span) -> Result<Arc<Texture>> {
        if let Some(texture) = &self.texture {
            return Ok(Arc::clone(texture));
        }
        let texture = Arc::new(span.step(Step::Detect, || Ok(Texture::of(&self.image)))?);
        self.texture = Some(Arc::clone(&texture));
        Ok(texture)
    }

    /// The points of a candidate; the network is asked once.
    pub(crate) fn place(&mut self, pipeline: &Pipeline, found: &Candidate) -> Result<Shape> {
        if let Some((_, shape)) = self.placed.iter().find(|(known, _)| known == found) {
            return Ok(shape.clone());
        }
        let shape = pipeline.landmarks.find(&self.image, &found.bounds)?;
        self.placed.push((*found, shape.clone()));
        Ok(shape)
    }
}

impl Pipeline {
    /// Turns a photograph upright, if it does not say itself how it lies.
    pub(super) fn upright(&self, image: Image, span: &mut Span) -> Result<Upright> {
        let candidates = span.step(Step::Detect, || self.whole(&image))?;
        let believed = image.says_how_it_lies();
        let mut upright = Upright {
            image,
            turn: None,
            candidates,
            placed: Vec::new(),
            texture: None,
        };
        if believed {
            return Ok(upright);
        }
        let lead = span.step(Step::Align, || self.lead(&upright.image, &upright.candidates))?;
        let stands = span.step(Step::Align, || self.stands(&upright.image, lead.as_ref()))?;
        let wander = lead.as_ref().map_or(f32::INFINITY, |(_, shape)| shape.wander());
        let found = lead.is_some();
        upright.placed.extend(lead);
        // Where nothing is to be seen, nothing lies on its side.
        if stands || !found && !upright.texture(span)?.shows_anything() {
            return Ok(upright);
        }
        let Some(turn) = self.turn(&upright.image, wander, span)? else {
            return Ok(upright);
        };
        let image = span.step(Step::Detect, || Ok(upright.image.turned(turn)))?;
        drop(upright);
        span.give_way(Step::Detect)?;
        let candidates = span.step(Step::Detect, || self.whole(&image))?;
        Ok(Upright {
            image,
            turn: Some(turn),
            candidates,
            placed: Vec::new(),
            texture: None,
        })
    }

    /// Whether this face is upright for certain: its points settle in two passes, or come to rest in a third.
    fn stands(&self, image: &Image, lead: Option<&(Candidate, Shape)>) -> Result<bool> {
        let Some((found, shape)) = lead else {
            return Ok(false);
        };
        let wander = shape.wander();
        if wander <= WANDER_MAX {
            return Ok(true);
        }
        let doubtful =
            wander <= DOUBTFUL_WANDER_MAX && found.score >= THIRD_SCORE_MIN && shape.eyes_apart() >= EYES_MIN;
        Ok(doubtful && self.landmarks.wander_again(image, shape)? <= THIRD_WANDER_MAX)
    }

    /// The turn after which the points of a face settle best, and better than they `wander` now.
    fn turn(&self, image: &Image, wander: f32, span: &mut Span) -> Result<Option<Turn>> {
        span.give_way(Step::Detect)?;
        let (copy, scale) = span.step(Step::Detect, || Ok(smaller(image, self.detector.input())))?;
        let limits = Limits {
            face_side_px_min: (f64::from(self.limits.face_side_px_min) * scale) as u32,
            ..self.limits.clone()
        };
        let size = [copy.width() as f32, copy.height() as f32];
        let mut best = ((wander / 2.0).min(TURNED_WANDER_MAX), None);
        for turn in Turn::ALL {
            span.give_way(Step::Detect)?;
            // Faces are looked for on the small copy, which holds all that the detector sees; points on the original.
            let candidates = span.step(Step::Detect, || self.whole(&copy.turned(turn)))?;
            let Some(found) = largest(&candidates, &limits) else {
                continue;
            };
            let lying = found.bounds.turned_back(turn, size);
            let (part, bounds) = part(image, &lying, scale);
            let part = part.turned(turn);
            let upright = upright_in(bounds, turn);
            let shape = span.step(Step::Detect, || self.landmarks.find(&part, &upright))?;
            if shape.eyes_apart() >= EYES_MIN && shape.wander() < best.0 {
                best = (shape.wander(), Some(turn));
            }
        }
        Ok(best.1)
    }

    /// The largest acceptable face, with its points.
    fn lead(&self, image: &Image, candidates: &[Candidate]) -> Result<Option<(Candidate, Shape)>> {
        largest(candidates, &self.limits)
            .map(|lead| Ok((*lead, self.landmarks.find(image, &lead.bounds)?)))
            .transpose()
    }
}

/// The largest acceptable face.
fn largest<'a>(candidates: &'a [Candidate], limits: &Limits) -> Option<&'a Candidate> {
    acceptable(candidates, limits).max_by(|a, b| a.bounds.area().total_cmp(&b.bounds.area()))
}

/// A copy no larger than the detector's input, and its scale.
fn smaller(image: &Image, input: [usize; 2]) -> (Image, f64) {
    let longer = image.width().max(image.height()) as f64;
    let scale = (input[0].max(input[1]) as f64 / longer).min(1.0);
    let side = |length: usize| ((length as f64 * scale).round() as usize).max(1);
    let sides = [side(image.width()), side(image.height())];
    let steps = [
        image.width() as f64 / sides[0] as f64,
        image.height() as f64 / sides[1] as f64,
    ];
    (copied(image, [0.0; 2], steps, sides), scale)
}

/// The part of the photograph around a face, in its middle; the face's box in a copy of that `scale` is given, and that
/// in the part answered.
fn part(image: &Image, in_copy: &Bounds, scale: f64) -> (Image, Bounds) {
    let [width, height] = [in_copy.width(), in_copy.height()].map(|side| f64::from(side) / scale);
    let longer = width.max(height);
    let step = (longer / f64::from(PART_FACE_PX_MAX)).max(1.0);
    let side = ((longer * f64::from(PART_FACES) / step).ceil() as usize).max(1);
    let middle = side as f64 / 2.0;
    let origin = in_copy
        .centre()
        .map(|centre| f64::from(centre) / scale - middle * step);
    let half = [width, height].map(|length| length / step / 2.0);
    let bounds = Bounds {
        left: (middle - half[0]) as f32,
        top: (middle - half[1]) as f32,
        right: (middle + half[0]) as f32,
        bottom: (middle + half[1]) as f32,
    };
    (copied(image, origin, [step; 2], [side; 2]), bounds)
}

/// A box in the middle of a square, once that is turned.
fn upright_in(bounds: Bounds, turn: Turn) -> Bounds {
    if turn == Turn::Half {
        return bounds;
    }
    Bounds {
        left: bounds.top,
        top: bounds.left,
        right: bounds.bottom,
        bottom: bounds.right,
    }
}

/// A rectangle of the photograph, from `origin` on, as so many pixels of `steps` photograph pixels each; black outside.
pub(super) fn copied(image: &Image, origin: [f64; 2], steps: [f64; 2], sides: [usize; 2]) -> Image {
    let across = Axis::area(origin[0], steps[0], sides[0], image.width());
    let down = Axis::area(origin[1], steps[1], sides[1], image.height());
    let mut rgb = Vec::with_capacity(sides[0] * sides[1] * 3);
    resample(image, &across, &down, |_, row| {
        rgb.extend(row.iter().map(|&value| (value + 0.5) as u8))
    });
    Image::new(sides[0], sides[1], rgb)
}

#[cfg(test)]
mod tests;
