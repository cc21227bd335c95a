//! The same person enrolled twice: a collection compared with itself.

use likeness_proto::v1::{FindDuplicatesRequest, FindDuplicatesResponse};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::Service;

pub(super) async fn find_duplicates(
    _service: &Service,
    _request: Request<FindDuplicatesRequest>,
) -> Result<Response<ReceiverStream<Result<FindDuplicatesResponse, Status>>>, Status> {
    Err(Status::unimplemented("not yet"))
}
