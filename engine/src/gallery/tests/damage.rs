//! Damage to one slot or record is that person's alone.

use std::sync::Arc;

use crate::gallery::Gallery;
use crate::gallery::load::LoadReport;
use crate::gallery::tests::support::*;
use crate::search::Comparison;
use likeness_store::codec::Header;
use likeness_store::keys::KeyRing;
use likeness_store::records::Family;
use likeness_store::slots::SLOT_BYTES;
use likeness_store::testing::FakeDisk;
use likeness_types::error::{Error, RequestError, Result};

const PEOPLE: [(&str, u64); 3] = [("ada", 1), ("bob", 2), ("eve", 3)];

struct Prepared {
    disk: FakeDisk,
    ring: Arc<KeyRing>,
    /// Of Bob, who will suffer.
    key: (Family, Vec<u8>),
    header: Header,
}

fn prepared() -> Prepared {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create(&gallery, "one");
    for (who, n) in PEOPLE {
        enroll(&gallery, &one, who, &[n]).expect("enrolled");
    }
    let key = (
        Family::Persons,
        likeness_store::codec::person_key(one.id, gallery.digest(&one, &id("bob"))),
    );
    let header = Header::parse(&disk.0.lock().records[&key]).expect("just written");
    drop(gallery);
    Prepared {
        disk,
        ring,
        key,
        header,
    }
}

fn is_damaged<T>(outcome: Result<T>) -> bool {
    matches!(outcome, Err(Error::Request(RequestError::Damaged)))
}

/// Bob is damaged in every call, and Ada and Eve are as they were.
fn assert_bob_alone_suffers(gallery: &Gallery, what: &str) {
    let one = collection(gallery, "one");
    assert!(is_damaged(gallery.person(&one, &id("bob"))), "{what}");
    assert!(
        is_damaged(gallery.verify(&one, &id("bob"), &query(2), Comparison::BestFace, asking())),
        "{what}"
    );
    assert!(
        is_damaged(gallery.add_faces(&one, &id("bob"), vec![face(9)], REQUEST)),
        "{what}"
    );
    assert!(is_damaged(enroll(gallery, &one, "bob", &[9])), "{what}");
    assert_eq!(found(gallery, &one, 2), [""; 0], "{what}");
    let page = gallery.list(&one, None, 10).expect("listed");
    assert_eq!((page.items.len(), page.damaged), (2, 1), "{what}");
    let info = one.info();
    assert_eq!((info.persons, info.faces, info.damaged), (3, 2, 1), "{what}");
    for (who, n) in [PEOPLE[0], PEOPLE[2]] {
        assert_eq!(found(gallery, &one, n), [who], "{what}");
        assert!(
            gallery
                .verify(&one, &id(who), &query(n), Comparison::BestFace, asking())
                .is_ok(),
            "{what}"
        );
    }
}

/// Bob can be deleted and enrolled again, and no key of his is left.
fn assert_bob_can_start_anew(gallery: &Gallery, prepared: &Prepared, disk: &FakeDisk, what: &str) {
    let one = collection(gallery, "one");
    assert_eq!(gallery.delete(&one, &id("bob"), REQUEST).expect(what).faces, 0);
    let used = disk.used_slots();
    assert!(
        !used.contains(&(prepared.header.slot as usize)),
        "{what}: the key is gone"
    );
    assert_eq!(used.len(), 3, "{what}: a collection and two people");
    assert!(gallery.person(&one, &id("bob")).is_err());
    enroll(gallery, &one, "bob", &[20]).expect(what);
    assert_eq!(found(gallery, &one, 20), ["bob"], "{what}");
    for (who, n) in [PEOPLE[0], PEOPLE[2]] {
        assert_eq!(found(gallery, &one, n), [who], "{what}");
    }
    let info = one.info();
    assert_eq!((info.persons, info.faces, info.damaged), (3, 3, 0), "{what}");
}

