//! Our rows: how fast and how right an index answers.

use std::hint::black_box;
use std::time::{Duration, Instant};

use likeness_bench::status_bytes;
use likeness_bench::turns::Turns;
use likeness_engine::Probe;
use likeness_engine::bench::{RandomFaces, Reading, one_core};
use serde_json::json;

use crate::asked::{BITS, GALLERY, SEED, everyone, probes};

/// Calls of one row, and the longest that a row takes.
const CALLS: usize = 2000;
const LONGEST: Duration = Duration::from_secs(20);

/// Calls one behind the other where caches are to be warm, and rounds of them.
const AGAIN: usize = 50;
const AGAIN_ROUNDS: usize = 10;

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
    for (kind, exact) in [("cascade", false), ("exact scan", true)] {
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
    questions.floor(&built.faces, threshold);
    questions.floor_again(&built.faces, threshold);
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
        let answers = self.answers(&built.faces, similarity_min, exact);
        let agree = answers.iter().zip(everyone);
        let agree = agree
            .filter(|(answer, full)| answer.map(|a| a.0) == reached(**full, similarity_min))
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

    /// Prints what a search by the cascade takes beside its lower bound, in turn for each probe: reading the first
    /// bits of everybody, and a line each of as many others as it looks at, from other memory of the same size.
    fn floor(&self, faces: &RandomFaces, similarity_min: f32) {
        let some = self.probes.chunks(32).map(|some| some.iter().collect::<Vec<_>>());
        let mut looked_at: Vec<u64> = some
            .flat_map(|some| faces.looked_at(&some, similarity_min))
            .collect();
        let _alone = one_core();
        let size = self.size as usize;
        let (memory, fronts) = (Reading::new(size, size), Reading::new(size, 0));
        // Each kind of work is done once in a round, for the same probe.
        let rounds = || (0..self.probes.len()).cycle();
        let (mut searched, mut read, mut first) = (rounds(), rounds(), rounds());
        let turns = Turns::take(
            self.probes.len().min(CALLS),
            [
                &mut || {
                    let probe = &self.probes[searched.next().expect("endless")];
                    black_box(faces.best(&[probe], similarity_min, false));
                },
                &mut || {
                    let round = read.next().expect("endless");
                    memory.read(looked_at[round] as usize, round);
                },
                &mut || fronts.first_stage(&self.probes[first.next().expect("endless")]),
            ],
        );
        let [stages, reading, first] = [0, 1, 2].map(|work| 1e3 * turns.p50(work));
        looked_at.sort_unstable();
        let looked_at = looked_at[looked_at.len() / 2];
        let note = format!(
            "In turn, for each probe, among {}: a search by the cascade {stages:.2} ms, which looks at {looked_at} (the median) beyond \
             their first 256 bits; reading as much in such places, and nothing else, {reading:.2} ms; the first stage \
             alone {first:.2} ms.",
            self.size
        );
        println!(
            "{}",
            json!({
                "note": note, "size": self.size, "looked_at": looked_at, "stages_ms": stages, "reading_ms": reading,
                "first_stage_ms": first, "stages_to_reading": turns.median(|[stages, reading, _]| stages / reading),
                "stages_to_first_stage": turns.median(|[stages, _, first]| stages / first),
            })
        );
    }

    /// What a full scan answers each probe, at its threshold.
    pub fn full_scan(&self, faces: &RandomFaces) -> Vec<Option<u32>> {
        let everyone = self.answers(faces, -1.0, true);
        let threshold = self.threshold(&everyone);
        everyone.iter().map(|best| reached(*best, threshold)).collect()
    }

    /// Prints the same where each kind of work is done again and again, so that a cache holds what it can of it: reading the
    /// first bits of all faces in one piece, the first stage with them, and a search by the cascade.
    fn floor_again(&self, faces: &RandomFaces, similarity_min: f32) {
        let _alone = one_core();
        let memory = Reading::new(self.size as usize, 0);
        let calls = || self.probes.iter().cycle();
        let (mut first, mut searched) = (calls(), calls());
        let turns = Turns::take(
            AGAIN_ROUNDS,
            [
                &mut || (0..AGAIN).for_each(|_| memory.read(0, 0)),
                &mut || {
                    first
                        .by_ref()
                        .take(AGAIN)
                        .for_each(|probe| memory.first_stage(probe))
                },
                &mut || {
                    searched.by_ref().take(AGAIN).for_each(|probe| {
                        black_box(faces.best(&[probe], similarity_min, false));
                    });
                },
            ],
        );
        let [reading, first, stages] = [0, 1, 2].map(|work| 1e3 * turns.p50(work) / AGAIN as f64);
        let note = format!(
            "Again and again, {AGAIN} times each in turn, among {}: reading the first 256 bits of all faces in one piece {reading:.2} ms, \
             {:.1} GB/s; the first stage alone {first:.2} ms; a search by the cascade {stages:.2} ms.",
            self.size,
            (memory.bytes() as f64) / reading / 1e6,
        );
        println!(
            "{}",
            json!({
                "note": note, "size": self.size, "reading_again_ms": reading, "first_stage_again_ms": first,
                "stages_again_ms": stages,
                "stages_to_reading_again": turns.median(|[reading, _, stages]| stages / reading),
                "first_stage_to_reading_again": turns.median(|[reading, first, _]| first / reading),
            })
        );
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

/// Who resembles a probe most, if at least so much.
fn reached(best: Option<(u32, f32)>, similarity_min: f32) -> Option<u32> {
    best.filter(|(_, similarity)| *similarity >= similarity_min)
        .map(|(person, _)| person)
}
