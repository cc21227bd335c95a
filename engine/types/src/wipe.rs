//! Overwrites memory that held parts of a photograph.

use std::collections::TryReserveError;
use std::ops::{Deref, DerefMut};

/// Overwrites the values, and makes the compiler believe that somebody looks at the zeros.
///
/// `Zeroize` for slices writes value by value, volatile: for the bytes of a photograph that took longer
/// than its way into the detector. This is a `memset` behind the same crate's barrier.
pub fn wipe<T: Copy + Default>(values: &mut [T]) {
    values.fill(T::default());
    zeroize::optimization_barrier(values);
}

/// Of a thread's stack: what decoders and models leave lies within 80 KiB of its beginning.
const STACK_BYTES: usize = 256 << 10;

/// Overwrites what calls that have returned left below on this thread's stack: tables and rows of photographs, PersonIDs
/// on their way into a digest. For the loops of threads that work for calls, between one piece of work and the next.
#[inline(never)]
pub fn wipe_stack() {
    let mut below = [0_u8; STACK_BYTES];
    std::hint::black_box(&mut below);
}

/// Values that are wiped when they go. The length is fixed, because a vector that grows leaves copies.
pub struct Wiped<T: Copy + Default>(Vec<T>);

impl<T: Copy + Default> Wiped<T> {
    /// So many zeros.
    pub fn zeros(length: usize) -> Self {
        Self(vec![T::default(); length])
    }

    /// The same, where there may be too many.
    ///
    /// # Errors
    /// There is no memory for them.
    pub fn try_zeros(length: usize) -> Result<Self, TryReserveError> {
        let mut values = Vec::new();
        values.try_reserve_exact(length)?;
        values.resize(length, T::default());
        Ok(Self(values))
    }

    /// These values, no longer wiped: the caller sees to it.
    pub fn take(mut self) -> Vec<T> {
        std::mem::take(&mut self.0)
    }
}

impl<T: Copy + Default> Deref for Wiped<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Copy + Default> DerefMut for Wiped<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

impl<T: Copy + Default> Drop for Wiped<T> {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

/// Sees to it that memory is overwritten as it is freed, by whatever library in this process.
///
/// What this file wipes is ours; decoders and the inference runtime free theirs as it is: after an embedding all 512 raw
/// values were found in the heap, contiguous, in a buffer that the runtime had freed (its last reordering of the layout),
/// with arena and memory pattern off. The heap overwrites them (see `heap.rs`). Where it does not see the blocks of
/// libraries, as in a program that is linked otherwise than this one, glibc's own setting is next best.
pub fn overwrite_what_is_freed() {
    if !crate::heap::covers_libraries() && !perturb() {
        tracing::warn!("what C and C++ libraries free in this process is not overwritten");
    }
}

/// Lets glibc overwrite what is freed, blocks of up to 1,032 bytes excepted; answers whether it does.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(
    unsafe_code,
    reason = "glibc's setting has no safe wrapper; the need is stated above"
)]
fn perturb() -> bool {
    // SAFETY: `mallopt` takes two numbers and touches nothing of ours; glibc locks its own state. It is
    // unsafe only as every foreign function is. The byte is any but zero, which would switch it off.
    unsafe { libc::mallopt(libc::M_PERTURB, 0x55) != 0 }
}

/// Other allocators have no such setting.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn perturb() -> bool {
    false
}
