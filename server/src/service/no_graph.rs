//! In place of `measure.rs` where the server is built without graphs.

use likeness_proto::v1::{MeasureIndexRequest, MeasureIndexResponse};
use tonic::{Request, Response, Status};

use super::Service;
use super::slices::Slices;
use crate::status::Refusal;

pub(super) async fn measure_index(
    service: &Service,
    request: Request<MeasureIndexRequest>,
) -> Result<Response<Slices<MeasureIndexResponse>>, Status> {
    Err(service.begin("MeasureIndex", &request)?.refuse(Refusal::NoGraphs))
}
