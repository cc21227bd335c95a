//! `likeness api-key`: making, listing and revoking the keys that callers show.

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use likeness_proto::v1;
use likeness_proto::v1::account_service_client::AccountServiceClient;
use serde_json::{Value, json};

use super::Outcome;
use super::client::{Connection, call_json, time_text};
use super::exit::Failure;
use super::local;
use super::offline::OfflineArguments;
use super::terms::date_or_time_from_now;

const EXAMPLES: &str = "\
Examples:
  (umask 077; likeness api-key create --keys ~/likeness/keys --data ~/likeness/data --all-scopes >~/likeness/api-key)
  likeness api-key create --scope search,verify --collection staff --label 'front door' --expires 52w
  likeness api-key list
  likeness api-key revoke 7f0c1f6ac4a24d0f9d8a2a1e5b6c7d8e

With --keys and --data the key is made without a server, which must not run then: the first key of a deployment is
made in this way. Otherwise the server is called, with a key of scope admin.";

/// Make, list and revoke API keys
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ApiKeyCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a key and print it; it cannot be printed again
    #[command(after_help = EXAMPLES)]
    #[command(group(ArgGroup::new("what").args(["scope", "all_scopes"]).required(true)))]
    Create {
        #[command(flatten)]
        place: Place,
        /// Its scopes, separated by commas: read, enrol, import, search, verify, erase,
        /// admin, audit
        #[arg(
            long,
            value_enum,
            value_delimiter = ',',
            value_name = "SCOPE",
            hide_possible_values = true
        )]
        scope: Vec<ScopeArgument>,
        /// All scopes
        #[arg(long)]
        all_scopes: bool,
        /// Restrict it to this collection; may be repeated
        #[arg(long, value_name = "NAME")]
        collection: Vec<String>,
        /// When it expires: a date, or a time from now, as in 12h, 30d or 8w
        #[arg(long, value_name = "WHEN", value_parser = date_or_time_from_now)]
        expires: Option<prost_types::Timestamp>,
        /// A label, at most 64 bytes
        #[arg(long, value_name = "TEXT", default_value = "")]
        label: String,
    },
    /// List an account's keys, without their secrets
    #[command(after_help = "Example:\n  likeness api-key list --account billing")]
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Revoke a key, at once and irrevocably
    #[command(after_help = "Example:\n  likeness api-key revoke 7f0c1f6ac4a24d0f9d8a2a1e5b6c7d8e")]
    Revoke {
        #[command(flatten)]
        place: Place,
        /// The key's id: its first 32 hex digits, which are not secret
        id: String,
    },
}

