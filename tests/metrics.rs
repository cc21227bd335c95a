//! What a scrape of the metrics shows.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::net::TcpStream;

use likeness_proto::credential::Credential;

use crate::logs::lines;
use crate::support::checkout;
use crate::support::child::{Child, Home};
use crate::support::client::Client;
use crate::support::pictures::sample;

fn server(home: &Home) -> Child {
    Child::start(home.command().args(["--metrics", "127.0.0.1:0"]))
}

/// The value of a series, labels and all.
fn value(metrics: &str, series: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series));
    let value = line.and_then(|rest| rest.strip_prefix(' '));
    value
        .unwrap_or_else(|| panic!("no {series} in {metrics}"))
        .parse()
        .expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_shows_calls_by_how_they_ended_and_how_full_the_server_is() {
    let home = Home::new().with(&["--running-log-warning-mb", "7"]);
    let server = server(&home);
    let client = server.client().await;
    client.create("staff").await;
    client
        .enroll("staff", "barack", &[&sample("obama.jpg"), &sample("obama3.jpg")])
        .await
        .expect("enrolled");
    for _ in 0..3 {
        client.person("staff", "barack").await.expect("there");
    }
    client.person("staff", "nobody").await.err().expect("nobody");
    let stranger = Client::connect(&server.url, Credential::default()).await;
    for _ in 0..2 {
        stranger.person("staff", "barack").await.err().expect("no key");
    }
    client.delete("staff", "barack").await.expect("erased");
    let metrics = server.scraped();
    let is = |series: &str, expected: f64| assert_eq!(value(&metrics, series), expected, "{series}");
    is("likeness_calls_total{interface=\"GetPerson\",code=\"OK\"}", 3.0);
    is(
        "likeness_calls_total{interface=\"GetPerson\",code=\"NOT_FOUND\"}",
        1.0,
    );
    is("likeness_refused_calls_total{reason=\"PERSON_NOT_FOUND\"}", 1.0);
    is("likeness_call_seconds_count{interface=\"EnrollPerson\"}", 1.0);
    is(
        "likeness_call_seconds_bucket{interface=\"EnrollPerson\",le=\"60\"}",
        1.0,
    );
    is("likeness_turned_away_calls_total{reason=\"KEY_REQUIRED\"}", 2.0);
    is("likeness_waiting_calls{gate=\"compute\"}", 0.0);
    is("likeness_open_calls", 0.0);
    is("likeness_connections", 2.0);
    is("likeness_connections_max", 1024.0);
    is("likeness_collections", 1.0);
    is("likeness_persons", 0.0);
    is("likeness_running_log_warning_bytes", 7e6);
    is("likeness_running_log_lost_rows_total", 0.0);
    is("likeness_withheld_recognitions_total", 0.0);
    is("likeness_withheld_duplicates_total", 0.0);
    is("likeness_limited_comparisons_total", 0.0);
    is("likeness_logs_lost_calls_total", 0.0);
    for class in [
        "deleted_records",
        "expired_persons",
        "idempotency_tokens",
        "operation_log",
        "monitoring_data",
    ] {
        let series = format!("likeness_retention_overdue_seconds{{class=\"{class}\"}}");
        assert!(value(&metrics, &series) < 60.0, "{class} is swept");
    }
    assert!(value(&metrics, "likeness_running_log_bytes") > 0.0);
    assert!(!metrics.contains("barack") && !metrics.contains("staff") && !metrics.contains("default"));
    drop((client, stranger));
    server.stop();
    let refused = lines(&home.data(), "error");
    let refused = refused.iter().find(|line| line["reason"] == "KEY_REQUIRED");
    let refused = refused.expect("whoever has no key is in the error log");
    assert_eq!(
        (&refused["calls"], &refused["success"]),
        (&2.into(), &false.into())
    );
    assert_eq!(
        (&refused["code"], &refused["upstream"]),
        (&"UNAUTHENTICATED".into(), &"loopback".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_on_metrics_names_every_metric_and_no_other() {
    let home = Home::new();
    let server = server(&home);
    let client = server.client().await;
    client.create("staff").await;
    client.person("staff", "barack").await.err().expect("nobody");
    let stranger = Client::connect(&server.url, Credential::default()).await;
    stranger.person("staff", "barack").await.err().expect("no key");
    let shown: BTreeSet<_> = server
        .scraped()
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split(' ').next().map(str::to_owned))
        .collect();
    let page = fs::read_to_string(checkout().join("docs/metrics.md")).expect("a page");
    let word = |c: char| !c.is_ascii_alphanumeric() && c != '_';
    let named: BTreeSet<_> = page
        .split(word)
        .filter(|word| word.starts_with("likeness_"))
        // A histogram is three metrics in a query.
        .map(|word| word.trim_end_matches("_bucket").to_owned())
        .collect();
    assert_eq!(named, shown);
}

#[test]
fn metrics_are_shown_where_they_are_wanted_and_nowhere_else() {
    let home = Home::new();
    let wide = home
        .command()
        .args(["--metrics", "0.0.0.0:0"])
        .output()
        .expect("it runs");
    assert_eq!(wide.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&wide.stderr).contains("--metrics-off-loopback"));
    let told = ["--metrics", "0.0.0.0:0", "--metrics-off-loopback"];
    let server = Child::start(home.command().args(told));
    assert!(server.metrics.starts_with("http://0.0.0.0:"));
    server.stop();
    let server = home.serve();
    assert_eq!(server.metrics, "");
    server.stop();
}

#[test]
fn whoever_asks_otherwise_is_refused_and_whoever_stands_still_keeps_nobody_out() {
    let home = Home::new();
    let server = server(&home);
    assert!(server.scrape("GET /").0.starts_with("HTTP/1.1 404 "));
    assert!(server.scrape("POST /metrics").0.starts_with("HTTP/1.1 405 "));
    let address = server.metrics.strip_prefix("http://").expect("an address");
    let address = address.strip_suffix("/metrics").expect("a path");
    let mut idle: Vec<_> = (0..8)
        .map(|_| TcpStream::connect(address).expect("it listens"))
        .collect();
    idle[0].write_all(b"GET /metr").expect("it reads");
    server.scraped();
    drop(idle);
    server.stop();
}
