//! The cost of the limits for the protected person: alone, beside polling keys, and beside an attacker that uses up every
//! borderline accept.

use std::time::Duration;

use crate::attack::rules::{DAY, Rules};
use crate::attack::victim::{THRESHOLD, Victim, World};
use crate::population::Normals;

/// The person's own key.
const OWN_KEY: u64 = 0;
/// A key that polls asks again after this time, or when it is told to.
const POLL: Duration = Duration::from_secs(1);
/// What a key that polls asks about: the face of another person.
const STRANGER: f64 = 0.0;
/// A face that is recognised in doubt whatever the noise.
const IN_DOUBT: f64 = THRESHOLD + 0.05;

/// What works against a person.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Against {
    /// Nothing: the person is the only caller.
    Nothing,
    /// So many keys ask about strangers' faces again and again, as soon as they are answered.
    Polling(u64),
    /// One key has a face that is recognised in doubt, and asks about it as soon as it is answered.
    Doubting,
}

/// What became of a person's own calls.
#[derive(Clone, Copy, Default, Debug)]
pub struct Served {
    /// All of them.
    pub calls: usize,
    /// Refused for lack of a turn.
    pub slowed: usize,
    /// Above the threshold, and not recognised for lack of doubts.
    pub doubted: usize,
    /// The attackers' comparisons that were answered.
    pub spent: usize,
}

impl Served {
    /// Together with another's.
    pub fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.slowed += other.slowed;
        self.doubted += other.doubted;
        self.spent += other.spent;
    }
}

/// A person's calls, `daily` of them a day in equal times with similarities as given.
pub fn served(mut rules: impl Rules, similarities: &[f64], daily: u64, against: Against) -> Served {
    let mut served = Served::default();
    let (keys, similarity) = match against {
        Against::Nothing => (0, STRANGER),
        Against::Polling(keys) => (keys, STRANGER),
        Against::Doubting => (1, IN_DOUBT),
    };
    let mut draw = Normals::new(&[keys, daily]);
    let mut moment = |within: Duration| within.mul_f64(f64::from(draw.uniform() + 1.0) / 2.0);
    let mut polls: Vec<Duration> = (0..keys).map(|_| moment(POLL)).collect();
    let between = Duration::from_secs(DAY) / u32::try_from(daily).expect("few calls a day");
    for (at, own) in (0u32..).zip(similarities) {
        let now = between * at + moment(between);
        poll(&mut rules, &mut polls, now, similarity, &mut served);
        served.calls += 1;
        match rules.compared(OWN_KEY, now, *own, THRESHOLD) {
            Err(_) => served.slowed += 1,
            Ok(from) => served.doubted += usize::from((THRESHOLD..from).contains(own)),
        }
    }
    served
}

/// All that the attackers ask until a moment.
fn poll(
    rules: &mut impl Rules,
    polls: &mut [Duration],
    until: Duration,
    similarity: f64,
    served: &mut Served,
) {
    loop {
        let next = polls.iter().enumerate().min_by_key(|(_, at)| **at);
        let Some((key, now)) = next.map(|(key, at)| (key, *at)).filter(|(_, at)| *at < until) else {
            return;
        };
        polls[key] = now
            + match rules.compared(key as u64 + 1, now, similarity, THRESHOLD) {
                Ok(_) => {
                    served.spent += 1;
                    POLL
                }
                Err(wait) => wait.max(POLL),
            };
    }
}

/// How similar a person's photographs are to the enrolled one.
pub fn photographs(world: &World, person: u64, count: usize) -> Vec<f64> {
    let victim = Victim::of(&world.population, person, 0);
    let photographs = (1..=count as u64).map(|n| victim.similarity(&world.population.unit_values(person, n)));
    photographs.collect()
}

#[cfg(test)]
mod tests {
    use likeness_engine::ScoreLimits;

    use super::*;
    use crate::attack::rules::Shared;

    #[test]
    fn where_all_keys_share_a_pause_one_that_polls_keeps_the_person_out() {
        let rules = Shared::new(ScoreLimits::default());
        let served = served(rules, &[0.8; 118], 118, Against::Polling(1));
        assert!(served.slowed > 110, "{served:?}");
    }

    #[test]
    fn a_person_who_is_recognised_and_is_the_only_caller_is_not_slowed_down() {
        let rules = Shared::new(ScoreLimits::default());
        let served = served(rules, &[0.8; 200], 20, Against::Nothing);
        assert_eq!((served.slowed, served.doubted, served.calls), (0, 0, 200));
    }
}
