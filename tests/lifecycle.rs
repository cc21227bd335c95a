//! People after enrolment: they expire, are copied, renamed, shown to themselves, withdrawn and erased in bulk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use likeness_engine::receipts::{Receipt, ReceiptKind, subject};
use likeness_engine::{Account, CollectionName, PersonId};
use likeness_proto::v1;
use likeness_proto::v1::delete_persons_response::Outcome;
use likeness_proto::v1::person_service_client::PersonServiceClient;
use tonic::transport::Endpoint;
use tonic::{Code, Status};

use crate::support::pictures::{astronaut_small, sample};
use crate::support::{Client, PATIENCE, Refused, Server, refusal};

const SOON: Duration = Duration::from_millis(1500);

fn in_future(time: Duration) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp::from(SystemTime::now() + time))
}

fn consent(purpose: &str) -> Option<v1::Consent> {
    Some(v1::Consent {
        purpose: purpose.to_owned(),
        given: None,
        of_age_or_parental: true,
    })
}

fn request(person_id: &str, photo: &[u8]) -> v1::EnrollPersonRequest {
    v1::EnrollPersonRequest {
        collection: "staff".to_owned(),
        person_id: person_id.to_owned(),
        photographs: crate::support::client::photographs(&[photo]),
        ..Default::default()
    }
}

async fn create_of(client: &Client, name: &str, bits: u32) {
    let request = v1::CreateCollectionRequest {
        name: name.to_owned(),
        bits,
        ..Default::default()
    };
    let created = client.collections.clone().create_collection(request).await;
    created.expect("created");
}

async fn copy(client: &Client, person_id: &str, target: &str, new_id: &str) -> Result<v1::Person, Status> {
    let request = v1::CopyPersonRequest {
        collection: "staff".to_owned(),
        person_id: person_id.to_owned(),
        target_collection: target.to_owned(),
        target_person_id: new_id.to_owned(),
        ..Default::default()
    };
    let reply = client.persons.clone().copy_person(request).await?;
    Ok(reply.into_inner().person.expect("a person"))
}

async fn rename(client: &Client, person_id: &str, new_id: &str) -> Result<v1::Person, Status> {
    let request = v1::RenamePersonRequest {
        collection: "staff".to_owned(),
        person_id: person_id.to_owned(),
        new_person_id: new_id.to_owned(),
        ..Default::default()
    };
    let reply = client.persons.clone().rename_person(request).await?;
    Ok(reply.into_inner().person.expect("a person"))
}

async fn update(
    client: &Client,
    person_id: &str,
    expiry: Option<v1::ExpiryChange>,
    consent: Option<v1::Consent>,
) -> Result<v1::Person, Status> {
    let request = v1::UpdatePersonRequest {
        collection: "staff".to_owned(),
        person_id: person_id.to_owned(),
        expiry,
        consent,
        ..Default::default()
    };
    let reply = client.persons.clone().update_person(request).await?;
    Ok(reply.into_inner().person.expect("a person"))
}

async fn export(client: &Client, person_id: &str) -> Vec<v1::PersonExport> {
    let request = v1::ExportPersonRequest {
        person_id: person_id.to_owned(),
    };
    let reply = client.persons.clone().export_person(request).await;
    reply.expect("exported").into_inner().persons
}

