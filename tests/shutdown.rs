//! Stopping: calls in flight are finished, and nothing else holds the server up.

use std::time::{Duration, Instant};

use likeness_proto::v1;
use likeness_proto::v1::log_service_client::LogServiceClient;
use rustix::process::Signal;
use tokio_stream::StreamExt;
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::interfaces::check;
use crate::support::child::Home;
use crate::support::pictures::{astronaut_small, tiny};
use crate::support::{PATIENCE, Refused, Server, refusal};

/// One worker and no queue, so that a refusal says that the worker is busy.
const ONE_AT_A_TIME: [&str; 4] = ["--workers", "1", "--queue", "0"];

#[tokio::test(flavor = "multi_thread")]
async fn a_call_in_flight_is_finished_and_its_person_kept() {
    for signal in [Signal::TERM, Signal::INT] {
        let home = Home::new().with(&ONE_AT_A_TIME);
        let server = home.serve();
        let client = server.client().await;
        client.create("staff").await;
        let photo = astronaut_small();
        let in_flight = tokio::spawn({
            let (client, photo) = (client.clone(), photo.clone());
            async move {
                client
                    .enroll_in_turn("staff", "late", &[&photo[..]; 20])
                    .await
                    .map(|_| ())
            }
        });
        let (small, until) = (tiny(), Instant::now() + PATIENCE);
        while client.detect(&small).await.is_ok() {
            assert!(Instant::now() < until, "the call never arrived");
        }
        server.signal(signal);
        in_flight.await.unwrap().expect("it is finished");
        let (code, log) = server.ended();
        assert_eq!(code, Some(0), "{log}");

        let server = home.serve();
        let client = server.client().await;
        assert_eq!(client.people("staff").await, ["late"]);
        assert_eq!(client.found("staff", &photo).await, ["late"]);
        server.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_and_a_watcher_of_its_health_do_not_hold_it_up() {
    let home = Home::new();
    let server = home.serve();
    let client = server.client().await;
    let mut health = HealthClient::new(client.channel.clone());
    let mut watched = health
        .watch(check("likeness.v1.PersonService"))
        .await
        .expect("watched")
        .into_inner();
    let first = watched.next().await.expect("a status").expect("a status");
    assert_eq!(first.status(), ServingStatus::Serving);
    let since = Instant::now();
    server.signal(Signal::TERM);
    let next = tokio::time::timeout(PATIENCE, watched.next())
        .await
        .expect("told in time");
    // Told that it stops serving, or the stream's end: both send the watcher elsewhere.
    if let Some(Ok(next)) = next {
        assert_eq!(next.status(), ServingStatus::NotServing);
    }
    let (code, log) = server.ended();
    assert_eq!(code, Some(0), "{log}");
    assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_read_slowly_is_told_that_the_server_ends() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    for number in 0..12 {
        let who = format!("person-{number}");
        client.enroll("staff", &who, &[&tiny()]).await.expect("enrolled");
    }
    let mut health = HealthClient::new(client.channel.clone());
    let watched = health.watch(check("likeness.v1.LogService")).await;
    let mut watched = watched.expect("watched").into_inner();
    watched.next().await.expect("a status").expect("a status");
    // Less than one answer: the others wait for their reader.
    let mut logs = LogServiceClient::new(server.with_window(64).await);
    let request = v1::ExportRunningLogRequest {
        collection: "staff".to_owned(),
    };
    let exported = logs.export_running_log(request).await;
    let mut exported = exported.expect("begun").into_inner();
    let stopping = tokio::spawn(server.stop());
    // Streams are told before those who watch.
    let _ = watched.next().await;
    let status = loop {
        match exported.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ends as if it were whole"),
            Err(status) => break status,
        }
    };
    assert_eq!(
        refusal::read_details(&status),
        Refused::new(Code::Unavailable, "SHUTTING_DOWN")
    );
    drop(stopping.await.expect("it stopped in time"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_server_starts_again_at_once() {
    let home = Home::new();
    for round in 0..3 {
        let server = home.serve();
        let client = server.client().await;
        if round == 0 {
            client.create("staff").await;
        }
        client
            .enroll("staff", &format!("round-{round}"), &[&tiny()])
            .await
            .expect("enrolled");
        assert_eq!(client.people("staff").await.len(), round + 1);
        drop(client);
        server.stop();
    }
}
