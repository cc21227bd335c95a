//! Bytes to pixels, and the refusal of photographs that are not acceptable.
//!
//! Taken: JPEG, PNG, WebP and BMP, told apart by their content; colour, grey, palette, alpha, 8 or 16
//! bits; turned upright as EXIF says. Refused with a reason: everything over a limit, animations (which
//! frame is meant would be a silent choice), CMYK (its colours depend on a printing profile), and files
//! that are damaged or end early, because half a picture may hide the second face.
//!
//! Pixels are wiped here; what the decoders hold inside while they work (a few rows; for WebP the
//! picture) is overwritten by the allocator, see `wipe.rs`.

pub(crate) mod jpeg;
pub(crate) mod orient;

use std::io::{Cursor, ErrorKind};
use std::sync::Arc;

use image::codecs::{bmp::BmpDecoder, png::PngDecoder, webp::WebPDecoder};
use image::metadata::Orientation;
use image::{ColorType, ImageDecoder, ImageError, ImageFormat};

use likeness_types::config::Limits;
use likeness_types::error::{NoMemory, Rejection, Result};
use likeness_types::memory::Reservation;
use likeness_types::wipe::{Wiped, wipe};

/// What a PNG may unpack beside its pixels: profiles and texts, bombs among them.
const PNG_EXTRAS_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Of each pixel of a decoded photograph, red, green and blue.
const RGB_BYTES: u64 = 3;
/// Decoders work in blocks, and round each side up to these.
const BLOCK_PX: u64 = 64;
/// What a photograph in work takes beside its pixels: the detector's inputs and outputs, scaled copies and crops.
const TENSOR_BYTES: u64 = 32 << 20;

/// How far a photograph is turned, clockwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Quarter,
    Half,
    ThreeQuarters,
}

impl Turn {
    pub(crate) const ALL: [Self; 3] = [Self::Quarter, Self::Half, Self::ThreeQuarters];

    pub(crate) fn degrees(self) -> u32 {
        match self {
            Self::Quarter => 90,
            Self::Half => 180,
            Self::ThreeQuarters => 270,
        }
    }
}

/// A photograph, upright: RGB, 8 bits, rows from the top, `[height, width, 3]`.
///
/// Wiped when it goes; no `Clone`, no `Debug`.
pub struct Image {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
    says_how_it_lies: bool,
    /// Of a photograph's pixels, and a turned copy of them.
    memory: Option<Arc<Reservation>>,
}

impl Image {
    /// Decodes a photograph within the limits. Sizes are checked from the header, before any pixel is
    /// allocated; the shortest and longest side hold for either orientation.
    ///
    /// # Errors
    /// A [`Rejection`] that names the reason.
    pub fn decode(photo: &[u8], limits: &Limits) -> Result<Self> {
        Self::decode_charged(photo, limits, &|_| {})
    }

