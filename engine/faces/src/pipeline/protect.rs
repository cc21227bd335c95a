//! The projection: plain features in, template bits or a probe out; the plain features end here.
//!
//! The unit embedding is rotated by a secret key and its signs are kept. The rotation must be
//! bit-exact on every platform, or galleries break; so there is no floating point in it beyond
//! one exact rounding to i16. For each block of n = 512 outputs (more for a longer embedding):
//! three rounds of keyed signs and a Walsh-Hadamard transform in integers, then a keyed
//! permutation. The rows of a block are orthogonal, and accuracy and leakage equal those of a
//! dense orthonormal matrix (measured), at 28 thousand additions instead of half a million
//! multiplications and with a secret of 32 bytes instead of 2 MiB.
//!
//! A shorter template is the beginning of a longer one under the same key.

use blake3::{Hasher, OutputReader};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::embedding::{EMBEDDING_DIM_MAX, Embedding};
use likeness_types::Inside;
use likeness_types::template::{BLOCK_MIN, Bits, Probe, Template};

/// Separates this use of BLAKE3 from every other. Never to be changed: stored bits depend on it.
const CONTEXT: &str = "likeness 2026-11-21 template projection v1";

/// Rounds of signs and transform. One would leave structure of the embedding visible in the outputs;
/// those of three are as good as a random rotation's.
const ROUNDS: usize = 3;

/// What 1.0 of the embedding becomes. Its steps are a 700th of a typical value (1 / sqrt 512), far
/// below the noise of the network, and no sum can overflow an i32:
///
/// Every output of a Walsh-Hadamard transform, and every partial sum on the way, is at most the
/// Euclidean length of what it has become by then, and a whole transform makes the length
/// sqrt n times as large. A unit embedding begins with at most 2^14 + sqrt(2048) / 2 = 16,407
/// (the second term is rounding), so after three rounds of n = 2048 no value exceeds
/// 16,407 * 2048^1.5 = 1.521e9, and i32 ends at 2.147e9.
const UNIT: f32 = 16_384.0;

/// Turns embeddings into templates and probes under one projection key. Wiped on drop.
///
/// The key is the secret of a key group: whoever holds it and the bits holds, in effect, the faces.
///
/// ```compile_fail
/// fn show(p: &likeness_faces::pipeline::protect::Protector) { println!("{p:?}"); }
/// ```
pub struct Protector {
    dim: usize,
    blocks: Vec<Block>,
}

impl Protector {
    /// Expands a projection key for embeddings of `dim` values.
    ///
    /// # Panics
    /// When `dim` is 0 or above [`EMBEDDING_DIM_MAX`]; the model's manifest is checked before.
    pub fn new(key: &[u8; 32], dim: usize) -> Self {
        assert!(
            (1..=EMBEDDING_DIM_MAX).contains(&dim),
            "embeddings have 1 to {EMBEDDING_DIM_MAX} values"
        );
        let n = dim.next_power_of_two().max(BLOCK_MIN);
        let blocks = (0..Bits::MAX / n)
            .map(|index| Block::draw(key, n, index))
            .collect();
        Self { dim, blocks }
    }

    /// The bits to keep.
    pub fn protect(&self, embedding: Embedding, bits: Bits) -> Template {
        Template::from_signs(&self.project(&embedding, bits))
    }

    /// The values to ask with.
    pub fn probe(&self, embedding: Embedding, bits: Bits) -> Probe {
        self.ask(&self.project(&embedding, bits))
    }

    /// The values to ask with among templates of several lengths: a probe for each.
    pub fn probes(&self, embedding: Embedding, lengths: &[Bits]) -> Vec<Probe> {
        let probe = |bits: &Bits| Probe::from_values(&quantise(&self.project(&embedding, *bits)));
        lengths.iter().map(probe).collect()
    }

    /// Both, for a face that is looked for and then kept.
    pub fn protect_and_probe(&self, embedding: Embedding, bits: Bits) -> (Template, Probe) {
        self.sample(&embedding, bits)
    }

