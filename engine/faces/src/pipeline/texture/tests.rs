//! What has contrast: by hand, with the detector, and, when asked, on a folder.

use proptest::prelude::*;

use super::*;
use crate::manifest::{DEFAULT_MANIFEST, Manifest};
use crate::pipeline::detect::Detector;
use crate::pipeline::face::{Bounds, CANDIDATE_SCORE_MIN};
use crate::pipeline::upright::copied;
use crate::testing::{asset, runtime};
use likeness_types::config::Limits;

fn picture(width: usize, height: usize, pixel: impl Fn(usize, usize) -> [u8; 3]) -> Image {
    let rows = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    Image::new(width, height, rows.flat_map(|(x, y)| pixel(x, y)).collect())
}

fn detector() -> Detector {
    let manifest = Manifest::parse(DEFAULT_MANIFEST).expect("valid");
    let model = runtime().model(&asset("models"), &manifest.detector, 1);
    Detector::new(&manifest.detector, Box::new(model.expect("loads")))
}

fn part(origin: [f64; 2], sides: [usize; 2]) -> View {
    View {
        origin,
        step: [2.0; 2],
        sides,
        offset: [0; 2],
        averaged: true,
    }
}

#[test]
fn a_plain_picture_shows_nothing_whatever_its_size_and_colour() {
    for [width, height] in [[64, 64], [65, 99], [1000, 127], [1, 1]] {
        for colour in [[0; 3], [255; 3], [20, 200, 90]] {
            let texture = Texture::of(&picture(width, height, |_, _| colour));
            assert!(!texture.shows_anything(), "{width}x{height} of {colour:?}");
        }
    }
}

#[test]
fn noise_of_a_few_levels_shows_nothing_and_an_edge_does() {
    let noisy = |x: usize, y: usize| (x * 7 + y * 13) % 5;
    let level = |x: usize, y: usize| [120 + noisy(x, y) as u8; 3];
    assert!(!Texture::of(&picture(640, 480, level)).shows_anything());
    for colour in 0..3 {
        let edge = |x: usize, _| {
            let mut pixel = [120; 3];
            pixel[colour] += if x < 333 { 0 } else { CONTRAST_MIN as u8 };
            pixel
        };
        assert!(Texture::of(&picture(640, 480, edge)).shows_anything());
    }
}

#[test]
fn a_part_shows_what_lies_in_it() {
    let spot = |x: usize, y: usize| {
        if (700..704).contains(&x) && (500..504).contains(&y) {
            [90; 3]
        } else {
            [70; 3]
        }
    };
    let texture = Texture::of(&picture(1400, 1000, spot));
    assert!(texture.shows_anything());
    assert!(!texture.shows(&part([0.0, 0.0], [320, 240])));
    assert!(texture.shows(&part([100.0, 100.0], [320, 240])));
    assert!(texture.shows(&part([700.0, 400.0], [320, 240])));
    assert!(!texture.shows(&part([760.0, 520.0], [320, 240])));
}

/// A face of a sample photograph, and a little around it: the middle of the first box that is found.
fn face(detector: &Detector, image: &Image, side_px: f64) -> Option<Image> {
    let found = detector
        .find(image, Limits::default().face_score_min)
        .expect("runs");
    let Bounds {
        left,
        top,
        right,
        bottom,
    } = found.first()?.bounds;
    let width = f64::from(right - left);
    let step = width / side_px;
    let margin = width / 5.0;
    let origin = [f64::from(left) - margin, f64::from(top) - margin];
    let sides = [f64::from(right - left), f64::from(bottom - top)];
    Some(copied(
        image,
        origin,
        [step; 2],
        sides.map(|side| ((side + 2.0 * margin) / step) as usize),
    ))
}

/// A face in the middle of a picture without anything else, with this part of its contrast, around a level or from
/// black on.
fn faint(face: &Image, part: f64, dark: bool) -> Image {
    let mut sums = [0u64; 3];
    for y in 0..face.height() {
        for pixel in face.row(y).as_chunks::<3>().0 {
            (0..3).for_each(|colour| sums[colour] += u64::from(pixel[colour]));
        }
    }
    let mean = sums.map(|sum| sum as f64 / (face.width() * face.height()) as f64);
    let level = |value: f64, mean: f64| {
        let faint = if dark {
            value * part
        } else {
            mean + (value - mean) * part
        };
        faint.round().clamp(0.0, 255.0) as u8
    };
    let [left, top] = [(640 - face.width()) / 2, (480 - face.height()) / 2];
    picture(640, 480, |x, y| {
        let inside = x.checked_sub(left).zip(y.checked_sub(top));
        let inside = inside.filter(|(x, y)| *x < face.width() && *y < face.height());
        std::array::from_fn(|colour| {
            let value = inside.map(|(x, y)| f64::from(face.row(y)[x * 3 + colour]));
            level(value.unwrap_or(mean[colour]), mean[colour])
        })
    })
}

