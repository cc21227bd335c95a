//! `likeness account`: making, reading, changing and closing accounts, and the deployment.

use clap::{ArgGroup, Args, Subcommand};
use likeness_proto::credential::KeyedChannel;
use likeness_proto::v1;
use likeness_proto::v1::account_service_client::AccountServiceClient;
use serde_json::{Value, json};

use super::Outcome;
use super::client::{Connection, call_json, counted, hex, time_text};
use super::delete::receipt_json;
use super::exit::Failure;
use super::local;
use super::offline::OfflineArguments;

const EXAMPLES: &str = "\
Examples:
  likeness account create branch --persons 10000 --faces 50000
  likeness api-key create --account branch --all-scopes
  likeness account update branch --region eu-west
  likeness account list
  likeness account close branch --confirm branch

Accounts cannot read each other's data. A key of the account `default` with the scope admin administers all.";

/// Make, read, change and close accounts
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct AccountCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an account, with a key group of its own
    #[command(after_help = "Example:\n  likeness account create branch --region eu-west --persons 10000")]
    Create {
        /// 1 to 64 bytes of A-Z a-z 0-9 _ . @ % # & -
        name: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// Show an account
    #[command(after_help = "Example:\n  likeness account get")]
    Get {
        /// Its name [default: the account of the calling key]
        #[arg(default_value = "")]
        name: String,
    },
    /// List all accounts
    #[command(after_help = "Example:\n  likeness account list --json")]
    List,
    /// Close an account: revoke its keys, erase its collections and all people in them
    #[command(after_help = "Example:\n  likeness account close branch --confirm branch")]
    Close {
        /// Its name
        name: String,
        /// The name again
        #[arg(long, value_name = "NAME")]
        confirm: String,
    },
    /// Close the deployment while its server does not run: every account, then the keys
    #[command(
        after_help = "Example:\n  likeness account close-deployment --keys DIR --data DIR --confirm 'close everything'"
    )]
    CloseDeployment {
        #[command(flatten)]
        offline: OfflineArguments,
        /// The words `close everything`
        #[arg(long, value_name = "WORDS")]
        confirm: String,
    },
    /// Change an account's region or quotas
    #[command(group(ArgGroup::new("change").args(["region", "persons", "faces", "calls_per_second"]).required(true).multiple(true)))]
    #[command(after_help = "Example:\n  likeness account update branch --faces 100000")]
    Update {
        /// Its name
        name: String,
        #[command(flatten)]
        settings: Settings,
    },
}

/// An older copy lacks the key of the account's templates.
const COPY_KEYS: &str =
    "The key store has a new key for it: renew the copy that you keep of the key store.\n";

/// The settings of an account that can be changed.
#[derive(Debug, Args)]
struct Settings {
    /// The only region in which the account is served; an empty text for any
    #[arg(long, value_name = "NAME")]
    region: Option<String>,
    /// People in all its collections together; 0 for no limit
    #[arg(long, value_name = "N")]
    persons: Option<u64>,
    /// Faces of all of them; 0 for no limit
    #[arg(long, value_name = "N")]
    faces: Option<u64>,
    /// Calls a second, by all its keys; 0 for the server's --calls-per-second, which one key never has more than
    #[arg(long, value_name = "N")]
    calls_per_second: Option<u32>,
}

impl Settings {
    /// The quotas, with what is not given as it was.
    fn quotas(&self, before: v1::Quotas) -> v1::Quotas {
        v1::Quotas {
            persons: self.persons.unwrap_or(before.persons),
            faces: self.faces.unwrap_or(before.faces),
            calls_per_second: self.calls_per_second.unwrap_or(before.calls_per_second),
        }
    }

    fn changes_quotas(&self) -> bool {
        self.persons.is_some() || self.faces.is_some() || self.calls_per_second.is_some()
    }
}

