//! People with several stored faces: the rates of the best face, and of all faces together, under the
//! calibration of one face.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Sample;
use super::curve::Tally;
use crate::calibration::Rates;
use likeness_types::Inside;
use likeness_types::template::{Bits, Probe, Template};

/// The rates that are looked at.
const STATED: [f64; 2] = [1e-3, 1e-4];
/// Faces of a person that are stored.
const FACES: [usize; 4] = [2, 3, 4, 5];

/// What passes at the similarity of a stated rate of one face.
#[derive(Debug, Clone, Serialize)]
pub struct SeveralFaces {
    /// Length of the templates.
    pub bits: usize,
    /// Stored faces of each person.
    pub faces: usize,
    /// People who have as many.
    pub people: usize,
    /// Photographs of others, each against each person.
    pub impostor_pairs: u64,
    /// The rate at whose similarity the others are counted.
    pub stated: f64,
    /// Of others, by the most similar face.
    pub best_face_far: f64,
    /// Of others, by all faces together.
    pub fused_far: f64,
    /// Of the person's further photographs, by the most similar face.
    pub best_face_tar: f64,
    /// Of the person's further photographs, by all faces together.
    pub fused_tar: f64,
}

/// Counts of what passes: best face and fused, of each stated rate.
#[derive(Default, Clone, Copy)]
struct Passed {
    trials: u64,
    passed: [[u64; 2]; STATED.len()],
}

impl Passed {
    fn add(&mut self, scores: [f32; 2], limits: &[f32; STATED.len()]) {
        self.trials += 1;
        for (passed, limit) in self.passed.iter_mut().zip(limits) {
            for (passed, score) in passed.iter_mut().zip(scores) {
                *passed += u64::from(score >= *limit);
            }
        }
    }

    fn rate(&self, stated: usize, kind: usize) -> f64 {
        self.passed[stated][kind] as f64 / self.trials.max(1) as f64
    }
}

/// The people of a set of samples who have `faces` photographs, with all of theirs.
fn with(faces: usize, samples: &[Sample]) -> Vec<(usize, Vec<usize>)> {
    let mut of_person = BTreeMap::<usize, Vec<usize>>::new();
    for (i, sample) in samples.iter().enumerate() {
        of_person.entry(sample.person).or_default().push(i);
    }
    of_person
        .into_iter()
        .filter(|(_, own)| own.len() >= faces)
        .collect()
}

/// Best and fused similarity of every photograph to a person's stored faces, but of those themselves.
fn each_probe(key: &[(Template, Probe)], stored: &[usize], mut found: impl FnMut(usize, [f32; 2])) {
    let templates: Vec<&Template> = stored.iter().map(|i| &key[*i].0).collect();
    let norm = norm_of_mean(&templates);
    for (i, (_, probe)) in key.iter().enumerate().filter(|(i, _)| !stored.contains(i)) {
        let of_faces = templates.iter().map(|t| probe.similarity(probe.score(t)));
        let (best, sum) = of_faces.fold((-1.0f32, 0.0), |(best, sum), s| (best.max(s), sum + s));
        found(i, [best, sum / stored.len() as f32 / norm]);
    }
}

/// Every person's first faces stored, everybody's other photographs asking.
pub(super) fn several_faces(
    bits: Bits,
    samples: &[Sample],
    keys: &[Vec<(Template, Probe)>],
    rates: &Rates,
) -> Vec<SeveralFaces> {
    let limits = STATED.map(|far| rates.similarity(far));
    let mut reports = Vec::new();
    for faces in FACES {
        let people = with(faces, samples);
        let (mut impostors, mut genuine) = (Passed::default(), Passed::default());
        for (key, (person, own)) in keys.iter().flat_map(|key| people.iter().map(move |p| (key, p))) {
            each_probe(key, &own[..faces], |i, scores| {
                let own = samples[i].person == *person;
                let kind = if own { &mut genuine } else { &mut impostors };
                kind.add(scores, &limits);
            });
        }
        reports.extend(STATED.iter().enumerate().map(|(n, stated)| SeveralFaces {
            bits: bits.get(),
            faces,
            people: people.len(),
            impostor_pairs: impostors.trials / keys.len().max(1) as u64,
            stated: *stated,
            best_face_far: impostors.rate(n, 0),
            fused_far: impostors.rate(n, 1),
            best_face_tar: genuine.rate(n, 0),
            fused_tar: genuine.rate(n, 1),
        }));
    }
    reports
}

/// Fused similarities of everybody with two photographs at least, by the first five of them, and how many
/// pairs of a person and a photograph of another they are of.
pub(super) fn fused(samples: &[Sample], keys: &[Vec<(Template, Probe)>]) -> (Tally, u64) {
    let mut tally = Tally::new();
    let people = with(FACES[0], samples);
    for (key, (person, own)) in keys.iter().flat_map(|key| people.iter().map(move |p| (key, p))) {
        let stored = &own[..own.len().min(FACES[FACES.len() - 1])];
        each_probe(key, stored, |i, [_, fused]| {
            tally.add(fused, samples[i].person == *person);
        });
    }
    let pairs = tally.trials().1 / keys.len().max(1) as u64;
    (tally, pairs)
}

/// The length of the mean of sign vectors, as a part of one's own: 1 where all agree.
fn norm_of_mean(templates: &[&Template]) -> f32 {
    let agreement = |a: &Template, b: &Template| {
        let differing: u32 = a
            .words(Inside)
            .iter()
            .zip(b.words(Inside))
            .map(|(a, b)| (a ^ b).count_ones())
            .sum();
        1.0 - 2.0 * differing as f32 / a.bits().get() as f32
    };
    let each = templates
        .iter()
        .flat_map(|a| templates.iter().map(move |b| agreement(a, b)));
    each.sum::<f32>().max(0.0).sqrt() / templates.len() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faces_that_agree_have_a_mean_as_long_as_one_and_others_a_shorter_one() {
        let of = |signs: [i32; 2]| Template::from_signs(&signs.repeat(128));
        let (a, same, half, other) = (of([1, 1]), of([1, 1]), of([1, -1]), of([-1, -1]));
        assert_eq!(norm_of_mean(&[&a]), 1.0);
        assert_eq!(norm_of_mean(&[&a, &same]), 1.0);
        assert!((norm_of_mean(&[&a, &half]) - 0.5f32.sqrt()).abs() < 1e-6);
        assert_eq!(norm_of_mean(&[&a, &other]), 0.0);
    }
}
