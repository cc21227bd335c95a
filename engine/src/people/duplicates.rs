//! The same person enrolled twice: a collection compared with itself, a slice at a time.
//!
//! Everybody has a place in the order of digests, which is the same after every change and every start. A pair
//! is the business of the one who comes first: at that one's turn all others who come later and are there
//! are compared. So of two who are there from the first slice to the last the pair is answered, whatever else
//! changes, and nothing is remembered between two slices but the latest pair that was answered or passed.
//! Who is enrolled while the search goes on is compared with those whose turn comes after.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::call::Call;
use crate::engine::{CollectionRef, Engine};
use crate::gallery::Gallery;
use crate::gallery::collection::exists;
use crate::gallery::collection::{Collection, People};
use crate::gallery::readers::LOOK_AGAIN;
use crate::guard::comparison_limiter::{Comparing, Likeness};
use likeness_store::codec::Digest;
use likeness_types::Inside;
use likeness_types::error::{RequestError, Result};
use likeness_types::names::RandomId;
use likeness_types::person::{Names, Person};
use likeness_types::span::Step;
use likeness_types::template::{Template, distance_at, stored_similarity};
use likeness_types::{crypto, doors};

/// The largest power of ten that is not above.
fn step_below(rate: f64) -> f64 {
    // Rates are written in decimals: what is a power of ten but for rounding is one.
    const ROUNDING: f64 = 1e-9;
    10f64.powi((rate.log10() + ROUNDING).floor() as i32)
}

impl DuplicateCursor {
    /// Where a search in this collection goes on: after the answer that gave out `text`, or where it begins.
    ///
    /// # Errors
    /// A text that no answer for this collection gave out.
    pub fn of(collection: &CollectionRef, text: Option<&str>) -> Result<Self> {
        match text {
            None => Ok(Self::begin(&collection.0)),
            Some(text) => Self::parse(text, &collection.0),
        }
    }
}

impl Engine {
    /// The next pairs of people who may be one, by their stored faces: of all unrelated pairs of faces
    /// [`Engine::applied_far`] may pass. Takes some 50 milliseconds. Each pair is counted for both people, and has a row
    /// in the running log of both.
    ///
    /// # Errors
    /// The collection is gone, or a record cannot be read from the disk.
    pub fn duplicates(
        &self,
        collection: &CollectionRef,
        (max_far, names): (f64, Names),
        cursor: DuplicateCursor,
        call: &mut Call,
    ) -> Result<Duplicates> {
        let max_far = self.applied_far(max_far);
        let similarity_min = self
            .calibration()
            .similarity(collection.stored_scoring(), max_far);
        call.reads(&collection.0.readers);
        let found = call.step(Step::Match, || {
            self.gallery
                .duplicates(&collection.0, similarity_min, names, cursor)
        })?;
        self.note_pairs(call, &collection.0, &found.pairs);
        Ok(found)
    }

    /// The rate that a search for duplicates is held to: the floor at most, and below it a power of ten. A caller who
    /// could name any rate would learn by a few searches how similar two people are.
    pub fn applied_far(&self, max_far: f64) -> f64 {
        let floor = self.scores.floor_far;
        if floor >= 1.0 || max_far >= floor {
            return max_far.min(floor);
        }
        step_below(max_far)
    }
}

/// How long a slice looks for pairs, so that no worker is held for long.
const SLICE: Duration = Duration::from_millis(50);

/// People whose turn may come in one slice.
const TURNS_MAX: usize = 2048;

/// Pairs of one answer: at most 150 bytes each, far below the limits of a message.
const PAIRS_MAX: usize = 500;

/// Pairs that a slice gathers before it is decided which of them are named. So many more than are named, that the end of
/// an answer does not tell of pairs that are withheld.
const GATHERED_MAX: usize = 40 * PAIRS_MAX;

/// How long the records of the pairs are read for one answer.
const NAMING: Duration = Duration::from_millis(500);

/// Words compared while the people of the collection may not change: a few milliseconds, as of a search among
/// a million.
const LOCKED_WORDS: usize = 16 << 20;

