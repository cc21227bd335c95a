//! What searches among many people cost while other things go on, in the engine as it serves: `make search-load`.
//!
//! `bench-load flat PEOPLE` and `bench-load graph PEOPLE` enrol synthetic people on the disk, and time one searcher
//! after another by itself, beside enrolments, and, of a graph, beside a rebuild. `bench-load fill FOLDER PEOPLE` and
//! `bench-load start FOLDER` time a start, in a process without earlier enrolments. Each keeps figures for `bench-summary`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use likeness_bench::figures::Figures;
use likeness_bench::population::Population;
use likeness_bench::{collection_of, config, people, processor, status_bytes};
use likeness_engine::{Call, CollectionRef, Engine, IndexKind, Query, Searching};

const SEED: u64 = 1;
/// Who is enrolled beside searches: as many as there are, and at most so many.
const BESIDE_MAX: u64 = 100_000;
/// Searches by themselves, and how long one waits for a graph.
const ALONE: usize = 2000;
/// Different people who are looked for, half of them enrolled.
const ASKED: u64 = 500;
/// People a search answers.
const TOP_K: usize = 5;
/// People from this number on are enrolled by nobody.
const STRANGERS: u64 = 1 << 40;
/// Of so many people in a hundred are erased for a graph to be built anew: more than the tenth that it bears.
const ERASED_PERCENT: u64 = 12;
/// How long searches beside a rebuild are timed, at most.
const REBUILD: Duration = Duration::from_secs(60);
/// Between two looks at whether a keeper is at rest: longer than its pause.
const LOOK: Duration = Duration::from_millis(2500);
/// What a keeper's thread works in that time when it only looks whether there is work.
const RESTING: Duration = Duration::from_millis(50);

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        [kind @ ("flat" | "graph"), people] if kind == "flat" || cfg!(feature = "graph") => {
            match people.parse() {
                Ok(people) if people > 0 => load(kind, people),
                _ => return usage(),
            }
        }
        ["fill", folder, people] => match people.parse() {
            Ok(people) => fill(Path::new(folder), people),
            Err(_) => return usage(),
        },
        ["start", folder] => start(Path::new(folder)),
        _ => return usage(),
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!(
        "bench-load: expected `flat PEOPLE`, `graph PEOPLE`, `fill FOLDER PEOPLE` or `start FOLDER`, and at least one person"
    );
    ExitCode::FAILURE
}

/// An engine with people in it, and who is looked for among them.
struct Loaded {
    engine: Engine,
    collection: CollectionRef,
    population: Population,
    asked: Vec<Query>,
}

fn load(kind: &str, people: u64) {
    let index = if kind == "graph" {
        IndexKind::Graph
    } else {
        IndexKind::Flat
    };
    let (folder, engine) = likeness_bench::engine();
    let collection = collection_of(&engine, index);
    let population = Population::new(SEED);
    let began = Instant::now();
    people::enrol(&engine, &collection, &population, 0..people);
    let enrolled = began.elapsed().as_secs_f64();
    let asked = (0..ASKED).map(|n| match n % 2 {
        0 => people::asked(&engine, &collection, &population, n * people / ASKED, 1),
        _ => people::asked(&engine, &collection, &population, STRANGERS + n, 0),
    });
    let loaded = Loaded {
        asked: asked.collect(),
        engine,
        collection,
        population,
    };
    let title = format!(
        "Searches among {people} people in a collection of kind \"{kind}\", while other things go on"
    );
    let mut figures = Figures::new(&format!("load-{kind}"), &title);
    figures.add("enrolling them, synced", people as f64 / enrolled, "people/s");
    if index == IndexKind::Graph {
        let began = Instant::now();
        wait_for_keeper();
        figures.add("until the graph was complete", began.elapsed().as_secs_f64(), "s");
    }
    loaded.rows(&mut figures, people, index);
    figures.finish();
    drop(loaded);
    drop(folder);
}

