//! Enrolling crafted faces and asking which enrolled people may be one: a yes or no about a stored face for each face
//! that is enrolled, with nothing but a threshold of the attacker's choice.

use std::time::Duration;

use likeness_engine::ScoreLimits;

use crate::attack::batch::Batch;
use crate::attack::knowledge::{Answer, Knowledge};
use crate::attack::rules::{DAY, Rules};
use crate::attack::verifying::Outcome;
use crate::attack::victim::{Craft, STORED_NOISE, THRESHOLD, Victim, World, hit};
use crate::population::Normals;

/// Where a yes is rarer than by so many standard deviations, a no is nearly certain and says nearly nothing.
const NO_SAYS_LITTLE: f64 = 2.9;

/// How the attacker asks for duplicates.
#[derive(Clone)]
pub struct Pairing {
    /// The rules' numbers.
    pub limits: ScoreLimits,
    /// Faces that are enrolled in a day.
    pub faces_a_day: usize,
    /// They come in so many batches; after each the attacker asks.
    pub batches_a_day: usize,
    /// How long the attack lasts.
    pub days: u64,
    /// At which thresholds the attacker asks.
    pub asks: Asks,
}

/// At which thresholds the attacker may ask.
#[derive(Clone)]
pub enum Asks {
    /// At any from the floor on, so many times a batch.
    Anywhere {
        /// The least similarity that is a threshold.
        floor: f64,
        /// Calls after each batch.
        calls: usize,
    },
    /// At these steps alone, once a batch: at the step at which a yes is as rare as wanted.
    Steps {
        /// The similarities of the steps.
        steps: Vec<f64>,
        /// Standard deviations between what is expected of a crafted face and the threshold.
        rarity: f64,
    },
}

impl Pairing {
    /// Attacks one person after a first hit; `asked` of the outcome are the faces that were enrolled.
    pub fn attack<R: Rules>(
        &self,
        world: &World,
        victim: &Victim,
        person: u64,
        craft: &Craft,
        rules: impl Fn(ScoreLimits) -> R,
    ) -> Outcome {
        let mut known = Knowledge::new(&world.prior, STORED_NOISE);
        known.learn(
            &hit(&world.population, person, victim),
            Answer::Reached(true, THRESHOLD),
        );
        let (mut draw, mut rules) = (Normals::new(&[person, 3]), rules(self.limits.clone()));
        let (mut asked, mut yes) = (0, 0);
        for batch in 0..self.days * self.batches_a_day as u64 {
            let now = Duration::from_secs(batch * DAY / self.batches_a_day as u64);
            let faces = self.faces_a_day / self.batches_a_day;
            asked += faces;
            yes += match &self.asks {
                Asks::Anywhere { floor, calls } => {
                    anywhere(&mut known, victim, craft, faces, (*floor, *calls), &mut draw)
                }
                Asks::Steps { steps, rarity } => {
                    let (step, decided) = self.step(steps, &rules, now, craft.comes_to(known.best().reach));
                    let names = |similarity| similarity >= step && rules.paired(now, similarity, step);
                    at_a_step(
                        &mut known,
                        victim,
                        craft,
                        faces,
                        (decided, *rarity),
                        &mut draw,
                        names,
                    )
                }
            };
        }
        Outcome::judged(victim, &known.guess(), asked, yes)
    }

    /// The strictest step that the best face is expected to reach, or else the laxest; and from where on it names the
    /// person, which the attacker is taken to know.
    fn step(&self, steps: &[f64], rules: &impl Rules, now: Duration, reach: f64) -> (f64, f64) {
        let decided = steps
            .iter()
            .map(|step| match rules.clone().paired(now, *step, *step) {
                true => (*step, *step),
                false => (*step, step + f64::from(self.limits.doubt_margin)),
            });
        let (mut best, mut least) = (None, (f64::INFINITY, f64::INFINITY));
        for (step, from) in decided {
            if from < reach && best.is_none_or(|(_, best)| from > best) {
                best = Some((step, from));
            }
            if from < least.1 {
                least = (step, from);
            }
        }
        best.unwrap_or(least)
    }
}

