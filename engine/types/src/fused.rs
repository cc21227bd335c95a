//! All faces of a person together: one score from the scores of the single faces, and nothing more stored.
//!
//! With S_f the score of the probe against face f (see [`crate::template`]), t_f the face's template as a
//! vector of +1 and -1, and m the number of bits:
//!
//! > fused similarity = (sum of S_f) / (|sum of t_f| / sqrt m) / sum |q_i|
//!
//! The sum of the scores is the score against the sum of the sign vectors; dividing by that vector's length
//! leaves only how it points. One face alone has exactly its own similarity, and so have n equal ones. Of
//! faces that differ, what is not common averages out, in mated scores and in non-mated ones:
//! both grow, the mated ones more. The best of several faces grows too, for others have more chances. So a
//! threshold that lets one of 10,000 pairs of faces pass lets more pass of either: of people with three to
//! twelve photographs of Labeled Faces in the Wild it is 0.420 for one face, 0.470 for the best and 0.498 for all
//! together (`likeness eval`, docs/search.md).
//!
//! Sum and squared length are integers, so every path gives the same value; the one square root and the two
//! divisions are exact roundings by IEEE 754. The length needs the templates of one person only: it is made
//! when a person's faces change, and deleting a face leaves no trace in it.

use crate::template::{Bits, Probe, Template};

/// Of several faces of one person: the squared length of the sum of their sign vectors, in m.
///
/// From 0 (they cancel out) to the square of their number (they are equal); unrelated ones come to their number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Agreement {
    squared: f64,
    faces: u32,
}

impl Agreement {
    /// Of these templates, all of one length.
    pub fn of(templates: &[&Template]) -> Self {
        let Some(bits) = templates.first().map(|template| template.bits()) else {
            return Self {
                squared: 0.0,
                faces: 1,
            };
        };
        // |sum of t_f|^2 = sum over all f and g of t_f . t_g, and t_f . t_g = m - 2 Hamming.
        let mut squared = 0;
        for (n, one) in templates.iter().enumerate() {
            squared += product(one, one);
            squared += templates[n + 1..]
                .iter()
                .map(|other| 2 * product(one, other))
                .sum::<i64>();
        }
        let faces = u32::try_from(templates.len()).expect("20 at most");
        Self::from_squared(squared, faces, bits)
    }

    fn from_squared(squared: i64, faces: u32, bits: Bits) -> Self {
        // At most 20^2 * 2048, and m is a power of two: exact.
        Self {
            squared: squared as f64 / bits.get() as f64,
            faces,
        }
    }

    /// What the sum of the faces' scores says about the cosine: -1 to 1.
    pub fn similarity(self, probe: &Probe, score_sum: i32) -> f32 {
        let length = self.length();
        // Many faces that differ can add up to more than an estimate of a cosine may be.
        probe.estimate(f64::from(score_sum) / length).clamp(-1.0, 1.0)
    }

    /// What the best face's similarity is at least, of a person whose fused one is `similarity` or more: the
    /// best of the scores is no less than their mean.
    pub fn best_face(self, similarity: f32) -> f32 {
        // A sum below zero may have a best face anywhere. The rest is against rounding.
        let best = f64::from(similarity) * self.length() / f64::from(self.faces) - 1e-5;
        if similarity > 0.0 { best as f32 } else { -1.0 }
    }

    /// Faces that cancel out have no common direction: shorter than one face's vector counts as one's, or
    /// the noise would be enlarged.
    fn length(self) -> f64 {
        self.squared.max(1.0).sqrt()
    }
}

/// The product of two sign vectors: bits that agree minus bits that differ.
fn product(one: &Template, other: &Template) -> i64 {
    one.bits().get() as i64 - 2 * i64::from(one.distance(other))
}

#[cfg(test)]
mod tests {
    use crate::Inside;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{probe_values, template};

    const BITS: Bits = Bits::B256;

    /// The definition, bit for bit.
    fn by_definition(values: &[i8], templates: &[Template]) -> f64 {
        let sign = |t: &Template, i: usize| {
            if t.words(Inside)[i / 64] >> (i % 64) & 1 == 1 {
                1.0
            } else {
                -1.0
            }
        };
        let sums: Vec<f64> = (0..BITS.get())
            .map(|i| templates.iter().map(|t| sign(t, i)).sum())
            .collect();
        let length = sums.iter().map(|s| s * s).sum::<f64>().sqrt() / (BITS.get() as f64).sqrt();
        let score: f64 = sums.iter().zip(values).map(|(s, q)| s * f64::from(*q)).sum();
        let most: f64 = values.iter().map(|q| f64::from(*q).abs()).sum();
        score / length.max(1.0) / most.max(1.0)
    }

    fn fused(probe: &Probe, templates: &[Template]) -> f32 {
        let all: Vec<&Template> = templates.iter().collect();
        let sum = all.iter().map(|t| probe.score(t)).sum();
        Agreement::of(&all).similarity(probe, sum)
    }

    proptest! {
        #[test]
        fn integers_give_what_the_definition_says(
            values in probe_values(BITS),
            templates in prop::collection::vec(template(BITS), 1..20),
        ) {
            let expected = by_definition(&values, &templates).clamp(-1.0, 1.0);
            let found = fused(&Probe::from_values(&values), &templates);
            prop_assert!((f64::from(found) - expected).abs() < 1e-6, "{found} {expected}");
        }

        #[test]
        fn one_face_and_equal_faces_have_the_similarity_of_one(
            values in probe_values(BITS),
            face in template(BITS),
            n in 1..20usize,
        ) {
            let probe = Probe::from_values(&values);
            let copy = || Template::from_words(face.words(Inside).iter().copied());
            let copies: Vec<_> = (0..n).map(|_| copy()).collect();
            prop_assert_eq!(fused(&probe, &copies), probe.similarity(probe.score(&face)));
        }
    }

    #[test]
    fn faces_that_cancel_out_resemble_nobody() {
        let probe = Probe::from_values(&[100; 256]);
        let both = [Template::from_signs(&[1; 256]), Template::from_signs(&[-1; 256])];
        assert_eq!(fused(&probe, &both), 0.0);
    }

    #[test]
    fn a_probe_between_two_faces_is_nearer_to_both_together_than_to_either() {
        // Each face differs from the probe in another quarter of the bits.
        let signs = |from: usize| -> [i32; 256] {
            std::array::from_fn(|i| if (from..from + 64).contains(&i) { -1 } else { 1 })
        };
        let probe = Probe::from_values(&[100; 256]);
        let faces = [0, 64, 128, 192].map(|from| Template::from_signs(&signs(from)));
        let best = faces
            .iter()
            .map(|f| probe.similarity(probe.score(f)))
            .fold(-1.0, f32::max);
        assert_eq!(best, 0.5);
        assert_eq!(fused(&probe, &faces), 1.0);
    }
}
