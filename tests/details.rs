//! What every reply and every refusal carries, and the limits of every field.

use likeness_proto::v1;
use likeness_proto::v1::key_service_client::KeyServiceClient;
use tonic::{Code, Response, Status};

use crate::support::client::{photograph, photographs, similarity};
use crate::support::pictures::{astronaut_small, sample};
use crate::support::{Client, Refused, Server, refusal};

/// Request id in reply and metadata, a scheme, and these steps, in their order.
fn assert_call<T>(
    reply: Result<Response<T>, Status>,
    call: impl Fn(&T) -> &Option<v1::CallInfo>,
    steps: &[&str],
) {
    let reply = reply.expect("answered");
    let metadata = reply
        .metadata()
        .get("x-request-id")
        .expect("x-request-id")
        .clone();
    let info = call(reply.get_ref()).as_ref().expect("a call");
    refusal::assert_request_id(&info.request_id);
    assert_eq!(metadata.to_str().unwrap(), info.request_id);
    assert!(info.scheme.contains("fr_feature"), "{}", info.scheme);
    let named: Vec<_> = info.steps.iter().map(|step| step.step.as_str()).collect();
    assert_eq!(named, steps);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reply_carries_request_id_scheme_and_step_timings() {
    let server = Server::start().await;
    let Client {
        mut collections,
        mut persons,
        mut matching,
        ..
    } = server.client().await;
    let (name, collection, person_id) = ("staff".to_owned(), "staff".to_owned(), "eileen".to_owned());
    let photo = astronaut_small();
    let stored = ["queue", "store"];

    let request = v1::CreateCollectionRequest {
        name: name.clone(),
        ..Default::default()
    };
    assert_call(collections.create_collection(request).await, |r| &r.call, &stored);
    let request = v1::UpdateCollectionRequest {
        name: name.clone(),
        threshold: Some(0.5),
        faces_per_person_max: None,
        ..Default::default()
    };
    assert_call(collections.update_collection(request).await, |r| &r.call, &stored);
    let request = v1::GetCollectionRequest { name: name.clone() };
    assert_call(collections.get_collection(request).await, |r| &r.call, &["queue"]);
    let request = v1::ListCollectionsRequest::default();
    assert_call(
        collections.list_collections(request).await,
        |r| &r.call,
        &["queue"],
    );

    let request = v1::EnrollPersonRequest {
        collection: collection.clone(),
        person_id: person_id.clone(),
        photographs: photographs(&[&photo, &photo]),
        ..Default::default()
    };
    let reply = persons.enroll_person(request).await;
    let face_id = reply.as_ref().unwrap().get_ref().person.as_ref().unwrap().faces[0]
        .face_id
        .clone();
    let whole = ["queue", "decode", "detect", "align", "embed", "protect", "store"];
    assert_call(reply, |r| &r.call, &whole);
    let request = v1::AddFacesRequest {
        collection: collection.clone(),
        person_id: person_id.clone(),
        photographs: photographs(&[&photo]),
        ..Default::default()
    };
    assert_call(persons.add_faces(request).await, |r| &r.call, &whole);
    let request = v1::GetPersonRequest {
        collection: collection.clone(),
        person_id: person_id.clone(),
    };
    assert_call(persons.get_person(request).await, |r| &r.call, &stored);
    let request = v1::ListPersonsRequest {
        collection: collection.clone(),
        ..Default::default()
    };
    assert_call(persons.list_persons(request).await, |r| &r.call, &stored);
    let request = v1::UpdatePersonRequest {
        collection: collection.clone(),
        person_id: person_id.clone(),
        name: Some("Eileen".to_owned()),
        tags: None,
        ..Default::default()
    };
    assert_call(persons.update_person(request).await, |r| &r.call, &stored);
    let request = v1::DeleteFacesRequest {
        collection: collection.clone(),
        person_id: person_id.clone(),
        face_ids: vec![face_id],
        ..Default::default()
    };
    assert_call(persons.delete_faces(request).await, |r| &r.call, &stored);

    let request = v1::DetectFacesRequest {
        photograph: Some(photograph(&photo)),
        ..Default::default()
    };
    let reply = matching.detect_faces(request).await;
    assert_call(reply, |r| &r.call, &["queue", "decode", "detect", "align"]);
    let request = v1::CompareFacesRequest {
        first: Some(photograph(&photo)),
        second: Some(photograph(&photo)),
        ..Default::default()
    };
    let compared = ["queue", "decode", "detect", "align", "embed", "match"];
    assert_call(matching.compare_faces(request).await, |r| &r.call, &compared);
    let request = v1::VerifyPersonRequest {
        collection: collection.clone(),
        person_id: person_id.clone(),
        photograph: Some(photograph(&photo)),
        ..Default::default()
    };
    let matched = ["queue", "decode", "detect", "align", "embed", "protect", "match"];
    assert_call(matching.verify_person(request).await, |r| &r.call, &matched);
    let request = v1::SearchPersonsRequest {
        collections: vec![collection.clone()],
        photograph: Some(photograph(&photo)),
        ..Default::default()
    };
    assert_call(matching.search_persons(request).await, |r| &r.call, &matched);

    let request = v1::DeletePersonRequest {
        collection,
        person_id,
        ..Default::default()
    };
    assert_call(persons.delete_person(request).await, |r| &r.call, &stored);
    let request = v1::DeleteCollectionRequest {
        name,
        ..Default::default()
    };
    assert_call(collections.delete_collection(request).await, |r| &r.call, &stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn so_do_the_replies_about_people_after_their_enrolment() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let photo = astronaut_small();
    client
        .enroll("staff", "eileen", &[&photo])
        .await
        .expect("enrolled");
    let (collection, person_id) = ("staff".to_owned(), "eileen".to_owned());
    let mut persons = client.persons.clone();
    let stored = ["queue", "store"];
    let request = v1::CopyPersonRequest {
        collection: collection.clone(),
        person_id: person_id.clone(),
        target_collection: collection.clone(),
        target_person_id: "copy".to_owned(),
        ..Default::default()
    };
    assert_call(persons.copy_person(request).await, |r| &r.call, &stored);
    let request = v1::RenamePersonRequest {
        collection: collection.clone(),
        person_id: "copy".to_owned(),
        new_person_id: "renamed".to_owned(),
        ..Default::default()
    };
    assert_call(persons.rename_person(request).await, |r| &r.call, &stored);
    let request = v1::ExportPersonRequest {
        person_id: person_id.clone(),
    };
    assert_call(persons.export_person(request).await, |r| &r.call, &stored);
    let request = v1::ListConsentsRequest {
        collection: collection.clone(),
        ..Default::default()
    };
    assert_call(persons.list_consents(request).await, |r| &r.call, &stored);
    let request = v1::WithdrawConsentRequest {
        collection,
        person_id: "renamed".to_owned(),
        ..Default::default()
    };
    assert_call(persons.withdraw_consent(request).await, |r| &r.call, &stored);
    let request = v1::EraseEverywhereRequest {
        person_id,
        ..Default::default()
    };
    assert_call(persons.erase_everywhere(request).await, |r| &r.call, &stored);
    let mut keys = KeyServiceClient::new(client.channel.clone());
    let stream = keys.rotate_wrapping_key(v1::RotateWrappingKeyRequest {}).await;
    let stream = stream.expect("begun");
    let id = stream.metadata().get("x-request-id").expect("x-request-id");
    refusal::assert_request_id(id.to_str().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_has_a_request_id_of_its_own() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        let request = v1::ListCollectionsRequest::default();
        let reply = client.collections.clone().list_collections(request).await;
        ids.push(
            reply
                .expect("listed")
                .into_inner()
                .call
                .expect("a call")
                .request_id,
        );
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_1_to_64_bytes_of_its_alphabet_wherever_it_is_given() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let photo = astronaut_small();
    let longest = "x".repeat(64);
    client.create(&longest).await;
    client
        .enroll("staff", &longest, &[&photo])
        .await
        .expect("64 bytes are allowed");
    client
        .enroll("staff", "aZ09_.@%#&-", &[&photo])
        .await
        .expect("every character allowed");
    let too_long = "x".repeat(65);
    for wrong in ["", &too_long, "a b", "a/b", "é", "a\0b", "a\nb"] {
        assert_eq!(
            refusal::fields(client.enroll("staff", wrong, &[&photo]).await),
            ["person_id"]
        );
        assert_eq!(
            refusal::fields(client.person("staff", wrong).await),
            ["person_id"]
        );
        assert_eq!(
            refusal::fields(client.delete("staff", wrong).await),
            ["person_id"]
        );
        assert_eq!(
            refusal::fields(client.verify("staff", wrong, &photo).await),
            ["person_id"]
        );
        assert_eq!(
            refusal::fields(client.enroll(wrong, "x", &[&photo]).await),
            ["collection"]
        );
        assert_eq!(
            refusal::fields(client.search(wrong, &photo).await),
            ["collections[0]"]
        );
        let new = v1::CreateCollectionRequest {
            name: wrong.to_owned(),
            ..Default::default()
        };
        let refused = client.collections.clone().create_collection(new).await;
        assert_eq!(refusal::fields(refused), ["name"]);
        // A PersonID is often an e-mail address: no refusal repeats it.
        let status = client.person("staff", wrong).await.err().expect("refused");
        let repeats = wrong.len() > 1 && format!("{status:?}").contains(wrong);
        assert!(!repeats, "{status:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_have_their_ranges() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let photo = astronaut_small();
    let search = |top_k, threshold| {
        client.search_as(v1::SearchPersonsRequest {
            collections: vec!["staff".to_owned()],
            photograph: Some(photograph(&photo)),
            top_k,
            threshold,
            ..Default::default()
        })
    };
    search(100, Some(similarity(1.0))).await.expect("allowed");
    search(1, Some(similarity(0.0))).await.expect("allowed");
    assert_eq!(refusal::fields(search(101, None).await), ["top_k"]);
    for threshold in [f32::NAN, f32::INFINITY, -0.01, 1.01] {
        assert_eq!(
            refusal::fields(search(5, Some(similarity(threshold))).await),
            ["threshold"]
        );
    }

    let create = |bits, threshold, faces_per_person_max| {
        let request = v1::CreateCollectionRequest {
            name: "new".to_owned(),
            bits,
            threshold,
            faces_per_person_max,
            ..Default::default()
        };
        let mut collections = client.collections.clone();
        async move { collections.create_collection(request).await }
    };
    for bits in [1, 128, 1000, 4096, u32::MAX] {
        assert_eq!(refusal::fields(create(bits, None, 0).await), ["bits"]);
    }
    assert_eq!(refusal::fields(create(0, Some(f32::NAN), 0).await), ["threshold"]);
    assert_eq!(
        refusal::fields(create(0, None, 21).await),
        ["faces_per_person_max"]
    );
    let refused = client.collection("new").await;
    assert_eq!(
        refusal::of(refused),
        Refused::new(Code::NotFound, "COLLECTION_NOT_FOUND")
    );

    let request = v1::ListPersonsRequest {
        collection: "staff".to_owned(),
        page_size: 1001,
        cursor: String::new(),
    };
    let refused = client.persons.clone().list_persons(request).await;
    assert_eq!(refusal::fields(refused), ["page_size"]);
    let request = v1::ListCollectionsRequest {
        page_size: 1001,
        cursor: String::new(),
    };
    let refused = client.collections.clone().list_collections(request).await;
    assert_eq!(refusal::fields(refused), ["page_size"]);

    let request = v1::SearchPersonsRequest {
        collections: vec!["staff".to_owned()],
        photograph: Some(photograph(&photo)),
        face_choice: 7,
        ..Default::default()
    };
    let refused = client.search_as(request).await;
    let message = refused.as_ref().err().expect("refused").message();
    assert!(message.contains("2 (all)"), "{message}");
    assert_eq!(refusal::fields(refused), ["face_choice"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn photographs_texts_and_lists_have_their_limits() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let photo = astronaut_small();
    assert_eq!(
        refusal::fields(client.enroll("staff", "x", &[]).await),
        ["photographs"]
    );
    let many = vec![&photo[..]; 21];
    assert_eq!(
        refusal::fields(client.enroll("staff", "x", &many).await),
        ["photographs"]
    );
    assert_eq!(
        refusal::fields(client.enroll("staff", "x", &[&photo[..], b""]).await),
        ["photographs[1]"]
    );
    assert_eq!(refusal::fields(client.search("staff", b"").await), ["photograph"]);
    assert_eq!(refusal::fields(client.compare(&photo, b"").await), ["second"]);
    let nothing = client
        .matching
        .clone()
        .detect_faces(v1::DetectFacesRequest::default())
        .await;
    assert_eq!(refusal::fields(nothing), ["photograph"]);

    let whole = v1::EnrollPersonRequest {
        collection: "staff".to_owned(),
        person_id: "x".to_owned(),
        photographs: photographs(&[&photo]),
        ..Default::default()
    };
    let consent = |purpose: String, seconds| {
        Some(v1::Consent {
            purpose,
            given: Some(prost_types::Timestamp { seconds, nanos: 0 }),
            of_age_or_parental: true,
        })
    };
    let requests = [
        (
            "name",
            v1::EnrollPersonRequest {
                name: "x".repeat(257),
                ..whole.clone()
            },
        ),
        (
            "tags",
            v1::EnrollPersonRequest {
                tags: vec!["x".repeat(65)],
                ..whole.clone()
            },
        ),
        (
            "tags",
            v1::EnrollPersonRequest {
                tags: vec![String::new()],
                ..whole.clone()
            },
        ),
        (
            "tags",
            v1::EnrollPersonRequest {
                tags: (0..33).map(|i| i.to_string()).collect(),
                ..whole.clone()
            },
        ),
        (
            "consent.purpose",
            v1::EnrollPersonRequest {
                consent: consent(String::new(), 1),
                ..whole.clone()
            },
        ),
        (
            "consent.purpose",
            v1::EnrollPersonRequest {
                consent: consent("x".repeat(257), 1),
                ..whole.clone()
            },
        ),
        (
            "consent.given",
            v1::EnrollPersonRequest {
                consent: consent("x".to_owned(), -1),
                ..whole.clone()
            },
        ),
    ];
    for (field, request) in requests {
        assert_eq!(refusal::fields(client.enroll_as(request).await), [field]);
    }
    assert_eq!(client.people("staff").await, [""; 0]);
    let longest = v1::EnrollPersonRequest {
        name: "x".repeat(256),
        tags: (0..32).map(|i| format!("{i:064}")).collect(),
        consent: consent("x".repeat(256), 1),
        ..whole
    };
    client.enroll_as(longest).await.expect("everything at its limit");
    assert_eq!(
        refusal::fields(client.delete_faces("staff", "x", &[]).await),
        ["face_ids"]
    );
    assert_eq!(
        refusal::fields(client.delete_faces("staff", "x", &["no id"]).await),
        ["face_ids"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_has_at_most_64_mib() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let (photo, large) = (sample("obama.jpg"), vec![0; 33 << 20]);
    let too_much = client
        .enroll("staff", "x", &[&large, &large])
        .await
        .err()
        .expect("refused");
    // tonic refuses it before there is a call of ours, so it has no details.
    assert!(
        matches!(too_much.code(), Code::OutOfRange | Code::ResourceExhausted),
        "{too_much:?}"
    );
    // Below the message's limit, each photograph has its own.
    let reply = client
        .enroll("staff", "x", &[&large, &photo])
        .await
        .expect("one is accepted");
    assert_eq!(reply.person.expect("a person").faces.len(), 1);
}
