//! AVX2 and AVX-512.

// SAFETY, for every block of this module: `Kernel::run` alone names these types, inside of functions
// that are compiled for and called on processors with the instructions; loads and stores are of whole
// arrays, and need no alignment.
use std::arch::x86_64::*;

use super::{BLOCK, Columns, LINE, Line, ROWS, Simd, Table};
use crate::gallery::arena::COLUMNS;
use crate::gallery::lookup::Entries;
use crate::gallery::weights::{PLANES, Worth};

#[derive(Clone, Copy)]
pub(super) struct Avx512;

impl Simd for Avx512 {
    type Bytes = __m512i;

    const TURNS_FROM: usize = 8;

    #[inline(always)]
    fn zero() -> __m512i {
        unsafe { _mm512_setzero_si512() }
    }
    #[inline(always)]
    fn load(bytes: &[u8; LINE]) -> __m512i {
        unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
    }
    #[inline(always)]
    fn store(bytes: __m512i) -> [u8; LINE] {
        let mut stored = [0; LINE];
        unsafe { _mm512_storeu_si512(stored.as_mut_ptr().cast(), bytes) };
        stored
    }
    #[inline(always)]
    fn nibbles(bytes: __m512i) -> [__m512i; 2] {
        unsafe {
            let low = _mm512_set1_epi8(15);
            [
                _mm512_and_si512(bytes, low),
                _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), low),
            ]
        }
    }
    #[inline(always)]
    fn lookup(entries: __m512i, nibbles: __m512i) -> __m512i {
        unsafe { _mm512_shuffle_epi8(entries, nibbles) }
    }
    #[inline(always)]
    fn add(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_adds_epu8(a, b) }
    }
    #[inline(always)]
    #[allow(
        clippy::needless_range_loop,
        reason = "closures are compiled for no processor in particular"
    )]
    fn columns<const B: usize, const P: usize>(
        blocks: &[Columns; B],
        tables: [&Table; P],
    ) -> [[__m512i; P]; B] {
        let mut sums = [[Self::zero(); P]; B];
        for three in 0..COLUMNS / 3 {
            let mut indices = [[Self::zero(); 4]; B];
            for b in 0..B {
                let first = column(&blocks[b], 3 * three);
                let second = column(&blocks[b], 3 * three + 1);
                let third = column(&blocks[b], 3 * three + 2);
                indices[b] = [first, second, third, tops(first, second, third)];
            }
            for p in 0..P {
                add_found(&mut sums, p, &indices, &tables[p].sixes().0[three]);
            }
        }
        let mut indices = [[Self::zero(); 3]; B];
        for b in 0..B {
            let first = column(&blocks[b], COLUMNS - 2);
            let second = column(&blocks[b], COLUMNS - 1);
            indices[b] = [first, second, tops(first, second, Self::zero())];
        }
        for p in 0..P {
            add_found(&mut sums, p, &indices, tables[p].sixes().1);
        }
        sums
    }
    #[inline(always)]
    fn middles(lines: &[Line], worths: &[Worth]) -> [i32; ROWS] {
        match worths.len() {
            1 => middles::<1>(lines, worths),
            _ => middles::<3>(lines, worths),
        }
    }
    #[inline(always)]
    fn middle(lines: &[Line], worths: &[Worth]) -> i32 {
        let mut units = Self::zero();
        for (line, worth) in lines.iter().zip(worths) {
            units = Loaded::new(worth).add(units, line);
        }
        unsafe { _mm512_reduce_add_epi64(eights(units)) as i32 }
    }
    #[inline(always)]
    #[allow(
        clippy::needless_range_loop,
        reason = "closures are compiled for no processor in particular"
    )]
    fn tails(lines: &[Line; ROWS / 2], worth: &Worth) -> [i32; ROWS] {
        let worth = Loaded::new(worth);
        let mut sums = [Self::zero(); ROWS];
        for pair in 0..ROWS / 2 {
            let both = eights(worth.add(Self::zero(), &lines[pair]));
            sums[2 * pair] = unsafe { _mm512_maskz_mov_epi64(HALVES[0], both) };
            sums[2 * pair + 1] = unsafe { _mm512_maskz_mov_epi64(HALVES[1], both) };
        }
        added_up(&sums)
    }
    #[inline(always)]
    fn tail(line: &Line, second: usize, worth: &Worth) -> i32 {
        let both = eights(Loaded::new(worth).add(Self::zero(), line));
        unsafe { _mm512_mask_reduce_add_epi64(HALVES[second], both) as i32 }
    }
    #[inline(always)]
    fn all_at_most(numbers: &[i32; BLOCK], limit: i32) -> u64 {
        let mut mask = 0;
        for n in 0..BLOCK / 16 {
            unsafe {
                let some = _mm512_loadu_si512(numbers[n * 16..][..16].as_ptr().cast());
                let within = _mm512_cmple_epi32_mask(some, _mm512_set1_epi32(limit));
                mask |= u64::from(within) << (16 * n);
            }
        }
        mask
    }
    #[inline(always)]
    fn at_most(bytes: __m512i, limit: u8) -> u64 {
        unsafe { _mm512_cmple_epu8_mask(bytes, _mm512_set1_epi8(limit.cast_signed())) }
    }
    #[inline(always)]
    fn prefetch<T>(value: &T) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast()) }
    }
}

