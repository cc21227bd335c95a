//! The few operations of a search that plain Rust cannot say well, for each instruction set worth having.
//!
//! A search is written once, over [`Simd`], and compiled for each of them; which one runs is chosen at run
//! time. All give the same integers, and [`Portable`] is the oracle of the others; only where what is looked up at a time is
//! rounded down together ([`Table`]), those lose less that look up more. What is found is the same by all.
//!
//! The choice and the shuffles are the need for this file's `unsafe`: among a million synthetic people of 1024
//! bits, at a threshold of 0.53, an earlier layout took one core of a 2025 server 32 ms with what every x86-64 has,
//! 1.6 ms with AVX2 and 0.9 ms with AVX-512. What each kernel is worth by itself, `cargo bench --bench search --
//! kernels` says.

use crate::arena::{BLOCK, Columns, FRONT_WORDS, LINE, Line};
use crate::cascade::turned;
use crate::cascade::turned::HALVES;
use crate::lookup;
use crate::lookup::Table;
use crate::weights::Worth;

/// Rows whose penalties are added up together.
pub(crate) const ROWS: usize = 16;

/// An instruction set. A line is handled at once, in lanes of 16 bytes.
pub(crate) trait Simd: Copy {
    type Bytes: Copy;

    /// From so many probes on that look at everybody, their middles are looked up by columns: what turning them around
    /// takes, these save by it. As a rule nobody does: without shuffles nothing is saved.
    const TURNS_FROM: usize = usize::MAX;

    fn zero() -> Self::Bytes;
    fn load(line: &[u8; LINE]) -> Self::Bytes;
    fn store(bytes: Self::Bytes) -> [u8; LINE];
    /// Of each byte the lower nibble, and the upper one.
    fn nibbles(bytes: Self::Bytes) -> [Self::Bytes; 2];
    /// The entry of each nibble, in the sixteen entries that every lane has.
    fn lookup(entries: Self::Bytes, nibbles: Self::Bytes) -> Self::Bytes;
    /// Saturates at 255.
    fn add(a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    /// A bit for each byte that is at most `limit`.
    fn at_most(bytes: Self::Bytes, limit: u8) -> u64;
    /// The penalties of the rows of `B` blocks for each of `P` tables.
    #[inline(always)]
    #[allow(
        clippy::needless_range_loop,
        reason = "a closure's instructions are compiled for no processor in particular"
    )]
    fn columns<const B: usize, const P: usize>(
        blocks: &[Columns; B],
        tables: [&Table; P],
    ) -> [[Self::Bytes; P]; B] {
        let mut sums = [[Self::zero(); P]; B];
        for b in 0..B {
            sums[b] = lookup::by_nibbles::<Self, P>(&blocks[b], tables);
        }
        sums
    }
    /// The same of one block that comes from memory, for one table: which of its rows are at most at the limit.
    #[inline(always)]
    fn front(columns: &Columns, table: &Table, limit: u8, penalties: &mut [u8; LINE]) -> u64 {
        let [[found]] = Self::columns(std::array::from_ref(columns), [table]);
        *penalties = Self::store(found);
        Self::at_most(found, limit)
    }
    /// What it costs each of sixteen rows, whose middles these are, to differ from what is expected, in units.
    #[inline(always)]
    fn middles(lines: &[Line], worths: &[Worth]) -> [i32; ROWS] {
        let mut sums = [0; ROWS];
        for (lines, sum) in lines.chunks_exact(worths.len()).zip(&mut sums) {
            *sum = Self::middle(lines, worths);
        }
        sums
    }
    /// The same of one row.
    #[inline(always)]
    fn middle(lines: &[Line], worths: &[Worth]) -> i32 {
        let mut sum = 0i32;
        for (line, worth) in lines.iter().zip(worths) {
            sum = sum.wrapping_add(worth.plainly(0, &line.0));
        }
        sum
    }
    /// What it costs each of sixteen rows whose tails these are.
    #[inline(always)]
    fn tails(lines: &[Line; ROWS / 2], worth: &Worth) -> [i32; ROWS] {
        let mut sums = [0; ROWS];
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = Self::tail(&lines[i / 2], i % 2, worth);
        }
        sums
    }
    /// The same of one row: the first or the second of a line.
    #[inline(always)]
    fn tail(line: &Line, second: usize, worth: &Worth) -> i32 {
        let halves = line.0.as_chunks::<FRONT_WORDS>().0;
        worth.plainly(second * FRONT_WORDS, &halves[second])
    }
    /// Turns what a block's rows have in one of their lines, `apart` lines from each other: column j of both halves is byte j
    /// of each row's.
    #[inline(always)]
    fn turn(lines: &[Line], apart: usize, halves: [&mut Columns; HALVES]) {
        turned::by_words(lines, apart, halves);
    }
    /// A bit for each number that is at most `limit`.
    #[inline(always)]
    fn all_at_most(numbers: &[i32; BLOCK], limit: i32) -> u64 {
        let bits = numbers.iter().enumerate();
        bits.fold(0, |mask, (i, number)| mask | u64::from(*number <= limit) << i)
    }
    /// Asks for what will be read soon.
    fn prefetch<T>(value: &T);
}

