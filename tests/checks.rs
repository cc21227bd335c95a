//! Checks at enrolment: duplicates, faces of another person, and the mirrored embedding.

use likeness_proto::v1;
use likeness_proto::v1::photograph_outcome::Outcome;
use tonic::{Code, Status};

use crate::support::client::photographs;
use crate::support::pictures::sample;
use crate::support::{Client, Refused, Server, refusal};

const LOOKING: v1::EnrollmentChecks = v1::EnrollmentChecks {
    duplicate_strictness: 2,
    own_person: false,
    mirror: false,
};
const OWN: v1::EnrollmentChecks = v1::EnrollmentChecks {
    duplicate_strictness: 0,
    own_person: true,
    mirror: false,
};

fn enrolment(person_id: &str, photos: &[&str], checks: v1::EnrollmentChecks) -> v1::EnrollPersonRequest {
    let photos: Vec<_> = photos.iter().map(|photo| sample(photo)).collect();
    v1::EnrollPersonRequest {
        collection: "staff".to_owned(),
        person_id: person_id.to_owned(),
        photographs: photographs(&photos.iter().map(Vec::as_slice).collect::<Vec<_>>()),
        checks: Some(checks),
        ..Default::default()
    }
}

async fn enroll(
    client: &Client,
    person_id: &str,
    photos: &[&str],
    checks: v1::EnrollmentChecks,
) -> Result<v1::EnrollPersonResponse, Status> {
    client.enroll_as(enrolment(person_id, photos, checks)).await
}

async fn add(
    client: &Client,
    person_id: &str,
    photos: &[&str],
    checks: v1::EnrollmentChecks,
) -> Result<v1::AddFacesResponse, Status> {
    let v1::EnrollPersonRequest {
        collection,
        person_id,
        photographs,
        checks,
        ..
    } = enrolment(person_id, photos, checks);
    let request = v1::AddFacesRequest {
        collection,
        person_id,
        photographs,
        checks,
        ..Default::default()
    };
    Ok(client.persons.clone().add_faces(request).await?.into_inner())
}

async fn with_barack() -> (Server, Client) {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let enrolled = client.enroll("staff", "barack", &[&sample("obama.jpg")]).await;
    enrolled.expect("enrolled");
    (server, client)
}

