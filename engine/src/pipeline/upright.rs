//! Which way up a photograph is that does not say so itself.
//!
//! The detector cannot tell: of 400 photographs of LFW turned by a quarter it found a face in 81 %, upside
//! down in 98 %, and in 4 % one of these with a higher score than in the upright photograph. The landmarks
//! can: on a face that is not upright the network guesses, and guesses something else in its second pass.
//! Both passes are made anyway, so an upright portrait costs nothing more.

use super::Pipeline;
use super::face::{Candidate, acceptable};
use super::image::{Image, Turn};
use super::landmarks::Shape;
use super::resample::{Axis, resample};
use crate::call::{Call, Step};
use crate::config::Limits;
use crate::error::Result;

/// How far the points of an upright face move between the two passes, at most: see [`Shape::wander`]. Of
/// the same photographs, at face sizes of 34 to 100 px, 97 to 99 % of the upright faces keep below (the
/// others cost three more looks), and of those turned by 90, 180 or 270 degrees 0.3 %. The test
/// `where_points_settle` measures it on a folder: of a tenth of LFW, as it is, 98.6 and 0.1 %.
const WANDER_MAX: f32 = 0.014;

/// The same of a face that is upright only once the photograph is turned. It must also wander less than
/// half as far as the one found before: of the 400, all that were turned by three orientations would be
/// turned back by the least wander alone.
const TURNED_WANDER_MAX: f32 = 0.03;

/// Between the eyes of a face that is upright only once the photograph is turned, in sides of the crop, at
/// least: a face half hidden makes its own points wander, and must not lose to a pattern that has none.
const TURNED_EYES_MIN: f32 = 0.15;

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
    /// Candidates whose points are known.
    placed: Vec<(Candidate, Shape)>,
}

