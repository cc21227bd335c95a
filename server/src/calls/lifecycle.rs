//! What becomes of people after enrolment: copied, renamed, exported, withdrawn, erased by the stream.

use std::sync::Arc;
use std::time::Duration;

use likeness_engine::{Call, CollectionName, PersonId};
use likeness_proto::v1::delete_persons_response::Outcome;
use likeness_proto::v1::{
    CopyPersonRequest, CopyPersonResponse, DeletePersonsRequest, DeletePersonsResponse, ExportPersonRequest,
    ExportPersonResponse, ListConsentsRequest, ListConsentsResponse, PersonErased, RenamePersonRequest,
    RenamePersonResponse, WithdrawConsentRequest, WithdrawConsentResponse,
};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;

use super::disclosed;
use super::persons::{on_person, page};
use crate::call::context::{Answered, CallContext};
use crate::call::kinds::Requests;
use crate::call::streams::{Answers, Kind};
use crate::call::work::Work;
use crate::config::CHANGES_MAX;
use crate::convert;
use crate::refusal::{Refusal, Refused};

/// Items of one stream in work at once: many enough for the group commit, and half of what the gate lets
/// through, so that everybody else's changes find a place beside a stream.
const ITEMS_MAX: usize = CHANGES_MAX / 2;

type Sender = mpsc::Sender<Result<DeletePersonsResponse, Refused>>;

/// An item takes a place when it is read and gives it back when its answer has been taken: a client that
/// takes no answers is read no further.
pub async fn delete_persons(
    mut call: CallContext,
    mut requests: Requests<DeletePersonsRequest>,
) -> Result<Answered<Answers<DeletePersonsResponse>>, Refused> {
    call.items_are_billed = true;
    let open = match call.resources.streams.open(call.account(), Kind::Other) {
        Ok(open) => open,
        Err(refusal) => return Err(call.refuse(refusal)),
    };
    let (answers, stream) = mpsc::channel(1);
    let (taken, last_word) = Answers::new(stream);
    let answered = Answered {
        request_id: call.request_id.clone(),
        reply: taken,
    };
    tokio::spawn(async move {
        let _open = open;
        let last = match delete_each(&mut call, &mut requests, &answers).await {
            Ended::Whole => call.finish(Ok(DeletePersonsResponse::default())).err(),
            Ended::Gone => None,
            Ended::Refused(refusal) => Some(call.refuse(refusal)),
        };
        if let Some(refused) = last {
            last_word.say(refused);
        }
        drop(answers);
    });
    Ok(answered)
}

/// How a stream of items ended.
enum Ended {
    Whole,
    /// The client takes no more replies.
    Gone,
    Refused(Refusal),
}

/// A stream lasts as long as it has to; its deadline is for the client's silence, and for each item.
async fn delete_each(
    call: &mut CallContext,
    requests: &mut Requests<DeletePersonsRequest>,
    answers: &Sender,
) -> Ended {
    let patience = call.patience();
    call.deadline = None;
    let stuck = Arc::new(Notify::new());
    let mut stopping = call.resources.stopping.subscribe();
    let (places, mut items) = (Arc::new(Semaphore::new(ITEMS_MAX)), JoinSet::new());
    let ended = loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            let message = tokio::time::timeout(patience, requests.next()).await;
            (place, message)
        };
        let (place, message) = tokio::select! {
            next = next => next,
            () = answers.closed() => break Ended::Gone,
            () = stuck.notified() => break Ended::Refused(Refusal::Late),
            _ = stopping.wait_for(|stopping| *stopping) => break Ended::Refused(Refusal::Stopping),
        };
        match message {
            Ok(Some(Ok(item))) => {
                if let Err(refusal) = call.caller.still() {
                    break Ended::Refused(refusal);
                }
                items.spawn(delete_item(
                    call.item(patience, &item),
                    item,
                    place.ok(),
                    Answering {
                        answers: answers.clone(),
                        patience,
                        stuck: Arc::clone(&stuck),
                    },
                ));
            }
            Ok(None) => break Ended::Whole,
            Ok(Some(Err(broken))) => break Ended::Refused(Refusal::BrokenStream(broken)),
            Err(_) => break Ended::Refused(Refusal::Late),
        }
        while items.try_join_next().is_some() {}
    };
    // What was begun is answered, whatever came after it.
    while items.join_next().await.is_some() {}
    ended
}

