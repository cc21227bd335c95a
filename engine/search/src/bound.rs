//! The bound of the cascade: the largest penalty at which a stage still keeps a row.
//!
//! The bound for Hamming distances treats all bits alike. The asymmetric score does not: a bit where the
//! projected probe is large seldom differs between two photographs of one person, and weighs most where
//! it does. Both facts narrow the bound, and this file uses them:
//!
//! - A stored unit embedding is c times the probe plus sqrt(1 - c^2) times a direction orthogonal to it.
//!   The projection is a random rotation, drawn once for each key, so that direction is uniform to us
//!   for any distribution of faces. Bit i then differs from the sign of q_i with probability
//!   e_i = Q(a |q_i|), where Q is the upper tail of the normal distribution and a is the same for all bits
//!   and grows with c.
//! - Scores are counted as penalties: D, the sum of |q_i| over the bits that differ. S = sum |q| - 2 D, so
//!   that "S reaches the bar" is "D is at most its limit", and a is chosen so that E\[D\] is that limit.
//! - A stage knows X, the sum of its weights h_i over those of its bits that differ: h_i is |q_i| rounded
//!   down, to steps of a byte or to three bits. What is asked for is X's distribution *given* D, by regression: X - b D with
//!   b = cov(X, D) / var D has no correlation with D, and is a sum of parts w_i = h_i - b |q_i| (without
//!   h_i for the bits that the stage does not see). Rounding costs no slack: the bound is that of the
//!   rounded weights.
//! - The rows of the projection are orthonormal in blocks of n, and the direction is orthogonal to the
//!   probe: so within each whole block the sum L of q_i x_i is 0, where x_i, the direction's projection, is
//!   normal and makes bit i differ when it is below -a |q_i|. X and D are regressed on every L first; what
//!   is left of the noise of 512 bits is a third (the brunt of it is linear in x, and the linear part is
//!   gone). A bit's part of what remains is w_i B_i - g q_i x_i, whose cumulants are elementary:
//!   var = w^2 e (1 - e) + g^2 q^2 + 2 w g q f, with f the normal density at a |q|; the third one below.
//! - The limit is the quantile of a normal distribution with this mean and variance, corrected for the skew
//!   by the first term of Cornish and Fisher.
//! - D exactly at its limit is the worst case: a lower D has a lower X.
//!
//! The miss probability is shared evenly by the stages, and their sum is at most the whole (union bound).
//! It is one over projection keys and photographs, for a face that reaches the bar exactly; the tests of
//! `cascade.rs` check it through the real projection.

use crate::weights::Weights;
use likeness_types::template::{BLOCK_MIN, Bits};

/// Stages before the whole score: the bits that lie in columns, and all of them.
const STAGES: usize = 2;

/// Where parts of a template end that lie in one stage and one block of the projection.
const PARTS: [usize; 5] = [256, 512, 1024, 1536, 2048];

/// Magnitudes of a probe's values.
const MAGNITUDES: usize = 128;

/// What the largest of the lowest limits becomes in steps: below 255, where the sums saturate.
const STEPS: f64 = 240.0;

/// Part of the largest score above which limits do not tighten further: nothing of use is gained there,
/// and the normal distribution, with few bits that differ, is no description any more.
const BAR_MAX: f64 = 0.9;

/// Least number of bits of equal weight, (sum q^2)^2 / sum q^4, that the first stage must be worth. A
/// projected face is worth a third of its 256; a probe of few large values has no normal distribution.
const EVENNESS_MIN: f64 = 40.0;

/// The penalties that a row may have at the end of each stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// In steps of the front.
    pub front: u8,
    /// Of all bits, as [`Weights`] count them.
    pub all: i32,
}

/// The magnitudes of a probe and what follows from them.
#[derive(Clone)]
pub(crate) struct Bound {
    /// For each part how many values of each magnitude it has, and for all of them together.
    counts: [[f64; MAGNITUDES]; PARTS.len()],
    all: [f64; MAGNITUDES],
    /// Bits of the template, and of a block of the projection.
    bits: usize,
    block: usize,
    /// The sum of the magnitudes.
    sum: f64,
    /// Standard deviations of a stage's share of the miss probability.
    z: f64,
    /// What one step of the front is worth.
    step: u32,
    /// The present a, once it was approached: it only grows, for bars only rise.
    a: f64,
}

