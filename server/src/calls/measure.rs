//! How good a graph would be for a collection. What was made for the measurement goes with its stream.

use std::sync::{Arc, Mutex, PoisonError};

use likeness_engine::{CollectionName, Measuring};
use likeness_proto::v1::{MeasureIndexRequest, MeasureIndexResponse};

use crate::call::context::{Answered, CallContext};
use crate::call::slices::{self, Job, Slice, Slices};
use crate::convert;
use crate::refusal::{Refusal, Refused};

pub async fn measure_index(
    call: CallContext,
    request: MeasureIndexRequest,
) -> Result<Answered<Slices<MeasureIndexResponse>>, Refused> {
    slices::begin(call, async |call| Measurement::begin(call, request).await).await
}

/// Shared with the slice that is worked on, if there is one: it outlives a client that went away.
struct Measurement(Arc<Mutex<Measuring>>);

impl Measurement {
    async fn begin(call: &mut CallContext, request: MeasureIndexRequest) -> Result<Self, Refusal> {
        let name = CollectionName::parse(&request.collection)?;
        let plan = convert::measurement(request.people_max, request.probes)?;
        call.on_compute_pool(move |work, _| {
            let collection = work.collection(&name)?;
            let measuring = work.engine.begin_measuring(&collection, plan)?;
            Ok(Self(Arc::new(Mutex::new(measuring))))
        })
        .await
    }
}

impl Job for Measurement {
    type Answer = MeasureIndexResponse;

    async fn slice(&mut self, call: &mut CallContext) -> Result<Slice<Self::Answer>, Refusal> {
        let measuring = Arc::clone(&self.0);
        let slice = call
            .on_compute_pool(move |work, call| {
                let mut measuring = measuring.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(work.engine.measure(&mut measuring, call)?)
            })
            .await?;
        let is_last = slice.rows.is_some();
        let answer = convert::measured(slice);
        Ok(if is_last {
            Slice::Last(answer)
        } else {
            Slice::One(answer)
        })
    }
}
