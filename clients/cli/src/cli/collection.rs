//! `likeness collection`: making, reading, changing and erasing collections.

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use likeness_proto::credential::KeyedChannel;
use likeness_proto::v1;
use likeness_proto::v1::collection_service_client::CollectionServiceClient;
use serde_json::{Value, json};

use super::Outcome;
use super::client::{
    Connection, QualityArgument, RECEIPTS_BYTES_MAX, call_json, counted, level_text, time_text,
};
use super::delete::{receipt_json, receipt_lines};
use super::exit::Failure;

const EXAMPLES: &str = "\
Examples:
  likeness collection create staff
  likeness collection create visitors --bits 2048 --threshold 0.45
  likeness collection list --json";

/// Make, read, change and erase collections
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CollectionCommand {
    #[command(subcommand)]
    command: Command,
}

/// How a collection is searched.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum IndexArgument {
    Flat,
    Graph,
}

impl IndexArgument {
    fn wire(index: Option<Self>) -> i32 {
        match index {
            None => v1::IndexKind::Unspecified,
            Some(Self::Flat) => v1::IndexKind::Flat,
            Some(Self::Graph) => v1::IndexKind::Graph,
        }
        .into()
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an empty collection
    #[command(after_help = "Example:\n  likeness collection create visitors --bits 2048 --threshold 0.45")]
    Create {
        /// 1 to 64 bytes of A-Z a-z 0-9 _ . @ % # & -
        name: String,
        /// Template size: 256, 512, 1024 or 2048
        #[arg(long, default_value_t = 1024)]
        bits: u32,
        /// Similarity at and above which two faces count as one person's, 0 to 1 [default: the embedder's at
        /// a false accept rate of 1e-4]
        #[arg(long, value_name = "SIMILARITY")]
        threshold: Option<f32>,
        /// Faces one person may have, 1 to 20
        #[arg(long, value_name = "N", default_value_t = 20)]
        faces_per_person: u32,
        /// How good faces must be: none, low, medium, high or strict [default: none]
        #[arg(long, value_enum, value_name = "LEVEL", hide_possible_values = true)]
        quality: Option<QualityArgument>,
        /// Kind of index: flat compares with every face; graph compares with some only and may miss a person; see
        /// `likeness index measure` [default: flat]
        #[arg(long, value_enum, value_name = "KIND", hide_possible_values = true)]
        index: Option<IndexArgument>,
        /// Candidates that a search of a graph keeps, 16 to 4096: the more, the slower and the surer
        /// [default: 256]
        #[arg(long, value_name = "N")]
        ef: Option<u32>,
        /// Require a consent for every enrolment
        #[arg(long)]
        require_consent: bool,
    },
    /// Show one collection
    #[command(after_help = "Example:\n  likeness collection get staff")]
    Get {
        /// Its name
        name: String,
    },
    /// List all collections
    #[command(after_help = "Example:\n  likeness collection list --json")]
    List,
    /// Change a collection's threshold, faces per person, quality level, whether a consent is asked for, or how
    /// it is searched
    #[command(group(ArgGroup::new("change").args(["threshold", "faces_per_person", "quality", "index", "ef", "require_consent"]).required(true).multiple(true)))]
    #[command(after_help = "Example:\n  likeness collection update staff --threshold 0.5")]
    Update {
        /// Its name
        name: String,
        /// Another threshold, 0 to 1
        #[arg(long, value_name = "SIMILARITY")]
        threshold: Option<f32>,
        /// Another limit, 1 to 20
        #[arg(long, value_name = "N")]
        faces_per_person: Option<u32>,
        /// Another level for faces from now on: none, low, medium, high or strict
        #[arg(long, value_enum, value_name = "LEVEL", hide_possible_values = true)]
        quality: Option<QualityArgument>,
        /// Another kind of index: flat or graph
        #[arg(long, value_enum, value_name = "KIND", hide_possible_values = true)]
        index: Option<IndexArgument>,
        /// Another number of candidates that a search of a graph keeps, 16 to 4096
        #[arg(long, value_name = "N")]
        ef: Option<u32>,
        /// Whether every enrolment requires a consent from now on: true or false
        #[arg(long, value_name = "BOOL")]
        require_consent: Option<bool>,
    },
    /// Erase a collection and all people in it
    #[command(after_help = "Example:\n  likeness collection delete visitors")]
    Delete {
        /// Its name
        name: String,
    },
}

impl CollectionCommand {
    /// Carries the command out.
    pub async fn run(self, connection: &Connection) -> Result<Outcome, Failure> {
        let client = CollectionServiceClient::new(connection.open().await?);
        let mut client = client.max_decoding_message_size(RECEIPTS_BYTES_MAX);
        let (call, collection) = match self.command {
            Command::Create {
                name,
                bits,
                threshold,
                faces_per_person,
                quality,
                index,
                ef,
                require_consent,
            } => {
                let request = v1::CreateCollectionRequest {
                    name,
                    bits,
                    threshold,
                    faces_per_person_max: faces_per_person,
                    quality_level: QualityArgument::wire(quality),
                    index: IndexArgument::wire(index),
                    ef: ef.unwrap_or(0),
                    consent_required: require_consent,
                    ..Default::default()
                };
                let reply = client.create_collection(request).await?.into_inner();
                (reply.call, reply.collection)
            }
            Command::Get { name } => {
                let reply = client
                    .get_collection(v1::GetCollectionRequest { name })
                    .await?
                    .into_inner();
                (reply.call, reply.collection)
            }
            Command::Update {
                name,
                threshold,
                faces_per_person,
                quality,
                index,
                ef,
                require_consent,
            } => {
                let request = v1::UpdateCollectionRequest {
                    name,
                    threshold,
                    faces_per_person_max: faces_per_person,
                    quality_level: QualityArgument::wire(quality),
                    index: IndexArgument::wire(index),
                    ef,
                    consent_required: require_consent,
                    ..Default::default()
                };
                let reply = client.update_collection(request).await?.into_inner();
                (reply.call, reply.collection)
            }
            Command::List => return list(client).await,
            Command::Delete { name } => return delete(client, name).await,
        };
        let collection = collection.unwrap_or_default();
        let json = json!({ "call": call_json(call.as_ref()), "collection": collection_json(&collection) });
        Ok(Outcome::done(json, line(&collection)))
    }
}

async fn list(mut client: CollectionServiceClient<KeyedChannel>) -> Result<Outcome, Failure> {
    let mut collections = Vec::new();
    let mut cursor = String::new();
    loop {
        let request = v1::ListCollectionsRequest { page_size: 0, cursor };
        let reply = client.list_collections(request).await?.into_inner();
        collections.extend(reply.collections);
        cursor = reply.next_cursor;
        if cursor.is_empty() {
            break;
        }
    }
    let text = collections.iter().map(line).collect::<String>();
    let json = json!({ "collections": collections.iter().map(collection_json).collect::<Vec<_>>() });
    Ok(Outcome::done(json, text))
}

async fn delete(mut client: CollectionServiceClient<KeyedChannel>, name: String) -> Result<Outcome, Failure> {
    let request = v1::DeleteCollectionRequest {
        name: name.clone(),
        ..Default::default()
    };
    let reply = client.delete_collection(request).await?.into_inner();
    let receipts: Vec<_> = reply.receipts.iter().map(receipt_json).collect();
    let json = json!({
        "call": call_json(reply.call.as_ref()),
        "persons_erased": reply.persons_erased,
        "receipts": receipts,
    });
    let people = counted(reply.persons_erased, "person", "people");
    let text = format!("erased {name} and {people}\n{}", receipt_lines(&reply.receipts));
    Ok(Outcome::done(json, text))
}

fn line(c: &v1::Collection) -> String {
    let damaged = match c.damaged_persons {
        0 => String::new(),
        n => format!(", {n} damaged"),
    };
    format!(
        "{}: {}, {}{damaged}; {} bits, threshold {:.3}, quality {}, up to {} a person{}{}; made {}\n",
        c.name,
        counted(c.persons, "person", "people"),
        counted(c.faces, "face", "faces"),
        c.bits,
        c.threshold,
        level_text(c.quality_level()),
        counted(c.faces_per_person_max, "face", "faces"),
        index_text(c),
        if c.consent_required {
            ", nobody without a consent"
        } else {
            ""
        },
        time_text(c.created.as_ref()),
    )
}

/// Of a graph; nothing of what is usual.
fn index_text(c: &v1::Collection) -> String {
    match c.index() {
        v1::IndexKind::Graph => format!(", searched by a graph with ef {}", c.ef),
        v1::IndexKind::Flat | v1::IndexKind::Unspecified => String::new(),
    }
}

fn index_name(c: &v1::Collection) -> &'static str {
    match c.index() {
        v1::IndexKind::Graph => "graph",
        v1::IndexKind::Flat | v1::IndexKind::Unspecified => "flat",
    }
}

fn collection_json(c: &v1::Collection) -> Value {
    json!({
        "name": c.name,
        "bits": c.bits,
        "threshold": c.threshold,
        "faces_per_person_max": c.faces_per_person_max,
        "quality_level": level_text(c.quality_level()),
        "index": index_name(c),
        "ef": c.ef,
        "consent_required": c.consent_required,
        "created": time_text(c.created.as_ref()),
        "persons": c.persons,
        "faces": c.faces,
        "damaged_persons": c.damaged_persons,
    })
}
