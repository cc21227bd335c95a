//! From scores to figures: thresholds, rates, and the curve between the two kinds of error.

use std::collections::BTreeMap;

use serde::Serialize;

/// The false accept rates that are reported, with their names.
pub(super) const FARS: [(&str, f64); 3] = [("1e-2", 1e-2), ("1e-3", 1e-3), ("1e-4", 1e-4)];

/// Steps of the score from -1 to 1. One is 8e-6: finer than a score means, and all pairs of a large
/// collection (87 million for 13 thousand photographs) stay in a few megabytes.
const STEPS: usize = 1 << 18;

/// Least change of either rate, as a factor, from one point of the curve to the next.
const POINT_STEP: f64 = 1.05;

/// How many trials of each kind reached which score.
pub(super) struct Tally {
    genuine: Vec<u64>,
    impostor: Vec<u64>,
}

/// How well a score tells people apart. Rates are fractions, 0 to 1.
#[derive(Debug, Clone, Serialize)]
pub struct Curve {
    /// True accept rate at each false accept rate ("1e-2", "1e-3", "1e-4"): at the lowest threshold that
    /// lets no more than this fraction of the impostor trials pass.
    pub tar: BTreeMap<&'static str, f64>,
    /// The thresholds of `tar`, on the score from -1 to 1.
    pub threshold: BTreeMap<&'static str, f64>,
    /// The largest (true accept rate + true reject rate) / 2 over all thresholds.
    pub accuracy: f64,
    /// Where `accuracy` is reached.
    pub accuracy_threshold: f64,
    /// Trials of two photographs of one person.
    pub genuine_trials: u64,
    /// Trials of photographs of two people.
    pub impostor_trials: u64,
    /// The detection error trade-off, from the strictest threshold to the loosest.
    pub det: Vec<DetPoint>,
}

/// One threshold's two errors.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DetPoint {
    /// On the score, -1 to 1.
    pub threshold: f64,
    /// False match rate: impostor trials that pass.
    pub fmr: f64,
    /// False non-match rate: genuine trials that do not.
    pub fnmr: f64,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            genuine: vec![0; STEPS],
            impostor: vec![0; STEPS],
        }
    }

    /// Counts one trial with a score of -1 to 1.
    pub(super) fn add(&mut self, score: f32, genuine: bool) {
        let counts = if genuine {
            &mut self.genuine
        } else {
            &mut self.impostor
        };
        counts[step_of(score)] += 1;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (ours, theirs) in [
            (&mut self.genuine, &other.genuine),
            (&mut self.impostor, &other.impostor),
        ] {
            ours.iter_mut().zip(theirs).for_each(|(a, b)| *a += b);
        }
    }

    /// Genuine and impostor trials.
    pub(super) fn trials(&self) -> (u64, u64) {
        (self.genuine.iter().sum(), self.impostor.iter().sum())
    }

    /// Genuine and impostor trials at and above a similarity, to a step.
    pub(super) fn passing(&self, similarity: f32) -> (u64, u64) {
        let from = step_of(similarity);
        (
            self.genuine[from..].iter().sum(),
            self.impostor[from..].iter().sum(),
        )
    }

    /// For each of these rates, falling, the least similarity that no more of the impostor trials reach.
    pub(super) fn impostor_quantiles(&self, fars: &[f64]) -> Vec<f64> {
        let all = self.trials().1 as f64;
        let mut similarities = vec![1.0; fars.len()];
        let mut passed = 0;
        for (step, count) in self.impostor.iter().enumerate().rev() {
            passed += count;
            for (similarity, far) in similarities.iter_mut().zip(fars) {
                if passed as f64 <= far * all {
                    *similarity = lower_end(step);
                }
            }
        }
        similarities
    }

    /// How far impostor trials at and above a similarity lie above it, in the mean.
    pub(super) fn impostor_excess(&self, similarity: f64) -> f64 {
        let above = self
            .impostor
            .iter()
            .enumerate()
            .map(|(step, count)| (lower_end(step), *count as f64));
        let (mut sum, mut number) = (0.0, 0.0);
        for (at, count) in above.filter(|(at, _)| *at >= similarity) {
            (sum, number) = (sum + count * (at - similarity), number + count);
        }
        if number > 0.0 { sum / number } else { 0.0 }
    }

    /// One walk from the strictest threshold to the loosest. There is at least one trial of each kind.
    pub(super) fn curve(&self) -> Curve {
        let (genuine_trials, impostor_trials) = self.trials();
        let mut curve = Curve {
            tar: FARS.map(|(name, _)| (name, 0.0)).into(),
            threshold: FARS.map(|(name, _)| (name, 1.0)).into(),
            accuracy: 0.5,
            accuracy_threshold: 1.0,
            genuine_trials,
            impostor_trials,
            det: Vec::new(),
        };
        let (mut genuine, mut impostor) = (0, 0);
        for step in (0..STEPS).rev() {
            genuine += self.genuine[step];
            impostor += self.impostor[step];
            let point = DetPoint {
                threshold: lower_end(step),
                fmr: impostor as f64 / impostor_trials as f64,
                fnmr: (genuine_trials - genuine) as f64 / genuine_trials as f64,
            };
            if self.genuine[step] + self.impostor[step] > 0 {
                curve.pass(point);
            }
        }
        curve
    }
}

