//! People whose time is over, by a clock that the test sets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::gallery::collection::Collection;
use crate::gallery::load::LoadReport;
use crate::gallery::tests::support::*;
use crate::gallery::{Background, Gallery};
use crate::people::change::ProfileChange;
use crate::search::Comparison;
use likeness_store::keys::KeyRing;
use likeness_store::receipts::ReceiptKind;
use likeness_store::testing::{FakeDisk, FakeFile, Fault, Name};
use likeness_types::clock::Clock;
use likeness_types::error::{Error, OperatorError, RequestError, Result};
use likeness_types::person::{Person, Profile, Timestamp};

/// A disk and a clock that a gallery is opened on, again and again.
struct Home {
    disk: FakeDisk,
    ring: Arc<KeyRing>,
    clock: Arc<AtomicU64>,
}

impl Home {
    fn new() -> Self {
        Self {
            disk: FakeDisk::default(),
            ring: ring(),
            clock: Arc::new(AtomicU64::new(1_000)),
        }
    }

    fn set(&self, ms: u64) {
        self.clock.store(ms, Ordering::SeqCst);
    }

    fn open(&self) -> (Gallery, LoadReport) {
        self.try_open().expect("opens")
    }

    fn try_open(&self) -> Result<(Gallery, LoadReport)> {
        let slots = Box::new(FakeFile(self.disk.clone(), Name::Slots));
        let clock = Clock::Set(Arc::clone(&self.clock));
        open_by(&self.disk, slots, &self.ring, false, clock)
    }
}

fn enroll_until(gallery: &Gallery, one: &Arc<Collection>, who: &str, n: u64, ms: u64) -> Result<Person> {
    let profile = Profile {
        expires: Some(Timestamp(ms)),
        ..Profile::default()
    };
    gallery.enroll(one, &id(who), profile, vec![face(n)], REQUEST)
}

fn expiry(ms: Option<u64>) -> ProfileChange {
    ProfileChange {
        expires: Some(ms.map(Timestamp)),
        ..ProfileChange::default()
    }
}

fn reason<T>(outcome: Result<T>) -> RequestError {
    match refused(outcome) {
        Error::Request(reason) => reason,
        other => panic!("not a refusal of the request: {other}"),
    }
}

fn known(gallery: &Gallery, one: &Collection) -> Vec<String> {
    let mut known: Vec<_> = gallery
        .list(one, None, 100)
        .expect("listed")
        .items
        .iter()
        .map(|person| person.id.as_str().to_owned())
        .collect();
    known.sort();
    known
}

#[test]
fn whoever_is_past_the_expiry_is_gone_for_every_reader_before_the_eraser_comes() {
    let home = Home::new();
    let (gallery, _) = home.open();
    let one = create(&gallery, "one");
    enroll_until(&gallery, &one, "ada", 1, 5_000).expect("enrolled");
    enroll(&gallery, &one, "bob", &[2]).expect("enrolled");
    home.set(4_999);
    assert_eq!(found(&gallery, &one, 1), ["ada"]);
    home.set(5_000);
    assert_eq!(found(&gallery, &one, 1), [""; 0]);
    assert_eq!(known(&gallery, &one), ["bob"]);
    let ada = id("ada");
    assert_eq!(reason(gallery.person(&one, &ada)), RequestError::NoPerson);
    assert_eq!(
        reason(gallery.verify(&one, &ada, &query(1), Comparison::BestFace, asking())),
        RequestError::NoPerson
    );
    let more = gallery.add_faces(&one, &ada, vec![face(3)], REQUEST);
    assert_eq!(reason(more), RequestError::NoPerson);
    let later = gallery.update(&one, &ada, expiry(Some(9_000)), REQUEST);
    assert_eq!(reason(later), RequestError::NoPerson, "too late for more time");
    let renamed = gallery.rename(&one, &ada, &id("eve"), REQUEST);
    assert_eq!(reason(renamed), RequestError::NoPerson);
    assert_eq!(
        reason(gallery.copy((&one, &ada), (&one, &id("eve")), REQUEST)),
        RequestError::NoPerson
    );
    assert_eq!(home.disk.sealed_records(), 3, "and nobody has erased her yet");
}

