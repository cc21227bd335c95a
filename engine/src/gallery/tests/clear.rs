//! Nothing personal lies in clear in any file of the data directory.

use std::path::{Path, PathBuf};

use crate::NewFace;
use crate::gallery::tests::support::*;
use crate::people::change::ProfileChange;
use likeness_types::Inside;
use likeness_types::names::{FaceId, RandomId};
use likeness_types::person::{Consent, Profile, Timestamp};

/// A face whose id no other bytes equal by chance. The ids of the other tests are zeros and a small number: so
/// is a receipt's place in the log after empty fields, and so are empty fields before the first byte of a
/// signature, once in 256 receipts.
fn needle(n: u8) -> NewFace {
    let mut new = face(n.into());
    new.id = FaceId(RandomId(std::array::from_fn(|at| {
        n.wrapping_mul(67).wrapping_add((at as u8).wrapping_mul(41)) | 1
    })));
    new
}

fn files(directory: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("listed") {
        let path = entry.expect("listed").path();
        if path.is_dir() {
            files(&path, into);
        } else {
            into.push(path);
        }
    }
}

/// The needles that occur in some file, and how many bytes were looked at.
fn search(data: &Path, needles: &[(String, Vec<u8>)]) -> (Vec<String>, usize) {
    let mut all = Vec::new();
    files(data, &mut all);
    let mut bytes = 0;
    let mut hits = Vec::new();
    for file in all {
        let contents = match std::fs::read(&file) {
            // The store deletes files meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            contents => contents.expect("read"),
        };
        bytes += contents.len();
        for (what, needle) in needles {
            if contents.windows(needle.len()).any(|window| window == needle) {
                hits.push(format!("{what} in {}", file.display()));
            }
        }
    }
    (hits, bytes)
}

#[test]
fn no_name_tag_personid_or_template_is_in_any_file() {
    let (home, ring) = (tempfile::tempdir().expect("a directory"), ring());
    let data = home.path().join("data");
    let gallery = opened_at(&data, &ring);
    let one = create(&gallery, "collection-of-needles");
    let mut needles: Vec<(String, Vec<u8>)> = Vec::new();
    let mut text = |what: &str, text: &str| needles.push((what.to_owned(), text.as_bytes().to_vec()));
    text("a PersonID", "person.needle@example.org");
    text("a name", "Needle of a name");
    text("an earlier name", "Needle of an earlier name");
    text("a tag", "needle-of-a-tag");
    text("a purpose", "needle of a purpose");
    text("a collection", "collection-of-needles");
    let who = id("person.needle@example.org");
    let person = Profile {
        expires: None,
        name: "Needle of an earlier name".to_owned(),
        tags: vec!["needle-of-a-tag".to_owned()],
        consent: Some(Consent {
            purpose: "needle of a purpose".to_owned(),
            given: Timestamp(1),
            of_age_or_parental: true,
        }),
    };
    gallery
        .enroll(&one, &who, person, vec![needle(1), needle(2)], REQUEST)
        .expect("enrolled");
    let change = ProfileChange {
        name: Some("Needle of a name".to_owned()),
        tags: None,
        ..ProfileChange::default()
    };
    gallery.update(&one, &who, change, REQUEST).expect("renamed");
    gallery
        .delete_faces(&one, &who, vec![needle(2).id], REQUEST)
        .expect("deleted");
    let another = id("another-needle");
    gallery
        .enroll(
            &one,
            &another,
            profile("another", &["tag"]),
            vec![needle(3)],
            REQUEST,
        )
        .expect("enrolled");
    gallery.delete(&one, &another, REQUEST).expect("deleted");
    needles.push(("another PersonID".to_owned(), b"another-needle".to_vec()));
    for n in 1..=3 {
        // Any eight bytes in a row of a template would give it away.
        for (at, bytes) in template(n.into()).to_bytes(Inside).chunks(8).enumerate() {
            needles.push((format!("bytes {at} of template {n}"), bytes.to_vec()));
        }
        needles.push((format!("the id of face {n}"), needle(n).id.0.0.to_vec()));
    }
    for key in ring.all(likeness_store::keys::Purpose::Projection) {
        needles.push(("a projection key".to_owned(), key.secret.expose().to_vec()));
    }
    needles.push((
        "the digest key".to_owned(),
        ring.digest().secret.expose().to_vec(),
    ));
    needles.push((
        "the wrapping key".to_owned(),
        ring.wrapping().secret.expose().to_vec(),
    ));

    let clean = |when: &str| {
        let (hits, bytes) = search(&data, &needles);
        assert!(hits.is_empty(), "{when}: {hits:?}");
        assert!(bytes > 1000, "{when}: something was written");
    };
    clean("while it serves, from the log");
    gallery.purge_now().expect("purged");
    clean("while it serves, with the receipts of the purge");
    drop(gallery);
    drop(opened_at(&data, &ring));
    clean("after a restart, from the tables");

    // The same search finds what is there.
    for (what, needle) in &needles {
        let planted = data.join("records").join("planted");
        std::fs::write(&planted, [b"xx", needle.as_slice(), b"yy"].concat()).expect("written");
        let (hits, _) = search(&data, &needles);
        assert!(hits.iter().any(|hit| hit.starts_with(what)), "{what}");
        std::fs::remove_file(planted).expect("removed");
    }
}
