//! Data directories that are not what this version and these keys expect.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::access::Scope;
use crate::gallery::Gallery;
use crate::gallery::load::LoadReport;
use crate::gallery::tests::support::*;
use crate::search::Query;
use likeness_store::directory;
use likeness_store::keys::store::KeyStore;
use likeness_store::keys::{KeyRing, Purpose, RingKey};
use likeness_store::receipts::chain;
use likeness_store::slots::SLOT_BYTES;
use likeness_store::upgrade::trial;
use likeness_types::Inside;
use likeness_types::error::{Error, OperatorError, Result};
use likeness_types::names::Account;
use likeness_types::person::{Consent, Profile, Timestamp};

struct Home {
    folder: tempfile::TempDir,
    data: PathBuf,
    ring: Arc<KeyRing>,
}

/// A data directory with one person, closed.
fn home() -> Home {
    let (home, ring) = (tempfile::tempdir().expect("a directory"), ring());
    let data = home.path().join("data");
    let gallery = opened_at(&data, &ring);
    let one = create(&gallery, "one");
    enroll(&gallery, &one, "ada", &[1]).expect("enrolled");
    Home {
        folder: home,
        data,
        ring,
    }
}

/// What was expected and what was found.
fn refusal<T>(outcome: Result<T>) -> (String, String) {
    match refused(outcome) {
        Error::Operator(OperatorError::Format { expected, found, .. }) => (expected, found),
        other => panic!("not refused by its format: {other}"),
    }
}

/// Refused with these words, and nothing was changed: undone, it opens.
fn assert_refused(home: &Home, expected: &str, found: &str) {
    let refusal = refusal(directory::open(
        &home.data,
        &keys_of(&home.data),
        Arc::clone(&home.ring),
        false,
        no_counters(),
    ));
    assert!(refusal.0.contains(expected), "expected {expected}: {refusal:?}");
    assert!(refusal.1.contains(found), "found {found}: {refusal:?}");
}

fn assert_serves(home: &Home) {
    let gallery = opened_at(&home.data, &home.ring);
    assert_eq!(found(&gallery, &collection(&gallery, "one"), 1), ["ada"]);
}

#[test]
fn the_format_file_of_another_version_deployment_or_form_is_refused() {
    let home = home();
    let file = home.data.join("FORMAT");
    let good = fs::read_to_string(&file).expect("there");
    fs::write(&file, good.replace("format 3", "format 4")).expect("written");
    assert_refused(
        &home,
        "format 3",
        "format 4, which needs a later version of likeness",
    );
    fs::write(&file, good.replace("format 3", "format 2")).expect("written");
    assert_refused(&home, "format 3", "format 2, which is too old to be upgraded");
    fs::write(
        &file,
        format!("{good}parts done 0\n").replace("format 3", "format 3, becoming 4"),
    )
    .expect("written");
    assert_refused(
        &home,
        "format 3",
        "format 3 in the middle of an upgrade to format 4",
    );
    fs::write(
        &file,
        good.replace(&home.ring.deployment.to_string(), &"ab".repeat(16)),
    )
    .expect("written");
    assert_refused(&home, &home.ring.deployment.to_string(), &"ab".repeat(16));
    for other in ["", "something else", "likeness data, format 3\n"] {
        fs::write(&file, other).expect("written");
        assert_refused(&home, "a format file of format 3", "another form");
    }
    fs::write(&file, b"\xff\xfe").expect("written");
    assert_refused(&home, "a format file of format 3", "another form");
    fs::remove_file(&file).expect("removed");
    assert_refused(&home, "a data directory, or an empty one", "no FORMAT file");
    fs::write(&file, good).expect("written");
    assert_serves(&home);
}

/// Changes the header of the slot file as another version would have written it.
fn rewrite_header(slots: &Path, at: usize, bytes: &[u8], checksum: bool) {
    let mut file = File::options()
        .read(true)
        .write(true)
        .open(slots)
        .expect("opened");
    let mut header = [0; SLOT_BYTES];
    file.read_exact(&mut header).expect("read");
    header[at..at + bytes.len()].copy_from_slice(bytes);
    if checksum {
        let digest = blake3::hash(&header[..SLOT_BYTES - 4]);
        header[SLOT_BYTES - 4..].copy_from_slice(&digest.as_bytes()[..4]);
    }
    file.seek(SeekFrom::Start(0)).expect("sought");
    file.write_all(&header).expect("written");
}

