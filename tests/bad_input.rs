//! Bytes that are no usable photograph: each refused with its own reason, nothing kept, and the server
//! goes on.

use std::io::Write;

use crate::support::client::photographs;
use crate::support::pictures::{
    PNG_AFTER_HEADER, astronaut_small, fixture, pixels, plain, png, png_chunk, png_turned, sample, scaled,
};
use crate::support::{Client, Refused, Server, refusal};
use likeness_proto::v1;

/// Sent to everything that takes a photograph; each time it is refused with this reason.
async fn is_refused(what: &str, photo: &[u8], reason: &str) {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let good = astronaut_small();
    client.enroll("staff", "known", &[&good]).await.expect("enrolled");
    let refused = Refused::photo(reason);

    assert_eq!(
        refusal::of(client.enroll("staff", "new", &[photo]).await),
        refused,
        "{what}"
    );
    assert_eq!(
        refusal::of(client.add_faces("staff", "known", &[photo]).await),
        refused,
        "{what}"
    );
    assert_eq!(
        refusal::of(client.search("staff", photo).await),
        refused,
        "{what}"
    );
    assert_eq!(
        refusal::of(client.verify("staff", "known", photo).await),
        refused,
        "{what}"
    );
    assert_eq!(refusal::of(client.compare(&good, photo).await), refused, "{what}");
    assert_eq!(refusal::of(client.compare(photo, &good).await), refused, "{what}");
    assert_detection(&client, what, photo, reason).await;

    let collection = client.collection("staff").await.expect("kept");
    assert_eq!(
        (collection.persons, collection.faces),
        (1, 1),
        "{what}: nothing is kept"
    );
    assert_eq!(
        client.found("staff", &good).await,
        ["known"],
        "{what}: the server goes on"
    );
}

