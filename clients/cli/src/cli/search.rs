//! `likeness search`: who is on a photograph, and what is printed of them.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use likeness_proto::v1;
use likeness_proto::v1::matching_service_client::MatchingServiceClient;
use likeness_proto::v1::threshold::Limit;
use serde_json::{Value, json};

use super::Outcome;
use super::client::{Connection, QualityArgument, call_json, counted, face_json, photograph};
use super::exit::Failure;
use super::matching::{LimitArguments, Per, match_json, similarity_text, threshold};

const EXAMPLES: &str = "\
Examples:
  likeness search staff door.jpg
  likeness search staff group.jpg --face all --per person --top 3 --json
  likeness search staff,visitors door.jpg --tag night-shift --max-fpir 1e-3
  likeness search staff door.jpg --person ada --person grace

Exit code 0 if a person is found, 1 if not.";

/// Find the people on a photograph (1:N)
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct SearchCommand {
    /// The collection, or several with commas between them, searched as if they were one
    #[arg(
        value_delimiter = ',',
        value_name = "COLLECTION[,COLLECTION...]",
        num_args = 1
    )]
    collections: Vec<String>,
    /// The photograph; `-` reads it from standard input
    photograph: PathBuf,
    /// Most people to show for each face, 1 to 100
    #[arg(long, value_name = "N", default_value_t = 5)]
    top: u32,
    #[command(flatten)]
    limit: LimitArguments,
    /// Part of the searches for a person that is not enrolled that may find a match, 1e-6 to 0.5
    #[arg(long, value_name = "RATE", conflicts_with = "limit")]
    max_fpir: Option<f64>,
    /// Which face of the photograph is meant: `only` refuses several, `largest` takes the largest box, `all`
    /// searches for each of at most ten
    #[arg(long, value_enum, default_value_t, hide_possible_values = true)]
    face: Faces,
    /// References that are compared: the best `face`, or all faces of the `person` together
    #[arg(long, value_enum, default_value_t, hide_possible_values = true)]
    per: Per,
    /// How good the face must be: none, low, medium, high or strict [default: the strictest of the collections]
    #[arg(long, value_enum, value_name = "LEVEL", hide_possible_values = true)]
    quality: Option<QualityArgument>,
    /// Search only people with this tag; of several tags one is enough
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Search only people with every given tag
    #[arg(long, requires = "tag")]
    all_tags: bool,
    /// Search only this PersonID; may be repeated
    #[arg(long, value_name = "ID")]
    person: Vec<String>,
    /// Miss no person that reaches the threshold, not even one in a million: takes longer among many faces
    #[arg(long)]
    exact: bool,
}

/// Which faces of a photograph are looked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Faces {
    /// The only one; several are refused
    #[default]
    Only,
    /// The one with the largest box
    Largest,
    /// Every acceptable one
    All,
}

impl Faces {
    fn wire(self) -> i32 {
        match self {
            Self::Only => v1::FaceChoice::Only.into(),
            Self::Largest => v1::FaceChoice::Largest.into(),
            Self::All => v1::FaceChoice::All.into(),
        }
    }
}

impl SearchCommand {
    /// Carries the command out.
    pub async fn run(self, connection: &Connection) -> Result<Outcome, Failure> {
        let several_places = self.collections.len() > 1;
        let (any_tag, all_tags) = if self.all_tags {
            (vec![], self.tag)
        } else {
            (self.tag, vec![])
        };
        let request = v1::SearchPersonsRequest {
            collections: self.collections,
            photograph: Some(photograph(&self.photograph)?),
            face_choice: self.face.wire(),
            quality_level: QualityArgument::wire(self.quality),
            top_k: self.top,
            threshold: self
                .limit
                .wire()
                .or(self.max_fpir.map(Limit::MaxFpirPerSearch).map(threshold)),
            comparison: self.per.wire(),
            filter: Some(v1::Filter {
                any_tag,
                all_tags,
                person_ids: self.person,
            }),
            exact: self.exact,
        };
        let mut client = MatchingServiceClient::new(connection.open().await?);
        let reply = client.search_persons(request).await?.into_inner();
        let found = Found {
            reply: &reply,
            several_places,
        };
        let (json, text) = if self.face == Faces::All {
            (found.every_face_json(), found.every_face_text())
        } else {
            (found.one_face_json(), found.one_face_text())
        };
        Ok(Outcome {
            json,
            text,
            holds: reply.results.iter().any(|result| !result.matches.is_empty()),
        })
    }
}

/// A reply, to be printed.
struct Found<'a> {
    reply: &'a v1::SearchPersonsResponse,
    several_places: bool,
}

impl Found<'_> {
    fn one_face_text(&self) -> String {
        let mut text = String::new();
        self.reply
            .results
            .iter()
            .for_each(|result| self.matches_text(&mut text, result, ""));
        text
    }

    /// A block for each face: its place, and the people it may be.
    fn every_face_text(&self) -> String {
        let mut text = String::new();
        for result in &self.reply.results {
            let _ = writeln!(text, "face at {}", place_text(result.face.as_ref()));
            self.matches_text(&mut text, result, "  ");
        }
        for face in &self.reply.rejected {
            let rejection = face.rejection.clone().unwrap_or_default();
            let _ = writeln!(
                text,
                "face at {} was not searched for\n  {}: {}",
                place_text(Some(face)),
                rejection.reason().as_str_name(),
                rejection.message
            );
        }
        if text.is_empty() {
            text.push_str("no face was found\n");
        }
        text
    }

    fn matches_text(&self, text: &mut String, result: &v1::FaceMatches, indent: &str) {
        for found in &result.matches {
            let place = if self.several_places {
                found.collection.as_str()
            } else {
                ""
            };
            let similarity = similarity_text(found.similarity, found.estimate.as_ref());
            let line = format!("{similarity}  {}  {}", found.person_id, found.name);
            let line = if place.is_empty() {
                line
            } else {
                format!("{place}  {line}")
            };
            let _ = writeln!(text, "{indent}{}", line.trim_end());
        }
        if result.matches.is_empty() {
            let searched = counted(self.reply.faces_searched, "face", "faces");
            let _ = writeln!(
                text,
                "{indent}nobody at or above {:.3} among {searched}",
                result.threshold
            );
        }
    }

    fn one_face_json(&self) -> Value {
        let result = self.reply.results.first().cloned().unwrap_or_default();
        json!({
            "call": call_json(self.reply.call.as_ref()),
            "matches": matches_json(&result),
            "threshold": result.threshold,
            "faces_searched": self.reply.faces_searched,
            "face": face_json(result.face.as_ref()),
        })
    }

    fn every_face_json(&self) -> Value {
        let results = self.reply.results.iter().map(|result| {
            json!({
                "face": face_json(result.face.as_ref()),
                "matches": matches_json(result),
                "threshold": result.threshold,
            })
        });
        json!({
            "call": call_json(self.reply.call.as_ref()),
            "results": results.collect::<Vec<_>>(),
            "rejected": self.reply.rejected.iter().map(|face| face_json(Some(face))).collect::<Vec<_>>(),
            "faces_searched": self.reply.faces_searched,
        })
    }
}

fn matches_json(result: &v1::FaceMatches) -> Value {
    result.matches.iter().map(match_json).collect()
}

/// A face's box, as in `likeness detect`.
fn place_text(face: Option<&v1::Face>) -> String {
    let area = face.and_then(|face| face.r#box).unwrap_or_default();
    format!(
        "{:.0},{:.0} to {:.0},{:.0}",
        area.left, area.top, area.right, area.bottom
    )
}
