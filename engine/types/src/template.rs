//! Templates, probes, and the score between the two.
//!
//! The kept side is [`Template`]: the signs of the projected features. The asking side is never
//! stored, so it keeps its precision: [`Probe`], the projected features as int8. With q the probe
//! and b the template,
//!
//! > S = sum of q_i where b_i is 1, minus the sum of q_i where b_i is 0
//!
//! in integers, so that every code path and every index gives the same value, and
//! s = S / sum |q_i|, from -1 to 1, estimates the cosine between the two faces.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::Inside;
use crate::error::{RequestError, Result};

/// Bits of a machine word, the unit of storage and of comparing.
const WORD: usize = u64::BITS as usize;

/// Bit planes of a probe: one for each bit of an int8.
pub const PLANES: usize = i8::BITS as usize;

/// What a bit of each plane is worth: the places of a two's complement int8.
pub const PLANE_WEIGHTS: [i32; PLANES] = [1, 2, 4, 8, 16, 32, 64, -128];

/// Least outputs of the projection that form a whole rotation: its rows are orthogonal within such a block.
pub const BLOCK_MIN: usize = 512;

/// The length of a template in bits, chosen for each collection.
///
/// Length buys accuracy, not privacy: found at a false accept rate of 1e-4 are 93.9, 96.7 and
/// 97.1 % at 256, 512 and 1024 bits (all of LFW, probe against stored; plain features: 97.4 %).
///
/// ```
/// use likeness_types::template::Bits;
/// assert_eq!(Bits::parse(512).expect("a length").get(), 512);
/// assert_eq!(Bits::default().get(), 1024);
/// assert!(Bits::parse(1000).is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Bits {
    /// 32 bytes a face.
    B256,
    /// 64 bytes a face.
    B512,
    /// 128 bytes a face.
    #[default]
    B1024,
    /// 256 bytes a face.
    B2048,
}

impl Bits {
    /// Every length, shortest first.
    pub const ALL: [Self; 4] = [Self::B256, Self::B512, Self::B1024, Self::B2048];

    /// The longest template, in bits.
    pub const MAX: usize = Self::B2048.get();

    /// Takes 256, 512, 1024 or 2048.
    ///
    /// # Errors
    /// [`RequestError::Invalid`] for any other number.
    pub fn parse(bits: u32) -> Result<Self> {
        let known = Self::ALL.into_iter().find(|b| b.get() as u64 == u64::from(bits));
        Ok(known.ok_or_else(|| RequestError::invalid("bits", "256, 512, 1024 or 2048", bits.to_string()))?)
    }

    /// The number of bits.
    pub const fn get(self) -> usize {
        match self {
            Self::B256 => 256,
            Self::B512 => 512,
            Self::B1024 => 1024,
            Self::B2048 => 2048,
        }
    }

    /// The number of 64-bit words.
    pub const fn words(self) -> usize {
        self.get() / WORD
    }

    fn of_words(words: usize) -> Option<Self> {
        Self::ALL.into_iter().find(|b| b.words() == words)
    }
}

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.get())
    }
}

/// What is kept of a face: bits that only the owner of the projection key could turn back.
///
/// Comparable under one scheme, wiped on drop; `Debug` prints the size and never the bits.
///
/// ```compile_fail
/// fn copy(t: &likeness_types::template::Template) -> likeness_types::template::Template { t.clone() }
/// ```
#[derive(PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Template {
    /// Bit i of the template is bit i % 64 of word i / 64.
    words: Box<[u64]>,
}

impl Template {
    /// A 1 for every value that is zero or more; there must be as many values as one of [`Bits`].
    pub fn from_signs(values: &[i32]) -> Self {
        Self::from_words(
            values
                .chunks(WORD)
                .map(|chunk| pack(chunk.iter().map(|v| *v >= 0))),
        )
    }

    /// From the words of an index; there must be as many as one of [`Bits`] has.
    pub fn from_words(words: impl ExactSizeIterator<Item = u64>) -> Self {
        // An iterator of known length is collected without growing, which would leave unwiped copies.
        let words: Box<[u64]> = words.collect();
        assert!(
            Bits::of_words(words.len()).is_some(),
            "{} words are no template",
            words.len()
        );
        Self { words }
    }

