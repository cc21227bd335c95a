//! A write under a token is made once, whoever asks again, and whatever happens between.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::gallery::Gallery;
use crate::gallery::collection::Collection;
use crate::gallery::tests::support::*;
use crate::guard::idempotency::key::Caller;
use crate::guard::idempotency::{KEPT_MS, ROWS_MAX};
use crate::people::change::ProfileChange;
use likeness_store::keys::KeyRing;
use likeness_store::records::Family;
use likeness_store::testing::{FakeDisk, Fault};
use likeness_types::error::{Error, RequestError, Result};
use likeness_types::person::Person;

const TOKEN: &str = "0123456789abcdef";

fn enroll_under(
    gallery: &Gallery,
    collection: &Arc<Collection>,
    who: &str,
    face_number: u64,
    caller: Caller,
) -> Result<Person> {
    gallery.enroll(
        collection,
        &id(who),
        profile(who, &[]),
        vec![face(face_number)],
        caller,
    )
}

fn replayed(caller: &Caller) -> bool {
    caller.once.as_ref().expect("under a token").is_replayed()
}

fn spent<T>(outcome: Result<T>) {
    let error = refused(outcome);
    assert!(
        matches!(error, Error::Request(RequestError::TokenSpent)),
        "{error}"
    );
}

fn reused<T>(outcome: Result<T>) {
    let error = refused(outcome);
    assert!(
        matches!(error, Error::Request(RequestError::TokenReused)),
        "{error}"
    );
}

fn place() -> (FakeDisk, Arc<KeyRing>, Gallery) {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    create(&gallery, "one");
    (disk, ring, gallery)
}

#[test]
fn the_same_call_again_is_answered_and_changes_nothing() {
    let (disk, ring, gallery) = place();
    let one = collection(&gallery, "one");
    let caller = || under("EnrollPerson", TOKEN, 1);
    let first = caller();
    let ada = enroll_under(&gallery, &one, "ada", 1, first.clone()).expect("enrolled");
    assert!(!replayed(&first));
    let (seen, operations) = (view(&gallery), disk.operations());
    let again = caller();
    let same = enroll_under(&gallery, &one, "ada", 2, again.clone()).expect("answered");
    assert!(replayed(&again));
    assert_eq!(same.faces[0].id, ada.faces[0].id);
    assert_eq!((view(&gallery), disk.operations()), (seen.clone(), operations));
    // After a restart too.
    drop(gallery);
    let gallery = opened(&disk.restarted(|_| false), &ring);
    let one = collection(&gallery, "one");
    let before = gallery.person_before(&caller(), &account(), &one.name, &id("ada"));
    assert_eq!(
        before.expect("answered").expect("made").faces[0].id,
        ada.faces[0].id
    );
    assert_eq!(view(&gallery), seen);
}

#[test]
fn another_payload_is_refused_and_another_interface_or_token_is_another_call() {
    let (_, _, gallery) = place();
    let one = collection(&gallery, "one");
    enroll_under(&gallery, &one, "ada", 1, under("EnrollPerson", TOKEN, 1)).expect("enrolled");
    reused(enroll_under(
        &gallery,
        &one,
        "bob",
        2,
        under("EnrollPerson", TOKEN, 2),
    ));
    let other = under("AddFaces", TOKEN, 2);
    let more = gallery.add_faces(&one, &id("ada"), vec![face(3)], other.clone());
    assert_eq!(more.expect("added").faces.len(), 2);
    let other = under("EnrollPerson", "another-token-0000", 2);
    enroll_under(&gallery, &one, "bob", 2, other.clone()).expect("enrolled");
    assert!(!replayed(&other));
}

