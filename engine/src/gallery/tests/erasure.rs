//! Erased for good, on real files: backups put back, and no residue after the purge.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::gallery::Gallery;
use crate::gallery::collection::Collection;
use crate::gallery::tests::support::*;
use crate::people::change::ProfileChange;
use likeness_store::keys::KeyRing;
use likeness_store::purge;
use likeness_store::receipts::chain;
use likeness_store::records::{Family, Scan};
use likeness_store::residue;

struct Home {
    _home: tempfile::TempDir,
    data: PathBuf,
    ring: Arc<KeyRing>,
}

fn home() -> Home {
    let (home, ring) = (tempfile::tempdir().expect("a directory"), ring());
    let data = home.path().join("data");
    Home {
        _home: home,
        data,
        ring,
    }
}

pub fn copy(from: &Path, to: &Path) {
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

fn put_back(backup: &Path, data: &Path) {
    fs::remove_dir_all(data).expect("removed");
    copy(backup, data);
}

#[test]
fn a_backup_put_back_revives_nobody_and_harms_nobody() {
    let home = home();
    let gallery = opened_at(&home.data, &home.ring);
    let one = create(&gallery, "one");
    enroll(&gallery, &one, "ada", &[1]).expect("enrolled");
    enroll(&gallery, &one, "bob", &[2]).expect("enrolled");
    drop(gallery);
    let backup = home.data.with_file_name("backup");
    copy(&home.data, &backup);

    let gallery = opened_at(&home.data, &home.ring);
    let one = collection(&gallery, "one");
    let prints = gallery.fingerprints(&one, &id("ada")).expect("prepared");
    gallery.delete(&one, &id("ada"), REQUEST).expect("erased");
    gallery.purge_now().expect("purged");
    let checkpoint = gallery.checkpoint().expect("there");
    drop(gallery);
    let clean = residue::scan(&prints, &home.data).expect("scanned");
    assert_eq!(clean.findings, []);
    let in_backup = residue::scan(&prints, &backup).expect("scanned");
    assert!(!in_backup.findings.is_empty(), "the backup has her still");

    // Twice, to show that once was enough.
    put_back(&backup, &home.data);
    for repeated in [1, 0] {
        let (gallery, report) = open_at(&home.data, &home.ring).expect("opens");
        assert_eq!((report.erasures_repeated, report.persons), (repeated, 1));
        let one = collection(&gallery, "one");
        assert_eq!(found(&gallery, &one, 1), [""; 0]);
        assert!(gallery.person(&one, &id("ada")).is_err());
        assert_eq!(found(&gallery, &one, 2), ["bob"]);
        gallery.purge_now().expect("purged");
        assert_eq!(gallery.backlog().erasures, 0);
        drop(gallery);
        let again = residue::scan(&prints, &home.data).expect("scanned");
        assert_eq!(again.findings, [], "her bytes have left the old files too");
        let log = fs::read(home.data.join("erasures")).expect("read");
        assert_eq!(log, fs::read(keys_of(&home.data).join("erasures")).expect("read"));
        chain::verify(&log, Some(&checkpoint), None).expect("it continues what the checkpoint has seen");
    }
}

#[test]
fn a_backup_put_back_revives_nobody_who_was_changed_or_renamed_before_the_erasure() {
    let home = home();
    let gallery = opened_at(&home.data, &home.ring);
    let one = create(&gallery, "one");
    for (who, n) in [("ada", 1), ("bob", 2), ("eve", 3), ("joe", 4)] {
        enroll(&gallery, &one, who, &[n]).expect("enrolled");
    }
    drop(gallery);
    let backup = home.data.with_file_name("backup");
    copy(&home.data, &backup);

    let gallery = opened_at(&home.data, &home.ring);
    let one = collection(&gallery, "one");
    for who in ["ada", "joe"] {
        for name in ["Another", "Name"] {
            let change = ProfileChange {
                name: Some(name.to_owned()),
                ..ProfileChange::default()
            };
            gallery.update(&one, &id(who), change, REQUEST).expect("changed");
        }
    }
    gallery
        .rename(&one, &id("bob"), &id("bobby"), REQUEST)
        .expect("renamed");
    for who in ["ada", "bobby"] {
        gallery.delete(&one, &id(who), REQUEST).expect("erased");
    }
    drop(gallery);

    put_back(&backup, &home.data);
    let (gallery, report) = open_at(&home.data, &home.ring).expect("opens");
    assert_eq!((report.erasures_repeated, report.persons), (2, 2));
    let one = collection(&gallery, "one");
    let found: Vec<_> = (1..=4).map(|n| found(&gallery, &one, n)).collect();
    assert_eq!(found, [vec![], vec![], vec!["eve"], vec!["joe"]]);
}

#[test]
fn who_enrolled_again_under_the_same_personid_survives_every_start() {
    let home = home();
    let gallery = opened_at(&home.data, &home.ring);
    let one = create(&gallery, "one");
    enroll(&gallery, &one, "ada", &[1]).expect("enrolled");
    gallery.delete(&one, &id("ada"), REQUEST).expect("erased");
    enroll(&gallery, &one, "ada", &[2]).expect("the PersonID is free");
    drop(gallery);
    for _ in 0..2 {
        let (gallery, report) = open_at(&home.data, &home.ring).expect("opens");
        assert_eq!((report.erasures_repeated, report.persons), (0, 1));
        assert_eq!(found(&gallery, &collection(&gallery, "one"), 2), ["ada"]);
    }
}

/// A gallery with a few hundred people in tables and log, one of them to be erased.
fn populated(home: &Home) -> (Gallery, Arc<Collection>) {
    let gallery = opened_at(&home.data, &home.ring);
    let one = create(&gallery, "one");
    for n in 0..300 {
        enroll(&gallery, &one, &format!("p{n}"), &[n]).expect("enrolled");
    }
    drop(gallery);
    let gallery = opened_at(&home.data, &home.ring);
    let one = collection(&gallery, "one");
    (gallery, one)
}

fn kinds(scanned: &residue::Scanned) -> Vec<(String, &'static str)> {
    let mut kinds: Vec<_> = scanned
        .findings
        .iter()
        .map(|f| {
            let name = f.file.file_name().expect("a file").to_string_lossy();
            let letters = name.trim_end_matches(|c: char| c.is_ascii_digit());
            (
                if name.ends_with(".sst") {
                    "sst"
                } else if name.ends_with(".log") {
                    "wal"
                } else {
                    letters
                }
                .to_owned(),
                f.kind.name(),
            )
        })
        .collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

/// Within this time after an erasure its bytes have left the data files.
const PURGE_TIME_MAX: Duration = Duration::from_secs(5);

/// The audit: one of 300 people is erased, and when the purge has had its time, every file is searched for
/// what was on disk of the person.
///
/// # Errors
/// What is still there.
fn audit(gather: Duration) -> Result<(), Vec<(String, &'static str)>> {
    let home = home();
    drop(populated(&home));
    let (gallery, _) = open_purging_at(&home.data, &home.ring, gather).expect("opens");
    let one = collection(&gallery, "one");
    let prints = gallery.fingerprints(&one, &id("p77")).expect("prepared");
    gallery.delete(&one, &id("p77"), REQUEST).expect("erased");
    let until = Instant::now() + PURGE_TIME_MAX;
    while gallery.backlog().erasures > 0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    let residue = kinds(&residue::scan(&prints, &home.data).expect("scanned"));
    if residue.is_empty() { Ok(()) } else { Err(residue) }
}

#[test]
fn the_audit_passes_and_with_the_purge_disabled_the_same_audit_fails() {
    std::thread::scope(|scope| {
        let disabled = scope.spawn(|| audit(NEVER));
        assert_eq!(audit(purge::GATHER), Ok(()));
        let residue = disabled
            .join()
            .expect("no panic")
            .expect_err("nothing was purged");
        assert!(residue.iter().any(|(_, kind)| *kind == "record"), "{residue:?}");
    });
}

#[test]
fn nothing_of_an_erased_person_is_in_any_file_once_purged_and_without_the_purge_it_is() {
    let home = home();
    let (gallery, one) = populated(&home);
    for who in ["p0", "p77", "p299"] {
        let id = id(who);
        gallery
            .add_faces(&one, &id, vec![face(9000)], REQUEST)
            .expect("added");
        let prints = gallery.fingerprints(&one, &id).expect("prepared");
        let before = residue::scan(&prints, &home.data).expect("scanned");
        let seen = kinds(&before);
        for kind in ["record", "slot", "digest"] {
            assert!(
                seen.iter().any(|(_, k)| *k == kind),
                "{who}: {kind} is found before: {seen:?}"
            );
        }
        gallery.delete(&one, &id, REQUEST).expect("erased");
        let unpurged = residue::scan(&prints, &home.data).expect("scanned");
        let seen = kinds(&unpurged);
        assert!(!seen.is_empty(), "without the purge the record is still there");
        assert!(seen.iter().all(|(_, kind)| *kind != "slot"), "but the key is not");
        gallery.purge_now().expect("purged");
        let after = residue::scan(&prints, &home.data).expect("scanned");
        assert_eq!(kinds(&after), [], "{who}");
        assert_eq!(gallery.backlog().erasures, 0);
        println!("{who}: {} files, {} bytes", after.files, after.bytes);
    }
    drop(gallery);
    assert_eq!(open_at(&home.data, &home.ring).expect("opens").1.persons, 297);
}

#[test]
fn whoever_erased_and_crashed_before_the_purge_is_purged_by_the_next_start() {
    let home = home();
    let (gallery, one) = populated(&home);
    let prints = gallery.fingerprints(&one, &id("p5")).expect("prepared");
    gallery.delete(&one, &id("p5"), REQUEST).expect("erased");
    drop(gallery);
    let gallery = opened_at(&home.data, &home.ring);
    assert_eq!(gallery.backlog().erasures, 1);
    gallery.purge_now().expect("purged");
    assert_eq!(residue::scan(&prints, &home.data).expect("scanned").findings, []);
}

#[test]
fn an_open_scan_does_not_keep_old_files_past_a_purge() {
    let home = home();
    let (gallery, one) = populated(&home);
    let prints = gallery.fingerprints(&one, &id("p5")).expect("prepared");
    gallery.delete(&one, &id("p5"), REQUEST).expect("erased");
    std::thread::scope(|scope| {
        let (started, running) = std::sync::mpsc::sync_channel(1);
        let gallery = &gallery;
        scope.spawn(move || {
            let mut visited = 0;
            gallery
                .vault
                .scan(Family::Persons, &[], &[], &mut |_, _| {
                    visited += 1;
                    if visited == 1 {
                        started.send(()).expect("waited for");
                        std::thread::sleep(std::time::Duration::from_millis(500));
                    }
                    Scan::Continue
                })
                .expect("scanned");
        });
        running.recv().expect("started");
        gallery.purge_now().expect("purged");
        assert_eq!(kinds(&residue::scan(&prints, &home.data).expect("scanned")), []);
    });
}

/// What erasing costs; `LIKENESS_PEOPLE` people (100,000).
#[test]
#[ignore = "takes minutes; run by `make erasure-cost`"]
fn the_cost_of_erasing() {
    let people = std::env::var("LIKENESS_PEOPLE").map_or(100_000, |n| n.parse::<u64>().expect("a number"));
    let home = home();
    let gallery = opened_at(&home.data, &home.ring);
    let one = create(&gallery, "one");
    let began = Instant::now();
    std::thread::scope(|scope| {
        for part in 0..128 {
            let (gallery, one) = (&gallery, &one);
            scope.spawn(move || {
                for n in (part..people).step_by(128) {
                    enroll(gallery, one, &format!("p{n}"), &[n]).expect("enrolled");
                }
            });
        }
    });
    println!("{people} people enrolled in {:.1?}", began.elapsed());
    let prints = gallery.fingerprints(&one, &id("p0")).expect("prepared");
    let mut numbers = Numbers(1);
    let erase = |who: u64| gallery.delete(&one, &id(&format!("p{who}")), REQUEST);
    let mut replies = Vec::new();
    for round in 0..5 {
        let who = numbers.below(people);
        let began = Instant::now();
        if erase(who).is_err() {
            continue;
        }
        replies.push(began.elapsed());
        let (began, written) = (Instant::now(), written());
        gallery.purge_now().expect("purged");
        let mib = (self::written() - written) >> 20;
        println!(
            "one, round {round}: reply {:.1?}, purge {:.2?}, {mib} MiB written",
            replies[replies.len() - 1],
            began.elapsed()
        );
    }
    for _ in 0..200 {
        let (who, began) = (numbers.below(people), Instant::now());
        if erase(who).is_ok() {
            replies.push(began.elapsed());
        }
    }
    replies.sort();
    let at = |share: usize| replies[(replies.len() - 1) * share / 100];
    println!(
        "reply, one after the other: median {:.1?}, p95 {:.1?}, p99 {:.1?}",
        at(50),
        at(95),
        at(99)
    );
    let (began, before) = (Instant::now(), written());
    gallery.purge_now().expect("purged");
    println!(
        "purge of 200: {:.2?}, {} MiB written",
        began.elapsed(),
        (written() - before) >> 20
    );
    let (began, before) = (Instant::now(), written());
    let stream = 10_000.min(people / 2);
    std::thread::scope(|scope| {
        for part in 0..32 {
            let (gallery, one) = (&gallery, &one);
            scope.spawn(move || {
                for n in (part..stream).step_by(32) {
                    gallery.delete(one, &id(&format!("p{n}")), REQUEST).ok();
                }
            });
        }
    });
    println!("{stream} erasures by 32 callers: {:.1?}", began.elapsed());
    let purging = Instant::now();
    gallery.purge_now().expect("purged");
    println!(
        "their purge: {:.2?}; {} MiB written in all",
        purging.elapsed(),
        (written() - before) >> 20
    );
    let began = Instant::now();
    let scanned = residue::scan(&prints, &home.data).expect("scanned");
    println!("residue: {} MiB in {:.2?}", scanned.bytes >> 20, began.elapsed());
    assert_eq!(scanned.findings, []);
}

/// Bytes that this process has given to the disk.
fn written() -> u64 {
    let io = fs::read_to_string("/proc/self/io").expect("counted");
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.expect("counted").parse().expect("a number")
}
