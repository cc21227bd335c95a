//! The command line.

pub mod account;
pub mod api_key;
pub mod audit;
#[cfg(feature = "serve")]
pub mod calibrate;
pub mod client;
pub mod collection;
pub mod consent;
pub mod delete;
#[cfg(feature = "serve")]
pub mod demo;
pub mod duplicates;
pub mod enroll;
#[cfg(feature = "serve")]
pub mod eval;
pub mod exit;
pub mod import;
#[cfg(feature = "graph")]
pub mod index;
pub mod key;
#[cfg(feature = "serve")]
pub mod local;
#[cfg(not(feature = "serve"))]
#[path = "cli/absent.rs"]
pub mod local;
pub mod log;
pub mod matching;
#[cfg(feature = "serve")]
pub mod models;
pub mod offline;
pub mod person;
#[cfg(feature = "serve")]
pub mod policy;
pub mod receipt;
pub mod search;
#[cfg(feature = "serve")]
pub mod serve;
pub mod terms;
#[cfg(feature = "serve")]
pub mod tls;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use serde_json::Value;

use self::client::Connection;
use self::exit::Failure;
#[cfg(not(feature = "serve"))]
use self::local::AbsentCommand;

const EXAMPLES: &str = "\
A first session:
  likeness models fetch
  likeness key init --keys ~/likeness/keys --data ~/likeness/data
  (umask 077; likeness api-key create --keys ~/likeness/keys --data ~/likeness/data --all-scopes >~/likeness/api-key)
  export LIKENESS_API_KEY_FILE=~/likeness/api-key
  likeness serve --keys ~/likeness/keys --data ~/likeness/data &
  likeness collection create staff
  likeness enroll staff ada portrait.jpg --name 'Ada Lovelace'
  likeness search staff door.jpg
  likeness delete staff ada

Exit codes: 0 done; 1 no match (search, verify, compare), the person is enrolled already (enroll, person add-faces),
a failed check, or not all people of a list; 64 wrong usage; 65 a photograph or a value was refused; 66 no such
collection, person, face or file; 69 the server cannot be reached or cannot work; 70 a defect; 73 the name is taken;
75 busy or interrupted, try again; 77 the API key is missing or may not; 78 keys, models or data do not fit.";

/// Face-feature matching: photographs in, irreversible templates kept, people found and erased
#[derive(Debug, Parser)]
#[command(name = "likeness", version, after_help = EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// Print JSON instead of text
    #[arg(long, global = true, display_order = 900)]
    json: bool,

    #[command(flatten)]
    connection: Connection,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[cfg(feature = "serve")]
    Serve(Box<serve::ServeCommand>),
    #[cfg(not(feature = "serve"))]
    Serve(AbsentCommand),
    Collection(collection::CollectionCommand),
    #[cfg(feature = "graph")]
    Index(index::IndexCommand),
    Enroll(enroll::EnrollCommand),
    Import(import::ImportCommand),
    Search(search::SearchCommand),
    Verify(matching::VerifyCommand),
    Compare(matching::CompareCommand),
    Detect(matching::DetectCommand),
    Duplicates(duplicates::DuplicatesCommand),
    Person(person::PersonCommand),
    Consent(consent::ConsentCommand),
    Delete(delete::DeleteCommand),
    Receipt(receipt::ReceiptCommand),
    Audit(audit::AuditCommand),
    Log(log::LogCommand),
    #[cfg(feature = "serve")]
    Policy(policy::PolicyCommand),
    #[cfg(not(feature = "serve"))]
    Policy(AbsentCommand),
    Key(key::KeyCommand),
    Account(account::AccountCommand),
    ApiKey(api_key::ApiKeyCommand),
    #[cfg(feature = "serve")]
    Tls(tls::TlsCommand),
    #[cfg(not(feature = "serve"))]
    Tls(AbsentCommand),
    #[cfg(feature = "serve")]
    Models(models::ModelsCommand),
    #[cfg(not(feature = "serve"))]
    Models(AbsentCommand),
    #[cfg(feature = "serve")]
    Eval(eval::EvalCommand),
    #[cfg(not(feature = "serve"))]
    Eval(AbsentCommand),
    #[cfg(feature = "serve")]
    Calibrate(calibrate::CalibrateCommand),
    #[cfg(not(feature = "serve"))]
    Calibrate(AbsentCommand),
    #[cfg(feature = "serve")]
    Demo(demo::DemoCommand),
    #[cfg(not(feature = "serve"))]
    Demo(AbsentCommand),
}

/// The result of a command, in both forms.
pub struct Outcome {
    /// For scripts.
    pub json: Value,
    /// For people; printed as it is.
    pub text: String,
    /// Decides between exit code 0 and 1.
    pub holds: bool,
}

impl Outcome {
    /// Something was done or found.
    pub fn done(json: Value, text: impl Into<String>) -> Self {
        Self {
            json,
            text: text.into(),
            holds: true,
        }
    }
}

/// Commands that ask no server.
const LOCAL: [&str; 7] = ["serve", "key", "models", "eval", "calibrate", "demo", "tls"];
/// Global options about the server to ask.
const ASKING: [&str; 7] = [
    "server",
    "timeout",
    "api_key_file",
    "ask_tls_ca",
    "ask_tls_client_cert",
    "ask_tls_client_key",
    "plaintext_key_off_loopback",
];
/// Commands without a result in JSON.
const TEXT_ONLY: [&str; 2] = ["serve", "demo"];

