//! The score is an oracle, and so is every yes or no: how often each person was compared of late, over all
//! callers together, and how soon somebody may compare again.
//!
//! ```text
//! row key  as of the person's record: collection id 16 | digest of the PersonID 16
//! row      format u8 | day u32 | refused that day u32 | refused in a row u32 | last comparison u64, ms
//!          | doubts are over u64, ms | told that day: (digest of the caller u64 | similarities u32) ...
//! ```
//!
//! A crafted face asks most where the answer is uncertain: at the threshold. There hardly any real photograph of the
//! person lies. So whoever is recognised within a margin above it is recognised in doubt: it counts as refused, and
//! the person is doubted so many times, regained one by one as time goes by. Afterwards the threshold is higher by the
//! margin, for everybody and whatever the similarity, so that the answers tell nothing more of where it was.
//!
//! The counters are in memory, and every second those that changed go to disk: a server that is killed forgets
//! the last second, and one that is restarted nothing. A row goes with its person, in the same commit, and its
//! bytes with the purge of the record's; a rename takes it along, and a copy of the person begins with a copy of it,
//! for it is the same face. Nobody is locked out: whoever is compared too often is compared more slowly.

mod counts;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::config::ScoreLimits;
use crate::crypto::{self, Secret};
use crate::error::{Error, RequestError, Result};
use crate::gallery::codec::{self, Digest};
use crate::gallery::meter::counts::{CALLERS_MAX, Counts, DAY_MS, millis};
use crate::gallery::records::{Change, Family, Write};
use crate::gallery::vault::{Plan, Vault};
use crate::names::RandomId;
use crate::person::Timestamp;

/// People in memory; those whose counters are on disk make room.
const PEOPLE_MAX: usize = 100_000;
/// How long a comparison waits where there is no room: until the next counters are on disk.
const NO_ROOM: Duration = Duration::from_secs(2);
/// Rows written together.
const WRITTEN_TOGETHER: usize = 4096;
/// From one look for counters that changed to the next.
pub(crate) const WRITE_EVERY: Duration = Duration::from_secs(1);

pub(crate) use counts::Likeness;

/// Whose counters: the person's record key.
pub(crate) type Key = [u8; 32];

pub(crate) fn key(collection: RandomId, digest: Digest) -> Key {
    let key = codec::person_key(collection, digest);
    key.try_into().expect("two names of 16 bytes")
}

/// Who is told similarities, as the rows name callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asker(u64);

impl Asker {
    pub fn new(digest_key: &Secret, asker: RandomId) -> Self {
        let digest = crypto::keyed_digest(digest_key, "likeness v1 meter caller", &[&asker.0]);
        Self(u64::from_le_bytes(digest))
    }
}

struct Metered {
    counts: Counts,
    /// Not on disk as they are.
    changed: bool,
}

/// Everybody's counters.
pub(crate) struct Meter {
    limits: ScoreLimits,
    clock: Clock,
    people: Mutex<HashMap<Key, Metered>>,
    /// Who reached the threshold of a call and was not recognised for lack of doubts.
    withheld: AtomicU64,
}

impl Meter {
    pub fn new(limits: ScoreLimits, clock: Clock) -> Self {
        Self {
            limits,
            clock,
            people: Mutex::default(),
            withheld: AtomicU64::new(0),
        }
    }

    /// How often since the start somebody reached the threshold of a call and was not recognised for lack of doubts.
    pub fn withheld(&self) -> u64 {
        self.withheld.load(Ordering::Relaxed)
    }

    /// Counts so many of them. Nobody is told but the operator: to a caller it would be the yes that it stands for.
    pub fn withhold(&self, answers: usize) {
        self.withheld.fetch_add(answers as u64, Ordering::Relaxed);
    }

    /// What is in memory of these people is not theirs any more.
    pub fn forget(&self, keys: &[Vec<u8>]) {
        if keys.is_empty() {
            return;
        }
        let mut people = self.people.lock();
        for key in keys {
            people.remove(key.as_slice());
        }
    }
}

impl Vault {
    /// Whether somebody may compare with this person now.
    ///
    /// # Errors
    /// [`RequestError::ComparisonsLimited`] if not.
    pub fn may_compare(&self, key: &Key) -> Result<()> {
        self.metered(key, |counts, limits, now| {
            counts.wait(limits, now).map_or(Ok(()), |wait| Err(limited(wait)))
        })?
    }

    /// Counts a comparison that is about to be answered. Answers from which similarity on it is the person.
    ///
    /// # Errors
    /// As of [`Self::may_compare`]: then it is not counted, and must not be answered.
    pub fn compared(&self, key: &Key, seen: &Likeness<'_>) -> Result<f32> {
        if self.meter.limits.compared_at_will() {
            return Ok(seen.threshold);
        }
        self.metered(key, |counts, limits, now| {
            counts.compared(limits, now, seen).map_err(limited)
        })?
    }

    /// Counts that a search is about to name the person. Answers from which similarity on it may.
    pub fn named(&self, key: &Key, seen: &Likeness<'_>) -> Result<f32> {
        if self.meter.limits.compared_at_will() {
            return Ok(seen.threshold);
        }
        self.metered(key, |counts, limits, now| counts.named(limits, now, seen))
    }

