//! One human under two PersonIDs, whoever comes first.

use std::sync::Arc;
use std::thread::ScopedJoinHandle;

use crate::Result;
use crate::gallery::Gallery;
use crate::gallery::collection::Collection;
use crate::gallery::tests::group::{hold, let_it_queue};
use crate::gallery::tests::support::*;
use crate::guard::idempotency::key::Caller;
use crate::people::admission::{Admitted, Looking};
use likeness_store::testing::FakeDisk;
use likeness_types::error::RequestError;
use likeness_types::person::{FEATURES_SCORE, Names, NewFace};

fn looked_for(n: u64) -> NewFace {
    face(n).with_probe(probe_of(&template(n)))
}

fn looking(names: Names) -> Looking {
    Looking {
        similarity_min: 0.9,
        asker: asking().asker,
        names,
    }
}

fn enroll_new(gallery: &Gallery, collection: &Arc<Collection>, who: &str, faces: &[u64]) -> Result<Admitted> {
    let faces = faces.iter().map(|n| looked_for(*n)).collect();
    gallery.enroll_unless_duplicate(
        collection,
        &id(who),
        profile(who, &[]),
        faces,
        looking(Names::Photographs),
        &Caller::default(),
    )
}

/// Whom the faces are found to be already; none for who is kept.
fn duplicates(admitted: Result<Admitted>) -> Vec<String> {
    match admitted.expect("answered") {
        Admitted::Person(_) => Vec::new(),
        Admitted::Duplicates(found) => found.iter().map(|m| m.person.id.as_str().to_owned()).collect(),
    }
}

fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().expect("no panic")
}

#[test]
fn who_waits_with_another_enrolment_of_the_same_face_is_told_of_it() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create(&gallery, "one");
    std::thread::scope(|scope| {
        let (gallery, one) = (&gallery, &one);
        let release = hold(gallery, scope);
        let first = scope.spawn(move || duplicates(enroll_new(gallery, one, "first", &[1])));
        let_it_queue();
        let second = scope.spawn(move || duplicates(enroll_new(gallery, one, "second", &[2, 1])));
        let_it_queue();
        let other = scope.spawn(move || duplicates(enroll_new(gallery, one, "other", &[3])));
        let_it_queue();
        drop(release);
        assert_eq!(joined(first), [""; 0]);
        assert_eq!(joined(second), ["first"]);
        assert_eq!(joined(other), [""; 0]);
    });
    let people: Vec<_> = view(&gallery)["one"].people.keys().cloned().collect();
    assert_eq!(people, ["first", "other"]);
    // Nothing of it reached the disk.
    drop(gallery);
    let people: Vec<_> = view(&opened(&disk, &ring))["one"]
        .people
        .keys()
        .cloned()
        .collect();
    assert_eq!(people, ["first", "other"]);
}

#[test]
fn who_is_enrolled_without_looking_is_found_by_whoever_looks_after() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create(&gallery, "one");
    std::thread::scope(|scope| {
        let (gallery, one) = (&gallery, &one);
        let release = hold(gallery, scope);
        let first = scope.spawn(move || enroll(gallery, one, "first", &[1]).map(drop));
        let_it_queue();
        let second = scope.spawn(move || duplicates(enroll_new(gallery, one, "second", &[1])));
        let_it_queue();
        drop(release);
        joined(first).expect("enrolled");
        assert_eq!(joined(second), ["first"]);
    });
    // Whoever was found may have gone by then, and stands in nobody's way.
    let request = crate::RandomId::random();
    gallery.delete(&one, &id("first"), request).expect("erased");
    assert_eq!(duplicates(enroll_new(&gallery, &one, "second", &[1])), [""; 0]);
}

#[test]
fn of_many_threads_with_one_face_one_enrols_it() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create(&gallery, "one");
    for face in 0..8 {
        let kept = std::thread::scope(|scope| {
            let (gallery, one) = (&gallery, &one);
            let enrol = |n| move || duplicates(enroll_new(gallery, one, &format!("{face}-{n}"), &[face]));
            let threads: Vec<_> = (0..8).map(|n| scope.spawn(enrol(n))).collect();
            threads.into_iter().map(joined).filter(Vec::is_empty).count()
        });
        assert_eq!(kept, 1, "face {face}");
    }
    assert_eq!(one.info().persons, 8);
}

#[test]
fn faces_that_cannot_be_looked_for_are_refused_and_not_let_in() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create(&gallery, "one");
    let admitted = gallery.enroll_unless_duplicate(
        &one,
        &id("x"),
        profile("x", &[]),
        vec![face(1)],
        looking(Names::Photographs),
        &Caller::default(),
    );
    assert!(matches!(
        refused(admitted),
        crate::Error::Request(RequestError::Invalid { field: "checks", .. })
    ));
    assert_eq!(one.info().persons, 0);
}

#[test]
fn faces_that_came_as_features_and_their_copies_are_named_to_administrators_alone() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let (one, two) = (create(&gallery, "one"), create(&gallery, "two"));
    let mut features = face(1);
    features.detection_score = FEATURES_SCORE;
    gallery
        .enroll(&two, &id("crafted"), profile("", &[]), vec![features], REQUEST)
        .expect("enrolled");
    gallery
        .copy((&two, &id("crafted")), (&one, &id("copy")), REQUEST)
        .expect("copied");
    drop((gallery, one, two));
    // As a start reads it.
    let gallery = opened(&disk, &ring);
    let one = collection(&gallery, "one");
    let admit = |who: &str, names| {
        let (faces, caller) = (vec![looked_for(1)], Caller::default());
        gallery.enroll_unless_duplicate(&one, &id(who), profile(who, &[]), faces, looking(names), &caller)
    };
    let Admitted::Duplicates(found) = admit("new", Names::Features).expect("answered") else {
        panic!("an administrator is told");
    };
    assert!(found.len() == 1 && found[0].by_features && found[0].person.id == id("copy"));
    assert_eq!(
        duplicates(admit("new", Names::Photographs)),
        [""; 0],
        "and is enrolled"
    );
    let Admitted::Duplicates(found) = admit("other", Names::Photographs).expect("answered") else {
        panic!("a photograph is named");
    };
    assert!(found.len() == 1 && !found[0].by_features && found[0].person.id == id("new"));
}
