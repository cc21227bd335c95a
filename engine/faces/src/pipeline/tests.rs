//! The stages in order, with models that are computed by hand, and with a small one of a user's own.

use std::sync::{Arc, Mutex};

use super::*;
use crate::testing::{Fake, asset, mean_colour_model, runtime};
use likeness_types::Inside;
use likeness_types::error::Error;

/// The only face, however good.
const ANY: Wanted = Choose::Only.at(QualityLevel::None);

/// Two boxes in the input: a sure one at its middle, and another.
fn detector(scores: [f32; 2], second: [f32; 4]) -> Fake {
    let [a, b] = scores;
    let boxes = [&[0.375, 0.25, 0.625, 0.75], &second[..]].concat();
    Fake::answering(&[(&[1, 2, 2], &[1.0 - a, a, 1.0 - b, b]), (&[1, 2, 4], &boxes)])
}

/// The points of a face whose crop they fill: 68 of them, made of the five.
fn landmarks() -> Fake {
    let [left, right, nose, mouth_left, mouth_right] =
        [[0.3, 0.3], [0.7, 0.3], [0.5, 0.5], [0.35, 0.7], [0.65, 0.7]];
    let mut points = [[0.5, 0.5]; 68];
    let five: [(&[usize], _); 5] = [
        (&[37, 38, 40, 41], left),
        (&[43, 44, 46, 47], right),
        (&[30], nose),
        (&[48, 60], mouth_left),
        (&[54, 64], mouth_right),
    ];
    for (of, point) in five {
        of.iter().for_each(|&i| points[i] = point);
    }
    Fake::answering(&[(&[1, 136], points.as_flattened())])
}

fn embedder() -> Fake {
    let values: Vec<f32> = (0..512)
        .map(|i| if i < 2 { 3.0 + i as f32 } else { 0.0 })
        .collect();
    Fake::answering(&[(&[1, 512], &values)])
}

fn pipeline(models: [Fake; 3]) -> Pipeline {
    let manifest = Manifest::parse(DEFAULT_MANIFEST).expect("valid");
    Pipeline::new(
        &manifest,
        models.map(|model| Box::new(model) as Box<dyn Model>),
        Limits::default(),
    )
}

/// A BMP of one colour.
fn plain(width: u32, height: u32, colour: [u8; 3]) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let picture = ::image::RgbImage::from_pixel(width, height, ::image::Rgb(colour));
    picture
        .write_to(&mut bytes, ::image::ImageFormat::Bmp)
        .expect("encodes");
    bytes.into_inner()
}

fn nothing() -> [f32; 4] {
    [0.0, 0.0, 0.1, 0.1]
}

#[test]
fn a_box_comes_back_in_pixels_of_the_photograph() {
    // 640x240 in 320x240: half the size, with 60 rows of grey above and below.
    let pipeline = pipeline([detector([0.9, 0.0], nothing()), landmarks(), embedder()]);
    let found = pipeline
        .detect(&plain(640, 240, [9; 3]), QualityLevel::None, &mut Span::default())
        .expect("detects");
    let expected = Bounds {
        left: 240.0,
        top: 0.0,
        right: 400.0,
        bottom: 240.0,
    };
    assert_eq!((found.width, found.height, found.faces.len()), (640, 240, 1));
    assert_eq!(found.faces[0].bounds, expected);
}

#[test]
fn a_wide_photograph_keeps_its_proportions_between_bars_of_grey() {
    let detector = detector([0.9, 0.0], nothing());
    let asked: Arc<Mutex<_>> = detector.asked.clone();
    let pipeline = pipeline([detector, landmarks(), embedder()]);
    pipeline
        .detect(
            &plain(640, 240, [255, 127, 0]),
            QualityLevel::None,
            &mut Span::default(),
        )
        .expect("detects");
    let asked = asked.lock().expect("nobody panicked");
    let row = |plane: usize, y: usize| asked[0][(plane * 240 + y) * 320];
    for (plane, value) in [(0, 1.0), (1, 0.0), (2, -127.0 / 128.0)] {
        assert_eq!(
            [row(plane, 59), row(plane, 60), row(plane, 179), row(plane, 180)],
            [0.0, value, value, 0.0]
        );
    }
}

