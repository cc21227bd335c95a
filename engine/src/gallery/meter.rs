//! The score is an oracle, and so is every yes or no: how often each person was compared of late, over all
//! callers together, and how soon somebody may compare again.
//!
//! ```text
//! row key  as of the person's record: collection id 16 | digest of the PersonID 16
//! row      format u8 | day u32 | refused that day u32 | refused in a row u32 | last comparison u64, ms
//!          | told that day: (digest of the caller u64 | similarities u32) ...
//! ```
//!
//! The counters are in memory, and every second those that changed go to disk: a server that is killed forgets
//! the last second, and one that is restarted nothing. A row goes with its person, in the same commit, and its
//! bytes with the purge of the record's; a rename takes it along, and a copy of the person begins with a copy of it,
//! for it is the same face. Nobody is locked out: whoever is compared too often is compared more slowly.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::config::ScoreLimits;
use crate::crypto::{self, Secret};
use crate::error::{Error, RequestError, Result};
use crate::gallery::codec::{self, Digest};
use crate::gallery::records::{Change, Family, Write};
use crate::gallery::vault::{Plan, Vault};
use crate::names::RandomId;
use crate::person::Timestamp;

const FORMAT: u8 = 1;
const DAY_MS: u64 = 24 * 3600 * 1000;
/// The pause doubles with so many more refused comparisons.
const DOUBLED_EVERY: u32 = 10;
/// People in memory; those whose counters are on disk make room.
const PEOPLE_MAX: usize = 100_000;
/// How long a comparison waits where there is no room: until the next counters are on disk.
const NO_ROOM: Duration = Duration::from_secs(2);
/// Callers who are told similarities of one person in a day; any more are told none.
const CALLERS_MAX: usize = 64;
/// Rows written together.
const WRITTEN_TOGETHER: usize = 4096;
/// From one look for counters that changed to the next.
pub(crate) const WRITE_EVERY: Duration = Duration::from_secs(1);

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

/// One person's counters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Counts {
    day: u32,
    refused_that_day: u32,
    refused_in_a_row: u32,
    last_ms: u64,
    told: Vec<(u64, u32)>,
}

impl Counts {
    /// Begins another day if it is one. A clock that was set back begins none.
    fn roll(&mut self, now: Timestamp) {
        let day = u32::try_from(now.0 / DAY_MS).unwrap_or(u32::MAX);
        if day > self.day {
            self.day = day;
            self.refused_that_day = 0;
            self.told.clear();
        }
    }

    /// Counts a comparison, or says how long until the next.
    fn compared(
        &mut self,
        limits: &ScoreLimits,
        now: Timestamp,
        recognised: bool,
    ) -> std::result::Result<(), Duration> {
        if let Some(wait) = self.wait(limits, now) {
            return Err(wait);
        }
        // Whoever is recognised without delay changes nothing, and so nothing has to be written.
        if !recognised || self.beyond(limits).is_some() {
            self.last_ms = now.0;
        }
        if recognised {
            self.refused_in_a_row = 0;
        } else {
            self.refused_that_day = self.refused_that_day.saturating_add(1);
            self.refused_in_a_row = self.refused_in_a_row.saturating_add(1);
        }
        Ok(())
    }

    /// Refused comparisons beyond a limit; none below both.
    fn beyond(&self, limits: &ScoreLimits) -> Option<u32> {
        let of_day = self.refused_that_day.checked_sub(limits.refused_a_day);
        of_day.max(self.refused_in_a_row.checked_sub(limits.refused_in_a_row))
    }

    /// How long until the next comparison.
    fn wait(&self, limits: &ScoreLimits, now: Timestamp) -> Option<Duration> {
        let beyond = self.beyond(limits)?;
        let times = 1u32
            .checked_shl(beyond / DOUBLED_EVERY)
            .unwrap_or(u32::MAX)
            .max(1);
        let pause = limits.pause.saturating_mul(times).min(limits.pause_max);
        let since = Duration::from_millis(now.0.saturating_sub(self.last_ms));
        pause.checked_sub(since).filter(|wait| !wait.is_zero())
    }

    fn to_row(&self) -> Vec<u8> {
        let mut row = vec![FORMAT];
        row.extend_from_slice(&self.day.to_le_bytes());
        row.extend_from_slice(&self.refused_that_day.to_le_bytes());
        row.extend_from_slice(&self.refused_in_a_row.to_le_bytes());
        row.extend_from_slice(&self.last_ms.to_le_bytes());
        for (asker, told) in &self.told {
            row.extend_from_slice(&asker.to_le_bytes());
            row.extend_from_slice(&told.to_le_bytes());
        }
        row
    }

