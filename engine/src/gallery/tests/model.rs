//! Random changes against a plain map, with a restart now and then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Clock;
use crate::error::{Error, RequestError, Result};
use crate::gallery::collection::Collection;
use crate::gallery::tests::disk::{FakeDisk, FakeFile, Name};
use crate::gallery::tests::support::*;
use crate::gallery::{Gallery, ProfileChange};
use crate::person::{Profile, Timestamp};
use crate::template::Template;

const COLLECTIONS: [&str; 3] = ["one", "two", "three"];
const FACES_MAX: usize = 6;

/// The gallery as a map, and the numbers that drive both.
struct Model {
    numbers: Numbers,
    collections: View,
    faces: u64,
    /// The gallery's clock.
    now: Arc<AtomicU64>,
}

/// What a call must answer: `Ok`, or a refusal for this reason.
type Expected = std::result::Result<(), RequestError>;

impl Model {
    fn new(seed: u64, now: Arc<AtomicU64>) -> Self {
        Self {
            numbers: Numbers(seed),
            collections: View::new(),
            faces: 0,
            now,
        }
    }

    /// Time passes; whoever is due is gone at once, whether or not somebody has come to erase them.
    fn pass_time(&mut self) {
        if self.numbers.below(4) > 0 {
            return;
        }
        let passed = self.numbers.below(500);
        let now = Timestamp(self.now.fetch_add(passed, Ordering::SeqCst) + passed);
        for collection in self.collections.values_mut() {
            let people = &mut collection.people;
            people.retain(|_, person| person.expires.is_none_or(|expires| expires > now));
        }
    }

    fn later(&mut self) -> Timestamp {
        Timestamp(self.now.load(Ordering::SeqCst) + 1 + self.numbers.below(2_000))
    }

