//! NEON. Tested under emulation only: how fast it is nobody knows.

use std::arch::aarch64::*;

use super::{LINE, Simd};

const PARTS: [usize; 4] = [0, 1, 2, 3];

#[derive(Clone, Copy)]
pub(super) struct Neon;

impl Simd for Neon {
    type Bytes = [uint8x16_t; 4];

    #[inline(always)]
    fn zero() -> Self::Bytes {
        // SAFETY: NEON is part of every 64-bit ARM; registers only.
        unsafe { [vdupq_n_u8(0); 4] }
    }
    #[inline(always)]
    fn load(bytes: &[u8; LINE]) -> Self::Bytes {
        // SAFETY: NEON is part of every 64-bit ARM; the slice is checked to have 16 bytes, and the load needs no
        // alignment.
        unsafe { PARTS.map(|part| vld1q_u8(bytes[part * 16..][..16].as_ptr())) }
    }
    #[inline(always)]
    fn store(bytes: Self::Bytes) -> [u8; LINE] {
        let mut stored = [0; LINE];
        for (part, bytes) in stored.chunks_mut(16).zip(bytes) {
            // SAFETY: NEON is part of every 64-bit ARM; each part is 16 of the 64 bytes, and the store needs no
            // alignment.
            unsafe { vst1q_u8(part.as_mut_ptr(), bytes) };
        }
        stored
    }
    #[inline(always)]
    fn nibbles(bytes: Self::Bytes) -> [Self::Bytes; 2] {
        // SAFETY: NEON is part of every 64-bit ARM; registers only.
        unsafe {
            [
                bytes.map(|part| vandq_u8(part, vdupq_n_u8(15))),
                bytes.map(|part| vshrq_n_u8::<4>(part)),
            ]
        }
    }
    #[inline(always)]
    fn lookup(entries: Self::Bytes, nibbles: Self::Bytes) -> Self::Bytes {
        // SAFETY: NEON is part of every 64-bit ARM; registers only.
        unsafe { PARTS.map(|part| vqtbl1q_u8(entries[part], nibbles[part])) }
    }
    #[inline(always)]
    fn add(a: Self::Bytes, b: Self::Bytes) -> Self::Bytes {
        // SAFETY: NEON is part of every 64-bit ARM; registers only.
        unsafe { PARTS.map(|part| vqaddq_u8(a[part], b[part])) }
    }
    #[inline(always)]
    fn at_most(bytes: Self::Bytes, limit: u8) -> u64 {
        // A bit of its own for each of eight bytes, whose sum is their mask.
        const BITS: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];
        // SAFETY: NEON is part of every 64-bit ARM; `BITS` has 16 bytes, and the load needs no alignment.
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
