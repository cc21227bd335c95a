//! `likeness verify`, `compare` and `detect`.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use likeness_proto::v1;
use likeness_proto::v1::matching_service_client::MatchingServiceClient;
use serde_json::json;

use super::Outcome;
use super::client::{
    Connection, FaceArgument, QualityArgument, call_json, counted, face_json, photograph, quality_text,
};
use super::exit::Failure;

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
    /// Least similarity, 0 to 1 [default: the collection's threshold]
    #[arg(long, value_name = "SIMILARITY")]
    threshold: Option<f32>,
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
            threshold: self.threshold.map(similarity),
            comparison: self.per.wire(),
        };
        let mut client = MatchingServiceClient::new(connection.open().await?);
        let reply = client.verify_person(request).await?.into_inner();
        let json = json!({
            "call": call_json(reply.call.as_ref()),
            "same_person": reply.same_person,
            "similarity": reply.similarity,
            "threshold": reply.threshold,
            "face": face_json(reply.face.as_ref()),
        });
        Ok(Outcome {
            json,
            text: verdict(reply.same_person, reply.similarity, reply.threshold),
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
    /// Least similarity, 0 to 1 [default: the embedder's at a false accept rate of 1e-4]
    #[arg(long, value_name = "SIMILARITY")]
    threshold: Option<f32>,
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
            threshold: self.threshold.map(similarity),
        };
        let mut client = MatchingServiceClient::new(connection.open().await?);
        let reply = client.compare_faces(request).await?.into_inner();
        let json = json!({
            "call": call_json(reply.call.as_ref()),
            "same_person": reply.same_person,
            "similarity": reply.similarity,
            "threshold": reply.threshold,
            "first": face_json(reply.first.as_ref()),
            "second": face_json(reply.second.as_ref()),
        });
        Ok(Outcome {
            json,
            text: verdict(reply.same_person, reply.similarity, reply.threshold),
            holds: reply.same_person,
        })
    }
}

/// A threshold stated as a similarity.
pub fn similarity(similarity: f32) -> v1::Threshold {
    v1::Threshold {
        limit: Some(v1::threshold::Limit::Similarity(similarity)),
    }
}

fn verdict(same_person: bool, similarity: f32, threshold: f32) -> String {
    let verdict = if same_person {
        "the same person"
    } else {
        "not the same person"
    };
    format!("{verdict}: similarity {similarity:.3}, threshold {threshold:.3}\n")
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