/// The account, and the deployment without a server.
#[derive(Debug, Args)]
struct Place {
    /// Its account [default: the account of the calling key; without a server `default`, the operator's, which is
    /// created if it does not exist]
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    #[command(flatten)]
    offline: OfflineArguments,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ScopeArgument {
    Read,
    Enrol,
    Import,
    Search,
    Verify,
    Erase,
    Admin,
    Audit,
    Duplicates,
}

impl From<ScopeArgument> for v1::Scope {
    fn from(argument: ScopeArgument) -> Self {
        match argument {
            ScopeArgument::Read => Self::Read,
            ScopeArgument::Enrol => Self::Enrol,
            ScopeArgument::Import => Self::Import,
            ScopeArgument::Search => Self::Search,
            ScopeArgument::Verify => Self::Verify,
            ScopeArgument::Erase => Self::Erase,
            ScopeArgument::Admin => Self::Admin,
            ScopeArgument::Audit => Self::Audit,
            ScopeArgument::Duplicates => Self::Duplicates,
        }
    }
}

impl ApiKeyCommand {
    /// Carries the command out.
    pub async fn run(self, connection: &Connection) -> Result<Outcome, Failure> {
        match self.command {
            Command::Create {
                place,
                scope,
                all_scopes,
                collection,
                expires,
                label,
            } => {
                let scopes = if all_scopes {
                    ScopeArgument::value_variants().to_vec()
                } else {
                    scope
                };
                let request = v1::CreateApiKeyRequest {
                    account: place.account.clone().unwrap_or_default(),
                    scopes: scopes
                        .into_iter()
                        .map(|scope| v1::Scope::from(scope).into())
                        .collect(),
                    collections: collection,
                    expires,
                    label,
                };
                create(connection, &place, request).await
            }
            Command::List { place } => list(connection, &place).await,
            Command::Revoke { place, id } => revoke(connection, &place, id).await,
        }
    }
}

async fn create(
    connection: &Connection,
    place: &Place,
    request: v1::CreateApiKeyRequest,
) -> Result<Outcome, Failure> {
    let (call, key, text) = if place.offline.is_given() {
        let (key, text) = local::create_api_key(&place.offline, place.account.as_deref(), request)?;
        (Value::Null, key, text)
    } else {
        let mut client = AccountServiceClient::new(connection.open().await?);
        let reply = client.create_api_key(request).await?.into_inner();
        let key = reply.api_key.unwrap_or_default();
        (call_json(reply.call.as_ref()), key, reply.secret_text)
    };
    let mut json = key_json(&key);
    json["call"] = call;
    json["api_key"] = json!(text);
    // The key alone, so that it can be written to a file as it is.
    Ok(Outcome::done(json, format!("{text}\n")))
}

async fn list(connection: &Connection, place: &Place) -> Result<Outcome, Failure> {
    let (call, keys) = if place.offline.is_given() {
        let keys = local::api_keys(&place.offline, place.account.as_deref())?;
        (Value::Null, keys)
    } else {
        let mut client = AccountServiceClient::new(connection.open().await?);
        let account = place.account.clone().unwrap_or_default();
        let reply = client.list_api_keys(v1::ListApiKeysRequest { account }).await?;
        let reply = reply.into_inner();
        (call_json(reply.call.as_ref()), reply.api_keys)
    };
    let text = match keys.as_slice() {
        [] => "no API keys\n".to_owned(),
        keys => keys.iter().map(key_line).collect(),
    };
    let keys: Vec<Value> = keys.iter().map(key_json).collect();
    Ok(Outcome::done(json!({ "call": call, "api_keys": keys }), text))
}

async fn revoke(connection: &Connection, place: &Place, key_id: String) -> Result<Outcome, Failure> {
    let call = if place.offline.is_given() {
        local::revoke_api_key(&place.offline, place.account.as_deref(), &key_id)?;
        Value::Null
    } else {
        let mut client = AccountServiceClient::new(connection.open().await?);
        let account = place.account.clone().unwrap_or_default();
        let request = v1::RevokeApiKeyRequest {
            account,
            key_id: key_id.clone(),
        };
        let reply = client.revoke_api_key(request).await?.into_inner();
        call_json(reply.call.as_ref())
    };
    let text = format!("revoked {key_id}: it is good for nothing from here on\n");
    Ok(Outcome::done(json!({ "call": call, "revoked": key_id }), text))
}

fn scope_names(key: &v1::ApiKey) -> Vec<String> {
    let names = key
        .scopes()
        .map(|scope| scope.as_str_name().trim_start_matches("SCOPE_").to_lowercase());
    names.collect()
}

fn key_line(key: &v1::ApiKey) -> String {
    let mut line = format!("{}  {}", key.key_id, scope_names(key).join(","));
    if !key.collections.is_empty() {
        line += &format!("  only {}", key.collections.join(","));
    }
    if let Some(expires) = &key.expires {
        line += &format!("  until {}", time_text(Some(expires)));
    }
    if !key.label.is_empty() {
        line += &format!("  {}", key.label);
    }
    line + "\n"
}

fn key_json(key: &v1::ApiKey) -> Value {
    json!({
        "key_id": key.key_id,
        "account": key.account,
        "scopes": scope_names(key),
        "collections": key.collections,
        "created": time_text(key.created.as_ref()),
        "expires": key.expires.as_ref().map(|time| time_text(Some(time))),
        "label": key.label,
    })
}
