//! How good a face is: the numbers of a detection, and the gate of a collection and of a call.

use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};
use likeness_proto::v1::{self, QualityLevel};
use tonic::Status;

use crate::support::client::{photograph, photographs};
use crate::support::pictures::{montage, pixels, plain, png, sample, scaled};
use crate::support::{Client, Refused, Server, refusal};

/// Eyes and nose of `obama.jpg` at a height of 600 px.
const EYES: [[f32; 2]; 2] = [[233.0, 112.7], [290.0, 111.7]];
const NOSE: [f32; 2] = [263.0, 146.6];
/// The nose of `obama2.jpg` at that height.
const TURNED_NOSE_X: f32 = 142.6;

fn portrait() -> RgbImage {
    scaled("obama.jpg", 600)
}

/// Every colour changed alike.
fn each(mut picture: RgbImage, change: impl Fn(f32) -> f32) -> RgbImage {
    picture
        .pixels_mut()
        .for_each(|pixel| pixel.0 = pixel.0.map(|value| change(value.into()).clamp(0.0, 255.0) as u8));
    picture
}

/// Each pixel from elsewhere in the picture, or grey.
fn moved(picture: &RgbImage, from: impl Fn(f32, f32) -> [f32; 2]) -> RgbImage {
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let [x, y] = from(x as f32, y as f32);
        let inside = x >= 0.0 && y >= 0.0 && x < picture.width() as f32 && y < picture.height() as f32;
        if inside {
            *picture.get_pixel(x as u32, y as u32)
        } else {
            Rgb([127; 3])
        }
    })
}

/// The head tilted clockwise around the nose.
fn tilted(degrees: f32) -> RgbImage {
    let (sin, cos) = degrees.to_radians().sin_cos();
    moved(&portrait(), |x, y| {
        let (x, y) = (x - NOSE[0], y - NOSE[1]);
        [NOSE[0] + cos * x + sin * y, NOSE[1] + cos * y - sin * x]
    })
}

/// A head that is turned to the left edge already, turned further as if it were painted on a cylinder.
fn turned(degrees: f32) -> RgbImage {
    const RADIUS: f32 = 95.0;
    moved(&scaled("obama2.jpg", 600), |x, y| {
        let across = (x - TURNED_NOSE_X) / RADIUS;
        if across.abs() >= 1.0 {
            return [-1.0; 2];
        }
        [
            TURNED_NOSE_X + RADIUS * (across.asin() + degrees.to_radians()).sin(),
            y,
        ]
    })
}

/// Skin over the eyes, and a dark line where the lids meet.
fn eyes_shut() -> RgbImage {
    let mut picture = portrait();
    let distance = EYES[1][0] - EYES[0][0];
    for [eye_x, eye_y] in EYES {
        let skin = *picture.get_pixel(eye_x as u32, (eye_y + 0.42 * distance) as u32);
        for (x, y, pixel) in picture.enumerate_pixels_mut() {
            let (x, y) = ((x as f32 - eye_x) / distance, (y as f32 - eye_y) / distance);
            if (x / 0.36).powi(2) + (y / 0.2).powi(2) < 1.0 {
                let line = (y - 0.05).abs() < 0.02 && x.abs() < 0.25;
                *pixel = if line { Rgb([40, 25, 20]) } else { skin };
            }
        }
    }
    picture
}

/// Grey from the nose downwards.
fn mouth_hidden() -> RgbImage {
    let mut picture = scaled("obama2.jpg", 600);
    let hidden = plain(picture.width(), picture.height());
    imageops::replace(&mut picture, &hidden, 0, 205);
    picture
}

/// A photograph for every reason, and the level that refuses it.
fn bad_photographs() -> Vec<(&'static str, QualityLevel, RgbImage)> {
    use QualityLevel::{Low, Medium, Strict};
    vec![
        ("EYES_TOO_CLOSE", Medium, scaled("obama.jpg", 180)),
        ("TOO_BLURRED", Low, imageops::blur(&portrait(), 6.0)),
        ("TOO_DARK", Low, each(portrait(), |value| 0.1 * value)),
        ("TOO_BRIGHT", Low, each(portrait(), |value| 2.0 * value)),
        (
            "LOW_CONTRAST",
            Medium,
            each(portrait(), |value| 128.0 + 0.2 * (value - 128.0)),
        ),
        ("TURNED_AWAY", Strict, turned(30.0)),
        ("TILTED", Medium, tilted(40.0)),
        ("LANDMARKS_UNSURE", Medium, mouth_hidden()),
        ("EYES_CLOSED", Strict, eyes_shut()),
    ]
}

async fn detect(client: &Client, photo: &[u8], level: QualityLevel) -> v1::Face {
    let request = v1::DetectFacesRequest {
        photograph: Some(photograph(photo)),
        quality_level: level.into(),
    };
    let reply = client.matching.clone().detect_faces(request).await;
    let faces = reply.expect("detected").into_inner().faces;
    faces.into_iter().next().expect("a face")
}

