//! Collections that require a consent for each person.

use likeness_proto::v1;
use likeness_proto::v1::import_persons_request::Part;
use tonic::Code;

use crate::support::Server;
use crate::support::client::photographs;
use crate::support::pictures::sample;

fn consent(of_age: bool) -> Option<v1::Consent> {
    Some(v1::Consent {
        purpose: "door access".to_owned(),
        given: None,
        of_age_or_parental: of_age,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_consent_is_required_nobody_gets_in_without_one() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("open").await;
    let request = v1::CreateCollectionRequest {
        name: "strict".to_owned(),
        consent_required: true,
        ..Default::default()
    };
    let made = client.collections.clone().create_collection(request).await;
    assert!(
        made.expect("made")
            .into_inner()
            .collection
            .expect("it")
            .consent_required
    );
    let photo = sample("obama.jpg");
    let enroll = |collection: &str, consent| v1::EnrollPersonRequest {
        collection: collection.to_owned(),
        person_id: "barack".to_owned(),
        photographs: photographs(&[&photo]),
        consent,
        ..Default::default()
    };
    for lacking in [None, consent(false)] {
        let refused = client
            .enroll_as(enroll("strict", lacking))
            .await
            .err()
            .expect("refused");
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(format!("{refused:?}").contains("consent"));
    }
    client.enroll_as(enroll("open", None)).await.expect("enrolled");
    let copy = v1::CopyPersonRequest {
        collection: "open".to_owned(),
        person_id: "barack".to_owned(),
        target_collection: "strict".to_owned(),
        ..Default::default()
    };
    let refused = client
        .persons
        .clone()
        .copy_person(copy)
        .await
        .err()
        .expect("refused");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let import = |part| v1::ImportPersonsRequest { part: Some(part) };
    let header = v1::ImportHeader {
        collection: "strict".to_owned(),
        import_token: "an-import-of-one-person".to_owned(),
        ..Default::default()
    };
    let item = v1::ImportItem {
        person_id: "imported".to_owned(),
        photographs: photographs(&[&photo]),
        ..Default::default()
    };
    let parts = tokio_stream::iter([import(Part::Header(header)), import(Part::Item(item))]);
    let mut answers = client
        .persons
        .clone()
        .import_persons(parts)
        .await
        .expect("begun")
        .into_inner();
    let answer = answers.message().await.expect("answered").expect("one");
    match answer.outcome {
        Some(v1::import_persons_response::Outcome::Refused(refused)) => {
            assert_eq!(refused.reason, "CONSENT_REQUIRED");
        }
        _ => panic!("imported without a consent"),
    }
    assert!(client.people("strict").await.is_empty());
    client
        .enroll_as(enroll("strict", consent(true)))
        .await
        .expect("enrolled");
    // And the setting may change: whoever is in stays.
    let update = v1::UpdateCollectionRequest {
        name: "open".to_owned(),
        consent_required: Some(true),
        ..Default::default()
    };
    client
        .collections
        .clone()
        .update_collection(update)
        .await
        .expect("changed");
    assert_eq!(client.people("open").await, ["barack"]);
    let another = v1::EnrollPersonRequest {
        person_id: "another".to_owned(),
        ..enroll("open", None)
    };
    client.enroll_as(another).await.err().expect("from now on");
}