#[test]
fn a_token_of_an_erased_person_is_spent_and_enrols_nobody() {
    let (disk, ring, gallery) = place();
    let one = collection(&gallery, "one");
    let caller = || under("EnrollPerson", TOKEN, 1);
    enroll_under(&gallery, &one, "ada", 1, caller()).expect("enrolled");
    gallery.delete(&one, &id("ada"), REQUEST).expect("deleted");
    spent(enroll_under(&gallery, &one, "ada", 1, caller()));
    assert_eq!(found(&gallery, &one, 1), [""; 0]);
    // Whoever has the PersonID next is somebody else.
    enroll(&gallery, &one, "ada", &[2]).expect("enrolled by another call");
    spent(enroll_under(&gallery, &one, "ada", 1, caller()));
    spent(gallery.person_before(&caller(), &account(), &one.name, &id("ada")));
    drop(gallery);
    let gallery = opened(&disk.restarted(|_| false), &ring);
    let one = collection(&gallery, "one");
    spent(enroll_under(&gallery, &one, "ada", 1, caller()));
    assert_eq!(view(&gallery)["one"].people.len(), 1);
    gallery
        .delete_collection(&account(), &name("one"), REQUEST)
        .expect("erased");
    spent(gallery.person_before(&caller(), &account(), &name("one"), &id("ada")));
}

#[test]
fn an_erasure_again_has_the_same_receipt_and_nonce() {
    let (disk, ring, gallery) = place();
    let one = collection(&gallery, "one");
    enroll(&gallery, &one, "ada", &[1, 2]).expect("enrolled");
    enroll(&gallery, &one, "bob", &[3]).expect("enrolled");
    let fewer = || under("DeleteFaces", TOKEN, 1);
    let (_, reduced) = gallery
        .delete_faces(&one, &id("ada"), vec![face_id(1)], fewer())
        .expect("deleted");
    let gone = || under("DeletePerson", TOKEN, 1);
    let erased = gallery.delete(&one, &id("bob"), gone()).expect("deleted");
    let check = |gallery: &Gallery| {
        let one = collection(gallery, "one");
        let size = gallery.receipts();
        let caller = fewer();
        let (ada, again) = gallery
            .delete_faces(&one, &id("ada"), vec![face_id(1)], caller.clone())
            .expect("answered");
        assert!(replayed(&caller));
        assert_eq!((again.sequence, again.nonce), (reduced.sequence, reduced.nonce));
        assert_eq!(
            (again.bytes, ada.expect("kept").faces.len()),
            (reduced.bytes.clone(), 1)
        );
        let again = gallery.delete(&one, &id("bob"), gone()).expect("answered");
        assert_eq!(
            (again.faces, again.receipt.bytes),
            (1, erased.receipt.bytes.clone())
        );
        assert_eq!(again.receipt.nonce, erased.receipt.nonce);
        assert_eq!(gallery.receipts(), size, "nothing was logged again");
    };
    check(&gallery);
    // Whoever is enrolled under the PersonID since is not erased by it.
    enroll(&gallery, &one, "bob", &[4]).expect("enrolled");
    check(&gallery);
    drop(gallery);
    let gallery = opened(&disk.restarted(|_| false), &ring);
    check(&gallery);
    assert_eq!(found(&gallery, &collection(&gallery, "one"), 4), ["bob"]);
}

#[test]
fn an_erasure_everywhere_again_names_the_same_collections_and_reaches_nobody_new() {
    let (disk, ring, gallery) = place();
    create(&gallery, "two");
    for text in ["one", "two"] {
        enroll(&gallery, &collection(&gallery, text), "ada", &[1]).expect("enrolled");
    }
    let erase = |gallery: &Gallery, token: &str| {
        let caller = under("EraseEverywhere", token, 1);
        let erased = gallery
            .erase_everywhere(&account(), &id("ada"), caller.clone())
            .expect("erased");
        let erased = erased.into_iter().map(|one| {
            let receipt = one.erasure.receipt;
            (one.collection, one.erasure.faces, receipt.bytes, receipt.nonce)
        });
        (erased.collect::<Vec<_>>(), replayed(&caller))
    };
    let (first, _) = erase(&gallery, TOKEN);
    assert_eq!(first.len(), 2);
    let nobody = "nobody-is-there-000";
    assert_eq!(erase(&gallery, nobody), (vec![], false));
    gallery
        .delete_collection(&account(), &name("two"), REQUEST)
        .expect("erased");
    enroll(&gallery, &collection(&gallery, "one"), "ada", &[2]).expect("enrolled");
    drop(gallery);
    let gallery = opened(&disk.restarted(|_| false), &ring);
    assert_eq!(erase(&gallery, TOKEN), (first, true));
    assert_eq!(erase(&gallery, nobody), (vec![], true));
    assert_eq!(found(&gallery, &collection(&gallery, "one"), 2), ["ada"]);
}

