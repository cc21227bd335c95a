//! AVX2.
//!
//! `Kernel::run` alone names [`Avx2`], in a function that is compiled for `avx2,popcnt`, and `Kernel::all` offers that kernel
//! only where the processor has both: the SAFETY lines below rely on this.

use std::arch::x86_64::*;

use super::{BLOCK, Columns, LINE, Line, Simd};
use crate::cascade::turned::{EIGHT, HALVES};

#[derive(Clone, Copy)]
pub(super) struct Avx2;

impl Simd for Avx2 {
    type Bytes = [__m256i; 2];

    const TURNS_FROM: usize = 2;

    #[inline(always)]
    fn zero() -> Self::Bytes {
        // SAFETY: `Kernel::all` has seen AVX2; registers only.
        unsafe { [_mm256_setzero_si256(); 2] }
    }
    #[inline(always)]
    fn load(bytes: &[u8; LINE]) -> Self::Bytes {
        let (low, high) = bytes.split_at(LINE / 2);
        // SAFETY: `Kernel::all` has seen AVX2; each half is 32 of the 64 bytes, and the load needs no alignment.
        unsafe { [low, high].map(|half| _mm256_loadu_si256(half.as_ptr().cast())) }
    }
    #[inline(always)]
    fn store(bytes: Self::Bytes) -> [u8; LINE] {
        let mut stored = [0; LINE];
        for (half, bytes) in stored.chunks_mut(LINE / 2).zip(bytes) {
            // SAFETY: `Kernel::all` has seen AVX2; each half is 32 of the 64 bytes, and the store needs no
            // alignment.
            unsafe { _mm256_storeu_si256(half.as_mut_ptr().cast(), bytes) };
        }
        stored
    }
    #[inline(always)]
    fn nibbles(bytes: Self::Bytes) -> [Self::Bytes; 2] {
        // SAFETY: `Kernel::all` has seen AVX2; registers only.
        unsafe {
            let low = _mm256_set1_epi8(15);
            [
                bytes.map(|half| _mm256_and_si256(half, low)),
                bytes.map(|half| _mm256_and_si256(_mm256_srli_epi16::<4>(half), low)),
            ]
        }
    }
    #[inline(always)]
    fn lookup(entries: Self::Bytes, nibbles: Self::Bytes) -> Self::Bytes {
        // SAFETY: `Kernel::all` has seen AVX2; registers only.
        unsafe { nibbles.map(|half| _mm256_shuffle_epi8(entries[0], half)) }
    }
    #[inline(always)]
    fn add(a: Self::Bytes, b: Self::Bytes) -> Self::Bytes {
        // SAFETY: `Kernel::all` has seen AVX2; registers only.
        unsafe { [0, 1].map(|half| _mm256_adds_epu8(a[half], b[half])) }
    }
    #[inline(always)]
    fn at_most(bytes: Self::Bytes, limit: u8) -> u64 {
        // SAFETY: `Kernel::all` has seen AVX2; registers only.
        unsafe {
            let limit = _mm256_set1_epi8(limit.cast_signed());
            let [low, high] = bytes.map(|half| {
                let within = _mm256_cmpeq_epi8(_mm256_min_epu8(half, limit), half);
                u64::from(_mm256_movemask_epi8(within).cast_unsigned())
            });
            low | high << 32
        }
    }
    #[inline(always)]
    #[allow(
        clippy::needless_range_loop,
        reason = "closures are compiled for no processor in particular"
    )]
    fn turn(lines: &[Line], apart: usize, halves: [&mut Columns; HALVES]) {
        match apart {
            1 => turn::<1>(lines, halves),
            _ => turn::<3>(lines, halves),
        }
    }
    #[inline(always)]
    fn all_at_most(numbers: &[i32; BLOCK], limit: i32) -> u64 {
        let mut mask = 0;
        for n in 0..BLOCK / 8 {
            // SAFETY: `Kernel::all` has seen AVX2; the slice is checked to have 8 numbers, 32 bytes, and the load
            // needs no alignment.
            unsafe {
                let some = _mm256_loadu_si256(numbers[n * 8..][..8].as_ptr().cast());
                let above = _mm256_cmpgt_epi32(some, _mm256_set1_epi32(limit));
                let above = _mm256_movemask_ps(_mm256_castsi256_ps(above)).cast_unsigned();
                mask |= u64::from(above) << (8 * n);
            }
        }
        !mask
    }
    #[inline(always)]
    fn prefetch<T>(value: &T) {
        // SAFETY: SSE, part of every x86-64; the address of a reference, and a prefetch reads nothing into the
        // program.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast()) }
    }
}

