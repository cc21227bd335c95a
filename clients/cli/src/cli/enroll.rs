//! `likeness enroll`: people from photographs.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use likeness_proto::v1;
use likeness_proto::v1::person_service_client::PersonServiceClient;
use likeness_proto::v1::photograph_outcome::Outcome as Photo;
use prost_types::Timestamp;
use serde_json::json;

use super::Outcome;
use super::client::{
    Connection, FaceArgument, QualityArgument, call_json, face_json, photograph, rejection_json,
};
use super::exit::Failure;
use super::matching::{estimate_json, match_json, score_text, similarity_text};
use super::person::{person_json, person_line};
use super::terms::{ConsentArguments, date_or_time_from_now};

const ENROLL_EXAMPLES: &str = "\
Examples:
  likeness enroll staff ada portrait.jpg --name 'Ada Lovelace' --tag engineering
  likeness enroll staff ada one.jpg two.jpg three.jpg --consent 'door access' --expires 30d
  likeness enroll staff ada one.jpg two.jpg --own-person --duplicate-strictness 2
  curl -s https://example.org/ada.jpg | likeness enroll staff ada -

Exit code 1 if another enrolled person resembles the faces too much: then the person is not enrolled.";

/// Enrol a person from photographs
#[derive(Debug, Args)]
#[command(after_help = ENROLL_EXAMPLES)]
pub struct EnrollCommand {
    /// The collection
    collection: String,
    /// The PersonID, which you choose: 1 to 64 bytes of A-Z a-z 0-9 _ . @ % # & -
    person_id: String,
    #[command(flatten)]
    photographs: Photographs,
    /// A name to show
    #[arg(long, default_value = "", hide_default_value = true)]
    name: String,
    /// A label; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    #[command(flatten)]
    consent: ConsentArguments,
    /// Erase the person automatically, at a date or some time from now: 2027-01-31, 12h, 30d, 8w
    #[arg(long, value_name = "WHEN", value_parser = date_or_time_from_now)]
    expires: Option<Timestamp>,
}

/// The photographs of a command, and how they are read.
#[derive(Debug, Args)]
pub(super) struct Photographs {
    /// Photographs of the person; `-` reads one from standard input
    #[arg(required = true)]
    pub(super) photographs: Vec<PathBuf>,
    /// Which face of a photograph is meant: `only` refuses several, `largest` takes the largest box
    #[arg(long, value_enum, default_value_t, hide_possible_values = true)]
    pub(super) face: FaceArgument,
    /// How good each face must be: none, low, medium, high or strict [default: the collection's]
    #[arg(long, value_enum, value_name = "LEVEL", hide_possible_values = true)]
    pub(super) quality: Option<QualityArgument>,
    /// Refuse the whole call if any photograph is rejected
    #[arg(long)]
    pub(super) all_or_nothing: bool,
    /// Check that the person is not enrolled under another PersonID: 1 to 4, the higher the stricter; 0 does not
    /// check
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=4))]
    duplicate_strictness: u32,
    /// Reject faces that do not resemble the person's other faces, including earlier ones of the same call
    #[arg(long)]
    own_person: bool,
    /// Keep the mean of each face and its mirror image
    #[arg(long)]
    mirror: bool,
}

impl Photographs {
    pub(super) fn read(&self) -> Result<Vec<v1::Photograph>, Failure> {
        self.photographs.iter().map(|path| photograph(path)).collect()
    }

    pub(super) fn checks(&self) -> Option<v1::EnrollmentChecks> {
        Some(v1::EnrollmentChecks {
            duplicate_strictness: self.duplicate_strictness,
            own_person: self.own_person,
            mirror: self.mirror,
        })
    }
}

impl EnrollCommand {
    /// Carries the command out.
    pub async fn run(self, connection: &Connection) -> Result<Outcome, Failure> {
        let request = v1::EnrollPersonRequest {
            photographs: self.photographs.read()?,
            collection: self.collection,
            person_id: self.person_id,
            face_choice: self.photographs.face.wire(),
            quality_level: QualityArgument::wire(self.photographs.quality),
            name: self.name,
            tags: self.tags,
            consent: self.consent.wire(),
            expires: self.expires,
            all_or_nothing: self.photographs.all_or_nothing,
            checks: self.photographs.checks(),
            ..Default::default()
        };
        let mut client = PersonServiceClient::new(connection.open().await?);
        let reply = client.enroll_person(request).await?.into_inner();
        Ok(enrolled(
            reply.call,
            reply.person,
            &self.photographs.photographs,
            &reply.outcomes,
            &reply.duplicates,
        ))
    }
}

/// What became of photographs and person.
pub(super) fn enrolled(
    call: Option<v1::CallInfo>,
    person: Option<v1::Person>,
    paths: &[PathBuf],
    outcomes: &[v1::PhotographOutcome],
    duplicates: &[v1::Match],
) -> Outcome {
    let mut text = String::new();
    let mut json = Vec::new();
    for (path, outcome) in paths.iter().zip(outcomes) {
        let path = path.display().to_string();
        match &outcome.outcome {
            Some(Photo::Enrolled(enrolled)) => {
                if person.is_some() {
                    let _ = writeln!(
                        text,
                        "{path}: enrolled as face {}{}",
                        enrolled.face_id,
                        own(enrolled)
                    );
                }
                json.push(json!({
                    "photograph": path,
                    "face_id": enrolled.face_id,
                    "face": face_json(enrolled.face.as_ref()),
                    "own_similarity": enrolled.own_similarity,
                    "own_estimate": estimate_json(enrolled.own_estimate.as_ref()),
                }));
            }
            Some(Photo::Rejection(rejection)) => {
                let reason = rejection.reason().as_str_name();
                let _ = writeln!(text, "{path}: rejected, {reason}: {}", rejection.message);
                json.push(json!({ "photograph": path, "rejection": rejection_json(rejection) }));
            }
            None => {}
        }
    }
    for found in duplicates {
        let similarity = similarity_text(found.similarity, found.estimate.as_ref());
        let line = format!("{similarity}  {}  {}", found.person_id, found.name);
        let _ = writeln!(text, "enrolled already: {}", line.trim_end());
    }
    match &person {
        Some(person) => text.push_str(&person_line(person)),
        None => text.push_str("nothing was kept\n"),
    }
    let json = json!({
        "call": call_json(call.as_ref()),
        "person": person.as_ref().map(person_json),
        "outcomes": json,
        "duplicates": duplicates.iter().map(match_json).collect::<Vec<_>>(),
    });
    Outcome {
        json,
        text,
        holds: person.is_some(),
    }
}

/// What a face has in common with the person's others.
fn own(enrolled: &v1::EnrolledFace) -> String {
    let Some(similarity) = enrolled.own_similarity else {
        return String::new();
    };
    let score = score_text(enrolled.own_estimate.as_ref());
    format!(", similarity {similarity:.3} to the others, {score}")
}