fn unknown() -> Refused {
    Refused::new(Code::NotFound, "PERSON_NOT_FOUND")
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_expires_is_erased_by_the_server_itself() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let small = astronaut_small();
    let kept = v1::EnrollPersonRequest {
        expires: in_future(Duration::from_secs(3600)),
        ..request("kept", &small)
    };
    let kept = client
        .enroll_as(kept)
        .await
        .expect("enrolled")
        .person
        .expect("a person");
    assert!(kept.expires.is_some());
    assert!(client.person("staff", "kept").await.expect("there") == kept);
    let enrolled = Instant::now();
    let guest = v1::EnrollPersonRequest {
        expires: in_future(SOON),
        ..request("guest", &sample("biden.jpg"))
    };
    client.enroll_as(guest).await.expect("enrolled");
    assert_eq!(client.people("staff").await, ["guest", "kept"]);
    // Nobody asks for it, and nobody is told: the collection only has one person less.
    while client.collection("staff").await.expect("there").persons > 1 {
        assert!(enrolled.elapsed() < PATIENCE, "nobody came");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        enrolled.elapsed() >= SOON - Duration::from_millis(100),
        "not before the time"
    );
    assert_eq!(refusal::of(client.person("staff", "guest").await), unknown());
    assert_eq!(client.found("staff", &sample("biden.jpg")).await, [""; 0]);

    // More time can be given, and taken; the past is no time to expire.
    let never = update(&client, "kept", Some(v1::ExpiryChange { expires: None }), None).await;
    assert_eq!(never.expect("changed").expires, None);
    for expires in [
        Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
        in_future(Duration::from_secs(101 * 365 * 24 * 3600)),
    ] {
        let refused = update(&client, "kept", Some(v1::ExpiryChange { expires }), None).await;
        assert_eq!(refusal::fields(refused), ["expires"]);
        let late = v1::EnrollPersonRequest {
            expires,
            ..request("late", &small)
        };
        assert_eq!(refusal::fields(client.enroll_as(late).await), ["expires"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_expired_while_the_server_was_down_is_gone_when_it_serves() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let small = astronaut_small();
    client
        .enroll("staff", "kept", &[&sample("biden.jpg")])
        .await
        .expect("enrolled");
    let guest = v1::EnrollPersonRequest {
        expires: in_future(SOON),
        ..request("guest", &small)
    };
    client.enroll_as(guest).await.expect("enrolled");
    drop(client);
    let stopped = server.stop().await;
    tokio::time::sleep(SOON).await;
    let server = stopped.start().await;
    let client = server.client().await;
    assert_eq!(client.collection("staff").await.expect("there").persons, 1);
    assert_eq!(client.found("staff", &small).await, [""; 0]);
    assert_eq!(client.people("staff").await, ["kept"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_found_where_it_went_and_outlives_the_person_it_was_made_of() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    create_of(&client, "visitors", 256).await;
    create_of(&client, "archive", 2048).await;
    let (obama, obama2, obama3) = (sample("obama.jpg"), sample("obama2.jpg"), sample("obama3.jpg"));
    let enrolled = v1::EnrollPersonRequest {
        photographs: crate::support::client::photographs(&[&obama, &obama3]),
        name: "Barack Obama".to_owned(),
        tags: vec!["president".to_owned()],
        consent: consent("a test"),
        expires: in_future(Duration::from_secs(3600)),
        ..request("barack", &obama)
    };
    let original = client
        .enroll_as(enrolled)
        .await
        .expect("enrolled")
        .person
        .expect("a person");
    let copied = copy(&client, "barack", "visitors", "").await.expect("copied");
    assert_eq!(
        (&copied.person_id, &copied.name),
        (&original.person_id, &original.name)
    );
    assert_eq!(
        (&copied.tags, &copied.expires),
        (&original.tags, &original.expires)
    );
    assert!(copied.consent == original.consent);
    assert_eq!(copied.faces.len(), 2);
    for (copied, face) in copied.faces.iter().zip(&original.faces) {
        assert_ne!(copied.face_id, face.face_id);
        assert_eq!(copied.enrolled, face.enrolled);
    }
    assert_eq!(client.found("visitors", &obama2).await, ["barack"], "by 256 bits");

    let taken = Refused::new(Code::AlreadyExists, "PERSON_EXISTS");
    assert_eq!(refusal::of(copy(&client, "barack", "visitors", "").await), taken);
    assert_eq!(refusal::of(copy(&client, "barack", "staff", "").await), taken);
    assert_eq!(
        refusal::of(copy(&client, "nobody", "visitors", "").await),
        unknown()
    );
    let longer = copy(&client, "barack", "archive", "")
        .await
        .err()
        .expect("longer");
    assert_eq!(
        refusal::read(&longer),
        Refused::new(Code::FailedPrecondition, "SCHEME_MISMATCH")
    );
    assert!(
        longer.message().contains("/1024/") && longer.message().contains("/2048/"),
        "{}",
        longer.message()
    );
    let nowhere = copy(&client, "barack", "nowhere", "").await;
    assert_eq!(
        refusal::of(nowhere),
        Refused::new(Code::NotFound, "COLLECTION_NOT_FOUND")
    );
    assert_eq!(
        refusal::fields(copy(&client, "barack", "a b", "").await),
        ["target_collection"]
    );
    assert_eq!(
        refusal::fields(copy(&client, "barack", "staff", "a b").await),
        ["target_person_id"]
    );

    client.delete("staff", "barack").await.expect("erased");
    drop(client);
    let server = server.stop().await.start().await;
    let client = server.client().await;
    assert_eq!(client.found("staff", &obama2).await, [""; 0]);
    assert_eq!(client.found("visitors", &obama2).await, ["barack"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_person_is_found_under_the_new_personid_alone() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let (obama, biden) = (sample("obama.jpg"), sample("biden.jpg"));
    let before = client
        .enroll("staff", "b.obama", &[&obama])
        .await
        .expect("enrolled");
    client.enroll("staff", "joe", &[&biden]).await.expect("enrolled");
    let taken = Refused::new(Code::AlreadyExists, "PERSON_EXISTS");
    assert_eq!(refusal::of(rename(&client, "b.obama", "joe").await), taken);
    assert_eq!(refusal::of(rename(&client, "b.obama", "b.obama").await), taken);
    assert_eq!(
        refusal::of(rename(&client, "nobody", "somebody").await),
        unknown()
    );
    assert_eq!(
        refusal::fields(rename(&client, "joe", "a b").await),
        ["new_person_id"]
    );

    let renamed = rename(&client, "b.obama", "barack").await.expect("renamed");
    assert_eq!(renamed.person_id, "barack");
    assert!(
        renamed.faces == before.person.expect("a person").faces,
        "the same faces"
    );
    for restarted in [false, true] {
        assert_eq!(client.found("staff", &obama).await, ["barack"], "{restarted}");
        assert_eq!(client.people("staff").await, ["barack", "joe"]);
        assert_eq!(refusal::of(client.person("staff", "b.obama").await), unknown());
        assert_eq!(
            refusal::of(client.verify("staff", "b.obama", &obama).await),
            unknown()
        );
        assert!(export(&client, "b.obama").await.is_empty());
    }
    drop(client);
    let server = server.stop().await.start().await;
    let client = server.client().await;
    assert_eq!(client.found("staff", &obama).await, ["barack"]);
    assert_eq!(client.people("staff").await, ["barack", "joe"]);
    client.enroll("staff", "b.obama", &[&biden]).await.expect("free");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_shows_everything_but_the_bits() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    create_of(&client, "visitors", 256).await;
    create_of(&client, "others", 256).await;
    let small = astronaut_small();
    let enrolled = v1::EnrollPersonRequest {
        name: "Eileen".to_owned(),
        tags: vec!["crew".to_owned()],
        consent: consent("space flight"),
        expires: in_future(Duration::from_secs(3600)),
        ..request("eileen", &small)
    };
    client.enroll_as(enrolled).await.expect("enrolled");
    client.enroll("staff", "else", &[&small]).await.expect("enrolled");
    copy(&client, "eileen", "visitors", "").await.expect("copied");
    let shown = export(&client, "eileen").await;
    let places: Vec<_> = shown
        .iter()
        .map(|e| (&e.collection[..], e.template_bytes))
        .collect();
    assert_eq!(places, [("staff", 128), ("visitors", 32)]);
    for export in &shown {
        let kept = client.person(&export.collection, "eileen").await.expect("there");
        assert!(export.person.as_ref() == Some(&kept), "all that a reader sees");
        assert!(export.scheme.contains("fr_feature"), "{}", export.scheme);
        // A sealed record is its header and whole blocks of 512 bytes.
        assert!(export.record_bytes > 512 && export.slot_bytes > 0);
        assert!(export.counter_bytes > 0, "copies share counters");
    }
    let alone = export(&client, "else").await;
    assert_eq!(alone[0].counter_bytes, 0, "neither compared nor copied");
    assert!(export(&client, "nobody").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn consents_are_listed_replaced_and_withdrawn_with_the_person() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let small = astronaut_small();
    for n in 0..5 {
        let enrolled = v1::EnrollPersonRequest {
            consent: (n > 0).then(|| consent(&format!("purpose {n}"))).flatten(),
            ..request(&format!("p{n}"), &small)
        };
        client.enroll_as(enrolled).await.expect("enrolled");
    }
    let changed = update(&client, "p4", None, consent("another purpose"))
        .await
        .expect("changed");
    assert_eq!(changed.consent.expect("given").purpose, "another purpose");
    let (mut listed, mut cursor) = (Vec::new(), String::new());
    loop {
        let request = v1::ListConsentsRequest {
            collection: "staff".to_owned(),
            page_size: 2,
            cursor,
        };
        let page = client
            .persons
            .clone()
            .list_consents(request)
            .await
            .expect("listed")
            .into_inner();
        assert!(page.consents.len() <= 2 && page.damaged_persons == 0);
        assert!(page.call.expect("call info").scheme.contains("/1024/"));
        let consents = page.consents.into_iter();
        listed.extend(consents.map(|c| (c.person_id, c.consent.map(|c| c.purpose))));
        cursor = page.next_cursor;
        if cursor.is_empty() {
            break;
        }
    }
    listed.sort();
    let purposes: Vec<_> = listed.iter().map(|(_, purpose)| purpose.as_deref()).collect();
    let expected = [
        None,
        Some("purpose 1"),
        Some("purpose 2"),
        Some("purpose 3"),
        Some("another purpose"),
    ];
    assert_eq!(purposes, expected);

    // Whatever the record says, who withdraws asks to be gone.
    for person_id in ["p1", "p0"] {
        let request = v1::WithdrawConsentRequest {
            collection: "staff".to_owned(),
            person_id: person_id.to_owned(),
            ..Default::default()
        };
        let reply = client.persons.clone().withdraw_consent(request.clone()).await;
        let reply = reply.expect("withdrawn").into_inner();
        assert_eq!(reply.faces_erased, 1);
        assert_receipt(&reply.receipt.expect("a receipt"), person_id);
        assert_eq!(refusal::of(client.person("staff", person_id).await), unknown());
        let again = client.persons.clone().withdraw_consent(request).await;
        assert_eq!(refusal::of(again), unknown());
    }
    assert_eq!(client.people("staff").await, ["p2", "p3", "p4"]);
}

/// The receipt is about this person of "staff".
fn assert_receipt(receipt: &v1::ErasureReceipt, person_id: &str) {
    let (read, _) = Receipt::parse(&receipt.receipt).expect("whole");
    assert_eq!(
        (read.kind, read.sequence),
        (ReceiptKind::Erased, receipt.sequence)
    );
    let nonce = receipt.nonce.as_slice().try_into().expect("32 bytes");
    let (staff, id) = (CollectionName::parse("staff"), PersonId::parse(person_id));
    let about = subject(
        nonce,
        &Account::default(),
        Some(&staff.expect("a name")),
        Some(&id.expect("an id")),
    );
    assert_eq!(read.subject, about);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_deletions_answers_each_item_and_a_refusal_ends_nothing() {
    const PEOPLE: u64 = 40;
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let small = astronaut_small();
    client.enroll("staff", "p0", &[&small]).await.expect("enrolled");
    for n in 1..PEOPLE {
        copy(&client, "p0", "staff", &format!("p{n}"))
            .await
            .expect("copied");
    }
    client
        .enroll("staff", "stays", &[&small])
        .await
        .expect("enrolled");
    let item = |sequence, collection: &str, person_id: &str| v1::DeletePersonsRequest {
        sequence,
        collection: collection.to_owned(),
        person_id: person_id.to_owned(),
    };
    let mut items: Vec<_> = (0..PEOPLE).map(|n| item(n, "staff", &format!("p{n}"))).collect();
    items.insert(3, item(1000, "staff", "nobody"));
    items.insert(7, item(1001, "nowhere", "p1"));
    items.insert(9, item(1002, "staff", "not allowed"));
    items.insert(30, item(1003, "staff", "nobody"));
    let reply = client
        .persons
        .clone()
        .delete_persons(tokio_stream::iter(items))
        .await;
    let mut stream = reply.expect("a stream").into_inner();
    let (mut erased, mut refused) = (Vec::new(), Vec::new());
    while let Some(answer) = stream.message().await.expect("no error") {
        match answer.outcome.expect("one of two") {
            Outcome::Erased(done) => {
                assert_eq!(done.faces_erased, 1);
                assert_receipt(
                    &done.receipt.expect("a receipt"),
                    &format!("p{}", answer.sequence),
                );
                erased.push(answer.sequence);
            }
            Outcome::Refused(no) => {
                assert!(!no.retry && !no.message.is_empty());
                refused.push((answer.sequence, no.reason));
            }
        }
    }
    erased.sort_unstable();
    assert_eq!(erased, (0..PEOPLE).collect::<Vec<_>>());
    refused.sort();
    let expected = [
        (1000, "PERSON_NOT_FOUND"),
        (1001, "COLLECTION_NOT_FOUND"),
        (1002, "INVALID_FIELD"),
        (1003, "PERSON_NOT_FOUND"),
    ];
    assert_eq!(
        refused,
        expected.map(|(sequence, reason)| (sequence, reason.to_owned()))
    );
    assert_eq!(client.people("staff").await, ["stays"]);
}

/// As most client libraries send: every item in a frame of its own.
fn endless(sent: &Arc<AtomicU64>) -> tokio_stream::wrappers::ReceiverStream<v1::DeletePersonsRequest> {
    let (items, stream) = tokio::sync::mpsc::channel(1);
    let sent = Arc::clone(sent);
    tokio::spawn(async move {
        for sequence in 0.. {
            let item = v1::DeletePersonsRequest {
                sequence,
                collection: "staff".to_owned(),
                person_id: "p".to_owned(),
            };
            if items.send(item).await.is_err() {
                return;
            }
            sent.fetch_add(1, Ordering::SeqCst);
        }
    });
    tokio_stream::wrappers::ReceiverStream::new(stream)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_no_answers_is_read_no_further_and_not_cut_off() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    // A small window for answers: the client's own library closes a connection with many unread small ones.
    let endpoint = Endpoint::from_shared(server.url())
        .expect("a URL")
        .initial_stream_window_size(1 << 16);
    let mut impatient = {
        let channel = endpoint.connect().await.expect("it listens");
        PersonServiceClient::new(server.credential().on(channel))
    };
    let sent = Arc::new(AtomicU64::new(0));
    let reply = impatient.delete_persons(endless(&sent)).await;
    let mut stream = reply.expect("a stream").into_inner();
    let until = Instant::now() + PATIENCE;
    let stalled = loop {
        let before = sent.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(500)).await;
        if before > 0 && sent.load(Ordering::SeqCst) == before {
            break before;
        }
        assert!(Instant::now() < until, "it goes on and on");
    };
    println!("{stalled} items on their way");
    assert!(
        stalled > 10_000,
        "more than a stream has in work: the transport holds them"
    );
    for _ in 0..10_000 {
        let answer = stream.message().await.expect("not cut off").expect("an answer");
        let Some(Outcome::Refused(refused)) = answer.outcome else {
            panic!("nobody is enrolled");
        };
        assert_eq!(refused.reason, "PERSON_NOT_FOUND");
    }
    drop(stream);
    // And the server has room for everybody else.
    client
        .enroll("staff", "eileen", &[&astronaut_small()])
        .await
        .expect("enrolled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_nobody_ends_does_not_hold_up_the_end_of_the_server() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let (items, requests) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let nobody = v1::DeletePersonsRequest {
        sequence: 7,
        collection: "staff".to_owned(),
        person_id: "nobody".to_owned(),
    };
    items.send(nobody).await.expect("it listens");
    let reply = client
        .persons
        .clone()
        .delete_persons(requests)
        .await
        .expect("a stream");
    assert!(reply.metadata().get("x-request-id").is_some());
    let mut stream = reply.into_inner();
    let answer = stream.message().await.expect("no error").expect("an answer");
    assert_eq!(answer.sequence, 7);
    let began = Instant::now();
    let (stopped, ended) = tokio::join!(server.stop(), stream.message());
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "as long as the drain may take it is three times that"
    );
    let status = ended.err().expect("the stream is told");
    assert_eq!(
        refusal::read(&status),
        Refused::new(Code::Unavailable, "SHUTTING_DOWN")
    );
    drop((items, stopped));
}
