//! `likeness enroll`, `person` and `delete`: people, from photographs to their end.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use likeness_proto::v1;
use likeness_proto::v1::person_service_client::PersonServiceClient;
use likeness_proto::v1::photograph_outcome::Outcome as Photo;
use serde_json::{Value, json};
use tonic::transport::Channel;

use super::Outcome;
use super::client::{
    Connection, FaceArgument, QualityArgument, call_json, counted, face_json, hex, photograph,
    rejection_json, time_text,
};
use super::exit::Failure;

const ENROLL_EXAMPLES: &str = "\
Examples:
  likeness enroll staff ada portrait.jpg --name 'Ada Lovelace' --tag engineering
  likeness enroll staff ada one.jpg two.jpg three.jpg --consent 'door access'
  curl -s https://example.org/ada.jpg | likeness enroll staff ada -";

/// Enrol a person from photographs
#[derive(Debug, Args)]
#[command(after_help = ENROLL_EXAMPLES)]
pub struct EnrollCommand {
    /// The collection
    collection: String,
    /// The PersonID, chosen by you: 1 to 64 bytes of A-Z a-z 0-9 _ . @ % # & -
    person_id: String,
    #[command(flatten)]
    photographs: Photographs,
    /// A name to show
    #[arg(long, default_value = "", hide_default_value = true)]
    name: String,
    /// A label; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Assert that the person, being of age or with a parent, agreed to this purpose
    #[arg(long, value_name = "PURPOSE")]
    consent: Option<String>,
}

#[derive(Debug, Args)]
struct Photographs {
    /// Photographs of the person; `-` reads one from standard input
    #[arg(required = true)]
    photographs: Vec<PathBuf>,
    /// Which face of a photograph is meant: `only` refuses several, `largest` takes the largest box
    #[arg(long, value_enum, default_value_t, hide_possible_values = true)]
    face: FaceArgument,
    /// How good each face must be: none, low, medium, high or strict [default: the collection's]
    #[arg(long, value_enum, value_name = "LEVEL", hide_possible_values = true)]
    quality: Option<QualityArgument>,
    /// Refuse the whole call if any photograph is rejected
    #[arg(long)]
    all_or_nothing: bool,
}

impl Photographs {
    fn read(&self) -> Result<Vec<v1::Photograph>, Failure> {
        self.photographs.iter().map(|path| photograph(path)).collect()
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
            consent: self.consent.map(|purpose| v1::Consent {
                purpose,
                given: None,
                of_age_or_parental: true,
            }),
            all_or_nothing: self.photographs.all_or_nothing,
            ..Default::default()
        };
        let mut client = PersonServiceClient::new(connection.open().await?);
        let reply = client.enroll_person(request).await?.into_inner();
        Ok(enrolled(
            reply.call,
            reply.person,
            &self.photographs.photographs,
            &reply.outcomes,
        ))
    }
}

const PERSON_EXAMPLES: &str = "\
Examples:
  likeness person list staff
  likeness person get staff ada
  likeness person update staff ada --name 'Ada King' --tag press --tag engineering
  likeness person add-faces staff ada with-glasses.jpg";

/// Show, list and change people; add and delete faces
#[derive(Debug, Args)]
#[command(after_help = PERSON_EXAMPLES)]
pub struct PersonCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show one person
    #[command(after_help = "Example:\n  likeness person get staff ada")]
    Get {
        /// The collection
        collection: String,
        /// The PersonID
        person_id: String,
    },
    /// List the people of a collection
    #[command(after_help = "Example:\n  likeness person list staff --most 20")]
    List {
        /// The collection
        collection: String,
        /// Most people to list
        #[arg(long, value_name = "N", default_value_t = 1000)]
        most: usize,
    },
    /// Change a person's name or tags
    #[command(group(ArgGroup::new("change").args(["name", "tags", "no_tags"]).required(true).multiple(true)))]
    #[command(
        after_help = "Examples:\n  likeness person update staff ada --name 'Ada King'\n  likeness person update staff ada --no-tags"
    )]
    Update {
        /// The collection
        collection: String,
        /// The PersonID
        person_id: String,
        /// Another name
        #[arg(long)]
        name: Option<String>,
        /// Tags instead of the present ones; may be given several times
        #[arg(long = "tag", value_name = "TAG", conflicts_with = "no_tags")]
        tags: Vec<String>,
        /// Remove all tags
        #[arg(long)]
        no_tags: bool,
    },
    /// Add faces from more photographs
    #[command(after_help = "Example:\n  likeness person add-faces staff ada new-portrait.jpg")]
    AddFaces {
        /// The collection
        collection: String,
        /// The PersonID
        person_id: String,
        #[command(flatten)]
        photographs: Photographs,
    },
    /// Erase everyone of this PersonID, in every collection
    #[command(after_help = "Example:\n  likeness person erase-everywhere ada")]
    EraseEverywhere {
        /// The PersonID
        person_id: String,
    },
    /// Delete faces, but never the last
    #[command(
        after_help = "Example:\n  likeness person delete-faces staff ada 0f0e0d0c0b0a09080706050403020100"
    )]
    DeleteFaces {
        /// The collection
        collection: String,
        /// The PersonID
        person_id: String,
        /// The faces' ids, as `likeness person get` shows them
        #[arg(required = true)]
        face_ids: Vec<String>,
    },
}

