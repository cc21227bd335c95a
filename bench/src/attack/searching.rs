//! Searching among all, where a no is not counted: the attacker asks questions to which yes is a rare answer, so that each
//! yes that is counted says as much as it can.

use std::time::Duration;

use likeness_engine::ScoreLimits;

use crate::attack::batch::Batch;
use crate::attack::gauss;
use crate::attack::knowledge::{Answer, Knowledge};
use crate::attack::rules::{DAY, Rules, Told};
use crate::attack::verifying::Outcome;
use crate::attack::victim::{Craft, PROBE_NOISE, THRESHOLD, Victim, World, hit};
use crate::population::Normals;

/// Rarer than by so many standard deviations is out of reach of a day's searches.
const OUT_OF_REACH: f64 = 4.3;
/// Searches for faces that are crafted by the same knowledge: at least, and at most.
const SEARCHES_OF_A_BATCH: (f64, f64) = (300.0, 2_000.0);
/// Answers that are taken in. Where more are given the face is out, and more say little.
const ANSWERS_MAX: usize = 250;
/// How often in a day an attacker looks again who sees the threshold out of reach.
const LOOKS_A_DAY: u32 = 24;
/// When so many yes were to be expected and none came, the attacker expected too much, and asks less rare questions.
const EXPECTED_MAX: f64 = 2.0;
const EASED_BY: f64 = 0.25;
const KEY: u64 = 1;

/// How the attacker searches.
#[derive(Clone)]
pub struct Searching {
    /// The rules' numbers.
    pub limits: ScoreLimits,
    /// Searches of all keys of the account.
    pub searches_a_day: u32,
    /// How long the attack lasts.
    pub days: u64,
    /// Standard deviations between what is expected of a crafted face and the threshold.
    pub rarity: f64,
}

impl Searching {
    /// Attacks one person after a first hit.
    pub fn attack<R: Rules>(
        &self,
        world: &World,
        victim: &Victim,
        person: u64,
        craft: &Craft,
        rules: impl Fn(ScoreLimits) -> R,
    ) -> Outcome {
        let mut known = Knowledge::new(&world.prior, PROBE_NOISE);
        known.learn(
            &hit(&world.population, person, victim),
            Answer::Reached(true, THRESHOLD),
        );
        let (mut draw, mut rules) = (Normals::new(&[person, 2]), rules(self.limits.clone()));
        let (mut told, mut asked, mut yes) = (Told::default(), 0, 0);
        let (mut expected, mut eased, mut answers) = (0.0, 0.0, 0);
        for day in 0..self.days {
            let mut left = self.searches_a_day;
            while left > 0 && answers < ANSWERS_MAX {
                let spent = u64::from(self.searches_a_day - left);
                let now = Duration::from_secs(day * DAY + spent * DAY / u64::from(self.searches_a_day));
                let threshold = rules.clone().named(KEY, now, THRESHOLD, THRESHOLD);
                let batch = Batch::of(&known, craft.aimed(threshold), self.rarity - eased, &mut draw);
                if batch.angle.rarity > OUT_OF_REACH {
                    left = left.saturating_sub((self.searches_a_day / LOOKS_A_DAY).max(1));
                    continue;
                }
                let rate = gauss::above(batch.angle.rarity);
                let enough = (EXPECTED_MAX / rate).clamp(SEARCHES_OF_A_BATCH.0, SEARCHES_OF_A_BATCH.1) as u32;
                let tried = left.min(enough);
                let found = batch.search(victim, threshold, tried, craft, &mut draw);
                left -= found.searches;
                asked += found.searches as usize;
                expected += f64::from(found.searches) * rate;
                for face in &found.no {
                    known.learn(face, Answer::Reached(false, threshold));
                }
                let Some(face) = found.yes else {
                    if expected >= EXPECTED_MAX {
                        (expected, eased) = (0.0, eased + EASED_BY);
                    }
                    continue;
                };
                (expected, eased) = (0.0, 0.0);
                let similarity = victim.similarity(&face);
                let decided = rules.named(KEY, now, similarity, THRESHOLD);
                answers += 1;
                yes += usize::from(similarity >= decided);
                let is_told = similarity >= decided && told.may(KEY, now, self.limits.told_a_day);
                let step = f64::from(self.limits.step).max(1e-3);
                let answer = match is_told {
                    true => Answer::Told((similarity / step).round() * step),
                    false => Answer::Reached(similarity >= decided, decided),
                };
                known.learn(&face, answer);
            }
        }
        Outcome::judged(victim, &known.guess(), asked, yes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attack::rules::Shared;
    use crate::attack::victim::Sends;

    #[test]
    fn a_few_rare_yes_say_more_than_as_many_likely_ones() {
        let world = World::new(11);
        let craft = Craft::new(&world.population, Sends::Features);
        let attacked = |searches_a_day, rarity| {
            let asking = Searching {
                limits: ScoreLimits::default(),
                searches_a_day,
                days: 1,
                rarity,
            };
            let each = (0..4).map(|person| {
                let victim = Victim::of(&world.population, person, 0);
                asking.attack(&world, &victim, person, &craft, Shared::new).cosine
            });
            each.sum::<f64>() / 4.0
        };
        let (likely, rare) = (attacked(10, 0.0), attacked(10_000, 2.7));
        assert!(rare > likely + 0.1, "{rare:?} {likely:?}");
    }
}
