//! After a span, nothing of the face is left in the process: its whole writable memory is searched.

use likeness_types::Inside;
use std::fs::{self, File};
use std::io::{Cursor, Read, Seek, SeekFrom};

use super::*;
use crate::testing::asset;

/// What is looked for is kept masked, or the search would find itself.
const MASK: u8 = 0x5A;

struct Needle {
    name: &'static str,
    masked: Vec<u8>,
}

impl Needle {
    fn new(name: &'static str, bytes: impl IntoIterator<Item = u8>) -> Self {
        Self {
            name,
            masked: bytes.into_iter().map(|byte| byte ^ MASK).collect(),
        }
    }

    fn of(name: &'static str, values: &[f32]) -> Self {
        Self::new(name, values.iter().flat_map(|value| value.to_ne_bytes()))
    }

    fn is_at(&self, bytes: &[u8]) -> bool {
        bytes.len() >= self.masked.len()
            && self
                .masked
                .iter()
                .zip(bytes)
                .all(|(masked, byte)| masked ^ MASK == *byte)
    }
}

/// How often each needle is in this process's writable memory.
fn hits(needles: &[Needle]) -> Vec<(&'static str, usize)> {
    const CHUNK: usize = 1 << 16;
    const OVERLAP: usize = 64;
    let mut counts: Vec<_> = needles.iter().map(|needle| (needle.name, 0)).collect();
    let mut memory = File::open("/proc/self/mem").expect("a process may read itself");
    let mut bytes = vec![0; CHUNK + OVERLAP];
    for line in fs::read_to_string("/proc/self/maps")
        .expect("a process may read itself")
        .lines()
    {
        let mut words = line.split_whitespace();
        let (Some(range), Some(rights)) = (words.next(), words.next()) else {
            continue;
        };
        let (from, to) = range.split_once('-').expect("from-to");
        let [from, to] = [from, to].map(|at| usize::from_str_radix(at, 16).expect("an address"));
        if !rights.starts_with("rw") || line.contains("[v") {
            continue;
        }
        for start in (from..to).step_by(CHUNK) {
            let length = (CHUNK + OVERLAP).min(to - start);
            // Memory may go while it is searched; then there is nothing in it.
            let read = memory
                .seek(SeekFrom::Start(start as u64))
                .and_then(|_| memory.read_exact(&mut bytes[..length]));
            if read.is_ok() {
                for at in 0..length.min(CHUNK) {
                    for (needle, (_, count)) in needles.iter().zip(&mut counts) {
                        *count += usize::from(needle.is_at(&bytes[at..length]));
                    }
                }
            }
            bytes.fill(0);
        }
    }
    counts
}

/// A photograph that no other test has: a face, a little darker.
fn photograph() -> Vec<u8> {
    let bytes = fs::read(asset("photographs/astronaut.png")).expect("`make assets` fetched it");
    let mut picture = ::image::load_from_memory(&bytes).expect("decodes").into_rgb8();
    picture
        .iter_mut()
        .for_each(|value| *value = (f32::from(*value) * 0.93) as u8);
    let mut bytes = Cursor::new(Vec::new());
    picture
        .write_to(&mut bytes, ::image::ImageFormat::Png)
        .expect("encodes");
    bytes.into_inner()
}

#[test]
fn nothing_of_a_face_is_left_in_memory() {
    let library = asset("runtime/libonnxruntime.so");
    let pipeline = Pipeline::load(&asset("models"), &library, Limits::default(), 1).expect("loads");
    let photo = photograph();

    let image = Image::decode(&photo, &Limits::default()).expect("decodes");
    let found = pipeline.detector.find(&image, 0.65).expect("runs");
    let points = pipeline
        .landmarks
        .find(&image, &found[0].bounds)
        .expect("runs")
        .five();
    let face = pipeline.aligner.align(&image, &points).expect("aligns");
    let mut needles = vec![
        Needle::new("photograph", image.row(120)[600..624].iter().copied()),
        Needle::of("aligned face", &face.0.values()[20_000..20_006]),
    ];
    let raw = pipeline.embedder.raw(face).expect("runs");
    needles.push(Needle::of("raw features", &raw.values()[100..104]));
    needles.push(Needle::of("raw features", &raw.values()[400..404]));
    let alive = hits(&needles);
    assert!(
        alive[0].1 > 0 && alive[2].1 > 0,
        "the search finds what is there: {alive:?}"
    );
    drop((image, raw));

    let (embedding, _) = pipeline
        .embedding(&photo, Choose::Only.at(QualityLevel::None), &mut Span::default())
        .expect("embeds");
    needles.push(Needle::of(
        "features",
        &embedding.values(Inside).to_vec()[100..104],
    ));
    drop(embedding);
    let left = hits(&needles);
    assert!(
        left.iter().all(|&(_, count)| count == 0),
        "left in memory: {left:?}"
    );
}