#[test]
fn a_collection_is_made_changed_and_erased_once() {
    let (_, _, gallery) = place();
    let making = || under("CreateCollection", TOKEN, 1);
    let make = || gallery.create_collection(&account(), &name("two"), scheme(), settings(), making());
    let two = make().expect("made");
    assert_eq!(make().expect("answered").id, two.id);
    let changing = || under("UpdateCollection", TOKEN, 1);
    let change = |threshold| {
        gallery.update_collection(
            &two,
            move |settings| {
                Ok(crate::CollectionSettings {
                    threshold,
                    ..settings
                })
            },
            changing(),
        )
    };
    change(0.7).expect("changed");
    change(0.9).expect("answered");
    assert_eq!(two.info().settings.threshold, 0.7);
    enroll(&gallery, &two, "ada", &[1]).expect("enrolled");
    enroll(&gallery, &two, "bob", &[2]).expect("enrolled");
    let erase = || gallery.delete_collection(&account(), &name("two"), under("DeleteCollection", TOKEN, 1));
    let first = erase().expect("erased");
    let again = erase().expect("answered");
    assert_eq!((again.persons, again.nonce), (2, first.nonce));
    assert_eq!(again.receipts, first.receipts);
    spent(make());
    spent(change(0.9));
    create(&gallery, "two");
    spent(make());
    assert_eq!(erase().expect("answered").receipts, first.receipts);
    assert!(
        gallery.collection(&account(), &name("two")).is_ok(),
        "the new one stays"
    );
}

#[test]
fn a_token_is_kept_for_24_hours_and_then_removed() {
    let (disk, ring, clock) = (FakeDisk::default(), ring(), Arc::new(AtomicU64::new(1_000)));
    let gallery = open_at_time(&disk, &ring, &clock);
    let one = create(&gallery, "one");
    let caller = || under("EnrollPerson", TOKEN, 1);
    enroll_under(&gallery, &one, "ada", 1, caller()).expect("enrolled");
    enroll_under(
        &gallery,
        &one,
        "bob",
        2,
        under("EnrollPerson", "bobs-token-000000", 1),
    )
    .expect("enrolled");
    gallery.delete(&one, &id("ada"), REQUEST).expect("deleted");
    clock.store(1_000 + KEPT_MS - 1, Ordering::SeqCst);
    spent(enroll_under(&gallery, &one, "ada", 1, caller()));
    gallery.vault.tokens.sweep_tokens(&[]).expect("swept");
    assert_eq!(
        (disk.keys(Family::Tokens).len(), gallery.vault.tokens.rows()),
        (2, 2)
    );
    clock.store(1_000 + KEPT_MS, Ordering::SeqCst);
    // It is a new call, row or no row.
    enroll_under(&gallery, &one, "ada", 1, caller()).expect("enrolled anew");
    gallery.vault.tokens.sweep_tokens(&[]).expect("swept");
    assert_eq!(
        disk.keys(Family::Tokens).len(),
        1,
        "the new row, and Bob's is gone"
    );
    drop(gallery);
    clock.store(1_000 + 3 * KEPT_MS, Ordering::SeqCst);
    let disk = disk.restarted(|_| true);
    let gallery = open_at_time(&disk, &ring, &clock);
    assert_eq!(
        (disk.keys(Family::Tokens).len(), gallery.vault.tokens.rows()),
        (0, 0)
    );
}

#[test]
fn when_there_is_no_room_for_another_token_calls_without_one_go_on() {
    let (_, _, gallery) = place();
    let one = collection(&gallery, "one");
    enroll_under(&gallery, &one, "ada", 1, under("EnrollPerson", TOKEN, 1)).expect("enrolled");
    gallery.vault.tokens.set_rows(ROWS_MAX);
    let other = under("EnrollPerson", "another-token-0000", 1);
    let error = refused(enroll_under(&gallery, &one, "bob", 2, other));
    assert!(
        matches!(error, Error::Request(RequestError::TooManyTokens { .. })),
        "{error}"
    );
    enroll(&gallery, &one, "bob", &[2]).expect("enrolled without a token");
    let again = under("EnrollPerson", TOKEN, 1);
    enroll_under(&gallery, &one, "ada", 1, again.clone()).expect("answered");
    assert!(replayed(&again));
}

