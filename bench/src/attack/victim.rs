//! The attacked person, by the engine's own projection and scores; and what crafted photographs come to.

use likeness_engine::bench::{embedding, protector, similarity, stored_similarity};
use likeness_engine::{Bits, Protector, Template};

use crate::attack::knowledge::{Prior, cosine, dot, mix, unit};
use crate::population::{DIM, Normals, Population};

/// The default threshold of a collection, which is also the floor of 1:1 comparisons.
pub const THRESHOLD: f64 = 0.411;
/// People from this number on are faces that the attacker has.
pub const FACES_FROM: u64 = 1_000_000;
/// Other photographs of the person that a guess is tried on.
const PHOTOGRAPHS: u64 = 4;
/// What differs from question to question beside q.u: the scale of a probe and its rounding.
pub const PROBE_NOISE: f64 = 0.01;
/// The same where the question is a stored template itself: its own signs.
pub const STORED_NOISE: f64 = 0.035;
const BITS: Bits = Bits::B1024;

/// An enrolled person.
pub struct Victim {
    protector: Protector,
    template: Template,
    /// The vector that the template stands for.
    signs: Vec<f32>,
    /// The enrolled features.
    pub face: Vec<f32>,
    photographs: Vec<Vec<f32>>,
}

impl Victim {
    /// A person of the population, enrolled with one photograph.
    pub fn of(population: &Population, person: u64, enrolled: u64) -> Self {
        let protector = protector(DIM);
        let template = protector.protect(population.photograph(person, enrolled), BITS);
        let mut victim = Self {
            template,
            protector,
            signs: Vec::new(),
            face: population.unit_values(person, enrolled),
            photographs: (10..10 + PHOTOGRAPHS)
                .map(|n| population.unit_values(person, n))
                .collect(),
        };
        victim.signs = (0..DIM)
            .map(|at| {
                let mut one = vec![0.0; DIM];
                one[at] = 1.0;
                victim.similarity(&one) as f32
            })
            .collect();
        victim
    }

    /// As a verification or a search has it.
    pub fn similarity(&self, face: &[f32]) -> f64 {
        let probe = self.protector.probe(embedding(face.to_vec()), BITS);
        f64::from(similarity(&probe, &self.template))
    }

    /// Nearly the same, and a thousand times as fast: to pass over faces that come nowhere near.
    pub fn roughly(&self, face: &[f32]) -> f64 {
        dot(&self.signs, face)
    }

    /// As a search for duplicates has it, where the face is enrolled.
    pub fn stored_similarity(&self, face: &[f32]) -> f64 {
        let template = self.protector.protect(embedding(face.to_vec()), BITS);
        f64::from(stored_similarity(&template, &self.template))
    }

    /// The cosine of a guess with the enrolled features, and the part of the person's other photographs as which it is
    /// accepted.
    pub fn judged(&self, guess: &[f32]) -> (f64, f64) {
        let other = self.photographs.iter();
        let accepted = other.filter(|other| cosine(guess, other) >= THRESHOLD).count();
        (cosine(guess, &self.face), accepted as f64 / PHOTOGRAPHS as f64)
    }
}

/// The face of another person that is taken for the person. Of real faces it is one in ten thousand; this one is drawn as
/// those are: a normal vector that is known to have such a part along another is any of its kind, moved along the
/// covariance times the other.
pub fn hit(population: &Population, person: u64, victim: &Victim) -> Vec<f32> {
    let any = population.unit_values(FACES_FROM / 2 + person, 0);
    let towards = unit(population.covariance_times(&victim.face));
    let moved = |by: f32| unit(any.iter().zip(&towards).map(|(a, t)| a + by * t).collect());
    (1..1000)
        .map(|step| moved(step as f32 * 0.01))
        .find(|face| victim.similarity(face) >= THRESHOLD)
        .expect("far enough it is the person's own direction")
}

/// What the attacker sends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sends {
    /// Any features he likes.
    Features,
    /// Photographs.
    Photographs,
}

/// The cosine of a crafted photograph's features with those that were wanted.
pub const PHOTOGRAPH_REACH: f64 = 0.9;
/// Ways in which crafted photographs miss.
const MISSES: usize = 1024;
/// Photographs that the attacker makes for each that he sends: the one that he expects to be most similar.
const MADE: usize = 8;
/// What the best of these misses adds to a similarity, about, and what it adds at most.
const CHOSEN_MISS: f64 = 0.05;
const LUCKY_MISS: f64 = 0.12;

