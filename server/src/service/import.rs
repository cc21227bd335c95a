//! Many people enrolled over one stream.

use likeness_proto::v1::{ImportPersonsRequest, ImportPersonsResponse};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::Service;

pub(super) async fn import_persons(
    _service: &Service,
    _request: Request<Streaming<ImportPersonsRequest>>,
) -> Result<Response<ReceiverStream<Result<ImportPersonsResponse, Status>>>, Status> {
    Err(Status::unimplemented("not yet"))
}
