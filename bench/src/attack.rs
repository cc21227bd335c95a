//! The score as an oracle: somebody who knows how faces are distributed asks about a person until the face is known.
//!
//! The attacker knows everything but the person's template and the projection key: the model, the population
//! (`population.rs`), the threshold. A face t, in units of the mean length, is a normal vector a priori; every answer
//! is about the cosine of a known face q with it, f = q.t. Told similarities count as f with noise, and a yes or no
//! as a logistic function of f minus the threshold: a Gaussian process whose mode Newton's method finds (Rasmussen
//! and Williams, chapter 3), with one weight an answer, so that 512 dimensions cost no more than the answers.

use crate::population::{DIM, Population};

/// The noise of a similarity by 1,024 bits, as the attacker takes it.
const NOISE: f64 = 0.025;
/// What makes a logistic function as steep as that noise.
const STEEPNESS: f64 = 0.015;
const NEWTON_STEPS: usize = 30;

/// What the attacker learnt of one comparison.
#[derive(Clone, Copy)]
pub enum Answer {
    /// A similarity.
    Told(f64),
    /// Whether a threshold was reached.
    Reached(bool, f64),
}

/// All that an attacker knows of one person.
pub struct Knowledge<'a> {
    population: &'a Population,
    /// The mean length of a face, which the prior is in units of.
    length: f64,
    queries: Vec<Vec<f32>>,
    /// The covariance times each query.
    spreads: Vec<Vec<f32>>,
    answers: Vec<Answer>,
    /// The covariance between queries, row by row up to the diagonal.
    kernel: Vec<Vec<f64>>,
    /// The weight of each answer in the best guess.
    weights: Vec<f64>,
    /// How sharp each answer is there.
    sharpness: Vec<f64>,
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum()
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

impl<'a> Knowledge<'a> {
    /// Nothing but the population.
    pub fn new(population: &'a Population, length: f64) -> Self {
        Self {
            population,
            length,
            queries: Vec::new(),
            spreads: Vec::new(),
            answers: Vec::new(),
            kernel: Vec::new(),
            weights: Vec::new(),
            sharpness: Vec::new(),
        }
    }

    /// One more answer about a face of unit length; [`Self::conclude`] takes it in.
    pub fn learn(&mut self, query: Vec<f32>, answer: Answer) {
        let spread = self.spread(&query);
        let row = self.queries.iter().chain([&query]);
        self.kernel.push(row.map(|other| dot(other, &spread)).collect());
        self.queries.push(query);
        self.spreads.push(spread);
        self.answers.push(answer);
        self.weights.push(0.0);
        self.sharpness.push(0.0);
    }

    fn spread(&self, query: &[f32]) -> Vec<f32> {
        let mut spread = self.population.covariance_times(query);
        let scale = (self.length * self.length).recip() as f32;
        spread.iter_mut().for_each(|value| *value *= scale);
        spread
    }

    fn covariance(&self, a: usize, b: usize) -> f64 {
        self.kernel[a.max(b)][a.min(b)]
    }

    fn before(&self, query: &[f32]) -> f64 {
        dot(query, self.population.mean()) / self.length
    }

    /// Finds the face that is likeliest by all answers.
    pub fn conclude(&mut self) {
        let count = self.queries.len();
        let before: Vec<f64> = self.queries.iter().map(|query| self.before(query)).collect();
        for _ in 0..NEWTON_STEPS {
            let seen: Vec<f64> = (0..count)
                .map(|a| {
                    before[a]
                        + (0..count)
                            .map(|b| self.covariance(a, b) * self.weights[b])
                            .sum::<f64>()
                })
                .collect();
            let slopes: Vec<(f64, f64)> = seen
                .iter()
                .zip(&self.answers)
                .map(|(f, answer)| slope(*f, *answer))
                .collect();
            self.sharpness = slopes.iter().map(|(_, sharp)| *sharp).collect();
            let wanted: Vec<f64> = (0..count)
                .map(|a| slopes[a].1 * (seen[a] - before[a]) + slopes[a].0)
                .collect();
            let roots: Vec<f64> = self.sharpness.iter().map(|sharp| sharp.sqrt()).collect();
            let factor = self.factor(&roots);
            let right: Vec<f64> = (0..count)
                .map(|a| roots[a] * (0..count).map(|b| self.covariance(a, b) * wanted[b]).sum::<f64>())
                .collect();
            let solved = factor.solve(right);
            let mut change = 0.0f64;
            for a in 0..count {
                let weight = wanted[a] - roots[a] * solved[a];
                // Half a step at first keeps far answers from overshooting.
                let moved = 0.7 * (weight - self.weights[a]);
                change = change.max(moved.abs());
                self.weights[a] += moved;
            }
            if change < 1e-4 {
                break;
            }
        }
    }

    /// I + roots K roots.
    fn factor(&self, roots: &[f64]) -> Cholesky {
        let entry = |a: usize, b: usize| {
            let one = if a == b { 1.0 } else { 0.0 };
            one + roots[a] * self.covariance(a, b) * roots[b]
        };
        Cholesky::of(roots.len(), entry)
    }

    /// The likeliest face, in units of the mean length: shorter the less is known.
    pub fn guess(&self) -> Vec<f32> {
        let mut face: Vec<f32> = self
            .population
            .mean()
            .iter()
            .map(|v| v / self.length as f32)
            .collect();
        for (spread, weight) in self.spreads.iter().zip(&self.weights) {
            face.iter_mut()
                .zip(spread)
                .for_each(|(sum, part)| *sum += *weight as f32 * part);
        }
        face
    }