impl Bound {
    /// For a probe's values and the lowest bar that its search can have; `None` where there is nothing to
    /// bound: a bar of zero or less, or a probe too uneven to have a distribution.
    ///
    /// `block` is the number of outputs of the projection that form a whole rotation.
    pub(crate) fn new(values: &[i8], block: usize, bar: i32, miss: f64) -> Option<Self> {
        let mut counts = [[0.0; MAGNITUDES]; PARTS.len()];
        for (part, counts) in counts.iter_mut().enumerate() {
            let end = PARTS[part].min(values.len());
            for value in &values[start_of(part).min(end)..end] {
                counts[usize::from(value.unsigned_abs())] += 1.0;
            }
        }
        let mut all = [0.0; MAGNITUDES];
        for (m, count) in counts.iter().flat_map(present) {
            all[m] += count;
        }
        let mut bound = Self {
            sum: moment(&all, 1),
            counts,
            all,
            bits: values.len(),
            block,
            z: quantile(miss / STAGES as f64),
            step: 1,
            a: 0.0,
        };
        let even = moment(&counts[0], 2).powi(2) / moment(&counts[0], 4).max(1.0) >= EVENNESS_MIN;
        if bar <= 0 || !even {
            return None;
        }
        bound.approach(bar);
        let front = bound.limit(0, &bound.each_bit(|m| m));
        bound.step = ((front / STEPS).ceil() as u32).max(1);
        Some(bound)
    }

    /// What one step of the front is worth.
    pub(crate) fn step(&self) -> u32 {
        self.step
    }

    /// The limits at a bar no lower than the one before.
    pub(crate) fn limits(&mut self, bar: i32) -> Limits {
        self.approach(bar);
        let step = self.step;
        let [front, all] = self.penalties(|m| f64::from(m as u32 / step * step));
        // The casts round down and saturate: a limit of 255 lets everything pass.
        Limits {
            front: (front / f64::from(step)) as u8,
            all: all as i32,
        }
    }

    /// Solves E\[D\] = (sum - bar) / 2 for a by Newton's method: E\[D\] falls with a and is convex, so that whatever it
    /// began with, the solution is approached from below, where limits are wider than they need be.
    ///
    /// It begins with what solves it for values of a normal distribution with their standard deviation: there the part of
    /// the sum that is left, 1 - 2 E\[D\] / E\[sum\], is a sd / sqrt(1 + (a sd)^2).
    fn approach(&mut self, bar: i32) {
        let bar = f64::from(bar).min(BAR_MAX * self.sum);
        let wanted = (self.sum - bar) / 2.0;
        if self.a == 0.0 {
            let left = bar / self.sum;
            let sd = (moment(&self.all, 2) / self.bits as f64).sqrt();
            self.a = left / (1.0 - left * left).sqrt() / sd;
        }
        for _ in 0..20 {
            let (mut mean, mut slope) = (0.0, 0.0);
            for ((m, count), Normal { e, f }) in self.all.iter().enumerate().zip(normal(self.a)) {
                let m = m as f64;
                mean += count * m * e;
                slope += count * m * m * f;
            }
            let step = (mean - wanted) / slope;
            if (0.0..=1e-4 * self.a).contains(&step) {
                break;
            }
            // A beginning that was far too large would lead below zero, where no solution is.
            self.a = (self.a + step).max(0.0);
        }
    }

    /// The penalty that each stage may have, where `front` says what a magnitude counts as in columns.
    fn penalties(&self, front: impl Fn(f64) -> f64) -> [f64; STAGES] {
        let bits = self.each_bit(front);
        std::array::from_fn(|stage| self.limit(stage, &bits))
    }

    /// The bits of each magnitude, in columns and behind them, where `front` says what it counts as in columns.
    fn each_bit(&self, front: impl Fn(f64) -> f64) -> [[Bit; MAGNITUDES]; 2] {
        let normal = normal(self.a);
        let front: [Bit; MAGNITUDES] = std::array::from_fn(|m| {
            let (Normal { e, f }, m) = (normal[m], m as f64);
            Bit {
                q: m,
                h: front(m),
                e,
                f,
                af: self.a * m * f,
            }
        });
        let rest = std::array::from_fn(|m| Bit {
            h: f64::from(Weights::worth(m as u8)),
            ..front[m]
        });
        [front, rest]
    }

