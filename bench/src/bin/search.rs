//! Synthetic galleries for `make bench-peers`, and our own search on them.
//!
//! `bench-search export FOLDER SIZE PROBES` writes what the peers need: `templates.u8` and `gallery.f32` of everyone enrolled, `probes.u8` and
//! `probes.f32` of those looked for, half of whom nobody enrolled, and `truth.i64` with who each is (-1: nobody).
//! `bench-search measure SIZE PROBES` prints our rows for the same gallery, made anew in memory, one JSON object a
//! line, and how fast this machine reads memory in the same run.

use std::fs::File;
use std::hint::black_box;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use likeness_bench::population::{DIM, Population};
use likeness_engine::bench::{RandomFaces, bytes, one_core, protector, template};
use likeness_engine::{Bits, Probe, Protector};
use serde_json::json;

const BITS: Bits = Bits::B1024;
const SEED: u64 = 1;
/// People from this number on are enrolled in no gallery.
const STRANGERS: u64 = 1 << 40;
/// Photographs made between two writes.
const BLOCK: u64 = 8192;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["export", folder, size, probes] => match (size.parse(), probes.parse()) {
            (Ok(size), Ok(probes)) => export(&PathBuf::from(folder), size, probes),
            _ => return usage(),
        },
        ["measure", size, probes] => match (size.parse(), probes.parse()) {
            (Ok(size), Ok(probes)) => {
                measure(size, probes);
                Ok(())
            }
            _ => return usage(),
        },
        _ => return usage(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-search: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("bench-search: expected `export FOLDER SIZE PROBES` or `measure SIZE PROBES`");
    ExitCode::FAILURE
}

/// Bits and features of some photographs, in order.
type Block = (Vec<u8>, Vec<f32>);

fn export(folder: &Path, size: u64, probes: u64) -> io::Result<()> {
    let (population, protector) = (Population::new(SEED), protector(DIM));
    std::fs::create_dir_all(folder)?;
    let all = |count: u64, names: [&str; 2], who: &(dyn Fn(u64) -> (u64, u64) + Sync)| {
        let mut files = [create(folder, names[0])?, create(folder, names[1])?];
        in_order(
            count,
            &|range| block(&population, &protector, range.map(who)),
            |(bits, values)| {
                files[0].write_all(&bits)?;
                values
                    .iter()
                    .try_for_each(|value| files[1].write_all(&value.to_le_bytes()))
            },
        )?;
        files.iter_mut().try_for_each(Write::flush)
    };
    all(size, ["templates.u8", "gallery.f32"], &|person| (person, 0))?;
    let asked = |n| asked(n, size, probes);
    all(probes, ["probes.u8", "probes.f32"], &asked)?;
    let mut truth = create(folder, "truth.i64")?;
    for n in 0..probes {
        let (person, _) = asked(n);
        let person = i64::try_from(person)
            .ok()
            .filter(|_| person < STRANGERS)
            .unwrap_or(-1);
        truth.write_all(&person.to_le_bytes())?;
    }
    truth.flush()?;
    let meta = serde_json::json!({ "size": size, "gallery": "population, seed 1" });
    std::fs::write(folder.join("gallery.json"), meta.to_string())
}

fn create(folder: &Path, name: &str) -> io::Result<BufWriter<File>> {
    File::create(folder.join(name)).map(BufWriter::new)
}

fn block(
    population: &Population,
    protector: &Protector,
    photographs: impl Iterator<Item = (u64, u64)>,
) -> Block {
    let (mut bits, mut values) = (Vec::new(), Vec::new());
    for (person, photograph) in photographs {
        values.extend(population.unit_values(person, photograph));
        let template = protector.protect(population.photograph(person, photograph), BITS);
        bits.extend(bytes(&template));
    }
    (bits, values)
}

/// Makes blocks on all cores and takes them in order.
fn in_order(
    count: u64,
    make: &(dyn Fn(std::ops::Range<u64>) -> Block + Sync),
    mut take: impl FnMut(Block) -> io::Result<()>,
) -> io::Result<()> {
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let mut next = 0;
    while next < count {
        let starts = (0..cores).map(|core| (next + core * BLOCK).min(count));
        let blocks: Vec<Block> = thread::scope(|scope| {
            let makers: Vec<_> = starts
                .map(|start| scope.spawn(move || make(start..(start + BLOCK).min(count))))
                .collect();
            let made = makers
                .into_iter()
                .map(|maker| maker.join().expect("making faces does not panic"));
            made.collect()
        });
        blocks.into_iter().try_for_each(&mut take)?;
        next += cores * BLOCK;
    }
    Ok(())
}

/// Person and photograph of a probe: in turn somebody enrolled, on another photograph, and a stranger.
fn asked(n: u64, size: u64, probes: u64) -> (u64, u64) {
    match n % 2 {
        0 => (n / 2 * size / probes.div_ceil(2), 1),
        _ => (STRANGERS + n, 0),
    }
}

/// Calls of one row, and the longest that a row takes.
const CALLS: usize = 2000;
const LONGEST: Duration = Duration::from_secs(20);

