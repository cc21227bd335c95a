//! The counters of one face, and what they say of the next comparison.

use std::time::Duration;

use likeness_types::config::ScoreLimits;
use likeness_types::person::Timestamp;

/// How long a comparison waits that only others on their way stand before.
pub(crate) const ON_THE_WAY: Duration = Duration::from_secs(1);

const FORMAT: u8 = 3;

/// Rows that count told similarities for each API key, and nothing else for one key.
const FORMAT_2: u8 = 2;

/// The same without doubts.
const FORMAT_1: u8 = 1;

pub(crate) const DAY_MS: u64 = 24 * 3600 * 1000;

/// The pause doubles with so many more refused comparisons.
const DOUBLED_EVERY: u32 = 10;

/// API keys with counters of their own in one day. A key that finds no place has no turn of its own; its comparisons
/// count all the same.
const KEYS_MAX: usize = 256;

/// A key that compared with a person who is slowed down waits longer than the other keys by the pause divided by this:
/// a key that polls leaves every second turn to another.
const OWN_PAUSE_LONGER_BY: u32 = 4;

/// The counters of one face: over all keys, and for each key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    day: u32,
    refused_that_day: u32,
    refused_in_a_row: u32,
    last_ms: u64,
    /// When all doubts of the past are regained.
    undoubted_ms: u64,
    /// Similarities told that day, to all keys together.
    told_that_day: u32,
    /// How often the person was named as a duplicate that day: in a pair of an N:N search, or by a check at enrolment.
    duplicate_that_day: u32,
    /// Own turns that keys took that day, all together.
    own_turns_that_day: u32,
    keys: Vec<OfKey>,
}

/// What one API key did with the person that day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct OfKey {
    asker: u64,
    /// Refused comparisons since the key's last recognition beyond doubt.
    refused: u32,
    /// Comparisons that were answered although the person was slowed down for all keys.
    own_turns: u32,
    /// The last comparison while the person was slowed down.
    last_ms: u64,
}

/// By what right a comparison begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begun {
    /// The person is not slowed down.
    Free,
    /// The person is slowed down, and the pause of all keys and of this key is over.
    Shared,
    /// The key takes one of its own turns.
    Own,
}

impl Counts {
    /// Begins another day if it is one. A clock that was set back begins none.
    pub fn roll(&mut self, now: Timestamp) {
        let day = u32::try_from(now.0 / DAY_MS).unwrap_or(u32::MAX);
        if day > self.day {
            self.day = day;
            self.refused_that_day = 0;
            self.told_that_day = 0;
            self.duplicate_that_day = 0;
            self.own_turns_that_day = 0;
            self.keys.clear();
        }
    }

    /// Lets a comparison by this key begin, while so many faces are being compared that are not counted yet; or says
    /// how long until the key's next.
    pub fn begin(
        &mut self,
        limits: &ScoreLimits,
        now: Timestamp,
        asker: u64,
        pending: u32,
    ) -> std::result::Result<Begun, Duration> {
        let begun = self.turn(limits, now, asker)?;
        if begun == Begun::Free {
            // Were all of them refused, this one would have to wait.
            let refused = |count: u32| count.saturating_add(pending);
            let room = refused(self.refused_that_day) < limits.refused_a_day
                && refused(self.refused_in_a_row) < limits.refused_in_a_row;
            return if pending == 0 || room {
                Ok(begun)
            } else {
                Err(ON_THE_WAY)
            };
        }
        self.last_ms = now.0;
        self.own_turns_that_day += u32::from(begun == Begun::Own);
        if let Some(own) = self.own_mut(asker) {
            own.last_ms = now.0;
            own.own_turns += u32::from(begun == Begun::Own);
        }
        Ok(begun)
    }

    /// Counts a comparison by this key that has begun. Answers from which similarity on it is the person.
    pub fn compared(
        &mut self,
        limits: &ScoreLimits,
        now: Timestamp,
        asker: u64,
        begun: Begun,
        seen: &Likeness<'_>,
    ) -> f32 {
        let clear = seen.is_clear(limits);
        // A recognition beyond doubt of a person who is not slowed down changes nothing: nothing has to be written.
        if begun == Begun::Free && !clear {
            self.last_ms = now.0;
        }
        self.recognised(limits, now, asker, seen, clear)
    }

