//! `likeness index`: how a collection is searched, and how it might be.

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use likeness_proto::v1;
use likeness_proto::v1::collection_service_client::CollectionServiceClient;
use serde_json::json;

use super::Outcome;
use super::client::{Connection, counted};
use super::exit::Failure;

const EXAMPLES: &str = "\
Examples:
  likeness index measure staff
  likeness index measure staff --people 1000000 --probes 1000 --json

The server makes an index of the other kind of the collection's faces, asks both, and forgets it. A graph takes some
4 kB a face and links some thousand faces a second while it is made. No template leaves the server.";

/// Measure the kinds of index on a collection
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  likeness index measure staff")]
pub struct IndexCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compare a flat index with a graph on the collection's own faces, and recommend one
    #[command(after_help = EXAMPLES)]
    Measure {
        /// The collection
        collection: String,
        /// Largest number of people whose faces the second index (the kind that the collection does not use) is built
        /// from: 1 to 10,000,000
        #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
        people: u32,
        /// Number of probes: 1 to 10,000
        #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        probes: u32,
    },
}

impl IndexCommand {
    /// Carries the command out.
    pub async fn run(self, connection: &Connection) -> Result<Outcome, Failure> {
        let Command::Measure {
            collection,
            people,
            probes,
        } = self.command;
        let request = v1::MeasureIndexRequest {
            collection,
            people_max: people,
            probes,
        };
        let mut client = CollectionServiceClient::new(connection.open().await?);
        let mut answers = client.measure_index(request).await?.into_inner();
        let bar = ProgressBar::no_length().with_style(
            ProgressStyle::with_template("{bar:40} {percent} %, {eta} left")
                .expect("the template is well-formed"),
        );
        let mut last = None;
        while let Some(answer) = answers.message().await? {
            bar.set_length(answer.total);
            bar.set_position(answer.done);
            last = Some(answer);
        }
        bar.finish_and_clear();
        match last.filter(|last| !last.rows.is_empty()) {
            Some(last) => Ok(Outcome::done(to_json(&last), text(&last))),
            None => {
                Err(tonic::Status::unavailable("the server stopped before the measurement was over").into())
            }
        }
    }
}

fn name(kind: v1::IndexKind) -> &'static str {
    match kind {
        v1::IndexKind::Graph => "graph",
        v1::IndexKind::Flat => "flat",
        v1::IndexKind::Unspecified => "unknown",
    }
}

fn way(row: &v1::MeasuredIndex) -> String {
    match (row.index(), row.exact) {
        (v1::IndexKind::Graph, _) => format!("graph, ef {}", row.ef),
        (kind, true) => format!("{}, exact", name(kind)),
        (kind, false) => name(kind).to_owned(),
    }
}

fn text(last: &v1::MeasureIndexResponse) -> String {
    let mut text = String::new();
    for row in &last.rows {
        let _ = writeln!(
            text,
            "{:<15} agrees in {:>6.2} %  p50 {:>7} us  p99 {:>7} us  among {}",
            way(row),
            row.recall_at_1 * 100.0,
            row.p50_micros,
            row.p99_micros,
            counted(row.faces, "face", "faces"),
        );
    }
    let _ = match last.recommended() {
        v1::IndexKind::Graph => writeln!(text, "recommended: graph, ef {}", last.recommended_ef),
        kind => writeln!(text, "recommended: {}", name(kind)),
    };
    text
}

fn to_json(last: &v1::MeasureIndexResponse) -> serde_json::Value {
    let row = |row: &v1::MeasuredIndex| {
        json!({
            "index": name(row.index()),
            "ef": (row.ef > 0).then_some(row.ef),
            "exact": row.exact,
            "recall_at_1": row.recall_at_1,
            "p50_micros": row.p50_micros,
            "p99_micros": row.p99_micros,
            "faces": row.faces,
        })
    };
    json!({
        "rows": last.rows.iter().map(row).collect::<Vec<_>>(),
        "recommended": name(last.recommended()),
        "recommended_ef": (last.recommended_ef > 0).then_some(last.recommended_ef),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_says_each_way_and_what_is_recommended() {
        let row = |index: v1::IndexKind, ef, recall_at_1| v1::MeasuredIndex {
            index: index.into(),
            ef,
            exact: false,
            recall_at_1,
            p50_micros: 40,
            p99_micros: 90,
            faces: 3000,
        };
        let last = v1::MeasureIndexResponse {
            done: 5,
            total: 5,
            rows: vec![
                row(v1::IndexKind::Flat, 0, 1.0),
                row(v1::IndexKind::Graph, 64, 0.995),
            ],
            recommended: v1::IndexKind::Graph.into(),
            recommended_ef: 64,
        };
        let said = text(&last);
        assert!(
            said.contains("graph, ef 64") && said.contains("99.50 %"),
            "{said}"
        );
        assert!(said.ends_with("recommended: graph, ef 64\n"), "{said}");
        let json = to_json(&last);
        assert_eq!(
            (&json["recommended"], &json["rows"][0]["ef"]),
            (&"graph".into(), &json!(null))
        );
    }
}
