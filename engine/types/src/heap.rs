//! The heap of the process: a block is overwritten before it is free.
//!
//! Rust's blocks are freed by [`Wiping`], the global allocator of every program that has this crate in it. The blocks of C and
//! C++ libraries (ONNX Runtime, RocksDB, the C library itself) are freed by `free` and `realloc` of this file: a function of
//! the program stands before the one of glibc with the same name, for shared libraries too. `M_PERTURB` is no
//! substitute: it leaves blocks of up to 1,032 bytes as they are while they wait in a thread's cache, and it fills every
//! block that is allocated, so that a promised size becomes resident memory.
//!
//! A block is overwritten also where it goes back to the kernel, which clears a page when it is next given to a process
//! and not before.
//!
//! Outside of glibc only Rust's blocks are overwritten.

use std::alloc::{GlobalAlloc, Layout, System};

#[global_allocator]
static HEAP: Wiping = Wiping;

/// The system's allocator, which gets blocks back overwritten.
struct Wiping;

/// Overwrites a block.
///
/// # Safety
/// So many bytes from `block` on may be written, and hold nothing that is still needed.
#[allow(unsafe_code, reason = "an allocator handles blocks by their addresses")]
unsafe fn wipe(block: *mut u8, bytes: usize) {
    // SAFETY: as the caller promises.
    unsafe {
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        if bytes >= glibc::LARGE {
            return glibc::wipe_pages(block, bytes);
        }
        overwrite(block, bytes);
    }
}

/// Writes the zeros.
///
/// # Safety
/// As of [`wipe`].
#[allow(unsafe_code, reason = "an allocator handles blocks by their addresses")]
unsafe fn overwrite(block: *mut u8, bytes: usize) {
    // SAFETY: as the caller promises.
    let written = unsafe {
        block.write_bytes(0, bytes);
        std::slice::from_raw_parts(block, bytes)
    };
    // The compiler knows that freed memory is read by no one, and would leave the zeros out.
    zeroize::optimization_barrier(written);
}

