//! The RPCs: each checks its request, passes a gate to the engine, and answers.

mod collections;
mod duplicates;
mod erasure;
mod import;
mod keys;
mod lifecycle;
mod matching;
mod persons;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use likeness_engine::{Account, Call, Cancel, CollectionName, CollectionRef, Engine, RandomId, Result};
use likeness_proto::v1;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Response, Status};

use crate::config::CHANGES_MAX;
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
    account: Account,
    /// Decoding, inference and search: as many at once as there are workers.
    computing: Gate,
    /// Waiting for the disk: a thread each, hardly any computing, and the more the better for the
    /// group commit.
    storing: Gate,
    /// The server is about to stop: what can go on elsewhere ends.
    stopping: AtomicBool,
}

impl Service {
    /// A service over an open engine.
    pub fn new(engine: Arc<Engine>, workers: usize, queue: usize) -> Self {
        Self(Arc::new(Inner {
            engine,
            account: Account::default(),
            computing: Gate::new(workers, queue),
            storing: Gate::new(CHANGES_MAX, queue),
            stopping: AtomicBool::new(false),
        }))
    }

    /// Ends the streams that a client can go on with at the next server.
    pub fn stop_streams(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
    }

    fn begin<T>(&self, interface: &'static str, request: &Request<T>) -> Ongoing {
        let cancel = Cancel::default();
        let id = RandomId::random();
        Ongoing {
            service: Arc::clone(&self.0),
            interface,
            request_id: id.to_string(),
            deadline: request.extensions().get::<Deadline>().copied(),
            began: Instant::now(),
            call: Call::new(id, cancel.clone()),
            scheme: String::new(),
            code: Code::Cancelled,
            cancel,
        }
    }
}

/// The gates' view of the engine: what the blocking work of a call may use.
struct Work {
    engine: Arc<Engine>,
    account: Account,
}

impl Work {
    fn collection(&self, name: &CollectionName) -> Result<CollectionRef> {
        self.engine.collection(&self.account, name)
    }
}

/// One call on its way.
struct Ongoing {
    service: Arc<Inner>,
    interface: &'static str,
    request_id: String,
    deadline: Option<Deadline>,
    began: Instant,
    call: Call,
    scheme: String,
    /// How it ended; as long as it has not, as if nobody waited for it.
    code: Code,
    cancel: Cancel,
}

/// tonic drops a handler's future when the deadline passes or the client goes away; the blocking work
/// then stops before its next stage. However a call ends, the log has one line of it.
impl Drop for Ongoing {
    fn drop(&mut self) {
        self.cancel.cancel();
        let micros = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        tracing::info!(
            request_id = self.request_id,
            interface = self.interface,
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

impl Answer for v1::RotateWrappingKeyResponse {
    /// A message of a stream says nothing about its call; the metadata do.
    fn set_call(&mut self, _: v1::CallInfo) {}
}

impl Ongoing {
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
        let resources = Work {
            engine: Arc::clone(&self.service.engine),
            account: self.service.account.clone(),
        };
        let call = std::mem::take(&mut self.call);
        let passing = gate.pass(call, move |call| work(&resources, call));
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
                // Its thread, if it has one, stops before the next stage.
                self.cancel.cancel();
                Err(Refusal::Late)
            }
        }
    }

    /// Remembers what the reply's scores depend on.
    fn scheme(&mut self, collection: &CollectionRef) {
        self.scheme = collection.scheme();
    }

    /// The reply, or the status of the refusal.
    fn finish<T: Answer>(mut self, answer: Result<T, Refusal>) -> Result<Response<T>, Status> {
        let mut reply = match answer {
            Ok(reply) => reply,
            Err(refusal) => return Err(self.refuse(refusal)),
        };
        reply.set_call(self.info());
        let mut response = Response::new(reply);
        insert_id(response.metadata_mut(), &self.request_id);
        self.code = Code::Ok;
        Ok(response)
    }

    /// The status of the refusal.
    fn refuse(mut self, refusal: Refusal) -> Status {
        if let Some(detail) = refusal.operator_detail() {
            tracing::error!(request_id = self.request_id, interface = self.interface, detail);
        }
        let mut status = refusal.into_status(&self.request_id);
        insert_id(status.metadata_mut(), &self.request_id);
        self.code = status.code();
        status
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
            replayed: false,
        }
    }
}

fn insert_id(metadata: &mut tonic::metadata::MetadataMap, request_id: &str) {
    let value: MetadataValue<_> = request_id.parse().expect("hex digits are a metadata value");
    metadata.insert(REQUEST_ID, value);
}
