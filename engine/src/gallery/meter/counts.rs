//! One person's counters, and what they say of the next comparison.

use std::time::Duration;

use crate::config::ScoreLimits;
use crate::person::Timestamp;

const FORMAT: u8 = 2;
/// Rows without doubts.
const FORMAT_1: u8 = 1;
pub(super) const DAY_MS: u64 = 24 * 3600 * 1000;
/// The pause doubles with so many more refused comparisons.
const DOUBLED_EVERY: u32 = 10;
/// Callers who are told similarities of one person in a day; any more are told none.
pub(super) const CALLERS_MAX: usize = 64;

/// One person's counters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Counts {
    day: u32,
    refused_that_day: u32,
    refused_in_a_row: u32,
    last_ms: u64,
    /// When all doubts of the past are regained.
    undoubted_ms: u64,
    pub told: Vec<(u64, u32)>,
}

impl Counts {
    /// Begins another day if it is one. A clock that was set back begins none.
    pub fn roll(&mut self, now: Timestamp) {
        let day = u32::try_from(now.0 / DAY_MS).unwrap_or(u32::MAX);
        if day > self.day {
            self.day = day;
            self.refused_that_day = 0;
            self.told.clear();
        }
    }

    /// Counts a comparison, or says how long until the next. Answers from which similarity on it is the person.
    pub fn compared(
        &mut self,
        limits: &ScoreLimits,
        now: Timestamp,
        seen: &Likeness<'_>,
    ) -> std::result::Result<f32, Duration> {
        if let Some(wait) = self.wait(limits, now) {
            return Err(wait);
        }
        let clear = seen.is_clear(limits);
        // Whoever is recognised without delay changes nothing, and so nothing has to be written.
        if !clear || self.beyond(limits).is_some() {
            self.last_ms = now.0;
        }
        Ok(self.recognised(limits, now, seen, clear))
    }

    /// Counts that a search would name the person. Answers from which similarity on it may.
    pub fn named(&mut self, limits: &ScoreLimits, now: Timestamp, seen: &Likeness<'_>) -> f32 {
        self.recognised(limits, now, seen, seen.is_clear(limits))
    }