/// Work that is compiled for every instruction set. `run` and what it calls must be `#[inline(always)]`,
/// or they are compiled for none.
pub(crate) trait Task {
    fn run<S: Simd>(self);
}

/// The instruction sets of this architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// What every processor of the architecture has.
    Portable,
    /// 256-bit shuffles, and POPCNT.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Shuffles of whole registers and VPOPCNTQ on 512 bits: what came with Ice Lake and Zen 4.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// Never run on such a processor. Under emulation it computes what the portable one does: `cargo test --release
    /// --lib gallery::cascade --target aarch64-unknown-linux-gnu`, by QEMU.
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl Kernel {
    /// The fastest that this processor runs; the answer is cached by the standard library.
    pub(crate) fn best() -> Self {
        *Self::all().last().expect("the portable one is always there")
    }

    /// Every one that this processor runs, the fastest last.
    pub(crate) fn all() -> &'static [Self] {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vbmi")
                && is_x86_feature_detected!("avx512vbmi2")
                && is_x86_feature_detected!("avx512vpopcntdq");
            match (avx2, avx512) {
                (true, true) => &[Self::Portable, Self::Avx2, Self::Avx512],
                (true, false) => &[Self::Portable, Self::Avx2],
                _ => &[Self::Portable],
            }
        }
        // NEON is part of every 64-bit ARM.
        #[cfg(target_arch = "aarch64")]
        return &[Self::Portable, Self::Neon];
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        return &[Self::Portable];
    }

    #[allow(
        unsafe_code,
        reason = "calls functions compiled for instructions that not every processor has"
    )]
    pub(crate) fn run(self, task: impl Task) {
        match self {
            Self::Portable => task.run::<Portable>(),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: named only by `all`, where the processor was seen to have the features.
            Self::Avx2 => unsafe { avx2(task) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: named only by `all`, where the processor was seen to have the features.
            Self::Avx512 => unsafe { avx512(task) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: NEON is part of every 64-bit ARM.
            Self::Neon => unsafe { neon(task) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,popcnt")]
fn avx2(task: impl Task) {
    task.run::<avx2::Avx2>();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,popcnt,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,avx512vpopcntdq")]
fn avx512(task: impl Task) {
    task.run::<avx512::Avx512>();
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
fn neon(task: impl Task) {
    task.run::<arm::Neon>();
}

/// Byte by byte: the oracle.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Simd for Portable {
    type Bytes = [u8; LINE];

    #[inline(always)]
    fn zero() -> Self::Bytes {
        [0; LINE]
    }
    #[inline(always)]
    fn load(line: &[u8; LINE]) -> Self::Bytes {
        *line
    }
    #[inline(always)]
    fn store(bytes: Self::Bytes) -> [u8; LINE] {
        bytes
    }
    #[inline(always)]
    fn nibbles(bytes: Self::Bytes) -> [Self::Bytes; 2] {
        [bytes.map(|byte| byte & 15), bytes.map(|byte| byte >> 4)]
    }
    #[inline(always)]
    fn lookup(entries: Self::Bytes, nibbles: Self::Bytes) -> Self::Bytes {
        std::array::from_fn(|i| entries[i / 16 * 16 + usize::from(nibbles[i] & 15)])
    }
    #[inline(always)]
    fn add(mut a: Self::Bytes, b: Self::Bytes) -> Self::Bytes {
        for (a, b) in a.iter_mut().zip(b) {
            *a = a.saturating_add(b);
        }
        a
    }
    #[inline(always)]
    fn at_most(bytes: Self::Bytes, limit: u8) -> u64 {
        let bits = bytes.iter().enumerate();
        bits.fold(0, |mask, (i, byte)| mask | u64::from(*byte <= limit) << i)
    }
    #[inline(always)]
    fn prefetch<T>(_: &T) {}
}

#[cfg(target_arch = "x86_64")]
#[allow(
    unsafe_code,
    reason = "instructions that are there only inside of the function `avx2`, which alone names this type"
)]
mod avx2;

#[cfg(target_arch = "x86_64")]
#[allow(
    unsafe_code,
    reason = "instructions that are there only inside of the function `avx512`, which alone names this type"
)]
mod avx512;

#[cfg(target_arch = "aarch64")]
#[allow(unsafe_code, reason = "instructions that are named only inside of `neon`")]
mod arm;
