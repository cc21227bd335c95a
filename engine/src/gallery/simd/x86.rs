//! AVX2 and AVX-512.

// SAFETY, for every block of this module: `Kernel::run` alone names these types, inside of functions
// that are compiled for and called on processors with the instructions; loads and stores are of whole
// arrays, and need no alignment, but one, of a line, which has it.
use std::arch::x86_64::*;

use super::{BLOCK, Columns, LINE, Line, ROWS, Simd, Table};
use crate::gallery::arena::COLUMNS;
use crate::gallery::cascade::turned::{EIGHT, HALF_WORDS, HALVES};
use crate::gallery::lookup::Entries;
use crate::gallery::weights::{PLANES, Worth};

#[derive(Clone, Copy)]
pub(super) struct Avx512;

impl Simd for Avx512 {
    type Bytes = __m512i;

    const TURNS_FROM: usize = 3;

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
            units = unsafe { _mm512_add_epi64(units, Loaded::new(worth).units(line)) };
        }
        unsafe { _mm512_reduce_add_epi64(units) as i32 }
    }
    #[inline(always)]
    #[allow(
        clippy::needless_range_loop,
        reason = "closures are compiled for no processor in particular"
    )]
    fn turn(lines: &[Line], apart: usize, halves: [&mut Columns; HALVES]) {
        // A word of each of eight rows at a time into as many columns, which are not in their places yet.
        for eighth in 0..EIGHT {
            let mut rows = [Self::zero(); EIGHT];
            for i in 0..EIGHT {
                rows[i] = in_order(&lines[(eighth * EIGHT + i) * apart]);
            }
            let words = words_turned(rows);
            for word in 0..EIGHT {
                let columns = unsafe { _mm512_permutexvar_epi8(Self::load(&BYTES_TURNED), words[word]) };
                halves[word / HALF_WORDS].0[word % HALF_WORDS * EIGHT + eighth] = Self::store(columns);
            }
        }
        // Eight rows' bytes of a column are a word each now.
        for word in 0..EIGHT {
            let columns = &mut halves[word / HALF_WORDS].0[word % HALF_WORDS * EIGHT..][..EIGHT];
            let mut eighths = [Self::zero(); EIGHT];
            for i in 0..EIGHT {
                eighths[i] = Self::load(&columns[i]);
            }
            let whole = words_turned(eighths);
            for i in 0..EIGHT {
                columns[i] = Self::store(whole[i]);
            }
        }
    }
    #[inline(always)]
    fn tails(lines: &[Line; ROWS / 2], worth: &Worth) -> [i32; ROWS] {
        let lanes = Loaded::new(worth).of_eight(lines, 1);
        unsafe {
            // The first half of a line is one row's tail, the second the next one's.
            let halves = _mm512_add_epi16(lanes, _mm512_shuffle_i64x2::<0b10_11_00_01>(lanes, lanes));
            let first = _mm512_castsi512_si128(halves);
            let second = _mm512_extracti32x4_epi32::<2>(halves);
            stored(_mm256_set_m128i(
                _mm_unpackhi_epi16(first, second),
                _mm_unpacklo_epi16(first, second),
            ))
        }
    }
    #[inline(always)]
    fn tail(line: &Line, second: usize, worth: &Worth) -> i32 {
        /// The parts of a register that are the first half of a line, and the second.
        const HALVES: [__mmask8; 2] = [0x0f, 0xf0];
        let units = Loaded::new(worth).units(line);
        unsafe { _mm512_mask_reduce_add_epi64(HALVES[second], units) as i32 }
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

/// A line, behind those that are read before it: the compiler reads lines in any order, and the processor reads on by itself
/// only where one follows the other.
#[inline(always)]
fn in_order(line: &Line) -> __m512i {
    unsafe { std::ptr::from_ref(line).cast::<__m512i>().read_volatile() }
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

/// Word b of register i and word i of register b change places.
#[inline(always)]
#[allow(
    clippy::needless_range_loop,
    reason = "closures are compiled for no processor in particular"
)]
fn words_turned(rows: [__m512i; EIGHT]) -> [__m512i; EIGHT] {
    let mut turned = [Avx512::zero(); EIGHT];
    for odd in 0..2 {
        // Of each two rows the even words, or the odd ones: two to a lane.
        let mut pairs = [Avx512::zero(); EIGHT / 2];
        for i in 0..EIGHT / 2 {
            let (a, b) = (rows[2 * i], rows[2 * i + 1]);
            pairs[i] = unsafe {
                if odd == 0 {
                    _mm512_unpacklo_epi64(a, b)
                } else {
                    _mm512_unpackhi_epi64(a, b)
                }
            };
        }
        let [a, b, c, d] = pairs;
        let (ab, cd) = (even_lanes(a, b), even_lanes(c, d));
        turned[odd] = even_lanes(ab, cd);
        turned[odd + 4] = odd_lanes(ab, cd);
        let (ab, cd) = (odd_lanes(a, b), odd_lanes(c, d));
        turned[odd + 2] = even_lanes(ab, cd);
        turned[odd + 6] = odd_lanes(ab, cd);
    }
    turned
}

