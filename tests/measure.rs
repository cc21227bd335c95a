//! How a collection is searched, measured by its operator: from outside, with people enough for a graph.

use std::time::{Duration, Instant};

use likeness_proto::v1;
use likeness_proto::v1::collection_service_client::CollectionServiceClient;
use likeness_proto::v1::import_persons_request::Part;
use likeness_proto::v1::matching_service_client::MatchingServiceClient;
use likeness_server::config::STREAMS_PER_ACCOUNT_MAX;
use tokio_stream::iter;
use tonic::Code;

use crate::support::child::Home;
use crate::support::server::Setup;
use crate::support::{Client, PATIENCE, Refused, asset, refusal};

/// A graph is walked from 2,000 faces on.
const PEOPLE: u64 = 2_100;

fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

/// People who do not exist, as the features of another installation.
async fn with_people(client: &Client, people: u64) {
    let model = std::fs::read(asset("models/fr_feature.onnx")).unwrap();
    let header = v1::ImportHeader {
        collection: "crowd".to_owned(),
        import_token: "crowd-0123456789".to_owned(),
        embedding_model: blake3::hash(&model).to_hex().to_string(),
        embedding_dim: 512,
        ..Default::default()
    };
    let item = |n: u64| {
        let mut seed = n + 1;
        let values = (0..512).map(|_| (random(&mut seed) % 2001) as f32 / 1000.0 - 1.0);
        v1::ImportItem {
            sequence: n,
            person_id: format!("p{n}"),
            embeddings: vec![v1::FaceEmbedding {
                values: values.collect(),
            }],
            ..Default::default()
        }
    };
    let parts = std::iter::once(Part::Header(header)).chain((0..people).map(move |n| Part::Item(item(n))));
    let requests = iter(parts.map(|part| v1::ImportPersonsRequest { part: Some(part) }));
    let mut answers = client
        .persons
        .clone()
        .import_persons(requests)
        .await
        .expect("it begins")
        .into_inner();
    let mut imported = 0;
    while let Some(answer) = answers.message().await.expect("it goes on") {
        let outcome = answer.outcome.expect("an outcome");
        imported += u64::from(matches!(
            outcome,
            v1::import_persons_response::Outcome::Imported(_)
        ));
    }
    assert_eq!(imported, people);
}

