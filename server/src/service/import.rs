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
use tonic::{Request, Response, Status, Streaming};

use super::streams::{Answers, Kind};
use super::{Ongoing, Service, digest, enroll, insert_id, outputs};
use crate::auth::Needs;
use crate::bodies::Reservation;
use crate::config::CHANGES_MAX;
use crate::convert;
use crate::status::Refusal;

/// Results that may wait for a slow client; then its items wait, and then its stream is not read.
const RESULTS_WAITING_MAX: usize = 64;
/// Items with photographs at work for each worker: one computes while the other waits for the disk.
const ITEMS_PER_WORKER: usize = 2;

/// For a place among the imports: one that was cut takes a moment to end what it had begun.
const PLACE_WAIT_MAX: Duration = Duration::from_secs(2);

type Results = mpsc::Sender<Result<ImportPersonsResponse, Status>>;

/// Why a stream ends before its client ends it.
enum Ended {
    Refused(Refusal),
    /// The transport says why.
    Broken(Status),
    /// Nobody is there any more.
    Gone,
}

impl<E: Into<Refusal>> From<E> for Ended {
    fn from(refusal: E) -> Self {
        Self::Refused(refusal.into())
    }
}

pub(super) async fn import_persons(
    service: &Service,
    request: Request<Streaming<ImportPersonsRequest>>,
) -> Result<Response<Answers<ImportPersonsResponse>>, Status> {
    let mut call = service.begin("ImportPersons", &request)?;
    call.items_are_billed = true;
    let streams = &service.0.streams;
    let open = streams.open_within(call.account(), Kind::Import, PLACE_WAIT_MAX);
    let open = match open.await {
        Ok(open) => open,
        Err(refusal) => return Err(call.refuse(refusal)),
    };
    let place = Arc::clone(&call.service.importing).acquire_owned();
    let Ok(Ok(place)) = tokio::time::timeout(PLACE_WAIT_MAX, place).await else {
        return Err(call.refuse(Refusal::Busy(PLACE_WAIT_MAX)));
    };
    let (results, stream) = mpsc::channel(RESULTS_WAITING_MAX);
    let (answers, last_word) = Answers::new(stream);
    let mut reply = Response::new(answers);
    insert_id(reply.metadata_mut(), &call.request_id);
    let mut incoming = request.into_inner();
    tokio::spawn(async move {
        let (_place, _open) = (place, open);
        let last = match run(&mut call, &mut incoming, &results).await {
            Ok(()) => call.finish(Ok(ImportPersonsResponse::default())).err(),
            Err(Ended::Refused(refusal)) => Some(call.refuse(refusal)),
            Err(Ended::Broken(status)) => {
                call.broke(&status);
                Some(status)
            }
            Err(Ended::Gone) => None,
        };
        if let Some(status) = last {
            last_word.say(status);
        }
        drop(results);
    });
    Ok(reply)
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
    call: &mut Ongoing,
    incoming: &mut Streaming<ImportPersonsRequest>,
    results: &Results,
) -> Result<(), Ended> {
    let patience = call.patience();
    call.deadline = None;
    let header = match next(call, incoming, results, patience).await? {
        Some(Part::Header(header)) => parse(call, header, patience).await?,
        other => return Err(convert::header_first(other.is_some()).into()),
    };
    let header = Arc::new(header);
    let room = Arc::new(Semaphore::new(CHANGES_MAX));
    let weight = CHANGES_MAX / (ITEMS_PER_WORKER * call.service.workers).clamp(1, CHANGES_MAX);
    let mut items = JoinSet::new();
    let ended = loop {
        let next = tokio::select! {
            next = next(call, incoming, results, patience) => next,
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
            .service
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
    call: &Ongoing,
    incoming: &mut Streaming<ImportPersonsRequest>,
    results: &Results,
    patience: Duration,
) -> Result<Option<Part>, Ended> {
    let mut stopping = call.service.stopping.subscribe();
    tokio::select! {
        message = tokio::time::timeout(patience, incoming.message()) => match message {
            Ok(Ok(Some(message))) => message.part.map(Some).ok_or_else(|| convert::empty_part().into()),
            Ok(Ok(None)) => Ok(None),
            Ok(Err(status)) => Err(Ended::Broken(status)),
            Err(_) => Err(Ended::Refused(Refusal::Late)),
        },
        () = results.closed() => Err(Ended::Gone),
        _ = stopping.wait_for(|stopping| *stopping) => Err(Ended::Refused(Refusal::Stopping)),
    }
}

async fn parse(call: &mut Ongoing, mut wire: ImportHeader, patience: Duration) -> Result<Header, Refusal> {
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
        .store(move |work, _| {
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
    mut call: Ongoing,
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

async fn import(call: &mut Ongoing, header: &Header, item: ImportItem) -> Result<PersonImported, Refusal> {
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
