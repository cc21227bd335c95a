//! `likeness import`: many people at once, and again from where it was interrupted.

mod report;
mod source;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use likeness_proto::v1;
use likeness_proto::v1::import_persons_request::Part;
use likeness_proto::v1::import_persons_response::Outcome as Became;
use likeness_proto::v1::person_service_client::PersonServiceClient;
use likeness_proto::v1::photograph_outcome::Outcome as Photo;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use self::report::{Line, Refused, Report};
use self::source::Entry;
use super::Outcome;
use super::client::{Connection, FaceArgument, counted};
use super::exit::Failure;

const EXAMPLES: &str = "\
Examples:
  likeness import staff photographs/
  likeness import staff people.csv --report staff.jsonl
  likeness import staff features.jsonl --embedding-model DIGEST

A folder holds a folder for each person, named by PersonID, with the person's photographs; or single
photographs named by PersonID. A table (.csv) has the columns person_id and photographs, and may have name,
tags and consent; several photographs or tags are separated by semicolons. A .jsonl file has an object a
line with the same fields, lists as lists, and may have `embeddings` instead of photographs.

The report has a line for each person that was enrolled or refused. The same command with the same report
goes on where it was interrupted, and enrols nobody twice. It names people: remove it when you need it no more.";

/// Items that are read ahead of the connection.
const READ_AHEAD: usize = 2;

/// Enrol many people from folders, a table or features
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ImportCommand {
    /// The collection
    collection: String,
    /// A folder, a .csv or a .jsonl
    source: PathBuf,
    /// File of the results, from which an interrupted import continues [default: import-COLLECTION.jsonl]
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Send refused people again
    #[arg(long)]
    refused_again: bool,
    /// Which face of a photograph is meant: `only` refuses several, `largest` takes the largest box
    #[arg(long, value_enum, default_value_t, hide_possible_values = true)]
    face: FaceArgument,
    /// The model that made the embeddings: the BLAKE3 digest of its file, as in models.toml
    #[arg(long, value_name = "DIGEST", default_value = "", hide_default_value = true)]
    embedding_model: String,
}

impl ImportCommand {
    /// Carries the command out.
    pub async fn run(self, connection: &Connection) -> Result<Outcome, Failure> {
        let entries = source::read(&self.source)?;
        let path = self.report.clone();
        let path = path.unwrap_or_else(|| PathBuf::from(format!("import-{}.jsonl", self.collection)));
        let mut report = Report::open(&path, &self.collection)?;
        let mut client = PersonServiceClient::new(connection.open().await?);
        let all: Vec<u64> = entries.iter().map(Entry::sequence).collect();
        let mut left = entries;
        left.retain(|entry| !report.is_done(entry.sequence(), self.refused_again));
        let bar = ProgressBar::new(all.len() as u64).with_style(
            ProgressStyle::with_template("{bar:40} {pos}/{len} people, {eta} left")
                .expect("the template is well-formed"),
        );
        bar.set_position((all.len() - left.len()) as u64);
        refuse_unsendable(&mut report, &mut left)?;
        let left = Arc::new(left);
        let by_number: HashMap<u64, &Entry> = left.iter().map(|e| (e.sequence(), e)).collect();
        let requests = sending(self.header(&report.token, &left), Arc::clone(&left));
        let mut results = client
            .import_persons(ReceiverStream::new(requests))
            .await?
            .into_inner();
        let broken = loop {
            match results.message().await {
                Ok(Some(result)) => {
                    if let Some(entry) = by_number.get(&result.sequence) {
                        report.note(line(entry, result))?;
                        bar.inc(1);
                    }
                }
                Ok(None) => break None,
                Err(status) => break Some(status),
            }
        };
        bar.finish_and_clear();
        match broken {
            Some(status) => {
                eprintln!(
                    "likeness: interrupted; the same command goes on from {}",
                    path.display()
                );
                Err(status.into())
            }
            None => Ok(summary(&report, &all, &path)),
        }
    }

