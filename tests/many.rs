//! Several faces in one photograph, several collections in one search, several faces of one person; and filters.

use image::{Rgb, RgbImage, imageops};
use likeness_proto::v1;
use tonic::Code;

use crate::support::client::{photograph, similarity};
use crate::support::pictures::{astronaut_small, montage, plain, png, sample, scaled};
use crate::support::{Client, Refused, Server, refusal};

fn request(collections: &[&str], photo: &[u8]) -> v1::SearchPersonsRequest {
    v1::SearchPersonsRequest {
        collections: collections.iter().map(|&name| name.to_owned()).collect(),
        photograph: Some(photograph(photo)),
        ..Default::default()
    }
}

fn every_face(collections: &[&str], photo: &[u8]) -> v1::SearchPersonsRequest {
    v1::SearchPersonsRequest {
        face_choice: v1::FaceChoice::All.into(),
        ..request(collections, photo)
    }
}

pub async fn enroll(client: &Client, collection: &str, person_id: &str, photo: &str, tags: &[&str]) {
    let asked = v1::EnrollPersonRequest {
        collection: collection.to_owned(),
        person_id: person_id.to_owned(),
        photographs: vec![photograph(&sample(photo))],
        tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
        ..Default::default()
    };
    client.enroll_as(asked).await.expect("enrolled");
}

/// Collection and PersonID of each match.
fn named(result: &v1::FaceMatches) -> Vec<(&str, &str)> {
    let matches = result.matches.iter();
    matches
        .map(|found| (found.collection.as_str(), found.person_id.as_str()))
        .collect()
}