#[inline(always)]
fn line(line: &Line) -> __m512i {
    unsafe { _mm512_loadu_si512(line.0.as_ptr().cast()) }
}

#[inline(always)]
fn column(columns: &Columns, j: usize) -> __m512i {
    Avx512::load(&columns.0[j])
}

/// Adds what a table's entries are to the sums of table `p`: each is loaded once for all blocks.
///
/// The shuffle looks at the lower six bits of each byte alone: the others need no clearing.
#[inline(always)]
#[allow(
    clippy::needless_range_loop,
    reason = "closures are compiled for no processor in particular"
)]
fn add_found<const B: usize, const P: usize, const N: usize>(
    sums: &mut [[__m512i; P]; B],
    p: usize,
    indices: &[[__m512i; N]; B],
    entries: &[Entries; N],
) {
    for n in 0..N {
        let entries = Avx512::load(&entries[n].0);
        for b in 0..B {
            let found = unsafe { _mm512_permutexvar_epi8(indices[b][n], entries) };
            sums[b][p] = Avx512::add(sums[b][p], found);
        }
    }
}

/// The upper two bits of a, b and c in the lower six of each byte; the two above may be anything.
#[inline(always)]
fn tops(a: __m512i, b: __m512i, c: __m512i) -> __m512i {
    // The first argument decides of each bit whether it is the second's or the third's.
    const CHOOSE: i32 = 0xCA;
    unsafe {
        let ab = _mm512_ternarylogic_epi32::<CHOOSE>(
            _mm512_set1_epi8(0b11),
            _mm512_srli_epi16::<6>(a),
            _mm512_srli_epi16::<4>(b),
        );
        _mm512_ternarylogic_epi32::<CHOOSE>(_mm512_set1_epi8(0b1111), ab, _mm512_srli_epi16::<2>(c))
    }
}

/// What a line is worth, in registers.
struct Loaded {
    expected: __m512i,
    planes: [__m512i; PLANES],
}

impl Loaded {
    #[inline(always)]
    #[allow(
        clippy::needless_range_loop,
        reason = "closures are compiled for no processor in particular"
    )]
    fn new(worth: &Worth) -> Self {
        let mut planes = [Avx512::zero(); PLANES];
        for p in 0..PLANES {
            planes[p] = line(&worth.planes[p]);
        }
        Self {
            expected: line(&worth.expected),
            planes,
        }
    }

    /// Adds what it costs the row that has this line, in units by bytes: at most 56 for each of a row's lines, which are
    /// three at most.
    #[inline(always)]
    fn add(&self, sum: __m512i, row: &Line) -> __m512i {
        // Where the row is not what is expected and the plane has a bit.
        const DIFFERING: i32 = 0x28;
        unsafe {
            let row = line(row);
            let mut units = Avx512::zero();
            for p in (0..PLANES).rev() {
                let differing = _mm512_ternarylogic_epi64::<DIFFERING>(row, self.expected, self.planes[p]);
                units = _mm512_add_epi8(_mm512_add_epi8(units, units), _mm512_popcnt_epi8(differing));
            }
            _mm512_add_epi8(sum, units)
        }
    }
}

/// The sums of each eight bytes: at most 8 * 168.
#[inline(always)]
fn eights(units: __m512i) -> __m512i {
    unsafe { _mm512_sad_epu8(units, Avx512::zero()) }
}

