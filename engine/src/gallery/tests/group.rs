//! Changes that wait for the disk together.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use crate::gallery::Gallery;
use crate::gallery::tests::support::*;
use likeness_store::records::Family;
use likeness_store::testing::FakeDisk;

#[test]
fn many_enrolments_at_once_share_their_syncs() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create(&gallery, "one");
    disk.0.lock().sync_takes = Duration::from_millis(2);
    let before = disk.syncs();
    const THREADS: u64 = 32;
    const EACH: u64 = 25;
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (gallery, one) = (&gallery, &one);
            scope.spawn(move || {
                for n in 0..EACH {
                    let face = thread * EACH + n;
                    enroll(gallery, one, &format!("p{face}"), &[face]).expect("enrolled");
                    assert_eq!(
                        found(gallery, one, face),
                        [format!("p{face}")],
                        "found when acknowledged"
                    );
                }
            });
        }
    });
    let (syncs, enrolments) = (disk.syncs() - before, (THREADS * EACH) as usize);
    println!("{enrolments} enrolments, {syncs} syncs");
    assert!(
        syncs * 5 < enrolments,
        "{syncs} syncs for {enrolments} enrolments"
    );
    assert_eq!(one.info().persons, enrolments);
}

/// Holds the writer until the returned sender goes.
pub(super) fn hold<'a, 'b: 'a>(
    gallery: &'b Gallery,
    scope: &'a std::thread::Scope<'a, 'b>,
) -> std::sync::mpsc::SyncSender<()> {
    let (release, held) = sync_channel::<()>(0);
    let (started, running) = sync_channel(1);
    scope.spawn(move || {
        gallery
            .writer
            .alone(move |_| {
                started.send(()).expect("waited for");
                // Ends when the sender goes.
                held.recv().ok();
                Ok(())
            })
            .expect("ran")
    });
    running.recv().expect("the writer is held");
    release
}

/// Until the call that a thread just began has surely reached the queue.
pub(super) fn let_it_queue() {
    std::thread::sleep(Duration::from_millis(30));
}

#[test]
fn changes_of_one_person_that_wait_together_see_each_other_in_order() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create(&gallery, "one");
    let before = disk.syncs();
    std::thread::scope(|scope| {
        let release = hold(&gallery, scope);
        let (gallery, one) = (&gallery, &one);
        let enrolled = scope.spawn(move || enroll(gallery, one, "ada", &[1]).map(|p| p.faces.len()));
        let_it_queue();
        let other = scope.spawn(move || enroll(gallery, one, "bob", &[2]).map(|p| p.faces.len()));
        let_it_queue();
        let again = scope.spawn(move || enroll(gallery, one, "ada", &[3]).map(|p| p.faces.len()));
        let_it_queue();
        let more = scope.spawn(move || {
            let faces = vec![face(4)];
            gallery
                .add_faces(one, &id("ada"), faces, REQUEST)
                .map(|p| p.faces.len())
        });
        let_it_queue();
        let deleted = scope.spawn(move || gallery.delete(one, &id("ada"), REQUEST));
        let_it_queue();
        let anew = scope.spawn(move || enroll(gallery, one, "ada", &[5]).map(|p| p.faces.len()));
        let_it_queue();
        drop(release);
        assert_eq!(enrolled.join().expect("no panic").expect("the first"), 1);
        assert_eq!(other.join().expect("no panic").expect("unrelated"), 1);
        assert!(
            again.join().expect("no panic").is_err(),
            "the PersonID is taken by the one before"
        );
        assert_eq!(more.join().expect("no panic").expect("the first was seen"), 2);
        assert_eq!(
            deleted.join().expect("no panic").expect("both were seen").faces,
            2
        );
        assert_eq!(
            anew.join()
                .expect("no panic")
                .expect("the PersonID is free again"),
            1
        );
    });
    // Ada and Bob (2), nothing for the refused, more faces (1), the end (2, the log 2, the anchor), anew (2).
    assert_eq!(disk.syncs() - before, 10);
    assert_eq!(found(&gallery, &one, 5), ["ada"]);
    assert_eq!(found(&gallery, &one, 1), [""; 0]);
}

#[test]
fn a_collection_deleted_and_made_anew_by_many_is_the_same_on_disk_and_in_memory() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let gallery = &gallery;
            scope.spawn(move || {
                for n in 0..100 {
                    let made =
                        gallery.create_collection(&account(), &name("one"), scheme(), settings(), REQUEST);
                    if let Ok(one) = made {
                        enroll(gallery, &one, &format!("p{thread}-{n}"), &[n]).ok();
                    }
                    gallery.delete_collection(&account(), &name("one"), REQUEST).ok();
                }
            });
        }
    });
    let one = gallery.collection(&account(), &name("one"));
    assert!(one.is_err(), "the last call of everyone was a deletion");
    assert_eq!(disk.sealed_records(), 0);
    assert!(disk.used_slots().is_empty());
    let one: Arc<_> = create(&gallery, "one");
    enroll(&gallery, &one, "ada", &[1]).expect("enrolled");
    let seen = view(&gallery);
    drop(gallery);
    assert_eq!(view(&opened(&disk.restarted(|_| false), &ring)), seen);
}

#[test]
fn others_are_enrolled_while_a_large_collection_is_deleted() {
    const PEOPLE: u64 = 9000;
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let (large, other) = (create(&gallery, "large"), create(&gallery, "other"));
    std::thread::scope(|scope| {
        for part in 0..16 {
            let (gallery, large) = (&gallery, &large);
            scope.spawn(move || {
                for n in (part..PEOPLE).step_by(16) {
                    enroll(gallery, large, &format!("p{n}"), &[n]).expect("enrolled");
                }
            });
        }
    });
    let left = || {
        let people = disk.keys(Family::Persons);
        people
            .iter()
            .filter(|(_, key)| key.starts_with(&large.id.0))
            .count()
    };
    assert_eq!(left(), PEOPLE as usize);
    disk.0.lock().sync_takes = Duration::from_millis(20);
    std::thread::scope(|scope| {
        let deleting = scope.spawn(|| gallery.delete_collection(&account(), &name("large"), REQUEST));
        while gallery.collection(&account(), &name("large")).is_ok() {
            std::thread::yield_now();
        }
        enroll(&gallery, &other, "newcomer", &[1]).expect("enrolled");
        assert!(left() > 0, "it did not wait for the whole collection");
        // Who asks for the same is answered when nobody is left.
        let again = gallery.delete_collection(&account(), &name("large"), REQUEST);
        assert!(again.is_err());
        assert_eq!(left(), 0);
        let erased = deleting.join().expect("no panic").expect("erased");
        // The collection, and three groups.
        assert_eq!((erased.persons, erased.receipts.len()), (PEOPLE as usize, 4));
    });
    assert_eq!(found(&gallery, &other, 1), ["newcomer"]);
    // Two collections were made and one is left, with one person.
    assert_eq!(disk.used_slots().len(), 2);
}
