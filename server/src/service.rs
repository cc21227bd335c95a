//! The RPCs: each checks its request, passes a gate to the engine, and answers.

mod accounts;
mod admit;
mod collections;
mod disclosed;
mod door;
mod duplicates;
mod enroll;
mod erasure;
mod import;
mod keys;
mod lifecycle;
mod logs;
mod matching;
#[cfg(feature = "graph")]
mod measure;
mod messages;
#[cfg(not(feature = "graph"))]
mod no_graph;
mod outputs;
mod persons;
mod shapes;
mod slices;
mod streams;

use std::sync::Arc;
use std::time::{Duration, Instant};

use likeness_engine::{
    Account, Act, AuditEntry, Call, CallOrigin, Cancel, Charge, CollectionName, CollectionRef, Engine, Error,
    Names, Once, PersonId, RandomId, Result, Scope, Timestamp, Token,
};
use likeness_proto::{Message, v1};
use tokio::sync::{Semaphore, watch};
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Response, Status};

use crate::auth::{self, Caller, ClientAddress, Needs};
use crate::bodies::Budget;
use crate::budgets::Budgets;
use crate::config::{CHANGES_MAX, IMPORTS_MAX, LimitArgs, MATCHES_MAX, ServeConfig};
use crate::convert;
use crate::deadline::Deadline;
use crate::gate::{Arrival, Gate, Room, Turn};
use crate::logs::retention::Retention;
use crate::logs::{Came, Downstream, Ended, Logs, Output, Shape, Shaped};
use crate::metrics::Metrics;
use crate::rates::Rates;
pub use crate::service::admit::Admitted;
use crate::service::messages::{Answer, Tokened};
use crate::service::streams::Streams;
use crate::status::{Refusal, code_name};

/// Of so many places at a gate whose work cannot be interrupted, an account leaves one to the others.
const OTHERS_OF: usize = 4;
/// Metadata key of the request id.
const REQUEST_ID: &str = "x-request-id";

/// What every RPC works with.
#[derive(Clone)]
pub struct Service(Arc<Inner>);

struct Inner {
    engine: Arc<Engine>,
    /// Where this deployment is.
    region: Arc<str>,
    retention: Retention,
    logs: Logs,
    metrics: Metrics,
    /// Decoding, inference and all comparing but searches: as many at once as there are workers.
    computing: Gate,
    /// Searches whose photograph has been looked at: most of them wait for a pass that another leads, and a worker
    /// meanwhile looks at the next photograph.
    matching: Gate,
    workers: usize,
    /// Imports at once.
    importing: Arc<Semaphore>,
    /// The server is about to end: streams end too.
    stopping: watch::Sender<bool>,
    /// Waiting for the disk: a thread each, hardly any computing, and the more the better for the
    /// group commit.
    storing: Gate,
    rates: Rates,
    /// What each account may have of the workers.
    budgets: Arc<Budgets>,
    /// Streams that each account has open.
    streams: Streams,
    limits: LimitArgs,
    /// Of messages that are not yet whole, or not yet answered.
    messages: Budget,
}

