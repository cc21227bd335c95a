//! Every write under an idempotency token is made once, however often it is asked for.

use likeness_proto::v1;
use tonic::{Code, Status};

use crate::support::client::photographs;
use crate::support::pictures::{astronaut_small, tiny};
use crate::support::{Client, Refused, Server, refusal};

const TOKEN: &str = "0123456789abcdef-token";

fn enrolment(person_id: &str, photos: &[&[u8]]) -> v1::EnrollPersonRequest {
    v1::EnrollPersonRequest {
        collection: "staff".to_owned(),
        person_id: person_id.to_owned(),
        photographs: photographs(photos),
        idempotency_token: TOKEN.to_owned(),
        ..Default::default()
    }
}

fn deletion(person_id: &str) -> v1::DeletePersonRequest {
    v1::DeletePersonRequest {
        collection: "staff".to_owned(),
        person_id: person_id.to_owned(),
        idempotency_token: TOKEN.to_owned(),
    }
}

async fn delete(client: &Client, person_id: &str) -> Result<v1::DeletePersonResponse, Status> {
    let reply = client.persons.clone().delete_person(deletion(person_id)).await?;
    Ok(reply.into_inner())
}

fn replayed(call: Option<v1::CallInfo>) -> bool {
    call.expect("every reply says something of its call").replayed
}

fn reused() -> Refused {
    Refused::new(Code::FailedPrecondition, "TOKEN_REUSED")
}

fn spent() -> Refused {
    Refused::new(Code::Aborted, "TOKEN_SPENT")
}