    fn collection(&mut self) -> &'static str {
        COLLECTIONS[self.numbers.below(3) as usize]
    }

    /// Somebody out of few, so that most changes meet somebody.
    fn person(&mut self) -> String {
        format!("person-{}", self.numbers.below(12))
    }

    fn new_faces(&mut self) -> Vec<u64> {
        let count = 1 + self.numbers.below(3);
        let first = self.faces;
        self.faces += count;
        (first..first + count).collect()
    }

    /// One random call on both, and the same outcome.
    fn step(&mut self, gallery: &Gallery) {
        self.pass_time();
        let collection = self.collection();
        let Some(known) = self.collections.get(collection) else {
            assert!(gallery.collection(&account(), &name(collection)).is_err());
            gallery
                .create_collection(&account(), &name(collection), scheme(), collection_settings())
                .expect("the name is free");
            let empty = CollectionView {
                threshold: 0.5,
                faces_per_person_max: FACES_MAX as u32,
                people: BTreeMap::new(),
            };
            self.collections.insert(collection.to_owned(), empty);
            return;
        };
        let handle = gallery
            .collection(&account(), &name(collection))
            .expect("it exists");
        let who_is_known = known.people.clone();
        match self.numbers.below(100) {
            0..40 => self.enroll(gallery, &handle, &who_is_known),
            40..47 => self.add_faces(gallery, &handle, &who_is_known),
            47..51 => self.rename(gallery, &handle, &who_is_known),
            51..55 => self.copy(gallery, &handle, &who_is_known),
            55..65 => self.update(gallery, &handle, &who_is_known),
            65..78 => self.delete_faces(gallery, &handle, &who_is_known),
            78..94 => self.delete(gallery, &handle, &who_is_known),
            94..96 => self.delete_collection(gallery, collection),
            96..98 => {
                let again = gallery.create_collection(&account(), &name(collection), scheme(), settings());
                compare(again, &Err(RequestError::CollectionExists));
            }
            _ => self.update_collection(gallery, &handle),
        }
    }

    fn people(&mut self, collection: &Collection) -> &mut BTreeMap<String, PersonView> {
        let known = self.collections.get_mut(collection.name.as_str());
        &mut known.expect("it exists").people
    }

    fn enroll(
        &mut self,
        gallery: &Gallery,
        collection: &Arc<Collection>,
        known: &BTreeMap<String, PersonView>,
    ) {
        let (who, faces) = (self.person(), self.new_faces());
        let expires = (self.numbers.below(3) == 0).then(|| self.later());
        let expected = if known.contains_key(&who) {
            Err(RequestError::PersonExists)
        } else {
            let person = PersonView {
                name: who.clone(),
                tags: vec!["tag".to_owned()],
                expires,
                faces: faces.iter().map(|n| bits(*n)).collect(),
            };
            self.people(collection).insert(who.clone(), person);
            Ok(())
        };
        let profile = Profile {
            expires,
            ..profile(&who, &["tag"])
        };
        let faces = faces.iter().map(|n| face(*n)).collect();
        compare(gallery.enroll(collection, &id(&who), profile, faces), &expected);
    }

    fn add_faces(
        &mut self,
        gallery: &Gallery,
        collection: &Arc<Collection>,
        known: &BTreeMap<String, PersonView>,
    ) {
        let (who, faces) = (self.person(), self.new_faces());
        let expected = match known.get(&who) {
            None => Err(RequestError::NoPerson),
            Some(person) if person.faces.len() + faces.len() > FACES_MAX => {
                Err(RequestError::FacesPerPerson {
                    faces: person.faces.len() + faces.len(),
                    faces_max: FACES_MAX,
                })
            }
            Some(_) => {
                let person = self.people(collection).get_mut(&who).expect("known");
                person.faces.extend(faces.iter().map(|n| bits(*n)));
                Ok(())
            }
        };
        let faces = faces.iter().map(|n| face(*n)).collect();
        compare(gallery.add_faces(collection, &id(&who), faces), &expected);
    }

    fn update(
        &mut self,
        gallery: &Gallery,
        collection: &Arc<Collection>,
        known: &BTreeMap<String, PersonView>,
    ) {
        let who = self.person();
        let new_name = format!("name {}", self.numbers.below(1000));
        let expires = match self.numbers.below(3) {
            0 => None,
            1 => Some(None),
            _ => Some(Some(self.later())),
        };
        let expected = if known.contains_key(&who) {
            let person = self.people(collection).get_mut(&who).expect("known");
            person.name.clone_from(&new_name);
            person.tags = vec!["a".to_owned(), "b".to_owned()];
            person.expires = expires.unwrap_or(person.expires);
            Ok(())
        } else {
            Err(RequestError::NoPerson)
        };
        let change = ProfileChange {
            name: Some(new_name),
            tags: Some(vec!["b".to_owned(), "a".to_owned(), "b".to_owned()]),
            expires,
            consent: None,
        };
        compare(gallery.update(collection, &id(&who), change), &expected);
    }

    fn rename(
        &mut self,
        gallery: &Gallery,
        collection: &Arc<Collection>,
        known: &BTreeMap<String, PersonView>,
    ) {
        let (who, new) = (self.person(), self.person());
        let expected = if !known.contains_key(&who) {
            Err(RequestError::NoPerson)
        } else if known.contains_key(&new) {
            Err(RequestError::PersonExists)
        } else {
            let people = self.people(collection);
            let person = people.remove(&who).expect("known");
            people.insert(new.clone(), person);
            Ok(())
        };
        compare(
            gallery.rename(collection, &id(&who), &id(&new), REQUEST),
            &expected,
        );
    }

    fn copy(
        &mut self,
        gallery: &Gallery,
        collection: &Arc<Collection>,
        known: &BTreeMap<String, PersonView>,
    ) {
        let (who, new, target) = (self.person(), self.person(), self.collection());
        // Two with the same faces could not be told apart by the searches below: only one of them stays.
        let Ok(target) = gallery.collection(&account(), &name(target)) else {
            return;
        };
        let outcome = gallery.copy((collection, &id(&who)), (&target, &id(&new)));
        let taken = self.people(&target).contains_key(&new);
        match known.get(&who) {
            None => compare(outcome, &Err(RequestError::NoPerson)),
            Some(_) if taken => compare(outcome, &Err(RequestError::PersonExists)),
            Some(person) => {
                let copy = PersonView::of(&outcome.expect("copied"));
                let bits = |person: &PersonView| person.faces.values().cloned().collect::<BTreeSet<_>>();
                assert_eq!((&copy.name, &copy.tags), (&person.name, &person.tags));
                assert_eq!(copy.expires, person.expires);
                assert_eq!(bits(&copy), bits(person));
                assert!(copy.faces.keys().all(|id| !person.faces.contains_key(id)));
                self.people(&target).insert(new, copy);
                self.people(collection).remove(&who);
                gallery.delete(collection, &id(&who), REQUEST).expect("deleted");
            }
        }
    }

    fn delete_faces(
        &mut self,
        gallery: &Gallery,
        collection: &Arc<Collection>,
        known: &BTreeMap<String, PersonView>,
    ) {
        let who = self.person();
        let count = 1 + self.numbers.below(2) as usize;
        let faces: Vec<_> = known
            .get(&who)
            .map(|p| p.faces.keys().copied().take(count).collect())
            .unwrap_or_else(|| vec![face_id(0)]);
        let expected = match known.get(&who) {
            None => Err(RequestError::NoPerson),
            Some(person) if person.faces.len() == faces.len() => Err(RequestError::LastFace),
            Some(_) => {
                let person = self.people(collection).get_mut(&who).expect("known");
                person.faces.retain(|id, _| !faces.contains(id));
                Ok(())
            }
        };
        compare(
            gallery.delete_faces(collection, &id(&who), faces, REQUEST),
            &expected,
        );
    }

    fn delete(
        &mut self,
        gallery: &Gallery,
        collection: &Arc<Collection>,
        known: &BTreeMap<String, PersonView>,
    ) {
        let who = self.person();
        let outcome = gallery.delete(collection, &id(&who), REQUEST);
        match known.get(&who) {
            // Somebody who expired may still be there to be erased.
            None if outcome.is_ok() => {}
            None => compare(outcome, &Err(RequestError::NoPerson)),
            Some(person) => {
                assert_eq!(outcome.expect("deleted").faces, person.faces.len());
                self.people(collection).remove(&who);
            }
        }
    }

    fn delete_collection(&mut self, gallery: &Gallery, collection: &str) {
        let handle = gallery
            .collection(&account(), &name(collection))
            .expect("it exists");
        let erased = gallery
            .delete_collection(&account(), &name(collection), REQUEST)
            .expect("deleted");
        let known = self.collections.remove(collection).expect("it exists");
        assert!(erased.persons >= known.people.len(), "and who expired");
        // Who still holds it finds it gone, in every call.
        let gone = Err(RequestError::NoCollection);
        compare(enroll(gallery, &handle, "late", &[0]), &gone);
        compare(gallery.search(&handle, &query(0), 1, 0.0), &gone);
        compare(gallery.list(&handle, None, 1), &gone);
        compare(gallery.person(&handle, &id("person-1")), &gone);
        compare(gallery.update_collection(&handle, Ok), &gone);
    }

    fn update_collection(&mut self, gallery: &Gallery, collection: &Arc<Collection>) {
        let threshold = self.numbers.below(100) as f32 / 100.0;
        gallery
            .update_collection(collection, move |settings| {
                Ok(crate::CollectionSettings {
                    threshold,
                    ..settings
                })
            })
            .expect("changed");
        let known = self.collections.get_mut(collection.name.as_str());
        known.expect("it exists").threshold = threshold;
    }

    /// A search by a face like somebody's, and by nobody's, answers as comparing with everyone does.
    fn search(&mut self, gallery: &Gallery) {
        let Some((collection, known)) = self.collections.iter().next() else {
            return;
        };
        let handle = gallery
            .collection(&account(), &name(collection))
            .expect("it exists");
        let like = template(self.numbers.below(self.faces + 1));
        let noisy = Template::from_words(
            like.words()
                .to_vec()
                .into_iter()
                .map(|w| w ^ (self.numbers.next() & self.numbers.next() & self.numbers.next())),
        );
        let query = query_of(&noisy);
        for (k, similarity_min) in [(1, -1.0), (5, -1.0), (100, 0.0), (100, 0.3)] {
            let mut naive: Vec<(f32, &str)> = known
                .people
                .iter()
                .map(|(who, person)| (best(person, &query), who.as_str()))
                .filter(|(similarity, _)| *similarity >= similarity_min)
                .collect();
            naive.sort_by(|a, b| b.0.total_cmp(&a.0));
            let matches = gallery.search(&handle, &query, k, similarity_min).expect("found");
            let similarities: Vec<f32> = matches.iter().map(|m| m.similarity).collect();
            let expected: Vec<f32> = naive.iter().map(|n| n.0).take(k).collect();
            assert_eq!(similarities, expected);
            let people: BTreeSet<_> = matches.iter().map(|m| m.person.id.as_str()).collect();
            assert_eq!(people.len(), matches.len(), "nobody twice");
            for found in &matches {
                let who = found.person.id.as_str();
                assert!(naive.contains(&(found.similarity, who)));
                let verified = gallery
                    .verify(&handle, &found.person.id, &query)
                    .expect("enrolled");
                assert_eq!(verified.similarity, found.similarity);
            }
        }
    }
}

