//! Checks the write-ahead log and the manifest before RocksDB reads them.
//!
//! RocksDB takes a record that reaches past the end of its file for a record that a crash cut short, and drops it and
//! all that follows. A flipped bit in the length of any record of the last block looks the same; a flipped bit in its
//! kind passes for the end of the log, or is read for ever. Acknowledged changes would be missing without an error.
//! Therefore every byte is accounted for here first.
//!
//! ```text
//! block    32 KiB: records, then zeros where no header fits any more
//! record   checksum u32 | length u16 | kind u8 | payload
//!          the checksum is CRC-32C of kind and payload, rotated right by 15 bits, plus a constant
//! ```

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::Path;

use likeness_types::error::{OperatorError, Result};

const BLOCK_BYTES: usize = 32 << 10;
const HEADER_BYTES: usize = 7;
const MASK: u32 = 0xa282_ead8;
/// Whole, first, middle, last: what records are written as here.
const KINDS: std::ops::RangeInclusive<u8> = 1..=4;

/// Looks through whatever says which tables there are, and through what is not in a table yet.
///
/// # Errors
/// A damaged file, by its name.
pub(super) fn check(path: &Path) -> Result<()> {
    let current = match fs::read(path.join("CURRENT")) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        read => read.map_err(|e| OperatorError::file("reading", path.join("CURRENT"), e))?,
    };
    let manifest = std::str::from_utf8(&current).ok().and_then(manifest_named);
    let manifest = manifest.filter(|name| path.join(name).exists());
    let Some(manifest) = manifest else {
        return Err(damaged("CURRENT", "the name of the manifest", "another text"));
    };
    check_file(&path.join(manifest), manifest, "a whole manifest")?;
    for entry in fs::read_dir(path).map_err(|e| OperatorError::file("listing", path, e))? {
        let file = entry.map_err(|e| OperatorError::file("listing", path, e))?.path();
        let name = file
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if name.ends_with(".log") {
            check_file(&file, name, "a whole write-ahead log")?;
        }
    }
    Ok(())
}

fn manifest_named(current: &str) -> Option<&str> {
    let name = current.strip_suffix('\n')?;
    let number = name.strip_prefix("MANIFEST-")?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some(name)
}

fn check_file(path: &Path, name: &str, expected: &str) -> Result<()> {
    let read = |e| OperatorError::file("reading", path, e);
    let mut file = File::open(path).map_err(read)?;
    let (mut start, mut zeros) = (0, false);
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    loop {
        block.clear();
        let length = (&mut file)
            .take(BLOCK_BYTES as u64)
            .read_to_end(&mut block)
            .map_err(read)?;
        let ends = length < BLOCK_BYTES;
        let seen = if zeros {
            all_zeros(&block).then_some(Block::Zeros).ok_or(0)
        } else {
            check_block(&block, ends)
        };
        match seen {
            Ok(seen) => zeros = seen == Block::Zeros,
            Err(at) => return Err(damaged(name, expected, &format!("damage at byte {}", start + at))),
        }
        if ends {
            return Ok(());
        }
        start += length;
    }
}

fn damaged(name: &str, expected: &str, found: &str) -> likeness_types::error::Error {
    OperatorError::Format {
        what: "records",
        expected: format!("{expected} in records/{name}"),
        found: format!("{found}; put back a copy of the data directory"),
    }
    .into()
}

/// What is in a block.
#[derive(Debug, PartialEq, Eq)]
enum Block {
    /// Records to its end, or to one that a crash cut short.
    Records,
    /// Nothing any more from some place on, and so to the end of the file.
    Zeros,
}