#[test]
fn sixteen_calls_at_once_under_one_token_enrol_one_person_with_one_face() {
    let (disk, _, gallery) = place();
    disk.0.lock().sync_takes = std::time::Duration::from_millis(2);
    let one = collection(&gallery, "one");
    for round in 0..10_u64 {
        let token = format!("{TOKEN}-{round}");
        let who = format!("p{round}");
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16)
                .map(|n| {
                    let (gallery, one, token, who) = (&gallery, &one, &token, &who);
                    scope.spawn(move || {
                        let caller = under("EnrollPerson", token, 1);
                        let person = enroll_under(gallery, one, who, 100 * round + n, caller.clone());
                        (person.expect("answered").faces[0].id, replayed(&caller))
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().expect("no panic")).collect()
        });
        assert!(
            outcomes.iter().all(|(face, _)| *face == outcomes[0].0),
            "one face"
        );
        assert_eq!(
            outcomes.iter().filter(|(_, replayed)| !replayed).count(),
            1,
            "one enrolment"
        );
    }
    assert_eq!(one.info().faces, 10);
    // Two people under one token: the second is refused, whichever that is.
    let both = std::thread::scope(|scope| {
        let calls = [("x", 1), ("y", 2)].map(|(who, payload)| {
            let (gallery, one) = (&gallery, &one);
            scope.spawn(move || {
                let caller = under("EnrollPerson", TOKEN, payload);
                enroll_under(gallery, one, who, 5000 + u64::from(payload), caller).is_ok()
            })
        });
        calls.map(|call| call.join().expect("no panic"))
    });
    assert!(both[0] != both[1], "{both:?}");
}

#[test]
fn what_is_kept_for_a_token_names_nobody_and_opens_with_the_token_only() {
    let (disk, _, gallery) = place();
    let one = collection(&gallery, "one");
    enroll_under(&gallery, &one, "ada", 1, under("EnrollPerson", TOKEN, 1)).expect("enrolled");
    let before = disk.0.lock().records.clone();
    let (place, row) = before
        .iter()
        .find(|((f, _), _)| *f == Family::Tokens)
        .expect("a row");
    let digest = gallery.digest(&one, &id("ada")).0;
    for needle in [
        &digest[..],
        &one.id.0[..],
        &face_id(1).0.0[..],
        TOKEN.as_bytes(),
        b"ada",
    ] {
        let within = |bytes: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
        assert!(!within(row) && !within(&place.1));
    }
    gallery.delete(&one, &id("ada"), REQUEST).expect("deleted");
    assert_eq!(
        disk.0.lock().records.get(place),
        Some(row),
        "an erasure touches no row"
    );
    // A row that was tampered with lets nothing be done twice.
    disk.flip_record_bit(place, row.len() * 8 - 1);
    spent(enroll_under(
        &gallery,
        &one,
        "ada",
        1,
        under("EnrollPerson", TOKEN, 1),
    ));
}

/// A PersonID, a name, and the bits of the faces.
type Seen = (String, String, Vec<Vec<u8>>);

/// Collections with their thresholds, and the people in them.
fn without_ids(gallery: &Gallery) -> Vec<(String, f32, Vec<Seen>)> {
    let people = |people: BTreeMap<String, PersonView>| {
        let people = people.into_iter().map(|(id, person)| {
            let mut faces: Vec<_> = person.faces.into_values().collect();
            faces.sort();
            (id, person.name, faces)
        });
        people.collect()
    };
    let view = view(gallery).into_iter();
    view.map(|(name, seen)| (name, seen.threshold, people(seen.people)))
        .collect()
}

type Write = fn(&Gallery, &Caller) -> Result<()>;

