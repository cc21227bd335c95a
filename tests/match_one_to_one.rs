//! Verifying a PersonID, comparing two photographs, and detecting faces.

use likeness_proto::v1;
use tonic::Code;

use crate::support::client::{photograph, similarity};
use crate::support::pictures::{astronaut_small, montage, png, sample, scaled};
use crate::support::{Refused, Server, refusal};

#[tokio::test(flavor = "multi_thread")]
async fn verification_tells_the_person_from_others_and_the_best_face_counts() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let enrolled = [sample("obama.jpg"), sample("obama3.jpg")];
    let enrolled = enrolled.each_ref().map(Vec::as_slice);
    client
        .enroll("staff", "one-face", &enrolled[..1])
        .await
        .expect("enrolled");
    client
        .enroll("staff", "two-faces", &enrolled)
        .await
        .expect("enrolled");
    let probe = sample("obama2.jpg");
    let one = client
        .verify("staff", "one-face", &probe)
        .await
        .expect("verified");
    let two = client
        .verify("staff", "two-faces", &probe)
        .await
        .expect("verified");
    assert!(one.same_person && two.same_person);
    assert_eq!(one.threshold, 0.411);
    assert!(one.face.is_some());
    let best = client
        .verify("staff", "two-faces", enrolled[1])
        .await
        .expect("verified");
    assert!(best.similarity() > 0.9, "{}", best.similarity());

    let other = client
        .verify("staff", "one-face", &sample("biden.jpg"))
        .await
        .expect("verified");
    assert!(!other.same_person);
    assert!(other.similarity() < 0.3, "{}", other.similarity());

    let strict = v1::VerifyPersonRequest {
        collection: "staff".to_owned(),
        person_id: "one-face".to_owned(),
        photograph: Some(photograph(&probe)),
        threshold: Some(similarity(0.99)),
        ..Default::default()
    };
    let strict = client
        .matching
        .clone()
        .verify_person(strict)
        .await
        .expect("verified");
    let strict = strict.into_inner();
    assert_eq!((strict.same_person, strict.threshold), (false, 0.99));
    let nobody = client.verify("staff", "nobody", &probe).await;
    assert_eq!(
        refusal::of(nobody),
        Refused::new(Code::NotFound, "PERSON_NOT_FOUND")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_photographs_are_compared_and_nothing_is_kept() {
    let server = Server::start().await;
    let client = server.client().await;
    let (obama, obama2, biden) = (sample("obama.jpg"), sample("obama2.jpg"), sample("biden.jpg"));
    let same = client.compare(&obama, &obama2).await.expect("compared");
    assert!(same.same_person);
    // The exact cosine, as models and recipe give it.
    assert!((same.similarity - 0.774).abs() < 0.01, "{}", same.similarity);
    assert_eq!(same.threshold, 0.411);
    let turned = client.compare(&obama2, &obama).await.expect("compared");
    assert!((same.similarity - turned.similarity).abs() < 1e-5);
    let other = client.compare(&obama, &biden).await.expect("compared");
    assert!(!other.same_person);
    assert!(other.similarity.abs() < 0.2, "{}", other.similarity);

    let group = png(&montage(&[
        scaled("obama2.jpg", 500),
        scaled("astronaut.png", 200),
    ]));
    let refused = client.compare(&obama, &group).await;
    assert_eq!(refusal::of(refused), Refused::photo("SEVERAL_FACES"));
    let request = v1::CompareFacesRequest {
        first: Some(photograph(&obama)),
        second: Some(photograph(&group)),
        face_choice: v1::FaceChoice::Largest.into(),
        threshold: Some(similarity(0.9)),
        ..Default::default()
    };
    let reply = client
        .matching
        .clone()
        .compare_faces(request)
        .await
        .expect("compared");
    let reply = reply.into_inner();
    assert!(reply.similarity > 0.6 && !reply.same_person && reply.threshold == 0.9);
}

#[tokio::test(flavor = "multi_thread")]
async fn detection_shows_every_face_with_points_and_why_it_would_be_refused() {
    let server = Server::start().await;
    let client = server.client().await;
    let pictures = [
        scaled("obama.jpg", 400),
        scaled("astronaut.png", 300),
        scaled("biden.jpg", 200),
    ];
    let group = png(&montage(&pictures));
    let reply = client.detect(&group).await.expect("detected");
    assert_eq!((reply.width, reply.height), (788, 440));
    assert!(reply.faces.len() >= 2);
    assert!(
        reply
            .faces
            .is_sorted_by(|a, b| a.detection_score >= b.detection_score)
    );
    for face in &reply.faces {
        let area = face.r#box.expect("a box");
        assert!(area.left < area.right && area.top < area.bottom);
        assert_eq!(face.points.len(), 5);
        let [left_eye, right_eye, nose, ..] = &face.points[..] else {
            unreachable!("five");
        };
        assert!(left_eye.x < nose.x && nose.x < right_eye.x && left_eye.y < nose.y);
    }
    let small = reply.faces.iter().find_map(|face| face.rejection.as_ref());
    let small = small.map(|rejection| rejection.reason().as_str_name());
    assert_eq!(small, Some("FACE_TOO_SMALL"));

    let one = client.detect(&astronaut_small()).await.expect("detected");
    assert_eq!((one.width, one.height, one.faces.len()), (220, 240, 1));
    assert!(one.faces[0].rejection.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_photograph_without_faces_is_no_error_for_detection() {
    let server = Server::start().await;
    let client = server.client().await;
    let empty = png(&crate::support::pictures::plain(320, 240));
    assert!(client.detect(&empty).await.expect("detected").faces.is_empty());
}