/// How near to wanted features the attacker comes with what he sends.
///
/// A photograph is made by descending through a copy of the model, and misses the wanted features by a part that its
/// maker does not choose, but knows: the copy says what the photograph became. The part is taken for the difference of a
/// face of the population from the mean, of such a size that the cosine with the wanted features is
/// [`PHOTOGRAPH_REACH`]; of a few such photographs the one is sent that lies nearest to the attacker's guess.
pub struct Craft {
    misses: Vec<Vec<f32>>,
}

impl Craft {
    /// For attackers of this population.
    pub fn new(population: &Population, sends: Sends) -> Self {
        let misses = match sends {
            Sends::Features => 0,
            Sends::Photographs => MISSES as u64,
        };
        let miss = |n| {
            unit(mix(
                1.0,
                &population.values(FACES_FROM * 2 + n, 0),
                -1.0,
                population.mean(),
            ))
        };
        Self {
            misses: (0..misses).map(miss).collect(),
        }
    }

    fn is_exact(&self) -> bool {
        self.misses.is_empty()
    }

    /// What becomes of wanted features of unit length; `guess`: the face that the attacker expects to be most similar.
    pub fn made(&self, wanted: Vec<f32>, guess: &[f32], draw: &mut Normals) -> Vec<f32> {
        if self.is_exact() {
            return wanted;
        }
        let missed = |_| Self::missed(&wanted, &self.misses[draw.below(MISSES)]);
        let made: Vec<Vec<f32>> = (0..MADE).map(missed).collect();
        let nearest = |a: &Vec<f32>, b: &Vec<f32>| dot(a, guess).total_cmp(&dot(b, guess));
        made.into_iter().max_by(nearest).expect("some are made")
    }

    fn missed(wanted: &[f32], miss: &[f32]) -> Vec<f32> {
        let along = dot(miss, wanted);
        let across = unit(mix(1.0, miss, -along, wanted));
        let other = (1.0 - PHOTOGRAPH_REACH * PHOTOGRAPH_REACH).sqrt();
        mix(PHOTOGRAPH_REACH, wanted, other, &across)
    }

    /// The similarity that what is wanted has to have, so that what is made reaches the threshold.
    pub fn aimed(&self, threshold: f64) -> f64 {
        match self.is_exact() {
            true => threshold,
            false => (threshold - CHOSEN_MISS) / PHOTOGRAPH_REACH,
        }
    }

    /// The same the other way around.
    pub fn comes_to(&self, wanted: f64) -> f64 {
        match self.is_exact() {
            true => wanted,
            false => PHOTOGRAPH_REACH * wanted + CHOSEN_MISS,
        }
    }

    /// The least similarity of what is wanted with which what is made may reach the threshold.
    pub fn aimed_least(&self, threshold: f64) -> f64 {
        match self.is_exact() {
            true => threshold,
            false => (threshold - LUCKY_MISS) / PHOTOGRAPH_REACH,
        }
    }
}

/// What is the same for every attack.
pub struct World {
    /// The people.
    pub population: Population,
    /// What the attacker knows of them all.
    pub prior: Prior,
}

impl World {
    /// The same seed gives the same one.
    pub fn new(seed: u64) -> Self {
        let population = Population::new(seed);
        let prior = Prior::of(&population);
        Self { population, prior }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_compared_as_the_vector_it_stands_for() {
        let world = World::new(11);
        let victim = Victim::of(&world.population, 0, 0);
        let (mut probe, mut stored, count) = (0.0, 0.0, 200);
        for other in 0..count {
            let face = unit(mix(
                0.5,
                &victim.face,
                0.8,
                &world.population.unit_values(FACES_FROM + other, 0),
            ));
            let rough = victim.roughly(&face);
            probe += (victim.similarity(&face) - rough).powi(2);
            stored += (victim.stored_similarity(&face) - rough).powi(2);
        }
        let [probe, stored] = [probe, stored].map(|sum: f64| (sum / count as f64).sqrt());
        println!("probe {probe} stored {stored}");
        assert!(probe < 1.5 * PROBE_NOISE, "{probe}");
        assert!((0.5..1.5).contains(&(stored / STORED_NOISE)), "{stored}");
    }

    #[test]
    fn a_photograph_comes_as_near_to_wanted_features_as_is_said() {
        let world = World::new(11);
        let (craft, mut draw) = (
            Craft::new(&world.population, Sends::Photographs),
            Normals::new(&[1]),
        );
        let wanted = world.population.unit_values(1, 0);
        for _ in 0..20 {
            let made = craft.made(wanted.clone(), &wanted, &mut draw);
            assert!((cosine(&made, &wanted) - PHOTOGRAPH_REACH).abs() < 1e-3);
        }
        let exact = Craft::new(&world.population, Sends::Features).made(wanted.clone(), &wanted, &mut draw);
        assert_eq!(exact, wanted);
    }
}
