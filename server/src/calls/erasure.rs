//! Receipts of erasure, one by one and as a log.

use likeness_engine::{Act, ReceiptReader};
use likeness_proto::v1::{
    GetErasureReceiptRequest, GetErasureReceiptResponse, GetErasureStatusRequest, GetErasureStatusResponse,
    ListErasureReceiptsRequest, ListErasureReceiptsResponse, PrepareResidueAuditRequest,
    PrepareResidueAuditResponse,
};

use crate::call::context::CallContext;
use crate::convert;
use crate::refusal::Refusal;

pub async fn prepare(
    call: &mut CallContext,
    request: PrepareResidueAuditRequest,
) -> Result<PrepareResidueAuditResponse, Refusal> {
    let (collection, person_id) = convert::names(&request.collection, &request.person_id)?;
    call.about(&collection, &person_id);
    // The collection, and not who.
    let entry = call.own_act(Act::PrepareResidueAudit, collection.as_str());
    let fingerprints = call
        .on_storage_pool(move |work, call| {
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

pub async fn get(
    call: &mut CallContext,
    request: GetErasureReceiptRequest,
) -> Result<GetErasureReceiptResponse, Refusal> {
    let receipt = call
        .on_storage_pool(move |work, _| {
            let reader = ReceiptReader::of(&work.account);
            Ok(work.engine.receipt(&reader, request.sequence)?)
        })
        .await?;
    Ok(GetErasureReceiptResponse { call: None, receipt })
}

pub async fn list(
    call: &mut CallContext,
    request: ListErasureReceiptsRequest,
) -> Result<ListErasureReceiptsResponse, Refusal> {
    let items_max = convert::page_size(request.page_size)?;
    call.on_storage_pool(move |work, _| {
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

pub async fn status(
    call: &mut CallContext,
    _: GetErasureStatusRequest,
) -> Result<GetErasureStatusResponse, Refusal> {
    call.on_storage_pool(|work, _| {
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