impl PersonCommand {
    /// Carries the command out.
    pub async fn run(self, connection: &Connection) -> Result<Outcome, Failure> {
        let mut client = PersonServiceClient::new(connection.open().await?);
        let (call, person) = match self.command {
            Command::Get {
                collection,
                person_id,
            } => {
                let request = v1::GetPersonRequest {
                    collection,
                    person_id,
                };
                let reply = client.get_person(request).await?.into_inner();
                (reply.call, reply.person)
            }
            Command::EraseEverywhere { person_id } => return erase_everywhere(client, person_id).await,
            Command::List { collection, most } => return list(client, collection, most).await,
            Command::Update {
                collection,
                person_id,
                name,
                tags,
                no_tags,
            } => {
                let tags = (no_tags || !tags.is_empty()).then_some(v1::TagList { tags });
                let request = v1::UpdatePersonRequest {
                    collection,
                    person_id,
                    name,
                    tags,
                    ..Default::default()
                };
                let reply = client.update_person(request).await?.into_inner();
                (reply.call, reply.person)
            }
            Command::AddFaces {
                collection,
                person_id,
                photographs,
            } => {
                let request = v1::AddFacesRequest {
                    collection,
                    person_id,
                    photographs: photographs.read()?,
                    face_choice: photographs.face.wire(),
                    quality_level: QualityArgument::wire(photographs.quality),
                    all_or_nothing: photographs.all_or_nothing,
                    ..Default::default()
                };
                let reply = client.add_faces(request).await?.into_inner();
                return Ok(enrolled(
                    reply.call,
                    reply.person,
                    &photographs.photographs,
                    &reply.outcomes,
                ));
            }
            Command::DeleteFaces {
                collection,
                person_id,
                face_ids,
            } => {
                let request = v1::DeleteFacesRequest {
                    collection,
                    person_id,
                    face_ids,
                    ..Default::default()
                };
                let reply = client.delete_faces(request).await?.into_inner();
                return Ok(faces_deleted(&reply));
            }
        };
        let person = person.unwrap_or_default();
        let json = json!({ "call": call_json(call.as_ref()), "person": person_json(&person) });
        Ok(Outcome::done(json, person_text(&person)))
    }
}

const DELETE_EXAMPLES: &str = "\
Example:
  likeness delete staff ada

Nobody is asked again: when this returns, the key that could open the record is overwritten.";

/// Erase a person: for good, and at once
#[derive(Debug, Args)]
#[command(after_help = DELETE_EXAMPLES)]
pub struct DeleteCommand {
    /// The collection
    collection: String,
    /// The PersonID
    person_id: String,
}

impl DeleteCommand {
    /// Carries the command out.
    pub async fn run(self, connection: &Connection) -> Result<Outcome, Failure> {
        let mut client = PersonServiceClient::new(connection.open().await?);
        let text = format!("erased {} from {}", self.person_id, self.collection);
        let request = v1::DeletePersonRequest {
            collection: self.collection,
            person_id: self.person_id,
            ..Default::default()
        };
        let reply = client.delete_person(request).await?.into_inner();
        let receipt = reply.receipt.unwrap_or_default();
        let json = json!({
            "call": call_json(reply.call.as_ref()),
            "faces_erased": reply.faces_erased,
            "receipt": receipt_json(&receipt),
        });
        let text = format!(
            "{text}: {}; receipt {}, nonce {}\n",
            counted(reply.faces_erased, "face", "faces"),
            receipt.sequence,
            hex(&receipt.nonce)
        );
        Ok(Outcome::done(json, text))
    }
}

fn receipt_json(receipt: &v1::ErasureReceipt) -> Value {
    json!({
        "sequence": receipt.sequence,
        "receipt": hex(&receipt.receipt),
        "nonce": hex(&receipt.nonce),
    })
}

fn faces_deleted(reply: &v1::DeleteFacesResponse) -> Outcome {
    let receipt = reply.receipt.clone().unwrap_or_default();
    let kept = reply.person.as_ref();
    let text = kept.map_or_else(|| "the person was erased meanwhile\n".to_owned(), person_text);
    let json = json!({
        "call": call_json(reply.call.as_ref()),
        "person": kept.map(person_json),
        "receipt": receipt_json(&receipt),
    });
    let text = format!(
        "{text}  receipt {}, nonce {}\n",
        receipt.sequence,
        hex(&receipt.nonce)
    );
    Outcome::done(json, text)
}

