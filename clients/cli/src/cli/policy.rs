//! `likeness policy`: the retention periods of the running server, or of settings.

use clap::Args;
use likeness_proto::v1;
use likeness_proto::v1::log_service_client::LogServiceClient;
use likeness_server::logs::retention::{Language, Retention, text};
use serde_json::json;

use super::Outcome;
use super::client::Connection;
use super::exit::Failure;

const EXAMPLES: &str = "\
Examples:
  likeness policy
  likeness policy --lang zh
  likeness policy --offline --operation-log-days 90      # what a server started so would keep";

/// Print the retention period of each data class, and the role that may change it
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct PolicyCommand {
    /// en or zh
    #[arg(long, value_enum, default_value_t)]
    lang: Language,

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
            likeness_server::policy(&self.region, &self.retention, self.lang)
        } else {
            let mut client = LogServiceClient::new(connection.open().await?);
            let language = match self.lang {
                Language::En => "en",
                Language::Zh => "zh",
            };
            let request = v1::GetPolicyRequest {
                language: language.to_owned(),
            };
            client.get_policy(request).await?.into_inner()
        };
        let rows = policy.classes.iter().map(|class| {
            let texts = (&class.title, &class.kept, &class.changed_by);
            (texts.0.as_str(), texts.1.as_str(), texts.2.as_str())
        });
        let text = text(&policy.region, self.lang, rows);
        let json = json!({
            "region": policy.region,
            "classes": policy.classes.iter().map(|class| json!({
                "name": class.name, "title": class.title, "kept": class.kept, "changed_by": class.changed_by,
                "seconds": class.seconds, "bytes": class.bytes, "later": class.later,
            })).collect::<Vec<_>>(),
        });
        Ok(Outcome::done(json, text))
    }
}