    /// Reads what [`Self::to_bytes`] wrote; `None` when the length is not one of [`Bits`].
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (chunks, rest) = bytes.as_chunks::<8>();
        let known = rest.is_empty() && Bits::of_words(chunks.len()).is_some();
        known.then(|| Self::from_words(chunks.iter().map(|chunk| u64::from_le_bytes(*chunk))))
    }

    /// The bits for the sealed record, `[bits / 8]` bytes: bit i is bit i % 8 of byte i / 8.
    pub fn to_bytes(&self, _: Inside) -> Zeroizing<Vec<u8>> {
        // The exact capacity: growing would leave an unwiped copy behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(self.words.len() * 8));
        bytes.extend(self.words.iter().flat_map(|word| word.to_le_bytes()));
        bytes
    }

    /// The length.
    pub fn bits(&self) -> Bits {
        Bits::of_words(self.words.len()).expect("every constructor checks the length")
    }

    /// The bits for the index, `[bits / 64]` words.
    pub fn words(&self, _: Inside) -> &[u64] {
        &self.words
    }

    /// Bits in which the two differ.
    ///
    /// # Panics
    /// When the lengths differ: templates of two schemes are never compared.
    pub fn distance(&self, other: &Self) -> u32 {
        assert_eq!(
            self.words.len(),
            other.words.len(),
            "templates of two schemes are never compared"
        );
        let pairs = self.words.iter().zip(&other.words);
        pairs.map(|(a, b)| (a ^ b).count_ones()).sum()
    }

    /// The first `bits` bits; there must be as many. Under one projection key that is the template of that
    /// length.
    pub fn beginning(&self, bits: Bits) -> Self {
        Self::from_words(self.words[..bits.words()].iter().copied())
    }

    /// What two stored faces say about their cosine, -1 to 1. Its calibration is another than a probe's.
    ///
    /// # Panics
    /// When the lengths differ: templates of two schemes are never compared.
    pub fn similarity(&self, other: &Self) -> f32 {
        stored_similarity(self.distance(other), self.bits())
    }
}

/// What the distance of two stored templates says about the cosine of their faces: cos(pi * distance / m),
/// -1 to 1. Of two faces at an angle a, each bit differs with probability a / pi.
pub fn stored_similarity(distance: u32, bits: Bits) -> f32 {
    (std::f64::consts::PI * f64::from(distance) / bits.get() as f64).cos() as f32
}

/// The largest distance whose similarity reaches `similarity`; none when even equal templates do not.
pub fn distance_at(similarity: f32, bits: Bits) -> Option<u32> {
    let distances = 0..=u32::try_from(bits.get()).expect("at most 2048");
    // The similarity falls as the distance grows.
    distances
        .rev()
        .find(|distance| stored_similarity(*distance, bits) >= similarity)
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Template({} bits)", self.bits())
    }
}

/// A face that asks: its projected features as int8 (-127 to 127), never stored, wiped on drop.
///
/// Kept as bit planes, so that a score costs AND and popcount: plane p holds bit p of every
/// value in two's complement, and the sum of the values where a template has a 1 is the sum over
/// the planes of `PLANE_WEIGHTS[p] * popcount(template & plane)`.
///
/// ```compile_fail
/// fn show(p: &likeness_types::template::Probe) { println!("{p:?}"); }
/// ```
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Probe {
    /// `[bits / 64]` words of each plane, the planes of a word side by side.
    planes: Box<[[u64; PLANES]]>,
    /// Sum of q.
    sum: i32,
    /// Sum of |q|: the largest score there can be. At most 2048 * 127, so no score overflows.
    score_max: i32,
    /// Values that are a whole rotation of the embedding.
    block: u32,
}

impl Probe {
    /// From values of -127 to 127; there must be as many as one of [`Bits`]. The first `block` of them, the
    /// next and so on are whole rotations of one vector.
    pub fn from_rotations(values: &[i8], block: usize) -> Self {
        let mut probe = Self::from_values(values);
        probe.block = u32::try_from(block).expect("2048 at most");
        probe
    }