fn best(person: &PersonView, query: &crate::gallery::Query) -> f32 {
    let templates = person
        .faces
        .values()
        .map(|bytes| Template::from_bytes(bytes).expect("whole"));
    let scores = templates.map(|t| query.probe.score(&t));
    query
        .probe
        .similarity(scores.max().expect("nobody is without a face"))
}

fn bits(n: u64) -> (crate::FaceId, Vec<u8>) {
    (face_id(n), template(n).to_bytes().to_vec())
}

fn collection_settings() -> crate::CollectionSettings {
    crate::CollectionSettings {
        faces_per_person_max: FACES_MAX as u32,
        ..settings()
    }
}

fn compare<T>(outcome: Result<T>, expected: &Expected) {
    match (outcome, expected) {
        (Ok(_), Ok(())) => {}
        (Err(Error::Request(found)), Err(expected)) => assert_eq!(found, *expected),
        (Ok(_), Err(expected)) => panic!("expected a refusal: {expected}"),
        (Err(error), _) => panic!("expected {expected:?}, found {error}"),
    }
}

/// `steps` random calls; every `pause` of them everything is compared, and `reopen` opens anew.
fn run(
    (seed, now): (u64, Arc<AtomicU64>),
    steps: usize,
    pause: usize,
    mut gallery: Gallery,
    reopen: impl Fn(Gallery) -> Gallery,
) {
    let mut model = Model::new(seed, now);
    for step in 1..=steps {
        model.step(&gallery);
        // Counts, and the places of a search, are the living's only when the others are erased.
        gallery.eraser.erase_due().expect("erased");
        model.search(&gallery);
        if step % pause == 0 {
            assert_eq!(view(&gallery), model.collections, "seed {seed}, step {step}");
            gallery = reopen(gallery);
            assert_eq!(
                view(&gallery),
                model.collections,
                "seed {seed}, step {step}, reopened"
            );
        }
    }
}

