//! The score is an oracle, and so is every yes or no: how often each face was compared of late, over all callers
//! together, and how soon a caller may compare again.
//!
//! [`doors`] lists every call whose answer depends on a stored template, and makes the [`Comparing`] that every function
//! asks for which compares stored templates.
//!
//! ```text
//! row key    the person's record key: collection id 16 | digest of the PersonID 16
//! row        counters (`counts.rs`), or: format u8 | lineage 16 | carrier 16
//! row key    lineage 16 | carrier 16; the row: format u8
//! row key    lineage 16 | zeros 16; the row: counters
//! ```
//!
//! A **lineage** is what copies of one person have in common: a random id, and one set of counters. It begins with the
//! first copy or rename; without one the counters lie under the record's own key. Each record of a lineage is a carrier
//! of it, by a random id of its own. The counters go with the last carrier, in the same commit, and no sooner; no reply
//! says what lineage a person is of.
//!
//! A crafted face asks most where the answer is uncertain: at the threshold. There hardly any real photograph of the
//! person lies. So whoever is recognised within a margin above it is recognised in doubt: it counts as refused, and
//! the person is doubted so many times, regained one by one as time goes by. Afterwards the threshold is higher by the
//! margin, for everybody and whatever the similarity, so that the answers tell nothing more of where it was.
//!
//! The counters are in memory, and every second those that changed go to disk: a server that is killed forgets
//! the last second, and one that is restarted nothing. The rows go with their record, in the same commit, and their
//! bytes with the purge of the record's. Nobody is locked out: whoever is compared too often is compared more slowly.

mod counts;
mod lineage;
mod lineage_rows;
mod turn;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(crate) use counts::Likeness;
pub(crate) use lineage::Origin;
use parking_lot::Mutex;
pub(crate) use turn::{Evaluation, Turn};

use crate::guard::comparison_limiter::counts::{Counts, DAY_MS, millis};
use crate::guard::comparison_limiter::lineage_rows::{Row, row};
use likeness_store::codec;
use likeness_store::codec::Digest;
use likeness_store::counters::{CounterChanges, CounterKey, Counters};
use likeness_store::records::{Change, Family, Write};
use likeness_store::vault::{Plan, Vault};
use likeness_types::clock::Clock;
use likeness_types::config::ScoreLimits;
use likeness_types::crypto::Secret;
pub(crate) use likeness_types::doors::Comparing;
use likeness_types::error::{Error, OperatorError, RequestError, Result};
use likeness_types::names::RandomId;
use likeness_types::person::Timestamp;
use likeness_types::{crypto, doors};

/// People in memory; those whose counters are on disk make room.
const PEOPLE_MAX: usize = 100_000;
/// How long a comparison waits where there is no room: until the next counters are on disk.
const NO_ROOM: Duration = Duration::from_secs(2);
/// Rows written together.
const WRITTEN_TOGETHER: usize = 4096;
/// From one look for counters that changed to the next.
pub(crate) const WRITE_EVERY: Duration = Duration::from_secs(1);

pub(crate) type Key = CounterKey;

pub(crate) fn key(collection: RandomId, digest: Digest) -> Key {
    let key = codec::person_key(collection, digest);
    key.try_into().expect("two names of 16 bytes")
}

/// The API key that asks, as the rows name keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asker(u64);

impl Asker {
    pub fn new(digest_key: &Secret, asker: RandomId) -> Self {
        let digest = crypto::keyed_digest(digest_key, "likeness v1 meter caller", &[&asker.0]);
        Self(u64::from_le_bytes(digest))
    }
}

#[derive(Default)]
struct Metered {
    counts: Counts,
    /// Not on disk as they are.
    changed: bool,
    /// Faces whose comparison has begun and has not been counted yet.
    pending: u32,
}

/// What is in memory: under one lock, so that of a hundred comparisons at once each sees the ones before it.
#[derive(Default)]
struct Memory {
    people: HashMap<Key, Metered>,
    /// Records of a lineage, and where its counters lie.
    lineages: HashMap<Key, Key>,
    /// The same of records that a commit on its way gives a lineage.
    joining: HashMap<Key, Key>,
}

