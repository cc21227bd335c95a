//! What all calls share: the engine, the gates to blocking work, and what accounts may take.

use std::sync::Arc;

use likeness_engine::Engine;
use tokio::sync::{Semaphore, watch};

use super::budgets::Budgets;
use super::caller::Caller;
use super::gate::{Gate, Room};
use super::message_memory::MessageMemory;
use super::rates::Rates;
use super::record::Recorder;
use super::streams::Streams;
use crate::config::{CHANGES_MAX, IMPORTS_MAX, LimitArgs, MATCHES_MAX, ServeConfig};
use crate::logs::Logs;
use crate::logs::retention::Retention;
use crate::refusal::Refusal;

/// Of so many places at a gate whose work cannot be interrupted, an account leaves one to the others.
const OTHERS_OF: usize = 4;

/// What every call works with.
pub struct Resources {
    /// The engine behind the calls.
    pub engine: Arc<Engine>,
    /// Where this deployment is.
    pub region: Arc<str>,
    /// How long each class of data is kept.
    pub retention: Retention,
    /// Logs and metrics.
    pub recorder: Recorder,
    /// Decoding, inference and all comparing but searches: as many at once as there are workers.
    pub compute_gate: Gate,
    /// Searches whose photograph has been looked at: most of them wait for a pass that another leads, and a worker
    /// meanwhile looks at the next photograph.
    pub search_gate: Gate,
    /// Threads that compute.
    pub workers: usize,
    /// Imports at once.
    pub importing: Arc<Semaphore>,
    /// The server is about to end: streams end too.
    pub stopping: watch::Sender<bool>,
    /// Waiting for the disk: a thread each, hardly any computing, and the more the better for the
    /// group commit.
    pub storage_gate: Gate,
    /// How often keys and accounts may call.
    pub rates: Rates,
    /// What each account may have of the workers.
    pub budgets: Arc<Budgets>,
    /// Streams that each account has open.
    pub streams: Streams,
    /// The limits as the operator set them.
    pub limits: LimitArgs,
    /// Memory of messages that are not yet whole, or not yet answered.
    pub messages: MessageMemory,
}

impl Resources {
    /// Over an open engine.
    pub fn new(config: &ServeConfig, engine: Arc<Engine>, logs: Logs) -> Self {
        let (workers, limits) = (config.workers(), config.limits.clone());
        let budgets = Arc::new(Budgets::new(&limits));
        let waiting = |working_max| Room {
            working_max,
            own_working_max: working_max - working_max / OTHERS_OF,
            parked_max: 0,
            waiting_max: usize::from(config.queue),
            wait_max: limits.queue_time_max(),
        };
        let computing = Room {
            // One account alone has all workers: its calls give way between two steps.
            own_working_max: workers,
            parked_max: config.parked_max(),
            ..waiting(workers)
        };
        Self {
            engine,
            region: config.region.as_str().into(),
            retention: config.retention.clone(),
            recorder: Recorder::new(logs),
            workers,
            importing: Arc::new(Semaphore::new(IMPORTS_MAX)),
            stopping: watch::Sender::new(false),
            compute_gate: Gate::charging(computing, Some(Arc::clone(&budgets))),
            search_gate: Gate::new(waiting(MATCHES_MAX)),
            storage_gate: Gate::new(waiting(CHANGES_MAX)),
            rates: Rates::new(&limits),
            budgets,
            streams: Streams::default(),
            messages: MessageMemory::of(&limits),
            limits,
        }
    }

    /// Counts a call by its key and account.
    ///
    /// # Errors
    /// The key or the account calls too often.
    pub fn count(&self, caller: &Caller) -> Result<(), Refusal> {
        let quota = self.engine.calls_per_second(&caller.account);
        self.rates.call(&caller.account, quota, caller.key)
    }
}
