//! A connection that rests is ended, and no call is lost by it.

use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};
use tonic::codegen::http;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::support::child::{Child, Home};
use crate::support::server::Setup;
use crate::support::{PATIENCE, Server, refusal};

/// How long a connection may rest, as the server has it.
const REST: Duration = Duration::from_millis(500);
const LIST: &str = "likeness.v1.CollectionService/ListCollections";
const IMPORT: &str = "likeness.v1.PersonService/ImportPersons";

/// A connection whose end can be seen.
struct Raw {
    client: h2::client::SendRequest<bytes::Bytes>,
    end: JoinHandle<Result<(), h2::Error>>,
    key: String,
    url: String,
}

impl Raw {
    async fn to(server: &Server) -> Self {
        let stream = TcpStream::connect(server.url().trim_start_matches("http://")).await;
        let (client, connection) = h2::client::handshake(stream.unwrap()).await.unwrap();
        let key = server.key(
            "default",
            likeness_engine::NewApiKey {
                scopes: likeness_engine::Scopes::ALL,
                ..Default::default()
            },
        );
        Self {
            client,
            end: tokio::spawn(connection),
            key: key.await.text().to_string(),
            url: server.url(),
        }
    }

    /// Begins a call; with an empty message it is whole, without one it never is.
    async fn begin(
        &self,
        path: &str,
        message: Option<()>,
    ) -> (h2::client::ResponseFuture, h2::SendStream<bytes::Bytes>) {
        let request = http::Request::post(format!("{}/{path}", self.url))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", format!("Bearer {}", self.key))
            .body(())
            .unwrap();
        let mut client = self.client.clone().ready().await.unwrap();
        let (response, mut sending) = client.send_request(request, false).unwrap();
        if message.is_some() {
            sending.send_data(vec![0; 5].into(), true).unwrap();
        }
        (response, sending)
    }

    async fn call(&self, path: &str) {
        let (response, _sending) = self.begin(path, Some(())).await;
        let response = response.await.expect("answered");
        let mut body = response.into_body();
        while let Some(data) = body.data().await {
            body.flow_control().release_capacity(data.unwrap().len()).unwrap();
        }
        let trailers = body.trailers().await.unwrap().expect("a status");
        assert_eq!(trailers["grpc-status"], "0");
    }

    /// Waits for its end; answers whether the server ended it as HTTP/2 wants it.
    async fn ended_within(&mut self, time: Duration) -> Option<bool> {
        let end = tokio::time::timeout(time, &mut self.end).await.ok()?;
        Some(end.unwrap().is_ok())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_rests_is_ended_in_good_order() {
    let server = Server::start().await;
    let mut raw = Raw::to(&server).await;
    assert_eq!(raw.ended_within(REST * 2).await, None, "it has made no call");
    for _ in 0..5 {
        raw.call(LIST).await;
        assert_eq!(raw.ended_within(REST / 4).await, None, "it has not rested");
    }
    let (began, ended) = (Instant::now(), raw.ended_within(PATIENCE).await);
    assert_eq!(ended, Some(true));
    // The test shares the machine with others: what is promised is less.
    assert!(began.elapsed() < REST * 4, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_with_a_call_in_work_is_not_ended() {
    let server = Server::start().await;
    let mut raw = Raw::to(&server).await;
    raw.call(LIST).await;
    let (_response, mut stream) = raw.begin(IMPORT, None).await;
    assert_eq!(raw.ended_within(REST * 4).await, None);
    stream.send_reset(h2::Reason::CANCEL);
    assert_eq!(raw.ended_within(PATIENCE).await, Some(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_could_not_come_back_keeps_its_connection() {
    let mut setup = Setup::new();
    setup.config.limits.keyless_connections_per_address = 4;
    let server = setup.start().await;
    let mut raw = Raw::to(&server).await;
    raw.call(LIST).await;
    let mut others = Vec::new();
    for _ in 0..2 {
        others.push(
            TcpStream::connect(server.url().trim_start_matches("http://"))
                .await
                .unwrap(),
        );
    }
    assert_eq!(raw.ended_within(REST * 4).await, None);
    drop(others);
    assert_eq!(raw.ended_within(PATIENCE).await, Some(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_asks_for_health_only_stays_open() {
    let server = Server::start().await;
    let mut raw = Raw::to(&server).await;
    for _ in 0..4 {
        raw.call("grpc.health.v1.Health/Check").await;
        assert_eq!(raw.ended_within(REST * 2).await, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_watches_health_is_cut_off_and_can_watch_again() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let mut health = HealthClient::new(client.channel.clone());
    let watch = health.watch(HealthCheckRequest::default()).await;
    let mut watch = watch.expect("watching").into_inner();
    watch.message().await.expect("told").expect("a status");
    let ended = tokio::time::timeout(PATIENCE, watch.message())
        .await
        .expect("cut off");
    assert!(ended.is_err(), "it did not end by itself");
    let mut again = health.watch(HealthCheckRequest::default()).await;
    if again.as_ref().is_err_and(refusal::is_unsent) {
        again = health.watch(HealthCheckRequest::default()).await;
    }
    again
        .expect("watching")
        .into_inner()
        .message()
        .await
        .expect("told");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_comes_as_its_connection_is_ended_is_answered() {
    const CLIENTS: usize = 32;
    const CALLS: usize = 16;
    let home = Home::new();
    let server = Child::start(home.command().args(["--metrics", "127.0.0.1:0"]));
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let client = server.client().await;
        clients.spawn(async move {
            let (mut collections, mut unsent) = (client.collections.clone(), 0);
            for call in 0..CALLS {
                let ask = likeness_proto::v1::ListCollectionsRequest::default();
                match collections.list_collections(ask.clone()).await {
                    Err(status) if refusal::is_unsent(&status) => {
                        unsent += 1;
                        collections.list_collections(ask).await.expect("answered");
                    }
                    answer => drop(answer.expect("answered")),
                }
                // From a little before the end of the rest to a little behind it.
                let aside = u32::try_from((number * CALLS + call) * 7919 % 400).unwrap();
                tokio::time::sleep(REST - Duration::from_millis(20) + Duration::from_micros(100) * aside)
                    .await;
            }
            unsent
        });
    }
    let unsent: usize = clients.join_all().await.into_iter().sum();
    println!("{unsent} of {} calls were not sent", CLIENTS * CALLS);
    // Every call that reached the server has its answer: it counts no more than were answered.
    let page = server.scraped();
    let carried_out = page
        .lines()
        .find_map(|line| line.strip_prefix(r#"likeness_calls_total{interface="ListCollections",code="OK"} "#))
        .expect("a counter");
    assert_eq!(carried_out.parse::<usize>().unwrap(), CLIENTS * CALLS);
}
