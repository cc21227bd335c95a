//! What each command answers, to people and to scripts.

use std::fs;

use serde_json::Value;

use crate::cli::photo;
use crate::support::child::{Child, Home};
use crate::support::directory;
use crate::support::pictures::{montage, png, scaled};

/// Runs a command twice: for people and for scripts. The second may differ in what it finds.
fn both(server: &Child, arguments: &[&str], code: i32) -> (String, Value) {
    let words = server.ask(arguments).expect(code).stdout;
    let json = server.ask(&[&["--json"], arguments].concat()).expect(code).json();
    (words, json)
}

fn assert_call(json: &Value) {
    assert_eq!(
        json["call"]["request_id"].as_str().map(str::len),
        Some(32),
        "{json}"
    );
    assert!(json["call"]["scheme"].is_string(), "{json}");
    assert!(json["call"]["step_micros"].is_object(), "{json}");
}
#[test]
fn collections_are_made_shown_changed_and_erased() {
    let home = Home::new();
    let server = home.serve();
    let arguments = [
        "collection",
        "create",
        "staff",
        "--bits",
        "512",
        "--threshold",
        "0.5",
    ];
    let made = server.ask(&arguments).expect(0).stdout;
    assert!(
        made.contains("staff") && made.contains("512 bits") && made.contains("0.500"),
        "{made}"
    );
    let taken = server
        .ask(&["--json", "collection", "create", "staff"])
        .expect(73)
        .json();
    assert_eq!(taken["error"]["reason"], "COLLECTION_EXISTS");
    assert_eq!(taken["error"]["grpc_code"], "AlreadyExists");
    assert_eq!(taken["error"]["request_id"].as_str().map(str::len), Some(32));
    server.ask(&["collection", "create", "visitors"]).expect(0);

    let (words, json) = both(&server, &["collection", "get", "staff"], 0);
    assert!(words.contains("0 people, 0 faces"), "{words}");
    assert_call(&json);
    assert_eq!(json["collection"]["bits"], 512);
    let (words, json) = both(&server, &["collection", "list"], 0);
    assert_eq!(words.lines().count(), 2);
    assert_eq!(json["collections"][1]["name"], "visitors");
    let (_, json) = both(
        &server,
        &["collection", "update", "staff", "--faces-per-person", "3"],
        0,
    );
    assert_eq!(json["collection"]["faces_per_person_max"], 3);
    assert_eq!(json["collection"]["threshold"], 0.5);
    let gone = server.ask(&["collection", "delete", "staff"]).expect(0).stdout;
    assert!(
        gone.contains("erased staff and 0 people\n  receipt ") && gone.contains(", nonce "),
        "{gone}"
    );
    let gone = server
        .ask(&["--json", "collection", "delete", "visitors"])
        .expect(0)
        .json();
    assert_eq!(gone["persons_erased"], 0);
    // The nonce shows that the receipt is this collection's.
    let receipt = &gone["receipts"][0];
    let (sequence, nonce) = (
        receipt["sequence"].to_string(),
        receipt["nonce"].as_str().expect("a nonce"),
    );
    let logged = server.ask(&["--json", "receipt", "get", &sequence]).expect(0);
    let subject = server.ask(&["--json", "receipt", "subject", "visitors", "", nonce]);
    assert_eq!(logged.json()["subject"], subject.expect(0).json()["subject"]);
    server.ask(&["collection", "get", "staff"]).expect(66);
}

