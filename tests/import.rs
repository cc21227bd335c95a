//! Many people over one stream: cut anywhere, it resumes, and no person is enrolled twice.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use likeness_proto::v1;
use likeness_proto::v1::import_persons_request::Part;
use likeness_proto::v1::import_persons_response::Outcome;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::support::child::{Home, Program};
use crate::support::client::photographs;
use crate::support::pictures::{sample, tiny};
use crate::support::server::Setup;
use crate::support::{Client, PATIENCE, Refused, Server, directory, refusal};

const TOKEN: &str = "import-0123456789";

fn header() -> v1::ImportHeader {
    v1::ImportHeader {
        collection: "staff".to_owned(),
        import_token: TOKEN.to_owned(),
        ..Default::default()
    }
}

fn item(n: u64, photos: &[&[u8]]) -> v1::ImportItem {
    v1::ImportItem {
        sequence: n,
        person_id: format!("p{n}"),
        photographs: photographs(photos),
        name: format!("Person {n}"),
        ..Default::default()
    }
}

fn request(part: Part) -> v1::ImportPersonsRequest {
    v1::ImportPersonsRequest { part: Some(part) }
}

type Results = BTreeMap<u64, Outcome>;

/// Sends everything, and takes results until the end or until there are so many; then the stream is dropped.
async fn import(
    client: &Client,
    header: v1::ImportHeader,
    items: Vec<v1::ImportItem>,
    results_max: usize,
) -> (Results, Option<Status>) {
    let (sender, stream) = mpsc::channel(1);
    let sending = tokio::spawn(async move {
        let parts = std::iter::once(Part::Header(header)).chain(items.into_iter().map(Part::Item));
        for part in parts {
            // The stream may be cut.
            if sender.send(request(part)).await.is_err() {
                return;
            }
        }
    });
    let mut results = Results::new();
    let answers = client
        .persons
        .clone()
        .import_persons(ReceiverStream::new(stream))
        .await;
    let mut answers = match answers {
        Ok(answers) => answers.into_inner(),
        Err(status) => return (results, Some(status)),
    };
    let status = loop {
        if results.len() >= results_max {
            break None;
        }
        match tokio::time::timeout(PATIENCE, answers.message())
            .await
            .expect("in time")
        {
            Ok(Some(answer)) => {
                let before = results.insert(answer.sequence, answer.outcome.expect("one"));
                assert!(before.is_none(), "one result for each item");
            }
            Ok(None) => break None,
            Err(status) => break Some(status),
        }
    };
    drop(answers);
    sending.abort();
    (results, status)
}

fn imported(outcome: &Outcome) -> &v1::PersonImported {
    match outcome {
        Outcome::Imported(imported) => imported,
        Outcome::Refused(refused) => panic!("refused: {} {}", refused.reason, refused.message),
    }
}

fn refused(outcome: &Outcome) -> &v1::ItemRefused {
    match outcome {
        Outcome::Refused(refused) => refused,
        Outcome::Imported(_) => panic!("it was imported"),
    }
}

/// Whoever is enrolled, with the number of faces.
async fn faces_of(client: &Client) -> BTreeMap<String, usize> {
    let mut people = BTreeMap::new();
    for person_id in client.people("staff").await {
        let person = client.person("staff", &person_id).await.expect("listed");
        people.insert(person_id, person.faces.len());
    }
    people
}

