//! What lay in a block is read where the block was, by way of the kernel: a program may not look at freed memory itself.
#![allow(unsafe_code, reason = "C's functions, called as a library would")]

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{Read, Seek, SeekFrom};

/// What glibc keeps of a free block lies in its first bytes.
const LINKS: usize = 32;
/// What the compiler itself may keep of a mark on a stack.
const STRAY: usize = 8;
/// Of each kind of block: a thread's cache, the bins, the end of the heap, a mapping of its own.
const SIZES: [usize; 7] = [64, 512, 1024, 1040, 20_000, 300_000, 64 << 20];

/// Eight bytes that one test writes, and no other; the complement is kept, or a search would find this.
#[derive(Clone, Copy)]
struct Mark(u64);

impl Mark {
    fn bytes(self) -> [u8; 8] {
        (!self.0).to_ne_bytes()
    }

    /// A block full of it.
    fn block(self, bytes: usize) -> Vec<u8> {
        let mut block = vec![0; bytes];
        self.write(&mut block);
        black_box(block)
    }

    fn write(self, block: &mut [u8]) {
        for eight in block.chunks_exact_mut(8) {
            eight.copy_from_slice(&self.bytes());
        }
    }

    fn fills(self, block: &[u8]) -> bool {
        block.chunks_exact(8).all(|eight| eight == self.bytes())
    }

    /// How often it is left in a block that was at an address.
    fn left(self, address: usize, bytes: usize) -> usize {
        let mut memory = File::open("/proc/self/mem").expect("a process may read itself");
        let mut found = vec![0; bytes.saturating_sub(LINKS)];
        let read = memory
            .seek(SeekFrom::Start((address + LINKS) as u64))
            .and_then(|_| memory.read_exact(&mut found));
        // Where the kernel has it back, it cannot be read.
        let count = self.count(&found);
        found.fill(0);
        if read.is_ok() { count } else { 0 }
    }

    fn count(self, bytes: &[u8]) -> usize {
        bytes
            .chunks_exact(8)
            .filter(|eight| *eight == self.bytes())
            .count()
    }

    /// How often it is in the writable memory of this process.
    fn everywhere(self) -> usize {
        const CHUNK: usize = 1 << 16;
        let mut memory = File::open("/proc/self/mem").expect("a process may read itself");
        let maps = fs::read_to_string("/proc/self/maps").expect("a process may read itself");
        let mut bytes = vec![0; CHUNK];
        let mut count = 0;
        for line in maps
            .lines()
            .filter(|line| line.contains(" rw") && !line.contains("[v"))
        {
            let (from, rest) = line.split_once('-').expect("from-to");
            let to = rest.split(' ').next().expect("to");
            let [from, to] = [from, to].map(|at| usize::from_str_radix(at, 16).expect("an address"));
            for start in (from..to).step_by(CHUNK) {
                let chunk = &mut bytes[..CHUNK.min(to - start)];
                let read = memory
                    .seek(SeekFrom::Start(start as u64))
                    .and_then(|_| memory.read_exact(chunk));
                count += if read.is_ok() { self.count(chunk) } else { 0 };
                chunk.fill(0);
            }
        }
        count
    }
}

#[test]
fn the_search_finds_what_is_there() {
    let mark = Mark(0x5111_0001_7777_0f01);
    for bytes in SIZES {
        let block = mark.block(bytes);
        assert_eq!(mark.left(block.as_ptr() as usize, bytes), (bytes - LINKS) / 8);
        assert!(mark.everywhere() >= bytes / 8, "{bytes} bytes");
    }
}

#[test]
fn a_block_of_rust_is_overwritten_as_it_is_freed() {
    let mark = Mark(0x5111_0002_7777_0f02);
    for bytes in SIZES {
        let block = mark.block(bytes);
        let address = block.as_ptr() as usize;
        drop(block);
        assert_eq!(mark.left(address, bytes), 0, "{bytes} bytes");
    }
    assert!(mark.everywhere() <= STRAY);
}

#[test]
fn a_block_of_rust_that_moves_or_shrinks_leaves_nothing_where_it_was() {
    let mark = Mark(0x5111_0003_7777_0f03);
    for bytes in SIZES {
        let mut block = mark.block(bytes);
        let address = block.as_ptr() as usize;
        // Behind it lies something, so that it cannot grow where it is.
        let behind = vec![7_u8; bytes];
        block.reserve_exact(bytes * 3);
        assert!(mark.fills(&block));
        if block.as_ptr() as usize != address {
            assert_eq!(mark.left(address, bytes), 0, "{bytes} bytes moved");
        }
        drop(behind);
        block.truncate(bytes / 4);
        block.shrink_to_fit();
        assert!(mark.fills(&block));
        drop(block);
    }
    assert!(mark.everywhere() <= STRAY);
}

