//! Turning a photograph.

use image::metadata::Orientation;

use super::Image;

/// A copy of the image, turned and mirrored like this.
pub(super) fn turned(image: &Image, orientation: Orientation) -> Image {
    use Orientation::*;
    let (right, bottom) = (image.width - 1, image.height - 1);
    let turned = matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH);
    let (width, height) = if turned {
        (image.height, image.width)
    } else {
        (image.width, image.height)
    };
    // Where the pixel (x, y) of the copy lies in the image.
    let source = |x: usize, y: usize| match orientation {
        NoTransforms => (x, y),
        FlipHorizontal => (right - x, y),
        FlipVertical => (x, bottom - y),
        Rotate180 => (right - x, bottom - y),
        Rotate90 => (y, bottom - x),
        Rotate270 => (right - y, x),
        Rotate90FlipH => (y, x),
        Rotate270FlipH => (right - y, bottom - x),
    };
    let mut rgb = Vec::with_capacity(image.rgb.len());
    for y in 0..height {
        for x in 0..width {
            let (from_x, from_y) = source(x, y);
            rgb.extend_from_slice(&image.rgb[(from_y * image.width + from_x) * 3..][..3]);
        }
    }
    let mut copy = Image::new(width, height, rgb);
    copy.memory.clone_from(&image.memory);
    copy
}
