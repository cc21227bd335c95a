//! A second door: calls made in the server's process take the way of those over the network, and are refused, logged and
//! counted like them.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use likeness_proto::credential::Credential;
use likeness_proto::v1;
use likeness_proto::v1::import_persons_request::Part;
use likeness_proto::v1::import_persons_response::Outcome;
use likeness_proto::v1::log_service_client::LogServiceClient;
use likeness_server::config::{LimitArgs, STREAMS_PER_ACCOUNT_MAX};
use likeness_server::credential;
use likeness_server::{Answered, Credentials, Front, Listeners, UnaryCall};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt as _;
use tonic::{Code, Status};

use crate::logs::lines;
use crate::support::client::{photograph, photographs};
use crate::support::pictures::sample;
use crate::support::server::Setup;
use crate::support::{Client, PATIENCE, Refused, refusal};

/// A server with two doors: gRPC, and the front itself.
struct TwoDoors {
    setup: Setup,
    front: Front,
    /// Of everything.
    key: String,
    url: String,
    metrics: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl TwoDoors {
    async fn start(limits: LimitArgs) -> Self {
        let mut setup = Setup::new();
        setup.config.limits = limits;
        let config = setup.config.clone();
        let (front, key) = tokio::task::spawn_blocking(move || {
            let (engine, _) = likeness_server::open(&config).expect("the engine opens");
            let key = credential::all_scopes(&engine.administration(), "test").expect("made");
            let front = Front::open(&config, Arc::clone(&engine)).expect("the logs open");
            (front, key.text().to_string())
        })
        .await
        .unwrap();
        let bind = || TcpListener::bind("127.0.0.1:0");
        let (calls, metrics) = (bind().await.unwrap(), bind().await.unwrap());
        let address = |listener: &TcpListener| listener.local_addr().unwrap();
        let (url, scraped) = (format!("http://{}", address(&calls)), address(&metrics));
        let listeners = Listeners {
            calls,
            metrics: Some(metrics),
            ready: Box::new(|| {}),
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let (config, serving) = (setup.config.clone(), front.clone());
        let serving = tokio::spawn(async move {
            let shutdown = async { drop(stopped.await) };
            let served = likeness_server::serve_front(&config, serving, listeners, shutdown).await;
            served.expect("it stops without an error");
        });
        Self {
            setup,
            front,
            key,
            url,
            metrics: scraped,
            stop,
            serving,
        }
    }

    async fn ask<C: UnaryCall>(&self, message: C) -> C::Reply {
        self.answered(message).await.reply
    }

    async fn answered<C: UnaryCall>(&self, message: C) -> Answered<C::Reply> {
        let answered = self.front.call(&Credentials::key(&self.key), message).await;
        answered.expect("answered")
    }

    async fn client(&self, key: &str) -> Client {
        let credential = Credential::parse(key).expect("a key");
        Client::connect(&self.url, credential).await
    }

    /// A collection with one person.
    async fn with_barack(self) -> Self {
        let create = v1::CreateCollectionRequest {
            name: "staff".to_owned(),
            ..Default::default()
        };
        self.ask(create).await;
        let enrolled = self.ask(enrol("barack", "obama.jpg")).await;
        assert_eq!(enrolled.person.map_or(0, |person| person.faces.len()), 1);
        self
    }

    /// A key with this scope: its text and its id.
    async fn key_for(&self, scope: v1::Scope) -> (String, String) {
        let create = v1::CreateApiKeyRequest {
            scopes: vec![scope.into()],
            ..Default::default()
        };
        let made = self.ask(create).await;
        (made.secret_text, made.api_key.expect("a key").key_id)
    }

    async fn scrape(&self) -> String {
        let address = self.metrics;
        let scraped = tokio::task::spawn_blocking(move || {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        });
        scraped.await.unwrap()
    }

    async fn stop(self) -> Setup {
        drop((self.front, self.stop));
        let stopped = tokio::time::timeout(PATIENCE, self.serving).await;
        stopped.expect("it stops").unwrap();
        self.setup
    }
}

fn enrol(who: &str, photo: &str) -> v1::EnrollPersonRequest {
    v1::EnrollPersonRequest {
        collection: "staff".to_owned(),
        person_id: who.to_owned(),
        photographs: photographs(&[&sample(photo)]),
        ..Default::default()
    }
}

fn search(photo: &str) -> v1::SearchPersonsRequest {
    v1::SearchPersonsRequest {
        collections: vec!["staff".to_owned()],
        photograph: Some(photograph(&sample(photo))),
        ..Default::default()
    }
}

fn verify(who: &str, photo: &str) -> v1::VerifyPersonRequest {
    v1::VerifyPersonRequest {
        collection: "staff".to_owned(),
        person_id: who.to_owned(),
        photograph: Some(photograph(&sample(photo))),
        ..Default::default()
    }
}

fn get(who: &str) -> v1::GetPersonRequest {
    v1::GetPersonRequest {
        collection: "staff".to_owned(),
        person_id: who.to_owned(),
    }
}

/// A refusal of the second door, in the words of the first.
fn refused<T>(answer: Result<Answered<T>, likeness_server::Refused>) -> Refused {
    let Err(refused) = answer else {
        panic!("it was not refused");
    };
    refusal::assert_request_id(&refused.request_id);
    let explanation = refused.explain();
    let code = (0..=16)
        .map(Code::from)
        .find(|code| format!("{code:?}") == format!("{:?}", explanation.code));
    Refused::new(code.expect("a code of gRPC"), explanation.reason)
}

/// The lines of a log that are of interest. The server's last task may end, and write them, a moment after it has stopped.
async fn logged(
    stopped: &Setup,
    class: &str,
    is_of_interest: impl Fn(&Value) -> bool,
    count: usize,
) -> Vec<Value> {
    let until = Instant::now() + PATIENCE;
    loop {
        let mut found = lines(&stopped.config.data, class);
        found.retain(&is_of_interest);
        if found.len() >= count || Instant::now() > until {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn grpc_get(client: &Client, who: &str) -> Result<(), Status> {
    let mut persons = client.persons.clone();
    persons.get_person(get(who)).await.map(|_| ())
}

async fn grpc_verify(client: &Client, photo: &str) -> Result<v1::VerifyPersonResponse, Status> {
    let mut matching = client.matching.clone();
    let verified = matching.verify_person(verify("barack", photo)).await;
    verified.map(tonic::Response::into_inner)
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_through_it_do_their_work_and_are_in_the_logs_and_the_metrics() {
    let doors = TwoDoors::start(LimitArgs::GENEROUS).await.with_barack().await;
    let found = doors.answered(search("obama2.jpg")).await;
    let matches: Vec<_> = found
        .reply
        .results
        .iter()
        .flat_map(|face| &face.matches)
        .collect();
    assert_eq!(matches[0].person_id, "barack");
    let info = found.reply.call.expect("a reply says something about its call");
    assert_eq!(info.request_id, found.request_id);
    let verified = doors.ask(verify("barack", "obama3.jpg")).await;
    assert!(verified.same_person);

    let client = doors.client(&doors.key).await;
    grpc_get(&client, "barack")
        .await
        .expect("the other door shows the same person");
    let listing = v1::ListRunningLogRequest {
        collection: "staff".to_owned(),
        person_id: "barack".to_owned(),
        page_size: 1000,
        cursor: String::new(),
    };
    let mut logs = LogServiceClient::new(client.channel.clone());
    let rows = logs
        .list_running_log(listing)
        .await
        .expect("listed")
        .into_inner()
        .rows;
    let rows: Vec<_> = rows
        .iter()
        .map(|row| (row.interface.as_str(), row.result.as_str()))
        .collect();
    for interface in ["EnrollPerson", "SearchPersons", "VerifyPerson", "GetPerson"] {
        assert!(rows.contains(&(interface, "OK")), "{interface}: {rows:?}");
    }

    let delete = v1::DeletePersonRequest {
        collection: "staff".to_owned(),
        person_id: "barack".to_owned(),
        ..Default::default()
    };
    assert_eq!(doors.ask(delete).await.faces_erased, 1);
    let gone = refusal::of(grpc_get(&client, "barack").await);
    let credentials = Credentials::key(&doors.key);
    assert_eq!(gone, Refused::new(Code::NotFound, "PERSON_NOT_FOUND"));
    assert_eq!(refused(doors.front.call(&credentials, get("barack")).await), gone);

    let metrics = doors.scrape().await;
    for series in [
        "likeness_calls_total{interface=\"EnrollPerson\",code=\"OK\"} 1",
        "likeness_calls_total{interface=\"SearchPersons\",code=\"OK\"} 1",
        "likeness_calls_total{interface=\"VerifyPerson\",code=\"OK\"} 1",
        "likeness_calls_total{interface=\"DeletePerson\",code=\"OK\"} 1",
        "likeness_calls_total{interface=\"GetPerson\",code=\"NOT_FOUND\"} 2",
        "likeness_refused_calls_total{reason=\"PERSON_NOT_FOUND\"} 2",
        "likeness_open_calls 0",
    ] {
        assert!(metrics.lines().any(|line| line == series), "{series}: {metrics}");
    }
    drop((client, logs));
    let stopped = doors.stop().await;
    let of_enrolment = |line: &Value| line["interface"] == "EnrollPerson";
    let enrolled = logged(&stopped, "operation", of_enrolment, 1).await.pop();
    let enrolled = enrolled.expect("the operation log has the call");
    assert_eq!(enrolled["request"]["photographs"], 1);
    assert_eq!(enrolled["response"]["faces"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_through_it_is_refused_for_its_key_as_over_grpc() {
    let doors = TwoDoors::start(LimitArgs::GENEROUS).await.with_barack().await;
    let (reader, _) = doors.key_for(v1::Scope::Read).await;
    let (revoked, key_id) = doors.key_for(v1::Scope::Read).await;
    let revoke = v1::RevokeApiKeyRequest {
        account: String::new(),
        key_id,
    };
    doors.ask(revoke).await;

    let unkeyed = Client::connect(&doors.url, Credential::default()).await;
    let over_grpc = refusal::of(grpc_get(&unkeyed, "barack").await);
    assert_eq!(over_grpc, Refused::new(Code::Unauthenticated, "KEY_REQUIRED"));
    let here = doors.front.call(&Credentials::default(), get("barack")).await;
    assert_eq!(refused(here), over_grpc);

    let over_grpc = refusal::of(grpc_get(&doors.client(&revoked).await, "barack").await);
    assert_eq!(over_grpc, Refused::new(Code::Unauthenticated, "KEY_NOT_VALID"));
    for wrong in [&*revoked, "likeness_", "nonsense"] {
        let here = doors.front.call(&Credentials::key(wrong), get("barack")).await;
        assert_eq!(refused(here), over_grpc, "{wrong}");
    }

    let client = doors.client(&reader).await;
    grpc_get(&client, "barack").await.expect("it may read");
    let over_grpc = refusal::of(grpc_verify(&client, "obama2.jpg").await);
    assert_eq!(over_grpc, Refused::new(Code::PermissionDenied, "SCOPE_MISSING"));
    let credentials = Credentials::key(&reader);
    let here = doors
        .front
        .call(&credentials, verify("barack", "obama2.jpg"))
        .await;
    assert_eq!(refused(here), over_grpc);

    let metrics = doors.scrape().await;
    for series in [
        "likeness_turned_away_calls_total{reason=\"KEY_REQUIRED\"} 2",
        "likeness_turned_away_calls_total{reason=\"KEY_NOT_VALID\"} 4",
        "likeness_refused_calls_total{reason=\"SCOPE_MISSING\"} 2",
    ] {
        assert!(metrics.lines().any(|line| line == series), "{series}: {metrics}");
    }
    drop((client, unkeyed));
    let stopped = doors.stop().await;
    let rejected = logged(&stopped, "error", |line| line["reason"] == "KEY_REQUIRED", 2).await;
    let rejected = rejected
        .iter()
        .map(|line| (line["upstream"].as_str(), line["calls"].as_u64()));
    assert_eq!(
        rejected.collect::<Vec<_>>(),
        [(Some("loopback"), Some(1)), (Some("unknown"), Some(1))]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn both_doors_share_one_limit_of_calls_of_searches_and_of_comparisons() {
    let limits = LimitArgs {
        searches_per_day: 1,
        refused_in_a_row: 2,
        ..LimitArgs::GENEROUS
    };
    let doors = TwoDoors::start(limits).await.with_barack().await;
    let (client, credentials) = (doors.client(&doors.key).await, Credentials::key(&doors.key));

    doors.ask(search("obama2.jpg")).await;
    let mut matching = client.matching.clone();
    let over_grpc = refusal::of(matching.search_persons(search("obama2.jpg")).await);
    assert_eq!(over_grpc, Refused::new(Code::ResourceExhausted, "TOO_MANY_CALLS"));
    let here = doors.front.call(&credentials, search("obama2.jpg")).await;
    let explained = here.as_ref().err().map(likeness_server::Refused::explain);
    assert!(explained.is_some_and(|told| told.retry_after.is_some()));
    assert_eq!(refused(here), over_grpc);

    let here = doors.ask(verify("barack", "biden.jpg")).await;
    assert!(!here.same_person);
    let over_grpc = grpc_verify(&client, "biden.jpg").await;
    assert!(!over_grpc.expect("compared").same_person);
    let over_grpc = refusal::of(grpc_verify(&client, "biden.jpg").await);
    assert_eq!(
        over_grpc,
        Refused::new(Code::ResourceExhausted, "COMPARISONS_LIMITED")
    );
    let here = doors
        .front
        .call(&credentials, verify("barack", "biden.jpg"))
        .await;
    assert_eq!(refused(here), over_grpc);
    drop((client, matching));
    doors.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_through_it_takes_a_place_and_memory_as_one_over_grpc_does() {
    let limits = LimitArgs {
        message_memory_mb: 1,
        message_memory_account_mb: 1,
        ..LimitArgs::GENEROUS
    };
    let doors = TwoDoors::start(limits).await;
    let credentials = Credentials::key(&doors.key);
    let detect = |bytes: usize| v1::DetectFacesRequest {
        photograph: Some(photograph(&vec![0; bytes])),
        ..Default::default()
    };
    let here = doors.front.call(&credentials, detect(2 << 20)).await;
    assert_eq!(
        refused(here),
        Refused::new(Code::ResourceExhausted, "MEMORY_BUSY")
    );
    let longer = likeness_server::config::MESSAGE_BYTES_MAX + 1;
    let here = doors.front.call(&credentials, detect(longer)).await;
    assert_eq!(refused(here), Refused::new(Code::OutOfRange, "MESSAGE_TOO_LONG"));
    let here = doors.front.call(&credentials, detect(100)).await;
    assert_eq!(
        refused(here),
        Refused::new(Code::InvalidArgument, "UNSUPPORTED_FORMAT")
    );
    doors.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_through_it_answer_each_request_and_have_the_limits_of_streams() {
    let doors = TwoDoors::start(LimitArgs::GENEROUS).await.with_barack().await;
    let credentials = Credentials::key(&doors.key);
    let header = v1::ImportHeader {
        collection: "staff".to_owned(),
        import_token: "import-0123456789".to_owned(),
        ..Default::default()
    };
    let item = |sequence, photo| v1::ImportItem {
        sequence,
        person_id: format!("p{sequence}"),
        photographs: photographs(&[photo]),
        ..Default::default()
    };
    let (face, nothing) = (sample("biden.jpg"), b"no photograph");
    let parts = [
        Part::Header(header),
        Part::Item(item(1, &face[..])),
        Part::Item(item(2, &nothing[..])),
    ];
    let requests = parts.map(|part| v1::ImportPersonsRequest { part: Some(part) });
    let imported = doors
        .front
        .call_with_stream(&credentials, tokio_stream::iter(requests))
        .await;
    let mut replies = imported.expect("begun").reply;
    let mut outcomes = BTreeMap::new();
    while let Some(reply) = replies.next().await {
        let reply = reply.expect("it goes on");
        let outcome = match reply.outcome.expect("an outcome") {
            Outcome::Imported(_) => "imported".to_owned(),
            Outcome::Refused(refused) => refused.reason,
        };
        outcomes.insert(reply.sequence, outcome);
    }
    let expected = [(1, "imported"), (2, "UNSUPPORTED_FORMAT")];
    let expected = expected.map(|(sequence, outcome)| (sequence, outcome.to_owned()));
    assert_eq!(outcomes, BTreeMap::from(expected));
    grpc_get(&doors.client(&doors.key).await, "p1")
        .await
        .expect("enrolled");

    let export = || v1::ExportRunningLogRequest {
        collection: "staff".to_owned(),
    };
    let mut streams = Vec::new();
    for _ in 0..STREAMS_PER_ACCOUNT_MAX {
        let begun = doors.front.call_for_stream(&credentials, export()).await;
        streams.push(begun.expect("begun").reply);
    }
    let mut logs = LogServiceClient::new(doors.client(&doors.key).await.channel);
    let over_grpc = refusal::of(logs.export_running_log(export()).await);
    assert_eq!(over_grpc, Refused::new(Code::ResourceExhausted, "BUSY"));
    let here = doors.front.call_for_stream(&credentials, export()).await;
    assert_eq!(refused(here), over_grpc);
    let mut rows = 0;
    let first = &mut streams[0];
    while let Some(part) = first.next().await {
        rows += part.expect("it goes on").rows.len();
    }
    assert!(rows >= 2, "two enrolments, and a look at a person: {rows}");
    drop(streams);

    let too_long = likeness_server::config::MESSAGE_BYTES_MAX + 1;
    let delete = v1::DeletePersonsRequest {
        collection: "staff".to_owned(),
        person_id: "x".repeat(too_long),
        ..Default::default()
    };
    let requests = tokio_stream::iter([delete]);
    let begun = doors.front.call_with_stream(&credentials, requests).await;
    let mut replies = begun.expect("begun").reply;
    let last = replies.next().await.expect("how it ended");
    let Err(last) = last else {
        panic!("it was not refused");
    };
    assert_eq!(last.explain().code, likeness_server::Code::OutOfRange);
    drop((replies, logs));
    let metrics = doors.scrape().await;
    for series in [
        "likeness_calls_total{interface=\"ImportPersons\",code=\"INVALID_ARGUMENT\"} 1",
        "likeness_refused_calls_total{reason=\"BROKEN_STREAM\"} 1",
    ] {
        assert!(metrics.lines().any(|line| line == series), "{series}: {metrics}");
    }
    doors.stop().await;
}
