//! Calls that are let in, or refused, before their messages are read.

use likeness_engine::Account;
use tonic::Status;
use tonic::codegen::http;

use super::{Ongoing, Service, insert_id};
use crate::auth::{Caller, ClientAddress, Shown};
use crate::bodies::Budget;
use crate::deadline::Deadline;
use crate::logs::Shape;
use crate::rpcs::Rpc;
use crate::status::Refusal;
use likeness_engine::RandomId;

/// A caller who may make this call, and whose call was counted: in the request's extensions. Only
/// [`Service::admit`] makes one, so that a handler that finds one needs to ask for nothing again but whether the key
/// is still good.
#[derive(Clone)]
pub struct Admitted {
    rpc: &'static Rpc,
    caller: Caller,
    client: Option<ClientAddress>,
    deadline: Option<Deadline>,
}

impl Admitted {
    /// Whose call it is.
    pub fn account(&self) -> &Account {
        &self.caller.account
    }

    /// What it was let in to.
    pub(super) fn rpc(&self) -> &'static Rpc {
        self.rpc
    }
}

impl Service {
    /// Lets a caller in whose key is good for this RPC, and counts the call; none where no key is known, which the
    /// door refuses.
    ///
    /// # Errors
    /// What the key lacks, or that it calls too often.
    pub fn admit(&self, rpc: &'static Rpc, of: &http::Extensions) -> Result<Option<Admitted>, Status> {
        let Some(Shown::Key(caller)) = of.get::<Shown>() else {
            return Ok(None);
        };
        let admitted = Admitted {
            rpc,
            caller: caller.clone(),
            client: of.get().copied(),
            deadline: of.get().copied(),
        };
        // ORDER: the key before the rate: whoever may not call at all uses nobody's rate up.
        let may = caller
            .may(rpc.needs)
            .and_then(|()| caller.at_home(&self.0.region, rpc.needs))
            .and_then(|()| self.0.count(caller));
        match may {
            Ok(()) => Ok(Some(admitted)),
            Err(refusal) => Err(self.refuse_unread(&admitted, refusal)),
        }
    }

    /// The status of a call whose message was not read; the logs have it.
    pub fn refuse_unread(&self, admitted: &Admitted, refusal: Refusal) -> Status {
        self.ongoing(admitted, Shape::default()).refuse(refusal)
    }

    /// The status that a stream ends with whose next message was not read. Its call's own record has it.
    pub fn broken_stream(&self, rpc: &'static Rpc, refusal: Refusal) -> Status {
        let request_id = RandomId::random().to_string();
        let (code, reason) = refusal.verdict();
        tracing::info!(
            request_id,
            interface = rpc.method,
            ?code,
            reason,
            "a stream was ended"
        );
        let mut status = refusal.into_status(&request_id);
        insert_id(status.metadata_mut(), &request_id);
        status
    }

    /// What messages may take.
    pub fn message_budget(&self) -> &Budget {
        &self.0.messages
    }

    pub(super) fn ongoing(&self, admitted: &Admitted, shape: Shape) -> Ongoing {
        Ongoing::new(
            self,
            admitted.rpc.method,
            admitted.caller.clone(),
            admitted.client,
            admitted.deadline,
            shape,
        )
    }
}
