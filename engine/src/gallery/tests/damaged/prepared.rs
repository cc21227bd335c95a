//! A data directory as months leave it, and what it must answer.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::access::{AccountSettings, NewApiKey, Scope, Scopes};
use crate::gallery::Gallery;
use crate::gallery::collection::Collection;
use crate::gallery::load::LoadReport;
use crate::gallery::tests::support::*;
use likeness_store::keys::KeyRing;
use likeness_store::records::{Change, Family, Write, data_files};
use likeness_store::vault::Plan;
use likeness_types::act::{Act, AuditEntry};
use likeness_types::error::{Error, OperatorError, RequestError, Result};
use likeness_types::names::Account;

/// Enough that they fill two data files.
const CROWD: u64 = 2600;
const CROWD_FACES: u64 = 20;
/// Whose search is compared with the record, for a search takes longer than a look at a record.
const SEARCHED: u64 = 200;
const FIRST: u64 = 400;
const SECOND: u64 = 60;
const THIRD: u64 = 20;

/// The directory, and who is in it.
pub struct Prepared {
    home: tempfile::TempDir,
    ring: Arc<KeyRing>,
    /// Each with the faces that are enrolled, at least one.
    enrolled: BTreeMap<String, Vec<u64>>,
    erased: Vec<(String, u64)>,
    /// Which family a data file is of.
    families: BTreeMap<String, String>,
}

/// What the people of a directory were answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answers {
    /// People who cannot be read for now.
    pub hidden: usize,
}

/// A copy that may be damaged.
pub struct Copy {
    home: tempfile::TempDir,
    ring: Arc<KeyRing>,
}

impl Copy {
    pub fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    pub fn open(&self) -> Result<(Gallery, LoadReport)> {
        open_at(&self.data(), &self.ring)
    }
}

fn branch() -> Account {
    Account::parse("branch").expect("a name")
}

fn who(n: u64) -> String {
    format!("p{n}")
}

impl Prepared {
    pub fn new() -> Self {
        let (home, ring) = (tempfile::tempdir().expect("a directory"), ring());
        let mut prepared = Self {
            home,
            ring,
            enrolled: BTreeMap::new(),
            erased: Vec::new(),
            families: BTreeMap::new(),
        };
        prepared.live();
        prepared
    }

    /// Several runs: the first ends in files at the bottom, the second in files above them, the third in the
    /// write-ahead log.
    fn live(&mut self) {
        let data = self.data();
        let gallery = opened_at(&data, &self.ring);
        let one = create(&gallery, "one");
        crowd(&gallery, &create(&gallery, "two"));
        administer(&gallery, "one");
        self.enroll(&gallery, &one, 0..FIRST);
        ask(&gallery, &one, 0..20);
        gallery.vault.purge_records(None).expect("rewritten");
        drop(gallery);

        let gallery = opened_at(&data, &self.ring);
        let one = collection(&gallery, "one");
        administer(&gallery, "two");
        self.enroll(&gallery, &one, FIRST..FIRST + SECOND);
        for n in 0..20 {
            self.erase(&gallery, &one, n * 7);
        }
        for n in 0..10 {
            let more = 10_000 + n;
            let faces = vec![face(more)];
            gallery
                .add_faces(&one, &id(&who(n * 7 + 1)), faces, REQUEST)
                .expect("added");
            self.enrolled.get_mut(&who(n * 7 + 1)).expect("kept").push(more);
        }
        // Nobody of the erased is among them.
        ask(&gallery, &one, 36..42);
        drop(gallery);

        let gallery = opened_at(&data, &self.ring);
        let one = collection(&gallery, "one");
        administer(&gallery, "three");
        self.enroll(&gallery, &one, FIRST + SECOND..FIRST + SECOND + THIRD);
        self.erase(&gallery, &one, 3);
        // As a kill leaves it: the last run is in the write-ahead log.
        let killed = tempfile::tempdir().expect("a directory");
        copy_as_killed(self.home.path(), killed.path());
        drop(gallery);
        self.home = killed;
        let data = self.data();
        self.families = data_files(&data.join("records")).into_iter().collect();
    }

    fn enroll(&mut self, gallery: &Gallery, one: &Arc<Collection>, numbers: std::ops::Range<u64>) {
        for n in numbers {
            let faces = vec![face(n)];
            let caller = under("EnrollPerson", &format!("a-token-of-person-{n:06}"), 1);
            if n % 10 == 0 {
                gallery
                    .enroll(one, &id(&who(n)), profile(&who(n), &["tag"]), faces, caller)
                    .expect("enrolled");
            } else {
                enroll(gallery, one, &who(n), &[n]).expect("enrolled");
            }
            self.enrolled.insert(who(n), vec![n]);
        }
    }

    fn erase(&mut self, gallery: &Gallery, one: &Arc<Collection>, n: u64) {
        gallery.delete(one, &id(&who(n)), REQUEST).expect("erased");
        self.enrolled.remove(&who(n));
        self.erased.push((who(n), n));
    }

    pub fn people(&self) -> usize {
        self.enrolled.len() + CROWD as usize
    }