/// The counters of all people.
pub(crate) struct PersonCounters {
    limits: ScoreLimits,
    clock: Clock,
    memory: Mutex<Memory>,
    /// Recognitions that reached the threshold of a call and were refused for lack of doubts.
    withheld: AtomicU64,
    /// Pairs of an N:N search that were not named, and people whom a check at enrolment did not name.
    withheld_duplicates: AtomicU64,
    /// Comparisons refused because the person is slowed down.
    limited: AtomicU64,
}

/// What the meter kept from callers since the start. For the operator alone: to a caller each would be the yes that
/// it stands for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Withheld {
    /// Recognitions that reached the threshold of a call and were refused for lack of doubts.
    pub recognitions: u64,
    /// Pairs that a search for duplicates found and did not name, and people whom the check for duplicates did not name.
    pub duplicates: u64,
    /// Comparisons that were refused because the person is slowed down.
    pub comparisons: u64,
}

impl PersonCounters {
    pub fn new(limits: ScoreLimits, clock: Clock) -> Self {
        Self {
            limits,
            clock,
            memory: Mutex::default(),
            withheld: AtomicU64::new(0),
            withheld_duplicates: AtomicU64::new(0),
            limited: AtomicU64::new(0),
        }
    }

    pub fn withheld(&self) -> Withheld {
        Withheld {
            recognitions: self.withheld.load(Ordering::Relaxed),
            duplicates: self.withheld_duplicates.load(Ordering::Relaxed),
            comparisons: self.limited.load(Ordering::Relaxed),
        }
    }

    /// Counts so many recognitions that were withheld.
    pub fn withhold(&self, recognitions: usize) {
        self.withheld.fetch_add(recognitions as u64, Ordering::Relaxed);
    }

    /// Counts so many duplicates that were withheld.
    pub fn withhold_duplicates(&self, duplicates: usize) {
        self.withheld_duplicates
            .fetch_add(duplicates as u64, Ordering::Relaxed);
    }
}

impl Counters for PersonCounters {
    fn plan_forget(&self, vault: &Vault, plan: &mut Plan, record: &[u8]) -> Result<Vec<Vec<u8>>> {
        lineage_rows::plan_forget(vault, plan, record)
    }

    fn complete(&self, vault: &Vault, plan: &mut Plan) -> Result<()> {
        lineage_rows::end(vault, plan)
    }

    /// Takes over in memory what a commit is about to write.
    ///
    /// ORDER: before the rows are written: a comparison that comes between the write and this would begin a lineage's
    /// counters from the disk, and what was counted since they were planned would be lost.
    fn before_write(&self, changes: &CounterChanges) {
        if changes.begun.is_empty() && changes.joining.is_empty() {
            return;
        }
        let mut memory = self.memory.lock();
        for (from, to, row) in &changes.begun {
            let planned = Counts::from_row(row).expect("planned as a row of counters");
            let metered = memory.people.remove(from);
            let mut metered = metered.unwrap_or_else(|| Metered {
                counts: planned.clone(),
                ..Metered::default()
            });
            metered.changed |= metered.counts != planned;
            memory.people.insert(*to, metered);
            memory.joining.insert(*from, *to);
        }
        for (record, to) in &changes.joining {
            memory.people.remove(record);
            memory.joining.insert(*record, *to);
        }
    }

    /// From here on the disk says the same.
    fn after_write(&self, changes: &CounterChanges) {
        let CounterChanges {
            forgotten,
            joining,
            begun,
            left,
        } = changes;
        if forgotten.is_empty() && joining.is_empty() && begun.is_empty() && left.is_empty() {
            return;
        }
        let mut memory = self.memory.lock();
        for key in forgotten {
            memory.people.remove(key.as_slice());
            memory.lineages.remove(key.as_slice());
        }
        if !joining.is_empty() || !begun.is_empty() || !left.is_empty() {
            memory.joining.clear();
        }
    }
}

/// Lets comparisons begin, counts them and writes the counters.
pub(crate) struct ComparisonLimiter {
    vault: Arc<Vault>,
    counters: Arc<PersonCounters>,
}

impl ComparisonLimiter {
    pub fn new(vault: Arc<Vault>, counters: Arc<PersonCounters>) -> Self {
        Self { vault, counters }
    }

    /// What was kept from callers since the start.
    pub fn withheld(&self) -> Withheld {
        self.counters.withheld()
    }