impl Service {
    /// A service over an open engine.
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
        Self(Arc::new(Inner {
            engine,
            region: config.region.as_str().into(),
            retention: config.retention.clone(),
            logs,
            metrics: Metrics::default(),
            workers,
            importing: Arc::new(Semaphore::new(IMPORTS_MAX)),
            stopping: watch::Sender::new(false),
            computing: Gate::charging(computing, Some(Arc::clone(&budgets))),
            matching: Gate::new(waiting(MATCHES_MAX)),
            storing: Gate::new(waiting(CHANGES_MAX)),
            rates: Rates::new(&limits),
            budgets,
            streams: Streams::default(),
            messages: limits.message_budget(),
            limits,
        }))
    }

    /// Ends the streams that would otherwise last as long as their clients want.
    pub fn stop(&self) {
        self.0.stopping.send_replace(true);
    }

    /// Ready when streams are to end.
    pub fn stopping(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stopping = self.0.stopping.subscribe();
        async move {
            // The service is gone with its sender: that is the end too.
            let _ = stopping.wait_for(|stopping| *stopping).await;
        }
    }

    /// Whose call it is and where it came from, as its records in the logs say it.
    fn origin(&self, interface: &'static str, caller: &Caller, client: Option<ClientAddress>) -> CallOrigin {
        CallOrigin {
            account: caller.account.clone(),
            sub_account: caller.key.to_string(),
            client: ClientAddress::text(client),
            region: Arc::clone(&self.0.region),
            interface,
            received: Timestamp::now(),
        }
    }

    /// A call by a caller who may make it, and was let in before its message was read.
    ///
    /// # Errors
    /// The call was not let in to this, or its key is no longer good.
    fn begin<T: Shaped>(&self, interface: &'static str, request: &Request<T>) -> Result<Ongoing, Status> {
        let admitted = request.extensions().get::<Admitted>();
        let Some(admitted) = admitted.filter(|admitted| admitted.rpc().method == interface) else {
            // A handler that nothing stands in front of lets nobody in.
            let refusal = auth::caller(request).map_or_else(|refusal| refusal, |_| Refusal::Panicked);
            return Err(self.turn_away(interface, refusal, ClientAddress::of(request)));
        };
        let ongoing = self.ongoing(admitted, request.get_ref().shape());
        match ongoing.caller.may(admitted.rpc().needs) {
            Ok(()) => Ok(ongoing),
            Err(refusal) => Err(ongoing.refuse(refusal)),
        }
    }
}

impl Inner {
    /// Counts a call by its key and account.
    fn count(&self, caller: &Caller) -> Result<(), Refusal> {
        let quota = self.engine.calls_per_second(&caller.account);
        self.rates.call(&caller.account, quota, caller.key)
    }
}

/// The gates' view of the engine: what the blocking work of a call may use.
struct Work {
    engine: Arc<Engine>,
    account: Account,
    caller: Caller,
}

/// How far a call has come that has its turn more than once.
enum Progress<S, T> {
    /// It has another turn, and goes on from here.
    On(S),
    /// It is done.
    Done(T),
}

impl Work {
    fn collection(&self, name: &CollectionName) -> Result<CollectionRef> {
        self.sees(name)?;
        self.engine.collection(&self.account, name)
    }

    /// Which faces a check for people who are enrolled twice names to this caller.
    fn names(&self) -> Names {
        match self.caller.may(Needs::Of(Scope::Admin)) {
            Ok(()) => Names::Features,
            Err(_) => Names::Photographs,
        }
    }

    /// An act of an administrator: written down, then carried out.
    fn audited<T>(&self, entry: &AuditEntry, act: impl FnOnce(&Engine) -> Result<T>) -> Result<T> {
        let engine = &self.engine;
        engine.administration().audited(entry, |_| act(engine))
    }

    /// # Errors
    /// A collection that the key is not good for: it does not exist, whether there is one or not.
    fn sees(&self, name: &CollectionName) -> Result<()> {
        if self.caller.sees(name) {
            Ok(())
        } else {
            Err(convert::no_such_collection())
        }
    }
}

/// One call on its way.
struct Ongoing {
    service: Arc<Inner>,
    interface: &'static str,
    caller: Caller,
    /// Where the call comes from, where the transport says so.
    client: Option<ClientAddress>,
    request_id: String,
    deadline: Option<Deadline>,
    began: Instant,
    call: Call,
    scheme: String,
    /// How it ended; as long as it has not, as if nobody waited for it.
    code: Code,
    /// The same in the words of the logs.
    result: &'static str,
    charge: Charge,
    /// A stream whose items are calls of their own: it counts, and costs nothing itself.
    items_are_billed: bool,
    /// The person it names.
    about: Option<(CollectionName, PersonId)>,
    origin: CallOrigin,
    came: Came,
    shape: Shape,
    output: Output,
    cancel: Cancel,
    /// One of many in a stream: it has no line of its own in the log, and waits for its turn however many
    /// wait, because its stream has few at a time.
    is_item: bool,
}

/// tonic drops a handler's future when the deadline passes or the client goes away; the blocking work
/// then stops before its next stage. However a call ends, the log has one line of it.
impl Drop for Ongoing {
    fn drop(&mut self) {
        self.call.end(self.result, self.charge);
        self.leave_record();
        if self.is_item {
            return;
        }
        self.cancel.cancel();
        let micros = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        tracing::info!(
            request_id = self.request_id,
            interface = self.interface,
            account = self.caller.account.as_str(),
            key = %self.caller.key,
            client = ClientAddress::text(self.client),
            code = ?self.code,
            micros
        );
    }
}