    /// From any values of -127 to 127; there must be as many as one of [`Bits`].
    pub fn from_values(values: &[i8]) -> Self {
        let plane = |chunk: &[i8], p: usize| pack(chunk.iter().map(|q| q.cast_unsigned() >> p & 1 == 1));
        let planes: Box<[[u64; PLANES]]> = values
            .chunks(WORD)
            .map(|chunk| std::array::from_fn(|p| plane(chunk, p)))
            .collect();
        assert!(
            Bits::of_words(planes.len()).is_some(),
            "{} is no length of a probe",
            values.len()
        );
        Self {
            planes,
            sum: values.iter().map(|q| i32::from(*q)).sum(),
            score_max: values.iter().map(|q| i32::from(*q).abs()).sum(),
            block: u32::MAX, // none of which anything is known
        }
    }

    /// The length of the templates it compares with.
    pub fn bits(&self) -> Bits {
        Bits::of_words(self.planes.len()).expect("the constructor checks the length")
    }

    /// S, the integer score against one template.
    ///
    /// # Panics
    /// When the lengths differ: templates of two schemes are never compared.
    pub fn score(&self, template: &Template) -> i32 {
        assert_eq!(
            self.planes.len(),
            template.words.len(),
            "templates of two schemes are never compared"
        );
        let mut counts = [0; PLANES];
        for (word, planes) in template.words.iter().zip(&self.planes) {
            for (count, plane) in counts.iter_mut().zip(planes) {
                *count += (word & plane).count_ones().cast_signed();
            }
        }
        let ones: i32 = counts
            .iter()
            .zip(PLANE_WEIGHTS)
            .map(|(count, weight)| count * weight)
            .sum();
        2 * ones - self.sum
    }

    /// s = S / sum |q|, -1 to 1: what a score says about the cosine.
    pub fn similarity(&self, score: i32) -> f32 {
        self.estimate(f64::from(score))
    }

    /// The same of a score that need not be whole.
    pub fn estimate(&self, score: f64) -> f32 {
        // A probe of zeros knows nothing, and resembles nothing.
        (score / f64::from(self.score_max.max(1))) as f32
    }

    /// The least score whose similarity reaches `similarity`, so that a search compares integers
    /// and still agrees with the similarity it reports to the last bit.
    pub fn score_at(&self, similarity: f32) -> i32 {
        if similarity.is_nan() || similarity > 1.0 {
            return self.score_max + 1; // a limit that is no number lets nothing pass either
        }
        let similarity = similarity.max(-1.0);
        let near = (f64::from(similarity) * f64::from(self.score_max)).floor() as i32;
        // Rounding s to f32 moves it by far less than one step of S: the answer is near.
        (near - 1..=near + 1)
            .find(|s| self.similarity(*s) >= similarity)
            .unwrap_or(near + 2)
    }

    /// The bit planes for the index, `[bits / 64][8]` words.
    pub fn planes(&self, _: Inside) -> &[[u64; PLANES]] {
        &self.planes
    }

    /// The sum of all values.
    pub fn sum(&self) -> i32 {
        self.sum
    }

    /// How many values at a time are a whole rotation of the embedding.
    pub fn block(&self) -> usize {
        self.block as usize
    }

    /// The sum of all magnitudes, the largest score there can be.
    pub fn score_max(&self) -> i32 {
        self.score_max
    }

    /// The values that it was made from, `[bits]`.
    pub fn values(&self, _: Inside) -> Zeroizing<Vec<i8>> {
        let mut values = Zeroizing::new(vec![0; self.planes.len() * WORD]);
        for (values, planes) in values.chunks_mut(WORD).zip(&self.planes) {
            for (at, eight) in values.as_chunks_mut().0.iter_mut().enumerate() {
                let bytes = planes.map(|plane| plane.to_le_bytes()[at]);
                *eight = turned(u64::from_le_bytes(bytes))
                    .to_le_bytes()
                    .map(u8::cast_signed);
            }
        }
        values
    }
}

/// Bit b of byte i and bit i of byte b change places: by twos, fours and eights (Warren, Hacker's Delight, 2nd edition,
/// section 7-3).
fn turned(mut bits: u64) -> u64 {
    for (apart, lower) in [
        (7, 0x00aa_00aa_00aa_00aa),
        (14, 0x0000_cccc_0000_cccc),
        (28, 0xf0f0_f0f0),
    ] {
        let changed = (bits ^ bits >> apart) & lower;
        bits ^= changed ^ changed << apart;
    }
    bits
}

