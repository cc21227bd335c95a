//! Finer looks at a large photograph: the scales and the tiles in which small faces are found.
//!
//! The detector sees 320x240 pixels. Shrunk to that, a photograph of 4000x3000 shows a face of 34 px with 3.
//! So it is looked at again at finer scales, down to the one where the smallest face that is accepted is
//! found reliably, in tiles. Each scale is responsible for a range of faces, and its tiles overlap by more
//! than the largest of these: every one lies whole in some tile.

use super::detect::{Detector, View, one_a_face};
use super::face::Candidate;
use super::image::Image;
use likeness_types::config::Limits;
use likeness_types::error::Result;

/// The short side, in pixels of the detector's input, from which a face is found reliably. Of 575 faces of
/// LFW, shrunk by averaging and pasted on grey, 28.7 % were found at 10 px, 74.3 % at 12, 97.7 % at 14 and all
/// at 17. The test `how_small_a_face_is_found` counts them in a folder.
const RELIABLE_PX: f64 = 17.0;

/// From one scale to the next, at most. Fewer scales need tiles that overlap more: 4000x3000 pixels make
/// 605 tiles with one scale, 92 with two, 98 with three; 6000x4000 200 with two, 177 with three, 190 with
/// four.
const FACTOR_MAX: f64 = 2.6;

/// A scale also takes faces this much larger than where the next one begins.
const SPARE: f64 = 1.25;

/// Height of a face's box in widths, at most, but for the rarest.
const HEIGHT_MAX: f64 = 1.6;

/// A box that ends this near an inner border of its tile, in pixels of the input, may be half a face.
const BORDER_PX: f32 = 2.0;

/// A box of which this part lies in a larger one is an eye or a chin of that face.
const INSIDE_MAX: f32 = 0.7;

/// One scale: all its tiles.
#[derive(Debug, PartialEq)]
pub(super) struct Scale {
    tiles: Vec<View>,
    /// The largest face that the tiles certainly hold whole, in pixels of the photograph: across and down.
    face_max: [f32; 2],
}

/// The scales between the photograph as a whole and its smallest acceptable faces, the coarsest first.
/// None where the whole shows all faces.
pub(super) fn finer(image: &Image, input: [usize; 2], limits: &Limits) -> Vec<Scale> {
    let [across, down] = View::whole(image, input).step;
    // Finer than the photograph itself there is nothing to see.
    let finest = (f64::from(limits.face_side_px_min) / RELIABLE_PX).max(1.0);
    let range = across.max(down) / finest;
    if range <= 1.0 {
        return Vec::new();
    }
    let count = (range.ln() / FACTOR_MAX.ln()).ceil();
    let factor = range.powf(1.0 / count);
    (0..count as i32)
        .rev()
        .map(|level| Scale::new(image, input, finest * factor.powi(level), factor))
        .collect()
}

impl Scale {
    /// `step` photograph pixels an input pixel; the next coarser scale has `factor` times as many.
    fn new(image: &Image, input: [usize; 2], step: f64, factor: f64) -> Self {
        let width = RELIABLE_PX * factor * SPARE;
        let face = [width, width * HEIGHT_MAX];
        let along = |axis: usize, length: usize| {
            let overlap = face[axis] + 2.0 * f64::from(BORDER_PX);
            origins(length as f64, input[axis] as f64 * step, overlap * step)
        };
        let (columns, rows) = (along(0, image.width()), along(1, image.height()));
        let sides = [(0, image.width()), (1, image.height())]
            .map(|(axis, length)| ((length as f64 / step).ceil() as usize).min(input[axis]));
        let tile = |x: f64, y: f64| View {
            origin: [x, y],
            step: [step; 2],
            sides,
            offset: [0, 1].map(|axis| (input[axis] - sides[axis]) / 2),
            averaged: true,
        };
        Self {
            tiles: rows
                .iter()
                .flat_map(|&y| columns.iter().map(move |&x| tile(x, y)))
                .collect(),
            face_max: face.map(|side| (side * step) as f32),
        }
    }

