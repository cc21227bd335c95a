//! Cost and gain of each level of the quality gate: photographs refused, and accuracy among the others.

use std::collections::BTreeMap;

use serde::Serialize;

use super::curve::Tally;
use crate::quality::{Quality, QualityLevel};

/// The figures of one level.
#[derive(Debug, Clone, Serialize)]
pub struct LevelFigures {
    /// Photographs with a face that the level refuses.
    pub rejected: usize,
    /// The same as a fraction of the photographs with a face, 0 to 1.
    pub share_rejected: f64,
    /// Why: how many photographs for each reason.
    pub reasons: BTreeMap<&'static str, usize>,
    /// True accept rates of the cosine among the photographs that pass, as in [`super::Curve::tar`]; empty
    /// where no trials are left.
    pub cosine_tar: BTreeMap<&'static str, f64>,
    /// The same of the protected template.
    pub template_tar: BTreeMap<&'static str, f64>,
    /// Genuine and impostor trials of the cosine that are left.
    pub genuine_trials: u64,
    /// The same of impostors.
    pub impostor_trials: u64,
}

/// Trials by the highest level that both photographs pass.
pub(super) struct Tallies(Vec<Tally>);

impl Tallies {
    pub(crate) fn new() -> Self {
        Self(QualityLevel::ALL.map(|_| Tally::new()).into())
    }

    /// Counts one trial of two photographs.
    pub(crate) fn add(&mut self, [one, other]: [QualityLevel; 2], score: f32, genuine: bool) {
        self.0[usize::from(one.min(other).number())].add(score, genuine);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.0
            .iter_mut()
            .zip(&other.0)
            .for_each(|(ours, theirs)| ours.merge(theirs));
    }

    /// The trials of the photographs that pass this level.
    pub(crate) fn at(&self, level: QualityLevel) -> Tally {
        let mut tally = Tally::new();
        self.0[usize::from(level.number())..]
            .iter()
            .for_each(|trials| tally.merge(trials));
        tally
    }
}

/// The figures of all levels, by name.
pub(super) fn figures(
    qualities: &[Quality],
    cosine: &Tallies,
    template: &Tallies,
) -> BTreeMap<&'static str, LevelFigures> {
    let tar = |tally: &Tally| match tally.trials() {
        (0, _) | (_, 0) => BTreeMap::new(),
        _ => tally.curve().tar,
    };
    let figures = |level: QualityLevel| {
        let mut reasons = BTreeMap::new();
        for rejection in qualities.iter().filter_map(|quality| quality.rejection(level)) {
            *reasons.entry(rejection.name()).or_default() += 1;
        }
        let rejected = reasons.values().sum();
        let cosine = cosine.at(level);
        let (genuine_trials, impostor_trials) = cosine.trials();
        LevelFigures {
            rejected,
            share_rejected: rejected as f64 / qualities.len().max(1) as f64,
            reasons,
            cosine_tar: tar(&cosine),
            template_tar: tar(&template.at(level)),
            genuine_trials,
            impostor_trials,
        }
    };
    QualityLevel::ALL
        .map(|level| (level.name(), figures(level)))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_counts_where_both_photographs_pass() {
        let mut tallies = Tallies::new();
        tallies.add([QualityLevel::Strict, QualityLevel::Low], 0.9, true);
        tallies.add([QualityLevel::High, QualityLevel::Strict], 0.8, true);
        tallies.add([QualityLevel::None, QualityLevel::Medium], 0.1, false);
        let trials = QualityLevel::ALL.map(|level| tallies.at(level).trials());
        assert_eq!(trials, [(2, 1), (2, 0), (1, 0), (1, 0), (0, 0)]);
    }
}