/// Every write.
const WRITES: [(&str, Write); 11] = [
    ("EnrollPerson", |g, caller| {
        enroll_under(g, &collection(g, "one"), "new", 9, caller.clone()).map(drop)
    }),
    ("AddFaces", |g, caller| {
        g.add_faces(&collection(g, "one"), &id("ada"), vec![face(9)], caller.clone())
            .map(drop)
    }),
    ("UpdatePerson", |g, caller| {
        let change = ProfileChange {
            name: Some("Another".to_owned()),
            ..ProfileChange::default()
        };
        g.update(&collection(g, "one"), &id("ada"), change, caller.clone())
            .map(drop)
    }),
    ("DeleteFaces", |g, caller| {
        g.delete_faces(
            &collection(g, "one"),
            &id("ada"),
            vec![face_id(1)],
            caller.clone(),
        )
        .map(drop)
    }),
    ("DeletePerson", |g, caller| {
        g.delete(&collection(g, "one"), &id("ada"), caller.clone())
            .map(drop)
    }),
    ("CopyPerson", |g, caller| {
        let one = collection(g, "one");
        g.copy(
            (&one, &id("ada")),
            (&collection(g, "two"), &id("ada")),
            caller.clone(),
        )
        .map(drop)
    }),
    ("RenamePerson", |g, caller| {
        g.rename(&collection(g, "one"), &id("ada"), &id("eve"), caller.clone())
            .map(drop)
    }),
    ("EraseEverywhere", |g, caller| {
        let erased = g.erase_everywhere(&account(), &id("ada"), caller.clone())?;
        assert_eq!(erased.len(), 1);
        Ok(())
    }),
    ("UpdateCollection", |g, caller| {
        g.update_collection(
            &collection(g, "one"),
            |settings| {
                Ok(crate::CollectionSettings {
                    threshold: 0.75,
                    ..settings
                })
            },
            caller.clone(),
        )
    }),
    ("CreateCollection", |g, caller| {
        g.create_collection(&account(), &name("three"), scheme(), settings(), caller.clone())
            .map(drop)
    }),
    ("DeleteCollection", |g, caller| {
        g.delete_collection(&account(), &name("one"), caller.clone())
            .map(drop)
    }),
];

/// After a power cut at any operation the same call ends with the change made exactly once, and if it was
/// made before the cut, the answer says so.
#[test]
fn a_token_and_its_write_survive_a_power_cut_together_or_not_at_all() {
    let mut cuts = 0;
    for (interface, write) in WRITES {
        let prepared = || {
            let (disk, ring, gallery) = place();
            create(&gallery, "two");
            enroll(&gallery, &collection(&gallery, "one"), "ada", &[1, 2]).expect("enrolled");
            drop(gallery);
            (disk, ring)
        };
        let (disk, ring) = prepared();
        let gallery = opened(&disk, &ring);
        let (before, operations) = (view(&gallery), disk.operations());
        write(&gallery, &under(interface, TOKEN, 1)).expect("nothing is wrong");
        let (after, operations) = (without_ids(&gallery), disk.operations() - operations);
        assert_ne!(before, view(&gallery), "{interface}");
        for n in 0..operations {
            for fault in [Fault::Crash, Fault::CrashLate] {
                for arrived in [u64::MAX, 0, 0x5555_5555, 0x9669_9669] {
                    let what = format!("{interface}: {fault:?} at {n}, {arrived:x} arrived");
                    let (disk, ring) = prepared();
                    let gallery = opened(&disk, &ring);
                    disk.arm(n, fault);
                    write(&gallery, &under(interface, TOKEN, 1)).expect_err("the power went");
                    drop(gallery);
                    let disk = disk.restarted(|write| arrived >> (write % 64) & 1 == 1);
                    let gallery = opened(&disk, &ring);
                    let was_made = view(&gallery) != before;
                    let caller = under(interface, TOKEN, 1);
                    write(&gallery, &caller).unwrap_or_else(|error| panic!("{what}: {error}"));
                    assert_eq!(replayed(&caller), was_made, "{what}");
                    // Ids of faces and times apart, it is as if the power had stayed.
                    assert_eq!(without_ids(&gallery), after, "{what}");
                    let again = under(interface, TOKEN, 1);
                    write(&gallery, &again).expect("answered");
                    assert!(replayed(&again), "{what}");
                }
            }
            cuts += 1;
        }
    }
    println!("{cuts} operations at which the power went");
    assert_eq!(cuts, 83);
}
