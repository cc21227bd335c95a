//! Overwriting what was part of a photograph.

use std::ops::{Deref, DerefMut};

/// Overwrites the values, and makes the compiler believe that somebody looks at the zeros.
///
/// `Zeroize` for slices writes value by value, volatile: for the bytes of a photograph that took longer
/// than its way into the detector. This is a `memset` behind the same crate's barrier.
pub(crate) fn wipe<T: Copy + Default>(values: &mut [T]) {
    values.fill(T::default());
    zeroize::optimization_barrier(values);
}

/// Values that are wiped when they go. The length is fixed, because a vector that grows leaves copies.
pub(crate) struct Wiped<T: Copy + Default>(Vec<T>);

impl<T: Copy + Default> Wiped<T> {
    /// So many zeros.
    pub fn zeros(length: usize) -> Self {
        Self(vec![T::default(); length])
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