    /// The similarity that the guess itself is expected to have.
    pub fn reach(&self) -> f64 {
        let guess = self.guess();
        dot(&guess, &guess).sqrt()
    }

    /// How uncertain the answer about a face is: a standard deviation.
    pub fn doubt(&self, query: &[f32]) -> f64 {
        let spread = self.spread(query);
        let roots: Vec<f64> = self.sharpness.iter().map(|sharp| sharp.sqrt()).collect();
        let factor = self.factor(&roots);
        let right = self
            .queries
            .iter()
            .zip(&roots)
            .map(|(other, root)| root * dot(other, &spread));
        let explained: f64 = factor.halfway(right.collect()).iter().map(|v| v * v).sum();
        (dot(query, &spread) - explained).max(0.0).sqrt()
    }

    /// A face whose answer is as uncertain as can be: the guess, and as much of another face as makes its similarity
    /// come to `aim`. None where even the guess does not reach it.
    pub fn craft(&self, other: &[f32], aim: f64) -> Option<Vec<f32>> {
        let guess = self.guess();
        let length = dot(&guess, &guess).sqrt();
        if length <= aim {
            return None;
        }
        let along = unit(guess);
        let part = dot(other, &along) as f32;
        let across = unit(other.iter().zip(&along).map(|(o, g)| o - part * g).collect());
        let angle = (aim / length).acos();
        let (cos, sin) = (angle.cos() as f32, angle.sin() as f32);
        Some(
            along
                .iter()
                .zip(&across)
                .map(|(g, o)| cos * g + sin * o)
                .collect(),
        )
    }
}

/// The slope of an answer's log-likelihood, and its sharpness.
fn slope(f: f64, answer: Answer) -> (f64, f64) {
    match answer {
        Answer::Told(similarity) => ((similarity - f) / NOISE.powi(2), NOISE.powi(-2)),
        Answer::Reached(yes, threshold) => {
            let sign = if yes { 1.0 } else { -1.0 };
            let likely = 1.0 / (1.0 + (-sign * (f - threshold) / STEEPNESS).exp());
            let sharp = likely * (1.0 - likely) / STEEPNESS.powi(2);
            (sign * (1.0 - likely) / STEEPNESS, sharp.max(1e-9))
        }
    }
}

/// A lower triangle.
struct Cholesky(Vec<Vec<f64>>);

impl Cholesky {
    fn of(size: usize, entry: impl Fn(usize, usize) -> f64) -> Self {
        let mut rows: Vec<Vec<f64>> = Vec::with_capacity(size);
        for a in 0..size {
            let mut row = Vec::with_capacity(a + 1);
            for b in 0..=a {
                let other = rows.get(b).unwrap_or(&row);
                let known: f64 = row[..b].iter().zip(&other[..b]).map(|(x, y)| x * y).sum();
                let left = entry(a, b) - known;
                let value = if a == b {
                    left.max(1e-12).sqrt()
                } else {
                    left / rows[b][b]
                };
                row.push(value);
            }
            rows.push(row);
        }
        Self(rows)
    }

    /// The triangle's inverse times a vector.
    fn halfway(&self, mut right: Vec<f64>) -> Vec<f64> {
        for a in 0..right.len() {
            let known: f64 = self.0[a][..a].iter().zip(&right).map(|(x, y)| x * y).sum();
            right[a] = (right[a] - known) / self.0[a][a];
        }
        right
    }

    fn solve(&self, right: Vec<f64>) -> Vec<f64> {
        let mut half = self.halfway(right);
        for a in (0..half.len()).rev() {
            let known: f64 = (a + 1..half.len()).map(|b| self.0[b][a] * half[b]).sum();
            half[a] = (half[a] - known) / self.0[a][a];
        }
        half
    }
}

/// The mean length of a face of the population.
pub fn mean_length(population: &Population) -> f64 {
    // Of the mean, and of the covariance's trace.
    let mut trace = 0.0;
    for at in 0..DIM {
        let mut one = vec![0.0; DIM];
        one[at] = 1.0;
        trace += f64::from(population.covariance_times(&one)[at]);
    }
    (dot(population.mean(), population.mean()) + trace).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_triangle_solves_what_it_was_made_of() {
        let entry = |a: usize, b: usize| if a == b { 4.0 } else { 1.0 / (1.0 + (a + b) as f64) };
        let known = [1.0, -2.0, 3.0];
        let right = (0..3)
            .map(|a| (0..3).map(|b| entry(a, b) * known[b]).sum())
            .collect();
        let solved = Cholesky::of(3, entry).solve(right);
        assert!(
            solved.iter().zip(known).all(|(a, b)| (a - b).abs() < 1e-9),
            "{solved:?}"
        );
    }

    #[test]
    fn more_similarities_bring_the_guess_nearer() {
        let population = Population::new(3);
        let face = population.unit_values(0, 0);
        let mut known = Knowledge::new(&population, mean_length(&population));
        let mut before = cosine(&known.guess(), &face);
        for upto in [20, 100] {
            for other in known.answers.len()..upto {
                let query = population.unit_values(1 + other as u64, 0);
                let told = Answer::Told(dot(&query, &face));
                known.learn(query, told);
            }
            known.conclude();
            let now = cosine(&known.guess(), &face);
            assert!(now > before + 0.1, "{before} {now}");
            before = now;
        }
    }
}
