//! Faces in a photograph, and the choice of the one that is meant.

use super::image::Turn;
use crate::quality::{Quality, QualityLevel};
use likeness_types::config::Limits;
use likeness_types::error::{Rejection, Result};

/// Detection score from which a box is mentioned at all (0 to 1). Between this and the limit
/// [`Limits::face_score_min`] a face is reported as unsure; below, a photograph is full of "faces".
pub(super) const CANDIDATE_SCORE_MIN: f32 = 0.3;

/// A rectangle in pixels of the upright photograph, from its left and top edge. It may reach a little
/// beyond the photograph where a face does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// The left edge.
    pub left: f32,
    /// The upper edge.
    pub top: f32,
    /// The right edge.
    pub right: f32,
    /// The lower edge.
    pub bottom: f32,
}

impl Bounds {
    /// In pixels.
    pub fn width(&self) -> f32 {
        self.right - self.left
    }

    /// In pixels.
    pub fn height(&self) -> f32 {
        self.bottom - self.top
    }

    /// x and y.
    pub fn centre(&self) -> [f32; 2] {
        [(self.left + self.right) / 2.0, (self.top + self.bottom) / 2.0]
    }

    pub(super) fn area(&self) -> f32 {
        self.width() * self.height()
    }

    /// From a picture that was turned to the one of `size` (width and height) before.
    pub(super) fn turned_back(&self, turn: Turn, [width, height]: [f32; 2]) -> Self {
        let Self {
            left,
            top,
            right,
            bottom,
        } = *self;
        let [left, top, right, bottom] = match turn {
            Turn::Quarter => [top, height - right, bottom, height - left],
            Turn::Half => [width - right, height - bottom, width - left, height - top],
            Turn::ThreeQuarters => [width - bottom, left, width - top, right],
        };
        Self {
            left,
            top,
            right,
            bottom,
        }
    }

    fn shared(&self, other: &Self) -> f32 {
        let width = self.right.min(other.right) - self.left.max(other.left);
        let height = self.bottom.min(other.bottom) - self.top.max(other.top);
        width.max(0.0) * height.max(0.0)
    }

    /// Intersection over union, 0 to 1.
    pub(super) fn overlap(&self, other: &Self) -> f32 {
        let shared = self.shared(other);
        shared / (self.area() + other.area() - shared)
    }

    /// The part of this one that lies in the other, 0 to 1.
    pub(super) fn part_in(&self, other: &Self) -> f32 {
        self.shared(other) / self.area()
    }
}

/// A face as the pipeline found it.
#[derive(Debug, Clone, PartialEq)]
pub struct Face {
    /// Where it is.
    pub bounds: Bounds,
    /// Left eye, right eye (as seen in the photograph), tip of the nose, left and right corner of the
    /// mouth: x and y in pixels of the upright photograph.
    pub points: [[f32; 2]; 5],
    /// The detector's certainty, 0 to 1.
    pub score: f32,
    /// What was measured of it.
    pub quality: Quality,
    /// Why this face is neither enrolled nor searched, if it is not.
    pub rejection: Option<Rejection>,
    /// By how much the photograph was turned clockwise to be upright (0, 90, 180 or 270), beyond what it
    /// said of itself. All coordinates are those of the turned photograph.
    pub rotated_degrees: u32,
}

/// What a photograph shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Detection {
    /// Of the photograph, upright, in pixels.
    pub width: u32,
    /// Of the photograph, upright, in pixels.
    pub height: u32,
    /// The surest first.
    pub faces: Vec<Face>,
}

/// Every face of a photograph, the surest first, and what was made of those that are acceptable.
pub struct EveryFace<T> {
    /// Acceptable faces.
    pub accepted: Vec<(T, Face)>,
    /// The others, each with its rejection.
    pub rejected: Vec<Face>,
}

/// Which face is meant where there may be several.
///
/// Only acceptable faces count: sure enough and large enough. One that is too small to be enrolled is
/// not the one that is meant, so a passer-by far away spoils no portrait. Nor is one that only shows
/// where the photograph is searched more finely than it takes to find another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choose {
    /// The only one; several are refused.
    Only,
    /// The one with the largest box.
    Largest,
    /// The one whose box centre is nearest the photograph's, for evaluation on collections whose
    /// photographs are centred on the person they are named after.
    NearestCentre,
}

/// What is asked of a photograph: which face is meant, and how good it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Which face.
    pub choose: Choose,
    /// How good. It has no say in the choice, or a bad photograph of two people would silently become a good
    /// one of whoever is nearer.
    pub level: QualityLevel,
}

/// A box that the detector found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    pub bounds: Bounds,
    pub score: f32,
}

impl Candidate {
    /// Why this one is not acceptable, if it is not.
    pub fn rejection(&self, limits: &Limits) -> Option<Rejection> {
        let Limits {
            face_score_min: score_min,
            face_side_px_min: side_px_min,
            ..
        } = *limits;
        if self.score < score_min {
            return Some(Rejection::LowConfidence {
                score: self.score,
                score_min,
            });
        }
        let side_px = self.bounds.width().min(self.bounds.height()) as u32;
        (side_px < side_px_min).then_some(Rejection::FaceTooSmall { side_px, side_px_min })
    }
}

