//! Whether something became slower: `bench-compare BEFORE AFTER` compares the ratios of two results (`.json`), and
//! fails where one is worse by more than [`WORSE_MAX`]. Ratios are of things timed in one run, so that they can be
//! compared although the runs were on other days, or on other machines of the kind.
//!
//! Ratios are, in what `bench-summary` writes, the rows without a unit; in what `bench-peers` writes, its list of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;

/// So many times worse than before is a failure. Runs of one program on a quiet machine differ by a twentieth.
const WORSE_MAX: f64 = 1.15;

/// Of the disk more than of the program.
const DISK: &str = "synced";

/// What was measured, and how much it costs: less is better.
type Ratios = BTreeMap<String, f64>;

fn main() -> ExitCode {
    let paths: Vec<_> = std::env::args_os().skip(1).collect();
    let [before, after] = &paths[..] else {
        eprintln!("bench-compare: expected two files, of before and after");
        return ExitCode::FAILURE;
    };
    let read = |path: &std::ffi::OsString| {
        let text = std::fs::read_to_string(Path::new(path)).map_err(|error| error.to_string());
        text.and_then(|text| serde_json::from_str::<Value>(&text).map_err(|error| error.to_string()))
    };
    match (read(before), read(after)) {
        (Ok(before), Ok(after)) => verdict(&ratios(&before), &ratios(&after), is_busy(&after)),
        (Err(error), _) | (_, Err(error)) => {
            eprintln!("bench-compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn verdict(before: &Ratios, after: &Ratios, busy: bool) -> ExitCode {
    let (compared, worse) = compare(before, after);
    println!("\n{compared} ratios compared with those of before");
    for line in &worse {
        eprintln!("bench-compare: {line}");
    }
    match (compared, worse.is_empty()) {
        (0, _) => {
            eprintln!("bench-compare: expected ratios in both files, found none that both have");
            ExitCode::FAILURE
        }
        (_, true) => ExitCode::SUCCESS,
        _ if busy => {
            eprintln!("bench-compare: but the machine had other work too; measure again when it has none");
            ExitCode::SUCCESS
        }
        _ => ExitCode::FAILURE,
    }
}

/// How many both have, and which of them became worse.
fn compare(before: &Ratios, after: &Ratios) -> (usize, Vec<String>) {
    let both = after
        .iter()
        .filter_map(|(what, now)| Some((what, *before.get(what)?, *now)));
    let both: Vec<_> = both.collect();
    let worse = both.iter().filter(|(_, then, now)| *now > then * WORSE_MAX);
    let worse = worse.map(|(what, then, now)| format!("{what}: {then:.3} before, {now:.3} now"));
    (both.len(), worse.collect())
}

fn ratios(results: &Value) -> Ratios {
    let lists = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
    let summaries = lists(results, "benches").into_iter();
    let rows = summaries.flat_map(|bench| lists(&bench, "rows"));
    let rows = rows
        .filter(|row| row["unit"] == "")
        .chain(lists(results, "ratios"));
    let named = rows.filter_map(|row| Some((row["what"].as_str()?.to_owned(), row["value"].as_f64()?)));
    named.filter(|(what, _)| !what.contains(DISK)).collect()
}

/// Whether more wanted to run than there were cores.
fn is_busy(results: &Value) -> bool {
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let benches = results["benches"].as_array().into_iter().flatten();
    let loads = benches
        .chain([results])
        .filter_map(|bench| bench["load"].as_f64());
    loads.fold(0.0, f64::max) > cores
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn summary(ratio: f64, load: f64) -> Value {
        json!({ "benches": [{ "load": load, "rows": [
            { "what": "whole / parts", "value": ratio, "unit": "" },
            { "what": "enrol, synced / parts", "value": ratio * ratio, "unit": "" },
            { "what": "whole", "value": 8.0 * ratio, "unit": "ms" },
        ]}]})
    }

    #[test]
    fn a_ratio_that_became_worse_is_named_and_nothing_else() {
        let ratios = |ratio| ratios(&summary(ratio, 0.0));
        assert_eq!(compare(&ratios(1.0), &ratios(1.1)), (1, vec![]));
        assert_eq!(compare(&ratios(1.5), &ratios(1.0)), (1, vec![]));
        let worse = vec!["whole / parts: 1.000 before, 1.200 now".to_owned()];
        assert_eq!(compare(&ratios(1.0), &ratios(1.2)), (1, worse));
    }

    #[test]
    fn a_list_of_ratios_counts_too_and_what_only_one_run_has_does_not() {
        let peers = |value: f64| ratios(&json!({ "ratios": [{ "what": "ours / theirs", "value": value }] }));
        assert_eq!(compare(&peers(0.25), &peers(0.26)), (1, vec![]));
        assert_eq!(compare(&peers(0.25), &peers(0.3)).1.len(), 1);
        assert_eq!(compare(&peers(0.25), &ratios(&summary(1.0, 0.0))), (0, vec![]));
    }

    #[test]
    fn a_busy_machine_is_seen_by_its_load() {
        assert!(is_busy(&summary(1.0, 1e9)));
        assert!(!is_busy(&summary(1.0, 0.5)));
        assert!(is_busy(&json!({ "load": 1e9, "ratios": [] })));
    }
}
