//! `likeness verify`, `compare` and `detect`.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use likeness_proto::v1;
use likeness_proto::v1::matching_service_client::MatchingServiceClient;
use likeness_proto::v1::threshold::Limit;
use serde_json::{Value, json};

use super::Outcome;
use super::client::{
    Connection, FaceArgument, QualityArgument, call_json, counted, face_json, photograph, quality_text,
};
use super::exit::Failure;

/// The threshold at and above which two faces count as one person's; the default is the collection's or, without a
/// collection, the embedder's at a false accept rate of 1e-4.
#[derive(Debug, Args)]
#[group(id = "limit", multiple = false)]
pub struct LimitArguments {
    /// Least similarity, 0 to 1 [default: the collection's threshold; without one, the models']
    #[arg(long, value_name = "SIMILARITY")]
    threshold: Option<f32>,
    /// Least score instead, 0 to 100: 60 is one false match in 10,000 comparisons, 70 in 100,000
    #[arg(long, value_name = "SCORE")]
    score: Option<f32>,
    /// Part of the unrelated pairs that may pass instead, 1e-9 to 0.5
    #[arg(long, value_name = "RATE")]
    max_far: Option<f64>,
}

impl LimitArguments {
    /// On the wire; none where nothing is stated.
    pub fn wire(&self) -> Option<v1::Threshold> {
        let similarity = self.threshold.map(Limit::Similarity);
        let score = self.score.map(Limit::Score);
        let limit = similarity
            .or(score)
            .or(self.max_far.map(Limit::MaxFarPerComparison));
        limit.map(threshold)
    }
}

/// A threshold, on the wire.
pub fn threshold(limit: Limit) -> v1::Threshold {
    v1::Threshold { limit: Some(limit) }
}

/// What of a person is compared.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub enum Per {
    /// The person's best face
    #[default]
    Face,
    /// All faces of the person together
    Person,
}

impl Per {
    /// On the wire.
    pub fn wire(self) -> i32 {
        match self {
            Self::Face => v1::Comparison::BestFace.into(),
            Self::Person => v1::Comparison::Fused.into(),
        }
    }
}

/// Check that a photograph shows the person of a PersonID (1:1)
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  likeness verify staff ada door.jpg && open-the-door\n\n\
    Exit code 0 if it is the person, 1 if it is not; anything else means that the question was not answered."
)]
pub struct VerifyCommand {
    /// The collection
    collection: String,
    /// The PersonID
    person_id: String,
    /// The photograph; `-` reads it from standard input
    photograph: PathBuf,
    #[command(flatten)]
    limit: LimitArguments,
    /// Which face of the photograph is meant: `only` refuses several, `largest` takes the largest box
    #[arg(long, value_enum, default_value_t, hide_possible_values = true)]
    face: FaceArgument,
    /// What of the person is compared: the best `face`, or all faces of the `person` together
    #[arg(long, value_enum, default_value_t, hide_possible_values = true)]
    per: Per,
    /// How good the face must be: none, low, medium, high or strict [default: the collection's]
    #[arg(long, value_enum, value_name = "LEVEL", hide_possible_values = true)]
    quality: Option<QualityArgument>,
}

impl VerifyCommand {
    /// Carries the command out.
    pub async fn run(self, connection: &Connection) -> Result<Outcome, Failure> {
        let request = v1::VerifyPersonRequest {
            collection: self.collection,
            person_id: self.person_id,
            photograph: Some(photograph(&self.photograph)?),
            face_choice: self.face.wire(),
            quality_level: QualityArgument::wire(self.quality),
            threshold: self.limit.wire(),
            comparison: self.per.wire(),
        };
        let mut client = MatchingServiceClient::new(connection.open().await?);
        let reply = client.verify_person(request).await?.into_inner();
        let json = json!({
            "call": call_json(reply.call.as_ref()),
            "same_person": reply.same_person,
            "similarity": reply.similarity,
            "estimate": estimate_json(reply.estimate.as_ref()),
            "threshold": reply.threshold,
            "face": face_json(reply.face.as_ref()),
        });
        Ok(Outcome {
            json,
            text: verdict(
                reply.same_person,
                reply.similarity,
                reply.threshold,
                reply.estimate.as_ref(),
            ),
            holds: reply.same_person,
        })
    }
}

/// Compare the faces of two photographs; nothing is kept
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  likeness compare passport.jpg selfie.jpg")]
pub struct CompareCommand {
    /// A photograph; `-` reads it from standard input
    first: PathBuf,
    /// Another photograph
    second: PathBuf,
    #[command(flatten)]
    limit: LimitArguments,
    /// Which face of each photograph is meant: `only` refuses several, `largest` takes the largest box
    #[arg(long, value_enum, default_value_t, hide_possible_values = true)]
    face: FaceArgument,
    /// How good the face must be: none, low, medium, high or strict [default: none]
    #[arg(long, value_enum, value_name = "LEVEL", hide_possible_values = true)]
    quality: Option<QualityArgument>,
}