    pub fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// Files below the data directory.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        walk(&self.data(), &mut files);
        let data = self.data();
        let below = files
            .into_iter()
            .map(|file| file.strip_prefix(&data).expect("below").to_owned());
        let mut below: Vec<_> = below.collect();
        below.sort();
        below
    }

    pub fn family_of(&self, path: &Path) -> String {
        let name = path.file_name().and_then(|name| name.to_str()).expect("text");
        self.families.get(name).cloned().unwrap_or_default()
    }

    pub fn copy(&self) -> Copy {
        let copy = Copy {
            home: tempfile::tempdir().expect("a directory"),
            ring: Arc::clone(&self.ring),
        };
        copy_all(self.home.path(), copy.home.path()).expect("copied");
        copy
    }

    /// How many of the first collection cannot be read.
    pub fn hidden_in_one(&self, gallery: &Gallery) -> usize {
        let one = collection(gallery, "one");
        let is_read = |who: &&String| match gallery.person(&one, &id(who)) {
            Ok(_) => true,
            Err(error) => {
                assert!(is_hidden(&error), "{who}: {error}");
                false
            }
        };
        self.enrolled.len() - self.enrolled.keys().filter(is_read).count()
    }

    /// Asks for everybody, and for who was erased.
    ///
    /// # Panics
    /// On a wrong answer.
    pub fn answers(&self, gallery: &Gallery) -> Answers {
        let mut answers = Answers { hidden: 0 };
        let place = |text: &str| match gallery.collection(&account(), &name(text)) {
            Ok(place) => Some(place),
            Err(error) => {
                assert!(is_hidden(&error), "{text}: {error}");
                None
            }
        };
        match place("two") {
            Some(two) => answers.hidden += crowd_hidden(gallery, &two),
            None => answers.hidden += CROWD as usize,
        }
        let Some(one) = place("one") else {
            answers.hidden += self.enrolled.len();
            return answers;
        };
        for (who, faces) in &self.enrolled {
            let found = found(gallery, &one, faces[0]);
            match gallery.person(&one, &id(who)) {
                Ok(person) => {
                    assert_eq!(person.id.as_str(), who);
                    let mut kept: Vec<_> = person.faces.iter().map(|face| face.id).collect();
                    let mut all: Vec<_> = faces.iter().map(|n| face_id(*n)).collect();
                    kept.sort();
                    all.sort();
                    assert_eq!(kept, all, "{who} has other faces");
                    assert_eq!(found, [who.as_str()], "{who} is found");
                }
                Err(error) => {
                    assert!(is_hidden(&error), "{who}: {error}");
                    assert_eq!(found, [""; 0], "{who} is hidden");
                    answers.hidden += 1;
                }
            }
        }
        for (who, n) in &self.erased {
            assert_eq!(found(gallery, &one, *n), [""; 0], "{who} was erased");
            match gallery.person(&one, &id(who)) {
                Err(Error::Request(RequestError::NoPerson)) => {}
                Err(error) if is_hidden(&error) => {}
                Err(error) => panic!("{who} was erased: {error}"),
                Ok(_) => panic!("{who} was erased, and is back"),
            }
        }
        answers
    }
}

/// People who make the data files of the bottom large.
fn crowd(gallery: &Gallery, two: &Arc<Collection>) {
    std::thread::scope(|scope| {
        for part in 0..16 {
            scope.spawn(move || {
                for n in (part..CROWD).step_by(16) {
                    enroll(gallery, two, &in_crowd(n), &faces_in_crowd(n)).expect("enrolled");
                }
            });
        }
    });
}

pub fn crowd_ids() -> impl Iterator<Item = String> {
    (0..CROWD).map(in_crowd)
}

fn in_crowd(n: u64) -> String {
    format!("c{n}")
}

fn faces_in_crowd(n: u64) -> Vec<u64> {
    let first = 100_000 + n * CROWD_FACES;
    (first..first + CROWD_FACES).collect()
}

/// How many of the crowd are hidden.
fn crowd_hidden(gallery: &Gallery, two: &Arc<Collection>) -> usize {
    let mut hidden = 0;
    for n in 0..CROWD {
        let who = in_crowd(n);
        let is_read = match gallery.person(two, &id(&who)) {
            Ok(person) => person.id.as_str() == who && person.faces.len() as u64 == CROWD_FACES,
            Err(error) => {
                assert!(is_hidden(&error), "{who}: {error}");
                hidden += 1;
                false
            }
        };
        if n % SEARCHED == 0 {
            let found = found(gallery, two, faces_in_crowd(n)[0]);
            assert_eq!(found == [who], is_read, "who is read is found, and nobody else");
        }
    }
    hidden
}

/// Whether it says that the disk hides it.
pub fn is_hidden(error: &Error) -> bool {
    matches!(
        error,
        Error::Request(RequestError::Damaged) | Error::Operator(OperatorError::DamagedPlace)
    )
}

/// What administrators do.
fn administer(gallery: &Gallery, object: &str) {
    let entry = AuditEntry {
        account: account(),
        key: None,
        request: REQUEST,
        act: Act::CreateCollection,
        of: account(),
        object: object.to_owned(),
    };
    gallery.audited(&entry, || Ok(())).expect("written");
    let made = gallery.create_account(&branch(), AccountSettings::default());
    if made.is_ok() {
        let new = NewApiKey {
            scopes: Scopes::from_iter([Scope::Search]),
            ..NewApiKey::default()
        };
        gallery.create_api_key(&branch(), new).expect("made");
    }
}

/// Calls about people, whose rows are in the running log, and whose comparisons are counted.
fn ask(gallery: &Gallery, one: &Arc<Collection>, numbers: std::ops::Range<u64>) {
    for n in numbers {
        logged(gallery, one, &who(n));
        let key = gallery.record_key(one, &id(&who(n)));
        gallery
            .writer
            .alone(move |vault| {
                let mut plan = Plan::default();
                plan.write(Write {
                    family: Family::Meter,
                    key,
                    change: Change::Put(vec![2; 29]),
                });
                vault.commit(plan)
            })
            .expect("written");
    }
}

fn walk(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("listed") {
        let path = entry.expect("listed").path();
        if path.is_dir() {
            walk(&path, files);
        } else {
            files.push(path);
        }
    }
}