    /// The parts of the photograph that are looked at one by one.
    pub(crate) fn tiles(&self) -> &[View] {
        &self.tiles
    }

    /// The trustworthy boxes of one of its tiles, in no order. Those of all tiles are several a face.
    pub(crate) fn look(
        &self,
        tile: &View,
        detector: &Detector,
        image: &Image,
        score_min: f32,
    ) -> Result<Vec<Candidate>> {
        let mut boxes = detector.find_in(image, tile, score_min)?;
        boxes.retain(|one| self.trusts(one, tile, image));
        // Each tile's own are few, so that merging all stays cheap.
        Ok(one_a_face(boxes))
    }

    /// Whether a box is certainly a whole face: not cut by an inner border, nor as large as one that every
    /// tile may cut.
    fn trusts(&self, found: &Candidate, tile: &View, image: &Image) -> bool {
        let bounds = &found.bounds;
        let edges = [
            (bounds.left, bounds.right, image.width()),
            (bounds.top, bounds.bottom, image.height()),
        ];
        edges.into_iter().enumerate().all(|(axis, (low, high, length))| {
            let (origin, step) = (tile.origin[axis] as f32, tile.step[axis] as f32);
            let (end, length) = (origin + tile.sides[axis] as f32 * step, length as f32);
            let border = BORDER_PX * step;
            high - low <= self.face_max[axis]
                && (origin <= 0.0 || low >= origin + border)
                && (end >= length || high <= end - border)
        })
    }
}

/// Where tiles of `tile` pixels begin that cover `length` pixels and overlap by at least `overlap`.
fn origins(length: f64, tile: f64, overlap: f64) -> Vec<f64> {
    let spare = length - tile;
    if spare <= 0.0 {
        return vec![0.0];
    }
    let gaps = (spare / (tile - overlap)).ceil();
    (0..=gaps as u32).map(|i| spare * f64::from(i) / gaps).collect()
}