    /// Counts that a search by this key would name the person. Answers from which similarity on it may.
    pub fn named(&mut self, limits: &ScoreLimits, now: Timestamp, asker: u64, seen: &Likeness<'_>) -> f32 {
        self.recognised(limits, now, asker, seen, seen.is_clear(limits))
    }

    /// Counts that an N:N search would name the person in one more pair. Answers whether it may.
    pub fn paired(&mut self, limits: &ScoreLimits, now: Timestamp, seen: &Likeness<'_>) -> bool {
        if !self.named_as_duplicate(limits) {
            return false;
        }
        // No photograph is refused by a pair; but what lies by little above the threshold says as much here.
        let from = self.doubted(limits, now, seen, false);
        seen.similarities.iter().any(|similarity| *similarity >= from)
    }

    /// Counts that the person is about to be named as a duplicate once more. Answers whether that may be.
    pub fn named_as_duplicate(&mut self, limits: &ScoreLimits) -> bool {
        if limits.duplicates_a_day == u32::MAX {
            return true;
        }
        let may = self.duplicate_that_day < limits.duplicates_a_day;
        self.duplicate_that_day += u32::from(may);
        may
    }

    /// Counts one more similarity that is about to be told. Answers whether it may be.
    pub fn told(&mut self, limits: &ScoreLimits) -> bool {
        let may = self.told_that_day < limits.told_a_day;
        self.told_that_day += u32::from(may);
        may
    }

    fn recognised(
        &mut self,
        limits: &ScoreLimits,
        now: Timestamp,
        asker: u64,
        seen: &Likeness<'_>,
        clear: bool,
    ) -> f32 {
        if clear {
            self.refused_in_a_row = 0;
            if let Some(own) = self.keys.iter_mut().find(|own| own.asker == asker) {
                own.refused = 0;
            }
        } else {
            // Of ten faces in a picture each asks.
            let refused = u32::try_from(seen.faces).unwrap_or(u32::MAX);
            self.refused_that_day = self.refused_that_day.saturating_add(refused);
            self.refused_in_a_row = self.refused_in_a_row.saturating_add(refused);
            if let Some(own) = self.own_mut(asker) {
                own.refused = own.refused.saturating_add(refused);
            }
        }
        self.doubted(limits, now, seen, clear && seen.may_regain)
    }

    /// Counts doubts, and regains some by a recognition beyond doubt. Answers from which similarity on it is the
    /// person.
    fn doubted(&mut self, limits: &ScoreLimits, now: Timestamp, seen: &Likeness<'_>, regains: bool) -> f32 {
        if limits.doubts == u32::MAX {
            return seen.threshold;
        }
        // The threshold does not depend on what is compared: otherwise it would be an answer itself.
        let is_spent = self.is_doubted_too_often(limits, now);
        let regained = millis(limits.doubt_regained);
        if regains && limits.clear_a_doubt > 0 && self.undoubted_ms > now.0 {
            let sooner = regained / u64::from(limits.clear_a_doubt);
            self.undoubted_ms = self.undoubted_ms.saturating_sub(sooner).max(now.0);
        }
        if is_spent {
            return seen.threshold + limits.doubt_margin;
        }
        let doubts = seen.doubts(limits);
        if doubts > 0 {
            let since = self.undoubted_ms.max(now.0);
            self.undoubted_ms = since.saturating_add(regained.saturating_mul(doubts));
        }
        seen.threshold
    }

    /// Whether one more doubt would be one too many.
    fn is_doubted_too_often(&self, limits: &ScoreLimits, now: Timestamp) -> bool {
        let regained = millis(limits.doubt_regained);
        let all = regained.saturating_mul(limits.doubts.into());
        self.undoubted_ms.max(now.0).saturating_add(regained) > now.0.saturating_add(all)
    }