    fn header(&self, token: &str, left: &[Entry]) -> v1::ImportHeader {
        let dim = left
            .iter()
            .flat_map(|entry| &entry.embeddings)
            .map(Vec::len)
            .next();
        v1::ImportHeader {
            collection: self.collection.clone(),
            import_token: token.to_owned(),
            face_choice: self.face.wire(),
            embedding_dim: dim.and_then(|dim| u32::try_from(dim).ok()).unwrap_or_default(),
            embedding_model: if dim.is_some() {
                self.embedding_model.clone()
            } else {
                String::new()
            },
            ..Default::default()
        }
    }
}

/// Files are read as fast as the connection takes them.
fn sending(header: v1::ImportHeader, left: Arc<Vec<Entry>>) -> mpsc::Receiver<v1::ImportPersonsRequest> {
    let (requests, stream) = mpsc::channel(READ_AHEAD);
    tokio::spawn(async move {
        let request = |part| v1::ImportPersonsRequest { part: Some(part) };
        // A stream that has ended takes no more.
        if requests.send(request(Part::Header(header))).await.is_err() {
            return;
        }
        for entry in left.iter() {
            // What cannot be read any more has no result: the summary counts it, and the next run looks at it.
            if let Ok(item) = entry.item()
                && requests.send(request(Part::Item(item))).await.is_err()
            {
                return;
            }
        }
    });
    stream
}

/// Records people that cannot be sent, and leaves them out.
fn refuse_unsendable(report: &mut Report, left: &mut Vec<Entry>) -> Result<(), Failure> {
    let mut sendable = Vec::with_capacity(left.len());
    for entry in left.drain(..) {
        match entry.unsendable() {
            None => sendable.push(entry),
            Some(why) => report.note(Line {
                item: entry.sequence(),
                person_id: entry.person_id,
                faces: None,
                refused: Some(Refused {
                    reason: why.reason.to_owned(),
                    message: why.message,
                    retry: true,
                }),
                rejected: Vec::new(),
            })?,
        }
    }
    *left = sendable;
    Ok(())
}

fn line(entry: &Entry, result: v1::ImportPersonsResponse) -> Line {
    let mut line = Line {
        item: result.sequence,
        person_id: entry.person_id.clone(),
        faces: None,
        refused: None,
        rejected: Vec::new(),
    };
    match result.outcome {
        Some(Became::Imported(imported)) => {
            line.faces = Some(imported.faces);
            let outcomes = entry.photographs.iter().zip(imported.outcomes);
            line.rejected = outcomes
                .filter_map(|(path, outcome)| match outcome.outcome {
                    Some(Photo::Rejection(why)) => {
                        Some((path.clone(), why.reason().as_str_name().to_owned()))
                    }
                    _ => None,
                })
                .collect();
        }
        Some(Became::Refused(refused)) => {
            line.refused = Some(Refused {
                reason: refused.reason,
                message: refused.message,
                retry: refused.retry,
            });
        }
        None => {}
    }
    line
}

/// About all people of the source: the report may have others as well.
fn summary(report: &Report, all: &[u64], path: &Path) -> Outcome {
    let lines: Vec<&Line> = all.iter().filter_map(|item| report.lines.get(item)).collect();
    let enrolled = lines.iter().filter(|line| line.faces.is_some()).count();
    let faces: u64 = lines.iter().filter_map(|line| line.faces).map(u64::from).sum();
    let mut reasons: HashMap<&str, u64> = HashMap::new();
    for refused in lines.iter().filter_map(|line| line.refused.as_ref()) {
        *reasons.entry(&refused.reason).or_default() += 1;
    }
    let unanswered = all.len() - lines.len();
    let mut text = format!(
        "{} enrolled with {}\n",
        counted(enrolled as u64, "person", "people"),
        counted(faces, "face", "faces")
    );
    let mut sorted: Vec<_> = reasons.iter().collect();
    sorted.sort();
    for (reason, count) in &sorted {
        text += &format!("{} refused: {reason}\n", counted(**count, "person", "people"));
    }
    if !reasons.is_empty() {
        text += &format!("each is in {}\n", path.display());
    }
    if unanswered > 0 {
        let people = counted(unanswered as u64, "person", "people");
        text += &format!("{people} without a result: the same command asks again\n");
    }
    Outcome {
        json: json!({
            "enrolled": enrolled,
            "faces": faces,
            "refused": reasons,
            "unanswered": unanswered,
            "report": path,
        }),
        text,
        holds: enrolled == all.len(),
    }
}
