//! Deadlines: an abandoned call stops before its next stage, and keeps nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use likeness_proto::v1;
use tonic::{Code, Request};

use crate::support::child::Home;
use crate::support::client::photographs;
use crate::support::pictures::{astronaut_small, sample, tiny};
use crate::support::server::Setup;
use crate::support::{PATIENCE, Refused, refusal};

fn long_request(person_id: &str) -> v1::EnrollPersonRequest {
    let photo = sample("obama.jpg");
    v1::EnrollPersonRequest {
        collection: "staff".to_owned(),
        person_id: person_id.to_owned(),
        photographs: photographs(&[&photo[..]; 20]),
        ..Default::default()
    }
}

/// How long the work of a reply took, without waiting.
fn work(call: Option<v1::CallInfo>) -> Duration {
    let steps = call.expect("a call").steps;
    let micros = steps
        .iter()
        .filter(|step| step.step != "queue")
        .map(|step| step.micros);
    Duration::from_micros(micros.sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_call_stops_before_its_next_stage_and_keeps_nothing() {
    let mut setup = Setup::new();
    setup.config.workers = Some(1);
    let server = setup.start().await;
    let client = server.client().await;
    client.create("staff").await;
    let whole = client.enroll_as(long_request("whole")).await.expect("enrolled");
    let whole = work(whole.call);

    let mut hurried = Request::new(long_request("hurried"));
    hurried.set_timeout(whole / 4);
    let since = Instant::now();
    let expired = client
        .persons
        .clone()
        .enroll_person(hurried)
        .await
        .err()
        .expect("expired");
    assert!(
        matches!(expired.code(), Code::DeadlineExceeded | Code::Cancelled),
        "{expired:?}"
    );
    // Told when the time was up: not before, and not when the work would have been done.
    let told = since.elapsed();
    assert!(
        (whole / 4..whole * 3 / 4).contains(&told),
        "told after {told:?} of {whole:?}"
    );
    // The one worker is free again at once, not when the rest of the photographs are done.
    let next = client
        .detect(&astronaut_small())
        .await
        .expect("the server goes on");
    let steps = next.call.expect("a call").steps;
    let waited = Duration::from_micros(steps[0].micros);
    assert!(
        waited < whole / 4,
        "waited {waited:?} behind an expired call of {whole:?}"
    );
    assert_eq!(
        refusal::of(client.person("staff", "hurried").await),
        Refused::new(Code::NotFound, "PERSON_NOT_FOUND")
    );
    assert_eq!(client.people("staff").await, ["whole"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_outlasts_the_servers_limit_is_told_so() {
    let mut setup = Setup::new();
    (setup.config.workers, setup.config.call_seconds) = (Some(1), 1);
    let server = setup.start().await;
    let client = server.client().await;
    client.create("staff").await;
    let photo = Arc::new(astronaut_small());
    // Together they are more than one worker does in a second: the last are still waiting then. No more are let wait, as
    // far as is known at first of what a photograph takes, than can be done in time.
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..4 {
        let (client, photo) = (client.clone(), Arc::clone(&photo));
        calls.spawn(async move {
            let person_id = format!("person-{number}");
            let since = Instant::now();
            let answer = client.enroll("staff", &person_id, &[&photo[..]; 20]).await;
            (person_id, answer.map(|_| ()), since.elapsed())
        });
    }
    let (kept, late): (Vec<_>, Vec<_>) = calls
        .join_all()
        .await
        .into_iter()
        .partition(|(_, a, _)| a.is_ok());
    assert!(!late.is_empty(), "all of them within a second");
    for (person_id, answer, told) in late {
        // A second, and what a busy machine takes to say so: not when their turn would have come.
        let limit = Duration::from_secs(1)..Duration::from_secs(5);
        assert!(limit.contains(&told), "{person_id} was told after {told:?}");
        let expired = Refused::new(Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
        assert_eq!(refusal::of(answer), expired);
    }
    // What had begun to be stored when its time was up may have been kept, as the contract says; not the rest.
    let people = client.people("staff").await;
    assert!(kept.iter().all(|(person_id, ..)| people.contains(person_id)));
    // One worker hands on one call at a time: no more than the last, and the one before it on a slow disk.
    let begun = people.len() - kept.len();
    assert!(
        begun <= 2,
        "{begun} calls that were told they were late are stored"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_call_has_its_line_in_the_log() {
    let home = Home::new().with(&["--workers", "1"]);
    let server = home.serve();
    let client = server.client().await;
    client.create("staff").await;
    // Small photographs: the call has arrived long before its time is up.
    let mut hurried = Request::new(v1::EnrollPersonRequest {
        photographs: photographs(&[&tiny()[..]; 20]),
        ..long_request("hurried")
    });
    let time = Duration::from_millis(60);
    hurried.set_timeout(time);
    client
        .persons
        .clone()
        .enroll_person(hurried)
        .await
        .err()
        .expect("expired");
    // The line is there when the server has ended.
    drop(client);
    let log = server.stop();
    let mut lines = log.lines().filter(|line| line.contains("EnrollPerson"));
    let line = lines.next().expect("its line");
    assert_eq!(lines.next(), None, "a call has one line");
    // The client may give it up before the server does.
    assert!(
        line.contains("DeadlineExceeded") || line.contains("Cancelled"),
        "{line}"
    );
    // How long it lasted: until its time was up, which began a little earlier for the client.
    let (_, micros) = line.split_once("micros").expect("its duration");
    let digits: String = micros
        .chars()
        .skip_while(|c| !c.is_ascii_digit())
        .take_while(char::is_ascii_digit)
        .collect();
    let lasted = Duration::from_micros(digits.parse().expect("a number"));
    assert!((time / 2..time * 20).contains(&lasted), "{line}");
    assert!(!log.contains("hurried"), "the log names who was to be enrolled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_goes_away_stops_the_work() {
    let mut setup = Setup::new();
    (setup.config.workers, setup.config.queue) = (Some(1), 0);
    let server = setup.start().await;
    let client = server.client().await;
    client.create("staff").await;
    let whole = client.enroll_as(long_request("whole")).await.expect("enrolled");
    let whole = work(whole.call);

    let gone = tokio::spawn({
        let client = client.clone();
        async move {
            let photo = sample("obama.jpg");
            let answer = client.enroll_in_turn("staff", "gone", &[&photo[..]; 20]).await;
            answer.map(|_| ())
        }
    });
    let small = astronaut_small();
    // With no queue, a refusal says that the worker is busy with the call.
    let until = Instant::now() + PATIENCE;
    while client.detect(&small).await.is_ok() {
        assert!(Instant::now() < until, "the call never arrived");
    }
    gone.abort();
    let since = Instant::now();
    while client.detect(&small).await.is_err() {
        assert!(Instant::now() < until, "it never became free");
    }
    assert!(since.elapsed() < whole / 2, "{:?} of {whole:?}", since.elapsed());
    assert_eq!(client.people("staff").await, ["whole"]);
}
