//! One PersonID erased everywhere: in one commit, and in collections that cannot be read.

use std::sync::Arc;

use crate::gallery::Gallery;
use crate::gallery::collection::Collection;
use crate::gallery::tests::support::*;
use crate::people::erase_everywhere::ErasureIn;
use likeness_store::receipts::{Receipt, chain, subject};
use likeness_store::records::Family;
use likeness_store::testing::{FakeDisk, Fault, Name};
use likeness_types::names::Account;

fn other_account() -> Account {
    Account::parse("another").expect("allowed")
}

/// Ada in three collections, and in one of another account; Bob in the first.
fn prepared(gallery: &Gallery) -> Vec<Arc<Collection>> {
    let mut all: Vec<_> = ["one", "two", "three"].map(|text| create(gallery, text)).into();
    let theirs = gallery.create_collection(&other_account(), &name("one"), scheme(), settings(), REQUEST);
    all.push(theirs.expect("created"));
    for (n, collection) in (0..).zip(&all) {
        enroll(gallery, collection, "ada", &[n, 100 + n]).expect("enrolled");
    }
    enroll(gallery, &all[0], "bob", &[50]).expect("enrolled");
    all
}

fn everywhere(gallery: &Gallery) -> Vec<ErasureIn> {
    gallery
        .erase_everywhere(&account(), &id("ada"), REQUEST)
        .expect("erased")
}

#[test]
fn everywhere_is_one_commit_with_a_receipt_for_each_collection() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let all = prepared(&gallery);
    let syncs = disk.syncs();
    let erased = everywhere(&gallery);
    // The log twice, the slots, the records, the anchor.
    assert_eq!(disk.syncs() - syncs, 5);
    let names: Vec<_> = erased
        .iter()
        .map(|e| e.collection.as_ref().expect("readable").as_str())
        .collect();
    assert_eq!(names, ["one", "three", "two"]);
    for (n, erased) in (1..).zip(&erased) {
        assert_eq!((erased.erasure.faces, erased.erasure.receipt.sequence), (2, n));
        let (receipt, _) = Receipt::parse(&erased.erasure.receipt.bytes).expect("whole");
        assert_eq!((receipt.faces, receipt.keys.len()), (2, 1));
        let nonce = &erased.erasure.receipt.nonce;
        let expected = subject(nonce, &account(), erased.collection.as_ref(), Some(&id("ada")));
        assert_eq!(receipt.subject, expected);
    }
    for (n, one) in (0..3).zip(&all) {
        assert_eq!(found(&gallery, one, n), [""; 0]);
        assert!(gallery.person(one, &id("ada")).is_err());
    }
    assert_eq!(found(&gallery, &all[0], 50), ["bob"]);
    assert_eq!(
        found(&gallery, &all[3], 3),
        ["ada"],
        "another account's Ada is somebody else"
    );
    assert!(everywhere(&gallery).is_empty(), "nobody is no error");
    gallery.purge_now().expect("purged");
    assert_eq!(gallery.backlog().erasures, 0);
}

#[test]
fn whatever_fails_before_the_commit_erases_nobody_anywhere() {
    let mut failures = 0;
    for n in 0.. {
        let (disk, ring) = (FakeDisk::default(), ring());
        let gallery = opened(&disk, &ring);
        prepared(&gallery);
        let (before, log) = (view(&gallery), gallery.receipts());
        disk.0.lock().reads_count = true;
        disk.arm(n, Fault::Fails);
        let outcome = gallery.erase_everywhere(&account(), &id("ada"), REQUEST);
        disk.0.lock().reads_count = false;
        assert!(outcome.is_err());
        assert_eq!((view(&gallery), gallery.receipts()), (before, log));
        // From the first write on, a restart decides.
        if enroll(&gallery, &collection(&gallery, "one"), "eve", &[60]).is_err() {
            break;
        }
        failures += 1;
    }
    assert!(failures > 10, "every read of the plan: {failures}");
}

#[test]
fn people_of_collections_that_cannot_be_read_are_erased_everywhere_too() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let all = prepared(&gallery);
    drop(gallery);
    // The first of the account's collections, and the other account's.
    for damaged in [&all[0], &all[3]] {
        let key = [damaged.digest.0, damaged.id.0].concat();
        disk.flip_record_bit(&(Family::Collections, key), 1000);
    }
    let (gallery, report) = open(&disk, &ring).expect("opens");
    assert_eq!((report.collections, report.damaged_collections), (2, 2));
    let erased = everywhere(&gallery);
    let names: Vec<_> = erased
        .iter()
        .map(|e| e.collection.as_ref().map(|name| name.as_str()))
        .collect();
    assert_eq!(names, [Some("three"), Some("two"), None]);
    let unnamed = &erased[2].erasure;
    assert_eq!(unnamed.faces, 2, "the record itself can be read");
    let (receipt, _) = Receipt::parse(&unnamed.receipt.bytes).expect("whole");
    assert_eq!(
        receipt.subject,
        subject(&unnamed.receipt.nonce, &account(), None, Some(&id("ada")))
    );
    assert_eq!(
        disk.keys(Family::Persons).len(),
        2,
        "Bob, and the other account's Ada"
    );
    // Four collections, and those two.
    assert_eq!(disk.used_slots().len(), 6);
    gallery.purge_now().expect("purged");
    drop(gallery);

    // Mended, the collection has Bob alone.
    let disk = disk.restarted(|_| false);
    let key = [all[0].digest.0, all[0].id.0].concat();
    disk.flip_record_bit(&(Family::Collections, key), 1000);
    let gallery = opened(&disk, &ring);
    let one = collection(&gallery, "one");
    assert_eq!(
        (found(&gallery, &one, 0), found(&gallery, &one, 50)),
        (vec![], vec!["bob".to_owned()])
    );
    let log = disk.0.lock().bytes(Name::Log).durable.clone();
    assert_eq!(chain::verify(&log, None, None).expect("whole").erased, 3);
}
