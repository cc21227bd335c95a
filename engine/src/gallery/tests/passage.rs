//! People copied and renamed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};

use crate::gallery::Gallery;
use crate::gallery::collection::Collection;
use crate::gallery::tests::erasure::copy as copy_files;
use crate::gallery::tests::support::*;
use crate::search::Query;
use likeness_store::codec;
use likeness_store::codec::Header;
use likeness_store::receipts::{Receipt, ReceiptKind};
use likeness_store::records::Family;
use likeness_store::residue;
use likeness_store::slots::{COMMITTED, SLOT_BYTES};
use likeness_store::testing::FakeDisk;
use likeness_types::error::{Error, RequestError, Result};
use likeness_types::names::RandomId;
use likeness_types::person::{Consent, NewFace, Profile, Timestamp};
use likeness_types::scheme::Scheme;
use likeness_types::template::Bits;

fn reason<T>(outcome: Result<T>) -> RequestError {
    match refused(outcome) {
        Error::Request(reason) => reason,
        other => panic!("not a refusal of the request: {other}"),
    }
}

/// An empty collection of another scheme.
fn create_of(gallery: &Gallery, text: &str, scheme: Scheme) -> Arc<Collection> {
    let settings = crate::CollectionSettings {
        bits: scheme.bits,
        ..settings()
    };
    let created = gallery.create_collection(&account(), &name(text), scheme, settings, REQUEST);
    created.expect("created")
}

fn full_profile() -> Profile {
    Profile {
        name: "Ada".to_owned(),
        tags: vec!["first".to_owned()],
        consent: Some(Consent {
            purpose: "door access".to_owned(),
            given: Timestamp(7),
            of_age_or_parental: true,
        }),
        expires: Some(Timestamp(Timestamp::now().0 + 1_000_000)),
    }
}

#[test]
fn a_copy_has_everything_but_ids_of_its_own_and_lives_by_itself() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let (one, two) = (create(&gallery, "one"), create(&gallery, "two"));
    let (ada, eve) = (id("ada"), id("eve"));
    let enrolled = gallery.enroll(&one, &ada, full_profile(), vec![face(1), face(2)], REQUEST);
    let enrolled = enrolled.expect("enrolled");
    let copy = gallery.copy((&one, &ada), (&two, &eve), REQUEST).expect("copied");
    assert_eq!(copy.id, eve);
    assert!(copy.profile == enrolled.profile, "consent and expiry too");
    assert!(copy.enrolled >= enrolled.enrolled);
    for (copied, face) in copy.faces.iter().zip(&enrolled.faces) {
        assert_ne!(copied.id, face.id);
        assert!(copied.template.any() == face.template.any());
        assert_eq!(copied.enrolled, face.enrolled);
        assert_eq!(copied.detection_score, face.detection_score);
    }
    assert_eq!(disk.used_slots().len(), 4, "a key of its own");
    gallery.delete(&one, &ada, REQUEST).expect("erased");
    for gallery in [&gallery, &opened(&disk.restarted(|_| false), &ring)] {
        let (one, two) = (collection(gallery, "one"), collection(gallery, "two"));
        assert_eq!(found(gallery, &one, 1), [""; 0]);
        assert_eq!(found(gallery, &two, 1), ["eve"]);
        assert_eq!(found(gallery, &two, 2), ["eve"]);
    }
    // And within one collection.
    gallery.copy((&two, &eve), (&two, &ada), REQUEST).expect("copied");
    gallery.delete(&two, &eve, REQUEST).expect("erased");
    assert_eq!(found(&gallery, &two, 2), ["ada"]);
}

