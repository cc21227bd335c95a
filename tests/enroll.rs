//! Enrolling people, and adding to them.

use likeness_proto::v1;
use likeness_proto::v1::photograph_outcome::Outcome;
use tonic::Code;

use crate::support::client::photographs;
use crate::support::pictures::{self, fixture, montage, png, sample, scaled};
use crate::support::{Refused, Server, refusal};

fn request(photos: &[&[u8]]) -> v1::EnrollPersonRequest {
    v1::EnrollPersonRequest {
        collection: "staff".to_owned(),
        person_id: "barack@example.org".to_owned(),
        photographs: photographs(photos),
        ..Default::default()
    }
}

/// The face id of an accepted photograph, or the reason why another was not.
fn outcomes(outcomes: &[v1::PhotographOutcome]) -> Vec<Result<String, &'static str>> {
    let outcome = |outcome: &v1::PhotographOutcome| match outcome.outcome.as_ref().expect("an outcome") {
        Outcome::Enrolled(face) => Ok(face.face_id.clone()),
        Outcome::Rejection(rejection) => Err(rejection.reason().as_str_name()),
    };
    outcomes.iter().map(outcome).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_kept_with_what_the_client_said() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let given = prost_types::Timestamp {
        seconds: 1_700_000_000,
        nanos: 5_000_000,
    };
    let consent = v1::Consent {
        purpose: "door access".to_owned(),
        given: Some(given),
        of_age_or_parental: true,
    };
    let asked = v1::EnrollPersonRequest {
        name: "Barack Obama".to_owned(),
        tags: ["visitor", "president", "visitor"].map(str::to_owned).to_vec(),
        consent: Some(consent.clone()),
        ..request(&[&sample("obama.jpg"), &sample("obama3.jpg")])
    };
    let reply = client.enroll_as(asked).await.expect("enrolled");
    let person = reply.person.expect("a person");
    assert_eq!(person.person_id, "barack@example.org");
    assert_eq!(person.name, "Barack Obama");
    assert_eq!(person.tags, ["president", "visitor"]);
    assert!(person.consent == Some(consent));
    assert_eq!(person.faces.len(), 2);
    assert!(person.faces.iter().all(|face| face.detection_score > 0.99));
    let ids: Vec<_> = person.faces.iter().map(|face| Ok(face.face_id.clone())).collect();
    assert_eq!(outcomes(&reply.outcomes), ids);

    let kept = client.person("staff", "barack@example.org").await.expect("kept");
    assert!(kept == person);
    let collection = client.collection("staff").await.expect("kept");
    assert_eq!((collection.persons, collection.faces), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_photograph_of_an_enrolment_has_its_outcome() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let empty = png(&pictures::plain(320, 240));
    let (obama, gif) = (sample("obama.jpg"), fixture("still.gif"));
    let reply = client.enroll_as(request(&[&empty, &obama, &gif])).await;
    let reply = reply.expect("one of them is enough");
    let told = outcomes(&reply.outcomes);
    assert_eq!(told[0], Err("NO_FACE"));
    assert!(told[1].is_ok());
    assert_eq!(told[2], Err("UNSUPPORTED_FORMAT"));
    assert_eq!(reply.person.expect("a person").faces.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_or_nothing_keeps_nothing_when_one_photograph_is_rejected() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let empty = png(&pictures::plain(320, 240));
    let asked = v1::EnrollPersonRequest {
        all_or_nothing: true,
        ..request(&[&sample("obama.jpg"), &empty])
    };
    let refused = client.enroll_as(asked.clone()).await;
    assert_eq!(refusal::fields(refused), ["photographs[1]"]);
    assert_eq!(client.people("staff").await, [""; 0]);

    let (obama, other) = (sample("obama.jpg"), sample("obama2.jpg"));
    client.enroll_as(request(&[&obama])).await.expect("enrolled");
    let adding = v1::AddFacesRequest {
        collection: "staff".to_owned(),
        person_id: "barack@example.org".to_owned(),
        photographs: photographs(&[&other, &empty]),
        all_or_nothing: true,
        ..Default::default()
    };
    let refused = client.persons.clone().add_faces(adding).await;
    assert_eq!(refusal::of(refused), Refused::photo("NO_FACE"));
    let person = client.person("staff", "barack@example.org").await.expect("kept");
    assert_eq!(person.faces.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_every_photograph_is_rejected_each_has_its_reason_and_nobody_is_enrolled() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let empty = png(&pictures::plain(320, 240));
    let gif = fixture("still.gif");
    let refused = client.enroll("staff", "nobody", &[&gif, &empty]).await;
    let status = refused.err().expect("no face");
    assert_eq!(refusal::read(&status), Refused::photo("UNSUPPORTED_FORMAT"));
    let details = tonic_types::StatusExt::get_error_details(&status);
    let violations = &details.bad_request().expect("violations").field_violations;
    let told: Vec<_> = violations
        .iter()
        .map(|v| (v.field.as_str(), v.description.split(':').next().unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            ("photographs[0]", "UNSUPPORTED_FORMAT"),
            ("photographs[1]", "NO_FACE")
        ]
    );
    assert_eq!(client.people("staff").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_faces_none_is_chosen_unless_the_client_asks_for_the_largest() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let group = png(&montage(&[
        scaled("biden.jpg", 300),
        scaled("obama.jpg", 400),
        scaled("astronaut.png", 250),
    ]));
    assert_eq!(client.detect(&group).await.expect("detected").faces.len(), 3);
    let refused = client.enroll("staff", "barack", &[&group]).await;
    assert_eq!(refusal::of(refused), Refused::photo("SEVERAL_FACES"));
    let asked = v1::EnrollPersonRequest {
        face_choice: v1::FaceChoice::Largest.into(),
        ..request(&[&group])
    };
    client.enroll_as(asked).await.expect("enrolled");
    assert_eq!(
        client.found("staff", &sample("obama2.jpg")).await,
        ["barack@example.org"]
    );
    assert_eq!(client.found("staff", &sample("biden.jpg")).await, [""; 0]);
    assert_eq!(client.found("staff", &sample("astronaut.png")).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_id_is_taken_once() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let (obama, biden) = (sample("obama.jpg"), sample("biden.jpg"));
    client.enroll("staff", "one", &[&obama]).await.expect("enrolled");
    let again = client.enroll("staff", "one", &[&biden]).await;
    assert_eq!(
        refusal::of(again),
        Refused::new(Code::AlreadyExists, "PERSON_EXISTS")
    );
    assert_eq!(client.found("staff", &biden).await, [""; 0]);

    client.create("visitors").await;
    client
        .enroll("visitors", "one", &[&biden])
        .await
        .expect("another collection");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_added_face_is_found_and_a_stranger_has_none_to_add_to() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let (astronaut, biden) = (sample("astronaut.png"), sample("biden.jpg"));
    client
        .enroll("staff", "two", &[&astronaut])
        .await
        .expect("enrolled");
    let reply = client.add_faces("staff", "two", &[&biden]).await.expect("added");
    assert_eq!(reply.outcomes.len(), 1);
    let person = reply.person.expect("a person");
    assert_eq!(person.faces.len(), 2);
    assert!(person.updated.unwrap().seconds >= person.enrolled.unwrap().seconds);
    assert_eq!(client.found("staff", &biden).await, ["two"]);
    assert_eq!(client.found("staff", &astronaut).await, ["two"]);

    let nobody = client.add_faces("staff", "three", &[&biden]).await;
    assert_eq!(
        refusal::of(nobody),
        Refused::new(Code::NotFound, "PERSON_NOT_FOUND")
    );
    let nowhere = client.enroll("nowhere", "two", &[&biden]).await;
    assert_eq!(
        refusal::of(nowhere),
        Refused::new(Code::NotFound, "COLLECTION_NOT_FOUND")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_has_no_more_faces_than_the_collection_allows() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let small = pictures::astronaut_small();
    let twenty = vec![&small[..]; 20];
    let reply = client
        .enroll("staff", "full", &twenty)
        .await
        .expect("twenty are allowed");
    assert_eq!(reply.person.expect("a person").faces.len(), 20);
    let refused = Refused::new(Code::FailedPrecondition, "TOO_MANY_FACES_FOR_PERSON");
    let more = client.add_faces("staff", "full", &[&small]).await;
    assert_eq!(refusal::of(more), refused);

    let narrow = v1::CreateCollectionRequest {
        name: "narrow".to_owned(),
        faces_per_person_max: 2,
        ..Default::default()
    };
    client
        .collections
        .clone()
        .create_collection(narrow)
        .await
        .expect("made");
    let three = client.enroll("narrow", "three", &[&small[..]; 3]).await;
    assert_eq!(refusal::of(three), refused);
    assert_eq!(client.people("narrow").await, [""; 0]);
    client
        .enroll("narrow", "two", &[&small[..]; 2])
        .await
        .expect("two are allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn people_survive_a_restart_and_are_found_as_before() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let (obama, biden) = (sample("obama.jpg"), sample("biden.jpg"));
    client
        .enroll("staff", "barack", &[&obama])
        .await
        .expect("enrolled");
    client.enroll("staff", "joe", &[&biden]).await.expect("enrolled");
    let probe = sample("obama2.jpg");
    let before = client.search("staff", &probe).await.expect("searched");
    let person = client.person("staff", "barack").await.expect("kept");
    drop(client);

    let server = server.stop().await.start().await;
    let client = server.client().await;
    assert_eq!(client.people("staff").await, ["barack", "joe"]);
    let after = client.search("staff", &probe).await.expect("searched");
    assert!(after.results[0].matches == before.results[0].matches);
    assert!(client.person("staff", "barack").await.expect("kept") == person);
}
