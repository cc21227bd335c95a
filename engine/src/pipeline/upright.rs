//! Which way up a photograph is that does not say so itself.
//!
//! The detector cannot tell: of 400 photographs of LFW turned by a quarter it found a face in 81 %, upside
//! down in 98 %, and in 4 % one of these with a higher score than in the upright photograph. The landmarks
//! can: on a face that is not upright the network guesses, and guesses something else in its second pass.
//! Both passes are made anyway, so an upright portrait costs nothing more.

use super::Pipeline;
use super::face::{Candidate, acceptable};
use super::image::{Image, Turn};
use super::landmarks::Points;
use super::resample::{Axis, resample};
use crate::call::{Call, Step};
use crate::config::Limits;
use crate::error::Result;

/// How far the points of an upright face move between the two passes, at most: see [`Points::wander`]. Of
/// the same photographs, at face sizes of 34 to 100 px, 97 to 99 % of the upright faces keep below (the
/// others cost three more looks), and of those turned by 90, 180 or 270 degrees 0.3 %.
const WANDER_MAX: f32 = 0.014;

/// The same of a face that is upright only once the photograph is turned. It must also wander less than
/// half as far as the one found before: of the 400, all that were turned by three orientations would be
/// turned back by the least wander alone.
const TURNED_WANDER_MAX: f32 = 0.03;

/// The longer side of the copy on which the other orientations are tried, in pixels. The smallest face
/// that the detector finds in it is as large as what the landmark network takes.
const TRIED_SIDE_MAX: f64 = 1280.0;

/// A photograph the right way up, and what the detector sees in it as a whole.
pub(super) struct Upright {
    pub image: Image,
    /// By which it was turned, if it was.
    pub turn: Option<Turn>,
    /// The surest first, one a face.
    pub candidates: Vec<Candidate>,
    /// The largest acceptable one of these, with its points.
    lead: Option<(Candidate, Points)>,
}

impl Upright {
    /// The points of a candidate.
    pub fn five(&self, pipeline: &Pipeline, found: &Candidate) -> Result<[[f32; 2]; 5]> {
        match &self.lead {
            Some((lead, points)) if lead == found => Ok(points.five),
            _ => pipeline.landmarks.five(&self.image, &found.bounds),
        }
    }
}

impl Pipeline {
    /// Turns a photograph upright, if it does not say itself how it lies.
    pub(super) fn upright(&self, image: Image, call: &mut Call) -> Result<Upright> {
        let candidates = call.step(Step::Detect, || self.whole(&image))?;
        let believed = image.says_how_it_lies();
        let upright = |image, turn, candidates, lead| Upright {
            image,
            turn,
            candidates,
            lead,
        };
        if believed {
            return Ok(upright(image, None, candidates, None));
        }
        let lead = call.step(Step::Align, || self.lead(&image, &candidates, &self.limits))?;
        let wander = lead.map_or(f32::INFINITY, |(_, points)| points.wander);
        if wander <= WANDER_MAX {
            return Ok(upright(image, None, candidates, lead));
        }
        let Some(turn) = call.step(Step::Detect, || self.turn(&image, wander))? else {
            return Ok(upright(image, None, candidates, lead));
        };
        let image = image.turned(turn);
        let candidates = call.step(Step::Detect, || self.whole(&image))?;
        Ok(upright(image, Some(turn), candidates, None))
    }

    /// The turn after which the points of a face settle best, and better than they `wander` now.
    fn turn(&self, image: &Image, wander: f32) -> Result<Option<Turn>> {
        let (copy, scale) = smaller(image);
        let limits = Limits {
            face_side_px_min: (f64::from(self.limits.face_side_px_min) * scale) as u32,
            ..self.limits.clone()
        };
        let mut best = ((wander / 2.0).min(TURNED_WANDER_MAX), None);
        for turn in Turn::ALL {
            let turned = copy.turned(turn);
            let lead = self.lead(&turned, &self.whole(&turned)?, &limits)?;
            if let Some((_, points)) = lead.filter(|(_, points)| points.wander < best.0) {
                best = (points.wander, Some(turn));
            }
        }
        Ok(best.1)
    }

    /// The largest acceptable face, with its points.
    fn lead(
        &self,
        image: &Image,
        candidates: &[Candidate],
        limits: &Limits,
    ) -> Result<Option<(Candidate, Points)>> {
        acceptable(candidates, limits)
            .max_by(|a, b| a.bounds.area().total_cmp(&b.bounds.area()))
            .map(|lead| Ok((*lead, self.landmarks.of(image, &lead.bounds)?)))
            .transpose()
    }
}

/// A copy no larger than needed to try orientations on, and its scale.
fn smaller(image: &Image) -> (Image, f64) {
    let longer = image.width().max(image.height()) as f64;
    let scale = (TRIED_SIDE_MAX / longer).min(1.0);
    let axis = |length: usize| {
        let outputs = ((length as f64 * scale).round() as usize).max(1);
        Axis::area(0.0, length as f64 / outputs as f64, outputs, length)
    };
    let (across, down) = (axis(image.width()), axis(image.height()));
    let (width, height) = (across.len(), down.len());
    let mut rgb = Vec::with_capacity(width * height * 3);
    resample(image, &across, &down, |_, row| {
        rgb.extend(row.iter().map(|&value| (value + 0.5) as u8))
    });
    (Image::new(width, height, rgb), scale)
}