#[test]
fn people_are_enrolled_shown_changed_and_erased() {
    let home = Home::new();
    let server = home.serve();
    server.ask(&["collection", "create", "staff"]).expect(0);
    let (obama, obama3) = (photo("obama.jpg"), photo("obama3.jpg"));
    let enrolled = server.ask(&[
        "--json",
        "enroll",
        "staff",
        "barack",
        &obama,
        &obama3,
        "--name",
        "Barack Obama",
        "--tag",
        "president",
        "--consent",
        "door access",
    ]);
    let json = enrolled.expect(0).json();
    assert_call(&json);
    assert_eq!(
        json["person"]["faces"].as_array().map(Vec::len),
        Some(2),
        "{json}"
    );
    let words = server
        .ask(&["enroll", "staff", "joe", &photo("biden.jpg")])
        .expect(0)
        .stdout;
    assert!(words.contains("joe"), "{words}");

    let (words, json) = both(&server, &["person", "get", "staff", "barack"], 0);
    assert!(
        words.contains("Barack Obama") && words.contains("door access"),
        "{words}"
    );
    assert_eq!(json["person"]["tags"][0], "president");
    assert_eq!(json["person"]["consent"]["of_age_or_parental"], true);
    let (words, json) = both(&server, &["person", "list", "staff"], 0);
    assert!(words.contains("barack") && words.contains("joe"), "{words}");
    assert_eq!(json["persons"].as_array().map(Vec::len), Some(2), "{json}");
    let (_, json) = both(&server, &["person", "list", "staff", "--most", "1"], 0);
    assert_eq!(json["persons"].as_array().map(Vec::len), Some(1), "{json}");

    let (_, json) = both(
        &server,
        &[
            "person",
            "update",
            "staff",
            "joe",
            "--name",
            "Joe Biden",
            "--tag",
            "vice",
        ],
        0,
    );
    assert_eq!(
        (&json["person"]["name"], &json["person"]["tags"][0]),
        (&"Joe Biden".into(), &"vice".into())
    );
    let (_, json) = both(&server, &["person", "update", "staff", "joe", "--no-tags"], 0);
    assert_eq!(json["person"]["tags"].as_array().map(Vec::len), Some(0));
    assert_eq!(json["person"]["name"], "Joe Biden");

    let added = server.ask(&[
        "--json",
        "person",
        "add-faces",
        "staff",
        "barack",
        &photo("obama2.jpg"),
    ]);
    let json = added.expect(0).json();
    let faces = json["person"]["faces"].as_array().expect("faces");
    assert_eq!(faces.len(), 3);
    let ids: Vec<_> = faces
        .iter()
        .map(|face| face["face_id"].as_str().expect("an id"))
        .collect();
    server
        .ask(&["person", "delete-faces", "staff", "barack", ids[0]])
        .expect(0);
    let json = server
        .ask(&["--json", "person", "delete-faces", "staff", "barack", ids[1]])
        .expect(0)
        .json();
    assert_eq!(json["person"]["faces"].as_array().map(Vec::len), Some(1));
    let last = server
        .ask(&["person", "delete-faces", "staff", "barack", ids[2]])
        .expect(65);
    assert!(
        last.stderr.contains("delete the person instead [LAST_FACE]"),
        "{last:?}"
    );

    let words = server.ask(&["delete", "staff", "joe"]).expect(0).stdout;
    assert!(
        words.contains("erased joe from staff: 1 face; receipt "),
        "{words}"
    );
    let json = server
        .ask(&["--json", "delete", "staff", "barack"])
        .expect(0)
        .json();
    assert_eq!(json["faces_erased"], 1);
    assert_call(&json);
    for command in [
        &["person", "get", "staff", "joe"][..],
        &["delete", "staff", "joe"],
    ] {
        server.ask(command).expect(66);
    }
}

