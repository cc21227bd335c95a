//! Many clients at once, and more than there is room for.

use std::sync::Arc;
use std::time::Instant;

use tonic::Code;
use tonic_types::StatusExt;

use crate::support::pictures::{astronaut_small, tiny};
use crate::support::server::Setup;
use crate::support::{PATIENCE, Refused, Server, refusal};

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_clients_enroll_and_search_at_once_and_each_finds_its_own() {
    const CLIENTS: usize = 16;
    const EACH: usize = 3;
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let small = Arc::new(astronaut_small());
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        // A connection each.
        let client = server.client().await;
        let small = Arc::clone(&small);
        clients.spawn(async move {
            for turn in 0..EACH {
                let person_id = format!("client-{number}-{turn}");
                client
                    .enroll("staff", &person_id, &[&small])
                    .await
                    .expect("enrolled");
                let verified = client
                    .verify("staff", &person_id, &small)
                    .await
                    .expect("verified");
                assert!(verified.same_person);
                assert!(!client.found("staff", &small).await.is_empty());
                if turn > 0 {
                    let earlier = format!("client-{number}-{}", turn - 1);
                    client.delete("staff", &earlier).await.expect("erased");
                }
            }
        });
    }
    while let Some(done) = clients.join_next().await {
        done.unwrap();
    }
    let mut left: Vec<_> = (0..CLIENTS).map(|n| format!("client-{n}-{}", EACH - 1)).collect();
    left.sort();
    assert_eq!(client.people("staff").await, left);
    let collection = client.collection("staff").await.expect("kept");
    assert_eq!((collection.persons, collection.faces), (16, 16));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_clients_with_one_person_id_one_succeeds() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let small = Arc::new(astronaut_small());
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (client, small) = (client.clone(), Arc::clone(&small));
        clients.spawn(async move { client.enroll("staff", "same", &[&small]).await.map(|_| ()) });
    }
    let answers = clients.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    for answer in answers.into_iter().filter(Result::is_err) {
        assert_eq!(
            refusal::of(answer),
            Refused::new(Code::AlreadyExists, "PERSON_EXISTS")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_finds_the_queue_full_is_told_when_to_come_back() {
    let mut setup = Setup::new();
    (setup.config.workers, setup.config.queue) = (Some(1), 2);
    let server = setup.start().await;
    let client = server.client().await;
    client.create("staff").await;
    // Ten photographs a call: the calls arrive faster than one worker answers.
    let photo = Arc::new(tiny());
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..24 {
        let (client, photo) = (client.clone(), Arc::clone(&photo));
        clients.spawn(async move {
            let person_id = format!("person-{number:02}");
            let answer = client.enroll("staff", &person_id, &[&photo[..]; 10]).await;
            (person_id, answer.map(|_| ()))
        });
    }
    let (accepted, refused): (Vec<_>, Vec<_>) = clients
        .join_all()
        .await
        .into_iter()
        .partition(|(_, answer)| answer.is_ok());
    assert!(accepted.len() >= 3, "one at work and two waiting are served");
    assert!(!refused.is_empty());
    for (_, answer) in refused {
        let status = answer.expect_err("refused");
        assert_eq!(
            refusal::read(&status),
            Refused::new(Code::ResourceExhausted, "BUSY")
        );
        let details = status.get_error_details();
        let retry = details.retry_info().expect("a RetryInfo").retry_delay;
        assert!(retry.is_some_and(|delay| !delay.is_zero()));
    }
    let mut accepted: Vec<_> = accepted.into_iter().map(|(person_id, _)| person_id).collect();
    accepted.sort();
    assert_eq!(
        client.people("staff").await,
        accepted,
        "what was accepted is finished, and nothing else"
    );
    // Whoever comes back is served.
    let until = Instant::now() + PATIENCE;
    while client.detect(&photo).await.is_err() {
        assert!(Instant::now() < until, "it never became free");
    }
}
