//! The cost of a message before its call is known to be allowed, and while it arrives: memory by the bytes received, of a
//! budget, within a time.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use likeness_engine::{Account, KeyStore, NewApiKey, Offline, Scope};
use likeness_proto::v1;
use likeness_server::config::LimitArgs;
use tokio::net::TcpStream;
use tonic::codegen::http::{HeaderMap, Request};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::support::child::{Child, Home};
use crate::support::client::photograph;
use crate::support::pictures::{astronaut_small, tiny};
use crate::support::server::Setup;
use crate::support::{PATIENCE, Refused, Server, raw, refusal};

const DETECT: &str = "likeness.v1.MatchingService/DetectFaces";
const MIB: usize = 1 << 20;

/// A connection that says exactly what it is told to.
struct Wire {
    client: SendRequest<Bytes>,
    url: String,
    key: String,
}

/// A call whose message is on its way.
struct Sending {
    response: ResponseFuture,
    body: SendStream<Bytes>,
}

impl Wire {
    async fn open(url: &str, key: &str) -> Self {
        let address = url.strip_prefix("http://").expect("in the clear");
        let stream = TcpStream::connect(address).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Self {
            client,
            url: url.to_owned(),
            key: key.to_owned(),
        }
    }

    async fn begin(&self, method: &str) -> Sending {
        let request = Request::post(format!("{}/{method}", self.url))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", format!("Bearer {}", self.key))
            .body(())
            .unwrap();
        let mut ready = self.client.clone().ready().await.unwrap();
        let (response, body) = ready.send_request(request, false).unwrap();
        Sending { response, body }
    }
}

/// The head of a message of this length.
fn head(length: usize) -> Bytes {
    let length = u32::try_from(length).unwrap().to_be_bytes();
    Bytes::from([&[0][..], &length].concat())
}

impl Sending {
    /// As much as the server lets it send; answers whether that was all. A call that is refused lets it send nothing.
    async fn send(&mut self, mut bytes: Bytes) -> bool {
        while !bytes.is_empty() {
            self.body.reserve_capacity(bytes.len());
            let room = std::future::poll_fn(|context| self.body.poll_capacity(context)).await;
            let Some(Ok(room)) = room else { return false };
            if self
                .body
                .send_data(bytes.split_to(room.min(bytes.len())), false)
                .is_err()
            {
                return false;
            }
        }
        true
    }

    /// The status of a call that is refused while its message is on its way.
    async fn refused(self) -> Status {
        let answer = tokio::time::timeout(PATIENCE, self.response).await;
        let (head, body) = answer.expect("answered").expect("headers").into_parts();
        match Status::from_header_map(&head.headers) {
            Some(status) => status,
            None => Status::from_header_map(&trailers(body).await).expect("a status"),
        }
    }
}

async fn trailers(mut body: RecvStream) -> HeaderMap {
    while let Some(data) = body.data().await {
        drop(data.expect("data"));
    }
    body.trailers().await.expect("trailers").unwrap_or_default()
}

/// A key of the operator's account with these scopes.
async fn key(server: &Server, account: &str, scopes: &[Scope]) -> String {
    let new = NewApiKey {
        scopes: scopes.iter().copied().collect(),
        ..NewApiKey::default()
    };
    server.key(account, new).await.text().to_string()
}

/// The server's own memory, in bytes.
fn resident(child: &Child) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", child.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.expect("a line").trim().trim_end_matches(" kB");
    kilobytes.parse::<usize>().expect("a number") << 10
}

