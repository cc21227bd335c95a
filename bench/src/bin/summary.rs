//! Sums up what benchmarks kept: `bench-summary OUTPUT TITLE COMMAND BENCH...` writes a table (`OUTPUT.md`) and the same
//! figures for programs (`OUTPUT.json`), and fails when a goal was missed on a machine with nothing else to do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use likeness_bench::figures::Figures;
use serde::Serialize;

/// Everything that was measured, and where.
#[derive(Serialize)]
struct Summary {
    title: String,
    command: String,
    date: String,
    machine: String,
    benches: Vec<Figures>,
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [path, title, command, names @ ..] = &arguments[..] else {
        eprintln!(
            "bench-summary: expected where to write, without the ending, a title, a command, and benchmarks"
        );
        return ExitCode::FAILURE;
    };
    let path = PathBuf::from(path);
    let benches: Option<Vec<_>> = names.iter().map(|name| Figures::read(name)).collect();
    let Some(benches) = benches.filter(|benches| !benches.is_empty()) else {
        eprintln!("bench-summary: expected figures of {names:?}; `{command}` makes them");
        return ExitCode::FAILURE;
    };
    let last = benches.iter().map(|bench| bench.at).max();
    let summary = Summary {
        title: title.clone(),
        command: command.clone(),
        date: date(last.unwrap_or(0)),
        machine: machine(),
        benches,
    };
    let markdown = summary.markdown();
    print!("\n{markdown}");
    let json = serde_json::to_string_pretty(&summary).expect("numbers and texts") + "\n";
    for (ending, text) in [("md", &markdown), ("json", &json)] {
        if let Err(error) = write(&path.with_extension(ending), text) {
            eprintln!("bench-summary: {}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    summary.verdict()
}

impl Summary {
    fn markdown(&self) -> String {
        let Self {
            title,
            command,
            date,
            machine,
            benches,
        } = self;
        let mut text = format!(
            "# {title}\n\nWritten by `{command}` on {date}, on {machine}. \
             What the rows mean is in [the README](../README.md).\n"
        );
        for bench in benches {
            text += &format!(
                "\n{}\nLoad average at the end: {:.2}.\n",
                bench.table(),
                bench.load
            );
        }
        text
    }

    /// A missed goal is a failure, unless the machine had other work: then the figures are the
    /// neighbours' too.
    fn verdict(&self) -> ExitCode {
        let rows = self.benches.iter().flat_map(|bench| &bench.rows);
        let missed = rows.filter(|row| row.misses()).count();
        if missed == 0 {
            return ExitCode::SUCCESS;
        }
        eprintln!("bench-summary: {missed} goal(s) missed");
        if self.benches.iter().any(|bench| bench.load > cores() as f64) {
            eprintln!("bench-summary: but the machine had other work too; measure again when it has none");
            return ExitCode::SUCCESS;
        }
        ExitCode::FAILURE
    }
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, text)
}

/// Processor, cores and system, as far as the system tells.
fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let value = |key: &str| {
        let line = cpu.lines().find(|line| line.starts_with(key));
        line.and_then(|line| Some(line.split_once(':')?.1.trim()))
    };
    let name = value("model name").unwrap_or("an unknown processor");
    let family = value("cpu family").map_or(String::new(), |family| format!(" (family {family})"));
    let vectors = match value("flags") {
        Some(flags) if flags.contains("avx512_vpopcntdq") => ", AVX-512",
        Some(flags) if flags.contains("avx2") => ", AVX2",
        _ => "",
    };
    format!(
        "{name}{family}, {} cores{vectors}, {}-{}",
        cores(),
        std::env::consts::ARCH,
        std::env::consts::OS
    )
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The day of so many seconds since 1970, as year-month-day (Howard Hinnant's `civil_from_days`).
fn date(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March, so that the day that leap years add comes last.
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = match month {
        0..10 => (era * 400 + year_of_era, month + 3),
        _ => (era * 400 + year_of_era + 1, month - 9),
    };
    format!("{year}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(951_782_400), "2000-02-29");
        assert_eq!(date(951_868_800), "2000-03-01");
        assert_eq!(date(1_798_761_599), "2026-12-31");
    }
}
