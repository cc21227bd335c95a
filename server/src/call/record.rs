//! What is written down of every call: its line in the logs, and its counts in the metrics.

use likeness_engine::RandomId;

use super::caller::ClientAddress;
use crate::logs::{CallRecord, ClientOrigin, Logs, RejectedCall};
use crate::metrics::Metrics;
use crate::refusal::{Refusal, Refused};

/// Logs and metrics of calls.
pub struct Recorder {
    logs: Logs,
    metrics: Metrics,
}

impl Recorder {
    /// Into these logs.
    pub fn new(logs: Logs) -> Self {
        Self {
            logs,
            metrics: Metrics::default(),
        }
    }

    /// Refuses a call that did not get as far as its handler.
    pub fn reject(
        &self,
        interface: &'static str,
        refusal: Refusal,
        client: Option<ClientAddress>,
    ) -> Refused {
        let (code, reason) = refusal.verdict();
        self.metrics.reject(reason);
        self.logs.reject(RejectedCall {
            code: code.name(),
            reason,
            client_origin: origin(client),
        });
        let request_id = RandomId::random().to_string();
        let client = ClientAddress::text(client);
        tracing::info!(request_id, interface, client, ?code, reason, "turned away");
        Refused::new(request_id, refusal)
    }

    /// Records a call that is over.
    pub fn record_call(&self, call: CallRecord) {
        self.metrics.call(call.origin.interface, call.code, call.took);
        if call.is_refused() {
            self.metrics.refused(call.result);
        }
        self.logs.record_call(call);
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Calls that the error log, the operation log and the monitoring data lost since the start.
    pub fn lost_lines(&self) -> u64 {
        self.logs.lost_in_total()
    }
}

/// The class of a client's address.
pub fn origin(client: Option<ClientAddress>) -> ClientOrigin {
    ClientOrigin::from(client.map(|ClientAddress(address)| address.ip()))
}
