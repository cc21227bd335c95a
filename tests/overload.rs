//! More calls than a server can carry, and clients that stand still: what is accepted stays fast, and what stands
//! still is let go of.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use likeness_engine::{Account, AccountSettings, NewApiKey, Quotas, Scope};
use likeness_proto::v1;
use likeness_proto::v1::matching_service_client::MatchingServiceClient;
use likeness_proto::v1::person_service_client::PersonServiceClient;
use likeness_server::config::LimitArgs;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::http;
use tonic::transport::Endpoint;
use tonic::{Code, Request};
use tonic_types::StatusExt;

use crate::support::client::photograph;
use crate::support::pictures::{astronaut_small, tiny};
use crate::support::server::Setup;
use crate::support::{PATIENCE, Refused, Server, refusal};

fn setup(limits: LimitArgs) -> Setup {
    let mut setup = Setup::new();
    (setup.config.limits, setup.config.workers) = (limits, Some(1));
    setup
}

fn address(server: &Server) -> String {
    server.url().trim_start_matches("http://").to_owned()
}

/// Reads until the server closes the connection; answers how long that took.
fn until_closed(mut connection: TcpStream, mut meanwhile: impl FnMut(&mut TcpStream)) -> Duration {
    let (began, mut bytes) = (Instant::now(), [0; 4096]);
    connection
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    loop {
        match connection.read(&mut bytes) {
            Ok(0) => return began.elapsed(),
            Ok(_) => {}
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {}
            Err(_) => return began.elapsed(),
        }
        assert!(began.elapsed() < PATIENCE, "it stays open");
        meanwhile(&mut connection);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn under_ten_times_the_load_whoever_is_accepted_is_answered_soon_and_the_others_at_once() {
    const QUEUE_MILLIS: u64 = 300;
    let server = setup(LimitArgs {
        queue_millis: QUEUE_MILLIS,
        ..LimitArgs::GENEROUS
    })
    .start()
    .await;
    let photo = Arc::new(tiny());
    let alone = server.client().await;
    let began = Instant::now();
    for _ in 0..20 {
        alone.detect(&photo).await.expect("detected");
    }
    let each = began.elapsed() / 20;
    // As many clients as call ten times as often as one worker answers, if a refused one waits as told at least.
    let over = Arc::new(AtomicBool::new(false));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (client, photo, over) = (server.client().await, Arc::clone(&photo), Arc::clone(&over));
        clients.spawn(async move {
            let (mut accepted, mut refused) = (Vec::new(), Vec::new());
            while !over.load(Ordering::Relaxed) {
                let began = Instant::now();
                match client.detect(&photo).await {
                    Ok(_) => accepted.push(began.elapsed()),
                    Err(status) => {
                        assert_eq!(
                            refusal::read(&status),
                            Refused::new(Code::ResourceExhausted, "BUSY")
                        );
                        let details = status.get_error_details();
                        let wait = details.retry_info().expect("a RetryInfo").retry_delay;
                        assert!(wait.is_some_and(|wait| wait >= Duration::from_millis(100)));
                        refused.push(began.elapsed());
                        tokio::time::sleep(each).await;
                    }
                }
            }
            (accepted, refused)
        });
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    over.store(true, Ordering::Relaxed);
    let (accepted, refused): (Vec<_>, Vec<_>) = clients.join_all().await.into_iter().unzip();
    let (mut accepted, mut refused) = (accepted.concat(), refused.concat());
    accepted.sort();
    refused.sort();
    let p99 = |sorted: &[Duration]| sorted[(sorted.len() - 1) * 99 / 100];
    let figures = format!(
        "alone {each:?}; {} accepted, p50 {:?}, p99 {:?}; {} refused, p99 {:?}",
        accepted.len(),
        accepted[accepted.len() / 2],
        p99(&accepted),
        refused.len(),
        p99(&refused),
    );
    println!("{figures}");
    assert!(refused.len() > accepted.len(), "{figures}");
    // What clients and server share of the machine is waited for, too.
    assert!(
        p99(&accepted) < Duration::from_millis(4 * QUEUE_MILLIS),
        "{figures}"
    );
    let most = Duration::from_secs(4).as_secs_f64() / each.as_secs_f64();
    assert!(
        accepted.len() as f64 > most / 8.0,
        "the worker stays at work: {figures}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_does_not_begin_is_closed() {
    let server = setup(LimitArgs {
        stall_seconds: 1,
        ..LimitArgs::GENEROUS
    })
    .start()
    .await;
    let (silent, slow) = (address(&server), address(&server));
    let silent =
        tokio::task::spawn_blocking(move || until_closed(TcpStream::connect(silent).unwrap(), |_| {}));
    let slow = tokio::task::spawn_blocking(move || {
        let mut preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".chunks(1);
        until_closed(TcpStream::connect(slow).unwrap(), |connection| {
            // One byte at a time, and at every fourth look only.
            std::thread::sleep(Duration::from_millis(150));
            // The server may have closed it.
            let _ = connection.write(preface.next().unwrap_or_default());
        })
    });
    for took in [silent.await.unwrap(), slow.await.unwrap()] {
        assert!(
            took > Duration::from_millis(800) && took < Duration::from_secs(10),
            "{took:?}"
        );
    }
    server
        .client()
        .await
        .detect(&tiny())
        .await
        .expect("the others are served");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_connections_than_may_be_are_closed_at_once_and_a_place_comes_free() {
    let server = setup(LimitArgs {
        connections: 2,
        ..LimitArgs::GENEROUS
    })
    .start()
    .await;
    let (first, second) = (server.client().await, server.client().await);
    first.detect(&tiny()).await.expect("detected");
    second.detect(&tiny()).await.expect("detected");
    let third = address(&server);
    let took = tokio::task::spawn_blocking(move || until_closed(TcpStream::connect(third).unwrap(), |_| {}));
    assert!(took.await.unwrap() < Duration::from_secs(5));
    drop(second);
    let until = Instant::now() + PATIENCE;
    while !stays_open(address(&server)).await {
        assert!(Instant::now() < until, "no place comes free");
    }
}

/// Whether a new connection is still there after a moment.
async fn stays_open(address: String) -> bool {
    let look = move || {
        let mut connection = TcpStream::connect(address).unwrap();
        connection
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        // A server that keeps it may speak first.
        match connection.read(&mut [0]) {
            Ok(bytes) => bytes > 0,
            Err(error) => [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()),
        }
    };
    tokio::task::spawn_blocking(look).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_never_arrives_whole_is_given_up_with_its_place() {
    let mut setup = setup(LimitArgs {
        calls: 1,
        ..LimitArgs::GENEROUS
    });
    setup.config.call_seconds = 4;
    let server = setup.start().await;
    let stream = tokio::net::TcpStream::connect(address(&server)).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let key = NewApiKey {
        scopes: [Scope::Search].into_iter().collect(),
        ..NewApiKey::default()
    };
    let key = server.key("default", key).await;
    let other = server.client().await;
    let until = Instant::now() + PATIENCE;
    let (began, response, _sending, busy) = loop {
        let request = http::Request::post(format!(
            "{}/likeness.v1.MatchingService/DetectFaces",
            server.url()
        ))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {}", *key.text()))
        .body(())
        .unwrap();
        let began = Instant::now();
        let mut ready = client.clone().ready().await.unwrap();
        let (response, mut sending) = ready.send_request(request, false).unwrap();
        // The beginning of a message of 1,000 bytes.
        let begun = [&[0u8, 0, 0, 3, 232][..], &[0; 100]].concat();
        sending.send_data(begun.into(), false).unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        match other.detect(&tiny()).await {
            Err(status) => break (began, response, sending, refusal::read(&status)),
            // It has not come yet, or found the only place taken by this one.
            Ok(_) => assert!(Instant::now() < until, "the call was never counted"),
        }
        sending.send_reset(h2::Reason::CANCEL);
    };
    assert_eq!(busy, Refused::new(Code::ResourceExhausted, "BUSY"));
    let mut health = tonic_health::pb::health_client::HealthClient::new(other.channel.clone());
    let alive = health
        .check(tonic_health::pb::HealthCheckRequest::default())
        .await;
    alive.expect("health is told all the same");
    let response = tokio::time::timeout(PATIENCE, response)
        .await
        .expect("given up")
        .unwrap();
    assert!(response.headers().contains_key("grpc-status"), "{response:?}");
    let took = began.elapsed();
    assert!(
        took > Duration::from_secs(3) && took < Duration::from_secs(20),
        "{took:?}"
    );
    other.detect(&tiny()).await.expect("the place is free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_nobody_takes_keeps_its_place_no_longer_than_a_call_may_take() {
    let mut setup = setup(LimitArgs {
        calls: 1,
        ..LimitArgs::GENEROUS
    });
    setup.config.call_seconds = 2;
    let server = setup.start().await;
    let other = server.client().await;
    let mut unread = MatchingServiceClient::new(server.unread().await);
    let request = v1::DetectFacesRequest {
        photograph: Some(photograph(&tiny())),
        ..Default::default()
    };
    // Again as long as it finds the place taken; once it has it, it is never told the end.
    let untaken = tokio::spawn(async move { while unread.detect_faces(request.clone()).await.is_err() {} });
    let until = Instant::now() + PATIENCE;
    let busy = loop {
        match other.detect(&tiny()).await {
            Err(status) => break refusal::read(&status),
            Ok(_) => assert!(Instant::now() < until, "the call was never counted"),
        }
    };
    assert_eq!(busy, Refused::new(Code::ResourceExhausted, "BUSY"));
    let began = Instant::now();
    while other.detect(&tiny()).await.is_err() {
        assert!(Instant::now() < until, "the place is never given back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(began.elapsed() > Duration::from_secs(1), "{:?}", began.elapsed());
    untaken.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_answers_nobody_takes_ends_and_says_so() {
    let mut setup = setup(LimitArgs::GENEROUS);
    setup.config.call_seconds = 1;
    let server = setup.start().await;
    let client = server.client().await;
    client.create("staff").await;
    // Of so many answers that the client's library takes no offence at their number.
    let channel = Endpoint::from_shared(server.url())
        .unwrap()
        .initial_stream_window_size(8 << 10);
    let channel = server.credential().on(channel.connect().await.unwrap());
    let mut persons = PersonServiceClient::new(channel);
    let (items, sent) = mpsc::channel(1);
    let mut request = Request::new(ReceiverStream::new(sent));
    request.set_timeout(PATIENCE);
    let mut answers = persons.delete_persons(request).await.expect("begun").into_inner();
    let mut count = 0u64;
    let item = |sequence| v1::DeletePersonsRequest {
        sequence,
        collection: "staff".to_owned(),
        person_id: "nobody".to_owned(),
    };
    // Until the answers that nobody takes hold the stream up.
    while tokio::time::timeout(Duration::from_secs(3), items.send(item(count)))
        .await
        .is_ok_and(|sent| sent.is_ok())
    {
        count += 1;
    }
    assert!(count > 100, "{count} items");
    let mut answered = 0;
    let end = loop {
        match tokio::time::timeout(PATIENCE, answers.message())
            .await
            .expect("it ends")
        {
            Ok(Some(_)) => answered += 1,
            Ok(None) => panic!("it ends as if it were whole, after {answered} of {count}"),
            Err(status) => break status,
        }
    };
    assert_eq!(end.code(), Code::DeadlineExceeded, "{end:?}");
    assert!(answered < count, "{answered} of {count}");
    client
        .detect(&astronaut_small())
        .await
        .expect("the others are served");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_nothing_more_is_told_so() {
    let mut setup = setup(LimitArgs::GENEROUS);
    setup.config.call_seconds = 1;
    let server = setup.start().await;
    let client = server.client().await;
    let (_silent, sent) = mpsc::channel::<v1::ImportPersonsRequest>(1);
    let began = Instant::now();
    let answers = client
        .persons
        .clone()
        .import_persons(ReceiverStream::new(sent))
        .await;
    let end = match answers {
        Ok(answers) => answers.into_inner().message().await.err(),
        Err(status) => Some(status),
    };
    assert_eq!(end.expect("it ends").code(), Code::DeadlineExceeded);
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_calls_too_often_is_told_when_to_come_back_and_nobody_else_is() {
    let server = setup(LimitArgs {
        calls_per_second: 4,
        ..LimitArgs::GENEROUS
    })
    .start()
    .await;
    let photo = Arc::new(tiny());
    let hasty = server.client_for("hasty", &[Scope::Search]).await;
    let quiet = server.client_for("quiet", &[Scope::Search]).await;
    let answers = at_once(&hasty, &photo, 16).await;
    let refused: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
    assert!(!refused.is_empty() && refused.len() <= 12, "{}", refused.len());
    for status in &refused {
        let too_many = Refused::new(Code::ResourceExhausted, "TOO_MANY_CALLS");
        assert_eq!(refusal::read(status), too_many);
        let details = status.get_error_details();
        let wait = details
            .retry_info()
            .expect("a RetryInfo")
            .retry_delay
            .expect("a time");
        assert!(!wait.is_zero() && wait <= Duration::from_millis(250), "{wait:?}");
    }
    quiet
        .detect(&photo)
        .await
        .expect("another account has its own rate");
    // Another key of the account has a rate of its own, and no more than the account.
    let settings = AccountSettings {
        quotas: Quotas {
            calls_per_second: 1,
            ..Quotas::default()
        },
        ..AccountSettings::default()
    };
    let (engine, account) = (Arc::clone(&server.engine), Account::parse("hasty").unwrap());
    let updating = move || {
        engine
            .administration()
            .update_account(&account, move |_| settings)
            .map(|_| ())
    };
    tokio::task::spawn_blocking(updating)
        .await
        .unwrap()
        .expect("updated");
    let another = server.client_for("hasty", &[Scope::Search]).await;
    let answers = at_once(&another, &photo, 4).await;
    assert!(answers.iter().any(Result::is_err), "one a second of four at once");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    another.detect(&photo).await.expect("a second later");
}

/// As many calls at once.
async fn at_once(
    client: &crate::support::Client,
    photo: &Arc<Vec<u8>>,
    count: usize,
) -> Vec<Result<(), tonic::Status>> {
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..count {
        let (client, photo) = (client.clone(), Arc::clone(photo));
        calls.spawn(async move { client.detect(&photo).await.map(|_| ()) });
    }
    calls.join_all().await
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_have_a_rate_of_their_own() {
    let server = setup(LimitArgs {
        searches_per_day: 2,
        ..LimitArgs::GENEROUS
    })
    .start()
    .await;
    let client = server.client().await;
    client.create("staff").await;
    let photo = tiny();
    for _ in 0..2 {
        client.search("staff", &photo).await.expect("searched");
    }
    let refused = client.search("staff", &photo).await.err().expect("refused");
    let too_many = Refused::new(Code::ResourceExhausted, "TOO_MANY_CALLS");
    assert_eq!(refusal::read(&refused), too_many);
    let details = refused.get_error_details();
    let wait = details
        .retry_info()
        .expect("a RetryInfo")
        .retry_delay
        .expect("a time");
    assert!(wait > Duration::from_secs(11 * 3600), "{wait:?}");
    client.detect(&photo).await.expect("everything else goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_floods_the_server_slows_no_other_down() {
    let server = setup(LimitArgs::GENEROUS).start().await;
    let photo = Arc::new(tiny());
    let over = Arc::new(AtomicBool::new(false));
    let mut flood = tokio::task::JoinSet::new();
    let flooding = server.client_for("flood", &[Scope::Search]).await;
    for _ in 0..48 {
        let (client, photo, over) = (flooding.clone(), Arc::clone(&photo), Arc::clone(&over));
        flood.spawn(async move {
            let mut took = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let began = Instant::now();
                client.detect(&photo).await.expect("it may wait");
                took.push(began.elapsed());
            }
            took
        });
    }
    let other = server.client_for("other", &[Scope::Search]).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut own = Vec::new();
    for _ in 0..15 {
        let began = Instant::now();
        other.detect(&photo).await.expect("never refused");
        own.push(began.elapsed());
    }
    over.store(true, Ordering::Relaxed);
    let mut theirs = flood.join_all().await.concat();
    own.sort();
    theirs.sort();
    let (own, theirs) = (own[own.len() / 2], theirs[theirs.len() / 2]);
    println!("the flood waits {theirs:?}, the other {own:?}");
    assert!(own < theirs / 4, "{own:?}, and the flood {theirs:?}");
}
