//! The normal distribution's tails, and what an interval says about a normal value.

/// Beyond so many standard deviations a tail is taken for one there.
const FAR: f64 = 30.0;

fn density(x: f64) -> f64 {
    (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt()
}

/// The part of the normal distribution above x, with a relative error of 1.2e-7 (Press and others, Numerical Recipes,
/// `erfcc`).
pub fn above(x: f64) -> f64 {
    const TERMS: [f64; 10] = [
        -1.265_512_23,
        1.000_023_68,
        0.374_091_96,
        0.096_784_18,
        -0.186_288_06,
        0.278_868_07,
        -1.135_203_98,
        1.488_515_87,
        -0.822_152_23,
        0.170_872_77,
    ];
    let z = x.abs() / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.5 * z);
    let sum = TERMS.iter().rev().fold(0.0, |sum, term| sum * t + term);
    let tail = 0.5 * t * (sum - z * z).exp();
    if x >= 0.0 { tail } else { 1.0 - tail }
}

/// Of a standard normal value that is known to lie in an interval: the slope of the interval's log-likelihood by the
/// mean, and how sharply it bends (the second derivative with its sign turned).
pub fn interval(from: f64, below: f64) -> (f64, f64) {
    // Where both ends are below the mean, the mirrored interval, so that a tail is a difference of small numbers.
    if from + below < 0.0 {
        let (slope, sharpness) = upper(-below, -from);
        return (-slope, sharpness);
    }
    upper(from, below)
}

fn upper(from: f64, below: f64) -> (f64, f64) {
    let (from, below) = (from.clamp(-FAR, FAR), below.clamp(-FAR, FAR + 1.0));
    let part = (above(from) - above(below)).max(1e-300);
    let slope = (density(from) - density(below)) / part;
    let bend = (from * density(from) - below * density(below)) / part;
    (slope, (slope * slope - bend).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_are_those_of_the_tables() {
        for (x, expected) in [
            (0.0, 0.5),
            (1.0, 0.158_655),
            (-1.0, 0.841_345),
            (3.719, 1e-4),
            (6.0, 9.866e-10),
        ] {
            let found = above(x);
            assert!((found / expected - 1.0).abs() < 1e-3, "{x}: {found}");
        }
    }

    #[test]
    fn a_half_moves_the_mean_by_the_half_normal_and_its_mirror_back() {
        let half = (2.0 / std::f64::consts::PI).sqrt();
        for (from, below, expected) in [(0.0, f64::INFINITY, half), (f64::NEG_INFINITY, 0.0, -half)] {
            let (slope, sharpness) = interval(from, below);
            assert!((slope - expected).abs() < 1e-6);
            assert!((sharpness - half * half).abs() < 1e-6);
        }
        // A narrow interval is as good as the value.
        let (slope, sharpness) = interval(0.7, 0.701);
        assert!(
            (slope - 0.7).abs() < 1e-2 && sharpness > 0.99,
            "{slope} {sharpness}"
        );
        // Far out the value is hardly above the bound.
        let (slope, _) = interval(8.0, f64::INFINITY);
        assert!((8.0..8.2).contains(&slope), "{slope}");
    }
}