impl AccountCommand {
    /// Carries the command out.
    pub async fn run(self, connection: &Connection) -> Result<Outcome, Failure> {
        if let Command::CloseDeployment { offline, confirm } = &self.command {
            return local::close_deployment(offline, confirm);
        }
        let mut client = AccountServiceClient::new(connection.open().await?);
        let is_new = matches!(self.command, Command::Create { .. });
        let (call, account) = match self.command {
            Command::Create { name, settings } => {
                let request = v1::CreateAccountRequest {
                    name,
                    quotas: Some(settings.quotas(v1::Quotas::default())),
                    region: settings.region.unwrap_or_default(),
                };
                let reply = client.create_account(request).await?.into_inner();
                (reply.call, reply.account)
            }
            Command::Get { name } => {
                let reply = client
                    .get_account(v1::GetAccountRequest { name })
                    .await?
                    .into_inner();
                (reply.call, reply.account)
            }
            Command::Update { name, settings } => {
                // All quotas are set together: those that are not given are read first.
                let quotas = if settings.changes_quotas() {
                    let request = v1::GetAccountRequest { name: name.clone() };
                    let reply = client.get_account(request).await?.into_inner();
                    let before = reply.account.and_then(|account| account.quotas);
                    Some(settings.quotas(before.unwrap_or_default()))
                } else {
                    None
                };
                let request = v1::UpdateAccountRequest {
                    name,
                    region: settings.region,
                    quotas,
                };
                let reply = client.update_account(request).await?.into_inner();
                (reply.call, reply.account)
            }
            Command::List => return list(client).await,
            Command::Close { name, confirm } => return close(client, name, confirm).await,
            Command::CloseDeployment { offline, confirm } => {
                return local::close_deployment(&offline, &confirm);
            }
        };
        let account = account.unwrap_or_default();
        let mut json = account_json(&account);
        json["call"] = call_json(call.as_ref());
        let mut text = account_line(&account);
        if is_new {
            text += COPY_KEYS;
        }
        Ok(Outcome::done(json, text))
    }
}

async fn close(
    mut client: AccountServiceClient<KeyedChannel>,
    name: String,
    confirm_name: String,
) -> Result<Outcome, Failure> {
    let request = v1::CloseAccountRequest {
        name: name.clone(),
        confirm_name,
    };
    let reply = client.close_account(request).await?.into_inner();
    let receipt = reply.final_receipt.clone().unwrap_or_default();
    let mut text = format!(
        "closed {name}: erased {}; last receipt {}, nonce {}\n",
        counted(reply.persons_erased, "person", "people"),
        receipt.sequence,
        hex(&receipt.nonce)
    );
    for (count, what) in [
        (reply.unreadable_collections, "could not be read, and went too"),
        (
            reply.unreadable_collections_left,
            "cannot be read, and stays: whose it is, nobody knows",
        ),
    ] {
        if count > 0 {
            text += &format!("{}: {what}\n", counted(count, "collection", "collections"));
        }
    }
    let json = json!({
        "call": call_json(reply.call.as_ref()),
        "account": name,
        "persons_erased": reply.persons_erased,
        "receipts": reply.receipts,
        "unreadable_collections": reply.unreadable_collections,
        "unreadable_collections_left": reply.unreadable_collections_left,
        "final_receipt": receipt_json(&receipt),
    });
    Ok(Outcome::done(json, text))
}

async fn list(mut client: AccountServiceClient<KeyedChannel>) -> Result<Outcome, Failure> {
    let (mut accounts, mut cursor) = (Vec::new(), String::new());
    loop {
        let request = v1::ListAccountsRequest { page_size: 0, cursor };
        let reply = client.list_accounts(request).await?.into_inner();
        accounts.extend(reply.accounts);
        cursor = reply.next_cursor;
        if cursor.is_empty() {
            break;
        }
    }
    let text: String = accounts.iter().map(account_line).collect();
    let accounts: Vec<Value> = accounts.iter().map(account_json).collect();
    Ok(Outcome::done(json!({ "accounts": accounts }), text))
}

fn account_line(account: &v1::Account) -> String {
    let quotas = account.quotas.unwrap_or_default();
    let mut line = format!(
        "{}: {}, {}, {}",
        account.name,
        counted(account.persons, "person", "people"),
        counted(account.faces, "face", "faces"),
        counted(account.api_keys, "API key", "API keys")
    );
    if account.above_warning {
        line += &format!(", above the {} faces to be told of", account.faces_warning);
    }
    if !account.region.is_empty() {
        line += &format!(", only in {}", account.region);
    }
    for (most, what) in [
        (quotas.persons, "people"),
        (quotas.faces, "faces"),
        (u64::from(quotas.calls_per_second), "calls a second"),
    ] {
        if most != 0 {
            line += &format!(", at most {most} {what}");
        }
    }
    if let Some(closed) = &account.closed {
        line += &format!("; closed {}", time_text(Some(closed)));
    }
    line + "\n"
}

fn account_json(account: &v1::Account) -> Value {
    let quotas = account.quotas.unwrap_or_default();
    json!({
        "name": account.name,
        "region": account.region,
        "quotas": {
            "persons": quotas.persons,
            "faces": quotas.faces,
            "calls_per_second": quotas.calls_per_second,
        },
        "created": time_text(account.created.as_ref()),
        "closed": account.closed.as_ref().map(|time| time_text(Some(time))),
        "api_keys": account.api_keys,
        "collections": account.collections,
        "persons": account.persons,
        "faces": account.faces,
        "above_warning": account.above_warning,
        "final_receipt": account.final_receipt,
    })
}
