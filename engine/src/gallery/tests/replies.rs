//! No reply after an erasure's acknowledgement names the person.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::gallery::Gallery;
use crate::gallery::collection::Collection;
use crate::gallery::tests::support::*;
use crate::people::duplicates::DuplicateCursor;
use crate::search::filter::Filter;
use crate::search::{Comparison, Search};
use likeness_store::testing::FakeDisk;
use likeness_types::person::Names;

#[test]
fn thirty_two_readers_beside_erasers_never_reply_with_who_was_acknowledged_as_erased() {
    const PEOPLE: u64 = 160;
    const ERASERS: u64 = 4;
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create(&gallery, "one");
    for n in 0..PEOPLE {
        enroll(&gallery, &one, &format!("p{n}"), &[n]).expect("enrolled");
    }
    let (clock, running) = (AtomicU64::new(0), AtomicBool::new(true));
    let tick = || clock.fetch_add(1, Ordering::SeqCst);
    // When each erasure was acknowledged.
    let acknowledged = Mutex::new(HashMap::new());
    let replies: Vec<(String, u64)> = std::thread::scope(|scope| {
        let (gallery, one, running, acknowledged) = (&gallery, &one, &running, &acknowledged);
        let erasers: Vec<_> = (0..ERASERS)
            .map(|eraser| {
                scope.spawn(move || {
                    for n in (eraser..PEOPLE).step_by(ERASERS as usize) {
                        gallery
                            .delete(one, &id(&format!("p{n}")), REQUEST)
                            .expect("erased");
                        acknowledged.lock().insert(format!("p{n}"), tick());
                    }
                })
            })
            .collect();
        let readers: Vec<_> = (0..32)
            .map(|reader| {
                scope.spawn(move || {
                    let (mut numbers, mut replies) = (Numbers(reader), Vec::new());
                    while running.load(Ordering::Relaxed) {
                        let reading = one.readers.begin();
                        let asked = query(numbers.below(PEOPLE));
                        let matches = gallery.search(one, &asked, 100, -1.0).expect("searched");
                        // The reply is built slowly, and sent when it is built.
                        std::thread::sleep(Duration::from_micros(numbers.below(3000)));
                        let sent = tick();
                        drop(reading);
                        replies.extend(matches.iter().map(|m| (m.person.id.as_str().to_owned(), sent)));
                    }
                    replies
                })
            })
            .collect();
        erasers
            .into_iter()
            .for_each(|eraser| eraser.join().expect("no panic"));
        running.store(false, Ordering::Relaxed);
        readers
            .into_iter()
            .flat_map(|reader| reader.join().expect("no panic"))
            .collect()
    });
    let acknowledged = acknowledged.into_inner();
    assert_eq!(acknowledged.len() as u64, PEOPLE);
    println!("{} names in replies beside {PEOPLE} erasures", replies.len());
    assert!(replies.len() > 1000);
    for (who, sent) in replies {
        assert!(
            sent < acknowledged[&who],
            "{who} was named after the acknowledgement"
        );
    }
}

/// Whom a reader of several collections names: whoever is found in either, or enrolled twice in the first.
fn names(gallery: &Gallery, one: &Arc<Collection>, two: &Arc<Collection>, n: u64) -> Vec<String> {
    let found = gallery.search_batched(&Search {
        places: &[(Arc::clone(one), -1.0), (Arc::clone(two), -1.0)],
        queries: &[query(n), query(n + 1)],
        k: 100,
        comparison: if n.is_multiple_of(2) {
            Comparison::Fused
        } else {
            Comparison::BestFace
        },
        filter: &Filter {
            any_tag: vec!["tag".to_owned()],
            ..Filter::default()
        },
        exact: false,
        asker: asking().asker,
    });
    let found = found.expect("searched").matches.into_iter().flatten();
    let found = found.map(|found| format!("{}/{}", found.collection.as_str(), found.person.id.as_str()));
    let mut names: Vec<_> = found.collect();
    let twice = gallery
        .duplicates(one, 0.99, Names::Photographs, DuplicateCursor::begin(one))
        .expect("searched");
    for pair in &twice.pairs {
        names.extend(
            pair.people
                .each_ref()
                .map(|person| format!("one/{}", person.id.as_str())),
        );
    }
    names
}

