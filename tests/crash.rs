//! kill -9 at any moment: what was acknowledged is kept, what was erased stays erased, and the server
//! starts again.

use std::collections::BTreeMap;
use std::env;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use likeness_proto::v1;
use tonic::Code;
use tonic_types::StatusExt;

use crate::support::child::{Child, Home};
use crate::support::client::photograph;
use crate::support::pictures::tiny;
use crate::support::{Client, refusal};

const ROUNDS: usize = 20;
const CLIENTS: usize = 4;
/// As many people as one search returns, so that it can be compared with the listing.
const PEOPLE_MAX: usize = 100 / CLIENTS - 2;

/// What is known of a person, or of a collection, after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Gone,
    /// The server was killed before it answered: either is right.
    Either,
}

type Fates = Arc<Mutex<BTreeMap<String, Fate>>>;

/// A linear congruential generator: the same choices for the same seed.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// A number from the environment, for longer runs and for a run again.
fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_is_kept_and_erased_stays_erased_through_kill_9() {
    let seed = number("CRASH_SEED", 20_260_101);
    let rounds = number("CRASH_ROUNDS", ROUNDS as u64);
    println!("CRASH_SEED={seed} CRASH_ROUNDS={rounds}");
    let mut random = Random(seed);
    let home = Home::new().with(&["--workers", "2"]);
    let photo = Arc::new(tiny());
    let (people, collections) = (Fates::default(), Fates::default());

    let first = home.serve();
    first.client().await.create("staff").await;
    drop(first);
    let mut answered = 0;
    for round in 0..rounds {
        if random.below(4) == 0 {
            kill_while_starting(&home, &mut random);
        }
        let mut server = home.serve();
        let client = server.client().await;
        assert_as_acknowledged(&client, &people, &collections, &photo).await;

        let mut clients = tokio::task::JoinSet::new();
        for number in 0..CLIENTS {
            clients.spawn(work(Worker {
                client: server.client().await,
                name: format!("{round}-{number}"),
                number,
                photo: Arc::clone(&photo),
                random: Random(random.below(u64::MAX)),
                people: Arc::clone(&people),
                collections: Arc::clone(&collections),
            }));
        }
        // The moment is the test: it cannot be waited for, only be drawn.
        tokio::time::sleep(Duration::from_millis(random.below(250))).await;
        server.kill();
        answered += clients.join_all().await.into_iter().sum::<usize>();
    }
    let server = home.serve();
    assert_as_acknowledged(&server.client().await, &people, &collections, &photo).await;
    server.stop();
    println!("{answered} changes were acknowledged");
    assert!(answered as u64 > rounds, "hardly anything was done: {answered}");
}

fn kill_while_starting(home: &Home, random: &mut Random) {
    let mut process = home
        .command()
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(random.below(300)));
    process.kill().unwrap();
    process.wait().unwrap();
}

/// What the server holds against what it had acknowledged; what was open is known afterwards.
async fn assert_as_acknowledged(client: &Client, people: &Fates, collections: &Fates, photo: &[u8]) {
    let listed = client.people("staff").await;
    settle(people, &listed);
    let found = client.search_as(v1::SearchPersonsRequest {
        collections: vec!["staff".to_owned()],
        photograph: Some(photograph(photo)),
        top_k: 100,
        ..Default::default()
    });
    let found = found.await.expect("searched");
    let mut named: Vec<_> = found
        .results
        .into_iter()
        .flat_map(|r| r.matches)
        .map(|m| m.person_id)
        .collect();
    named.sort();
    assert_eq!(named, listed, "who is listed is found, and nobody else");
    let collection = client.collection("staff").await.expect("kept");
    assert_eq!(
        (collection.persons, collection.damaged_persons),
        (listed.len() as u64, 0)
    );
    assert_eq!(found.faces_searched, collection.faces);
    for person_id in &listed {
        let person = client.person("staff", person_id).await.expect("readable");
        assert!(!person.faces.is_empty());
    }

    let request = v1::ListCollectionsRequest {
        page_size: 1000,
        cursor: String::new(),
    };
    let reply = client.collections.clone().list_collections(request).await;
    let mut names: Vec<_> = reply
        .expect("listed")
        .into_inner()
        .collections
        .into_iter()
        .map(|c| c.name)
        .collect();
    names.retain(|name| name != "staff");
    settle(collections, &names);
}

fn settle(fates: &Fates, present: &[String]) {
    let mut fates = fates.lock().unwrap();
    for name in present {
        let fate = fates.get(name).copied();
        assert!(
            matches!(fate, Some(Fate::Kept | Fate::Either)),
            "{name} is there: {fate:?}"
        );
    }
    for (name, fate) in fates.iter_mut() {
        let there = present.contains(name);
        assert!(
            there || *fate != Fate::Kept,
            "{name} was acknowledged and is gone"
        );
        *fate = if there { Fate::Kept } else { Fate::Gone };
    }
}

