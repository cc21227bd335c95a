//! The running log: whole as long as the person, and gone with the person, whatever way and whatever is on its way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::access_log::export::LogCursor;
use crate::access_log::row::Part;
use crate::access_log::usage::Charge;
use crate::gallery::Gallery;
use crate::gallery::collection::Collection;
use crate::gallery::tests::support::*;
use likeness_store::records::Family;
use likeness_store::testing::FakeDisk;
use likeness_types::Inside;
use likeness_types::error::Result;
use likeness_types::person::{Profile, Timestamp};

/// What was asked, by interface: calls, billed, errors.
fn usage(gallery: &Gallery) -> BTreeMap<String, (u64, u64, u64)> {
    gallery.running.flush();
    let all = gallery.usage(&account(), &(0..=u32::MAX)).expect("read");
    let totals = all.into_iter();
    totals
        .map(|usage| (usage.interface, (usage.calls, usage.billed, usage.errors)))
        .collect()
}

#[test]
fn everybody_a_call_is_about_has_a_row_of_it_and_nobody_else() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create(&gallery, "one");
    for (who, n) in [("ada", 1), ("bob", 2), ("eve", 3)] {
        enroll(&gallery, &one, who, &[n]).expect("enrolled");
    }
    let mut search = entry(&gallery, "SearchPersons");
    for (rank, who) in [(1, "ada"), (2, "bob")] {
        let part = Part::Found {
            face: 0,
            rank,
            similarity: 0.5,
        };
        note(&gallery, &mut search, &one, who, part);
    }
    search.end("OK", Charge::Billed);
    drop(search);
    let mut verify = entry(&gallery, "VerifyPerson");
    note(&gallery, &mut verify, &one, "ada", Part::Compared { same: true });
    verify.end("OK", Charge::Billed);
    drop(verify);
    // Nobody waited for it, and it names nobody.
    drop(entry(&gallery, "DetectFaces"));
    gallery.running.flush();

    // Of calls in the same millisecond either may come first.
    let mut of_ada = rows(&gallery, &one, "ada");
    of_ada.sort_unstable();
    assert_eq!(of_ada, ["SearchPersons", "VerifyPerson"]);
    assert_eq!(rows(&gallery, &one, "bob"), ["SearchPersons"]);
    assert_eq!(rows(&gallery, &one, "eve"), [""; 0]);
    let ada = gallery.person(&one, &id("ada")).expect("enrolled");
    let page = gallery.rows_of(&ada, None, 10).expect("read");
    let row = page.items.iter().find(|row| row.interface == "VerifyPerson");
    let row = row.expect("listed above");
    assert_eq!((row.request, row.part), (REQUEST, Part::Compared { same: true }));
    assert_eq!(
        (
            row.account.as_str(),
            row.sub_account.as_str(),
            row.client.as_str(),
            row.region.as_str()
        ),
        ("default", "a-key", "192.0.2.7", "test")
    );
    assert_eq!(
        (
            row.billed,
            row.result.as_str(),
            row.collection.as_str(),
            row.person_id.as_str()
        ),
        (true, "OK", "one", "ada")
    );
    assert!(row.requested <= row.accessed && row.accessed <= Timestamp::now());
    let expected = [
        ("DetectFaces", (1, 0, 1)),
        ("SearchPersons", (1, 1, 0)),
        ("VerifyPerson", (1, 1, 0)),
    ];
    assert_eq!(
        usage(&gallery),
        expected.map(|(name, total)| (name.to_owned(), total)).into()
    );
}

#[test]
fn a_log_is_read_a_page_at_a_time_in_the_order_of_time() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create(&gallery, "one");
    enroll(&gallery, &one, "ada", &[1]).expect("enrolled");
    for _ in 0..7 {
        logged(&gallery, &one, "ada");
    }
    let ada = gallery.person(&one, &id("ada")).expect("enrolled");
    let (mut cursor, mut times, mut pages) = (None, Vec::new(), 0);
    loop {
        let page = gallery.rows_of(&ada, cursor.as_deref(), 3).expect("read");
        times.extend(page.items.iter().map(|row| row.accessed));
        pages += 1;
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!((times.len(), pages), (7, 3));
    assert!(times.is_sorted());
    assert!(gallery.rows_of(&ada, Some("no cursor"), 3).is_err());
}

