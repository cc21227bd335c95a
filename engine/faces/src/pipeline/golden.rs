//! The stages on the real models, against values from `scripts/golden.py`, which shares no code with
//! them; and proof that the tolerances would notice the usual mistakes.

use std::fs;

use serde::Deserialize;

use super::align::AlignedFace;
use super::*;
use crate::testing::{asset, runtime};

/// Of boxes, in pixels; half of it is the difference of two JPEG decoders (lossless: 0.0005).
const BOX_PX: f32 = 0.2;
/// Of the five points, in pixels.
const POINT_PX: f32 = 0.02;
/// Of the mean colour of the aligned face, of 255.
const COLOUR: f32 = 0.03;
/// Of the embedder's raw values, which have a norm of about 4.
const VALUE: f32 = 0.002;

#[derive(Deserialize)]
struct Golden {
    photograph: String,
    width: usize,
    height: usize,
    #[serde(rename = "box")]
    bounds: [f32; 4],
    score: f32,
    points: [[f32; 2]; 5],
    face_mean_rgb: [f32; 3],
    embedding_first_8: [f32; 8],
    embedding_norm: f32,
}

impl Golden {
    fn all() -> Vec<Self> {
        serde_json::from_str(include_str!("../../fixtures/golden/pipeline.json")).expect("golden values")
    }

    fn image(&self) -> Image {
        let path = asset("photographs").join(&self.photograph);
        Image::decode(
            &fs::read(path).expect("`make assets` fetched it"),
            &Limits::default(),
        )
        .expect("decodes")
    }

    fn bounds(&self) -> Bounds {
        let [left, top, right, bottom] = self.bounds;
        Bounds {
            left,
            top,
            right,
            bottom,
        }
    }
}

/// The default pipeline, its manifest changed.
fn pipeline(right: &str, wrong: &str) -> Pipeline {
    assert!(DEFAULT_MANIFEST.contains(right));
    let manifest = Manifest::parse(&DEFAULT_MANIFEST.replace(right, wrong)).expect("valid");
    let model = |spec: &ModelSpec| -> Box<dyn Model> {
        Box::new(
            runtime()
                .model(&asset("models"), spec, 1)
                .expect("`make assets` fetched it"),
        )
    };
    let models = [
        model(&manifest.detector),
        model(&manifest.landmarks),
        model(&manifest.embedder),
    ];
    Pipeline::new(&manifest, models, Limits::default())
}

fn default() -> Pipeline {
    pipeline("rgb", "rgb")
}

/// The largest difference.
fn off<'a>(found: impl IntoIterator<Item = &'a f32>, expected: impl IntoIterator<Item = &'a f32>) -> f32 {
    found
        .into_iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

fn box_off(pipeline: &Pipeline, golden: &Golden) -> f32 {
    let found = pipeline.detector.find(&golden.image(), 0.65).expect("runs");
    assert_eq!(found.len(), 1, "{}", golden.photograph);
    let Bounds {
        left,
        top,
        right,
        bottom,
    } = found[0].bounds;
    assert!(
        (found[0].score - golden.score).abs() < 1e-3,
        "{}",
        golden.photograph
    );
    off(&[left, top, right, bottom], &golden.bounds)
}

/// How far the values and the norm of the embedding are off, with the points shifted.
fn embedding_off(pipeline: &Pipeline, golden: &Golden, shift: [f32; 2]) -> (f32, f32) {
    let points = golden.points.map(|[x, y]| [x + shift[0], y + shift[1]]);
    let face = pipeline.aligner.align(&golden.image(), &points).expect("aligns");
    let raw = pipeline.embedder.raw(face).expect("runs");
    let norm = raw.values().iter().map(|value| value * value).sum::<f32>().sqrt();
    (
        off(&raw.values()[..8], &golden.embedding_first_8),
        (norm - golden.embedding_norm).abs(),
    )
}

fn mean_colour(AlignedFace(face): &AlignedFace) -> [f32; 3] {
    let (pixels, _) = face.values().as_chunks::<3>();
    [0, 1, 2].map(|c| pixels.iter().map(|pixel| pixel[c]).sum::<f32>() / pixels.len() as f32)
}

#[test]
fn detection_agrees_with_the_recipe() {
    let pipeline = default();
    for golden in Golden::all() {
        let image = golden.image();
        assert_eq!([image.width(), image.height()], [golden.width, golden.height]);
        let off = box_off(&pipeline, &golden);
        assert!(off < BOX_PX, "{}: {off} px", golden.photograph);
    }
}

#[test]
fn the_five_points_agree_with_the_recipe() {
    let pipeline = default();
    for golden in Golden::all() {
        let points = pipeline
            .landmarks
            .find(&golden.image(), &golden.bounds())
            .expect("runs");
        let off = off(points.five().as_flattened(), golden.points.as_flattened());
        assert!(off < POINT_PX, "{}: {off} px", golden.photograph);
    }
}

#[test]
fn the_aligned_face_agrees_with_the_recipe() {
    let pipeline = default();
    for golden in Golden::all() {
        let face = pipeline
            .aligner
            .align(&golden.image(), &golden.points)
            .expect("aligns");
        let off = off(&mean_colour(&face), &golden.face_mean_rgb);
        assert!(off < COLOUR, "{}: {off}", golden.photograph);
    }
}

#[test]
fn the_embedding_agrees_with_the_recipe() {
    let pipeline = default();
    for golden in Golden::all() {
        let (values, norm) = embedding_off(&pipeline, &golden, [0.0; 2]);
        assert!(
            values < VALUE && norm < VALUE,
            "{}: {values} and {norm}",
            golden.photograph
        );
    }
}

#[test]
fn swapped_colours_in_the_detector_would_be_noticed() {
    let swapped = pipeline("colour = \"rgb\"", "colour = \"bgr\"");
    for golden in Golden::all() {
        let off = box_off(&swapped, &golden);
        assert!(off > 4.0 * BOX_PX, "{}: {off} px", golden.photograph);
    }
}

#[test]
fn swapped_colours_in_the_embedder_would_be_noticed() {
    let swapped = pipeline("colour = \"bgr\"", "colour = \"rgb\"");
    for golden in Golden::all() {
        let (off, _) = embedding_off(&swapped, &golden, [0.0; 2]);
        assert!(off > 10.0 * VALUE, "{}: {off}", golden.photograph);
    }
}

#[test]
fn a_crop_shifted_by_one_pixel_would_be_noticed() {
    let pipeline = default();
    for golden in Golden::all() {
        // One pixel of the aligned face, in pixels of the photograph.
        let eyes = golden.points[1][0] - golden.points[0][0];
        let pixel = eyes / 35.2;
        for shift in [[pixel, 0.0], [0.0, pixel]] {
            let (off, _) = embedding_off(&pipeline, &golden, shift);
            assert!(off > 10.0 * VALUE, "{}: {off} by {shift:?}", golden.photograph);
        }
    }
}
