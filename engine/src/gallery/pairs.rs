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

use crate::crypto;
use crate::error::{RequestError, Result};
use crate::gallery::codec::Digest;
use crate::gallery::collection::{Collection, People};
use crate::gallery::meter::Asker;
use crate::gallery::readers::LOOK_AGAIN;
use crate::gallery::{Gallery, exists};
use crate::names::{PersonId, RandomId};
use crate::person::Person;
use crate::template::{Template, distance_at, stored_similarity};

/// How long a slice looks for pairs, so that no worker is held for long.
const SLICE: Duration = Duration::from_millis(50);
/// People whose turn may come in one slice.
const TURNS_MAX: usize = 2048;
/// Pairs of one answer: at most 150 bytes each, far below the limits of a message.
const PAIRS_MAX: usize = 1000;
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
    /// One of them.
    pub first: PersonId,
    /// The other.
    pub second: PersonId,
    /// Of their two most similar faces, by the stored templates: -1 to 1 (an estimate of the cosine).
    pub similarity: f32,
    /// Whether the caller may be told the similarity: of neither of them too many were.
    pub is_told: bool,
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
        if self.pairs.len() == PAIRS_MAX {
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
        cursor: DuplicateCursor,
        asker: Asker,
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
        let taken = look(collection, &turns, distance_max, &mut found);
        let last_pair = found.pairs.last().copied().filter(|_| found.full);
        let next = match last_pair {
            Some(pair) => Some(cursor.after(pair)),
            None if taken == turns.len() && turns.len() < TURNS_MAX => None,
            None => taken.checked_sub(1).map(|last| cursor.after((turns[last], LAST))),
        };
        let pairs = self.name_pairs(collection, found.pairs, distance_max)?;
        let mut pairs = if collection.generation() == generation && began.elapsed() < LOOK_AGAIN {
            pairs
        } else {
            self.still_pairs(collection, pairs)?
        };
        for pair in &mut pairs {
            let of_both = [&pair.first, &pair.second].map(|id| self.meter_key(collection, id));
            // Both count it, also where the other one's are used up.
            let [first, second] = of_both.map(|key| self.vault.may_tell(&key, asker));
            pair.is_told = first? & second?;
        }
        let left = next.map_or(0, |next| collection.people.read().after(next));
        Ok(Duplicates {
            pairs,
            done: total.saturating_sub(left),
            total,
            next,
        })
    }

    /// The pairs as the records have them, which have the last word.
    fn name_pairs(
        &self,
        collection: &Arc<Collection>,
        found: BTreeSet<Pair>,
        distance_max: Option<u32>,
    ) -> Result<Vec<DuplicatePair>> {
        let (mut people, mut pairs) = (HashMap::new(), Vec::with_capacity(found.len()));
        for (first, second) in found {
            for digest in [first, second] {
                if let Entry::Vacant(unknown) = people.entry(digest) {
                    unknown.insert(self.person_or_none(collection, digest)?);
                }
            }
            let (Some(first), Some(second)) = (&people[&first], &people[&second]) else {
                continue;
            };
            let distance = least_distance(first, second, collection);
            let near = distance.filter(|distance| distance_max.is_some_and(|max| *distance <= max));
            pairs.extend(near.map(|distance| DuplicatePair {
                first: first.id.clone(),
                second: second.id.clone(),
                similarity: stored_similarity(distance, collection.scheme.bits),
                is_told: false,
            }));
        }
        Ok(pairs)
    }

    fn person_or_none(&self, collection: &Arc<Collection>, digest: Digest) -> Result<Option<Person>> {
        match self.read_seen(collection, digest) {
            Err(crate::Error::Request(RequestError::Damaged)) => {
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
            let ids = [&pair.first, &pair.second];
            ids.iter().all(|id| self.still_there(collection, id).is_ok())
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

/// Compares those whose turn it is with everybody who comes after them, until the time of the slice is over;
/// answers how many had their turn.
fn look(
    collection: &Collection,
    turns: &[Digest],
    distance_max: Option<u32>,
    found: &mut FirstPairs,
) -> usize {
    let Some(distance_max) = distance_max else {
        return turns.len();
    };
    let (began, mut taken) = (Instant::now(), 0);
    while taken < turns.len() && !found.full && (taken == 0 || began.elapsed() < SLICE) {
        taken += look_locked(&collection.people.read(), &turns[taken..], distance_max, found);
    }
    taken
}

/// The same for as many as may be while nobody can be enrolled or erased: one at least.
fn look_locked(people: &People, turns: &[Digest], distance_max: u32, found: &mut FirstPairs) -> usize {
    let (mut templates, mut whose, mut taken): (Vec<Template>, Vec<Digest>, usize) = Default::default();
    for digest in turns {
        let words: usize = templates.iter().map(|template| template.words().len()).sum();
        if taken > 0 && words * people.index.len() > LOCKED_WORDS {
            break;
        }
        taken += 1;
        // Erased since the slice began: nobody's turn.
        for row in people
            .number(*digest)
            .map_or(&[][..], |number| people.rows(number))
        {
            templates.push(people.index.template(*row));
            whose.push(*digest);
        }
    }
    people.index.near(&templates, distance_max, &mut |near| {
        let (first, second) = (whose[near.asking], people.digest(near.person));
        if first < second {
            found.offer((first, second));
        }
    });
    taken
}

fn least_distance(first: &Person, second: &Person, collection: &Collection) -> Option<u32> {
    let scheme = collection.scheme.id();
    let others = second.comparable(scheme);
    let distances = first
        .comparable(scheme)
        .into_iter()
        .flat_map(|one| others.iter().map(|other| one.distance(other)));
    distances.min()
}