/// The lanes 0 and 2 of a, and of b.
#[inline(always)]
fn even_lanes(a: __m512i, b: __m512i) -> __m512i {
    unsafe { _mm512_shuffle_i64x2::<0b10_00_10_00>(a, b) }
}

/// The lanes 1 and 3 of a, and of b.
#[inline(always)]
fn odd_lanes(a: __m512i, b: __m512i) -> __m512i {
    unsafe { _mm512_shuffle_i64x2::<0b11_01_11_01>(a, b) }
}

/// Of which byte each one is where byte b of word i and byte i of word b have changed places.
const BYTES_TURNED: [u8; LINE] = {
    let mut from = [0; LINE];
    let mut at = 0;
    while at < LINE {
        from[at] = (at % EIGHT * EIGHT + at / EIGHT) as u8;
        at += 1;
    }
    from
};

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

    /// Of each word of a row's line so many bits are not what is expected, by planes: at most 64.
    #[inline(always)]
    #[allow(
        clippy::needless_range_loop,
        reason = "closures are compiled for no processor in particular"
    )]
    fn counts(&self, row: __m512i) -> [__m512i; PLANES] {
        // Where the row is not what is expected and the plane has a bit.
        const DIFFERING: i32 = 0x28;
        let mut counts = [Avx512::zero(); PLANES];
        for p in 0..PLANES {
            counts[p] = unsafe {
                _mm512_popcnt_epi64(_mm512_ternarylogic_epi64::<DIFFERING>(
                    row,
                    self.expected,
                    self.planes[p],
                ))
            };
        }
        counts
    }

    /// What each word of a row's line costs, in units: at most 64 * 7.
    #[inline(always)]
    fn units(&self, row: &Line) -> __m512i {
        let [ones, twos, fours] = self.counts(line(row));
        unsafe {
            let upper = _mm512_add_epi64(_mm512_add_epi64(fours, fours), twos);
            _mm512_add_epi64(_mm512_add_epi64(upper, upper), ones)
        }
    }

    /// What this line of each of eight rows costs, `apart` lines from each other: in each lane the sums of its two words, a
    /// word for each row.
    ///
    /// Planes are weighed for all of them at once: until then the counts of a word lie in its bytes, each shifted in behind
    /// the one before.
    #[inline(always)]
    #[allow(
        clippy::needless_range_loop,
        reason = "closures are compiled for no processor in particular"
    )]
    fn of_eight(&self, lines: &[Line], apart: usize) -> __m512i {
        let mut bytes = [Avx512::zero(); PLANES];
        for i in 0..ROWS / 2 {
            let counts = self.counts(in_order(&lines[i * apart]));
            for p in 0..PLANES {
                bytes[p] = unsafe { _mm512_shrdi_epi64::<8>(bytes[p], counts[p]) };
            }
        }
        let [ones, twos, fours] = bytes;
        unsafe {
            let lower = _mm512_add_epi8(ones, _mm512_add_epi8(twos, twos));
            // A byte of the lower planes and one of the upper: once and four times.
            let weights = _mm512_set1_epi16(0x0401);
            _mm512_add_epi16(
                _mm512_maddubs_epi16(_mm512_unpacklo_epi8(lower, fours), weights),
                _mm512_maddubs_epi16(_mm512_unpackhi_epi8(lower, fours), weights),
            )
        }
    }
}

