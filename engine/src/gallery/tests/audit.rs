//! The audit log's end: whoever cuts it off is found out.

use std::sync::Arc;

use crate::gallery::tests::support::*;
use crate::gallery::{Background, Gallery};
use likeness_store::keys::KeyRing;
use likeness_store::records::Family;
use likeness_store::testing::{FakeDisk, FakeFile, Fault, Name};
use likeness_types::act::{Act, AuditEntry};
use likeness_types::clock::Clock;
use likeness_types::error::{Error, OperatorError, Result};

const ENTRIES: u64 = 5;

fn entry(object: &str) -> AuditEntry {
    AuditEntry {
        account: account(),
        key: None,
        request: REQUEST,
        act: Act::CreateCollection,
        of: account(),
        object: object.to_owned(),
    }
}

fn prepared() -> (FakeDisk, Arc<KeyRing>) {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    for number in 0..ENTRIES {
        gallery
            .audited(&entry(&format!("c{number}")), || Ok(()))
            .expect("written");
    }
    (disk, ring)
}

fn accepting(disk: &FakeDisk, ring: &Arc<KeyRing>) -> Result<Gallery> {
    let slots = Box::new(FakeFile(disk.clone(), Name::Slots));
    let background = Background {
        accept_short_audit_log: true,
        ..background(Clock::System)
    };
    Gallery::open(
        |counters| vault_of(disk, slots, ring, false, counters),
        background,
    )
    .map(|(gallery, _)| gallery)
}

fn objects(gallery: &Gallery) -> Vec<String> {
    let mut objects = Vec::new();
    let size = gallery.audit_log(0, &mut |audited| {
        objects.push(audited.entry.object);
        true
    });
    assert_eq!(size.expect("read"), objects.len() as u64);
    objects
}

/// The newest entries gone, and everything else as it was.
fn cut(disk: &FakeDisk, kept: u64) -> FakeDisk {
    let disk = disk.restarted(|_| true);
    for entry in disk.keys(Family::Audit).into_iter().skip(kept as usize) {
        disk.0.lock().records.remove(&entry);
    }
    disk
}

fn change(disk: &FakeDisk, change: impl FnOnce(&mut Vec<u8>)) {
    let mut state = disk.0.lock();
    let anchor = state.bytes(Name::AuditAnchor);
    change(&mut anchor.durable);
    anchor.seen = anchor.durable.clone();
}

/// What a start says of a log that does not reach its anchor.
fn short(disk: &FakeDisk, ring: &Arc<KeyRing>) -> (Option<u64>, u64) {
    match open(disk, ring).err().expect("must be refused") {
        Error::Operator(OperatorError::AuditLogShort { expected, found }) => (expected, found),
        error => panic!("{error}"),
    }
}

#[test]
fn a_missing_end_stops_the_start_until_the_operator_accepts_it_and_that_is_written_down() {
    let (disk, ring) = prepared();
    for kept in 0..ENTRIES {
        let disk = cut(&disk, kept);
        assert_eq!(short(&disk, &ring), (Some(ENTRIES), kept));
        // Asking again changes nothing.
        assert_eq!(short(&disk, &ring), (Some(ENTRIES), kept));
        let gallery = accepting(&disk, &ring).expect("the operator accepts");
        let said = format!("expected {ENTRIES}, found {kept}");
        assert_eq!(objects(&gallery).last(), Some(&said));
        drop(gallery);
        let gallery = opened(&disk.restarted(|_| false), &ring);
        assert_eq!(
            objects(&gallery).len() as u64,
            kept + 1,
            "and is good from then on"
        );
    }
    opened(&cut(&disk, ENTRIES), &ring);
}

#[test]
fn accepting_a_whole_log_says_nothing() {
    let (disk, ring) = prepared();
    let gallery = accepting(&disk.restarted(|_| true), &ring).expect("opens");
    assert_eq!(objects(&gallery).len() as u64, ENTRIES);
}

