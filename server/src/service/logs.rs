//! The running log, usage and the policy, for the account that owns the rows.

use likeness_engine::{CollectionName, CollectionRef, LogCursor};
use likeness_proto::v1::log_service_server::LogService;
use likeness_proto::v1::{
    ExportRunningLogRequest, ExportRunningLogResponse, GetPolicyRequest, GetPolicyResponse, GetUsageRequest,
    GetUsageResponse, ListRunningLogRequest, ListRunningLogResponse,
};
use tonic::{Request, Response, Status};

use super::slices::{self, Job, Slice, Slices};
use super::{Answer, Ongoing, Service};
use crate::convert;
use crate::status::Refusal;

/// Rows of one message of an export.
const EXPORTED_ROWS: usize = 1000;

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
        let mut call = self.begin("ListRunningLog", &request)?;
        let answer = list(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    type ExportRunningLogStream = Slices<ExportRunningLogResponse>;

    async fn export_running_log(
        &self,
        request: Request<ExportRunningLogRequest>,
    ) -> Result<Response<Self::ExportRunningLogStream>, Status> {
        export(self, request).await
    }

    async fn get_usage(
        &self,
        request: Request<GetUsageRequest>,
    ) -> Result<Response<GetUsageResponse>, Status> {
        let mut call = self.begin("GetUsage", &request)?;
        let answer = usage(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn get_policy(
        &self,
        request: Request<GetPolicyRequest>,
    ) -> Result<Response<GetPolicyResponse>, Status> {
        let call = self.begin("GetPolicy", &request)?;
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

async fn export(
    service: &Service,
    request: Request<ExportRunningLogRequest>,
) -> Result<Response<Slices<ExportRunningLogResponse>>, Status> {
    let call = service.begin("ExportRunningLog", &request)?;
    slices::begin(call, async |call| Export::begin(call, request.into_inner()).await).await
}

/// What is exported, and how far it got.
struct Export {
    collection: CollectionRef,
    cursor: LogCursor,
}

impl Export {
    async fn begin(call: &mut Ongoing, request: ExportRunningLogRequest) -> Result<Self, Refusal> {
        let name = CollectionName::parse(&request.collection)?;
        call.store(move |work, _| {
            let collection = work.collection(&name)?;
            work.engine.flush_running_log();
            Ok(Self {
                collection,
                cursor: LogCursor::default(),
            })
        })
        .await
    }
}

impl Job for Export {
    type Answer = ExportRunningLogResponse;

    async fn slice(&mut self, call: &mut Ongoing) -> Result<Slice<Self::Answer>, Refusal> {
        let (collection, from) = (self.collection.clone(), self.cursor.clone());
        let part = call
            .store(move |work, call| {
                Ok(work
                    .engine
                    .export_running_log(&collection, &from, EXPORTED_ROWS, call)?)
            })
            .await?;
        let answer = ExportRunningLogResponse {
            rows: part.rows.into_iter().map(convert::log_row).collect(),
            damaged_rows: part.damaged as u64,
        };
        Ok(match part.next {
            Some(cursor) => {
                self.cursor = cursor;
                Slice::One(answer)
            }
            None => Slice::Last(answer),
        })
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
