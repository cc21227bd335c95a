//! The front of the server, behind every door: a call is let in, counted and begun here, or refused.

use std::sync::Arc;
use std::time::Duration;

use likeness_engine::{Account, Engine, RandomId};

use super::caller::{Caller, ClientAddress};
use super::context::{CallContext, CallSource};
use super::deadline::Deadline;
use super::message_memory::MessageMemory;
use super::places::Places;
use super::record::Recorder;
use super::resources::Resources;
use super::rpcs::Rpc;
use crate::config::ServeConfig;
use crate::logs::{Logs, Shape};
use crate::refusal::{Refusal, Refused};

/// What every door works with.
#[derive(Clone)]
pub struct Front {
    resources: Arc<Resources>,
    places: Places,
    call_time_max: Duration,
}

/// A caller who may make this call, and whose call was counted. Only [`Front::admit`] makes one, so that a door that
/// has one needs to ask for nothing again but whether the key is still good.
#[derive(Clone)]
pub struct Admitted {
    rpc: &'static Rpc,
    caller: Caller,
    client: Option<ClientAddress>,
    deadline: Option<Deadline>,
}

impl Admitted {
    /// The account that the key belongs to.
    pub fn account(&self) -> &Account {
        &self.caller.account
    }

    /// What it was let in to.
    pub fn rpc(&self) -> &'static Rpc {
        self.rpc
    }
}

impl Front {
    /// Over an open engine, with the logs in its data directory.
    ///
    /// # Errors
    /// The logs cannot be opened.
    pub fn open(config: &ServeConfig, engine: Arc<Engine>) -> std::io::Result<Self> {
        let logs = Logs::open(&config.data, &config.retention, &config.region)?;
        logs.register_sweeps(engine.retention());
        Ok(Self {
            resources: Arc::new(Resources::new(config, engine, logs)),
            places: Places::new(config.limits.calls),
            call_time_max: config.call_time_max(),
        })
    }

    /// Lets a caller in whose key is good for this RPC, and counts the call.
    ///
    /// # Errors
    /// What the key lacks, or that it calls too often.
    pub fn admit(
        &self,
        rpc: &'static Rpc,
        caller: &Caller,
        client: Option<ClientAddress>,
        deadline: Option<Deadline>,
    ) -> Result<Admitted, Refused> {
        let admitted = Admitted {
            rpc,
            caller: caller.clone(),
            client,
            deadline,
        };
        // ORDER: the key before the rate: a caller who may not call at all uses no rate up.
        let may = caller
            .may(rpc.needs)
            .and_then(|()| caller.at_home(&self.resources.region, rpc.needs))
            .and_then(|()| self.resources.count(caller));
        match may {
            Ok(()) => Ok(admitted),
            Err(refusal) => Err(self.refuse_unread(&admitted, refusal)),
        }
    }

    /// Begins a call that was let in before its message was read.
    ///
    /// # Errors
    /// The key is no longer good.
    pub fn begin(&self, admitted: &Admitted, shape: Shape) -> Result<CallContext, Refused> {
        let call = self.context(admitted, shape);
        match call.caller.may(admitted.rpc.needs) {
            Ok(()) => Ok(call),
            Err(refusal) => Err(call.refuse(refusal)),
        }
    }

    /// Refuses a call whose message was not read; the logs have it.
    pub fn refuse_unread(&self, admitted: &Admitted, refusal: Refusal) -> Refused {
        self.context(admitted, Shape::default()).refuse(refusal)
    }

    /// Refuses the next message of a stream, which was not read. The record of the stream's own call has it.
    pub fn refuse_in_stream(&self, rpc: &'static Rpc, refusal: Refusal) -> Refused {
        let request_id = RandomId::random().to_string();
        let (code, reason) = refusal.verdict();
        tracing::info!(
            request_id,
            interface = rpc.method,
            ?code,
            reason,
            "a stream was ended"
        );
        Refused::new(request_id, refusal)
    }

    /// Refuses a call that did not get as far as its handler.
    pub fn reject(
        &self,
        interface: &'static str,
        refusal: Refusal,
        client: Option<ClientAddress>,
    ) -> Refused {
        self.resources.recorder.reject(interface, refusal, client)
    }

    fn context(&self, admitted: &Admitted, shape: Shape) -> CallContext {
        let source = CallSource {
            interface: admitted.rpc.method,
            caller: admitted.caller.clone(),
            client: admitted.client,
            id: RandomId::random(),
        };
        CallContext::new(&self.resources, source, admitted.deadline, shape)
    }

    /// Ends the streams that would otherwise last as long as their clients want.
    pub fn stop(&self) {
        self.resources.stopping.send_replace(true);
    }

    /// Ready when streams are to end.
    pub fn stopping(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stopping = self.resources.stopping.subscribe();
        async move {
            // The resources are gone with their sender: that is the end too.
            let _ = stopping.wait_for(|stopping| *stopping).await;
        }
    }

    /// When a call that begins now must have its answer, whatever its client asks for.
    pub fn deadline(&self) -> Deadline {
        Deadline::within(self.call_time_max, None)
    }

    /// Calls at once.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// Memory for messages.
    pub fn message_memory(&self) -> &MessageMemory {
        &self.resources.messages
    }

    /// Logs and metrics.
    pub fn recorder(&self) -> &Recorder {
        &self.resources.recorder
    }

    /// The engine behind it.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.resources.engine
    }

    /// Calls that wait at each gate.
    pub fn waiting(&self) -> [(&'static str, usize); 3] {
        [
            ("compute", self.resources.compute_gate.waiting()),
            ("match", self.resources.search_gate.waiting()),
            ("store", self.resources.storage_gate.waiting()),
        ]
    }

    /// Calls that gave their worker away in the middle of a photograph.
    pub fn parked(&self) -> usize {
        self.resources.compute_gate.parked()
    }
}