/// The own similarities of the faces that were taken, and the reasons of the others.
fn outcomes(outcomes: &[v1::PhotographOutcome]) -> Vec<Result<Option<f32>, &'static str>> {
    let each = outcomes.iter().map(|outcome| match &outcome.outcome {
        Some(Outcome::Enrolled(face)) => Ok(face.own_similarity),
        Some(Outcome::Rejection(rejection)) => Err(rejection.reason().as_str_name()),
        None => unreachable!("every photograph has an outcome"),
    });
    each.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_enrolled_already_is_named_and_nobody_is_enrolled() {
    let (_server, client) = with_barack().await;
    let reply = enroll(&client, "again", &["obama2.jpg", "obama3.jpg"], LOOKING)
        .await
        .expect("answered");
    assert!(reply.person.is_none());
    let [found] = &reply.duplicates[..] else {
        panic!("{} duplicates", reply.duplicates.len());
    };
    assert_eq!(found.person_id, "barack");
    let estimate = found.estimate.expect("an estimate");
    assert!(found.similarity() > 0.6 && estimate.score > 80.0 && estimate.fpir.is_some());
    for outcome in &reply.outcomes {
        let Some(Outcome::Enrolled(face)) = &outcome.outcome else {
            panic!("the photographs are good");
        };
        assert!(face.face_id.is_empty() && face.face.is_some());
    }
    assert_eq!(client.people("staff").await, ["barack"]);

    // Somebody else is enrolled; and without the check, anybody.
    for (person_id, photo, checks) in [
        ("joe", "biden.jpg", LOOKING),
        ("again", "obama2.jpg", v1::EnrollmentChecks::default()),
    ] {
        let reply = enroll(&client, person_id, &[photo], checks)
            .await
            .expect("enrolled");
        assert!(reply.person.is_some() && reply.duplicates.is_empty());
    }
    // Who stands in the way twice is named twice, best first.
    let reply = enroll(&client, "third", &["obama2.jpg"], LOOKING)
        .await
        .expect("answered");
    let named: Vec<_> = reply.duplicates.iter().map(|d| d.person_id.as_str()).collect();
    assert_eq!(named, ["again", "barack"]);
    // A PersonID that is taken is told first.
    let taken = enroll(&client, "joe", &["obama2.jpg"], LOOKING).await;
    assert_eq!(
        refusal::of(taken),
        Refused::new(Code::AlreadyExists, "PERSON_EXISTS")
    );
    let unknown = v1::EnrollmentChecks {
        duplicate_strictness: 5,
        ..LOOKING
    };
    let refused = enroll(&client, "x", &["biden.jpg"], unknown).await;
    assert_eq!(refusal::fields(refused), ["checks.duplicate_strictness"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn faces_are_added_to_their_person_and_not_to_another() {
    let (_server, client) = with_barack().await;
    enroll(&client, "joe", &["biden.jpg"], LOOKING)
        .await
        .expect("enrolled");
    // The person's own faces are no duplicates.
    let reply = add(&client, "barack", &["obama2.jpg"], LOOKING)
        .await
        .expect("added");
    assert_eq!(reply.person.expect("kept").faces.len(), 2);
    let reply = add(&client, "joe", &["obama3.jpg"], LOOKING)
        .await
        .expect("answered");
    assert!(reply.person.is_none());
    assert_eq!(reply.duplicates[0].person_id, "barack");
    assert_eq!(client.person("staff", "joe").await.expect("kept").faces.len(), 1);
    let nobody = add(&client, "nobody", &["obama3.jpg"], LOOKING).await;
    assert_eq!(
        refusal::of(nobody),
        Refused::new(Code::NotFound, "PERSON_NOT_FOUND")
    );
    // Once erased, the person stands in nobody's way.
    client.delete("staff", "barack").await.expect("erased");
    let reply = add(&client, "joe", &["obama3.jpg"], LOOKING)
        .await
        .expect("added");
    assert!(reply.duplicates.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_eight_who_enrol_one_human_at_once_one_succeeds() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let mut enrolments = tokio::task::JoinSet::new();
    for n in 0..8 {
        let client = client.clone();
        enrolments.spawn(async move {
            let photo = ["obama.jpg", "obama2.jpg"][n % 2];
            enroll(&client, &format!("person-{n}"), &[photo], LOOKING).await
        });
    }
    let mut kept = Vec::new();
    let mut named = Vec::new();
    while let Some(answer) = enrolments.join_next().await {
        let reply = answer.expect("no panic").expect("answered");
        kept.extend(reply.person.map(|person| person.person_id));
        named.extend(reply.duplicates.into_iter().map(|found| found.person_id));
    }
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(client.people("staff").await, kept);
    assert_eq!(
        named,
        vec![kept[0].clone(); 7],
        "everybody else is told who it is"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_photograph_is_not_taken_for_the_persons() {
    let (_server, client) = with_barack().await;
    let photos = ["obama2.jpg", "biden.jpg", "obama3.jpg", "astronaut.png"];
    let reply = add(&client, "barack", &photos, OWN).await.expect("added");
    let [
        Ok(Some(second)),
        Err("NOT_THE_PERSON"),
        Ok(Some(third)),
        Err("NOT_THE_PERSON"),
    ] = outcomes(&reply.outcomes)[..]
    else {
        panic!("{:?}", outcomes(&reply.outcomes));
    };
    assert!(second > 0.6 && third > 0.6, "{second} {third}");
    assert_eq!(reply.person.expect("kept").faces.len(), 3);
    let Some(Outcome::Enrolled(face)) = &reply.outcomes[0].outcome else {
        unreachable!("seen above");
    };
    assert!(
        face.own_estimate
            .is_some_and(|estimate| estimate.score > 80.0 && estimate.fpir.is_none())
    );

    // Of a new person, the first photograph is the measure of the others.
    let reply = enroll(&client, "joe", &["biden.jpg", "obama2.jpg"], OWN)
        .await
        .expect("enrolled");
    assert_eq!(outcomes(&reply.outcomes), [Ok(None), Err("NOT_THE_PERSON")]);
    assert_eq!(reply.person.expect("kept").faces.len(), 1);
    let whole = v1::EnrollPersonRequest {
        all_or_nothing: true,
        ..enrolment("whole", &["biden.jpg", "obama2.jpg"], OWN)
    };
    assert_eq!(
        refusal::of(client.enroll_as(whole).await),
        Refused::photo("NOT_THE_PERSON")
    );
    let only = add(&client, "barack", &["biden.jpg"], OWN).await;
    assert_eq!(refusal::of(only), Refused::photo("NOT_THE_PERSON"));
    let nobody = add(&client, "nobody", &["biden.jpg"], OWN).await;
    assert_eq!(
        refusal::of(nobody),
        Refused::new(Code::NotFound, "PERSON_NOT_FOUND")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_face_kept_with_its_mirror_image_is_found_by_plain_photographs() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let mirror = v1::EnrollmentChecks { mirror: true, ..OWN };
    let reply = enroll(&client, "barack", &["obama.jpg", "obama3.jpg"], mirror).await;
    let reply = reply.expect("enrolled");
    let embedded = reply.call.expect("a call").steps;
    assert!(embedded.iter().any(|step| step.step == "embed"));
    enroll(&client, "joe", &["biden.jpg"], mirror)
        .await
        .expect("enrolled");
    assert_eq!(client.found("staff", &sample("obama2.jpg")).await, ["barack"]);
    let itself = client
        .verify("staff", "barack", &sample("obama.jpg"))
        .await
        .expect("verified");
    assert!(
        itself.similarity() > 0.8 && itself.similarity() < 0.999,
        "{}",
        itself.similarity()
    );
}