    fn from_row(row: &[u8]) -> Option<Self> {
        let mut rest = row.strip_prefix(&[FORMAT])?;
        let mut counts = Self {
            day: u32::from_le_bytes(take(&mut rest)?),
            refused_that_day: u32::from_le_bytes(take(&mut rest)?),
            refused_in_a_row: u32::from_le_bytes(take(&mut rest)?),
            last_ms: u64::from_le_bytes(take(&mut rest)?),
            told: Vec::new(),
        };
        while !rest.is_empty() {
            let asker = u64::from_le_bytes(take(&mut rest)?);
            counts.told.push((asker, u32::from_le_bytes(take(&mut rest)?)));
        }
        Some(counts)
    }

    /// What stands for a row that cannot be read: all that may be asked in a day was asked.
    fn spent(limits: &ScoreLimits, now: Timestamp) -> Self {
        let mut counts = Self::default();
        counts.roll(now);
        counts.refused_that_day = limits.refused_a_day;
        counts.last_ms = now.0;
        counts.told = vec![(0, 0); CALLERS_MAX];
        counts
    }
}

fn take<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(*taken)
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
}

impl Meter {
    pub fn new(limits: ScoreLimits, clock: Clock) -> Self {
        Self {
            limits,
            clock,
            people: Mutex::default(),
        }
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

    /// Counts a comparison that is about to be answered.
    ///
    /// # Errors
    /// As of [`Self::may_compare`]: then it is not counted, and must not be answered.
    pub fn compared(&self, key: &Key, recognised: bool) -> Result<()> {
        if self.meter.limits.compared_at_will() {
            return Ok(());
        }
        self.metered(key, |counts, limits, now| {
            counts.compared(limits, now, recognised).map_err(limited)
        })?
    }

    /// Counts that a search named the person: as recognised.
    pub fn named(&self, key: &Key) -> Result<()> {
        self.metered(key, |counts, _, _| counts.refused_in_a_row = 0)
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

    /// A comparison so long after the beginning of a day.
    ///
    /// # Errors
    /// How long until the next.
    pub fn compared(&mut self, since: Duration, recognised: bool) -> std::result::Result<(), Duration> {
        let now = Timestamp(DAY_MS + u64::try_from(since.as_millis()).unwrap_or(u64::MAX - DAY_MS));
        self.counts.roll(now);
        self.counts.compared(&self.limits, now, recognised)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(refused: u32) -> Counts {
        Counts {
            day: 1,
            refused_that_day: refused,
            refused_in_a_row: refused,
            last_ms: DAY_MS,
            told: vec![(7, 3)],
        }
    }

    #[test]
    fn the_pause_begins_at_the_limit_and_grows_to_its_bound() {
        let (limits, now) = (ScoreLimits::default(), Timestamp(DAY_MS));
        let pause = |refused| after(refused).wait(&limits, now).map(|wait| wait.as_secs());
        assert_eq!(
            [19, 20, 29, 30, 40].map(pause),
            [None, Some(60), Some(60), Some(120), Some(240)]
        );
        assert_eq!([60, 100, 1000, u32::MAX].map(pause), [Some(900); 4]);
        let later = Timestamp(DAY_MS + 59_500);
        assert_eq!(after(20).wait(&limits, later), Some(Duration::from_millis(500)));
        assert_eq!(after(20).wait(&limits, Timestamp(DAY_MS + 60_000)), None);
    }

    #[test]
    fn another_day_forgets_what_was_refused_that_day_and_not_what_was_in_a_row() {
        let mut counts = after(100);
        counts.roll(Timestamp(2 * DAY_MS));
        assert_eq!((counts.refused_that_day, counts.refused_in_a_row), (0, 100));
        assert!(counts.told.is_empty());
        assert!(counts.wait(&ScoreLimits::default(), Timestamp(DAY_MS)).is_some());
        let mut back = after(20);
        back.roll(Timestamp(0));
        assert_eq!(back, after(20), "a clock that was set back begins no new day");
    }

    #[test]
    fn a_row_is_read_as_it_was_written_and_another_is_not_read() {
        assert_eq!(Counts::from_row(&after(5).to_row()), Some(after(5)));
        for row in [&[][..], &[2], &[FORMAT], &after(5).to_row()[..30]] {
            assert_eq!(Counts::from_row(row), None);
        }
        let limits = ScoreLimits::default();
        let spent = Counts::spent(&limits, Timestamp(DAY_MS));
        assert!(spent.wait(&limits, Timestamp(DAY_MS)).is_some());
    }
}
