//! Recognition of photographs that are made worse step by step, and the level that refuses them:
//! the measurement behind the limits. Prints, and asserts that the levels are in order.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, thread};

use ::image::imageops::{self, FilterType};
use ::image::{ImageFormat, Rgb, RgbImage};

use crate::embedding::Embedding;
use crate::pipeline::image::Image;
use crate::pipeline::{Choose, Pipeline};
use crate::quality::{Quality, QualityLevel};
use crate::testing::asset;
use likeness_types::Inside;
use likeness_types::config::Limits;
use likeness_types::span::Span;

type Change = Box<dyn Fn(&RgbImage) -> RgbImage + Sync>;

fn each(change: impl Fn(f32) -> f32 + Sync + 'static) -> Change {
    Box::new(move |picture| {
        let mut picture = picture.clone();
        let change = |value: u8| change(value.into()).round().clamp(0.0, 255.0) as u8;
        picture
            .pixels_mut()
            .for_each(|pixel| pixel.0 = pixel.0.map(change));
        picture
    })
}

fn smaller(part: f32) -> Change {
    Box::new(move |picture| {
        let side = |length: u32| (length as f32 * part) as u32;
        let (width, height) = (side(picture.width()), side(picture.height()));
        let small = imageops::resize(picture, width, height, FilterType::Triangle);
        // On grey, or the photograph would be refused for its own size.
        let mut canvas = RgbImage::from_pixel(picture.width(), picture.height(), Rgb([127; 3]));
        let middle = |all: u32, part: u32| i64::from((all - part) / 2);
        imageops::replace(
            &mut canvas,
            &small,
            middle(picture.width(), width),
            middle(picture.height(), height),
        );
        canvas
    })
}

fn tilted(degrees: f32) -> Change {
    Box::new(move |picture| {
        let (sin, cos) = degrees.to_radians().sin_cos();
        let [across, down] = [picture.width(), picture.height()].map(|side| side as f32 / 2.0);
        RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
            let (x, y) = (x as f32 - across, y as f32 - down);
            let (x, y) = (across + cos * x + sin * y, down + cos * y - sin * x);
            let found = (x >= 0.0 && y >= 0.0)
                .then(|| imageops::interpolate_bilinear(picture, x, y))
                .flatten();
            found.unwrap_or(Rgb([127; 3]))
        })
    })
}

fn changes() -> Vec<(String, Change)> {
    let mut changes: Vec<(String, Change)> = vec![("as it is".into(), Box::new(RgbImage::clone))];
    for part in [0.7, 0.5, 0.4, 0.35, 0.3, 0.25] {
        changes.push((format!("{part} of the size"), smaller(part)));
    }
    for sigma in [1.0f32, 1.5, 2.0, 2.5, 3.0, 4.0] {
        let blurred: Change = Box::new(move |picture| imageops::blur(picture, sigma));
        changes.push((format!("blurred by {sigma} px"), blurred));
    }
    for gain in [0.5, 0.3, 0.2, 0.15, 0.1, 1.4, 1.6, 1.8, 2.0] {
        changes.push((format!("{gain} of the light"), each(move |value| gain * value)));
    }
    for part in [0.5, 0.3, 0.2, 0.15] {
        let change = each(move |value| 128.0 + part * (value - 128.0));
        changes.push((format!("{part} of the contrast"), change));
    }
    for degrees in [10.0, 20.0, 30.0, 40.0, 50.0] {
        changes.push((format!("tilted by {degrees} degrees"), tilted(degrees)));
    }
    changes
}

struct Photograph {
    person: usize,
    picture: RgbImage,
}

