//! What the benchmarks share: a photograph, synthetic people, the assets, timing in turn, and figures.

pub mod assets;
pub mod attack;
pub mod bare;
pub mod figures;
pub mod people;
pub mod population;
pub mod turns;

use std::path::{Path, PathBuf};
use std::time::Duration;

use criterion::Criterion;
use likeness_engine::{
    Account, Call, CollectionName, CollectionRef, Engine, EngineConfig, IndexKind, KeyStore, Limits,
    NewCollection, ScoreLimits,
};
use tempfile::TempDir;

/// The collection that benchmarks use.
pub const COLLECTION: &str = "bench";

/// Where Cargo builds: the directory with Cargo's own mark above this program.
///
/// # Panics
/// Outside a build directory.
pub fn target_dir() -> PathBuf {
    let program = std::env::current_exe().expect("a running program has a path");
    program
        .ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").exists())
        .expect("benchmarks run where Cargo has built them")
        .to_owned()
}

/// Criterion as all benchmarks use it, a few seconds for each function.
pub fn criterion() -> Criterion {
    Criterion::default()
        .output_directory(&criterion_dir())
        .warm_up_time(Duration::from_millis(700))
        .measurement_time(Duration::from_secs(3))
        .sample_size(50)
        .configure_from_args()
}

/// Where Criterion writes its estimates.
fn criterion_dir() -> PathBuf {
    target_dir().join("criterion")
}

/// Whether everything is measured. With a filter or `--test` only a part is measured, and nothing summed up.
pub fn measures_all() -> bool {
    std::env::args()
        .skip(1)
        .all(|argument| ["--bench", "--quiet"].contains(&argument.as_str()))
}

/// An engine with nothing in it. Its folder is on the disk that Cargo builds on, because many a machine
/// keeps `/tmp` in memory, where a sync costs nothing.
pub fn engine() -> (TempDir, Engine) {
    let folder = tempfile::Builder::new()
        .prefix("likeness-bench-")
        .tempdir_in(target_dir())
        .expect("Cargo could write here");
    let config = config(folder.path());
    config.keys.init(&config.data).expect("a fresh folder");
    let (engine, _) = Engine::open(&config).expect("fresh keys and fetched models");
    (folder, engine)
}

/// An empty collection with the default settings.
pub fn collection(engine: &Engine) -> CollectionRef {
    collection_of(engine, IndexKind::Flat)
}

/// An empty collection that is searched in this way.
pub fn collection_of(engine: &Engine, index: IndexKind) -> CollectionRef {
    let name = CollectionName::parse(COLLECTION).expect("a name");
    let settings = NewCollection {
        index,
        ..NewCollection::default()
    };
    engine
        .create_collection(&Account::default(), &name, &settings, &mut Call::default())
        .expect("there is none yet")
}

/// The config of an engine in a folder, with the fetched models.
pub fn config(folder: &Path) -> EngineConfig {
    EngineConfig {
        data: folder.join("data"),
        keys: KeyStore::new(folder.join("keys"), None),
        accept_short_log: false,
        accept_short_audit_log: false,
        running_log_bytes_warning: u64::MAX,
        models: assets::asset("models"),
        runtime: assets::runtime(),
        limits: Limits::default(),
        scores: ScoreLimits::default(),
        workers: 1,
    }
}

/// What the processors have worked for this process, or for its threads of that name, to a hundredth of a second.
pub fn processor(thread: Option<&str>) -> Duration {
    let Some(name) = thread else {
        return worked("/proc/self".as_ref());
    };
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten();
    let tasks = tasks.filter_map(|task| Some(task.ok()?.path()));
    tasks
        .filter(|task| std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name))
        .map(|task| worked(&task))
        .sum()
}

fn worked(task: &Path) -> Duration {
    let stat = std::fs::read_to_string(task.join("stat")).unwrap_or_default();
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    // User and system time are fields 14 and 15, in hundredths of a second; the third is the first here.
    let times = fields.split(' ').skip(11).take(2);
    let hundredths: u64 = times.filter_map(|time| time.parse::<u64>().ok()).sum();
    Duration::from_millis(10 * hundredths)
}

/// What the system says of this process in `/proc/self/status`, in bytes.
pub fn status_bytes(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
