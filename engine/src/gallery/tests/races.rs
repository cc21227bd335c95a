//! Readers beside writers.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::gallery::Gallery;
use crate::gallery::tests::support::*;
use likeness_store::slots::{SLOT_BYTES, SlotBytes};
use likeness_store::testing::{FakeDisk, FakeFile, Name};
use likeness_types::error::{Error, RequestError};
use likeness_types::person::KeptTemplate;

/// Two writers enrol, change and delete; readers search, read and list until they are done.
fn read_while_writing(gallery: &Gallery, rounds: u64) {
    let one = create(gallery, "one");
    for n in 0..20 {
        enroll(gallery, &one, &format!("stays-{n}"), &[1_000_000 + n]).expect("enrolled");
    }
    let writing = AtomicBool::new(true);
    // Whose deletion was acknowledged. A PersonID is used once.
    let gone = Mutex::new(std::collections::HashSet::new());
    let searches = std::thread::scope(|scope| {
        let (one, gone, writing) = (&one, &gone, &writing);
        let writers: Vec<_> = (0..2)
            .map(|writer| {
                scope.spawn(move || {
                    for n in 0..rounds {
                        let (who, face_n) = (format!("w{writer}-{n}"), writer * 500_000 + n * 3);
                        enroll(gallery, one, &who, &[face_n, face_n + 1]).expect("enrolled");
                        let faces = vec![face(face_n + 2)];
                        gallery.add_faces(one, &id(&who), faces, REQUEST).expect("added");
                        let faces = vec![face_id(face_n)];
                        gallery
                            .delete_faces(one, &id(&who), faces, REQUEST)
                            .expect("deleted");
                        assert_eq!(
                            found(gallery, one, face_n),
                            [""; 0],
                            "a deleted face finds nobody"
                        );
                        gallery.delete(one, &id(&who), REQUEST).expect("deleted");
                        gone.lock().insert(who);
                    }
                })
            })
            .collect();
        let readers: Vec<_> = (0..3)
            .map(|reader| {
                scope.spawn(move || {
                    let mut numbers = Numbers(reader);
                    let mut searches = 0_u64;
                    while writing.load(Ordering::Relaxed) {
                        let gone_before = gone.lock().clone();
                        let like = query(numbers.below(2) * 500_000 + numbers.below(3 * rounds));
                        let matches = gallery.search(one, &like, 100, -1.0).expect("searches work");
                        assert!(matches.len() >= 20);
                        for found in &matches {
                            let who = found.person.id.as_str();
                            assert!(!gone_before.contains(who), "{who} was deleted before the search");
                        }
                        let read = gallery.person(one, &id(&format!("w0-{}", numbers.below(rounds))));
                        assert!(
                            matches!(read, Ok(_) | Err(Error::Request(RequestError::NoPerson))),
                            "never damaged"
                        );
                        let page = gallery.list(one, None, 100).expect("listings work");
                        assert_eq!(page.damaged, 0);
                        assert!(page.items.len() >= 20);
                        assert!(page.items.iter().all(|p| !gone_before.contains(p.id.as_str())));
                        searches += 1;
                    }
                    searches
                })
            })
            .collect();
        for writer in writers {
            writer.join().expect("no writer panics");
        }
        writing.store(false, Ordering::Relaxed);
        readers
            .into_iter()
            .map(|reader| reader.join().expect("no reader panics"))
            .sum::<u64>()
    });
    println!("{searches} searches beside {rounds} rounds");
    assert!(searches > 0);
    let info = one.info();
    assert_eq!((info.persons, info.faces, info.damaged), (20, 20, 0));
}

#[test]
fn no_search_after_an_acknowledged_deletion_names_the_person() {
    let (disk, ring) = (FakeDisk::default(), ring());
    read_while_writing(&opened(&disk, &ring), 1500);
    assert_eq!(disk.used_slots().len(), 21);
}

#[test]
fn no_search_after_an_acknowledged_deletion_names_the_person_on_rocksdb() {
    let (home, ring) = (tempfile::tempdir().expect("a directory"), ring());
    read_while_writing(&opened_at(&home.path().join("data"), &ring), 150);
}

#[test]
fn a_search_that_began_before_a_deletion_or_change_answers_from_the_record() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create(&gallery, "one");
    enroll(&gallery, &one, "ada", &[1]).expect("enrolled");
    // What the index saw of Ada, kept while she is deleted and another takes her PersonID.
    let digest = gallery.digest(&one, &id("ada"));
    gallery.delete(&one, &id("ada"), REQUEST).expect("deleted");
    enroll(&gallery, &one, "ada", &[2]).expect("enrolled");
    let before = gallery.read_person(&one, digest).expect("read").expect("there");
    one.people.write().set(digest, &aged(before), &one.scheme);
    assert_eq!(found(&gallery, &one, 1), [""; 0], "face 1 is nobody's");
}

/// A disk on which every slot is seen half overwritten once, as by a reader beside the writer.
struct Torn(FakeFile, Mutex<std::collections::HashSet<u64>>);

impl SlotBytes for Torn {
    fn size_bytes(&self) -> std::io::Result<u64> {
        self.0.size_bytes()
    }
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> std::io::Result<()> {
        self.0.read_at(offset, bytes)?;
        if offset > 0 && bytes.len() == SLOT_BYTES && self.1.lock().insert(offset) {
            bytes[60..].fill(0);
        }
        Ok(())
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.1.lock().remove(&offset);
        self.0.write_at(offset, bytes)
    }
    fn sync(&self) -> std::io::Result<()> {
        self.0.sync()
    }
}

#[test]
fn a_slot_seen_half_overwritten_is_looked_at_again_before_it_counts_as_damaged() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    enroll(&gallery, &create(&gallery, "one"), "ada", &[1]).expect("enrolled");
    drop(gallery);
    let slots = Torn(FakeFile(disk.clone(), Name::Slots), Mutex::default());
    let (gallery, report) = open_with_slots(&disk, Box::new(slots), &ring, false).expect("opens");
    assert_eq!((report.persons, report.damaged_persons), (1, 0));
    let one = collection(&gallery, "one");
    enroll(&gallery, &one, "bob", &[2]).expect("enrolled");
    assert!(gallery.person(&one, &id("bob")).is_ok());
}

/// The person as an index that lags behind would have it.
fn aged(mut person: crate::Person) -> crate::Person {
    person.faces[0].template = KeptTemplate::new(template(1));
    person
}