#[test]
fn a_slot_file_of_another_version_deployment_or_form_is_refused() {
    let home = home();
    let slots = home.data.join("slots");
    rewrite_header(&slots, 14, &2_u32.to_le_bytes(), true);
    assert_refused(&home, "format 1", "format 2");
    rewrite_header(&slots, 14, &1_u32.to_le_bytes(), true);
    rewrite_header(&slots, 18, &[0xab; 16], true);
    assert_refused(&home, &home.ring.deployment.to_string(), &"ab".repeat(16));
    rewrite_header(&slots, 18, &home.ring.deployment.0, true);
    rewrite_header(&slots, 50, &[1], false);
    assert_refused(&home, "a slot file", "a damaged header");
    rewrite_header(&slots, 50, &[0], false);
    assert_serves(&home);
}

#[test]
fn missing_slots_or_records_are_refused_and_not_made_anew() {
    let home = home();
    let (slots, records) = (home.data.join("slots"), home.data.join("records"));
    let aside = home.data.with_extension("aside");

    fs::rename(&slots, &aside).expect("moved");
    assert_refused(&home, "the slot file", "none");
    assert!(!slots.exists());
    fs::write(&slots, b"").expect("written");
    assert_refused(&home, "the slot file", "an empty one");
    fs::rename(&aside, &slots).expect("moved");

    fs::rename(&records, &aside).expect("moved");
    assert_refused(&home, "the records", "none");
    assert!(!records.exists());
    fs::rename(&aside, &records).expect("moved");
    assert_serves(&home);
}

#[test]
fn a_directory_of_something_else_is_not_made_a_data_directory() {
    let (home, ring) = (tempfile::tempdir().expect("a directory"), ring());
    fs::write(home.path().join("letter.txt"), b"dear").expect("written");
    let refusal = refusal(open_at(home.path(), &ring));
    assert!(refusal.1.contains("letter.txt and no FORMAT file"), "{refusal:?}");
    assert_eq!(fs::read_dir(home.path()).expect("listed").count(), 1);
}

#[test]
fn a_stray_file_beside_the_data_does_no_harm() {
    let home = home();
    fs::write(home.data.join("notes"), b"by an operator").expect("written");
    assert_serves(&home);
    assert_eq!(
        fs::read(home.data.join("notes")).expect("kept"),
        b"by an operator"
    );
}

#[test]
fn the_keys_of_another_deployment_are_refused() {
    let home = home();
    let theirs = ring();
    let (expected, found) = refusal(open_at(&home.data, &theirs));
    assert!(expected.contains(&theirs.deployment.to_string()));
    assert!(found.contains(&home.ring.deployment.to_string()));
    assert_serves(&home);
}

/// The keyring of a backup made before the wrapping key changed: the same deployment, not the same keys.
#[test]
fn a_keyring_without_the_wrapping_key_is_refused_and_nobody_is_taken_for_damaged_or_erased() {
    let home = home();
    let older = Arc::new(
        home.ring
            .without(|key| key.purpose == Purpose::Wrapping)
            .with(RingKey::random(Purpose::Wrapping, "")),
    );
    let error = refused(open_at(&home.data, &older)).to_string();
    let expected = format!("wrapping key: expected {}", home.ring.wrapping().id);
    assert!(error.contains(&expected), "{error}");
    assert_serves(&home);
}

#[test]
fn a_data_directory_serves_one_process_at_a_time() {
    let home = home();
    let gallery = opened_at(&home.data, &home.ring);
    let error = refused(open_at(&home.data, &home.ring));
    assert!(error.to_string().contains("no other process uses"), "{error}");
    assert_eq!(found(&gallery, &collection(&gallery, "one"), 1), ["ada"]);
}

/// Damage in the middle of the log is not its end: what was acknowledged after it would be lost.
#[test]
fn a_damaged_log_is_refused_and_a_torn_end_is_not() {
    let home = home();
    let gallery = opened_at(&home.data, &home.ring);
    let one = collection(&gallery, "one");
    for n in 10..20 {
        enroll(&gallery, &one, &format!("p{n}"), &[n]).expect("enrolled");
    }
    // As a kill leaves it: a server that stops leaves an empty log.
    let killed = tempfile::tempdir().expect("a directory");
    let data = killed.path().join("data");
    copy_as_killed(home.folder.path(), killed.path());
    drop(gallery);
    let slots = data.join("slots");
    let log = fs::read_dir(data.join("records"))
        .expect("listed")
        .map(|entry| entry.expect("listed").path())
        .find(|path| path.extension().is_some_and(|e| e == "log"))
        .expect("a log");
    let good = fs::read(&log).expect("read");
    assert!(good.len() > 5000, "ten records");

    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    fs::write(&log, &bad).expect("written");
    let error = refused(open_at(&data, &home.ring)).to_string();
    assert!(error.contains("expected a whole write-ahead log"), "{error}");

    // Whether the slots say of the last change that its record is there.
    let say_done = |is_done: bool| {
        let mut header = fs::read(&slots).expect("read");
        let begun = u64::from_le_bytes(header[34..42].try_into().expect("eight bytes"));
        let done = begun - u64::from(!is_done);
        header[42..50].copy_from_slice(&done.to_le_bytes());
        let digest = blake3::hash(&header[..SLOT_BYTES - 4]);
        header[SLOT_BYTES - 4..SLOT_BYTES].copy_from_slice(&digest.as_bytes()[..4]);
        fs::write(&slots, &header).expect("written");
    };
    fs::write(&log, &good[..good.len() - 10]).expect("written");
    say_done(true);
    let error = refused(open_at(&data, &home.ring)).to_string();
    assert!(error.contains("expected one as new as the slot file"), "{error}");
    say_done(false);
    let (gallery, report) = open_at(&data, &home.ring).expect("a torn end is a crash");
    // The last batch was cut; its key waits without a record.
    assert_eq!((report.persons, report.keys_overwritten), (10, 1));
    drop(gallery);
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("store/fixtures")
        .join(name)
}