/// While it serves, and found at a start.
fn assert_damage_is_bobs(prepared: &Prepared, damage: &dyn Fn(&FakeDisk), what: &str) {
    let disk = prepared.disk.restarted(|_| true);
    let gallery = opened(&disk, &prepared.ring);
    damage(&disk);
    assert_bob_alone_suffers(&gallery, what);
    assert_bob_can_start_anew(&gallery, prepared, &disk, what);
    drop(gallery);

    let disk = prepared.disk.restarted(|_| true);
    damage(&disk);
    let (gallery, report) = open(&disk, &prepared.ring).expect("the others are served");
    let expected = LoadReport {
        collections: 1,
        persons: 2,
        damaged_persons: 1,
        ..LoadReport::default()
    };
    assert_eq!(report, expected, "{what}");
    assert_bob_alone_suffers(&gallery, what);
    drop(gallery);
    // Nothing heals or dies by starting once more.
    let disk = disk.restarted(|_| false);
    let (gallery, report) = open(&disk, &prepared.ring).expect("the others are served");
    assert_eq!(report, expected, "{what}");
    assert_bob_can_start_anew(&gallery, prepared, &disk, what);
}

#[test]
fn a_flipped_bit_in_a_slot_damages_that_person_alone() {
    let prepared = prepared();
    let slot = prepared.header.slot as usize;
    for bit in 0..SLOT_BYTES * 8 {
        if bit % 8 == bit / 8 % 8 {
            let flip = |disk: &FakeDisk| disk.flip_slot_bit(slot, bit);
            assert_damage_is_bobs(&prepared, &flip, &format!("bit {bit} of the slot"));
        }
    }
}

#[test]
fn a_lost_key_is_damage_and_no_erasure() {
    let prepared = prepared();
    let slot = prepared.header.slot as usize;
    assert_damage_is_bobs(&prepared, &|disk| disk.empty_slot(slot), "an empty slot");
    // A collection's: nobody in it is erased for that.
    let key = prepared.disk.keys(Family::Collections).remove(0);
    let header = Header::parse(&prepared.disk.0.lock().records[&key]).expect("just written");
    prepared.disk.empty_slot(header.slot as usize);
    let (_, report) = open(&prepared.disk, &prepared.ring).expect("opens");
    assert_eq!((report.damaged_collections, report.erasures_finished), (1, 0));
    assert_eq!(prepared.disk.used_slots().len(), 3, "everybody's key is kept");
}

#[test]
fn a_flipped_bit_in_a_record_damages_that_person_alone() {
    let prepared = prepared();
    let bytes = prepared.disk.0.lock().records[&prepared.key].len();
    assert_eq!(
        bytes,
        1 + 4 + 16 + 8 + 16 + 16 + 4 + 24 + 512 + 16,
        "one step of padding"
    );
    for bit in 0..bytes * 8 {
        // Every byte, and every bit of the slot's number and the key's id.
        if bit % 8 == bit / 8 % 8 || (8..168).contains(&bit) {
            let flip = |disk: &FakeDisk| disk.flip_record_bit(&prepared.key, bit);
            assert_damage_is_bobs(&prepared, &flip, &format!("bit {bit} of the record"));
        }
    }
}

#[test]
fn a_shortened_record_damages_that_person_alone() {
    let prepared = prepared();
    for length in [0, 1, 40, 73, 74, 200] {
        let shorten = |disk: &FakeDisk| {
            let mut state = disk.0.lock();
            state
                .records
                .get_mut(&prepared.key)
                .expect("Bob's")
                .truncate(length);
        };
        assert_damage_is_bobs(&prepared, &shorten, &format!("{length} bytes"));
    }
}

#[test]
fn another_persons_record_under_ones_key_is_damage_and_not_that_person() {
    let prepared = prepared();
    let other = prepared.disk.keys(Family::Persons);
    let other = other
        .iter()
        .find(|key| **key != prepared.key)
        .expect("three people");
    let swap = |disk: &FakeDisk| {
        let mut state = disk.0.lock();
        let theirs = state.records[other].clone();
        state.records.insert(prepared.key.clone(), theirs);
    };
    let gallery = opened(&prepared.disk, &prepared.ring);
    swap(&prepared.disk);
    let one = collection(&gallery, "one");
    assert!(is_damaged(gallery.person(&one, &id("bob"))));
    assert_eq!(found(&gallery, &one, 2), [""; 0]);
}

