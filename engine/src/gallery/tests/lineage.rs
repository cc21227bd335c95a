//! Copies of one person have one set of counters, from the first copy to the end of the last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::gallery::collection::Collection;
use crate::gallery::tests::meter::compare;
use crate::gallery::tests::support::*;
use crate::gallery::{Background, Gallery};
use crate::guard::comparison_limiter::Key;
use likeness_store::keys::KeyRing;
use likeness_store::records::Family;
use likeness_store::testing::{FakeDisk, FakeFile, Name};
use likeness_types::config::ScoreLimits;

/// Everything is counted, and nothing refused.
fn counting() -> Background {
    Background {
        scores: ScoreLimits {
            refused_a_day: 1_000_000,
            refused_in_a_row: 1_000_000,
            ..ScoreLimits::default()
        },
        ..background(likeness_types::clock::Clock::System)
    }
}

fn open_counting(disk: &FakeDisk, ring: &Arc<KeyRing>) -> Gallery {
    let slots = Box::new(FakeFile(disk.clone(), Name::Slots));
    Gallery::open(
        |counters| vault_of(disk, slots, ring, false, counters),
        counting(),
    )
    .expect("it opens")
    .0
}

fn write(gallery: &Gallery) {
    let written = gallery.writer.alone(|vault| vault.limiter.write_meter());
    written.expect("written");
}

fn refused_of(gallery: &Gallery, collection: &Collection, who: &str) -> u32 {
    let key = gallery.meter_key(collection, &id(who));
    gallery.vault.limiter.refused_that_day(&key).expect("read")
}

fn compare_times(gallery: &Gallery, collection: &Collection, who: &str, times: u32) {
    for _ in 0..times {
        compare(gallery, collection, who, 0.0).expect("answered");
    }
}

fn rows(disk: &FakeDisk) -> Vec<Vec<u8>> {
    let keys = disk.keys(Family::Meter).into_iter();
    keys.map(|(_, key)| key).collect()
}

#[test]
fn ten_copies_have_the_similarities_of_one_person_together() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let slots = Box::new(FakeFile(disk.clone(), Name::Slots));
    let background = Background {
        scores: ScoreLimits::default(),
        ..counting()
    };
    let (gallery, _) = Gallery::open(
        |counters| vault_of(&disk, slots, &ring, false, counters),
        background,
    )
    .expect("it opens");
    let one = create(&gallery, "one");
    enroll(&gallery, &one, "ada", &[1]).expect("enrolled");
    let mut told = 0;
    let mut ask = |who: &str| {
        let key = gallery.meter_key(&one, &id(who));
        told += (0..20)
            .filter(|_| gallery.vault.limiter.may_tell(&key).expect("counted"))
            .count();
    };
    for n in 0..10 {
        let copy = id(&format!("copy-{n}"));
        gallery
            .copy((&one, &id("ada")), (&one, &copy), REQUEST)
            .expect("copied");
    }
    ask("ada");
    (0..10).for_each(|n| ask(&format!("copy-{n}")));
    assert_eq!(told, 10);
}

#[test]
fn the_counters_end_with_the_last_record_that_carries_them_and_no_sooner() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = open_counting(&disk, &ring);
    let (one, two) = (create(&gallery, "one"), create(&gallery, "two"));
    enroll(&gallery, &one, "ada", &[1]).expect("enrolled");
    compare_times(&gallery, &one, "ada", 3);
    gallery
        .copy((&one, &id("ada")), (&two, &id("copy")), REQUEST)
        .expect("copied");
    compare_times(&gallery, &two, "copy", 2);
    gallery
        .rename(&one, &id("ada"), &id("new"), REQUEST)
        .expect("renamed");
    assert_eq!(refused_of(&gallery, &one, "new"), 5);
    write(&gallery);
    // Erasing a copy, and enrolling somebody under its PersonID, changes nothing for the other.
    gallery.delete(&two, &id("copy"), REQUEST).expect("erased");
    enroll(&gallery, &two, "copy", &[1]).expect("enrolled");
    assert_eq!(refused_of(&gallery, &two, "copy"), 0, "enrolled anew");
    assert_eq!(refused_of(&gallery, &one, "new"), 5);
    assert_eq!(
        rows(&disk).len(),
        3,
        "what it is of, that it carries it, and the counters"
    );
    drop((gallery, one, two));
    let gallery = open_counting(&disk, &ring);
    let (one, two) = (collection(&gallery, "one"), collection(&gallery, "two"));
    assert_eq!(refused_of(&gallery, &one, "new"), 5);
    gallery.delete(&one, &id("new"), REQUEST).expect("erased");
    assert_eq!(rows(&disk).len(), 0, "the last is gone");
    write(&gallery);
    assert_eq!(rows(&disk).len(), 0);
    drop((gallery, one, two));
}

