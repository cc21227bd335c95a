//! Photographs that lie on their side and say how they lie, rightly or not. Those that say nothing are in
//! `detection.rs`.

use image::imageops::{rotate180, rotate270};

use crate::support::pictures::{jpeg_turned, pixels, png, png_turned, sample};
use crate::support::{Refused, Server, refusal};

/// Upright as it is.
const UPRIGHT: u8 = 1;
/// To be turned by a quarter, clockwise.
const QUARTER: u8 = 6;
/// To be turned by a half.
const HALF: u8 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn a_photograph_that_says_how_it_lies_is_turned_so_and_not_otherwise() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    client
        .enroll("staff", "joe", &[&sample("biden.jpg")])
        .await
        .expect("enrolled");
    let upright = pixels("biden.jpg");
    for (lying, orientation, reason) in [
        (rotate270(&upright), QUARTER, "NO_FACE"),
        (rotate180(&upright), HALF, "LOW_CONFIDENCE"),
    ] {
        let silent = png(&lying);
        let mistaken = png_turned(&silent, UPRIGHT);
        let refused = client.search("staff", &mistaken).await;
        assert_eq!(refusal::of(refused), Refused::photo(reason), "{orientation}");
        let saying = png_turned(&silent, orientation);
        assert_eq!(client.found("staff", &saying).await, ["joe"], "{orientation}");
        let seen = client.detect(&saying).await.expect("detected");
        assert_eq!((seen.width, seen.height), upright.dimensions(), "{orientation}");
        assert_eq!(
            seen.faces[0].rotated_degrees, 0,
            "it was not turned beyond what it says"
        );
        let area = seen.faces[0].r#box.expect("a box");
        // As in the photograph itself: coordinates are those of the upright picture.
        assert!(
            (area.left - 440.0).abs() < 12.0 && (area.top - 181.0).abs() < 12.0,
            "{}, {}",
            area.left,
            area.top
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_orientation_in_a_jpeg_is_obeyed_even_where_it_is_wrong() {
    let server = Server::start().await;
    let client = server.client().await;
    let upright = sample("obama.jpg");
    let seen = client.detect(&upright).await.expect("detected");
    assert_eq!((seen.width, seen.height), (910, 1137));
    let seen = client
        .detect(&jpeg_turned(&upright, QUARTER))
        .await
        .expect("detected");
    assert_eq!((seen.width, seen.height), (1137, 910));
    let refused = client.compare(&upright, &jpeg_turned(&upright, QUARTER)).await;
    assert_eq!(refusal::of(refused), Refused::photo("LOW_CONFIDENCE"));
}
