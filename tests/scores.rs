//! Scores and rates: what a similarity means, asked for and answered.

use std::fs;

use likeness_engine::{CALIBRATION_FILE, DEFAULT_CALIBRATION};
use likeness_proto::v1;
use likeness_proto::v1::threshold::Limit;
use tempfile::TempDir;
use tonic::Status;

use crate::support::child::{Home, Program, likeness};
use crate::support::client::{photograph, similarity};
use crate::support::pictures::sample;
use crate::support::server::Setup;
use crate::support::{Client, Server, asset, directory, refusal};

fn threshold(limit: Limit) -> Option<v1::Threshold> {
    Some(v1::Threshold { limit: Some(limit) })
}

async fn search(client: &Client, limit: Limit) -> Result<v1::FaceMatches, Status> {
    let request = v1::SearchPersonsRequest {
        collections: vec!["staff".to_owned()],
        photograph: Some(photograph(&sample("obama2.jpg"))),
        threshold: threshold(limit),
        ..Default::default()
    };
    Ok(client.search_as(request).await?.results.remove(0))
}

async fn verify(client: &Client, limit: Limit) -> Result<v1::VerifyPersonResponse, Status> {
    let request = v1::VerifyPersonRequest {
        collection: "staff".to_owned(),
        person_id: "barack".to_owned(),
        photograph: Some(photograph(&sample("obama2.jpg"))),
        threshold: threshold(limit),
        ..Default::default()
    };
    Ok(client.matching.clone().verify_person(request).await?.into_inner())
}

async fn compare(client: &Client, limit: Limit) -> Result<v1::CompareFacesResponse, Status> {
    let request = v1::CompareFacesRequest {
        first: Some(photograph(&sample("obama.jpg"))),
        second: Some(photograph(&sample("obama2.jpg"))),
        threshold: threshold(limit),
        ..Default::default()
    };
    Ok(client.matching.clone().compare_faces(request).await?.into_inner())
}

async fn staff(client: &Client) {
    client.create("staff").await;
    for (person_id, photo) in [
        ("barack", "obama.jpg"),
        ("joe", "biden.jpg"),
        ("eileen", "astronaut.png"),
    ] {
        let enrolled = client.enroll("staff", person_id, &[&sample(photo)]).await;
        enrolled.expect("enrolled");
    }
}

/// The default models, and this calibration beside them.
fn models_with(calibration: &str) -> TempDir {
    let dir = directory();
    for file in ["fr_detect.onnx", "fr_landmark.onnx", "fr_feature.onnx"] {
        fs::copy(asset("models").join(file), dir.path().join(file)).unwrap();
    }
    fs::write(dir.path().join(CALIBRATION_FILE), calibration).unwrap();
    dir
}