// SAFETY: every block is one of `System`, of the same layout, and is given back to it once. What is written between lies
// within a block that its owner has given up, or within the part of it that the owner has given up.
#[allow(unsafe_code, reason = "a global allocator is an unsafe trait")]
unsafe impl GlobalAlloc for Wiping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block is the caller's, `layout.size()` bytes long, and needed no more.
        unsafe {
            wipe(block, layout.size());
            give_back(block, layout);
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the block is the caller's, of this layout; `new_size` is more than 0 and no overflow, as the caller
        // promises. A block that moves is copied in whole or up to its new size, and freed by `dealloc` above.
        unsafe {
            if let Some(kept) = resized_in_place(block, layout, new_size) {
                return kept;
            }
            let new = System.alloc(Layout::from_size_align_unchecked(new_size, layout.align()));
            if !new.is_null() {
                block.copy_to_nonoverlapping(new, layout.size().min(new_size));
                self.dealloc(block, layout);
            }
            new
        }
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
use self::glibc::{give_back, resized_in_place};

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    //! What stands before glibc's functions, and those functions by their other names.

    #![allow(
        unsafe_code,
        reason = "functions of C, which handle blocks by their addresses"
    )]

    use std::alloc::Layout;
    use std::ffi::c_void;

    use super::{overwrite, wipe};

    unsafe extern "C" {
        fn __libc_malloc(bytes: usize) -> *mut c_void;
        fn __libc_realloc(block: *mut c_void, bytes: usize) -> *mut c_void;
        fn __libc_free(block: *mut c_void);
    }

    /// What glibc aligns every block to.
    const ALIGNED: usize = 16;
    /// A block that shrinks to at least such a part of itself stays as large as it is.
    const WORTH_KEEPING: usize = 2;

    /// From this size on only the pages of a block are overwritten that are there: a block may be large because of what was
    /// announced, and must not become resident by its end.
    pub(super) const LARGE: usize = 1 << 20;
    /// Pages of x86-64 and most others; of a larger page it is asked once more than needed.
    const PAGE: usize = 4096;
    /// Pages that are asked about at once.
    const PAGES: usize = 1024;
    /// From this size on glibc maps every block by itself, however far it has raised its threshold.
    const ALWAYS_MAPPED: usize = 32 << 20;

    /// Overwrites what the kernel holds of a large block in memory.
    ///
    /// # Safety
    /// As of [`wipe`].
    pub(super) unsafe fn wipe_pages(block: *mut u8, bytes: usize) {
        let (begin, end) = (block as usize, block as usize + bytes);
        let mut at = begin;
        let mut is_resident = [1_u8; PAGES];
        while at < end {
            let first = at & !(PAGE - 1);
            let upto = end.min(first + PAGE * PAGES);
            // SAFETY: the pages lie in the block, but for what the first and the last have before and behind it, and it
            // gets a byte for each of them at most. Where it fails, the bytes stay as they are: all are taken as resident.
            unsafe {
                let pages = std::ptr::without_provenance_mut(first); // The kernel looks at no byte of them.
                if libc::mincore(pages, upto - first, is_resident.as_mut_ptr()) != 0 {
                    is_resident.fill(1);
                }
            }
            for is_resident in is_resident {
                if at >= upto {
                    break;
                }
                let next = upto.min((at & !(PAGE - 1)) + PAGE);
                if is_resident & 1 != 0 {
                    // SAFETY: from `at` to `next` it is the block's.
                    unsafe { overwrite(block.add(at - begin), next - at) };
                }
                at = next;
            }
        }
    }

    /// Whether a block is a mapping of its own: it begins where glibc's header of such a block ends.
    fn is_mapping(block: *mut c_void, usable: usize) -> bool {
        usable >= ALWAYS_MAPPED && block as usize % PAGE == ALIGNED
    }

    /// Frees an overwritten block of Rust's.
    pub(super) unsafe fn give_back(block: *mut u8, _: Layout) {
        // SAFETY: blocks of `System` are those of glibc's `malloc` and `posix_memalign`.
        unsafe { __libc_free(block.cast()) }
    }

    /// The same block of Rust's with another size, where it need not move.
    pub(super) unsafe fn resized_in_place(block: *mut u8, layout: Layout, bytes: usize) -> Option<*mut u8> {
        // SAFETY: the block is one of glibc's, and the caller's.
        unsafe {
            if bytes > layout.size() {
                let usable = libc::malloc_usable_size(block.cast());
                if bytes <= usable {
                    return Some(block);
                }
                // Its pages move, and nothing stays behind.
                let moved = is_mapping(block.cast(), usable).then(|| __libc_realloc(block.cast(), bytes));
                return moved.filter(|moved| !moved.is_null()).map(<*mut c_void>::cast);
            }
            if layout.align() > ALIGNED {
                return None; // `realloc` promises no more than that.
            }
            wipe(block.add(bytes), layout.size() - bytes);
            // It stays where it is, or its pages move: smaller blocks are not copied.
            let shrunk = __libc_realloc(block.cast(), bytes).cast::<u8>();
            (!shrunk.is_null()).then_some(shrunk)
        }
    }

    /// `free`, for whatever library calls it.
    ///
    /// # Safety
    /// As of C's.
    #[unsafe(no_mangle)]
    pub(super) unsafe extern "C" fn free(block: *mut c_void) {
        if block.is_null() {
            return;
        }
        // SAFETY: glibc says how long the block is. All of that may be written, and the caller has given it up.
        unsafe {
            wipe(block.cast(), libc::malloc_usable_size(block));
            __libc_free(block);
        }
    }

    /// `realloc`, for whatever library calls it: glibc's own would free the block that it moves out of as it is.
    ///
    /// # Safety
    /// As of C's.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn realloc(block: *mut c_void, bytes: usize) -> *mut c_void {
        // SAFETY: the block is null or one of glibc's and the caller's. Up to its usable size it may be read and written;
        // what lies behind a smaller new size is given up.
        unsafe {
            if block.is_null() {
                return __libc_malloc(bytes);
            }
            if bytes == 0 {
                free(block);
                return std::ptr::null_mut();
            }
            let usable = libc::malloc_usable_size(block);
            if bytes <= usable {
                wipe(block.cast::<u8>().add(bytes), usable - bytes);
                if bytes >= usable / WORTH_KEEPING {
                    return block;
                }
                return __libc_realloc(block, bytes);
            }
            if is_mapping(block, usable) {
                return __libc_realloc(block, bytes); // Its pages move, and nothing stays behind.
            }
            let new = __libc_malloc(bytes);
            if !new.is_null() {
                new.copy_from_nonoverlapping(block, usable);
                free(block);
            }
            new
        }
    }

    /// Whether libraries find the functions of this file.
    pub(super) fn is_found() -> bool {
        // SAFETY: looks a name up; the name ends with a zero.
        let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"free".as_ptr()) };
        std::ptr::eq(found, free as *const c_void)
    }
}

/// Frees an overwritten block.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
#[allow(unsafe_code, reason = "an allocator handles blocks by their addresses")]
unsafe fn give_back(block: *mut u8, layout: Layout) {
    // SAFETY: the block is one of `System`, of this layout.
    unsafe { System.dealloc(block, layout) }
}

/// Elsewhere a block that shrinks may move, and leave what it held.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
#[allow(unsafe_code, reason = "the same signature as glibc's")]
unsafe fn resized_in_place(_: *mut u8, _: Layout, _: usize) -> Option<*mut u8> {
    None
}

/// Whether the blocks of C and C++ libraries are overwritten too as they are freed.
pub(crate) fn covers_libraries() -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    return glibc::is_found();
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    return false;
}

#[cfg(test)]
mod tests;
