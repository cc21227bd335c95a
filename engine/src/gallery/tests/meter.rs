//! Counters of comparisons go with their person, wherever the person goes.

use std::path::Path;

use crate::gallery::collection::Collection;
use crate::gallery::tests::support::*;
use crate::gallery::{Background, Gallery};
use crate::guard::comparison_limiter;
use likeness_store::records::Family;
use likeness_store::testing::{FakeDisk, FakeFile, Name};
use likeness_types::config::ScoreLimits;
use likeness_types::doors;
use likeness_types::error::{Error, RequestError, Result};
use likeness_types::names::RandomId;

const REFUSED_MAX: u32 = 3;

fn strict() -> Background {
    Background {
        scores: ScoreLimits {
            refused_a_day: REFUSED_MAX,
            own_turns_a_day: 0,
            ..ScoreLimits::default()
        },
        ..background(likeness_types::clock::Clock::System)
    }
}

fn open_strict(data: &Path, ring: &std::sync::Arc<likeness_store::keys::KeyRing>) -> Gallery {
    open_at_by(data, ring, strict()).expect("it opens").0
}

/// One comparison that comes to this similarity.
pub fn compare(gallery: &Gallery, collection: &Collection, who: &str, similarity: f32) -> Result<f32> {
    let key = gallery.meter_key(collection, &id(who));
    let turn = gallery
        .vault
        .limiter
        .begin_turn(&doors::VERIFY, &key, asking().asker, 1)?;
    turn.settle(&comparison_limiter::Likeness::of_one(&similarity, 0.4))
}

fn wear_out(gallery: &Gallery, collection: &Collection, who: &str) {
    for _ in 0..REFUSED_MAX {
        compare(gallery, collection, who, 0.0).expect("answered");
    }
    assert!(is_limited(gallery, collection, who));
}

fn is_limited(gallery: &Gallery, collection: &Collection, who: &str) -> bool {
    match gallery.may_compare(collection, &id(who), RandomId::default()) {
        Ok(()) => false,
        Err(Error::Request(RequestError::ComparisonsLimited { wait })) => !wait.is_zero(),
        Err(other) => panic!("{other}"),
    }
}

fn write(gallery: &Gallery) {
    gallery
        .writer
        .alone(|vault| vault.limiter.write_meter())
        .expect("written");
}

/// Whether the bytes are in any file.
pub fn on_disk(directory: &Path, needle: &[u8]) -> bool {
    std::fs::read_dir(directory).expect("listed").any(|entry| {
        let path = entry.expect("listed").path();
        if path.is_dir() {
            return on_disk(&path, needle);
        }
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            // The store deletes files that it has rewritten.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return false,
            Err(error) => panic!("read: {error}"),
        };
        bytes.windows(needle.len()).any(|window| window == needle)
    })
}

#[test]
fn counters_survive_a_start_and_leave_no_byte_of_an_erased_person() {
    let (home, ring) = (tempfile::tempdir().expect("a directory"), ring());
    let data = home.path().join("data");
    let gallery = open_strict(&data, &ring);
    let one = create(&gallery, "one");
    for (n, who) in ["ada", "bob"].into_iter().enumerate() {
        enroll(&gallery, &one, who, &[n as u64]).expect("enrolled");
        wear_out(&gallery, &one, who);
    }
    let digest = gallery.digest(&one, &id("ada"));
    drop((gallery, one));

    let gallery = open_strict(&data, &ring);
    let one = collection(&gallery, "one");
    assert!(is_limited(&gallery, &one, "ada") && is_limited(&gallery, &one, "bob"));
    // Rows that were written before, in other files and in the log.
    gallery.purge_now().expect("purged");
    compare(&gallery, &one, "ada", 0.9).expect_err("limited");
    write(&gallery);
    assert!(on_disk(&data, &digest.0), "the search finds what is there");
    gallery.delete(&one, &id("ada"), REQUEST).expect("erased");
    assert!(!is_limited(&gallery, &one, "ada"));
    gallery.purge_now().expect("purged");
    assert!(!on_disk(&data, &digest.0));
    assert!(is_limited(&gallery, &one, "bob"), "nobody else is forgotten");
}

#[test]
fn nobody_who_is_gone_is_written() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let slots = Box::new(FakeFile(disk.clone(), Name::Slots));
    let (gallery, _) = Gallery::open(
        |counters| vault_of(&disk, slots, &ring, false, counters),
        strict(),
    )
    .expect("it opens");
    let one = create(&gallery, "one");
    enroll(&gallery, &one, "ada", &[1]).expect("enrolled");
    enroll(&gallery, &one, "bob", &[2]).expect("enrolled");
    for who in ["ada", "bob", "never-there"] {
        compare(&gallery, &one, who, 0.0).expect("answered");
    }
    gallery.delete(&one, &id("ada"), REQUEST).expect("erased");
    // A comparison that was under way meanwhile.
    compare(&gallery, &one, "ada", 0.0).expect("answered");
    write(&gallery);
    let key = comparison_limiter::key(one.id, gallery.digest(&one, &id("bob"))).to_vec();
    assert_eq!(disk.keys(Family::Meter), [(Family::Meter, key)]);
    gallery
        .delete_collection(&account(), &name("one"), REQUEST)
        .expect("erased");
    assert!(disk.keys(Family::Meter).is_empty());
}

#[test]
fn whoever_is_renamed_or_copied_takes_the_counters_along() {
    let (home, ring) = (tempfile::tempdir().expect("a directory"), ring());
    let data = home.path().join("data");
    let gallery = open_strict(&data, &ring);
    let (one, two) = (create(&gallery, "one"), create(&gallery, "two"));
    enroll(&gallery, &one, "ada", &[1]).expect("enrolled");
    wear_out(&gallery, &one, "ada");
    gallery
        .copy((&one, &id("ada")), (&two, &id("copy")), REQUEST)
        .expect("copied");
    gallery
        .rename(&one, &id("ada"), &id("new"), REQUEST)
        .expect("renamed");
    let limited = |gallery: &Gallery| {
        let (one, two) = (collection(gallery, "one"), collection(gallery, "two"));
        [
            is_limited(gallery, &one, "ada"),
            is_limited(gallery, &one, "new"),
            is_limited(gallery, &two, "copy"),
        ]
    };
    assert_eq!(limited(&gallery), [false, true, true]);
    drop((gallery, one, two));
    assert_eq!(limited(&open_strict(&data, &ring)), [false, true, true]);
}

#[test]
fn nothing_is_compared_for_a_comparison_that_is_refused_and_what_is_dropped_counts_as_refused() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let slots = Box::new(FakeFile(disk.clone(), Name::Slots));
    let (gallery, _) = Gallery::open(
        |counters| vault_of(&disk, slots, &ring, false, counters),
        strict(),
    )
    .expect("it opens");
    let one = create(&gallery, "one");
    enroll(&gallery, &one, "ada", &[1]).expect("enrolled");
    let key = gallery.meter_key(&one, &id("ada"));
    let turns: Vec<_> = (0..10)
        .filter_map(|_| {
            let turn = gallery
                .vault
                .limiter
                .begin_turn(&doors::VERIFY, &key, asking().asker, 1);
            turn.ok()
        })
        .collect();
    assert_eq!(
        turns.len(),
        REFUSED_MAX as usize,
        "no more have begun than may be refused"
    );
    drop(turns);
    assert!(is_limited(&gallery, &one, "ada"));
}