    /// The same; how many pixels it has is charged before any is decoded.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn decode_charged(photo: &[u8], limits: &Limits, charge: &dyn Fn(u64)) -> Result<Self> {
        let bytes = photo.len() as u64;
        if bytes > limits.image_bytes_max {
            return Err(Rejection::TooManyBytes {
                bytes,
                bytes_max: limits.image_bytes_max,
            }
            .into());
        }
        let format = image::guess_format(photo).map_err(|_| Rejection::UnsupportedFormat)?;
        let reader = Cursor::new(photo);
        match format {
            ImageFormat::Jpeg => jpeg::decode(photo, limits, charge),
            ImageFormat::Png => {
                // The decoder would call a row too long for it oversized metadata, so the header is asked first.
                if let Some((width, height)) = png_size(photo) {
                    check_size(width, height, limits)?;
                }
                let mut extras = image::Limits::no_limits();
                extras.max_alloc = Some(PNG_EXTRAS_BYTES_MAX);
                let decoder =
                    PngDecoder::with_limits(reader, extras).map_err(|error| refusal("PNG", &error))?;
                let animated = decoder.is_apng().map_err(|error| refusal("PNG", &error))?;
                decode(decoder, "PNG", animated, limits, charge)
            }
            ImageFormat::WebP => {
                // The decoder reports a missing end as damage, so the container's own length is asked.
                let declared = photo.get(4..8).and_then(|length| length.first_chunk()).copied();
                if declared.is_some_and(|length| u64::from(u32::from_le_bytes(length)) + 8 > bytes) {
                    return Err(Rejection::Truncated { format: "WebP" }.into());
                }
                let decoder = WebPDecoder::new(reader).map_err(|error| refusal("WebP", &error))?;
                let animated = decoder.has_animation();
                decode(decoder, "WebP", animated, limits, charge)
            }
            ImageFormat::Bmp => {
                let decoder = BmpDecoder::new(reader).map_err(|error| refusal("BMP", &error))?;
                decode(decoder, "BMP", false, limits, charge)
            }
            _ => Err(Rejection::UnsupportedFormat.into()),
        }
    }

    /// An image of these pixels, `rgb` being `[height, width, 3]` in row-major order.
    pub(super) fn new(width: usize, height: usize, rgb: Vec<u8>) -> Self {
        assert_eq!(rgb.len(), width * height * 3, "three bytes a pixel");
        Self {
            width,
            height,
            rgb,
            says_how_it_lies: false,
            memory: None,
        }
    }

    /// With what was reserved to decode it: what the decoder needed is given back.
    fn in_memory(mut self, mut reserved: Reservation) -> Self {
        // Where it is turned, the copy and the original are there at once.
        reserved.shrink(2 * self.rgb.len() as u64 + TENSOR_BYTES);
        self.memory = Some(Arc::new(reserved));
        self
    }

    /// Turned upright as EXIF says, if it says anything that can be read.
    fn upright(self, orientation: Option<Orientation>) -> Self {
        let mut upright = match orientation {
            None | Some(Orientation::NoTransforms) => self,
            Some(other) => orient::turned(&self, other),
        };
        upright.says_how_it_lies = orientation.is_some();
        upright
    }

    /// Whether the photograph itself said how it lies; it is then believed.
    pub(super) fn says_how_it_lies(&self) -> bool {
        self.says_how_it_lies
    }

    /// A copy turned clockwise.
    pub(super) fn turned(&self, turn: Turn) -> Self {
        orient::turned(
            self,
            match turn {
                Turn::Quarter => Orientation::Rotate90,
                Turn::Half => Orientation::Rotate180,
                Turn::ThreeQuarters => Orientation::Rotate270,
            },
        )
    }

    /// In pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// In pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The row `y` from the top: `width` times red, green, blue.
    pub fn row(&self, y: usize) -> &[u8] {
        let length = self.width * 3;
        &self.rgb[y * length..][..length]
    }

    /// The pixels (x, y) and (x + 1, y), black where there are none.
    pub(super) fn pair(&self, x: i32, y: i32) -> [[u8; 3]; 2] {
        let Some(y) = usize::try_from(y).ok().filter(|&y| y < self.height) else {
            return [[0; 3]; 2];
        };
        let (row, _) = self.row(y).as_chunks::<3>();
        let at = |x: i32| {
            usize::try_from(x)
                .ok()
                .and_then(|x| row.get(x))
                .copied()
                .unwrap_or_default()
        };
        [at(x), at(x + 1)]
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        wipe(&mut self.rgb);
    }
}

fn decode(
    mut decoder: impl ImageDecoder,
    format: &'static str,
    animated: bool,
    limits: &Limits,
    charge: &dyn Fn(u64),
) -> Result<Image> {
    if animated {
        return Err(Rejection::UnsupportedKind {
            format,
            what: "animated",
        }
        .into());
    }
    let (width, height) = decoder.dimensions();
    check_size(width, height, limits)?;
    charge(u64::from(width) * u64::from(height));
    // A damaged EXIF block is no reason to refuse a good picture: it counts as absent.
    let exif = decoder.exif_metadata().ok().flatten();
    let orientation = exif.and_then(|exif| Orientation::from_exif_chunk(&exif));
    let colour = decoder.color_type();
    let raw_bytes = decoder.total_bytes();
    // WebP's decoder has the picture once more, by what it stores of it.
    let beside = u64::from(format == "WebP") * padded_pixels(width, height) * 4;
    let memory = reserve(width, height, raw_bytes.saturating_add(beside), limits)?;
    let length = usize::try_from(raw_bytes).expect("within the pixel limit");
    let mut raw = Wiped::try_zeros(length).map_err(|_| NoMemory { bytes: raw_bytes })?;
    decoder
        .read_image(&mut raw)
        .map_err(|error| refusal(format, &error))?;
    let rgb = to_rgb8(raw, colour)?.ok_or(Rejection::UnsupportedKind {
        format,
        what: "its colour model",
    })?;
    let image = Image::new(width as usize, height as usize, rgb);
    Ok(image.in_memory(memory).upright(orientation))
}

/// Pixels as decoders round them up.
fn padded_pixels(width: u32, height: u32) -> u64 {
    (u64::from(width) + BLOCK_PX).saturating_mul(u64::from(height) + BLOCK_PX)
}

