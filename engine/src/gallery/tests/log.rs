//! The erasure log against lost ends, damage, and other logs.

use std::sync::Arc;

use crate::gallery::tests::support::*;
use likeness_store::keys::KeyRing;
use likeness_store::receipts::chain;
use likeness_store::testing::{FakeDisk, Name};
use likeness_types::error::{Error, OperatorError};
use likeness_types::names::RandomId;

/// Two people erased one after the other, one left.
fn prepared() -> (FakeDisk, Arc<KeyRing>) {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create(&gallery, "one");
    for (n, who) in ["ada", "bob", "eve"].into_iter().enumerate() {
        enroll(&gallery, &one, who, &[n as u64]).expect("enrolled");
    }
    gallery.delete(&one, &id("ada"), REQUEST).expect("erased");
    gallery.delete(&one, &id("bob"), REQUEST).expect("erased");
    drop(gallery);
    (disk.restarted(|_| true), ring)
}

const COPIES: [Name; 2] = [Name::Log, Name::Copy];

fn change(disk: &FakeDisk, name: Name, change: impl FnOnce(&mut Vec<u8>)) {
    let mut state = disk.0.lock();
    let file = state.bytes(name);
    change(&mut file.durable);
    file.seen = file.durable.clone();
}

fn bytes(disk: &FakeDisk, name: Name) -> Vec<u8> {
    disk.0.lock().bytes(name).durable.clone()
}

/// The beginning of the last receipt: one key.
fn last(log: &[u8]) -> usize {
    log.len() - (160 + 32 + 64)
}

fn refused_as_found(disk: &FakeDisk, ring: &Arc<KeyRing>) -> Error {
    let before = COPIES.map(|name| bytes(disk, name));
    let slots = disk.used_slots();
    let error = refused(open(disk, ring));
    assert_eq!(
        COPIES.map(|name| bytes(disk, name)),
        before,
        "left as it was found"
    );
    assert_eq!(disk.used_slots(), slots);
    error
}

fn opens_whole(disk: &FakeDisk, ring: &Arc<KeyRing>, whole: &[u8]) {
    let gallery = opened(disk, ring);
    assert_eq!(found(&gallery, &collection(&gallery, "one"), 2), ["eve"]);
    for name in COPIES {
        assert!(bytes(disk, name).starts_with(whole), "{name:?} is completed");
    }
    chain::verify(&bytes(disk, Name::Log), None, None).expect("whole");
}

#[test]
fn one_copy_lost_cut_or_changed_anywhere_is_completed_from_the_other() {
    let (good, ring) = prepared();
    let whole = bytes(&good, Name::Log);
    for name in COPIES {
        for length in [0, 1, 100, last(&whole), whole.len() - 1] {
            let disk = good.restarted(|_| true);
            change(&disk, name, |log| log.truncate(length));
            opens_whole(&disk, &ring, &whole);
        }
        for bit in (0..whole.len() * 8).step_by(61) {
            let disk = good.restarted(|_| true);
            change(&disk, name, |log| log[bit / 8] ^= 1 << (bit % 8));
            if (64..192).contains(&bit) {
                // Another deployment's name is not taken for damage: nothing of theirs is overwritten.
                refused_as_found(&disk, &ring);
            } else {
                opens_whole(&disk, &ring, &whole);
            }
        }
    }
}

#[test]
fn a_log_shorter_than_its_anchor_is_refused_and_accepting_that_is_in_the_log() {
    let (good, ring) = prepared();
    let whole = bytes(&good, Name::Log);
    for length in [0, last(&whole) - 10, last(&whole), whole.len() - 1] {
        let disk = good.restarted(|_| true);
        for name in COPIES {
            change(&disk, name, |log| log.truncate(length));
        }
        let error = refused_as_found(&disk, &ring);
        assert!(
            matches!(error, Error::Operator(OperatorError::ErasureLogShort { expected, found }) if found < expected),
            "{error}"
        );
        let (gallery, _) = open_accepting(&disk, &ring, true).expect("accepted");
        drop(gallery);
        let log = bytes(&disk, Name::Log);
        let summary = chain::verify(&log, None, None).expect("whole");
        assert_eq!(summary.overrides, 1, "{length}");
        // Once is enough, also when the power goes before the anchor knows of it.
        let again = good.restarted(|_| true);
        for name in COPIES {
            change(&again, name, |bytes| bytes.clone_from(&log));
        }
        for disk in [disk, again] {
            drop(opened(&disk, &ring));
            let log = bytes(&disk, Name::Log);
            assert_eq!(chain::verify(&log, None, None).expect("whole").overrides, 1);
        }
    }
}

#[test]
fn damage_in_both_copies_is_refused_and_can_be_accepted() {
    let (good, ring) = prepared();
    let whole = bytes(&good, Name::Log);
    for (local, copy) in [(300, 300), (300, 700), (last(&whole) + 20, 400), (6, 6)] {
        let disk = good.restarted(|_| true);
        change(&disk, Name::Log, |log| log[local] ^= 1);
        change(&disk, Name::Copy, |log| log[copy] ^= 1);
        let error = refused_as_found(&disk, &ring);
        assert!(
            matches!(error, Error::Operator(OperatorError::Format { .. })),
            "{error}"
        );
        drop(open_accepting(&disk, &ring, true).expect("accepted"));
        let summary = chain::verify(&bytes(&disk, Name::Log), None, None).expect("cut at the damage");
        assert_eq!(summary.overrides, 1);
    }
}

#[test]
fn an_anchor_that_is_missing_damaged_or_anothers_is_refused() {
    let (good, ring) = prepared();
    let (other, _) = prepared();
    let theirs = bytes(&other, Name::Anchor);
    let mut damaged = bytes(&good, Name::Anchor);
    for place in damaged.chunks_mut(4096) {
        place[50] ^= 1;
    }
    for anchor in [Vec::new(), damaged, theirs] {
        let disk = good.restarted(|_| true);
        change(&disk, Name::Anchor, |file| file.clone_from(&anchor));
        refused_as_found(&disk, &ring);
        let accepted = open_accepting(&disk, &ring, true);
        assert_eq!(
            accepted.is_ok(),
            anchor.is_empty(),
            "only what is missing can be accepted"
        );
    }
}

#[test]
fn another_log_signed_with_the_same_key_is_refused() {
    let (good, ring) = prepared();
    let fork = good.restarted(|_| true);
    let gallery = opened(&fork, &ring);
    gallery
        .delete(&collection(&gallery, "one"), &id("eve"), REQUEST)
        .expect("erased");
    drop(gallery);
    let gallery = opened(&good, &ring);
    let one = collection(&gallery, "one");
    gallery
        .delete(&one, &id("eve"), RandomId([8; 16]))
        .expect("erased");
    drop(gallery);
    let theirs = bytes(&fork, Name::Log);
    let disk = good.restarted(|_| true);
    for name in COPIES {
        change(&disk, name, |log| log.clone_from(&theirs));
    }
    refused_as_found(&disk, &ring);
    assert!(open_accepting(&disk, &ring, true).is_err(), "it is not short");
}
