//! A damaged block of a data file: it affects the people in it, and is never a wrong answer.

use std::fs;
use std::os::unix::fs::FileExt;

use crate::gallery::tests::support::*;
use likeness_types::error::{Error, OperatorError};
use likeness_types::names::PersonId;

const PEOPLE: u64 = 300;

#[test]
fn a_damaged_block_affects_the_people_in_it_and_nobody_is_taken_for_erased() {
    let (home, ring) = (tempfile::tempdir().expect("a directory"), ring());
    let data = home.path().join("data");
    let gallery = opened_at(&data, &ring);
    let one = create(&gallery, "one");
    std::thread::scope(|scope| {
        for part in 0..16 {
            let (gallery, one) = (&gallery, &one);
            scope.spawn(move || {
                for n in (part..PEOPLE).step_by(16) {
                    enroll(gallery, one, &format!("p{n}"), &[n]).expect("enrolled");
                }
            });
        }
    });
    drop(gallery);
    // The next start writes the log's contents into a data file.
    drop(opened_at(&data, &ring));

    let files = fs::read_dir(data.join("records"))
        .expect("a directory")
        .map(|e| e.expect("an entry").path());
    let tables = files.filter(|path| path.extension().is_some_and(|e| e == "sst"));
    let largest = tables
        .max_by_key(|path| fs::metadata(path).expect("a file").len())
        .expect("a data file");
    let table = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&largest)
        .expect("opens");
    let middle = table.metadata().expect("a file").len() / 2;
    let mut byte = [0];
    table.read_exact_at(&mut byte, middle).expect("read");
    table.write_all_at(&[byte[0] ^ 1], middle).expect("written");

    for start in 0..2 {
        let (gallery, report) = open_at(&data, &ring).expect("everyone else is served");
        assert_eq!(report.gaps, 1, "start {start}");
        assert_eq!((report.erasures_finished, report.keys_overwritten), (0, 0));
        let one = collection(&gallery, "one");
        let mut lost = 0;
        for n in 0..PEOPLE {
            let who = id(&format!("p{n}"));
            match gallery.person(&one, &who) {
                Ok(person) => {
                    assert_eq!(person.id, who);
                    assert_eq!(found(&gallery, &one, n), [format!("p{n}")]);
                }
                Err(Error::Operator(OperatorError::DamagedPlace)) => {
                    lost += 1;
                    assert_eq!(found(&gallery, &one, n), [""; 0], "never a wrong answer");
                }
                Err(other) => panic!("p{n}: {other}"),
            }
        }
        assert!((1..20).contains(&lost), "{lost} people in one block");
        assert_eq!(report.persons as u64, PEOPLE - lost);
    }

    // Somebody else in the damaged file is erased at once; that the bytes are gone is not said, since the
    // file cannot be rewritten.
    let gallery = opened_at(&data, &ring);
    let one = collection(&gallery, "one");
    let readable = (0..PEOPLE)
        .map(|n| id(&format!("p{n}")))
        .find(|who| gallery.person(&one, who).is_ok());
    gallery
        .delete(&one, &readable.expect("most of them"), REQUEST)
        .expect("erased");
    assert!(gallery.purge_now().is_err());
    assert_eq!(gallery.backlog().erasures, 1);
    // Everybody else is served, and changes are made as before.
    enroll(&gallery, &one, "later", &[PEOPLE]).expect("enrolled");
    assert_eq!(found(&gallery, &one, PEOPLE), ["later"]);
    gallery.delete(&one, &id("later"), REQUEST).expect("erased");

    // Whoever lies there cannot be erased, and nobody is told so: not of one person, and not of the collection.
    let is_hidden = |who: &PersonId| {
        matches!(
            gallery.person(&one, who),
            Err(Error::Operator(OperatorError::DamagedPlace))
        )
    };
    let mut everybody = (0..PEOPLE).map(|n| id(&format!("p{n}")));
    let hidden = everybody.find(is_hidden).expect("the block has people");
    assert!(matches!(
        gallery.delete(&one, &hidden, REQUEST),
        Err(Error::Operator(OperatorError::DamagedPlace))
    ));
    assert!(is_hidden(&hidden));
    assert!(matches!(
        gallery.delete_collection(&account(), &name("one"), REQUEST),
        Err(Error::Operator(OperatorError::Store { .. }))
    ));
}