/// The penalties of sixteen rows of `N` lines, three at most.
#[inline(always)]
#[allow(
    clippy::needless_range_loop,
    reason = "closures are compiled for no processor in particular"
)]
fn middles<const N: usize>(lines: &[Line], worths: &[Worth]) -> [i32; ROWS] {
    let (lines, worths) = (&lines[..ROWS * N], &worths[..N]);
    let mut eights = [Avx512::zero(); 2];
    // A line of all rows at a time: its planes stay in the registers.
    for at in 0..N {
        let worth = Loaded::new(&worths[at]);
        for half in 0..2 {
            let more = worth.of_eight(&lines[half * ROWS / 2 * N + at..], N);
            eights[half] = unsafe { _mm512_add_epi16(eights[half], more) };
        }
    }
    let [a, b] = eights;
    unsafe {
        // The four lanes of each eight rows become one.
        let pairs = _mm512_add_epi16(even_lanes(a, b), odd_lanes(a, b));
        let all = _mm512_add_epi16(even_lanes(pairs, pairs), odd_lanes(pairs, pairs));
        stored(_mm512_castsi512_si256(all))
    }
}

/// Of these words.
#[inline(always)]
fn stored(words: __m256i) -> [i32; ROWS] {
    let mut penalties = [0i32; ROWS];
    unsafe { _mm512_storeu_si512(penalties.as_mut_ptr().cast(), _mm512_cvtepu16_epi32(words)) };
    penalties
}

#[derive(Clone, Copy)]
pub(super) struct Avx2;

impl Simd for Avx2 {
    type Bytes = [__m256i; 2];

    const TURNS_FROM: usize = 2;

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
        unsafe { nibbles.map(|half| _mm256_shuffle_epi8(entries[0], half)) }
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
        Avx512::prefetch(value);
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
    let mut turned = [unsafe { _mm256_setzero_si256() }; EIGHT];
    for i in 0..EIGHT {
        let a = two_rows(lines, i * N, N, quarter);
        let b = two_rows(lines, (i + EIGHT) * N, N, quarter);
        turned[i] = if UPPER {
            unsafe { _mm256_unpackhi_epi8(a, b) }
        } else {
            unsafe { _mm256_unpacklo_epi8(a, b) }
        };
    }
    for _ in 0..EIGHT.ilog2() {
        let rows = turned;
        for i in 0..EIGHT / 2 {
            let (a, b) = (rows[i], rows[i + EIGHT / 2]);
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
        unsafe { _mm256_storeu_si256(column.as_mut_ptr().cast(), rows[i]) };
    }
}

/// A quarter of row i's line in the lower lane, and of the one sixteen rows behind it in the upper.
#[inline(always)]
fn two_rows(lines: &[Line], at: usize, apart: usize, quarter: usize) -> __m256i {
    let lower = quarter_of(&lines[at], quarter);
    let upper = quarter_of(&lines[at + SIXTEEN * apart], quarter);
    unsafe { _mm256_set_m128i(upper, lower) }
}

#[inline(always)]
fn quarter_of(line: &Line, quarter: usize) -> __m128i {
    unsafe { _mm_loadu_si128(line.0[2 * quarter..][..2].as_ptr().cast()) }
}