async fn erase_everywhere(
    mut client: PersonServiceClient<Channel>,
    person_id: String,
) -> Result<Outcome, Failure> {
    let request = v1::EraseEverywhereRequest {
        person_id: person_id.clone(),
        ..Default::default()
    };
    let reply = client.erase_everywhere(request).await?.into_inner();
    let mut text = String::new();
    for erasure in &reply.erasures {
        let receipt = erasure.receipt.clone().unwrap_or_default();
        let _ = writeln!(
            text,
            "erased {person_id} from {}: {}; receipt {}, nonce {}",
            match erasure.collection.as_str() {
                "" => "a collection that cannot be read",
                name => name,
            },
            counted(erasure.faces_erased, "face", "faces"),
            receipt.sequence,
            hex(&receipt.nonce)
        );
    }
    if reply.erasures.is_empty() {
        let _ = writeln!(text, "nobody is enrolled as {person_id} anywhere");
    }
    let json = json!({
        "call": call_json(reply.call.as_ref()),
        "erasures": reply.erasures.iter().map(|erasure| json!({
            "collection": erasure.collection,
            "faces_erased": erasure.faces_erased,
            "receipt": erasure.receipt.as_ref().map(receipt_json),
        })).collect::<Vec<_>>(),
    });
    Ok(Outcome::done(json, text))
}

async fn list(
    mut client: PersonServiceClient<Channel>,
    collection: String,
    most: usize,
) -> Result<Outcome, Failure> {
    let (mut persons, mut damaged, mut cursor) = (Vec::new(), 0, String::new());
    while persons.len() < most {
        let page_size = u32::try_from(most - persons.len()).unwrap_or(u32::MAX).min(1000);
        let request = v1::ListPersonsRequest {
            collection: collection.clone(),
            page_size,
            cursor,
        };
        let reply = client.list_persons(request).await?.into_inner();
        persons.extend(reply.persons);
        damaged += reply.damaged_persons;
        cursor = reply.next_cursor;
        if cursor.is_empty() {
            break;
        }
    }
    let mut text: String = persons.iter().map(person_line).collect();
    if damaged > 0 {
        let _ = writeln!(text, "{damaged} more cannot be read");
    }
    let json = json!({
        "persons": persons.iter().map(person_json).collect::<Vec<_>>(),
        "damaged_persons": damaged,
    });
    Ok(Outcome::done(json, text))
}

fn enrolled(
    call: Option<v1::CallInfo>,
    person: Option<v1::Person>,
    paths: &[PathBuf],
    outcomes: &[v1::PhotographOutcome],
) -> Outcome {
    let person = person.unwrap_or_default();
    let mut text = String::new();
    let mut json = Vec::new();
    for (path, outcome) in paths.iter().zip(outcomes) {
        let path = path.display().to_string();
        match &outcome.outcome {
            Some(Photo::Enrolled(enrolled)) => {
                let _ = writeln!(text, "{path}: enrolled as face {}", enrolled.face_id);
                let face = face_json(enrolled.face.as_ref());
                json.push(json!({ "photograph": path, "face_id": enrolled.face_id, "face": face }));
            }
            Some(Photo::Rejection(rejection)) => {
                let reason = rejection.reason().as_str_name();
                let _ = writeln!(text, "{path}: rejected, {reason}: {}", rejection.message);
                json.push(json!({ "photograph": path, "rejection": rejection_json(rejection) }));
            }
            None => {}
        }
    }
    text.push_str(&person_line(&person));
    let json = json!({ "call": call_json(call.as_ref()), "person": person_json(&person), "outcomes": json });
    Outcome::done(json, text)
}

fn person_line(person: &v1::Person) -> String {
    let name = match person.name.as_str() {
        "" => String::new(),
        name => format!(" ({name})"),
    };
    let tags = match person.tags.as_slice() {
        [] => String::new(),
        tags => format!(", tags {}", tags.join(" ")),
    };
    let faces = counted(person.faces.len() as u64, "face", "faces");
    format!("{}{name}: {faces}{tags}\n", person.person_id)
}

fn person_text(person: &v1::Person) -> String {
    let mut text = person_line(person);
    let _ = writeln!(
        text,
        "  enrolled {}, changed {}",
        time_text(person.enrolled.as_ref()),
        time_text(person.updated.as_ref())
    );
    if let Some(consent) = &person.consent {
        let _ = writeln!(
            text,
            "  consent: {}, given {}",
            consent.purpose,
            time_text(consent.given.as_ref())
        );
    }
    for face in &person.faces {
        let _ = writeln!(
            text,
            "  face {}: enrolled {}, detection score {:.3}",
            face.face_id,
            time_text(face.enrolled.as_ref()),
            face.detection_score
        );
    }
    text
}

fn person_json(person: &v1::Person) -> Value {
    json!({
        "person_id": person.person_id,
        "name": person.name,
        "tags": person.tags,
        "consent": person.consent.as_ref().map(|c| json!({
            "purpose": c.purpose,
            "given": time_text(c.given.as_ref()),
            "of_age_or_parental": c.of_age_or_parental,
        })),
        "enrolled": time_text(person.enrolled.as_ref()),
        "updated": time_text(person.updated.as_ref()),
        "faces": person.faces.iter().map(|f| json!({
            "face_id": f.face_id,
            "enrolled": time_text(f.enrolled.as_ref()),
            "detection_score": f.detection_score,
        })).collect::<Vec<_>>(),
    })
}
