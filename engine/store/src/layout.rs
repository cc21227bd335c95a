//! The parts of a data directory: where they lie, and whether they are there together.

use std::fs;
use std::fs::File;
use std::path::{Path, PathBuf};

use crate::slots::SLOT_BYTES;
use likeness_types::error::{OperatorError, Result};

pub(crate) const SLOTS_FILE: &str = "slots";

pub(crate) const RECORDS_DIRECTORY: &str = "records";

pub(crate) fn slots_path(data: &Path) -> PathBuf {
    data.join(SLOTS_FILE)
}

pub(crate) fn records_path(data: &Path) -> PathBuf {
    data.join(RECORDS_DIRECTORY)
}

/// Whether there is a slot file with at least its header.
pub(crate) fn has_slots(data: &Path) -> bool {
    slots_bytes(data) >= SLOT_BYTES as u64
}

/// Whether there is a store, even an empty one.
pub(crate) fn has_records(data: &Path) -> bool {
    records_path(data).join("CURRENT").exists()
}

pub(crate) fn slots_bytes(data: &Path) -> u64 {
    fs::metadata(slots_path(data)).map_or(0, |m| m.len())
}

/// # Errors
/// Records without slots, or slots without records.
pub(crate) fn refuse_incomplete(data: &Path) -> Result<()> {
    let has_records = has_records(data);
    if has_records && !has_slots(data) {
        return Err(incomplete(
            "the slot file that belongs to the records",
            "none, or an empty one",
        ));
    }
    if !has_records && slots_bytes(data) > SLOT_BYTES as u64 {
        return Err(incomplete("the records that belong to the slot file", "none"));
    }
    Ok(())
}

pub(crate) fn incomplete(expected: &str, found: &str) -> likeness_types::error::Error {
    OperatorError::Format {
        what: "data directory",
        expected: expected.to_owned(),
        found: found.to_owned(),
    }
    .into()
}

pub(crate) fn sync_directory(data: &Path) -> Result<()> {
    File::open(data)
        .and_then(|directory| directory.sync_all())
        .map_err(|e| OperatorError::file("syncing", data, e).into())
}