struct Worker {
    client: Client,
    name: String,
    number: usize,
    photo: Arc<Vec<u8>>,
    random: Random,
    people: Fates,
    collections: Fates,
}

/// Changes people until the server dies; answers how many changes were acknowledged.
async fn work(mut worker: Worker) -> usize {
    for turn in 0.. {
        let done = if worker.number == 0 && turn % 4 == 3 {
            worker.pass_through_a_collection(turn).await
        } else {
            worker.enroll_or_delete(turn).await
        };
        if done.is_none() {
            return turn;
        }
    }
    unreachable!("the server dies first");
}

impl Worker {
    /// People whose names end as this worker's number; nobody else changes them.
    fn own(&self) -> Vec<String> {
        let people = self.people.lock().unwrap();
        let end = format!("#{}", self.number);
        let kept = people
            .iter()
            .filter(|(name, fate)| name.ends_with(&end) && **fate == Fate::Kept);
        kept.map(|(name, _)| name.clone()).collect()
    }

    async fn enroll_or_delete(&mut self, turn: usize) -> Option<()> {
        let own = self.own();
        let full = own.len() >= PEOPLE_MAX;
        if full || (!own.is_empty() && self.random.below(2) == 0) {
            let which = usize::try_from(self.random.below(own.len() as u64)).unwrap();
            let person_id = &own[which];
            let (client, photo) = (&self.client, &self.photo);
            return match self.random.below(3) {
                // Sealed anew: the person must not be lost between the two keys.
                0 => {
                    let kept = change(&self.people, person_id, Fate::Kept);
                    acknowledge(
                        kept,
                        client.add_faces("staff", person_id, &[photo]).await.map(|_| ()),
                    )
                    .await?;
                    let faces = alive(client.person("staff", person_id).await)?.faces;
                    let reduced = client
                        .delete_faces("staff", person_id, &[&faces[0].face_id])
                        .await;
                    alive(reduced).map(|_| ())
                }
                _ => {
                    let gone = change(&self.people, person_id, Fate::Gone);
                    acknowledge(gone, client.delete("staff", person_id).await.map(|_| ())).await
                }
            };
        }
        let person_id = format!("{}-{turn}#{}", self.name, self.number);
        let kept = change(&self.people, &person_id, Fate::Kept);
        let enrolled = self.client.enroll("staff", &person_id, &[&self.photo]).await;
        acknowledge(kept, enrolled.map(|_| ())).await
    }

    async fn pass_through_a_collection(&mut self, turn: usize) -> Option<()> {
        let name = format!("passing-{}-{turn}", self.name);
        let request = v1::CreateCollectionRequest {
            name: name.clone(),
            ..Default::default()
        };
        let kept = change(&self.collections, &name, Fate::Kept);
        let made = self.client.collections.clone().create_collection(request).await;
        acknowledge(kept, made.map(|_| ())).await?;
        alive(self.client.enroll(&name, "somebody", &[&self.photo]).await)?;
        let gone = change(&self.collections, &name, Fate::Gone);
        acknowledge(gone, self.client.delete_collection(&name).await.map(|_| ())).await
    }
}

/// A change on its way: until it is acknowledged, either is right.
struct Change<'a> {
    fates: &'a Fates,
    name: &'a str,
    then: Fate,
}

fn change<'a>(fates: &'a Fates, name: &'a str, then: Fate) -> Change<'a> {
    let mut known = fates.lock().unwrap();
    // Whoever is kept before and after is kept in between.
    if known.get(name) != Some(&then) {
        known.insert(name.to_owned(), Fate::Either);
    }
    Change { fates, name, then }
}

async fn acknowledge(change: Change<'_>, answer: Result<(), tonic::Status>) -> Option<()> {
    alive(answer)?;
    change
        .fates
        .lock()
        .unwrap()
        .insert(change.name.to_owned(), change.then);
    Some(())
}

/// The answer, if the server lived to give one. It may die, but it may not refuse.
fn alive<T>(answer: Result<T, tonic::Status>) -> Option<T> {
    match answer {
        Ok(answer) => Some(answer),
        Err(status) => {
            // Metadata may have come before it died, but a refusal says why.
            let refused = status.get_error_details().error_info().is_some();
            assert!(!refused, "{:?}", refusal::read(&status));
            assert!(
                matches!(
                    status.code(),
                    Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled
                ),
                "{status:?}"
            );
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_person_is_gone_although_the_server_dies_right_after() {
    let home = Home::new();
    let photo = tiny();
    let mut server: Child = home.serve();
    let client = server.client().await;
    client.create("staff").await;
    client.enroll("staff", "one", &[&photo]).await.expect("enrolled");
    client.enroll("staff", "two", &[&photo]).await.expect("enrolled");
    client.delete("staff", "one").await.expect("erased");
    server.kill();
    let server = home.serve();
    let client = server.client().await;
    assert_eq!(client.people("staff").await, ["two"]);
    assert_eq!(client.found("staff", &photo).await, ["two"]);
}