#[test]
fn people_are_kept_for_a_time_copied_renamed_exported_and_erased_by_a_list() {
    let home = Home::new();
    let server = home.serve();
    for name in ["staff", "visitors"] {
        server.ask(&["collection", "create", name]).expect(0);
    }
    let obama = photo("obama.jpg");
    let enroll = ["enroll", "staff", "barack", &obama, "--expires", "30d"];
    let consent = ["--consent", "door access", "--consent-given", "2026-01-02"];
    server.ask(&[&enroll[..], &consent].concat()).expect(0);
    let (words, json) = both(&server, &["person", "get", "staff", "barack"], 0);
    assert!(words.contains("  expires 2"), "{words}");
    assert_eq!(json["person"]["consent"]["given"], "2026-01-02T00:00:00Z");
    let past = server.ask(&["person", "update", "staff", "barack", "--expires", "1999-01-01"]);
    assert!(past.expect(65).stderr.contains("expires"));
    let never = server.ask(&["--json", "person", "update", "staff", "barack", "--never-expires"]);
    assert!(never.expect(0).json()["person"]["expires"].is_null());
    let dated = [
        "person",
        "update",
        "staff",
        "barack",
        "--expires",
        "2099-01-01",
        "--consent",
        "lunch",
    ];
    let (words, json) = both(&server, &dated, 0);
    assert!(words.contains("consent: lunch"), "{words}");
    assert_eq!(json["person"]["expires"], "2099-01-01T00:00:00Z");

    let copied = server.ask(&["person", "copy", "staff", "barack", "--to", "visitors"]);
    assert!(copied.expect(0).stdout.contains("expires 2099"));
    let copied = server.ask(&[
        "--json", "person", "copy", "staff", "barack", "--to", "staff", "--as", "b2",
    ]);
    assert_eq!(copied.expect(0).json()["person"]["person_id"], "b2");
    server
        .ask(&[
            "person", "copy", "staff", "b2", "--to", "visitors", "--as", "barack",
        ])
        .expect(73);
    let renamed = server.ask(&["--json", "person", "rename", "staff", "b2", "obama"]);
    assert_eq!(renamed.expect(0).json()["person"]["person_id"], "obama");
    server.ask(&["person", "get", "staff", "b2"]).expect(66);

    let (words, json) = both(&server, &["person", "export", "barack"], 0);
    assert!(
        words.contains("in visitors, as ") && words.contains("128 bytes of template"),
        "{words}"
    );
    assert_call(&json);
    assert_eq!(json["persons"].as_array().map(Vec::len), Some(2));
    assert_eq!(json["persons"][0]["person"]["consent"]["purpose"], "lunch");
    let (words, _) = both(&server, &["person", "export", "nobody"], 0);
    assert_eq!(words, "nothing is kept under nobody\n");

    let (words, json) = both(&server, &["consent", "list", "staff"], 0);
    assert!(words.contains("obama: lunch, given "), "{words}");
    assert_eq!(json["consents"].as_array().map(Vec::len), Some(2));
    let withdrawn = server
        .ask(&["consent", "withdraw", "visitors", "barack"])
        .expect(0)
        .stdout;
    assert!(
        withdrawn.contains("erased barack from visitors: 1 face; receipt "),
        "{withdrawn}"
    );
    server
        .ask(&["consent", "withdraw", "visitors", "barack"])
        .expect(66);

    let list = home.path().join("list.txt");
    fs::write(&list, "barack\n\nobama\nnobody\n").unwrap();
    let list = list.display().to_string();
    let words = server.ask(&["delete", "staff", "--from", &list]).expect(1).stdout;
    assert!(
        words.contains("erased obama from staff: 1 face; receipt "),
        "{words}"
    );
    assert!(
        words.contains("[PERSON_NOT_FOUND]") && words.ends_with("2 of 3 people erased\n"),
        "{words}"
    );
    let json = server
        .ask(&["--json", "delete", "staff", "--from", &list])
        .expect(1)
        .json();
    assert_eq!((&json["erased"], &json["asked"]), (&0.into(), &3.into()));
    assert_eq!(json["items"][0]["refused"]["reason"], "PERSON_NOT_FOUND");
    fs::write(&list, "\n").unwrap();
    let words = server.ask(&["delete", "staff", "--from", &list]).expect(0).stdout;
    assert_eq!(words, "0 of 0 people erased\n");
    server
        .ask(&["delete", "staff", "--from", "no-such-file"])
        .expect(66);
}

