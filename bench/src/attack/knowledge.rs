//! What an attacker knows of one enrolled face: a normal distribution, narrowed by every answer.
//!
//! Let t be the face in units of the mean length, and u the vector that the template stands for: the score of a probe
//! q is very nearly q.u, because the probe is compared with signs under a fixed projection. The signs lose a part of t
//! that is the same in every answer, so u = t + e with a fixed e, and a repeated question averages nothing
//! away. A priori t is normal with the population's mean and covariance C, and e is normal with the variance of the bits
//! in every direction. An answer is a similarity or an interval of it; the posterior is kept normal by matching its mean
//! and covariance after each (assumed density filtering: Minka 2001, chapter 3; Rasmussen and Williams, section 3.6).
//! The best guess of t follows from that of u: t = mean + C (C + e)^-1 (u - mean).

use crate::attack::gauss;
use crate::population::{DIM, Normals, Population};

/// The variance of e in each direction, for templates of 1,024 bits: of a sign as an estimate of a normal value.
const SIGNS_VARIANCE: f64 = (std::f64::consts::FRAC_PI_2 - 1.0) / 1024.0;
/// The steps of conjugate gradients until a guess is exact to three digits.
const GRADIENT_STEPS: usize = 40;
/// Angles between the guess and a crafted face that are tried: a degree each, up to 90.
const ANGLES: usize = 90;

/// What the attacker learnt of one comparison.
#[derive(Clone, Copy)]
pub enum Answer {
    /// A similarity.
    Told(f64),
    /// Whether a threshold was reached.
    Reached(bool, f64),
    /// A similarity from the first on, and below the second.
    Between(f64, f64),
}

/// What the attacker knows before any answer; the same for every person.
pub struct Prior {
    /// Orthonormal directions that faces are made of: all answers are about these.
    basis: Vec<Vec<f32>>,
    /// In the basis, and in units of the mean length.
    mean: Vec<f32>,
    /// Of u, in the basis: `[basis][basis]`.
    covariance: Vec<f32>,
}

impl Prior {
    /// Of this population.
    pub fn of(population: &Population) -> Self {
        let basis = basis(population);
        let images = basis.iter().map(|one| population.covariance_times(one));
        let mut covariance: Vec<f32> = images.flat_map(|image| inside(&basis, &image)).collect();
        let dim = basis.len();
        let trace: f64 = (0..dim).map(|at| f64::from(covariance[at * dim + at])).sum();
        let length = (dot(population.mean(), population.mean()) + trace).sqrt() as f32;
        covariance.iter_mut().for_each(|v| *v /= length * length);
        for at in 0..dim {
            covariance[at * dim + at] += SIGNS_VARIANCE as f32;
        }
        let mean = inside(&basis, population.mean());
        Self {
            mean: mean.into_iter().map(|v| v / length).collect(),
            covariance,
            basis,
        }
    }

    /// From the basis into features.
    fn outside(&self, coordinates: &[f32]) -> Vec<f32> {
        let mut features = vec![0.0f32; DIM];
        for (direction, part) in self.basis.iter().zip(coordinates) {
            features
                .iter_mut()
                .zip(direction)
                .for_each(|(sum, value)| *sum += part * value);
        }
        features
    }
}

fn inside(basis: &[Vec<f32>], features: &[f32]) -> Vec<f32> {
    basis
        .iter()
        .map(|direction| dot(direction, features) as f32)
        .collect()
}

/// What the mean and the covariance span, but for what is smaller than a thousandth of a face.
fn basis(population: &Population) -> Vec<Vec<f32>> {
    let mut left: Vec<Vec<f32>> = population.rows().map(<[f32]>::to_vec).collect();
    left.push(population.mean().to_vec());
    let length = |vector: &Vec<f32>| dot(vector, vector);
    let least = 1e-6 * left.iter().map(length).sum::<f64>();
    let mut basis = Vec::new();
    // The largest of what is left comes next (Gram and Schmidt with pivots).
    while let Some(at) = (0..left.len()).max_by(|a, b| length(&left[*a]).total_cmp(&length(&left[*b]))) {
        let largest = left.swap_remove(at);
        if length(&largest) < least {
            break;
        }
        let direction = unit(largest);
        for other in &mut left {
            *other = mix(1.0, other, -dot(other, &direction), &direction);
        }
        basis.push(direction);
    }
    basis
}

/// All that an attacker knows of one person.
pub struct Knowledge<'a> {
    prior: &'a Prior,
    /// The likeliest u, in the prior's basis.
    mean: Vec<f32>,
    /// How uncertain it is: `[basis][basis]`.
    covariance: Vec<f32>,
    /// The standard deviation of a similarity that is not q.u but differs from question to question.
    noise: f64,
}

