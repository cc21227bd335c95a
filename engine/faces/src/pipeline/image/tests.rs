use std::path::Path;

use image::{DynamicImage, ImageBuffer, Rgb, Rgba};
use proptest::prelude::*;

use super::*;
use likeness_types::error::Error;

/// 96x64: a red, a green, a blue and a white quarter, in reading order.
fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/images");
    std::fs::read(folder.join(name)).expect("the fixtures are in the repository")
}

fn decoded(photo: &[u8]) -> Result<Image, Rejection> {
    within(photo, &Limits::default())
}

fn within(photo: &[u8], limits: &Limits) -> Result<Image, Rejection> {
    Image::decode(photo, limits).map_err(|error| match error {
        Error::Photo(rejection) => rejection,
        other => panic!("expected a rejection, found {other}"),
    })
}

fn refusal(photo: &[u8]) -> Rejection {
    decoded(photo).err().expect("expected a rejection")
}

/// The middles of the quarters in reading order: r, g, b, w, or another letter for another colour.
fn quarters(image: &Image) -> String {
    let letter = |pixel: &[u8]| match [0, 1, 2].map(|c| (pixel[c] > 200, pixel[c] < 55)) {
        [(true, _), (_, true), (_, true)] => 'r',
        [(_, true), (true, _), (_, true)] => 'g',
        [(_, true), (_, true), (true, _)] => 'b',
        [(true, _), (true, _), (true, _)] => 'w',
        _ => '?',
    };
    let (left, right) = (image.width() / 4, image.width() * 3 / 4);
    let (top, bottom) = (image.height() / 4, image.height() * 3 / 4);
    let at = |(x, y): (usize, usize)| letter(&image.row(y)[x * 3..]);
    [(left, top), (right, top), (left, bottom), (right, bottom)]
        .map(at)
        .iter()
        .collect()
}

fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).expect("encodes");
    bytes.into_inner()
}

/// The same picture with the colour of each quarter computed.
fn picture<P: image::Pixel>(colour: impl Fn([u8; 3]) -> P) -> ImageBuffer<P, Vec<P::Subpixel>> {
    ImageBuffer::from_fn(96, 64, |x, y| {
        colour(match (x < 48, y < 32) {
            (true, true) => [255, 0, 0],
            (false, true) => [0, 255, 0],
            (true, false) => [0, 0, 255],
            (false, false) => [255; 3],
        })
    })
}

/// One file of every kind that is taken.
fn all_kinds() -> Vec<(&'static str, Vec<u8>)> {
    let rgb = DynamicImage::from(picture(Rgb));
    let deep = DynamicImage::from(picture(|rgb| Rgb(rgb.map(|v| u16::from(v) * 257))));
    let mut all: Vec<_> = [
        "baseline.jpg",
        "no-subsampling.jpg",
        "progressive.jpg",
        "lossy.webp",
        "palette.png",
        "palette.bmp",
    ]
    .map(|name| (name, fixture(name)))
    .into();
    all.push(("8 bits PNG", encoded(&rgb, ImageFormat::Png)));
    all.push(("16 bits PNG", encoded(&deep, ImageFormat::Png)));
    all.push(("lossless WebP", encoded(&rgb, ImageFormat::WebP)));
    all.push(("24 bits BMP", encoded(&rgb, ImageFormat::Bmp)));
    all
}

#[test]
fn every_kind_gives_the_same_picture() {
    for (name, photo) in all_kinds() {
        let image = decoded(&photo).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(
            (image.width(), image.height(), quarters(&image).as_str()),
            (96, 64, "rgbw"),
            "{name}"
        );
    }
}

#[test]
fn a_grey_photograph_has_three_equal_channels() {
    let grey16 = DynamicImage::from(picture(|[r, ..]| image::Luma([u16::from(r) * 257])));
    for photo in [fixture("grey.jpg"), encoded(&grey16, ImageFormat::Png)] {
        let image = decoded(&photo).expect("decodes");
        assert!(
            image
                .row(10)
                .as_chunks::<3>()
                .0
                .iter()
                .all(|[r, g, b]| r == g && g == b)
        );
    }
}