#[test]
fn an_export_has_every_row_once_whoever_comes_and_goes_meanwhile() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create(&gallery, "one");
    let stay: Vec<_> = (0..4).map(|n| format!("stays-{n}")).collect();
    for (who, n) in stay.iter().map(String::as_str).chain(["goes"]).zip(1..) {
        enroll(&gallery, &one, who, &[n]).expect("enrolled");
        for _ in 0..5 {
            logged(&gallery, &one, who);
        }
    }
    let (mut cursor, mut all, mut parts) = (LogCursor::default(), BTreeMap::new(), 0u64);
    loop {
        let part = gallery.export_rows(&one, &cursor, 2).expect("read");
        assert!(part.damaged == 0 && part.rows.len() <= 2);
        for row in part.rows {
            *all.entry(row.person_id).or_insert(0) += 1;
        }
        parts += 1;
        match parts {
            1 => {
                gallery.delete(&one, &id("goes"), REQUEST).expect("erased");
            }
            // In the order of the listing some of them come before the one whose rows go on.
            2..=9 => {
                enroll(&gallery, &one, &format!("new-{parts}"), &[100 + parts]).expect("enrolled");
            }
            _ => {}
        }
        match part.next {
            Some(next) => cursor = next,
            None => break,
        }
    }
    all.remove("goes");
    let whole: BTreeMap<_, _> = stay.into_iter().map(|who| (who, 5)).collect();
    assert_eq!(all, whole);
}

/// A way to be gone from collection "one".
type Way = (&'static str, fn(&Gallery, &AtomicU64) -> Result<()>);

const WAYS: [Way; 5] = [
    ("delete", |g, _| {
        g.delete(&collection(g, "one"), &id("ada"), REQUEST).map(drop)
    }),
    ("everywhere", |g, _| {
        g.erase_everywhere(&account(), &id("ada"), REQUEST).map(drop)
    }),
    ("collection", |g, _| {
        g.delete_collection(&account(), &name("one"), REQUEST).map(drop)
    }),
    ("key group", |g, _| {
        g.delete_collections_of(&account(), REQUEST).map(drop)
    }),
    ("expiry", |g, clock| {
        clock.store(Timestamp::now().0 + 7_200_000, Ordering::SeqCst);
        // Whoever enrols under the PersonID makes the expired one go.
        g.make_way(&collection(g, "one"), &id("ada"))
    }),
];

#[test]
fn every_way_to_be_erased_takes_every_row_and_leaves_the_totals() {
    for (way, erase) in WAYS {
        let (disk, ring) = (FakeDisk::default(), ring());
        let clock = Arc::new(AtomicU64::new(Timestamp::now().0));
        let gallery = open_at_time(&disk, &ring, &clock);
        let one = create(&gallery, "one");
        let expires = Some(Timestamp(Timestamp::now().0 + 3_600_000));
        let for_an_hour = Profile {
            expires,
            ..profile("ada", &[])
        };
        gallery
            .enroll(&one, &id("ada"), for_an_hour, vec![face(1)], REQUEST)
            .expect("enrolled");
        logged(&gallery, &one, "ada");
        // As the subject, found by somebody else's search, verified in vain, and on the way when it happens.
        let mut search = entry(&gallery, "SearchPersons");
        note(
            &gallery,
            &mut search,
            &one,
            "ada",
            Part::Found {
                face: 0,
                rank: 1,
                similarity: 0.9,
            },
        );
        drop(search);
        let mut late = entry(&gallery, "VerifyPerson");
        note(&gallery, &mut late, &one, "ada", Part::Compared { same: false });
        assert_eq!(rows_on_disk_after_flush(&gallery, &disk), 2, "{way}");
        let before = usage(&gallery);

        erase(&gallery, &clock).expect("erased");
        assert_eq!(disk.keys(Family::RunningLog), [], "{way}");
        assert_eq!(usage(&gallery), before, "{way}");
        drop(late);
        assert_eq!(
            rows_on_disk_after_flush(&gallery, &disk),
            0,
            "{way}: nobody to write it for"
        );
        assert_eq!(disk.stale_rows(), 2, "{way}: their bytes are still in the files");
        gallery.purge_now().expect("purged");
        assert_eq!(disk.stale_rows(), 0, "{way}");

        if gallery.collection(&account(), &name("one")).is_err() {
            create(&gallery, "one");
        }
        let one = collection(&gallery, "one");
        enroll(&gallery, &one, "ada", &[1]).expect("enrolled again");
        assert_eq!(
            rows(&gallery, &one, "ada"),
            [""; 0],
            "{way}: nothing links the two"
        );
    }
}

fn rows_on_disk_after_flush(gallery: &Gallery, disk: &FakeDisk) -> usize {
    gallery.running.flush();
    disk.keys(Family::RunningLog).len()
}

#[test]
fn a_deleted_face_an_update_and_a_rename_keep_the_log_and_a_copy_has_its_own() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let (one, two) = (create(&gallery, "one"), create(&gallery, "two"));
    enroll(&gallery, &one, "ada", &[1, 2]).expect("enrolled");
    logged(&gallery, &one, "ada");
    gallery
        .delete_faces(&one, &id("ada"), vec![face_id(1)], REQUEST)
        .expect("deleted");
    assert_eq!(rows(&gallery, &one, "ada").len(), 1);
    gallery
        .copy((&one, &id("ada")), (&two, &id("ada")), REQUEST)
        .expect("copied");
    assert_eq!(rows(&gallery, &two, "ada").len(), 0);
    // A call that began before the rename is written after it.
    let mut slow = entry(&gallery, "GetPerson");
    note(&gallery, &mut slow, &one, "ada", Part::Subject);
    gallery
        .rename(&one, &id("ada"), &id("lovelace"), REQUEST)
        .expect("renamed");
    drop(slow);
    gallery.running.flush();
    gallery.purge_now().expect("purged");
    assert_eq!(rows(&gallery, &one, "lovelace").len(), 2);
    // And after a start.
    drop(gallery);
    let gallery = opened(&disk.restarted(|_| true), &ring);
    let one: Arc<Collection> = collection(&gallery, "one");
    assert_eq!(rows(&gallery, &one, "lovelace").len(), 2);
}

