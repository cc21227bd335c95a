//! The same person enrolled twice is found, wherever the search is cut, and nobody else.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::gallery::Gallery;
use crate::gallery::collection::Collection;
use crate::gallery::tests::support::*;
use crate::people::duplicates::DuplicateCursor;
use likeness_store::testing::FakeDisk;
use likeness_types::Inside;
use likeness_types::error::{Error, RequestError};
use likeness_types::person::{FEATURES_SCORE, Names};
use likeness_types::template::Template;

/// Unrelated templates of 256 bits stay below this by nine standard deviations.
const SIMILAR: f32 = 0.8;

type Pairs = BTreeSet<BTreeSet<String>>;

fn pair(first: &str, second: &str) -> BTreeSet<String> {
    [first, second].map(str::to_owned).into()
}

/// The whole search, in slices; `between` is called between two, and answers whom it erased.
fn all(gallery: &Gallery, one: &Arc<Collection>, mut between: impl FnMut(usize) -> Option<String>) -> Pairs {
    let mut gone = BTreeSet::new();
    let (mut found, mut done, mut slices) = (Pairs::new(), 0, 0);
    let mut cursor = DuplicateCursor::begin(one);
    loop {
        let slice = gallery
            .duplicates(one, SIMILAR, Names::Photographs, cursor)
            .expect("it goes on");
        for new in slice.pairs {
            assert!(new.similarity >= SIMILAR);
            let [first, second] = &new.people;
            let new = pair(first.id.as_str(), second.id.as_str());
            assert_eq!(new.len(), 2, "nobody is a duplicate of themselves");
            assert!(new.is_disjoint(&gone), "nobody is named after their erasure");
            assert!(found.insert(new), "no pair comes twice");
        }
        assert!(slice.done >= done || slices > 0, "it gets on");
        done = slice.done;
        let Some(next) = slice.next else {
            assert_eq!(slice.done, slice.total);
            return found;
        };
        // As a client gives it back.
        cursor = DuplicateCursor::parse(&next.to_string(), one).expect("an answer gave it out");
        gone.extend(between(slices));
        slices += 1;
    }
}

/// A face like face `n`, in another photograph: a few bits differ.
fn like(n: u64, other: u64) -> crate::NewFace {
    let mut numbers = Numbers(other);
    let words = template(n).words(Inside).to_vec();
    let template =
        Template::from_words(words.into_iter().map(|w| {
            w ^ (numbers.next() & numbers.next() & numbers.next() & numbers.next() & numbers.next())
        }));
    let mut new = crate::NewFace::new(template, scheme_id(), 0.9);
    new.id = face_id(1_000_000 + other);
    new
}

fn enroll_like(gallery: &Gallery, one: &Arc<Collection>, who: &str, n: u64, other: u64) {
    let faces = vec![face(500_000 + other), like(n, other)];
    gallery
        .enroll(one, &id(who), profile("", &[]), faces, REQUEST)
        .expect("enrolled");
}

#[test]
fn every_planted_duplicate_is_found_and_nobody_else() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create(&gallery, "one");
    let mut planted = Pairs::new();
    for n in 0..60 {
        enroll(&gallery, &one, &format!("p{n}"), &[n]).expect("enrolled");
        // Every fifth has a second name, with another face first; every tenth a third.
        if n % 5 == 0 {
            enroll_like(&gallery, &one, &format!("again-{n}"), n, n);
            planted.insert(pair(&format!("p{n}"), &format!("again-{n}")));
        }
        if n % 10 == 0 {
            enroll_like(&gallery, &one, &format!("third-{n}"), n, 100 + n);
            planted.insert(pair(&format!("p{n}"), &format!("third-{n}")));
            planted.insert(pair(&format!("again-{n}"), &format!("third-{n}")));
        }
    }
    assert_eq!(all(&gallery, &one, |_| None), planted);
}

#[test]
fn more_pairs_than_an_answer_holds_come_each_once() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create(&gallery, "one");
    // 60 names of one person are 1,770 pairs.
    for n in 0..60 {
        enroll_like(&gallery, &one, &format!("p{n}"), 1, n);
    }
    let mut slices = 0;
    let found = all(&gallery, &one, |_| {
        slices += 1;
        None
    });
    assert_eq!((found.len(), slices), (60 * 59 / 2, 3));
}

