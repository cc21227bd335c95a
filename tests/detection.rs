//! Real photographs: small faces in large ones, many, in strips, and lying on a side.

use image::imageops::{self, FilterType, rotate90, rotate180, rotate270};
use image::{Rgb, RgbImage};
use likeness_proto::v1;

use crate::support::pictures::{pixels, png, sample, scaled};
use crate::support::{Client, Refused, Server, refusal};

/// The samples that show a whole face, and whose.
const PORTRAITS: [(&str, &str); 5] = [
    ("astronaut.png", "eileen"),
    ("biden.jpg", "joe"),
    ("obama.jpg", "barack"),
    ("obama2.jpg", "barack"),
    ("obama3.jpg", "barack"),
];

/// A face, and the left, upper, right and lower edge of its box in the picture.
struct Cutout {
    picture: RgbImage,
    area: [f32; 4],
}

fn area(face: &v1::Face) -> [f32; 4] {
    let area = face.r#box.expect("a box");
    [area.left, area.top, area.right, area.bottom]
}

/// The faces of the samples and a little around them, this many pixels wide.
async fn cutouts(client: &Client, face_px: f32) -> Vec<Cutout> {
    let mut cutouts = Vec::new();
    for (name, _) in PORTRAITS {
        let whole = pixels(name);
        let seen = client.detect(&png(&whole)).await.expect("detected");
        let [left, top, right, bottom] = area(&seen.faces[0]);
        let (beside, scale) = ((right - left) / 3.0, face_px / (right - left));
        let [x, y] = [left - beside, top - beside].map(|from| from.max(0.0) as u32);
        let [end_x, end_y] = [right + beside, bottom + beside].map(|to| to as u32);
        let part = imageops::crop_imm(&whole, x, y, end_x - x, end_y - y).to_image();
        let size = [part.width(), part.height()].map(|side| (side as f32 * scale).round() as u32);
        cutouts.push(Cutout {
            // Averages over areas where it shrinks.
            picture: imageops::resize(&part, size[0], size[1], FilterType::Triangle),
            area: [
                left - x as f32,
                top - y as f32,
                right - x as f32,
                bottom - y as f32,
            ]
            .map(|edge| edge * scale),
        });
    }
    cutouts
}

/// A canvas of two colours that fade into each other, with a face at each of these places; and the boxes.
fn crowd(
    [width, height]: [u32; 2],
    cutouts: &[Cutout],
    places: impl Iterator<Item = [u32; 2]>,
) -> (RgbImage, Vec<[f32; 4]>) {
    let mut canvas = RgbImage::from_fn(width, height, |x, y| {
        Rgb([(60 + x * 120 / width) as u8, 110, (60 + y * 120 / height) as u8])
    });
    let mut boxes = Vec::new();
    for (i, [x, y]) in places.enumerate() {
        let Cutout { picture, area } = &cutouts[i % cutouts.len()];
        imageops::replace(&mut canvas, picture, x.into(), y.into());
        let [left, top, right, bottom] = *area;
        let (x, y) = (x as f32, y as f32);
        boxes.push([left + x, top + y, right + x, bottom + y]);
    }
    (canvas, boxes)
}

/// Fifty places all over 4000x3000 that fall into no pattern with any tiles.
fn fifty_places() -> impl Iterator<Item = [u32; 2]> {
    (0..50).map(|i| {
        [
            (i % 10) * 390 + (i * 37) % 300 + 5,
            (i / 10) * 590 + (i * 113) % 520 + 5,
        ]
    })
}

/// Intersection over union.
fn overlap(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    let size = |a: &[f32; 4]| (a[2] - a[0]) * (a[3] - a[1]);
    let shared = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0) * (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
    shared / (size(a) + size(b) - shared)
}