fn measure(size: u64, probes: u64) {
    let (population, protector) = (Population::new(SEED), protector(DIM));
    let before = resident();
    let mut faces = RandomFaces::new(BITS, SEED);
    let began = Instant::now();
    let made = in_order(
        size,
        &|range| {
            let made =
                range.flat_map(|person| bytes(&protector.protect(population.photograph(person, 0), BITS)));
            (made.collect(), Vec::new())
        },
        |(made, _)| {
            let templates = made.chunks_exact(BITS.get() / 8);
            templates.for_each(|bytes| faces.insert(&template(bytes)));
            Ok(())
        },
    );
    made.expect("nothing is written");
    let built = began.elapsed().as_secs_f64();
    let bytes_per_face = (resident() - before) as f64 / size as f64;
    let asked: Vec<_> = (0..probes).map(|n| asked(n, size, probes)).collect();
    let probes: Vec<_> = asked
        .iter()
        .map(|(person, photograph)| protector.probe(population.photograph(*person, *photograph), BITS))
        .collect();
    let gallery = Measured {
        faces,
        truth: asked
            .iter()
            .map(|(person, _)| (*person < STRANGERS).then_some(*person))
            .collect(),
        probes,
        size,
        built,
        bytes_per_face,
    };
    gallery.rows();
    for mib in [32, 128] {
        let gbps = read_speed(mib);
        let note =
            format!("One core read {mib} MiB of memory at {gbps:.1} GB/s, beside the search among {size}.");
        println!("{}", json!({ "note": note, "read_mib": mib, "read_gbps": gbps }));
    }
}

/// A gallery, and what is asked of it.
struct Measured {
    faces: RandomFaces,
    truth: Vec<Option<u64>>,
    probes: Vec<Probe>,
    size: u64,
    built: f64,
    bytes_per_face: f64,
}

type Answers = Vec<Option<(u32, f32)>>;

impl Measured {
    fn rows(&self) {
        let everyone = self.answers(-1.0, true);
        let threshold = self.threshold(&everyone);
        let exact: Answers = everyone
            .iter()
            .map(|best| best.filter(|(_, s)| *s >= threshold))
            .collect();
        let right = self.mated(&everyone);
        for (kind, lossless) in [("in stages", false), ("nobody missed", true)] {
            let answers = self.answers(threshold, lossless);
            let agree = answers
                .iter()
                .zip(&exact)
                .filter(|(a, b)| a.map(|a| a.0) == b.map(|b| b.0));
            let recall = agree.count() as f64 / exact.len() as f64;
            let all = thread::available_parallelism().map_or(1, usize::from);
            for (threads, batch) in [(1, 1), (1, 32), (all, 1), (all, 32)] {
                // A search takes every core that is idle.
                let alone = (threads == 1).then(one_core);
                let seconds = self.timed(threshold, lossless, batch);
                drop(alone);
                let quantile = |part: f64| seconds[((seconds.len() - 1) as f64 * part).round() as usize];
                let row = json!({
                    "engine": "Likeness", "kind": kind, "gallery": "population, seed 1", "size": self.size,
                    "bits": BITS.get(), "threads": threads, "batch": batch,
                    "p50_us": quantile(0.5) / batch as f64 * 1e6,
                    "p99_us": quantile(0.99) / batch as f64 * 1e6,
                    "qps": batch as f64 * seconds.len() as f64 / seconds.iter().sum::<f64>(),
                    "recall_at_1": recall, "rank_1": right,
                    "fnir": 1.0 - self.mated(&answers),
                    "threshold": threshold,
                    "bytes_per_face": self.bytes_per_face, "build_s": self.built,
                });
                println!("{row}");
            }
        }
    }

    fn answers(&self, similarity_min: f32, exact: bool) -> Answers {
        let some = self.probes.chunks(32).map(|some| some.iter().collect::<Vec<_>>());
        some.flat_map(|some| self.faces.best(&some, similarity_min, exact))
            .collect()
    }

    /// What one of a hundred strangers reaches.
    fn threshold(&self, answers: &Answers) -> f32 {
        let strangers = answers
            .iter()
            .zip(&self.truth)
            .filter(|(_, truth)| truth.is_none());
        let mut best: Vec<f32> = strangers.filter_map(|(best, _)| best.map(|(_, s)| s)).collect();
        best.sort_unstable_by(f32::total_cmp);
        best[((best.len() - 1) as f64 * 0.99).round() as usize]
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
    fn timed(&self, similarity_min: f32, exact: bool, batch: usize) -> Vec<f64> {
        let probes: Vec<&Probe> = self.probes.iter().collect();
        let starts = (0..).map(|call| call * batch % (probes.len() - batch + 1));
        let (mut seconds, began) = (Vec::new(), Instant::now());
        black_box(self.faces.best(&probes[..batch], similarity_min, exact));
        for start in starts.take(CALLS) {
            let call = Instant::now();
            black_box(
                self.faces
                    .best(&probes[start..start + batch], similarity_min, exact),
            );
            seconds.push(call.elapsed().as_secs_f64());
            if began.elapsed() > LONGEST {
                break;
            }
        }
        seconds.sort_unstable_by(f64::total_cmp);
        seconds
    }
}

/// Bytes of memory that are this process' own.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// GB a second, the median of many passes.
fn read_speed(mib: usize) -> f64 {
    let words = vec![1u64; mib << 17];
    let mut seconds: Vec<f64> = (0..60)
        .map(|_| {
            let start = Instant::now();
            let mut sums = [0u64; 32];
            for words in black_box(&words).as_chunks::<32>().0 {
                sums.iter_mut()
                    .zip(words)
                    .for_each(|(sum, word)| *sum = sum.wrapping_add(*word));
            }
            black_box(sums);
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_unstable_by(f64::total_cmp);
    (mib << 20) as f64 / seconds[seconds.len() / 2] / 1e9
}
