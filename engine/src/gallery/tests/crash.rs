//! Every operation of every change fails once, and the power goes at every one of them.

use std::sync::Arc;

use crate::gallery::Gallery;
use crate::gallery::tests::support::{view as everything, *};
use crate::people::change::ProfileChange;
use likeness_store::codec::Header;
use likeness_store::keys::KeyRing;
use likeness_store::receipts::chain;
use likeness_store::receipts::checkpoint::Checkpoint;
use likeness_store::records::Family;
use likeness_store::testing::{FakeDisk, Fault};
use likeness_types::error::{Error, OperatorError, Result};

/// A change, and how many operations on the disk it takes.
struct Story {
    name: &'static str,
    change: fn(&Gallery) -> Result<()>,
    operations: usize,
}

impl Story {
    fn erases(&self) -> bool {
        [
            "delete faces",
            "delete a person",
            "delete a collection",
            "erase everywhere",
            "rename",
        ]
        .contains(&self.name)
    }
}

const fn story(name: &'static str, operations: usize, change: fn(&Gallery) -> Result<()>) -> Story {
    Story {
        name,
        change,
        operations,
    }
}

/// The log is two writes and two syncs; the anchor and its sync come before anybody hears of it. Every commit that
/// changes slots writes the turn into their header, under the same sync.
const STORIES: [Story; 12] = [
    // The slot and its sync, the record.
    story("enrol", 4, |g| {
        enroll(g, &collection(g, "one"), "new", &[90, 91]).map(drop)
    }),
    // The record: the key stays.
    story("add faces", 1, |g| {
        g.add_faces(&collection(g, "one"), &id("ada"), vec![face(90)], REQUEST)
            .map(drop)
    }),
    // The new slot, the record, the old slot.
    story("update", 6, |g| {
        let change = ProfileChange {
            name: Some("Another".to_owned()),
            tags: Some(vec!["other".to_owned()]),
            ..ProfileChange::default()
        };
        g.update(&collection(g, "one"), &id("ada"), change, REQUEST)
            .map(drop)
    }),
    // The same, and the log before the old slot, and the anchor.
    story("delete faces", 12, |g| {
        g.delete_faces(&collection(g, "one"), &id("ada"), vec![face_id(1)], REQUEST)
            .map(drop)
    }),
    // The log, the slot, the record, the anchor.
    story("delete a person", 10, |g| {
        g.delete(&collection(g, "one"), &id("ada"), REQUEST).map(drop)
    }),
    story("delete and enrol again", 14, |g| {
        g.delete(&collection(g, "one"), &id("ada"), REQUEST)?;
        enroll(g, &collection(g, "one"), "ada", &[90]).map(drop)
    }),
    // The collection as a person; then the log, three slots and a sync, three records, the anchor.
    story("delete a collection", 20, |g| {
        g.delete_collection(&account(), &name("one"), REQUEST).map(drop)
    }),
    // As one person: the log, two slots and a sync, the records, the anchor.
    story("erase everywhere", 11, |g| {
        let erased = g.erase_everywhere(&account(), &id("ada"), REQUEST)?;
        assert_eq!(erased.len(), 2);
        Ok(())
    }),
    // As an enrolment.
    story("copy", 4, |g| {
        let source = (&collection(g, "one"), &id("ada"));
        g.copy(source, (&collection(g, "two"), &id("copied")), REQUEST)
            .map(drop)
    }),
    // As faces deleted: the log has an entry, though no key in it.
    story("rename", 12, |g| {
        g.rename(&collection(g, "one"), &id("ada"), &id("renamed"), REQUEST)
            .map(drop)
    }),
    story("create a collection", 4, |g| {
        g.create_collection(&account(), &name("three"), scheme(), settings(), REQUEST)
            .map(drop)
    }),
    story("update a collection", 1, |g| {
        g.update_collection(
            &collection(g, "one"),
            |settings| {
                Ok(crate::CollectionSettings {
                    threshold: 0.75,
                    ..settings
                })
            },
            REQUEST,
        )
    }),
];

/// Every write has arrived, and none of the log's whole.
const TORN: u64 = 1 << 63;