/// Hides the global options that mean nothing to a command; they are accepted all the same, so that an alias
/// with `--server` in it works everywhere.
fn without_noise(command: clap::Command, hidden: &[&str]) -> clap::Command {
    command
        .mut_args(|arg| {
            let hide = hidden.contains(&arg.get_id().as_str());
            if hide { arg.hide(true) } else { arg }
        })
        .mut_subcommands(|command| without_noise(command, hidden))
}

/// Lets an option read the variable of its earlier name, where that one alone is set.
#[cfg(feature = "serve")]
fn with_renamed_variables(command: clap::Command) -> clap::Command {
    command.mut_args(|arg| {
        let renamed = likeness_server::config::RENAMED_VARIABLES;
        let before = renamed.iter().find(|(_, option)| arg.get_id() == option);
        let present = arg.get_env().and_then(std::env::var_os);
        match before {
            Some((before, _)) if present.is_none() && std::env::var_os(before).is_some() => arg.env(*before),
            _ => arg,
        }
    })
}

/// No option of a client has another name than before.
#[cfg(not(feature = "serve"))]
fn with_renamed_variables(command: clap::Command) -> clap::Command {
    command
}

impl Cli {
    /// The command line, from the program's arguments.
    ///
    /// # Errors
    /// Help, version, and mistakes; clap prints them all.
    pub fn from_arguments() -> Result<Self, clap::Error> {
        let mut command = Self::command();
        // Only a built command has its global options in every subcommand.
        command.build();
        let command = command.mut_subcommands(|command| {
            let command = with_renamed_variables(command);
            let name = command.get_name().to_owned();
            let mut hidden = Vec::new();
            if LOCAL.contains(&name.as_str()) {
                hidden.extend(ASKING);
            }
            if TEXT_ONLY.contains(&name.as_str()) {
                hidden.push("json");
            }
            without_noise(command, &hidden)
        });
        Self::from_arg_matches(&command.try_get_matches()?)
    }

    /// Carries the command out, prints its result, and chooses the exit code.
    pub fn run(self) -> ExitCode {
        let json = self.json;
        match self.outcome() {
            Ok(Some(outcome)) => {
                let text = if json {
                    format!("{:#}\n", outcome.json)
                } else {
                    outcome.text
                };
                let _ = std::io::stdout().write_all(text.as_bytes());
                ExitCode::from(if outcome.holds { 0 } else { exit::NO_MATCH })
            }
            Ok(None) => ExitCode::SUCCESS,
            Err(failure) => {
                if json {
                    println!("{:#}", failure.json());
                } else {
                    // What was found before it failed.
                    let _ = std::io::stdout().write_all(failure.found().as_bytes());
                    eprintln!("likeness: {failure}");
                }
                ExitCode::from(failure.code())
            }
        }
    }

    fn outcome(self) -> Result<Option<Outcome>, Failure> {
        let asking = |asked: Result<Outcome, Failure>| asked.map(Some);
        let server = &self.connection;
        match self.command {
            #[cfg(feature = "serve")]
            Command::Serve(command) => command.run().map(|()| None),
            Command::Collection(command) => asking(client::block_on(command.run(server))),
            #[cfg(feature = "graph")]
            Command::Index(command) => asking(client::block_on(command.run(server))),
            Command::Import(command) => asking(client::block_on(command.run(server))),
            Command::Enroll(command) => asking(client::block_on(command.run(server))),
            Command::Search(command) => asking(client::block_on(command.run(server))),
            Command::Verify(command) => asking(client::block_on(command.run(server))),
            Command::Compare(command) => asking(client::block_on(command.run(server))),
            Command::Detect(command) => asking(client::block_on(command.run(server))),
            Command::Duplicates(command) => asking(client::block_on(command.run(server))),
            Command::Person(command) => asking(client::block_on(command.run(server))),
            Command::Consent(command) => asking(client::block_on(command.run(server))),
            Command::Delete(command) => asking(client::block_on(command.run(server))),
            Command::Receipt(command) => asking(client::block_on(command.run(server))),
            Command::Key(command) => asking(client::block_on(command.run(server))),
            Command::Account(command) => asking(client::block_on(command.run(server))),
            Command::ApiKey(command) => asking(client::block_on(command.run(server))),
            Command::Audit(command) => asking(client::block_on(command.run(server))),
            Command::Log(command) => asking(client::block_on(command.run(server))),
            #[cfg(feature = "serve")]
            Command::Policy(command) => asking(client::block_on(command.run(server))),
            #[cfg(feature = "serve")]
            Command::Tls(command) => command.run().map(Some),
            #[cfg(feature = "serve")]
            Command::Models(command) => Ok(command.run(self.json).map(|()| None)?),
            #[cfg(feature = "serve")]
            Command::Eval(command) => asking(command.run()),
            #[cfg(feature = "serve")]
            Command::Calibrate(command) => asking(command.run()),
            #[cfg(feature = "serve")]
            Command::Demo(command) => client::block_on(command.run()).map(|()| None),
            #[cfg(not(feature = "serve"))]
            Command::Serve(command)
            | Command::Policy(command)
            | Command::Tls(command)
            | Command::Models(command)
            | Command::Eval(command)
            | Command::Calibrate(command)
            | Command::Demo(command) => command.run(),
        }
    }
}
