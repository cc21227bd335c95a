//! The calls of the main path over gRPC on loopback, to the server as it is deployed, and the same calls
//! in process: what the network's side costs. With `LIKENESS_PEOPLE` only a search, among so many more people.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use criterion::{BatchSize, Criterion};
use likeness_bench::bare::{Bare, Doing};
use likeness_bench::figures::Figures;
use likeness_bench::population::Population;
use likeness_bench::turns::Turns;
use likeness_bench::{COLLECTION, assets, criterion, measures_all, people};
use likeness_engine::{
    Account, Call, CallOrigin, Cancel, Charge, Checks, Choose, CollectionRef, Comparison, Engine, PersonId,
    Profile, QualityLevel, Query, RandomId, Searching, Timestamp, Wanted,
};
use likeness_proto::credential::{Credential, KeyedChannel};
use likeness_proto::v1::matching_service_client::MatchingServiceClient;
use likeness_proto::v1::person_service_client::PersonServiceClient;
use likeness_proto::v1::{
    DeletePersonRequest, EnrollPersonRequest, Photograph, SearchPersonsRequest, VerifyPersonRequest,
};
use likeness_server::config::{LimitArgs, ModelFiles, ServeConfig};
use likeness_server::credential;
use likeness_server::tls::TlsFiles;
use likeness_server::{ServeError, serve};
use tokio::net::TcpListener;
use tokio::runtime::{self, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::Endpoint;

/// gRPC may add so many milliseconds to a call.
const ADDED_MS_MAX: f64 = 0.5;
/// Rounds in which every call is made over gRPC and in process.
const ROUNDS: usize = 200;
/// People in the collection from the beginning, so that a search has somebody to compare with.
const PEOPLE: u32 = 100;
/// People a search answers.
const TOP_K: usize = 5;
/// How those are called whom a server deletes that does nothing else, and so many bytes has its message.
const FLOOR: &str = "floor";
const ID_BYTES: usize = 64;
/// The person that is looked for and never deleted.
const KNOWN: &str = "person-0";

/// What a call asks for that asks for nothing.
const ANY: Wanted = Choose::Only.at(QualityLevel::None);
const FINE: &str = "the server answered such a call before";

fn main() {
    let mut criterion = criterion();
    let (folder, engine) = likeness_bench::engine();
    let engine = Arc::new(engine);
    let photo = assets::photograph();
    let server = Serving::start(folder.path(), Arc::clone(&engine));
    let key = credential::all_scopes(&engine.administration(), "benchmark").expect("a fresh store");
    let remote = Remote::connect(server.address, credential::of(&key), photo.clone());
    let direct = Arc::new(Direct {
        collection: likeness_bench::collection(&engine),
        engine,
        photo,
    });
    (0..PEOPLE).for_each(|number| direct.enrol(&format!("person-{number}")));
    if let Some(people) = people() {
        people::enrol(&direct.engine, &direct.collection, &Population::new(1), 0..people);
        among(people, &remote, &*direct);
    } else {
        measure(&mut criterion, "grpc", &remote);
        measure(&mut criterion, "in process", &*direct);
        criterion.final_summary();
        if measures_all() {
            figures(&remote, &*direct, &Floors::start(&direct));
        }
    }
    drop(remote);
    server.stop();
}

/// The main path, however it is reached.
trait Calls {
    fn enrol(&self, id: &str);
    fn search(&self);
    fn verify(&self);
    fn delete(&self, id: &str);
}

fn measure(criterion: &mut Criterion, how: &str, calls: &dyn Calls) {
    let mut group = criterion.benchmark_group(how);
    let mut new = ids("enrolled");
    group.bench_function("enrol", |b| {
        b.iter_batched(&mut new, |id| calls.enrol(&id), BatchSize::SmallInput);
    });
    group.bench_function("search", |b| b.iter(|| calls.search()));
    group.bench_function("verify", |b| b.iter(|| calls.verify()));
    // Whoever is deleted is enrolled before, and that takes longer.
    group.sample_size(10);
    let mut new = ids("deleted");
    group.bench_function("delete", |b| {
        let enrolled = || {
            let id = new();
            calls.enrol(&id);
            id
        };
        b.iter_batched(enrolled, |id| calls.delete(&id), BatchSize::NumIterations(32));
    });
    group.finish();
}

/// PersonIDs that nobody has yet.
fn ids(what: &str) -> impl FnMut() -> String {
    static SERIES: AtomicU32 = AtomicU32::new(0);
    numbered(&format!("{what}-{}", SERIES.fetch_add(1, Ordering::Relaxed)))
}

/// What gRPC alone takes for some of the calls.
struct Floors {
    nothing: Bare,
    search: Bare,
    /// Deletes whom `direct` has enrolled as `FLOOR`, in order.
    delete: Bare,
}

impl Floors {
    fn start(direct: &Arc<Direct>) -> Self {
        let [search, delete] = [(); 2].map(|()| Arc::clone(direct));
        let ids = Mutex::new(numbered(FLOOR));
        let next = move || ids.lock().map(|mut ids| ids()).expect("no call panics");
        let photo = direct.photo.len();
        Self {
            nothing: Bare::start(photo, Doing::Nothing),
            search: Bare::start(photo, Doing::Work(Arc::new(move || search.search()))),
            delete: Bare::start(ID_BYTES, Doing::Work(Arc::new(move || delete.delete(&next())))),
        }
    }
}

/// Every call over gRPC and in process, in turn; each round deletes whom it enrols.
fn figures(remote: &dyn Calls, direct: &dyn Calls, floors: &Floors) {
    let [mut new_there, mut old_there] = [(); 2].map(|()| numbered("remote"));
    let [mut new_here, mut old_here] = [(); 2].map(|()| numbered("direct"));
    let [mut new_again, mut old_again] = [(); 2].map(|()| numbered("again"));
    let mut new_floor = numbered(FLOOR);
    let turns = Turns::take(
        ROUNDS,
        [
            &mut || remote.enrol(&new_there()),
            &mut || direct.enrol(&new_here()),
            &mut || remote.search(),
            &mut || direct.search(),
            &mut || remote.delete(&old_there()),
            &mut || direct.delete(&old_here()),
            &mut || direct.enrol(&new_floor()),
            &mut || direct.enrol(&new_again()),
            &mut || remote.verify(),
            &mut || direct.verify(),
            // After photographs for which the disk slept, as the other deletions are, and in turn with one in process.
            &mut || floors.delete.call(),
            &mut || direct.delete(&old_again()),
            &mut || floors.nothing.call(),
            &mut || floors.search.call(),
        ],
    );
    let mut figures = Figures::new(
        "grpc",
        "Calls over gRPC on loopback, beside the same calls in process",
    );
    for (n, call) in [(0, "enrol"), (1, "search"), (2, "delete"), (4, "verify")] {
        let (remote, direct) = (turns.p50(2 * n) * 1e3, turns.p50(2 * n + 1) * 1e3);
        figures.add(format!("{call} over gRPC, p50"), remote, "ms");
        figures.add(format!("{call} in process, p50"), direct, "ms");
        let adds = turns.median(|round| round[2 * n] - round[2 * n + 1]) * 1e3;
        figures
            .add(format!("{call}: gRPC adds at p50"), adds, "ms")
            .goal_max = Some(ADDED_MS_MAX);
        if call != "delete" {
            // A deletion is the disk's more than anybody's.
            let ratio = turns.median(|round| round[2 * n] / round[2 * n + 1]);
            figures.add(format!("{call}: over gRPC / in process"), ratio, "");
        }
    }
    figures.add(
        "gRPC alone: a server that does nothing, asked with as many bytes, p50",
        turns.p50(12) * 1e3,
        "ms",
    );
    figures.add(
        "gRPC alone: a server that does nothing but to have the search done on a thread for it adds",
        turns.median(|round| round[13] - round[3]) * 1e3,
        "ms",
    );
    figures.add(
        "search: the server adds to that",
        turns.median(|round| round[2] - round[13]) * 1e3,
        "ms",
    );
    figures.add(
        "gRPC alone: a server that does nothing but to have the deletion done on a thread for it adds",
        turns.median(|round| round[10] - round[11]) * 1e3,
        "ms",
    );
    figures.add(
        "delete: the server adds to that",
        turns.median(|round| (round[4] - round[5]) - (round[10] - round[11])) * 1e3,
        "ms",
    );
    figures.finish();
}

/// Synthetic people to search among, where that is asked for.
fn people() -> Option<u64> {
    let people = std::env::var("LIKENESS_PEOPLE").ok()?;
    Some(people.parse().expect("LIKENESS_PEOPLE is a number"))
}

/// A search over gRPC and in process, in turn, among so many.
fn among(people: u64, remote: &dyn Calls, direct: &dyn Calls) {
    let turns = Turns::take(ROUNDS, [&mut || remote.search(), &mut || direct.search()]);
    let title = format!("A search by photograph among {people} people, over gRPC on loopback and in process");
    let mut figures = Figures::new("grpc-among", &title);
    let (remote, direct) = (turns.p50(0) * 1e3, turns.p50(1) * 1e3);
    figures.add("search over gRPC, p50", remote, "ms");
    figures.add("search in process, p50", direct, "ms");
    let adds = turns.median(|[remote, direct]| remote - direct) * 1e3;
    figures.add("search: gRPC adds at p50", adds, "ms").goal_max = Some(ADDED_MS_MAX);
    figures.add(
        "search among them: over gRPC / in process",
        turns.median(|[remote, direct]| remote / direct),
        "",
    );
    figures.finish();
}

/// The same names in the same order, each time it is made.
fn numbered(prefix: &str) -> impl FnMut() -> String + Send + use<> {
    let (prefix, mut numbers) = (prefix.to_owned(), 0u64..);
    move || format!("{prefix}-{}", numbers.next().expect("endless"))
}

/// The calls in process, counted and noted in the running log as the server has them.
struct Direct {
    engine: Arc<Engine>,
    collection: CollectionRef,
    photo: Vec<u8>,
}

impl Direct {
    fn call<T>(&self, interface: &'static str, work: impl FnOnce(&mut Call) -> T) -> T {
        let mut call = Call::new(RandomId::random(), Cancel::default()).asked_by(RandomId::random());
        let origin = CallOrigin {
            account: Account::default(),
            sub_account: String::new(),
            client: "127.0.0.1:1".to_owned(),
            region: "local".into(),
            interface,
            received: Timestamp::now(),
        };
        self.engine.log_call(&mut call, origin);
        let answer = work(&mut call);
        call.end("OK", Charge::Billed);
        answer
    }

    fn query(&self, call: &mut Call) -> Query {
        let own = std::slice::from_ref(&self.collection);
        let query = self.engine.query(own, &self.photo, ANY, call);
        query.expect(FINE).0
    }
}

impl Calls for Direct {
    fn enrol(&self, id: &str) {
        self.call("EnrollPerson", |call| {
            let checks = Checks::default();
            let face = self
                .engine
                .new_face(&self.collection, &self.photo, ANY, checks, call);
            let faces = vec![face.expect(FINE).0];
            let profile = Profile::default();
            let enrolled = self
                .engine
                .enroll(&self.collection, &person(id), profile, faces, call);
            enrolled.expect(FINE);
        });
    }

    fn search(&self) {
        self.call("SearchPersons", |call| {
            let query = self.query(call);
            let places = [(self.collection.clone(), self.collection.threshold())];
            let searching = Searching {
                top_k: TOP_K,
                ..Searching::default()
            };
            let found = self.engine.search(&places, &[query], searching, call);
            assert_eq!(found.expect(FINE).matches[0].len(), TOP_K);
        });
    }

    fn verify(&self) {
        self.call("VerifyPerson", |call| {
            let query = self.query(call);
            let by = (Comparison::BestFace, self.collection.threshold());
            let found = self
                .engine
                .verify(&self.collection, &person(KNOWN), &query, by, call);
            assert!(found.expect(FINE).similarity >= self.collection.threshold());
        });
    }

    fn delete(&self, id: &str) {
        self.call("DeletePerson", |call| {
            let erased = self.engine.delete_person(&self.collection, &person(id), call);
            assert_eq!(erased.expect(FINE).faces, 1);
        });
    }
}

fn person(id: &str) -> PersonId {
    PersonId::parse(id).expect("letters, digits and hyphens")
}

/// The calls over gRPC, by a client with a connection and a thread of its own.
struct Remote {
    runtime: Runtime,
    persons: PersonServiceClient<KeyedChannel>,
    matching: MatchingServiceClient<KeyedChannel>,
    photo: Vec<u8>,
}

impl Remote {
    fn connect(address: SocketAddr, credential: Credential, photo: Vec<u8>) -> Self {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("threads can be made");
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        let channel = runtime.block_on(endpoint.connect()).expect("the server listens");
        let channel = credential.on(channel);
        Self {
            runtime,
            persons: PersonServiceClient::new(channel.clone()),
            matching: MatchingServiceClient::new(channel),
            photo,
        }
    }

    fn photograph(&self) -> Photograph {
        Photograph {
            data: self.photo.clone(),
        }
    }
}

impl Calls for Remote {
    fn enrol(&self, id: &str) {
        let request = EnrollPersonRequest {
            collection: COLLECTION.to_owned(),
            person_id: id.to_owned(),
            photographs: vec![self.photograph()],
            ..Default::default()
        };
        let mut client = self.persons.clone();
        let reply = self.runtime.block_on(client.enroll_person(request));
        assert!(reply.expect(FINE).into_inner().person.is_some());
    }

    fn search(&self) {
        let request = SearchPersonsRequest {
            collections: vec![COLLECTION.to_owned()],
            photograph: Some(self.photograph()),
            top_k: TOP_K as u32,
            ..Default::default()
        };
        let mut client = self.matching.clone();
        let reply = self.runtime.block_on(client.search_persons(request));
        assert_eq!(reply.expect(FINE).into_inner().results[0].matches.len(), TOP_K);
    }

    fn verify(&self) {
        let request = VerifyPersonRequest {
            collection: COLLECTION.to_owned(),
            person_id: KNOWN.to_owned(),
            photograph: Some(self.photograph()),
            ..Default::default()
        };
        let mut client = self.matching.clone();
        let reply = self.runtime.block_on(client.verify_person(request));
        assert!(reply.expect(FINE).into_inner().same_person);
    }

    fn delete(&self, id: &str) {
        let request = DeletePersonRequest {
            collection: COLLECTION.to_owned(),
            person_id: id.to_owned(),
            ..Default::default()
        };
        let mut client = self.persons.clone();
        let reply = self.runtime.block_on(client.delete_person(request));
        assert_eq!(reply.expect(FINE).into_inner().faces_erased, 1);
    }
}

/// The server as the program starts it, on a free port and on threads of its own.
struct Serving {
    address: SocketAddr,
    runtime: Runtime,
    shutdown: oneshot::Sender<()>,
    served: JoinHandle<Result<(), ServeError>>,
}

impl Serving {
    fn start(folder: &Path, engine: Arc<Engine>) -> Self {
        let runtime = Runtime::new().expect("threads can be made");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"));
        let listener = listener.expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let config = ServeConfig {
            limits: LimitArgs::GENEROUS,
            listen: address,
            data: folder.join("data"),
            keys: folder.join("keys"),
            models: ModelFiles {
                models: None,
                runtime: None,
            },
            workers: None,
            queue: 128,
            call_seconds: 60,
            drain_seconds: 30,
            root_key_command: None,
            accept_short_erasure_log: false,
            accept_short_audit_log: false,
            plaintext_off_loopback: false,
            metrics: None,
            metrics_off_loopback: false,
            tls: TlsFiles::default(),
            region: "local".to_owned(),
            retention: likeness_server::logs::retention::Retention::default(),
            open_reflection: false,
            faces_warning: 0,
        };
        let (shutdown, shut_down) = oneshot::channel();
        let served = runtime.spawn(async move {
            // A sender that is gone ends it too.
            serve(&config, engine, listener, async { drop(shut_down.await) }).await
        });
        Self {
            address,
            runtime,
            shutdown,
            served,
        }
    }

    fn stop(self) {
        self.shutdown.send(()).expect("the server still runs");
        let served = self.runtime.block_on(self.served);
        served.expect("it does not panic").expect("it drains");
    }
}