/// Two collections, four people; every story changes some of it and leaves the rest alone.
fn prepared() -> (FakeDisk, Arc<KeyRing>) {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let (one, two) = (create(&gallery, "one"), create(&gallery, "two"));
    enroll(&gallery, &one, "ada", &[1, 2, 3]).expect("enrolled");
    enroll(&gallery, &one, "bob", &[4]).expect("enrolled");
    enroll(&gallery, &one, "eve", &[5]).expect("enrolled");
    enroll(&gallery, &two, "ada", &[6]).expect("enrolled");
    for (collection, who) in [(&one, "ada"), (&one, "bob"), (&one, "eve"), (&two, "ada")] {
        logged(&gallery, collection, who);
    }
    drop(gallery);
    (disk, ring)
}

/// What a client sees, but for the ids of copied faces, which are other ones every time.
fn view(gallery: &Gallery) -> View {
    let mut view = everything(gallery);
    let copied = view.get_mut("two").and_then(|two| two.people.get_mut("copied"));
    if let Some(copied) = copied {
        let mut faces: Vec<_> = std::mem::take(&mut copied.faces).into_values().collect();
        faces.sort();
        copied.faces = (90..).map(face_id).zip(faces).collect();
    }
    view
}

/// What is seen before the change, after it, and between: where its first half was acknowledged alone, or
/// reached the log alone.
fn allowed_views(story: &Story, before: &View, after: &View) -> Vec<View> {
    let mut views = vec![before.clone(), after.clone()];
    if ["delete and enrol again", "erase everywhere"].contains(&story.name) {
        let mut between = before.clone();
        between
            .get_mut("one")
            .expect("prepared")
            .people
            .remove("ada")
            .expect("prepared");
        views.push(between);
    }
    views
}

/// One slot for each record, and nothing else: no key is left behind and none is missing.
fn assert_settled(disk: &FakeDisk, what: &str) {
    let records = disk.sealed_records();
    assert_eq!(disk.used_slots().len(), records, "{what}: slots and records");
}

/// There is no row of nobody in the running log, and whoever stays has the rows that were there.
fn assert_rows(disk: &FakeDisk, gallery: &Gallery, what: &str) {
    assert_eq!(disk.rows_of_nobody(), 0, "{what}: rows of nobody");
    for (place, people) in everything(gallery) {
        let collection = collection(gallery, &place);
        for who in people
            .people
            .keys()
            .filter(|who| ["bob", "eve"].contains(&who.as_str()))
        {
            assert_eq!(rows(gallery, &collection, who), ["GetPerson"], "{what}: {who}");
        }
    }
}

/// Records in the data files whose keys are gone.
fn dead_and_not_purged(disk: &FakeDisk) -> usize {
    let stale = disk.0.lock().stale.clone();
    let records = stale
        .iter()
        .filter(|((family, _), _)| Family::SEALED.contains(family));
    let dead = records.filter(|(_, record)| {
        let header = Header::parse(record).expect("whole");
        disk.slot(header.slot as usize)[20..36] != header.data_key.0
    });
    dead.count()
}

/// The log is whole and signed, in both places; its anchor speaks of its end, and counts the slots.
fn assert_log(disk: &FakeDisk, gallery: &Gallery, what: &str) {
    let (log, copy, anchor) = {
        let state = disk.0.lock();
        let anchor = gallery.checkpoint().expect("every start leaves one");
        let mut places = state.anchor.durable.chunks(4096);
        assert!(places.any(|place| place.starts_with(&anchor)), "{what}: durable");
        (state.log.durable.clone(), state.copy.durable.clone(), anchor)
    };
    assert_eq!(log, copy, "{what}");
    let summary = chain::verify(&log, Some(&anchor), None).unwrap_or_else(|e| panic!("{what}: {e}"));
    let anchor = Checkpoint::parse(&anchor).expect("whole");
    assert_eq!((anchor.size, anchor.head), (summary.size, summary.head), "{what}");
    assert_eq!(anchor.live, disk.used_slots().len() as u64, "{what}: live keys");
    assert_eq!(anchor.destroyed, summary.keys_destroyed, "{what}");
    let unpurged = summary.erased + summary.reduced - summary.purged;
    assert_eq!(anchor.unpurged, unpurged, "{what}");
}

