//! Clients without a key lock no other client out: idle connections, pings, silent handshakes, and file descriptors.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use likeness_server::config::LimitArgs;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;

use crate::support::child::{Child, Home, Program};
use crate::support::pictures::{astronaut_small, tiny};
use crate::support::server::Setup;
use crate::support::{Client, PATIENCE, Refused, Server, directory, refusal};

/// The preface, and settings without content.
const BEGUN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// A frame's header.
const HEADER_BYTES: usize = 9;
/// Types of frames, and the flag of an acknowledgement.
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;

/// As many files as the hard limit allows, for the many connections of a test.
fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    let many = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, many).expect("up to the hard limit");
}

/// The same command, under other limits of the shell.
fn limited(command: &Command, limits: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit {limits} && exec \"$0\" \"$@\"")]);
    shell.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

fn address(url: &str) -> &str {
    url.split_once("://").expect("a URL").1
}

/// As many connections of clients that have begun, and then are silent.
fn begun(url: &str, count: usize) -> Vec<TcpStream> {
    allow_many_files();
    let open = |_| {
        let mut stream = TcpStream::connect(address(url)).expect("it listens");
        // It may be closed already.
        let _ = stream.write_all(BEGUN);
        stream
    };
    (0..count).map(open).collect()
}

/// Acknowledges settings and answers pings until the server says goodbye or closes; answers whether it said goodbye,
/// and after how long.
fn answer_until_closed(mut stream: TcpStream) -> (bool, Duration) {
    let began = Instant::now();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut said_goodbye = false;
    loop {
        let mut header = [0; HEADER_BYTES];
        if stream.read_exact(&mut header).is_err() {
            return (said_goodbye, began.elapsed());
        }
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        let mut payload = vec![0; length as usize];
        if stream.read_exact(&mut payload).is_err() {
            return (said_goodbye, began.elapsed());
        }
        let (kind, flags) = (header[3], header[4]);
        said_goodbye |= kind == GOAWAY;
        if [SETTINGS, PING].contains(&kind) && flags & ACK == 0 {
            let payload = if kind == PING { &payload[..] } else { &[] };
            let length = u8::try_from(payload.len()).expect("short");
            let answer = [&[0, 0, length, kind, ACK, 0, 0, 0, 0][..], payload].concat();
            // A server that has closed reads no more.
            let _ = stream.write_all(&answer);
        }
    }
}

