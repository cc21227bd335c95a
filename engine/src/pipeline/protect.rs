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
use crate::template::{Bits, Probe, Template};

/// Separates this use of BLAKE3 from every other. Never to be changed: stored bits depend on it.
const CONTEXT: &str = "likeness 2026-11-21 template projection v1";

/// Rounds of signs and transform. One leaves structure of the embedding visible in the outputs; with three the
/// outputs are as good as those of a random rotation.
const ROUNDS: usize = 3;

/// Least outputs of a block.
const BLOCK_MIN: usize = 512;

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
/// fn show(p: &likeness_engine::Protector) { println!("{p:?}"); }
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
        Template::from_signs(&self.project(embedding, bits))
    }

    /// The values to ask with.
    pub fn probe(&self, embedding: Embedding, bits: Bits) -> Probe {
        Probe::from_values(&quantise(&self.project(embedding, bits)))
    }

    /// Both, for a face that is looked for and then kept.
    pub fn protect_and_probe(&self, embedding: Embedding, bits: Bits) -> (Template, Probe) {
        let outputs = self.project(embedding, bits);
        (
            Template::from_signs(&outputs),
            Probe::from_values(&quantise(&outputs)),
        )
    }

    /// The rotated embedding, `[bits]`, times UNIT * n^1.5.
    fn project(&self, embedding: Embedding, bits: Bits) -> Zeroizing<Vec<i32>> {
        let values = embedding.values();
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

    #[test]
    fn the_same_key_and_embedding_give_the_pinned_bits_and_probe() {
        let protector = Protector::new(&KEY, 512);
        for bits in Bits::ALL {
            let (template, _) = protector.protect_and_probe(formula(512), bits);
            let bytes = template.to_bytes();
            println!("{bits} {} {:02x?}", blake3::hash(&bytes).to_hex(), &bytes[..16]);
            let q = quantise(&protector.project(formula(512), bits));
            println!("{:?}", &q[..8]);
        }
    }
}
