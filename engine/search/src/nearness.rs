//! Distances of one template to every row: a pass over all of them, by the kernels of the search.
//!
//! A weight of 1 for every bit counts the bits that differ, but for a front of which all do; rows near by that
//! count are compared once more.

use zeroize::Zeroizing;

use crate::arena::{Arena, BLOCK, Chunk, NO_PERSON};
use crate::index::Near;
use crate::simd::{Kernel, Simd, Task};
use crate::weights::Weights;
use likeness_types::Inside;
use likeness_types::template::Template;

/// Tells of every row within `distance_max` bits of one of `templates`.
pub(crate) fn near(arena: &Arena, templates: &[Template], distance_max: u32, tell: &mut dyn FnMut(Near)) {
    let asking: Vec<_> = templates
        .iter()
        .map(|template| (template, weights(template)))
        .collect();
    for (chunk, blocks) in arena.used() {
        Kernel::best().run(Pass {
            arena,
            chunk,
            blocks,
            asking: &asking,
            distance_max,
            tell: &mut *tell,
        });
    }
}

/// Each bit is expected to be the template's, and costs 1 otherwise.
fn weights(template: &Template) -> Weights {
    let words = template.words(Inside).iter();
    let bits = words.flat_map(|word| (0..64).map(move |i| word >> i & 1 == 1));
    let values: Vec<i8> = bits.map(|bit| if bit { 1 } else { -1 }).collect();
    Weights::of_signs(&Zeroizing::new(values))
}

struct Pass<'a> {
    arena: &'a Arena,
    chunk: Chunk<'a>,
    blocks: usize,
    asking: &'a [(&'a Template, Weights)],
    distance_max: u32,
    tell: &'a mut dyn FnMut(Near),
}

impl Task for Pass<'_> {
    #[inline(always)]
    fn run<S: Simd>(self) {
        let limit = self.distance_max.cast_signed();
        for block in 0..self.blocks {
            for (n, (template, weights)) in self.asking.iter().enumerate() {
                let mut penalties = weights.of_block::<S>(self.chunk, block);
                let mut near = S::all_at_most(&penalties, limit);
                if near != 0 {
                    weights.add_tails::<S>(self.chunk, block, &mut penalties);
                    near = S::all_at_most(&penalties, limit);
                }
                while near != 0 {
                    let i = block * BLOCK + near.trailing_zeros() as usize;
                    near &= near - 1;
                    let person = self.chunk.owners[i];
                    let row = self.chunk.row(i);
                    let distance = template.distance(&self.arena.template(row));
                    // A free row has a distance too.
                    if distance <= self.distance_max && person != NO_PERSON {
                        (self.tell)(Near {
                            asking: n,
                            person,
                            row,
                            distance,
                        });
                    }
                }
            }
        }
    }
}