#[test]
fn random_changes_on_a_disk_that_forgets_what_is_not_synced() {
    for seed in 0..12 {
        println!("seed {seed}");
        let (disk, ring) = (std::cell::RefCell::new(FakeDisk::default()), ring());
        let now = Arc::new(AtomicU64::new(1_000_000));
        let opened = |disk: &FakeDisk| {
            let slots = Box::new(FakeFile(disk.clone(), Name::Slots));
            let opened = open_by(disk, slots, &ring, false, Clock::Set(Arc::clone(&now)));
            opened.expect("opens").0
        };
        let gallery = opened(&disk.borrow());
        run((seed, Arc::clone(&now)), 400, 20, gallery, |gallery| {
            drop(gallery);
            let restarted = disk.borrow().restarted(|_| false);
            assert_eq!(restarted.used_slots().len(), restarted.0.lock().records.len());
            disk.replace(restarted);
            opened(&disk.borrow())
        });
    }
}

#[test]
fn random_changes_on_rocksdb_and_a_file() {
    for seed in [100, 101] {
        println!("seed {seed}");
        let (home, ring) = (tempfile::tempdir().expect("a directory"), ring());
        let data = home.path().join("data");
        let now = Arc::new(AtomicU64::new(1_000_000));
        let opened = || {
            let opened = open_at_by(&data, &ring, background(Clock::Set(Arc::clone(&now))));
            opened.expect("opens").0
        };
        run((seed, Arc::clone(&now)), 300, 60, opened(), |gallery| {
            drop(gallery);
            opened()
        });
    }
}
