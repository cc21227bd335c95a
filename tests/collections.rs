//! Making, reading, changing and listing collections.

use likeness_proto::v1;
use tonic::Code;

use crate::support::pictures::sample;
use crate::support::{Client, Refused, Server, refusal};

async fn listed(client: &Client, page_size: u32) -> Vec<String> {
    let (mut names, mut cursor) = (Vec::new(), String::new());
    loop {
        let request = v1::ListCollectionsRequest { page_size, cursor };
        let reply = client.collections.clone().list_collections(request).await;
        let page = reply.expect("listed").into_inner();
        names.extend(page.collections.into_iter().map(|collection| collection.name));
        cursor = page.next_cursor;
        if cursor.is_empty() {
            return names;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_has_the_settings_it_was_made_with() {
    let server = Server::start().await;
    let client = server.client().await;
    let usual = client.create("usual").await;
    assert_eq!(
        (usual.bits, usual.threshold, usual.faces_per_person_max),
        (1024, 0.411, 20)
    );
    assert_eq!((usual.persons, usual.faces, usual.damaged_persons), (0, 0, 0));
    let request = v1::CreateCollectionRequest {
        name: "own".to_owned(),
        bits: 256,
        threshold: Some(0.5),
        faces_per_person_max: 3,
        ..Default::default()
    };
    let reply = client
        .collections
        .clone()
        .create_collection(request.clone())
        .await;
    let made = reply
        .expect("made")
        .into_inner()
        .collection
        .expect("a collection");
    assert_eq!(
        (made.bits, made.threshold, made.faces_per_person_max),
        (256, 0.5, 3)
    );
    assert!(client.collection("own").await.expect("kept") == made);
    let again = client.collections.clone().create_collection(request).await;
    assert_eq!(
        refusal::of(again),
        Refused::new(Code::AlreadyExists, "COLLECTION_EXISTS")
    );
    let unknown = client.collection("unknown").await;
    assert_eq!(
        refusal::of(unknown),
        Refused::new(Code::NotFound, "COLLECTION_NOT_FOUND")
    );

    drop(client);
    let server = server.stop().await.start().await;
    assert!(server.client().await.collection("own").await.expect("kept") == made);
}

#[tokio::test(flavor = "multi_thread")]
async fn threshold_and_faces_per_person_change_and_what_is_unset_stays() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let change = |threshold, faces_per_person_max| {
        let request = v1::UpdateCollectionRequest {
            name: "staff".to_owned(),
            threshold,
            faces_per_person_max,
            ..Default::default()
        };
        let mut collections = client.collections.clone();
        async move { collections.update_collection(request).await }
    };
    let changed = change(Some(0.6), None).await.expect("changed").into_inner();
    let changed = changed.collection.expect("a collection");
    assert_eq!((changed.threshold, changed.faces_per_person_max), (0.6, 20));
    let changed = change(None, Some(2)).await.expect("changed").into_inner();
    let changed = changed.collection.expect("a collection");
    assert_eq!((changed.threshold, changed.faces_per_person_max), (0.6, 2));
    assert_eq!(
        refusal::fields(change(None, Some(21)).await),
        ["faces_per_person_max"]
    );
    assert_eq!(
        refusal::fields(change(None, Some(0)).await),
        ["faces_per_person_max"]
    );
    assert_eq!(refusal::fields(change(Some(-0.1), None).await), ["threshold"]);

    drop(client);
    let server = server.stop().await.start().await;
    assert!(server.client().await.collection("staff").await.expect("kept") == changed);
}

#[tokio::test(flavor = "multi_thread")]
async fn collections_are_listed_by_name_whatever_the_page() {
    let server = Server::start().await;
    let client = server.client().await;
    assert_eq!(listed(&client, 0).await, [""; 0]);
    for name in ["delta", "alpha", "echo", "bravo", "charlie"] {
        client.create(name).await;
    }
    for page_size in [0, 1, 2, 5, 1000] {
        assert_eq!(
            listed(&client, page_size).await,
            ["alpha", "bravo", "charlie", "delta", "echo"]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_searched_by_a_graph_finds_and_forgets_as_any_other_and_changes_its_kind() {
    let server = Server::start().await;
    let client = server.client().await;
    let usual = client.create("usual").await;
    assert!(usual.index() == v1::IndexKind::Flat && usual.ef == 256);
    let new = v1::CreateCollectionRequest {
        name: "many".to_owned(),
        index: v1::IndexKind::Graph.into(),
        ef: 64,
        ..Default::default()
    };
    let made = client.collections.clone().create_collection(new.clone()).await;
    let made = made.expect("made").into_inner().collection.expect("a collection");
    assert!(made.index() == v1::IndexKind::Graph && made.ef == 64);
    for ef in [15, 4097] {
        let name = "other".to_owned();
        let wide = v1::CreateCollectionRequest {
            name,
            ef,
            ..new.clone()
        };
        assert_eq!(
            refusal::fields(client.collections.clone().create_collection(wide).await),
            ["ef"]
        );
    }
    let (obama, biden) = (sample("obama.jpg"), sample("biden.jpg"));
    client
        .enroll("many", "barack", &[&obama])
        .await
        .expect("enrolled");
    client.enroll("many", "joe", &[&biden]).await.expect("enrolled");
    assert_eq!(client.found("many", &sample("obama2.jpg")).await, ["barack"]);

    drop(client);
    let server = server.stop().await.start().await;
    let client = server.client().await;
    let kept = client.collection("many").await.expect("kept");
    assert!(kept.index() == v1::IndexKind::Graph && kept.ef == 64);
    assert_eq!(client.found("many", &sample("obama2.jpg")).await, ["barack"]);
    let change = |index: i32, ef| {
        let request = v1::UpdateCollectionRequest {
            name: "many".to_owned(),
            index,
            ef,
            ..Default::default()
        };
        let mut collections = client.collections.clone();
        async move { collections.update_collection(request).await }
    };
    for (index, ef) in [
        (v1::IndexKind::Flat, 64),
        (v1::IndexKind::Graph, 64),
        (v1::IndexKind::Unspecified, 512),
    ] {
        let wanted = Some(ef).filter(|ef| *ef != 64);
        let changed = change(index.into(), wanted).await.expect("changed").into_inner();
        let changed = changed.collection.expect("a collection");
        assert_eq!(changed.ef, ef);
        assert!(changed.index() == index || index == v1::IndexKind::Unspecified);
        assert_eq!(client.found("many", &sample("obama2.jpg")).await, ["barack"]);
    }
    assert_eq!(refusal::fields(change(3, None).await), ["index"]);
    assert_eq!(refusal::fields(change(0, Some(0)).await), ["ef"]);
    client.delete("many", "barack").await.expect("erased");
    assert_eq!(client.found("many", &sample("obama2.jpg")).await, [""; 0]);
    assert_eq!(client.found("many", &biden).await, ["joe"]);
}