/// The numbers of a face, which a failing test may show: they are of a public figure.
#[derive(Debug)]
struct Numbers {
    eye_distance_px: f32,
    sharpness: f32,
    brightness: f32,
    contrast: f32,
    yaw: f32,
    pitch: f32,
    roll: f32,
    landmark_confidence: f32,
    eyes_open: f32,
    level: &'static str,
}

fn numbers(face: &v1::Face) -> Numbers {
    let quality = face.quality.expect("measured");
    Numbers {
        eye_distance_px: quality.eye_distance_px,
        sharpness: quality.sharpness,
        brightness: quality.brightness,
        contrast: quality.contrast,
        yaw: quality.yaw_degrees,
        pitch: quality.pitch_degrees,
        roll: quality.roll_degrees,
        landmark_confidence: quality.landmark_confidence,
        eyes_open: quality.eyes_open,
        level: quality.level().as_str_name(),
    }
}

async fn measured(client: &Client, picture: &RgbImage) -> Numbers {
    numbers(&detect(client, &png(picture), QualityLevel::Unspecified).await)
}

async fn create(client: &Client, name: &str, level: QualityLevel) -> v1::Collection {
    let request = v1::CreateCollectionRequest {
        name: name.to_owned(),
        quality_level: level.into(),
        ..Default::default()
    };
    let reply = client.collections.clone().create_collection(request).await;
    reply
        .expect("made")
        .into_inner()
        .collection
        .expect("a collection")
}