    /// Whether one more similarity to this person may be told to this caller today; then it is counted.
    pub fn may_tell(&self, key: &Key, Asker(asker): Asker) -> Result<bool> {
        if self.meter.limits.told_a_day == u32::MAX {
            return Ok(true);
        }
        self.metered(key, |counts, limits, _| {
            let told = &mut counts.told;
            let at = told.iter().position(|(of, _)| *of == asker).or_else(|| {
                let room = told.len() < CALLERS_MAX;
                room.then(|| told.push((asker, 0)))?;
                Some(told.len() - 1)
            });
            match at.map(|at| &mut told[at].1) {
                Some(count) if *count < limits.told_a_day => {
                    *count += 1;
                    true
                }
                _ => false,
            }
        })
    }

    /// ORDER: under one lock from reading the counters to changing them: of a hundred comparisons that come at
    /// once each sees the ones before it.
    fn metered<T>(
        &self,
        key: &Key,
        work: impl FnOnce(&mut Counts, &ScoreLimits, Timestamp) -> T,
    ) -> Result<T> {
        let Meter {
            limits,
            clock,
            people,
            ..
        } = &self.meter;
        let (mut people, now) = (people.lock(), clock.now());
        if !people.contains_key(key) {
            if people.len() >= PEOPLE_MAX {
                people.retain(|_, metered| metered.changed);
            }
            if people.len() >= PEOPLE_MAX {
                return Err(RequestError::ComparisonsLimited { wait: NO_ROOM }.into());
            }
            let counts = self.counts_on_disk(key)?;
            let changed = false;
            people.insert(*key, Metered { counts, changed });
        }
        let metered = people.get_mut(key).expect("inserted above");
        metered.counts.roll(now);
        let before = metered.counts.clone();
        let answer = work(&mut metered.counts, limits, now);
        metered.changed |= metered.counts != before;
        Ok(answer)
    }

    fn counts_on_disk(&self, key: &Key) -> Result<Counts> {
        let Meter { limits, clock, .. } = &self.meter;
        let row = match self.meter_row(key) {
            Ok(None) => return Ok(Counts::default()),
            Ok(Some(row)) => Counts::from_row(&row),
            Err(Error::Request(RequestError::Damaged)) => None,
            Err(error) => return Err(error),
        };
        Ok(row.unwrap_or_else(|| Counts::spent(limits, clock.now())))
    }

    /// Plans that whoever is under a key from now on begins with the counters of another.
    pub fn plan_metered_alike(&self, plan: &mut Plan, from: &[u8], to: &[u8]) -> Result<()> {
        let from: Key = from.try_into().expect("a record key has 32 bytes");
        let known = self.meter.people.lock().get(&from).map(|m| m.counts.clone());
        let counts = known.map_or_else(|| self.counts_on_disk(&from), Ok)?;
        plan.unmeter(to.to_vec());
        if counts != Counts::default() {
            plan.write(Write {
                family: Family::Meter,
                key: to.to_vec(),
                change: Change::Put(counts.to_row()),
            });
        }
        Ok(())
    }

    /// Writes the counters that changed. Only while no change runs, so that none is written of somebody who has
    /// just been erased.
    pub fn write_meter(&self) -> Result<()> {
        loop {
            let mut plan = Plan::default();
            let changed = self.take_changed();
            let taken = changed.len();
            for (key, row) in changed {
                // Somebody may have been compared while being erased.
                match self.record_bytes(Family::Persons, &key) {
                    Ok(None) => plan.unmeter(key.to_vec()),
                    _ => plan.write(Write {
                        family: Family::Meter,
                        key: key.to_vec(),
                        change: Change::Put(row),
                    }),
                }
            }
            if taken > 0 {
                self.commit(plan)?;
            }
            if taken < WRITTEN_TOGETHER {
                return Ok(());
            }
        }
    }

    fn take_changed(&self) -> Vec<(Key, Vec<u8>)> {
        let mut people = self.meter.people.lock();
        let changed = people.iter_mut().filter(|(_, metered)| metered.changed);
        changed
            .take(WRITTEN_TOGETHER)
            .map(|(key, metered)| {
                metered.changed = false;
                (*key, metered.counts.to_row())
            })
            .collect()
    }
}

fn limited(wait: Duration) -> Error {
    RequestError::ComparisonsLimited { wait }.into()
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

    /// A comparison so long after the beginning of a day: from which similarity on it is the person.
    ///
    /// # Errors
    /// How long until the next.
    pub fn compared(
        &mut self,
        since: Duration,
        similarity: f32,
        threshold: f32,
    ) -> std::result::Result<f32, Duration> {
        let now = self.at(since);
        let seen = Likeness::of_one(&similarity, threshold);
        self.counts.compared(&self.limits, now, &seen)
    }

    /// The same of somebody whom a search reaches.
    pub fn named(&mut self, since: Duration, similarity: f32, threshold: f32) -> f32 {
        let now = self.at(since);
        let seen = Likeness::of_one(&similarity, threshold);
        self.counts.named(&self.limits, now, &seen)
    }

    fn at(&mut self, since: Duration) -> Timestamp {
        let now = Timestamp(DAY_MS.saturating_add(millis(since)));
        self.counts.roll(now);
        now
    }
}