impl Loaded {
    fn rows(&self, figures: &mut Figures, people: u64, index: IndexKind) {
        let alone = self.searches(|done| done >= ALONE);
        add(figures, "by itself", &alone);
        let beside = people.min(BESIDE_MAX);
        let began = Instant::now();
        let searched = self.beside(|| {
            people::enrol(
                &self.engine,
                &self.collection,
                &self.population,
                people..people + beside,
            );
        });
        let seconds = began.elapsed().as_secs_f64();
        figures.add(
            format!("enrolling {beside} beside searches"),
            beside as f64 / seconds,
            "people/s",
        );
        add(figures, &format!("beside {beside} enrolments"), &searched);
        if index == IndexKind::Graph {
            wait_for_keeper();
            let erased = (people + beside) * ERASED_PERCENT / 100;
            let began = Instant::now();
            people::erase(&self.engine, &self.collection, 0..erased);
            let seconds = began.elapsed().as_secs_f64();
            figures.add(format!("erasing {erased}"), erased as f64 / seconds, "people/s");
            // By now the keeper builds anew, if it was not done before the last of them.
            let (began, working) = (Instant::now(), keeper());
            let searched = self.searches(|done| done > 0 && began.elapsed() > REBUILD);
            let worked = keeper().saturating_sub(working).as_secs_f64();
            figures.add("beside a rebuild: what the keeper worked of these", worked, "s");
            add(figures, "beside a rebuild of the graph", &searched);
        }
    }

    /// Seconds of searches, one after another, for as long as some other work takes.
    fn beside(&self, work: impl FnOnce() + Send) -> Vec<f64> {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                work();
                done.store(true, Ordering::Relaxed);
            });
            self.searches(|count| count > 0 && done.load(Ordering::Relaxed))
        })
    }

    /// Seconds of searches, one after another, the fastest first.
    fn searches(&self, enough: impl Fn(usize) -> bool) -> Vec<f64> {
        let places = [(self.collection.clone(), self.collection.threshold())];
        let mut seconds = Vec::new();
        for query in self.asked.iter().cycle() {
            if enough(seconds.len()) {
                break;
            }
            let searching = Searching {
                top_k: TOP_K,
                ..Searching::default()
            };
            let began = Instant::now();
            let found = self.engine.search(
                &places,
                std::slice::from_ref(query),
                searching,
                &mut Call::default(),
            );
            found.expect("a collection that is there");
            seconds.push(began.elapsed().as_secs_f64());
        }
        seconds.sort_unstable_by(f64::total_cmp);
        seconds
    }
}

fn add(figures: &mut Figures, what: &str, seconds: &[f64]) {
    let quantile = |part: f64| seconds[((seconds.len() - 1) as f64 * part).round() as usize] * 1e3;
    for (name, part) in [("p50", 0.5), ("p99", 0.99), ("the longest", 1.0)] {
        let count = seconds.len();
        figures.add(
            format!("a search {what}, {name} of {count}"),
            quantile(part),
            "ms",
        );
    }
}

/// What the keeper's thread has worked so far.
fn keeper() -> Duration {
    processor(Some("likeness-keeper"))
}

/// Until the keeper has nothing more to do.
fn wait_for_keeper() {
    loop {
        let before = keeper();
        thread::sleep(LOOK);
        if keeper().saturating_sub(before) < RESTING {
            return;
        }
    }
}

/// Enrols people for a start to find.
fn fill(folder: &Path, people: u64) {
    let config = config(folder);
    config.keys.init(&config.data).expect("a fresh folder");
    let (engine, _) = Engine::open(&config).expect("fresh keys and fetched models");
    let collection = likeness_bench::collection(&engine);
    people::enrol(&engine, &collection, &Population::new(SEED), 0..people);
}

fn start(folder: &Path) {
    let (began, memory) = (Instant::now(), status_bytes("VmRSS:"));
    let (_engine, report) = Engine::open(&config(folder)).expect("`fill` made it");
    let (seconds, worked) = (began.elapsed().as_secs_f64(), processor(None).as_secs_f64());
    let grown = status_bytes("VmRSS:").saturating_sub(memory);
    let persons = report.persons;
    let mut figures = Figures::new(
        "start",
        &format!("A start with {persons} people of one face each, models included"),
    );
    figures.add("by the clock", seconds, "s");
    figures.add("of processors, all threads together", worked, "s");
    // The models are a part of it that a few people make large.
    figures.add(
        "memory it added, for each face",
        grown as f64 / persons.max(1) as f64,
        "bytes",
    );
    figures.finish();
}