impl Ongoing {
    /// A call that has just come.
    fn new(
        service: &Service,
        interface: &'static str,
        caller: Caller,
        client: Option<ClientAddress>,
        deadline: Option<Deadline>,
        shape: Shape,
    ) -> Self {
        let (cancel, id) = (Cancel::default(), RandomId::random());
        let origin = service.origin(interface, &caller, client);
        let mut call = Call::new(id, cancel.clone());
        service.0.engine.log_call(&mut call, origin.clone());
        Self {
            service: Arc::clone(&service.0),
            interface,
            request_id: id.to_string(),
            deadline,
            began: Instant::now(),
            call: call.asked_by(caller.key),
            scheme: String::new(),
            code: Code::Cancelled,
            result: "CANCELLED",
            charge: Charge::Refused,
            items_are_billed: false,
            about: None,
            came: Came::from(client.map(|ClientAddress(address)| address.ip())),
            origin,
            shape,
            output: Output::default(),
            cancel,
            is_item: false,
            client,
            caller,
        }
    }

    /// Whose call it is.
    fn account(&self) -> &Account {
        &self.caller.account
    }

    /// How long a stream waits for its client, and for each item: what time a call has.
    fn patience(&self) -> Duration {
        self.deadline.map_or(Duration::MAX, |Deadline(at)| {
            at.saturating_duration_since(tokio::time::Instant::now())
        })
    }

    /// Makes the call's write one that is made once, if the request has a token.
    fn once(&mut self, request: &mut impl Tokened) -> Result<(), Refusal> {
        let token = request.take_token();
        if !token.is_empty() {
            let token = Token::parse("idempotency_token", &token)?;
            let (account, payload) = (self.caller.account.clone(), digest(request));
            self.call.once(Once::new(account, self.interface, token, payload));
        }
        Ok(())
    }

    /// What the audit log says of an act of this call.
    fn act(&self, act: Act, of: &Account, object: &str) -> AuditEntry {
        AuditEntry {
            account: self.caller.account.clone(),
            key: Some(self.caller.key),
            request: self.call.request(),
            act,
            of: of.clone(),
            object: object.to_owned(),
        }
    }

    /// The same, done to something of the caller's own account.
    fn own_act(&self, act: Act, object: &str) -> AuditEntry {
        self.act(act, &self.caller.account, object)
    }