    /// Counts so many recognitions that were withheld.
    pub fn withhold(&self, recognitions: usize) {
        self.counters.withhold(recognitions);
    }

    /// Counts so many duplicates that were withheld.
    pub fn withhold_duplicates(&self, duplicates: usize) {
        self.counters.withhold_duplicates(duplicates);
    }
}

impl ComparisonLimiter {
    /// Whether this API key may compare with the person now. Nothing is counted.
    ///
    /// # Errors
    /// [`RequestError::ComparisonsLimited`] if not.
    pub fn may_compare(&self, key: &Key, Asker(asker): Asker) -> Result<()> {
        self.metered(key, |metered, limits, now| {
            let wait = metered.counts.wait(limits, now, asker);
            wait.map_or(Ok(()), |wait| Err(self.limited(wait)))
        })?
    }

    /// Counts that a search is about to name the person. Answers from which similarity on it may.
    pub fn named(&self, key: &Key, Asker(asker): Asker, seen: &Likeness<'_>) -> Result<f32> {
        if self.counters.limits.compared_at_will() {
            return Ok(seen.threshold);
        }
        self.metered(key, |metered, limits, now| {
            metered.counts.named(limits, now, asker, seen)
        })
    }

    /// Counts that an N:N search is about to name these two people as a pair. Answers whether it may: both count it.
    pub fn paired(&self, keys: [&Key; 2], seen: &Likeness<'_>) -> Result<bool> {
        if self.counters.limits.paired_at_will() {
            return Ok(true);
        }
        let [first, second] = keys.map(|key| {
            self.metered(key, |metered, limits, now| {
                metered.counts.paired(limits, now, seen)
            })
        });
        Ok(first? & second?)
    }

    /// Whether a check for duplicates may name the person once more today; then it is counted, as a pair is.
    pub fn may_name(&self, key: &Key) -> Result<bool> {
        if self.counters.limits.duplicates_a_day == u32::MAX {
            return Ok(true);
        }
        self.metered(key, |metered, limits, _| {
            metered.counts.named_as_duplicate(limits)
        })
    }

    /// Whether one more similarity to this person may be told today; then it is counted.
    pub fn may_tell(&self, key: &Key) -> Result<bool> {
        if self.counters.limits.told_a_day == u32::MAX {
            return Ok(true);
        }
        self.metered(key, |metered, limits, _| metered.counts.told(limits))
    }

    #[cfg(test)]
    pub fn refused_that_day(&self, key: &Key) -> Result<u32> {
        self.metered(key, |metered, _, _| metered.counts.refused())
    }

    /// ORDER: under one lock from reading the counters to changing them: of a hundred comparisons that come at
    /// once each sees the ones before it.
    fn metered<T>(
        &self,
        record: &Key,
        work: impl FnOnce(&mut Metered, &ScoreLimits, Timestamp) -> T,
    ) -> Result<T> {
        let PersonCounters {
            limits,
            clock,
            memory,
            ..
        } = &*self.counters;
        let (mut memory, now) = (memory.lock(), clock.now());
        let key = self.resolve(&mut memory, record)?;
        let metered = memory.people.get_mut(&key).expect("resolved to one in memory");
        metered.counts.roll(now);
        let before = metered.counts.clone();
        let answer = work(metered, limits, now);
        metered.changed |= metered.counts != before;
        Ok(answer)
    }

    /// Where the counters of a record are in memory, read from the disk if they were not there.
    fn resolve(&self, memory: &mut Memory, record: &Key) -> Result<Key> {
        // ORDER: before the disk is asked: until a commit that gives the record a lineage has ended, it says otherwise.
        let known = memory.joining.get(record).or_else(|| memory.lineages.get(record));
        let known = known.copied().unwrap_or(*record);
        if memory.people.contains_key(&known) {
            return Ok(known);
        }
        if memory.people.len() >= PEOPLE_MAX {
            memory
                .people
                .retain(|_, metered| metered.changed || metered.pending > 0);
        }
        if memory.lineages.len() >= PEOPLE_MAX {
            memory.lineages.clear();
        }
        if memory.people.len() >= PEOPLE_MAX {
            return Err(RequestError::ComparisonsLimited { wait: NO_ROOM }.into());
        }
        let (key, counts) = self.on_disk(&known)?;
        if key != *record {
            memory.lineages.insert(*record, key);
        }
        let metered = Metered {
            counts,
            ..Metered::default()
        };
        // Of a lineage another record may have brought the counters into memory.
        memory.people.entry(key).or_insert(metered);
        Ok(key)
    }