/// A batch of faces, each measured between the thresholds of so many calls; answers how many reached the lowest.
fn anywhere(
    known: &mut Knowledge<'_>,
    victim: &Victim,
    craft: &Craft,
    faces: usize,
    (floor, calls): (f64, usize),
    draw: &mut Normals,
) -> usize {
    // A little above the floor, so that most of them are measured from both sides.
    let batch = Batch::of(known, craft.aimed(floor), -0.5, draw);
    let (mean, deviation) = (craft.comes_to(batch.angle.expected), batch.angle.deviation);
    // As often between any two of them as between any others.
    let quantile = |call: usize| {
        let middle = (calls as f64 - 1.0) / 2.0;
        (mean + (call as f64 - middle) * 2.0 * deviation / calls as f64).max(floor)
    };
    let mut reached = 0;
    for _ in 0..faces {
        let face = batch.any(craft, draw);
        let similarity = victim.stored_similarity(&face);
        let passed = (0..calls).filter(|call| similarity >= quantile(*call)).count();
        reached += usize::from(passed > 0);
        let from = passed.checked_sub(1).map_or(f64::NEG_INFINITY, quantile);
        let below = if passed < calls {
            quantile(passed)
        } else {
            f64::INFINITY
        };
        known.learn(&face, Answer::Between(from, below));
    }
    reached
}

/// A batch of faces of which a few are named, at one step; answers how many.
fn at_a_step(
    known: &mut Knowledge<'_>,
    victim: &Victim,
    craft: &Craft,
    faces: usize,
    (decided, rarity): (f64, f64),
    draw: &mut Normals,
    mut names: impl FnMut(f64) -> bool,
) -> usize {
    let batch = Batch::of(known, craft.aimed(decided), rarity, draw);
    let (mut no, mut named, mut left_out) = (Vec::new(), 0, false);
    for _ in 0..faces {
        let face = batch.any(craft, draw);
        let similarity = victim.stored_similarity(&face);
        if names(similarity) {
            named += 1;
            known.learn(&face, Answer::Reached(true, decided));
        } else {
            left_out |= similarity >= decided;
            no.push(face);
        }
    }
    // When pairs were left out, a face that is not named says nothing; the attacker is taken to know.
    if !left_out && batch.angle.rarity < NO_SAYS_LITTLE {
        no.iter()
            .for_each(|face| known.learn(face, Answer::Reached(false, decided)));
    }
    named
}

#[cfg(test)]
mod tests {
    use likeness_engine::bench::Pace;

    use super::*;
    use crate::attack::rules::Shared;
    use crate::attack::victim::Sends;

    #[test]
    fn pairs_at_any_threshold_bring_the_face_out_and_counted_pairs_at_steps_a_part_of_it() {
        let world = World::new(11);
        let victim = Victim::of(&world.population, 0, 0);
        let craft = Craft::new(&world.population, Sends::Photographs);
        let anywhere = Pairing {
            limits: ScoreLimits::default(),
            faces_a_day: 1_000,
            batches_a_day: 10,
            days: 1,
            asks: Asks::Anywhere {
                floor: 0.428,
                calls: 3,
            },
        };
        let without = anywhere.attack(&world, &victim, 0, &craft, Shared::new);
        assert!(without.cosine > 0.85, "{without:?}");
        let steps = Pairing {
            asks: Asks::Steps {
                steps: vec![0.428, 0.62],
                rarity: 2.0,
            },
            ..anywhere
        };
        let with = steps.attack(&world, &victim, 0, &craft, Pace::new);
        assert!(with.cosine < without.cosine - 0.1, "{with:?} {without:?}");
        assert!(
            with.yes <= ScoreLimits::default().duplicates_a_day as usize,
            "{with:?}"
        );
    }
}
