//! `likeness consent`: who agreed to what, and who does not any more.

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use likeness_proto::credential::KeyedChannel;
use likeness_proto::v1;
use likeness_proto::v1::person_service_client::PersonServiceClient;
use serde_json::{Value, json};

use super::Outcome;
use super::client::{Connection, call_json, counted, hex, time_text};
use super::delete::receipt_json;
use super::exit::Failure;

const EXAMPLES: &str = "\
Examples:
  likeness consent list staff
  likeness consent withdraw staff ada";

/// List consents; withdraw one, which erases the person
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ConsentCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the consent of each person; people without one are listed without one
    #[command(after_help = "Example:\n  likeness consent list staff --most 20")]
    List {
        /// The collection
        collection: String,
        /// Most people to list
        #[arg(long, value_name = "N", default_value_t = 1000)]
        most: usize,
    },
    /// A person withdraws the consent: erases the person, with or without a consent on record
    #[command(after_help = "Example:\n  likeness consent withdraw staff ada")]
    Withdraw {
        /// The collection
        collection: String,
        /// The PersonID
        person_id: String,
    },
}

impl ConsentCommand {
    /// Carries the command out.
    pub async fn run(self, connection: &Connection) -> Result<Outcome, Failure> {
        let client = PersonServiceClient::new(connection.open().await?);
        match self.command {
            Command::List { collection, most } => list(client, collection, most).await,
            Command::Withdraw {
                collection,
                person_id,
            } => withdraw(client, collection, person_id).await,
        }
    }
}

async fn list(
    mut client: PersonServiceClient<KeyedChannel>,
    collection: String,
    most: usize,
) -> Result<Outcome, Failure> {
    let (mut consents, mut damaged, mut cursor) = (Vec::new(), 0, String::new());
    while consents.len() < most {
        let request = v1::ListConsentsRequest {
            collection: collection.clone(),
            page_size: u32::try_from(most - consents.len()).unwrap_or(u32::MAX).min(1000),
            cursor,
        };
        let reply = client.list_consents(request).await?.into_inner();
        consents.extend(reply.consents);
        damaged += reply.damaged_persons;
        cursor = reply.next_cursor;
        if cursor.is_empty() {
            break;
        }
    }
    let mut text: String = consents.iter().map(line).collect();
    if damaged > 0 {
        let _ = writeln!(text, "{damaged} more cannot be read");
    }
    let json = json!({
        "consents": consents.iter().map(|consent| json!({
            "person_id": consent.person_id,
            "consent": consent_json(consent.consent.as_ref()),
            "expires": consent.expires.as_ref().map(|time| time_text(Some(time))),
        })).collect::<Vec<_>>(),
        "damaged_persons": damaged,
    });
    Ok(Outcome::done(json, text))
}

fn line(person: &v1::PersonConsent) -> String {
    let consent = person.consent.as_ref().map_or_else(
        || "no consent on record".to_owned(),
        |consent| format!("{}, given {}", consent.purpose, time_text(consent.given.as_ref())),
    );
    let expires = person
        .expires
        .as_ref()
        .map(|time| format!(", expires {}", time_text(Some(time))));
    format!("{}: {consent}{}\n", person.person_id, expires.unwrap_or_default())
}

/// A consent, for scripts.
pub fn consent_json(consent: Option<&v1::Consent>) -> Value {
    consent.map_or(Value::Null, |consent| {
        json!({
            "purpose": consent.purpose,
            "given": time_text(consent.given.as_ref()),
            "of_age_or_parental": consent.of_age_or_parental,
        })
    })
}

async fn withdraw(
    mut client: PersonServiceClient<KeyedChannel>,
    collection: String,
    person_id: String,
) -> Result<Outcome, Failure> {
    let text = format!("withdrawn, and erased {person_id} from {collection}");
    let request = v1::WithdrawConsentRequest {
        collection,
        person_id,
        ..Default::default()
    };
    let reply = client.withdraw_consent(request).await?.into_inner();
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