/// Asks for health on a connection of its own.
async fn asks_health(url: &str) {
    let stranger = Client::connect(url, likeness_proto::credential::Credential::default()).await;
    let mut health = HealthClient::new(stranger.channel.clone());
    let alive = health.check(HealthCheckRequest::default()).await;
    alive.expect("health is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_leave_the_store_the_files_that_it_needs() {
    let home = Home::new();
    let server = Child::start(&mut limited(&home.command(), "-Sn 1024"));
    let client = server.client().await;
    client.create("staff").await;
    let idle = begun(&server.url, 1100);
    let client = server.client().await;
    let photo = astronaut_small();
    for number in 0..4 {
        let who = format!("person-{number}");
        client.enroll("staff", &who, &[&photo]).await.expect("enrolled");
        client.delete("staff", &who).await.expect("erased");
        // The purge rewrites files.
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    asks_health(&server.url).await;
    drop(idle);
    client.enroll("staff", "last", &[&photo]).await.expect("enrolled");
    let log = server.stop();
    assert!(!log.contains("a purge failed"), "{log}");
}

#[test]
fn a_hard_limit_of_open_files_that_is_too_low_for_the_connections_refuses_the_start_by_name() {
    let home = Home::new();
    let refused = Program::finish(&mut limited(&home.command(), "-n 1024"), &[]).expect(78);
    assert!(
        refused.stderr.contains("--connections 1024") && refused.stderr.contains("found 1024"),
        "{refused:?}"
    );
    let fits = refused
        .stderr
        .split("allow ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    let fits = fits.expect("how many fit").to_owned();
    let mut fewer = home.command();
    fewer.args(["--connections", &fits]);
    Child::start(&mut limited(&fewer, "-n 1024")).stop();
}

/// Sets how many files a process may have open.
fn allow(server: &Child, files: Option<u64>) {
    let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap());
    let before = prlimit(
        pid,
        Resource::Nofile,
        Rlimit {
            current: files,
            maximum: getrlimit(Resource::Nofile).maximum,
        },
    );
    before.expect("it is ours");
}

fn open_files(server: &Child) -> u64 {
    let open = Path::new("/proc").join(server.pid().to_string()).join("fd");
    fs::read_dir(open).expect("it runs").count() as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_lacks_files_refuses_changes_and_takes_them_again_when_there_are_some() {
    let home = Home::new();
    let server = home.serve();
    let client = server.client().await;
    client.create("staff").await;
    let photo = astronaut_small();
    for who in ["first", "second"] {
        client.enroll("staff", who, &[&photo]).await.expect("enrolled");
    }
    for _ in 0..3 {
        allow(&server, Some(open_files(&server)));
        let refused = client.delete("staff", "first").await.err();
        // Long enough for a purge to be tried.
        tokio::time::sleep(Duration::from_secs(3)).await;
        allow(&server, Some(4096));
        let until = Instant::now() + PATIENCE;
        let is_gone = async || match client.delete("staff", "first").await {
            Ok(_) => true,
            Err(status) => status.code() == Code::NotFound,
        };
        while !is_gone().await || client.enroll("staff", "first", &[&photo]).await.is_err() {
            assert!(Instant::now() < until, "it never takes changes again");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let refused = refused.expect("refused before anything was written");
        assert_eq!(
            refusal::read(&refused),
            Refused::new(Code::Unavailable, "STORE_FAILED")
        );
        assert!(refused.get_error_details().retry_info().is_some(), "{refused:?}");
    }
    assert_eq!(client.people("staff").await, ["first", "second"]);
    server.stop();
    let server = home.serve();
    let client = server.client().await;
    assert_eq!(client.people("staff").await, ["first", "second"]);
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_only_answer_pings_keep_nobody_out() {
    let home = Home::new().with(&["--metrics", "127.0.0.1:0"]);
    let server = Child::start(&mut home.command());
    let earlier = server.client().await;
    earlier.create("staff").await;
    let idle = begun(&server.url, 1024);
    for _ in 0..5 {
        asks_health(&server.url).await;
        let newcomer = server.client().await;
        newcomer.collection("staff").await.expect("a newcomer is served");
    }
    earlier
        .collection("staff")
        .await
        .expect("who was there before is served");
    let metrics = server.scraped();
    let of = |reason| {
        let series = format!("likeness_connections_closed_total{{reason=\"{reason}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&series));
        line.expect("a series").parse::<u64>().expect("a number")
    };
    assert!(of("displaced") >= 1024 - 256, "{metrics}");
    drop(idle);
    server.stop();
}

fn quick(limits: LimitArgs) -> Setup {
    let mut setup = Setup::new();
    setup.config.limits = limits;
    setup
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_a_call_ends_although_it_answers_pings() {
    let server = quick(LimitArgs {
        stall_seconds: 1,
        ..LimitArgs::GENEROUS
    })
    .start()
    .await;
    let url = server.url();
    let closed = tokio::task::spawn_blocking(move || answer_until_closed(begun(&url, 1).pop().expect("one")));
    let (said_goodbye, took) = closed.await.unwrap();
    assert!(said_goodbye, "it is told before");
    assert!(took < Duration::from_secs(10), "{took:?}");
    drop(server.stop().await);
}

/// A connection on which one call was answered, and what its task ends with.
async fn answered(server: &Server, health: bool) -> tokio::task::JoinHandle<Result<(), h2::Error>> {
    let stream = tokio::net::TcpStream::connect(address(&server.url()))
        .await
        .unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let path = if health {
        "grpc.health.v1.Health/Check"
    } else {
        "likeness.v1.CollectionService/ListCollections"
    };
    let key = server
        .key(
            "default",
            likeness_engine::NewApiKey {
                scopes: likeness_engine::Scope::ALL.into_iter().collect(),
                ..Default::default()
            },
        )
        .await;
    let mut request = tonic::codegen::http::Request::post(format!("{}/{path}", server.url()))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if !health {
        request = request.header("authorization", format!("Bearer {}", *key.text()));
    }
    let (response, mut body) = client.send_request(request.body(()).unwrap(), false).unwrap();
    body.send_data(bytes::Bytes::from_static(&[0; 5]), true).unwrap();
    response.await.expect("answered");
    // Whoever drops it lets the connection end by itself.
    tokio::spawn(async move {
        let ended = connection.await.unwrap();
        drop(client);
        ended
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_soon_after_its_last_call_and_one_that_asks_for_health_later() {
    let server = quick(LimitArgs {
        keyless_idle_seconds: 4,
        ..LimitArgs::GENEROUS
    })
    .start()
    .await;
    let began = Instant::now();
    let (asks_health, calls) = (answered(&server, true).await, answered(&server, false).await);
    let ended = tokio::time::timeout(PATIENCE, calls).await.expect("it ends");
    ended.unwrap().expect("without an error");
    assert!(!asks_health.is_finished(), "it has more time");
    let ended = tokio::time::timeout(PATIENCE, asks_health)
        .await
        .expect("it ends");
    ended.unwrap().expect("without an error");
    assert!(began.elapsed() > Duration::from_secs(3), "{:?}", began.elapsed());
    // A client library connects again by itself.
    let client = server.client().await;
    client.create("staff").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    client
        .collection("staff")
        .await
        .expect("answered on another connection");
    drop(server.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_connection_ends_once_its_calls_are_over() {
    let server = quick(LimitArgs {
        connection_seconds: 1,
        ..LimitArgs::GENEROUS
    })
    .start()
    .await;
    let client = server.client().await;
    client.create("staff").await;
    let (items, sent) = tokio::sync::mpsc::channel(1);
    let sent = tokio_stream::wrappers::ReceiverStream::new(sent);
    let mut persons = client.persons.clone();
    let deleting = tokio::spawn(async move {
        let mut answers = persons.delete_persons(sent).await.expect("begun").into_inner();
        let mut count = 0;
        while answers.message().await.expect("it goes on").is_some() {
            count += 1;
        }
        count
    });
    // Beyond the age, and what a connection without calls may stay after it.
    for sequence in 0..6 {
        let item = likeness_proto::v1::DeletePersonsRequest {
            sequence,
            collection: "staff".to_owned(),
            person_id: "nobody".to_owned(),
        };
        items.send(item).await.expect("it is taken");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    drop(items);
    assert_eq!(deleting.await.unwrap(), 6);
    client
        .collection("staff")
        .await
        .expect("answered on another connection");
    drop(server.stop().await);
}

#[test]
fn silent_handshakes_keep_nobody_out() {
    let own = directory();
    Program::run(&["tls", "dev-cert", &own.path().display().to_string()]).expect(0);
    let path = |name: &str| own.path().join(name).display().to_string();
    let (cert, key, ca) = (path("server.pem"), path("server.key"), path("ca.pem"));
    let home = Home::new().with(&["--tls-cert", &cert, "--tls-key", &key]);
    let server = home.serve();
    allow_many_files();
    let silent: Vec<_> = (0..128)
        .map(|_| TcpStream::connect(address(&server.url)).expect("it listens"))
        .collect();
    let began = Instant::now();
    server.ask(&["--tls-ca", &ca, "collection", "list"]).expect(0);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    for mut stream in silent {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // Closed, or reset.
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    }
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_pings_without_a_key_is_read_slowly_and_a_client_with_one_is_not() {
    let server = quick(LimitArgs::GENEROUS).start().await;
    let client = server.client().await;
    client.detect(&tiny()).await.expect("detected");
    let url = server.url();
    let flood = tokio::task::spawn_blocking(move || {
        let mut stream = begun(&url, 1).pop().expect("one");
        let mut echo = stream.try_clone().unwrap();
        let ping = [0, 0, 8, PING, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        let pings = ping.repeat(1000);
        stream.set_nonblocking(true).unwrap();
        let (until, mut answered, mut bytes) = (Instant::now() + Duration::from_secs(3), 0, [0; 1 << 16]);
        let mut sent = 0;
        while Instant::now() < until {
            // A frame that was cut goes on where it was.
            sent = (sent + stream.write(&pings[sent..]).unwrap_or(0)) % ping.len();
            answered += echo.read(&mut bytes).unwrap_or(0);
        }
        answered / ping.len()
    });
    for _ in 0..100 {
        client.collection("nobody").await.err();
    }
    let answered = flood.await.unwrap();
    // As a server that reads on answers a hundred thousand.
    assert!((100..20_000).contains(&answered), "{answered} pings in 3 s");
    drop(server.stop().await);
}
