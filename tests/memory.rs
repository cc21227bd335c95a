//! One second after a reply nothing of its call is in the memory of the server, though the connection stays open.
//!
//! A table of doors: whatever takes a photograph, a name, a PersonID or features has a row.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use likeness_engine::bench::Traces;
use likeness_proto::credential::Credential;
use likeness_proto::v1;
use likeness_proto::v1::erasure_service_client::ErasureServiceClient;
use likeness_proto::v1::import_persons_request::Part;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::codegen::http;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use crate::support::child::{Child, Home, Program};
use crate::support::client::photographs;
use crate::support::pictures::{pixels, png, sample};
use crate::support::scan::{SAMPLES, Watched, Windows};
use crate::support::{Client, PATIENCE, asset, directory};

/// When memory must be clean, less what it takes to stop the server.
const CLEAN_AFTER: Duration = Duration::from_millis(950);

const JPEG: &str = "encoded bytes of the JPEG";
const PNG: &str = "encoded bytes of the PNG";
const PIXELS: &str = "decoded pixels";
const CROP: &str = "the aligned crop";
const TENSORS: &str = "tensors of the models";
const EMBEDDING: &str = "the embedding";
const EMBEDDING_F16: &str = "the embedding at half precision";
const FEATURES: &str = "imported features";
const FEATURES_AT_1: &str = "imported features at length 1";
const FEATURES_F16: &str = "imported features at half precision";
const NAME: &str = "names";
const PERSON_ID: &str = "PersonIDs";

/// What a photograph becomes.
const OF_PHOTOGRAPH: &[&str] = &[JPEG, PNG, PIXELS, CROP, TENSORS, EMBEDDING, EMBEDDING_F16];
const OF_FEATURES: &[&str] = &[FEATURES, FEATURES_AT_1, FEATURES_F16];
const OF_PERSON: &[&str] = &[NAME, PERSON_ID];

/// Where something comes in or goes out.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Door {
    Detect,
    DetectPng,
    Compare,
    Search,
    Verify,
    Enroll,
    EnrollTaken,
    EnrollNoPhotograph,
    EnrollCutOff,
    AddFaces,
    Get,
    List,
    Update,
    Copy,
    Rename,
    Export,
    ImportPhotograph,
    ImportFeatures,
    ImportRefused,
    RunningLog,
    DeleteByStream,
    Withdraw,
    EraseAll,
}

/// Every door, in an order in which each is passed, and what must not be there afterwards.
const DOORS: &[(Door, &[&[&str]])] = &[
    (Door::Detect, &[OF_PHOTOGRAPH]),
    (Door::DetectPng, &[OF_PHOTOGRAPH]),
    (Door::Compare, &[OF_PHOTOGRAPH]),
    (Door::EnrollNoPhotograph, &[OF_PHOTOGRAPH, OF_PERSON]),
    (Door::EnrollCutOff, &[OF_PHOTOGRAPH, OF_PERSON]),
    (Door::Enroll, &[OF_PHOTOGRAPH, OF_PERSON]),
    (Door::EnrollTaken, &[OF_PHOTOGRAPH, OF_PERSON]),
    (Door::Search, &[OF_PHOTOGRAPH, OF_PERSON]),
    (Door::Verify, &[OF_PHOTOGRAPH, OF_PERSON]),
    (Door::AddFaces, &[OF_PHOTOGRAPH, OF_PERSON]),
    (Door::Get, &[OF_PERSON]),
    (Door::List, &[OF_PERSON]),
    (Door::Update, &[OF_PERSON]),
    (Door::Copy, &[OF_PERSON]),
    (Door::Rename, &[OF_PERSON]),
    (Door::Export, &[OF_PERSON]),
    (Door::ImportPhotograph, &[OF_PHOTOGRAPH, OF_PERSON]),
    (Door::ImportFeatures, &[OF_FEATURES, OF_PERSON]),
    (Door::ImportRefused, &[OF_FEATURES, OF_PERSON]),
    (Door::RunningLog, &[OF_PERSON]),
    (Door::DeleteByStream, &[OF_FEATURES, OF_PERSON]),
    (Door::Withdraw, &[OF_PERSON]),
    (Door::EraseAll, &[OF_PHOTOGRAPH, OF_FEATURES, OF_PERSON]),
];