    /// The penalty that a stage may have.
    fn limit(&self, stage: usize, bits: &[[Bit; MAGNITUDES]; 2]) -> f64 {
        // Means and covariances; those with L are for each block of the projection.
        let (mut mean, mut cov, mut var) = (0.0, 0.0, 0.0);
        let mut linear = [Linear::default(); Bits::MAX / BLOCK_MIN];
        for (part, counts) in self.counts.iter().enumerate() {
            let (seen, block) = (part == 0 || stage > 0, self.block_of(part));
            let bits = &bits[usize::from(part > 0)];
            let mut own = Linear::default();
            for (m, count) in present(counts) {
                let Bit { q, h, e, f, .. } = bits[m];
                let h = if seen { h } else { 0.0 };
                mean += count * h * e;
                cov += count * h * q * e * (1.0 - e);
                var += count * q * q * e * (1.0 - e);
                own.x -= count * h * q * f;
                own.d -= count * q * q * f;
                own.var += count * q * q;
            }
            if let Some(block) = block {
                linear[block].x += own.x;
                linear[block].d += own.d;
                linear[block].var += own.var;
            }
        }
        for Linear { x, d, var: own } in linear.iter().filter(|linear| linear.var > 0.0) {
            cov -= x * d / own;
            var -= d * d / own;
        }
        let b = cov / var;
        // What remains of X when D and every L are known: the variance and the third cumulant.
        let (mut var, mut third) = (0.0, 0.0);
        for (part, counts) in self.counts.iter().enumerate() {
            let (seen, block) = (part == 0 || stage > 0, self.block_of(part));
            let bits = &bits[usize::from(part > 0)];
            let g = block.map_or(0.0, |block| linear[block].slope(b));
            for (m, count) in present(counts) {
                let Bit { q, h, e, f, af } = bits[m];
                let (w, g) = (if seen { h } else { 0.0 } - b * q, g * q);
                let v = e * (1.0 - e);
                var += count * (w * w * v + g * g + 2.0 * w * g * f);
                third += count
                    * w
                    * (w * w * v * (1.0 - 2.0 * e) + 3.0 * w * g * f * (1.0 - 2.0 * e) + 3.0 * g * g * af);
            }
        }
        let sd = var.max(0.0).sqrt();
        let skew = if sd > 0.0 { third / sd.powi(3) } else { 0.0 };
        mean + sd * (self.z + (skew * (self.z * self.z - 1.0) / 6.0).max(0.0))
    }

    /// The whole block of the projection that a part lies in.
    fn block_of(&self, part: usize) -> Option<usize> {
        let block = start_of(part) / self.block;
        ((block + 1) * self.block <= self.bits).then_some(block)
    }
}

/// A bit where the probe has the magnitude q: its weight h, the probability e that it differs, the normal
/// density f at a q, and a q f.
#[derive(Clone, Copy)]
struct Bit {
    q: f64,
    h: f64,
    e: f64,
    f: f64,
    af: f64,
}

/// L of a block: its covariances with X and with D, and its variance.
#[derive(Clone, Copy, Default)]
struct Linear {
    x: f64,
    d: f64,
    var: f64,
}

impl Linear {
    /// What X - b D has of L.
    fn slope(self, b: f64) -> f64 {
        if self.var > 0.0 {
            (self.x - b * self.d) / self.var
        } else {
            0.0
        }
    }
}

/// Where a part begins.
fn start_of(part: usize) -> usize {
    if part == 0 { 0 } else { PARTS[part - 1] }
}

/// Each magnitude that a probe has, and how often.
fn present(counts: &[f64; MAGNITUDES]) -> impl Iterator<Item = (usize, f64)> + Clone {
    let all = counts.iter().enumerate().skip(1);
    all.filter(|(_, count)| **count > 0.0)
        .map(|(m, count)| (m, *count))
}

fn moment(counts: &[f64; MAGNITUDES], power: i32) -> f64 {
    present(counts)
        .map(|(m, count)| count * (m as f64).powi(power))
        .sum()
}

/// The normal density f at x, and the probability e that a normal value exceeds x.
#[derive(Clone, Copy, Default)]
struct Normal {
    e: f64,
    f: f64,
}

/// Those at a m for each magnitude m. By f(x) = exp(-x^2 / 2) / sqrt(2 pi) each density is the one before times a ratio that
/// shrinks by exp(-a^2) every time: two exponentials for all, with an error of some 1e-12 of each.
fn normal(a: f64) -> [Normal; MAGNITUDES] {
    const SQRT_TAU: f64 = 2.506_628_274_631_000_7;
    let shrinks = (-a * a).exp();
    let (mut f, mut ratio) = (1.0 / SQRT_TAU, (-0.5 * a * a).exp());
    let mut all = [Normal::default(); MAGNITUDES];
    for normal in &mut all {
        normal.f = f;
        f *= ratio;
        ratio *= shrinks;
    }
    for (m, normal) in all.iter_mut().enumerate() {
        normal.e = tail(a * m as f64, normal.f);
    }
    all
}

