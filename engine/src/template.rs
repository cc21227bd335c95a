//! What is kept of a face, what it is compared with, and the score between the two.
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

use crate::error::{RequestError, Result};

/// Bits of a machine word, the unit of storage and of comparing.
const WORD: usize = u64::BITS as usize;

/// Bit planes of a probe: one for each bit of an int8.
pub(crate) const PLANES: usize = i8::BITS as usize;

/// What a bit of each plane is worth: the places of a two's complement int8.
pub(crate) const PLANE_WEIGHTS: [i32; PLANES] = [1, 2, 4, 8, 16, 32, 64, -128];

/// The length of a template in bits, chosen for each collection.
///
/// Length buys accuracy, not privacy: found at a false accept rate of 1e-4 are 93.9, 96.7 and
/// 97.1 % at 256, 512 and 1024 bits (all of LFW, probe against stored; plain features: 97.4 %).
///
/// ```
/// use likeness_engine::Bits;
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
    pub(crate) const fn words(self) -> usize {
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
/// fn copy(t: &likeness_engine::Template) -> likeness_engine::Template { t.clone() }
/// ```
#[derive(PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Template {
    /// Bit i of the template is bit i % 64 of word i / 64.
    words: Box<[u64]>,
}

impl Template {
    /// A 1 for every value that is zero or more; there must be as many values as one of [`Bits`].
    pub(crate) fn from_signs(values: &[i32]) -> Self {
        Self::from_words(
            values
                .chunks(WORD)
                .map(|chunk| pack(chunk.iter().map(|v| *v >= 0))),
        )
    }

    /// From the words of an index; there must be as many as one of [`Bits`] has.
    pub(crate) fn from_words(words: impl ExactSizeIterator<Item = u64>) -> Self {
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
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (chunks, rest) = bytes.as_chunks::<8>();
        let known = rest.is_empty() && Bits::of_words(chunks.len()).is_some();
        known.then(|| Self::from_words(chunks.iter().map(|chunk| u64::from_le_bytes(*chunk))))
    }

    /// The bits for the sealed record, `[bits / 8]` bytes: bit i is bit i % 8 of byte i / 8.
    pub(crate) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
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
    pub(crate) fn words(&self) -> &[u64] {
        &self.words
    }
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
/// fn show(p: &likeness_engine::Probe) { println!("{p:?}"); }
/// ```
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Probe {
    /// `[bits / 64]` words of each plane, the planes of a word side by side.
    planes: Box<[[u64; PLANES]]>,
    /// Sum of q.
    sum: i32,
    /// Sum of |q|: the largest score there can be. At most 2048 * 127, so no score overflows.
    score_max: i32,
}

impl Probe {
    /// From values of -127 to 127; there must be as many as one of [`Bits`].
    pub(crate) fn from_values(values: &[i8]) -> Self {
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
    pub(crate) fn score(&self, template: &Template) -> i32 {
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
    pub(crate) fn similarity(&self, score: i32) -> f32 {
        // A probe of zeros knows nothing, and resembles nothing.
        (f64::from(score) / f64::from(self.score_max.max(1))) as f32
    }

    /// The least score whose similarity reaches `similarity`, so that a search compares integers
    /// and still agrees with the similarity it reports to the last bit.
    pub(crate) fn score_at(&self, similarity: f32) -> i32 {
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
    pub(crate) fn planes(&self) -> &[[u64; PLANES]] {
        &self.planes
    }

    /// The sum of all values.
    pub(crate) fn sum(&self) -> i32 {
        self.sum
    }
}

/// Up to 64 bits to a word, the first one lowest.
fn pack(bits: impl Iterator<Item = bool>) -> u64 {
    bits.enumerate()
        .fold(0, |word, (i, bit)| word | u64::from(bit) << i)
}