    /// Both, and the embedding lives on: for the evaluation alone, which tries several keys on one.
    pub fn sample(&self, embedding: &Embedding, bits: Bits) -> (Template, Probe) {
        let outputs = self.project(embedding, bits);
        (Template::from_signs(&outputs), self.ask(&outputs))
    }

    fn ask(&self, outputs: &[i32]) -> Probe {
        Probe::from_rotations(&quantise(outputs), self.blocks[0].order.len())
    }

    /// The rotated embedding, `[bits]`, times UNIT * n^1.5.
    fn project(&self, embedding: &Embedding, bits: Bits) -> Zeroizing<Vec<i32>> {
        let values = embedding.values(Inside);
        assert_eq!(
            values.len(),
            self.dim,
            "the protector is made for the embedder's dimension"
        );
        let mut outputs = Zeroizing::new(vec![0; bits.get()]);
        let mut values_i16 = Zeroizing::new([0i16; EMBEDDING_DIM_MAX]);
        for (quantised, value) in values_i16.iter_mut().zip(values) {
            // Exact on every platform: the product by a power of two, and the rounding (half away from 0).
            *quantised = (value * UNIT).round() as i16;
        }
        for (block, outputs) in self
            .blocks
            .iter()
            .zip(outputs.chunks_mut(self.blocks[0].order.len()))
        {
            block.rotate(&values_i16[..self.dim], outputs);
        }
        outputs
    }
}

/// The keyed part of n outputs.
#[derive(Zeroize, ZeroizeOnDrop)]
struct Block {
    /// `[n]` of 1 or -1 for each round.
    signs: [Box<[i32]>; ROUNDS],
    /// `[n]`: which transformed value becomes output i.
    order: Box<[u16]>,
}

impl Block {
    fn draw(key: &[u8; 32], n: usize, index: usize) -> Self {
        let mut hasher = Zeroizing::new(Hasher::new_derive_key(CONTEXT));
        hasher.update(key);
        for number in [n, index] {
            hasher.update(
                &u32::try_from(number)
                    .expect("both are at most 2048")
                    .to_le_bytes(),
            );
        }
        let mut stream = Zeroizing::new(hasher.finalize_xof());
        Self {
            signs: std::array::from_fn(|_| draw_signs(&mut stream, n)),
            order: draw_permutation(&mut stream, n),
        }
    }

    /// The first `outputs.len()` of the block's n outputs for `values`, which are padded with zeros.
    fn rotate(&self, values: &[i16], outputs: &mut [i32]) {
        let mut mixed = Zeroizing::new(vec![0; self.order.len()]);
        for (mixed, value) in mixed.iter_mut().zip(values) {
            *mixed = i32::from(*value);
        }
        for signs in &self.signs {
            for (value, sign) in mixed.iter_mut().zip(signs) {
                *value *= sign;
            }
            walsh_hadamard(&mut mixed);
        }
        for (output, from) in outputs.iter_mut().zip(&self.order) {
            *output = mixed[usize::from(*from)];
        }
    }
}

/// n signs from n / 8 bytes, lowest bit first; a 1 is -1.
fn draw_signs(stream: &mut OutputReader, n: usize) -> Box<[i32]> {
    let mut bytes = Zeroizing::new(vec![0; n / 8]);
    stream.fill(&mut bytes);
    (0..n)
        .map(|i| 1 - 2 * i32::from(bytes[i / 8] >> (i % 8) & 1))
        .collect()
}

/// Fisher and Yates' shuffle of 0..n from the top, each place drawn from two little-endian bytes
/// cut to the bits needed, and drawn again when too large, so that every order is equally likely.
fn draw_permutation(stream: &mut OutputReader, n: usize) -> Box<[u16]> {
    let mut order: Box<[u16]> = (0..n)
        .map(|i| u16::try_from(i).expect("n is at most 2048"))
        .collect();
    for last in (1..n).rev() {
        let mask = (last + 1).next_power_of_two() - 1;
        let place = loop {
            let mut bytes = Zeroizing::new([0; 2]);
            stream.fill(&mut *bytes);
            let place = usize::from(u16::from_le_bytes(*bytes)) & mask;
            if place <= last {
                break place;
            }
        };
        order.swap(place, last);
    }
    order
}

