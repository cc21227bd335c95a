//! The RPCs: each checks its request, passes a gate to the engine, and answers.

mod accounts;
mod collections;
mod duplicates;
mod enroll;
mod erasure;
mod import;
mod keys;
mod lifecycle;
mod matching;
mod persons;

use std::sync::Arc;
use std::time::{Duration, Instant};

use likeness_engine::{
    Account, Call, Cancel, CollectionName, CollectionRef, Engine, Once, RandomId, Result, Token,
};
use likeness_proto::{Message, v1};
use tokio::sync::{Semaphore, watch};
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Response, Status};

use crate::auth::{self, Caller, ClientAddress, Needs};
use crate::config::{CHANGES_MAX, IMPORTS_MAX};
use crate::convert;
use crate::deadline::Deadline;
use crate::gate::Gate;
use crate::status::Refusal;

/// Metadata key of the request id.
const REQUEST_ID: &str = "x-request-id";

/// What every RPC works with.
#[derive(Clone)]
pub struct Service(Arc<Inner>);

struct Inner {
    engine: Arc<Engine>,
    /// Decoding, inference and search: as many at once as there are workers.
    computing: Gate,
    workers: usize,
    /// Imports at once.
    importing: Arc<Semaphore>,
    /// The server is about to end: streams end too.
    stopping: watch::Sender<bool>,
    /// Waiting for the disk: a thread each, hardly any computing, and the more the better for the
    /// group commit.
    storing: Gate,
}

impl Service {
    /// A service over an open engine.
    pub fn new(engine: Arc<Engine>, workers: usize, queue: usize) -> Self {
        Self(Arc::new(Inner {
            engine,
            workers,
            importing: Arc::new(Semaphore::new(IMPORTS_MAX)),
            stopping: watch::Sender::new(false),
            computing: Gate::new(workers, queue),
            storing: Gate::new(CHANGES_MAX, queue),
        }))
    }

    /// Ends the streams that would otherwise last as long as their clients want.
    pub fn stop(&self) {
        self.0.stopping.send_replace(true);
    }

    /// A call by a caller who may make it.
    ///
    /// # Errors
    /// Nobody known, or a key that is not good for this.
    fn begin<T>(
        &self,
        interface: &'static str,
        needs: Needs,
        request: &Request<T>,
    ) -> Result<Ongoing, Status> {
        let cancel = Cancel::default();
        let id = RandomId::random();
        let caller = match auth::caller(request) {
            Ok(caller) => caller,
            Err(refusal) => return Err(auth::refuse(interface, request, refusal)),
        };
        let ongoing = Ongoing {
            service: Arc::clone(&self.0),
            interface,
            request_id: id.to_string(),
            deadline: request.extensions().get::<Deadline>().copied(),
            began: Instant::now(),
            call: Call::new(id, cancel.clone()),
            scheme: String::new(),
            code: Code::Cancelled,
            cancel,
            is_item: false,
            client: request.extensions().get().copied(),
            caller,
        };
        match ongoing.caller.may(needs) {
            Ok(()) => Ok(ongoing),
            Err(refusal) => Err(ongoing.refuse(refusal)),
        }
    }
}

/// The gates' view of the engine: what the blocking work of a call may use.
struct Work {
    engine: Arc<Engine>,
    account: Account,
    caller: Caller,
}

