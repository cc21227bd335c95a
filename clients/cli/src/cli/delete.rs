//! `likeness delete`: a person, or all people of a list.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, IsTerminal as _, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use likeness_proto::credential::KeyedChannel;
use likeness_proto::v1;
use likeness_proto::v1::delete_persons_response::Outcome as Answer;
use likeness_proto::v1::person_service_client::PersonServiceClient;
use serde_json::{Value, json};

use super::Outcome;
use super::client::{Connection, call_json, counted, hex};
use super::exit::Failure;

const EXAMPLES: &str = "\
Examples:
  likeness delete staff ada
  likeness delete staff --from leavers.txt

There is no confirmation: when the command returns, the key of the record is overwritten.
With --from the exit code is 0 if all people of the list were erased, and 1 if not.";

/// Erase a person, or all people of a list, irrevocably and at once
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DeleteCommand {
    /// The collection
    collection: String,
    /// The PersonID
    #[arg(required_unless_present = "from")]
    person_id: Option<String>,
    /// A file with one PersonID a line; `-` reads standard input
    #[arg(long, value_name = "FILE", conflicts_with = "person_id")]
    from: Option<PathBuf>,
}

impl DeleteCommand {
    /// Carries the command out.
    pub async fn run(self, connection: &Connection) -> Result<Outcome, Failure> {
        let list = self.from.as_deref().map(read_list).transpose()?;
        let client = PersonServiceClient::new(connection.open().await?);
        match list {
            Some(people) => delete_all(client, self.collection, people).await,
            None => delete(client, self.collection, self.person_id.unwrap_or_default()).await,
        }
    }
}

async fn delete(
    mut client: PersonServiceClient<KeyedChannel>,
    collection: String,
    person_id: String,
) -> Result<Outcome, Failure> {
    let request = v1::DeletePersonRequest {
        collection: collection.clone(),
        person_id: person_id.clone(),
        ..Default::default()
    };
    let reply = client.delete_person(request).await?.into_inner();
    let receipt = reply.receipt.unwrap_or_default();
    let json = json!({
        "call": call_json(reply.call.as_ref()),
        "faces_erased": reply.faces_erased,
        "receipt": receipt_json(&receipt),
    });
    Ok(Outcome::done(
        json,
        erased_line(&person_id, &collection, reply.faces_erased, &receipt),
    ))
}

/// Empty lines are skipped.
fn read_list(path: &Path) -> Result<Vec<String>, Failure> {
    let failed = |source| Failure::File {
        doing: "reading",
        path: path.to_owned(),
        source,
    };
    let input: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).map_err(failed)?)
    };
    let lines = BufReader::new(input).lines();
    let people: std::io::Result<Vec<String>> = lines
        .map(|line| line.map(|line| line.trim().to_owned()))
        .filter(|line| line.as_ref().map_or(true, |line| !line.is_empty()))
        .collect();
    people.map_err(failed)
}

async fn delete_all(
    mut client: PersonServiceClient<KeyedChannel>,
    collection: String,
    people: Vec<String>,
) -> Result<Outcome, Failure> {
    let items: Vec<_> = (0..)
        .zip(&people)
        .map(|(sequence, person_id)| v1::DeletePersonsRequest {
            sequence,
            collection: collection.clone(),
            person_id: person_id.clone(),
        })
        .collect();
    let bar = progress(people.len());
    let mut stream = client
        .delete_persons(tokio_stream::iter(items))
        .await?
        .into_inner();
    let mut answers = HashMap::with_capacity(people.len());
    // Erasures that a broken stream reported are done: they are printed all the same.
    let broken = loop {
        match stream.message().await {
            Ok(Some(answer)) => {
                bar.inc(1);
                answers.insert(answer.sequence, answer.outcome);
            }
            Ok(None) => break None,
            Err(status) => break Some(status),
        }
    };
    bar.finish_and_clear();
    let (mut text, mut json, mut erased) = (String::new(), Vec::new(), 0);
    for (sequence, person_id) in (0..).zip(&people) {
        match answers.remove(&sequence).flatten() {
            Some(Answer::Erased(answer)) => {
                erased += 1;
                let receipt = answer.receipt.unwrap_or_default();
                text += &erased_line(person_id, &collection, answer.faces_erased, &receipt);
                json.push(json!({
                    "person_id": person_id,
                    "faces_erased": answer.faces_erased,
                    "receipt": receipt_json(&receipt),
                }));
            }
            Some(Answer::Refused(refused)) => {
                let _ = writeln!(text, "{person_id}: {} [{}]", refused.message, refused.reason);
                json.push(json!({
                    "person_id": person_id,
                    "refused": {
                        "reason": refused.reason,
                        "message": refused.message,
                        "retry": refused.retry,
                    },
                }));
            }
            None => {
                let _ = writeln!(text, "{person_id}: no answer");
                json.push(json!({ "person_id": person_id, "refused": null }));
            }
        }
    }
    let _ = writeln!(
        text,
        "{erased} of {} erased",
        counted(people.len() as u64, "person", "people")
    );
    if let Some(status) = &broken {
        let _ = writeln!(text, "the stream broke: {}", status.message());
    }
    Ok(Outcome {
        json: json!({
            "erased": erased,
            "asked": people.len(),
            "broken": broken.map(|status| status.message().to_owned()),
            "items": json,
        }),
        text,
        holds: erased == people.len(),
    })
}

fn progress(people: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("erasing {bar:30} {human_pos} of {human_len}, {eta} left");
    ProgressBar::new(people as u64).with_style(style.expect("a template of our own"))
}

fn erased_line(person_id: &str, collection: &str, faces: u32, receipt: &v1::ErasureReceipt) -> String {
    format!(
        "erased {person_id} from {collection}: {}; {}\n",
        counted(faces, "face", "faces"),
        receipt_text(receipt)
    )
}

/// The place of a receipt in the log, and the nonce that proves its subject.
fn receipt_text(receipt: &v1::ErasureReceipt) -> String {
    format!("receipt {}, nonce {}", receipt.sequence, hex(&receipt.nonce))
}

/// The receipts of an erasure of many, a line each.
pub fn receipt_lines(receipts: &[v1::ErasureReceipt]) -> String {
    let lines = receipts
        .iter()
        .map(|receipt| format!("  {}\n", receipt_text(receipt)));
    lines.collect()
}

/// A receipt with its nonce, for scripts.
pub fn receipt_json(receipt: &v1::ErasureReceipt) -> Value {
    json!({
        "sequence": receipt.sequence,
        "receipt": hex(&receipt.receipt),
        "nonce": hex(&receipt.nonce),
    })
}
