//! `likeness person`: people, and whatever becomes of them after enrolment.

use std::fmt::Write as _;

use clap::{ArgGroup, Args, Subcommand};
use likeness_proto::credential::KeyedChannel;
use likeness_proto::v1;
use likeness_proto::v1::person_service_client::PersonServiceClient;
use prost_types::Timestamp;
use serde_json::{Value, json};

use super::Outcome;
use super::client::{Connection, QualityArgument, call_json, counted, hex, time_text};
use super::consent::consent_json;
use super::delete::receipt_json;
use super::enroll::{Photographs, enrolled};
use super::exit::Failure;
use super::terms::{ConsentArguments, date_or_time_from_now};

const PERSON_EXAMPLES: &str = "\
Examples:
  likeness person list staff
  likeness person get staff ada
  likeness person update staff ada --name 'Ada King' --tag press --tag engineering
  likeness person add-faces staff ada with-glasses.jpg
  likeness person copy staff ada --to visitors
  likeness person export ada --json";

/// Show, list, change, copy and rename people; add and delete faces
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
    /// Change a person's name, tags, consent or expiry
    #[command(group(ArgGroup::new("change").args(["name", "tags", "no_tags", "consent", "expires", "never_expires"]).required(true).multiple(true)))]
    #[command(
        after_help = "Examples:\n  likeness person update staff ada --name 'Ada King'\n  likeness person update staff ada --no-tags --expires 30d"
    )]
    Update {
        /// The collection
        collection: String,
        /// The PersonID
        person_id: String,
        /// Another name
        #[arg(long)]
        name: Option<String>,
        /// Tags that replace the present ones; may be repeated
        #[arg(long = "tag", value_name = "TAG", conflicts_with = "no_tags")]
        tags: Vec<String>,
        /// Remove all tags
        #[arg(long)]
        no_tags: bool,
        #[command(flatten)]
        consent: ConsentArguments,
        /// Erase the person automatically, at a date or some time from now: 2027-01-31, 12h, 30d, 8w
        #[arg(long, value_name = "WHEN", value_parser = date_or_time_from_now)]
        expires: Option<Timestamp>,
        /// Keep the person until it is erased
        #[arg(long, conflicts_with = "expires")]
        never_expires: bool,
    },
    /// Copy a person with all faces into another collection, or under another PersonID
    #[command(
        after_help = "Examples:\n  likeness person copy staff ada --to visitors\n  likeness person copy staff ada --to staff --as ada-2"
    )]
    Copy {
        /// The collection
        collection: String,
        /// The PersonID
        person_id: String,
        /// The collection that gets the copy: of the same models, and of templates that are not longer
        #[arg(long, value_name = "COLLECTION")]
        to: String,
        /// The copy's PersonID [default: the same]
        #[arg(
            long = "as",
            value_name = "PERSON_ID",
            default_value = "",
            hide_default_value = true
        )]
        new_id: String,
    },
    /// Give a person another PersonID
    #[command(after_help = "Example:\n  likeness person rename staff ada ada.king@example.org")]
    Rename {
        /// The collection
        collection: String,
        /// The PersonID
        person_id: String,
        /// The other PersonID
        new_person_id: String,
    },
    /// Show all data that are kept of the person with this PersonID, in every collection
    #[command(after_help = "Example:\n  likeness person export ada --json")]
    Export {
        /// The PersonID
        person_id: String,
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
    /// Erase the person with this PersonID in every collection
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
            Command::Export { person_id } => return export(client, person_id).await,
            Command::Copy {
                collection,
                person_id,
                to,
                new_id,
            } => {
                let request = v1::CopyPersonRequest {
                    collection,
                    person_id,
                    target_collection: to,
                    target_person_id: new_id,
                    ..Default::default()
                };
                let reply = client.copy_person(request).await?.into_inner();
                (reply.call, reply.person)
            }
            Command::Rename {
                collection,
                person_id,
                new_person_id,
            } => {
                let request = v1::RenamePersonRequest {
                    collection,
                    person_id,
                    new_person_id,
                    ..Default::default()
                };
                let reply = client.rename_person(request).await?.into_inner();
                (reply.call, reply.person)
            }
            Command::Update {
                collection,
                person_id,
                name,
                tags,
                no_tags,
                consent,
                expires,
                never_expires,
            } => {
                let tags = (no_tags || !tags.is_empty()).then_some(v1::TagList { tags });
                let request = v1::UpdatePersonRequest {
                    collection,
                    person_id,
                    name,
                    tags,
                    consent: consent.wire(),
                    expiry: (never_expires || expires.is_some()).then_some(v1::ExpiryChange { expires }),
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
                    checks: photographs.checks(),
                    ..Default::default()
                };
                let reply = client.add_faces(request).await?.into_inner();
                return Ok(enrolled(
                    reply.call,
                    reply.person,
                    &photographs.photographs,
                    &reply.outcomes,
                    &reply.duplicates,
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
    mut client: PersonServiceClient<KeyedChannel>,
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

async fn export(
    mut client: PersonServiceClient<KeyedChannel>,
    person_id: String,
) -> Result<Outcome, Failure> {
    let request = v1::ExportPersonRequest {
        person_id: person_id.clone(),
    };
    let reply = client.export_person(request).await?.into_inner();
    let mut text = String::new();
    for export in &reply.persons {
        let _ = writeln!(text, "in {}, as {}:", export.collection, export.scheme);
        match &export.person {
            Some(person) => text.push_str(&person_text(person)),
            None => text.push_str("  the record cannot be read\n"),
        }
        let _ = writeln!(
            text,
            "  kept: {} bytes of template a face, a sealed record of {} bytes, a key in {} bytes, counters of comparisons \
             in {} bytes",
            export.template_bytes, export.record_bytes, export.slot_bytes, export.counter_bytes
        );
    }
    if reply.persons.is_empty() {
        let _ = writeln!(text, "nothing is kept under {person_id}");
    }
    let json = json!({
        "call": call_json(reply.call.as_ref()),
        "persons": reply.persons.iter().map(|export| json!({
            "collection": export.collection,
            "person": export.person.as_ref().map(person_json),
            "scheme": export.scheme,
            "template_bytes": export.template_bytes,
            "record_bytes": export.record_bytes,
            "slot_bytes": export.slot_bytes,
            "counter_bytes": export.counter_bytes,
        })).collect::<Vec<_>>(),
    });
    Ok(Outcome::done(json, text))
}

async fn list(
    mut client: PersonServiceClient<KeyedChannel>,
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

pub(super) fn person_line(person: &v1::Person) -> String {
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
    // Absent where the key lacks scope read: then there are ids, and nothing else.
    let Some(enrolled) = &person.enrolled else {
        let ids = person
            .faces
            .iter()
            .map(|face| format!("  face {}\n", face.face_id));
        return text + &ids.collect::<String>();
    };
    let _ = writeln!(
        text,
        "  enrolled {}, changed {}",
        time_text(Some(enrolled)),
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
    if let Some(expires) = &person.expires {
        let _ = writeln!(text, "  expires {}", time_text(Some(expires)));
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

pub(super) fn person_json(person: &v1::Person) -> Value {
    json!({
        "person_id": person.person_id,
        "name": person.name,
        "tags": person.tags,
        "consent": consent_json(person.consent.as_ref()),
        "expires": person.expires.as_ref().map(|time| time_text(Some(time))),
        "enrolled": time_text(person.enrolled.as_ref()),
        "updated": time_text(person.updated.as_ref()),
        "faces": person.faces.iter().map(|f| json!({
            "face_id": f.face_id,
            "enrolled": time_text(f.enrolled.as_ref()),
            "detection_score": f.detection_score,
        })).collect::<Vec<_>>(),
    })
}