impl Upright {
    /// The points of a candidate; the network is asked once.
    pub fn place(&mut self, pipeline: &Pipeline, found: &Candidate) -> Result<Shape> {
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
    pub(super) fn upright(&self, image: Image, call: &mut Call) -> Result<Upright> {
        let candidates = call.step(Step::Detect, || self.whole(&image))?;
        let believed = image.says_how_it_lies();
        let upright = |image, turn, candidates, lead: Option<_>| Upright {
            image,
            turn,
            candidates,
            placed: lead.into_iter().collect(),
        };
        if believed {
            return Ok(upright(image, None, candidates, None));
        }
        let lead = call.step(Step::Align, || self.lead(&image, &candidates, &self.limits))?;
        let wander = lead.as_ref().map_or(f32::INFINITY, |(_, shape)| shape.wander());
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
            let face = lead.filter(|(_, shape)| shape.eyes_apart() >= TURNED_EYES_MIN);
            let wander = face.map_or(f32::INFINITY, |(_, shape)| shape.wander());
            if wander < best.0 {
                best = (wander, Some(turn));
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
    ) -> Result<Option<(Candidate, Shape)>> {
        acceptable(candidates, limits)
            .max_by(|a, b| a.bounds.area().total_cmp(&b.bounds.area()))
            .map(|lead| Ok((*lead, self.landmarks.find(image, &lead.bounds)?)))
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::manifest::{DEFAULT_MANIFEST, Manifest};
    use crate::model::Model;
    use crate::tensor::Tensor;
    use crate::testing::{Fake, asset};

    /// Points that stay where they are if the crop is lighter above than below, and wander otherwise.
    struct LightFromAbove(Arc<Mutex<usize>>);

    impl Model for LightFromAbove {
        fn run(&self, input: &Tensor) -> Result<Vec<Tensor>> {
            *self.0.lock().expect("no test panics here") += 1;
            let (above, below) = input.values().split_at(32 * 64);
            let sum = |half: &[f32]| half.iter().sum::<f32>();
            // The crop around points that fill 1/1.1 of a crop is the same crop.
            let reach = if sum(above) > sum(below) { 0.5 / 1.1 } else { 0.2 };
            let points: Vec<_> = (0..68)
                .flat_map(|i| {
                    // The left eye in one corner, the right one in the other.
                    let left = (36..42).contains(&i) || (!(42..48).contains(&i) && i % 2 == 0);
                    [if left { 0.5 - reach } else { 0.5 + reach }; 2]
                })
                .collect();
            Ok(vec![Tensor::from_slice(&[1, 136], &points).expect("fits")])
        }
    }

    /// A pipeline with a face in the middle of every picture, and how often each network was asked.
    struct Counted {
        pipeline: Pipeline,
        detected: Arc<Mutex<Vec<Vec<f32>>>>,
        placed: Arc<Mutex<usize>>,
    }

    fn counted() -> Counted {
        let boxes = [0.375, 0.25, 0.625, 0.75];
        let detector = Fake::answering(&[(&[1, 1, 2], &[0.1, 0.9]), (&[1, 1, 4], &boxes)]);
        let (detected, placed) = (detector.asked.clone(), Arc::default());
        let landmarks = LightFromAbove(Arc::clone(&placed));
        let manifest = Manifest::parse(DEFAULT_MANIFEST).expect("valid");
        let models: [Box<dyn Model>; 3] = [
            Box::new(detector),
            Box::new(landmarks),
            Box::new(Fake::answering(&[])),
        ];
        Counted {
            pipeline: Pipeline::new(&manifest, models, Limits::default()),
            detected,
            placed,
        }
    }

    /// White above, black below.
    fn lit() -> Image {
        let half = 320 * 120 * 3;
        Image::new(320, 240, [vec![255; half], vec![0; half]].concat())
    }

    #[test]
    fn a_photograph_is_turned_until_the_points_settle() {
        for (lying, expected) in [
            (Turn::Quarter, Turn::ThreeQuarters),
            (Turn::Half, Turn::Half),
            (Turn::ThreeQuarters, Turn::Quarter),
        ] {
            let upright = counted()
                .pipeline
                .upright(lit().turned(lying), &mut Call::default())
                .expect("runs");
            assert_eq!(upright.turn, Some(expected));
            assert_eq!((upright.image.width(), upright.image.height()), (320, 240));
            assert_eq!((upright.image.row(0)[0], upright.image.row(239)[0]), (255, 0));
        }
    }

    #[test]
    fn an_upright_face_costs_one_look_and_two_passes() {
        let Counted {
            pipeline,
            detected,
            placed,
        } = counted();
        let mut upright = pipeline.upright(lit(), &mut Call::default()).expect("runs");
        assert_eq!(upright.turn, None);
        let found = upright.candidates[0];
        upright.place(&pipeline, &found).expect("runs");
        let looks = detected.lock().expect("nobody panicked").len();
        assert_eq!((looks, *placed.lock().expect("nobody panicked")), (1, 2));
    }

    #[test]
    fn a_photograph_in_which_no_points_settle_stays_as_it_is() {
        let Counted {
            pipeline, detected, ..
        } = counted();
        let dark = Image::new(320, 240, vec![0; 320 * 240 * 3]);
        let upright = pipeline.upright(dark, &mut Call::default()).expect("runs");
        assert_eq!(upright.turn, None);
        assert_eq!(detected.lock().expect("nobody panicked").len(), 4);
    }

    #[test]
    fn the_points_of_real_faces_settle_upright_and_nowhere_else() {
        let library = asset("runtime/libonnxruntime.so");
        let pipeline = Pipeline::load(&asset("models"), &library, Limits::default(), 1).expect("loads");
        for name in [
            "astronaut.png",
            "biden.jpg",
            "obama.jpg",
            "obama2.jpg",
            "obama3.jpg",
            "32bit.png",
        ] {
            let photo = fs::read(asset("photographs").join(name)).expect("`make assets` fetched it");
            let image = Image::decode(&photo, &Limits::default()).expect("decodes");
            let wander = |image: &Image| {
                let candidates = pipeline.whole(image).expect("runs");
                let lead = pipeline.lead(image, &candidates, &pipeline.limits).expect("runs");
                lead.map_or(f32::INFINITY, |(_, shape)| shape.wander())
            };
            let upright = wander(&image);
            assert!(upright <= WANDER_MAX, "{name}: {upright}");
            for turn in Turn::ALL {
                let turned = wander(&image.turned(turn));
                assert!(turned > 1.5 * WANDER_MAX, "{name}, {turn:?}: {turned}");
            }
        }
    }

    /// What [`WANDER_MAX`] rests on. The folder holds `<person>/<photograph>`, all upright.
    #[test]
    #[ignore = "measures photographs of a folder named by LIKENESS_PORTRAITS"]
    fn where_points_settle() {
        let folder = std::env::var_os("LIKENESS_PORTRAITS").expect("LIKENESS_PORTRAITS names a folder");
        let library = asset("runtime/libonnxruntime.so");
        let pipeline = Pipeline::load(&asset("models"), &library, Limits::default(), 1).expect("loads");
        let (mut upright, mut turned) = (Vec::new(), Vec::new());
        for person in fs::read_dir(folder).expect("a folder") {
            for photo in fs::read_dir(person.expect("listed").path()).expect("a folder for each person") {
                let bytes = fs::read(photo.expect("listed").path()).expect("a file");
                let image = Image::decode(&bytes, &Limits::default()).expect("decodes");
                let wander = |image: &Image| {
                    let candidates = pipeline.whole(image).expect("runs");
                    let lead = pipeline.lead(image, &candidates, &pipeline.limits).expect("runs");
                    lead.map_or(f32::INFINITY, |(_, shape)| shape.wander())
                };
                upright.push(wander(&image));
                turned.extend(Turn::ALL.map(|turn| wander(&image.turned(turn))));
            }
        }
        let settled = |all: &[f32]| {
            let settled = all.iter().filter(|wander| **wander <= WANDER_MAX).count();
            100.0 * settled as f64 / all.len() as f64
        };
        let (upright, turned) = (settled(&upright), settled(&turned));
        println!("settled: {upright:.2} % of the upright photographs, {turned:.2} % of the turned ones");
        assert!(upright > turned);
    }
}
