//! A collection measured while its people come and go.

use std::sync::Arc;

use crate::gallery::collection::{Collection, IndexKind};
use crate::gallery::measure::{EF_TRIED, Measured, Measurement, Measuring};
use crate::gallery::tests::support::*;
use likeness_store::testing::FakeDisk;

const PEOPLE: u64 = 600;

const ALL: Measurement = Measurement {
    people_max: 10_000,
    probes: 40,
};

fn with_people(gallery: &crate::gallery::Gallery, name: &str, kind: IndexKind) -> Arc<Collection> {
    let one = create_of(gallery, name, kind);
    for n in 0..PEOPLE {
        enroll(gallery, &one, &format!("p{n}"), &[n]).expect("enrolled");
    }
    one
}

fn to_the_end(mut measuring: Measuring) -> Vec<Measured> {
    let mut before = 0;
    loop {
        let slice = measuring.go_on().expect("it goes on");
        assert!(before <= slice.done && slice.done <= slice.total, "it goes on");
        before = slice.done;
        if let Some(rows) = slice.rows {
            assert_eq!(slice.done, slice.total, "all is done");
            return rows;
        }
    }
}

#[test]
fn both_kinds_are_measured_on_the_faces_that_are_there_whichever_the_collection_has() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    for kind in [IndexKind::Flat, IndexKind::Graph] {
        let one = with_people(
            &gallery,
            if kind == IndexKind::Flat { "flat" } else { "graph" },
            kind,
        );
        gallery.keep_now();
        let rows = to_the_end(Measuring::begin(&one, ALL).expect("begun"));
        assert_eq!(rows.len(), 2 + EF_TRIED.len());
        let (flat, graphs) = rows.split_at(2);
        for row in &rows {
            assert_eq!(row.faces as u64, PEOPLE);
            assert!(row.p50 <= row.p99 && (0.0..=1.0).contains(&row.recall), "{row:?}");
        }
        assert!(flat.iter().all(|row| row.recall == 1.0), "{flat:?}");
        assert_eq!(
            graphs.iter().map(|row| row.ef).collect::<Vec<_>>(),
            EF_TRIED.map(Some)
        );
        // As many candidates as there are people see everybody.
        assert!(graphs[5].recall >= 0.95, "{graphs:?}");
        assert!(one.people.read().shadow.is_none(), "nothing is left of it");
        assert_eq!(found(&gallery, &one, 7), ["p7"]);
    }
}

#[test]
fn of_a_large_collection_a_part_is_measured_and_one_without_anybody_has_no_answers() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = with_people(&gallery, "one", IndexKind::Flat);
    let some = Measurement {
        people_max: 100,
        ..ALL
    };
    let rows = to_the_end(Measuring::begin(&one, some).expect("begun"));
    assert_eq!((rows[0].faces as u64, rows[2].faces), (PEOPLE, 100));
    let nobody = create(&gallery, "nobody");
    let mut measuring = Measuring::begin(&nobody, ALL).expect("begun");
    let rows = measuring.go_on().expect("it ends").rows.expect("at once");
    assert!(rows.iter().all(|row| row.faces == 0 && row.p99.is_zero()));
}

#[test]
fn one_measurement_at_a_time_and_none_of_what_changed_its_kind_or_went() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = with_people(&gallery, "one", IndexKind::Flat);
    let mut first = Measuring::begin(&one, ALL).expect("begun");
    assert!(Measuring::begin(&one, ALL).is_err(), "one at a time");
    let change = |settings| {
        Ok(crate::CollectionSettings {
            index: IndexKind::Graph,
            ..settings
        })
    };
    gallery.update_collection(&one, change, REQUEST).expect("changed");
    assert!(first.go_on().is_err(), "it is searched in another way");
    drop(first);
    let mut second = Measuring::begin(&one, ALL).expect("the first is over");
    gallery
        .delete_collection(&account(), &name("one"), REQUEST)
        .expect("the collection goes");
    assert!(second.go_on().is_err(), "there is nobody any more");
}

#[test]
fn whoever_is_erased_during_a_measurement_is_overwritten_in_it_at_once() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    for kind in [IndexKind::Flat, IndexKind::Graph] {
        let one = with_people(
            &gallery,
            if kind == IndexKind::Flat { "flat" } else { "graph" },
            kind,
        );
        let mut measuring = Measuring::begin(&one, ALL).expect("begun");
        measuring.go_on().expect("people are copied");
        let faces = || {
            let people = one.people.read();
            let shadow = people.shadow.as_ref().expect("it is measured");
            (people.index.len(), shadow.faces())
        };
        assert_eq!(faces(), (PEOPLE as usize, PEOPLE as usize));
        gallery.delete(&one, &id("p7"), REQUEST).expect("erased");
        assert_eq!(faces(), (PEOPLE as usize - 1, PEOPLE as usize - 1));
        // Somebody else may be given the number; the measurement goes on without either.
        enroll(&gallery, &one, "joan", &[PEOPLE + 1]).expect("enrolled");
        assert_eq!(faces().1, PEOPLE as usize - 1);
        gallery.delete(&one, &id("joan"), REQUEST).expect("erased");
        let rows = to_the_end(measuring);
        assert!(rows[..2].iter().all(|row| row.recall == 1.0), "{rows:?}");
    }
}