/// In place, unscaled, in the natural (Hadamard) order; the length is a power of two.
fn walsh_hadamard(values: &mut [i32]) {
    let mut half = 1;
    while half < values.len() {
        for pair in values.chunks_exact_mut(2 * half) {
            let (low, high) = pair.split_at_mut(half);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
}

/// To -127..=127 with the largest magnitude at 127, rounded half away from zero, in integers.
fn quantise(outputs: &[i32]) -> Zeroizing<Vec<i8>> {
    // At least 1: outputs that are all zero stay zero.
    let max = outputs
        .iter()
        .map(|v| i64::from(*v).abs())
        .max()
        .unwrap_or(0)
        .max(1);
    let int8 = |v: i32| {
        let magnitude = (i64::from(v).abs() * 2 * 127 + max) / (2 * max);
        i8::try_from(magnitude * i64::from(v.signum())).expect("no magnitude exceeds the largest")
    };
    Zeroizing::new(outputs.iter().map(|v| int8(*v)).collect())
}

#[cfg(test)]
mod tests {
    use ndarray::Array1;

    use super::*;

    const KEY: [u8; 32] = *b"a projection key for tests only.";

    fn embedding(values: impl IntoIterator<Item = f32>) -> Embedding {
        Embedding::from_raw(Array1::from_iter(values), "test").expect("it has a length")
    }

    /// Small integers, so that the normalisation has one exact answer too.
    fn formula(dim: u32) -> Embedding {
        embedding((0..dim).map(|i| ((i * 37 + 11) % 101) as f32 - 50.0))
    }

    /// Computed by an independent implementation in Python (explicit Hadamard matrices).
    #[test]
    fn key_and_embedding_give_the_pinned_bits_and_values() {
        let pinned = [
            (
                512,
                Bits::B256,
                "09465d635ec6f13e",
                "1570597e67a865c36b34792faf4e8060",
                [2, -44, 72, -3, 65, -44, -48, -54],
            ),
            (
                512,
                Bits::B512,
                "06640d90746fc5ee",
                "1570597e67a865c36b34792faf4e8060",
                [2, -44, 72, -3, 65, -44, -48, -54],
            ),
            (
                512,
                Bits::B1024,
                "e17ab32a67a79fe6",
                "1570597e67a865c36b34792faf4e8060",
                [2, -44, 72, -3, 65, -44, -48, -54],
            ),
            (
                512,
                Bits::B2048,
                "f4962457a9b012d5",
                "1570597e67a865c36b34792faf4e8060",
                [2, -41, 68, -3, 61, -41, -45, -50],
            ),
            (
                128,
                Bits::B1024,
                "f0002a59eff67746",
                "bc7023e9f623115a2b6676f6ab6abb33",
                [-3, -5, 36, 24, 47, 32, -40, 10],
            ),
            (
                1024,
                Bits::B1024,
                "87106286cbb6b358",
                "d3864e150cdaed73b6b1110d328d8cd8",
                [2, 43, -15, -26, 93, -64, 8, 30],
            ),
            (
                2048,
                Bits::B1024,
                "e0ebb959b13f3bd4",
                "32a1ad10de7e4e5c0c19e155d5e23552",
                [-14, 30, -60, -16, 3, 25, -28, -17],
            ),
        ];
        for (dim, bits, digest, first_bytes, first_values) in pinned {
            let protector = Protector::new(&KEY, dim as usize);
            let bytes = protector.protect(formula(dim), bits).to_bytes(Inside);
            let hex: String = bytes[..16].iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(hex, first_bytes, "{dim} values, {bits} bits");
            assert_eq!(
                &blake3::hash(&bytes).to_hex()[..16],
                digest,
                "{dim} values, {bits} bits"
            );
            let values = quantise(&protector.project(&formula(dim), bits));
            assert_eq!(values[..8], first_values, "{dim} values, {bits} bits");
        }
    }

    #[test]
    fn a_shorter_template_is_the_beginning_of_a_longer_one() {
        let protector = Protector::new(&KEY, 512);
        let longest = protector.protect(formula(512), Bits::B2048);
        for bits in Bits::ALL {
            let shorter = protector.protect(formula(512), bits);
            assert_eq!(
                *shorter.to_bytes(Inside),
                longest.to_bytes(Inside)[..bits.get() / 8]
            );
            assert_eq!(
                shorter,
                longest.beginning(bits),
                "which is how a copy is shortened"
            );
        }
    }

    #[test]
    fn both_at_once_equal_each_alone() {
        let protector = Protector::new(&KEY, 512);
        let (template, probe) = protector.protect_and_probe(formula(512), Bits::B1024);
        let (alone, asking) = (
            protector.protect(formula(512), Bits::B1024),
            protector.probe(formula(512), Bits::B1024),
        );
        assert_eq!(template, alone);
        assert_eq!(probe.planes(Inside), asking.planes(Inside));
    }

    #[test]
    fn another_key_gives_unrelated_bits() {
        let [ours, theirs] =
            [KEY, [7; 32]].map(|key| Protector::new(&key, 512).protect(formula(512), Bits::B2048));
        let differing: u32 = ours
            .words(Inside)
            .iter()
            .zip(theirs.words(Inside))
            .map(|(a, b)| (a ^ b).count_ones())
            .sum();
        assert!(
            (900..1150).contains(&differing),
            "{differing} of 2048 bits differ"
        );
    }

    #[test]
    fn the_rows_of_a_block_are_orthogonal() {
        let block = Block::draw(&KEY, BLOCK_MIN, 1);
        let columns: Vec<Vec<i64>> = [3, 4, 500]
            .map(|at| {
                let mut unit = [0; BLOCK_MIN];
                unit[at] = 1;
                let mut outputs = [0; BLOCK_MIN];
                block.rotate(&unit, &mut outputs);
                outputs.map(i64::from).to_vec()
            })
            .to_vec();
        for (i, a) in columns.iter().enumerate() {
            for (j, b) in columns.iter().enumerate() {
                let dot: i64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
                assert_eq!(dot, if i == j { 512 * 512 * 512 } else { 0 });
            }
        }
    }

    /// The release profile checks for overflow, so a sum that does not fit fails this test.
    #[test]
    fn the_worst_embeddings_do_not_overflow() {
        let dim = EMBEDDING_DIM_MAX;
        let protector = Protector::new(&KEY, dim);
        // The rotation undone from a single output: rotated, all of its length meets in that one.
        let mut undone = vec![0; dim];
        undone[usize::from(protector.blocks[0].order[5])] = 1;
        for signs in protector.blocks[0].signs.iter().rev() {
            walsh_hadamard(&mut undone);
            undone
                .iter_mut()
                .zip(signs)
                .for_each(|(value, sign)| *value *= sign);
        }
        for flip in [1.0, -1.0] {
            let outputs = protector.project(&embedding(undone.iter().map(|v| *v as f32 * flip)), Bits::B2048);
            assert!(f64::from(outputs[5].abs()) > 0.999 * f64::from(UNIT) * 2048f64.powf(1.5));
            assert_eq!(quantise(&outputs)[5], if flip > 0.0 { 127 } else { -127 });
            protector.project(
                &embedding((0..dim).map(|i| if i == 9 { flip } else { 0.0 })),
                Bits::B2048,
            );
            protector.project(&embedding((0..dim).map(|_| flip)), Bits::B2048);
        }
    }

    #[test]
    fn values_are_rounded_half_away_from_zero() {
        assert_eq!(*quantise(&[254, 1, -1, 2, 3, -3, 0]), [127, 1, -1, 1, 2, -2, 0]);
        assert_eq!(*quantise(&[i32::MAX, i32::MIN]), [127, -127]);
        assert_eq!(*quantise(&[0, 0]), [0, 0]);
    }
}
