//! Calls that are refused before anybody is known, and what the service shows of itself.

use likeness_engine::{Engine, RandomId};
use tonic::Status;

use super::{Service, insert_id};
use crate::auth::ClientAddress;
use crate::logs::{Came, TurnedAway};
use crate::metrics::Metrics;
use crate::status::{Refusal, code_name};

impl Service {
    /// The status of a call that did not get as far as its handler; the logs and the metrics have it.
    pub fn turn_away(
        &self,
        interface: &'static str,
        refusal: Refusal,
        client: Option<ClientAddress>,
    ) -> Status {
        let (code, reason) = refusal.verdict();
        self.0.metrics.turned_away(reason);
        self.0.logs.turned_away(TurnedAway {
            code: code_name(code),
            reason,
            came: Came::from(client.map(|ClientAddress(address)| address.ip())),
        });
        let request_id = RandomId::random().to_string();
        let mut status = refusal.into_status(&request_id);
        insert_id(status.metadata_mut(), &request_id);
        let client = ClientAddress::text(client);
        tracing::info!(request_id, interface, client, ?code, reason, "turned away");
        status
    }

    /// What it counts.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// The engine behind it.
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// Calls that wait at each gate.
    pub fn waiting(&self) -> [(&'static str, usize); 3] {
        [
            ("compute", self.0.computing.waiting()),
            ("match", self.0.matching.waiting()),
            ("store", self.0.storing.waiting()),
        ]
    }

    /// Calls that gave their worker away in the middle of a photograph.
    pub fn parked(&self) -> usize {
        self.0.computing.parked()
    }

    /// Calls that the error log, the operation log and the monitoring data lost since the start.
    pub fn lost_lines(&self) -> u64 {
        self.0.logs.lost_in_total()
    }
}
