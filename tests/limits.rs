//! What callers may learn of enrolled faces by comparing with them: the floor, the meter, and what both survive.

use std::time::{Duration, Instant};

use likeness_engine::Scope;
use likeness_proto::v1;
use likeness_server::config::LimitArgs;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::support::child::Home;
use crate::support::client::{photograph, photographs, similarity};
use crate::support::pictures::sample;
use crate::support::server::Setup;
use crate::support::{Client, Refused, Server, refusal};

async fn server(limits: LimitArgs) -> (Server, Client) {
    let mut setup = Setup::new();
    setup.config.limits = limits;
    let server = setup.start().await;
    let client = server.client().await;
    client.create("staff").await;
    for (person_id, photo) in [("barack", "obama.jpg"), ("joe", "biden.jpg")] {
        let enrolled = client.enroll("staff", person_id, &[&sample(photo)]).await;
        enrolled.expect("enrolled");
    }
    (server, client)
}

/// Slow-down within the time of a test.
const QUICK: LimitArgs = LimitArgs {
    refused_per_day: 5,
    comparison_pause_seconds: 3,
    // A restart gives the tests another key.
    own_comparisons_per_day: 0,
    ..LimitArgs::DEFAULT
};

fn limited() -> Refused {
    Refused::new(Code::ResourceExhausted, "COMPARISONS_LIMITED")
}

/// How long the refused caller is told to wait.
fn wait(status: &Status) -> Duration {
    let details = status.get_error_details();
    let retry = details.retry_info().expect("a RetryInfo").retry_delay;
    retry.expect("a time")
}

async fn is_limited(client: &Client, person_id: &str) -> bool {
    match client.verify("staff", person_id, &sample("astronaut.png")).await {
        Ok(reply) => {
            assert!(!reply.same_person);
            false
        }
        Err(status) => {
            assert_eq!(refusal::read(&status), limited());
            assert!(!wait(&status).is_zero());
            true
        }
    }
}