fn memory_busy() -> Refused {
    Refused::new(Code::ResourceExhausted, "MEMORY_BUSY")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_may_not_make_a_call_is_refused_before_a_byte_of_the_message() {
    let server = Server::start().await;
    let wire = Wire::open(&server.url(), &key(&server, "lowest", &[Scope::Import]).await).await;
    let mut any = Vec::new();
    for method in raw::methods() {
        let sending = wire.begin(&method).await;
        let waits = Duration::from_millis(300);
        let early = tokio::time::timeout(waits, sending.refused()).await;
        match early {
            Ok(status) => {
                let refused = refusal::read(&status);
                let permitted = ["SCOPE_MISSING", "KEY_RESTRICTED", "OPERATOR_ONLY"];
                assert_eq!(refused.code, Code::PermissionDenied, "{method}");
                assert!(
                    permitted.contains(&refused.reason.as_str()),
                    "{method}: {refused:?}"
                );
            }
            Err(_) => any.push(method.split_once('/').expect("a method").1.to_owned()),
        }
    }
    let of_any_key = ["GetCollection", "ListCollections", "DetectFaces", "GetPolicy"];
    assert_eq!(any, of_any_key, "these wait for their message");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_counts_once_and_before_its_message() {
    let mut setup = Setup::new();
    setup.config.limits = LimitArgs {
        calls_per_second: 3,
        ..LimitArgs::GENEROUS
    };
    let server = setup.start().await;
    let key = key(&server, "default", &[Scope::Import]).await;
    let wire = Wire::open(&server.url(), &key).await;
    let mut open = Vec::new();
    // More than three a second, on a slow machine too; none of them sends anything. They come in no order.
    for _ in 0..30 {
        open.push(wire.begin(DETECT).await);
    }
    let mut refused = 0;
    for sending in open {
        let waits = Duration::from_millis(500);
        if let Ok(status) = tokio::time::timeout(waits, sending.refused()).await {
            let too_many = Refused::new(Code::ResourceExhausted, "TOO_MANY_CALLS");
            assert_eq!(refusal::read(&status), too_many);
            refused += 1;
        }
    }
    assert!(refused >= 20, "{refused} of 30 were refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn announced_bytes_take_no_memory() {
    const CALLS: usize = 24;
    let (_home, child, key) = child(&[], &[]);
    let client = child.client().await;
    client.detect(&tiny()).await.expect("detected");
    let before = resident(&child);
    let wire = Wire::open(&child.url, &key).await;
    let mut open = Vec::new();
    for _ in 0..CALLS {
        let mut sending = wire.begin(DETECT).await;
        assert!(sending.send(head(64 * MIB)).await);
        open.push(sending);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let grown = resident(&child).saturating_sub(before);
    println!(
        "{CALLS} calls that announced 64 MiB each: {} KiB more",
        grown >> 10
    );
    assert!(grown < 16 * MIB, "{grown} bytes for {CALLS} heads of five");
    client.detect(&tiny()).await.expect("the others are served");
}

/// A key whose only scope opens no call by itself.
fn imports_alone() -> NewApiKey {
    NewApiKey {
        scopes: [Scope::Import].into_iter().collect(),
        ..NewApiKey::default()
    }
}

/// A server as a child process with a key that may do next to nothing; `through` is a command that starts it.
fn child(arguments: &[&str], through: &[&str]) -> (Home, Child, String) {
    let home = Home::new().with(arguments);
    let offline = Offline::open(&KeyStore::new(home.keys(), None), &home.data()).expect("opened");
    let administration = offline.administration();
    let made = administration.create_api_key(&Account::default(), imports_alone());
    let key = made.expect("made").0.text().to_string();
    drop(offline);
    let command = home.command();
    let child = match through {
        [] => home.serve(),
        [program, rest @ ..] => {
            let mut outer = Command::new(program);
            outer
                .args(rest)
                .arg(command.get_program())
                .args(command.get_args());
            for (name, value) in command.get_envs() {
                match value {
                    Some(value) => outer.env(name, value),
                    None => outer.env_remove(name),
                };
            }
            Child::start(&mut outer)
        }
    };
    (home, child, key)
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_calls_of_the_longest_messages_leave_a_server_of_four_gibibytes_standing() {
    const CALLS: usize = 64;
    let limited = ["sh", "-c", "ulimit -v 4194304 && exec \"$0\" \"$@\""];
    let (_home, child, key) = child(&["--workers", "2"], &limited);
    let wire = Wire::open(&child.url, &key).await;
    let mut calls = tokio::task::JoinSet::new();
    let block = Bytes::from(vec![7; MIB]);
    for _ in 0..CALLS {
        let mut sending = wire.begin(DETECT).await;
        assert!(
            sending.send(head(64 * MIB)).await,
            "all are open before any has brought its bytes"
        );
        let block = block.clone();
        calls.spawn(async move {
            for _ in 0..64 {
                if !sending.send(block.clone()).await {
                    break;
                }
            }
            // The end of a whole message; of a refused one nothing is sent.
            let _ = sending.body.send_data(Bytes::new(), true);
            refusal_reason(&sending.refused().await)
        });
    }
    let answers = calls.join_all().await;
    let busy = answers.iter().filter(|reason| *reason == "MEMORY_BUSY").count();
    // The bytes are no message: a call that comes to its end says so.
    println!("{busy} of {CALLS} calls were refused for want of memory");
    assert!(busy > 0 && busy < CALLS, "{answers:?}");
    let client = child.client().await;
    client.create("staff").await;
    client
        .enroll("staff", "known", &[&astronaut_small()])
        .await
        .expect("it serves afterwards");
    child.stop();
}

fn refusal_reason(status: &Status) -> String {
    let details = status.get_error_details();
    details
        .error_info()
        .map(|info| info.reason.clone())
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_whose_messages_use_its_memory_up_keeps_neither_others_nor_its_own_small_calls_out() {
    let mut setup = Setup::new();
    setup.config.limits = LimitArgs {
        message_memory_mb: 256,
        message_memory_account_mb: 128,
        ..LimitArgs::GENEROUS
    };
    let server = setup.start().await;
    let other = server.client_for("other", &Scope::ALL).await;
    let own = server.client_for("flood", &Scope::ALL).await;
    own.create("staff").await;
    own.enroll("staff", "known", &[&astronaut_small()])
        .await
        .expect("enrolled");
    let wire = Wire::open(&server.url(), &key(&server, "flood", &[Scope::Import]).await).await;
    // Each brings a third of its message, and then nothing.
    let part = Bytes::from(vec![7; 20 * MIB]);
    let (mut open, until) = (Vec::new(), Instant::now() + PATIENCE);
    let status = loop {
        let mut sending = wire.begin(DETECT).await;
        sending.send(head(64 * MIB)).await;
        if !sending.send(part.clone()).await {
            break sending.refused().await;
        }
        open.push(sending);
        assert!(Instant::now() < until, "none is refused");
    };
    assert_eq!(refusal::read(&status), memory_busy());
    let retry = status.get_error_details().retry_info().cloned();
    assert!(retry.expect("a RetryInfo").retry_delay.is_some());
    println!("{} messages of 20 of 64 MiB fill 128 MiB", open.len());

    other.detect(&astronaut_small()).await.expect("others are served");
    own.delete("staff", "known")
        .await
        .expect("small calls of its own too");
    drop(open);
    let until = Instant::now() + PATIENCE;
    while own.detect(&astronaut_small()).await.is_err() {
        assert!(Instant::now() < until, "the memory never comes back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_comes_too_slowly_is_given_up_and_a_silent_stream_is_not() {
    let mut setup = Setup::new();
    setup.config.limits = LimitArgs {
        stall_seconds: 1,
        ..LimitArgs::GENEROUS
    };
    let server = setup.start().await;
    let key = key(&server, "default", &[Scope::Enrol]).await;
    let wire = Wire::open(&server.url(), &key).await;
    let stream = wire.begin("likeness.v1.PersonService/ImportPersons").await;
    let mut slow = wire.begin(DETECT).await;
    let began = Instant::now();
    assert!(slow.send(head(MIB)).await);
    let trickle = async {
        while slow.send(Bytes::from_static(&[7; 100])).await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, trickle).await.expect("given up");
    let status = slow.refused().await;
    assert_eq!(
        refusal::read(&status),
        Refused::new(Code::DeadlineExceeded, "MESSAGE_TOO_SLOW")
    );
    assert!(
        began.elapsed() > Duration::from_millis(900),
        "{:?}",
        began.elapsed()
    );
    tokio::time::sleep(Duration::from_secs(2)).await;
    let silent = tokio::time::timeout(Duration::from_millis(500), stream.refused());
    assert!(silent.await.is_err(), "it may be silent between messages");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_says_it_is_too_long_is_refused_by_its_head() {
    let server = Server::start().await;
    let key = key(&server, "default", &Scope::ALL).await;
    let wire = Wire::open(&server.url(), &key).await;
    for (method, most) in [(DETECT, 64 * MIB), ("likeness.v1.LogService/GetPolicy", 4 * MIB)] {
        let mut sending = wire.begin(method).await;
        assert!(sending.send(head(most + 1)).await);
        let refused = refusal::read(&sending.refused().await);
        assert_eq!(
            refused,
            Refused::new(Code::OutOfRange, "MESSAGE_TOO_LONG"),
            "{method}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_photograph_without_memory_to_decode_it_is_refused_and_nothing_else_is() {
    let mut setup = Setup::new();
    setup.config.limits = LimitArgs {
        work_memory_mb: Some(40),
        ..LimitArgs::GENEROUS
    };
    let server = setup.start().await;
    let client = server.client().await;
    let large = crate::support::pictures::png(&crate::support::pictures::plain(2000, 1000));
    let status = client.detect(&large).await.err().expect("refused");
    assert_eq!(refusal::read(&status), memory_busy());
    assert!(status.get_error_details().retry_info().is_some());
    let request = v1::DetectFacesRequest {
        photograph: Some(photograph(&tiny())),
        ..Default::default()
    };
    client
        .matching
        .clone()
        .detect_faces(request)
        .await
        .expect("a small one");
}
