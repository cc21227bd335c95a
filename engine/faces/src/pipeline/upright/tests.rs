//! Which way up: with networks that are computed by hand, on the sample photographs, and, when asked, on a folder.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use crate::manifest::{DEFAULT_MANIFEST, Manifest, ModelSpec};
use crate::model::{Model, OnnxModel};
use crate::tensor::Tensor;
use crate::testing::{Fake, asset, runtime};

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

/// Points that move by so much of a crop's side from pass to pass.
struct Moving(Arc<Mutex<usize>>, [f32; 3]);

impl Model for Moving {
    fn run(&self, _: &Tensor) -> Result<Vec<Tensor>> {
        let mut asked = self.0.lock().expect("no test panics here");
        let moved = self.1.get(*asked).copied().unwrap_or(0.2);
        *asked += 1;
        let reach = 0.5 / 1.1;
        let points: Vec<_> = (0..68)
            .flat_map(|i| {
                let left = (36..42).contains(&i) || (!(42..48).contains(&i) && i % 2 == 0);
                let at = if left { 0.5 - reach } else { 0.5 + reach };
                [at + moved, at]
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
    let placed = Arc::default();
    counting(0.9, Box::new(LightFromAbove(Arc::clone(&placed))), placed)
}

fn counting(score: f32, landmarks: Box<dyn Model>, placed: Arc<Mutex<usize>>) -> Counted {
    let boxes = [0.375, 0.25, 0.625, 0.75];
    let detector = Fake::answering(&[(&[1, 1, 2], &[1.0 - score, score]), (&[1, 1, 4], &boxes)]);
    let detected = detector.asked.clone();
    let manifest = Manifest::parse(DEFAULT_MANIFEST).expect("valid");
    let models: [Box<dyn Model>; 3] = [Box::new(detector), landmarks, Box::new(Fake::answering(&[]))];
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
            .upright(lit().turned(lying), &mut Span::default())
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
    let mut upright = pipeline.upright(lit(), &mut Span::default()).expect("runs");
    assert_eq!(upright.turn, None);
    let found = upright.candidates[0];
    upright.place(&pipeline, &found).expect("runs");
    let looks = detected.lock().expect("nobody panicked").len();
    assert_eq!((looks, *placed.lock().expect("nobody panicked")), (1, 2));
}

/// Looks, and passes of landmarks, on a face of which the detector is so sure.
fn cost(score: f32, moved: [f32; 3]) -> (usize, usize) {
    let placed = Arc::default();
    let landmarks = Box::new(Moving(Arc::clone(&placed), moved));
    let counted = counting(score, landmarks, placed);
    let upright = counted
        .pipeline
        .upright(lit(), &mut Span::default())
        .expect("runs");
    assert_eq!(upright.turn, None);
    let looks = counted.detected.lock().expect("nobody panicked").len();
    (looks, *counted.placed.lock().expect("nobody panicked"))
}

#[test]
fn a_doubtful_face_that_comes_to_rest_in_a_third_pass_costs_that_pass_and_no_look() {
    assert_eq!(cost(0.995, [0.0, 0.013, 0.0]), (1, 2));
    assert_eq!(cost(0.995, [0.0, 0.025, 0.004]), (1, 3));
    // Nor does it count as settled where one of these is missing: each other side costs a look and two passes.
    assert_eq!(cost(0.995, [0.0, 0.025, 0.01]), (4, 9));
    assert_eq!(cost(0.98, [0.0, 0.025, 0.004]), (4, 8));
    assert_eq!(cost(0.995, [0.0, 0.04, 0.0]), (4, 8));
}

#[test]
fn a_photograph_in_which_no_points_settle_stays_as_it_is() {
    let Counted {
        pipeline, detected, ..
    } = counted();
    let dark = Image::new(320, 240, vec![0; 320 * 240 * 3]);
    let upright = pipeline.upright(dark, &mut Span::default()).expect("runs");
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
            let lead = pipeline.lead(image, &candidates).expect("runs");
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

/// A network, and how often it was asked.
struct Asked(OnnxModel, Arc<AtomicUsize>);

impl Model for Asked {
    fn run(&self, input: &Tensor) -> Result<Vec<Tensor>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.run(input)
    }
}

/// The default models, with the smallest faces that may be asked for: a third of a photograph has some below the
/// default. And how often detector and landmarks were asked.
fn asked() -> (Pipeline, [Arc<AtomicUsize>; 2]) {
    let (manifest, runtime) = (Manifest::parse(DEFAULT_MANIFEST).expect("valid"), runtime());
    let times = [Arc::default(), Arc::default()];
    let model = |spec: &ModelSpec, times: &Arc<AtomicUsize>| -> Box<dyn Model> {
        let model = runtime.model(&asset("models"), spec, 1).expect("loads");
        Box::new(Asked(model, Arc::clone(times)))
    };
    let models = [
        model(&manifest.detector, &times[0]),
        model(&manifest.landmarks, &times[1]),
        Box::new(Fake::answering(&[])),
    ];
    let limits = Limits {
        face_side_px_min: 20,
        ..Limits::default()
    };
    (Pipeline::new(&manifest, models, limits), times)
}

/// How photographs fared that lay in one way.
#[derive(Default)]
struct Fared {
    all: usize,
    /// Their points settled in two passes, or in a third.
    in_two: usize,
    in_third: usize,
    other_sides: usize,
    wrong: usize,
}

impl Fared {
    fn add(&mut self, [looks, passes]: [usize; 2], right: bool) {
        self.all += 1;
        *match (looks > 1, passes % 2 == 1) {
            (true, _) => &mut self.other_sides,
            (false, true) => &mut self.in_third,
            (false, false) => &mut self.in_two,
        } += 1;
        self.wrong += usize::from(!right);
    }

    fn line(&self, what: &str) -> String {
        format!(
            "{what}: of {} photographs {} settled in two passes and {} in a third, of {} other sides were looked at, {} \
             ended the wrong way up",
            self.all, self.in_two, self.in_third, self.other_sides, self.wrong
        )
    }
}

/// What [`WANDER_MAX`] and the numbers after it rest on. The folder holds `<person>/<photograph>`, all upright; each is
/// also taken at a half and a third of its size, for faces that are smaller.
#[test]
#[ignore = "measures photographs of a folder named by LIKENESS_PORTRAITS"]
fn where_points_settle() {
    let folder = std::env::var_os("LIKENESS_PORTRAITS").expect("LIKENESS_PORTRAITS names a folder");
    let (pipeline, times) = asked();
    let mut fared: [[Fared; 2]; 3] = Default::default();
    // By quarters: how often there is a face, and how often the detector is surer of it than upright.
    let (mut found, mut surer) = ([0; 4], [0; 4]);
    for person in fs::read_dir(folder).expect("a folder") {
        for photo in fs::read_dir(person.expect("listed").path()).expect("a folder for each person") {
            let bytes = fs::read(photo.expect("listed").path()).expect("a file");
            let whole = Image::decode(&bytes, &Limits::default()).expect("decodes");
            let sure = |image: &Image| {
                let candidates = pipeline.whole(image).expect("runs");
                acceptable(&candidates, &pipeline.limits).fold(0.0, |most: f32, one| most.max(one.score))
            };
            let upright = sure(&whole);
            for (quarter, turn) in Turn::ALL.into_iter().enumerate() {
                let turned = sure(&whole.turned(turn));
                found[quarter + 1] += usize::from(turned > 0.0);
                surer[quarter + 1] += usize::from(turned > upright);
            }
            found[0] += usize::from(upright > 0.0);
            for (part, fared) in fared.iter_mut().enumerate() {
                let step = part as f64 + 1.0;
                let sides = [whole.width(), whole.height()].map(|side| side / (part + 1));
                let small = || copied(&whole, [0.0; 2], [step; 2], sides);
                let lying = std::iter::once((small(), None))
                    .chain(Turn::ALL.map(|turn| (small().turned(turn), Some(turn))));
                for (image, turn) in lying {
                    times.iter().for_each(|times| times.store(0, Ordering::Relaxed));
                    let upright = pipeline.upright(image, &mut Span::default()).expect("runs");
                    let degrees = |turn: Option<Turn>| turn.map_or(0, Turn::degrees);
                    let right = (degrees(turn) + degrees(upright.turn)) % 360 == 0;
                    let asked = times.each_ref().map(|times| times.load(Ordering::Relaxed));
                    fared[usize::from(turn.is_some())].add(asked, right);
                }
            }
        }
    }
    println!("a face found, upright and by quarters: {found:?}; with a higher score than upright: {surer:?}");
    for (part, [upright, turned]) in fared.iter().enumerate() {
        println!(
            "{}",
            upright.line(&format!("upright, 1/{} of the size", part + 1))
        );
        println!("{}", turned.line(&format!("turned, 1/{} of the size", part + 1)));
        assert!(upright.wrong * 100 < upright.all && turned.wrong * 20 < turned.all);
    }
}