#[test]
fn the_last_two_copies_may_go_in_one_commit() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = open_counting(&disk, &ring);
    let (one, two) = (create(&gallery, "one"), create(&gallery, "two"));
    enroll(&gallery, &one, "ada", &[1]).expect("enrolled");
    gallery
        .copy((&one, &id("ada")), (&two, &id("ada")), REQUEST)
        .expect("copied");
    compare_times(&gallery, &two, "ada", 1);
    write(&gallery);
    assert_eq!(rows(&disk).len(), 5);
    gallery
        .erase_everywhere(&account(), &id("ada"), REQUEST)
        .expect("erased");
    assert!(rows(&disk).is_empty());
}

#[test]
fn comparisons_beside_a_copy_are_counted_once_and_none_is_lost() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = open_counting(&disk, &ring);
    let one = create(&gallery, "one");
    enroll(&gallery, &one, "ada", &[1]).expect("enrolled");
    std::thread::scope(|scope| {
        let (gallery, one) = (&gallery, &one);
        for _ in 0..4 {
            scope.spawn(move || compare_times(gallery, one, "ada", 200));
        }
        for n in 0..20 {
            let copy = id(&format!("copy-{n}"));
            gallery
                .copy((one, &id("ada")), (one, &copy), REQUEST)
                .expect("copied");
            if n % 5 == 0 {
                write(gallery);
            }
        }
    });
    assert_eq!(refused_of(&gallery, &one, "copy-7"), 800);
    write(&gallery);
    drop((gallery, one));
    let gallery = open_counting(&disk, &ring);
    let one = collection(&gallery, "one");
    assert_eq!(refused_of(&gallery, &one, "ada"), 800);
}

/// What there should be: whose counters each person has, and what they count.
#[derive(Default)]
struct Model {
    people: BTreeMap<(usize, u64), usize>,
    counts: Vec<u32>,
    /// Lineages that a copy or a rename began.
    shared: BTreeSet<usize>,
}

#[test]
fn lineages_follow_a_plain_map_through_random_changes() {
    for seed in 1..=6 {
        let (disk, ring) = (FakeDisk::default(), ring());
        let mut gallery = open_counting(&disk, &ring);
        let names = ["one", "two"];
        names.iter().for_each(|name| drop(create(&gallery, name)));
        let (mut model, mut numbers) = (Model::default(), Numbers(seed));
        for step in 0..400 {
            let place = |numbers: &mut Numbers| (numbers.below(2) as usize, numbers.below(6));
            let (from, to) = (place(&mut numbers), place(&mut numbers));
            let at = |(collection_at, n): (usize, u64)| {
                (collection(&gallery, names[collection_at]), id(&format!("p{n}")))
            };
            let ((from_in, from_id), (to_in, to_id)) = (at(from), at(to));
            let free = model.people.contains_key(&from) && !model.people.contains_key(&to);
            match numbers.below(12) {
                0 | 1 if !model.people.contains_key(&to) => {
                    enroll(&gallery, &to_in, to_id.as_str(), &[step]).expect("enrolled");
                    model.people.insert(to, model.counts.len());
                    model.counts.push(0);
                }
                2..=4 if free => {
                    gallery
                        .copy((&from_in, &from_id), (&to_in, &to_id), REQUEST)
                        .expect("copied");
                    model.people.insert(to, model.people[&from]);
                    model.shared.insert(model.people[&from]);
                }
                5 if free && from.0 == to.0 => {
                    gallery
                        .rename(&from_in, &from_id, &to_id, REQUEST)
                        .expect("renamed");
                    let lineage = model.people.remove(&from).expect("there");
                    model.people.insert(to, lineage);
                    model.shared.insert(lineage);
                }
                6 if model.people.contains_key(&from) => {
                    gallery.delete(&from_in, &from_id, REQUEST).expect("erased");
                    model.people.remove(&from);
                }
                7 => write(&gallery),
                8 if step % 3 == 0 => {
                    drop((from_in, to_in));
                    drop(gallery);
                    gallery = open_counting(&disk, &ring);
                }
                _ => {
                    if let Some(lineage) = model.people.get(&from) {
                        compare_times(&gallery, &from_in, from_id.as_str(), 1);
                        model.counts[*lineage] += 1;
                    }
                }
            }
            for (at, lineage) in &model.people {
                let (own, who) = (collection(&gallery, names[at.0]), format!("p{}", at.1));
                let counted = refused_of(&gallery, &own, &who);
                assert_eq!(
                    counted, model.counts[*lineage],
                    "seed {seed}, step {step}, {at:?}"
                );
            }
        }
        write(&gallery);
        // Two rows for each record that carries a lineage, and one for each lineage and each other person that was
        // ever compared.
        let carriers = model
            .people
            .values()
            .filter(|lineage| model.shared.contains(lineage));
        let counted: BTreeSet<_> = model
            .people
            .values()
            .filter(|lineage| model.counts[**lineage] > 0)
            .collect();
        assert_eq!(
            rows(&disk).len(),
            2 * carriers.count() + counted.len(),
            "seed {seed}"
        );
        for (at, n) in model.people.keys() {
            let own = collection(&gallery, names[*at]);
            gallery
                .delete(&own, &id(&format!("p{n}")), REQUEST)
                .expect("erased");
        }
        write(&gallery);
        assert!(rows(&disk).is_empty(), "seed {seed}");
    }
}