/// The step that a score of -1 to 1 counts in.
fn step_of(score: f32) -> usize {
    // A negative product saturates at 0; rounding may carry a cosine beyond 1.
    let step = (f64::from(score + 1.0) / 2.0 * STEPS as f64) as usize;
    step.min(STEPS - 1)
}

/// The least score of a step.
fn lower_end(step: usize) -> f64 {
    step as f64 / STEPS as f64 * 2.0 - 1.0
}

impl Curve {
    /// Takes the next looser threshold into account.
    fn pass(&mut self, point: DetPoint) {
        for (name, far) in FARS {
            if point.fmr <= far {
                self.tar.insert(name, 1.0 - point.fnmr);
                self.threshold.insert(name, point.threshold);
            }
        }
        let accuracy = (1.0 - point.fnmr + 1.0 - point.fmr) / 2.0;
        if accuracy > self.accuracy {
            (self.accuracy, self.accuracy_threshold) = (accuracy, point.threshold);
        }
        let far_from_last = self.det.last().is_none_or(|last| {
            point.fmr > last.fmr * POINT_STEP
                || point.fnmr * POINT_STEP < last.fnmr
                || (point.fnmr == 0.0 && last.fnmr > 0.0)
        });
        if far_from_last {
            self.det.push(point);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(genuine: &[f32], impostor: &[f32]) -> Tally {
        let mut tally = Tally::new();
        genuine.iter().for_each(|score| tally.add(*score, true));
        impostor.iter().for_each(|score| tally.add(*score, false));
        tally
    }

    #[test]
    fn rates_are_counted_at_the_lowest_threshold_that_keeps_the_false_accepts() {
        // Of 1,000 impostors 1e-3 lets one pass, the one at 0.9, and 1e-2 ten.
        let mut impostor = vec![0.1; 990];
        impostor.extend([0.4; 9]);
        impostor.push(0.9);
        let curve = tally(&[0.95, 0.8, 0.5, 0.3], &impostor).curve();
        assert_eq!(curve.tar, [("1e-2", 1.0), ("1e-3", 0.75), ("1e-4", 0.25)].into());
        assert!((curve.threshold["1e-3"] - 0.5).abs() < 1e-5);
        assert_eq!((curve.genuine_trials, curve.impostor_trials), (4, 1000));
    }

    #[test]
    fn accuracy_weighs_both_kinds_alike_however_many_there_are() {
        let curve = tally(&[0.8, 0.2], &[0.1; 1000]).curve();
        assert_eq!(curve.accuracy, 1.0);
        assert!((curve.accuracy_threshold - 0.2).abs() < 1e-5);
        let curve = tally(&[0.8, 0.2], &[0.5; 1000]).curve();
        assert_eq!(curve.accuracy, 0.75);
    }

    #[test]
    fn the_curve_falls_from_all_rejected_to_all_accepted() {
        let scores: Vec<f32> = (0..1000u16).map(|i| f32::from(i) / 1000.0).collect();
        let curve = tally(&scores[300..], &scores[..700]).curve();
        for pair in curve.det.windows(2) {
            assert!(pair[0].fmr <= pair[1].fmr && pair[0].fnmr >= pair[1].fnmr);
        }
        assert!(curve.det.len() < 400);
        assert_eq!(curve.det.last().map(|point| point.fnmr), Some(0.0));
    }

    #[test]
    fn scores_at_and_beyond_the_ends_are_counted() {
        let mut ends = tally(&[1.0, 1.000_001], &[-1.0, -1.000_001]);
        ends.merge(&tally(&[0.0], &[0.0]));
        assert_eq!(ends.trials(), (3, 3));
    }
}
