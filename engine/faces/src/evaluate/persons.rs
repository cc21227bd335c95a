//! People with several enrolled faces: one face, the best of them, and all together, side by side.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{KEYS_CONTEXT, Sample, on_all_cores, protect};
use crate::pipeline::protect::Protector;
use likeness_types::Inside;
use likeness_types::fused::Agreement;
use likeness_types::template::{Bits, Probe, Template};

/// Fewest photographs of a person who counts: one asks, and two at least are enrolled.
const PHOTOGRAPHS_MIN: usize = 3;

/// The false accept rates that are reported, with their names.
const FARS: [(&str, f64); 3] = [("1e-3", 1e-3), ("1e-4", 1e-4), ("1e-5", 1e-5)];

/// The figures of people with three photographs or more. Each of their photographs asks for them while their
/// others are enrolled; everybody else's photographs ask against all of theirs.
#[derive(Debug, Clone, Serialize)]
pub struct PersonCurves {
    /// People with so many photographs.
    pub people: usize,
    /// Each enrolled face by itself; a trial for each.
    pub one_face: PersonCurve,
    /// The enrolled face that resembles the photograph most.
    pub best_face: PersonCurve,
    /// All enrolled faces together.
    pub fused: PersonCurve,
}

/// One way to compare a person. Rates are fractions, 0 to 1.
#[derive(Debug, Clone, Serialize)]
pub struct PersonCurve {
    /// True accept rate at each false accept rate ("1e-3", "1e-4", "1e-5").
    pub tar: BTreeMap<&'static str, f64>,
    /// The thresholds of `tar`.
    pub threshold: BTreeMap<&'static str, f64>,
    /// Trials of the person's own photographs.
    pub genuine_trials: usize,
    /// Trials of other people's.
    pub impostor_trials: usize,
}

/// Similarities of one way to compare.
#[derive(Default, Clone)]
struct Scores {
    genuine: Vec<f32>,
    impostor: Vec<f32>,
}

impl Scores {
    fn add(&mut self, similarity: f32, genuine: bool) {
        let scores = if genuine {
            &mut self.genuine
        } else {
            &mut self.impostor
        };
        scores.push(similarity);
    }

    fn curve(&mut self) -> PersonCurve {
        self.impostor.sort_unstable_by(|a, b| b.total_cmp(a));
        let trials = self.impostor.len();
        let thresholds = FARS.map(|(name, far)| {
            // The greatest similarity that one impostor more than may pass reaches.
            let above = self.impostor.get((far * trials as f64) as usize);
            (name, above.copied().unwrap_or(-1.0))
        });
        let passing = |threshold: f32| self.genuine.iter().filter(|score| **score > threshold).count();
        let tar = |threshold| passing(threshold) as f64 / self.genuine.len().max(1) as f64;
        PersonCurve {
            tar: thresholds.map(|(name, threshold)| (name, tar(threshold))).into(),
            threshold: thresholds
                .map(|(name, threshold)| (name, f64::from(threshold)))
                .into(),
            genuine_trials: self.genuine.len(),
            impostor_trials: trials,
        }
    }
}

/// One, best and fused.
type Ways = [Scores; 3];

/// The figures of all keys together; none where nobody has enough photographs.
pub(super) fn person_curves(samples: &[Sample], bits: Bits, keys: u8) -> Option<PersonCurves> {
    let mut of_person = BTreeMap::<usize, Vec<usize>>::new();
    for (i, sample) in samples.iter().enumerate() {
        of_person.entry(sample.person).or_default().push(i);
    }
    let people: Vec<_> = of_person
        .into_values()
        .filter(|own| own.len() >= PHOTOGRAPHS_MIN)
        .collect();
    let dim = samples
        .first()
        .filter(|_| !people.is_empty())?
        .embedding
        .values(Inside)
        .len();
    let mut ways = Ways::default();
    for key in 0..keys {
        let protector = Protector::new(&blake3::derive_key(KEYS_CONTEXT, &[key]), dim);
        let protected = samples.iter().map(|s| protect(&protector, s, bits));
        let protected: Vec<_> = protected.collect();
        for share in on_all_cores(people.len(), Ways::default, |ways, n| {
            trials_of(&people[n], &protected, ways);
        }) {
            for (all, some) in ways.iter_mut().zip(share) {
                all.genuine.extend(some.genuine);
                all.impostor.extend(some.impostor);
            }
        }
    }
    let [one, best, fused] = &mut ways;
    Some(PersonCurves {
        people: people.len(),
        one_face: one.curve(),
        best_face: best.curve(),
        fused: fused.curve(),
    })
}

/// Every photograph against one person, whose photographs are `own`.
fn trials_of(own: &[usize], protected: &[(Template, Probe)], [one, best, fused]: &mut Ways) {
    for (asking, (_, probe)) in protected.iter().enumerate() {
        let genuine = own.contains(&asking);
        let enrolled = own.iter().filter(|stored| **stored != asking);
        let enrolled: Vec<&Template> = enrolled.map(|stored| &protected[*stored].0).collect();
        let scores: Vec<i32> = enrolled.iter().map(|template| probe.score(template)).collect();
        scores
            .iter()
            .for_each(|score| one.add(probe.similarity(*score), genuine));
        let most = scores.iter().max().expect("two enrolled at least");
        best.add(probe.similarity(*most), genuine);
        let together = Agreement::of(&enrolled).similarity(probe, scores.iter().sum());
        fused.add(together, genuine);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_at_a_threshold_is_counted_above_the_impostors_that_may_not_pass() {
        let mut scores = Scores::default();
        (0..1000u16).for_each(|n| scores.add(f32::from(n) / 2000.0, false));
        [0.9, 0.499, 0.4985, 0.1]
            .iter()
            .for_each(|score| scores.add(*score, true));
        let curve = scores.curve();
        // Of 1,000 one may pass at 1e-3, the one at 0.4995, and none at 1e-4.
        assert_eq!(curve.tar, [("1e-3", 0.25), ("1e-4", 0.25), ("1e-5", 0.25)].into());
        assert!((curve.threshold["1e-3"] - 0.499).abs() < 1e-6);
        assert!((curve.threshold["1e-4"] - 0.4995).abs() < 1e-6);
        assert_eq!((curve.genuine_trials, curve.impostor_trials), (4, 1000));
    }
}
