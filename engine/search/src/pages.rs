//! Memory that a search walks through: zero at first, and in huge pages where the system has them.
//!
//! Rows that are looked at again lie far from each other. In ordinary pages each of them costs a walk through the page
//! tables, and in a virtual machine through the host's as well, for which the processor waits longer than for the row.

use std::ops::{Deref, DerefMut, Range};

use memmap2::MmapMut;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A huge page. What is smaller lies in ordinary ones: a mapping of its own for every small collection would use up
/// what a process may have of them.
const HUGE: usize = 2 << 20;

/// So many values in one piece, which never moves.
pub(crate) struct Pages<T>(Memory<T>);

enum Memory<T> {
    Allocated(Box<[T]>),
    /// The bytes of a mapping that they are.
    Mapped(MmapMut, Range<usize>),
}

impl<T: FromBytes> Pages<T> {
    /// All of their bytes are zero.
    pub(crate) fn zeroed(len: usize) -> Self {
        let bytes = len * size_of::<T>();
        let mapped = (bytes >= HUGE).then(|| map(bytes)).flatten();
        Self(mapped.unwrap_or_else(|| {
            let values = T::new_vec_zeroed(len).expect("a machine without memory ends its programs itself");
            Memory::Allocated(values.into_boxed_slice())
        }))
    }
}

/// None where the system refuses another mapping.
fn map<T>(bytes: usize) -> Option<Memory<T>> {
    // Address space alone, of which the beginning of the first huge page is looked up.
    let map = MmapMut::map_anon(bytes + HUGE).ok()?;
    let start = map.as_ptr().align_offset(HUGE);
    // Where the system has no huge pages, ordinary ones do.
    #[cfg(target_os = "linux")]
    let _ = map.advise_range(memmap2::Advice::HugePage, start, bytes);
    Some(Memory::Mapped(map, start..start + bytes))
}

impl<T: FromBytes + KnownLayout + Immutable> Deref for Pages<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        match &self.0 {
            Memory::Allocated(values) => values,
            Memory::Mapped(map, range) => {
                <[T]>::ref_from_bytes(&map[range.clone()]).expect("whole values, at a huge page's beginning")
            }
        }
    }
}

impl<T: FromBytes + IntoBytes + KnownLayout + Immutable> DerefMut for Pages<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.0 {
            Memory::Allocated(values) => values,
            Memory::Mapped(map, range) => <[T]>::mut_from_bytes(&mut map[range.clone()])
                .expect("whole values, at a huge page's beginning"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_any_size_is_zero_and_keeps_what_is_written() {
        for len in [0, 1, HUGE / 8 - 1, HUGE / 8, HUGE / 8 + 1, 3 * HUGE / 8] {
            let mut pages = Pages::<u64>::zeroed(len);
            assert_eq!(pages.len(), len);
            assert!(pages.iter().all(|value| *value == 0));
            if let [.., last] = &mut *pages {
                *last = 7;
            }
            assert_eq!(pages.last().copied(), (len > 0).then_some(7));
            let is_mapped = matches!(pages.0, Memory::Mapped(..));
            assert_eq!(is_mapped, len >= HUGE / 8);
        }
    }
}
