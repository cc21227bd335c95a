//! `likeness log`: who was asked about when, and how much was asked.

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use likeness_proto::credential::KeyedChannel;
use likeness_proto::v1;
use likeness_proto::v1::log_service_client::LogServiceClient;
use serde_json::{Value, json};

use super::Outcome;
use super::client::{Connection, call_json, counted, time_text};
use super::exit::Failure;

const EXAMPLES: &str = "\
Examples:
  likeness log list staff ada
  likeness log export staff --json
  likeness log usage --from 2026-11-01 --to 2026-11-30";

/// Read the running log of people; show the usage
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct LogCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List every call about one person, in the order of time
    #[command(after_help = "Example:\n  likeness log list staff ada --most 20")]
    List {
        /// The collection
        collection: String,
        /// The PersonID
        person_id: String,
        /// Most rows to list
        #[arg(long, value_name = "N", default_value_t = 1000)]
        most: usize,
    },
    /// List every call about all people of a collection, person by person
    #[command(after_help = "Example:\n  likeness log export staff --json")]
    Export {
        /// The collection
        collection: String,
    },
    /// Show calls, billed calls and errors by interface and day
    #[command(after_help = "Example:\n  likeness log usage --from 2026-11-01 --interface SearchPersons")]
    Usage {
        /// The first day (UTC), as in 2026-11-28 [default: today]
        #[arg(long, value_name = "DAY", default_value = "", hide_default_value = true)]
        from: String,
        /// The last day [default: today]
        #[arg(long, value_name = "DAY", default_value = "", hide_default_value = true)]
        to: String,
        /// This interface only
        #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
        interface: String,
    },
}

impl LogCommand {
    /// Carries the command out.
    pub async fn run(self, connection: &Connection) -> Result<Outcome, Failure> {
        let client = LogServiceClient::new(connection.open().await?);
        match self.command {
            Command::List {
                collection,
                person_id,
                most,
            } => list(client, collection, person_id, most).await,
            Command::Export { collection } => export(client, collection).await,
            Command::Usage {
                from: first_day,
                to: last_day,
                interface,
            } => {
                let request = v1::GetUsageRequest {
                    first_day,
                    last_day,
                    interface,
                };
                usage(client, request).await
            }
        }
    }
}

async fn list(
    mut client: LogServiceClient<KeyedChannel>,
    collection: String,
    person_id: String,
    most: usize,
) -> Result<Outcome, Failure> {
    let (mut rows, mut damaged, mut cursor) = (Vec::new(), 0, String::new());
    while rows.len() < most {
        let request = v1::ListRunningLogRequest {
            collection: collection.clone(),
            person_id: person_id.clone(),
            page_size: u32::try_from(most - rows.len()).unwrap_or(u32::MAX).min(1000),
            cursor,
        };
        let reply = client.list_running_log(request).await?.into_inner();
        rows.extend(reply.rows);
        damaged += reply.damaged_rows;
        cursor = reply.next_cursor;
        if cursor.is_empty() {
            break;
        }
    }
    Ok(rows_outcome(&rows, damaged))
}

async fn export(mut client: LogServiceClient<KeyedChannel>, collection: String) -> Result<Outcome, Failure> {
    let request = v1::ExportRunningLogRequest { collection };
    let mut answers = client.export_running_log(request).await?.into_inner();
    let (mut rows, mut damaged) = (Vec::new(), 0);
    while let Some(answer) = answers.message().await? {
        rows.extend(answer.rows);
        damaged += answer.damaged_rows;
    }
    Ok(rows_outcome(&rows, damaged))
}

fn rows_outcome(rows: &[v1::RunningLogRow], damaged: u64) -> Outcome {
    let mut text: String = rows.iter().map(line).collect();
    if damaged > 0 {
        let _ = writeln!(text, "{damaged} more cannot be read");
    }
    let json = json!({
        "rows": rows.iter().map(row_json).collect::<Vec<_>>(),
        "damaged_rows": damaged,
    });
    Outcome::done(json, text)
}

fn part_text(row: &v1::RunningLogRow) -> String {
    match row.part() {
        v1::PersonPart::Unspecified => "unknown".to_owned(),
        v1::PersonPart::Subject => "named".to_owned(),
        v1::PersonPart::Same => "the same person".to_owned(),
        v1::PersonPart::NotSame => "not the same person".to_owned(),
        v1::PersonPart::Paired => "found as a duplicate".to_owned(),
        v1::PersonPart::Found => format!("found as number {}", row.rank),
    }
}

fn line(row: &v1::RunningLogRow) -> String {
    format!(
        "{}  {}  {}  {}  {}  {}\n",
        time_text(row.accessed.as_ref()),
        row.person_id,
        row.interface,
        row.result,
        part_text(row),
        row.client
    )
}

fn row_json(row: &v1::RunningLogRow) -> Value {
    json!({
        "request_id": row.request_id,
        "requested": time_text(row.requested.as_ref()),
        "accessed": time_text(row.accessed.as_ref()),
        "account": row.account,
        "sub_account": row.sub_account,
        "client": row.client,
        "region": row.region,
        "interface": row.interface,
        "billed": row.billed,
        "result": row.result,
        "collection": row.collection,
        "person_id": row.person_id,
        "part": row.part().as_str_name(),
        "face": row.face,
        "rank": row.rank,
        "similarity": row.similarity,
    })
}

async fn usage(
    mut client: LogServiceClient<KeyedChannel>,
    request: v1::GetUsageRequest,
) -> Result<Outcome, Failure> {
    let reply = client.get_usage(request).await?.into_inner();
    let mut text = String::new();
    for day in &reply.usage {
        let _ = writeln!(
            text,
            "{}  {}: {}, {} billed, {}",
            day.day,
            day.interface,
            counted(day.calls, "call", "calls"),
            day.billed,
            counted(day.errors, "error", "errors")
        );
    }
    // Told to the operator only.
    if let Some(size) = &reply.running_log {
        let _ = writeln!(
            text,
            "running log: about {} in {} bytes; {} lost",
            counted(size.rows, "row", "rows"),
            size.bytes,
            counted(size.lost_calls, "call", "calls")
        );
    }
    let json = json!({
        "call": call_json(reply.call.as_ref()),
        "usage": reply.usage.iter().map(|day| json!({
            "account": day.account, "interface": day.interface, "day": day.day,
            "calls": day.calls, "billed": day.billed, "errors": day.errors,
        })).collect::<Vec<_>>(),
        "running_log": reply.running_log.as_ref().map(|size| json!({
            "rows": size.rows, "bytes": size.bytes, "bytes_warning": size.bytes_warning,
            "lost_calls": size.lost_calls, "lost_rows": size.lost_rows,
        })),
    });
    Ok(Outcome::done(json, text))
}