/// What a slice of the search found.
pub struct Duplicates {
    /// Each pair once.
    pub pairs: Vec<DuplicatePair>,
    /// People compared with everybody so far.
    pub done: usize,
    /// People there are.
    pub total: usize,
    /// Where the next slice begins; none after the last.
    pub next: Option<DuplicateCursor>,
}

/// Two people who may be one.
pub struct DuplicatePair {
    /// The two.
    pub people: [Arc<Person>; 2],
    /// Of their two most similar faces, by the stored templates: -1 to 1 (an estimate of the cosine).
    pub similarity: f32,
    /// Whether the caller may be told the similarity: of neither of them too many were.
    pub is_told: bool,
    /// Whether only faces that came as features are so similar.
    pub by_features: bool,
}

/// The pairs of one answer.
#[derive(Default)]
struct Named {
    pairs: Vec<DuplicatePair>,
    /// Where the answer ended, if there were more.
    unread_after: Option<Pair>,
}

/// A pair of people, the first one's digest below the second's.
type Pair = (Digest, Digest);

/// The second of a pair that no pair of the same first comes after.
const LAST: Digest = Digest([0xff; 16]);

/// How far a search for duplicates got: every pair up to one is answered. Its text says nothing else.
#[derive(Clone, Copy)]
pub struct DuplicateCursor {
    collection: RandomId,
    answered: Pair,
}

impl DuplicateCursor {
    pub(crate) fn begin(collection: &Collection) -> Self {
        Self {
            collection: collection.id,
            answered: (Digest([0; 16]), Digest([0; 16])),
        }
    }

    pub(crate) fn parse(text: &str, collection: &Collection) -> Result<Self> {
        let parts = crypto::unhex::<48>(text).map(|bytes| {
            let (parts, _) = bytes.as_chunks::<16>();
            Self {
                collection: RandomId(parts[0]),
                answered: (Digest(parts[1]), Digest(parts[2])),
            }
        });
        let own = parts.filter(|cursor| cursor.collection == collection.id);
        own.ok_or_else(|| {
            let expected = "a cursor of an earlier answer for this collection";
            RequestError::invalid("cursor", expected, format!("{} bytes", text.len())).into()
        })
    }

    fn after(self, answered: Pair) -> Self {
        Self { answered, ..self }
    }

    /// Whether the turn of this person is still to come, or not over.
    fn is_before_turn(self, person: Digest) -> bool {
        self.answered < (person, LAST)
    }
}

impl fmt::Display for DuplicateCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, second) = self.answered;
        [self.collection.0, first.0, second.0]
            .iter()
            .try_for_each(|part| f.write_str(&crypto::hex(part)))
    }
}

/// The first pairs in their order, of those that are offered.
struct FirstPairs {
    after: Pair,
    pairs: BTreeSet<Pair>,
    full: bool,
}

impl FirstPairs {
    fn offer(&mut self, pair: Pair) {
        if pair <= self.after || self.pairs.contains(&pair) {
            return;
        }
        if self.pairs.len() == GATHERED_MAX {
            self.full = true;
            if self.pairs.last().is_some_and(|last| *last < pair) {
                return;
            }
            self.pairs.pop_last();
        }
        self.pairs.insert(pair);
    }
}