/// A copy of a fixture, with the keys that it came with.
fn copied(name: &str) -> (tempfile::TempDir, Arc<KeyRing>) {
    let home = tempfile::tempdir().expect("a directory");
    copy(&fixture(name), home.path());
    let root = home.path().join("keys/root.key");
    fs::set_permissions(root, fs::Permissions::from_mode(0o600)).expect("restricted");
    let keys = KeyStore::new(home.path().join("keys"), None);
    let ring = Arc::new(keys.open(Inside).expect("the keys open"));
    (home, ring)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("the fixture is there") {
        let entry = entry.expect("listed");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}

/// Writes the fixture below. Only ever for a new format: an old one must open as it is.
#[test]
#[ignore = "writes a fixture into LIKENESS_FIXTURE, once for each format"]
fn write_the_fixture() {
    let home = PathBuf::from(std::env::var_os("LIKENESS_FIXTURE").expect("where to"));
    let (keys, data) = (home.join("keys"), home.join("data"));
    KeyStore::new(&keys, None).init(&data).expect("a fresh place");
    let ring = Arc::new(KeyStore::new(&keys, None).open(Inside).expect("just made"));
    let gallery = opened_at(&data, &ring);
    let one = create(&gallery, "one");
    let full = Profile {
        consent: Some(Consent {
            purpose: "a fixture".to_owned(),
            given: Timestamp(1_700_000_000_000),
            of_age_or_parental: true,
        }),
        expires: Some(Timestamp(4_000_000_000_000)),
        ..profile("Ada", &["first", "second"])
    };
    gallery
        .enroll(&one, &id("ada"), full, vec![face(1), face(2)], REQUEST)
        .expect("enrolled");
    enroll(&gallery, &one, "bob", &[3]).expect("enrolled");
    enroll(&gallery, &one, "eve", &[4]).expect("enrolled");
    gallery.delete(&one, &id("eve"), REQUEST).expect("deleted");
    gallery
        .delete_faces(&one, &id("ada"), vec![face_id(2)], REQUEST)
        .expect("deleted");
    create(&gallery, "empty");
    drop(gallery);
    // Once more, so that tables are part of it and not only a log; then what names this machine goes.
    drop(opened_at(&data, &ring));
    for entry in fs::read_dir(data.join("records")).expect("listed") {
        let path = entry.expect("listed").path();
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        if name.starts_with("LOG") || name.starts_with("LOCK") || name.starts_with("OPTIONS") {
            fs::remove_file(path).expect("removed");
        }
    }
    let slots = File::options()
        .write(true)
        .open(data.join("slots"))
        .expect("opened");
    slots.set_len(16 * SLOT_BYTES as u64).expect("the rest is empty");
}

#[test]
fn format_3_opens_in_every_later_version() {
    let (home, ring) = copied("format-3");
    let (gallery, report) = open_at(&home.path().join("data"), &ring).expect("the data open");
    let expected = LoadReport {
        collections: 2,
        persons: 2,
        ..LoadReport::default()
    };
    assert_eq!(report, expected);
    let infos = gallery.list_collections(&account(), None, 10, &|_| true).items;
    let seen: Vec<_> = infos.iter().map(|i| (i.name.as_str(), i.persons)).collect();
    assert_eq!(seen, [("empty", 0), ("one", 2)]);
    assert_eq!(infos[1].settings, settings());

    let one = collection(&gallery, "one");
    let ada = gallery.person(&one, &id("ada")).expect("enrolled");
    assert_eq!((ada.profile.name.as_str(), ada.faces.len()), ("Ada", 1));
    assert_eq!(ada.profile.tags, ["first", "second"]);
    assert_eq!(ada.profile.expires, Some(Timestamp(4_000_000_000_000)));
    let consent = ada.profile.consent.expect("given");
    assert_eq!(
        (
            consent.purpose.as_str(),
            consent.given.0,
            consent.of_age_or_parental
        ),
        ("a fixture", 1_700_000_000_000, true)
    );
    assert_eq!(
        (ada.faces[0].id, ada.faces[0].template.any()),
        (face_id(1), &template(1))
    );
    assert_eq!(ada.faces[0].scheme, scheme_id());
    assert_eq!(ada.faces[0].detection_score, 0.9);
    assert_eq!(found(&gallery, &one, 3), ["bob"]);
    for gone in [2, 4] {
        assert_eq!(found(&gallery, &one, gone), [""; 0]);
    }
    // And it goes on: it can be written, and opened again.
    enroll(&gallery, &one, "eve", &[4]).expect("enrolled");
    drop(gallery);
    let gallery = opened_at(&home.path().join("data"), &ring);
    assert_eq!(found(&gallery, &collection(&gallery, "one"), 4), ["eve"]);
}

/// Written by the program itself, with every kind of row: `scripts/format-fixture.py`. What its calls answer is compared
/// in `tests/format_fixture.rs`; here each template is looked for.
#[test]
fn every_person_of_the_full_fixture_is_found_by_each_template() {
    let (home, ring) = copied("format-3-full");
    assert_everybody_is_found(home.path(), &ring);
}

/// By steps that only tests know: everything is rewritten twice.
#[test]
fn after_an_upgrade_every_person_is_found_and_every_receipt_is_verified() {
    let (home, ring) = copied("format-3-full");
    let (data, keys) = (home.path().join("data"), home.path().join("keys"));
    trial::upgrade(&data, &keys, &ring, &trial::TO_4, &|_| {}).expect("upgraded");
    let (_, found) = refusal(open_at(&data, &ring));
    assert!(
        found.contains("format 4, which needs likeness 0.4.0 or later"),
        "{found}"
    );
    trial::upgrade(&data, &keys, &ring, &trial::TO_5, &|_| {}).expect("upgraded");
    trial::call_it_present(&data, &ring);
    let gallery = assert_everybody_is_found(home.path(), &ring);
    let anchor = gallery.checkpoint().expect("every start leaves one");
    for log in [data.join("erasures"), keys.join("erasures")] {
        let log = fs::read(log).expect("read");
        let summary = chain::verify(&log, Some(&anchor), None).expect("signed and whole");
        assert_eq!(summary.size, gallery.receipts());
        // The receipts of the time are still its beginning.
        let exported = fs::read(home.path().join("receipts.log")).expect("read");
        assert!(log.len() >= exported.len(), "{} of {}", log.len(), exported.len());
        chain::verify(&exported, None, None).expect("signed and whole");
    }
}

fn assert_everybody_is_found(home: &Path, ring: &Arc<KeyRing>) -> Gallery {
    let (gallery, report) = open_at(&home.join("data"), ring).expect("the data open");
    assert_eq!((report.persons, report.damaged_persons), (48, 0));
    let crowd: Vec<_> = (0..40).map(|n| format!("crowd-{n}")).collect();
    let crowd: Vec<_> = crowd.iter().map(String::as_str).collect();
    let operator = account();
    let acme = Account::parse("acme").expect("allowed");
    for account in [&operator, &acme] {
        let keys = gallery.accounts.keys(account).expect("listed");
        assert!(!keys.is_empty());
        for key in keys {
            assert!(!key.scopes.has(Scope::Duplicates), "no key of the time has it");
        }
    }
    for (account, collection, people) in [
        (
            &operator,
            "staff",
            &["ada", "bob-renamed", "bob-again", "bob-copy", "cleo"][..],
        ),
        (&operator, "visitors", &["ada"]),
        (&operator, "small", &["tiny"]),
        (&operator, "crowd", &crowd),
        (&acme, "guests", &["gast"]),
    ] {
        let collection = gallery.collection(account, &name(collection)).expect("it exists");
        for person_id in people {
            let person = gallery.person(&collection, &id(person_id)).expect("enrolled");
            for face in &person.faces {
                let probe = Arc::new(probe_of(face.template.any()));
                let query = Query {
                    probes: vec![(face.scheme, probe)],
                };
                let matches = gallery.search(&collection, &query, 5, 0.99).expect("searched");
                let mut found = matches.iter().map(|found| found.person.id.as_str());
                assert!(found.any(|found| found == *person_id), "{person_id}");
            }
        }
    }
    gallery
}