#[test]
fn the_end_of_the_slot_file_lost_damages_those_whose_keys_it_held_for_good() {
    let prepared = prepared();
    let slot = prepared.header.slot as usize;
    prepared.disk.truncate_slots(slot);
    let (gallery, report) = open(&prepared.disk, &prepared.ring).expect("opens");
    // Bob, and Eve who came after him.
    assert_eq!((report.persons, report.damaged_persons), (1, 2));
    let one = collection(&gallery, "one");
    // The file grows again, and nobody gets their places.
    for n in 0..10 {
        enroll(&gallery, &one, &format!("new-{n}"), &[100 + n]).expect("enrolled");
    }
    drop(gallery);
    let disk = prepared.disk.restarted(|_| false);
    let (gallery, report) = open(&disk, &prepared.ring).expect("opens");
    assert_eq!(
        (report.persons, report.damaged_persons, report.erasures_finished),
        (11, 2, 0)
    );
    let one = collection(&gallery, "one");
    assert!(is_damaged(gallery.person(&one, &id("bob"))));
    gallery.delete(&one, &id("bob"), REQUEST).expect("deleted");
    enroll(&gallery, &one, "bob", &[20]).expect("enrolled");
    assert_eq!(found(&gallery, &one, 20), ["bob"]);
}

#[test]
fn a_damaged_collection_keeps_its_people_and_can_be_deleted() {
    let prepared = prepared();
    let key = prepared.disk.keys(Family::Collections).remove(0);
    for bit in [9, 50, 200, 1000] {
        let disk = prepared.disk.restarted(|_| true);
        disk.flip_record_bit(&key, bit);
        let (gallery, report) = open(&disk, &prepared.ring).expect("opens");
        assert_eq!(
            (report.collections, report.damaged_collections),
            (0, 1),
            "bit {bit}"
        );
        assert_eq!(disk.used_slots().len(), 4, "bit {bit}: every key is kept");
        assert!(gallery.collection(&account(), &name("one")).is_err());
        drop(gallery);

        // Mended, everyone is back.
        let mended = disk.restarted(|_| true);
        mended.flip_record_bit(&key, bit);
        let gallery = opened(&mended, &prepared.ring);
        assert_eq!(found(&gallery, &collection(&gallery, "one"), 2), ["bob"]);

        let gallery = opened(&disk, &prepared.ring);
        let erased = gallery
            .delete_collection(&account(), &name("one"), REQUEST)
            .expect("deleted");
        assert_eq!(erased.persons, 3, "bit {bit}");
        assert!(disk.used_slots().is_empty(), "bit {bit}: no key is left");
        create(&gallery, "one");
    }
}

#[test]
fn slots_or_records_of_another_piece_are_refused_before_anything_is_overwritten() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create(&gallery, "one");
    std::thread::scope(|scope| {
        for part in 0..16 {
            let (gallery, one) = (&gallery, &one);
            scope.spawn(move || {
                for n in (part..9000).step_by(16) {
                    enroll(gallery, one, &format!("n{n}"), &[n]).expect("enrolled");
                }
            });
        }
    });
    drop(gallery);
    let without_records = disk.restarted(|_| true);
    without_records
        .0
        .lock()
        .records
        .retain(|(family, _), _| *family == Family::Commits);
    let error = refused(open(&without_records, &ring)).to_string();
    assert!(error.contains("9001 keys without records"), "{error}");
    without_records.0.lock().records.clear();
    let error = refused(open(&without_records, &ring)).to_string();
    assert!(error.contains("expected one as new as the slot file"), "{error}");
    assert_eq!(without_records.used_slots().len(), 9001);
    // Keys that are all empty: everyone would pass for erased.
    let emptied = disk.restarted(|_| true);
    let collection_slot = {
        let state = emptied.0.lock();
        let (_, record) = state.records.iter().next().expect("the collection comes first");
        Header::parse(record).expect("whole").slot
    };
    emptied.empty_slots_but(collection_slot as usize);
    let error = refused(open(&emptied, &ring)).to_string();
    assert!(error.contains("9000 records without keys"), "{error}");
    assert_eq!(emptied.sealed_records(), 9001);
}