#[test]
fn an_older_copy_of_the_data_is_noticed_and_so_is_an_end_that_was_written_anew() {
    let (disk, ring) = prepared();
    let older = disk.restarted(|_| true);
    let audit = |disk: &FakeDisk, object: &str| {
        let gallery = opened(disk, &ring);
        gallery.audited(&entry(object), || Ok(())).expect("written");
    };
    audit(&disk, "this");
    audit(&older, "that");
    // Whoever has the keys can seal another entry, and not make it the one that was there.
    let forked = disk.restarted(|_| true);
    let last = forked.keys(Family::Audit).pop().expect("entries");
    let that = older.0.lock().records[&last].clone();
    forked.0.lock().records.insert(last, that);
    assert_eq!(short(&forked, &ring), (Some(ENTRIES + 1), ENTRIES + 1));
}

#[test]
fn an_anchor_that_is_gone_or_of_others_stops_the_start_of_a_log_with_entries() {
    let (disk, ring) = prepared();
    let changes: [fn(&mut Vec<u8>); 3] = [
        Vec::clear,
        |anchor| anchor.fill(0),
        |anchor| {
            anchor.iter_mut().for_each(|byte| *byte ^= 1);
        },
    ];
    for changed in changes {
        let disk = disk.restarted(|_| true);
        change(&disk, changed);
        assert_eq!(short(&disk, &ring), (None, ENTRIES));
        drop(accepting(&disk, &ring).expect("the operator accepts"));
        opened(&disk.restarted(|_| false), &ring);
    }
    // Of two anchors the older one speaks of less: an entry may be missing then, and no more.
    let newest = ENTRIES % 2;
    let disk = disk.restarted(|_| true);
    change(&disk, |anchor| anchor[newest as usize * 4096] ^= 1);
    assert_eq!(
        short(&cut(&disk, ENTRIES - 2), &ring),
        (Some(ENTRIES - 1), ENTRIES - 2)
    );
    opened(&cut(&disk, ENTRIES - 1), &ring);
}

#[test]
fn a_power_cut_at_any_operation_loses_no_entry_of_an_act_that_was_carried_out() {
    let mut cuts = 0;
    for fault in [Fault::Crash, Fault::CrashLate, Fault::Fails, Fault::FailsLate] {
        for arrived in [true, false] {
            for n in 0.. {
                let what = format!("{fault:?} at {n}, {arrived}");
                let (disk, ring) = prepared();
                let gallery = opened(&disk, &ring);
                let mut acted = false;
                disk.arm(n, fault);
                let outcome = gallery.audited(&entry("last"), || {
                    acted = true;
                    Ok(())
                });
                assert_eq!(
                    outcome.is_ok(),
                    acted,
                    "{what}: nothing is done that is not written down"
                );
                let reached = disk.fault_was_reached();
                drop(gallery);
                let disk = disk.restarted(|_| arrived);
                let gallery = opened(&disk, &ring);
                let written = objects(&gallery).len() as u64 - ENTRIES;
                assert!(written == 1 || !acted && written == 0, "{what}: {written}");
                drop(gallery);
                // From the next start on also an entry that nobody was told of is known to be there.
                let found = short(&cut(&disk, ENTRIES + written - 1), &ring);
                assert_eq!(found, (Some(ENTRIES + written), ENTRIES + written - 1), "{what}");
                if !reached {
                    break;
                }
                cuts += 1;
            }
        }
    }
    assert_eq!(cuts, 4 * 2 * 3, "the entry, the anchor, its sync");
}

#[test]
fn a_first_start_that_was_cut_short_at_the_anchor_starts_again() {
    let ring = ring();
    for n in 0..20 {
        for arrived in [true, false] {
            let disk = FakeDisk::default();
            disk.arm(n, Fault::Crash);
            let _ = open(&disk, &ring);
            opened(&disk.restarted(|_| arrived), &ring);
            opened(&disk.restarted_torn(), &ring);
        }
    }
}
