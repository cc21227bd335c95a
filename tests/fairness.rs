//! One account with more work than the server can do, and the others beside it: each has its share of every stage.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use image::{Rgb, RgbImage};
use likeness_engine::{NewApiKey, Scope};
use likeness_proto::v1;
use likeness_server::config::LimitArgs;
use tokio::task::JoinSet;
use tonic::codegen::http;
use tonic::{Code, Request};
use tonic_types::StatusExt;

use crate::support::pictures::{plain, png, png_turned, tiny};
use crate::support::server::Setup;
use crate::support::{Client, PATIENCE, Refused, Server, refusal};

fn setup(limits: LimitArgs) -> Setup {
    let mut setup = Setup::new();
    setup.config.limits = limits;
    setup
}

/// Connections with calls whose messages never arrive whole.
struct Unfinished(JoinSet<()>, Vec<h2::SendStream<bytes::Bytes>>);

/// As many such calls, with a key of this account that may search and nothing else.
async fn unfinished(server: &Server, account: &str, calls: usize) -> Unfinished {
    const OF_ONE_CONNECTION: usize = 208;
    let key = NewApiKey {
        scopes: [Scope::Search].into_iter().collect(),
        ..NewApiKey::default()
    };
    let key = server.key(account, key).await;
    let mut all = Unfinished(JoinSet::new(), Vec::new());
    while all.1.len() < calls {
        let address = server.url().trim_start_matches("http://").to_owned();
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        all.0.spawn(async move {
            let _ = connection.await;
        });
        for _ in 0..OF_ONE_CONNECTION.min(calls - all.1.len()) {
            let uri = format!("{}/likeness.v1.MatchingService/DetectFaces", server.url());
            let request = http::Request::post(uri)
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .header("authorization", format!("Bearer {}", *key.text()))
                .body(())
                .unwrap();
            let mut ready = client.clone().ready().await.unwrap();
            let (_, mut sending) = ready.send_request(request, false).unwrap();
            // The beginning of a message of 1,000 bytes.
            let begun = [&[0u8, 0, 0, 3, 232][..], &[0; 100]].concat();
            sending.send_data(begun.into(), false).unwrap();
            all.1.push(sending);
        }
    }
    // Until the server has seen them.
    tokio::time::sleep(Duration::from_millis(500)).await;
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_never_arrive_whole_take_the_places_of_no_other_account_and_no_other_key() {
    let server = setup(LimitArgs::GENEROUS).start().await;
    // Connections that are there before, as of a service beside the server.
    let operator = server.client().await;
    let other = server.client_for("other", &[Scope::Search]).await;
    // A key of the operator's own account, without any right over it.
    let sister = server.client_for("default", &[Scope::Search]).await;
    for account in ["flood", "default"] {
        let flood = unfinished(&server, account, 1040).await;
        for client in [&other, &sister] {
            client.detect(&tiny()).await.expect("there is a place");
        }
        operator.create(&format!("during-{account}")).await;
        drop(flood);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_places_are_the_operators() {
    let server = setup(LimitArgs {
        calls: 64,
        ..LimitArgs::GENEROUS
    })
    .start()
    .await;
    let operator = server.client().await;
    let mut floods = Vec::new();
    for account in ["a", "b", "c", "d", "default"] {
        floods.push(unfinished(&server, account, 64).await);
    }
    operator.create("staff").await;
}

/// As many pictures in one call.
async fn enrol(client: &Client, person_id: &str, photo: &[u8], count: usize) -> Result<(), tonic::Status> {
    let mut request = Request::new(v1::EnrollPersonRequest {
        collection: "staff".to_owned(),
        person_id: person_id.to_owned(),
        photographs: vec![v1::Photograph { data: photo.to_vec() }; count],
        ..Default::default()
    });
    request.set_timeout(PATIENCE);
    client.persons.clone().enroll_person(request).await.map(|_| ())
}

/// What calls of another account take, one after the other, until the work of the first is done.
async fn beside(client: &Client, work: &mut JoinSet<Result<(), tonic::Status>>) -> Vec<Duration> {
    let photo = tiny();
    let mut took = Vec::new();
    while !work.is_empty() {
        let began = Instant::now();
        let request = v1::SearchPersonsRequest {
            collections: vec!["staff".to_owned()],
            photograph: Some(v1::Photograph { data: photo.clone() }),
            ..Default::default()
        };
        let mut request = Request::new(request);
        request.set_timeout(PATIENCE);
        let reply = client.matching.clone().search_persons(request).await;
        reply.expect("neither refused nor late");
        took.push(began.elapsed());
        while let Some(done) = work.try_join_next() {
            let refused = done.unwrap().expect_err("there is no face in it");
            assert_eq!(refused.code(), Code::InvalidArgument, "accepted work is finished");
        }
    }
    took.sort();
    took
}

async fn staff_of(server: &Server, account: &str) -> Client {
    let all = [Scope::Admin, Scope::Enrol, Scope::Search];
    let client = server.client_for(account, &all).await;
    client.create("staff").await;
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn two_enrolments_of_twenty_large_pictures_hold_up_no_other_accounts_search() {
    let server = setup(LimitArgs {
        queue_millis: LimitArgs::DEFAULT.queue_millis,
        ..LimitArgs::GENEROUS
    })
    .start()
    .await;
    let (large, other) = (staff_of(&server, "large").await, staff_of(&server, "other").await);
    // Nothing to see, and then something everywhere, which no early look spares.
    let pictures = [
        ("grey", png(&plain(8000, 5000)), 20),
        ("dotted", png(&dotted(4000, 2500)), 6),
    ];
    for (what, photo, count) in pictures {
        let photo = Arc::new(photo);
        let mut work = JoinSet::new();
        let began = Instant::now();
        for number in 0..2 {
            let (large, photo) = (large.clone(), Arc::clone(&photo));
            work.spawn(async move { enrol(&large, &format!("person-{number}"), &photo, count).await });
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        let took = beside(&other, &mut work).await;
        let (middle, worst) = (took[took.len() / 2], took[took.len() - 1]);
        println!(
            "{what}, {} bytes: {:?} for two enrolments of {count}; {} searches beside them, p50 {middle:?}, worst {worst:?}",
            photo.len(),
            began.elapsed(),
            took.len(),
        );
        assert!(took.len() >= 3, "{what}: {took:?}");
        // Generous, for machines that are busy with something else.
        assert!(worst < Duration::from_secs(5), "{what}: {took:?}");
    }
}

/// Dots all over: a small file all the same.
fn dotted(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let dark = x % 100 < 50 && y % 100 < 50;
        Rgb([if dark { 60 } else { 160 }; 3])
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_goes_between_the_photographs_of_an_enrolment_of_its_own_account() {
    let mut setup = setup(LimitArgs::GENEROUS);
    setup.config.workers = Some(1);
    let server = setup.start().await;
    let client = staff_of(&server, "one").await;
    let photo = Arc::new(png(&dotted(1600, 1200)));
    let mut work = JoinSet::new();
    let (enrolling, began) = (client.clone(), Instant::now());
    work.spawn(async move { enrol(&enrolling, "person", &photo, 20).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let took = beside(&client, &mut work).await;
    let all = began.elapsed();
    println!(
        "{all:?} for twenty; {} searches meanwhile, worst {:?}",
        took.len(),
        took[took.len() - 1]
    );
    assert!(took.len() >= 5, "{took:?} of {all:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_over_its_budget_is_told_when_to_come_back_and_no_other_is() {
    let server = setup(LimitArgs {
        megapixels_per_second: 1,
        ..LimitArgs::GENEROUS
    })
    .start()
    .await;
    let large = server.client_for("large", &[Scope::Search]).await;
    let other = server.client_for("other", &[Scope::Search]).await;
    // Of what ten seconds bring it has used four times as much.
    large
        .detect(&png(&plain(8000, 5000)))
        .await
        .expect("not in debt yet");
    let refused = large.detect(&tiny()).await.map(drop).expect_err("in debt");
    let too_much = Refused::new(Code::ResourceExhausted, "TOO_MUCH_WORK");
    assert_eq!(refusal::read(&refused), too_much);
    let details = refused.get_error_details();
    let wait = details
        .retry_info()
        .expect("a RetryInfo")
        .retry_delay
        .expect("a time");
    assert!(
        wait > Duration::from_secs(20) && wait < Duration::from_secs(31),
        "{wait:?}"
    );
    other.detect(&tiny()).await.expect("another account has its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_used_up_is_charged_in_milliseconds() {
    let server = setup(LimitArgs {
        work_millis_per_second: 10,
        ..LimitArgs::GENEROUS
    })
    .start()
    .await;
    let large = server.client_for("large", &[Scope::Search]).await;
    let photo = png(&dotted(8000, 5000));
    let until = Instant::now() + PATIENCE;
    let refused = loop {
        match large.detect(&photo).await {
            Err(refused) => break refused,
            Ok(_) => assert!(Instant::now() < until, "it is never charged"),
        }
    };
    let too_much = Refused::new(Code::ResourceExhausted, "TOO_MUCH_WORK");
    assert_eq!(refusal::read(&refused), too_much);
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_that_flood_with_large_pictures_share_the_workers_with_one_that_does_not() {
    let server = setup(LimitArgs::GENEROUS).start().await;
    let over = Arc::new(AtomicBool::new(false));
    let photo = Arc::new(png(&dotted(2000, 1500)));
    let mut floods = JoinSet::new();
    for account in ["a", "b", "c"] {
        let client = server.client_for(account, &[Scope::Search]).await;
        for _ in 0..2 {
            let (client, photo, over) = (client.clone(), Arc::clone(&photo), Arc::clone(&over));
            floods.spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    client.detect(&photo).await.expect("it may wait");
                }
            });
        }
    }
    let other = server.client_for("other", &[Scope::Search]).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut took = Vec::new();
    for _ in 0..20 {
        let began = Instant::now();
        other.detect(&tiny()).await.expect("never refused");
        took.push(began.elapsed());
    }
    over.store(true, Ordering::Relaxed);
    floods.join_all().await;
    took.sort();
    println!("beside six large calls: p50 {:?}, worst {:?}", took[10], took[19]);
    // Three accounts go before it with one step each, at most.
    assert!(took[10] < Duration::from_secs(2), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a report, no test: run it by name, with --ignored and --nocapture, on a quiet machine"]
async fn what_the_steps_of_the_largest_pictures_take() {
    let server = setup(LimitArgs::GENEROUS).start().await;
    let client = server.client().await;
    let grey = plain(8000, 5000);
    let pictures = [
        ("grey PNG", png(&grey)),
        ("grey PNG, to be turned", png_turned(&png(&grey), 6)),
        ("dotted PNG", png(&dotted(8000, 5000))),
        ("noisy JPEG", jpeg(&noisy(8000, 5000), false)),
        ("the same, progressive", jpeg(&noisy(8000, 5000), true)),
    ];
    for (what, photo) in pictures {
        let mut best: Vec<(String, u64)> = Vec::new();
        for _ in 0..5 {
            let steps = client
                .detect(&photo)
                .await
                .expect("detected")
                .call
                .expect("a call")
                .steps;
            for step in steps.into_iter().filter(|step| step.step != "queue") {
                match best.iter_mut().find(|(name, _)| *name == step.step) {
                    Some((_, least)) => *least = step.micros.min(*least),
                    None => best.push((step.step, step.micros)),
                }
            }
        }
        println!(
            "{what}, {} bytes, best of five in microseconds: {best:?}",
            photo.len()
        );
    }
}

/// Something everywhere, and as many bytes as one photograph may have, nearly.
fn noisy(width: u32, height: u32) -> RgbImage {
    let mut state = 7_u32;
    RgbImage::from_fn(width, height, |x, y| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let shade = 60 + (x / 40 + y / 40) % 100;
        Rgb([u8::try_from(shade + (state >> 28)).unwrap(); 3])
    })
}

fn jpeg(picture: &RgbImage, progressive: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let [width, height] = [picture.width(), picture.height()].map(|side| u16::try_from(side).unwrap());
    let mut encoder = jpeg_encoder::Encoder::new(&mut bytes, 75);
    encoder.set_progressive(progressive);
    encoder
        .encode(picture.as_raw(), width, height, jpeg_encoder::ColorType::Rgb)
        .unwrap();
    bytes
}