fn request(collection: &str) -> v1::MeasureIndexRequest {
    v1::MeasureIndexRequest {
        collection: collection.to_owned(),
        people_max: 0,
        probes: 50,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_is_measured_by_both_kinds_of_index_and_keeps_its_own() {
    let server = Home::new().serve();
    let client = server.client().await;
    client.create("crowd").await;
    with_people(&client, PEOPLE).await;

    let mut collections = client.collections.clone();
    // While one is read, there is no other; when its client goes away, it is over.
    let first = collections.measure_index(request("crowd")).await.expect("begun");
    assert_eq!(
        refusal::of(collections.measure_index(request("crowd")).await),
        Refused::new(Code::InvalidArgument, "INVALID_FIELD")
    );
    drop(first);
    let deadline = Instant::now() + PATIENCE;
    let mut answers = loop {
        match collections.measure_index(request("crowd")).await {
            Ok(answers) => break answers.into_inner(),
            Err(status) => assert!(Instant::now() < deadline, "{status:?}"),
        }
    };
    let (mut last, mut before) = (None, 0);
    while let Some(answer) = answers.message().await.expect("it goes on") {
        assert!(before <= answer.done && answer.done <= answer.total);
        before = answer.done;
        last = Some(answer);
    }
    let last = last.expect("an answer");
    assert_eq!((last.done, last.total), (2 * PEOPLE + 50, 2 * PEOPLE + 50));
    assert_eq!(last.rows.len(), 9);
    let (flat, graphs) = last.rows.split_at(2);
    for row in &last.rows {
        assert_eq!(row.faces, PEOPLE);
        assert!(0 < row.p50_micros && row.p50_micros <= row.p99_micros);
    }
    assert_eq!(
        flat.iter().map(|row| row.exact).collect::<Vec<_>>(),
        [false, true]
    );
    let agreed: Vec<_> = flat.iter().map(|row| row.recall_at_1).collect();
    assert_eq!(agreed, [1.0, 1.0]);
    let recalls: Vec<_> = graphs.iter().map(|row| row.recall_at_1).collect();
    assert!(recalls[0] <= recalls[6] && recalls[6] >= 0.95, "{recalls:?}");
    let collection = client.collection("crowd").await.expect("it is there");
    assert!(collection.index() == v1::IndexKind::Flat && collection.faces == PEOPLE);

    // The command says the same, in both forms.
    let said = server.ask(&["index", "measure", "crowd", "--probes", "10"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains("graph, ef 256") && said.stdout.contains("recommended: "));
    let arguments = [
        "--json", "index", "measure", "crowd", "--probes", "10", "--people", "100",
    ];
    let json = server.ask(&arguments).json();
    assert_eq!(json["rows"][2]["faces"], 100);
    // Indexes of fewer faces do not compare.
    assert_eq!(json["recommended"], "flat");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_measured_is_refused() {
    let server = Home::new().serve();
    let client = server.client().await;
    client.create("staff").await;
    let mut collections = client.collections.clone();
    let refused = |code, reason| Refused::new(code, reason);
    assert_eq!(
        refusal::of(collections.measure_index(request("nobody")).await),
        refused(Code::NotFound, "COLLECTION_NOT_FOUND")
    );
    let endless = v1::MeasureIndexRequest {
        probes: 10_001,
        ..request("staff")
    };
    assert_eq!(
        refusal::of(collections.measure_index(endless).await),
        refused(Code::InvalidArgument, "INVALID_FIELD")
    );
    let again = collections.measure_index(request("staff")).await;
    let mut again = again.expect("nobody is no error").into_inner();
    let answer = again.message().await.expect("it ends").expect("at once");
    assert!(
        answer
            .rows
            .iter()
            .all(|row| row.faces == 0 && row.p99_micros == 0)
    );
    assert!(again.message().await.expect("it has ended").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_reads_is_let_go_a_measurement_and_searches_for_duplicates_alike() {
    let mut setup = Setup::new();
    setup.config.call_seconds = 5;
    let server = setup.start().await;
    let client = server.client().await;
    client.create("crowd").await;
    // Three slices of each and more: the transport asks for two answers before it has sent one.
    with_people(&client, 2 * PEOPLE).await;
    let unread = server.unread().await;
    let mut collections = CollectionServiceClient::new(unread.clone());
    let _measured = collections.measure_index(request("crowd")).await.expect("begun");
    let duplicates = || v1::FindDuplicatesRequest {
        collection: "crowd".to_owned(),
        ..Default::default()
    };
    let mut matching = MatchingServiceClient::new(unread);
    let mut held = Vec::new();
    // The measurement is one of them.
    for _ in 1..STREAMS_PER_ACCOUNT_MAX {
        held.push(matching.find_duplicates(duplicates()).await.expect("begun"));
    }
    let mut matching = client.matching.clone();
    let busy = Refused::new(Code::ResourceExhausted, "BUSY");
    assert_eq!(refusal::of(matching.find_duplicates(duplicates()).await), busy);

    let deadline = Instant::now() + PATIENCE;
    // While one measurement is held, there is no other: also among the streams whose places came free before.
    let mut collections = client.collections.clone();
    while let Err(status) = collections.measure_index(request("crowd")).await {
        assert!(Instant::now() < deadline, "{status:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut again = Vec::new();
    while again.len() < STREAMS_PER_ACCOUNT_MAX - 1 {
        match matching.find_duplicates(duplicates()).await {
            Ok(stream) => again.push(stream),
            Err(status) => assert!(Instant::now() < deadline, "{status:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