#[test]
fn a_shorter_copy_is_the_beginning_and_is_found_as_if_it_had_been_enrolled_there() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let long = Scheme {
        bits: Bits::B1024,
        ..scheme()
    };
    let long_one = create_of(&gallery, "long", long.clone());
    let short = create(&gallery, "short");
    let mut numbers = Numbers(1);
    let words: Vec<u64> = (0..16).map(|_| numbers.next()).collect();
    let template = || crate::Template::from_words(words.clone().into_iter());
    let mut new = NewFace::new(template(), long.id(), 0.9);
    new.id = face_id(1);
    let ada = id("ada");
    gallery
        .enroll(&long_one, &ada, profile("", &[]), vec![new], REQUEST)
        .expect("enrolled");
    let copy = gallery
        .copy((&long_one, &ada), (&short, &ada), REQUEST)
        .expect("copied");
    assert!(*copy.faces[0].template.any() == template().beginning(Bits::B256));
    assert_eq!(copy.faces[0].scheme, scheme_id());
    let asked = Query {
        probes: vec![(scheme_id(), Arc::new(probe_of(&template().beginning(Bits::B256))))],
    };
    let matches = gallery.search(&short, &asked, 1, 0.99).expect("searched");
    assert_eq!(matches[0].person.id, ada);
    // The way back would need bits that are not there.
    let back = reason(gallery.copy((&short, &ada), (&long_one, &id("eve")), REQUEST));
    assert!(matches!(back, RequestError::NoPassage { .. }));
    let said = back.to_string();
    assert!(
        said.contains(&scheme().to_string()) && said.contains(&long.to_string()),
        "{said}"
    );
}

#[test]
fn a_copy_under_another_key_or_of_other_models_is_refused() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create(&gallery, "one");
    enroll(&gallery, &one, "ada", &[1]).expect("enrolled");
    let foreign = [
        Scheme {
            projection: RandomId([9; 16]),
            ..scheme()
        },
        Scheme {
            models: [9; 32],
            ..scheme()
        },
    ];
    for (n, scheme) in foreign.into_iter().enumerate() {
        let other = create_of(&gallery, &format!("other-{n}"), scheme);
        let refused = reason(gallery.copy((&one, &id("ada")), (&other, &id("ada")), REQUEST));
        assert!(matches!(refused, RequestError::NoPassage { .. }));
        assert_eq!(other.info().persons, 0);
    }
}

#[test]
fn nobody_is_copied_or_renamed_from_nothing_or_onto_somebody() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let (one, two) = (create(&gallery, "one"), create(&gallery, "two"));
    enroll(&gallery, &one, "ada", &[1, 2]).expect("enrolled");
    enroll(&gallery, &two, "bob", &[3]).expect("enrolled");
    let (ada, bob, eve) = (id("ada"), id("bob"), id("eve"));
    let before = view(&gallery);
    let operations = disk.operations();
    assert_eq!(
        reason(gallery.copy((&one, &eve), (&two, &eve), REQUEST)),
        RequestError::NoPerson
    );
    assert_eq!(
        reason(gallery.copy((&one, &eve), (&one, &eve), REQUEST)),
        RequestError::NoPerson
    );
    assert_eq!(
        reason(gallery.copy((&one, &ada), (&two, &bob), REQUEST)),
        RequestError::PersonExists
    );
    assert_eq!(
        reason(gallery.copy((&one, &ada), (&one, &ada), REQUEST)),
        RequestError::PersonExists
    );
    assert_eq!(
        reason(gallery.rename(&one, &eve, &bob, REQUEST)),
        RequestError::NoPerson
    );
    assert_eq!(
        reason(gallery.rename(&one, &ada, &ada, REQUEST)),
        RequestError::PersonExists
    );
    enroll(&gallery, &one, "bob", &[4]).expect("enrolled");
    assert_eq!(
        reason(gallery.rename(&one, &ada, &bob, REQUEST)),
        RequestError::PersonExists
    );
    gallery.delete(&one, &bob, REQUEST).expect("erased");
    gallery
        .update_collection(
            &two,
            |settings| {
                Ok(crate::CollectionSettings {
                    faces_per_person_max: 1,
                    ..settings
                })
            },
            REQUEST,
        )
        .expect("changed");
    let many = RequestError::FacesPerPerson {
        faces: 2,
        faces_max: 1,
    };
    assert_eq!(reason(gallery.copy((&one, &ada), (&two, &eve), REQUEST)), many);
    gallery
        .delete_collection(&account(), &name("two"), REQUEST)
        .expect("deleted");
    assert_eq!(
        reason(gallery.copy((&one, &ada), (&two, &eve), REQUEST)),
        RequestError::NoCollection
    );
    assert_eq!(
        reason(gallery.copy((&two, &bob), (&one, &eve), REQUEST)),
        RequestError::NoCollection
    );
    assert!(disk.operations() > operations);
    assert_eq!(view(&gallery)["one"], before["one"]);
    assert!(one.people.read().renames.is_empty());
}