/// Looks through a block; `ends` where the file does. Answers where the damage is.
fn check_block(block: &[u8], ends: bool) -> std::result::Result<Block, usize> {
    let mut at = 0;
    while at < block.len() {
        let rest = &block[at..];
        let Some((header, payload)) = rest.split_first_chunk::<HEADER_BYTES>() else {
            // What a crash cut short begins with anything.
            return (ends || all_zeros(rest)).then_some(Block::Records).ok_or(at);
        };
        let [c0, c1, c2, c3, l0, l1, kind] = *header;
        let (expected, length) = (u32::from_le_bytes([c0, c1, c2, c3]), u16::from_le_bytes([l0, l1]));
        if let Some(payload) = payload.get(..usize::from(length))
            && checksum(kind, payload) == expected
        {
            at += HEADER_BYTES + payload.len();
            continue;
        }
        if all_zeros(rest) {
            return Ok(Block::Zeros);
        }
        let is_torn = ends
            && KINDS.contains(&kind)
            && usize::from(length) > payload.len()
            && !holds_a_whole_record(expected, kind, payload);
        return is_torn.then_some(Block::Records).ok_or(at);
    }
    Ok(Block::Records)
}

/// Whether the payload of a record that is said to be longer is all there.
fn holds_a_whole_record(expected: u32, kind: u8, payload: &[u8]) -> bool {
    let mut sum = crc32c::crc32c(&[kind]);
    if masked(sum) == expected {
        return true;
    }
    payload.iter().any(|byte| {
        sum = crc32c::crc32c_append(sum, &[*byte]);
        masked(sum) == expected
    })
}

fn checksum(kind: u8, payload: &[u8]) -> u32 {
    masked(crc32c::crc32c_append(crc32c::crc32c(&[kind]), payload))
}

fn masked(sum: u32) -> u32 {
    sum.rotate_right(15).wrapping_add(MASK)
}

fn all_zeros(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).expect("short");
        let mut record = checksum(kind, payload).to_le_bytes().to_vec();
        record.extend_from_slice(&length.to_le_bytes());
        record.push(kind);
        record.extend_from_slice(payload);
        record
    }

    fn log() -> Vec<u8> {
        [
            record(1, b"first"),
            record(1, &[7; 300]),
            record(1, b""),
            record(1, b"last"),
        ]
        .concat()
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let log = log();
        assert_eq!(check_block(&log, true), Ok(Block::Records));
        for bit in 0..log.len() * 8 {
            let mut flipped = log.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(check_block(&flipped, true).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_record_that_a_crash_cut_short_is_the_end_of_a_file_and_of_no_block_before() {
        let log = log();
        for length in 0..log.len() {
            assert_eq!(
                check_block(&log[..length], true),
                Ok(Block::Records),
                "{length} bytes"
            );
        }
        assert!(check_block(&log[..log.len() - 1], false).is_err());
        let preallocated = [log, vec![0; 500]].concat();
        assert_eq!(check_block(&preallocated, true), Ok(Block::Zeros));
        let hole = [vec![0; 500], record(1, b"after it")].concat();
        assert_eq!(check_block(&hole, true), Err(0));
    }

    #[test]
    fn a_file_of_several_blocks_is_looked_through_to_its_end() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("000007.log");
        let mut log = record(1, &vec![1; BLOCK_BYTES - HEADER_BYTES - 3]);
        // No header fits any more.
        log.resize(BLOCK_BYTES, 0);
        log.extend(record(2, &vec![2; BLOCK_BYTES - HEADER_BYTES]));
        log.extend(record(4, b"end"));
        let checked = |log: &[u8]| {
            fs::write(&path, log).expect("written");
            check_file(&path, "000007.log", "a whole write-ahead log")
        };
        assert!(checked(&log).is_ok());
        for at in [
            0,
            BLOCK_BYTES - 1,
            BLOCK_BYTES + 5,
            2 * BLOCK_BYTES - 1,
            log.len() - 1,
        ] {
            let mut flipped = log.clone();
            flipped[at] ^= 1;
            let error = checked(&flipped).expect_err("damaged").to_string();
            assert!(error.contains("000007.log"), "{error}");
        }
    }

    #[test]
    fn the_manifest_is_named_by_its_number() {
        assert_eq!(manifest_named("MANIFEST-000005\n"), Some("MANIFEST-000005"));
        for other in [
            "",
            "MANIFEST-\n",
            "MANIFEST-000005",
            "MANIFEST-00000u\n",
            "../x\n",
        ] {
            assert_eq!(manifest_named(other), None);
        }
    }
}
