//! Faces made up for one number each, and any faces at all.

pub(crate) mod degraded;

use proptest::prelude::*;

use super::*;
use crate::quality::QualityLevel;

const SIDE: usize = 112;
/// The middle of a face that is aligned as by the default manifest.
const MIDDLE: [Range<usize>; 2] = [24..88, 37..107];

/// A grey face of these luminances, by column and row.
fn face(luminance: impl Fn(usize, usize) -> f32) -> AlignedFace {
    let mut face = Tensor::filled(&[SIDE, SIDE, 3], 0.0);
    let (pixels, _) = face.values_mut().as_chunks_mut::<3>();
    for (i, pixel) in pixels.iter_mut().enumerate() {
        *pixel = [luminance(i % SIDE, i / SIDE); 3];
    }
    AlignedFace(face)
}

fn light(luminance: impl Fn(usize, usize) -> f32) -> Light {
    Light::of(&grey(&face(luminance), &MIDDLE))
}

/// Waves this long, in pixels, around 128.
fn waves(length: f32, height: f32) -> impl Fn(usize, usize) -> f32 {
    let phase = move |at: usize| (at as f32 * std::f32::consts::TAU / length).sin();
    move |x, y| 128.0 + height * (phase(x) + phase(y)) / 2.0
}

/// The points of somebody 100 px wide between the eyes who looks straight ahead.
fn frontal() -> [[f32; 2]; 68] {
    let mut points = [[150.0, 180.0]; 68];
    for ([outer, above, above_too, inner, below_too, below], x) in EYES.into_iter().zip([100.0, 200.0]) {
        for (i, at) in [
            (outer, [-16.0, 0.0]),
            (above, [-6.0, -4.0]),
            (above_too, [6.0, -4.0]),
            (inner, [16.0, 0.0]),
            (below_too, [6.0, 4.0]),
            (below, [-6.0, 4.0]),
        ] {
            points[i] = [x + at[0], 100.0 + at[1]];
        }
    }
    points[30] = [150.0, 100.0 + NOSE_PART * MOUTH_DROP * 100.0];
    for (corners, x) in [([48, 60], 110.0), ([54, 64], 190.0)] {
        for corner in corners {
            points[corner] = [x, 100.0 + MOUTH_DROP * 100.0];
        }
    }
    points
}

fn shape(points: &[[f32; 2]; 68]) -> Shape {
    Shape {
        points: points.to_vec(),
        first: points.to_vec(),
    }
}

/// What is measured of the points, on a face of one grey.
fn of(shape: &Shape) -> Quality {
    measure(shape, &face(|_, _| 128.0), &MIDDLE)
}

#[test]
fn a_flat_face_has_its_brightness_and_neither_contrast_nor_detail() {
    for grey in [0.0, 97.0, 255.0] {
        let light = light(|_, _| grey);
        assert!((light.brightness - grey).abs() < 0.01);
        assert_eq!((light.contrast, light.sharpness), (0.0, 0.0));
    }
}

#[test]
fn rounding_a_flat_face_to_whole_grey_levels_is_no_detail() {
    let speckled = light(|x, y| 97.0 + f32::from((x * 7 + y * 13) % 29 == 0));
    assert!(speckled.sharpness < 0.3, "{}", speckled.sharpness);
    let waves = light(waves(4.0, 40.0));
    assert!(waves.sharpness > 0.6, "{}", waves.sharpness);
}

#[test]
fn shorter_waves_are_sharper_and_their_height_cancels_out() {
    let sharpness: Vec<f32> = [4.0, 8.0, 16.0, 32.0]
        .map(|length| light(waves(length, 80.0)).sharpness)
        .into();
    assert!(sharpness.is_sorted_by(|a, b| a > b), "{sharpness:?}");
    let (high, low) = (light(waves(8.0, 100.0)), light(waves(8.0, 25.0)));
    assert!((high.contrast / low.contrast - 4.0).abs() < 0.01);
    assert!((high.sharpness - low.sharpness).abs() < 0.01);
}

#[test]
fn only_the_middle_of_the_face_is_measured() {
    let inside = |x: usize, y: usize| MIDDLE[0].contains(&x) && MIDDLE[1].contains(&y);
    let light = light(|x, y| if inside(x, y) { 90.0 } else { (x * y % 256) as f32 });
    assert!((light.brightness - 90.0).abs() < 0.01);
    assert_eq!((light.contrast, light.sharpness), (0.0, 0.0));
}

#[test]
fn somebody_who_looks_straight_ahead_is_turned_nowhere() {
    let quality = of(&shape(&frontal()));
    let turned = [quality.yaw_degrees, quality.pitch_degrees, quality.roll_degrees];
    assert!(turned.iter().all(|degrees| degrees.abs() < 0.1), "{turned:?}");
    assert!((quality.eye_distance_px - 100.0).abs() < 0.01);
    assert_eq!(quality.landmark_confidence, 1.0);
}