/// Everybody of whom there are two photographs and more.
fn photographs(dir: &Path, limits: &Limits) -> Vec<Photograph> {
    let listed = |dir: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(dir).expect("a directory");
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("listed").path()).collect();
        paths.sort();
        paths
    };
    let mut photographs = Vec::new();
    let people = listed(dir).into_iter().filter(|path| path.is_dir());
    for (person, files) in people.map(|path| listed(&path)).enumerate() {
        if files.len() < 2 {
            continue;
        }
        for file in files {
            let image = Image::decode(&fs::read(file).expect("read"), limits).expect("decodes");
            let rows = (0..image.height()).flat_map(|y| image.row(y).to_vec()).collect();
            let picture = RgbImage::from_raw(image.width() as u32, image.height() as u32, rows);
            let picture = picture.expect("as many as it has");
            photographs.push(Photograph { person, picture });
        }
    }
    photographs
}

fn embed(pipeline: &Pipeline, picture: &RgbImage) -> Option<(Embedding, Quality)> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Bmp).expect("encodes");
    let wanted = Choose::NearestCentre.at(QualityLevel::None);
    let found = pipeline.embedding(bytes.get_ref(), wanted, &mut Span::default());
    found.ok().map(|(embedding, face)| (embedding, face.quality))
}

/// What a change does to all photographs.
fn changed(
    pipeline: &Pipeline,
    photographs: &[Photograph],
    change: &Change,
) -> Vec<Option<(Embedding, Quality)>> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        while let Some((i, photograph)) = Some(next.fetch_add(1, Ordering::Relaxed))
            .and_then(|i| photographs.get(i).map(|photograph| (i, photograph)))
        {
            done.push((i, embed(pipeline, &change(&photograph.picture))));
        }
        done
    };
    let mut all: Vec<_> = thread::scope(|scope| {
        let workers = [scope.spawn(worker), scope.spawn(worker)];
        workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("no panic"))
            .collect()
    });
    all.sort_by_key(|(i, _)| *i);
    all.into_iter().map(|(_, found)| found).collect()
}

#[test]
#[ignore = "prints what LIKENESS_PHOTOGRAPHS (DIR/PERSON/PHOTOGRAPH) show when they are made worse"]
fn what_is_recognised_of_worse_photographs() {
    let dir = PathBuf::from(env::var_os("LIKENESS_PHOTOGRAPHS").expect("where they are"));
    let runtime = asset("runtime/libonnxruntime.so");
    let pipeline = Pipeline::load(&asset("models"), &runtime, Limits::default(), 2).expect("loads");
    let photographs = photographs(&dir, &Limits::default());
    let threshold = pipeline.stated_rates().far_1e4;
    let good: Vec<_> = changed(&pipeline, &photographs, &(Box::new(RgbImage::clone) as Change));
    println!(
        "{} photographs; recognised: of the pairs with another, untouched photograph",
        photographs.len()
    );
    for (what, change) in changes() {
        let worse = changed(&pipeline, &photographs, &change);
        let (mut pairs, mut recognised) = (0u32, 0u32);
        for (i, probe) in worse.iter().enumerate() {
            for (j, stored) in good.iter().enumerate() {
                if i != j && photographs[i].person == photographs[j].person {
                    let (Some((probe, _)), Some((stored, _))) = (probe, stored) else {
                        continue;
                    };
                    pairs += 1;
                    recognised += u32::from(probe.values(Inside).dot(&stored.values(Inside)) >= threshold);
                }
            }
        }
        let count = photographs.len() as f32;
        let refused = QualityLevel::ALL.map(|level| {
            let refuses = |found: &&Option<(Embedding, Quality)>| {
                found
                    .as_ref()
                    .is_none_or(|(_, quality)| quality.rejection(level).is_some())
            };
            100.0 * worse.iter().filter(refuses).count() as f32 / count
        });
        assert!(refused.is_sorted(), "{refused:?}");
        let [none, low, medium, high, strict] = refused;
        let recognised = 100.0 * f64::from(recognised) / f64::from(pairs.max(1));
        println!(
            "| {what} | {recognised:.1} | {none:.0} | {low:.0} | {medium:.0} | {high:.0} | {strict:.0} |"
        );
    }
}