    /// Refused comparisons beyond a limit; none below both.
    fn beyond(&self, limits: &ScoreLimits) -> Option<u32> {
        let of_day = self.refused_that_day.checked_sub(limits.refused_a_day);
        of_day.max(self.refused_in_a_row.checked_sub(limits.refused_in_a_row))
    }

    /// How long until this key's next comparison.
    pub fn wait(&self, limits: &ScoreLimits, now: Timestamp, asker: u64) -> Option<Duration> {
        self.turn(limits, now, asker).err()
    }

    fn turn(&self, limits: &ScoreLimits, now: Timestamp, asker: u64) -> std::result::Result<Begun, Duration> {
        let Some(beyond) = self.beyond(limits) else {
            return Ok(Begun::Free);
        };
        let times = 1u32
            .checked_shl(beyond / DOUBLED_EVERY)
            .unwrap_or(u32::MAX)
            .max(1);
        let pause = limits.pause.saturating_mul(times).min(limits.pause_max);
        let left = |pause: Duration, last_ms: u64| {
            pause.saturating_sub(Duration::from_millis(now.0.saturating_sub(last_ms)))
        };
        let own = self.keys.iter().find(|own| own.asker == asker);
        let own_pause = pause.saturating_add(pause / OWN_PAUSE_LONGER_BY);
        let own_left = own.map_or(Duration::ZERO, |own| left(own_pause, own.last_ms));
        let wait = left(pause, self.last_ms).max(own_left);
        if wait.is_zero() {
            return Ok(Begun::Shared);
        }
        let has_place = own.is_some() || self.keys.len() < KEYS_MAX;
        let OfKey {
            refused, own_turns, ..
        } = own.copied().unwrap_or_default();
        let has_turn = refused == 0
            && own_turns < limits.own_turns_a_day
            && self.own_turns_that_day < limits.own_turns_of_account_a_day;
        if has_place && has_turn {
            return Ok(Begun::Own);
        }
        Err(wait)
    }

    /// The key's own counters, if there is room for them.
    fn own_mut(&mut self, asker: u64) -> Option<&mut OfKey> {
        let at = self.keys.iter().position(|own| own.asker == asker);
        if at.is_none() && self.keys.len() == KEYS_MAX {
            return None;
        }
        let at = at.unwrap_or_else(|| {
            self.keys.push(OfKey {
                asker,
                ..OfKey::default()
            });
            self.keys.len() - 1
        });
        self.keys.get_mut(at)
    }

    #[cfg(test)]
    pub fn refused(&self) -> u32 {
        self.refused_that_day
    }

    pub fn to_row(&self) -> Vec<u8> {
        let mut row = vec![FORMAT];
        row.extend_from_slice(&self.day.to_le_bytes());
        row.extend_from_slice(&self.refused_that_day.to_le_bytes());
        row.extend_from_slice(&self.refused_in_a_row.to_le_bytes());
        row.extend_from_slice(&self.last_ms.to_le_bytes());
        row.extend_from_slice(&self.undoubted_ms.to_le_bytes());
        row.extend_from_slice(&self.told_that_day.to_le_bytes());
        row.extend_from_slice(&self.duplicate_that_day.to_le_bytes());
        row.extend_from_slice(&self.own_turns_that_day.to_le_bytes());
        for own in &self.keys {
            row.extend_from_slice(&own.asker.to_le_bytes());
            row.extend_from_slice(&own.refused.to_le_bytes());
            row.extend_from_slice(&own.own_turns.to_le_bytes());
            row.extend_from_slice(&own.last_ms.to_le_bytes());
        }
        row
    }

