//! A collection that is searched by a graph, beside its keeper.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::gallery::collection::IndexKind;
use crate::gallery::tests::support::*;
use crate::gallery::{Background, Gallery};
use likeness_search::index::Row;
use likeness_store::testing::{FakeDisk, FakeFile, Name};
use likeness_types::Inside;
use likeness_types::clock::Clock;

/// People who stay, enough for a walk.
const STAY: u64 = 1500;

fn with_people(gallery: &Gallery) -> std::sync::Arc<crate::gallery::collection::Collection> {
    let one = create_of(gallery, "one", IndexKind::Graph);
    for n in 0..STAY {
        enroll(gallery, &one, &format!("stays-{n}"), &[1_000_000 + n]).expect("enrolled");
    }
    one
}

#[test]
fn whoever_is_enrolled_is_found_by_the_next_search_and_whoever_is_erased_by_none() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = with_people(&gallery);
    for kept in [false, true, true] {
        enroll(&gallery, &one, "ada", &[1]).expect("enrolled");
        if kept {
            gallery.keep_now();
            assert!(!one.people.read().index.has_work(), "the keeper came");
        }
        assert_eq!(found(&gallery, &one, 1), ["ada"]);
        gallery.delete(&one, &id("ada"), REQUEST).expect("deleted");
        assert_eq!(found(&gallery, &one, 1), [""; 0]);
    }
    // Of those who stay a walk finds nearly everyone.
    let stay = (0..STAY).filter(|n| found(&gallery, &one, 1_000_000 + n) == [format!("stays-{n}")]);
    let missed = STAY - stay.count() as u64;
    assert!(missed <= STAY / 100, "{missed} of {STAY} were missed");

    drop((one, gallery));
    let gallery = opened(&disk, &ring);
    let one = collection(&gallery, "one");
    assert_eq!(one.settings.read().index, IndexKind::Graph);
    // Nothing is linked after a start, and everyone is compared with.
    for n in (0..STAY).step_by(100) {
        assert_eq!(found(&gallery, &one, 1_000_000 + n), [format!("stays-{n}")]);
    }
}

#[test]
fn a_collection_changes_its_kind_and_everyone_is_still_found() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = with_people(&gallery);
    enroll(&gallery, &one, "ada", &[1, 2, 3]).expect("enrolled");
    for index in [IndexKind::Graph, IndexKind::Flat, IndexKind::Graph] {
        let change = move |settings| Ok(crate::CollectionSettings { index, ..settings });
        gallery.update_collection(&one, change, REQUEST).expect("changed");
        assert_eq!(one.people.read().index.is_graph(), index == IndexKind::Graph);
        gallery.keep_now();
        assert_eq!(one.info().faces as u64, STAY + 3);
        for face in [1, 2, 3] {
            assert_eq!(found(&gallery, &one, face), ["ada"]);
        }
    }
    gallery.delete(&one, &id("ada"), REQUEST).expect("deleted");
    assert_eq!(found(&gallery, &one, 2), [""; 0]);
}

#[test]
fn a_graph_that_went_is_overwritten_at_once_and_dropped_by_the_keeper() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = with_people(&gallery);
    let change_to = |index| {
        let change = move |settings| Ok(crate::CollectionSettings { index, ..settings });
        gallery.update_collection(&one, change, REQUEST).expect("changed");
    };
    change_to(IndexKind::Flat);
    let left = one.take_left();
    assert_eq!(left.len(), 1);
    let face = left[0].template(Row(0));
    assert!(face.words(Inside).iter().all(|word| *word == 0));
    change_to(IndexKind::Graph);
    change_to(IndexKind::Flat);
    gallery.keep_now();
    assert!(one.take_left().is_empty());
    change_to(IndexKind::Graph);
    gallery
        .delete_collection(&account(), &name("one"), REQUEST)
        .expect("deleted");
    assert_eq!(one.take_left().len(), 1);
}

#[test]
fn searches_and_changes_go_on_while_the_keeper_works_and_rebuilds() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let slots = Box::new(FakeFile(disk.clone(), Name::Slots));
    let background = Background {
        keep: Duration::from_millis(1),
        ..background(Clock::System)
    };
    let (gallery, _) = Gallery::open(
        |counters| vault_of(&disk, slots, &ring, false, counters),
        background,
    )
    .expect("opens");
    let one = with_people(&gallery);
    let writing = AtomicBool::new(true);
    let searches = std::thread::scope(|scope| {
        let searching = scope.spawn(|| {
            let mut searches = 0_u64;
            while writing.load(Ordering::Relaxed) {
                let like = query(1_000_000 + searches % STAY);
                for found in gallery.search(&one, &like, 5, 0.99).expect("searches work") {
                    assert_eq!(found.person.id.as_str(), format!("stays-{}", searches % STAY));
                }
                searches += 1;
            }
            searches
        });
        // Two in ten of all are erased in turn, so that graphs are built anew.
        for n in 0..600 {
            enroll(&gallery, &one, &format!("goes-{n}"), &[n]).expect("enrolled");
            assert_eq!(found(&gallery, &one, n), [format!("goes-{n}")]);
            if n >= 50 {
                let gone = n - 50;
                gallery
                    .delete(&one, &id(&format!("goes-{gone}")), REQUEST)
                    .expect("deleted");
                assert_eq!(found(&gallery, &one, gone), [""; 0]);
            }
        }
        writing.store(false, Ordering::Relaxed);
        searching.join().expect("no search panics")
    });
    assert!(searches > 0);
    let deleted = gallery.delete_collection(&account(), &name("one"), REQUEST);
    assert_eq!(deleted.expect("deleted").persons as u64, STAY + 50);
}