/// Those that would be enrolled.
pub(super) fn acceptable<'a>(
    candidates: &'a [Candidate],
    limits: &Limits,
) -> impl Iterator<Item = &'a Candidate> {
    candidates.iter().filter(|one| one.rejection(limits).is_none())
}

impl Choose {
    /// This face, if it is so good.
    pub const fn at(self, level: QualityLevel) -> Wanted {
        Wanted { choose: self, level }
    }

    /// Chooses among candidates, the surest first, in a photograph of `size` (width and height).
    ///
    /// # Errors
    /// A [`Rejection`]: several faces where one is required, or none. If none is acceptable the reason
    /// is that of the surest one that is too small, else of the surest one, else that there is none.
    pub fn among(self, candidates: &[Candidate], size: [f32; 2], limits: &Limits) -> Result<Candidate> {
        let acceptable: Vec<_> = acceptable(candidates, limits).collect();
        let from_centre = |one: &Candidate| {
            let [x, y] = one.bounds.centre();
            (x - size[0] / 2.0).hypot(y - size[1] / 2.0)
        };
        let chosen = match self {
            Self::Only if acceptable.len() > 1 => {
                return Err(Rejection::SeveralFaces {
                    found: acceptable.len(),
                }
                .into());
            }
            Self::Only => acceptable.first().copied(),
            Self::Largest => acceptable
                .into_iter()
                .max_by(|a, b| a.bounds.area().total_cmp(&b.bounds.area())),
            Self::NearestCentre => acceptable
                .into_iter()
                .min_by(|a, b| from_centre(a).total_cmp(&from_centre(b))),
        };
        // The surest come first, so a face that is only too small is met before one that is unsure.
        let reason = || {
            candidates
                .iter()
                .find_map(|one| one.rejection(limits))
                .unwrap_or(Rejection::NoFace)
        };
        chosen.copied().ok_or_else(|| reason().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use likeness_types::error::Error;

    const SIZE: [f32; 2] = [400.0, 300.0];

    fn candidate(left: f32, top: f32, side: f32, score: f32) -> Candidate {
        let bounds = Bounds {
            left,
            top,
            right: left + side,
            bottom: top + side,
        };
        Candidate { bounds, score }
    }

    fn chosen(choose: Choose, candidates: &[Candidate]) -> Result<f32, Rejection> {
        match choose.among(candidates, SIZE, &Limits::default()) {
            Ok(found) => Ok(found.bounds.left),
            Err(Error::Photo(rejection)) => Err(rejection),
            Err(other) => panic!("expected a rejection, found {other}"),
        }
    }

    #[test]
    fn a_box_is_turned_back_to_where_it_was() {
        let wide = [400.0, 300.0];
        let Candidate { bounds, .. } = candidate(10.0, 20.0, 30.0, 0.9);
        // Turned clockwise, what was at the left is above, and what was above at the right.
        let quarter = bounds.turned_back(Turn::Quarter, wide);
        assert_eq!([quarter.left, quarter.bottom], [20.0, 290.0]);
        let half = bounds.turned_back(Turn::Half, wide);
        assert_eq!([half.right, half.bottom], [390.0, 280.0]);
        assert_eq!(half.turned_back(Turn::Half, wide), bounds);
        let back = quarter.turned_back(Turn::ThreeQuarters, [300.0, 400.0]);
        assert_eq!(back, bounds);
    }

    #[test]
    fn several_faces_are_refused_where_one_is_required() {
        let two = [
            candidate(10.0, 10.0, 100.0, 0.99),
            candidate(200.0, 10.0, 50.0, 0.9),
        ];
        assert_eq!(
            chosen(Choose::Only, &two),
            Err(Rejection::SeveralFaces { found: 2 })
        );
        assert_eq!(chosen(Choose::Only, &two[..1]), Ok(10.0));
    }

    #[test]
    fn the_largest_and_the_most_central_face_can_be_asked_for() {
        let two = [
            candidate(180.0, 130.0, 40.0, 0.9),
            candidate(10.0, 10.0, 100.0, 0.8),
        ];
        assert_eq!(chosen(Choose::Largest, &two), Ok(10.0));
        assert_eq!(chosen(Choose::NearestCentre, &two), Ok(180.0));
    }

    #[test]
    fn a_face_too_small_to_be_enrolled_is_not_the_one_that_is_meant() {
        let passer_by = [
            candidate(10.0, 10.0, 20.0, 0.99),
            candidate(200.0, 10.0, 80.0, 0.9),
        ];
        assert_eq!(chosen(Choose::Only, &passer_by), Ok(200.0));
        let alone = Rejection::FaceTooSmall {
            side_px: 20,
            side_px_min: 34,
        };
        assert_eq!(chosen(Choose::Only, &passer_by[..1]), Err(alone.clone()));
        let and_unsure = [passer_by[0], candidate(200.0, 10.0, 80.0, 0.5)];
        assert_eq!(chosen(Choose::Largest, &and_unsure), Err(alone));
    }

    #[test]
    fn an_unsure_face_and_no_face_are_different_reasons() {
        let unsure = Rejection::LowConfidence {
            score: 0.5,
            score_min: 0.65,
        };
        assert_eq!(
            chosen(Choose::Only, &[candidate(10.0, 10.0, 100.0, 0.5)]),
            Err(unsure)
        );
        assert_eq!(chosen(Choose::Only, &[]), Err(Rejection::NoFace));
    }
}