async fn enroll(
    client: &Client,
    collection: &str,
    photo: &[u8],
    level: QualityLevel,
) -> Result<v1::EnrollPersonResponse, Status> {
    let request = v1::EnrollPersonRequest {
        collection: collection.to_owned(),
        person_id: "somebody".to_owned(),
        photographs: photographs(&[photo]),
        quality_level: level.into(),
        ..Default::default()
    };
    client.enroll_as(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reason_of_the_gate_is_reached_by_a_photograph_that_is_bad_in_this_way() {
    let server = Server::start().await;
    let client = server.client().await;
    for (reason, level, picture) in bad_photographs() {
        let photo = png(&picture);
        let face = detect(&client, &photo, level).await;
        let found = face
            .rejection
            .as_ref()
            .map(|rejection| rejection.reason().as_str_name());
        assert_eq!(found, Some(reason), "{:?}", numbers(&face));
        let reached = face.quality.expect("measured").level;
        assert!(reached < i32::from(level), "{reason}: {:?}", numbers(&face));
        let lenient = detect(&client, &photo, QualityLevel::None).await;
        assert!(lenient.rejection.is_none(), "{reason}");
        // What is refused in a detection is refused in an enrolment.
        let name = reason.to_lowercase();
        create(&client, &name, level).await;
        let refused = enroll(&client, &name, &photo, QualityLevel::Unspecified).await;
        assert_eq!(refusal::of(refused), Refused::photo(reason));
        assert_eq!(client.collection(&name).await.expect("there").persons, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detection_says_how_good_each_face_is_and_a_portrait_passes_every_level() {
    let server = Server::start().await;
    let client = server.client().await;
    let two = montage(&[
        scaled("obama.jpg", 600),
        imageops::blur(&scaled("biden.jpg", 600), 4.0),
    ]);
    let faces = client.detect(&png(&two)).await.expect("detected").faces;
    assert_eq!(faces.len(), 2);
    for face in faces {
        let quality = numbers(&face);
        let [left, right] = [face.points[0], face.points[1]];
        let distance = (left.x - right.x).hypot(left.y - right.y);
        assert!((quality.eye_distance_px - distance).abs() < 0.01, "{quality:?}");
        assert!((0.0..=1.0).contains(&quality.sharpness), "{quality:?}");
        assert!((0.0..=255.0).contains(&quality.brightness), "{quality:?}");
    }
    let portrait = measured(&client, &portrait()).await;
    assert_eq!(portrait.level, "QUALITY_LEVEL_STRICT", "{portrait:?}");
    let astronaut = measured(&client, &pixels("astronaut.png")).await;
    assert_eq!(astronaut.level, "QUALITY_LEVEL_STRICT", "{astronaut:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_follow_what_is_done_to_a_photograph() {
    let server = Server::start().await;
    let client = server.client().await;
    let good = measured(&client, &portrait()).await;
    let half = measured(&client, &scaled("obama.jpg", 300)).await;
    assert!((good.eye_distance_px / half.eye_distance_px - 2.0).abs() < 0.1);
    let blurred = measured(&client, &imageops::blur(&portrait(), 3.0)).await;
    assert!(blurred.sharpness < 0.6 * good.sharpness, "{blurred:?}");
    let small = scaled("obama.jpg", 160);
    let enlarged = imageops::resize(&small, 480, 600, FilterType::Triangle);
    let enlarged = measured(&client, &enlarged).await;
    assert!(enlarged.sharpness < 0.8 * good.sharpness, "{enlarged:?}");
    let dark = measured(&client, &each(portrait(), |value| 0.5 * value)).await;
    assert!((dark.brightness / good.brightness - 0.5).abs() < 0.02, "{dark:?}");
    assert!((dark.contrast / good.contrast - 0.5).abs() < 0.05, "{dark:?}");
    assert!((dark.sharpness - good.sharpness).abs() < 0.05, "{dark:?}");
    let tilt = measured(&client, &tilted(20.0)).await;
    assert!((tilt.roll - good.roll - 20.0).abs() < 3.0, "{tilt:?}");
    let side = pixels("obama2.jpg");
    let (side, other) = (
        measured(&client, &side).await,
        measured(&client, &imageops::flip_horizontal(&side)).await,
    );
    assert!(side.yaw < -10.0 && other.yaw > 10.0, "{side:?} {other:?}");
    let chin_up = measured(&client, &scaled("obama3.jpg", 600)).await;
    assert!(chin_up.pitch > good.pitch + 15.0, "{good:?} {chin_up:?}");
    let further = measured(&client, &turned(30.0)).await;
    assert!(further.yaw < side.yaw - 5.0, "{side:?} {further:?}");
    let shut = measured(&client, &eyes_shut()).await;
    assert!(shut.eyes_open < good.eyes_open - 0.15, "{shut:?}");
    let hidden = measured(&client, &mouth_hidden()).await;
    assert!(hidden.landmark_confidence < 0.4, "{hidden:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_keeps_its_level_and_a_call_may_ask_for_another() {
    let server = Server::start().await;
    let client = server.client().await;
    let usual = client.create("usual").await;
    assert!(usual.quality_level() == QualityLevel::None);
    let made = create(&client, "careful", QualityLevel::High).await;
    assert!(made.quality_level() == QualityLevel::High);
    drop(client);
    let server = server.stop().await.start().await;
    let client = server.client().await;
    let kept = client.collection("careful").await.expect("kept");
    assert!(kept.quality_level() == QualityLevel::High);

    let blurred = png(&imageops::blur(&portrait(), 2.8));
    let refused = |answer| assert_eq!(refusal::of(answer), Refused::photo("TOO_BLURRED"));
    refused(enroll(&client, "careful", &blurred, QualityLevel::Unspecified).await);
    refused(enroll(&client, "usual", &blurred, QualityLevel::High).await);
    enroll(&client, "careful", &blurred, QualityLevel::Low)
        .await
        .expect("good enough for this call");

    let request = v1::UpdateCollectionRequest {
        name: "careful".to_owned(),
        quality_level: QualityLevel::Low.into(),
        ..Default::default()
    };
    let reply = client.collections.clone().update_collection(request).await;
    let changed = reply.expect("changed").into_inner().collection.expect("it");
    assert!(changed.quality_level() == QualityLevel::Low);
    assert_eq!(changed.threshold, kept.threshold);
    client
        .add_faces("careful", "somebody", &[&blurred])
        .await
        .expect("good enough now");
    let unknown = v1::CreateCollectionRequest {
        name: "unknown".to_owned(),
        quality_level: 6,
        ..Default::default()
    };
    let unknown = client.collections.clone().create_collection(unknown).await;
    assert_eq!(refusal::fields(unknown), ["quality_level"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn searching_verifying_and_comparing_pass_the_same_gate() {
    let server = Server::start().await;
    let client = server.client().await;
    create(&client, "careful", QualityLevel::Medium).await;
    let (good, dark) = (sample("obama.jpg"), png(&each(portrait(), |value| 0.1 * value)));
    enroll(&client, "careful", &good, QualityLevel::Unspecified)
        .await
        .expect("enrolled");

    let refused = Refused::photo("TOO_DARK");
    assert_eq!(refusal::of(client.search("careful", &dark).await), refused);
    assert_eq!(
        refusal::of(client.verify("careful", "somebody", &dark).await),
        refused
    );
    let search = |level: QualityLevel| v1::SearchPersonsRequest {
        collections: vec!["careful".to_owned()],
        photograph: Some(photograph(&dark)),
        quality_level: level.into(),
        ..Default::default()
    };
    let found = client.search_as(search(QualityLevel::None)).await;
    assert_eq!(found.expect("searched").results.len(), 1);

    client.compare(&good, &dark).await.expect("nothing is asked for");
    let request = v1::CompareFacesRequest {
        first: Some(photograph(&good)),
        second: Some(photograph(&dark)),
        quality_level: QualityLevel::Low.into(),
        ..Default::default()
    };
    let compared = client.matching.clone().compare_faces(request.clone()).await;
    assert_eq!(refusal::of(compared), refused);
    let compared = client.matching.clone().compare_faces(request).await;
    assert_eq!(refusal::fields(compared), ["second"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn quality_chooses_no_face_among_several() {
    let server = Server::start().await;
    let client = server.client().await;
    create(&client, "careful", QualityLevel::Medium).await;
    let dark = each(scaled("biden.jpg", 500), |value| 0.15 * value);
    let two = png(&montage(&[scaled("obama.jpg", 500), dark]));
    let refused = enroll(&client, "careful", &two, QualityLevel::Unspecified).await;
    assert_eq!(refusal::of(refused), Refused::photo("SEVERAL_FACES"));
}
