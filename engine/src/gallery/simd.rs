//! The few operations of a search that plain Rust cannot say well, for each instruction set worth having.
//!
//! A search is written once, over [`Simd`], and compiled for each of them; which one runs is chosen at run
//! time. All give the same integers, and [`Portable`] is the oracle of the others.
//!
//! The choice and the shuffles are the need for this file's `unsafe`: among a million synthetic people of 1024
//! bits, at a threshold of 0.53, one core of a 2025 server takes 32 ms with what every x86-64 has, 1.6 ms with
//! AVX2 and 0.9 ms with AVX-512; so that nobody is missed 71, 9.2 and 4.0 ms.

use crate::gallery::arena::{GROUPS, LINE, LINE_WORDS, Line};

/// Bit planes of the coarse values of [`Simd::ones`].
pub(super) const HIGH: usize = 4;

/// What a bit of each plane is worth: the places of a two's complement number.
pub(super) const HIGH_WEIGHTS: [i32; HIGH] = [1, 2, 4, -8];

/// An instruction set. A line is handled at once, in lanes of 16 bytes.
pub(super) trait Simd: Copy {
    type Bytes: Copy;

    fn zero() -> Self::Bytes;
    fn load(line: &[u8; LINE]) -> Self::Bytes;
    fn store(bytes: Self::Bytes) -> [u8; LINE];
    /// Of each byte the lower nibble, and the upper one.
    fn nibbles(bytes: Self::Bytes) -> [Self::Bytes; 2];
    /// The entry of each nibble, in the sixteen entries of its lane.
    fn lookup(entries: Self::Bytes, nibbles: Self::Bytes) -> Self::Bytes;
    /// Saturates at 255.
    fn add(a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    /// The saturated sum of each argument's four lanes, in its place among the results.
    fn fold(sums: [Self::Bytes; GROUPS]) -> Self::Bytes;
    /// A bit for each byte that is at most `limit`.
    fn at_most(bytes: Self::Bytes, limit: u8) -> u64;
    /// The sum of coarse values where a row has ones; `planes` are those of the values, a line at a time.
    #[inline(always)]
    fn ones(row: &[Line], planes: &[[Line; HIGH]]) -> i32 {
        let mut counts = [0u32; HIGH];
        for (line, planes) in row.iter().zip(planes) {
            for (count, plane) in counts.iter_mut().zip(planes) {
                for w in 0..LINE_WORDS {
                    *count = count.wrapping_add((line.0[w] & plane.0[w]).count_ones());
                }
            }
        }
        let ones = counts.iter().zip(HIGH_WEIGHTS);
        ones.fold(0, |ones, (count, weight)| {
            ones.wrapping_add(count.cast_signed().wrapping_mul(weight))
        })
    }
    /// Asks for what will be read soon.
    fn prefetch<T>(value: &T);
}

/// Work that is compiled for every instruction set. `run` and what it calls must be `#[inline(always)]`,
/// or they are compiled for none.
pub(super) trait Task {
    fn run<S: Simd>(self);
}

/// The instruction sets of this architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernel {
    /// What every processor of the architecture has.
    Portable,
    /// 256-bit shuffles, and POPCNT.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 512-bit shuffles and VPOPCNTQ.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// Written and reviewed, and never run: no such processor was at hand.
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl Kernel {
    /// The fastest that this processor runs; the answer is cached by the standard library.
    pub(super) fn best() -> Self {
        *Self::all().last().expect("the portable one is always there")
    }

    /// Every one that this processor runs, the fastest last.
    pub(super) fn all() -> &'static [Self] {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
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
    pub(super) fn run(self, task: impl Task) {
        match self {
            Self::Portable => task.run::<Portable>(),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: named only by `all`, where the processor was seen to have the features.
            Self::Avx2 => unsafe { avx2(task) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Self::Avx512 => unsafe { avx512(task) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above.
            Self::Neon => unsafe { neon(task) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,popcnt")]
fn avx2(task: impl Task) {
    task.run::<x86::Avx2>();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,popcnt,avx512f,avx512bw,avx512vl,avx512vpopcntdq")]
fn avx512(task: impl Task) {
    task.run::<x86::Avx512>();
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
fn neon(task: impl Task) {
    task.run::<arm::Neon>();
}

/// Byte by byte: the oracle.
#[derive(Clone, Copy)]
pub(super) struct Portable;

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
    fn fold(sums: [Self::Bytes; GROUPS]) -> Self::Bytes {
        let lanes = |i: usize| (0..4).map(move |lane| sums[i / 16][lane * 16 + i % 16]);
        std::array::from_fn(|i| lanes(i).fold(0, u8::saturating_add))
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
    clippy::undocumented_unsafe_blocks,
    reason = "instructions that are there only inside of `avx2` and `avx512`, which alone name these types"
)]
mod x86 {
    // SAFETY, for every block of this module: `Kernel::run` alone names these types, inside of functions
    // that are compiled for and called on processors with the instructions; loads and stores are of whole
    // arrays, and need no alignment.
    use std::arch::x86_64::*;

    use super::{GROUPS, HIGH, LINE, Line, Simd};

    #[derive(Clone, Copy)]
    pub(super) struct Avx512;

    impl Simd for Avx512 {
        type Bytes = __m512i;

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
        fn fold(sums: [__m512i; GROUPS]) -> __m512i {
            let [a, b, c, d] = sums;
            // A transposition of lanes, added up on the way: two halves of a and b, then two quarters of all.
            unsafe {
                let ab = _mm512_adds_epu8(
                    _mm512_shuffle_i64x2::<0b01_00_01_00>(a, b),
                    _mm512_shuffle_i64x2::<0b11_10_11_10>(a, b),
                );
                let cd = _mm512_adds_epu8(
                    _mm512_shuffle_i64x2::<0b01_00_01_00>(c, d),
                    _mm512_shuffle_i64x2::<0b11_10_11_10>(c, d),
                );
                _mm512_adds_epu8(
                    _mm512_shuffle_i64x2::<0b10_00_10_00>(ab, cd),
                    _mm512_shuffle_i64x2::<0b11_01_11_01>(ab, cd),
                )
            }
        }
        #[inline(always)]
        fn ones(row: &[Line], planes: &[[Line; HIGH]]) -> i32 {
            unsafe {
                let line = |line: &Line| _mm512_loadu_si512(line.0.as_ptr().cast());
                let mut counts = [_mm512_setzero_si512(); HIGH];
                for (row, planes) in row.iter().zip(planes) {
                    let row = line(row);
                    for p in 0..HIGH {
                        let common = _mm512_and_si512(row, line(&planes[p]));
                        counts[p] = _mm512_add_epi64(counts[p], _mm512_popcnt_epi64(common));
                    }
                }
                let [a, b, c, d] = counts;
                let positive = _mm512_add_epi64(
                    _mm512_add_epi64(a, _mm512_slli_epi64::<1>(b)),
                    _mm512_slli_epi64::<2>(c),
                );
                _mm512_reduce_add_epi64(_mm512_sub_epi64(positive, _mm512_slli_epi64::<3>(d))) as i32
            }
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

    #[derive(Clone, Copy)]
    pub(super) struct Avx2;

    impl Simd for Avx2 {
        type Bytes = [__m256i; 2];

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
        fn fold(sums: [Self::Bytes; GROUPS]) -> Self::Bytes {
            unsafe {
                let [a, b, c, d] = sums.map(|[low, high]| _mm256_adds_epu8(low, high));
                let pair = |a, b| {
                    let low = _mm256_permute2x128_si256::<0x20>(a, b);
                    _mm256_adds_epu8(low, _mm256_permute2x128_si256::<0x31>(a, b))
                };
                [pair(a, b), pair(c, d)]
            }
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
}

/// Untested: no such processor was at hand.
#[cfg(target_arch = "aarch64")]
#[allow(
    unsafe_code,
    clippy::undocumented_unsafe_blocks,
    reason = "instructions that are named only inside of `neon`"
)]
mod arm {
    // SAFETY, for every block of this module: NEON is part of every 64-bit ARM; loads and stores are of
    // whole arrays, and need no alignment.
    use std::arch::aarch64::*;

    use super::{GROUPS, LINE, Simd};

    const PARTS: [usize; 4] = [0, 1, 2, 3];

    #[derive(Clone, Copy)]
    pub(super) struct Neon;

    impl Simd for Neon {
        type Bytes = [uint8x16_t; 4];

        #[inline(always)]
        fn zero() -> Self::Bytes {
            unsafe { [vdupq_n_u8(0); 4] }
        }
        #[inline(always)]
        fn load(bytes: &[u8; LINE]) -> Self::Bytes {
            unsafe { PARTS.map(|part| vld1q_u8(bytes[part * 16..][..16].as_ptr())) }
        }
        #[inline(always)]
        fn store(bytes: Self::Bytes) -> [u8; LINE] {
            let mut stored = [0; LINE];
            for (part, bytes) in stored.chunks_mut(16).zip(bytes) {
                unsafe { vst1q_u8(part.as_mut_ptr(), bytes) };
            }
            stored
        }
        #[inline(always)]
        fn nibbles(bytes: Self::Bytes) -> [Self::Bytes; 2] {
            unsafe {
                [
                    bytes.map(|part| vandq_u8(part, vdupq_n_u8(15))),
                    bytes.map(|part| vshrq_n_u8::<4>(part)),
                ]
            }
        }
        #[inline(always)]
        fn lookup(entries: Self::Bytes, nibbles: Self::Bytes) -> Self::Bytes {
            unsafe { PARTS.map(|part| vqtbl1q_u8(entries[part], nibbles[part])) }
        }
        #[inline(always)]
        fn add(a: Self::Bytes, b: Self::Bytes) -> Self::Bytes {
            unsafe { PARTS.map(|part| vqaddq_u8(a[part], b[part])) }
        }
        #[inline(always)]
        fn fold(sums: [Self::Bytes; GROUPS]) -> Self::Bytes {
            sums.map(|[a, b, c, d]| unsafe { vqaddq_u8(vqaddq_u8(a, b), vqaddq_u8(c, d)) })
        }
        #[inline(always)]
        fn at_most(bytes: Self::Bytes, limit: u8) -> u64 {
            // A bit of its own for each of eight bytes, whose sum is their mask.
            const BITS: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];
            unsafe {
                let bits = vld1q_u8(BITS.as_ptr());
                PARTS.iter().fold(0, |mask, part| {
                    let within = vandq_u8(vcleq_u8(bytes[*part], vdupq_n_u8(limit)), bits);
                    let low = u64::from(vaddv_u8(vget_low_u8(within)));
                    let high = u64::from(vaddv_u8(vget_high_u8(within)));
                    mask | (low | high << 8) << (16 * part)
                })
            }
        }
        #[inline(always)]
        fn prefetch<T>(_: &T) {}
    }
}
