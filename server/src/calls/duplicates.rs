//! The same person enrolled twice: a collection compared with itself.

use likeness_engine::{Act, AuditEntry, CollectionName, CollectionRef, DuplicateCursor, Names};
use likeness_proto::v1::{FindDuplicatesRequest, FindDuplicatesResponse};

use crate::call::context::{Answered, CallContext};
use crate::call::slices::{self, Job, Slice, Slices};
use crate::convert;
use crate::refusal::{Refusal, Refused};

pub async fn find_duplicates(
    call: CallContext,
    request: FindDuplicatesRequest,
) -> Result<Answered<Slices<FindDuplicatesResponse>>, Refused> {
    slices::begin(call, async |call| Doubles::begin(call, request).await).await
}

/// What is looked for, and how far it got.
struct Doubles {
    collection: CollectionRef,
    max_far: f64,
    names: Names,
    cursor: DuplicateCursor,
    /// Written down once, before somebody is named by features.
    act: Option<AuditEntry>,
}

impl Doubles {
    async fn begin(call: &mut CallContext, request: FindDuplicatesRequest) -> Result<Self, Refusal> {
        call.resources.rates.search(call.account())?;
        let name = CollectionName::parse(&request.collection)?;
        let act = call.own_act(Act::NameFeatures, name.as_str());
        let max_far = convert::max_far(request.max_far)?;
        let cursor = Some(request.cursor).filter(|cursor| !cursor.is_empty());
        call.on_compute_pool(move |work, _| {
            let collection = work.collection(&name)?;
            Ok(Self {
                cursor: DuplicateCursor::of(&collection, cursor.as_deref())?,
                collection,
                max_far: work.engine.applied_far(max_far),
                names: work.names(),
                act: Some(act),
            })
        })
        .await
    }
}

impl Job for Doubles {
    type Answer = FindDuplicatesResponse;

    async fn slice(&mut self, call: &mut CallContext) -> Result<Slice<Self::Answer>, Refusal> {
        let (collection, asked, cursor) = (self.collection.clone(), (self.max_far, self.names), self.cursor);
        let act = self.act.clone();
        let (found, is_written) = call
            .on_compute_pool(move |work, call| {
                let found = work.engine.duplicates(&collection, asked, cursor, call)?;
                let act = act.filter(|_| found.pairs.iter().any(|pair| pair.by_features));
                // ORDER: written down before anybody is told.
                if let Some(act) = &act {
                    work.audited(act, |_| Ok(()))?;
                }
                Ok((found, act.is_some()))
            })
            .await?;
        if is_written {
            self.act = None;
        }
        let (next, scoring) = (found.next, self.collection.stored_scoring());
        let mut answer = convert::duplicates(found, &call.resources.engine, scoring);
        answer.max_far = self.max_far;
        Ok(match next {
            Some(cursor) => {
                self.cursor = cursor;
                Slice::One(answer)
            }
            None => Slice::Last(answer),
        })
    }
}
