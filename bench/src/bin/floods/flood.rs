//! The floods, each a process of the lowest priority.

use std::io::Cursor;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use image::{GrayImage, ImageFormat, Luma};
use likeness_proto::credential::Credential;
use likeness_proto::v1;
use likeness_proto::v1::collection_service_client::CollectionServiceClient;
use likeness_proto::v1::person_service_client::PersonServiceClient;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::transport::Endpoint;

use crate::frames::{self, BEGUN, HEADER_BYTES, call, frame};
use crate::server::{LOWEST_KEY, WORKING_KEY};

/// The lowest priority there is.
const NICE: i32 = 19;
/// Connections of a flood that sends, and of one that is silent.
const SENDING: usize = 64;
const SILENT: usize = 1100;
/// Of the flood for files, which the server's first limit would not have.
const FOR_FILES: usize = 2000;
/// Enrolments at once of the flood of pictures, and photographs of each.
const BOMBING: usize = 4;
const BOMBS: usize = 20;
/// From one attempt to connect to the next.
const AGAIN: Duration = Duration::from_millis(100);
/// What is sent at once by a flood that sends.
const AT_ONCE: usize = 1000;
/// From one byte of a slow body to the next, and bodies of a connection.
const SLOW: Duration = Duration::from_millis(500);
const BODIES: u32 = 16;
/// What a message is announced with: 64 MiB.
const ANNOUNCED: [u8; 5] = [0, 4, 0, 0, 0];
/// The side of a grey picture of 40 megapixels.
const BOMB_SIDE_PX: u32 = 6324;
const COLLECTION: &str = "flood";

/// What a flood does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Idle,
    Pings,
    Settings,
    Continuation,
    Reset,
    Slow,
    Announced,
    Tls,
    Bombs,
    Files,
}

impl Kind {
    pub const ALL: [Self; 10] = [
        Self::Idle,
        Self::Pings,
        Self::Settings,
        Self::Continuation,
        Self::Reset,
        Self::Slow,
        Self::Announced,
        Self::Tls,
        Self::Files,
        Self::Bombs,
    ];

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Pings => "pings",
            Self::Settings => "settings",
            Self::Continuation => "continuation",
            Self::Reset => "reset",
            Self::Slow => "slow",
            Self::Announced => "announced",
            Self::Tls => "tls",
            Self::Bombs => "bombs",
            Self::Files => "files",
        }
    }

    pub const fn title(self) -> &'static str {
        match self {
            Self::Idle => "1,100 connections that do nothing",
            Self::Pings => "1,100 connections that answer pings and send some",
            Self::Settings => "SETTINGS without end",
            Self::Continuation => "CONTINUATION without end",
            Self::Reset => "streams that are reset at once",
            Self::Slow => "bodies of a byte every half second, with a key without a right",
            Self::Announced => "messages of 64 MiB that are announced, with a key without a right",
            Self::Tls => "1,100 silent TLS handshakes",
            Self::Bombs => "enrolments of 20 grey pictures of 40 megapixels",
            Self::Files => "2,000 connections, and the honest client enrols and erases",
        }
    }

    /// Whether the key of the flood may have the server compute.
    pub fn has_a_right_to_work(self) -> bool {
        self == Self::Bombs
    }
}

/// Where a flood comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Others,
    Own,
}

impl Origin {
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Others, Self::Own]
            .into_iter()
            .find(|origin| origin.name() == name)
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Others => "others",
            Self::Own => "own",
        }
    }

    pub const fn title(self) -> &'static str {
        match self {
            Self::Others => "127.0.0.2 to .9",
            Self::Own => "the honest client's address",
        }
    }

    fn address(self, number: usize) -> IpAddr {
        let last = match self {
            Self::Others => 2 + u8::try_from(number % 8).expect("below 8"),
            Self::Own => 1,
        };
        Ipv4Addr::new(127, 0, 0, last).into()
    }
}

/// A grey picture of 40 megapixels, of some 40 kB.
pub fn bomb() -> Vec<u8> {
    let picture = GrayImage::from_pixel(BOMB_SIDE_PX, BOMB_SIDE_PX, Luma([128]));
    let mut bytes = Cursor::new(Vec::new());
    picture
        .write_to(&mut bytes, ImageFormat::Png)
        .expect("a vector takes everything");
    bytes.into_inner()
}