#[test]
fn transparency_is_laid_on_white() {
    let hidden = picture(|[r, g, b]| Rgba([r, g, b, if b == 0 { 0 } else { 255 }]));
    let hidden16 =
        picture(|[r, g, b]| Rgba([r, g, b, if b == 0 { 0 } else { 255 }].map(|v| u16::from(v) * 257)));
    for picture in [DynamicImage::from(hidden), DynamicImage::from(hidden16)] {
        assert_eq!(
            quarters(&decoded(&encoded(&picture, ImageFormat::Png)).expect("decodes")),
            "wwbw"
        );
    }
}

#[test]
fn a_photograph_is_turned_upright_as_exif_says() {
    // In reading order, from the letters' places in "rg/bw".
    let upright = ["rgbw", "grwb", "wbgr", "bwrg", "rbgw", "brwg", "wgbr", "gwrb"];
    for (orientation, expected) in (1..).zip(upright) {
        let jpeg = with_orientation(&fixture("baseline.jpg"), orientation);
        let image = decoded(&jpeg).expect("decodes");
        let size = if orientation < 5 { (96, 64) } else { (64, 96) };
        assert_eq!((image.width(), image.height()), size, "orientation {orientation}");
        assert_eq!(quarters(&image), expected, "orientation {orientation}");
    }
}

#[test]
fn only_an_orientation_that_can_be_read_counts_as_one() {
    let says = |photo: &[u8]| decoded(photo).expect("decodes").says_how_it_lies();
    let jpeg = fixture("baseline.jpg");
    assert!((1..=8).all(|orientation| says(&with_orientation(&jpeg, orientation))));
    assert!(
        ![0, 9, 255]
            .into_iter()
            .any(|orientation| says(&with_orientation(&jpeg, orientation)))
    );
    assert!(all_kinds().iter().all(|(_, photo)| !says(photo)));
}

#[test]
fn an_image_is_turned_clockwise() {
    let image = decoded(&fixture("baseline.jpg")).expect("decodes");
    let turned = Turn::ALL.map(|turn| quarters(&image.turned(turn)));
    assert_eq!(turned, ["brwg", "wbgr", "gwrb"]);
}

/// A JPEG with an EXIF block of one entry behind its first marker.
fn with_orientation(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    let length = (exif.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], &[0xFF, 0xE1], &length, &exif, &jpeg[2..]].concat()
}

#[test]
fn what_is_not_taken_has_a_reason_of_its_own() {
    assert_eq!(refusal(b"no picture at all"), Rejection::UnsupportedFormat);
    assert_eq!(refusal(&[]), Rejection::UnsupportedFormat);
    assert_eq!(refusal(&fixture("still.gif")), Rejection::UnsupportedFormat);
    let unsupported = |format, what| Rejection::UnsupportedKind { format, what };
    assert_eq!(refusal(&fixture("cmyk.jpg")), unsupported("JPEG", "CMYK"));
    assert_eq!(
        refusal(&fixture("animated.webp")),
        unsupported("WebP", "animated")
    );
    assert_eq!(refusal(&fixture("animated.png")), unsupported("PNG", "animated"));
}

#[test]
fn bytes_pixels_and_sides_are_limited() {
    let photo = fixture("baseline.jpg");
    let limits = Limits::default;
    let bytes = photo.len() as u64;
    let refused = |limits: Limits| within(&photo, &limits).err();
    let (width, height) = (96, 64);
    assert_eq!(
        refused(Limits {
            image_bytes_max: bytes - 1,
            ..limits()
        }),
        Some(Rejection::TooManyBytes {
            bytes,
            bytes_max: bytes - 1
        })
    );
    assert_eq!(
        refused(Limits {
            image_pixels_max: 96 * 64 - 1,
            ..limits()
        }),
        Some(Rejection::TooManyPixels {
            width,
            height,
            pixels_max: 96 * 64 - 1
        })
    );
    assert_eq!(
        refused(Limits {
            image_side_px_min: 65,
            ..limits()
        }),
        Some(Rejection::SideTooShort {
            width,
            height,
            side_px_min: 65
        })
    );
    assert_eq!(
        refused(Limits {
            image_side_px_max: 95,
            ..limits()
        }),
        Some(Rejection::SideTooLong {
            width,
            height,
            side_px_max: 95
        })
    );
    let exact = Limits {
        image_bytes_max: bytes,
        image_pixels_max: 96 * 64,
        image_side_px_max: 96,
        ..limits()
    };
    assert_eq!(refused(exact), None);
}

