//! One call on its way: who makes it, its deadline, its limits, and what is written down of it when it is over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use likeness_engine::{
    Account, Act, AuditEntry, Call, CallOrigin, Cancel, Charge, CollectionName, CollectionRef, Error, Once,
    PersonId, RandomId, Timestamp, Token,
};
use likeness_proto::{Message, v1};

use super::caller::{Caller, ClientAddress};
use super::deadline::Deadline;
use super::gate::{Arrival, Gate, Turn};
use super::messages::{Answer, Tokened};
use super::record;
use super::resources::Resources;
use super::work::{Progress, Work};
use crate::logs::{CallRecord, ClientOrigin, Downstream, Output, Shape, Shaped};
use crate::refusal::{Code, Refusal, Refused};

/// Who makes a call, and which; the items of a stream have it from their stream.
#[derive(Clone)]
pub struct CallSource {
    /// The name of the RPC.
    pub interface: &'static str,
    /// Whose key it is.
    pub caller: Caller,
    /// Where the call comes from, where the transport says so.
    pub client: Option<ClientAddress>,
    /// Names the call.
    pub id: RandomId,
}

/// A reply, and the id of its call.
pub struct Answered<T> {
    /// Names the call, in the logs too.
    pub request_id: String,
    /// The reply, or the stream of replies.
    pub reply: T,
}

/// One call on its way: what its function is given beside the message.
pub struct CallContext {
    /// What it works with.
    pub resources: Arc<Resources>,
    /// The name of the RPC.
    pub interface: &'static str,
    /// Whose key it is.
    pub caller: Caller,
    /// Where the call comes from, where the transport says so.
    client: Option<ClientAddress>,
    /// Names the call.
    pub request_id: String,
    /// When it must have its answer; none of a stream.
    pub deadline: Option<Deadline>,
    began: Instant,
    /// The engine's side of it.
    pub call: Call,
    scheme: String,
    /// How it ended; until then, as if its client had gone away.
    code: Code,
    /// The same in the words of the logs.
    result: &'static str,
    charge: Charge,
    /// A stream whose items are calls of their own: it counts, and costs nothing itself.
    pub items_are_billed: bool,
    /// The person it names.
    about: Option<(CollectionName, PersonId)>,
    origin: CallOrigin,
    client_origin: ClientOrigin,
    shape: Shape,
    /// What came out, for the logs.
    pub output: Output,
    /// Stops its blocking work.
    pub cancel: Cancel,
    /// One of many in a stream: it has no line of its own in the log, and waits for its turn however many
    /// wait, because its stream has few at a time.
    is_item: bool,
}