/// A photograph that has no good face is still a photograph: detection says what it sees.
async fn assert_detection(client: &Client, what: &str, photo: &[u8], reason: &str) {
    let detected = client.detect(photo).await;
    match reason {
        "NO_FACE" => assert!(detected.expect(what).faces.is_empty(), "{what}"),
        "FACE_TOO_SMALL" | "LOW_CONFIDENCE" => {
            let faces = detected.expect(what).faces;
            let rejection = faces[0].rejection.as_ref().expect(what);
            assert_eq!(rejection.reason().as_str_name(), reason, "{what}");
            assert!(!rejection.message.is_empty());
        }
        "SEVERAL_FACES" => assert!(detected.expect(what).faces.len() > 1, "{what}"),
        _ => assert_eq!(refusal::of(detected), Refused::photo(reason), "{what}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_without_a_face() {
    is_refused("plain", &png(&plain(320, 240)), "NO_FACE").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_face_that_is_too_small() {
    is_refused("25 px", &png(&scaled("obama.jpg", 120)), "FACE_TOO_SMALL").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn something_that_is_hardly_a_face() {
    let lying = image::imageops::rotate270(&pixels("obama.jpg"));
    // It says that it is upright, and is believed.
    is_refused("on its side", &png_turned(&png(&lying), 1), "LOW_CONFIDENCE").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_picture() {
    is_refused("text", b"this is not a photograph", "UNSUPPORTED_FORMAT").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_of_a_format_that_is_not_taken() {
    is_refused("GIF", &fixture("still.gif"), "UNSUPPORTED_FORMAT").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn animations_and_printing_colours() {
    is_refused("animated PNG", &fixture("animated.png"), "UNSUPPORTED_KIND").await;
    is_refused("animated WebP", &fixture("animated.webp"), "UNSUPPORTED_KIND").await;
    is_refused("CMYK", &fixture("cmyk.jpg"), "UNSUPPORTED_KIND").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_end_early() {
    for name in ["obama.jpg", "astronaut.png"] {
        let whole = sample(name);
        is_refused(name, &whole[..whole.len() / 2], "TRUNCATED").await;
    }
    let webp = fixture("lossy.webp");
    is_refused("WebP", &webp[..webp.len() / 2], "TRUNCATED").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_damaged() {
    let mut damaged = astronaut_small();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 64].fill(0x5A);
    is_refused("PNG", &damaged, "UNDECODABLE").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_too_many_bytes() {
    // A good picture, and 10 MiB of nothing behind its header.
    let good = astronaut_small();
    let (head, tail) = good.split_at(PNG_AFTER_HEADER);
    let padded = [head, &png_chunk(b"juNK", &vec![0; 10 << 20]), tail].concat();
    is_refused("padded", &padded, "TOO_MANY_BYTES").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_of_too_many_pixels_or_of_impossible_sides() {
    is_refused("30,000 x 30,000", &bomb(30_000, 30_000), "TOO_MANY_PIXELS").await;
    is_refused(
        "4 G x 4 G",
        &bomb(i32::MAX as u32, i32::MAX as u32),
        "TOO_MANY_PIXELS",
    )
    .await;
    is_refused("17,000 x 100", &bomb(17_000, 100), "SIDE_TOO_LONG").await;
    is_refused("63 x 300", &png(&plain(63, 300)), "SIDE_TOO_SHORT").await;
}

/// A PNG that says it is this large, with the beginning of as many zeros.
fn bomb(width: u32, height: u32) -> Vec<u8> {
    let mut zeros = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    zeros.write_all(&vec![0; 1 << 20]).unwrap();
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    [
        b"\x89PNG\r\n\x1a\n".to_vec(),
        png_chunk(b"IHDR", &header),
        png_chunk(b"IDAT", &zeros.finish().unwrap()),
        png_chunk(b"IEND", &[]),
    ]
    .concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_grey_has_alpha_or_16_bits_is_taken() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let original = sample("astronaut.png");
    client
        .enroll("staff", "eileen", &[&original])
        .await
        .expect("enrolled");
    let picture = image::load_from_memory(&original).unwrap();
    let kinds = [
        ("grey", picture.to_luma8().into()),
        ("grey with alpha", picture.to_luma_alpha8().into()),
        ("alpha", picture.to_rgba8().into()),
        ("16 bits", picture.to_rgb16().into()),
        ("16 bits with alpha", picture.to_rgba16().into()),
        ("16 bits grey", picture.to_luma16().into()),
    ];
    for (kind, picture) in kinds {
        let picture: image::DynamicImage = picture;
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        assert_eq!(client.found("staff", bytes.get_ref()).await, ["eileen"], "{kind}");
    }
    for format in [image::ImageFormat::WebP, image::ImageFormat::Bmp] {
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).unwrap();
        assert_eq!(
            client.found("staff", bytes.get_ref()).await,
            ["eileen"],
            "{format:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_damage_never_stops_the_server() {
    const ROUNDS: u64 = 60;
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let good = astronaut_small();
    let originals = [
        good.clone(),
        fixture("baseline.jpg"),
        fixture("progressive.jpg"),
        fixture("lossy.webp"),
        fixture("palette.bmp"),
        fixture("palette.png"),
    ];
    // A linear congruential generator: the same bytes in every run.
    let mut state = 0x5EED_u64;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    for round in 0..ROUNDS {
        let mut photo = originals[random(originals.len())].clone();
        for _ in 0..=random(8) {
            let at = random(photo.len());
            photo[at] = u8::try_from(random(256)).unwrap();
        }
        photo.truncate(1 + random(2 * photo.len()).min(photo.len() - 1));
        let request = v1::EnrollPersonRequest {
            collection: "staff".to_owned(),
            person_id: format!("round-{round}"),
            photographs: photographs(&[&photo]),
            ..Default::default()
        };
        if let Err(status) = client.enroll_as(request).await {
            assert_eq!(
                status.code(),
                tonic::Code::InvalidArgument,
                "round {round}: {status:?}"
            );
        }
    }
    client
        .enroll("staff", "good", &[&good])
        .await
        .expect("the server goes on");
}
