//! The call that measures an index, in a program without graphs.

use likeness_proto::v1::{MeasureIndexRequest, MeasureIndexResponse};

use crate::call::context::{Answered, CallContext};
use crate::call::slices::{self, Job, Slice, Slices};
use crate::refusal::{Refusal, Refused};

/// Refuses the call.
pub async fn measure_index(
    call: CallContext,
    _: MeasureIndexRequest,
) -> Result<Answered<Slices<MeasureIndexResponse>>, Refused> {
    slices::begin(call, async |_| Err::<Never, _>(Refusal::NoGraphs)).await
}

/// No measurement begins.
enum Never {}

impl Job for Never {
    type Answer = MeasureIndexResponse;

    async fn slice(&mut self, _: &mut CallContext) -> Result<Slice<Self::Answer>, Refusal> {
        match *self {}
    }
}
