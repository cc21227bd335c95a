//! Many people enrolled over one stream: items are worked on side by side, and each is answered when it is
//! durable. What has no answer when the stream breaks is sent again, and is not enrolled twice.

use std::sync::Arc;
use std::time::Duration;

use likeness_engine::{CollectionName, Once, Scope, Token};
use likeness_proto::Message as _;
use likeness_proto::v1::import_persons_request::Part;
use likeness_proto::v1::import_persons_response::Outcome;
use likeness_proto::v1::{
    EnrollPersonRequest, ImportHeader, ImportItem, ImportPersonsRequest, ImportPersonsResponse,
    PersonImported,
};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;

use super::enroll;
use crate::call::caller::Needs;
use crate::call::context::{Answered, CallContext, digest};
use crate::call::kinds::Requests;
use crate::call::message_memory::Reservation;
use crate::call::outputs;
use crate::call::streams::{Answers, Kind};
use crate::config::CHANGES_MAX;
use crate::convert;
use crate::refusal::{Refusal, Refused};

/// Results that may wait for a slow client; then its items wait, and then its stream is not read.
const RESULTS_WAITING_MAX: usize = 64;
/// Items with photographs at work for each worker: one computes while the other waits for the disk.
const ITEMS_PER_WORKER: usize = 2;

/// For a place among the imports: one that was cut takes a moment to end what it had begun.
const PLACE_WAIT_MAX: Duration = Duration::from_secs(2);

type Results = mpsc::Sender<Result<ImportPersonsResponse, Refused>>;

/// Why a stream ends before its client ends it.
enum Ended {
    Refused(Refusal),
    /// The client takes no more replies.
    Gone,
}

impl<E: Into<Refusal>> From<E> for Ended {
    fn from(refusal: E) -> Self {
        Self::Refused(refusal.into())
    }
}

pub async fn import_persons(
    mut call: CallContext,
    mut requests: Requests<ImportPersonsRequest>,
) -> Result<Answered<Answers<ImportPersonsResponse>>, Refused> {
    call.items_are_billed = true;
    let streams = &call.resources.streams;
    let open = streams.open_within(call.account(), Kind::Import, PLACE_WAIT_MAX);
    let open = match open.await {
        Ok(open) => open,
        Err(refusal) => return Err(call.refuse(refusal)),
    };
    let place = Arc::clone(&call.resources.importing).acquire_owned();
    let Ok(Ok(place)) = tokio::time::timeout(PLACE_WAIT_MAX, place).await else {
        return Err(call.refuse(Refusal::Busy(PLACE_WAIT_MAX)));
    };
    let (results, stream) = mpsc::channel(RESULTS_WAITING_MAX);
    let (answers, last_word) = Answers::new(stream);
    let answered = Answered {
        request_id: call.request_id.clone(),
        reply: answers,
    };
    tokio::spawn(async move {
        let (_place, _open) = (place, open);
        let last = match run(&mut call, &mut requests, &results).await {
            Ok(()) => call.finish(Ok(ImportPersonsResponse::default())).err(),
            Err(Ended::Refused(refusal)) => Some(call.refuse(refusal)),
            Err(Ended::Gone) => None,
        };
        if let Some(refused) = last {
            last_word.say(refused);
        }
        drop(results);
    });
    Ok(answered)
}

/// What holds for every item.
struct Header {
    wire: ImportHeader,
    token: Token,
    /// Of everything that the header says, the token apart.
    digest: [u8; 32],
    /// How long the client may be silent, one item may take, and a result may wait for the client.
    patience: Duration,
    /// The client takes no results.
    stuck: Notify,
}

async fn run(
    call: &mut CallContext,
    requests: &mut Requests<ImportPersonsRequest>,
    results: &Results,
) -> Result<(), Ended> {
    let patience = call.patience();
    call.deadline = None;
    let header = match next(call, requests, results, patience).await? {
        Some(Part::Header(header)) => parse(call, header, patience).await?,
        other => return Err(convert::header_first(other.is_some()).into()),
    };
    let header = Arc::new(header);
    let room = Arc::new(Semaphore::new(CHANGES_MAX));
    let weight = CHANGES_MAX / (ITEMS_PER_WORKER * call.resources.workers).clamp(1, CHANGES_MAX);
    let mut items = JoinSet::new();
    let ended = loop {
        let next = tokio::select! {
            next = next(call, requests, results, patience) => next,
            () = header.stuck.notified() => Err(Ended::Refused(Refusal::Late)),
        };
        let item = match next {
            Ok(Some(Part::Item(item))) => match call.caller.still() {
                Ok(()) => item,
                Err(refusal) => break Err(refusal.into()),
            },
            Ok(Some(Part::Header(_))) => break Err(convert::one_header().into()),
            Ok(None) => break Ok(()),
            Err(ended) => break Err(ended),
        };
        // The transport has let go of the item's memory by now: what it was decoded to is the item's own.
        let bytes = item.encoded_len();
        let memory = call
            .resources
            .messages
            .reserve_within(call.account(), bytes, patience);
        let memory = tokio::select! {
            memory = memory => memory,
            () = header.stuck.notified() => break Err(Ended::Refused(Refusal::Late)),
        };
        let Some(memory) = memory else {
            break Err(Refusal::MemoryBusy(patience.min(PLACE_WAIT_MAX)).into());
        };
        let weight = if item.embeddings.is_empty() { weight } else { 1 };
        let weight = u32::try_from(weight).expect("at most the number of changes");
        // Until there is room, the stream is not read: the transport then holds its client back.
        let permit = tokio::select! {
            permit = Arc::clone(&room).acquire_many_owned(weight) => permit,
            () = header.stuck.notified() => break Err(Ended::Refused(Refusal::Late)),
        };
        let Ok(permit) = permit else {
            break Err(Ended::Gone);
        };
        items.spawn(work_on(
            call.item(patience, &item),
            Arc::clone(&header),
            item,
            (permit, memory),
            results.clone(),
        ));
        while items.try_join_next().is_some() {}
    };
    if matches!(ended, Err(Ended::Gone)) {
        call.cancel.cancel();
    }
    // What was begun is answered, whatever came after it.
    while items.join_next().await.is_some() {}
    ended
}