/// Rows whose bytes a register of AVX2 holds, and those of each of its lanes.
const HALF_ROWS: usize = BLOCK / 2;
const SIXTEEN: usize = 16;
/// Of a line, by lanes.
const QUARTERS: usize = LINE / SIXTEEN;

/// Turns the first of every `N` lines, three at most.
#[inline(always)]
fn turn<const N: usize>(lines: &[Line], halves: [&mut Columns; HALVES]) {
    let lines = &lines[..(BLOCK - 1) * N + 1];
    // Asked for in their order, as in `in_order`: below they are read in another.
    for i in 0..BLOCK {
        // SAFETY: a reference to a `u64`, so valid, initialised and aligned; it is `Copy`.
        let _: u64 = unsafe { std::ptr::from_ref(&lines[i * N].0[0]).read_volatile() };
    }
    // Sixteen bytes of each of twice sixteen rows into as many columns, eight of them at a time: as many as there are
    // registers for.
    for half in 0..2 {
        let rows = &lines[half * HALF_ROWS * N..][..(HALF_ROWS - 1) * N + 1];
        for quarter in 0..QUARTERS {
            let columns = &mut halves[quarter / HALVES].0[quarter % HALVES * SIXTEEN..][..SIXTEEN];
            let (lower, upper) = columns.split_at_mut(EIGHT);
            store_rows(lower, half, eight_columns::<N, false>(rows, quarter));
            store_rows(upper, half, eight_columns::<N, true>(rows, quarter));
        }
    }
}

/// The first or the second eight of sixteen columns that a quarter of the lines of twice sixteen rows becomes.
///
/// Interleaving the bytes of registers i and i + n / 2, of n, makes the highest bit of what was a register's number the lowest of
/// what is a byte's, and the other way round: four times over, byte j of row i becomes byte i of column j.
#[inline(always)]
#[allow(
    clippy::needless_range_loop,
    reason = "closures are compiled for no processor in particular"
)]
fn eight_columns<const N: usize, const UPPER: bool>(lines: &[Line], quarter: usize) -> [__m256i; EIGHT] {
    // SAFETY: `Kernel::all` has seen AVX2; registers only.
    let mut turned = [unsafe { _mm256_setzero_si256() }; EIGHT];
    for i in 0..EIGHT {
        let a = two_rows(lines, i * N, N, quarter);
        let b = two_rows(lines, (i + EIGHT) * N, N, quarter);
        turned[i] = if UPPER {
            // SAFETY: `Kernel::all` has seen AVX2; registers only.
            unsafe { _mm256_unpackhi_epi8(a, b) }
        } else {
            // SAFETY: `Kernel::all` has seen AVX2; registers only.
            unsafe { _mm256_unpacklo_epi8(a, b) }
        };
    }
    for _ in 0..EIGHT.ilog2() {
        let rows = turned;
        for i in 0..EIGHT / 2 {
            let (a, b) = (rows[i], rows[i + EIGHT / 2]);
            // SAFETY: `Kernel::all` has seen AVX2; registers only.
            unsafe {
                turned[2 * i] = _mm256_unpacklo_epi8(a, b);
                turned[2 * i + 1] = _mm256_unpackhi_epi8(a, b);
            }
        }
    }
    turned
}

/// The first or the second half of the rows of eight columns.
#[inline(always)]
#[allow(
    clippy::needless_range_loop,
    reason = "closures are compiled for no processor in particular"
)]
fn store_rows(columns: &mut [[u8; LINE]], half: usize, rows: [__m256i; EIGHT]) {
    for i in 0..EIGHT {
        let column = &mut columns[i][half * HALF_ROWS..][..HALF_ROWS];
        // SAFETY: `Kernel::all` has seen AVX2; the slice is checked to have 32 bytes, and the store needs no
        // alignment.
        unsafe { _mm256_storeu_si256(column.as_mut_ptr().cast(), rows[i]) };
    }
}

/// A quarter of row i's line in the lower lane, and of the one sixteen rows behind it in the upper.
#[inline(always)]
fn two_rows(lines: &[Line], at: usize, apart: usize, quarter: usize) -> __m256i {
    let lower = quarter_of(&lines[at], quarter);
    let upper = quarter_of(&lines[at + SIXTEEN * apart], quarter);
    // SAFETY: `Kernel::all` has seen AVX2; registers only.
    unsafe { _mm256_set_m128i(upper, lower) }
}

#[inline(always)]
fn quarter_of(line: &Line, quarter: usize) -> __m128i {
    // SAFETY: SSE2, part of every x86-64; the slice is checked to have 2 words, 16 bytes, and the load needs no
    // alignment.
    unsafe { _mm_loadu_si128(line.0[2 * quarter..][..2].as_ptr().cast()) }
}
