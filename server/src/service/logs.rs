//! The running log, usage and the policy: what is written down, shown to whom it belongs to.

use likeness_engine::{CollectionName, CollectionRef, Page, Person, Scope};
use likeness_proto::v1::log_service_server::LogService;
use likeness_proto::v1::{
    ExportRunningLogRequest, ExportRunningLogResponse, GetPolicyRequest, GetPolicyResponse, GetUsageRequest,
    GetUsageResponse, ListRunningLogRequest, ListRunningLogResponse,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Answer, Ongoing, Service, insert_id};
use crate::auth::Needs;
use crate::convert;
use crate::status::Refusal;

/// People looked up together in an export, and rows of one message.
const EXPORTED_PERSONS: usize = 100;
const EXPORTED_ROWS: usize = 1000;

type Answers = mpsc::Sender<Result<ExportRunningLogResponse, Status>>;

impl Answer for ExportRunningLogResponse {
    /// A message of a stream says nothing about its call; the metadata do.
    fn set_call(&mut self, _: likeness_proto::v1::CallInfo) {}
}

#[tonic::async_trait]
impl LogService for Service {
    async fn list_running_log(
        &self,
        request: Request<ListRunningLogRequest>,
    ) -> Result<Response<ListRunningLogResponse>, Status> {
        let mut call = self.begin("ListRunningLog", Needs::Of(Scope::Audit), &request)?;
        let answer = list(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    type ExportRunningLogStream = ReceiverStream<Result<ExportRunningLogResponse, Status>>;

    async fn export_running_log(
        &self,
        request: Request<ExportRunningLogRequest>,
    ) -> Result<Response<Self::ExportRunningLogStream>, Status> {
        let mut call = self.begin("ExportRunningLog", Needs::Of(Scope::Audit), &request)?;
        // The stream lasts as long as the client reads it; only its parts are short.
        call.deadline = None;
        let (answers, stream) = mpsc::channel(1);
        let mut reply = Response::new(ReceiverStream::new(stream));
        insert_id(reply.metadata_mut(), &call.request_id);
        let name = match CollectionName::parse(&request.into_inner().collection) {
            Ok(name) => name,
            Err(error) => return Err(call.refuse(error.into())),
        };
        tokio::spawn(async move {
            let last = match export(&mut call, name, &answers).await {
                Ok(Taken::All) => call.finish(Ok(ExportRunningLogResponse::default())).err(),
                Ok(Taken::Gone) => None,
                Err(refusal) => Some(call.refuse(refusal)),
            };
            if let Some(status) = last {
                // The client may have gone.
                let _ = answers.send(Err(status)).await;
            }
        });
        Ok(reply)
    }

    async fn get_usage(
        &self,
        request: Request<GetUsageRequest>,
    ) -> Result<Response<GetUsageResponse>, Status> {
        let mut call = self.begin("GetUsage", Needs::WholeAccount(Scope::Audit), &request)?;
        let answer = usage(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn get_policy(
        &self,
        request: Request<GetPolicyRequest>,
    ) -> Result<Response<GetPolicyResponse>, Status> {
        let call = self.begin("GetPolicy", Needs::AnyKey, &request)?;
        let service = &call.service;
        let answer = convert::language(&request.get_ref().language)
            .map(|language| convert::policy(&service.region, &service.retention, language));
        call.finish(answer.map_err(Refusal::from))
    }
}

async fn list(call: &mut Ongoing, request: ListRunningLogRequest) -> Result<ListRunningLogResponse, Refusal> {
    let (name, person_id) = convert::names(&request.collection, &request.person_id)?;
    let items_max = convert::page_size(request.page_size)?;
    let cursor = Some(request.cursor).filter(|cursor| !cursor.is_empty());
    let (collection, page) = call
        .store(move |work, call| {
            let collection = work.collection(&name)?;
            let page =
                work.engine
                    .running_log(&collection, &person_id, cursor.as_deref(), items_max, call)?;
            Ok((collection, page))
        })
        .await?;
    call.scheme(&collection);
    Ok(ListRunningLogResponse {
        call: None,
        rows: page.items.into_iter().map(convert::log_row).collect(),
        next_cursor: page.next.unwrap_or_default(),
        damaged_rows: page.damaged as u64,
    })
}

/// Whether the client took everything.
enum Taken {
    All,
    Gone,
}

async fn export(call: &mut Ongoing, name: CollectionName, answers: &Answers) -> Result<Taken, Refusal> {
    let collection = call
        .store(move |work, _| {
            let collection = work.collection(&name)?;
            work.engine.flush_running_log();
            Ok(collection)
        })
        .await?;
    let mut cursor = None;
    loop {
        let page = persons(call, &collection, cursor).await?;
        for person in page.items {
            if let Taken::Gone = export_person(call, person, answers).await? {
                return Ok(Taken::Gone);
            }
        }
        // ORDER: erasures wait for a page of people until the last of its rows has been taken.
        call.call.read();
        cursor = page.next;
        if cursor.is_none() {
            return Ok(Taken::All);
        }
    }
}

async fn persons(
    call: &mut Ongoing,
    collection: &CollectionRef,
    cursor: Option<String>,
) -> Result<Page<Person>, Refusal> {
    let collection = collection.clone();
    call.store(move |work, call| {
        Ok(work
            .engine
            .list_persons(&collection, cursor.as_deref(), EXPORTED_PERSONS, call)?)
    })
    .await
}

async fn export_person(call: &mut Ongoing, mut person: Person, answers: &Answers) -> Result<Taken, Refusal> {
    let mut cursor: Option<String> = None;
    loop {
        let page;
        (person, page) = call
            .store(move |work, _| {
                let page = work
                    .engine
                    .running_log_of(&person, cursor.as_deref(), EXPORTED_ROWS)?;
                Ok((person, page))
            })
            .await?;
        cursor = page.next;
        let answer = ExportRunningLogResponse {
            rows: page.items.into_iter().map(convert::log_row).collect(),
            damaged_rows: page.damaged as u64,
        };
        // The second wait is for the answer to be taken: none with names in it lies here when an erasure
        // stops waiting.
        let taken = answers.send(Ok(answer)).await.is_ok() && answers.reserve().await.is_ok();
        if !taken {
            return Ok(Taken::Gone);
        }
        if cursor.is_none() {
            return Ok(Taken::All);
        }
    }
}

async fn usage(call: &mut Ongoing, request: GetUsageRequest) -> Result<GetUsageResponse, Refusal> {
    let days = convert::days(&request.first_day, &request.last_day)?;
    call.store(move |work, call| {
        let usage = work.engine.usage(&work.account, &days, call)?;
        // How much other accounts ask is none of this one's business.
        let size = work.caller.is_operator().then(|| work.engine.running_log_size());
        let size = size.transpose()?;
        let asked_for = |usage: &likeness_engine::Usage| {
            request.interface.is_empty() || usage.interface == request.interface
        };
        Ok(GetUsageResponse {
            call: None,
            usage: usage.into_iter().filter(asked_for).map(convert::usage).collect(),
            running_log: size.map(convert::running_log_size),
        })
    })
    .await
}