/// A door drops the future of a call when the deadline passes or the client goes away; the blocking work
/// then stops before its next stage. However a call ends, the log has one line of it.
impl Drop for CallContext {
    fn drop(&mut self) {
        self.call.end(self.result, self.charge);
        self.record_call();
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

impl CallContext {
    /// A call that was let in.
    pub fn new(
        resources: &Arc<Resources>,
        source: CallSource,
        deadline: Option<Deadline>,
        shape: Shape,
    ) -> Self {
        Self::begin(Arc::clone(resources), source, deadline, shape, Cancel::default())
    }

    /// An item of this call's stream, with a time of its own.
    pub fn item(&self, patience: Duration, message: &impl Shaped) -> Self {
        let deadline = tokio::time::Instant::now().checked_add(patience).map(Deadline);
        let source = CallSource {
            interface: self.interface,
            caller: self.caller.clone(),
            client: self.client,
            id: self.call.request(),
        };
        let resources = Arc::clone(&self.resources);
        let mut item = Self::begin(resources, source, deadline, message.shape(), self.cancel.clone());
        item.request_id.clone_from(&self.request_id);
        item.is_item = true;
        item
    }

    fn begin(
        resources: Arc<Resources>,
        source: CallSource,
        deadline: Option<Deadline>,
        shape: Shape,
        cancel: Cancel,
    ) -> Self {
        let CallSource {
            interface,
            caller,
            client,
            id,
        } = source;
        let origin = CallOrigin {
            account: caller.account.clone(),
            sub_account: caller.key.to_string(),
            client: ClientAddress::text(client),
            region: Arc::clone(&resources.region),
            interface,
            received: Timestamp::now(),
        };
        let mut call = Call::new(id, cancel.clone());
        resources.engine.log_call(&mut call, origin.clone());
        Self {
            resources,
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
            client_origin: record::origin(client),
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
    pub fn account(&self) -> &Account {
        &self.caller.account
    }

    /// How long a stream waits for its client, and for each item: what time a call has.
    pub fn patience(&self) -> Duration {
        self.deadline.map_or(Duration::MAX, |Deadline(at)| {
            at.saturating_duration_since(tokio::time::Instant::now())
        })
    }

    /// Makes the call's write one that is made once, if the request has a token.
    pub fn once(&mut self, request: &mut impl Tokened) -> Result<(), Refusal> {
        let token = request.take_token();
        if !token.is_empty() {
            let token = Token::parse("idempotency_token", &token)?;
            let (account, payload) = (self.caller.account.clone(), digest(request));
            self.call.once(Once::new(account, self.interface, token, payload));
        }
        Ok(())
    }

    /// What the audit log says of an act of this call.
    pub fn act(&self, act: Act, of: &Account, object: &str) -> AuditEntry {
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
    pub fn own_act(&self, act: Act, object: &str) -> AuditEntry {
        self.act(act, &self.caller.account, object)
    }

    /// Blocking work that computes.
    pub async fn on_compute_pool<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&Work, &mut Call) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        self.within_budget().await?;
        let gate = self.resources.compute_gate.clone();
        self.pass(gate, work).await
    }

    /// Blocking work that computes, photograph by photograph: where `work` answers that it is not done, other calls have
    /// their turn before it goes on. `left` answers how many turns it needs at most.
    pub async fn on_compute_pool_in_turns<S: Send + 'static, T: Send + 'static>(
        &mut self,
        mut from: S,
        left: impl Fn(&S) -> usize + Send,
        work: impl Fn(S, &Work, &mut Call, &Turn) -> Result<Progress<S, T>, Refusal> + Clone + Send + 'static,
    ) -> Result<T, Refusal> {
        self.within_budget().await?;
        let mut has_begun = false;
        loop {
            let (gate, work) = (self.resources.compute_gate.clone(), work.clone());
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
            let (wait, refusal) = match self.resources.budgets.check(self.account()) {
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
    pub async fn on_search_pool<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&Work, &mut Call) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let gate = self.resources.search_gate.clone();
        self.pass(gate, work).await
    }

    /// Blocking work that mostly waits for the disk.
    pub async fn on_storage_pool<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&Work, &mut Call) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let gate = self.resources.storage_gate.clone();
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
            engine: Arc::clone(&self.resources.engine),
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

    pub fn log_operator_detail(&self, refusal: &Refusal) {
        if let Some(detail) = refusal.operator_detail() {
            tracing::error!(request_id = self.request_id, interface = self.interface, detail);
        }
    }

    /// Remembers what the reply's scores depend on.
    pub fn scheme(&mut self, collection: &CollectionRef) {
        self.scheme = collection.scheme();
    }

    /// Ends the call with a reply or a refusal.
    ///
    /// # Errors
    /// The refusal.
    pub fn finish<T: Answer>(mut self, answer: Result<T, Refusal>) -> Result<Answered<T>, Refused> {
        match answer {
            Ok(mut reply) => {
                self.output = reply.output();
                reply.set_call(self.info());
                self.carried_out();
                Ok(Answered {
                    request_id: self.request_id.clone(),
                    reply,
                })
            }
            Err(refusal) => Err(self.refuse(refusal)),
        }
    }

    /// Ends the call with a refusal.
    pub fn refuse(mut self, refusal: Refusal) -> Refused {
        self.log_operator_detail(&refusal);
        self.refused(&refusal);
        Refused::new(self.request_id.clone(), refusal)
    }

    /// For the logs.
    pub fn carried_out(&mut self) {
        (self.code, self.result) = (Code::Ok, "OK");
        self.charge = match self.items_are_billed {
            true => Charge::Free,
            false => Charge::Billed,
        };
    }

    /// For the logs.
    pub fn refused(&mut self, refusal: &Refusal) {
        (self.code, self.result) = refusal.verdict();
        self.charge = Charge::Refused;
    }

    /// The call names this person: if it is refused, the person's running log has it all the same.
    pub fn about(&mut self, collection: &CollectionName, id: &PersonId) {
        self.about = Some((collection.clone(), id.clone()));
    }

    /// What the logs without people in them say of the call.
    fn record_call(&self) {
        let count = |waiting: usize| u32::try_from(waiting).unwrap_or(u32::MAX);
        let steps = self.call.steps().iter();
        self.resources.recorder.record_call(CallRecord {
            call: self.request_id.clone(),
            origin: self.origin.clone(),
            client_origin: self.client_origin,
            ended: Timestamp::now(),
            took: self.began.elapsed(),
            is_item: self.is_item,
            code: self.code.name(),
            result: self.result,
            charge: self.charge,
            request: self.shape,
            output: self.output,
            steps: steps
                .map(|(step, took)| (step.name(), u64::try_from(took.as_micros()).unwrap_or(u64::MAX)))
                .collect(),
            downstream: Downstream {
                waiting_to_compute: count(self.resources.compute_gate.waiting()),
                waiting_to_store: count(self.resources.storage_gate.waiting()),
                store_failed: self.result == "STORE_FAILED",
                model_failed: self.result == "MODEL_FAILED",
            },
        });
    }

    fn info(&self) -> v1::CallInfo {
        let steps = self.call.steps().iter().map(|(step, took)| v1::StepTiming {
            step: step.name().to_owned(),
            micros: rounded(*took, self.resources.limits.timing_micros),
        });
        let scheme = if self.scheme.is_empty() {
            self.resources.engine.models_name().to_owned()
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
pub fn digest(message: &impl Message) -> [u8; 32] {
    // A photograph of the call is in it; the wiping allocator overwrites it with the rest of the call.
    *blake3::hash(&message.encode_to_vec()).as_bytes()
}
