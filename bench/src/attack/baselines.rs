//! What answers give away that nothing limits: the measure of every limit.

use crate::attack::knowledge::{Answer, Knowledge, unit};
use crate::attack::verifying::Outcome;
use crate::attack::victim::{FACES_FROM, PROBE_NOISE, THRESHOLD, Victim, World, hit};
use crate::population::Normals;

/// Answers about real faces.
#[derive(Clone, Copy)]
pub enum Real {
    /// Every similarity, in steps of so much.
    Told(f64),
    /// What is above the floor.
    Floored,
}

/// Asks about so many real faces.
pub fn real(world: &World, victim: &Victim, person: u64, count: u64, real: Real) -> Outcome {
    let mut known = Knowledge::new(&world.prior, PROBE_NOISE);
    let mut yes = 0;
    for number in 0..count {
        let face = world
            .population
            .unit_values(FACES_FROM + person * count + number, 0);
        let similarity = victim.similarity(&face);
        yes += usize::from(similarity >= THRESHOLD);
        let answer = match real {
            Real::Told(step) if step > 0.0 => {
                let step_of = (similarity / step).round();
                Answer::Between((step_of - 0.5) * step, (step_of + 0.5) * step)
            }
            Real::Floored if similarity < THRESHOLD => Answer::Reached(false, THRESHOLD),
            _ => Answer::Told(similarity),
        };
        known.learn(&face, answer);
    }
    Outcome::judged(victim, &known.guess(), count as usize, yes)
}

/// Asks about so many crafted faces after a first hit, and is told yes or no.
pub fn yes_or_no(world: &World, victim: &Victim, person: u64, count: usize, rarity: f64) -> Outcome {
    let mut known = Knowledge::new(&world.prior, PROBE_NOISE);
    known.learn(
        &hit(&world.population, person, victim),
        Answer::Reached(true, THRESHOLD),
    );
    let (mut draw, mut yes) = (Normals::new(&[person, 4]), 0);
    for _ in 0..count {
        let best = known.best();
        let across = known.unknown(&best, &mut draw);
        let angle = known.angle(&best, &across, THRESHOLD, rarity);
        let face = unit(angle.between(&best.along, &across.direction));
        let is_yes = victim.similarity(&face) >= THRESHOLD;
        yes += usize::from(is_yes);
        known.learn(&face, Answer::Reached(is_yes, THRESHOLD));
    }
    Outcome::judged(victim, &known.guess(), count, yes)
}
