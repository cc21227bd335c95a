//! Photographs: the samples, and what is made of them.

use std::io::Cursor;
use std::path::Path;

use image::imageops::{self, FilterType};
use image::{ImageFormat, Rgb, RgbImage};

use super::{asset, checkout};

/// Grey, as behind a montage.
const GREY: Rgb<u8> = Rgb([127; 3]);

/// The bytes of a sample photograph.
pub fn sample(name: &str) -> Vec<u8> {
    std::fs::read(asset("photographs").join(name))
        .unwrap_or_else(|error| panic!("{name}: {error}: run `make assets`"))
}

/// A synthetic picture of the engine's own tests.
pub fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(checkout().join("engine/faces/fixtures/images").join(name)).expect(name)
}

/// The pixels of a sample photograph.
pub fn pixels(name: &str) -> RgbImage {
    let bytes = sample(name);
    if Path::new(name)
        .extension()
        .is_some_and(|extension| extension == "png")
    {
        return image::load_from_memory(&bytes).unwrap().into_rgb8();
    }
    let mut decoder = zune_jpeg::JpegDecoder::new(zune_core::bytestream::ZCursor::new(&bytes));
    let rgb = decoder.decode().unwrap();
    let info = decoder.info().unwrap();
    RgbImage::from_raw(info.width.into(), info.height.into(), rgb).unwrap()
}

/// The middle of the astronaut's photograph: her face and little else, quick to decode.
pub fn astronaut_small() -> Vec<u8> {
    png(&imageops::crop_imm(&pixels("astronaut.png"), 120, 0, 220, 240).to_image())
}

/// A face of 40 px and hardly anything else: a few bytes, and as much work as any other.
pub fn tiny() -> Vec<u8> {
    png(&imageops::crop_imm(&scaled("obama.jpg", 200), 32, 0, 108, 100).to_image())
}

/// A sample photograph, this high.
pub fn scaled(name: &str, height: u32) -> RgbImage {
    let picture = pixels(name);
    let width = picture.width() * height / picture.height();
    imageops::resize(&picture, width, height, FilterType::Triangle)
}

/// Pictures side by side on grey, with a margin around each.
pub fn montage(pictures: &[RgbImage]) -> RgbImage {
    const MARGIN: u32 = 20;
    let width = pictures.iter().map(|p| p.width() + MARGIN).sum::<u32>() + MARGIN;
    let height = pictures.iter().map(|p| p.height()).max().unwrap_or(0) + 2 * MARGIN;
    let mut canvas = RgbImage::from_pixel(width, height, GREY);
    let mut left = MARGIN;
    for picture in pictures {
        imageops::replace(&mut canvas, picture, left.into(), MARGIN.into());
        left += picture.width() + MARGIN;
    }
    canvas
}

/// A picture of one colour.
pub fn plain(width: u32, height: u32) -> RgbImage {
    RgbImage::from_pixel(width, height, GREY)
}

pub fn png(picture: &RgbImage) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// A chunk of a PNG: length, kind, data, checksum.
pub fn png_chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(kind);
    crc.update(data);
    let length = u32::try_from(data.len()).unwrap();
    [&length.to_be_bytes()[..], kind, data, &crc.sum().to_be_bytes()].concat()
}

/// The end of a PNG's signature and header, where further chunks may go.
pub const PNG_AFTER_HEADER: usize = 8 + 25;

/// TIFF data that say how a picture is to be turned.
pub fn exif(orientation: u8) -> Vec<u8> {
    let entry = [0x12, 0x01, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0];
    [&b"II*\0\x08\0\0\0\x01\0"[..], &entry, &[0; 4]].concat()
}

/// A PNG with an orientation.
pub fn png_turned(png: &[u8], orientation: u8) -> Vec<u8> {
    let (head, tail) = png.split_at(PNG_AFTER_HEADER);
    [head, &png_chunk(b"eXIf", &exif(orientation)), tail].concat()
}

/// A JPEG whose own EXIF block, which says "upright" in little-endian, says this instead.
pub fn jpeg_turned(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let upright = &exif(1)[10..22];
    let at = jpeg
        .windows(upright.len())
        .position(|window| window == upright)
        .expect("an orientation");
    let mut turned = jpeg.to_vec();
    turned[at + 8] = orientation;
    turned
}