#[test]
fn an_aligned_block_keeps_its_bytes_and_its_alignment_as_it_is_resized() {
    #[derive(Clone, Copy, PartialEq, Debug)]
    #[repr(align(64))]
    struct Line([u8; 64]);
    let mut lines = vec![Line([0xA7; 64]); 100];
    for size in [1000, 300, 7] {
        lines.resize(size, Line([0xA7; 64]));
        lines.shrink_to_fit();
        assert_eq!(lines.as_ptr() as usize % 64, 0);
        assert!(lines.iter().all(|line| *line == Line([0xA7; 64])));
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn of_a_large_block_what_was_written_is_overwritten_and_the_rest_becomes_no_memory() {
    const BYTES: usize = 64 << 20;
    const PAGE: usize = 4096;
    let mark = Mark(0x5111_0007_7777_0f07);
    let mut region = memmap2::MmapMut::map_anon(BYTES).expect("mapped");
    // Unaligned at both ends, as a block is; written at both, and in the middle of what is asked about at once.
    let block = 16..BYTES - 24;
    for at in [16, 1000 * PAGE + 8, 1024 * PAGE, BYTES - 24 - 4096] {
        mark.write(&mut region[at..at + 4096]);
    }
    let before = [region[0], region[BYTES - 1]];
    // SAFETY: the block lies in the region, and nothing else holds it.
    unsafe { super::wipe(region.as_mut_ptr().add(block.start), block.len()) };
    let mut is_resident = vec![0_u8; BYTES / PAGE];
    // SAFETY: a byte for each page of the region.
    let asked = unsafe { libc::mincore(region.as_mut_ptr().cast(), BYTES, is_resident.as_mut_ptr()) };
    assert_eq!(asked, 0);
    let resident = is_resident.iter().filter(|page| **page & 1 != 0).count();
    // Huge pages, where the kernel gives them, are more than were asked for.
    assert!(resident <= 4 * 512, "{resident} pages of {}", BYTES / PAGE);
    assert_eq!(mark.count(&region), 0);
    assert_eq!([region[0], region[BYTES - 1]], before);
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod libraries {
    use std::ffi::CString;
    use std::io::Write;

    use super::*;

    unsafe extern "C" {
        fn getdelim(
            line: *mut *mut std::ffi::c_char,
            size: *mut usize,
            end: i32,
            stream: *mut libc::FILE,
        ) -> isize;
    }

    #[test]
    fn libraries_find_the_functions_of_this_program() {
        assert!(crate::heap::covers_libraries());
    }

    #[test]
    fn a_block_of_a_library_is_overwritten_as_it_is_freed() {
        let mark = Mark(0x5111_0004_7777_0f04);
        for bytes in SIZES {
            let text = CString::new(mark.block(bytes)).expect("no zero in it");
            // SAFETY: the text ends with a zero; the block is freed once.
            unsafe {
                let block = libc::strdup(text.as_ptr());
                assert_eq!(mark.left(block as usize, bytes), (bytes - LINKS) / 8);
                libc::free(block.cast());
                assert_eq!(mark.left(block as usize, bytes), 0, "{bytes} bytes");
            }
        }
        assert!(mark.everywhere() <= STRAY);
    }

    #[test]
    fn a_block_of_a_library_that_moves_or_shrinks_leaves_nothing_where_it_was() {
        let mark = Mark(0x5111_0005_7777_0f05);
        for bytes in SIZES {
            // SAFETY: every block is looked at within its size, resized by its last address, and freed once.
            unsafe {
                let block = libc::malloc(bytes);
                mark.write(std::slice::from_raw_parts_mut(block.cast(), bytes));
                let grown = libc::realloc(block, bytes * 3);
                assert!(mark.fills(std::slice::from_raw_parts(grown.cast(), bytes)));
                if grown != block {
                    assert_eq!(mark.left(block as usize, bytes), 0, "{bytes} bytes moved");
                }
                let shrunk = libc::realloc(grown, bytes / 4);
                assert!(mark.fills(std::slice::from_raw_parts(shrunk.cast(), bytes / 4)));
                assert!(libc::realloc(shrunk, 0).is_null());
            }
        }
        assert!(mark.everywhere() <= STRAY);
    }

    #[test]
    fn what_the_c_library_resizes_and_frees_by_itself_is_overwritten() {
        let mark = Mark(0x5111_0006_7777_0f06);
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(&mark.block(20_000)).expect("written");
        let path = CString::new(file.path().to_str().expect("a text")).expect("no zero in it");
        let (mut line, mut capacity) = (std::ptr::null_mut(), 0);
        // SAFETY: C's functions for a file, in the order that they ask for; the line, which grows step by step as it is
        // read, is freed once, as is the buffer of the file.
        unsafe {
            let stream = libc::fopen(path.as_ptr(), c"r".as_ptr());
            assert!(!stream.is_null());
            let read = getdelim(&mut line, &mut capacity, i32::from(b'\n'), stream);
            assert_eq!(read, 20_000);
            assert!(mark.everywhere() >= 20_000 / 8);
            libc::free(line.cast());
            libc::fclose(stream);
        }
        assert!(mark.everywhere() <= STRAY);
    }
}