/// What a flood has done.
#[derive(Default)]
struct Done {
    connected: AtomicU64,
    refused: AtomicU64,
    bytes: AtomicU64,
    calls: AtomicU64,
}

#[derive(Clone)]
struct Flood {
    kind: Kind,
    origin: Origin,
    server: SocketAddr,
    key: String,
    done: Arc<Done>,
}

/// Floods for so long.
pub fn run(kind: Kind, origin: Origin, server: SocketAddr, time: Duration) {
    // ORDER: before any thread is started: each has the priority of the one that starts it.
    rustix::process::nice(NICE).expect("anybody may have less");
    let limit = getrlimit(Resource::Nofile);
    let many = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, many).expect("up to the hard limit");
    let of_the_environment = |name| std::env::var(name).unwrap_or_default();
    let flood = Flood {
        kind,
        origin,
        server,
        key: of_the_environment(if kind == Kind::Bombs {
            WORKING_KEY
        } else {
            LOWEST_KEY
        }),
        done: Arc::default(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("timers and sockets").block_on(async {
        let many = match kind {
            Kind::Idle | Kind::Pings | Kind::Tls => SILENT,
            Kind::Files => FOR_FILES,
            Kind::Bombs => BOMBING,
            _ => SENDING,
        };
        let mut connections = JoinSet::new();
        let bombs = Arc::new(if kind == Kind::Bombs { bomb() } else { Vec::new() });
        let until = Instant::now() + time;
        for number in 0..many {
            let (flood, bombs) = (flood.clone(), Arc::clone(&bombs));
            connections.spawn(async move {
                match kind {
                    Kind::Bombs => flood.enrol(number, &bombs).await,
                    _ => flood.connect(number).await,
                }
            });
        }
        tokio::time::sleep_until(until).await;
        connections.shutdown().await;
    });
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!(
        "{} connections, {} refused or closed, {} kB sent, {} calls",
        count(&flood.done.connected),
        count(&flood.done.refused),
        count(&flood.done.bytes) / 1000,
        count(&flood.done.calls),
    );
}

impl Flood {
    /// Connects again and again.
    async fn connect(self, number: usize) {
        loop {
            let socket = TcpSocket::new_v4().expect("a socket");
            socket.set_reuseaddr(true).expect("a socket");
            socket
                .bind(SocketAddr::new(self.origin.address(number), 0))
                .expect("loopback");
            if let Ok(mut stream) = socket.connect(self.server).await {
                self.done.connected.fetch_add(1, Ordering::Relaxed);
                // It ends when the server closes it.
                let _ = self.send(&mut stream).await;
            }
            self.done.refused.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn write(
        &self,
        stream: &mut (impl tokio::io::AsyncWrite + Unpin),
        bytes: &[u8],
    ) -> std::io::Result<()> {
        stream.write_all(bytes).await?;
        self.done.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    async fn send(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        if self.kind == Kind::Tls {
            return drain(stream).await;
        }
        self.write(stream, BEGUN).await?;
        match self.kind {
            Kind::Idle | Kind::Files => drain(stream).await,
            Kind::Pings => self.ping(stream).await,
            Kind::Settings => {
                let many = frame(frames::SETTINGS, 0, 0, &[]).repeat(AT_ONCE);
                self.repeat(stream, |_| many.clone()).await
            }
            Kind::Continuation => {
                let begun = frame(frames::HEADERS, 0, 1, &call("/a.b/C", None));
                self.write(stream, &begun).await?;
                let many = frame(frames::CONTINUATION, 0, 1, &[0x0f, 0x10, 1, b'a']).repeat(AT_ONCE);
                self.repeat(stream, |_| many.clone()).await
            }
            Kind::Reset => {
                let headers = call("/likeness.v1.MatchingService/SearchPersons", None);
                self.repeat(stream, |round| {
                    let first = round * 200 + 1;
                    let both = |stream| {
                        let open = frame(frames::HEADERS, frames::END_HEADERS, stream, &headers);
                        [open, frame(frames::RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
                    };
                    (0..100).flat_map(|number| both(first + 2 * number)).collect()
                })
                .await
            }
            Kind::Slow | Kind::Announced => self.bodies(stream).await,
            Kind::Tls | Kind::Bombs => Ok(()),
        }
    }

    /// Answers pings and settings, and sends a ping now and then.
    async fn ping(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        let (mut reading, mut writing) = stream.split();
        let mut header = [0; HEADER_BYTES];
        let mut payload = Vec::new();
        loop {
            let read = tokio::time::timeout(Duration::from_secs(1), reading.read_exact(&mut header));
            let Ok(read) = read.await else {
                let ping = frame(frames::PING, 0, 0, &[7; 8]);
                self.write(&mut writing, &ping).await?;
                continue;
            };
            read?;
            let [high, middle, low, kind, flags, ..] = header;
            payload.resize(u32::from_be_bytes([0, high, middle, low]) as usize, 0);
            reading.read_exact(&mut payload).await?;
            if flags & frames::ACK == 0 && [frames::PING, frames::SETTINGS].contains(&kind) {
                let echoed = if kind == frames::PING { &payload[..] } else { &[] };
                let answer = frame(kind, frames::ACK, 0, echoed);
                self.write(&mut writing, &answer).await?;
            }
        }
    }

    /// Sends one block after the other, and takes what comes.
    async fn repeat(&self, stream: &mut TcpStream, block: impl Fn(u32) -> Vec<u8>) -> std::io::Result<()> {
        let (mut reading, mut writing) = stream.split();
        let sending = async {
            for round in 0.. {
                self.write(&mut writing, &block(round)).await?;
            }
            Ok(())
        };
        tokio::select! {
            sent = sending => sent,
            ended = read_to_end(&mut reading) => ended,
        }
    }

    /// Begins calls whose messages never come whole.
    async fn bodies(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        let headers = call("/likeness.v1.MatchingService/SearchPersons", Some(&self.key));
        let (mut reading, mut writing) = stream.split();
        let sending = async {
            for first in (0..).step_by(2 * BODIES as usize) {
                let streams = (0..BODIES).map(|number| first + 2 * number + 1);
                for stream in streams.clone() {
                    let open = frame(frames::HEADERS, frames::END_HEADERS, stream, &headers);
                    let announced = frame(frames::DATA, 0, stream, &ANNOUNCED);
                    self.write(&mut writing, &[open, announced].concat()).await?;
                    self.done.calls.fetch_add(1, Ordering::Relaxed);
                }
                if self.kind == Kind::Slow {
                    for _ in 0..4 {
                        tokio::time::sleep(SLOW).await;
                        for stream in streams.clone() {
                            self.write(&mut writing, &frame(frames::DATA, 0, stream, &[0]))
                                .await?;
                        }
                    }
                } else {
                    tokio::time::sleep(AGAIN).await;
                }
            }
            Ok(())
        };
        tokio::select! {
            sent = sending => sent,
            ended = read_to_end(&mut reading) => ended,
        }
    }

    /// Enrols grey pictures again and again. The address is the system's choice: what limits work is the account.
    async fn enrol(self, number: usize, bomb: &[u8]) {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.server)).expect("a URL");
        let endpoint = endpoint.local_address(Some(self.origin.address(number)));
        let credential = Credential::parse(&self.key).expect("a key");
        loop {
            let Ok(channel) = endpoint.connect().await else {
                self.done.refused.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(AGAIN).await;
                continue;
            };
            self.done.connected.fetch_add(1, Ordering::Relaxed);
            let channel = credential.clone().on(channel);
            let collection = v1::CreateCollectionRequest {
                name: COLLECTION.to_owned(),
                ..Default::default()
            };
            // Another connection may have made it.
            let _ = CollectionServiceClient::new(channel.clone())
                .create_collection(collection)
                .await;
            let photographs = (0..BOMBS).map(|_| v1::Photograph { data: bomb.to_vec() });
            let request = v1::EnrollPersonRequest {
                collection: COLLECTION.to_owned(),
                person_id: format!("grey-{number}"),
                photographs: photographs.collect(),
                ..Default::default()
            };
            let mut persons = PersonServiceClient::new(channel);
            for _ in 0..100 {
                self.done.calls.fetch_add(1, Ordering::Relaxed);
                if persons.enroll_person(request.clone()).await.is_err() {
                    self.done.refused.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }
}

/// Takes what comes until the server closes.
async fn drain(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut bytes = [0; 1024];
    while stream.read(&mut bytes).await? > 0 {}
    Ok(())
}

/// Takes what the server says until it closes the connection.
async fn read_to_end(from: &mut (impl AsyncReadExt + Unpin)) -> std::io::Result<()> {
    let mut bytes = vec![0; 1 << 16];
    while from.read(&mut bytes).await? > 0 {}
    Ok(())
}