/// How many of the boxes a sure face was found in, and how many sure faces were found elsewhere.
fn hits(reply: &v1::DetectFacesResponse, boxes: &[[f32; 4]]) -> (usize, usize) {
    let sure: Vec<_> = reply
        .faces
        .iter()
        .filter(|face| face.detection_score >= 0.65)
        .map(area)
        .collect();
    let hit = |truth: &&[f32; 4]| sure.iter().any(|found| overlap(found, truth) > 0.4);
    let known = |found: &&[f32; 4]| boxes.iter().any(|truth| overlap(found, truth) > 0.4);
    let found = boxes.iter().filter(hit).count();
    (found, sure.len() - sure.iter().filter(known).count())
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_faces_of_34_pixels_are_found_in_twelve_megapixels() {
    let server = Server::start().await;
    let client = server.client().await;
    let (canvas, boxes) = crowd([4000, 3000], &cutouts(&client, 34.0).await, fifty_places());
    let seen = client.detect(&png(&canvas)).await.expect("detected");
    let (found, elsewhere) = hits(&seen, &boxes);
    assert!(found >= 48, "{found} of 50");
    assert_eq!(elsewhere, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_face_alone_in_a_large_photograph_is_found_and_recognised() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    enroll_portraits(&client).await;
    let cutouts = cutouts(&client, 80.0).await;
    let (canvas, boxes) = crowd([4000, 3000], &cutouts[1..2], [[1900, 2500]].into_iter());
    let found = client.search("staff", &png(&canvas)).await.expect("searched");
    let result = &found.results[0];
    assert!(overlap(&area(result.face.as_ref().expect("a face")), &boxes[0]) > 0.5);
    assert_eq!(result.matches[0].person_id, "joe");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passer_by_far_away_spoils_no_portrait() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let passer_by = &cutouts(&client, 50.0).await[0];
    let mut portrait = imageops::resize(&pixels("obama.jpg"), 2400, 3000, FilterType::Triangle);
    imageops::replace(&mut portrait, &passer_by.picture, 40, 2800);
    let photo = png(&portrait);
    let seen = client.detect(&photo).await.expect("detected");
    let accepted = seen.faces.iter().filter(|face| face.rejection.is_none());
    assert_eq!(accepted.count(), 2);
    client
        .enroll("staff", "barack", &[&photo])
        .await
        .expect("enrolled");
}

#[tokio::test(flavor = "multi_thread")]
async fn faces_are_found_along_a_panorama_and_down_a_tower() {
    let server = Server::start().await;
    let client = server.client().await;
    let cutouts = cutouts(&client, 60.0).await;
    let along = |i: u32| i * 290 + (i * 53) % 170 + 5;
    let across = |i: u32| (i * 71) % 280 + 5;
    let strips = [
        crowd([6000, 400], &cutouts, (0..20).map(|i| [along(i), across(i)])),
        crowd([400, 6000], &cutouts, (0..20).map(|i| [across(i), along(i)])),
    ];
    for (canvas, boxes) in strips {
        let seen = client.detect(&png(&canvas)).await.expect("detected");
        let size = canvas.dimensions();
        assert_eq!(((seen.width, seen.height), hits(&seen, &boxes)), (size, (20, 0)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_120_faces_are_refused_however_small() {
    let server = Server::start().await;
    let client = server.client().await;
    let cutouts = cutouts(&client, 34.0).await;
    let crowd = |faces: u32| {
        let places = (0..faces).map(|i| [(i % 13) * 120 + 5, (i / 13) * 110 + 5]);
        png(&crowd([1600, 1200], &cutouts, places).0)
    };
    let seen = client.detect(&crowd(118)).await.expect("detected");
    assert!(seen.faces.len() >= 110, "{}", seen.faces.len());
    let refused = client.detect(&crowd(130)).await;
    assert_eq!(refusal::of(refused), Refused::photo("TOO_MANY_FACES"));
}

/// Enrols the people of the portraits, one photograph each.
async fn enroll_portraits(client: &Client) {
    for (name, person) in &PORTRAITS[..3] {
        let enrolled = client.enroll("staff", person, &[&sample(name)]).await;
        enrolled.expect("enrolled");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_portrait_is_the_same_person_on_any_side() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    enroll_portraits(&client).await;
    for (name, person) in PORTRAITS {
        let upright = pixels(name);
        let straight = client.verify("staff", person, &png(&upright)).await;
        let straight = straight.expect("verified").similarity();
        // Turned one way, and how far it is to be turned to stand upright.
        for (lying, degrees) in [
            (rotate270(&upright), 90),
            (rotate180(&upright), 180),
            (rotate90(&upright), 270),
        ] {
            let photo = png(&lying);
            let verified = client.verify("staff", person, &photo).await.expect("verified");
            let face = verified.face.clone().expect("a face");
            assert_eq!(face.rotated_degrees, degrees, "{name}");
            assert!(
                verified.same_person && (verified.similarity() - straight).abs() < 1e-4,
                "{name} by {degrees}: {}, not {straight}",
                verified.similarity()
            );
            let seen = client.detect(&photo).await.expect("detected");
            assert_eq!((seen.width, seen.height), upright.dimensions(), "{name}");
            assert!(
                seen.faces.iter().any(|found| area(found) == area(&face)),
                "{name}: coordinates are those of the photograph as turned"
            );
            assert!(seen.faces.iter().all(|face| face.rotated_degrees == degrees));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a report, no test: run it by name, with --ignored and --nocapture, on a quiet machine"]
async fn what_large_photographs_cost() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let report = async |what: &str, photo: Vec<u8>, detect: bool| {
        for _ in 0..5 {
            let call = if detect {
                client.detect(&photo).await.expect("detected").call
            } else {
                client.search("staff", &photo).await.expect("searched").call
            };
            let steps = call.expect("a call").steps;
            let steps: Vec<_> = steps
                .iter()
                .map(|step| format!("{} {:.1}", step.step, step.micros as f64 / 1000.0))
                .collect();
            println!("{what}, ms: {}", steps.join(", "));
        }
    };
    let (canvas, boxes) = crowd([4000, 3000], &cutouts(&client, 34.0).await, fifty_places());
    let canvas = jpeg(&canvas);
    let seen = client.detect(&canvas).await.expect("detected");
    println!("found of 50, and elsewhere: {:?}", hits(&seen, &boxes));
    report("fifty faces in 12 megapixels, DetectFaces", canvas, true).await;
    let portrait = imageops::resize(&pixels("obama.jpg"), 3098, 3872, FilterType::CatmullRom);
    report(
        "a portrait of 12 megapixels, SearchPersons",
        jpeg(&portrait),
        false,
    )
    .await;
    report("the same, DetectFaces", jpeg(&portrait), true).await;
    report(
        "the same on its side, SearchPersons",
        jpeg(&rotate90(&portrait)),
        false,
    )
    .await;
    let small = scaled("obama.jpg", 480);
    report("a portrait of 384x480, SearchPersons", jpeg(&small), false).await;
}

fn jpeg(picture: &RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    let [width, height] = [picture.width(), picture.height()].map(|side| u16::try_from(side).unwrap());
    jpeg_encoder::Encoder::new(&mut bytes, 90)
        .encode(picture.as_raw(), width, height, jpeg_encoder::ColorType::Rgb)
        .unwrap();
    bytes
}