fn undisturbed(story: &Story) -> (View, View, usize) {
    let (disk, ring) = prepared();
    let gallery = opened(&disk.restarted(|_| true), &ring);
    let before = view(&gallery);
    drop(gallery);
    let disk = disk.restarted(|_| true);
    let gallery = opened(&disk, &ring);
    let operations = disk.operations();
    (story.change)(&gallery).expect("nothing is wrong");
    let operations = disk.operations() - operations;
    assert!(disk.is_durable(), "{}: acknowledged before the sync", story.name);
    assert_settled(&disk, story.name);
    if story.erases() {
        assert_log(&disk, &gallery, story.name);
    }
    let after = view(&gallery);
    assert_ne!(before, after, "{} changes something", story.name);
    (before, after, operations)
}

#[test]
fn an_acknowledged_change_is_durable_and_leaves_no_key_behind() {
    for story in &STORIES {
        let (_, after, operations) = undisturbed(story);
        assert_eq!(operations, story.operations, "{}", story.name);
        // And the power may go right after.
        let (disk, ring) = prepared();
        let gallery = opened(&disk, &ring);
        (story.change)(&gallery).expect("nothing is wrong");
        let restarted = disk.restarted(|_| false);
        let (reopened, report) = open(&restarted, &ring).expect("opens");
        assert_eq!(view(&reopened), after, "{}", story.name);
        assert_eq!((report.erasures_finished, report.keys_overwritten), (0, 0));
    }
}

#[test]
fn a_power_cut_at_any_operation_leaves_a_change_complete_or_absent() {
    let mut cuts = 0;
    for story in &STORIES {
        let (before, after, operations) = undisturbed(story);
        let allowed = allowed_views(story, &before, &after);
        for n in 0..operations {
            for fault in [Fault::Crash, Fault::CrashLate] {
                // All, none, and some of what was written and not synced has arrived.
                for arrived in [
                    u64::MAX,
                    0,
                    0x5555_5555,
                    0xaaaa_aaaa,
                    0x9669_9669,
                    0x3c5a_c3a5,
                    TORN,
                ] {
                    let what = format!("{}: {fault:?} at {n}, {arrived:x} arrived", story.name);
                    let (disk, ring) = prepared();
                    let gallery = opened(&disk, &ring);
                    disk.arm(n, fault);
                    let outcome = (story.change)(&gallery);
                    assert!(outcome.is_err(), "{what}: acknowledged without the disk");
                    drop(gallery);
                    let disk = match arrived {
                        TORN => disk.restarted_torn(),
                        _ => disk.restarted(|write| arrived >> (write % 64) & 1 == 1),
                    };
                    let (reopened, report) = open(&disk, &ring).expect("opens after a crash");
                    assert_eq!(
                        (report.damaged_persons, report.damaged_collections),
                        (0, 0),
                        "{what}"
                    );
                    let seen = view(&reopened);
                    assert!(allowed.contains(&seen), "{what}: {:?}", seen.keys());
                    assert!(disk.is_durable(), "{what}");
                    assert_settled(&disk, &what);
                    assert_rows(&disk, &reopened, &what);
                    assert_log(&disk, &reopened, &what);
                    // Nothing that was erased outlives the purge, whoever began it. What an update replaced
                    // is unreadable, and left to the next compaction.
                    reopened.purge_now().expect("purged");
                    if story.name != "update" {
                        assert_eq!(dead_and_not_purged(&disk), 0, "{what}");
                        assert_eq!(disk.stale_rows(), 0, "{what}");
                    }
                    assert_eq!(reopened.backlog().erasures, 0, "{what}");
                    assert_log(&disk, &reopened, &what);
                    drop(reopened);
                    // What the start repaired stays repaired.
                    let disk = disk.restarted(|_| false);
                    let (again, report) = open(&disk, &ring).expect("opens again");
                    assert_eq!(view(&again), seen, "{what}");
                    assert_eq!(
                        (report.erasures_finished, report.keys_overwritten),
                        (0, 0),
                        "{what}"
                    );
                }
            }
            cuts += 1;
        }
    }
    assert_eq!(cuts, 99, "operations at which the power went");
}