#[test]
fn rows_of_a_record_that_cannot_say_which_are_its_own_go_when_it_is_the_last_such() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create(&gallery, "one");
    for (who, n) in [("ada", 1), ("bob", 2), ("eve", 3)] {
        enroll(&gallery, &one, who, &[n]).expect("enrolled");
        logged(&gallery, &one, who);
    }
    let place = |who| (Family::Persons, gallery.record_key(&one, &id(who)));
    // In the clear part: whose rows are whose cannot be told any more.
    disk.flip_record_bit(&place("ada"), 8);
    disk.flip_record_bit(&place("bob"), 8);
    gallery.delete(&one, &id("ada"), REQUEST).expect("erased");
    assert_eq!(disk.keys(Family::RunningLog).len(), 3, "bob's may be among them");
    gallery.delete(&one, &id("bob"), REQUEST).expect("erased");
    assert_eq!(disk.rows_of_nobody(), 0);
    assert_eq!(rows(&gallery, &one, "eve"), ["GetPerson"]);
}

/// On a real disk: while it serves, after the purge, and after a start.
#[test]
fn no_byte_of_a_row_outlives_the_purge_of_its_person() {
    let (home, ring) = (tempfile::tempdir().expect("a directory"), ring());
    let data = home.path().join("data");
    let gallery = opened_at(&data, &ring);
    let one = create(&gallery, "one");
    for (who, n) in [("ada-of-the-needles", 1), ("bob", 2)] {
        enroll(&gallery, &one, who, &[n]).expect("enrolled");
        logged(&gallery, &one, who);
        logged(&gallery, &one, who);
    }
    let log = |who| gallery.person(&one, &id(who)).expect("enrolled").log;
    let (ada, bob) = (log("ada-of-the-needles"), log("bob"));
    assert!(occurs(&data, &ada.id.0), "the search finds what is there");
    assert!(!occurs(&data, b"ada-of-the-needles"), "rows are sealed");
    assert!(!occurs(&data, b"192.0.2.7"), "rows are sealed");
    assert!(!occurs(&data, ada.secret(Inside).expose()), "the log key too");
    gallery
        .delete(&one, &id("ada-of-the-needles"), REQUEST)
        .expect("erased");
    gallery.purge_now().expect("purged");
    assert!(!occurs(&data, &ada.id.0), "after the purge");
    assert!(occurs(&data, &bob.id.0));
    assert_eq!(rows(&gallery, &one, "bob").len(), 2);
    drop(gallery);
    drop(opened_at(&data, &ring));
    assert!(!occurs(&data, &ada.id.0), "after a start");
}

fn occurs(directory: &std::path::Path, needle: &[u8]) -> bool {
    std::fs::read_dir(directory).expect("listed").any(|entry| {
        let path = entry.expect("listed").path();
        if path.is_dir() {
            return occurs(&path, needle);
        }
        let bytes = std::fs::read(&path).expect("read");
        bytes.windows(needle.len()).any(|window| window == needle)
    })
}