#[test]
fn whoever_is_there_from_begin_to_end_is_found_whatever_else_changes() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create(&gallery, "one");
    for n in 0..100 {
        enroll_like(&gallery, &one, &format!("stays-{n}"), 1, n);
    }
    let erased = ["goes-1", "goes-2", "goes-3"];
    for (n, who) in erased.iter().enumerate() {
        enroll_like(&gallery, &one, who, 1, 200 + n as u64);
    }
    let found = all(&gallery, &one, |slice| {
        enroll_like(&gallery, &one, &format!("comes-{slice}"), 1, 300 + slice as u64);
        let who = erased.get(slice)?;
        gallery.delete(&one, &id(who), REQUEST).expect("erased");
        Some((*who).to_owned())
    });
    let stays = |who: &&String| who.starts_with("stays-");
    let whole: Vec<_> = found
        .iter()
        .filter(|pair| pair.iter().filter(stays).count() == 2)
        .collect();
    assert_eq!(
        whole.len(),
        100 * 99 / 2,
        "of 5,253 pairs and more, in slices of 500"
    );
}

#[test]
fn a_cursor_is_of_its_collection_and_of_no_other_form() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let (one, two) = (create(&gallery, "one"), create(&gallery, "two"));
    for n in 0..60 {
        enroll_like(&gallery, &one, &format!("p{n}"), 1, n);
    }
    let begin = DuplicateCursor::begin(&one);
    let first = gallery
        .duplicates(&one, SIMILAR, Names::Photographs, begin)
        .expect("searched");
    assert!(first.done < first.total && first.total == 60);
    let cursor = first.next.expect("there is more").to_string();
    assert!(DuplicateCursor::parse(&cursor, &one).is_ok());
    let wrong = [cursor[..95].to_owned(), "x".repeat(96), String::new()];
    for (collection, cursor) in wrong.iter().map(|text| (&one, text)).chain([(&two, &cursor)]) {
        assert!(matches!(
            refused(DuplicateCursor::parse(cursor, collection)),
            Error::Request(RequestError::Invalid { field: "cursor", .. })
        ));
    }
    let empty = gallery
        .duplicates(&two, SIMILAR, Names::Photographs, DuplicateCursor::begin(&two))
        .expect("searched");
    assert_eq!((empty.done, empty.total, empty.next.is_some()), (0, 0, false));
}

#[test]
fn faces_that_came_as_features_take_no_place_in_an_answer_unless_they_are_asked_for() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create(&gallery, "one");
    enroll(&gallery, &one, "victim", &[1]).expect("enrolled");
    let enroll_features = |n: u64| {
        let mut crafted = like(1, n);
        crafted.detection_score = FEATURES_SCORE;
        let faces = vec![crafted, face(1000 + n)];
        gallery
            .enroll(
                &one,
                &id(&format!("crafted-{n}")),
                profile("", &[]),
                faces,
                REQUEST,
            )
            .expect("enrolled");
    };
    let named = |names| {
        let (mut pairs, mut by_features) = (0, 0);
        let mut cursor = Some(DuplicateCursor::begin(&one));
        while let Some(at) = cursor {
            let slice = gallery.duplicates(&one, SIMILAR, names, at).expect("searched");
            pairs += slice.pairs.len();
            by_features += slice.pairs.iter().filter(|pair| pair.by_features).count();
            cursor = slice.next;
        }
        (pairs, by_features)
    };
    (0..60).for_each(enroll_features);
    // Sixty people of crafted faces alike, and the victim: an answer names 500 pairs.
    assert_eq!(named(Names::Photographs), (0, 0));
    assert_eq!(named(Names::Features), (61 * 60 / 2, 61 * 60 / 2));
    // Of somebody with both kinds of faces those of photographs are named.
    enroll_like(&gallery, &one, "twin", 1, 900);
    assert_eq!(named(Names::Photographs).0, 1, "victim and twin");
}