/// Memory for a photograph of this size: its pixels twice, because they are converted or turned, what its decoder needs
/// beside them, and what is made of it afterwards.
fn reserve(width: u32, height: u32, decoder_bytes: u64, limits: &Limits) -> Result<Reservation> {
    let pixels = padded_pixels(width, height).saturating_mul(2 * RGB_BYTES);
    let bytes = pixels.saturating_add(decoder_bytes).saturating_add(TENSOR_BYTES);
    Ok(limits.memory.reserve(bytes)?)
}

/// Width and height as a PNG's header declares them; it comes right after the signature.
fn png_size(png: &[u8]) -> Option<(u32, u32)> {
    let header = png.get(8..24)?.strip_prefix(b"\0\0\0\rIHDR")?;
    let number = |bytes: &[u8]| bytes.first_chunk().copied().map(u32::from_be_bytes);
    Some((number(header)?, number(&header[4..])?))
}

fn check_size(width: u32, height: u32, limits: &Limits) -> Result<(), Rejection> {
    let Limits {
        image_side_px_min: side_px_min,
        image_side_px_max: side_px_max,
        ..
    } = *limits;
    let pixels_max = limits.image_pixels_max;
    if u64::from(width) * u64::from(height) > pixels_max {
        return Err(Rejection::TooManyPixels {
            width,
            height,
            pixels_max,
        });
    }
    if width.max(height) > side_px_max {
        return Err(Rejection::SideTooLong {
            width,
            height,
            side_px_max,
        });
    }
    if width.min(height) < side_px_min {
        return Err(Rejection::SideTooShort {
            width,
            height,
            side_px_min,
        });
    }
    Ok(())
}

fn refusal(format: &'static str, error: &ImageError) -> Rejection {
    match error {
        ImageError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            Rejection::Truncated { format }
        }
        ImageError::Unsupported(_) => Rejection::UnsupportedKind {
            format,
            what: "an unusual variant",
        },
        ImageError::Limits(_) => Rejection::UnsupportedKind {
            format,
            what: "oversized metadata",
        },
        _ => Rejection::Undecodable { format },
    }
}

/// Decoded samples to red, green, blue of 8 bits.
///
/// Transparency is laid on white, as where a person would look at it: with the alpha simply dropped,
/// pixels that nobody sees could be the face that is enrolled. Sixteen bits keep their upper eight.
fn to_rgb8(raw: Wiped<u8>, colour: ColorType) -> Result<Option<Vec<u8>>, NoMemory> {
    let on_white = |value: u8, alpha: u8| {
        let (value, alpha) = (u16::from(value), u16::from(alpha));
        ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    // The upper byte of a 16-bit sample in memory order.
    const UPPER: usize = if cfg!(target_endian = "little") { 1 } else { 0 };
    let rgb = match colour {
        ColorType::Rgb8 => Ok(raw.take()),
        ColorType::L8 => each(&raw, |&[v]| [v; 3]),
        ColorType::La8 => each(&raw, |&[v, a]| [on_white(v, a); 3]),
        ColorType::Rgba8 => each(&raw, |&[r, g, b, a]| [r, g, b].map(|v| on_white(v, a))),
        ColorType::L16 => each(&raw, |p: &[u8; 2]| [p[UPPER]; 3]),
        ColorType::La16 => each(&raw, |p: &[u8; 4]| [on_white(p[UPPER], p[2 + UPPER]); 3]),
        ColorType::Rgb16 => each(&raw, |p: &[u8; 6]| [0, 2, 4].map(|c| p[c + UPPER])),
        ColorType::Rgba16 => each(&raw, |p: &[u8; 8]| {
            [0, 2, 4].map(|c| on_white(p[c + UPPER], p[6 + UPPER]))
        }),
        _ => return Ok(None),
    };
    rgb.map(Some)
}

/// Converts pixel by pixel, into memory that never moves: a vector that grows leaves copies behind.
fn each<const BYTES: usize>(
    raw: &[u8],
    pixel: impl Fn(&[u8; BYTES]) -> [u8; 3],
) -> Result<Vec<u8>, NoMemory> {
    let (pixels, _) = raw.as_chunks::<BYTES>();
    let (mut rgb, bytes) = (Vec::new(), pixels.len() * 3);
    rgb.try_reserve_exact(bytes)
        .map_err(|_| NoMemory { bytes: bytes as u64 })?;
    for one in pixels {
        rgb.extend_from_slice(&pixel(one));
    }
    Ok(rgb)
}

#[cfg(test)]
mod tests;
