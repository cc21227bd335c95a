//! Duplicates within a collection.

use std::time::{Duration, Instant};

use likeness_proto::v1;
use tonic::Code;

use crate::many::enroll;
use crate::support::pictures::{astronaut_small, sample};
use crate::support::{Refused, Server, refusal};

fn duplicates(cursor: &str) -> v1::FindDuplicatesRequest {
    v1::FindDuplicatesRequest {
        collection: "staff".to_owned(),
        max_far: 1e-4,
        cursor: cursor.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_enrolled_twice_is_found_and_nobody_else() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    for (person_id, photo) in [
        ("barack", "obama.jpg"),
        ("bo", "obama2.jpg"),
        ("joe", "biden.jpg"),
        ("eileen", "astronaut.png"),
    ] {
        enroll(&client, "staff", person_id, photo, &[]).await;
    }
    client
        .enroll("staff", "twin", &[&astronaut_small(), &sample("obama3.jpg")])
        .await
        .expect("enrolled");
    let mut matching = client.matching.clone();
    let reply = matching.find_duplicates(duplicates("")).await.expect("begun");
    let id = reply.metadata().get("x-request-id").expect("x-request-id");
    refusal::assert_request_id(id.to_str().unwrap());
    let mut answers = reply.into_inner();
    let (mut pairs, mut last) = (Vec::new(), None);
    while let Some(answer) = answers.message().await.expect("it goes on") {
        pairs.extend(answer.pairs.clone());
        last = Some(answer);
    }
    let last = last.expect("an answer");
    assert_eq!((last.done, last.total, last.cursor.as_str()), (5, 5, ""));
    let mut named: Vec<_> = pairs
        .iter()
        .map(|pair| {
            let mut names = [pair.first_person_id.as_str(), pair.second_person_id.as_str()];
            names.sort_unstable();
            names
        })
        .collect();
    named.sort_unstable();
    assert_eq!(
        named,
        [
            ["barack", "bo"],
            ["barack", "twin"],
            ["bo", "twin"],
            ["eileen", "twin"]
        ]
    );
    assert!(pairs.iter().all(|pair| {
        pair.similarity
            .is_some_and(|similarity| similarity > 0.4 && similarity <= 1.0)
    }));

    let refused = |request| {
        let mut matching = client.matching.clone();
        async move { matching.find_duplicates(request).await }
    };
    assert_eq!(
        refusal::fields(refused(duplicates("not a cursor")).await),
        ["cursor"]
    );
    for max_far in [-1.0, 0.9, 1e-10, f64::NAN] {
        let request = v1::FindDuplicatesRequest {
            max_far,
            ..duplicates("")
        };
        assert_eq!(refusal::fields(refused(request).await), ["max_far"]);
    }
    let unknown = v1::FindDuplicatesRequest {
        collection: "visitors".to_owned(),
        ..duplicates("")
    };
    assert_eq!(
        refusal::of(refused(unknown).await),
        Refused::new(Code::NotFound, "COLLECTION_NOT_FOUND")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_does_not_wait_for_a_search_for_duplicates_and_is_not_undone_by_it() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    enroll(&client, "staff", "barack", "obama.jpg", &[]).await;
    enroll(&client, "staff", "bo", "obama2.jpg", &[]).await;
    let begun = client.matching.clone().find_duplicates(duplicates("")).await;
    let mut answers = begun.expect("begun").into_inner();
    let began = Instant::now();
    client.delete("staff", "bo").await.expect("erased");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    // What was on its way before may still name him; a search that begins now does not.
    while answers.message().await.expect("it goes on").is_some() {}
    let mut answers = client
        .matching
        .clone()
        .find_duplicates(duplicates(""))
        .await
        .expect("begun")
        .into_inner();
    while let Some(answer) = answers.message().await.expect("it goes on") {
        assert!(answer.pairs.is_empty());
        assert_eq!(answer.total, 1);
    }
}