#[test]
fn a_power_cut_during_the_repair_of_a_start_is_repaired_by_the_next() {
    let mut cuts = 0;
    for story in &STORIES {
        let (before, after, operations) = undisturbed(story);
        let allowed = allowed_views(story, &before, &after);
        for n in 0..operations {
            let (disk, ring) = prepared();
            let gallery = opened(&disk, &ring);
            disk.arm(n, Fault::CrashLate);
            (story.change)(&gallery).expect_err("the power went");
            drop(gallery);
            let crashed = disk.restarted(|_| true);
            for m in 0.. {
                let disk = crashed.restarted(|_| true);
                disk.arm(m, Fault::Crash);
                let complete = open(&disk, &ring).is_ok();
                let disk = disk.restarted(|write| write % 2 == 0);
                let reopened = opened(&disk, &ring);
                assert!(allowed.contains(&view(&reopened)), "{} {n} {m}", story.name);
                assert_settled(&disk, story.name);
                assert_rows(&disk, &reopened, story.name);
                if complete {
                    break;
                }
                cuts += 1;
            }
        }
    }
    assert_eq!(cuts, 889, "operations of repairs at which the power went");
}

#[test]
fn any_failing_operation_is_reported_and_no_later_write_is_trusted() {
    let (mut failures, mut poisoned) = (0, 0);
    for story in &STORIES {
        let (before, after, _) = undisturbed(story);
        let allowed = allowed_views(story, &before, &after);
        for fault in [Fault::Fails, Fault::FailsLate] {
            for n in 0.. {
                let what = format!("{}: {fault:?} at {n}", story.name);
                let (disk, ring) = prepared();
                let gallery = opened(&disk, &ring);
                disk.0.lock().reads_count = true;
                disk.arm(n, fault);
                let outcome = (story.change)(&gallery);
                disk.0.lock().reads_count = false;
                if !disk.fault_was_reached() {
                    outcome.expect("nothing failed");
                    break;
                }
                let error = outcome.expect_err(&what);
                assert!(
                    matches!(error, Error::Operator(OperatorError::Store { .. })),
                    "{what}: {error}"
                );
                failures += 1;
                // Reads go on for everyone whom the change did not concern.
                let two = collection(&gallery, "two");
                if story.name != "erase everywhere" {
                    assert_eq!(found(&gallery, &two, 6), ["ada"], "{what}");
                    assert!(gallery.person(&two, &id("ada")).is_ok(), "{what}");
                }
                match enroll(&gallery, &two, "later", &[80]) {
                    Ok(_) => {
                        assert_eq!(found(&gallery, &two, 80), ["later"]);
                        gallery.delete(&two, &id("later"), REQUEST).expect("deleted");
                        // Of a change that was refused half-way nothing is done, now and after a start.
                        assert!(allowed.contains(&view(&gallery)), "{what}");
                    }
                    Err(error) => {
                        assert!(
                            matches!(error, Error::Operator(OperatorError::Poisoned)),
                            "{what}"
                        );
                        poisoned += 1;
                    }
                }
                drop(gallery);
                for arrived in [true, false] {
                    let disk = disk.restarted(|_| arrived);
                    let reopened = opened(&disk, &ring);
                    assert!(allowed.contains(&view(&reopened)), "{what}, {arrived}");
                    assert_settled(&disk, &what);
                }
            }
        }
    }
    println!("{failures} failures, {poisoned} of them in a write");
    assert_eq!(
        poisoned,
        2 * 99,
        "every failed write, and no failed read, stops writing"
    );
    assert!(failures - poisoned > 100, "and reads fail too");
}

#[test]
fn refused_writes_use_up_nothing() {
    let (disk, ring) = prepared();
    let gallery = opened(&disk, &ring);
    let one = collection(&gallery, "one");
    disk.arm(1, Fault::Fails);
    refused(enroll(&gallery, &one, "first", &[70]));
    let operations = disk.operations();
    for n in 0..5000 {
        let error = refused(enroll(&gallery, &one, &format!("n{n}"), &[71]));
        assert!(matches!(error, Error::Operator(OperatorError::Poisoned)));
    }
    let refused = gallery.delete_collection(&account(), &name("one"), REQUEST);
    assert!(matches!(refused, Err(Error::Operator(OperatorError::Poisoned))));
    assert_eq!(disk.operations(), operations, "nothing is written any more");
    assert_eq!(found(&gallery, &one, 1), ["ada"], "and the collection serves");
}

