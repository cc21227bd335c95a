//! AVX-512.
//!
//! `Kernel::run` alone names [`Avx512`], in a function that is compiled for AVX2, POPCNT and AVX-512 F, BW, VL, VBMI, VBMI2 and
//! VPOPCNTDQ, and `Kernel::all` offers that kernel only where the processor has all of them: the SAFETY lines below rely on
//! this.

use std::arch::x86_64::*;

use super::{BLOCK, Columns, LINE, Line, ROWS, Simd, Table};
use crate::arena::COLUMNS;
use crate::cascade::turned::{EIGHT, HALF_WORDS, HALVES};
use crate::lookup::Entries;
use crate::weights::{PLANES, Worth};

#[derive(Clone, Copy)]
pub(super) struct Avx512;

impl Simd for Avx512 {
    type Bytes = __m512i;

    const TURNS_FROM: usize = 3;

    #[inline(always)]
    fn zero() -> __m512i {
        // SAFETY: `Kernel::all` has seen AVX-512 F; registers only.
        unsafe { _mm512_setzero_si512() }
    }
    #[inline(always)]
    fn load(bytes: &[u8; LINE]) -> __m512i {
        // SAFETY: `Kernel::all` has seen AVX-512 F; the array has 64 bytes, and the load needs no alignment.
        unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
    }
    #[inline(always)]
    fn store(bytes: __m512i) -> [u8; LINE] {
        let mut stored = [0; LINE];
        // SAFETY: `Kernel::all` has seen AVX-512 F; the array has 64 bytes, and the store needs no alignment.
        unsafe { _mm512_storeu_si512(stored.as_mut_ptr().cast(), bytes) };
        stored
    }
    #[inline(always)]
    fn nibbles(bytes: __m512i) -> [__m512i; 2] {
        // SAFETY: `Kernel::all` has seen AVX-512 F and BW; registers only.
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
        // SAFETY: `Kernel::all` has seen AVX-512 BW; registers only.
        unsafe { _mm512_shuffle_epi8(entries, nibbles) }
    }
    #[inline(always)]
    fn add(a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: `Kernel::all` has seen AVX-512 BW; registers only.
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
        let sixes = tables.map(Table::sixes);
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
                add_found(&mut sums, p, &indices, &sixes[p].0[three]);
            }
        }
        let mut indices = [[Self::zero(); 3]; B];
        for b in 0..B {
            let first = column(&blocks[b], COLUMNS - 2);
            let second = column(&blocks[b], COLUMNS - 1);
            indices[b] = [first, second, tops(first, second, Self::zero())];
        }
        for p in 0..P {
            add_found(&mut sums, p, &indices, sixes[p].1);
        }
        sums
    }
    #[inline(always)]
    fn front(columns: &Columns, table: &Table, limit: u8, penalties: &mut [u8; LINE]) -> u64 {
        // SAFETY: `Kernel::all` has seen AVX-512 F, BW and VBMI, which `front` is compiled for.
        unsafe { front(columns, table.sixes(), limit, penalties) }
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
            // SAFETY: `Kernel::all` has seen AVX-512 F; registers only.
            units = unsafe { _mm512_add_epi64(units, Loaded::new(worth).units(line)) };
        }
        // SAFETY: `Kernel::all` has seen AVX-512 F; registers only.
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
                // SAFETY: `Kernel::all` has seen AVX-512 VBMI; registers only.
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
        // SAFETY: `Kernel::all` has seen AVX2 and AVX-512 F and BW; registers only.
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
        // SAFETY: `Kernel::all` has seen AVX-512 F; registers only.
        unsafe { _mm512_mask_reduce_add_epi64(HALVES[second], units) as i32 }
    }
    #[inline(always)]
    fn all_at_most(numbers: &[i32; BLOCK], limit: i32) -> u64 {
        let mut mask = 0;
        for n in 0..BLOCK / 16 {
            // SAFETY: `Kernel::all` has seen AVX-512 F; the slice is checked to have 16 numbers, 64 bytes, and the
            // load needs no alignment.
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
        // SAFETY: `Kernel::all` has seen AVX-512 BW; registers only.
        unsafe { _mm512_cmple_epu8_mask(bytes, _mm512_set1_epi8(limit.cast_signed())) }
    }
    #[inline(always)]
    fn prefetch<T>(value: &T) {
        // SAFETY: SSE, part of every x86-64; the address of a reference, and a prefetch reads nothing into the
        // program.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast()) }
    }
}