    pub fn from_row(row: &[u8]) -> Option<Self> {
        let (format, mut rest) = row.split_first()?;
        if ![FORMAT_1, FORMAT_2, FORMAT].contains(format) {
            return None;
        }
        let mut counts = Self {
            day: u32::from_le_bytes(take(&mut rest)?),
            refused_that_day: u32::from_le_bytes(take(&mut rest)?),
            refused_in_a_row: u32::from_le_bytes(take(&mut rest)?),
            last_ms: u64::from_le_bytes(take(&mut rest)?),
            ..Self::default()
        };
        if *format > FORMAT_1 {
            counts.undoubted_ms = u64::from_le_bytes(take(&mut rest)?);
        }
        if *format < FORMAT {
            // For each key the similarities that it was told: they count for the account.
            while !rest.is_empty() {
                let _asker: [u8; 8] = take(&mut rest)?;
                let told = u32::from_le_bytes(take(&mut rest)?);
                counts.told_that_day = counts.told_that_day.saturating_add(told);
            }
            return Some(counts);
        }
        counts.told_that_day = u32::from_le_bytes(take(&mut rest)?);
        counts.duplicate_that_day = u32::from_le_bytes(take(&mut rest)?);
        counts.own_turns_that_day = u32::from_le_bytes(take(&mut rest)?);
        while !rest.is_empty() {
            counts.keys.push(OfKey {
                asker: u64::from_le_bytes(take(&mut rest)?),
                refused: u32::from_le_bytes(take(&mut rest)?),
                own_turns: u32::from_le_bytes(take(&mut rest)?),
                last_ms: u64::from_le_bytes(take(&mut rest)?),
            });
        }
        Some(counts)
    }

    /// What stands for a row that cannot be read: all that may be asked in a day was asked.
    pub fn spent(limits: &ScoreLimits, now: Timestamp) -> Self {
        let mut counts = Self::default();
        counts.roll(now);
        counts.refused_that_day = limits.refused_a_day;
        counts.last_ms = now.0;
        let regained = millis(limits.doubt_regained).saturating_mul(limits.doubts.into());
        counts.undoubted_ms = now.0.saturating_add(regained);
        counts.told_that_day = limits.told_a_day;
        counts.duplicate_that_day = limits.duplicates_a_day;
        counts.own_turns_that_day = limits.own_turns_of_account_a_day;
        counts
    }
}

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn take<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(*taken)
}

/// What a comparison with one person came to.
#[derive(Clone, Copy)]
pub(crate) struct Likeness<'a> {
    /// Faces that were compared.
    pub faces: usize,
    /// Of those of them that are like the person at all.
    pub similarities: &'a [f32],
    /// From where on the call asks for a yes.
    pub threshold: f32,
    /// Whether a recognition beyond doubt regains a part of a doubt: once in a call, for its faces are the caller's
    /// choice together.
    pub may_regain: bool,
}

impl<'a> Likeness<'a> {
    /// Of one face.
    pub fn of_one(similarity: &'a f32, threshold: f32) -> Self {
        Self {
            faces: 1,
            similarities: std::slice::from_ref(similarity),
            threshold,
            may_regain: true,
        }
    }

    /// Beyond doubt the person.
    pub fn is_clear(&self, limits: &ScoreLimits) -> bool {
        let clear_from = self.threshold + limits.doubt_margin;
        self.similarities
            .iter()
            .any(|similarity| *similarity >= clear_from)
    }