fn centre(face: Option<&v1::Face>) -> f32 {
    let area = face.and_then(|face| face.r#box).expect("a box");
    (area.left + area.right) / 2.0
}

#[tokio::test(flavor = "multi_thread")]
async fn every_face_of_a_photograph_is_answered_by_its_own_box() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    enroll(&client, "staff", "barack", "obama.jpg", &[]).await;
    enroll(&client, "staff", "eileen", "astronaut.png", &[]).await;
    let pictures = [
        scaled("obama2.jpg", 400),
        scaled("biden.jpg", 400),
        imageops::crop_imm(&scaled("astronaut.png", 500), 110, 0, 250, 250).to_image(),
    ];
    let mut left = 20.0;
    let places = pictures.each_ref().map(|picture| {
        let place = left..left + picture.width() as f32;
        left = place.end + 20.0;
        place
    });
    let reply = client
        .search_as(every_face(&["staff"], &png(&montage(&pictures))))
        .await;
    let reply = reply.expect("searched");
    assert_eq!(reply.results.len(), 3);
    assert_eq!(reply.faces_searched, 2);
    for (place, expected) in places.iter().zip([Some("barack"), None, Some("eileen")]) {
        let mut own = reply.results.iter();
        let own = own.find(|result| place.contains(&centre(result.face.as_ref())));
        let own = own.expect("an answer for the face that is there");
        let found: Vec<_> = own.matches.iter().map(|found| found.person_id.as_str()).collect();
        assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
        assert_eq!(own.threshold, 0.411);
    }
    // One face or none is no special case.
    let one = client
        .search_as(every_face(&["staff"], &sample("obama2.jpg")))
        .await;
    let one = one.expect("searched");
    assert_eq!(named(&one.results[0]), [("staff", "barack")]);
    assert_eq!((one.results.len(), one.rejected.len()), (1, 0));
    let none = client
        .search_as(every_face(&["staff"], &png(&plain(320, 240))))
        .await;
    assert!(none.expect("searched").results.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn faces_that_are_not_looked_for_are_listed_with_the_reason() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    enroll(&client, "staff", "barack", "obama.jpg", &[]).await;
    let mut canvas = plain(320, 240);
    imageops::replace(&mut canvas, &scaled("obama2.jpg", 200), 10, 20);
    // A face of some 30 px.
    imageops::replace(&mut canvas, &scaled("biden.jpg", 80), 230, 60);
    let reply = client
        .search_as(every_face(&["staff"], &png(&canvas)))
        .await
        .expect("searched");
    assert_eq!(reply.results.len(), 1);
    assert_eq!(named(&reply.results[0]), [("staff", "barack")]);
    assert!(!reply.rejected.is_empty());
    for face in &reply.rejected {
        let reason = face.rejection.as_ref().expect("a rejection").reason();
        assert!(matches!(
            reason,
            v1::RejectionReason::FaceTooSmall | v1::RejectionReason::LowConfidence
        ));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_faces_than_a_search_takes_are_refused_with_a_reason() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let face = imageops::crop_imm(&scaled("astronaut.png", 500), 140, 20, 180, 180).to_image();
    let grid = |count: u32| {
        let mut canvas = RgbImage::from_pixel(4 * 190, 3 * 190, Rgb([127; 3]));
        for n in 0..count {
            imageops::replace(&mut canvas, &face, i64::from(n % 4 * 190), i64::from(n / 4 * 190));
        }
        png(&canvas)
    };
    let ten = client.search_as(every_face(&["staff"], &grid(10))).await;
    assert_eq!(ten.expect("searched").results.len(), 10);
    let eleven = client.search_as(every_face(&["staff"], &grid(11))).await;
    assert_eq!(refusal::of(eleven), Refused::photo("TOO_MANY_FACES"));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_faces_may_be_asked_for_in_a_search_only() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let enrolling = v1::EnrollPersonRequest {
        collection: "staff".to_owned(),
        person_id: "barack".to_owned(),
        photographs: vec![photograph(&sample("obama.jpg"))],
        face_choice: v1::FaceChoice::All.into(),
        ..Default::default()
    };
    assert_eq!(
        refusal::fields(client.enroll_as(enrolling).await),
        ["face_choice"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn several_collections_are_searched_as_one_and_each_match_names_its_own() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    // Shorter templates, and a threshold of its own.
    let visitors = v1::CreateCollectionRequest {
        name: "visitors".to_owned(),
        bits: 512,
        threshold: Some(0.3),
        ..Default::default()
    };
    let made = client.collections.clone().create_collection(visitors).await;
    made.expect("made");
    client.create("nobody-yet").await;
    enroll(&client, "staff", "barack", "obama.jpg", &[]).await;
    enroll(&client, "staff", "joe", "biden.jpg", &[]).await;
    enroll(&client, "visitors", "barack", "obama3.jpg", &[]).await;
    enroll(&client, "visitors", "eileen", "astronaut.png", &[]).await;
    let all = ["staff", "visitors", "nobody-yet"];

    let probe = sample("obama2.jpg");
    let reply = client.search_as(request(&all, &probe)).await.expect("searched");
    let result = &reply.results[0];
    let mut found = named(result);
    assert!(result.matches.is_sorted_by(|a, b| a.similarity >= b.similarity));
    found.sort_unstable();
    assert_eq!(found, [("staff", "barack"), ("visitors", "barack")]);
    assert_eq!(reply.faces_searched, 4);
    assert_eq!(result.threshold, 0.3, "the least of theirs");
    let scheme = reply.call.expect("a call").scheme;
    assert!(
        !scheme.contains("/512/") && !scheme.contains("/1024/"),
        "{scheme}"
    );
    // As each collection answers alone.
    for found in &result.matches {
        let alone = client.search(&found.collection, &probe).await.expect("searched");
        assert_eq!(alone.results[0].matches[0].similarity, found.similarity);
    }
    let first = v1::SearchPersonsRequest {
        top_k: 1,
        ..request(&all, &probe)
    };
    let first = client.search_as(first).await.expect("searched");
    assert!(first.results[0].matches[..] == result.matches[..1]);

    // What is enrolled is found at once, and who is erased at no later search.
    enroll(&client, "nobody-yet", "barack", "obama.jpg", &[]).await;
    let reply = client.search_as(request(&all, &probe)).await.expect("searched");
    assert_eq!(reply.results[0].matches.len(), 3);
    for (left, collection) in [(2, "visitors"), (1, "staff"), (0, "nobody-yet")] {
        client.delete(collection, "barack").await.expect("erased");
        let reply = client.search_as(request(&all, &probe)).await.expect("searched");
        assert_eq!(reply.results[0].matches.len(), left);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_cannot_be_searched_is_blamed_by_its_place() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    client.create("visitors").await;
    let small = astronaut_small();
    let unknown = client
        .search_as(request(&["staff", "visitors", "guests"], &small))
        .await;
    let status = unknown.err().expect("refused");
    assert_eq!(
        refusal::read(&status),
        Refused::new(Code::NotFound, "COLLECTION_NOT_FOUND")
    );
    let details = tonic_types::StatusExt::get_error_details(&status);
    let violations = &details.bad_request().expect("violations").field_violations;
    assert_eq!(violations[0].field, "collections[2]");
    for (wrong, field) in [
        (&["staff", "not a name"][..], "collections[1]"),
        (&["staff", "visitors", "staff"], "collections[2]"),
        (&[], "collections"),
        (&["staff"; 101], "collections"),
    ] {
        assert_eq!(
            refusal::fields(client.search_as(request(wrong, &small)).await),
            [field]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_says_who_is_compared() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    enroll(&client, "staff", "barack", "obama.jpg", &["day", "door"]).await;
    enroll(&client, "staff", "other", "obama3.jpg", &["night", "door"]).await;
    enroll(&client, "staff", "joe", "biden.jpg", &["day"]).await;
    let filtered = async |any_tag: &[&str], all_tags: &[&str], person_ids: &[&str]| {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        let asked = v1::SearchPersonsRequest {
            filter: Some(v1::Filter {
                any_tag: owned(any_tag),
                all_tags: owned(all_tags),
                person_ids: owned(person_ids),
            }),
            ..request(&["staff"], &sample("obama2.jpg"))
        };
        let reply = client.search_as(asked).await.expect("searched");
        let found = reply.results[0]
            .matches
            .iter()
            .map(|found| found.person_id.clone());
        let mut found: Vec<_> = found.collect();
        found.sort();
        (found.join(" "), reply.faces_searched)
    };
    let both = || ("barack other".to_owned(), 2);
    assert_eq!(filtered(&[], &[], &[]).await, ("barack other".to_owned(), 3));
    assert_eq!(filtered(&["day"], &[], &[]).await, ("barack".to_owned(), 2));
    assert_eq!(
        filtered(&["day", "night"], &[], &[]).await,
        ("barack other".to_owned(), 3)
    );
    assert_eq!(
        filtered(&[], &["day", "door"], &[]).await,
        ("barack".to_owned(), 1)
    );
    assert_eq!(filtered(&[], &["door"], &[]).await, both());
    assert_eq!(filtered(&["nobody's"], &[], &[]).await, (String::new(), 0));
    assert_eq!(
        filtered(&[], &[], &["other", "nobody"]).await,
        ("other".to_owned(), 1)
    );
    assert_eq!(
        filtered(&["day"], &["door"], &["other"]).await,
        (String::new(), 0)
    );
    // Tags that change count from the next search on.
    let change = v1::UpdatePersonRequest {
        collection: "staff".to_owned(),
        person_id: "other".to_owned(),
        tags: Some(v1::TagList {
            tags: vec!["day".to_owned()],
        }),
        ..Default::default()
    };
    client
        .persons
        .clone()
        .update_person(change)
        .await
        .expect("changed");
    assert_eq!(filtered(&["night"], &[], &[]).await, (String::new(), 0));
    assert_eq!(filtered(&["day"], &[], &[]).await, ("barack other".to_owned(), 3));
    client.delete("staff", "barack").await.expect("erased");
    assert_eq!(filtered(&["day"], &[], &[]).await, ("other".to_owned(), 2));
    let setup = server.stop().await;
    // After a start the tags are read from the records.
    let server = setup.start().await;
    let client = server.client().await;
    let asked = v1::SearchPersonsRequest {
        filter: Some(v1::Filter {
            all_tags: vec!["day".to_owned()],
            ..Default::default()
        }),
        ..request(&["staff"], &sample("obama2.jpg"))
    };
    let reply = client.search_as(asked).await.expect("searched");
    assert_eq!(
        (named(&reply.results[0]), reply.faces_searched),
        (vec![("staff", "other")], 2)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_has_limits() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let small = astronaut_small();
    let many = |count: usize| vec!["tag".to_owned(); count];
    let none = v1::Filter::default;
    for (filter, field) in [
        (
            v1::Filter {
                any_tag: many(33),
                ..none()
            },
            "filter.any_tag",
        ),
        (
            v1::Filter {
                all_tags: many(33),
                ..none()
            },
            "filter.all_tags",
        ),
        (
            v1::Filter {
                all_tags: vec![String::new()],
                ..none()
            },
            "filter.all_tags",
        ),
        (
            v1::Filter {
                person_ids: many(1001),
                ..none()
            },
            "filter.person_ids",
        ),
        (
            v1::Filter {
                person_ids: vec!["no id".to_owned()],
                ..none()
            },
            "filter.person_ids",
        ),
    ] {
        let asked = v1::SearchPersonsRequest {
            filter: Some(filter),
            ..request(&["staff"], &small)
        };
        assert_eq!(refusal::fields(client.search_as(asked).await), [field]);
    }
    let most = v1::SearchPersonsRequest {
        filter: Some(v1::Filter {
            any_tag: many(32),
            all_tags: many(32),
            person_ids: many(1000),
        }),
        ..request(&["staff"], &small)
    };
    assert!(client.search_as(most).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn all_faces_together_know_a_person_better_than_the_best_one() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let (obama, obama3) = (sample("obama.jpg"), sample("obama3.jpg"));
    let partial = sample("obama_partial_face.jpg");
    let enrolled = client.enroll("staff", "barack", &[&obama, &obama3]).await;
    let enrolled = enrolled.expect("enrolled").person.expect("a person");
    enroll(&client, "staff", "joe", "biden.jpg", &[]).await;
    let searched = async |photo: &[u8], comparison: v1::Comparison| {
        let asked = v1::SearchPersonsRequest {
            comparison: comparison.into(),
            threshold: Some(similarity(0.0)),
            ..request(&["staff"], photo)
        };
        client
            .search_as(asked)
            .await
            .expect("searched")
            .results
            .remove(0)
            .matches
    };
    let verified = async |person_id: &str, photo: &[u8]| {
        let asked = v1::VerifyPersonRequest {
            collection: "staff".to_owned(),
            person_id: person_id.to_owned(),
            photograph: Some(photograph(photo)),
            comparison: v1::Comparison::Fused.into(),
            ..Default::default()
        };
        client
            .matching
            .clone()
            .verify_person(asked)
            .await
            .expect("verified")
            .into_inner()
            .similarity()
    };
    for photo in [sample("obama2.jpg"), partial] {
        let best = searched(&photo, v1::Comparison::BestFace).await[0].similarity();
        let fused = searched(&photo, v1::Comparison::Fused).await;
        assert_eq!(fused[0].person_id, "barack");
        assert!(fused[0].similarity() > best, "{} {best}", fused[0].similarity());
        assert_eq!(verified("barack", &photo).await, fused[0].similarity());
    }
    // One face has its own similarity, also when it is the one that is left.
    let biden = sample("biden.jpg");
    let one = searched(&biden, v1::Comparison::Fused).await[0].similarity();
    assert_eq!(
        one,
        searched(&biden, v1::Comparison::BestFace).await[0].similarity()
    );
    client
        .delete_faces("staff", "barack", &[&enrolled.faces[0].face_id])
        .await
        .expect("deleted");
    let probe = sample("obama2.jpg");
    let left = searched(&probe, v1::Comparison::Fused).await[0].similarity();
    assert_eq!(
        left,
        searched(&probe, v1::Comparison::BestFace).await[0].similarity()
    );
    assert_eq!(left, verified("barack", &probe).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_face_that_one_of_the_collections_refuses_is_not_looked_for_in_any() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    enroll(&client, "staff", "eileen", "astronaut.png", &[]).await;
    let gates = v1::CreateCollectionRequest {
        name: "gates".to_owned(),
        quality_level: v1::QualityLevel::Strict.into(),
        ..Default::default()
    };
    client
        .collections
        .clone()
        .create_collection(gates)
        .await
        .expect("made");
    // Too few pixels for the strictest level, enough for none.
    let face = imageops::crop_imm(&scaled("astronaut.png", 350), 90, 5, 140, 140).to_image();
    let mut canvas = plain(320, 240);
    imageops::replace(&mut canvas, &face, 90, 50);
    let small = png(&canvas);
    let alone = client
        .search_as(every_face(&["staff"], &small))
        .await
        .expect("searched");
    assert_eq!(named(&alone.results[0]), [("staff", "eileen")]);
    let both = client
        .search_as(every_face(&["staff", "gates"], &small))
        .await
        .expect("searched");
    assert!(both.results.is_empty());
    assert_eq!(both.rejected.len(), alone.results.len() + alone.rejected.len());
    let stated = v1::SearchPersonsRequest {
        quality_level: v1::QualityLevel::None.into(),
        ..every_face(&["staff", "gates"], &small)
    };
    let stated = client.search_as(stated).await.expect("searched");
    assert_eq!(named(&stated.results[0]), [("staff", "eileen")]);
    let one = client.search_as(request(&["staff", "gates"], &small)).await;
    assert_eq!(refusal::of(one).code, Code::InvalidArgument);
}