/// Numbers that look random and are the same for the same seed.
fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_cut_at_twenty_items_and_sent_again_enrols_everyone_once() {
    const PEOPLE: u64 = 60;
    const CUTS: usize = 20;
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let photo = tiny();
    let mut seed = 0x9e37_79b9_7f4a_7c15;
    // Every third person has two photographs.
    let all: BTreeMap<u64, v1::ImportItem> = (0..PEOPLE)
        .map(|n| {
            let two = [&photo[..], &photo[..]];
            (n, item(n, if n % 3 == 0 { &two } else { &two[..1] }))
        })
        .collect();
    let (mut left, mut replays): (BTreeSet<u64>, usize) = (all.keys().copied().collect(), 0);
    for _ in 0..CUTS {
        let items = left.iter().map(|n| all[n].clone()).collect();
        let (results, status) = import(&client, header(), items, random(&mut seed) as usize % 4).await;
        assert!(status.is_none(), "{status:?}");
        replays += results
            .values()
            .filter(|outcome| imported(outcome).replayed)
            .count();
        left.retain(|n| !results.contains_key(n));
    }
    let items = left.iter().map(|n| all[n].clone()).collect();
    let (results, status) = import(&client, header(), items, usize::MAX).await;
    assert!(status.is_none(), "{status:?}");
    assert_eq!(results.len(), left.len(), "everyone has a result");
    replays += results
        .values()
        .filter(|outcome| imported(outcome).replayed)
        .count();
    println!("{replays} of {PEOPLE} were durable when their stream was cut");
    assert!(replays > 0, "a cut came between a write and its answer");
    let expected = all
        .values()
        .map(|item| (item.person_id.clone(), item.photographs.len()));
    assert_eq!(faces_of(&client).await, expected.collect());
    // Once more, all of it: nothing changes.
    let (results, _) = import(&client, header(), all.values().cloned().collect(), usize::MAX).await;
    assert!(results.values().all(|outcome| imported(outcome).replayed));
    assert_eq!(client.collection("staff").await.expect("there").faces, 80);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_in_the_middle_is_gone_on_with() {
    let home = Home::new();
    let mut child = home.serve();
    let client = child.client().await;
    client.create("staff").await;
    let photo = tiny();
    let items = || (0..40).map(|n| item(n, &[&photo])).collect::<Vec<_>>();
    let (answered, stop) = (import(&client, header(), items(), 10).await, child.kill());
    drop(stop);
    let (answered, _) = answered;
    assert_eq!(answered.len(), 10);
    let child = home.serve();
    let client = child.client().await;
    let left = items()
        .into_iter()
        .filter(|item| !answered.contains_key(&item.sequence));
    let (results, status) = import(&client, header(), left.collect(), usize::MAX).await;
    assert!(status.is_none(), "{status:?}");
    assert_eq!(results.len(), 30);
    let people = faces_of(&client).await;
    assert_eq!((people.len(), people.values().sum::<usize>()), (40, 40));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_item_ends_nothing_and_its_number_can_be_used_again() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let photo = tiny();
    let items = vec![
        item(1, &[&photo]),
        item(2, &[b"no photograph"]),
        v1::ImportItem {
            person_id: "p1".to_owned(),
            ..item(3, &[&photo])
        },
        item(4, &[]),
        item(5, &[&photo, b"no photograph"]),
        v1::ImportItem {
            person_id: "not a name".to_owned(),
            ..item(6, &[&photo])
        },
        item(7, &[&photo]),
    ];
    let (results, status) = import(&client, header(), items, usize::MAX).await;
    assert!(status.is_none(), "{status:?}");
    let reasons = [2, 4, 6].map(|n| refused(&results[&n]).reason.as_str());
    assert_eq!(reasons, ["UNSUPPORTED_FORMAT", "INVALID_FIELD", "INVALID_FIELD"]);
    // Whichever of the two came first.
    let both = [1, 3].map(|n| matches!(results[&n], Outcome::Imported(_)));
    assert!(both[0] != both[1], "{both:?}");
    assert_eq!(
        (
            imported(&results[&5]).faces,
            imported(&results[&5]).outcomes.len()
        ),
        (1, 2)
    );
    assert!(
        results
            .values()
            .all(|o| !matches!(o, Outcome::Refused(r) if r.retry))
    );
    assert_eq!(client.people("staff").await, ["p1", "p5", "p7"]);
    // A better photograph under the same number; another person under a number that was used is refused.
    let better = vec![
        item(2, &[&photo]),
        v1::ImportItem {
            sequence: 7,
            ..item(8, &[&photo])
        },
    ];
    let (results, _) = import(&client, header(), better, usize::MAX).await;
    assert!(!imported(&results[&2]).replayed);
    assert_eq!(refused(&results[&7]).reason, "TOKEN_REUSED");
    // And somebody who was erased stays erased.
    client.delete("staff", "p2").await.expect("erased");
    let (results, _) = import(&client, header(), vec![item(2, &[&photo])], usize::MAX).await;
    assert_eq!(refused(&results[&2]).reason, "TOKEN_SPENT");
    assert_eq!(client.people("staff").await, ["p1", "p5", "p7"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_does_not_begin_as_it_must_is_refused() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let status = |header: v1::ImportHeader| {
        let client = client.clone();
        async move {
            import(&client, header, Vec::new(), usize::MAX)
                .await
                .1
                .expect("refused")
        }
    };
    let fields = |status: Status| refusal::fields::<()>(Err(status));
    let short = v1::ImportHeader {
        import_token: "short".to_owned(),
        ..header()
    };
    assert_eq!(fields(status(short).await), ["import_token"]);
    let strict = v1::EnrollmentChecks {
        duplicate_strictness: 1,
        ..Default::default()
    };
    let strict = v1::ImportHeader {
        checks: Some(strict),
        ..header()
    };
    assert_eq!(fields(status(strict).await), ["checks.duplicate_strictness"]);
    let model = v1::ImportHeader {
        embedding_model: "ab".repeat(32),
        embedding_dim: 512,
        ..header()
    };
    assert_eq!(fields(status(model).await), ["embedding_model"]);
    let nowhere = v1::ImportHeader {
        collection: "nowhere".to_owned(),
        ..header()
    };
    let expected = Refused::new(Code::NotFound, "COLLECTION_NOT_FOUND");
    assert_eq!(refusal::read(&status(nowhere).await), expected);
    let stream = tokio_stream::iter([request(Part::Item(item(1, &[&tiny()])))]);
    let answers = client
        .persons
        .clone()
        .import_persons(stream)
        .await
        .expect("begun");
    let status = answers.into_inner().message().await.err().expect("refused");
    assert_eq!(fields(status), ["header"]);
    assert!(client.people("staff").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_stream_is_ended_and_a_busy_one_may_outlast_a_call() {
    let mut setup = Setup::new();
    setup.config.call_seconds = 2;
    let server = setup.start().await;
    let client = server.client().await;
    client.create("staff").await;
    let (sender, stream) = mpsc::channel(1);
    sender.send(request(Part::Header(header()))).await.expect("room");
    let answers = client
        .persons
        .clone()
        .import_persons(ReceiverStream::new(stream))
        .await;
    let mut answers = answers.expect("begun").into_inner();
    for n in 0..4 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        sender
            .send(request(Part::Item(item(n, &[&tiny()]))))
            .await
            .expect("it is open");
        let answer = answers.message().await.expect("answered").expect("not the end");
        assert_eq!(imported(&answer.outcome.expect("one")).faces, 1);
    }
    let ended = tokio::time::timeout(PATIENCE, answers.message())
        .await
        .expect("ended by the server");
    let expected = Refused::new(Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    assert_eq!(refusal::read_details(&ended.err().expect("idle")), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_server_ends_an_import_and_answers_what_was_begun() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let (sender, stream) = mpsc::channel(1);
    sender.send(request(Part::Header(header()))).await.expect("room");
    let answers = client
        .persons
        .clone()
        .import_persons(ReceiverStream::new(stream))
        .await;
    let mut answers = answers.expect("begun").into_inner();
    sender
        .send(request(Part::Item(item(1, &[&tiny()]))))
        .await
        .expect("open");
    let answer = answers.message().await.expect("answered").expect("not the end");
    imported(&answer.outcome.expect("one"));
    let stopping = tokio::spawn(server.stop());
    let status = answers.message().await.err().expect("ended");
    assert_eq!(
        refusal::read_details(&status),
        Refused::new(Code::Unavailable, "SHUTTING_DOWN")
    );
    drop(stopping.await.expect("it stopped in time"));
}

/// The models and runtime of the tests, to make features as another installation would.
fn features_digest() -> String {
    blake3::hash(&std::fs::read(crate::support::asset("models/fr_feature.onnx")).unwrap())
        .to_hex()
        .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn features_of_the_servers_model_are_taken_at_any_length_and_no_others() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let header = || v1::ImportHeader {
        embedding_model: features_digest(),
        embedding_dim: 512,
        ..header()
    };
    let vector = |n: u64, length: f32| v1::FaceEmbedding {
        values: {
            let mut seed = n + 1;
            (0..512)
                .map(|_| (random(&mut seed) % 2001) as f32 / 1000.0 - 1.0)
                .map(|v| v * length)
                .collect()
        },
    };
    let with = |n: u64, embeddings| v1::ImportItem {
        embeddings,
        ..item(n, &[])
    };
    let mut endless = vector(9, 1.0);
    endless.values[7] = f32::NAN;
    let items = vec![
        with(1, vec![vector(1, 1.0), vector(2, 300.0)]),
        with(2, vec![endless]),
        with(
            3,
            vec![v1::FaceEmbedding {
                values: vec![0.0; 512],
            }],
        ),
        with(
            4,
            vec![v1::FaceEmbedding {
                values: vec![1.0; 511],
            }],
        ),
        v1::ImportItem {
            photographs: photographs(&[&tiny()]),
            ..with(5, vec![vector(5, 1.0)])
        },
        with(6, (0..21).map(|n| vector(n, 1.0)).collect()),
        with(7, vec![vector(7, 1e-3)]),
    ];
    let (results, status) = import(&client, header(), items.clone(), usize::MAX).await;
    assert!(status.is_none(), "{status:?}");
    for n in 2..=6 {
        assert_eq!(refused(&results[&n]).reason, "INVALID_FIELD", "item {n}");
    }
    assert_eq!(
        (imported(&results[&1]).faces, imported(&results[&7]).faces),
        (2, 1)
    );
    assert_eq!(faces_of(&client).await.into_values().collect::<Vec<_>>(), [2, 1]);
    let (results, _) = import(&client, header(), vec![items[0].clone()], usize::MAX).await;
    assert!(imported(&results[&1]).replayed);
    // Without a model that made them they are not taken.
    let (results, _) = import(
        &client,
        self::header(),
        vec![with(8, vec![vector(8, 1.0)])],
        usize::MAX,
    )
    .await;
    assert_eq!(refused(&results[&8]).reason, "INVALID_FIELD");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures; `cargo test --release --workspace --test likeness what_an_import -- --ignored --nocapture`"]
async fn what_an_import_costs_beside_single_calls() {
    const PEOPLE: u64 = 200;
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let photo = tiny();
    for round in 0..3 {
        let began = Instant::now();
        for n in 0..PEOPLE {
            let person_id = format!("single-{round}-{n}");
            client
                .enroll("staff", &person_id, &[&photo])
                .await
                .expect("enrolled");
        }
        let single = began.elapsed();
        let items = |first: u64| {
            (first..first + PEOPLE)
                .map(|n| item(n, &[&photo]))
                .collect::<Vec<_>>()
        };
        let began = Instant::now();
        let (results, _) = import(&client, header(), items(round * PEOPLE), usize::MAX).await;
        let streamed = began.elapsed();
        assert!(results.values().all(|outcome| !imported(outcome).replayed));
        let began = Instant::now();
        let (results, _) = import(&client, header(), items(round * PEOPLE), usize::MAX).await;
        let replayed = began.elapsed();
        assert!(results.values().all(|outcome| imported(outcome).replayed));
        println!("{PEOPLE} people: single calls {single:.1?}, import {streamed:.1?}, again {replayed:.1?}");
    }
}

#[test]
fn the_command_imports_a_folder_and_goes_on_from_its_report() {
    let home = Home::new();
    let mut child = home.serve();
    child.ask(&["collection", "create", "staff"]).expect(0);
    let (work, photo) = (directory(), tiny());
    let folder = work.path().join("photographs");
    let report = work.path().join("report.jsonl");
    for n in 0..25 {
        let person = folder.join(format!("p{n}"));
        std::fs::create_dir_all(&person).unwrap();
        std::fs::write(person.join("one.png"), &photo).unwrap();
    }
    std::fs::write(folder.join("obama.jpg"), sample("obama.jpg")).unwrap();
    std::fs::write(folder.join("nobody.jpg"), b"no photograph").unwrap();
    let arguments = |source: &std::path::Path| {
        let paths = [source, &report].map(|path| path.to_str().unwrap().to_owned());
        ["import", "staff", &paths[0], "--report", &paths[1], "--json"].map(str::to_owned)
    };
    let run = |child: &crate::support::child::Child, source: &std::path::Path| -> Program {
        let arguments = arguments(source);
        child.ask(&arguments.each_ref().map(String::as_str))
    };
    let first = run(&child, &folder).expect(1).json();
    assert_eq!(
        (first["enrolled"].as_u64(), first["faces"].as_u64()),
        (Some(26), Some(26))
    );
    assert_eq!(first["refused"]["UNSUPPORTED_FORMAT"], 1);
    // As if the command had been killed when five people had no line yet.
    let text = std::fs::read_to_string(&report).unwrap();
    let kept: Vec<_> = text.lines().take(23).collect();
    std::fs::write(&report, kept.join("\n") + "\n{\"item\": 1").unwrap();
    child.kill();
    let child = home.serve();
    let again = run(&child, &folder).expect(1).json();
    assert_eq!(
        (again["enrolled"].as_u64(), again["faces"].as_u64()),
        (Some(26), Some(26))
    );
    // Better photographs are sent when it is asked for.
    std::fs::write(folder.join("nobody.jpg"), sample("biden.jpg")).unwrap();
    run(&child, &folder).expect(1);
    let mut more = arguments(&folder).to_vec();
    more.push("--refused-again".to_owned());
    let mended = child
        .ask(&more.iter().map(String::as_str).collect::<Vec<_>>())
        .expect(0)
        .json();
    assert_eq!(mended["enrolled"], 27);
    let listed = child
        .ask(&["collection", "get", "staff", "--json"])
        .expect(0)
        .json();
    assert_eq!(
        listed["collection"]["faces"]
            .as_u64()
            .or(listed["faces"].as_u64()),
        Some(27)
    );
    // A table, with names; a report of another collection is not gone on with.
    std::fs::write(
        work.path().join("people.csv"),
        "person_id,photographs,name,tags\neve,photographs/obama.jpg,Eve,a;b\n",
    )
    .unwrap();
    let table = work.path().join("people.csv");
    run(&child, &table).expect(0);
    let eve = child.ask(&["person", "get", "staff", "eve", "--json"]).expect(0);
    assert!(eve.stdout.contains("\"Eve\""), "{}", eve.stdout);
    let other = child.ask(&[
        "import",
        "visitors",
        table.to_str().unwrap(),
        "--report",
        report.to_str().unwrap(),
    ]);
    other.expect(64);
}

#[test]
fn whoever_cannot_be_read_is_in_the_report_and_counts_as_long_as_the_source_has_them() {
    let home = Home::new();
    let child = home.serve();
    child.ask(&["collection", "create", "staff"]).expect(0);
    let work = directory();
    let folder = work.path().join("photographs");
    let report = work.path().join("report.jsonl");
    std::fs::create_dir_all(folder.join("ada/more")).unwrap();
    for photograph in ["ada/one.png", "eve.png"] {
        std::fs::write(folder.join(photograph), tiny()).unwrap();
    }
    let paths = [&folder, &report].map(|path| path.to_str().unwrap());
    let again = ["import", "staff", paths[0], "--report", paths[1], "--json"];
    let json = child.ask(&again).expect(1).json();
    assert_eq!(
        (json["enrolled"].as_u64(), json["refused"]["FILE"].as_u64()),
        (Some(1), Some(1)),
        "{json}"
    );
    let lines = std::fs::read_to_string(&report).unwrap();
    assert!(
        lines.contains("\"ada\"") && lines.contains("expected a file"),
        "{lines}"
    );
    std::fs::remove_dir_all(folder.join("ada")).unwrap();
    child.ask(&again).expect(0);
}
