//! Receipts of erasure, one by one and as a log.

use likeness_engine::{Act, ReceiptReader};
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
        .store(move |work, _| {
            let reader = ReceiptReader::of(&work.account);
            Ok(work.engine.receipt(&reader, request.sequence)?)
        })
        .await?;
    Ok(GetErasureReceiptResponse { call: None, receipt })
}

async fn list(
    call: &mut Ongoing,
    request: ListErasureReceiptsRequest,
) -> Result<ListErasureReceiptsResponse, Refusal> {
    let items_max = convert::page_size(request.page_size)?;
    call.store(move |work, _| {
        let reader = ReceiptReader::of(&work.account);
        let (receipts, next) = work.engine.receipts(&reader, request.first, items_max)?;
        Ok(ListErasureReceiptsResponse {
            call: None,
            receipts,
            next: next.unwrap_or_default(),
        })
    })
    .await
}

async fn status(call: &mut Ongoing) -> Result<GetErasureStatusResponse, Refusal> {
    call.store(|work, _| {
        let status = work.engine.erasure_status(&ReceiptReader::of(&work.account));
        Ok(GetErasureStatusResponse {
            call: None,
            size: status.receipts,
            checkpoint: status.checkpoint.unwrap_or_default(),
            unpurged: status.backlog.erasures as u64,
            oldest_unpurged: status.backlog.oldest.and_then(convert::time),
            quarantined_files: convert::count(work.engine.quarantined_files()),
        })
    })
    .await
}
