//! Two steps to formats that only tests know: from 3 to 4, where every row, slot and file has other bytes, and from 4 to
//! 5, which is laid out as 3 is. So what is upgraded to 5 is read by the program, and a row, slot or file that was
//! rewritten twice, or not at all, is noticed.

use std::path::Path;

use super::{FileOf, FormatFile, Moment, Upgrade, space};
use crate::keys::KeyRing;
use crate::records::Family;
use crate::slots::{SLOT_BYTES, SlotImage};
use crate::upgrade::chain::{Chain, Part, Step, Work};
use likeness_types::error::{OperatorError, Result};

/// Few, so that there are many batches.
pub const GROUP_ROWS_MAX: usize = 20;

const MARK: u8 = 0xa4;

const fn rows(family: Family, rewrite: super::RewriteRow) -> Part {
    Part {
        work: Work::Rows { family, rewrite },
        size_percent: 101,
    }
}

const fn slots(from: u32, to: u32) -> Part {
    let rewrite: super::RewriteSlot = if from == 1 { slot_there } else { slot_back };
    Part {
        work: Work::Slots { from, to, rewrite },
        size_percent: 100,
    }
}

const fn file(of: FileOf, name: &'static str, rewrite: super::RewriteFile) -> Part {
    Part {
        work: Work::File { of, name, rewrite },
        size_percent: 101,
    }
}

pub const TO_5: Chain = Chain {
    format: 5,
    steps: &[
        Step {
            from: 3,
            program: "0.4.0",
            description: "every row, slot and file turned",
            parts: &[
                rows(Family::Persons, |_, _, row| Some(there(row))),
                slots(1, 2),
                file(FileOf::Data, "erasures", |_, bytes| Ok(there(bytes))),
                rows(Family::Commits, |_, _, row| Some(there(row))),
                file(FileOf::KeyStore, "anchor", |_, bytes| Ok(there(bytes))),
                file(FileOf::Data, "absent", |_, bytes| Ok(there(bytes))),
            ],
        },
        Step {
            from: 4,
            program: "0.5.0",
            description: "every row, slot and file turned back",
            parts: &[
                file(FileOf::KeyStore, "anchor", |_, bytes| back(bytes)),
                slots(2, 1),
                rows(Family::Commits, |_, _, row| back(row).ok()),
                rows(Family::Persons, |_, _, row| back(row).ok()),
                file(FileOf::Data, "erasures", |_, bytes| back(bytes)),
            ],
        },
    ],
};

/// The first step alone.
pub const TO_4: Chain = Chain {
    format: 4,
    steps: match TO_5.steps {
        [first, ..] => std::slice::from_ref(first),
        [] => &[],
    },
};

/// A mark more each time.
fn there(bytes: &[u8]) -> Vec<u8> {
    let turned = bytes.iter().map(|byte| byte ^ 0x5a);
    [MARK].into_iter().chain(turned).collect()
}

fn back(bytes: &[u8]) -> Result<Vec<u8>> {
    match bytes.split_first() {
        Some((&MARK, turned)) => Ok(turned.iter().map(|byte| byte ^ 0x5a).collect()),
        _ => Err(OperatorError::Format {
            what: "trial",
            expected: "turned bytes".to_owned(),
            found: "others".to_owned(),
        }
        .into()),
    }
}

fn slot_there(_: &KeyRing, slot: u32, image: &SlotImage) -> SlotImage {
    slot_of_format(slot, image, 2)
}

fn slot_back(_: &KeyRing, slot: u32, image: &SlotImage) -> SlotImage {
    slot_of_format(slot, image, 1)
}

fn slot_of_format(slot: u32, image: &SlotImage, format: u32) -> SlotImage {
    let mut image = *image;
    let at = if slot == 0 { 14 } else { 0 };
    image[at..at + 4].copy_from_slice(&format.to_le_bytes());
    let digest = blake3::hash(&image[..SLOT_BYTES - 4]);
    image[SLOT_BYTES - 4..].copy_from_slice(&digest.as_bytes()[..4]);
    image
}

/// Upgrades by a chain for tests; `watch` is told of every moment before it happens.
pub fn upgrade(
    data: &Path,
    keys: &Path,
    ring: &KeyRing,
    chain: &Chain,
    watch: &dyn Fn(Moment),
) -> Result<()> {
    upgrade_with(data, keys, ring, chain, watch, &space::free_bytes)
}

/// The same on disks with other free space.
pub fn upgrade_with(
    data: &Path,
    keys: &Path,
    ring: &KeyRing,
    chain: &Chain,
    watch: &dyn Fn(Moment),
    free_bytes: &dyn Fn(&Path) -> Result<u64>,
) -> Result<()> {
    let upgrade = Upgrade {
        data,
        keys,
        ring,
        chain,
        free_bytes,
        group_rows_max: GROUP_ROWS_MAX,
        watch,
    };
    upgrade.run()
}

/// What is of format 5 is laid out as format 3 is: says so.
pub fn call_it_present(data: &Path, ring: &KeyRing) {
    FormatFile::present(ring.deployment).write(data).expect("written");
}