/// What several scales found, the surest first, one a face. A part of a larger face goes, if that one is a
/// face at all (`score_min`) or the surer of the two.
pub(super) fn merged(candidates: Vec<Candidate>, score_min: f32) -> Vec<Candidate> {
    let mut faces = one_a_face(candidates);
    let all = faces.clone();
    faces.retain(|part| {
        !all.iter().any(|whole| {
            whole.bounds.area() > part.bounds.area()
                && whole.score >= score_min.min(part.score)
                && part.bounds.part_in(&whole.bounds) > INSIDE_MAX
        })
    });
    faces
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::manifest::{DEFAULT_MANIFEST, Manifest};
    use crate::model::Model;
    use crate::pipeline::face::Bounds;
    use crate::pipeline::upright::copied;
    use crate::tensor::Tensor;
    use crate::testing::{asset, runtime};

    const INPUT: [usize; 2] = [320, 240];

    /// Finds white rectangles on black that are 16 px wide or more.
    struct Squares;

    impl Model for Squares {
        fn run(&self, input: &Tensor) -> Result<Vec<Tensor>> {
            let [width, height] = INPUT;
            let plane = &input.values()[..width * height];
            let white = |x: usize, y: usize| plane[y * width + x] > 0.0;
            let (mut scores, mut boxes) = (Vec::new(), Vec::new());
            for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
                let corner = (x == 0 || !white(x - 1, y)) && (y == 0 || !white(x, y - 1));
                if !white(x, y) || !corner {
                    continue;
                }
                let right = (x..width).find(|&x| !white(x, y)).unwrap_or(width);
                let bottom = (y..height).find(|&y| !white(x, y)).unwrap_or(height);
                if right - x >= 16 {
                    scores.extend([0.1, 0.9]);
                    boxes.extend(
                        [(x, width), (y, height), (right, width), (bottom, height)]
                            .map(|(at, side)| at as f32 / side as f32),
                    );
                }
            }
            let tensor = |values: &[f32], of: usize| {
                Tensor::from_slice(&[1, values.len() / of, of], values).expect("a shape that fits")
            };
            Ok(vec![tensor(&scores, 2), tensor(&boxes, 4)])
        }
    }

    fn detector() -> Detector {
        let manifest = Manifest::parse(DEFAULT_MANIFEST).expect("valid");
        Detector::new(&manifest.detector, Box::new(Squares))
    }

    /// White rectangles on black.
    fn picture(width: usize, height: usize, squares: &[[usize; 4]]) -> Image {
        let mut rgb = vec![0; width * height * 3];
        for &[left, top, right, bottom] in squares {
            for y in top..bottom {
                rgb[(y * width + left) * 3..(y * width + right) * 3].fill(255);
            }
        }
        Image::new(width, height, rgb)
    }

    /// All that a scale finds.
    fn in_scale(scale: &Scale, image: &Image) -> Vec<Candidate> {
        let look = |tile| scale.look(tile, &detector(), image, 0.3).expect("runs");
        scale.tiles().iter().flat_map(look).collect()
    }

    /// All that is found in the whole and in every scale.
    fn found(image: &Image) -> Vec<Bounds> {
        let (detector, limits) = (detector(), Limits::default());
        let mut all = detector.find(image, 0.3).expect("runs");
        for scale in finer(image, INPUT, &limits) {
            all.extend(in_scale(&scale, image));
        }
        merged(all, 0.65).into_iter().map(|one| one.bounds).collect()
    }

    fn bounds(left: f32, top: f32, right: f32, bottom: f32) -> Bounds {
        Bounds {
            left,
            top,
            right,
            bottom,
        }
    }

    #[test]
    fn a_photograph_that_shows_its_smallest_faces_as_a_whole_has_no_finer_scale() {
        let finer = |width, height| {
            let image = picture(width, height, &[]);
            finer(&image, INPUT, &Limits::default())
                .iter()
                .map(|scale| scale.tiles.len())
                .collect::<Vec<_>>()
        };
        assert_eq!(finer(640, 480), [0; 0]);
        assert_eq!(finer(64, 64), [0; 0]);
        assert_eq!(finer(1600, 1200), [12]);
        assert_eq!(finer(4000, 3000), [12, 80]);
        // A strip is one tile high.
        assert_eq!(finer(6000, 400), [3, 6, 11]);
    }

    #[test]
    fn tiles_cover_everything_and_overlap_as_they_must() {
        assert_eq!(origins(640.0, 640.0, 100.0), [0.0]);
        assert_eq!(origins(100.0, 640.0, 100.0), [0.0]);
        assert_eq!(origins(641.0, 640.0, 100.0), [0.0, 1.0]);
        assert_eq!(origins(1180.0, 640.0, 100.0), [0.0, 540.0]);
        assert_eq!(origins(1181.0, 640.0, 100.0), [0.0, 270.5, 541.0]);
    }

    #[test]
    fn a_part_of_a_face_is_not_another_one() {
        let one = |bounds, score| Candidate { bounds, score };
        let face = one(bounds(0.0, 0.0, 100.0, 130.0), 0.8);
        let eye = one(bounds(20.0, 40.0, 50.0, 60.0), 0.9);
        let beside = one(bounds(90.0, 0.0, 150.0, 80.0), 0.7);
        assert_eq!(merged(vec![eye, face, beside], 0.65), [face, beside]);
        // What is no face itself takes no face away.
        let unsure = Candidate { score: 0.4, ..face };
        assert_eq!(merged(vec![eye, unsure], 0.65), [eye, unsure]);
    }

    #[test]
    fn a_face_that_every_tile_cuts_is_left_to_the_next_scale() {
        // As high as a tile of the finest scale.
        let image = picture(1600, 1200, &[[500, 350, 900, 830]]);
        let [finest] = &finer(&image, INPUT, &Limits::default())[..] else {
            panic!("expected one scale");
        };
        assert_eq!(in_scale(finest, &image), []);
    }

    /// What [`RELIABLE_PX`] rests on. The folder holds `<person>/<photograph>`; the first of each person is taken.
    #[test]
    #[ignore = "measures photographs of a folder named by LIKENESS_PORTRAITS"]
    fn how_small_a_face_is_found() {
        let folder = std::env::var_os("LIKENESS_PORTRAITS").expect("LIKENESS_PORTRAITS names a folder");
        let limits = Limits::default();
        let manifest = Manifest::parse(DEFAULT_MANIFEST).expect("valid");
        let model = runtime().model(&asset("models"), &manifest.detector, 1);
        let detector = Detector::new(&manifest.detector, Box::new(model.expect("loads")));
        let (widths, mut found, mut all) = ([10.0, 12.0, 14.0, 17.0], [0; 4], 0);
        for person in std::fs::read_dir(folder).expect("a folder") {
            let mut photos =
                std::fs::read_dir(person.expect("listed").path()).expect("a folder for each person");
            let Some(photo) = photos.next() else { continue };
            let bytes = std::fs::read(photo.expect("listed").path()).expect("a file");
            let image = Image::decode(&bytes, &limits).expect("decodes");
            let sure = detector.find(&image, limits.face_score_min).expect("runs");
            let Some(face) = sure.first() else { continue };
            all += 1;
            for (width, found) in widths.into_iter().zip(&mut found) {
                let step = f64::from(face.bounds.width()) / width;
                let sides = [image.width(), image.height()].map(|side| (side as f64 / step) as usize);
                let small = on_grey(&copied(&image, [0.0; 2], [step; 2], sides));
                *found += usize::from(
                    !detector
                        .find(&small, limits.face_score_min)
                        .expect("runs")
                        .is_empty(),
                );
            }
        }
        let percent = found.map(|found| 100.0 * found as f64 / f64::from(all));
        println!("of {all} faces, at widths of {widths:?} px: {percent:.1?} % found");
        assert!(percent.is_sorted() && percent[3] > 95.0);
    }

    /// A picture in the middle of the detector's input, or as much of its middle as fits.
    fn on_grey(picture: &Image) -> Image {
        let [width, height] = INPUT;
        let mut rgb = vec![127; width * height * 3];
        let (across, down) = (picture.width().min(width), picture.height().min(height));
        let [from_x, from_y] = [(picture.width() - across) / 2, (picture.height() - down) / 2];
        let [x, y] = [(width - across) / 2, (height - down) / 2];
        for row in 0..down {
            let from = &picture.row(from_y + row)[from_x * 3..(from_x + across) * 3];
            rgb[((y + row) * width + x) * 3..][..from.len()].copy_from_slice(from);
        }
        Image::new(width, height, rgb)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..Default::default() })]

        #[test]
        fn every_face_is_found_once_wherever_it_lies(
            (width, height) in prop_oneof![(400..3000_usize, 400..2000_usize), (3000..6000_usize, 150..400_usize)],
            side in 36..140_usize,
            x in any::<prop::sample::Index>(),
            y in any::<prop::sample::Index>(),
        ) {
            let tall = side * 5 / 4;
            prop_assume!(tall < height);
            let (left, top) = (x.index(width - side), y.index(height - tall));
            let image = picture(width, height, &[[left, top, left + side, top + tall]]);
            let found = found(&image);
            prop_assert_eq!(found.len(), 1, "{:?}", found);
            let truth = bounds(left as f32, top as f32, (left + side) as f32, (top + tall) as f32);
            prop_assert!(found[0].overlap(&truth) > 0.7, "{:?}, not {:?}", found[0], truth);
        }
    }
}
