//! `likeness duplicates`: who is enrolled twice in a collection.

use std::fmt::Write as _;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use likeness_proto::v1;
use likeness_proto::v1::matching_service_client::MatchingServiceClient;
use serde_json::json;
use tonic::Streaming;

use super::Outcome;
use super::client::{Connection, counted};
use super::exit::Failure;
use super::matching::{estimate_json, similarity_text};

const EXAMPLES: &str = "\
Examples:
  likeness duplicates staff
  likeness duplicates staff --max-far 1e-8 --json

Compares the stored templates of all people with each other; no photograph is needed. When it is interrupted
(Ctrl-C) it prints what it has found and how to go on. Exit code 0 when everybody was compared, whether
anybody is enrolled twice or not; 75 when it was interrupted.";

/// Find people that are enrolled twice in a collection (N:N)
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DuplicatesCommand {
    /// The collection
    collection: String,
    /// Part of the unrelated pairs of faces that may be reported: 1e-9 to 0.5
    #[arg(long, value_name = "RATE", default_value_t = 1e-6)]
    max_far: f64,
    /// Continue where an interrupted search stopped
    #[arg(long, value_name = "CURSOR", default_value = "", hide_default_value = true)]
    resume: String,
}

/// What was found so far.
#[derive(Default)]
struct Found {
    pairs: Vec<v1::DuplicatePair>,
    done: u64,
    total: u64,
    /// Where to continue; empty at the start, and when all people were compared.
    cursor: String,
    whole: bool,
}

impl DuplicatesCommand {
    /// Carries the command out.
    pub async fn run(self, connection: &Connection) -> Result<Outcome, Failure> {
        let request = v1::FindDuplicatesRequest {
            collection: self.collection.clone(),
            max_far: self.max_far,
            cursor: self.resume.clone(),
        };
        let mut client = MatchingServiceClient::new(connection.open().await?);
        let mut answers = client.find_duplicates(request).await?.into_inner();
        let bar = ProgressBar::no_length().with_style(
            ProgressStyle::with_template("{bar:40} {pos}/{len} people, {eta} left")
                .expect("the template is well-formed"),
        );
        let mut found = Found {
            cursor: self.resume.clone(),
            ..Found::default()
        };
        let ended = found.read(&mut answers, &bar).await;
        bar.finish_and_clear();
        match ended {
            Ok(Ended::Whole) => Ok(Outcome::done(found.json(), found.text())),
            Ok(Ended::Interrupted) => Err(self.interrupted(&found, "interrupted")),
            // Lost on the way: what was found is as good as before.
            Err(status) if !found.cursor.is_empty() && found.done > 0 => {
                Err(self.interrupted(&found, status.message()))
            }
            Err(status) => Err(status.into()),
        }
    }

    fn interrupted(&self, found: &Found, why: &str) -> Failure {
        let (name, far, cursor) = (&self.collection, self.max_far, &found.cursor);
        let go_on = if cursor.is_empty() {
            "begin again with the same command".to_owned()
        } else {
            format!("go on with: likeness duplicates {name} --max-far {far:e} --resume {cursor}")
        };
        Failure::Interrupted {
            why: format!("{why} after {} of {} people; {go_on}", found.done, found.total),
            text: found.text(),
            json: found.json(),
        }
    }
}

enum Ended {
    Whole,
    Interrupted,
}

impl Found {
    async fn read(
        &mut self,
        answers: &mut Streaming<v1::FindDuplicatesResponse>,
        bar: &ProgressBar,
    ) -> Result<Ended, tonic::Status> {
        let interrupt = tokio::signal::ctrl_c();
        tokio::pin!(interrupt);
        loop {
            let answer = tokio::select! {
                answer = answers.message() => answer?,
                _ = &mut interrupt => return Ok(Ended::Interrupted),
            };
            let Some(answer) = answer else {
                return Ok(if self.whole {
                    Ended::Whole
                } else {
                    Ended::Interrupted
                });
            };
            self.pairs.extend(answer.pairs);
            (self.done, self.total, self.cursor) = (answer.done, answer.total, answer.cursor);
            self.whole = self.cursor.is_empty();
            bar.set_length(self.total);
            bar.set_position(self.done);
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for pair in &self.pairs {
            let _ = writeln!(
                text,
                "{}  {}  {}",
                similarity_text(pair.similarity, pair.estimate.as_ref()),
                pair.first_person_id,
                pair.second_person_id
            );
        }
        let _ = writeln!(
            text,
            "{} of {} compared with everybody; {}",
            self.done,
            counted(self.total, "person", "people"),
            counted(self.pairs.len() as u64, "pair", "pairs"),
        );
        text
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "pairs": self.pairs.iter().map(|pair| json!({
                "first_person_id": pair.first_person_id,
                "second_person_id": pair.second_person_id,
                "similarity": pair.similarity,
                "estimate": estimate_json(pair.estimate.as_ref()),
            })).collect::<Vec<_>>(),
            "done": self.done,
            "total": self.total,
            "cursor": self.cursor,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_search_says_what_it_found_and_how_to_go_on() {
        let command = DuplicatesCommand {
            collection: "staff".to_owned(),
            max_far: 1e-6,
            resume: String::new(),
        };
        let pair = v1::DuplicatePair {
            first_person_id: "ada".to_owned(),
            second_person_id: "grace".to_owned(),
            ..Default::default()
        };
        let mut found = Found {
            pairs: vec![pair],
            done: 3,
            total: 9,
            cursor: "c0ffee".to_owned(),
            whole: false,
        };
        let failure = command.interrupted(&found, "interrupted");
        assert_eq!(failure.code(), 75);
        assert!(failure.found().contains("ada  grace"));
        let go_on = "interrupted after 3 of 9 people; \
            go on with: likeness duplicates staff --max-far 1e-6 --resume c0ffee";
        assert_eq!(failure.to_string(), go_on);
        let json = failure.json();
        assert_eq!(
            (&json["cursor"], &json["error"]["exit_code"]),
            (&"c0ffee".into(), &75.into())
        );
        found.cursor.clear();
        let begun = command.interrupted(&found, "interrupted").to_string();
        assert!(begun.contains("begin again"), "{begun}");
    }
}
