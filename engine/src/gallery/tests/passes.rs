//! Searches that share a pass over the index.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Barrier};
use std::thread::{self, Scope, yield_now};

use crate::gallery::tests::support::*;
use likeness_search::batcher::{BatchReply, BatchRequest, PROBES_MAX, SearchBatcher};
use likeness_store::testing::FakeDisk;

fn request(k: usize) -> BatchRequest {
    BatchRequest {
        probes: vec![Arc::new(probe_of(&template(k as u64)))],
        k,
        similarity_min: 0.0,
        exact: false,
    }
}

/// A reply that tells its request by `compared`.
fn reply(request: &BatchRequest) -> BatchReply {
    BatchReply {
        hits: Vec::new(),
        compared: request.k,
    }
}

/// Occupies every pass there may be, until the value that it returns is dropped.
fn take_all<'scope>(scope: &'scope Scope<'scope, '_>, batcher: &'scope SearchBatcher) -> Vec<Sender<()>> {
    let mut taken = Vec::new();
    for _ in 0..batcher.passes_max() {
        let (release, released) = channel::<()>();
        let began = Arc::new(Barrier::new(2));
        let begin = Arc::clone(&began);
        scope.spawn(move || {
            batcher.search(request(0), |batch| {
                begin.wait();
                released.recv().expect_err("it is only dropped");
                batch.iter().map(reply).collect()
            })
        });
        began.wait();
        taken.push(release);
    }
    taken
}

fn until_they_wait(batcher: &SearchBatcher, callers: usize) {
    while batcher.waiting() < callers {
        yield_now();
    }
}

#[test]
fn waiting_searches_get_their_own_replies_from_as_few_passes_as_possible() {
    let batcher = SearchBatcher::default();
    let (tell, told) = channel();
    thread::scope(|scope| {
        let taken = take_all(scope, &batcher);
        assert!(batcher.is_full());
        for k in 1..=PROBES_MAX + 1 {
            let (batcher, tell) = (&batcher, tell.clone());
            scope.spawn(move || {
                let answer = batcher.search(request(k), |batch| {
                    tell.send(batch.len()).expect("the test waits");
                    batch.iter().map(reply).collect()
                });
                assert_eq!(answer.compared, k);
            });
        }
        until_they_wait(&batcher, PROBES_MAX + 1);
        drop(taken);
    });
    drop(tell);
    let mut sizes: Vec<_> = told.iter().collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, PROBES_MAX]);
    assert_eq!((batcher.waiting(), batcher.passes()), (0, 0));
}

#[test]
fn a_search_that_finds_room_begins_at_once_and_alone() {
    let batcher = SearchBatcher::new(1);
    for k in 0..3 {
        assert!(!batcher.is_full());
        let answer = batcher.search(request(k), |batch| {
            assert_eq!(batch.len(), 1);
            batch.iter().map(reply).collect()
        });
        assert_eq!((answer.compared, batcher.passes()), (k, 0));
    }
}

#[test]
fn a_search_whose_leader_fails_scans_for_itself_and_later_passes_run() {
    let batcher = SearchBatcher::default();
    let answers = thread::scope(|scope| {
        let taken = take_all(scope, &batcher);
        let callers = (1..=8).map(|k| {
            let batcher = &batcher;
            scope.spawn(move || {
                let scan = |batch: &[BatchRequest]| {
                    assert!(batch.len() == 1, "a scan for several fails");
                    batch.iter().map(reply).collect()
                };
                batcher.search(request(k), scan).compared
            })
        });
        let callers: Vec<_> = callers.collect();
        until_they_wait(&batcher, 8);
        drop(taken);
        callers
            .into_iter()
            .map(|caller| caller.join().ok())
            .collect::<Vec<_>>()
    });
    let failed = answers.iter().filter(|answer| answer.is_none()).count();
    assert_eq!(failed, 1, "the leader alone: {answers:?}");
    let right = |(n, answer): (usize, &Option<usize>)| answer.is_none_or(|k| k == n + 1);
    assert!(answers.iter().enumerate().all(right), "{answers:?}");
    assert_eq!((batcher.waiting(), batcher.passes()), (0, 0));
}

/// Face, number of matches and threshold of searches that differ in all three.
fn searches(n: u64) -> (u64, usize, f32) {
    (n % 7, 1 + n as usize % 5, [-1.0, 0.0, 0.4, 0.99][n as usize % 4])
}

#[test]
fn searches_that_share_a_pass_find_what_each_finds_alone() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create(&gallery, "one");
    for n in 0..40 {
        enroll(&gallery, &one, &format!("p{n}"), &[n / 2, n + 100]).expect("enrolled");
    }
    let found = |n| {
        let (face, k, similarity_min) = searches(n);
        let found = gallery
            .search(&one, &query(face), k, similarity_min)
            .expect("searched");
        let found = found
            .iter()
            .map(|found| (found.person.id.as_str().to_owned(), found.similarity));
        found.collect::<Vec<_>>()
    };
    let alone: Vec<_> = (0..28).map(found).collect();
    let together: Vec<_> = thread::scope(|scope| {
        let taken = take_all(scope, &one.batcher);
        let found = &found;
        let callers: Vec<_> = (0..28).map(|n| scope.spawn(move || found(n))).collect();
        until_they_wait(&one.batcher, 28);
        drop(taken);
        callers
            .into_iter()
            .map(|caller| caller.join().expect("found"))
            .collect()
    });
    assert_eq!(together, alone);
    assert!(alone.iter().any(|found| found.len() > 1));
}

#[test]
fn waiting_searches_miss_people_erased_meanwhile_and_find_people_enrolled_meanwhile() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create(&gallery, "one");
    enroll(&gallery, &one, "ada", &[1]).expect("enrolled");
    enroll(&gallery, &one, "grace", &[2]).expect("enrolled");
    thread::scope(|scope| {
        let taken = take_all(scope, &one.batcher);
        let (gallery, one) = (&gallery, &one);
        let callers: Vec<_> = (0..12)
            .map(|n| scope.spawn(move || found(gallery, one, n % 3 + 1)))
            .collect();
        until_they_wait(&one.batcher, 12);
        gallery.delete(one, &id("ada"), REQUEST).expect("erased");
        // She may be given Ada's number and Ada's row.
        enroll(gallery, one, "joan", &[3]).expect("enrolled");
        drop(taken);
        let expected: [&[&str]; 3] = [&[], &["grace"], &["joan"]];
        for (n, caller) in callers.into_iter().enumerate() {
            assert_eq!(caller.join().expect("searched"), expected[n % 3]);
        }
    });
}
