//! Our rows: how fast and how right an index answers.

use std::hint::black_box;
use std::time::{Duration, Instant};

use likeness_bench::status_bytes;
use likeness_engine::Probe;
use likeness_engine::bench::{RandomFaces, one_core, words};
use serde_json::json;

use crate::asked::{BITS, GALLERY, SEED, everyone, probes};

/// Calls of one row, and the longest that a row takes.
const CALLS: usize = 2000;
const LONGEST: Duration = Duration::from_secs(20);

/// Of strangers so many are mistaken for somebody, at the threshold.
const FPIR: f64 = 0.01;

/// Who resembles each probe most, and how much.
pub type Answers = Vec<Option<(u32, f32)>>;

/// What is asked of a gallery.
pub struct Questions {
    size: u64,
    probes: Vec<Probe>,
    truth: Vec<Option<u64>>,
}

/// An index, and what building it took.
pub struct Built {
    pub faces: RandomFaces,
    pub seconds: f64,
    pub bytes_per_face: f64,
}

/// How a row is made.
#[derive(Clone, Copy)]
pub struct How<'a> {
    pub kind: &'a str,
    pub similarity_min: f32,
    pub exact: bool,
    /// One, or all: a search takes every core that is idle.
    pub threads: usize,
    pub batch: usize,
}

/// Prints the rows of the flat index, and what bounds them.
pub fn flat(size: u64, asked: u64) {
    let questions = Questions::new(size, asked);
    let built = questions.flat();
    let everyone = questions.answers(&built.faces, -1.0, true);
    let threshold = questions.threshold(&everyone);
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    for (kind, exact) in [("in stages", false), ("nobody missed", true)] {
        for (threads, batch) in [(1, 1), (1, 32), (all, 1), (all, 32)] {
            questions.row(
                &built,
                &everyone,
                How {
                    kind,
                    similarity_min: threshold,
                    exact,
                    threads,
                    batch,
                },
            );
        }
    }
    let looked_at = questions.looked_at(&built.faces, threshold);
    let ms = 1e3 * reading_seconds(size as usize, looked_at as usize);
    let note = format!(
        "A search in stages among {size} looks at {looked_at} of them beyond their first 256 bits, the median of its \
         probes; to read as much in the same places, and to do nothing else, took {ms:.2} ms."
    );
    println!(
        "{}",
        json!({ "note": note, "size": size, "looked_at": looked_at, "reading_ms": ms })
    );
    for mib in [32, 128] {
        let gbps = read_speed(mib);
        let note =
            format!("One core read {mib} MiB of memory at {gbps:.1} GB/s, beside the search among {size}.");
        println!(
            "{}",
            json!({ "note": note, "size": size, "read_mib": mib, "read_gbps": gbps })
        );
    }
}

impl Questions {
    pub fn new(size: u64, asked: u64) -> Self {
        let (probes, truth) = probes(size, asked);
        Self { size, probes, truth }
    }

    /// The flat index.
    pub fn flat(&self) -> Built {
        let (before, began) = (status_bytes("RssAnon:"), Instant::now());
        let mut faces = RandomFaces::new(BITS, SEED);
        everyone(self.size, |template| {
            faces.insert(template);
        });
        Built {
            faces,
            seconds: began.elapsed().as_secs_f64(),
            bytes_per_face: self.grown(before),
        }
    }

    /// Bytes for each face since there were so many.
    pub fn grown(&self, before: u64) -> f64 {
        status_bytes("RssAnon:").saturating_sub(before) as f64 / self.size as f64
    }

    /// Prints a row, beside what `everyone` answers who compares with all, at no threshold.
    pub fn row(&self, built: &Built, everyone: &Answers, how: How<'_>) {
        let How {
            kind,
            similarity_min,
            exact,
            threads,
            batch,
        } = how;
        let reached = |best: &Option<(u32, f32)>| best.filter(|(_, s)| *s >= similarity_min).map(|b| b.0);
        let answers = self.answers(&built.faces, similarity_min, exact);
        let agree = answers.iter().zip(everyone);
        let agree = agree
            .filter(|(answer, full)| answer.map(|a| a.0) == reached(full))
            .count();
        let seconds = self.timed(&built.faces, how);
        let quantile = |part: f64| seconds[((seconds.len() - 1) as f64 * part).round() as usize];
        let row = json!({
            "engine": "Likeness", "kind": kind, "gallery": GALLERY, "size": self.size,
            "bits": BITS.get(), "threads": threads, "batch": batch,
            "p50_us": quantile(0.5) / batch as f64 * 1e6,
            "p99_us": quantile(0.99) / batch as f64 * 1e6,
            "qps": batch as f64 * seconds.len() as f64 / seconds.iter().sum::<f64>(),
            "recall_at_1": agree as f64 / everyone.len() as f64,
            "rank_1": self.mated(&self.answers(&built.faces, -1.0, exact)),
            "fnir": 1.0 - self.mated(&answers),
            "threshold": similarity_min,
            "bytes_per_face": built.bytes_per_face, "build_s": built.seconds,
        });
        println!("{row}");
    }