#[test]
fn an_expiry_is_an_ordinary_erasure_with_a_receipt_that_names_nobody() {
    let home = Home::new();
    let (gallery, _) = home.open();
    let one = create(&gallery, "one");
    enroll_until(&gallery, &one, "ada", 1, 5_000).expect("enrolled");
    enroll_until(&gallery, &one, "bob", 2, 6_000).expect("enrolled");
    enroll(&gallery, &one, "eve", &[3]).expect("enrolled");
    home.set(4_999);
    assert_eq!(gallery.eraser.erase_due().expect("looked"), 0);
    home.set(5_000);
    assert_eq!(gallery.eraser.erase_due().expect("erased"), 1);
    assert_eq!(one.info().persons, 2);
    assert_eq!(home.disk.sealed_records(), 3);
    let last = gallery
        .receipt(gallery.receipts() - 1)
        .expect("read")
        .expect("there");
    let (receipt, _) = likeness_store::receipts::Receipt::parse(&last).expect("whole");
    assert_eq!(
        (receipt.kind, receipt.faces, receipt.keys.len()),
        (ReceiptKind::Erased, 1, 1)
    );
    assert_ne!(receipt.subject, [0; 32], "one person, and nobody can tell who");
    gallery.purge_now().expect("purged");
    assert_eq!(gallery.backlog().erasures, 0);
    home.set(u64::MAX);
    assert_eq!(gallery.eraser.erase_due().expect("erased"), 1);
    assert_eq!(known(&gallery, &one), ["eve"], "without an expiry nobody expires");
}

#[test]
fn who_expired_while_nothing_ran_is_erased_before_anything_serves() {
    let home = Home::new();
    let (gallery, _) = home.open();
    let one = create(&gallery, "one");
    for n in 0..300 {
        enroll_until(&gallery, &one, &format!("p{n}"), n, 5_000 + n).expect("enrolled");
    }
    drop(gallery);
    home.set(5_279);
    let (gallery, report) = home.open();
    assert_eq!((report.expired, report.persons), (280, 20));
    let one = collection(&gallery, "one");
    assert_eq!((one.info().persons, one.info().faces), (20, 20));
    assert_eq!(home.disk.used_slots().len(), 21);
    assert!(gallery.backlog().erasures > 0, "and the purge follows");
    drop(gallery);
    let (gallery, report) = home.open();
    assert_eq!((report.expired, report.persons), (0, 20));
    assert_eq!(known(&gallery, &collection(&gallery, "one")).len(), 20);
}

#[test]
fn an_expiry_can_be_moved_and_taken_back() {
    let home = Home::new();
    let (gallery, _) = home.open();
    let one = create(&gallery, "one");
    for (n, who) in ["ada", "bob", "eve"].into_iter().enumerate() {
        enroll_until(&gallery, &one, who, n as u64, 5_000).expect("enrolled");
    }
    enroll(&gallery, &one, "zoe", &[9]).expect("enrolled");
    gallery
        .update(&one, &id("ada"), expiry(Some(7_000)), REQUEST)
        .expect("later");
    gallery
        .update(&one, &id("bob"), expiry(None), REQUEST)
        .expect("never");
    gallery
        .update(&one, &id("zoe"), expiry(Some(6_000)), REQUEST)
        .expect("after all");
    drop(gallery);
    let (gallery, _) = home.open();
    let one = collection(&gallery, "one");
    home.set(5_000);
    assert_eq!(gallery.eraser.erase_due().expect("erased"), 1);
    assert_eq!(known(&gallery, &one), ["ada", "bob", "zoe"]);
    home.set(6_000);
    assert_eq!(gallery.eraser.erase_due().expect("erased"), 1);
    home.set(7_000);
    assert_eq!(gallery.eraser.erase_due().expect("erased"), 1);
    assert_eq!(known(&gallery, &one), ["bob"]);
}