#[tokio::test(flavor = "multi_thread")]
async fn enrolling_and_adding_again_answer_with_the_same_person_and_look_at_no_photograph() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let photo = tiny();
    let first = client
        .enroll_as(enrolment("ada", &[&photo]))
        .await
        .expect("enrolled");
    assert!(!replayed(first.call));
    let again = client
        .enroll_as(enrolment("ada", &[&photo]))
        .await
        .expect("answered");
    assert!(again.person == first.person);
    let steps = again.call.clone().unwrap_or_default().steps;
    assert!(steps.iter().all(|s| s.step != "decode" && s.step != "embed"));
    assert!(replayed(again.call) && again.outcomes.is_empty());
    // One byte of the photograph, or one more field, is another call.
    let other = client.enroll_as(enrolment("ada", &[&astronaut_small()])).await;
    assert_eq!(refusal::of(other), reused());
    let named = v1::EnrollPersonRequest {
        name: "Ada".to_owned(),
        ..enrolment("ada", &[&photo])
    };
    assert_eq!(refusal::of(client.enroll_as(named).await), reused());

    // Another interface under the same token is another call.
    let more = || v1::AddFacesRequest {
        collection: "staff".to_owned(),
        person_id: "ada".to_owned(),
        photographs: photographs(&[&photo]),
        idempotency_token: TOKEN.to_owned(),
        ..Default::default()
    };
    let added = client
        .persons
        .clone()
        .add_faces(more())
        .await
        .expect("added")
        .into_inner();
    let again = client
        .persons
        .clone()
        .add_faces(more())
        .await
        .expect("answered")
        .into_inner();
    assert_eq!((replayed(added.call), replayed(again.call)), (false, true));
    assert!(again.person == added.person);
    let faces = client.person("staff", "ada").await.expect("enrolled").faces.len();
    assert_eq!(faces, 2, "no face twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_an_erased_person_never_enrols_again_and_outlives_a_restart() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let photo = tiny();
    client
        .enroll_as(enrolment("ada", &[&photo]))
        .await
        .expect("enrolled");
    let erased = delete(&client, "ada").await.expect("erased");
    assert_eq!(
        refusal::of(client.enroll_as(enrolment("ada", &[&photo])).await),
        spent()
    );
    client
        .enroll("staff", "ada", &[&photo])
        .await
        .expect("by another call");
    assert_eq!(
        refusal::of(client.enroll_as(enrolment("ada", &[&photo])).await),
        spent()
    );
    drop(client);
    let server = server.stop().await.start().await;
    let client = server.client().await;
    assert_eq!(
        refusal::of(client.enroll_as(enrolment("ada", &[&photo])).await),
        spent()
    );
    assert_eq!(client.people("staff").await, ["ada"]);
    // The deletion again has the same proof, and does not reach who came after.
    let again = delete(&client, "ada").await.expect("answered");
    assert!(again.receipt == erased.receipt && again.faces_erased == 1);
    assert!(replayed(again.call));
    assert_eq!(client.people("staff").await, ["ada"]);
    assert_eq!(refusal::of(delete(&client, "bob").await), reused());
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_a_person_are_made_once() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let photo = tiny();
    let enrolled = client
        .enroll("staff", "ada", &[&photo, &photo])
        .await
        .expect("enrolled");
    let face_id = enrolled.person.expect("enrolled").faces[0].face_id.clone();
    let change = |name: &str| v1::UpdatePersonRequest {
        collection: "staff".to_owned(),
        person_id: "ada".to_owned(),
        name: Some(name.to_owned()),
        idempotency_token: TOKEN.to_owned(),
        ..Default::default()
    };
    let mut persons = client.persons.clone();
    let first = persons
        .update_person(change("Ada"))
        .await
        .expect("changed")
        .into_inner();
    let again = persons
        .update_person(change("Ada"))
        .await
        .expect("answered")
        .into_inner();
    assert!(again.person == first.person && replayed(again.call));
    assert_eq!(refusal::of(persons.update_person(change("Eve")).await), reused());
    let fewer = || v1::DeleteFacesRequest {
        collection: "staff".to_owned(),
        person_id: "ada".to_owned(),
        face_ids: vec![face_id.clone()],
        idempotency_token: TOKEN.to_owned(),
    };
    let first = persons.delete_faces(fewer()).await.expect("deleted").into_inner();
    let again = persons
        .delete_faces(fewer())
        .await
        .expect("answered")
        .into_inner();
    assert!(again.person == first.person && again.receipt == first.receipt);
    assert!(replayed(again.call));
    // Everywhere, also after the person is there again.
    let everywhere = || v1::EraseEverywhereRequest {
        person_id: "ada".to_owned(),
        idempotency_token: TOKEN.to_owned(),
    };
    let gone = persons
        .erase_everywhere(everywhere())
        .await
        .expect("erased")
        .into_inner();
    assert_eq!(gone.erasures.len(), 1);
    client.enroll("staff", "ada", &[&photo]).await.expect("enrolled");
    let again = persons
        .erase_everywhere(everywhere())
        .await
        .expect("answered")
        .into_inner();
    assert!(again.erasures == gone.erasures && replayed(again.call));
    assert_eq!(client.people("staff").await, ["ada"]);
    // The proof of the deleted faces outlives the person it was about.
    let last = persons
        .delete_faces(fewer())
        .await
        .expect("answered")
        .into_inner();
    assert!(last.person.is_none() && last.receipt == first.receipt);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_copied_renamed_and_withdrawn_once() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    client.create("visitors").await;
    let photo = tiny();
    client.enroll("staff", "ada", &[&photo]).await.expect("enrolled");
    let mut persons = client.persons.clone();
    let (collection, idempotency_token) = ("staff".to_owned(), TOKEN.to_owned());
    let copy = v1::CopyPersonRequest {
        collection: collection.clone(),
        person_id: "ada".to_owned(),
        target_collection: "visitors".to_owned(),
        idempotency_token: idempotency_token.clone(),
        ..Default::default()
    };
    let first = persons
        .copy_person(copy.clone())
        .await
        .expect("copied")
        .into_inner();
    let again = persons
        .copy_person(copy.clone())
        .await
        .expect("answered")
        .into_inner();
    assert!(again.person == first.person && replayed(again.call));
    let rename = v1::RenamePersonRequest {
        collection: collection.clone(),
        person_id: "ada".to_owned(),
        new_person_id: "lovelace".to_owned(),
        idempotency_token: idempotency_token.clone(),
    };
    let first = persons
        .rename_person(rename.clone())
        .await
        .expect("renamed")
        .into_inner();
    // Whoever has the old PersonID now is not renamed.
    client.enroll("staff", "ada", &[&photo]).await.expect("enrolled");
    let again = persons
        .rename_person(rename.clone())
        .await
        .expect("answered")
        .into_inner();
    assert!(again.person == first.person && replayed(again.call));
    assert_eq!(client.people("staff").await, ["ada", "lovelace"]);
    let withdrawal = v1::WithdrawConsentRequest {
        collection,
        person_id: "lovelace".to_owned(),
        idempotency_token,
    };
    let first = persons
        .withdraw_consent(withdrawal.clone())
        .await
        .expect("erased")
        .into_inner();
    let again = persons
        .withdraw_consent(withdrawal)
        .await
        .expect("answered")
        .into_inner();
    assert!(again.receipt == first.receipt && replayed(again.call));
    assert_eq!(refusal::of(persons.rename_person(rename).await), spent());
    client.delete("visitors", "ada").await.expect("erased");
    assert_eq!(refusal::of(persons.copy_person(copy).await), spent());
    assert_eq!(client.people("staff").await, ["ada"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn collections_are_made_changed_and_erased_once() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut collections = client.collections.clone();
    let make = |bits| v1::CreateCollectionRequest {
        name: "staff".to_owned(),
        bits,
        idempotency_token: TOKEN.to_owned(),
        ..Default::default()
    };
    let first = collections
        .create_collection(make(512))
        .await
        .expect("made")
        .into_inner();
    let again = collections
        .create_collection(make(512))
        .await
        .expect("answered")
        .into_inner();
    assert!(again.collection == first.collection && replayed(again.call));
    assert_eq!(
        refusal::of(collections.create_collection(make(256)).await),
        reused()
    );
    let change = |faces| v1::UpdateCollectionRequest {
        name: "staff".to_owned(),
        faces_per_person_max: Some(faces),
        idempotency_token: TOKEN.to_owned(),
        ..Default::default()
    };
    for expected in [false, true] {
        let reply = collections
            .update_collection(change(3))
            .await
            .expect("changed")
            .into_inner();
        assert_eq!(replayed(reply.call), expected);
    }
    assert_eq!(
        refusal::of(collections.update_collection(change(4)).await),
        reused()
    );
    client.enroll("staff", "ada", &[&tiny()]).await.expect("enrolled");
    let erase = || v1::DeleteCollectionRequest {
        name: "staff".to_owned(),
        idempotency_token: TOKEN.to_owned(),
    };
    let first = collections
        .delete_collection(erase())
        .await
        .expect("erased")
        .into_inner();
    let again = collections
        .delete_collection(erase())
        .await
        .expect("answered")
        .into_inner();
    assert!(again.persons_erased == 1 && again.receipts == first.receipts);
    assert_eq!(
        refusal::of(collections.create_collection(make(512)).await),
        spent()
    );
    assert_eq!(
        refusal::of(collections.update_collection(change(3)).await),
        spent()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_enrolments_at_once_under_one_token_make_one_person_with_one_face() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let photo = tiny();
    let calls: Vec<_> = (0..16)
        .map(|_| {
            let (client, request) = (client.clone(), enrolment("ada", &[&photo]));
            tokio::spawn(async move { client.enroll_as(request).await.expect("answered") })
        })
        .collect();
    let (mut made, mut people) = (0, Vec::new());
    for call in calls {
        let reply = call.await.expect("no panic");
        made += usize::from(!replayed(reply.call));
        people.push(reply.person.expect("a person"));
    }
    assert_eq!(made, 1, "one of them enrolled");
    assert!(
        people
            .iter()
            .all(|person| *person == people[0] && person.faces.len() == 1)
    );
    assert_eq!(client.collection("staff").await.expect("there").faces, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_form_is_refused_and_a_refused_call_uses_none_up() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    for token in ["short", "with a space in it", &"x".repeat(65)] {
        let request = v1::EnrollPersonRequest {
            idempotency_token: token.to_owned(),
            ..enrolment("ada", &[&tiny()])
        };
        let answer = client.enroll_as(request).await;
        assert_eq!(refusal::fields(answer), ["idempotency_token"], "{token}");
    }
    let blank = client.enroll_as(enrolment("ada", &[b"no photograph"])).await;
    assert_eq!(refusal::of(blank), Refused::photo("UNSUPPORTED_FORMAT"));
    client
        .enroll_as(enrolment("ada", &[&tiny()]))
        .await
        .expect("the token is free");
}