#[test]
fn no_search_over_several_collections_replies_with_who_was_acknowledged_as_erased() {
    const PEOPLE: u64 = 120;
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let (one, two) = (create(&gallery, "one"), create(&gallery, "two"));
    for n in 0..PEOPLE {
        // Everybody is in both, and twice in the first.
        enroll(&gallery, &one, &format!("p{n}"), &[n, 1000 + n]).expect("enrolled");
        enroll(&gallery, &one, &format!("again-{n}"), &[n]).expect("enrolled");
        enroll(&gallery, &two, &format!("p{n}"), &[n]).expect("enrolled");
    }
    let (clock, running) = (AtomicU64::new(0), AtomicBool::new(true));
    let tick = || clock.fetch_add(1, Ordering::SeqCst);
    let acknowledged = Mutex::new(HashMap::new());
    let replies: Vec<(String, u64)> = std::thread::scope(|scope| {
        let (gallery, one, two) = (&gallery, &one, &two);
        let (running, acknowledged) = (&running, &acknowledged);
        let erasers: Vec<_> = [(one, "one"), (two, "two")]
            .into_iter()
            .map(|(collection, name)| {
                scope.spawn(move || {
                    for n in 0..PEOPLE {
                        let who = format!("p{n}");
                        gallery.delete(collection, &id(&who), REQUEST).expect("erased");
                        acknowledged.lock().insert(format!("{name}/{who}"), tick());
                    }
                })
            })
            .collect();
        let readers: Vec<_> = (0..8)
            .map(|reader| {
                scope.spawn(move || {
                    let (mut numbers, mut replies) = (Numbers(reader), Vec::new());
                    while running.load(Ordering::Relaxed) {
                        let reading = [one.readers.begin(), two.readers.begin()];
                        let names = names(gallery, one, two, numbers.below(PEOPLE));
                        std::thread::sleep(Duration::from_micros(numbers.below(3000)));
                        let sent = tick();
                        drop(reading);
                        replies.extend(names.into_iter().map(|name| (name, sent)));
                    }
                    replies
                })
            })
            .collect();
        erasers
            .into_iter()
            .for_each(|eraser| eraser.join().expect("no panic"));
        running.store(false, Ordering::Relaxed);
        readers
            .into_iter()
            .flat_map(|reader| reader.join().expect("no panic"))
            .collect()
    });
    let acknowledged = acknowledged.into_inner();
    assert_eq!(acknowledged.len() as u64, 2 * PEOPLE);
    println!("{} names in replies", replies.len());
    assert!(replies.len() > 500);
    for (who, sent) in replies {
        let erased = acknowledged.get(&who);
        assert!(
            erased.is_none_or(|erased| sent < *erased),
            "{who} was named after the acknowledgement"
        );
    }
    // Nobody is left behind of those whose second name stays.
    assert_eq!(one.info().persons as u64, PEOPLE);
}

#[test]
fn an_erasure_waits_for_older_readers_only_and_not_for_ever() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create(&gallery, "one");
    let older = one.readers.begin();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| one.readers.wait_for_older());
        std::thread::sleep(Duration::from_millis(100));
        assert!(!waiting.is_finished());
        let _newer = one.readers.begin();
        drop(older);
        assert!(
            waiting.join().expect("no panic"),
            "who began later is not waited for"
        );
    });
    let _stuck = one.readers.begin();
    let began = Instant::now();
    assert!(!one.readers.wait_for_older());
    assert!(began.elapsed() < Duration::from_secs(10));
}
