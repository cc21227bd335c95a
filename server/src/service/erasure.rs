//! Receipts of erasure, one by one and as a log.

use likeness_engine::Act;
use likeness_proto::v1::erasure_service_server::ErasureService;
use likeness_proto::v1::{
    GetErasureReceiptRequest, GetErasureReceiptResponse, GetErasureStatusRequest, GetErasureStatusResponse,
    ListErasureReceiptsRequest, ListErasureReceiptsResponse, PrepareResidueAuditRequest,
    PrepareResidueAuditResponse,
};
use tonic::{Request, Response, Status};

use super::{Ongoing, Service};
use crate::convert;
use crate::status::Refusal;

#[tonic::async_trait]
impl ErasureService for Service {
    async fn get_erasure_receipt(
        &self,
        request: Request<GetErasureReceiptRequest>,
    ) -> Result<Response<GetErasureReceiptResponse>, Status> {
        let mut call = self.begin("GetErasureReceipt", &request)?;
        let answer = get(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn list_erasure_receipts(
        &self,
        request: Request<ListErasureReceiptsRequest>,
    ) -> Result<Response<ListErasureReceiptsResponse>, Status> {
        let mut call = self.begin("ListErasureReceipts", &request)?;
        let answer = list(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn get_erasure_status(
        &self,
        request: Request<GetErasureStatusRequest>,
    ) -> Result<Response<GetErasureStatusResponse>, Status> {
        let mut call = self.begin("GetErasureStatus", &request)?;
        let answer = status(&mut call).await;
        call.finish(answer)
    }

    async fn prepare_residue_audit(
        &self,
        request: Request<PrepareResidueAuditRequest>,
    ) -> Result<Response<PrepareResidueAuditResponse>, Status> {
        let mut call = self.begin("PrepareResidueAudit", &request)?;
        let answer = prepare(&mut call, request.into_inner()).await;
        call.finish(answer)
    }
}

async fn prepare(
    call: &mut Ongoing,
    request: PrepareResidueAuditRequest,
) -> Result<PrepareResidueAuditResponse, Refusal> {
    let (collection, person_id) = convert::names(&request.collection, &request.person_id)?;
    call.about(&collection, &person_id);
    // The collection, and not who.
    let entry = call.own_act(Act::PrepareResidueAudit, collection.as_str());
    let fingerprints = call
        .store(move |work, call| {
            let collection = work.collection(&collection)?;
            // Nothing is done before the answer is given: of somebody who is not there nothing is written down.
            let prints = work.engine.prepare_residue_audit(&collection, &person_id, call)?;
            Ok(work.audited(&entry, |_| Ok(prints))?)
        })
        .await?;
    Ok(PrepareResidueAuditResponse {
        call: None,
        fingerprints,
    })
}

async fn get(
    call: &mut Ongoing,
    request: GetErasureReceiptRequest,
) -> Result<GetErasureReceiptResponse, Refusal> {
    let receipt = call
        .store(move |work, _| Ok(work.engine.receipt(request.sequence)?))
        .await?;
    Ok(GetErasureReceiptResponse { call: None, receipt })
}

async fn list(
    call: &mut Ongoing,
    request: ListErasureReceiptsRequest,
) -> Result<ListErasureReceiptsResponse, Refusal> {
    let items_max = convert::page_size(request.page_size)? as u64;
    call.store(move |work, _| {
        let size = work.engine.receipts();
        let end = request.first.saturating_add(items_max).min(size);
        let page = request.first..end;
        let receipts = page
            .map(|sequence| work.engine.receipt(sequence))
            .collect::<Result<_, _>>()?;
        Ok(ListErasureReceiptsResponse {
            call: None,
            receipts,
            next: if end < size { end } else { 0 },
        })
    })
    .await
}

async fn status(call: &mut Ongoing) -> Result<GetErasureStatusResponse, Refusal> {
    call.store(|work, _| {
        let backlog = work.engine.backlog();
        Ok(GetErasureStatusResponse {
            call: None,
            size: work.engine.receipts(),
            checkpoint: work.engine.checkpoint().unwrap_or_default(),
            unpurged: backlog.erasures as u64,
            oldest_unpurged: backlog.oldest.and_then(convert::time),
        })
    })
    .await
}