impl Work {
    fn collection(&self, name: &CollectionName) -> Result<CollectionRef> {
        self.sees(name)?;
        self.engine.collection(&self.account, name)
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
    cancel: Cancel,
    /// One of many in a stream: it has no line of its own in the log, and waits for its turn however many
    /// wait, because its stream has few at a time.
    is_item: bool,
}

/// tonic drops a handler's future when the deadline passes or the client goes away; the blocking work
/// then stops before its next stage. However a call ends, the log has one line of it.
impl Drop for Ongoing {
    fn drop(&mut self) {
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

/// A reply that says something about its call.
trait Answer {
    fn set_call(&mut self, info: v1::CallInfo);
}

macro_rules! answers {
    ($($reply:ident),* $(,)?) => {
        $(impl Answer for v1::$reply {
            fn set_call(&mut self, info: v1::CallInfo) {
                self.call = Some(info);
            }
        })*
    };
}

answers!(
    CreateAccountResponse,
    GetAccountResponse,
    ListAccountsResponse,
    UpdateAccountResponse,
    CreateApiKeyResponse,
    ListApiKeysResponse,
    RevokeApiKeyResponse,
    CreateCollectionResponse,
    GetCollectionResponse,
    ListCollectionsResponse,
    UpdateCollectionResponse,
    DeleteCollectionResponse,
    EnrollPersonResponse,
    AddFacesResponse,
    GetPersonResponse,
    ListPersonsResponse,
    UpdatePersonResponse,
    DeleteFacesResponse,
    DeletePersonResponse,
    DetectFacesResponse,
    CompareFacesResponse,
    VerifyPersonResponse,
    SearchPersonsResponse,
    EraseEverywhereResponse,
    GetErasureReceiptResponse,
    ListErasureReceiptsResponse,
    GetErasureStatusResponse,
    DestroyKeyGroupResponse,
    RotateSigningKeyResponse,
    PrepareResidueAuditResponse,
    CopyPersonResponse,
    RenamePersonResponse,
    ExportPersonResponse,
    ListConsentsResponse,
    WithdrawConsentResponse,
);

/// A request that may name its write by an idempotency token.
trait Tokened: Message {
    fn take_token(&mut self) -> String;
}

macro_rules! tokened {
    ($($request:ident),* $(,)?) => {
        $(impl Tokened for v1::$request {
            fn take_token(&mut self) -> String {
                std::mem::take(&mut self.idempotency_token)
            }
        })*
    };
}

tokened!(
    CreateCollectionRequest,
    UpdateCollectionRequest,
    DeleteCollectionRequest,
    EnrollPersonRequest,
    AddFacesRequest,
    UpdatePersonRequest,
    DeleteFacesRequest,
    DeletePersonRequest,
    EraseEverywhereRequest,
    CopyPersonRequest,
    RenamePersonRequest,
    WithdrawConsentRequest,
);

impl Answer for v1::ImportPersonsResponse {
    /// A message of a stream says nothing about its call; the metadata do.
    fn set_call(&mut self, _: v1::CallInfo) {}
}

impl Answer for v1::DeletePersonsResponse {
    /// As below.
    fn set_call(&mut self, _: v1::CallInfo) {}
}

impl Answer for v1::RotateWrappingKeyResponse {
    /// A message of a stream says nothing about its call; the metadata do.
    fn set_call(&mut self, _: v1::CallInfo) {}
}

impl Ongoing {
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

    /// Blocking work that computes.
    async fn compute<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&Work, &mut Call) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let gate = self.service.computing.clone();
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
        // Also between the slices and items of a stream: a key may be revoked while one is open.
        self.caller.still()?;
        let resources = Work {
            engine: Arc::clone(&self.service.engine),
            account: self.caller.account.clone(),
            caller: self.caller.clone(),
        };
        let call = std::mem::take(&mut self.call);
        let passing = gate.pass(call, self.is_item, move |call| work(&resources, call));
        let passed = match self.deadline {
            None => Ok(passing.await),
            Some(Deadline(at)) => tokio::time::timeout_at(at, passing).await,
        };
        match passed {
            Ok((call, answer)) => {
                self.call = call;
                answer
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

    /// An item of this call's stream, with a time of its own.
    fn item(&self, patience: Duration) -> Self {
        let id = self.call.request();
        Self {
            service: Arc::clone(&self.service),
            interface: self.interface,
            request_id: self.request_id.clone(),
            deadline: tokio::time::Instant::now().checked_add(patience).map(Deadline),
            began: Instant::now(),
            call: Call::new(id, self.cancel.clone()),
            scheme: String::new(),
            code: Code::Cancelled,
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
    fn finish<T: Answer>(self, answer: Result<T, Refusal>) -> Result<Response<T>, Status> {
        match answer {
            Ok(mut reply) => {
                reply.set_call(self.info());
                let mut response = Response::new(reply);
                insert_id(response.metadata_mut(), &self.request_id);
                self.end(Code::Ok);
                Ok(response)
            }
            Err(refusal) => Err(self.refuse(refusal)),
        }
    }

    /// The status of the refusal.
    fn refuse(self, refusal: Refusal) -> Status {
        self.log_operator_detail(&refusal);
        let mut status = refusal.into_status(&self.request_id);
        insert_id(status.metadata_mut(), &self.request_id);
        self.end(status.code());
        status
    }

    /// How it ended, for the log.
    fn end(mut self, code: Code) {
        self.code = code;
    }

    fn info(&self) -> v1::CallInfo {
        let steps = self.call.steps().iter().map(|(step, took)| v1::StepTiming {
            step: step.name().to_owned(),
            micros: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
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
