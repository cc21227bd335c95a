//! Comparing by PersonID: VerifyPerson, the copies that CopyPerson makes, and the own-person check of AddFaces.

use std::time::Duration;

use likeness_engine::ScoreLimits;

use crate::attack::knowledge::{Answer, Knowledge, unit};
use crate::attack::rules::{DAY, Rules, Told};
use crate::attack::victim::{Craft, PROBE_NOISE, THRESHOLD, Victim, World, hit};
use crate::population::Normals;

/// The person's own key, of no attacker.
const OWN_KEY: u64 = 0;
/// The person's own calls in a day, none of them in doubt: they give the attacker most.
const OWN_A_DAY: u32 = 4;
const OWN_SIMILARITY: f64 = 0.8;
/// How long an attacker waits who sees every threshold out of reach.
const PATIENCE: Duration = Duration::from_secs(3600);
/// A yes that is rarer than by so many standard deviations is out of reach of single comparisons.
const OUT_OF_REACH: f64 = 2.5;
/// Answers of a day that are taken in. Where more are given the face is out, and more say little.
const ANSWERS_A_DAY_MAX: u32 = 1_000;

/// How the attacker compares.
#[derive(Clone)]
pub struct Verifying {
    /// The rules' numbers.
    pub limits: ScoreLimits,
    /// API keys that work together.
    pub keys: u64,
    /// Records of the person that have counters of their own.
    pub records: usize,
    /// Callers who are told similarities separately.
    pub told_to: u64,
    /// After a yes in doubt the same call has so many comparisons that are beyond doubt.
    pub repeats: u32,
    /// How long the attack lasts.
    pub days: u64,
    /// Standard deviations between what is expected of a crafted face and the threshold.
    pub rarity: f64,
}

/// What came of an attack on one person.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Questions that were answered.
    pub asked: usize,
    /// Of these the ones that were answered with yes.
    pub yes: usize,
    /// Of the guess with the enrolled features.
    pub cosine: f64,
    /// The part of the person's other photographs as which the guess is accepted.
    pub accepted: f64,
}

impl Outcome {
    /// Of a guess.
    pub fn judged(victim: &Victim, guess: &[f32], asked: usize, yes: usize) -> Self {
        let (cosine, accepted) = victim.judged(guess);
        Self {
            asked,
            yes,
            cosine,
            accepted,
        }
    }
}

/// Where and when the attacker may compare next.
struct Turn {
    record: usize,
    key: u64,
    threshold: f64,
    /// Similarities told to that caller that day.
    told: u32,
}

struct Server<R> {
    records: Vec<R>,
    told: Told,
    now: Duration,
    own: Duration,
    asked_today: u32,
}

impl<R: Rules> Server<R> {
    fn new(asking: &Verifying, rules: impl Fn(ScoreLimits) -> R) -> Self {
        Self {
            records: (0..asking.records)
                .map(|_| rules(asking.limits.clone()))
                .collect(),
            told: Told::default(),
            now: Duration::ZERO,
            own: Duration::ZERO,
            asked_today: 0,
        }
    }

    /// The next moment at which a comparison is answered; none when the time is over.
    fn turn(&mut self, asking: &Verifying) -> Option<Turn> {
        let end = Duration::from_secs(asking.days * DAY);
        while self.now < end {
            while self.own <= self.now {
                // A refusal costs the person a call, and the attacker nothing.
                let _ = self.records[0].compared(OWN_KEY, self.own, OWN_SIMILARITY, THRESHOLD);
                self.own += Duration::from_secs(DAY) / OWN_A_DAY;
            }
            if self.asked_today >= ANSWERS_A_DAY_MAX {
                self.wait(until_tomorrow(self.now));
                continue;
            }
            let mut turns = Vec::new();
            let mut wait = until_tomorrow(self.now);
            for record in 0..self.records.len() {
                for key in 1..=asking.keys {
                    // `threshold` in replies, and the public rules, tell the attacker what would be decided by.
                    match self.records[record]
                        .clone()
                        .compared(key, self.now, -1.0, THRESHOLD)
                    {
                        Ok(threshold) => turns.push(Turn {
                            record,
                            key,
                            threshold,
                            told: self.told.of(asking.caller(record, key), self.now),
                        }),
                        Err(later) => wait = wait.min(later.max(Duration::from_millis(1))),
                    }
                }
            }
            let best = |a: &Turn, b: &Turn| a.threshold.total_cmp(&b.threshold).then(a.told.cmp(&b.told));
            if let Some(best) = turns.into_iter().min_by(best) {
                return Some(best);
            }
            self.wait(wait);
        }
        None
    }

    fn wait(&mut self, wait: Duration) {
        let today = self.now.as_secs() / DAY;
        self.now += wait;
        if self.now.as_secs() / DAY > today {
            self.asked_today = 0;
        }
    }
}