    /// Faces that are the person's by little.
    fn doubts(&self, limits: &ScoreLimits) -> u64 {
        let doubted = self.threshold..self.threshold + limits.doubt_margin;
        let doubted = self
            .similarities
            .iter()
            .filter(|similarity| doubted.contains(similarity));
        doubted.count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key that asks where no other is meant.
    const KEY: u64 = 1;

    fn of_key(asker: u64, refused: u32) -> OfKey {
        OfKey {
            asker,
            refused,
            own_turns: 2,
            last_ms: DAY_MS,
        }
    }

    fn after(refused: u32) -> Counts {
        Counts {
            day: 1,
            refused_that_day: refused,
            refused_in_a_row: refused,
            last_ms: DAY_MS,
            undoubted_ms: 5 * DAY_MS,
            told_that_day: 3,
            duplicate_that_day: 2,
            own_turns_that_day: 1,
            keys: vec![of_key(7, 1)],
        }
    }

    #[test]
    fn the_pause_begins_at_the_limit_and_grows_to_its_bound() {
        let (limits, now) = (without_own_turns(), Timestamp(DAY_MS));
        let pause = |refused| after(refused).wait(&limits, now, KEY).map(|wait| wait.as_secs());
        assert_eq!(
            [19, 20, 29, 30, 40].map(pause),
            [None, Some(60), Some(60), Some(120), Some(240)]
        );
        assert_eq!([60, 100, 1000, u32::MAX].map(pause), [Some(900); 4]);
        let later = Timestamp(DAY_MS + 59_500);
        assert_eq!(
            after(20).wait(&limits, later, KEY),
            Some(Duration::from_millis(500))
        );
        assert_eq!(after(20).wait(&limits, Timestamp(DAY_MS + 60_000), KEY), None);
    }

    #[test]
    fn another_day_forgets_what_was_refused_that_day_and_not_what_was_in_a_row() {
        let mut counts = after(100);
        counts.roll(Timestamp(2 * DAY_MS));
        assert_eq!((counts.refused_that_day, counts.refused_in_a_row), (0, 100));
        assert_eq!((counts.told_that_day, counts.duplicate_that_day), (0, 0));
        assert_eq!((counts.own_turns_that_day, counts.keys.len()), (0, 0));
        assert!(
            counts
                .wait(&without_own_turns(), Timestamp(DAY_MS), KEY)
                .is_some()
        );
        let mut back = after(20);
        back.roll(Timestamp(0));
        assert_eq!(back, after(20), "a clock that was set back begins no new day");
    }

    #[test]
    fn a_row_is_read_as_it_was_written_and_another_is_not_read() {
        assert_eq!(Counts::from_row(&after(5).to_row()), Some(after(5)));
        for row in [&[][..], &[4], &[FORMAT], &after(5).to_row()[..30]] {
            assert_eq!(Counts::from_row(row), None);
        }
        let limits = ScoreLimits::default();
        let spent = Counts::spent(&limits, Timestamp(DAY_MS));
        assert!(spent.wait(&limits, Timestamp(DAY_MS), KEY).is_some());
        assert_eq!(strictness(&mut spent.clone(), &limits, DAY_MS, 0.9), "strict");
    }

    #[test]
    fn rows_of_earlier_formats_are_read_and_what_each_key_was_told_counts_for_all() {
        let expected = |undoubted_ms| Counts {
            day: 1,
            refused_that_day: 5,
            refused_in_a_row: 5,
            last_ms: DAY_MS,
            undoubted_ms,
            told_that_day: 3 + 4,
            ..Counts::default()
        };
        let (counters, doubts) = (
            after(5).to_row()[1..21].to_vec(),
            after(5).to_row()[21..29].to_vec(),
        );
        let told: Vec<u8> = [(7u64, 3u32), (8, 4)]
            .iter()
            .flat_map(|(asker, told)| [&asker.to_le_bytes()[..], &told.to_le_bytes()].concat())
            .collect();
        let first = [&[FORMAT_1][..], &counters, &told].concat();
        assert_eq!(Counts::from_row(&first), Some(expected(0)));
        let second = [&[FORMAT_2][..], &counters, &doubts, &told].concat();
        assert_eq!(Counts::from_row(&second), Some(expected(5 * DAY_MS)));
    }

    /// A person who is slowed down, compared with just now.
    fn slowed_down() -> Counts {
        Counts {
            day: 1,
            refused_that_day: 20,
            last_ms: DAY_MS,
            ..Counts::default()
        }
    }

    fn without_own_turns() -> ScoreLimits {
        ScoreLimits {
            own_turns_a_day: 0,
            ..ScoreLimits::default()
        }
    }

    fn compared(
        counts: &mut Counts,
        limits: &ScoreLimits,
        since_ms: u64,
        asker: u64,
        similarity: f32,
    ) -> bool {
        let (now, seen) = (
            Timestamp(DAY_MS + since_ms),
            Likeness::of_one(&similarity, THRESHOLD),
        );
        let begun = counts.begin(limits, now, asker, 0);
        begun
            .map(|begun| counts.compared(limits, now, asker, begun, &seen))
            .is_ok()
    }

    #[test]
    fn a_key_without_refusals_has_turns_of_its_own_and_one_with_a_refusal_has_none() {
        let (limits, mut counts) = (ScoreLimits::default(), slowed_down());
        for n in 0..limits.own_turns_a_day {
            assert!(compared(&mut counts, &limits, n.into(), KEY, 0.9), "{n}");
        }
        assert!(
            !compared(&mut counts, &limits, 10, KEY, 0.9),
            "its turns are used up"
        );
        assert!(
            compared(&mut counts, &limits, 20, 2, 0.1),
            "another key has its own"
        );
        assert!(
            !compared(&mut counts, &limits, 30, 2, 0.9),
            "and was refused in the first"
        );
        assert_eq!(counts.refused_that_day, 21, "every one counts");
    }

    #[test]
    fn all_keys_of_an_account_together_have_a_bounded_number_of_own_turns() {
        let (limits, mut counts) = (ScoreLimits::default(), slowed_down());
        let answered = (0..1000).filter(|key| compared(&mut counts, &limits, 1, *key, 0.1));
        assert_eq!(answered.count(), limits.own_turns_of_account_a_day as usize);
        counts.roll(Timestamp(2 * DAY_MS));
        assert_eq!(counts.own_turns_that_day, 0);
    }

    #[test]
    fn a_key_that_polls_leaves_every_second_shared_turn_to_another() {
        let (limits, mut counts) = (without_own_turns(), slowed_down());
        assert!(compared(&mut counts, &limits, 60_000, KEY, 0.1));
        // At the moment when the pause of all keys is over, the key that had the last turn still waits.
        assert!(!compared(&mut counts, &limits, 120_000, KEY, 0.1));
        assert!(compared(&mut counts, &limits, 120_000, 2, 0.1));
    }

    #[test]
    fn while_comparisons_are_on_their_way_no_more_begin_than_may_be_refused() {
        let limits = ScoreLimits::default();
        let begun = |refused, pending| {
            let mut counts = Counts {
                refused_that_day: refused,
                ..Counts::default()
            };
            counts.begin(&limits, Timestamp(DAY_MS), KEY, pending)
        };
        assert_eq!([begun(0, 19), begun(19, 0)], [Ok(Begun::Free); 2]);
        assert_eq!([begun(0, 20), begun(19, 1)], [Err(ON_THE_WAY); 2]);
    }

    #[test]
    fn keys_that_find_no_place_are_counted_for_all_and_have_no_turn_of_their_own() {
        let limits = ScoreLimits {
            own_turns_of_account_a_day: u32::MAX,
            ..ScoreLimits::default()
        };
        let mut counts = slowed_down();
        let answered = (0..1000).filter(|key| compared(&mut counts, &limits, 1, *key, 0.1));
        assert_eq!(answered.count(), KEYS_MAX);
        assert_eq!(counts.keys.len(), KEYS_MAX);
    }

    #[test]
    fn so_many_pairs_name_a_person_in_a_day_and_those_in_doubt_use_up_doubts() {
        let limits = ScoreLimits {
            duplicates_a_day: 3,
            doubts: 1,
            ..ScoreLimits::default()
        };
        let mut counts = Counts::default();
        let paired = |counts: &mut Counts, at: u64, similarity: f32| {
            let now = Timestamp(at);
            counts.roll(now);
            counts.paired(&limits, now, &Likeness::of_one(&similarity, THRESHOLD))
        };
        assert_eq!(
            [0.41, 0.41, 0.9].map(|similarity| paired(&mut counts, DAY_MS, similarity)),
            [true, false, true]
        );
        assert!(!paired(&mut counts, DAY_MS, 0.9), "three that day");
        assert!(paired(&mut counts, 3 * DAY_MS, 0.9), "another day");
        assert_eq!(counts.refused_that_day, 0);
    }

    #[test]
    fn faces_that_may_not_regain_leave_the_doubts_as_they_are() {
        let limits = ScoreLimits {
            doubts: 1,
            clear_a_doubt: 1,
            ..ScoreLimits::default()
        };
        let mut counts = Counts::default();
        let mut at = |similarity: f32, may_regain| {
            let seen = Likeness {
                may_regain,
                ..Likeness::of_one(&similarity, THRESHOLD)
            };
            counts.named(&limits, Timestamp(DAY_MS), KEY, &seen)
        };
        let strict = THRESHOLD + limits.doubt_margin;
        assert_eq!(
            [at(0.41, true), at(0.9, false), at(0.41, false)],
            [THRESHOLD, strict, strict]
        );
        assert_eq!([at(0.9, true), at(0.41, true)], [strict, THRESHOLD]);
    }

    const THRESHOLD: f32 = 0.4;

    fn strictness(counts: &mut Counts, limits: &ScoreLimits, now_ms: u64, similarity: f32) -> &'static str {
        let seen = Likeness::of_one(&similarity, THRESHOLD);
        match counts.named(limits, Timestamp(now_ms), KEY, &seen) {
            THRESHOLD => "as asked",
            _ => "strict",
        }
    }

