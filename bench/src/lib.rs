//! What the benchmarks share: a photograph, the assets, timing in turn, and figures.

pub mod assets;
pub mod figures;
pub mod turns;

use std::path::PathBuf;
use std::time::Duration;

use criterion::Criterion;

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

/// Whether everything is measured. With a filter or `--test` there is nothing to sum up.
pub fn measures_all() -> bool {
    std::env::args().skip(1).all(|argument| argument == "--bench")
}
