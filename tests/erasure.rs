//! Erased for good, as an operator sees it: receipts, checkpoints, old backups, rotated keys.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::child::{Child, Home, Program, likeness};
use crate::support::{asset, directory};

/// Within this time after an erasure its bytes have left the data files.
const PURGE_TIME_MAX: Duration = Duration::from_secs(5);

fn photo(name: &str) -> String {
    asset(&format!("photographs/{name}")).display().to_string()
}

fn ask(server: &Child, arguments: &[&str]) -> Value {
    let mut all = vec!["--json"];
    all.extend(arguments);
    server.ask(&all).expect(0).json()
}

/// Two people in one collection.
fn enrol_two(server: &Child) {
    ask(server, &["collection", "create", "staff"]);
    ask(
        server,
        &[
            "enroll",
            "staff",
            "barack",
            &photo("obama.jpg"),
            &photo("obama3.jpg"),
        ],
    );
    ask(server, &["enroll", "staff", "eileen", &photo("astronaut.png")]);
}

fn finds(server: &Child, photograph: &str) -> Vec<String> {
    let program = server.ask(&["--json", "search", "staff", &photo(photograph)]);
    assert!([0, 1].contains(&program.code), "{program:?}");
    let matches = program.json()["matches"].clone();
    let matches = matches.as_array().expect("a list").iter();
    matches
        .map(|found| found["person_id"].as_str().expect("a name").to_owned())
        .collect()
}

