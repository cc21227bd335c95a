//! A data directory that an earlier program of this format wrote, with every kind of row: every later program opens it and
//! answers as that one did. `scripts/format-fixture.py` wrote it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::support::checkout;
use crate::support::child::{Child, Home, KEY, Program};
use crate::support::clock;

fn fixture() -> PathBuf {
    checkout().join("engine/store/fixtures/format-3-full")
}

fn json(file: &str) -> Value {
    let text = fs::read_to_string(fixture().join(file)).expect("it is there");
    serde_json::from_str(&text).expect("JSON")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("listed") {
        let entry = entry.expect("listed");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}

/// A copy of the fixture, shown with the operator's key.
fn home() -> Home {
    let home = Home::keyed(text(&json("api-keys.json")["key"]));
    copy(&fixture().join("keys"), &home.keys());
    copy(&fixture().join("data"), &home.data());
    let root = home.keys().join("root.key");
    fs::set_permissions(root, fs::Permissions::from_mode(0o600)).expect("restricted");
    home
}

/// A server that takes it to be an hour after the fixture was written: no row is past its time yet.
fn serve_then(home: &Home) -> Child {
    let written = json("expected.json")["written"].as_u64().expect("seconds");
    let then = UNIX_EPOCH + Duration::from_secs(written + 3600);
    let ago = SystemTime::now().duration_since(then).unwrap_or_default();
    let mut command = home.command();
    clock::shift(&mut command, &format!("-{}s", ago.as_secs()));
    Child::start(&mut command)
}

/// Whether `actual` has all that `expected` has: further fields and rows are allowed, and counts only grow.
fn has(actual: &Value, expected: &Value) -> bool {
    match (actual, expected) {
        (Value::Object(actual), Value::Object(expected)) => expected
            .iter()
            .all(|(name, value)| actual.get(name).is_some_and(|actual| has(actual, value))),
        (Value::Array(actual), Value::Array(expected)) => expected
            .iter()
            .all(|value| actual.iter().any(|actual| has(actual, value))),
        _ => actual == expected,
    }
}

/// The rows of a reply about usage, whose counts grow with every call.
fn usage_grew(actual: &Value, expected: &Value) -> bool {
    let rows = |value: &Value| value["usage"].as_array().expect("rows").clone();
    let same = |a: &Value, b: &Value| {
        ["account", "day", "interface"]
            .iter()
            .all(|name| a[*name] == b[*name])
    };
    let count = |row: &Value, name: &str| row[name].as_u64().expect("a count");
    let actual = rows(actual);
    rows(expected).iter().all(|old| {
        let row = actual.iter().find(|row| same(row, old));
        row.is_some_and(|row| {
            ["calls", "billed", "errors"]
                .iter()
                .all(|name| count(row, name) >= count(old, name))
        })
    })
}

fn objects(said: &str) -> Vec<Value> {
    match serde_json::from_str(said) {
        Ok(object) => vec![object],
        Err(_) => said
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect(),
    }
}

#[test]
fn every_row_is_answered_as_the_program_did_that_wrote_it() {
    let home = home();
    let server = serve_then(&home);
    let (api_keys, expected) = (json("api-keys.json"), json("expected.json"));
    let answers = expected["answers"].as_array().expect("answers");
    assert_eq!(answers.len(), 18);
    for answer in answers {
        let command: Vec<&str> = answer["command"]
            .as_array()
            .expect("words")
            .iter()
            .map(text)
            .collect();
        let mut asking = server.asking();
        asking.env(KEY, text(&api_keys[text(&answer["key"])]));
        asking.args(&command).arg("--json");
        let said = Program::finish(&mut asking, &[]).expect(0);
        let actual = Value::Array(objects(&said.stdout));
        let holds = match command[..2] {
            ["log", "usage"] => usage_grew(&actual[0], &answer["answer"][0]),
            _ => has(&actual, &answer["answer"]),
        };
        assert!(
            holds,
            "{command:?}: expected {}, received {actual}",
            answer["answer"]
        );
    }
    server.stop();
}

#[test]
fn a_revoked_key_stays_revoked_and_every_receipt_is_verified() {
    let home = home();
    let server = serve_then(&home);
    let (api_keys, expected) = (json("api-keys.json"), json("expected.json"));
    let mut revoked = server.asking();
    revoked.env(KEY, text(&api_keys["revoked"]));
    revoked.args(["collection", "list"]);
    Program::finish(&mut revoked, &[]).expect(77);

    let file = home.path().join("receipts.log");
    let path = file.to_str().expect("text");
    server.ask(&["receipt", "export", path]).expect(0);
    let (now, then) = (
        fs::read(&file).unwrap(),
        fs::read(fixture().join("receipts.log")).unwrap(),
    );
    assert!(now.starts_with(&then), "no receipt changed");
    let public_key = text(&expected["public_key"]);
    let verified = server.ask(&["receipt", "verify", path, "--public-key", public_key, "--json"]);
    assert_eq!(verified.expect(0).json()["valid"], true);
    server.stop();
}

#[test]
fn it_is_written_today_and_opens_again() {
    let home = home();
    for round in ["one", "two"] {
        let server = home.serve();
        server.ask(&["collection", "create", round]).expect(0);
        server.ask(&["person", "get", "staff", "bob-renamed"]).expect(0);
        server.ask(&["person", "get", "staff", "eve"]).expect(66);
        server
            .ask(&["delete", "crowd", &format!("crowd-{}", round.len())])
            .expect(if round == "one" { 0 } else { 66 });
        server.stop();
    }
}