#[test]
fn a_renamed_person_has_another_record_and_key_and_the_old_ones_are_gone() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create(&gallery, "one");
    gallery
        .enroll(&one, &id("ada"), full_profile(), vec![face(1), face(2)], REQUEST)
        .expect("enrolled");
    let digest = gallery.digest(&one, &id("ada"));
    let key = codec::person_key(one.id, digest);
    let before = Header::parse(&disk.0.lock().records[&(Family::Persons, key.clone())]).expect("whole");
    let slot = disk.slot(before.slot as usize);
    let renamed = gallery
        .rename(&one, &id("ada"), &id("eve"), REQUEST)
        .expect("renamed");
    assert_eq!(renamed.profile.name, "Ada");
    assert!(renamed.profile.consent == full_profile().consent);
    assert_eq!((renamed.id.as_str(), renamed.faces.len()), ("eve", 2));
    assert_eq!(renamed.faces[0].id, face_id(1), "the faces are the same");
    assert_eq!(disk.slot(before.slot as usize), [0; SLOT_BYTES]);
    assert!(!disk.0.lock().records.contains_key(&(Family::Persons, key)));
    let everything: Vec<u8> = {
        let slots: Vec<u8> = disk.used_slots().into_iter().flat_map(|s| disk.slot(s)).collect();
        let state = disk.0.lock();
        let records = state
            .records
            .iter()
            .flat_map(|((_, key), record)| [key.clone(), record.clone()]);
        records.flatten().chain(slots).collect()
    };
    for gone in [&slot[COMMITTED], &digest.0] {
        assert!(!everything.windows(16).any(|bytes| bytes == gone));
    }
    let last = gallery
        .receipt(gallery.receipts() - 1)
        .expect("read")
        .expect("there");
    let (receipt, _) = Receipt::parse(&last).expect("whole");
    assert_eq!((receipt.kind, receipt.request), (ReceiptKind::Reduced, REQUEST));
    assert_eq!(
        (receipt.keys.len(), receipt.subject),
        (0, [0; 32]),
        "nobody was erased"
    );
    for gallery in [&gallery, &opened(&disk.restarted(|_| false), &ring)] {
        let one = collection(gallery, "one");
        assert_eq!(reason(gallery.person(&one, &id("ada"))), RequestError::NoPerson);
        assert_eq!(found(gallery, &one, 1), ["eve"]);
        assert_eq!(one.info().persons, 1);
    }
    // The old PersonID is free, for another person.
    enroll(&gallery, &one, "ada", &[7]).expect("free");
    assert_eq!(found(&gallery, &one, 7), ["ada"]);
    assert_eq!(found(&gallery, &one, 2), ["eve"]);
}

/// On real files: what the audit of an erasure looks for is not there either.
#[test]
fn after_a_rename_the_old_personid_is_nowhere_and_a_backup_brings_it_back_as_anybody() {
    let (home, ring) = (tempfile::tempdir().expect("a directory"), ring());
    let data = home.path().join("data");
    let gallery = opened_at(&data, &ring);
    let one = create(&gallery, "one");
    enroll(&gallery, &one, "ada.needle@example.org", &[1]).expect("enrolled");
    enroll(&gallery, &one, "bob", &[2]).expect("enrolled");
    drop(gallery);
    let backup = home.path().join("backup");
    copy_files(&data, &backup);

    let gallery = opened_at(&data, &ring);
    let one = collection(&gallery, "one");
    let old = id("ada.needle@example.org");
    let prints = gallery.fingerprints(&one, &old).expect("prepared");
    let before = residue::scan(&prints, &data).expect("scanned");
    assert!(!before.findings.is_empty(), "the scan sees what is there");
    gallery.rename(&one, &old, &id("eve"), REQUEST).expect("renamed");
    gallery.purge_now().expect("purged");
    // The person stays, and with the person the running log, which names no PersonID in clear.
    let left = || {
        let mut findings = residue::scan(&prints, &data).expect("scanned").findings;
        findings.retain(|finding| finding.kind != residue::ResidueKind::RunningLog);
        findings
    };
    assert_eq!(left(), []);
    assert_eq!(found(&gallery, &one, 1), ["eve"]);
    drop(gallery);
    assert_eq!(left(), []);

    std::fs::remove_dir_all(&data).expect("removed");
    copy_files(&backup, &data);
    let (gallery, report) = open_at(&data, &ring).expect("opens");
    assert_eq!((report.persons, report.erasures_repeated), (2, 0));
    let one = collection(&gallery, "one");
    assert_eq!(found(&gallery, &one, 1), ["ada.needle@example.org"]);
}