impl CompareCommand {
    /// Carries the command out.
    pub async fn run(self, connection: &Connection) -> Result<Outcome, Failure> {
        let request = v1::CompareFacesRequest {
            first: Some(photograph(&self.first)?),
            second: Some(photograph(&self.second)?),
            face_choice: self.face.wire(),
            quality_level: QualityArgument::wire(self.quality),
            threshold: self.limit.wire(),
        };
        let mut client = MatchingServiceClient::new(connection.open().await?);
        let reply = client.compare_faces(request).await?.into_inner();
        let json = json!({
            "call": call_json(reply.call.as_ref()),
            "same_person": reply.same_person,
            "similarity": reply.similarity,
            "estimate": estimate_json(reply.estimate.as_ref()),
            "threshold": reply.threshold,
            "first": face_json(reply.first.as_ref()),
            "second": face_json(reply.second.as_ref()),
        });
        Ok(Outcome {
            json,
            text: verdict(
                reply.same_person,
                Some(reply.similarity),
                reply.threshold,
                reply.estimate.as_ref(),
            ),
            holds: reply.same_person,
        })
    }
}

/// The score, as in `score 87`; with `~` where it lies beyond what the calibration was counted on.
pub(super) fn score_text(estimate: Option<&v1::Estimate>) -> String {
    let estimate = estimate.copied().unwrap_or_default();
    let mark = if estimate.extrapolated { "~" } else { "" };
    format!("score {mark}{:.0}", estimate.score)
}

/// How similar a match is, as in `0.780  score 87`.
pub(super) fn similarity_text(similarity: Option<f32>, estimate: Option<&v1::Estimate>) -> String {
    similarity.map_or_else(
        || "not told".to_owned(),
        |similarity| format!("{similarity:.3}  {}", score_text(estimate)),
    )
}

pub(super) fn match_json(found: &v1::Match) -> Value {
    json!({
        "collection": found.collection,
        "person_id": found.person_id,
        "name": found.name,
        "tags": found.tags,
        "similarity": found.similarity,
        "estimate": estimate_json(found.estimate.as_ref()),
    })
}

pub(super) fn estimate_json(estimate: Option<&v1::Estimate>) -> Value {
    estimate.map_or(Value::Null, |estimate| {
        json!({
            "score": estimate.score,
            "far": estimate.far,
            "extrapolated": estimate.extrapolated,
            "fpir": estimate.fpir,
        })
    })
}

fn verdict(
    same_person: bool,
    similarity: Option<f32>,
    threshold: f32,
    estimate: Option<&v1::Estimate>,
) -> String {
    let verdict = if same_person {
        "the same person"
    } else {
        "not the same person"
    };
    match similarity {
        Some(similarity) => {
            let score = score_text(estimate);
            format!("{verdict}: similarity {similarity:.3}, {score}, threshold {threshold:.3}\n")
        }
        None => format!("{verdict}: similarity not told, threshold {threshold:.3}\n"),
    }
}

/// Find the faces of a photograph; nothing is kept
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  likeness detect group.jpg --json")]
pub struct DetectCommand {
    /// The photograph; `-` reads it from standard input
    photograph: PathBuf,
    /// Say of each face why it would be refused at this level: none, low, medium, high or strict [default: none]
    #[arg(long, value_enum, value_name = "LEVEL", hide_possible_values = true)]
    quality: Option<QualityArgument>,
}

impl DetectCommand {
    /// Carries the command out.
    pub async fn run(self, connection: &Connection) -> Result<Outcome, Failure> {
        let request = v1::DetectFacesRequest {
            photograph: Some(photograph(&self.photograph)?),
            quality_level: QualityArgument::wire(self.quality),
        };
        let mut client = MatchingServiceClient::new(connection.open().await?);
        let reply = client.detect_faces(request).await?.into_inner();
        let mut text = format!(
            "{} x {} px, {}\n",
            reply.width,
            reply.height,
            counted(reply.faces.len() as u64, "face", "faces")
        );
        for face in &reply.faces {
            let area = face.r#box.unwrap_or_default();
            let _ = write!(
                text,
                "  {:.0},{:.0} to {:.0},{:.0}  score {:.3}",
                area.left, area.top, area.right, area.bottom, face.detection_score
            );
            if face.rotated_degrees != 0 {
                let _ = write!(text, "  turned by {} degrees", face.rotated_degrees);
            }
            if let Some(rejection) = &face.rejection {
                let _ = write!(
                    text,
                    "  {}: {}",
                    rejection.reason().as_str_name(),
                    rejection.message
                );
            }
            text.push('\n');
            if let Some(quality) = &face.quality {
                let _ = writeln!(text, "    {}", quality_text(quality));
            }
        }
        let json = json!({
            "call": call_json(reply.call.as_ref()),
            "width": reply.width,
            "height": reply.height,
            "faces": reply.faces.iter().map(|f| face_json(Some(f))).collect::<Vec<_>>(),
        });
        Ok(Outcome::done(json, text))
    }
}
