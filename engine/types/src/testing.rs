//! Templates and probes for the tests of every crate, and a score by its definition.

use crate::Inside;
use proptest::prelude::*;

use crate::template::{Bits, Template};

const WORD: usize = u64::BITS as usize;

/// The definition of the score, word for word: the oracle of every faster way.
pub fn score_by_definition(values: &[i8], template: &Template) -> i32 {
    let bit = |i: usize| template.words(Inside)[i / WORD] >> (i % WORD) & 1 == 1;
    values
        .iter()
        .enumerate()
        .map(|(i, q)| if bit(i) { i32::from(*q) } else { -i32::from(*q) })
        .sum()
}

/// As many values of a probe as `bits`.
pub fn probe_values(bits: Bits) -> impl Strategy<Value = Vec<i8>> {
    prop::collection::vec(-127..=127i8, bits.get())
}

/// A template of `bits`.
pub fn template(bits: Bits) -> impl Strategy<Value = Template> {
    prop::collection::vec(any::<u64>(), bits.words())
        .prop_map(|words| Template::from_words(words.into_iter()))
}
