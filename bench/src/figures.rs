//! The figures of one benchmark: printed, kept for the summary, and held to their goals.

use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// All figures of one benchmark.
#[derive(Serialize, Deserialize)]
pub struct Figures {
    /// The benchmark's name.
    pub bench: String,
    /// What it is about, in a line.
    pub title: String,
    /// Processes that wanted to run, on average over the last minute of the benchmark.
    pub load: f64,
    /// When it ended, in seconds since 1970.
    pub at: u64,
    /// In the order of the table.
    pub rows: Vec<Figure>,
}

/// One figure.
#[derive(Serialize, Deserialize)]
pub struct Figure {
    /// What was measured.
    pub what: String,
    /// How much it is.
    pub value: f64,
    /// In which unit; empty for a ratio.
    pub unit: String,
    /// What it must not exceed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub goal_max: Option<f64>,
}

impl Figure {
    /// Whether there is a goal and the figure exceeds it.
    pub fn misses(&self) -> bool {
        self.goal_max.is_some_and(|most| self.value > most)
    }

    /// The value as a person reads it.
    pub fn text(&self) -> String {
        let digits = match self.value.abs() {
            0.0..0.1 => 4,
            0.1..10.0 => 3,
            10.0..100.0 => 2,
            _ => 1,
        };
        format!("{:.digits$} {}", self.value, self.unit)
            .trim_end()
            .to_owned()
    }

    /// The goal as a person reads it, and what became of it.
    pub fn goal(&self) -> String {
        let verdict = if self.misses() { "MISSED" } else { "met" };
        let goal = |most: f64| format!("at most {most} {}", self.unit).trim_end().to_owned();
        self.goal_max
            .map_or(String::new(), |most| format!("{}: {verdict}", goal(most)))
    }
}

impl Figures {
    /// None yet.
    pub fn new(bench: &str, title: &str) -> Self {
        Self {
            bench: bench.to_owned(),
            title: title.to_owned(),
            load: 0.0,
            at: 0,
            rows: Vec::new(),
        }
    }

    /// Adds a figure.
    pub fn add(&mut self, what: impl Into<String>, value: f64, unit: &str) -> &mut Figure {
        self.rows.push(Figure {
            what: what.into(),
            value,
            unit: unit.to_owned(),
            goal_max: None,
        });
        self.rows.last_mut().expect("it was just added")
    }

    /// Adds Criterion's median of a benchmark, in milliseconds, and answers it; `id` is `group/function`.
    ///
    /// # Panics
    /// When Criterion has not measured it.
    pub fn add_median(&mut self, what: &str, id: &str) -> f64 {
        let path = crate::criterion_dir().join(id).join("new/estimates.json");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let estimates: serde_json::Value = serde_json::from_str(&text).expect("Criterion writes JSON");
        let nanoseconds = estimates["median"]["point_estimate"]
            .as_f64()
            .expect("Criterion estimates a median");
        let ms = nanoseconds / 1e6;
        self.add(what, ms, "ms");
        ms
    }

    /// Prints the figures and keeps them for the summary.
    pub fn finish(mut self) {
        self.load = load();
        self.at = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("it is later than 1970")
            .as_secs();
        print!("\n{}", self.table());
        let path = Self::path(&self.bench);
        fs::create_dir_all(path.parent().expect("a file in a folder")).expect("the folder can be made");
        let text = serde_json::to_string_pretty(&self).expect("numbers and texts");
        fs::write(&path, text).expect("the figures can be written");
    }

    /// What the benchmark of that name has kept.
    pub fn read(bench: &str) -> Option<Self> {
        serde_json::from_str(&fs::read_to_string(Self::path(bench)).ok()?).ok()
    }

    /// As Markdown.
    pub fn table(&self) -> String {
        let mut text = format!("## {}\n\n| | | goal |\n|---|---:|---|\n", self.title);
        for row in &self.rows {
            text += &format!("| {} | {} | {} |\n", row.what, row.text(), row.goal());
        }
        text
    }

    fn path(bench: &str) -> PathBuf {
        crate::target_dir().join(format!("likeness-bench/{bench}.json"))
    }
}

/// The load average over one minute, where the system tells.
fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ')
        .next()
        .and_then(|first| first.parse().ok())
        .unwrap_or(f64::NAN)
}
