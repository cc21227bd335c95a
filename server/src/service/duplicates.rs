//! The same person enrolled twice: a collection compared with itself.

use likeness_engine::{CollectionName, CollectionRef, DuplicateCursor, Scope};
use likeness_proto::v1::{CallInfo, FindDuplicatesRequest, FindDuplicatesResponse};
use tonic::{Request, Response, Status};

use super::slices::{self, Job, Slice, Slices};
use super::{Answer, Ongoing, Service};
use crate::auth::Needs;
use crate::convert;
use crate::status::Refusal;

impl Answer for FindDuplicatesResponse {
    /// A message of a stream says nothing about its call; the metadata do.
    fn set_call(&mut self, _: CallInfo) {}
}

pub(super) async fn find_duplicates(
    service: &Service,
    request: Request<FindDuplicatesRequest>,
) -> Result<Response<Slices<FindDuplicatesResponse>>, Status> {
    let call = service.begin("FindDuplicates", Needs::Of(Scope::Search), &request)?;
    slices::begin(call, async |call| {
        Doubles::begin(call, request.into_inner()).await
    })
    .await
}

/// What is looked for, and how far it got.
struct Doubles {
    collection: CollectionRef,
    max_far: f64,
    cursor: DuplicateCursor,
}

impl Doubles {
    async fn begin(call: &mut Ongoing, request: FindDuplicatesRequest) -> Result<Self, Refusal> {
        let name = CollectionName::parse(&request.collection)?;
        let max_far = convert::max_far(request.max_far)?;
        let cursor = Some(request.cursor).filter(|cursor| !cursor.is_empty());
        call.compute(move |work, _| {
            let collection = work.collection(&name)?;
            Ok(Self {
                cursor: DuplicateCursor::of(&collection, cursor.as_deref())?,
                collection,
                max_far,
            })
        })
        .await
    }
}

impl Job for Doubles {
    type Answer = FindDuplicatesResponse;

    async fn slice(&mut self, call: &mut Ongoing) -> Result<Slice<Self::Answer>, Refusal> {
        let (collection, max_far, cursor) = (self.collection.clone(), self.max_far, self.cursor);
        let found = call
            .compute(move |work, call| Ok(work.engine.duplicates(&collection, max_far, cursor, call)?))
            .await?;
        let (next, scoring) = (found.next, self.collection.stored_scoring());
        let answer = convert::duplicates(found, &call.service.engine, scoring);
        Ok(match next {
            Some(cursor) => {
                self.cursor = cursor;
                Slice::One(answer)
            }
            None => Slice::Last(answer),
        })
    }
}
