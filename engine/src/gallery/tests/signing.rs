//! Rotation of the signing key: the log vouches for the new one, and for no other.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::gallery::Gallery;
use crate::gallery::tests::support::*;
use likeness_store::keys::{KeyRing, Purpose, RingKey};
use likeness_store::receipts::chain;
use likeness_store::receipts::chain::ChainSummary;
use likeness_store::receipts::checkpoint::Checkpoint;
use likeness_store::receipts::public_key;
use likeness_store::testing::{FakeDisk, Fault, Name};
use likeness_types::error::{Error, OperatorError};

const COPIES: [Name; 2] = [Name::Log, Name::Copy];

fn same(ring: &KeyRing) -> Arc<KeyRing> {
    Arc::new(ring.without(|_| false))
}

fn public(ring: &KeyRing) -> [u8; 32] {
    public_key(ring.signing().secret.expose())
}

fn bytes(disk: &FakeDisk, name: Name) -> Vec<u8> {
    disk.0.lock().bytes(name).durable.clone()
}

fn change(disk: &FakeDisk, name: Name, change: impl FnOnce(&mut Vec<u8>)) {
    let mut state = disk.0.lock();
    let file = state.bytes(name);
    change(&mut file.durable);
    file.seen = file.durable.clone();
}

/// A verifier who has a checkpoint, and knows the first public key and no other.
fn verified(disk: &FakeDisk, gallery: &Gallery, first: &[u8; 32]) -> ChainSummary {
    let checkpoint = gallery.checkpoint().expect("every start leaves one");
    chain::verify(&bytes(disk, Name::Log), Some(&checkpoint), Some(first)).expect("whole")
}

/// Ada and Bob, and Eve erased.
fn prepared() -> (FakeDisk, Arc<KeyRing>) {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create(&gallery, "one");
    for (n, who) in (1..).zip(["ada", "bob", "eve"]) {
        enroll(&gallery, &one, who, &[n]).expect("enrolled");
    }
    gallery.delete(&one, &id("eve"), REQUEST).expect("erased");
    drop(gallery);
    (disk.restarted(|_| true), ring)
}

fn rotate(gallery: &Gallery) -> [u8; 32] {
    gallery.rotate_signing(|_| Ok(())).expect("rotated")
}

#[test]
fn after_rotations_the_log_is_verified_with_the_first_public_key_alone() {
    let (disk, ring) = prepared();
    let first = public(&ring);
    let gallery = opened(&disk, &ring);
    let one = collection(&gallery, "one");
    let before = Checkpoint::parse(&gallery.checkpoint().expect("there")).expect("whole");
    let mut keys = vec![first];
    for who in ["ada", "bob"] {
        keys.push(rotate(&gallery));
        gallery.delete(&one, &id(who), REQUEST).expect("erased");
    }
    gallery.purge_now().expect("purged");
    let summary = verified(&disk, &gallery, &first);
    assert_eq!(
        (summary.public_keys, summary.erased, summary.purged),
        (keys, 3, 3)
    );
    let after = Checkpoint::parse(&gallery.checkpoint().expect("there")).expect("whole");
    assert_ne!(after.signing_key, before.signing_key);
    assert_eq!(ring.all(Purpose::Signing).len(), 1, "one key signs");
    drop(gallery);
    let gallery = opened(&disk.restarted(|_| false), &ring);
    assert_eq!(gallery.receipts(), summary.size, "nothing is left to be said");
}