#[tokio::test(flavor = "multi_thread")]
async fn every_similarity_comes_with_what_it_means() {
    let server = Server::start().await;
    let client = server.client().await;
    staff(&client).await;
    let found = search(&client, Limit::Similarity(0.0)).await.expect("searched");
    let best = &found.matches[0];
    assert_eq!(best.person_id, "barack");
    let estimate = best.estimate.expect("an estimate");
    // About 0.77: nobody's half a million pairs show a rate as low as that.
    assert!(
        estimate.score > 90.0 && estimate.extrapolated,
        "{} {}",
        estimate.score,
        estimate.far
    );
    let fpir = estimate.fpir.expect("of a search");
    assert!(
        (fpir / (3.0 * estimate.far) - 1.0).abs() < 0.01,
        "three faces: {fpir}"
    );
    assert!(found.matches.is_sorted_by(|a, b| {
        let score = |found: &v1::Match| found.estimate.map(|estimate| estimate.score);
        score(a) >= score(b)
    }));

    let same = compare(&client, Limit::Similarity(0.4)).await.expect("compared");
    let estimate = same.estimate.expect("an estimate");
    assert!(
        estimate.score > 90.0 && estimate.fpir.is_none(),
        "{} {}",
        estimate.score,
        estimate.far
    );
    let other = client
        .verify("staff", "barack", &sample("biden.jpg"))
        .await
        .expect("verified");
    let estimate = other.estimate.expect("an estimate");
    assert!(
        estimate.score < 45.0 && estimate.far > 1e-3 && !estimate.extrapolated,
        "{} {}",
        estimate.score,
        estimate.far
    );
    assert_eq!(estimate.fpir, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_can_be_a_score_or_a_rate_and_means_the_same() {
    let server = Server::start().await;
    let client = server.client().await;
    staff(&client).await;
    // The calibration's own points for photographs and for 1024 bits.
    let by_rate = compare(&client, Limit::MaxFarPerComparison(1e-4))
        .await
        .expect("compared");
    assert!((by_rate.threshold - 0.407).abs() < 0.001, "{}", by_rate.threshold);
    let by_score = compare(&client, Limit::Score(60.0)).await.expect("compared");
    assert!((by_score.threshold - by_rate.threshold).abs() < 1e-5);
    let by_rate = verify(&client, Limit::MaxFarPerComparison(1e-4))
        .await
        .expect("verified");
    assert!((by_rate.threshold - 0.418).abs() < 0.001, "{}", by_rate.threshold);
    assert!(by_rate.same_person);
    let strict = verify(&client, Limit::Score(100.0)).await.expect("verified");
    assert!(
        strict.threshold > 0.7 && strict.threshold < 0.75,
        "{}",
        strict.threshold
    );

    // Three faces: a rate of searches of 3e-4 is one of 1e-4 a comparison, nearly.
    let of_search = search(&client, Limit::MaxFpirPerSearch(3e-4))
        .await
        .expect("searched");
    assert!((of_search.threshold - by_rate.threshold).abs() < 1e-3);
    assert_eq!(of_search.matches.len(), 1);
    // The more faces there are, the more similar they must be.
    client
        .enroll("staff", "more", &[&sample("biden.jpg")])
        .await
        .expect("enrolled");
    let more = search(&client, Limit::MaxFpirPerSearch(3e-4))
        .await
        .expect("searched");
    assert!(more.threshold > of_search.threshold);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_cannot_be_meant_is_refused_by_its_field() {
    let server = Server::start().await;
    let client = server.client().await;
    staff(&client).await;
    let of_searches = Limit::MaxFpirPerSearch(1e-3);
    assert_eq!(refusal::fields(verify(&client, of_searches).await), ["threshold"]);
    assert_eq!(
        refusal::fields(compare(&client, of_searches).await),
        ["threshold"]
    );
    for limit in [
        Limit::Similarity(1.5),
        Limit::Score(f32::NAN),
        Limit::Score(101.0),
        Limit::MaxFarPerComparison(0.0),
        Limit::MaxFpirPerSearch(0.6),
    ] {
        assert_eq!(
            refusal::fields(search(&client, limit).await),
            ["threshold"],
            "a limit out of its range"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_calibration_speaks_where_it_lies_beside_the_models() {
    let (head, _) = DEFAULT_CALIBRATION.split_once("[[rates]]").expect("rates");
    let own = format!(
        "{head}[[rates]]\nscoring = \"photographs\"\nsupported = 1e-3\ntail = 10.0\n\
         points = [[-1.0, 1.0], [0.3, 1e-2], [0.5, 1e-4]]\n"
    );
    let models = models_with(&own);
    let server = Setup::new().models(models.path()).start().await;
    let client = server.client().await;
    let reply = compare(&client, Limit::MaxFarPerComparison(1e-4))
        .await
        .expect("compared");
    assert!((reply.threshold - 0.5).abs() < 1e-5, "{}", reply.threshold);
    assert!(reply.estimate.expect("an estimate").extrapolated);
    // What was not counted follows the manifest's two similarities, and says so.
    staff(&client).await;
    let reply = verify(&client, similarity(0.0).limit.expect("a limit"))
        .await
        .expect("verified");
    assert!(reply.estimate.expect("an estimate").extrapolated);
    // The default of a collection is the manifest's, whatever the calibration.
    assert_eq!(client.collection("staff").await.expect("made").threshold, 0.411);
}

#[test]
fn a_calibration_of_another_embedder_stops_the_start() {
    let home = Home::new();
    let digest = blake3::hash(&fs::read(asset("models/fr_feature.onnx")).unwrap()).to_string();
    let other = DEFAULT_CALIBRATION.replace(&digest, &"0".repeat(64));
    let models = models_with(&other);
    let mut command = home.command();
    command.arg("--models").arg(models.path());
    let said = Program::finish(&mut command, &[]).expect(78).stderr;
    let expected = format!("embedder: expected {digest}, found {}", "0".repeat(64));
    assert!(
        said.contains("calibration.toml") && said.contains(&expected),
        "{said}"
    );
}

#[test]
fn calibrating_needs_pairs_to_count() {
    let dir = directory();
    for (person, photo) in [
        ("barack", "obama.jpg"),
        ("barack", "obama2.jpg"),
        ("joe", "biden.jpg"),
    ] {
        let folder = dir.path().join(person);
        fs::create_dir_all(&folder).unwrap();
        fs::copy(asset("photographs").join(photo), folder.join(photo)).unwrap();
    }
    let mut command = likeness();
    command.arg("calibrate").arg(dir.path());
    let said = Program::finish(&mut command, &[]).expect(65).stderr;
    assert!(said.contains("received 2 impostor pairs"), "{said}");
}
