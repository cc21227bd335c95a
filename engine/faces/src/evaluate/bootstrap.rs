//! Intervals by drawing people again, with replacement: pairs of one person stand or fall together.

use std::collections::BTreeMap;

use serde::Serialize;

/// Replicates; the ends of a 95 % interval are then each the tenth from outside.
const REPLICATES: usize = 400;
/// Fixed, so that a report can be repeated.
const CONTEXT: &str = "likeness 2026-11-22 draws of people for intervals v1";

/// The lower and the upper end of a 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval(pub f64, pub f64);

/// Which people each replicate draws, and how often.
pub(super) struct Bootstrap {
    /// Photographs of each person; 0 for numbers that are nobody's.
    photographs: Vec<u64>,
    /// `[replicate][person]`.
    weights: Vec<Vec<u32>>,
}

impl Bootstrap {
    /// For the people of these samples.
    pub(crate) fn new(samples: impl Iterator<Item = usize>) -> Self {
        let mut photographs = Vec::new();
        for person in samples {
            if person >= photographs.len() {
                photographs.resize(person + 1, 0);
            }
            photographs[person] += 1;
        }
        let people: Vec<usize> = (0..photographs.len()).filter(|p| photographs[*p] > 0).collect();
        let mut stream = blake3::Hasher::new_derive_key(CONTEXT).finalize_xof();
        let weights = (0..REPLICATES).map(|_| {
            let mut weights = vec![0; photographs.len()];
            for _ in 0..people.len() {
                let mut bytes = [0; 8];
                stream.fill(&mut bytes);
                // The remainder favours small numbers by one in 2^40: nothing here.
                let drawn = u64::from_le_bytes(bytes) % people.len() as u64;
                weights[people[drawn as usize]] += 1;
            }
            weights
        });
        Self {
            weights: weights.collect(),
            photographs,
        }
    }

    /// For each rate and its similarity, the intervals of the similarity and of the rate. `trials` are all
    /// impostor trials near and above the similarities, of `all` there are.
    pub(crate) fn impostors(
        &self,
        trials: &[(f32, [usize; 2])],
        all: u64,
        asked: &[(f64, f32)],
    ) -> Vec<(Interval, Interval)> {
        let mut trials: Vec<_> = trials.iter().collect();
        trials.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let in_pairs = all as f64 / self.pairs(None);
        let mut drawn = vec![(Vec::new(), Vec::new()); asked.len()];
        for weights in &self.weights {
            let total = self.pairs(Some(weights)) * in_pairs;
            let (mut similarities, mut rates) = (vec![None; asked.len()], vec![0.0; asked.len()]);
            let mut passed = 0.0;
            for (score, [a, b]) in &trials {
                passed += f64::from(weights[*a] * weights[*b]);
                for (i, (far, similarity)) in asked.iter().enumerate() {
                    if passed > far * total {
                        similarities[i].get_or_insert(*score);
                    }
                    if score >= similarity {
                        rates[i] = passed / total;
                    }
                }
            }
            for (i, (of_similarity, of_rate)) in drawn.iter_mut().enumerate() {
                of_similarity.extend(similarities[i].map(f64::from));
                of_rate.push(rates[i]);
            }
        }
        let intervals = drawn.into_iter();
        intervals.map(|(s, f)| (interval(s), interval(f))).collect()
    }

    /// The interval of the part that passes, of each person's trials and those that pass.
    pub(crate) fn genuine(&self, of_person: &BTreeMap<usize, [u64; 2]>) -> Interval {
        let drawn = self.weights.iter().filter_map(|weights| {
            let (mut all, mut passed) = (0, 0);
            for (person, [trials, passing]) in of_person {
                all += u64::from(weights[*person]) * trials;
                passed += u64::from(weights[*person]) * passing;
            }
            (all > 0).then(|| passed as f64 / all as f64)
        });
        interval(drawn.collect())
    }

    /// Pairs of photographs of two people, by how often each person is drawn.
    fn pairs(&self, weights: Option<&[u32]>) -> f64 {
        let (mut sum, mut squares) = (0.0, 0.0);
        for (person, photographs) in self.photographs.iter().enumerate() {
            let n = *photographs as f64 * weights.map_or(1.0, |w| f64::from(w[person]));
            (sum, squares) = (sum + n, squares + n * n);
        }
        (sum * sum - squares) / 2.0
    }
}

fn interval(mut drawn: Vec<f64>) -> Interval {
    drawn.sort_unstable_by(f64::total_cmp);
    let at = |part: f64| {
        let place = (part * drawn.len() as f64) as usize;
        drawn.get(place.min(drawn.len().saturating_sub(1))).copied()
    };
    Interval(at(0.025).unwrap_or(f64::NAN), at(0.975).unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_one_person_stand_or_fall_together() {
        // Forty people with one photograph each; person 0 alone resembles everybody.
        let bootstrap = Bootstrap::new(0..40);
        let trials: Vec<_> = (1..40).map(|other| (0.9, [0, other])).collect();
        let all = 40 * 39 / 2;
        let asked = [(39.0 / f64::from(all), 0.9)];
        let (_, Interval(low, high)) = bootstrap.impostors(&trials, all as u64, &asked)[0];
        // Independent pairs would give 0.05 +- 0.016.
        assert!(low == 0.0 && high > 0.1, "{low} to {high}");
    }

    #[test]
    fn a_rate_that_everybody_shares_is_known_well() {
        let bootstrap = Bootstrap::new((0..400).map(|photo| photo / 2));
        let of_person = (0..200)
            .map(|person| (person, [1, u64::from(person % 10 > 0)]))
            .collect();
        let Interval(low, high) = bootstrap.genuine(&of_person);
        assert!(
            low > 0.84 && low < 0.88 && high > 0.92 && high < 0.96,
            "{low} to {high}"
        );
    }
}
