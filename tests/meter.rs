//! One meter for a face: over all keys of an account, all copies of a person, and all ways to compare.

use likeness_engine::{Names, NewApiKey, Scope, Scopes};
use likeness_proto::v1;
use likeness_proto::v1::account_service_client::AccountServiceClient;
use likeness_proto::v1::import_persons_request::Part;
use likeness_proto::v1::log_service_client::LogServiceClient;
use likeness_server::config::LimitArgs;
use tokio_stream::iter;
use tonic::{Code, Status};

use crate::support::client::photographs;
use crate::support::pictures::sample;
use crate::support::server::Setup;
use crate::support::{Client, Refused, Server, asset, refusal};

async fn server(limits: LimitArgs) -> (Server, Client) {
    let mut setup = Setup::new();
    setup.config.limits = limits;
    let server = setup.start().await;
    let client = server.client().await;
    client.create("staff").await;
    let enrolled = client.enroll("staff", "barack", &[&sample("obama.jpg")]).await;
    enrolled.expect("enrolled");
    (server, client)
}

async fn copy(client: &Client, to: &str) {
    let copy = v1::CopyPersonRequest {
        collection: "staff".to_owned(),
        person_id: "barack".to_owned(),
        target_collection: "staff".to_owned(),
        target_person_id: to.to_owned(),
        ..Default::default()
    };
    client.persons.clone().copy_person(copy).await.expect("copied");
}

async fn pairs_at(client: &Client, max_far: f64) -> Vec<v1::FindDuplicatesResponse> {
    let request = v1::FindDuplicatesRequest {
        collection: "staff".to_owned(),
        max_far,
        ..Default::default()
    };
    let begun = client.matching.clone().find_duplicates(request).await;
    let mut answers = begun.expect("begun").into_inner();
    let mut all = Vec::new();
    while let Some(answer) = answers.message().await.expect("it goes on") {
        all.push(answer);
    }
    all
}