#[inline(always)]
fn line(line: &Line) -> __m512i {
    // SAFETY: `Kernel::all` has seen AVX-512 F; a `Line` has 64 bytes, and the load needs no alignment.
    unsafe { _mm512_loadu_si512(line.0.as_ptr().cast()) }
}

/// A line, behind those that are read before it: the compiler reads lines in any order, and the processor reads on by itself
/// only where one follows the other.
#[inline(always)]
fn in_order(line: &Line) -> __m512i {
    // SAFETY: `Kernel::all` has seen AVX-512 F; a `Line` has 64 initialised bytes at a multiple of 64, as a
    // `__m512i` needs.
    unsafe { std::ptr::from_ref(line).cast::<__m512i>().read_volatile() }
}

/// By itself, so that nothing else has a part in it: amid other code the compiler loads all columns first, which are more
/// than there are registers, and in an order of its own.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
#[inline(never)]
fn front(
    columns: &Columns,
    (threes, last): (&[[Entries; 4]; COLUMNS / 3], &[Entries; 3]),
    limit: u8,
    penalties: &mut [u8; LINE],
) -> u64 {
    let mut sums = [[Avx512::zero()]];
    for (three, entries) in threes.iter().enumerate() {
        let first = column_in_order(columns, 3 * three);
        let second = column_in_order(columns, 3 * three + 1);
        let third = column_in_order(columns, 3 * three + 2);
        let indices = [[first, second, third, tops(first, second, third)]];
        add_found(&mut sums, 0, &indices, entries);
    }
    let first = column_in_order(columns, COLUMNS - 2);
    let second = column_in_order(columns, COLUMNS - 1);
    let indices = [[first, second, tops(first, second, Avx512::zero())]];
    add_found(&mut sums, 0, &indices, last);
    *penalties = Avx512::store(sums[0][0]);
    Avx512::at_most(sums[0][0], limit)
}

#[inline(always)]
fn column_in_order(columns: &Columns, j: usize) -> __m512i {
    // SAFETY: `Kernel::all` has seen AVX-512 F; a column has 64 initialised bytes at a multiple of 64, as
    // `Columns` begins at one.
    unsafe { columns.0[j].as_ptr().cast::<__m512i>().read_volatile() }
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
            // SAFETY: `Kernel::all` has seen AVX-512 VBMI; registers only.
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
    // SAFETY: `Kernel::all` has seen AVX-512 F and BW; registers only.
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
            // SAFETY: `Kernel::all` has seen AVX-512 F; registers only.
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
    // SAFETY: `Kernel::all` has seen AVX-512 F; registers only.
    unsafe { _mm512_shuffle_i64x2::<0b10_00_10_00>(a, b) }
}

/// The lanes 1 and 3 of a, and of b.
#[inline(always)]
fn odd_lanes(a: __m512i, b: __m512i) -> __m512i {
    // SAFETY: `Kernel::all` has seen AVX-512 F; registers only.
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
            // SAFETY: `Kernel::all` has seen AVX-512 F and VPOPCNTDQ; registers only.
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
        // SAFETY: `Kernel::all` has seen AVX-512 F; registers only.
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
                // SAFETY: `Kernel::all` has seen AVX-512 VBMI2; registers only.
                bytes[p] = unsafe { _mm512_shrdi_epi64::<8>(bytes[p], counts[p]) };
            }
        }
        let [ones, twos, fours] = bytes;
        // SAFETY: `Kernel::all` has seen AVX-512 F and BW; registers only.
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
            // SAFETY: `Kernel::all` has seen AVX-512 BW; registers only.
            eights[half] = unsafe { _mm512_add_epi16(eights[half], more) };
        }
    }
    let [a, b] = eights;
    // SAFETY: `Kernel::all` has seen AVX-512 F and BW; registers only.
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
    // SAFETY: `Kernel::all` has seen AVX-512 F; sixteen `i32` have 64 bytes, and the store needs no alignment.
    unsafe { _mm512_storeu_si512(penalties.as_mut_ptr().cast(), _mm512_cvtepu16_epi32(words)) };
    penalties
}