/// The probability that a normal value exceeds x >= 0, where its density is `f`: Abramowitz and Stegun
/// 26.2.17, error < 7.5e-8.
fn tail(x: f64, f: f64) -> f64 {
    const B: [f64; 5] = [
        0.319_381_530,
        -0.356_563_782,
        1.781_477_937,
        -1.821_255_978,
        1.330_274_429,
    ];
    let t = 1.0 / (1.0 + 0.231_641_9 * x);
    f * B.iter().rev().fold(0.0, |sum, b| (sum + b) * t)
}

/// The value that a normal one exceeds with probability `p` of at most 0.5: Abramowitz and Stegun 26.2.23,
/// and its largest error on top.
fn quantile(p: f64) -> f64 {
    const ERROR: f64 = 4.5e-4;
    let t = (-2.0 * p.ln()).sqrt();
    let numerator = 2.515_517 + t * (0.802_853 + t * 0.010_328);
    let denominator = 1.0 + t * (1.432_788 + t * (0.189_269 + t * 0.001_308));
    t - numerator / denominator + ERROR
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From tables of the normal distribution.
    #[test]
    fn tails_and_quantiles_are_those_of_the_normal_distribution() {
        for (x, p) in [
            (0.0, 0.5),
            (1.0, 0.158_655_3),
            (2.326_348, 0.01),
            (3.090_232, 0.001),
        ] {
            // The magnitude 1 at a = x, and 100 at a hundredth of it.
            let found = [normal(x)[1].e, normal(x / 100.0)[100].e];
            assert!(found.iter().all(|e| (e - p).abs() < 1e-7), "{x}: {found:?}");
        }
        for (p, x) in [(0.01, 2.326_348), (1e-4, 3.719_016), (1e-6, 4.753_424)] {
            assert!((0.0..1e-3).contains(&(quantile(p) - x)), "{p}");
        }
    }

    #[test]
    fn a_bar_is_approached_from_below_whatever_the_values_are() {
        let even = |i: i32| i * 37 % 121 - 60;
        let mostly_small = |i: i32| if i % 6 == 0 { 127 } else { i % 3 };
        let all_alike = |i: i32| if i % 2 == 0 { 30 } else { -30 };
        for values in [even, mostly_small, all_alike] {
            let values: Vec<i8> = (0..1024).map(|i| values(i) as i8).collect();
            let sum: i32 = values.iter().map(|q| i32::from(*q).abs()).sum();
            for tenths in 1..=9 {
                let bar = sum / 10 * tenths;
                let bound = Bound::new(&values, 512, bar, 1e-6).expect("even enough");
                let expected = bound.all.iter().zip(normal(bound.a)).enumerate();
                let expected: f64 = expected
                    .map(|(m, (count, normal))| count * m as f64 * normal.e)
                    .sum();
                let wanted = f64::from(sum - bar) / 2.0;
                let ratio = expected / wanted;
                assert!((1.0 - 1e-6..1.001).contains(&ratio), "{tenths} tenths: {ratio}");
            }
        }
    }

    #[test]
    fn limits_tighten_as_the_bar_rises() {
        let values: Vec<i8> = (0..1024).map(|i| (i * 37 % 121 - 60) as i8).collect();
        let sum: i32 = values.iter().map(|q| i32::from(*q).abs()).sum();
        let mut bound = Bound::new(&values, 512, sum / 10, 1e-6).expect("even enough");
        let mut before = bound.limits(sum / 10);
        assert!(before.front < 250 && before.all > i32::from(before.front));
        for tenth in 2..9 {
            let limits = bound.limits(sum / 10 * tenth);
            assert!(limits.front < before.front && limits.all < before.all);
            before = limits;
        }
    }

    #[test]
    fn a_whole_rotation_narrows_the_bound() {
        let values: Vec<i8> = (0..1024).map(|i| (i * 37 % 121 - 60) as i8).collect();
        let limits = |block| {
            Bound::new(&values, block, 9000, 1e-6)
                .expect("even enough")
                .penalties(|m| m)
        };
        let (whole, none) = (limits(512), limits(2048));
        assert!(whole[0] < none[0] && whole[1] < none[1], "{whole:?} {none:?}");
    }

    #[test]
    fn nothing_is_bounded_without_a_bar_or_a_distribution() {
        let even: Vec<i8> = (0..256).map(|i| (i % 100) as i8).collect();
        assert!(Bound::new(&even, 512, 1, 1e-6).is_some());
        assert!(Bound::new(&even, 512, 0, 1e-6).is_none());
        assert!(Bound::new(&[0; 256], 512, 1, 1e-6).is_none());
        let mut one = [0; 256];
        one[7] = 127;
        assert!(Bound::new(&one, 512, 100, 1e-6).is_none());
    }
}
