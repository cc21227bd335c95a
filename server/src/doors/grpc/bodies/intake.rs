//! What the collecting of requests works with: who is let in, how much memory there is, and how slow is too slow.

use std::time::Duration;

use tokio::time::Instant;
use tonic::Status;
use tonic::codegen::http;

use crate::call::caller::Identity;
use crate::call::front::{Admitted, Front};
use crate::call::message_memory::MessageMemory;
use crate::call::rpcs::Rpc;
use crate::config::LimitArgs;
use crate::doors::grpc::status;
use crate::refusal::Refusal;

/// Collects requests, as a layer around all services, behind the one that looks keys up.
#[derive(Clone)]
pub struct Bodies {
    front: Front,
    /// What messages may take.
    pub memory: MessageMemory,
    /// A message that has come so slowly is given up: its first bytes may take the grace, and each second more must
    /// have brought as many bytes.
    grace: Duration,
    bytes_per_second_min: u32,
}

/// Whose request it is, and which.
#[derive(Clone)]
pub struct Of {
    /// Which RPC.
    pub rpc: &'static Rpc,
    /// Its caller.
    pub caller: Admitted,
}

impl Bodies {
    /// Within these limits.
    pub fn new(front: Front, limits: &LimitArgs) -> Self {
        Self {
            memory: front.message_memory().clone(),
            front,
            grace: limits.stall_time_max(),
            bytes_per_second_min: limits.message_bytes_per_second,
        }
    }

    /// When a message is too slow that began then, and of which so much has come.
    pub fn due(&self, began: Instant, bytes: usize) -> Instant {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let earned = bytes.saturating_mul(1000) / u64::from(self.bytes_per_second_min.max(1));
        began + self.grace + Duration::from_millis(earned)
    }

    /// Lets a caller in; none where no key is valid, which the door refuses.
    pub fn admit(&self, rpc: &'static Rpc, of: &http::Extensions) -> Result<Option<Admitted>, Status> {
        let Some(Identity::Caller(caller)) = of.get::<Identity>() else {
            return Ok(None);
        };
        let admitted = self
            .front
            .admit(rpc, caller, of.get().copied(), of.get().copied());
        admitted.map(Some).map_err(status::of)
    }

    /// The status of a request that is refused while its body is read; the logs have it.
    pub fn refuse(&self, of: &Of, refusal: Refusal) -> Status {
        // A stream's call has begun, and its own record says how it ended.
        if of.rpc.takes_stream {
            status::of(self.front.refuse_in_stream(of.rpc, refusal))
        } else {
            status::of(self.front.refuse_unread(&of.caller, refusal))
        }
    }
}
