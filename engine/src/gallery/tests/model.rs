//! Random changes against a plain map, with a restart now and then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::gallery::Gallery;
use crate::gallery::collection::{Collection, IndexKind};
use crate::gallery::tests::support::*;
use crate::people::change::ProfileChange;
use crate::search::filter::Filter;
use crate::search::{Comparison, Query, Search};
use likeness_store::testing::{FakeDisk, FakeFile, Name};
use likeness_types::Inside;
use likeness_types::clock::Clock;
use likeness_types::error::{Error, RequestError, Result};
use likeness_types::fused::Agreement;
use likeness_types::person::{Profile, Timestamp};
use likeness_types::template::{Probe, Template};

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
                .create_collection(
                    &account(),
                    &name(collection),
                    scheme(),
                    collection_settings(collection),
                    REQUEST,
                )
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
                let again =
                    gallery.create_collection(&account(), &name(collection), scheme(), settings(), REQUEST);
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
        compare(
            gallery.enroll(collection, &id(&who), profile, faces, REQUEST),
            &expected,
        );
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
        compare(
            gallery.add_faces(collection, &id(&who), faces, REQUEST),
            &expected,
        );
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
            refuses_earlier_expiry: false,
        };
        compare(gallery.update(collection, &id(&who), change, REQUEST), &expected);
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
        let outcome = gallery.copy((collection, &id(&who)), (&target, &id(&new)), REQUEST);
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
        compare(gallery.update_collection(&handle, Ok, REQUEST), &gone);
    }

    fn update_collection(&mut self, gallery: &Gallery, collection: &Arc<Collection>) {
        let threshold = self.numbers.below(100) as f32 / 100.0;
        let index = [IndexKind::Flat, IndexKind::Graph][self.numbers.below(2) as usize];
        gallery
            .update_collection(
                collection,
                move |settings| {
                    Ok(crate::CollectionSettings {
                        threshold,
                        index,
                        ..settings
                    })
                },
                REQUEST,
            )
            .expect("changed");
        let known = self.collections.get_mut(collection.name.as_str());
        known.expect("it exists").threshold = threshold;
    }

    /// A face like somebody's, and like nobody's.
    fn query(&mut self) -> Query {
        let like = template(self.numbers.below(self.faces + 1));
        let noisy = Template::from_words(
            like.words(Inside)
                .to_vec()
                .into_iter()
                .map(|w| w ^ (self.numbers.next() & self.numbers.next() & self.numbers.next())),
        );
        query_of(&noisy)
    }

    /// Anybody, or some by their tags, their PersonIDs, or both.
    fn filter(&mut self) -> Filter {
        let mut some = |of: &[&str]| -> Vec<String> {
            let count = self.numbers.below(3);
            let any = |_| of[self.numbers.below(of.len() as u64) as usize].to_owned();
            (0..count).map(any).collect()
        };
        let (any_tag, all_tags) = (some(&["tag", "a", "nobody's"]), some(&["tag", "a", "b"]));
        let ids: Vec<_> = (0..self.numbers.below(6)).map(|_| id(&self.person())).collect();
        match self.numbers.below(5) {
            0 => Filter::default(),
            1 => Filter {
                any_tag,
                ..Filter::default()
            },
            2 => Filter {
                all_tags,
                ..Filter::default()
            },
            3 => Filter {
                person_ids: ids,
                ..Filter::default()
            },
            _ => Filter {
                any_tag,
                all_tags,
                person_ids: ids,
            },
        }
    }

    /// A search over some collections by two faces answers as comparing with everyone does.
    fn search(&mut self, gallery: &Gallery) {
        let first = self.query();
        let queries = [first, self.query()];
        let (filter, fused) = (self.filter(), self.numbers.below(2) == 1);
        let comparison = if fused {
            Comparison::Fused
        } else {
            Comparison::BestFace
        };
        let left_out = self.numbers.below(4) as usize;
        let names: Vec<_> = self.collections.keys().cloned().collect();
        let chosen = names.iter().enumerate().filter(|(n, _)| *n != left_out);
        let chosen: Vec<_> = chosen.map(|(_, name)| name.as_str()).collect();
        for (k, similarity_min) in [(1, -1.0), (5, -1.0), (100, 0.0), (100, 0.3)] {
            let places: Vec<_> = chosen
                .iter()
                .map(|known| (collection(gallery, known), similarity_min))
                .collect();
            let found = gallery.search_batched(&Search {
                places: &places,
                queries: &queries,
                k,
                comparison,
                filter: &filter,
                exact: k == 5,
                asker: asking().asker,
            });
            let found = found.expect("searches work");
            for (query, matches) in queries.iter().zip(&found.matches) {
                let naive = self.naive(&chosen, query, similarity_min, comparison, &filter);
                let similarities: Vec<f32> = matches.iter().map(|m| m.similarity).collect();
                let expected: Vec<f32> = naive.iter().map(|n| n.0).take(k).collect();
                assert_eq!(similarities, expected);
                let found = matches
                    .iter()
                    .map(|m| (m.collection.as_str(), m.person.id.as_str()));
                assert_eq!(
                    found.collect::<BTreeSet<_>>().len(),
                    matches.len(),
                    "nobody twice"
                );
                for found in matches {
                    let (place, who) = (found.collection.as_str(), found.person.id.as_str());
                    assert!(naive.contains(&(found.similarity, place, who)));
                    let place = collection(gallery, place);
                    let verified = gallery.verify(&place, &found.person.id, query, comparison, asking());
                    assert_eq!(verified.expect("enrolled").similarity, found.similarity);
                }
            }
            let passing = chosen
                .iter()
                .flat_map(|name| self.collections[*name].people.iter());
            let passing = passing.filter(|(who, person)| passes(&filter, who, person));
            let faces: usize = passing.map(|(_, person)| person.faces.len()).sum();
            assert_eq!(
                found.compared, faces,
                "whoever passes is compared, and nobody else"
            );
        }
    }

    fn naive(
        &self,
        chosen: &[&str],
        query: &Query,
        similarity_min: f32,
        comparison: Comparison,
        filter: &Filter,
    ) -> Vec<(f32, &str, &str)> {
        let mut naive = Vec::new();
        for name in chosen {
            let (name, known) = self.collections.get_key_value(*name).expect("chosen among them");
            for (who, person) in &known.people {
                let similarity = similarity(person, &query.probes[0].1, comparison);
                if similarity >= similarity_min && passes(filter, who, person) {
                    naive.push((similarity, name.as_str(), who.as_str()));
                }
            }
        }
        naive.sort_by(|a, b| b.0.total_cmp(&a.0));
        naive
    }
}

