//! What the benchmarks share: a photograph, synthetic people, the assets, timing in turn, and figures.

pub mod assets;
pub mod figures;
pub mod population;
pub mod turns;

use std::path::PathBuf;
use std::time::Duration;

use criterion::Criterion;
use likeness_engine::{
    Account, Call, CollectionName, CollectionRef, Engine, EngineConfig, KeyStore, Limits, NewCollection,
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
    let config = EngineConfig {
        data: folder.path().join("data"),
        keys: KeyStore::new(folder.path().join("keys"), None),
        accept_short_log: false,
        running_log_bytes_warning: u64::MAX,
        models: assets::asset("models"),
        runtime: assets::runtime(),
        limits: Limits::default(),
        workers: 1,
    };
    config.keys.init(&config.data).expect("a fresh folder");
    let (engine, _) = Engine::open(&config).expect("fresh keys and fetched models");
    (folder, engine)
}

/// An empty collection with the default settings.
pub fn collection(engine: &Engine) -> CollectionRef {
    let name = CollectionName::parse(COLLECTION).expect("a name");
    engine
        .create_collection(
            &Account::default(),
            &name,
            &NewCollection::default(),
            &mut Call::default(),
        )
        .expect("there is none yet")
}