    /// Where the counters of a record lie, and what they are.
    fn on_disk(&self, record: &Key) -> Result<(Key, Counts)> {
        let of = |key: &Key| match self.vault.meter_row(key) {
            Ok(None) => Ok(Row::Counts(Counts::default())),
            Ok(Some(bytes)) => Ok(row(&bytes)),
            Err(Error::Operator(OperatorError::DamagedPlace)) => Ok(Row::Unreadable),
            Err(error) => Err(error),
        };
        let (mut key, mut found) = (*record, of(record)?);
        if let Row::Of(lineage, _) = found {
            key = lineage.counters();
            found = of(&key)?;
        }
        let counts = match found {
            Row::Counts(counts) => counts,
            Row::Of(..) | Row::Carrier | Row::Unreadable => {
                Counts::spent(&self.counters.limits, self.counters.clock.now())
            }
        };
        Ok((key, counts))
    }

    fn limited(&self, wait: Duration) -> Error {
        self.counters.limited.fetch_add(1, Ordering::Relaxed);
        RequestError::ComparisonsLimited { wait }.into()
    }

    /// Writes the counters that changed. Only while no change runs, so that none is written of somebody who has
    /// just been erased.
    pub fn write_meter(&self) -> Result<()> {
        loop {
            let mut plan = Plan::default();
            let changed = self.take_changed();
            let taken = changed.len();
            for (key, row) in changed {
                // A comparison may have begun before the person was erased.
                match lineage_rows::has_counters(&self.vault, &key) {
                    Ok(false) => plan.unmeter(key.to_vec()),
                    _ => plan.write(Write {
                        family: Family::Meter,
                        key: key.to_vec(),
                        change: Change::Put(row),
                    }),
                }
            }
            if taken > 0 {
                self.vault.commit(plan)?;
            }
            if taken < WRITTEN_TOGETHER {
                return Ok(());
            }
        }
    }

    fn take_changed(&self) -> Vec<(Key, Vec<u8>)> {
        let mut memory = self.counters.memory.lock();
        let changed = memory.people.iter_mut().filter(|(_, metered)| metered.changed);
        changed
            .take(WRITTEN_TOGETHER)
            .map(|(key, metered)| {
                metered.changed = false;
                (*key, metered.counts.to_row())
            })
            .collect()
    }
}

/// One person's counters without a disk: what the benchmark's attack runs into.
#[derive(Clone)]
pub struct Pace {
    limits: ScoreLimits,
    counts: Counts,
}

impl Pace {
    /// Of a person who was never compared.
    pub fn new(limits: ScoreLimits) -> Self {
        let counts = Counts::default();
        Self { limits, counts }
    }

    /// A comparison by this API key so long after the beginning of a day: from which similarity on it is the person.
    ///
    /// # Errors
    /// How long until the key's next.
    pub fn compared(
        &mut self,
        asker: u64,
        since: Duration,
        similarity: f32,
        threshold: f32,
    ) -> std::result::Result<f32, Duration> {
        let now = self.at(since);
        let turn = self.counts.begin(&self.limits, now, asker, 0)?;
        let seen = Likeness::of_one(&similarity, threshold);
        Ok(self.counts.compared(&self.limits, now, asker, turn, &seen))
    }

    /// The same of a person whom a search by this API key reaches.
    pub fn named(&mut self, asker: u64, since: Duration, similarity: f32, threshold: f32) -> f32 {
        let now = self.at(since);
        let seen = Likeness::of_one(&similarity, threshold);
        self.counts.named(&self.limits, now, asker, &seen)
    }

    /// Whether an N:N search names the person in one more pair.
    pub fn paired(&mut self, since: Duration, similarity: f32, threshold: f32) -> bool {
        let now = self.at(since);
        let seen = Likeness::of_one(&similarity, threshold);
        self.counts.paired(&self.limits, now, &seen)
    }

    fn at(&mut self, since: Duration) -> Timestamp {
        let now = Timestamp(DAY_MS.saturating_add(millis(since)));
        self.counts.roll(now);
        now
    }
}