    /// Blocking work that computes.
    async fn compute<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&Work, &mut Call) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        self.within_budget().await?;
        let gate = self.service.computing.clone();
        self.pass(gate, work).await
    }

    /// Blocking work that computes, photograph by photograph: where `work` answers that it is not done, other calls have
    /// their turn before it goes on. `left` answers how many turns it needs at most.
    async fn compute_in_turns<S: Send + 'static, T: Send + 'static>(
        &mut self,
        mut from: S,
        left: impl Fn(&S) -> usize + Send,
        work: impl Fn(S, &Work, &mut Call, &Turn) -> Result<Progress<S, T>, Refusal> + Clone + Send + 'static,
    ) -> Result<T, Refusal> {
        self.within_budget().await?;
        let mut has_begun = false;
        loop {
            let (gate, work) = (self.service.computing.clone(), work.clone());
            let arrival = Arrival {
                turns: u32::try_from(left(&from)).unwrap_or(u32::MAX),
                ..self.arrival(has_begun)
            };
            let turn =
                move |resources: &Work, call: &mut Call, turn: &Turn| work(from, resources, call, turn);
            match self.pass_as(gate, arrival, turn).await? {
                Progress::Done(done) => return Ok(done),
                Progress::On(state) => (from, has_begun) = (state, true),
            }
        }
    }

    /// Waits until the account is out of debt, if the call may wait for that.
    async fn within_budget(&self) -> Result<(), Refusal> {
        loop {
            let (wait, refusal) = match self.service.budgets.check(self.account()) {
                Err(Refusal::TooMuchWork(wait)) => (wait, Refusal::TooMuchWork(wait)),
                checked => return checked,
            };
            if !self.is_item || wait > self.patience() {
                return Err(refusal);
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Blocking work that looks through an index, together with others'.
    async fn look_through<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&Work, &mut Call) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let gate = self.service.matching.clone();
        self.pass(gate, work).await
    }

    /// Blocking work that mostly waits for the disk.
    async fn store<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&Work, &mut Call) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let gate = self.service.storing.clone();
        self.pass(gate, work).await
    }

    async fn pass<T: Send + 'static>(
        &mut self,
        gate: Gate,
        work: impl FnOnce(&Work, &mut Call) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let arrival = self.arrival(false);
        self.pass_as(gate, arrival, move |resources, call, _| work(resources, call))
            .await
    }

    /// How the call comes to a gate; what has begun is finished, and so it is not refused there.
    fn arrival(&self, has_begun: bool) -> Arrival {
        Arrival {
            account: self.caller.account.clone(),
            deadline: self.deadline.map(|Deadline(at)| at.into_std()),
            is_patient: self.is_item || has_begun,
            turns: 1,
        }
    }

    async fn pass_as<T: Send + 'static>(
        &mut self,
        gate: Gate,
        arrival: Arrival,
        work: impl FnOnce(&Work, &mut Call, &Turn) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        // Also between the slices and items of a stream: a key may be revoked while one is open.
        self.caller.still()?;
        let resources = Work {
            engine: Arc::clone(&self.service.engine),
            account: self.caller.account.clone(),
            caller: self.caller.clone(),
        };
        let call = std::mem::take(&mut self.call).until(arrival.deadline);
        let about = self.about.clone();
        let passing = gate.pass(call, arrival, move |call, turn| {
            let answer = work(&resources, call, turn);
            if let (Err(_), Some((collection, id))) = (&answer, &about)
                && resources.sees(collection).is_ok()
            {
                resources
                    .engine
                    .log_refused(&resources.account, collection, id, call);
            }
            answer
        });
        let passed = match self.deadline {
            None => Ok(passing.await),
            Some(Deadline(at)) => tokio::time::timeout_at(at, passing).await,
        };
        match passed {
            Ok((call, answer)) => {
                self.call = call;
                match answer {
                    // The work saw the deadline before the clock here did.
                    Err(Refusal::Engine(Error::Stopped(_))) if self.is_late() => Err(Refusal::Late),
                    answer => answer,
                }
            }
            Err(_) => {
                // Its thread, if it has one, stops before the next stage. Items of a stream have one flag
                // for all, and the others go on.
                if !self.is_item {
                    self.cancel.cancel();
                }
                Err(Refusal::Late)
            }
        }
    }

    fn is_late(&self) -> bool {
        let now = tokio::time::Instant::now();
        self.deadline.is_some_and(|Deadline(at)| at <= now)
    }

    /// An item of this call's stream, with a time of its own.
    fn item(&self, patience: Duration, message: &impl Shaped) -> Self {
        let id = self.call.request();
        let mut call = Call::new(id, self.cancel.clone());
        let origin = CallOrigin {
            received: Timestamp::now(),
            ..self.origin.clone()
        };
        self.service.engine.log_call(&mut call, origin.clone());
        Self {
            service: Arc::clone(&self.service),
            interface: self.interface,
            request_id: self.request_id.clone(),
            deadline: tokio::time::Instant::now().checked_add(patience).map(Deadline),
            began: Instant::now(),
            call: call.asked_by(self.caller.key),
            scheme: String::new(),
            code: Code::Cancelled,
            result: "CANCELLED",
            charge: Charge::Refused,
            items_are_billed: false,
            about: None,
            came: self.came,
            origin,
            shape: message.shape(),
            output: Output::default(),
            cancel: self.cancel.clone(),
            is_item: true,
            client: self.client,
            caller: self.caller.clone(),
        }
    }

    fn log_operator_detail(&self, refusal: &Refusal) {
        if let Some(detail) = refusal.operator_detail() {
            tracing::error!(request_id = self.request_id, interface = self.interface, detail);
        }
    }

    /// Remembers what the reply's scores depend on.
    fn scheme(&mut self, collection: &CollectionRef) {
        self.scheme = collection.scheme();
    }

    /// The reply, or the status of the refusal.
    fn finish<T: Answer>(mut self, answer: Result<T, Refusal>) -> Result<Response<T>, Status> {
        match answer {
            Ok(mut reply) => {
                self.output = reply.output();
                reply.set_call(self.info());
                let mut response = Response::new(reply);
                insert_id(response.metadata_mut(), &self.request_id);
                self.carried_out();
                Ok(response)
            }
            Err(refusal) => Err(self.refuse(refusal)),
        }
    }

    /// The status of the refusal.
    fn refuse(mut self, refusal: Refusal) -> Status {
        self.log_operator_detail(&refusal);
        self.refused(&refusal);
        let mut status = refusal.into_status(&self.request_id);
        insert_id(status.metadata_mut(), &self.request_id);
        status
    }

    /// The transport says how it ended.
    fn broke(mut self, status: &Status) {
        (self.code, self.result) = (status.code(), "BROKEN_STREAM");
    }

    /// For the logs.
    fn carried_out(&mut self) {
        (self.code, self.result) = (Code::Ok, "OK");
        self.charge = match self.items_are_billed {
            true => Charge::Free,
            false => Charge::Billed,
        };
    }

    /// For the logs.
    fn refused(&mut self, refusal: &Refusal) {
        (self.code, self.result) = refusal.verdict();
        self.charge = Charge::Refused;
    }

    /// The call names this person: if it is refused, the person's running log has it all the same.
    fn about(&mut self, collection: &CollectionName, id: &PersonId) {
        self.about = Some((collection.clone(), id.clone()));
    }

    /// What the logs without people in them say of the call.
    fn leave_record(&self) {
        let took = self.began.elapsed();
        self.service
            .metrics
            .call(self.interface, code_name(self.code), took);
        if matches!(self.charge, Charge::Refused) {
            self.service.metrics.refused(self.result);
        }
        let count = |waiting: usize| u32::try_from(waiting).unwrap_or(u32::MAX);
        let steps = self.call.steps().iter();
        self.service.logs.leave(Ended {
            call: self.request_id.clone(),
            origin: self.origin.clone(),
            came: self.came,
            ended: Timestamp::now(),
            took,
            is_item: self.is_item,
            code: code_name(self.code),
            result: self.result,
            charge: self.charge,
            request: self.shape,
            output: self.output,
            steps: steps
                .map(|(step, took)| (step.name(), u64::try_from(took.as_micros()).unwrap_or(u64::MAX)))
                .collect(),
            downstream: Downstream {
                waiting_to_compute: count(self.service.computing.waiting()),
                waiting_to_store: count(self.service.storing.waiting()),
                store_failed: self.result == "STORE_FAILED",
                model_failed: self.result == "MODEL_FAILED",
            },
        });
    }

    fn info(&self) -> v1::CallInfo {
        let steps = self.call.steps().iter().map(|(step, took)| v1::StepTiming {
            step: step.name().to_owned(),
            micros: rounded(*took, self.service.limits.timing_micros),
        });
        let scheme = if self.scheme.is_empty() {
            self.service.engine.models_name().to_owned()
        } else {
            self.scheme.clone()
        };
        v1::CallInfo {
            request_id: self.request_id.clone(),
            scheme,
            steps: steps.collect(),
            replayed: self.call.is_replayed(),
        }
    }
}

/// What a step took, rounded down: the exact time of a comparison or of a look into the store says more of what
/// is there than its caller needs.
fn rounded(took: Duration, to_micros: u64) -> u64 {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    micros - micros % to_micros.max(1)
}

/// Of everything that a message says: the same for the same fields, in whatever order they came.
fn digest(message: &impl Message) -> [u8; 32] {
    // A photograph of the call is in it; the wiping allocator overwrites it with the rest of the call.
    *blake3::hash(&message.encode_to_vec()).as_bytes()
}

/// Says in the metadata which call it was.
pub fn insert_id(metadata: &mut tonic::metadata::MetadataMap, request_id: &str) {
    let value: MetadataValue<_> = request_id.parse().expect("hex digits are a metadata value");
    metadata.insert(REQUEST_ID, value);
}