/// The least contrast, in grey levels, of those pictures of a face in which the detector sees anything like one.
fn least_contrast(detector: &Detector, face: &Image) -> f64 {
    let mut least = f64::INFINITY;
    for dark in [false, true] {
        for step in 0..24 {
            let picture = faint(face, 0.8_f64.powi(step), dark);
            let view = part([0.0; 2], [320, 240]);
            let boxes = detector
                .find_in(&picture, &view, CANDIDATE_SCORE_MIN)
                .expect("runs");
            if boxes.is_empty() {
                continue;
            }
            let contrast = contrast(Texture::of(&picture).cells.iter());
            least = least.min(f64::from(contrast) / f64::from(LEVEL));
        }
    }
    least
}

#[test]
fn a_face_without_the_contrast_that_is_asked_for_is_not_found_anyway() {
    let detector = detector();
    for name in ["astronaut.png", "biden.jpg", "obama.jpg", "obama2.jpg"] {
        let photo = std::fs::read(asset("photographs").join(name)).expect("`make assets` fetched it");
        let image = Image::decode(&photo, &Limits::default()).expect("decodes");
        for side_px in [34.0, 100.0] {
            let face = face(&detector, &image, side_px).expect("a face");
            let least = least_contrast(&detector, &face);
            println!("{name} at {side_px} px: {least:.1} levels");
            assert!(
                least >= 2.0 * f64::from(CONTRAST_MIN),
                "{name} at {side_px} px: {least}"
            );
        }
    }
}

#[test]
fn the_detector_sees_nothing_in_a_part_that_shows_nothing() {
    let detector = detector();
    for level in (0..=255).step_by(15) {
        for (across, down) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
            let shade = |x: usize, y: usize| {
                let darker = (x * across / 220 + y * down / 160) as u8;
                [(level as u8).saturating_sub(darker); 3]
            };
            let picture = picture(640, 480, shade);
            let shows = Texture::of(&picture).shows_anything();
            let boxes = detector.find(&picture, CANDIDATE_SCORE_MIN).expect("runs");
            assert!(shows || boxes.is_empty(), "level {level}, {across} {down}");
        }
    }
}

/// What [`CONTRAST_MIN`] rests on. The folder holds `<person>/<photograph>`.
#[test]
#[ignore = "measures photographs of a folder named by LIKENESS_PORTRAITS"]
fn how_little_contrast_shows_a_face() {
    let folder = std::env::var_os("LIKENESS_PORTRAITS").expect("LIKENESS_PORTRAITS names a folder");
    let detector = detector();
    for side_px in [34.0, 60.0, 100.0] {
        let mut all = Vec::new();
        for person in std::fs::read_dir(&folder).expect("a folder") {
            for photo in std::fs::read_dir(person.expect("listed").path()).expect("a folder for each person")
            {
                let bytes = std::fs::read(photo.expect("listed").path()).expect("a file");
                let image = Image::decode(&bytes, &Limits::default()).expect("decodes");
                let face = face(&detector, &image, side_px);
                all.extend(face.map(|face| least_contrast(&detector, &face)));
            }
        }
        all.sort_by(f64::total_cmp);
        let at = |part: f64| all[((all.len() - 1) as f64 * part) as usize];
        println!(
            "of {} faces of {side_px} px the detector sees something down to a contrast of {:.1} levels in the one that needs least, {:.1} in one of a hundred, {:.1} in the median",
            all.len(),
            at(0.0),
            at(0.01),
            at(0.5)
        );
        assert!(at(0.0) >= f64::from(CONTRAST_MIN));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_block_of_contrast_is_seen_in_every_part_that_holds_it(
        (width, height) in (64..900_usize, 64..700_usize),
        x in any::<prop::sample::Index>(),
        y in any::<prop::sample::Index>(),
        from in (-40.0..600.0_f64, -40.0..400.0_f64),
    ) {
        // A whole block, wherever the grid of blocks lies.
        let side = 2 * BLOCK_PX;
        let (left, top) = (x.index(width - side), y.index(height - side));
        let spot = |x: usize, y: usize| {
            let inside = (left..left + side).contains(&x) && (top..top + side).contains(&y);
            [if inside { 100 + CONTRAST_MIN as u8 } else { 100 }; 3]
        };
        let texture = Texture::of(&picture(width, height, spot));
        prop_assert!(texture.shows_anything());
        let view = part([from.0, from.1], [160, 120]);
        let holds = from.0 <= left as f64 && (left + side) as f64 <= from.0 + 320.0
            && from.1 <= top as f64 && (top + side) as f64 <= from.1 + 240.0;
        prop_assert!(!holds || texture.shows(&view));
    }
}