#[test]
fn a_first_start_that_was_cut_short_starts_again() {
    let ring = ring();
    for n in 0..2 {
        for fault in [Fault::Crash, Fault::CrashLate] {
            for arrived in [true, false] {
                let disk = FakeDisk::default();
                disk.arm(n, fault);
                assert!(open(&disk, &ring).is_err());
                let disk = disk.restarted(|_| arrived);
                let gallery = opened(&disk, &ring);
                create(&gallery, "one");
            }
        }
    }
}

/// The purge: one operation on the records, the log, the anchor.
#[test]
fn a_power_cut_at_any_operation_of_a_purge_is_purged_by_the_next_start_and_never_said_too_early() {
    let mut cuts = 0;
    for story in STORIES.iter().filter(|story| story.erases()) {
        for n in 0.. {
            for fault in [Fault::Crash, Fault::CrashLate] {
                for arrived in [u64::MAX, 0, 0x5555_5555, TORN] {
                    let what = format!("{}: {fault:?} at {n}, {arrived:x} arrived", story.name);
                    let (disk, ring) = prepared();
                    let gallery = opened(&disk, &ring);
                    (story.change)(&gallery).expect("nothing is wrong");
                    let after = view(&gallery);
                    assert!(gallery.backlog().erasures > 0);
                    disk.arm(n, fault);
                    if gallery.purge_now().is_ok() {
                        assert!(!disk.fault_was_reached(), "{what}");
                        break;
                    }
                    drop(gallery);
                    let disk = match arrived {
                        TORN => disk.restarted_torn(),
                        _ => disk.restarted(|write| arrived >> (write % 64) & 1 == 1),
                    };
                    let gallery = opened(&disk, &ring);
                    assert_eq!(view(&gallery), after, "{what}");
                    if gallery.backlog().erasures == 0 {
                        assert_eq!(dead_and_not_purged(&disk), 0, "{what}: said too early");
                    }
                    gallery.purge_now().expect("purged");
                    assert_eq!(dead_and_not_purged(&disk), 0, "{what}");
                    assert_eq!(gallery.backlog().erasures, 0, "{what}");
                    assert_log(&disk, &gallery, &what);
                }
            }
            if n == purge_operations(story) {
                break;
            }
            cuts += 1;
        }
    }
    println!("{cuts} operations of purges at which the power went");
    assert_eq!(cuts, 5 * 7 + 2);
}

/// The data files, the log twice, two syncs, the anchor and its sync. Of a receipt that came after the records of its
/// commit, also the row of its owner.
fn purge_operations(story: &Story) -> usize {
    7 + usize::from(["delete faces", "rename"].contains(&story.name))
}

#[test]
fn a_large_collection_half_erased_when_the_power_goes_is_gone_after_the_next_start() {
    const PEOPLE: u64 = 4500;
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let (one, two) = (create(&gallery, "one"), create(&gallery, "two"));
    enroll(&gallery, &two, "ada", &[PEOPLE]).expect("enrolled");
    std::thread::scope(|scope| {
        for part in 0..16 {
            let (gallery, one) = (&gallery, &one);
            scope.spawn(move || {
                for n in (part..PEOPLE).step_by(16) {
                    enroll(gallery, one, &format!("p{n}"), &[n]).expect("enrolled");
                }
            });
        }
    });
    drop(gallery);
    // After the collection itself: among the first 4096 people, between the groups, among the rest.
    for n in [10, 2000, 4110, 4112, 4114, 4300, 4500] {
        for fault in [Fault::Crash, Fault::CrashLate] {
            let disk = disk.restarted(|_| true);
            let gallery = opened(&disk, &ring);
            disk.arm(n, fault);
            refused(gallery.delete_collection(&account(), &name("one"), REQUEST));
            drop(gallery);
            let disk = disk.restarted(|write| write % 3 == 0);
            let (gallery, _) = open(&disk, &ring).expect("opens");
            assert!(gallery.collection(&account(), &name("one")).is_err());
            assert_eq!(found(&gallery, &collection(&gallery, "two"), PEOPLE), ["ada"]);
            assert_eq!(disk.sealed_records(), 2, "a collection and Ada");
            assert_settled(&disk, "half erased");
            assert_log(&disk, &gallery, "half erased");
        }
    }
}
