//! Synthetic galleries for `make bench-peers`, and our own search on them.
//!
//! `bench-search export FOLDER SIZE PROBES` writes what the peers need: `templates.u8` and `gallery.f32` of all enrolled
//! people, `probes.u8` and `probes.f32` of the probes, half of them strangers, and `truth.i64` with the enrolled person of
//! each (-1: a stranger). The others print our rows for the same gallery, made anew in memory, one JSON object a line:
//! `bench-search measure SIZE PROBES` those of the flat index, and how fast this machine reads memory in the same run;
//! `bench-search graph SIZE PROBES MINUTES` those of the graph, if it is built by then, and what erasing costs.

mod asked;
mod export;
#[cfg(feature = "graph")]
mod graph;
mod measured;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["export", folder, size, probes] => match (size.parse(), probes.parse()) {
            (Ok(size), Ok(probes)) => export::export(Path::new(folder), size, probes),
            _ => return usage(),
        },
        ["measure", size, probes] => match (size.parse(), probes.parse()) {
            (Ok(size), Ok(probes)) => {
                measured::flat(size, probes);
                Ok(())
            }
            _ => return usage(),
        },
        #[cfg(feature = "graph")]
        ["graph", size, probes, minutes] => match (size.parse(), probes.parse(), minutes.parse::<u64>()) {
            (Ok(size), Ok(probes), Ok(minutes)) => {
                graph::graph(size, probes, std::time::Duration::from_secs(60 * minutes));
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
    eprintln!(
        "bench-search: expected `export FOLDER SIZE PROBES`, `measure SIZE PROBES` or `graph SIZE PROBES MINUTES`"
    );
    ExitCode::FAILURE
}