#[test]
fn a_power_cut_or_a_refusing_key_store_at_any_step_leaves_a_log_that_goes_on() {
    let (prepared, ring) = prepared();
    let first = public(&ring);
    let (mut cuts, mut done) = (0, false);
    for n in 0.. {
        for fault in [Fault::Crash, Fault::CrashLate] {
            for arrived in [u64::MAX, 0, 0x5555_5555_5555_5555] {
                // The key store refuses its first, its second or no ring.
                for refuses in 0..3 {
                    let what = format!("{fault:?} at {n}, {arrived:x} arrived, {refuses} refused");
                    let disk = prepared.restarted(|_| true);
                    let kept = Mutex::new((same(&ring), 0));
                    let gallery = opened(&disk, &same(&ring));
                    disk.arm(n, fault);
                    let outcome = gallery.rotate_signing(|ring| {
                        let mut kept = kept.lock();
                        kept.1 += 1;
                        if kept.1 == refuses + 1 && refuses < 2 {
                            return Err(OperatorError::Poisoned.into());
                        }
                        kept.0 = same(ring);
                        Ok(())
                    });
                    done |= outcome.is_ok();
                    drop(gallery);
                    let disk = disk.restarted(|write| arrived >> (write % 64) & 1 == 1);

                    // With the keys that the key store has, the log goes on: as it is, and after it is finished.
                    let (kept, _) = kept.into_inner();
                    let gallery = open(&disk, &kept).unwrap_or_else(|e| panic!("{what}: {e}")).0;
                    let one = collection(&gallery, "one");
                    gallery.delete(&one, &id("ada"), REQUEST).expect("erased");
                    verified(&disk, &gallery, &first);
                    if kept.all(Purpose::Signing).len() > 1 {
                        assert_eq!(
                            rotate(&gallery),
                            public(&kept),
                            "{what}: goes on with the same key"
                        );
                    }
                    gallery.delete(&one, &id("bob"), REQUEST).expect("erased");
                    let summary = verified(&disk, &gallery, &first);
                    assert_eq!(summary.public_keys.last(), Some(&public(&kept)), "{what}");
                    drop(gallery);
                    drop(opened(&disk.restarted(|_| true), &kept));
                }
            }
        }
        if done {
            break;
        }
        cuts += 1;
    }
    // The log's two writes and syncs, the anchor and its sync.
    assert_eq!(cuts, 6);
}

#[test]
fn a_key_that_the_log_does_not_introduce_and_one_that_is_not_in_the_keyring_are_refused() {
    let (disk, ring) = prepared();
    let (old, old_anchor) = (same(&ring), bytes(&disk, Name::Anchor));
    let gallery = opened(&disk, &ring);
    rotate(&gallery);
    gallery
        .delete(&collection(&gallery, "one"), &id("ada"), REQUEST)
        .expect("erased");
    drop(gallery);
    let whole = bytes(&disk, Name::Log);

    // An old keyring, with the anchor of now and with one of its own time.
    let stranger = same(&old.without(|key| key.purpose == Purpose::Signing));
    let stranger = Arc::new(stranger.with(RingKey::random(Purpose::Signing, "")));
    for (ring, anchor) in [(&old, None), (&old, Some(old_anchor)), (&stranger, None)] {
        let disk = disk.restarted(|_| true);
        if let Some(anchor) = anchor {
            change(&disk, Name::Anchor, |file| *file = anchor);
        }
        let error = refused(open(&disk, ring));
        assert!(
            matches!(
                error,
                Error::Operator(OperatorError::Keys { .. } | OperatorError::Format { .. })
            ),
            "{error}"
        );
        assert_eq!(
            COPIES.map(|name| bytes(&disk, name)),
            [whole.clone(), whole.clone()]
        );
    }
}

#[test]
fn an_anchor_of_a_former_key_counts_no_more() {
    let (disk, ring) = prepared();
    let former = bytes(&disk, Name::Anchor);
    let gallery = opened(&disk, &ring);
    rotate(&gallery);
    drop(gallery);
    change(&disk, Name::Anchor, |file| *file = former);
    let error = refused(open(&disk, &ring)).to_string();
    assert!(
        error.contains("an anchor signed with this deployment's key"),
        "{error}"
    );
}

#[test]
fn a_log_cut_before_the_new_key_is_refused_and_once_accepted_lets_it_in_again() {
    let (disk, ring) = prepared();
    let first = public(&ring);
    let before = bytes(&disk, Name::Log);
    let gallery = opened(&disk, &ring);
    let second = rotate(&gallery);
    drop(gallery);
    for name in COPIES {
        change(&disk, name, |log| log.truncate(before.len()));
    }
    let error = refused(open(&disk, &ring));
    assert!(
        matches!(error, Error::Operator(OperatorError::ErasureLogShort { .. })),
        "{error}"
    );
    let (gallery, _) = open_accepting(&disk, &ring, true).expect("accepted");
    gallery
        .delete(&collection(&gallery, "one"), &id("ada"), REQUEST)
        .expect("erased");
    let summary = verified(&disk, &gallery, &first);
    assert_eq!((summary.public_keys, summary.overrides), (vec![first, second], 1));
    drop(gallery);
    drop(opened(&disk.restarted(|_| true), &ring));
}