#[test]
fn the_nose_says_where_the_face_is_turned() {
    let with_nose = |x: f32, y: f32| {
        let mut points = frontal();
        points[30] = [points[30][0] + x, points[30][1] + y];
        let quality = of(&shape(&points));
        [quality.yaw_degrees, quality.pitch_degrees]
    };
    assert!(with_nose(30.0, 0.0)[0] > 20.0 && with_nose(-30.0, 0.0)[0] < -20.0);
    assert!(with_nose(0.0, -30.0)[1] > 20.0 && with_nose(0.0, 30.0)[1] < -20.0);
    let [yaw, pitch] = with_nose(30.0, 0.0);
    assert!((yaw - 23.2).abs() < 0.1 && pitch.abs() < 0.1, "{yaw} {pitch}");
}

#[test]
fn passes_that_disagree_are_unsure() {
    let confidence = |shift: f32| {
        let mut shape = shape(&frontal());
        shape.first.iter_mut().for_each(|point| point[1] += shift);
        of(&shape).landmark_confidence
    };
    let found = [0.0, 2.0, 5.0, 10.0, 50.0].map(confidence);
    let expected = [1.0, 0.8, 0.5, 0.0, 0.0];
    assert!(
        found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-3),
        "{found:?}"
    );
}

#[test]
fn the_less_open_eye_counts() {
    let open = |left: f32, right: f32| {
        let mut points = frontal();
        for (eye, part) in EYES.into_iter().zip([left, right]) {
            eye.into_iter()
                .for_each(|i| points[i][1] = 100.0 + part * (points[i][1] - 100.0));
        }
        of(&shape(&points)).eyes_open
    };
    assert!((open(1.0, 1.0) - 0.75).abs() < 1e-3);
    assert_eq!(open(2.0, 2.0), 1.0);
    assert_eq!((open(0.0, 1.0), open(1.0, 0.0)), (0.0, 0.0));
}

#[test]
fn points_in_one_place_are_no_numbers_out_of_range() {
    let quality = of(&shape(&[[7.0, 7.0]; 68]));
    assert!(in_range(&quality), "{quality:?}");
    assert_eq!(quality.level(), QualityLevel::None);
}

fn in_range(quality: &Quality) -> bool {
    let Quality {
        eye_distance_px,
        sharpness,
        brightness,
        contrast,
        yaw_degrees,
        pitch_degrees,
        roll_degrees,
        landmark_confidence,
        eyes_open,
    } = *quality;
    let parts = [sharpness, landmark_confidence, eyes_open];
    (0.0..f32::INFINITY).contains(&eye_distance_px)
        && parts.iter().all(|part| (0.0..=1.0).contains(part))
        && (0.0..=255.0).contains(&brightness)
        && (0.0..=127.5).contains(&contrast)
        && yaw_degrees.abs() <= 90.0
        && pitch_degrees.abs() <= 90.0
        && roll_degrees.abs() <= 180.0
}

/// Points anywhere that the landmark network may put them, some in one place.
fn points() -> impl Strategy<Value = Vec<[f32; 2]>> {
    let coordinate = prop_oneof![Just(0.0f32), -65_536f32..65_536.0, 0f32..200.0];
    let point = (coordinate.clone(), coordinate).prop_map(|(x, y)| [x, y]);
    proptest::collection::vec(point, 68)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn whatever_is_measured_is_in_range_and_the_same_again(
        (points, first) in (points(), points()),
        pixels in proptest::collection::vec(prop_oneof![Just(0.0f32), Just(255.0), 0f32..=255.0], 256),
    ) {
        let shape = Shape { points, first };
        let face = face(|x, y| pixels[(x * 31 + y * 17 + x * y) % 256]);
        let quality = measure(&shape, &face, &MIDDLE);
        prop_assert!(in_range(&quality), "{:?}", quality);
        prop_assert_eq!(quality, measure(&shape, &face, &MIDDLE));
    }

    /// Where in the photograph a face is, how large and how tilted, says nothing of the rest.
    #[test]
    fn a_face_moved_scaled_and_tilted_is_the_same_face(
        [x, y] in [-500f32..500.0, -500f32..500.0],
        scale in 0.3f32..5.0,
        tilt in -170f32..170.0,
        nose in -30f32..30.0,
    ) {
        let (sin, cos) = tilt.to_radians().sin_cos();
        let move_all = |points: &[[f32; 2]; 68]| {
            points.map(|[a, b]| [x + scale * (cos * a - sin * b), y + scale * (sin * a + cos * b)])
        };
        let mut points = frontal();
        points[30][0] += nose;
        let (still, moved) = (of(&shape(&points)), of(&shape(&move_all(&points))));
        prop_assert!((moved.roll_degrees - tilt).abs() < 0.1);
        prop_assert!((moved.eye_distance_px / still.eye_distance_px / scale - 1.0).abs() < 1e-3);
        prop_assert!((moved.yaw_degrees - still.yaw_degrees).abs() < 0.1);
        prop_assert!((moved.pitch_degrees - still.pitch_degrees).abs() < 0.1);
        prop_assert!((moved.eyes_open - still.eyes_open).abs() < 0.01);
    }
}
