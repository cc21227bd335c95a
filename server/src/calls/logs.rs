//! The running log, usage and the policy, for the account that owns the rows.

use likeness_engine::{CollectionName, CollectionRef, LogCursor};
use likeness_proto::v1::{
    ExportRunningLogRequest, ExportRunningLogResponse, GetPolicyRequest, GetPolicyResponse, GetUsageRequest,
    GetUsageResponse, ListRunningLogRequest, ListRunningLogResponse,
};

use crate::call::context::{Answered, CallContext};
use crate::call::slices::{self, Job, Slice, Slices};
use crate::convert;
use crate::policy;
use crate::refusal::{Refusal, Refused};

/// Rows of one message of an export.
const EXPORTED_ROWS: usize = 1000;

pub async fn list(
    call: &mut CallContext,
    request: ListRunningLogRequest,
) -> Result<ListRunningLogResponse, Refusal> {
    let (name, person_id) = convert::names(&request.collection, &request.person_id)?;
    let items_max = convert::page_size(request.page_size)?;
    let cursor = Some(request.cursor).filter(|cursor| !cursor.is_empty());
    let (collection, page) = call
        .on_storage_pool(move |work, call| {
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

pub async fn export(
    call: CallContext,
    request: ExportRunningLogRequest,
) -> Result<Answered<Slices<ExportRunningLogResponse>>, Refused> {
    slices::begin(call, async |call| Export::begin(call, request).await).await
}

/// What is exported, and how far it got.
struct Export {
    collection: CollectionRef,
    cursor: LogCursor,
}

impl Export {
    async fn begin(call: &mut CallContext, request: ExportRunningLogRequest) -> Result<Self, Refusal> {
        let name = CollectionName::parse(&request.collection)?;
        call.on_storage_pool(move |work, _| {
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

    async fn slice(&mut self, call: &mut CallContext) -> Result<Slice<Self::Answer>, Refusal> {
        let (collection, from) = (self.collection.clone(), self.cursor.clone());
        let part = call
            .on_storage_pool(move |work, call| {
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

pub async fn usage(call: &mut CallContext, request: GetUsageRequest) -> Result<GetUsageResponse, Refusal> {
    let days = convert::days(&request.first_day, &request.last_day)?;
    call.on_storage_pool(move |work, call| {
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

pub async fn policy(call: &mut CallContext, request: GetPolicyRequest) -> Result<GetPolicyResponse, Refusal> {
    let resources = &call.resources;
    let language = convert::language(&request.language)?;
    Ok(policy::reply(&resources.region, &resources.retention, language))
}