#[test]
fn a_search_beside_renames_names_the_person_always_and_never_by_a_personid_given_up_before() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create(&gallery, "one");
    enroll(&gallery, &one, "p0", &[1]).expect("enrolled");
    disk.0.lock().sync_takes = std::time::Duration::from_micros(200);
    let (latest, renaming) = (AtomicU64::new(0), AtomicBool::new(true));
    let searches = std::thread::scope(|scope| {
        let (gallery, one, latest, renaming) = (&gallery, &one, &latest, &renaming);
        let readers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(move || {
                    let mut searches = 0;
                    while renaming.load(Ordering::Relaxed) {
                        let acknowledged = latest.load(Ordering::SeqCst);
                        let reading = one.readers.begin();
                        let found = found(gallery, one, 1);
                        drop(reading);
                        let [who] = &found[..] else {
                            panic!("found {} people", found.len());
                        };
                        let n: u64 = who[1..].parse().expect("a number");
                        assert!(n >= acknowledged, "{n} was given up before");
                        searches += 1;
                    }
                    searches
                })
            })
            .collect();
        for n in 1..=60 {
            let (old, new) = (id(&format!("p{}", n - 1)), id(&format!("p{n}")));
            gallery.rename(one, &old, &new, REQUEST).expect("renamed");
            latest.store(n, Ordering::SeqCst);
        }
        renaming.store(false, Ordering::Relaxed);
        readers
            .into_iter()
            .map(|reader| reader.join().expect("no panic"))
            .sum::<u64>()
    });
    println!("{searches} searches beside 60 renames");
    assert!(searches > 200);
    assert!(one.people.read().renames.is_empty());
    assert_eq!(disk.used_slots().len(), 2);
}

#[test]
fn a_copy_beside_an_erasure_is_before_it_or_not_at_all() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let (one, two) = (create(&gallery, "one"), create(&gallery, "two"));
    let (mut copied, mut refusals) = (0, 0);
    for round in 0..300 {
        enroll(&gallery, &one, "ada", &[round]).expect("enrolled");
        let copy = std::thread::scope(|scope| {
            scope.spawn(|| gallery.delete(&one, &id("ada"), REQUEST).expect("erased"));
            gallery.copy((&one, &id("ada")), (&two, &id("ada")), REQUEST)
        });
        match copy {
            Ok(copy) => {
                assert!(*copy.faces[0].template.any() == template(round));
                assert_eq!(found(&gallery, &two, round), ["ada"]);
                gallery.delete(&two, &id("ada"), REQUEST).expect("erased");
                copied += 1;
            }
            Err(error) => {
                assert_eq!(reason::<()>(Err(error)), RequestError::NoPerson);
                assert_eq!(found(&gallery, &two, round), [""; 0]);
                refusals += 1;
            }
        }
        assert_eq!(found(&gallery, &one, round), [""; 0]);
    }
    println!("{copied} copied, {refusals} refused");
    assert_eq!(disk.used_slots().len(), 2);
}

#[test]
fn a_copy_beside_an_erasure_everywhere_is_erased_too_or_not_made() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let (one, two) = (create(&gallery, "one"), create(&gallery, "two"));
    let (mut copied, ada) = (0, id("ada"));
    for round in 0..300 {
        // From the first collection to the second, and back: no order of visits would do.
        let both = Barrier::new(2);
        let (from, to) = if round % 2 == 0 {
            (&one, &two)
        } else {
            (&two, &one)
        };
        enroll(&gallery, from, "ada", &[round]).expect("enrolled");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                both.wait();
                gallery
                    .erase_everywhere(&account(), &ada, REQUEST)
                    .expect("erased")
            });
            both.wait();
            copied += u64::from(gallery.copy((from, &ada), (to, &ada), REQUEST).is_ok());
        });
        assert_eq!(found(&gallery, &one, round), [""; 0]);
        assert_eq!(found(&gallery, &two, round), [""; 0]);
        assert_eq!(disk.used_slots().len(), 2, "nobody is left anywhere");
    }
    println!("{copied} of 300 were copied before");
}
