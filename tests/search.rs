//! Finding people by photographs that are not enrolled (1:N).

use likeness_proto::v1;
use tonic::Code;

use crate::support::client::{photograph, similarity};
use crate::support::pictures::{astronaut_small, montage, png, sample, scaled};
use crate::support::{Client, Refused, Server, refusal};

fn request(photo: &[u8]) -> v1::SearchPersonsRequest {
    v1::SearchPersonsRequest {
        collections: vec!["staff".to_owned()],
        photograph: Some(photograph(photo)),
        ..Default::default()
    }
}

/// Three people, of whom one has other photographs too.
async fn staff(client: &Client) {
    client.create("staff").await;
    for (person_id, photo) in [
        ("barack", "obama.jpg"),
        ("joe", "biden.jpg"),
        ("eileen", "astronaut.png"),
    ] {
        let enrolled = client.enroll("staff", person_id, &[&sample(photo)]).await;
        enrolled.expect("enrolled");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_found_by_photographs_not_enrolled_and_confused_with_nobody() {
    let server = Server::start().await;
    let client = server.client().await;
    staff(&client).await;
    for (photo, person_id) in [
        ("obama2.jpg", "barack"),
        ("obama3.jpg", "barack"),
        ("obama_partial_face.jpg", "barack"),
        ("32bit.png", "barack"),
        ("biden.jpg", "joe"),
        ("astronaut.png", "eileen"),
    ] {
        assert_eq!(
            client.found("staff", &sample(photo)).await,
            [person_id],
            "{photo}"
        );
    }
    client.delete("staff", "joe").await.expect("erased");
    let stranger = client
        .search("staff", &sample("biden.jpg"))
        .await
        .expect("searched");
    assert!(stranger.results[0].matches.is_empty());
    assert_eq!(stranger.faces_searched, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn matches_come_best_first_above_the_threshold_and_as_many_as_asked_for() {
    let server = Server::start().await;
    let client = server.client().await;
    staff(&client).await;
    let probe = sample("obama2.jpg");
    // The collection's own threshold.
    let usual = client.search("staff", &probe).await.expect("searched");
    assert_eq!(usual.results[0].threshold, 0.411);
    assert_eq!(usual.results[0].matches.len(), 1);
    let best = usual.results[0].matches[0].similarity();
    assert!(best > 0.6 && best < 0.9, "{best}");

    let asked = v1::SearchPersonsRequest {
        threshold: Some(similarity(1.0)),
        ..request(&probe)
    };
    assert!(
        client
            .search_as(asked)
            .await
            .expect("searched")
            .results
            .remove(0)
            .matches
            .is_empty()
    );

    // The same face twice: with no threshold to speak of, both are found, in the order of likeness.
    let (obama3, obama) = (sample("obama3.jpg"), sample("obama.jpg"));
    client
        .enroll("staff", "again", &[&obama3])
        .await
        .expect("enrolled");
    client
        .enroll("staff", "both", &[&obama, &obama3])
        .await
        .expect("enrolled");
    let asked = v1::SearchPersonsRequest {
        threshold: Some(similarity(0.0)),
        top_k: 100,
        ..request(&probe)
    };
    let all = client
        .search_as(asked.clone())
        .await
        .expect("searched")
        .results
        .remove(0)
        .matches;
    assert!(all.len() >= 3);
    assert!(all.is_sorted_by(|a, b| a.similarity >= b.similarity));
    let mut named: Vec<_> = all.iter().map(|found| &found.person_id).collect();
    named.sort();
    named.dedup();
    assert_eq!(named.len(), all.len(), "a person counts once, with the best face");
    let first = v1::SearchPersonsRequest {
        top_k: 1,
        ..asked.clone()
    };
    let first = client
        .search_as(first)
        .await
        .expect("searched")
        .results
        .remove(0)
        .matches;
    assert!(first[..] == all[..1]);
    let exact = v1::SearchPersonsRequest { exact: true, ..asked };
    let exact = client.search_as(exact).await.expect("searched");
    assert!(exact.results[0].matches == all, "an exact search finds them too");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enrolled_photograph_finds_itself_with_every_template_size() {
    let server = Server::start().await;
    let client = server.client().await;
    let (obama, probe, biden) = (sample("obama.jpg"), sample("obama2.jpg"), sample("biden.jpg"));
    let mut schemes = Vec::new();
    for bits in [256, 512, 1024, 2048] {
        let name = format!("bits-{bits}");
        let new = v1::CreateCollectionRequest {
            name: name.clone(),
            bits,
            ..Default::default()
        };
        let made = client.collections.clone().create_collection(new).await;
        let made = made.expect("made").into_inner();
        assert_eq!(made.collection.expect("a collection").bits, bits);
        client.enroll(&name, "barack", &[&obama]).await.expect("enrolled");
        assert_eq!(client.found(&name, &probe).await, ["barack"], "{bits} bits");
        assert_eq!(client.found(&name, &biden).await, [""; 0], "{bits} bits");
        let reply = client.search(&name, &obama).await.expect("searched");
        assert!(reply.results[0].matches[0].similarity() > 0.9, "{bits} bits");
        schemes.push(reply.call.expect("a call").scheme);
    }
    schemes.sort();
    schemes.dedup();
    assert_eq!(schemes.len(), 4, "each size is a scheme of its own: {schemes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_several_faces_a_search_asks_which() {
    let server = Server::start().await;
    let client = server.client().await;
    staff(&client).await;
    let group = png(&montage(&[
        scaled("obama2.jpg", 500),
        scaled("astronaut.png", 200),
    ]));
    let refused = client.search("staff", &group).await;
    assert_eq!(refusal::of(refused), Refused::photo("SEVERAL_FACES"));
    let asked = v1::SearchPersonsRequest {
        face_choice: v1::FaceChoice::Largest.into(),
        ..request(&group)
    };
    let reply = client.search_as(asked).await.expect("searched");
    assert_eq!(reply.results[0].matches[0].person_id, "barack");
    let face = reply.results[0]
        .face
        .as_ref()
        .expect("a face")
        .r#box
        .expect("a box");
    assert!(
        face.left < 230.0,
        "the face that was searched for is at {}",
        face.left
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_match_carries_name_and_tags() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let small = astronaut_small();
    let asked = v1::EnrollPersonRequest {
        collection: "staff".to_owned(),
        person_id: "eileen".to_owned(),
        photographs: vec![photograph(&small)],
        name: "Eileen Collins".to_owned(),
        tags: vec!["crew".to_owned()],
        ..Default::default()
    };
    client.enroll_as(asked).await.expect("enrolled");
    let found = client
        .search("staff", &sample("astronaut.png"))
        .await
        .expect("searched");
    assert_eq!(found.results[0].matches[0].name, "Eileen Collins");
    assert_eq!(found.results[0].matches[0].tags, ["crew"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_collection_finds_nobody_and_an_unknown_one_is_refused() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let small = astronaut_small();
    let reply = client.search("staff", &small).await.expect("searched");
    assert_eq!((reply.results[0].matches.len(), reply.faces_searched), (0, 0));
    let unknown = client.search("visitors", &small).await;
    assert_eq!(
        refusal::of(unknown),
        Refused::new(Code::NotFound, "COLLECTION_NOT_FOUND")
    );
}