impl Gallery {
    /// The next pairs of people whose stored faces are at least so similar.
    pub fn duplicates(
        &self,
        collection: &Arc<Collection>,
        similarity_min: f32,
        names: Names,
        cursor: DuplicateCursor,
    ) -> Result<Duplicates> {
        exists(collection)?;
        let (began, generation) = (Instant::now(), collection.generation());
        let Turns { turns, total } = turns(&collection.people.read(), cursor);
        let mut found = FirstPairs {
            after: cursor.answered,
            pairs: BTreeSet::new(),
            full: false,
        };
        let distance_max = distance_at(similarity_min, collection.scheme.bits);
        let asked = Asked {
            distance_max,
            names,
            comparing: Comparing::at(&doors::DUPLICATES),
        };
        let taken = look(collection, &turns, &asked, &mut found);
        let Named {
            mut pairs,
            unread_after,
        } = self.name_pairs(collection, &found.pairs, similarity_min, &asked)?;
        let last_pair = found.pairs.last().copied().filter(|_| found.full);
        let next = match unread_after.or(last_pair) {
            Some(pair) => Some(cursor.after(pair)),
            None if taken == turns.len() && turns.len() < TURNS_MAX => None,
            None => taken.checked_sub(1).map(|last| cursor.after((turns[last], LAST))),
        };
        if collection.generation() != generation || began.elapsed() >= LOOK_AGAIN {
            pairs = self.still_pairs(collection, pairs)?;
        }
        let left = next.map_or(0, |next| collection.people.read().after(next));
        Ok(Duplicates {
            pairs,
            done: total.saturating_sub(left),
            total,
            next,
        })
    }

    /// The pairs as the records have them, which have the last word, and as the meter lets them be named: each is counted
    /// for both people.
    fn name_pairs(
        &self,
        collection: &Arc<Collection>,
        found: &BTreeSet<Pair>,
        threshold: f32,
        asked: &Asked,
    ) -> Result<Named> {
        let (began, mut people, mut named) = (Instant::now(), HashMap::new(), Named::default());
        let mut before = None;
        for &(first, second) in found {
            if named.pairs.len() == PAIRS_MAX || (before.is_some() && began.elapsed() >= NAMING) {
                named.unread_after = before;
                break;
            }
            before = Some((first, second));
            for digest in [first, second] {
                if let Entry::Vacant(unknown) = people.entry(digest) {
                    unknown.insert(self.person_or_none(collection, digest)?.map(Arc::new));
                }
            }
            let (Some(first), Some(second)) = (&people[&first], &people[&second]) else {
                continue;
            };
            let near = |names| {
                let distance = least_distance(first, second, collection, (names, &asked.comparing));
                distance.filter(|distance| asked.distance_max.is_some_and(|max| *distance <= max))
            };
            let Some(distance) = near(asked.names) else {
                continue;
            };
            let similarity = stored_similarity(distance, collection.scheme.bits);
            let pair = DuplicatePair {
                people: [Arc::clone(first), Arc::clone(second)],
                similarity,
                is_told: false,
                by_features: asked.names == Names::Features && near(Names::Photographs).is_none(),
            };
            named.pairs.extend(self.meter_pair(collection, threshold, pair)?);
        }
        Ok(named)
    }

    /// Counts a pair for both people; none if it may not be named.
    fn meter_pair(
        &self,
        collection: &Collection,
        threshold: f32,
        mut pair: DuplicatePair,
    ) -> Result<Option<DuplicatePair>> {
        let [first, second] = pair
            .people
            .each_ref()
            .map(|person| self.meter_key(collection, &person.id));
        // Near by the bits that differ, which the similarity is rounded from.
        let similarity = pair.similarity.max(threshold);
        let seen = Likeness::of_one(&similarity, threshold);
        if !self.vault.limiter.paired([&first, &second], &seen)? {
            self.vault.limiter.withhold_duplicates(1);
            return Ok(None);
        }
        // Both count it, also where the other one's are used up.
        let told = [
            self.vault.limiter.may_tell(&first)?,
            self.vault.limiter.may_tell(&second)?,
        ];
        pair.is_told = told == [true; 2];
        Ok(Some(pair))
    }

    fn person_or_none(&self, collection: &Arc<Collection>, digest: Digest) -> Result<Option<Person>> {
        match self.read_seen(collection, digest) {
            Err(error) if error.is_damage() => {
                self.note_damage(collection, digest);
                Ok(None)
            }
            read => read,
        }
    }

    /// Erasers wait for who reads; who took too long to be waited for looks once more.
    fn still_pairs(
        &self,
        collection: &Collection,
        mut pairs: Vec<DuplicatePair>,
    ) -> Result<Vec<DuplicatePair>> {
        exists(collection)?;
        pairs.retain(|pair| {
            let mut people = pair.people.iter();
            people.all(|person| self.still_there(collection, &person.id).is_ok())
        });
        Ok(pairs)
    }
}