    #[test]
    fn a_person_who_was_doubted_too_often_is_recognised_beyond_doubt_only_until_time_goes_by() {
        let limits = ScoreLimits {
            doubts: 2,
            clear_a_doubt: 0,
            ..ScoreLimits::default()
        };
        let mut counts = Counts::default();
        let mut at =
            |hours: u64, similarity| strictness(&mut counts, &limits, DAY_MS + hours * 3_600_000, similarity);
        assert_eq!(
            [at(0, 0.41), at(0, 0.54), at(0, 0.41)],
            ["as asked", "as asked", "strict"]
        );
        // Whoever is like the person, or not, or asks again, finds it so and changes nothing.
        assert_eq!([at(1, 0.9), at(2, -0.2), at(23, 0.41)], ["strict"; 3]);
        assert_eq!(
            [at(24, 0.9), at(24, 0.41), at(25, 0.41)],
            ["as asked", "as asked", "strict"]
        );
        assert_eq!(
            [at(73, 0.41), at(73, 0.41), at(73, 0.41)],
            ["as asked", "as asked", "strict"]
        );
    }

    #[test]
    fn recognitions_beyond_doubt_regain_doubts_little_by_little_and_never_more_than_there_are() {
        let limits = ScoreLimits {
            doubts: 1,
            clear_a_doubt: 4,
            ..ScoreLimits::default()
        };
        let mut counts = Counts::default();
        let mut at = |similarity| strictness(&mut counts, &limits, DAY_MS, similarity);
        // Before there was a doubt they save up none.
        assert_eq!([at(0.9), at(0.41), at(0.41)], ["as asked", "as asked", "strict"]);
        assert_eq!([at(0.9), at(0.9), at(0.9), at(0.41)], ["strict"; 4]);
        assert_eq!([at(0.9), at(0.41), at(0.41)], ["strict", "as asked", "strict"]);
    }

