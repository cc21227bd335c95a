//! What an attacker runs into: the engine's own meter, and what there would be without its defences.

use std::collections::HashMap;
use std::time::Duration;

use likeness_engine::ScoreLimits;
use likeness_engine::bench::Pace;

/// A day, in seconds.
pub const DAY: u64 = 24 * 3600;

/// One person's limits.
pub trait Rules: Clone + Send {
    /// A comparison of a key's, so long after the beginning of a day: from which similarity on it is the person.
    ///
    /// # Errors
    /// How long until that key's next.
    fn compared(
        &mut self,
        key: u64,
        since: Duration,
        similarity: f64,
        threshold: f64,
    ) -> Result<f64, Duration>;

    /// A search that reaches the person: from which similarity on it names the person.
    fn named(&mut self, key: u64, since: Duration, similarity: f64, threshold: f64) -> f64;

    /// Whether a pair with the person is named by a search for duplicates.
    fn paired(&mut self, since: Duration, similarity: f64, threshold: f64) -> bool;
}

impl Rules for Pace {
    fn compared(
        &mut self,
        key: u64,
        since: Duration,
        similarity: f64,
        threshold: f64,
    ) -> Result<f64, Duration> {
        Self::compared(self, key, since, similarity as f32, threshold as f32).map(f64::from)
    }

    fn named(&mut self, key: u64, since: Duration, similarity: f64, threshold: f64) -> f64 {
        Self::named(self, key, since, similarity as f32, threshold as f32).into()
    }

    fn paired(&mut self, since: Duration, similarity: f64, threshold: f64) -> bool {
        Self::paired(self, since, similarity as f32, threshold as f32)
    }
}

/// The same rules with one pause that all keys share, counters for each copy of a person, and pairs that are
/// not counted.
#[derive(Clone)]
pub struct Shared {
    limits: ScoreLimits,
    day: u64,
    refused_that_day: u32,
    refused_in_a_row: u32,
    last: Duration,
    undoubted: Duration,
}

/// The pause doubles with so many more refused comparisons.
const DOUBLED_EVERY: u32 = 10;

impl Shared {
    /// Of a person who was never compared.
    pub fn new(limits: ScoreLimits) -> Self {
        Self {
            limits,
            day: 0,
            refused_that_day: 0,
            refused_in_a_row: 0,
            last: Duration::ZERO,
            undoubted: Duration::ZERO,
        }
    }

    fn roll(&mut self, since: Duration) {
        let day = since.as_secs() / DAY;
        if day > self.day {
            (self.day, self.refused_that_day) = (day, 0);
        }
    }

    fn pause(&self) -> Option<Duration> {
        let of_day = self.refused_that_day.checked_sub(self.limits.refused_a_day);
        let beyond = of_day.max(self.refused_in_a_row.checked_sub(self.limits.refused_in_a_row))?;
        let times = 1u32
            .checked_shl(beyond / DOUBLED_EVERY)
            .unwrap_or(u32::MAX)
            .max(1);
        Some(self.limits.pause.saturating_mul(times).min(self.limits.pause_max))
    }

    fn decided(&mut self, since: Duration, similarity: f64, threshold: f64) -> f64 {
        let margin = f64::from(self.limits.doubt_margin);
        let regained = self.limits.doubt_regained;
        let is_clear = similarity >= threshold + margin;
        if is_clear {
            self.refused_in_a_row = 0;
        } else {
            self.refused_that_day += 1;
            self.refused_in_a_row += 1;
        }
        if self.limits.doubts == u32::MAX {
            return threshold;
        }
        let is_spent = self.undoubted.max(since) + regained > since + regained * self.limits.doubts;
        if is_clear && self.limits.clear_a_doubt > 0 && self.undoubted > since {
            let sooner = regained / self.limits.clear_a_doubt;
            self.undoubted = self.undoubted.saturating_sub(sooner).max(since);
        }
        if is_spent {
            return threshold + margin;
        }
        if similarity >= threshold && !is_clear {
            self.undoubted = self.undoubted.max(since) + regained;
        }
        threshold
    }
}

impl Rules for Shared {
    fn compared(
        &mut self,
        _: u64,
        since: Duration,
        similarity: f64,
        threshold: f64,
    ) -> Result<f64, Duration> {
        self.roll(since);
        let pause = self.pause();
        if let Some(pause) = pause
            && let wait @ 1.. = (self.last + pause).saturating_sub(since).as_millis()
        {
            return Err(Duration::from_millis(wait as u64));
        }
        if pause.is_some() || similarity < threshold + f64::from(self.limits.doubt_margin) {
            self.last = since;
        }
        Ok(self.decided(since, similarity, threshold))
    }

    fn named(&mut self, _: u64, since: Duration, similarity: f64, threshold: f64) -> f64 {
        self.roll(since);
        self.decided(since, similarity, threshold)
    }

    fn paired(&mut self, _: Duration, similarity: f64, threshold: f64) -> bool {
        similarity >= threshold
    }
}

/// How many similarities were told to whom that day.
#[derive(Default)]
pub struct Told {
    day: u64,
    counts: HashMap<u64, u32>,
}

impl Told {
    /// How many were told to this caller that day.
    pub fn of(&mut self, caller: u64, since: Duration) -> u32 {
        self.roll(since);
        self.counts.get(&caller).copied().unwrap_or(0)
    }

    fn roll(&mut self, since: Duration) {
        let today = since.as_secs() / DAY;
        if self.day != today {
            self.counts.clear();
            self.day = today;
        }
    }

    /// Whether one more may be told to this caller.
    pub fn may(&mut self, caller: u64, since: Duration, a_day: u32) -> bool {
        self.roll(since);
        let count = self.counts.entry(caller).or_default();
        *count += 1;
        *count <= a_day
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_that_polls_uses_the_turns_of_all_where_they_share_a_pause() {
        let mut rules = Shared::new(ScoreLimits::default());
        let at = Duration::from_secs;
        for second in 0..20 {
            assert!(rules.compared(1, at(second), 0.0, 0.4).is_ok());
        }
        assert_eq!(rules.compared(1, at(20), 0.0, 0.4), Err(at(59)));
        assert_eq!(rules.compared(2, at(20), 0.9, 0.4), Err(at(59)));
        assert!(rules.compared(1, at(79), 0.0, 0.4).is_ok());
        assert_eq!(rules.compared(2, at(80), 0.9, 0.4), Err(at(59)));
    }

    #[test]
    fn five_doubts_are_lent_and_then_the_threshold_is_higher_until_time_goes_by() {
        let mut rules = Shared::new(ScoreLimits::default());
        let decided: Vec<_> = (0..6)
            .map(|_| rules.named(1, Duration::ZERO, 0.41, 0.4))
            .collect();
        assert_eq!(decided[..5], [0.4; 5]);
        assert!(decided[5] > 0.54);
        assert_eq!(rules.named(1, Duration::from_secs(DAY), 0.41, 0.4), 0.4);
    }
}
