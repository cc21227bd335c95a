//! Two years by the server's own clock, set forth by libfaketime: what is gone then, and what is not.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use likeness_proto::v1;
use likeness_proto::v1::log_service_client::LogServiceClient;

use crate::logs::files;
use crate::support::Client;
use crate::support::child::{Child, Home};
use crate::support::clock;
use crate::support::pictures::sample;

/// A server whose clock is so many days ahead. Its waits are as long as ever.
fn days_ahead(home: &Home, days: u32) -> Child {
    let mut command = home.command();
    clock::shift(&mut command, &format!("+{days}d"));
    Child::start(&mut command)
}

/// The files of a log, and what they take on the disk by the file system's own count.
fn on_disk(data: &Path, class: &str) -> (Vec<PathBuf>, u64) {
    let mut files = files(&data.join("logs").join(class));
    files.sort();
    let blocks = files
        .iter()
        .map(|file| fs::metadata(file).unwrap().blocks() * 512);
    let bytes = blocks.sum();
    (files, bytes)
}

async fn rows(client: &Client) -> usize {
    let request = v1::ListRunningLogRequest {
        collection: "staff".to_owned(),
        person_id: "barack".to_owned(),
        ..Default::default()
    };
    let mut logs = LogServiceClient::new(client.channel.clone());
    let reply = logs.list_running_log(request).await.expect("listed");
    reply.into_inner().rows.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_two_years_operation_log_and_monitoring_data_are_gone_from_the_disk_and_nothing_else_is() {
    let home = Home::new();
    let server = home.serve();
    let client = server.client().await;
    client.create("staff").await;
    let enrolled = client.enroll("staff", "barack", &[&sample("obama.jpg")]).await;
    enrolled.expect("enrolled");
    client.person("staff", "nobody").await.err().expect("nobody");
    drop(client);
    server.stop();
    let today = ["operation", "monitoring"].map(|class| on_disk(&home.data(), class));
    let errors = on_disk(&home.data(), "error");
    assert!(
        today
            .iter()
            .chain([&errors])
            .all(|(files, bytes)| files.len() == 1 && *bytes > 0)
    );

    // The last day but one: everything is still there, and something younger comes.
    let server = days_ahead(&home, 729);
    let client = server.client().await;
    client.person("staff", "barack").await.expect("there");
    drop(client);
    server.stop();
    let younger = ["operation", "monitoring"].map(|class| on_disk(&home.data(), class));
    for ((then, _), (now, _)) in today.iter().zip(&younger) {
        assert_eq!((now.len(), &now[0]), (2, &then[0]), "{now:?}");
    }

    // Two years are over: a start is enough.
    let server = days_ahead(&home, 731);
    let left = ["operation", "monitoring"].map(|class| on_disk(&home.data(), class));
    for ((then, _), (now, bytes)) in younger.iter().zip(&left) {
        assert_eq!(
            now,
            &then[1..],
            "what is older is gone, and what is younger is there"
        );
        assert_eq!(*bytes, fs::metadata(&then[1]).unwrap().blocks() * 512);
    }
    assert_eq!(on_disk(&home.data(), "error"), errors, "that log has no days");
    let client = server.client().await;
    assert_eq!(
        rows(&client).await,
        2,
        "the running log is kept as long as the person"
    );
    drop(client);
    let log = server.stop();
    assert!(!log.contains("ERROR"), "{log}");
}