#[test]
fn overlapping_boxes_are_one_face() {
    let nearly_the_same = [0.38, 0.25, 0.63, 0.75];
    let models = [detector([0.8, 0.9], nearly_the_same), landmarks(), embedder()];
    let found = pipeline(models)
        .detect(&plain(320, 240, [9; 3]), QualityLevel::None, &mut Span::default())
        .expect("detects");
    assert_eq!(found.faces.len(), 1);
    assert_eq!(found.faces[0].score, 0.9);
}

#[test]
fn small_and_unsure_faces_are_reported_with_a_reason() {
    let small = [0.0, 0.0, 0.1, 0.1];
    let models = [detector([0.5, 0.9], small), landmarks(), embedder()];
    let found = pipeline(models)
        .detect(&plain(320, 240, [9; 3]), QualityLevel::None, &mut Span::default())
        .expect("detects");
    let reasons: Vec<_> = found.faces.into_iter().map(|face| face.rejection).collect();
    let too_small = Rejection::FaceTooSmall {
        side_px: 24,
        side_px_min: 34,
    };
    let unsure = Rejection::LowConfidence {
        score: 0.5,
        score_min: 0.65,
    };
    assert_eq!(reasons, [Some(too_small), Some(unsure)]);
}

#[test]
fn more_faces_than_the_limit_are_refused() {
    let mut pipeline = pipeline([
        detector([0.9, 0.9], [0.0, 0.0, 0.3, 0.2]),
        landmarks(),
        embedder(),
    ]);
    pipeline.limits.detected_faces_max = 1;
    let refused = pipeline.detect(&plain(320, 240, [9; 3]), QualityLevel::None, &mut Span::default());
    assert!(matches!(
        refused,
        Err(Error::Photo(Rejection::TooManyFaces {
            found: 2,
            faces_max: 1
        }))
    ));
}

#[test]
fn an_embedding_has_unit_length_and_every_stage_its_time() {
    let pipeline = pipeline([detector([0.9, 0.0], nothing()), landmarks(), embedder()]);
    let mut span = Span::default();
    let (embedding, face) = pipeline
        .embedding(&plain(320, 240, [9; 3]), ANY, &mut span)
        .expect("embeds");
    assert_eq!(embedding.values(Inside).to_vec()[..3], [0.6, 0.8, 0.0]);
    assert_eq!(face.rejection, None);
    let steps: Vec<_> = span.steps().iter().map(|(step, _)| step.name()).collect();
    assert_eq!(steps, ["decode", "detect", "align", "embed"]);
}

#[test]
fn a_face_at_the_border_is_black_beyond_it() {
    let corner = Fake::answering(&[(&[1, 1, 2], &[0.1, 0.9]), (&[1, 1, 4], &[-0.1, -0.1, 0.2, 0.3])]);
    let embedder = embedder();
    let asked = embedder.asked.clone();
    let pipeline = pipeline([corner, landmarks(), embedder]);
    pipeline
        .embedding(&plain(320, 240, [255; 3]), ANY, &mut Span::default())
        .expect("embeds");
    let face = &asked.lock().expect("nobody panicked")[0];
    assert_eq!((face[0], face[111 * 112 + 111]), (-127.0 / 128.0, 1.0));
}

#[test]
fn a_broken_network_is_the_operators_concern_and_no_panic() {
    let broken = |value: f32| Fake::answering(&[(&[1, 136], &[value; 136])]);
    for value in [f32::NAN, f32::INFINITY, 1e30, 0.5] {
        let pipeline = pipeline([detector([0.9, 0.0], nothing()), broken(value), embedder()]);
        let refused = pipeline.embedding(&plain(320, 240, [9; 3]), ANY, &mut Span::default());
        assert!(
            matches!(refused, Err(Error::Operator(OperatorError::Inference { .. }))),
            "{value}"
        );
    }
    let nowhere = Fake::answering(&[(&[1, 1, 2], &[0.0, 1.0]), (&[1, 1, 4], &[f32::NAN; 4])]);
    let refused = pipeline([nowhere, landmarks(), embedder()]).detect(
        &plain(320, 240, [9; 3]),
        QualityLevel::None,
        &mut Span::default(),
    );
    assert!(matches!(
        refused,
        Err(Error::Operator(OperatorError::Inference { .. }))
    ));
}