/// What is given to the doors, and looked for behind them.
struct Given {
    jpeg: Vec<u8>,
    png: Vec<u8>,
    features: Vec<f32>,
}

/// PersonIDs of more than two windows, in which none is like another.
const PERSON_IDS: [&str; 4] = [
    "quetzalcoatl.of.xylophone-zymurgy-wyvern@example.org",
    "bandersnatch_with_jubjub#frumious-galumphing&vorpal",
    "hippocampus.27182818@mimsy-borogoves.outgrabe%toves",
    "ourang-medan_manxome#tulgey.whiffling&burbled@brillig",
];
const NAMES: [&str; 4] = [
    "Yttrium Quagga von Hexenbeck-Ziegelmayr the Younger",
    "Ambrosius Kropotkin-Fjord, doctor of phlogiston",
    "Zenobia Wulfstan d'Ouessant de la Bourdonnaye",
    "Cornelius Jabberwock Oppenshaw-Thistlethwaite III",
];

fn person_id(number: usize) -> String {
    PERSON_IDS[number].to_owned()
}

fn name(number: usize) -> String {
    NAMES[number].to_owned()
}

/// Features that no face has.
fn features() -> Vec<f32> {
    let mut state = 0x9E37_79B9_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state) / f64::from(u32::MAX) - 0.5
    };
    (0..512).map(|_| next() as f32).collect()
}

impl Given {
    /// What is given, and what it is and becomes.
    fn new() -> (Self, Windows) {
        let jpeg = sample("obama.jpg");
        let png = png(&pixels("obama.jpg"));
        let features = features();
        let traces = Traces::of(&asset("models"), &asset("runtime/libonnxruntime.so"), &jpeg);
        let traces = traces.expect("a face");
        let length = features.iter().map(|value| value * value).sum::<f32>().sqrt();
        let at_1: Vec<_> = features.iter().map(|value| value / length).collect();
        let mut windows = Windows::new();
        windows.add(JPEG, &jpeg);
        windows.add(PNG, &png);
        windows.add(PIXELS, &traces.pixels);
        windows.add_f32(CROP, &traces.crop);
        for tensor in &traces.tensors {
            windows.add_f32(TENSORS, tensor);
        }
        windows.add_f32(EMBEDDING, &traces.features);
        windows.add_f16(EMBEDDING_F16, &traces.features);
        windows.add_f32(FEATURES, &features);
        windows.add_f32(FEATURES_AT_1, &at_1);
        windows.add_f16(FEATURES_F16, &features);
        for number in 0..4 {
            windows.add(NAME, name(number).as_bytes());
            windows.add(PERSON_ID, person_id(number).as_bytes());
        }
        let given = Self { jpeg, png, features };
        (given, windows)
    }