fn passes(filter: &Filter, who: &str, person: &PersonView) -> bool {
    let has = |tag: &String| person.tags.contains(tag);
    (filter.any_tag.is_empty() || filter.any_tag.iter().any(has))
        && filter.all_tags.iter().all(has)
        && (filter.person_ids.is_empty() || filter.person_ids.iter().any(|id| id.as_str() == who))
}

fn similarity(person: &PersonView, probe: &Probe, comparison: Comparison) -> f32 {
    let templates = person.faces.values();
    let templates: Vec<_> = templates
        .map(|bytes| Template::from_bytes(bytes).expect("whole"))
        .collect();
    let scores = templates.iter().map(|t| probe.score(t));
    match comparison {
        Comparison::BestFace => probe.similarity(scores.max().expect("nobody is without a face")),
        Comparison::Fused => {
            Agreement::of(&templates.iter().collect::<Vec<_>>()).similarity(probe, scores.sum())
        }
    }
}

fn bits(n: u64) -> (crate::FaceId, Vec<u8>) {
    (face_id(n), template(n).to_bytes(Inside).to_vec())
}

/// So few faces that a walk with so many candidates meets them all.
fn collection_settings(collection: &str) -> crate::CollectionSettings {
    crate::CollectionSettings {
        index: match collection {
            "two" => IndexKind::Graph,
            _ => IndexKind::Flat,
        },
        ef: 1024,
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
        if model.numbers.below(3) == 0 {
            gallery.keep_now();
        }
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
            assert_eq!(restarted.used_slots().len(), restarted.sealed_records());
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
