//! Thirty-two clients search while others erase and enrol: a person is not named after the acknowledged erasure.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use likeness_engine::receipts::{Receipt, ReceiptKind};
use likeness_proto::v1;
use likeness_proto::v1::erasure_service_client::ErasureServiceClient;
use tonic::{Code, Status};

use crate::support::client::photograph;
use crate::support::pictures::{astronaut_small, tiny};
use crate::support::{Client, PATIENCE, Server};

const READERS: usize = 32;
const ERASERS: usize = 3;
/// People that each eraser erases, one after the other.
const EACH: usize = 6;
/// A reply to a call that was under way may be on the wire, or wait for a busy client to hear of it. That it
/// is built before the erasure is acknowledged is shown inside the engine, where nothing lies between.
const ON_THE_WIRE: Duration = Duration::from_millis(250);

/// Somebody named in a reply.
struct Naming {
    who: String,
    asked: Instant,
    received: Instant,
}

/// What the clients have in common.
#[derive(Default)]
struct Observed {
    /// Who was enrolled, and not yet acknowledged as erased.
    present: Mutex<Vec<String>>,
    named: Mutex<HashSet<String>>,
    done: AtomicBool,
}

/// Replies that name somebody who was acknowledged as erased at that time.
fn too_late<'a>(namings: &'a [Naming], acknowledged: &HashMap<String, Instant>) -> Vec<&'a str> {
    let late = namings.iter().filter(|naming| {
        let gone = acknowledged.get(&naming.who);
        gone.is_some_and(|at| naming.asked > *at || naming.received > *at + ON_THE_WIRE)
    });
    late.map(|naming| naming.who.as_str()).collect()
}

/// What an answer says, if it does not say that there is nobody.
fn unless_unknown<T>(answer: Result<T, Status>) -> Option<T> {
    match answer {
        Ok(said) => Some(said),
        Err(status) => {
            assert_eq!(status.code(), Code::NotFound, "{status:?}");
            None
        }
    }
}

/// Everyone whom one call names: a search, a listing, a look at one person, or a verification.
async fn ask(client: &Client, turn: usize, somebody: Option<&String>, photo: &[u8]) -> Vec<String> {
    match (turn % 8, somebody) {
        (0, _) => client.people("staff").await,
        (1..=3, Some(who)) => {
            let person = unless_unknown(client.person("staff", who).await);
            person.into_iter().map(|person| person.person_id).collect()
        }
        (4, Some(who)) => {
            let verified = unless_unknown(client.verify("staff", who, photo).await);
            verified.into_iter().map(|_| who.clone()).collect()
        }
        _ => {
            let request = v1::SearchPersonsRequest {
                collections: vec!["staff".to_owned()],
                photograph: Some(photograph(photo)),
                top_k: 100,
                ..Default::default()
            };
            let found = client.search_as(request).await.expect("searched").results;
            let matches = found.into_iter().flat_map(|face| face.matches);
            matches.map(|found| found.person_id).collect()
        }
    }
}

async fn read(client: Client, number: usize, photo: Arc<Vec<u8>>, observed: Arc<Observed>) -> Vec<Naming> {
    let mut namings = Vec::new();
    for turn in number.. {
        if observed.done.load(Ordering::Relaxed) {
            break;
        }
        let somebody = {
            let present = observed.present.lock().unwrap();
            present.get(turn % present.len().max(1)).cloned()
        };
        let asked = Instant::now();
        let named = ask(&client, turn, somebody.as_ref(), &photo).await;
        let received = Instant::now();
        observed.named.lock().unwrap().extend(named.iter().cloned());
        namings.extend(named.into_iter().map(|who| Naming { who, asked, received }));
    }
    namings
}