/// The pairs that a search names, each in order.
async fn pairs(client: &Client) -> Vec<[String; 2]> {
    let answers = pairs_at(client, 1e-4).await;
    let mut pairs: Vec<_> = answers
        .into_iter()
        .flat_map(|answer| answer.pairs)
        .map(|pair| {
            let mut pair = [pair.first_person_id, pair.second_person_id];
            pair.sort();
            pair
        })
        .collect();
    pairs.sort();
    pairs
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_copies_and_ten_keys_are_told_as_many_similarities_as_one_person_by_one_key() {
    let (server, client) = server(LimitArgs::DEFAULT).await;
    let photo = sample("obama2.jpg");
    let mut told = 0;
    let mut people = vec!["barack".to_owned()];
    for n in 0..10 {
        people.push(format!("copy-{n}"));
        copy(&client, &people[n + 1]).await;
    }
    for person_id in &people {
        let another = server.client_for("default", &[Scope::Verify]).await;
        for _ in 0..11 {
            let verified = another
                .verify("staff", person_id, &photo)
                .await
                .expect("verified");
            assert!(verified.same_person);
            told += usize::from(verified.similarity.is_some());
        }
    }
    println!("similarities told of one person and ten copies in a day: {told}");
    assert_eq!(told, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn faces_of_the_call_that_are_like_each_other_regain_no_doubts() {
    const CALLS: usize = 14;
    let (_server, client) = server(LimitArgs {
        // Another photograph is within it.
        borderline_margin: 0.5,
        refused_per_day: 1_000_000,
        refused_in_a_row: 1_000_000,
        ..LimitArgs::DEFAULT
    })
    .await;
    let (doubtful, stranger) = (sample("obama2.jpg"), sample("biden.jpg"));
    let mut photos = vec![doubtful.as_slice(); 9];
    photos.push(&stranger);
    let mut recognised = 0;
    for _ in 0..CALLS {
        let request = v1::AddFacesRequest {
            collection: "staff".to_owned(),
            person_id: "barack".to_owned(),
            photographs: photographs(&photos),
            // The stranger keeps all of it from being kept.
            all_or_nothing: true,
            checks: Some(v1::EnrollmentChecks {
                own_person: true,
                ..Default::default()
            }),
            ..Default::default()
        };
        let refused = refusal::fields(client.persons.clone().add_faces(request).await);
        recognised += usize::from(!refused.contains(&"photographs[0]".to_owned()));
    }
    println!("of {CALLS} doubtful faces recognised: {recognised}");
    assert_eq!(recognised, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_polls_takes_no_turn_of_a_key_without_refusals() {
    let (server, client) = server(LimitArgs {
        refused_per_day: 5,
        comparison_pause_seconds: 600,
        own_comparisons_per_day: 5,
        own_comparisons_per_day_of_account: 8,
        ..LimitArgs::DEFAULT
    })
    .await;
    let limited = Refused::new(Code::ResourceExhausted, "COMPARISONS_LIMITED");
    let (stranger, own) = (sample("astronaut.png"), sample("obama2.jpg"));
    let poller = server.client_for("default", &[Scope::Verify]).await;
    for _ in 0..5 {
        let refused = poller
            .verify("staff", "barack", &stranger)
            .await
            .expect("answered");
        assert!(!refused.same_person);
    }
    let mut answered = 0;
    for _ in 0..118 {
        let polled = poller.verify("staff", "barack", &stranger).await;
        assert_eq!(refusal::of(polled), limited);
        if answered < 5 {
            let verified = client
                .verify("staff", "barack", &own)
                .await
                .expect("its own turn");
            assert!(verified.same_person);
            answered += 1;
        }
    }
    // Its own turns of the day are used up; another key has three of the account's eight.
    let refused = |answer: Result<v1::VerifyPersonResponse, Status>| answer.err().expect("refused");
    let first = refused(client.verify("staff", "barack", &own).await);
    let other = server.client_for("default", &[Scope::Verify]).await;
    for _ in 0..3 {
        other.verify("staff", "barack", &own).await.expect("its own turn");
    }
    let second = refused(other.verify("staff", "barack", &own).await);
    let polled = refused(poller.verify("staff", "barack", &stranger).await);
    for status in [&first, &second, &polled] {
        assert_eq!(refusal::read(status), limited);
        // The time is that of the key's own pause.
        let words = |status: &Status| status.message().replace(|c: char| c.is_ascii_digit(), "");
        assert_eq!(words(status), words(&first), "alike in words");
    }
    assert!(
        server.engine.withheld().comparisons >= 118,
        "the operator is told"
    );
}

/// Imports people by features, each of one vector that its number stands for.
async fn import(client: &Client, people: &[(&str, u64)]) {
    let model = std::fs::read(asset("models/fr_feature.onnx")).unwrap();
    let header = v1::ImportHeader {
        collection: "staff".to_owned(),
        import_token: "features-0123456789".to_owned(),
        embedding_model: blake3::hash(&model).to_hex().to_string(),
        embedding_dim: 512,
        ..Default::default()
    };
    let items: Vec<_> = people
        .iter()
        .enumerate()
        .map(|(n, (person_id, vector))| {
            let mut seed = vector + 1;
            let mut next = || {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                (seed % 2001) as f32 / 1000.0 - 1.0
            };
            v1::ImportItem {
                sequence: n as u64,
                person_id: (*person_id).to_owned(),
                embeddings: vec![v1::FaceEmbedding {
                    values: (0..512).map(|_| next()).collect(),
                }],
                ..Default::default()
            }
        })
        .collect();
    let parts = std::iter::once(Part::Header(header)).chain(items.into_iter().map(Part::Item));
    let requests = iter(parts.map(|part| v1::ImportPersonsRequest { part: Some(part) }));
    let begun = client.persons.clone().import_persons(requests).await;
    let mut answers = begun.expect("begun").into_inner();
    let mut imported = 0;
    while let Some(answer) = answers.message().await.expect("it goes on") {
        let outcome = answer.outcome.expect("an outcome");
        assert!(matches!(
            outcome,
            v1::import_persons_response::Outcome::Imported(_)
        ));
        imported += 1;
    }
    assert_eq!(imported, people.len());
}

async fn acts(client: &Client) -> Vec<(String, String)> {
    let mut accounts = AccountServiceClient::new(client.channel.clone());
    let reply = accounts.list_audit_log(v1::ListAuditLogRequest::default()).await;
    let entries = reply.expect("listed").into_inner().entries;
    let acts = entries.into_iter().map(|entry| (entry.act, entry.object));
    acts.filter(|(act, _)| act == "name-features").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn imported_features_are_no_oracle_and_an_administrator_who_is_told_of_them_is_written_down() {
    let (server, client) = server(LimitArgs::DEFAULT).await;
    let attacker = server
        .client_for(
            "default",
            &[Scope::Enrol, Scope::Import, Scope::Search, Scope::Duplicates],
        )
        .await;
    let before = pairs_at(&attacker, 1e-4).await;
    // Two of one vector are a pair if ever two are.
    import(&attacker, &[("probe", 1), ("again", 1), ("other", 2)]).await;
    let copied = v1::CopyPersonRequest {
        collection: "staff".to_owned(),
        person_id: "probe".to_owned(),
        target_collection: "staff".to_owned(),
        target_person_id: "copied".to_owned(),
        ..Default::default()
    };
    attacker
        .persons
        .clone()
        .copy_person(copied)
        .await
        .expect("copied");
    let after = pairs_at(&attacker, 1e-4).await;
    assert_eq!(before.len(), after.len(), "not by the number of answers either");
    assert!(after.iter().all(|answer| answer.pairs.is_empty()));
    assert!(acts(&client).await.is_empty());

    let named = pairs(&client).await;
    let expected = [["again", "copied"], ["again", "probe"], ["copied", "probe"]];
    assert_eq!(named, expected.map(|pair| pair.map(str::to_owned)));
    let entry = ("name-features".to_owned(), "staff".to_owned());
    assert_eq!(acts(&client).await, [entry], "one entry for one call");
    assert_eq!(Names::default(), Names::Photographs);
}

#[tokio::test(flavor = "multi_thread")]
async fn pairs_of_photographs_are_named_so_often_in_a_day_and_logged_with_both_people() {
    let (server, client) = server(LimitArgs {
        duplicates_per_day: 3,
        borderline_margin: 0.0,
        ..LimitArgs::DEFAULT
    })
    .await;
    let enrolled = client.enroll("staff", "bo", &[&sample("obama2.jpg")]).await;
    enrolled.expect("enrolled");
    let enrolled = client.enroll("staff", "joe", &[&sample("biden.jpg")]).await;
    enrolled.expect("enrolled");
    let one = server.client_for("default", &[Scope::Duplicates]).await;
    let other = server.client_for("default", &[Scope::Duplicates]).await;
    for client in [&one, &other, &one] {
        assert_eq!(pairs(client).await, [["barack", "bo"].map(str::to_owned)]);
    }
    for client in [&one, &other, &client] {
        let none: [[String; 2]; 0] = [];
        assert_eq!(pairs(client).await, none, "over all keys");
    }
    assert_eq!(server.engine.withheld().duplicates, 3, "the operator is told");
    for (person_id, rows_expected) in [("barack", 3), ("bo", 3), ("joe", 0)] {
        let request = v1::ListRunningLogRequest {
            collection: "staff".to_owned(),
            person_id: person_id.to_owned(),
            page_size: 100,
            cursor: String::new(),
        };
        let mut logs = LogServiceClient::new(client.channel.clone());
        let rows = logs
            .list_running_log(request)
            .await
            .expect("listed")
            .into_inner()
            .rows;
        let paired: Vec<_> = rows
            .iter()
            .filter(|row| row.part() == v1::PersonPart::Paired)
            .collect();
        assert_eq!(paired.len(), rows_expected, "{person_id}");
        assert!(
            paired
                .iter()
                .all(|row| row.interface == "FindDuplicates" && row.result == "OK")
        );
        assert!(
            paired.iter().all(|row| row.similarity.is_some()),
            "as it was told"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_check_for_duplicates_names_a_person_as_often_in_a_day_and_then_enrols_as_if_nobody_was_there() {
    let (server, client) = server(LimitArgs {
        duplicates_per_day: 2,
        ..LimitArgs::DEFAULT
    })
    .await;
    let enrol = |person_id: &str| v1::EnrollPersonRequest {
        collection: "staff".to_owned(),
        person_id: person_id.to_owned(),
        photographs: photographs(&[&sample("obama2.jpg")]),
        checks: Some(v1::EnrollmentChecks {
            duplicate_strictness: 4,
            ..Default::default()
        }),
        ..Default::default()
    };
    for _ in 0..2 {
        let reply = client.enroll_as(enrol("again")).await.expect("answered");
        assert!(reply.person.is_none() && reply.duplicates[0].person_id == "barack");
    }
    let reply = client.enroll_as(enrol("again")).await.expect("answered");
    assert!(reply.person.is_some() && reply.duplicates.is_empty());
    assert_eq!(server.engine.withheld().duplicates, 1, "the operator is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn pairs_in_doubt_use_up_the_doubts_of_both_people() {
    let (server, client) = server(LimitArgs {
        borderline_accepts: 2,
        borderline_margin: 0.5,
        ..LimitArgs::DEFAULT
    })
    .await;
    let enrolled = client.enroll("staff", "bo", &[&sample("obama2.jpg")]).await;
    enrolled.expect("enrolled");
    for _ in 0..2 {
        assert_eq!(pairs(&client).await.len(), 1);
    }
    assert!(pairs(&client).await.is_empty());
    assert_eq!(server.engine.withheld().duplicates, 1);
    for (person_id, photo) in [("barack", "obama2.jpg"), ("bo", "obama.jpg")] {
        let verified = client.verify("staff", person_id, &sample(photo)).await;
        let verified = verified.expect("verified");
        assert!(!verified.same_person && verified.threshold > 0.9, "{person_id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_is_applied_in_steps_and_the_answer_says_which() {
    let (_server, client) = server(LimitArgs::DEFAULT).await;
    for (asked, applied) in [(0.5, 1e-4), (3e-5, 1e-5), (0.0, 1e-6), (1e-9, 1e-9)] {
        for answer in pairs_at(&client, asked).await {
            assert!(
                (answer.max_far / applied - 1.0).abs() < 1e-6,
                "{asked}: {}",
                answer.max_far
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_for_duplicates_counts_as_a_search_and_asks_for_a_scope_of_its_own() {
    let (server, client) = server(LimitArgs {
        searches_per_day: 2,
        ..LimitArgs::DEFAULT
    })
    .await;
    // What every key had that was made before there was the scope.
    let all_but_it = Scope::ALL.into_iter().filter(|scope| *scope != Scope::Duplicates);
    let new = NewApiKey {
        scopes: Scopes::from_iter(all_but_it),
        ..NewApiKey::default()
    };
    let key = server.key("default", new).await;
    let older = Client::connect(&server.url(), likeness_server::credential::of(&key)).await;
    let request = || v1::FindDuplicatesRequest {
        collection: "staff".to_owned(),
        ..Default::default()
    };
    let refused = refusal::of(older.matching.clone().find_duplicates(request()).await);
    assert_eq!(refused, Refused::new(Code::PermissionDenied, "SCOPE_MISSING"));
    for _ in 0..2 {
        pairs(&client).await;
    }
    let refused = refusal::of(client.matching.clone().find_duplicates(request()).await);
    assert_eq!(refused, Refused::new(Code::ResourceExhausted, "TOO_MANY_CALLS"));
}
