//! `likeness policy`: the table of retention of the running server, or of settings.

use clap::Args;
use likeness_proto::v1;
use likeness_proto::v1::log_service_client::LogServiceClient;
use likeness_server::logs::retention::Retention;
use likeness_server::policy::{self, Language};
use serde_json::json;

use super::Outcome;
use super::client::Connection;
use super::exit::Failure;

const EXAMPLES: &str = "\
Examples:
  likeness policy
  likeness policy --language zh
  likeness policy --language id
  likeness policy --offline --operation-log-days 90      # what a server started so would keep";

/// Print the retention period, purpose and legal basis of each data class, the controller, and every destination
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct PolicyCommand {
    /// Language of the texts
    #[arg(long, alias = "lang", value_enum, default_value_t)]
    language: Language,

    /// Call no server: print the policy of the settings given here or in the environment
    #[arg(long)]
    offline: bool,

    /// The region, with --offline
    #[arg(long, env = "LIKENESS_REGION", value_name = "NAME", default_value = "local")]
    region: String,

    #[command(flatten)]
    retention: Retention,
}

impl PolicyCommand {
    /// Carries the command out.
    pub async fn run(self, connection: &Connection) -> Result<Outcome, Failure> {
        let policy = if self.offline {
            policy::reply(&self.region, &self.retention, self.language)
        } else {
            let mut client = LogServiceClient::new(connection.open().await?);
            let request = v1::GetPolicyRequest {
                language: self.language.code().to_owned(),
            };
            client.get_policy(request).await?.into_inner()
        };
        let text = policy::text(&policy, self.language);
        let json = json!({
            "controller": policy.controller, "controller_contact": policy.controller_contact,
            "region": policy.region,
            "destinations": policy.destinations.iter().map(|destination| json!({
                "name": destination.name, "classes": destination.classes,
            })).collect::<Vec<_>>(),
            "note": policy.note,
            "classes": policy.classes.iter().map(|class| json!({
                "name": class.name, "title": class.title, "kept": class.kept, "changed_by": class.changed_by,
                "seconds": class.seconds, "bytes": class.bytes, "later": class.later,
                "purpose": class.purpose, "legal_basis": class.legal_basis, "region": policy.region,
                "place": class.place, "destruction": class.destruction,
            })).collect::<Vec<_>>(),
        });
        Ok(Outcome::done(json, text))
    }
}