    fn enrolment(&self, number: usize) -> v1::EnrollPersonRequest {
        v1::EnrollPersonRequest {
            collection: "staff".to_owned(),
            person_id: person_id(number),
            photographs: photographs(&[&self.jpeg]),
            name: name(number),
            consent: Some(v1::Consent {
                purpose: "door access".to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn item(&self, number: usize) -> v1::ImportItem {
        v1::ImportItem {
            sequence: number as u64,
            person_id: person_id(number),
            name: name(number),
            ..Default::default()
        }
    }

    /// Passes one door, and waits for all of the reply.
    async fn pass(&self, door: Door, client: &Client) {
        let (mut persons, staff) = (client.persons.clone(), || "staff".to_owned());
        match door {
            Door::Detect => drop(client.detect(&self.jpeg).await.expect("detected")),
            Door::DetectPng => drop(client.detect(&self.png).await.expect("detected")),
            Door::Compare => drop(client.compare(&self.jpeg, &self.png).await.expect("compared")),
            Door::Search => assert_eq!(client.found("staff", &self.jpeg).await, [person_id(1)]),
            Door::Verify => {
                let verified = client.verify("staff", &person_id(1), &self.jpeg).await;
                verified.expect("verified");
            }
            Door::Enroll => drop(client.enroll_as(self.enrolment(1)).await.expect("enrolled")),
            Door::EnrollTaken => drop(client.enroll_as(self.enrolment(1)).await.err().expect("taken")),
            Door::EnrollNoPhotograph => {
                let mut enrolment = self.enrolment(0);
                enrolment.photographs = photographs(&[&self.jpeg[..self.jpeg.len() / 2]]);
                client.enroll_as(enrolment).await.err().expect("truncated");
            }
            Door::EnrollCutOff => {
                let mut enrolment = self.enrolment(0);
                enrolment.photographs = photographs(&[&self.jpeg[..]; 20]);
                let enrolling = client.enroll_as(enrolment);
                let cut = tokio::time::timeout(Duration::from_millis(120), enrolling).await;
                assert!(cut.is_err(), "twenty photographs take longer");
                // What was begun is finished: a photograph at most, and then the call is found to be over.
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Door::AddFaces => {
                let added = client.add_faces("staff", &person_id(1), &[&self.png]).await;
                added.expect("added");
            }
            Door::Get => drop(client.person("staff", &person_id(1)).await.expect("there")),
            Door::List => assert_eq!(client.people("staff").await, [person_id(1)]),
            Door::Update => {
                let update = v1::UpdatePersonRequest {
                    collection: staff(),
                    person_id: person_id(1),
                    name: Some(name(2)),
                    ..Default::default()
                };
                persons.update_person(update).await.expect("changed");
            }
            Door::Copy => {
                let copy = v1::CopyPersonRequest {
                    collection: staff(),
                    person_id: person_id(1),
                    target_collection: staff(),
                    target_person_id: person_id(2),
                    ..Default::default()
                };
                persons.copy_person(copy).await.expect("copied");
            }
            Door::Rename => {
                let rename = v1::RenamePersonRequest {
                    collection: staff(),
                    person_id: person_id(2),
                    new_person_id: person_id(3),
                    ..Default::default()
                };
                persons.rename_person(rename).await.expect("renamed");
            }
            Door::Export => {
                let export = v1::ExportPersonRequest {
                    person_id: person_id(1),
                };
                persons.export_person(export).await.expect("exported");
            }
            Door::ImportPhotograph => {
                let item = v1::ImportItem {
                    photographs: photographs(&[&self.jpeg]),
                    ..self.item(2)
                };
                self.import(client, "import-of-a-photograph", item, true).await;
            }
            Door::ImportFeatures => {
                let item = v1::ImportItem {
                    embeddings: vec![v1::FaceEmbedding {
                        values: self.features.clone(),
                    }],
                    ..self.item(0)
                };
                self.import(client, "import-of-some-features", item, true).await;
            }
            Door::ImportRefused => {
                let item = v1::ImportItem {
                    embeddings: vec![v1::FaceEmbedding {
                        values: self.features[1..].to_vec(),
                    }],
                    ..self.item(0)
                };
                self.import(client, "import-of-too-few-of-them", item, false)
                    .await;
            }
            Door::RunningLog => {
                let list = v1::ListRunningLogRequest {
                    collection: staff(),
                    person_id: person_id(1),
                    ..Default::default()
                };
                let mut logs = v1::log_service_client::LogServiceClient::new(client.channel.clone());
                let rows = logs.list_running_log(list).await.expect("listed").into_inner();
                assert!(!rows.rows.is_empty());
            }
            Door::DeleteByStream => {
                let items = [person_id(0), person_id(2)].map(|person_id| v1::DeletePersonsRequest {
                    collection: staff(),
                    person_id,
                    ..Default::default()
                });
                let reply = persons.delete_persons(tokio_stream::iter(items)).await;
                let mut answers = reply.expect("begun").into_inner();
                while answers.message().await.expect("it goes on").is_some() {}
            }
            Door::Withdraw => {
                let withdrawal = v1::WithdrawConsentRequest {
                    collection: staff(),
                    person_id: person_id(1),
                    ..Default::default()
                };
                persons.withdraw_consent(withdrawal).await.expect("withdrawn");
            }
            Door::EraseAll => {
                for number in 0..4 {
                    let erase = v1::EraseEverywhereRequest {
                        person_id: person_id(number),
                        ..Default::default()
                    };
                    // Some are erased already.
                    drop(persons.erase_everywhere(erase).await);
                }
                assert!(client.people("staff").await.is_empty());
                purged(client).await;
            }
        }
    }

    async fn import(&self, client: &Client, token: &str, item: v1::ImportItem, accepted: bool) {
        let header = v1::ImportHeader {
            collection: "staff".to_owned(),
            import_token: token.to_owned(),
            embedding_model: blake3::hash(&fs::read(asset("models/fr_feature.onnx")).unwrap()).to_string(),
            embedding_dim: 512,
            ..Default::default()
        };
        let requests = [Part::Header(header), Part::Item(item)]
            .map(|part| v1::ImportPersonsRequest { part: Some(part) });
        let reply = client
            .persons
            .clone()
            .import_persons(tokio_stream::iter(requests))
            .await;
        let mut answers = reply.expect("begun").into_inner();
        while let Some(answer) = answers.message().await.expect("it goes on") {
            let imported = matches!(
                answer.outcome,
                Some(v1::import_persons_response::Outcome::Imported(_))
            );
            assert_eq!(imported, accepted);
        }
    }
}

/// Waits until the erased records have left the data files.
async fn purged(client: &Client) {
    let until = Instant::now() + PATIENCE;
    let mut erasures = ErasureServiceClient::new(client.channel.clone());
    loop {
        let status = erasures.get_erasure_status(v1::GetErasureStatusRequest {}).await;
        let status = status.expect("told").into_inner();
        if status.unpurged == 0 {
            return;
        }
        assert!(
            Instant::now() < until,
            "never purged: {} are left",
            status.unpurged
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Trusts the authority of the certificates, where there are any.
async fn connect(server: &Child, tls: Option<&Path>) -> Client {
    let mut endpoint = Endpoint::from_shared(server.url.clone())
        .unwrap()
        .timeout(PATIENCE);
    if let Some(directory) = tls {
        let authority = Certificate::from_pem(fs::read(directory.join("ca.pem")).unwrap());
        let trusting = ClientTlsConfig::new().ca_certificate(authority);
        endpoint = endpoint.tls_config(trusting).expect("an authority");
    }
    let credential = Credential::parse(&server.key).expect("a key");
    Client::on(endpoint.connect().await.expect("it listens"), credential)
}

/// A call that has sent a part of its message and no more, over a connection of its own.
struct Stalled {
    _sending: h2::SendStream<bytes::Bytes>,
    _response: h2::client::ResponseFuture,
    _client: h2::client::SendRequest<bytes::Bytes>,
    connection: tokio::task::JoinHandle<()>,
}

impl Stalled {
    async fn at(server: &Child, tls: Option<&Path>, path: &str, part: Vec<u8>) -> Self {
        let address = server.url.rsplit('/').next().unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let Some(directory) = tls else {
            return Self::over(stream, server, path, part).await;
        };
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(directory.join("ca.pem")).unwrap())
            .unwrap();
        let mut trusting = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        trusting.alpn_protocols = vec![b"h2".to_vec()];
        let shaken = TlsConnector::from(Arc::new(trusting))
            .connect(ServerName::try_from("localhost").unwrap(), stream)
            .await
            .unwrap();
        Self::over(shaken, server, path, part).await
    }

    async fn over(
        stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
        server: &Child,
        path: &str,
        part: Vec<u8>,
    ) -> Self {
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(async move { drop(connection.await) });
        let request = http::Request::post(format!("{}/likeness.v1.{path}", server.url))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", format!("Bearer {}", server.key))
            .body(())
            .unwrap();
        let mut client = client.ready().await.unwrap();
        let (response, mut sending) = client.send_request(request, false).unwrap();
        // A message that is longer than what comes of it.
        let length = u32::try_from(part.len() + 1000).unwrap();
        let begun = [&[0][..], &length.to_be_bytes(), &part].concat();
        sending.send_data(begun.into(), false).unwrap();
        Self {
            _sending: sending,
            _response: response,
            _client: client,
            connection,
        }
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// The control: what a call holds that has not come to its end is found, each kind of it; and goes with the call.
async fn what_a_call_holds_is_found(server: &Child, tls: Option<&Path>, watched: &Watched) {
    let windows = watched.windows();
    for path in ["PersonService/EnrollPerson", "PersonService/ImportPersons"] {
        let stalled = Stalled::at(server, tls, path, windows.samples().to_vec()).await;
        let until = Instant::now() + PATIENCE;
        let all = [OF_PHOTOGRAPH, OF_FEATURES, OF_PERSON].concat();
        loop {
            let found = watched.found();
            let is_found = |kind: &&str| found.count(kind) >= SAMPLES.min(windows.count(kind));
            if all.iter().all(is_found) {
                break;
            }
            assert!(Instant::now() < until, "{path}: not all of it is found: {found}");
        }
        drop(stalled);
        tokio::time::sleep(CLEAN_AFTER).await;
        let left = watched.found();
        assert!(left.is_empty(), "{path}, given up: {left}");
    }
}

async fn nothing_is_left(tls: Option<&Path>) {
    let (given, windows) = Given::new();
    let mut home = Home::new();
    if let Some(directory) = tls {
        let file = |name: &str| directory.join(name).display().to_string();
        home = home.with(&[
            "--tls-cert",
            &file("server.pem"),
            "--tls-key",
            &file("server.key"),
        ]);
    }
    let server = home.serve();
    let client = connect(&server, tls).await;
    client.create("staff").await;
    let watched = Watched::new(server.pid(), windows);
    what_a_call_holds_is_found(&server, tls, &watched).await;
    let mut left = Vec::new();
    for (door, kinds) in DOORS {
        given.pass(*door, &client).await;
        tokio::time::sleep(CLEAN_AFTER).await;
        // The client sees the end of its connection meanwhile.
        let found = tokio::task::block_in_place(|| watched.found()).of(&kinds.concat());
        if !found.is_empty() {
            left.push(format!("{door:?}: {found}"));
        }
    }
    assert!(left.is_empty(), "\n{}\n", left.join("\n"));
    // It is the server that was searched, and it serves on.
    client.create("others").await;
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_after_a_reply_memory_holds_nothing_of_the_call_in_the_clear() {
    nothing_is_left(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_after_a_reply_memory_holds_nothing_of_the_call_under_tls() {
    let certificates = directory();
    Program::run(&["tls", "dev-cert", &certificates.path().display().to_string()]).expect(0);
    nothing_is_left(Some(certificates.path())).await;
}

/// What calls take on this build and on another, turn by turn: `LIKENESS_OTHER` is the other program.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, beside another build of the program"]
async fn what_calls_cost_beside_another_build() {
    const TURNS: usize = 300;
    const KINDS: [&str; 3] = ["enrol", "search", "delete"];
    let other = std::env::var_os("LIKENESS_OTHER").expect("another build of the program");
    let homes = [Home::new(), Home::new()];
    let mut commands = [homes[0].command(), std::process::Command::new(other)];
    let as_usual = homes[1].command();
    commands[1].args(as_usual.get_args());
    for (name, value) in as_usual.get_envs() {
        match value {
            Some(value) => commands[1].env(name, value),
            None => commands[1].env_remove(name),
        };
    }
    let servers = commands.map(|mut command| {
        command.args(["--refused-per-day", "1000000", "--refused-in-a-row", "1000000"]);
        Child::start(&mut command)
    });
    let photo = sample("obama.jpg");
    let mut took = [0; 2].map(|_| KINDS.map(|_| Vec::new()));
    let mut clients = Vec::new();
    for server in &servers {
        clients.push(server.client().await);
        clients[clients.len() - 1].create("staff").await;
    }
    for turn in 0..TURNS + 10 {
        for which in [turn % 2, 1 - turn % 2] {
            let (client, who) = (&clients[which], format!("p{turn}"));
            let mut times = Vec::new();
            let began = Instant::now();
            client.enroll("staff", &who, &[&photo]).await.expect("enrolled");
            times.push(began.elapsed());
            let began = Instant::now();
            client.search("staff", &photo).await.expect("searched");
            times.push(began.elapsed());
            let began = Instant::now();
            client.delete("staff", &who).await.expect("deleted");
            times.push(began.elapsed());
            if turn >= 10 {
                for (all, time) in took[which].iter_mut().zip(times) {
                    all.push(time);
                }
            }
        }
    }
    for (kind, name) in KINDS.iter().enumerate() {
        let [own, others] = [0, 1].map(|which| {
            took[which][kind].sort();
            [1, 2].map(|quarters| took[which][kind][TURNS * quarters / 4].as_secs_f64() * 1e3)
        });
        let ratios = [own[0] / others[0], own[1] / others[1]];
        println!("{name}: lower quartile and median {own:.2?} ms beside {others:.2?} ms, {ratios:.3?} times");
    }
}