/// The next message; none at the end of the stream.
async fn next(
    call: &CallContext,
    requests: &mut Requests<ImportPersonsRequest>,
    results: &Results,
    patience: Duration,
) -> Result<Option<Part>, Ended> {
    let mut stopping = call.resources.stopping.subscribe();
    tokio::select! {
        message = tokio::time::timeout(patience, requests.next()) => match message {
            Ok(Some(Ok(message))) => message.part.map(Some).ok_or_else(|| convert::empty_part().into()),
            Ok(None) => Ok(None),
            Ok(Some(Err(broken))) => Err(Ended::Refused(Refusal::BrokenStream(broken))),
            Err(_) => Err(Ended::Refused(Refusal::Late)),
        },
        () = results.closed() => Err(Ended::Gone),
        _ = stopping.wait_for(|stopping| *stopping) => Err(Ended::Refused(Refusal::Stopping)),
    }
}

async fn parse(
    call: &mut CallContext,
    mut wire: ImportHeader,
    patience: Duration,
) -> Result<Header, Refusal> {
    let token = Token::parse("import_token", &std::mem::take(&mut wire.import_token))?;
    let collection = CollectionName::parse(&wire.collection)?;
    convert::face_choice(wire.face_choice)?;
    convert::quality_level(wire.quality_level)?;
    convert::import_checks(wire.checks.as_ref())?;
    if convert::brings_features(&wire) {
        call.caller.may(Needs::Of(Scope::Import))?;
    }
    let (model, dim) = (wire.embedding_model.clone(), wire.embedding_dim);
    let collection = call
        .on_storage_pool(move |work, _| {
            convert::own_embedder(&model, dim, &work.engine)?;
            Ok(work.collection(&collection)?)
        })
        .await?;
    call.scheme(&collection);
    Ok(Header {
        digest: digest(&wire),
        wire,
        token,
        patience,
        stuck: Notify::new(),
    })
}

async fn work_on(
    mut call: CallContext,
    header: Arc<Header>,
    item: ImportItem,
    room: (OwnedSemaphorePermit, Reservation),
    results: Results,
) {
    let sequence = item.sequence;
    let outcome = match import(&mut call, &header, item).await {
        Ok(imported) => {
            call.output = outputs::imported(&imported);
            call.carried_out();
            Outcome::Imported(imported)
        }
        Err(refusal) => {
            call.refused(&refusal);
            call.log_operator_detail(&refusal);
            Outcome::Refused(refusal.item())
        }
    };
    drop(call);
    let result = ImportPersonsResponse {
        sequence,
        outcome: Some(outcome),
    };
    // A client that takes no results is as good as gone; what is durable it can ask for again.
    if tokio::time::timeout(header.patience, results.send(Ok(result)))
        .await
        .is_err()
    {
        header.stuck.notify_one();
    }
    drop(room);
}

async fn import(
    call: &mut CallContext,
    header: &Header,
    item: ImportItem,
) -> Result<PersonImported, Refusal> {
    let payload = blake3::Hasher::new()
        .update(&header.digest)
        .update(&digest(&item))
        .finalize();
    call.call.once(Once::new(
        call.caller.account.clone(),
        "ImportPersons",
        header.token.of_item(item.sequence),
        *payload.as_bytes(),
    ));
    let request = EnrollPersonRequest {
        collection: header.wire.collection.clone(),
        person_id: item.person_id,
        photographs: item.photographs,
        face_choice: header.wire.face_choice,
        name: item.name,
        tags: item.tags,
        consent: item.consent,
        quality_level: header.wire.quality_level,
        checks: header.wire.checks,
        expires: item.expires,
        ..Default::default()
    };
    let reply = if item.embeddings.is_empty() {
        enroll::enroll(call, request).await?
    } else {
        let features = convert::features(item.embeddings, &request.photographs, header.wire.embedding_dim)?;
        enroll::enroll_features(call, request, features).await?
    };
    Ok(PersonImported {
        faces: convert::count(reply.person.map_or(0, |person| person.faces.len())),
        replayed: call.call.is_replayed(),
        outcomes: reply.outcomes,
    })
}
