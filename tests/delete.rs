//! Deleting faces, people and collections: gone means gone, also after a restart.

use tonic::Code;

use crate::support::pictures::{astronaut_small, sample};
use crate::support::{Refused, Server, refusal};

const NO_PERSON: &str = "PERSON_NOT_FOUND";

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_person_is_never_found_again() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let (obama, obama3, biden) = (sample("obama.jpg"), sample("obama3.jpg"), sample("biden.jpg"));
    client
        .enroll("staff", "barack", &[&obama, &obama3])
        .await
        .expect("enrolled");
    client.enroll("staff", "joe", &[&biden]).await.expect("enrolled");
    assert_eq!(client.found("staff", &obama).await, ["barack"]);
    assert_eq!(client.delete("staff", "barack").await.expect("erased"), 2);

    for restarted in [false, true] {
        assert_eq!(client.found("staff", &obama).await, [""; 0], "{restarted}");
        assert_eq!(client.people("staff").await, ["joe"]);
        let unknown = Refused::new(Code::NotFound, NO_PERSON);
        assert_eq!(refusal::of(client.person("staff", "barack").await), unknown);
        assert_eq!(
            refusal::of(client.verify("staff", "barack", &obama).await),
            unknown
        );
        assert_eq!(refusal::of(client.delete("staff", "barack").await), unknown);
        if restarted {
            break;
        }
    }
    drop(client);
    let server = server.stop().await.start().await;
    let client = server.client().await;
    assert_eq!(client.found("staff", &obama).await, [""; 0]);
    assert_eq!(client.people("staff").await, ["joe"]);
    client
        .enroll("staff", "barack", &[&obama])
        .await
        .expect("enrolled anew");
    assert_eq!(client.found("staff", &obama3).await, ["barack"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_face_is_not_found_and_the_others_are() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let (biden, small) = (sample("biden.jpg"), astronaut_small());
    let reply = client
        .enroll("staff", "two", &[&biden, &small])
        .await
        .expect("enrolled");
    let faces = reply.person.expect("a person").faces;
    let left = client
        .delete_faces("staff", "two", &[&faces[0].face_id])
        .await
        .expect("deleted");
    assert!(left.faces[..] == faces[1..]);
    assert_eq!(client.found("staff", &biden).await, [""; 0]);
    assert_eq!(client.found("staff", &small).await, ["two"]);
    assert_eq!(client.collection("staff").await.expect("kept").faces, 1);
    let again = client.delete_faces("staff", "two", &[&faces[0].face_id]).await;
    assert_eq!(refusal::of(again), Refused::new(Code::NotFound, "FACE_NOT_FOUND"));

    drop(client);
    let server = server.stop().await.start().await;
    let client = server.client().await;
    assert_eq!(client.found("staff", &biden).await, [""; 0]);
    assert_eq!(client.found("staff", &small).await, ["two"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_face_stays_and_a_list_with_an_unknown_face_deletes_none() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let small = astronaut_small();
    let reply = client
        .enroll("staff", "two", &[&small, &small])
        .await
        .expect("enrolled");
    let faces = reply.person.expect("a person").faces;
    let ids = [&faces[0].face_id[..], &faces[1].face_id[..]];
    let last = client.delete_faces("staff", "two", &ids).await;
    let status = last.err().expect("it would leave none");
    assert_eq!(
        refusal::read(&status),
        Refused::new(Code::FailedPrecondition, "LAST_FACE")
    );
    assert!(
        status.message().contains("delete the person"),
        "{}",
        status.message()
    );

    let unknown = "0".repeat(32);
    let mixed = client.delete_faces("staff", "two", &[ids[0], &unknown]).await;
    assert_eq!(refusal::of(mixed), Refused::new(Code::NotFound, "FACE_NOT_FOUND"));
    assert_eq!(client.person("staff", "two").await.expect("kept").faces.len(), 2);
    client
        .delete_faces("staff", "two", &ids[..1])
        .await
        .expect("one of two");
    let last = client.delete_faces("staff", "two", &ids[1..]).await;
    assert_eq!(
        refusal::of(last),
        Refused::new(Code::FailedPrecondition, "LAST_FACE")
    );
    assert_eq!(client.found("staff", &small).await, ["two"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_collection_takes_everyone_along_and_its_name_is_free() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    client.create("visitors").await;
    let small = astronaut_small();
    for person_id in ["a", "b", "c"] {
        client
            .enroll("staff", person_id, &[&small])
            .await
            .expect("enrolled");
    }
    client.enroll("visitors", "a", &[&small]).await.expect("enrolled");
    assert_eq!(client.delete_collection("staff").await.expect("erased"), 3);
    let unknown = Refused::new(Code::NotFound, "COLLECTION_NOT_FOUND");
    assert_eq!(refusal::of(client.search("staff", &small).await), unknown);
    assert_eq!(refusal::of(client.enroll("staff", "d", &[&small]).await), unknown);
    assert_eq!(refusal::of(client.delete_collection("staff").await), unknown);
    client.create("staff").await;
    assert_eq!(client.people("staff").await, [""; 0]);
    assert_eq!(client.found("staff", &small).await, [""; 0]);
    assert_eq!(client.found("visitors", &small).await, ["a"]);

    drop(client);
    let server = server.stop().await.start().await;
    let client = server.client().await;
    assert_eq!(client.people("staff").await, [""; 0]);
    assert_eq!(client.found("visitors", &small).await, ["a"]);
}
