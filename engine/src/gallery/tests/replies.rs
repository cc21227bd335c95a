//! No reply after an erasure's acknowledgement names the person.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::gallery::tests::disk::FakeDisk;
use crate::gallery::tests::support::*;

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
