//! What each change does to slots, keys and the index.

use crate::gallery::Gallery;
use crate::gallery::collection::Collection;
use crate::gallery::tests::support::*;
use crate::people::change::ProfileChange;
use crate::search::Comparison;
use likeness_store::codec;
use likeness_store::codec::Header;
use likeness_store::records::Family;
use likeness_store::slots::{COMMITTED, SLOT_BYTES};
use likeness_store::testing::FakeDisk;
use likeness_types::error::{Error, RequestError};

fn header(disk: &FakeDisk, gallery: &Gallery, collection: &Collection, who: &str) -> Header {
    let key = codec::person_key(collection.id, gallery.digest(collection, &id(who)));
    let state = disk.0.lock();
    Header::parse(&state.records[&(Family::Persons, key)]).expect("whole")
}

fn reason<T>(outcome: crate::Result<T>) -> RequestError {
    match refused(outcome) {
        Error::Request(reason) => reason,
        other => panic!("not a refusal of the request: {other}"),
    }
}

#[test]
fn adding_faces_keeps_the_data_key_and_its_slot() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create(&gallery, "one");
    enroll(&gallery, &one, "ada", &[1]).expect("enrolled");
    let before = header(&disk, &gallery, &one, "ada");
    let image = disk.slot(before.slot as usize);
    gallery
        .add_faces(&one, &id("ada"), vec![face(2)], REQUEST)
        .expect("added");
    let after = header(&disk, &gallery, &one, "ada");
    assert_eq!((after.slot, after.data_key), (before.slot, before.data_key));
    assert_eq!(after.generation, before.generation + 1);
    assert_eq!(disk.slot(before.slot as usize), image);
}

#[test]
fn whatever_is_removed_dies_with_its_key_and_the_slot_is_zero() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create(&gallery, "one");
    enroll(&gallery, &one, "ada", &[1, 2, 3]).expect("enrolled");
    let update = |change| gallery.update(&one, &id("ada"), change, REQUEST).map(drop);
    let removals: [&dyn Fn() -> crate::Result<()>; 4] = [
        &|| {
            update(ProfileChange {
                name: Some("New name".to_owned()),
                tags: None,
                ..ProfileChange::default()
            })
        },
        &|| {
            update(ProfileChange {
                name: None,
                tags: Some(vec![]),
                ..ProfileChange::default()
            })
        },
        &|| {
            gallery
                .delete_faces(&one, &id("ada"), vec![face_id(2)], REQUEST)
                .map(drop)
        },
        &|| gallery.delete(&one, &id("ada"), REQUEST).map(drop),
    ];
    for remove in removals {
        let before = header(&disk, &gallery, &one, "ada");
        let slot = disk.slot(before.slot as usize);
        assert_eq!(slot[20..36], before.data_key.0);
        remove().expect("removed");
        assert_eq!(disk.slot(before.slot as usize), [0; SLOT_BYTES]);
        let everything = {
            let slots: Vec<u8> = disk.used_slots().into_iter().flat_map(|s| disk.slot(s)).collect();
            let state = disk.0.lock();
            let records = state.records.values().flatten().copied();
            slots.into_iter().chain(records).collect::<Vec<u8>>()
        };
        let left = everything.windows(16).any(|bytes| bytes == &slot[COMMITTED]);
        assert!(!left, "nothing is left of the old key");
    }
}

#[test]
fn removing_nothing_or_the_last_face_or_an_unknown_one_is_refused() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create(&gallery, "one");
    enroll(&gallery, &one, "ada", &[1, 2]).expect("enrolled");
    let delete = |faces: &[u64]| {
        let faces = faces.iter().map(|n| face_id(*n)).collect();
        gallery.delete_faces(&one, &id("ada"), faces, REQUEST)
    };
    assert!(matches!(reason(delete(&[])), RequestError::Invalid { .. }));
    assert_eq!(reason(delete(&[1, 2])), RequestError::LastFace);
    assert_eq!(reason(delete(&[1, 7])), RequestError::NoFaceOfThatId);
    assert_eq!(
        delete(&[1, 1]).expect("one is left").0.expect("kept").faces.len(),
        1
    );
    assert_eq!(reason(delete(&[2])), RequestError::LastFace);
    assert_eq!(found(&gallery, &one, 1), [""; 0]);
    assert_eq!(found(&gallery, &one, 2), ["ada"]);
}