#[test]
fn a_copy_and_its_counters_leave_no_byte_when_they_are_purged() {
    let (home, ring) = (tempfile::tempdir().expect("a directory"), ring());
    let data = home.path().join("data");
    let (gallery, _) = open_at_by(&data, &ring, counting()).expect("it opens");
    let one = create(&gallery, "one");
    enroll(&gallery, &one, "ada", &[1]).expect("enrolled");
    compare_times(&gallery, &one, "ada", 3);
    gallery
        .copy((&one, &id("ada")), (&one, &id("copy")), REQUEST)
        .expect("copied");
    write(&gallery);
    gallery.purge_now().expect("purged");
    let key_of = |who: &str| gallery.meter_key(&one, &id(who));
    let row_of = |key: &Key| gallery.vault.meter_row(key).expect("read").expect("there");
    let (lineage, carriers) = {
        let rows = ["ada", "copy"].map(|who| row_of(&key_of(who)));
        assert_eq!(rows[0][1..17], rows[1][1..17], "one lineage");
        (rows[0][1..17].to_vec(), rows.map(|row| row[17..].to_vec()))
    };
    let on_disk = |needle: &[u8]| super::meter::on_disk(&data, needle);
    assert!(on_disk(&lineage) && on_disk(&carriers[0]) && on_disk(&carriers[1]));
    let digest = gallery.digest(&one, &id("copy"));
    gallery.delete(&one, &id("copy"), REQUEST).expect("erased");
    gallery.purge_now().expect("purged");
    assert!(
        !on_disk(&carriers[1]) && !on_disk(&digest.0),
        "the copy's own rows"
    );
    assert!(on_disk(&lineage), "the other carries it");
    gallery.delete(&one, &id("ada"), REQUEST).expect("erased");
    gallery.purge_now().expect("purged");
    assert!(!on_disk(&lineage) && !on_disk(&carriers[0]));
}

#[test]
fn an_erased_copy_that_an_older_backup_brings_back_resets_nothing() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = open_counting(&disk, &ring);
    let one = create(&gallery, "one");
    enroll(&gallery, &one, "ada", &[1]).expect("enrolled");
    compare_times(&gallery, &one, "ada", 3);
    gallery
        .copy((&one, &id("ada")), (&one, &id("copy")), REQUEST)
        .expect("copied");
    write(&gallery);
    let backup = {
        let state = disk.0.lock();
        (state.records.clone(), state.slots.clone())
    };
    gallery.delete(&one, &id("copy"), REQUEST).expect("erased");
    drop((gallery, one));
    {
        let mut state = disk.0.lock();
        (state.records, state.slots) = backup;
    }
    let gallery = open_counting(&disk, &ring);
    let one = collection(&gallery, "one");
    assert!(
        gallery.person(&one, &id("copy")).is_err(),
        "the log erases it again"
    );
    assert_eq!(refused_of(&gallery, &one, "ada"), 3);
    assert_eq!(rows(&disk).len(), 3);
    gallery.delete(&one, &id("ada"), REQUEST).expect("erased");
    assert!(rows(&disk).is_empty());
}

#[test]
fn a_row_of_an_earlier_version_is_counted_on_and_becomes_the_lineages() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = open_counting(&disk, &ring);
    let one = create(&gallery, "one");
    enroll(&gallery, &one, "ada", &[1]).expect("enrolled");
    let key = gallery.meter_key(&one, &id("ada")).to_vec();
    drop((gallery, one));
    // Format 2: day, refused that day and in a row, last comparison, doubts; then similarities told to each key.
    let day = u32::try_from(likeness_types::person::Timestamp::now().0 / (24 * 3600 * 1000)).expect("small");
    let row = [
        &[2][..],
        &day.to_le_bytes(),
        &7u32.to_le_bytes(),
        &7u32.to_le_bytes(),
        &0u64.to_le_bytes(),
        &0u64.to_le_bytes(),
        &1u64.to_le_bytes(),
        &3u32.to_le_bytes(),
    ]
    .concat();
    disk.0.lock().records.insert((Family::Meter, key), row);
    let gallery = open_counting(&disk, &ring);
    let one = collection(&gallery, "one");
    assert_eq!(refused_of(&gallery, &one, "ada"), 7);
    compare_times(&gallery, &one, "ada", 1);
    gallery
        .copy((&one, &id("ada")), (&one, &id("copy")), REQUEST)
        .expect("copied");
    assert_eq!(refused_of(&gallery, &one, "copy"), 8);
    write(&gallery);
    assert_eq!(rows(&disk).len(), 5);
}