async fn delete_item(
    mut call: CallContext,
    item: DeletePersonsRequest,
    _place: Option<OwnedSemaphorePermit>,
    answering: Answering,
) {
    let outcome = match erase(&mut call, &item.collection, &item.person_id).await {
        Ok(erased) => {
            call.carried_out();
            Outcome::Erased(erased)
        }
        Err(refusal) => {
            call.refused(&refusal);
            call.log_operator_detail(&refusal);
            Outcome::Refused(refusal.item())
        }
    };
    let answer = DeletePersonsResponse {
        sequence: item.sequence,
        outcome: Some(outcome),
    };
    // The client may have gone; what was erased stays erased. One that takes no answers is as good as gone.
    let sent = tokio::time::timeout(answering.patience, answering.answers.send(Ok(answer)));
    if sent.await.is_err() {
        answering.stuck.notify_one();
    }
}

/// Where an item's answer goes, and how long the client may take for it.
struct Answering {
    answers: Sender,
    patience: Duration,
    stuck: Arc<Notify>,
}

async fn erase(call: &mut CallContext, collection: &str, person_id: &str) -> Result<PersonErased, Refusal> {
    let before = |work: &Work, collection: &CollectionName, id: &PersonId, call: &mut Call| {
        work.engine.erasure_before(&work.account, collection, id, call)
    };
    let erased = on_person(
        call,
        collection,
        person_id,
        before,
        |work, collection, id, call| Ok(work.engine.delete_person(collection, id, call)?),
    );
    Ok(convert::person_erased(erased.await?))
}

pub async fn copy(
    call: &mut CallContext,
    mut request: CopyPersonRequest,
) -> Result<CopyPersonResponse, Refusal> {
    call.once(&mut request)?;
    let (collection, id) = convert::names(&request.collection, &request.person_id)?;
    call.about(&collection, &id);
    let (target, new_id) = convert::target_names(&request.target_collection, &request.target_person_id, &id)?;
    let (target, person) = call
        .on_storage_pool(move |work, call| {
            work.sees(&collection)?;
            work.sees(&target)?;
            let before = work.engine.person_before(&work.account, &target, &new_id, call)?;
            if let Some(person) = before {
                return Ok((work.collection(&target)?, person));
            }
            let (collection, target) = (work.collection(&collection)?, work.collection(&target)?);
            let person = work
                .engine
                .copy_person((&collection, &id), (&target, &new_id), call)?;
            Ok((target, person))
        })
        .await?;
    call.scheme(&target);
    Ok(CopyPersonResponse {
        call: None,
        person: Some(disclosed::person(&call.caller, person)),
    })
}

pub async fn rename(
    call: &mut CallContext,
    mut request: RenamePersonRequest,
) -> Result<RenamePersonResponse, Refusal> {
    call.once(&mut request)?;
    let new = convert::new_person_id(&request.new_person_id)?;
    let kept = new.clone();
    let person = on_person(
        call,
        &request.collection,
        &request.person_id,
        move |work, collection, _, call| work.engine.person_before(&work.account, collection, &kept, call),
        move |work, collection, id, call| Ok(work.engine.rename_person(collection, id, &new, call)?),
    );
    let person = person.await?;
    Ok(RenamePersonResponse {
        call: None,
        person: Some(disclosed::person(&call.caller, person)),
    })
}

pub async fn export(
    call: &mut CallContext,
    request: ExportPersonRequest,
) -> Result<ExportPersonResponse, Refusal> {
    let id = PersonId::parse(&request.person_id)?;
    let exports = call
        .on_storage_pool(move |work, call| Ok(work.engine.export_person(&work.account, &id, call)?))
        .await?;
    Ok(ExportPersonResponse {
        call: None,
        persons: exports.into_iter().map(convert::person_export).collect(),
    })
}

pub async fn list_consents(
    call: &mut CallContext,
    request: ListConsentsRequest,
) -> Result<ListConsentsResponse, Refusal> {
    let page = page(call, &request.collection, request.page_size, request.cursor).await?;
    Ok(ListConsentsResponse {
        call: None,
        consents: page.items.into_iter().map(convert::person_consent).collect(),
        next_cursor: page.next.unwrap_or_default(),
        damaged_persons: convert::count(page.damaged),
    })
}

/// Whoever has no consent on record is erased too: whatever the record says, the person asks to be gone.
pub async fn withdraw_consent(
    call: &mut CallContext,
    mut request: WithdrawConsentRequest,
) -> Result<WithdrawConsentResponse, Refusal> {
    call.once(&mut request)?;
    let erased = erase(call, &request.collection, &request.person_id).await?;
    Ok(WithdrawConsentResponse {
        call: None,
        faces_erased: erased.faces_erased,
        receipt: erased.receipt,
    })
}
