//! The kernels of a search by themselves, for the benchmark alone: each instruction set on the same few templates.

use std::cell::RefCell;
use std::hint::black_box;

use crate::arena::{Arena, BLOCK, COLUMNS, Chunk, Columns, FRONT_BITS, LINE};
use crate::cascade::turned::Turned;
use crate::cascade::{BLOCKS_PER_RUN, BLOCKS_PER_STEP, BLOCKS_PER_STEP_ALONE, PROBES_PER_BATCH};
use crate::pages::Pages;
use crate::simd::{Kernel, ROWS, Simd, Task};
use crate::weights::Weights;
use likeness_types::Inside;
use likeness_types::template::{Bits, Probe, Template};

/// Templates of 1024 bits that the second cache holds: 256 KiB.
const FACES: u32 = 2048;
/// A step of the first stage and the limit of its sums: what they are decides nothing here.
const STEP: u32 = 10;
const LIMIT: u8 = 200;
/// Lines in the middle of each.
const LINES: usize = 1;

/// Some templates, and probes.
pub struct Kernels<'p> {
    arena: Arena,
    probe: &'p Probe,
    weights: [Weights; PROBES_PER_BATCH],
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
        let values = probe.values(Inside);
        Self {
            arena,
            probe,
            turned: RefCell::new(Turned::new(LINES)),
            weights: std::array::from_fn(|n| Weights::new(&values, STEP + n as u32)),
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
                    PROBES_PER_BATCH
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
    chunk: Chunk<'a>,
    blocks: usize,
    part: Part,
    probe: &'a Probe,
    weights: &'a [Weights; PROBES_PER_BATCH],
    turned: &'a mut Turned,
}

impl Task for Run<'_> {
    #[inline(always)]
    fn run<S: Simd>(self) {
        let weights = &self.weights[0];
        for block in 0..self.blocks {
            match self.part {
                Part::Columns => {
                    let columns = &self.chunk.fronts[block];
                    black_box(S::front(columns, weights.front(), LIMIT, &mut [0; LINE]));
                }
                Part::ColumnsTogether if block % BLOCKS_PER_STEP == 0 => {
                    let [a, b, c, d] = self.weights;
                    let fronts = [a.front(), b.front(), c.front(), d.front()];
                    let columns = self.chunk.fronts_of_blocks::<BLOCKS_PER_STEP>(block);
                    for penalties in S::columns(columns, fronts).as_flattened() {
                        black_box(S::at_most(*penalties, LIMIT));
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
                Part::Turn if block % BLOCKS_PER_RUN == 0 => {
                    let blocks = block..(block + BLOCKS_PER_RUN).min(self.blocks);
                    self.turned.fill::<S>(self.chunk, blocks, |_| true);
                }
                Part::MiddlesByColumns if block % BLOCKS_PER_STEP_ALONE == 0 => {
                    let tables = weights.middle_tables(self.probe).iter().enumerate();
                    let turned = &*self.turned;
                    let parts =
                        tables.map(|(half, table)| (turned.of_blocks(half, block % BLOCKS_PER_RUN), table));
                    black_box(weights.of_columns::<S, BLOCKS_PER_STEP_ALONE>(parts));
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

/// Memory as an index has it, to be read and nothing else: what no search can be faster than.
pub struct Reading {
    fronts: Pages<Columns>,
    others: Pages<[u8; LINE]>,
}

impl Reading {
    /// For the fronts of so many faces, and so many lines of which a few are read.
    pub fn new(faces: usize, others: usize) -> Self {
        let mut memory = Self {
            fronts: Pages::zeroed(faces.div_ceil(BLOCK)),
            others: Pages::zeroed(others),
        };
        // Pages that nobody wrote to would all be the same one.
        memory.fronts.fill(Columns([[1; LINE]; COLUMNS]));
        memory.others.fill([1; LINE]);
        memory
    }

    /// Bytes of all fronts.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.fronts)
    }

    /// Reads, by whole registers of this processor, all of the fronts, one line behind the other, and meanwhile so many of the
    /// others, one of every few: not those of the last `time`, which lie in a cache, nor any that a processor foresees.
    pub fn read(&self, others: usize, time: usize) {
        let fronts = self.fronts.len() * COLUMNS;
        let apart = self.others.len().checked_div(others).unwrap_or(0).max(1);
        Kernel::best().run(Read {
            memory: self,
            each: fronts.checked_div(others).unwrap_or(fronts).max(1),
            apart,
            time: time as u64,
        });
    }

    /// Does the first stage with all of the fronts, and goes on with nobody.
    pub fn first_stage(&self, probe: &Probe) {
        Kernel::best().run(FirstStage {
            fronts: &self.fronts,
            weights: &Weights::new(&probe.values(Inside), STEP),
        });
    }
}

/// Of a linear congruential generator modulo 2^64 (Knuth, The Art of Computer Programming, vol. 2, section 3.3.4).
const FACTOR: u64 = 6_364_136_223_846_793_005;

struct Read<'a> {
    memory: &'a Reading,
    /// Lines of fronts for each one of the others, and how far these lie from each other.
    each: usize,
    apart: usize,
    time: u64,
}

impl Task for Read<'_> {
    #[inline(always)]
    fn run<S: Simd>(self) {
        let mut sums = S::zero();
        let mut others = self.memory.others.chunks_exact(self.apart);
        let mut any = self.time;
        let mut left = self.each;
        for block in &*self.memory.fronts {
            for line in &block.0 {
                sums = S::add(sums, S::load(line));
            }
            // As many as are due by now.
            while left <= COLUMNS {
                if let Some(some) = others.next() {
                    any = any.wrapping_mul(FACTOR).wrapping_add(1);
                    let line = &some[(any >> 32) as usize % some.len()];
                    sums = S::add(sums, S::load(line));
                }
                left += self.each;
            }
            left -= COLUMNS;
        }
        black_box(S::store(sums));
    }
}

struct FirstStage<'a> {
    fronts: &'a [Columns],
    weights: &'a Weights,
}

impl Task for FirstStage<'_> {
    #[inline(always)]
    fn run<S: Simd>(self) {
        let (mut left, mut penalties) = (0, [0; LINE]);
        for block in self.fronts {
            left |= S::front(block, self.weights.front(), LIMIT, &mut penalties);
        }
        black_box(left);
    }
}
