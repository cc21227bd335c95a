//! A server that is built without graphs.

use likeness_proto::v1;
use tonic::Code;

use crate::support::pictures::sample;
use crate::support::{Refused, Server, refusal};

#[tokio::test(flavor = "multi_thread")]
async fn a_graph_collection_keeps_its_setting_and_is_scanned_and_nothing_is_measured() {
    let server = Server::start().await;
    let client = server.client().await;
    let new = v1::CreateCollectionRequest {
        name: "crowd".to_owned(),
        index: v1::IndexKind::Graph.into(),
        ef: 64,
        ..Default::default()
    };
    let mut collections = client.collections.clone();
    collections.create_collection(new).await.expect("made");
    client
        .enroll("crowd", "barack", &[&sample("obama.jpg")])
        .await
        .expect("enrolled");
    drop(client);
    let server = server.stop().await.start().await;
    let client = server.client().await;
    let kept = client.collection("crowd").await.expect("kept");
    assert!(kept.index() == v1::IndexKind::Graph && kept.ef == 64);
    assert_eq!(client.found("crowd", &sample("obama2.jpg")).await, ["barack"]);
    let request = v1::MeasureIndexRequest {
        collection: "crowd".to_owned(),
        ..Default::default()
    };
    let refused = refusal::of(client.collections.clone().measure_index(request).await);
    assert_eq!(refused, Refused::new(Code::Unimplemented, "NO_GRAPHS"));
}