/// The parts of a register that are the first half of a line, and the second.
const HALVES: [__mmask8; 2] = [0x0f, 0xf0];

/// The penalties of sixteen rows of `N` lines.
#[inline(always)]
#[allow(
    clippy::needless_range_loop,
    reason = "closures are compiled for no processor in particular"
)]
fn middles<const N: usize>(lines: &[Line], worths: &[Worth]) -> [i32; ROWS] {
    let (lines, worths) = (&lines[..ROWS * N], &worths[..N]);
    let mut sums = [Avx512::zero(); ROWS];
    // A line of all rows at a time: its planes stay in the registers.
    for at in 0..N {
        let worth = Loaded::new(&worths[at]);
        for i in 0..ROWS {
            sums[i] = worth.add(sums[i], &lines[i * N + at]);
        }
    }
    for i in 0..ROWS {
        sums[i] = eights(sums[i]);
    }
    added_up(&sums)
}

/// The sum of each one's eight parts.
#[inline(always)]
#[allow(
    clippy::needless_range_loop,
    reason = "closures are compiled for no processor in particular"
)]
fn added_up(sums: &[__m512i; ROWS]) -> [i32; ROWS] {
    unsafe {
        // In each lane the two parts of four rows, packed into words and added by pairs.
        let mut fours = [Avx512::zero(); 4];
        for n in 0..4 {
            let ab = _mm512_packus_epi32(sums[4 * n], sums[4 * n + 1]);
            let cd = _mm512_packus_epi32(sums[4 * n + 2], sums[4 * n + 3]);
            fours[n] = _mm512_madd_epi16(_mm512_packus_epi32(ab, cd), _mm512_set1_epi16(1));
        }
        // The four lanes of each four rows become one, in its place.
        let [a, b, c, d] = fours;
        let ab = _mm512_add_epi32(
            _mm512_shuffle_i64x2::<0b01_00_01_00>(a, b),
            _mm512_shuffle_i64x2::<0b11_10_11_10>(a, b),
        );
        let cd = _mm512_add_epi32(
            _mm512_shuffle_i64x2::<0b01_00_01_00>(c, d),
            _mm512_shuffle_i64x2::<0b11_10_11_10>(c, d),
        );
        let all = _mm512_add_epi32(
            _mm512_shuffle_i64x2::<0b10_00_10_00>(ab, cd),
            _mm512_shuffle_i64x2::<0b11_01_11_01>(ab, cd),
        );
        let mut penalties = [0i32; ROWS];
        _mm512_storeu_si512(penalties.as_mut_ptr().cast(), all);
        penalties
    }
}

#[derive(Clone, Copy)]
pub(super) struct Avx2;

impl Simd for Avx2 {
    type Bytes = [__m256i; 2];

    const TURNS_FROM: usize = 4;

    #[inline(always)]
    fn zero() -> Self::Bytes {
        unsafe { [_mm256_setzero_si256(); 2] }
    }
    #[inline(always)]
    fn load(bytes: &[u8; LINE]) -> Self::Bytes {
        let (low, high) = bytes.split_at(LINE / 2);
        unsafe { [low, high].map(|half| _mm256_loadu_si256(half.as_ptr().cast())) }
    }
    #[inline(always)]
    fn store(bytes: Self::Bytes) -> [u8; LINE] {
        let mut stored = [0; LINE];
        for (half, bytes) in stored.chunks_mut(LINE / 2).zip(bytes) {
            unsafe { _mm256_storeu_si256(half.as_mut_ptr().cast(), bytes) };
        }
        stored
    }
    #[inline(always)]
    fn nibbles(bytes: Self::Bytes) -> [Self::Bytes; 2] {
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
        unsafe { [0, 1].map(|half| _mm256_shuffle_epi8(entries[half], nibbles[half])) }
    }
    #[inline(always)]
    fn add(a: Self::Bytes, b: Self::Bytes) -> Self::Bytes {
        unsafe { [0, 1].map(|half| _mm256_adds_epu8(a[half], b[half])) }
    }
    #[inline(always)]
    fn at_most(bytes: Self::Bytes, limit: u8) -> u64 {
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
    fn prefetch<T>(value: &T) {
        Avx512::prefetch(value);
    }
}