/// Erases one person after the other, each as soon as somebody has named them; and enrols the next under
/// another PersonID.
async fn erase(
    client: Client,
    number: usize,
    photo: Arc<Vec<u8>>,
    observed: Arc<Observed>,
) -> Vec<(String, Instant)> {
    let mut acknowledged = Vec::new();
    for n in 0..EACH {
        let who = format!("p{number}-{n}");
        client
            .enroll_in_turn("staff", &who, &[&photo])
            .await
            .expect("enrolled");
        observed.present.lock().unwrap().push(who.clone());
        let until = Instant::now() + PATIENCE;
        while !observed.named.lock().unwrap().contains(&who) {
            assert!(Instant::now() < until, "nobody names {who}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        client.delete("staff", &who).await.expect("erased");
        acknowledged.push((who.clone(), Instant::now()));
        // Readers go on asking for the person by name for as long as the next one is not enrolled.
        let again = format!("{who}-again");
        let anew = client.enroll_in_turn("staff", &again, &[&photo]).await;
        anew.expect("enrolled");
        observed.present.lock().unwrap().retain(|present| *present != who);
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn no_reply_after_an_acknowledged_erasure_names_the_person_to_any_of_32_clients() {
    let server = Server::start().await;
    server.client().await.create("staff").await;
    let photos = [Arc::new(tiny()), Arc::new(astronaut_small())];
    let observed = Arc::new(Observed::default());
    let (mut readers, mut erasers) = (tokio::task::JoinSet::new(), tokio::task::JoinSet::new());
    // A connection each.
    for number in 0..READERS {
        let photo = Arc::clone(&photos[number % 2]);
        readers.spawn(read(server.client().await, number, photo, Arc::clone(&observed)));
    }
    for number in 0..ERASERS {
        let photo = Arc::clone(&photos[number % 2]);
        erasers.spawn(erase(server.client().await, number, photo, Arc::clone(&observed)));
    }
    let acknowledged: HashMap<_, _> = erasers.join_all().await.into_iter().flatten().collect();
    observed.done.store(true, Ordering::Relaxed);
    let namings: Vec<_> = readers.join_all().await.into_iter().flatten().collect();

    assert_eq!(acknowledged.len(), ERASERS * EACH);
    assert_eq!(too_late(&namings, &acknowledged), [""; 0]);
    // Had the erasures been acknowledged before they were carried out, it would have been noticed of everyone.
    let began = namings
        .iter()
        .map(|naming| naming.asked)
        .min()
        .expect("somebody was named");
    let too_early = acknowledged
        .keys()
        .map(|who| (who.clone(), began - ON_THE_WIRE))
        .collect();
    let noticed: HashSet<_> = too_late(&namings, &too_early).into_iter().collect();
    assert_eq!(noticed, acknowledged.keys().map(String::as_str).collect());
    println!("{} namings beside {} erasures", namings.len(), acknowledged.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_receipt_of_deleted_faces_reaches_its_caller_though_the_person_is_erased_meanwhile() {
    const PEOPLE: usize = 12;
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let (one, two) = (tiny(), astronaut_small());
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..PEOPLE {
        let who = format!("p{n}");
        let enrolled = client
            .enroll("staff", &who, &[&one, &two])
            .await
            .expect("enrolled");
        let face = enrolled.person.expect("a person").faces[0].face_id.clone();
        let (reducing, erasing) = (client.clone(), client.clone());
        calls.spawn(async move {
            let request = v1::DeleteFacesRequest {
                collection: "staff".to_owned(),
                person_id: who.clone(),
                face_ids: vec![face],
                ..Default::default()
            };
            let reduced = async { reducing.persons.clone().delete_faces(request).await };
            // Of the first the faces are deleted for certain; the others race.
            let (reduced, erased) = if n == 0 {
                (reduced.await, erasing.delete("staff", &who).await)
            } else {
                tokio::join!(reduced, erasing.delete("staff", &who))
            };
            erased.expect("erased, before or after");
            unless_unknown(reduced).and_then(|reply| reply.into_inner().receipt)
        });
    }
    let received = calls.join_all().await.into_iter().flatten().count();
    let mut receipts = ErasureServiceClient::new(client.channel.clone());
    let request = v1::ListErasureReceiptsRequest {
        first: 0,
        page_size: 1000,
    };
    let log = receipts
        .list_erasure_receipts(request)
        .await
        .expect("listed")
        .into_inner();
    let kinds = log
        .receipts
        .iter()
        .map(|bytes| Receipt::parse(bytes).expect("whole").0.kind);
    let logged = kinds.filter(|kind| *kind == ReceiptKind::Reduced).count();
    assert_eq!(received, logged);
    assert!(
        received > 0,
        "some faces were deleted before their person was erased"
    );
}