#[test]
fn an_expiry_that_is_over_or_absurd_is_refused() {
    let home = Home::new();
    let (gallery, _) = home.open();
    let one = create(&gallery, "one");
    for ms in [0, 1_000, u64::MAX] {
        let refused = reason(enroll_until(&gallery, &one, "ada", 1, ms));
        assert!(matches!(refused, RequestError::Invalid { field: "expires", .. }));
    }
    enroll(&gallery, &one, "ada", &[1]).expect("enrolled");
    let refused = reason(gallery.update(&one, &id("ada"), expiry(Some(1_000)), REQUEST));
    assert!(matches!(refused, RequestError::Invalid { field: "expires", .. }));
}

#[test]
fn the_personid_of_who_expired_is_free_at_once_and_the_old_bits_are_not_mixed_up_with_the_new() {
    let home = Home::new();
    let (gallery, _) = home.open();
    let one = create(&gallery, "one");
    for who in ["ada", "bob", "eve"] {
        enroll_until(&gallery, &one, who, 1, 5_000).expect("enrolled");
    }
    enroll(&gallery, &one, "zoe", &[4]).expect("enrolled");
    home.set(5_000);
    enroll(&gallery, &one, "ada", &[2]).expect("free");
    gallery
        .rename(&one, &id("zoe"), &id("bob"), REQUEST)
        .expect("free");
    gallery
        .copy((&one, &id("ada")), (&one, &id("eve")), REQUEST)
        .expect("free");
    assert_eq!(found(&gallery, &one, 1), [""; 0]);
    assert_eq!(known(&gallery, &one), ["ada", "bob", "eve"]);
    assert_eq!(found(&gallery, &one, 4), ["bob"]);
}

#[test]
fn a_clock_set_back_lets_people_stay_and_harms_nobody() {
    let home = Home::new();
    let (gallery, _) = home.open();
    let one = create(&gallery, "one");
    enroll_until(&gallery, &one, "ada", 1, 5_000).expect("enrolled");
    home.set(10);
    assert_eq!(gallery.eraser.erase_due().expect("looked"), 0);
    assert_eq!(found(&gallery, &one, 1), ["ada"]);
    home.set(5_000);
    assert_eq!(gallery.eraser.erase_due().expect("erased"), 1);
    home.set(10);
    assert_eq!(found(&gallery, &one, 1), [""; 0], "the erased do not come back");
}

#[test]
fn copies_and_renamed_people_expire_too_and_the_erased_do_not_twice() {
    let home = Home::new();
    let (gallery, _) = home.open();
    let (one, two) = (create(&gallery, "one"), create(&gallery, "two"));
    enroll_until(&gallery, &one, "ada", 1, 5_000).expect("enrolled");
    enroll_until(&gallery, &one, "bob", 2, 5_000).expect("enrolled");
    enroll_until(&gallery, &two, "gone", 3, 5_000).expect("enrolled");
    let copy = gallery
        .copy((&one, &id("ada")), (&two, &id("ada")), REQUEST)
        .expect("copied");
    assert_eq!(copy.profile.expires, Some(Timestamp(5_000)));
    gallery
        .rename(&one, &id("ada"), &id("eve"), REQUEST)
        .expect("renamed");
    gallery.delete(&one, &id("bob"), REQUEST).expect("deleted");
    gallery
        .delete_collection(&account(), &name("two"), REQUEST)
        .expect("deleted");
    home.set(5_000);
    assert_eq!(gallery.eraser.erase_due().expect("erased"), 1, "Eve, who was Ada");
    assert_eq!(known(&gallery, &one), [""; 0]);
}

