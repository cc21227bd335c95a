//! What a file consists of, as far as one place in it may mean something else than another.

use std::fs::{self, File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A part of a file.
pub struct Part {
    /// Below the data directory.
    pub file: PathBuf,
    pub name: String,
    pub bytes: Range<u64>,
}

/// Bytes of a table's footer, and behind each block.
const FOOTER: u64 = 53;
const TRAILER: u64 = 5;

/// Flips one bit.
pub fn flip(path: &Path, byte: u64, bit: u8) {
    let file = open(path);
    let mut found = [0];
    file.read_exact_at(&mut found, byte).expect("read");
    file.write_all_at(&[found[0] ^ (1 << bit)], byte)
        .expect("written");
}

fn open(path: &Path) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .expect("it opens")
}

/// The parts of a file, empty ones left out.
pub fn parts(path: &Path, file: &Path) -> Vec<Part> {
    let length = fs::metadata(path).expect("a file").len();
    let named: Vec<(String, Range<u64>)> = if path.extension().is_some_and(|e| e == "sst") {
        table_parts(&fs::read(path).expect("read"))
    } else {
        let third = length / 3;
        vec![
            ("begin".to_owned(), 0..third),
            ("middle".to_owned(), third..2 * third),
            ("end".to_owned(), 2 * third..length),
        ]
    };
    named
        .into_iter()
        .filter(|(_, bytes)| !bytes.is_empty())
        .map(|(name, bytes)| Part {
            file: file.to_owned(),
            name,
            bytes,
        })
        .collect()
}

/// A table of RocksDB: data blocks, then blocks about them, then where those are.
fn table_parts(table: &[u8]) -> Vec<(String, Range<u64>)> {
    let length = table.len() as u64;
    let footer = &table[table.len() - FOOTER as usize..];
    assert_eq!(footer[1..5], [0x3e, 0, 0x7a, 0], "a footer of format 6 or later");
    let size = u64::from(u32::from_le_bytes(footer[13..17].try_into().expect("four bytes")));
    let begin = length - FOOTER - TRAILER - size;
    let mut parts = vec![
        ("metaindex".to_owned(), begin..begin + size),
        ("footer".to_owned(), length - FOOTER..length),
        ("magic number".to_owned(), length - 8..length),
    ];
    let mut first = begin;
    for (name, block) in handles(&table[begin as usize..(begin + size) as usize]) {
        first = first.min(block.start);
        parts.push((name, block));
    }
    let third = first / 3;
    parts.push(("data, begin".to_owned(), 0..third));
    parts.push(("data, middle".to_owned(), third..2 * third));
    parts.push(("data, end".to_owned(), 2 * third..first));
    parts.sort_by_key(|(_, bytes)| bytes.start);
    parts
}

/// The blocks that a metaindex names.
fn handles(mut block: &[u8]) -> Vec<(String, Range<u64>)> {
    let restarts = u32::from_le_bytes(block[block.len() - 4..].try_into().expect("four bytes"));
    block = &block[..block.len() - 4 * (restarts as usize + 1)];
    let (mut named, mut key) = (Vec::new(), Vec::new());
    while !block.is_empty() {
        let [shared, own, value] = [(); 3].map(|()| varint(&mut block) as usize);
        key.truncate(shared);
        key.extend_from_slice(&block[..own]);
        let mut handle = &block[own..own + value];
        let (offset, size) = (varint(&mut handle), varint(&mut handle));
        let name = String::from_utf8(key.clone()).expect("text");
        named.push((name, offset..offset + size));
        block = &block[own + value..];
    }
    named
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}
