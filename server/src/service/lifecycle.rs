//! What becomes of people after enrolment: copied, renamed, exported, withdrawn, erased by the stream.

use likeness_proto::v1::{
    CopyPersonRequest, CopyPersonResponse, DeletePersonsRequest, DeletePersonsResponse, ExportPersonRequest,
    ExportPersonResponse, ListConsentsRequest, ListConsentsResponse, RenamePersonRequest,
    RenamePersonResponse, WithdrawConsentRequest, WithdrawConsentResponse,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Ongoing, Service};
use crate::status::Refusal;

pub(super) async fn delete_persons(
    _service: &Service,
    _request: Request<Streaming<DeletePersonsRequest>>,
) -> Result<Response<ReceiverStream<Result<DeletePersonsResponse, Status>>>, Status> {
    Err(Status::unimplemented("not yet"))
}

pub(super) async fn copy(
    _call: &mut Ongoing,
    _request: CopyPersonRequest,
) -> Result<CopyPersonResponse, Refusal> {
    Err(Refusal::Panicked)
}

pub(super) async fn rename(
    _call: &mut Ongoing,
    _request: RenamePersonRequest,
) -> Result<RenamePersonResponse, Refusal> {
    Err(Refusal::Panicked)
}

pub(super) async fn export(
    _call: &mut Ongoing,
    _request: ExportPersonRequest,
) -> Result<ExportPersonResponse, Refusal> {
    Err(Refusal::Panicked)
}

pub(super) async fn list_consents(
    _call: &mut Ongoing,
    _request: ListConsentsRequest,
) -> Result<ListConsentsResponse, Refusal> {
    Err(Refusal::Panicked)
}

pub(super) async fn withdraw_consent(
    _call: &mut Ongoing,
    _request: WithdrawConsentRequest,
) -> Result<WithdrawConsentResponse, Refusal> {
    Err(Refusal::Panicked)
}