    #[test]
    fn what_is_in_doubt_counts_as_refused_and_only_what_is_beyond_doubt_as_recognised() {
        let (limits, mut counts) = (ScoreLimits::default(), Counts::default());
        for (similarity, expected) in [(0.39, [1, 1]), (0.41, [2, 2]), (0.56, [2, 0]), (0.54, [3, 1])] {
            strictness(&mut counts, &limits, DAY_MS, similarity);
            assert_eq!(
                [counts.refused_that_day, counts.refused_in_a_row],
                expected,
                "{similarity}"
            );
        }
    }

    #[test]
    fn of_several_faces_of_which_none_is_beyond_doubt_each_was_refused() {
        let (limits, mut counts) = (without_own_turns(), Counts::default());
        let seen = |similarities| Likeness {
            faces: 10,
            similarities,
            threshold: THRESHOLD,
            may_regain: true,
        };
        let mut compared = |similarities| {
            let begun = counts.begin(&limits, Timestamp(DAY_MS), KEY, 0)?;
            Ok(counts.compared(&limits, Timestamp(DAY_MS), KEY, begun, &seen(similarities)))
        };
        // Somebody among them is the person, and nobody was refused.
        assert_eq!(compared(&[0.9]), Ok(THRESHOLD));
        assert_eq!([compared(&[]), compared(&[0.41])], [Ok(THRESHOLD); 2]);
        assert_eq!(compared(&[]), Err(limits.pause), "that were twenty");
        assert_eq!([counts.refused_that_day, counts.refused_in_a_row], [20; 2]);
    }
}