    fn recognised(&mut self, limits: &ScoreLimits, now: Timestamp, seen: &Likeness<'_>, clear: bool) -> f32 {
        if clear {
            self.refused_in_a_row = 0;
        } else {
            // Of ten faces in a picture each asks.
            let refused = u32::try_from(seen.faces).unwrap_or(u32::MAX);
            self.refused_that_day = self.refused_that_day.saturating_add(refused);
            self.refused_in_a_row = self.refused_in_a_row.saturating_add(refused);
        }
        if limits.doubts == u32::MAX {
            return seen.threshold;
        }
        // The threshold does not depend on what is compared: otherwise it would be an answer itself.
        let is_spent = self.is_doubted_too_often(limits, now);
        let regained = millis(limits.doubt_regained);
        if clear && limits.clear_a_doubt > 0 && self.undoubted_ms > now.0 {
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

    /// How long until the next comparison.
    pub fn wait(&self, limits: &ScoreLimits, now: Timestamp) -> Option<Duration> {
        let beyond = self.beyond(limits)?;
        let times = 1u32
            .checked_shl(beyond / DOUBLED_EVERY)
            .unwrap_or(u32::MAX)
            .max(1);
        let pause = limits.pause.saturating_mul(times).min(limits.pause_max);
        let since = Duration::from_millis(now.0.saturating_sub(self.last_ms));
        pause.checked_sub(since).filter(|wait| !wait.is_zero())
    }

    pub fn to_row(&self) -> Vec<u8> {
        let mut row = vec![FORMAT];
        row.extend_from_slice(&self.day.to_le_bytes());
        row.extend_from_slice(&self.refused_that_day.to_le_bytes());
        row.extend_from_slice(&self.refused_in_a_row.to_le_bytes());
        row.extend_from_slice(&self.last_ms.to_le_bytes());
        row.extend_from_slice(&self.undoubted_ms.to_le_bytes());
        for (asker, told) in &self.told {
            row.extend_from_slice(&asker.to_le_bytes());
            row.extend_from_slice(&told.to_le_bytes());
        }
        row
    }

    pub fn from_row(row: &[u8]) -> Option<Self> {
        let (format, mut rest) = row.split_first()?;
        let has_doubts = match *format {
            FORMAT => true,
            FORMAT_1 => false,
            _ => return None,
        };
        let mut counts = Self {
            day: u32::from_le_bytes(take(&mut rest)?),
            refused_that_day: u32::from_le_bytes(take(&mut rest)?),
            refused_in_a_row: u32::from_le_bytes(take(&mut rest)?),
            last_ms: u64::from_le_bytes(take(&mut rest)?),
            undoubted_ms: match has_doubts {
                true => u64::from_le_bytes(take(&mut rest)?),
                false => 0,
            },
            told: Vec::new(),
        };
        while !rest.is_empty() {
            let asker = u64::from_le_bytes(take(&mut rest)?);
            counts.told.push((asker, u32::from_le_bytes(take(&mut rest)?)));
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
        counts.told = vec![(0, 0); CALLERS_MAX];
        counts
    }
}

pub(super) fn millis(time: Duration) -> u64 {
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
}

impl<'a> Likeness<'a> {
    /// Of one face.
    pub fn of_one(similarity: &'a f32, threshold: f32) -> Self {
        Self {
            faces: 1,
            similarities: std::slice::from_ref(similarity),
            threshold,
        }
    }

    /// Beyond doubt the person.
    fn is_clear(&self, limits: &ScoreLimits) -> bool {
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

    fn after(refused: u32) -> Counts {
        Counts {
            day: 1,
            refused_that_day: refused,
            refused_in_a_row: refused,
            last_ms: DAY_MS,
            undoubted_ms: 5 * DAY_MS,
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
        for row in [&[][..], &[3], &[FORMAT], &after(5).to_row()[..30]] {
            assert_eq!(Counts::from_row(row), None);
        }
        let limits = ScoreLimits::default();
        let spent = Counts::spent(&limits, Timestamp(DAY_MS));
        assert!(spent.wait(&limits, Timestamp(DAY_MS)).is_some());
        assert_eq!(strictness(&mut spent.clone(), &limits, DAY_MS, 0.9), "strict");
    }

    #[test]
    fn a_row_from_before_doubts_is_read_without_any() {
        let mut row = vec![FORMAT_1];
        row.extend_from_slice(&after(5).to_row()[1..21]);
        row.extend_from_slice(&after(5).to_row()[29..]);
        let undoubted_ms = 0;
        assert_eq!(
            Counts::from_row(&row),
            Some(Counts {
                undoubted_ms,
                ..after(5)
            })
        );
    }

    const THRESHOLD: f32 = 0.4;

    fn strictness(counts: &mut Counts, limits: &ScoreLimits, now_ms: u64, similarity: f32) -> &'static str {
        let seen = Likeness::of_one(&similarity, THRESHOLD);
        match counts.named(limits, Timestamp(now_ms), &seen) {
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
        let (limits, mut counts) = (ScoreLimits::default(), Counts::default());
        let seen = |similarities| Likeness {
            faces: 10,
            similarities,
            threshold: THRESHOLD,
        };
        let mut compared = |similarities| counts.compared(&limits, Timestamp(DAY_MS), &seen(similarities));
        // Somebody among them is the person, and nobody was refused.
        assert_eq!(compared(&[0.9]), Ok(THRESHOLD));
        assert_eq!([compared(&[]), compared(&[0.41])], [Ok(THRESHOLD); 2]);
        assert_eq!(compared(&[]), Err(limits.pause), "that were twenty");
        assert_eq!([counts.refused_that_day, counts.refused_in_a_row], [20; 2]);
    }
}
