//! Copies of the data directory and of the key store put back: as a whole, in part, and without the erasure log.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::gallery::Gallery;
use crate::gallery::load::LoadReport;
use crate::gallery::tests::support::*;
use likeness_store::directory;
use likeness_store::keys::KeyRing;
use likeness_store::records::Family;
use likeness_store::slots::SLOT_BYTES;
use likeness_store::testing::{FakeDisk, Name};
use likeness_types::error::{Error, OperatorError, Result};

/// A deployment on a real disk.
struct Home {
    home: tempfile::TempDir,
    ring: Arc<KeyRing>,
}

impl Home {
    fn new() -> Self {
        Self {
            home: tempfile::tempdir().expect("a directory"),
            ring: ring(),
        }
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    fn open(&self, accept_short_log: bool) -> Result<(Gallery, LoadReport)> {
        let (data, keys) = (self.data(), keys_of(&self.data()));
        fs::create_dir_all(&keys).expect("made");
        Gallery::open(
            |counters| directory::open(&data, &keys, Arc::clone(&self.ring), accept_short_log, counters),
            background(likeness_types::clock::Clock::System),
        )
    }

    fn opened(&self) -> Gallery {
        self.open(false).expect("nothing is wrong").0
    }

    /// Enrols people under these numbers and closes.
    fn enrol(&self, numbers: std::ops::Range<u64>) {
        let gallery = self.opened();
        let one = match gallery.collection(&account(), &name("one")) {
            Ok(one) => one,
            Err(_) => create(&gallery, "one"),
        };
        for n in numbers {
            enroll(&gallery, &one, &format!("n{n}"), &[n]).expect("enrolled");
        }
    }

    fn erase(&self, numbers: std::ops::Range<u64>) {
        let gallery = self.opened();
        let one = collection(&gallery, "one");
        for n in numbers {
            gallery
                .delete(&one, &id(&format!("n{n}")), REQUEST)
                .expect("deleted");
        }
    }

    /// A copy of a part of the data directory, or of all of it.
    fn copy_of(&self, part: &str) -> PathBuf {
        let to = self.home.path().join(format!("copy-of-{part}"));
        copy(&self.data().join(part), &to);
        to
    }

    fn put_back(&self, copied: &Path, part: &str) {
        let place = self.data().join(part);
        if place.is_dir() {
            fs::remove_dir_all(&place).expect("removed");
        } else if place.exists() {
            fs::remove_file(&place).expect("removed");
        }
        copy(copied, &place);
    }

    fn lose(&self, key_files: &[&str]) {
        for file in key_files {
            fs::remove_file(keys_of(&self.data()).join(file)).expect("it was there");
        }
    }

    fn people(&self, gallery: &Gallery) -> Vec<String> {
        let page = gallery
            .list(&collection(gallery, "one"), None, 100)
            .expect("listed");
        let mut people: Vec<_> = page
            .items
            .iter()
            .map(|person| person.id.as_str().to_owned())
            .collect();
        people.sort();
        people
    }

    /// What is refused, and nothing of the data is touched for it.
    fn refusal(&self) -> String {
        let slots = fs::read(self.data().join("slots")).expect("read");
        let refusal = match refused(self.open(false)) {
            Error::Operator(error @ OperatorError::Format { .. }) => error.to_string(),
            other => panic!("not refused by its format: {other}"),
        };
        assert_eq!(fs::read(self.data().join("slots")).expect("read"), slots);
        refusal
    }
}

fn copy(from: &Path, to: &Path) {
    if from.is_file() {
        fs::copy(from, to).expect("copied");
        return;
    }
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("listed") {
        let entry = entry.expect("listed");
        copy(&entry.path(), &to.join(entry.file_name()));
    }
}

#[test]
fn an_old_copy_without_the_erasure_log_in_the_key_store_is_refused() {
    let home = Home::new();
    home.enrol(0..5);
    let old = home.copy_of("");
    home.erase(0..5);
    home.put_back(&old, "");
    home.lose(&["erasures", "anchor"]);
    for _ in 0..2 {
        let refusal = home.refusal();
        assert!(
            refusal.contains("erasure log: expected the log's copy and its anchor"),
            "{refusal}"
        );
        assert!(refusal.contains("--accept-short-erasure-log"), "{refusal}");
    }
    // The operator's word is in the log from then on.
    let (gallery, _) = home.open(true).expect("accepted");
    assert_eq!(home.people(&gallery).len(), 5);
    let receipts: Vec<_> = (0..gallery.receipts())
        .map(|sequence| gallery.receipt(sequence).expect("read").expect("there"))
        .map(|bytes| {
            likeness_store::receipts::Receipt::parse(&bytes)
                .expect("whole")
                .0
                .kind
                .name()
        })
        .collect();
    assert!(receipts.contains(&"OVERRIDE"), "{receipts:?}");
    drop(gallery);
    home.opened();
}

#[test]
fn data_in_use_without_any_erasure_log_are_refused() {
    // Without the anchor the copy in the key store says no more than a log that begins.
    for part in ["erasures", "anchor"] {
        let home = Home::new();
        home.enrol(0..1);
        let lost = if part == "anchor" {
            vec!["anchor"]
        } else {
            vec!["erasures", "anchor"]
        };
        fs::remove_file(home.data().join("erasures")).expect("removed");
        home.lose(&lost);
        let refusal = home.refusal();
        assert!(refusal.contains("anchor"), "{refusal}");
    }
}

#[test]
fn a_log_begins_where_nobody_was_ever_enrolled() {
    let home = Home::new();
    drop(home.opened());
    // A first start that was cut short after any of its steps, and a key store made anew beside it.
    for lost in [&["anchor"][..], &["erasures"], &["anchor", "erasures"]] {
        if lost.contains(&"anchor") {
            fs::remove_file(home.data().join("erasures")).expect("removed");
        }
        home.lose(lost);
        drop(home.opened());
    }
    home.enrol(0..2);
    assert_eq!(home.people(&home.opened()), ["n0", "n1"]);
}

#[test]
fn a_whole_copy_is_put_back_and_those_erased_since_are_erased_again() {
    let home = Home::new();
    home.enrol(0..5);
    let old = home.copy_of("");
    home.erase(1..3);
    home.enrol(10..13);
    home.put_back(&old, "");
    let (gallery, report) = home.open(false).expect("a copy of one moment");
    assert_eq!(report.erasures_repeated, 2);
    assert_eq!(home.people(&gallery), ["n0", "n3", "n4"]);
}

#[test]
fn parts_of_two_copies_are_refused_and_nothing_is_overwritten() {
    let home = Home::new();
    home.enrol(0..5);
    let old = home.copy_of("");
    // One is enough: a server that has stopped says that nothing was under way.
    home.enrol(5..6);
    let new = home.home.path().join("new");
    copy(&home.data(), &new);
    for (part, newer) in [("records", "slot file"), ("slots", "records")] {
        home.put_back(&old.join(part), part);
        let refusal = home.refusal();
        assert!(
            refusal.contains(&format!("expected one as new as the {newer}")),
            "{refusal}"
        );
        home.put_back(&new.join(part), part);
        let gallery = home.opened();
        assert_eq!(home.people(&gallery).len(), 6, "{part}");
        drop(gallery);
        // The start and the stop wrote to both.
        fs::remove_dir_all(&new).expect("removed");
        copy(&home.data(), &new);
    }
}

/// A disk on which people are enrolled, and its records as they were after each.
fn enrolled(people: u64) -> (FakeDisk, Arc<KeyRing>, Vec<FakeDisk>) {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create(&gallery, "one");
    let mut moments = vec![disk.restarted(|_| true)];
    for n in 0..people {
        enroll(&gallery, &one, &format!("n{n}"), &[n]).expect("enrolled");
        moments.push(disk.restarted(|_| true));
    }
    // As a crash leaves it: what a stop would complete is not.
    let crashed = disk.restarted(|_| true);
    (crashed, ring, moments)
}

fn with_records_of(disk: &FakeDisk, older: &FakeDisk) -> FakeDisk {
    let disk = disk.restarted(|_| true);
    disk.0.lock().records = older.0.lock().records.clone();
    disk
}

#[test]
fn after_a_crash_records_are_at_most_one_change_older_than_their_slots() {
    let (disk, ring, moments) = enrolled(4);
    for (number, older) in moments.iter().enumerate() {
        let disk = with_records_of(&disk, older);
        let used = disk.used_slots();
        match moments.len() - 1 - number {
            // A crash between slots and records looks the same.
            0 | 1 => drop(opened(&disk, &ring)),
            _ => {
                let refusal = refused(open(&disk, &ring)).to_string();
                assert!(
                    refusal.contains("records: expected one as new as the slot file"),
                    "{refusal}"
                );
                assert_eq!(disk.used_slots(), used, "nothing is overwritten");
            }
        }
    }
    // The other way round: the slots are written first, and never older.
    for older in &moments[..moments.len() - 1] {
        let disk = with_records_of(older, &disk);
        let refusal = refused(open(&disk, &ring)).to_string();
        assert!(
            refusal.contains("slot file: expected one as new as the records"),
            "{refusal}"
        );
    }
}

#[test]
fn a_server_that_stopped_knows_older_records_by_one_change() {
    let (disk, ring, moments) = enrolled(4);
    drop(opened(&disk, &ring));
    let disk = disk.restarted(|_| true);
    drop(opened(&with_records_of(&disk, &disk), &ring));
    for older in &moments[..moments.len() - 1] {
        let disk = with_records_of(&disk, older);
        let refusal = refused(open(&disk, &ring)).to_string();
        assert!(
            refusal.contains("records: expected one as new as the slot file"),
            "{refusal}"
        );
    }
}

/// As a program that counted no changes has left it.
fn uncounted(disk: &FakeDisk) -> FakeDisk {
    let disk = disk.restarted(|_| true);
    let mut state = disk.0.lock();
    state.records.retain(|(family, _), _| *family != Family::Commits);
    for bytes in [0, 1] {
        let slots = state.bytes(Name::Slots);
        let header = if bytes == 0 {
            &mut slots.durable
        } else {
            &mut slots.seen
        };
        header[34..50].fill(0);
        let digest = blake3::hash(&header[..SLOT_BYTES - 4]);
        header[SLOT_BYTES - 4..SLOT_BYTES].copy_from_slice(&digest.as_bytes()[..4]);
    }
    drop(state);
    disk
}

#[test]
fn data_without_counted_changes_open_and_are_counted_from_then_on() {
    let (disk, ring, moments) = enrolled(3);
    let disk = uncounted(&disk);
    let gallery = opened(&disk, &ring);
    enroll(&gallery, &collection(&gallery, "one"), "later", &[90]).expect("enrolled");
    drop(gallery);
    let later = disk.restarted(|_| true);
    drop(opened(&later.restarted(|_| true), &ring));
    let older = uncounted(&moments[3]);
    let refusal = refused(open(&with_records_of(&later, &older), &ring)).to_string();
    assert!(
        refusal.contains("records: expected one as new as the slot file"),
        "{refusal}"
    );
}

#[test]
fn older_records_without_counted_changes_are_known_by_the_anchors_count_of_keys() {
    let (disk, ring, moments) = enrolled(9);
    // A start advances the anchor: from then on it has counted everybody.
    drop(opened(&disk, &ring));
    let disk = uncounted(&disk.restarted(|_| true));
    for older in &moments[1..moments.len() - 1] {
        let older = uncounted(older);
        let disk = with_records_of(&disk, &older);
        let used = disk.used_slots();
        let refusal = refused(open(&disk, &ring)).to_string();
        assert!(
            refusal.contains("10 keys as the erasure log's anchor counted them"),
            "{refusal}"
        );
        assert_eq!(disk.used_slots(), used);
    }
    drop(opened(&disk, &ring));
}