async fn refuse(client: &Client, person_id: &str, times: usize) {
    for n in 0..times {
        assert!(
            !is_limited(client, person_id).await,
            "the {n}th comparison is answered"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn below_the_floor_nothing_is_told_and_no_threshold_is_taken() {
    let (_server, client) = server(LimitArgs::DEFAULT).await;
    let same = client
        .verify("staff", "barack", &sample("obama2.jpg"))
        .await
        .expect("verified");
    let steps = same.similarity.expect("it is told") / 0.02;
    assert!(
        same.same_person && (steps - steps.round()).abs() < 1e-3,
        "{steps}"
    );
    assert!(same.estimate.is_some());
    let micros = same
        .call
        .expect("a call")
        .steps
        .into_iter()
        .map(|step| step.micros);
    assert!(micros.sum::<u64>() % 100 == 0, "times are rounded too");

    let lax = v1::VerifyPersonRequest {
        collection: "staff".to_owned(),
        person_id: "barack".to_owned(),
        photograph: Some(photograph(&sample("biden.jpg"))),
        threshold: Some(similarity(0.0)),
        ..Default::default()
    };
    let other = client
        .matching
        .clone()
        .verify_person(lax)
        .await
        .expect("verified")
        .into_inner();
    assert!(
        !other.same_person && other.threshold > 0.39,
        "{}",
        other.threshold
    );
    assert!(other.similarity.is_none() && other.estimate.is_none());

    let lax = v1::SearchPersonsRequest {
        collections: vec!["staff".to_owned()],
        photograph: Some(photograph(&sample("astronaut.png"))),
        threshold: Some(similarity(0.0)),
        ..Default::default()
    };
    let found = client.search_as(lax).await.expect("searched");
    assert!(found.results[0].matches.is_empty() && found.results[0].threshold > 0.39);

    let lax = v1::FindDuplicatesRequest {
        collection: "staff".to_owned(),
        max_far: 0.5,
        ..Default::default()
    };
    let mut pairs = client
        .matching
        .clone()
        .find_duplicates(lax)
        .await
        .expect("begun")
        .into_inner();
    while let Some(answer) = pairs.message().await.expect("answered") {
        assert!(answer.pairs.is_empty());
    }

    // Both photographs are the caller's own.
    let compared = client
        .compare(&sample("obama.jpg"), &sample("biden.jpg"))
        .await
        .expect("compared");
    assert!(compared.similarity < 0.3 && compared.estimate.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_refused_too_often_is_slowed_down_for_all_callers_and_ways_and_nobody_else_is() {
    let (server, client) = server(QUICK).await;
    let other = server.client().await;
    refuse(&client, "barack", 3).await;
    refuse(&other, "barack", 2).await;
    let began = Instant::now();
    assert!(is_limited(&client, "barack").await && is_limited(&other, "barack").await);

    let named = v1::SearchPersonsRequest {
        collections: vec!["staff".to_owned()],
        photograph: Some(photograph(&sample("obama2.jpg"))),
        filter: Some(v1::Filter {
            person_ids: vec!["barack".to_owned()],
            ..Default::default()
        }),
        ..Default::default()
    };
    assert_eq!(refusal::of(client.search_as(named).await), limited());
    let own = v1::AddFacesRequest {
        collection: "staff".to_owned(),
        person_id: "barack".to_owned(),
        photographs: photographs(&[&sample("obama2.jpg")]),
        checks: Some(v1::EnrollmentChecks {
            own_person: true,
            ..Default::default()
        }),
        ..Default::default()
    };
    assert_eq!(
        refusal::of(client.persons.clone().add_faces(own.clone()).await),
        limited()
    );
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "too slow a machine for this test"
    );

    // Not everybody, not for ever, and not whoever is searched for among all.
    refuse(&client, "joe", 5).await;
    assert_eq!(client.found("staff", &sample("obama2.jpg")).await, ["barack"]);
    tokio::time::sleep(Duration::from_millis(3200)).await;
    refuse(&client, "barack", 1).await;
    assert!(is_limited(&other, "barack").await);
    // A key waits a quarter longer after a comparison of its own.
    tokio::time::sleep(Duration::from_millis(4000)).await;
    let added = client
        .persons
        .clone()
        .add_faces(own)
        .await
        .expect("added")
        .into_inner();
    assert_eq!(added.person.expect("kept").faces.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_comparisons_at_once_no_more_are_answered_than_one_by_one() {
    let (_server, client) = server(LimitArgs {
        comparison_pause_seconds: 60,
        ..QUICK
    })
    .await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..24 {
        let client = client.clone();
        calls.spawn(async move { is_limited(&client, "barack").await });
    }
    let answered = calls
        .join_all()
        .await
        .into_iter()
        .filter(|limited| !limited)
        .count();
    assert_eq!(answered, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn being_recognised_ends_a_slow_down_that_no_day_limit_asks_for() {
    let (_server, client) = server(LimitArgs {
        refused_per_day: 1000,
        refused_in_a_row: 3,
        ..QUICK
    })
    .await;
    refuse(&client, "barack", 3).await;
    assert!(is_limited(&client, "barack").await);
    tokio::time::sleep(Duration::from_millis(3200)).await;
    let verified = client.verify("staff", "barack", &sample("obama2.jpg")).await;
    assert!(verified.expect("answered").same_person);
    refuse(&client, "barack", 3).await;
    assert!(is_limited(&client, "barack").await);
    // Being found among all is being recognised, too.
    assert_eq!(client.found("staff", &sample("obama2.jpg")).await, ["barack"]);
    refuse(&client, "barack", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_recognised_in_doubt_too_often_is_recognised_beyond_doubt_only_in_every_way() {
    let (server, client) = server(LimitArgs {
        borderline_accepts: 2,
        // Another photograph is within it, the same one is not.
        borderline_margin: 0.5,
        ..LimitArgs::DEFAULT
    })
    .await;
    let (same, other) = (sample("obama.jpg"), sample("obama2.jpg"));
    let verified = client.verify("staff", "barack", &other).await.expect("verified");
    assert!(verified.same_person && verified.similarity.is_some());
    assert_eq!(client.found("staff", &other).await, ["barack"]);
    assert_eq!(server.engine.withheld().recognitions, 0);

    let verified = client.verify("staff", "barack", &other).await.expect("verified");
    assert!(!verified.same_person && verified.similarity.is_none() && verified.estimate.is_none());
    assert!(verified.threshold > 0.9, "{}", verified.threshold);
    assert!(client.found("staff", &other).await.is_empty());
    let by_id = v1::SearchPersonsRequest {
        collections: vec!["staff".to_owned()],
        photograph: Some(photograph(&other)),
        filter: Some(v1::Filter {
            person_ids: vec!["barack".to_owned()],
            ..Default::default()
        }),
        ..Default::default()
    };
    let found = client.search_as(by_id).await.expect("searched");
    assert!(found.results[0].matches.is_empty());
    let own = v1::AddFacesRequest {
        collection: "staff".to_owned(),
        person_id: "barack".to_owned(),
        photographs: photographs(&[&other]),
        checks: Some(v1::EnrollmentChecks {
            own_person: true,
            ..Default::default()
        }),
        ..Default::default()
    };
    let refused = refusal::of(client.persons.clone().add_faces(own).await);
    assert_eq!(refused.code, Code::InvalidArgument);
    assert_eq!(server.engine.withheld().recognitions, 4, "the operator is told");

    // Nobody is kept out who is beyond doubt, and nobody else is doubted.
    let verified = client.verify("staff", "barack", &same).await.expect("verified");
    assert!(verified.same_person && verified.threshold > 0.9);
    assert_eq!(client.found("staff", &same).await, ["barack"]);
    let joe = client.verify("staff", "joe", &sample("biden.jpg")).await;
    assert!(joe.expect("verified").threshold < 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_enrolled_twice_because_the_first_was_doubted_too_often() {
    let (_server, client) = server(LimitArgs {
        borderline_accepts: 0,
        borderline_margin: 0.5,
        ..LimitArgs::DEFAULT
    })
    .await;
    let again = v1::EnrollPersonRequest {
        collection: "staff".to_owned(),
        person_id: "again".to_owned(),
        photographs: photographs(&[&sample("obama2.jpg")]),
        checks: Some(v1::EnrollmentChecks {
            duplicate_strictness: 4,
            ..Default::default()
        }),
        ..Default::default()
    };
    drop(client.enroll_as(again).await);
    assert_eq!(client.people("staff").await, ["barack", "joe"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_so_many_similarities_in_a_day_an_account_is_told_yes_or_no() {
    let (server, client) = server(LimitArgs {
        scores_per_day: 2,
        ..LimitArgs::DEFAULT
    })
    .await;
    let photo = sample("obama2.jpg");
    let verified = client.verify("staff", "barack", &photo).await.expect("verified");
    assert!(verified.same_person && verified.similarity.is_some());
    let found = client.search("staff", &photo).await.expect("searched");
    assert!(found.results[0].matches[0].similarity.is_some());
    let verified = client.verify("staff", "barack", &photo).await.expect("verified");
    assert!(verified.same_person && verified.similarity.is_none() && verified.estimate.is_none());
    let found = client.search("staff", &photo).await.expect("searched");
    let best = &found.results[0].matches[0];
    assert!(best.person_id == "barack" && best.similarity.is_none() && best.estimate.is_none());
    let another = server.client_for("default", &[Scope::Verify]).await;
    let told = another.verify("staff", "barack", &photo).await.expect("verified");
    assert!(
        told.similarity.is_none(),
        "all keys of an account are counted together"
    );
    let other = client
        .verify("staff", "joe", &sample("biden.jpg"))
        .await
        .expect("verified");
    assert!(other.similarity.is_some(), "each person is counted alone");

    // Whoever may enrol could enrol what he asks with.
    let enrolled = client.enroll("staff", "bo", &[&photo]).await;
    enrolled.expect("enrolled");
    let another = server.client_for("default", &[Scope::Duplicates]).await;
    for client in [&client, &another] {
        let request = v1::FindDuplicatesRequest {
            collection: "staff".to_owned(),
            ..Default::default()
        };
        let reply = client.matching.clone().find_duplicates(request).await;
        let mut answers = reply.expect("begun").into_inner();
        let mut pairs = Vec::new();
        while let Some(answer) = answers.message().await.expect("answered") {
            pairs.extend(answer.pairs);
        }
        assert_eq!(pairs.len(), 1, "barack and bo");
        let [similarity, estimate] = [pairs[0].similarity.is_some(), pairs[0].estimate.is_some()];
        assert_eq!([similarity, estimate], [false; 2]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_forgets_no_comparison() {
    let slow = LimitArgs {
        comparison_pause_seconds: 600,
        ..QUICK
    };
    let (running, client) = server(slow).await;
    refuse(&client, "barack", 5).await;
    assert!(is_limited(&client, "barack").await);
    drop(client);
    let running = running.stop().await.start().await;
    let client = running.client().await;
    assert!(is_limited(&client, "barack").await);
    refuse(&client, "joe", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_forgets_the_last_second_at_most() {
    let home = Home::new().with(&[
        "--refused-per-day",
        "2",
        "--comparison-pause-seconds",
        "600",
        "--own-comparisons-per-day",
        "0",
    ]);
    let mut killed = home.serve();
    let client = killed.client().await;
    client.create("staff").await;
    client
        .enroll("staff", "barack", &[&sample("obama.jpg")])
        .await
        .expect("enrolled");
    refuse(&client, "barack", 2).await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    killed.kill();
    let again = home.serve();
    assert!(is_limited(&again.client().await, "barack").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_person_is_forgotten_and_a_renamed_or_copied_one_is_not() {
    let slow = LimitArgs {
        comparison_pause_seconds: 600,
        ..QUICK
    };
    let (_server, client) = server(slow).await;
    refuse(&client, "barack", 5).await;
    assert!(is_limited(&client, "barack").await);
    let copy = v1::CopyPersonRequest {
        collection: "staff".to_owned(),
        person_id: "barack".to_owned(),
        target_collection: "staff".to_owned(),
        target_person_id: "copied".to_owned(),
        ..Default::default()
    };
    client.persons.clone().copy_person(copy).await.expect("copied");
    let rename = v1::RenamePersonRequest {
        collection: "staff".to_owned(),
        person_id: "barack".to_owned(),
        new_person_id: "renamed".to_owned(),
        ..Default::default()
    };
    client
        .persons
        .clone()
        .rename_person(rename)
        .await
        .expect("renamed");
    assert!(is_limited(&client, "copied").await && is_limited(&client, "renamed").await);
    // Whoever comes under the PersonID that is free now is somebody else.
    for person_id in ["renamed", "copied"] {
        client.delete("staff", person_id).await.expect("erased");
    }
    for person_id in ["renamed", "barack"] {
        client
            .enroll("staff", person_id, &[&sample("obama.jpg")])
            .await
            .expect("enrolled");
        refuse(&client, person_id, 1).await;
    }
}