#[test]
fn twenty_faces_fit_and_not_one_more() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create(&gallery, "one");
    let twenty: Vec<u64> = (0..20).collect();
    let too_many: Vec<u64> = (0..21).collect();
    let over = RequestError::FacesPerPerson {
        faces: 21,
        faces_max: 20,
    };
    assert_eq!(reason(enroll(&gallery, &one, "ada", &too_many)), over);
    assert!(matches!(
        reason(enroll(&gallery, &one, "ada", &[])),
        RequestError::Invalid { .. }
    ));
    enroll(&gallery, &one, "ada", &twenty).expect("twenty fit");
    let more = gallery.add_faces(&one, &id("ada"), vec![face(20)], REQUEST);
    assert_eq!(reason(more), over);
    let none = gallery.add_faces(&one, &id("ada"), vec![], REQUEST);
    assert!(matches!(reason(none), RequestError::Invalid { .. }));
    for n in twenty {
        assert_eq!(found(&gallery, &one, n), ["ada"], "face {n}");
    }
}

#[test]
fn a_face_of_another_scheme_is_neither_kept_nor_compared() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create(&gallery, "one");
    let mut other = scheme();
    other.models = [9; 32];
    let mut foreign = face(1);
    foreign.scheme = other.id();
    let enrolled = gallery.enroll(&one, &id("ada"), profile("", &[]), vec![foreign], REQUEST);
    assert!(matches!(reason(enrolled), RequestError::SchemeMismatch { .. }));
    let mut asking = query(1);
    asking.probes[0].0 = other.id();
    let searched = gallery.search(&one, &asking, 1, -1.0);
    assert!(matches!(reason(searched), RequestError::SchemeMismatch { .. }));
    assert_eq!(reason(gallery.person(&one, &id("ada"))), RequestError::NoPerson);
}

#[test]
fn slots_and_numbers_are_used_again_and_never_confuse_people() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create(&gallery, "one");
    for round in 0..50 {
        let faces: Vec<u64> = (0..4).map(|n| round * 4 + n).collect();
        for (n, who) in ["ada", "bob", "eve", "zoe"].iter().enumerate() {
            enroll(&gallery, &one, who, &[faces[n]]).expect("enrolled");
        }
        // Other numbers and rows every round: the next person gets what the last one left.
        for n in [1, 3, 0, 2] {
            let who = ["ada", "bob", "eve", "zoe"][(n + round as usize) % 4];
            let face = faces[(n + round as usize) % 4];
            assert_eq!(found(&gallery, &one, face), [who]);
            gallery.delete(&one, &id(who), REQUEST).expect("deleted");
            assert_eq!(found(&gallery, &one, face), [""; 0]);
            assert_eq!(reason(gallery.person(&one, &id(who))), RequestError::NoPerson);
            assert_eq!(
                reason(gallery.delete(&one, &id(who), REQUEST)),
                RequestError::NoPerson
            );
        }
    }
    assert_eq!(disk.used_slots().len(), 1, "the collection's");
    assert_eq!(disk.sealed_records(), 1);
    let grown = disk.0.lock().slots.seen.len() as u64 / SLOT_BYTES as u64;
    assert_eq!(grown, 4097, "the file grew once");
}

#[test]
fn who_enrols_again_under_a_personid_is_another_person() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create(&gallery, "one");
    enroll(&gallery, &one, "ada", &[1]).expect("enrolled");
    assert_eq!(
        reason(enroll(&gallery, &one, "ada", &[2])),
        RequestError::PersonExists
    );
    gallery.delete(&one, &id("ada"), REQUEST).expect("deleted");
    enroll(&gallery, &one, "ada", &[2]).expect("the PersonID is free");
    for gallery in [&gallery, &opened(&disk.restarted(|_| false), &ring)] {
        let one = collection(gallery, "one");
        assert_eq!(found(gallery, &one, 1), [""; 0]);
        assert_eq!(found(gallery, &one, 2), ["ada"]);
        let verified = gallery
            .verify(&one, &id("ada"), &query(1), Comparison::BestFace, asking())
            .expect("enrolled");
        assert!(verified.similarity < 0.5, "the first face is gone");
    }
}

#[test]
fn the_slot_file_grows_when_it_is_full() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create(&gallery, "one");
    std::thread::scope(|scope| {
        for part in 0..8 {
            let (gallery, one) = (&gallery, &one);
            scope.spawn(move || {
                for n in (part..4100).step_by(8) {
                    enroll(gallery, one, &format!("p{n}"), &[n]).expect("enrolled");
                }
            });
        }
    });
    assert_eq!(disk.used_slots().len(), 4101);
    let (reopened, report) = open(&disk.restarted(|_| false), &ring).expect("opens");
    assert_eq!((report.persons, report.damaged_persons), (4100, 0));
    for n in [0, 4095, 4096, 4099] {
        assert_eq!(
            found(&reopened, &collection(&reopened, "one"), n),
            [format!("p{n}")]
        );
    }
}