/// Up to 64 bits to a word, the first one lowest.
fn pack(bits: impl Iterator<Item = bool>) -> u64 {
    bits.enumerate()
        .fold(0, |word, (i, bit)| word | u64::from(bit) << i)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{probe_values, score_by_definition, template};

    fn any_bits() -> impl Strategy<Value = Bits> {
        prop::sample::select(Bits::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn bit_planes_give_the_score_of_the_definition(
            (values, template) in any_bits().prop_flat_map(|bits| (probe_values(bits), template(bits)))
        ) {
            let probe = Probe::from_values(&values);
            let score = probe.score(&template);
            prop_assert_eq!(score, score_by_definition(&values, &template));
            prop_assert!((-1.0..=1.0).contains(&probe.similarity(score)));
        }

        #[test]
        fn a_probe_has_the_values_that_it_was_made_of(values in any_bits().prop_flat_map(probe_values)) {
            prop_assert_eq!(&**Probe::from_values(&values).values(Inside), &*values);
        }

        #[test]
        fn a_template_survives_its_bytes(template in any_bits().prop_flat_map(template)) {
            let bytes = template.to_bytes(Inside);
            prop_assert_eq!(bytes.len() * 8, template.bits().get());
            prop_assert_eq!(Template::from_bytes(&bytes), Some(template));
        }

        #[test]
        fn a_similarity_and_its_score_agree(values in probe_values(Bits::B256), similarity in -1.0f32..=1.0) {
            let probe = Probe::from_values(&values);
            let least = probe.score_at(similarity);
            prop_assert!(probe.similarity(least) >= similarity);
            prop_assert!(probe.similarity(least - 1) < similarity);
            // A similarity that was reported is reached by its own score, and by none below.
            prop_assert_eq!(probe.score_at(probe.similarity(least)), least);
        }
    }

    #[test]
    fn a_distance_and_its_similarity_agree() {
        let bits = Bits::B256;
        assert_eq!(stored_similarity(0, bits), 1.0);
        assert_eq!(stored_similarity(256, bits), -1.0);
        assert!(stored_similarity(128, bits).abs() < 1e-7);
        for distance in 0..=256 {
            assert_eq!(
                distance_at(stored_similarity(distance, bits), bits),
                Some(distance)
            );
        }
        assert_eq!(distance_at(-2.0, bits), Some(256));
        for out_of_reach in [1.1, f32::NAN] {
            assert_eq!(distance_at(out_of_reach, bits), None);
        }
    }

    #[test]
    fn the_extremes_of_the_score_are_the_extremes_of_the_similarity() {
        let values: Vec<i8> = (0..256).map(|i| if i % 3 == 0 { -127 } else { 127 }).collect();
        let probe = Probe::from_values(&values);
        let signs: Vec<i32> = values.iter().map(|q| i32::from(*q)).collect();
        let opposite: Vec<i32> = signs.iter().map(|v| -v).collect();
        assert_eq!(probe.similarity(probe.score(&Template::from_signs(&signs))), 1.0);
        assert_eq!(
            probe.similarity(probe.score(&Template::from_signs(&opposite))),
            -1.0
        );
        assert_eq!(probe.score_at(-7.0), probe.score_at(-1.0));
        for out_of_reach in [1.1, f32::INFINITY, f32::NAN] {
            assert!(probe.score_at(out_of_reach) > probe.score_at(1.0));
        }
    }

    #[test]
    fn a_probe_of_zeros_resembles_nothing() {
        let probe = Probe::from_values(&[0; 256]);
        assert_eq!(
            probe.similarity(probe.score(&Template::from_signs(&[1; 256]))),
            0.0
        );
        assert!(probe.score_at(0.1) > 0);
    }

    #[test]
    fn bytes_of_no_known_length_are_no_template() {
        for len in [0, 8, 31, 33, 100, 136, 512] {
            assert!(Template::from_bytes(&vec![0; len]).is_none(), "{len} bytes");
        }
    }

    #[test]
    fn a_printed_template_shows_its_size_alone() {
        assert_eq!(
            format!("{:?}", Template::from_signs(&[1; 1024])),
            "Template(1024 bits)"
        );
    }

    #[test]
    #[should_panic(expected = "never compared")]
    fn lengths_are_never_mixed() {
        Probe::from_values(&[1; 512]).score(&Template::from_signs(&[1; 256]));
    }
}
