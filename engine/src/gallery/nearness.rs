//! How far one template is from every row: a pass over all of them, by the shuffles of the search.
//!
//! A table whose every bit costs 1 counts the bits that differ.

use crate::gallery::arena::{Arena, BLOCK, Chunk, LINE_WORDS, NOBODY, SLAB_WORDS, SLABS, groups};
use crate::gallery::index::Near;
use crate::gallery::lookup::{self, Table};
use crate::gallery::simd::{Kernel, Simd, Task};
use crate::template::Template;

/// Tells of every row within `distance_max` bits of one of `templates`.
pub(super) fn near(arena: &Arena, templates: &[Template], distance_max: u32, tell: &mut dyn FnMut(Near)) {
    let asking: Vec<_> = templates.iter().map(Asking::new).collect();
    for (chunk, blocks) in arena.used() {
        Kernel::best().run(Pass {
            chunk,
            blocks,
            asking: &asking,
            distance_max,
            tell: &mut *tell,
        });
    }
}

/// A template, as the shuffles need it.
struct Asking<'a> {
    tables: Vec<Table>,
    /// The words behind the slabs.
    rest: &'a [u64],
}

impl<'a> Asking<'a> {
    fn new(template: &'a Template) -> Self {
        let words = template.words();
        let (front, rest) = words.split_at(words.len().min(SLABS * SLAB_WORDS));
        let table = |words: &[u64]| {
            let bits = words
                .iter()
                .flat_map(|word| (0..64).map(move |i| word >> i & 1 == 1));
            let values: Vec<i8> = bits.map(|bit| if bit { 1 } else { -1 }).collect();
            Table::new(&values, |differing| differing.iter().map(|m| u32::from(*m)).sum())
        };
        Self {
            tables: front.chunks(SLAB_WORDS).map(table).collect(),
            rest,
        }
    }

    /// The bits in which the rows of a block differ.
    #[inline(always)]
    fn distances<S: Simd>(&self, chunk: &Chunk, block: usize) -> [i32; BLOCK] {
        let mut distances = [0; BLOCK];
        for (table, slabs) in self.tables.iter().zip(&chunk.slabs) {
            lookup::add_wide::<S>(&mut distances, groups(slabs, block), table, 1);
        }
        let stride = self.rest.len() / LINE_WORDS;
        let lines = &chunk.rest[block * BLOCK * stride..][..BLOCK * stride];
        for (n, line) in lines.iter().enumerate() {
            let own = &self.rest[n % stride * LINE_WORDS..][..LINE_WORDS];
            let differing = line.0.iter().zip(own);
            let count = differing.fold(0u32, |count, (a, b)| count.wrapping_add((a ^ b).count_ones()));
            distances[n / stride] = distances[n / stride].wrapping_add(count.cast_signed());
        }
        distances
    }
}

struct Pass<'a> {
    chunk: &'a Chunk,
    blocks: usize,
    asking: &'a [Asking<'a>],
    distance_max: u32,
    tell: &'a mut dyn FnMut(Near),
}

impl Task for Pass<'_> {
    #[inline(always)]
    fn run<S: Simd>(self) {
        for block in 0..self.blocks {
            let owners = &self.chunk.owners[block * BLOCK..][..BLOCK];
            for (n, asking) in self.asking.iter().enumerate() {
                let distances = asking.distances::<S>(self.chunk, block);
                for (distance, person) in distances.iter().zip(owners) {
                    let distance = distance.cast_unsigned();
                    // A free row has a distance too.
                    if distance <= self.distance_max && *person != NOBODY {
                        (self.tell)(Near {
                            asking: n,
                            person: *person,
                            distance,
                        });
                    }
                }
            }
        }
    }
}
