//! After an erasure the template's bits are nowhere in this process.
//!
//! The index keeps the same byte of 64 templates side by side, and of long templates the later bits in
//! lines: what is looked for is each word of 64 bits by itself, its bytes together or 64 apart. A vector of bits packed elsewhere
//! may begin at any bit of a byte, so that the packed template is looked for too, shifted by 1 to 7 bits, in
//! pieces of eight bytes.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};

use crate::gallery::collection::IndexKind;
use crate::gallery::tests::support::*;
use likeness_store::testing::FakeDisk;
use likeness_types::Inside;
use likeness_types::template::Template;

/// What is looked for is kept masked, or the search would find itself.
const MASK: u64 = 0x5a5a_5a5a_5a5a_5a5a;

/// The eight-byte pieces of a template at each bit offset, masked.
fn needles(template: &Template, into: &mut HashMap<u64, u32>) {
    let words = template.words(Inside);
    for pair in 0..words.len() {
        into.insert(words[pair] ^ MASK, 0);
        for shift in 1..8 {
            if let Some(next) = words.get(pair + 1) {
                let piece = (words[pair] >> shift) | (next << (64 - shift));
                into.insert(piece ^ MASK, shift);
            }
        }
    }
}

/// How far the bytes of a piece are apart: together, and in the index.
const STRIDES: [usize; 2] = [1, 64];

/// Bytes that a piece may reach over.
const REACH: usize = 7 * 64 + 1;

/// How many pieces are in this process's writable memory, at any byte.
fn hits(needles: &HashMap<u64, u32>) -> usize {
    const PART: usize = 1 << 20;
    // A bit for each value of the first two bytes: nearly every place ends here.
    let mut filter = vec![false; 1 << 16];
    needles.keys().for_each(|n| filter[(n & 0xffff) as usize] = true);
    let (mut found, mut bytes) = (0, vec![0; PART + REACH]);
    let mut memory = File::open("/proc/self/mem").expect("a process may read itself");
    let maps = fs::read_to_string("/proc/self/maps").expect("a process may read itself");
    for line in maps
        .lines()
        .filter(|line| line.contains(" rw") && !line.contains("[v"))
    {
        let range = line
            .split_whitespace()
            .next()
            .and_then(|range| range.split_once('-'));
        let (from, to) = range.expect("from-to");
        let [from, to] = [from, to].map(|at| usize::from_str_radix(at, 16).expect("an address"));
        for start in (from..to).step_by(PART) {
            let length = (PART + REACH).min(to - start);
            // Memory may go while it is searched; then there is nothing in it.
            let read = memory
                .seek(SeekFrom::Start(start as u64))
                .and_then(|_| memory.read_exact(&mut bytes[..length]));
            if read.is_ok() {
                for stride in STRIDES {
                    for at in 0..length.saturating_sub(7 * stride).min(PART) {
                        let low = u16::from_le_bytes([bytes[at], bytes[at + stride]]) ^ MASK as u16;
                        if filter[usize::from(low)] {
                            let word = u64::from_le_bytes(std::array::from_fn(|j| bytes[at + j * stride]));
                            found += usize::from(needles.contains_key(&(word ^ MASK)));
                        }
                    }
                }
            }
            bytes.fill(0);
        }
    }
    found
}

#[test]
fn the_bits_of_an_erased_person_are_in_no_memory_of_the_process() {
    are_overwritten(IndexKind::Flat, 7_700_000);
}

#[cfg(feature = "graph")]
#[test]
fn the_bits_of_an_erased_person_who_is_in_a_graph_are_in_no_memory_of_the_process() {
    are_overwritten(IndexKind::Graph, 7_600_000);
}

/// Faces that no other test has are counted from `first` on.
fn are_overwritten(index: IndexKind, first: u64) {
    likeness_types::wipe::overwrite_what_is_freed();
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create_of(&gallery, "one", index);
    let faces = [first + 1, first + 2];
    let mut wanted = HashMap::new();
    faces.iter().for_each(|n| needles(&template(*n), &mut wanted));
    let words = faces.len() * BITS.words();
    for n in 0..20 {
        enroll(&gallery, &one, &format!("p{n}"), &[first + 10 + n]).expect("enrolled");
    }
    enroll(&gallery, &one, "ada", &faces).expect("enrolled");
    gallery.keep_now();
    let alive = hits(&wanted);
    assert!(
        alive >= words,
        "the search finds what is there: {alive} of {words}"
    );
    assert_eq!(found(&gallery, &one, faces[0]), ["ada"]);
    gallery.delete(&one, &id("ada"), REQUEST).expect("erased");
    // As threads that work for calls do after each.
    likeness_types::wipe::wipe_stack();
    let left = hits(&wanted);
    println!("{alive} pieces before, {left} after");
    assert_eq!(left, 0);
}
