//! The files that `make assets` has fetched, and a photograph of 640x480 made of one.

use std::env;
use std::path::PathBuf;

use image::RgbImage;
use image::imageops::{self, FilterType};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

/// Pixels of the photograph.
pub const SIZE: [u32; 2] = [640, 480];
/// Where the photograph begins in the asset, in pixels from above: higher, the picture ends at the upper lip, and half
/// a face is looked at from more sides than a whole one.
const TOP: u32 = 200;
/// JPEG quality of the photograph, 1 to 100.
const QUALITY: u8 = 90;

/// A fetched file or directory by its name below the assets directory.
///
/// # Panics
/// When it is missing: then there is nothing to measure.
pub fn asset(name: &str) -> PathBuf {
    let variable = |name: &str| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let cache = || {
        variable("LIKENESS_CACHE")
            .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("likeness")))
            .or_else(|| variable("HOME").map(|home| home.join(".cache/likeness")))
    };
    let assets = variable("LIKENESS_ASSETS").or_else(|| Some(cache()?.join("assets")));
    let path = assets.expect("LIKENESS_ASSETS or HOME is set").join(name);
    assert!(path.exists(), "{} is missing: run `make assets`", path.display());
    path
}

/// ONNX Runtime's shared library.
pub fn runtime() -> PathBuf {
    asset("runtime/libonnxruntime.so")
}

/// A JPEG of 640x480 that shows one face, with the colours at half the resolution (4:2:0) as cameras
/// write them: at full resolution it takes longer to decode, and everything else looks cheap beside it.
pub fn photograph() -> Vec<u8> {
    jpeg(&picture())
}

/// The same photograph turned clockwise by a quarter. It does not say so.
pub fn lying() -> Vec<u8> {
    jpeg(&imageops::rotate90(&picture()))
}

fn picture() -> RgbImage {
    let bytes = std::fs::read(asset("photographs/32bit.png")).expect("the asset can be read");
    let picture = image::load_from_memory(&bytes)
        .expect("the asset is a picture")
        .into_rgb8();
    let [width, height] = SIZE;
    let part = picture.width() * height / width;
    let part = imageops::crop_imm(&picture, 0, TOP, picture.width(), part).to_image();
    imageops::resize(&part, width, height, FilterType::Triangle)
}

fn jpeg(photo: &RgbImage) -> Vec<u8> {
    let [width, height] = [photo.width(), photo.height()].map(|side| side as u16);
    let mut jpeg = Vec::new();
    let mut encoder = Encoder::new(&mut jpeg, QUALITY);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder
        .encode(photo.as_raw(), width, height, ColorType::Rgb)
        .expect("a vector takes everything");
    jpeg
}
