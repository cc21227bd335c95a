//! Searches that share a pass.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Barrier};
use std::thread::{self, Scope, yield_now};
use std::time::{Duration, Instant};

use crate::gallery::collection::Collection;
use crate::gallery::tests::disk::FakeDisk;
use crate::gallery::tests::support::*;
use likeness_search::batcher::{Company, PROBES_MAX, Passes, Seen, Wanted};

fn wanted(k: usize) -> Wanted {
    Wanted {
        probes: vec![Arc::new(probe_of(&template(k as u64)))],
        k,
        similarity_min: 0.0,
        exact: false,
    }
}

/// What nobody sees, but whose it is.
fn seen(wanted: &Wanted) -> Seen {
    Seen {
        hits: Vec::new(),
        compared: wanted.k,
    }
}

/// Takes every pass there may be, until what it answers is dropped.
fn take_all<'scope>(scope: &'scope Scope<'scope, '_>, passes: &'scope Passes) -> Vec<Sender<()>> {
    let mut taken = Vec::new();
    for _ in 0..passes.at_once() {
        let (release, released) = channel::<()>();
        let began = Arc::new(Barrier::new(2));
        let begin = Arc::clone(&began);
        scope.spawn(move || {
            passes.join(wanted(0), Company::default(), |all| {
                begin.wait();
                released.recv().expect_err("it is only dropped");
                all.iter().map(seen).collect()
            })
        });
        began.wait();
        taken.push(release);
    }
    taken
}

fn until_they_wait(passes: &Passes, callers: usize) {
    while passes.waiting() < callers {
        yield_now();
    }
}

#[test]
fn everybody_who_waits_is_answered_their_own_by_as_few_passes_as_may_be() {
    let passes = Passes::default();
    let (tell, told) = channel();
    thread::scope(|scope| {
        let taken = take_all(scope, &passes);
        for k in 1..=PROBES_MAX + 1 {
            let (passes, tell) = (&passes, tell.clone());
            scope.spawn(move || {
                let answer = passes.join(wanted(k), Company::default(), |all| {
                    tell.send(all.len()).expect("the test waits");
                    all.iter().map(seen).collect()
                });
                assert_eq!(answer.compared, k);
            });
        }
        until_they_wait(&passes, PROBES_MAX + 1);
        drop(taken);
    });
    drop(tell);
    let mut sizes: Vec<_> = told.iter().collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, PROBES_MAX]);
    assert_eq!((passes.waiting(), passes.under_way()), (0, 0));
}

#[test]
fn whoever_finds_nobody_looks_at_once_and_alone() {
    let passes = Passes::new(1);
    for k in 0..3 {
        let answer = passes.join(wanted(k), Company::default(), |all| {
            assert_eq!(all.len(), 1);
            all.iter().map(seen).collect()
        });
        assert_eq!((answer.compared, passes.under_way()), (k, 0));
    }
}

/// Longer than any test takes.
const HOUR: Duration = Duration::from_secs(3600);

fn gathering(passes: &Arc<Passes>) -> Company {
    Company {
        gather: HOUR,
        coming: Some(passes.announce()),
    }
}

#[test]
fn whoever_is_on_the_way_is_waited_for_and_shares_the_pass() {
    let passes = Arc::new(Passes::new(1));
    let companies: Vec<_> = (0..5).map(|_| gathering(&passes)).collect();
    let given_up = passes.announce();
    let sizes: Vec<_> = thread::scope(|scope| {
        let look = |all: &[Wanted]| {
            let told = |one| Seen {
                compared: all.len(),
                ..seen(one)
            };
            all.iter().map(told).collect::<Vec<_>>()
        };
        let callers = companies.into_iter().map(|company| {
            let passes = &passes;
            scope.spawn(move || passes.join(wanted(1), company, look).compared)
        });
        let callers: Vec<_> = callers.collect();
        until_they_wait(&passes, 4);
        // Four wait for the leader, and the leader for one who never comes.
        drop(given_up);
        callers
            .into_iter()
            .map(|caller| caller.join().expect("answered"))
            .collect()
    });
    assert_eq!(sizes, [5; 5]);
    assert_eq!((passes.waiting(), passes.under_way()), (0, 0));
}

#[test]
fn whoever_is_alone_or_finds_a_full_pass_waits_for_nobody() {
    let passes = Arc::new(Passes::new(1));
    let alone = gathering(&passes);
    passes.join(wanted(1), alone, |all| all.iter().map(seen).collect());
    let _never_comes = passes.announce();
    let many = Wanted {
        probes: (0..PROBES_MAX as u64)
            .map(|n| Arc::new(probe_of(&template(n))))
            .collect(),
        ..wanted(2)
    };
    let company = gathering(&passes);
    let answer = passes.join(many, company, |all| all.iter().map(seen).collect());
    assert_eq!((answer.compared, passes.under_way()), (2, 0));
}

#[test]
fn nobody_is_waited_for_longer_than_was_set() {
    let passes = Arc::new(Passes::new(1));
    let _never_comes = passes.announce();
    let (began, gather) = (Instant::now(), Duration::from_millis(20));
    let company = Company { gather, coming: None };
    passes.join(wanted(1), company, |all| all.iter().map(seen).collect());
    assert!(began.elapsed() >= gather, "somebody is on the way");
    assert_eq!(passes.under_way(), 0);
}

#[test]
fn whose_leader_fails_looks_alone_and_the_next_passes_go_on() {
    let passes = Passes::default();
    let answers = thread::scope(|scope| {
        let taken = take_all(scope, &passes);
        let callers = (1..=8).map(|k| {
            let passes = &passes;
            scope.spawn(move || {
                let look = |all: &[Wanted]| {
                    assert!(all.len() == 1, "a look for several fails");
                    all.iter().map(seen).collect()
                };
                passes.join(wanted(k), Company::default(), look).compared
            })
        });
        let callers: Vec<_> = callers.collect();
        until_they_wait(&passes, 8);
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
    assert_eq!((passes.waiting(), passes.under_way()), (0, 0));
}

/// Who is found by whom, of some searches that differ in all that may.
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
        let passes: &Collection = &one;
        let taken = take_all(scope, &passes.passes);
        let found = &found;
        let callers: Vec<_> = (0..28).map(|n| scope.spawn(move || found(n))).collect();
        until_they_wait(&one.passes, 28);
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
fn who_is_erased_or_enrolled_while_searches_wait_is_not_found_or_is() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create(&gallery, "one");
    enroll(&gallery, &one, "ada", &[1]).expect("enrolled");
    enroll(&gallery, &one, "grace", &[2]).expect("enrolled");
    thread::scope(|scope| {
        let taken = take_all(scope, &one.passes);
        let (gallery, one) = (&gallery, &one);
        let callers: Vec<_> = (0..12)
            .map(|n| scope.spawn(move || found(gallery, one, n % 3 + 1)))
            .collect();
        until_they_wait(&one.passes, 12);
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
