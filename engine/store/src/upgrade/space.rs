//! How much free space an upgrade takes at most. Only sizes of files are looked at: nothing is opened.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{FileOf, Upgrade};
use crate::layout;
use crate::upgrade::chain::{Step, Work};
use likeness_types::error::{OperatorError, Result};

/// For `FORMAT`, manifests and write-ahead logs.
const RESERVE_BYTES: u64 = 64 << 20;
const MIB: u64 = 1 << 20;

/// Free bytes of the file system that a directory lies in, for this user.
pub(super) fn free_bytes(directory: &Path) -> Result<u64> {
    let found = rustix::fs::statvfs(directory)
        .map_err(|e| OperatorError::file("asking for the free space of", directory, e.into()))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// What steps take in each of the two directories.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Need {
    data: u64,
    keys: u64,
}

/// # Errors
/// Less is free than these steps may take.
pub(super) fn refuse_too_little(upgrade: &Upgrade<'_>, steps: &[Step]) -> Result<()> {
    if steps.is_empty() {
        return Ok(());
    }
    let need = need(upgrade, steps)?;
    let (data, keys) = (upgrade.data, upgrade.keys);
    if device(data)? == device(keys)? {
        return refuse(upgrade, data, need.data + need.keys);
    }
    refuse(upgrade, data, need.data)?;
    refuse(upgrade, keys, need.keys)
}

fn refuse(upgrade: &Upgrade<'_>, directory: &Path, needed: u64) -> Result<()> {
    let found = (upgrade.free_bytes)(directory)?;
    if found >= needed {
        return Ok(());
    }
    Err(OperatorError::Format {
        what: "upgrade",
        expected: format!(
            "{} MiB of free space in {} while the data directory is upgraded",
            needed.div_ceil(MIB),
            directory.display()
        ),
        found: format!("{} MiB; nothing was changed", found / MIB),
    }
    .into())
}

/// Rows are written three times: to the write-ahead log, to a new data file, and by the purge to another. How much each
/// family has only RocksDB knows, so each counts as all of the records.
fn need(upgrade: &Upgrade<'_>, steps: &[Step]) -> Result<Need> {
    let mut records = bytes_below(&layout::records_path(upgrade.data))?;
    let before = records;
    let mut most = Need::default();
    for step in steps {
        let mut step_need = Need::default();
        let mut has_rows = false;
        for part in step.parts {
            let grown = |bytes: u64| (bytes.saturating_mul(part.size_percent) / 100).max(bytes);
            match &part.work {
                Work::Rows { .. } => {
                    records = grown(records);
                    step_need.data = step_need.data.saturating_add(records.saturating_mul(2));
                    has_rows = true;
                }
                // In place.
                Work::Slots { .. } => {}
                Work::File { of, name, .. } => {
                    let bytes = grown(file_bytes(&upgrade.directory(*of).join(name))?);
                    let need = match of {
                        FileOf::Data => &mut step_need.data,
                        FileOf::KeyStore => &mut step_need.keys,
                    };
                    *need = need.saturating_add(bytes);
                }
            }
        }
        if has_rows {
            step_need.data = step_need.data.saturating_add(records);
        }
        most.data = most.data.max(step_need.data);
        most.keys = most.keys.max(step_need.keys);
    }
    most.data = most
        .data
        .saturating_add(records - before)
        .saturating_add(RESERVE_BYTES);
    Ok(most)
}

fn device(directory: &Path) -> Result<u64> {
    let found = fs::metadata(directory).map_err(|e| OperatorError::file("looking at", directory, e))?;
    Ok(found.dev())
}

fn file_bytes(path: &Path) -> Result<u64> {
    match fs::metadata(path) {
        Ok(found) => Ok(found.len()),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(0),
        Err(e) => Err(OperatorError::file("looking at", path, e).into()),
    }
}

/// Of the files of a directory, not of those below it.
fn bytes_below(directory: &Path) -> Result<u64> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(OperatorError::file("listing", directory, e).into()),
    };
    let mut bytes = 0_u64;
    for entry in entries {
        let entry = entry.map_err(|e| OperatorError::file("listing", directory, e))?;
        bytes = bytes.saturating_add(entry.metadata().map_or(0, |found| found.len()));
    }
    Ok(bytes)
}