    pub fn answers(&self, faces: &RandomFaces, similarity_min: f32, exact: bool) -> Answers {
        let some = self.probes.chunks(32).map(|some| some.iter().collect::<Vec<_>>());
        some.flat_map(|some| faces.best(&some, similarity_min, exact))
            .collect()
    }

    /// Faces that a search in stages looks at beyond their first bits, the median of the probes.
    fn looked_at(&self, faces: &RandomFaces, similarity_min: f32) -> u64 {
        let some = self.probes.chunks(32).map(|some| some.iter().collect::<Vec<_>>());
        let looked_at = some.flat_map(|some| faces.looked_at(&some, similarity_min));
        let mut looked_at: Vec<_> = looked_at.collect();
        looked_at.sort_unstable();
        looked_at[looked_at.len() / 2]
    }

    /// What one of a hundred strangers reaches.
    pub fn threshold(&self, answers: &Answers) -> f32 {
        let strangers = answers
            .iter()
            .zip(&self.truth)
            .filter(|(_, truth)| truth.is_none());
        let mut best: Vec<f32> = strangers.filter_map(|(best, _)| best.map(|(_, s)| s)).collect();
        best.sort_unstable_by(f32::total_cmp);
        best[((best.len() - 1) as f64 * (1.0 - FPIR)).round() as usize]
    }

    /// The part of those enrolled whose answer is themselves.
    fn mated(&self, answers: &Answers) -> f64 {
        let mated = answers
            .iter()
            .zip(&self.truth)
            .filter_map(|(best, truth)| Some((best, (*truth)?)));
        let right: Vec<bool> = mated
            .map(|(best, truth)| best.is_some_and(|(who, _)| u64::from(who) == truth))
            .collect();
        right.iter().filter(|right| **right).count() as f64 / right.len() as f64
    }

    /// Seconds of each call, the fastest first.
    fn timed(&self, faces: &RandomFaces, how: How<'_>) -> Vec<f64> {
        let probes: Vec<&Probe> = self.probes.iter().collect();
        let best = |some: &[&Probe]| black_box(faces.best(some, how.similarity_min, how.exact));
        let starts = (0..).map(|call| call * how.batch % (probes.len() - how.batch + 1));
        let _alone = (how.threads == 1).then(one_core);
        let (mut seconds, began) = (Vec::new(), Instant::now());
        best(&probes[..how.batch]);
        for start in starts.take(CALLS) {
            let call = Instant::now();
            best(&probes[start..start + how.batch]);
            seconds.push(call.elapsed().as_secs_f64());
            if began.elapsed() > LONGEST {
                break;
            }
        }
        seconds.sort_unstable_by(f64::total_cmp);
        seconds
    }
}

/// GB a second of one piece of memory.
fn read_speed(mib: usize) -> f64 {
    let words = words(mib << 17);
    let seconds = median_seconds(|| {
        let mut sums = [0; 32];
        add(&mut sums, black_box(&*words));
        black_box(sums);
    });
    (mib << 20) as f64 / seconds / 1e9
}

/// Seconds to read what a search in stages does, and to do nothing else: of all faces 32 bytes, one behind the other,
/// and meanwhile of so many of them the line that each has elsewhere. The last line, of few, is not counted.
fn reading_seconds(faces: usize, looked_at: usize) -> f64 {
    /// Words of a cache line, and of what lies in columns.
    const LINE: usize = 8;
    const FRONT: usize = 4;
    let (fronts, middles) = (words(faces * FRONT), words(faces * LINE));
    let apart = faces / looked_at.max(1);
    median_seconds(|| {
        let mut sums = [0; 32];
        for (n, front) in black_box(&*fronts).chunks(apart.max(1) * FRONT).enumerate() {
            add(&mut sums, front);
            if let Some(word) = black_box(&*middles).get(n * apart * LINE) {
                sums[0] = sums[0].wrapping_add(*word);
            }
        }
        black_box(sums);
    })
}

fn add(sums: &mut [u64; 32], words: &[u64]) {
    for words in words.as_chunks::<32>().0 {
        sums.iter_mut()
            .zip(words)
            .for_each(|(sum, word)| *sum = sum.wrapping_add(*word));
    }
}

/// The median of many passes.
fn median_seconds(pass: impl Fn()) -> f64 {
    let mut seconds: Vec<f64> = (0..60)
        .map(|_| {
            let start = Instant::now();
            pass();
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_unstable_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}