#[test]
fn a_bomb_is_refused_from_its_header() {
    // Each claims 16,384 x 16,384 pixels, in a file of a few hundred bytes.
    const SIDE: u16 = 16_384;
    let mut jpeg = fixture("baseline.jpg");
    let frame = jpeg
        .windows(2)
        .position(|at| at == [0xFF, 0xC0])
        .expect("a frame header");
    jpeg[frame + 5..frame + 9].copy_from_slice(&[SIDE.to_be_bytes(), SIDE.to_be_bytes()].concat());
    let mut bmp = fixture("palette.bmp");
    bmp[18..26].copy_from_slice(&[u32::from(SIDE).to_le_bytes(), u32::from(SIDE).to_le_bytes()].concat());
    let mut webp = fixture("lossy.webp");
    let bits = SIDE - 1; // the format has 14
    webp[26..30].copy_from_slice(&[bits.to_le_bytes(), bits.to_le_bytes()].concat());
    let mut png = fixture("palette.png");
    png[16..24].copy_from_slice(&[u32::from(SIDE).to_be_bytes(), u32::from(SIDE).to_be_bytes()].concat());
    let checksum = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&checksum.to_be_bytes());
    for (name, photo) in [("JPEG", jpeg), ("BMP", bmp), ("WebP", webp), ("PNG", png)] {
        let refused = refusal(&photo);
        assert!(
            matches!(refused, Rejection::TooManyPixels { .. }),
            "{name}: {refused:?}"
        );
    }
}

/// The checksum of PNG chunks, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            (sum >> 1) ^ (0xEDB8_8320 * (sum & 1))
        })
    })
}

#[test]
fn half_a_picture_is_never_taken() {
    for (name, photo) in all_kinds() {
        let whole = decoded(&photo).expect("decodes");
        for length in 0..photo.len() {
            match decoded(&photo[..length]) {
                Err(
                    Rejection::Truncated { .. }
                    | Rejection::Undecodable { .. }
                    | Rejection::UnsupportedFormat,
                ) => {}
                Err(other) => panic!("{name} cut to {length} bytes: {other:?}"),
                // Nothing but an end mark was lost.
                Ok(image) => assert!(
                    image.rgb == whole.rgb,
                    "{name} cut to {length} of {} bytes",
                    photo.len()
                ),
            }
        }
    }
}

#[test]
fn a_file_that_ends_early_is_called_truncated() {
    for (name, photo) in all_kinds() {
        let refused = refusal(&photo[..photo.len() * 3 / 4]);
        assert!(
            matches!(refused, Rejection::Truncated { .. }),
            "{name}: {refused:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    #[test]
    fn damaged_files_are_refused_or_decoded_and_never_panic(
        kind in 0..10_usize,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        keep_whole in any::<bool>(),
    ) {
        let (_, mut photo) = all_kinds().swap_remove(kind);
        for (at, byte) in damage {
            let at = at.index(photo.len());
            photo[at] = byte;
        }
        if !keep_whole {
            photo.truncate(cut.index(photo.len()));
        }
        let limits = Limits { image_pixels_max: 1_000_000, ..Limits::default() };
        if let Ok(image) = within(&photo, &limits) {
            prop_assert_eq!(image.rgb.len(), image.width() * image.height() * 3);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        magic in prop::sample::select(vec![&b"\xFF\xD8\xFF"[..], b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBPVP8 ", b"BM", b""]),
        tail in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let _ = within(&[magic, &tail].concat(), &Limits { image_pixels_max: 1_000_000, ..Limits::default() });
    }
}
