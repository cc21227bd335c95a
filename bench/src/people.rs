//! A collection of synthetic people, enrolled through the engine as an import enrols real ones.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use likeness_engine::bench::query;
use likeness_engine::{Call, CollectionRef, Engine, PersonId, Profile, Query};

use crate::population::{Person, Population};

/// Enrolments at once: a synced write is shared by all who wait for it, so that few would wait for the disk alone.
const AT_ONCE: u64 = 64;

/// Enrols people by number, one face each.
///
/// # Panics
/// When one of them is enrolled already.
pub fn enrol(engine: &Engine, collection: &CollectionRef, population: &Population, people: Range<Person>) {
    let next = AtomicU64::new(people.start);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let person = next.fetch_add(1, Ordering::Relaxed);
                    if person >= people.end {
                        return;
                    }
                    let call = &mut Call::default();
                    let values = population.unit_values(person, 0);
                    let face = engine.face_of_features(collection, values, call);
                    let face = face.expect("features of this length");
                    engine
                        .enroll(collection, &id(person), Profile::default(), vec![face], call)
                        .expect("nobody has that name");
                }
            });
        }
    });
}

/// Erases people by number.
///
/// # Panics
/// When one of them is not enrolled.
pub fn erase(engine: &Engine, collection: &CollectionRef, people: impl Iterator<Item = Person>) {
    let people: Vec<_> = people.collect();
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(person) = people.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    engine
                        .delete_person(collection, &id(*person), &mut Call::default())
                        .expect("enrolled before");
                }
            });
        }
    });
}

/// Somebody to look for, on a photograph that is not enrolled.
///
/// # Panics
/// When the engine has no such collection.
pub fn asked(
    engine: &Engine,
    collection: &CollectionRef,
    population: &Population,
    person: Person,
    photograph: u64,
) -> Query {
    let values = population.unit_values(person, photograph);
    let face = engine.face_of_features(collection, values, &mut Call::default());
    query(face.expect("features of this length"))
}

fn id(person: Person) -> PersonId {
    PersonId::parse(&format!("synthetic-{person}")).expect("letters, digits and a hyphen")
}