/// The record cannot be read any more, and so nobody could be shown it; but its time is known still.
#[test]
fn a_damaged_person_expires_as_long_as_the_time_is_known() {
    let home = Home::new();
    let (gallery, _) = home.open();
    let one = create(&gallery, "one");
    enroll_until(&gallery, &one, "ada", 1, 5_000).expect("enrolled");
    for ((family, _), record) in &mut home.disk.0.lock().records {
        if *family == likeness_store::records::Family::Persons {
            *record.last_mut().expect("not empty") ^= 1;
        }
    }
    assert_eq!(reason(gallery.person(&one, &id("ada"))), RequestError::Damaged);
    assert_eq!(found(&gallery, &one, 1), [""; 0]);
    assert_eq!(one.info().damaged, 1);
    home.set(5_000);
    assert_eq!(gallery.eraser.erase_due().expect("erased"), 1);
    assert_eq!(reason(gallery.person(&one, &id("ada"))), RequestError::NoPerson);
}

#[test]
fn a_power_cut_at_any_operation_of_an_expiry_is_finished_by_the_next_start() {
    for fault in [Fault::Crash, Fault::CrashLate] {
        for n in 0.. {
            let mut home = Home::new();
            let (gallery, _) = home.open();
            let one = create(&gallery, "one");
            enroll_until(&gallery, &one, "ada", 1, 5_000).expect("enrolled");
            enroll(&gallery, &one, "bob", &[2]).expect("enrolled");
            home.set(5_000);
            home.disk.arm(n, fault);
            if gallery.eraser.erase_due().is_ok() {
                assert_eq!(n, 10, "operations, as of any erasure");
                break;
            }
            drop(gallery);
            home.disk = home.disk.restarted(|write| write % 2 == 0);
            let (gallery, _) = home.open();
            let one = collection(&gallery, "one");
            assert_eq!(known(&gallery, &one), ["bob"], "{fault:?} at {n}");
            assert_eq!(home.disk.used_slots().len(), 2);
            gallery.purge_now().expect("purged");
            assert!(home.disk.0.lock().stale.is_empty());
        }
    }
}

#[test]
fn a_start_that_cannot_erase_who_expired_does_not_serve() {
    let home = Home::new();
    let (gallery, _) = home.open();
    let one = create(&gallery, "one");
    enroll_until(&gallery, &one, "ada", 1, 5_000).expect("enrolled");
    drop(gallery);
    home.set(5_000);
    // After what every start writes.
    let before = home.disk.operations();
    drop(
        Home {
            clock: Arc::new(AtomicU64::new(1_000)),
            disk: home.disk.clone(),
            ring: Arc::clone(&home.ring),
        }
        .open(),
    );
    let start = home.disk.operations() - before;
    home.disk.arm(start, Fault::Fails);
    let refusal = refused(home.try_open());
    assert!(
        matches!(refusal, Error::Operator(OperatorError::Store { .. })),
        "{refusal}"
    );
}

#[test]
fn the_thread_erases_who_is_due_by_itself_and_ends_with_the_gallery() {
    let home = Home::new();
    let (gallery, _) = home.open();
    let one = create(&gallery, "one");
    enroll_until(&gallery, &one, "ada", 1, 5_000).expect("enrolled");
    drop(gallery);
    let background = Background {
        look: Duration::from_millis(1),
        ..background(Clock::Set(Arc::clone(&home.clock)))
    };
    let (gallery, report) = Gallery::open(
        |counters| {
            let slots = Box::new(FakeFile(home.disk.clone(), Name::Slots));
            vault_of(&home.disk, slots, &home.ring, false, counters)
        },
        background,
    )
    .expect("opens");
    assert_eq!(report.persons, 1);
    let one = collection(&gallery, "one");
    home.set(5_000);
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while one.info().persons > 0 {
        assert!(std::time::Instant::now() < until, "nobody came");
        std::thread::yield_now();
    }
    drop(gallery);
    assert_eq!(home.disk.sealed_records(), 1, "the collection");
}