#[test]
fn matching_says_whether_what_was_asked_is_so() {
    let home = Home::new();
    let server = home.serve();
    server.ask(&["collection", "create", "staff"]).expect(0);
    let (obama, obama2, biden) = (photo("obama.jpg"), photo("obama2.jpg"), photo("biden.jpg"));
    server
        .ask(&["enroll", "staff", "barack", &obama, "--name", "Barack Obama"])
        .expect(0);

    let (words, json) = both(&server, &["search", "staff", &obama2], 0);
    assert!(words.contains("barack  Barack Obama"), "{words}");
    assert_call(&json);
    assert_eq!(json["matches"][0]["person_id"], "barack");
    assert!(
        json["matches"][0]["similarity"].as_f64().is_some_and(|s| s > 0.6),
        "{json}"
    );
    assert!(words.contains("  score ~"), "{words}");
    let estimate = &json["matches"][0]["estimate"];
    assert!(
        estimate["score"].as_f64().is_some_and(|score| score > 90.0),
        "{json}"
    );
    assert!(estimate["far"].is_f64() && estimate["fpir"].is_f64() && estimate["extrapolated"] == true);
    assert_eq!(json["faces_searched"], 1);
    let (words, json) = both(&server, &["search", "staff", &biden], 1);
    assert!(
        words.contains("nobody at or above 0.411 among 1 face\n"),
        "{words}"
    );
    assert_eq!(json["matches"].as_array().map(Vec::len), Some(0));
    both(
        &server,
        &["search", "staff", &obama2, "--threshold", "0.99", "--top", "1"],
        1,
    );

    for limit in [["--score", "60"], ["--max-far", "1e-4"], ["--max-fpir", "1e-4"]] {
        let (_, json) = both(&server, &[&["search", "staff", &obama2], &limit[..]].concat(), 0);
        assert!(
            (json["threshold"].as_f64().expect("a number") - 0.418).abs() < 1e-3,
            "{json}"
        );
    }

    let (words, json) = both(
        &server,
        &["verify", "staff", "barack", &obama2, "--score", "60"],
        0,
    );
    assert!(words.starts_with("the same person"), "{words}");
    assert_eq!(json["same_person"], true);
    let (words, json) = both(&server, &["verify", "staff", "barack", &biden], 1);
    assert!(words.starts_with("not the same person"), "{words}");
    assert_eq!(json["same_person"], false);

    let (_, json) = both(&server, &["compare", &obama, &obama2, "--max-far", "1e-3"], 0);
    assert!(json["estimate"]["score"].is_f64() && json["estimate"]["fpir"].is_null());
    assert_call(&json);
    assert!(
        json["first"]["points"]
            .as_array()
            .is_some_and(|points| points.len() == 5),
        "{json}"
    );
    both(&server, &["compare", &obama, &biden], 1);

    let (words, json) = both(&server, &["detect", &obama], 0);
    assert!(words.contains("910 x 1137 px, 1 face\n"), "{words}");
    assert_eq!(json["faces"].as_array().map(Vec::len), Some(1));
    assert!(json["faces"][0]["rejection"].is_null());
}

#[test]
fn checks_at_enrolment_say_who_is_enrolled_already_and_who_is_a_stranger() {
    let home = Home::new();
    let server = home.serve();
    server.ask(&["collection", "create", "staff"]).expect(0);
    let (obama, obama2, biden) = (photo("obama.jpg"), photo("obama2.jpg"), photo("biden.jpg"));
    let mixed = [
        "enroll",
        "staff",
        "barack",
        &obama,
        &biden,
        "--own-person",
        "--mirror",
    ];
    let enrolled = server.ask(&mixed).expect(0).stdout;
    assert!(enrolled.contains("rejected, NOT_THE_PERSON"), "{enrolled}");

    let again = ["enroll", "staff", "b44", &obama2, "--duplicate-strictness", "2"];
    let (words, json) = both(&server, &again, 1);
    assert!(
        words.starts_with("enrolled already: 0.") && words.ends_with("nothing was kept\n"),
        "{words}"
    );
    assert!(json["person"].is_null(), "{json}");
    assert_eq!(json["duplicates"][0]["person_id"], "barack");
    server.ask(&["person", "get", "staff", "b44"]).expect(66);
    let own = [
        "--json",
        "person",
        "add-faces",
        "staff",
        "barack",
        &obama2,
        "--own-person",
    ];
    let json = server.ask(&own).expect(0).json();
    assert!(json["outcomes"][0]["own_estimate"]["score"].is_f64(), "{json}");
    server
        .ask(&["enroll", "staff", "x", &biden, "--duplicate-strictness", "5"])
        .expect(64);
}

