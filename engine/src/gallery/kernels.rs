//! The kernels of a search by themselves, for the benchmark alone: each instruction set on the same few templates.

use std::cell::RefCell;
use std::hint::black_box;

use crate::gallery::arena::{Arena, BLOCK, Chunk, FRONT_BITS, LINE};
use crate::gallery::cascade::turned::Turned;
use crate::gallery::cascade::{ABREAST, ABREAST_ALONE, RUN, TOGETHER};
use crate::gallery::simd::{Kernel, ROWS, Simd, Task};
use crate::gallery::weights::Weights;
use crate::template::{Bits, Probe, Template};

/// Templates of 1024 bits that the second cache holds: 256 KiB.
const FACES: u32 = 2048;
/// Lines in the middle of each.
const LINES: usize = 1;

/// Some templates, and probes.
pub struct Kernels<'p> {
    arena: Arena,
    probe: &'p Probe,
    weights: [Weights; TOGETHER],
    turned: RefCell<Turned>,
}

/// A part of a search.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Columns,
    ColumnsTogether,
    Middles,
    Middle,
    Turn,
    MiddlesByColumns,
    Tail,
    Full,
}

const PARTS: [(&str, Part); 8] = [
    ("first stage", Part::Columns),
    ("first stage of four probes", Part::ColumnsTogether),
    ("second stage, sixteen rows", Part::Middles),
    ("second stage, a row", Part::Middle),
    ("turning middles to columns", Part::Turn),
    ("second stage by columns", Part::MiddlesByColumns),
    ("third stage, a row", Part::Tail),
    ("full scan", Part::Full),
];

impl<'p> Kernels<'p> {
    /// Of synthetic templates and probes.
    pub fn new(templates: impl Iterator<Item = Template>, probe: &'p Probe) -> Self {
        let mut arena = Arena::new(Bits::B1024);
        for (person, template) in templates.take(FACES as usize).enumerate() {
            arena.insert(person as u32, &template);
        }
        let values = probe.values();
        Self {
            arena,
            probe,
            turned: RefCell::new(Turned::new(LINES)),
            weights: std::array::from_fn(|n| Weights::new(&values, 10 + n as u32)),
        }
    }

    /// Every part by every instruction set of this processor, and the bytes of templates that a call looks at,
    /// for each probe.
    pub fn each(&self, mut measure: impl FnMut(&str, u64, &dyn Fn())) {
        for (name, part) in PARTS {
            for kernel in Kernel::all() {
                let bits = match part {
                    Part::Columns | Part::ColumnsTogether => FRONT_BITS,
                    Part::Middles | Part::Middle | Part::Turn | Part::MiddlesByColumns => LINE * 8 * LINES,
                    Part::Tail => Bits::B1024.get() - FRONT_BITS - LINE * 8,
                    Part::Full => FRONT_BITS + LINE * 8,
                };
                let probes = if part == Part::ColumnsTogether {
                    TOGETHER
                } else {
                    1
                };
                let bytes = (self.arena.len() * bits / 8 * probes) as u64;
                measure(&format!("{name}, {kernel:?}"), bytes, &|| self.run(*kernel, part));
            }
        }
    }

    fn run(&self, kernel: Kernel, part: Part) {
        for (chunk, blocks) in self.arena.used() {
            kernel.run(Run {
                chunk,
                blocks,
                part,
                probe: self.probe,
                weights: &self.weights,
                turned: &mut self.turned.borrow_mut(),
            });
        }
    }
}

struct Run<'a> {
    chunk: &'a Chunk,
    blocks: usize,
    part: Part,
    probe: &'a Probe,
    weights: &'a [Weights; TOGETHER],
    turned: &'a mut Turned,
}

impl Task for Run<'_> {
    #[inline(always)]
    fn run<S: Simd>(self) {
        let weights = &self.weights[0];
        for block in 0..self.blocks {
            match self.part {
                Part::Columns => {
                    let [[penalties]] = S::columns(self.chunk.fronts_of_blocks(block), [weights.front()]);
                    black_box(S::at_most(penalties, 200));
                }
                Part::ColumnsTogether if block % ABREAST == 0 => {
                    let [a, b, c, d] = self.weights;
                    let fronts = [a.front(), b.front(), c.front(), d.front()];
                    let columns = self.chunk.fronts_of_blocks::<ABREAST>(block);
                    for penalties in S::columns(columns, fronts).as_flattened() {
                        black_box(S::at_most(*penalties, 200));
                    }
                }
                Part::Middles => {
                    let lines = self.chunk.middle_of_block(block);
                    for lines in lines.chunks_exact(ROWS * self.chunk.lines) {
                        black_box(S::middles(lines, weights.middle()));
                    }
                }
                Part::Middle => {
                    for i in block * BLOCK..(block + 1) * BLOCK {
                        black_box(weights.of_middle::<S>(self.chunk, i));
                    }
                }
                Part::Turn if block % RUN == 0 => {
                    let blocks = block..(block + RUN).min(self.blocks);
                    self.turned.fill::<S>(self.chunk, blocks, |_| true);
                }
                Part::MiddlesByColumns if block % ABREAST_ALONE == 0 => {
                    let tables = weights.middle_tables(self.probe).iter().enumerate();
                    let turned = &*self.turned;
                    let parts = tables.map(|(half, table)| (turned.of_blocks(half, block % RUN), table));
                    black_box(weights.of_columns::<S, ABREAST_ALONE>(parts));
                }
                Part::Tail => {
                    for i in block * BLOCK..(block + 1) * BLOCK {
                        black_box(weights.of_tail::<S>(self.chunk, i));
                    }
                }
                Part::Full => {
                    let penalties = weights.of_block::<S>(self.chunk, block);
                    black_box(S::all_at_most(&penalties, 7000));
                }
                // Several blocks at once, of which this is not the first.
                Part::ColumnsTogether | Part::Turn | Part::MiddlesByColumns => {}
            }
        }
    }
}