/// The scalar product.
pub fn dot(a: &[f32], b: &[f32]) -> f64 {
    // Sixteen sums side by side, which the compiler keeps in vector registers.
    let (mut sums, (a, rest_a), (b, rest_b)) = ([0.0f32; 16], a.as_chunks::<16>(), b.as_chunks::<16>());
    for (a, b) in a.iter().zip(b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    let rest: f32 = rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum();
    sums.iter().map(|sum| f64::from(*sum)).sum::<f64>() + f64::from(rest)
}

/// Of unit length.
pub fn unit(mut values: Vec<f32>) -> Vec<f32> {
    let length = dot(&values, &values).sqrt() as f32;
    values.iter_mut().for_each(|value| *value /= length);
    values
}

/// The cosine of two vectors.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// `a * x + b * y`.
pub fn mix(a: f64, x: &[f32], b: f64, y: &[f32]) -> Vec<f32> {
    let (a, b) = (a as f32, b as f32);
    x.iter().zip(y).map(|(x, y)| a * x + b * y).collect()
}

/// A symmetric matrix times a vector.
fn times(matrix: &[f32], vector: &[f32]) -> Vec<f32> {
    matrix
        .chunks_exact(vector.len())
        .map(|row| dot(row, vector) as f32)
        .collect()
}

impl<'a> Knowledge<'a> {
    /// Nothing but the population. `noise`: the standard deviation of what differs from question to question.
    pub fn new(prior: &'a Prior, noise: f64) -> Self {
        Self {
            prior,
            mean: prior.mean.clone(),
            covariance: prior.covariance.clone(),
            noise,
        }
    }

    /// Takes in the answer about a face of unit length.
    pub fn learn(&mut self, query: &[f32], answer: Answer) {
        let query = &inside(&self.prior.basis, query);
        let spread = times(&self.covariance, query);
        let variance = dot(query, &spread).max(1e-9) + self.noise * self.noise;
        let (slope, sharpness) = match answer {
            Answer::Told(similarity) => ((similarity - dot(query, &self.mean)) / variance, variance.recip()),
            Answer::Reached(true, threshold) => self.within(query, variance, threshold, f64::INFINITY),
            Answer::Reached(false, threshold) => self.within(query, variance, f64::NEG_INFINITY, threshold),
            Answer::Between(from, below) => self.within(query, variance, from, below),
        };
        for (mean, spread) in self.mean.iter_mut().zip(&spread) {
            *mean += slope as f32 * spread;
        }
        for (row, part) in self.covariance.chunks_exact_mut(spread.len()).zip(&spread) {
            let part = sharpness as f32 * part;
            for (entry, spread) in row.iter_mut().zip(&spread) {
                *entry -= part * spread;
            }
        }
    }

    /// The first two derivatives of the log-likelihood of an interval by the mean of the similarity.
    fn within(&self, query: &[f32], variance: f64, from: f64, below: f64) -> (f64, f64) {
        let (mean, deviation) = (dot(query, &self.mean), variance.sqrt());
        let (slope, sharpness) = gauss::interval((from - mean) / deviation, (below - mean) / deviation);
        (slope / deviation, sharpness / variance)
    }

    /// The likeliest face.
    pub fn guess(&self) -> Vec<f32> {
        // t - mean = (u - mean) - e, and e = variance of the signs * (C + e)^-1 (u - mean), by conjugate gradients.
        let moved = mix(1.0, &self.mean, -1.0, &self.prior.mean);
        let (mut solved, mut left) = (vec![0.0f32; moved.len()], moved.clone());
        let (mut towards, mut square) = (left.clone(), dot(&left, &left));
        for _ in 0..GRADIENT_STEPS {
            if square < 1e-12 {
                break;
            }
            let image = times(&self.prior.covariance, &towards);
            let step = square / dot(&towards, &image);
            solved = mix(1.0, &solved, step, &towards);
            left = mix(1.0, &left, -step, &image);
            let next = dot(&left, &left);
            towards = mix(1.0, &left, next / square, &towards);
            square = next;
        }
        self.prior
            .outside(&mix(1.0, &self.mean, -SIGNS_VARIANCE, &solved))
    }

    /// The face that is expected to be most similar to the template.
    pub fn best(&self) -> Best {
        let reach = dot(&self.mean, &self.mean).sqrt();
        let inside = unit(self.mean.clone());
        let spread = times(&self.covariance, &inside);
        let variance = dot(&inside, &spread);
        Best {
            along: self.prior.outside(&inside),
            inside,
            reach,
            spread,
            variance,
        }
    }

    /// A direction across the best face of which little is known, any of its kind.
    pub fn unknown(&self, best: &Best, draw: &mut Normals) -> Across {
        let drawn = self.uncertain(draw);
        let along = dot(&drawn, &best.inside);
        self.across(best, &unit(mix(1.0, &drawn, -along, &best.inside)))
    }

    /// Directions across the best face and across each other of which little is known.
    pub fn unknowns(&self, best: &Best, count: usize, draw: &mut Normals) -> Vec<Across> {
        let mut found = vec![best.inside.clone()];
        while found.len() <= count {
            let mut next = self.uncertain(draw);
            for other in &found {
                let part = dot(&next, other);
                next = mix(1.0, &next, -part, other);
            }
            found.push(unit(next));
        }
        found[1..]
            .iter()
            .map(|direction| self.across(best, direction))
            .collect()
    }

    /// Any vector, turned to where the uncertainty is.
    fn uncertain(&self, draw: &mut Normals) -> Vec<f32> {
        let any: Vec<f32> = self.mean.iter().map(|_| draw.next()).collect();
        // Twice, so that the most uncertain directions are preferred.
        times(&self.covariance, &times(&self.covariance, &any))
    }

    /// What is known of a direction across the best face.
    fn across(&self, best: &Best, inside: &[f32]) -> Across {
        let spread = times(&self.covariance, inside);
        Across {
            variance: dot(inside, &spread),
            covariance: dot(inside, &best.spread),
            direction: self.prior.outside(inside),
        }
    }

    /// The angle to the best face at which a yes is as rare as wanted: so many standard deviations above what is
    /// expected. The widest such angle says most; where none comes so near, the one that comes nearest.
    pub fn angle(&self, best: &Best, across: &Across, threshold: f64, rarity: f64) -> Angle {
        let at = |degrees: usize| {
            let (sin, cos) = (degrees as f64).to_radians().sin_cos();
            let variance =
                cos * cos * best.variance + 2.0 * sin * cos * across.covariance + sin * sin * across.variance;
            let deviation = (variance.max(0.0) + self.noise * self.noise).sqrt();
            let expected = cos * best.reach;
            Angle {
                sin,
                cos,
                expected,
                deviation,
                rarity: (threshold - expected) / deviation,
            }
        };
        let wide = (0..ANGLES).rev().map(at).find(|angle| angle.rarity <= rarity);
        wide.unwrap_or_else(|| {
            let all = (0..ANGLES).map(at);
            all.min_by(|a, b| a.rarity.total_cmp(&b.rarity))
                .expect("there are angles")
        })
    }
}

/// The face that is expected to be most similar.
pub struct Best {
    /// Of unit length.
    pub along: Vec<f32>,
    inside: Vec<f32>,
    /// The similarity that it is expected to have.
    pub reach: f64,
    spread: Vec<f32>,
    variance: f64,
}

/// A direction across it.
pub struct Across {
    /// Of unit length.
    pub direction: Vec<f32>,
    variance: f64,
    covariance: f64,
}

/// How far a crafted face is from the best one, and what is expected of it.
#[derive(Clone, Copy)]
pub struct Angle {
    sin: f64,
    cos: f64,
    /// The similarity that is expected.
    pub expected: f64,
    /// Its standard deviation.
    pub deviation: f64,
    /// Standard deviations from there to the threshold.
    pub rarity: f64,
}

impl Angle {
    /// The face at this angle from one towards a direction across it.
    pub fn between(&self, along: &[f32], across: &[f32]) -> Vec<f32> {
        mix(self.cos, along, self.sin, across)
    }

    /// The score of that face, of the scores of the two.
    pub fn part(&self, along: f64, across: f64) -> f64 {
        self.cos * along + self.sin * across
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similarities_and_their_intervals_bring_the_guess_nearer() {
        let population = Population::new(3);
        let (prior, face) = (Prior::of(&population), population.unit_values(0, 0));
        let mut known = [Knowledge::new(&prior, 0.02), Knowledge::new(&prior, 0.02)];
        let mut before = [cosine(&known[0].guess(), &face); 2];
        for other in 0..100 {
            let query = population.unit_values(1 + other, 0);
            let similarity = dot(&query, &face);
            known[0].learn(&query, Answer::Told(similarity));
            let steps = (similarity / 0.1).floor();
            known[1].learn(&query, Answer::Between(0.1 * steps, 0.1 * steps + 0.1));
            if other == 19 || other == 99 {
                let now = [0, 1].map(|at| cosine(&known[at].guess(), &face));
                assert!(
                    now[0] > before[0] + 0.1 && now[1] > before[1] + 0.1,
                    "{before:?} {now:?}"
                );
                before = now;
            }
        }
        assert!(before[0] > 0.8, "{before:?}");
    }

    #[test]
    fn a_crafted_face_is_as_rarely_a_yes_as_is_wanted() {
        let population = Population::new(3);
        let (prior, mut draw) = (Prior::of(&population), Normals::new(&[5]));
        let mut known = Knowledge::new(&prior, 0.01);
        let face = population.unit_values(0, 0);
        known.learn(
            &unit(mix(0.5, &face, 0.8, &population.unit_values(1, 0))),
            Answer::Told(0.5),
        );
        let best = known.best();
        for rarity in [0.0, 2.0] {
            let across = known.unknown(&best, &mut draw);
            let angle = known.angle(&best, &across, 0.411, rarity);
            assert!((angle.rarity - rarity).abs() < 0.3, "{} {rarity}", angle.rarity);
            let face = angle.between(&best.along, &across.direction);
            assert!((dot(&face, &face) - 1.0).abs() < 1e-3);
            let expected = dot(&face, &prior.outside(&known.mean));
            assert!((expected - angle.expected).abs() < 1e-3);
        }
    }
}
