//! JPEG, by its decoder directly: `image` wraps the same one, but tolerates half a picture and keeps a
//! copy of the file that is never wiped.
//!
//! Photographs are decoded whole, however large: docs/detection.md has the figures. A decoder that can
//! leave detail out wins next to nothing at half the size, where reading the codes is most of the work,
//! and would be a second one for hostile input.

use image::metadata::Orientation;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;

use super::{Image, check_size, padded_pixels, reserve};
use likeness_types::config::Limits;
use likeness_types::error::{NoMemory, Rejection, Result};
use likeness_types::wipe::Wiped;

const FORMAT: &str = "JPEG";
/// Of each coefficient that the decoder keeps.
const COEFFICIENT_BYTES: u64 = 2;

pub(super) fn decode(photo: &[u8], limits: &Limits, charge: &dyn Fn(u64)) -> Result<Image> {
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(photo), options);
    decoder.decode_headers().map_err(|error| refusal(photo, &error))?;

    let info = decoder.info().expect("the header was decoded");
    check_size(u32::from(info.width), u32::from(info.height), limits)?;
    if matches!(
        decoder.input_colorspace(),
        Some(ColorSpace::CMYK | ColorSpace::YCCK)
    ) {
        return Err(Rejection::UnsupportedKind {
            format: FORMAT,
            what: "CMYK",
        }
        .into());
    }
    if !is_complete(photo) {
        return Err(Rejection::Truncated { format: FORMAT }.into());
    }
    // A damaged EXIF block is no reason to refuse a good picture: it counts as absent.
    let orientation = decoder.exif().and_then(|exif| Orientation::from_exif_chunk(exif));

    // Where its data come in several scans, the decoder keeps every coefficient of each component until the last.
    let coefficients = u64::from(info.components.max(1)) * COEFFICIENT_BYTES;
    let (width, height) = (u32::from(info.width), u32::from(info.height));
    let coefficients = padded_pixels(width, height).saturating_mul(coefficients);
    let memory = reserve(width, height, coefficients, limits)?;
    let (width, height) = (usize::from(info.width), usize::from(info.height));
    charge(width as u64 * height as u64);
    let bytes = width * height * 3;
    let mut rgb = Wiped::try_zeros(bytes).map_err(|_| NoMemory { bytes: bytes as u64 })?;
    decoder
        .decode_into(&mut rgb)
        .map_err(|error| refusal(photo, &error))?;
    let image = Image::new(width, height, rgb.take());
    Ok(image.in_memory(memory).upright(orientation))
}

fn refusal(photo: &[u8], error: &DecodeErrors) -> Rejection {
    match error {
        DecodeErrors::Unsupported(_) => Rejection::UnsupportedKind {
            format: FORMAT,
            what: "an unusual coding",
        },
        _ if !is_complete(photo) => Rejection::Truncated { format: FORMAT },
        _ => Rejection::Undecodable { format: FORMAT },
    }
}

/// Whether the end-of-image marker is there. It is looked for segment by segment, because a thumbnail
/// inside the header has one of its own, and bytes after it are common (second pictures, maker notes).
fn is_complete(photo: &[u8]) -> bool {
    const RESTARTS: std::ops::RangeInclusive<u8> = 0xD0..=0xD7;
    let mut rest = photo;
    while let Some(at) = rest.iter().position(|&byte| byte == 0xFF) {
        rest = &rest[at + 1..];
        match rest {
            [0xD9, ..] => return true,
            // Not a marker: an escaped byte of the picture, a restart, start of image, filling.
            [0x00 | 0x01 | 0xD8 | 0xFF, ..] => {}
            [marker, ..] if RESTARTS.contains(marker) => {}
            // A segment. A start of scan is one too, followed by the picture's data, which the search
            // for the next marker passes over.
            [_, high, low, ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                match rest.get(1 + length.max(2)..) {
                    Some(after) => rest = after,
                    None => return false,
                }
            }
            _ => return false,
        }
    }
    false
}
