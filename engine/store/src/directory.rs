//! The data directory: its parts, and how a first start makes it.
//!
//! ```text
//! FORMAT     format version and deployment (`upgrade/format.rs`)
//! slots      the slot file
//! records/   RocksDB
//! erasures   the erasure log; its copy, its anchor and the anchor of the audit log lie in the key store, which is
//!            therefore written to
//! ```

use std::collections::HashSet;
use std::fs;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use crate::audit::anchor::Anchor;
use crate::counters::Counters;
use crate::erasure_log::{ErasureFiles, ErasureLog};
use crate::keys::KeyRing;
use crate::layout::{incomplete, records_path, refuse_incomplete, slots_path, sync_directory};
use crate::records::{Family, Records, RocksRecords, Scan};
use crate::slots::Slots;
use crate::upgrade::{FormatFile, UNFINISHED_FILE};
use crate::vault::Vault;
use crate::{erasure_log, private, slots};
use likeness_types::error::{OperatorError, Result};
use likeness_types::names::RandomId;

/// In the data directory, and its copy in the key store.
const ERASURES_FILE: &str = "erasures";

const ANCHOR_FILE: &str = "anchor";

/// In the key store.
const AUDIT_ANCHOR_FILE: &str = "audit-anchor";

/// Opens the data directory of the key ring's deployment, or makes an empty one.
///
/// # Errors
/// Another format or deployment, or parts missing: opening records without their slots would take
/// everyone for erased.
pub fn open(
    data: &Path,
    keys: &Path,
    ring: Arc<KeyRing>,
    accept_short_log: bool,
    counters: Arc<dyn Counters>,
) -> Result<(Vault, HashSet<RandomId>)> {
    match FormatFile::read(data)? {
        Some(found) => found.refuse_unless_present(ring.deployment)?,
        None => make(data, &FormatFile::present(ring.deployment))?,
    }
    // A directory from before its files were private, or one that a backup program put back.
    private::tighten(data);
    private::tighten(keys);
    refuse_incomplete(data)?;
    // ORDER: slots before records, here and at the first start, so that a crash between leaves
    // nothing that looks like records whose slots were lost.
    let slots = Slots::open(Box::new(slots::open_file(&slots_path(data))?), Arc::clone(&ring))?;
    sync_directory(data)?;
    let records = RocksRecords::open(&records_path(data))?;
    sync_directory(data)?;
    let files = ErasureFiles {
        local: Box::new(erasure_log::open_file(&data.join(ERASURES_FILE))?),
        copy: Box::new(erasure_log::open_file(&keys.join(ERASURES_FILE))?),
        anchor: Box::new(erasure_log::open_file(&keys.join(ANCHOR_FILE))?),
    };
    let audit_anchor = erasure_log::open_file(&keys.join(AUDIT_ANCHOR_FILE))?;
    sync_directory(data)?;
    sync_directory(keys)?;
    // Before the log is opened nothing writes to either.
    let is_in_use = || Ok(slots.is_any_used()? || is_anybody_recorded(&records)?);
    let (log, destroyed) = ErasureLog::open_beside(files, &ring, accept_short_log, &is_in_use)?;
    let audit_anchor = Anchor::open(Box::new(audit_anchor), &ring)?;
    let vault = Vault::new(Box::new(records), slots, log, audit_anchor, ring, counters);
    Ok((vault, destroyed))
}

fn make(data: &Path, format: &FormatFile) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .map_err(|e| OperatorError::file("creating", data, e))?;
    let mut entries = fs::read_dir(data).map_err(|e| OperatorError::file("listing", data, e))?;
    let unfinished = data.join(UNFINISHED_FILE);
    if let Some(Ok(entry)) = entries.find(|e| !e.as_ref().is_ok_and(|e| e.path() == unfinished)) {
        let found = format!("{} and no FORMAT file", entry.file_name().display());
        return Err(incomplete(
            "a data directory, or an empty one to make one in",
            &found,
        ));
    }
    format.write(data)?;
    // The directory's own name lies in its parent.
    match data.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => sync_directory(parent),
        None => sync_directory(Path::new(".")),
    }
}

/// Whether there is any record that names a slot, or a damaged place that may hold one.
fn is_anybody_recorded(records: &dyn Records) -> Result<bool> {
    for family in Family::SEALED {
        let mut found = false;
        let gaps = records.scan(family, &[], &[], &mut |_, _| {
            found = true;
            Scan::Stop
        })?;
        if found || gaps > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}