#[test]
fn every_face_is_searched_for_in_several_collections_among_those_who_pass() {
    let home = Home::new();
    let server = home.serve();
    let files = directory();
    let group = files.path().join("group.png").display().to_string();
    let pictures = [scaled("obama2.jpg", 300), scaled("biden.jpg", 300)];
    fs::write(&group, png(&montage(&pictures))).unwrap();
    let (obama, obama3) = (photo("obama.jpg"), photo("obama3.jpg"));
    for collection in ["staff", "visitors"] {
        server.ask(&["collection", "create", collection]).expect(0);
    }
    server
        .ask(&["enroll", "staff", "barack", &obama, &obama3, "--tag", "day"])
        .expect(0);
    server.ask(&["enroll", "visitors", "bo", &obama3]).expect(0);

    let (words, json) = both(
        &server,
        &[
            "search",
            "staff,visitors",
            &group,
            "--face",
            "all",
            "--per",
            "person",
        ],
        0,
    );
    let blocks: Vec<_> = words.split("face at ").skip(1).collect();
    assert_eq!(blocks.len(), 2, "{words}");
    for (block, lines) in blocks.iter().zip([2, 1]) {
        assert!(
            block.lines().skip(1).all(|line| line.starts_with("  ")),
            "{words}"
        );
        let found = block.lines().skip(1).filter(|line| line.contains("  0.")).count();
        assert!(found == lines || block.contains("nobody at or above"), "{words}");
    }
    assert!(
        words.contains("staff  0.") && words.contains("visitors  0."),
        "{words}"
    );
    assert_call(&json);
    assert_eq!(json["results"].as_array().map(Vec::len), Some(2), "{json}");
    assert_eq!(json["faces_searched"], 3);
    assert!(json["rejected"].is_array(), "{json}");

    let obama2 = photo("obama2.jpg");
    let two = "staff,visitors";
    for (filter, found) in [
        (&["--tag", "day"][..], &["barack"][..]),
        (&["--tag", "day", "--tag", "night", "--all-tags"], &[]),
        (&["--person", "bo", "--person", "nobody"], &["bo"]),
        (&["--person", "bo", "--exact"], &["bo"]),
    ] {
        let asked = [&["--json", "search", two, &obama2], filter].concat();
        let json = server.ask(&asked).expect(i32::from(found.is_empty())).json();
        let matches = json["matches"].as_array().expect("matches");
        let people: Vec<_> = matches.iter().map(|m| m["person_id"].as_str().unwrap()).collect();
        assert_eq!(people, found, "{filter:?}");
    }
    let missing = server.ask(&["search", "staff,guests", &obama2]).expect(66);
    assert!(missing.stderr.contains("collections[1]"), "{missing:?}");
    server
        .ask(&["verify", "staff", "barack", &obama2, "--per", "person"])
        .expect(0);
}

#[test]
fn who_is_enrolled_twice_is_listed() {
    let home = Home::new();
    let server = home.serve();
    server.ask(&["collection", "create", "staff"]).expect(0);
    let twice = [
        ("barack", "obama.jpg"),
        ("bo", "obama2.jpg"),
        ("joe", "biden.jpg"),
    ];
    for (person_id, name) in twice {
        server
            .ask(&["enroll", "staff", person_id, &photo(name)])
            .expect(0);
    }
    let (words, json) = both(&server, &["duplicates", "staff", "--max-far", "1e-4"], 0);
    assert!(words.contains("barack") && words.contains("bo"), "{words}");
    assert!(
        words.contains("3 of 3 people compared with everybody; 1 pair"),
        "{words}"
    );
    assert_eq!(json["pairs"].as_array().map(Vec::len), Some(1), "{json}");
    assert_eq!((&json["done"], &json["cursor"]), (&3.into(), &"".into()));
    server
        .ask(&["duplicates", "staff", "--resume", "no cursor"])
        .expect(65);
    server.ask(&["duplicates", "guests"]).expect(66);
}