/// A directory with the default detector and landmarks, and an embedder of one's own: other names,
/// another shape, other colours, another normalisation. A manifest, and no code.
fn with_own_embedder(colour: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    // Eight features: the three means, and five zeros.
    let mut matrix = [0.0; 24];
    (matrix[0], matrix[8 + 1], matrix[16 + 2]) = (1.0, 1.0, 1.0);
    let own = mean_colour_model(96, 80, &matrix);
    fs::write(dir.path().join("own.onnx"), &own).expect("written");
    for file in ["fr_detect.onnx", "fr_landmark.onnx"] {
        fs::copy(asset("models").join(file), dir.path().join(file)).expect("copied");
    }
    let (others, _) = DEFAULT_MANIFEST
        .split_once("[[model]]\nrole = \"embedder\"")
        .expect("the last entry");
    let manifest = format!(
        r#"{others}
[[model]]
role = "embedder"
file = "own.onnx"
blake3 = "{}"
licence = "mine"
input = {{ name = "face", shape = [1, 3, 96, 80], colour = "{colour}", mean = 0.0, scale = 255.0 }}
output = {{ kind = "embedding", values = {{ name = "features", shape = [1, 8] }} }}
align = [[26.0, 40.0], [54.0, 40.0], [40.0, 56.0], [29.0, 72.0], [51.0, 72.0]]
calibration = {{ far_1e-3 = 0.9, far_1e-4 = 0.95 }}
"#,
        blake3::hash(&own)
    );
    fs::write(dir.path().join(MANIFEST_FILE), manifest).expect("written");
    dir
}

#[test]
fn another_embedder_is_a_manifest_and_no_code() {
    drop(runtime());
    let library = asset("runtime/libonnxruntime.so");
    let photo = fs::read(asset("photographs/astronaut.png")).expect("`make assets` fetched it");
    let features = |colour: &str| {
        let dir = with_own_embedder(colour);
        let pipeline = Pipeline::load(dir.path(), &library, Limits::default(), 1).expect("loads");
        assert_eq!((pipeline.dim(), pipeline.stated_rates().far_1e4), (8, 0.95));
        let default = Pipeline::load(&asset("models"), &library, Limits::default(), 1).expect("loads");
        assert_ne!(pipeline.scheme_parts().digest, default.scheme_parts().digest);
        let (embedding, _) = pipeline
            .embedding(&photo, ANY, &mut Span::default())
            .expect("embeds");
        embedding.values(Inside).to_vec()
    };
    let (rgb, bgr) = (features("rgb"), features("bgr"));
    assert!(
        rgb[0] > rgb[1] && rgb[1] > rgb[2] && rgb[2] > 0.0,
        "skin is red, green, blue in this order: {rgb:?}"
    );
    assert_eq!([rgb[2], rgb[1], rgb[0]], bgr[..3]);
    assert_eq!(rgb[3..], [0.0; 5]);
}

#[test]
fn the_same_manifest_is_the_same_scheme_and_any_change_another() {
    let scheme = |text: &str| SchemeParts::new(&Manifest::parse(text).expect("valid"));
    let default = scheme(DEFAULT_MANIFEST);
    assert_eq!(default, scheme(DEFAULT_MANIFEST));
    // Thresholds do not move an embedding.
    assert_eq!(default, scheme(&DEFAULT_MANIFEST.replace("0.411", "0.42")));
    for (right, wrong) in [
        ("colour = \"bgr\"", "colour = \"rgb\""),
        ("38.2946", "38.2947"),
        ("scale = 256.0", "scale = 255.0"),
        // The line itself: a comment shows a digest too.
        ("\nblake3 = \"cf3d", "\nblake3 = \"cf3e"),
    ] {
        assert_ne!(
            default.digest,
            scheme(&DEFAULT_MANIFEST.replacen(right, wrong, 1)).digest,
            "{wrong}"
        );
    }
}