fn until_tomorrow(now: Duration) -> Duration {
    Duration::from_secs(DAY) - Duration::from_secs(now.as_secs() % DAY)
}

impl Verifying {
    /// To whom similarities are told, as they are counted.
    fn caller(&self, record: usize, key: u64) -> u64 {
        key.min(self.told_to) + record as u64 * self.keys
    }

    /// Attacks one person after a first hit, and answers what was learnt as well.
    pub fn attack<'w, R: Rules>(
        &self,
        world: &'w World,
        victim: &Victim,
        person: u64,
        craft: &Craft,
        rules: impl Fn(ScoreLimits) -> R,
    ) -> (Outcome, Knowledge<'w>) {
        let mut known = Knowledge::new(&world.prior, PROBE_NOISE);
        known.learn(
            &hit(&world.population, person, victim),
            Answer::Reached(true, THRESHOLD),
        );
        let mut draw = Normals::new(&[person, 1]);
        let mut server = Server::new(self, rules);
        let (mut asked, mut yes) = (0, 0);
        while let Some(turn) = server.turn(self) {
            let best = known.best();
            let across = known.unknown(&best, &mut draw);
            let angle = known.angle(&best, &across, craft.aimed(turn.threshold), self.rarity);
            if turn.threshold > THRESHOLD && angle.rarity > OUT_OF_REACH {
                server.wait(PATIENCE);
                continue;
            }
            let wanted = unit(angle.between(&best.along, &across.direction));
            let face = craft.made(wanted, &best.along, &mut draw);
            let similarity = victim.similarity(&face);
            let rules = &mut server.records[turn.record];
            let Ok(threshold) = rules.compared(turn.key, server.now, similarity, THRESHOLD) else {
                server.wait(Duration::from_secs(1));
                continue;
            };
            asked += 1;
            server.asked_today += 1;
            let is_yes = similarity >= threshold;
            yes += usize::from(is_yes);
            let told_a_day = self.limits.told_a_day;
            let is_told = is_yes
                && server
                    .told
                    .may(self.caller(turn.record, turn.key), server.now, told_a_day);
            let step = f64::from(self.limits.step).max(1e-3);
            known.learn(
                &face,
                match is_told {
                    true => Answer::Between(
                        (similarity / step - 0.5).round() * step,
                        (similarity / step + 0.5).round() * step,
                    ),
                    false => Answer::Reached(is_yes, threshold),
                },
            );
            server.repeat(self, &turn, is_yes && threshold == THRESHOLD);
            server.wait(Duration::from_secs(1));
        }
        (Outcome::judged(victim, &known.guess(), asked, yes), known)
    }
}

impl<R: Rules> Server<R> {
    /// The same face again in the same call, beyond doubt like the one before it.
    fn repeat(&mut self, asking: &Verifying, turn: &Turn, in_doubt: bool) {
        let repeats = if in_doubt { asking.repeats } else { 0 };
        for _ in 0..repeats {
            if self.records[turn.record]
                .compared(turn.key, self.now, 1.0, THRESHOLD)
                .is_err()
            {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use likeness_engine::bench::Pace;

    use super::*;
    use crate::attack::rules::Shared;
    use crate::attack::victim::Sends;

    fn one() -> Verifying {
        Verifying {
            limits: ScoreLimits::default(),
            keys: 1,
            records: 1,
            told_to: 1,
            repeats: 0,
            days: 1,
            rarity: 0.7,
        }
    }

    fn attacked<R: Rules>(asking: &Verifying, rules: impl Fn(ScoreLimits) -> R) -> Outcome {
        let world = World::new(11);
        let victim = Victim::of(&world.population, 0, 0);
        let craft = Craft::new(&world.population, Sends::Photographs);
        asking.attack(&world, &victim, 0, &craft, rules).0
    }

    #[test]
    fn copies_with_counters_of_their_own_multiply_the_answers() {
        let copies = Verifying { records: 11, ..one() };
        let (apart, together) = (attacked(&copies, Shared::new), attacked(&one(), Pace::new));
        assert!(apart.asked > 5 * together.asked, "{apart:?} {together:?}");
        assert!(
            apart.cosine > 0.9 && apart.cosine > together.cosine + 0.1,
            "{apart:?} {together:?}"
        );
    }

    #[test]
    fn faces_of_a_call_that_regain_doubts_multiply_the_yes() {
        let repeats = Verifying {
            repeats: 19,
            rarity: 0.0,
            ..one()
        };
        let (with, without) = (attacked(&repeats, Shared::new), attacked(&one(), Shared::new));
        assert!(with.yes > without.yes + 5, "{with:?} {without:?}");
    }

    #[test]
    fn an_attack_ends_when_its_time_is_over() {
        let none = Verifying { days: 0, ..one() };
        assert_eq!(attacked(&none, Shared::new).asked, 0);
    }
}