fn wait_for_purge(server: &Child) {
    let began = Instant::now();
    while ask(server, &["receipt", "status"])["unpurged"] != 0 {
        assert!(began.elapsed() < PURGE_TIME_MAX, "the purge takes too long");
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn verify(log: &Path, checkpoint: &Path) -> Program {
    Program::finish(
        likeness()
            .args(["--json", "receipt", "verify"])
            .arg(log)
            .arg("--checkpoint")
            .arg(checkpoint),
        &[],
    )
}

#[test]
fn of_two_people_one_is_erased_provably_and_an_old_backup_brings_nobody_back() {
    let (home, kept) = (Home::new(), directory());
    let (log, early) = (kept.path().join("log"), kept.path().join("early"));
    let text = |path: &Path| path.display().to_string();

    let server = home.serve();
    enrol_two(&server);
    ask(&server, &["receipt", "status", "--checkpoint", &text(&early)]);
    server.stop();
    copy(&home.data(), &kept.path().join("backup"));

    let server = home.serve();
    let prints = kept.path().join("prints");
    ask(
        &server,
        &[
            "audit",
            "residue",
            "prepare",
            "staff",
            "barack",
            "--out",
            &text(&prints),
        ],
    );
    let scan = || {
        let data = text(&home.data());
        Program::run(&["audit", "residue", "scan", &text(&prints), "--data", &data])
    };
    scan().expect(1);
    let erased = ask(&server, &["delete", "staff", "barack"]);
    assert_eq!(erased["faces_erased"], 2);
    assert!(finds(&server, "obama2.jpg").is_empty());
    assert_eq!(finds(&server, "astronaut.png"), ["eileen"]);
    wait_for_purge(&server);
    scan().expect(0);

    // The receipt is the erased person's, for whoever holds the nonce, and nobody's otherwise.
    let sequence = erased["receipt"]["sequence"].to_string();
    let receipt = ask(&server, &["receipt", "get", &sequence]);
    assert_eq!(
        (&receipt["kind"], &receipt["faces"]),
        (&"ERASED".into(), &2.into())
    );
    let nonce = erased["receipt"]["nonce"].as_str().expect("a nonce");
    let subject = |who: &str| ask(&server, &["receipt", "subject", "staff", who, nonce])["subject"].clone();
    assert_eq!(receipt["subject"], subject("barack"));
    assert_ne!(receipt["subject"], subject("eileen"));

    ask(&server, &["receipt", "export", &text(&log)]);
    let valid = verify(&log, &early).expect(0).json();
    assert_eq!(
        (&valid["erased"], &valid["purged"], &valid["keys_destroyed"]),
        (&1.into(), &1.into(), &1.into())
    );
    server.stop();

    // The backup from before the erasure is put back, as after a lost disk.
    fs::remove_dir_all(home.data()).unwrap();
    copy(&kept.path().join("backup"), &home.data());
    // Its audit log does not know of the residue audit, which must not pass unnoticed.
    let said = home.refused_start().expect(78).stderr;
    assert!(said.contains("--accept-short-audit-log"), "{said}");
    let server = Child::start(home.command().arg("--accept-short-audit-log"));
    let entries = ask(&server, &["audit", "log"])["entries"].clone();
    let last = entries
        .as_array()
        .and_then(|entries| entries.last())
        .expect("an entry");
    assert_eq!(last["act"], "accept-audit-log");
    assert!(finds(&server, "obama2.jpg").is_empty());
    server.ask(&["person", "get", "staff", "barack"]).expect(66);
    assert_eq!(finds(&server, "astronaut.png"), ["eileen"]);
    wait_for_purge(&server);
    ask(&server, &["receipt", "export", &text(&log)]);
    // That it was carried out again is in the log, too.
    assert_eq!(verify(&log, &early).expect(0).json()["erased"], 2);

    // Enrolled anew, the same PersonID is another person to the log, and stays.
    ask(&server, &["enroll", "staff", "barack", &photo("obama.jpg")]);
    server.stop();
    let server = home.serve();
    assert_eq!(finds(&server, "obama2.jpg"), ["barack"]);
    server.stop();
}

#[test]
fn an_edited_or_shortened_log_is_not_valid_and_a_server_that_lost_receipts_refuses_to_start() {
    let (home, kept) = (Home::new(), directory());
    let (log, late) = (kept.path().join("log"), kept.path().join("late"));
    let server = home.serve();
    enrol_two(&server);
    ask(&server, &["delete", "staff", "eileen"]);
    wait_for_purge(&server);
    ask(
        &server,
        &["receipt", "status", "--checkpoint", &late.display().to_string()],
    );
    ask(&server, &["receipt", "export", &log.display().to_string()]);
    server.stop();

    let whole = fs::read(&log).unwrap();
    let mut edited = whole.clone();
    edited[300] ^= 1;
    for bad in [
        edited,
        whole[..whole.len() - 224].to_vec(),
        whole[..100].to_vec(),
        Vec::new(),
    ] {
        fs::write(&log, bad).unwrap();
        assert_eq!(verify(&log, &late).expect(1).json()["valid"], false);
    }

    let local = home.data().join("erasures");
    for file in [&local, &home.keys().join("erasures")] {
        fs::write(file, &whole[..whole.len() - 224]).unwrap();
    }
    let refused = home.refused_start().expect(78).stderr;
    assert!(
        refused.contains("expected at least 3 receipts") && refused.contains("found 2"),
        "{refused}"
    );
    let server = Child::start(home.command().arg("--accept-short-erasure-log"));
    ask(&server, &["receipt", "export", &log.display().to_string()]);
    server.stop();
    let valid = Program::finish(likeness().args(["--json", "receipt", "verify"]).arg(&log), &[])
        .expect(0)
        .json();
    assert_eq!(valid["overrides"], 1);
    home.serve().stop();
}

#[test]
fn keys_are_rotated_while_serving_and_everyone_is_still_there() {
    let home = Home::new();
    let server = home.serve();
    enrol_two(&server);
    let slots = fs::read(home.data().join("slots")).unwrap();
    let rotated = ask(&server, &["key", "rotate", "wrapping"]);
    assert_eq!(
        (&rotated["rewrapped"], &rotated["old_key_destroyed"]),
        // Two people, their collection, an account and its API key.
        (&5.into(), &true.into())
    );
    assert_ne!(fs::read(home.data().join("slots")).unwrap(), slots);
    assert_eq!(finds(&server, "obama2.jpg"), ["barack"]);
    let keys = home.keys().display().to_string();
    let in_use = Program::run(&["key", "rotate", "root", "--keys", &keys]).expect(78);
    assert!(in_use.stderr.contains("alone"), "{in_use:?}");
    server.stop();

    let root = fs::read(home.keys().join("root.key")).unwrap();
    Program::run(&["key", "rotate", "root", "--keys", &keys]).expect(0);
    assert_ne!(fs::read(home.keys().join("root.key")).unwrap(), root);
    let server = home.serve();
    assert_eq!(finds(&server, "astronaut.png"), ["eileen"]);
    server.stop();

    // What was in the slots before opens nothing any more.
    fs::write(home.data().join("slots"), slots).unwrap();
    let refused = home.refused_start().expect(78).stderr;
    assert!(refused.contains("wrapping key"), "{refused}");
}

#[test]
fn the_signing_key_is_rotated_and_the_first_public_key_still_verifies_everything() {
    let (home, kept) = (Home::new(), directory());
    let log = kept.path().join("log");
    let server = home.serve();
    enrol_two(&server);
    ask(&server, &["delete", "staff", "barack"]);
    let rotated = ask(&server, &["key", "rotate", "signing"]);
    ask(&server, &["delete", "staff", "eileen"]);
    wait_for_purge(&server);
    server.stop();
    let server = home.serve();
    let checkpoint = kept.path().join("checkpoint");
    ask(
        &server,
        &[
            "receipt",
            "status",
            "--checkpoint",
            &checkpoint.display().to_string(),
        ],
    );
    ask(&server, &["receipt", "export", &log.display().to_string()]);
    server.stop();
    let valid = verify(&log, &checkpoint).expect(0).json();
    let keys = valid["public_keys"].as_array().expect("a list");
    assert_eq!(
        (keys.len(), &keys[1], &valid["purged"]),
        (2, &rotated["public_key"], &2.into())
    );
    for (key, code) in [(&keys[0], 0), (&keys[1], 1)] {
        let (log, key) = (log.display().to_string(), key.as_str().expect("hex"));
        Program::run(&["receipt", "verify", &log, "--public-key", key]).expect(code);
    }
}

#[test]
fn everyone_of_a_person_id_or_of_a_key_group_can_be_erased_at_once() {
    let home = Home::new();
    let server = home.serve();
    enrol_two(&server);
    ask(&server, &["collection", "create", "visitors"]);
    ask(
        &server,
        &["enroll", "visitors", "eileen", &photo("astronaut.png")],
    );
    let erased = ask(&server, &["person", "erase-everywhere", "eileen"]);
    assert_eq!(erased["erasures"].as_array().expect("a list").len(), 2);
    assert!(finds(&server, "astronaut.png").is_empty());
    assert_eq!(
        ask(&server, &["person", "erase-everywhere", "eileen"])["erasures"],
        Value::Array(Vec::new())
    );

    server.ask(&["key", "destroy-group", "another"]).expect(65);
    assert_eq!(
        ask(&server, &["key", "destroy-group", "default"])["persons_erased"],
        1
    );
    assert_eq!(
        ask(&server, &["collection", "list"])["collections"],
        Value::Array(Vec::new())
    );
    server.ask(&["collection", "create", "staff"]).expect(69);
    wait_for_purge(&server);
    server.stop();
}