/// Whose turn comes next, in order.
struct Turns {
    turns: Vec<Digest>,
    /// People there are.
    total: usize,
}

fn turns(people: &People, cursor: DuplicateCursor) -> Turns {
    let mut first = BinaryHeap::with_capacity(TURNS_MAX + 1);
    for (digest, _) in people
        .everybody()
        .filter(|(digest, _)| cursor.is_before_turn(*digest))
    {
        if first.len() < TURNS_MAX || first.peek().is_some_and(|last| digest < *last) {
            first.push(digest);
            if first.len() > TURNS_MAX {
                first.pop();
            }
        }
    }
    Turns {
        turns: first.into_sorted_vec(),
        total: people.everybody().len(),
    }
}

impl People {
    /// People whose turn is not over.
    fn after(&self, cursor: DuplicateCursor) -> usize {
        let left = self
            .everybody()
            .filter(|(digest, _)| cursor.is_before_turn(*digest));
        left.count()
    }
}

/// What is asked of the pairs.
struct Asked {
    distance_max: Option<u32>,
    names: Names,
    comparing: Comparing,
}

/// Compares those whose turn it is with everybody who comes after them, until the time of the slice is over;
/// answers how many had their turn.
fn look(collection: &Collection, turns: &[Digest], asked: &Asked, found: &mut FirstPairs) -> usize {
    let Some(distance_max) = asked.distance_max else {
        return turns.len();
    };
    let (began, mut taken) = (Instant::now(), 0);
    while taken < turns.len() && !found.full && (taken == 0 || began.elapsed() < SLICE) {
        taken += look_locked(
            &collection.people.read(),
            &turns[taken..],
            (distance_max, asked),
            found,
        );
    }
    taken
}

/// The same for as many as may be while nobody can be enrolled or erased: one at least.
fn look_locked(
    people: &People,
    turns: &[Digest],
    (distance_max, asked): (u32, &Asked),
    found: &mut FirstPairs,
) -> usize {
    let index = people.index.compare(&asked.comparing);
    let (mut templates, mut whose, mut taken): (Vec<Template>, Vec<Digest>, usize) = Default::default();
    for digest in turns {
        let words: usize = templates
            .iter()
            .map(|template| template.words(Inside).len())
            .sum();
        if taken > 0 && words * people.index.len() > LOCKED_WORDS {
            break;
        }
        taken += 1;
        // Erased since the slice began: nobody's turn.
        for row in people
            .number(*digest)
            .map_or(&[][..], |number| people.rows(number))
        {
            if people.may_name(*row, asked.names) {
                templates.push(index.template(*row));
                whose.push(*digest);
            }
        }
    }
    index.near(&templates, distance_max, &mut |near| {
        // ORDER: before the pair is offered: a face that may not be named takes no place of another, and ends no answer.
        if !people.may_name(near.row, asked.names) {
            return;
        }
        let (first, second) = (whose[near.asking], people.digest(near.person));
        if first < second {
            found.offer((first, second));
        }
    });
    taken
}

fn least_distance(
    first: &Person,
    second: &Person,
    collection: &Collection,
    (names, comparing): (Names, &Comparing),
) -> Option<u32> {
    let scheme = collection.scheme.id();
    let one = first.nameable(scheme, names, comparing);
    let other = second.nameable(scheme, names, comparing);
    let distances = one
        .iter()
        .flat_map(|one| other.iter().map(|other| one.distance(other)));
    distances.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_taken_for_the_power_of_ten_below_it() {
        for (asked, taken) in [
            (1e-4, 1e-4),
            (9.9e-5, 1e-5),
            (1e-6, 1e-6),
            (2e-9, 1e-9),
            (1e-9, 1e-9),
        ] {
            let step = step_below(asked);
            assert!((step / taken - 1.0).abs() < 1e-9, "{asked}: {step}");
        }
    }
}
