//! The data directory: what must be there together, and what a first start makes.
//!
//! ```text
//! FORMAT     format version and deployment
//! slots      the slot file
//! records/   RocksDB
//! erasures   the erasure log; its copy and its anchor lie in the key store, which therefore is written to,
//!            as does the audit log's anchor
//! ```

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use crate::audit::anchor::Anchor;
use crate::codec;
use crate::counters::Counters;
use crate::erasure_log;
use crate::erasure_log::{ErasureFiles, ErasureLog};
use crate::keys::KeyRing;
use crate::private;
use crate::records::{Family, Records, RocksRecords, Scan};
use crate::slots;
use crate::slots::{SLOT_BYTES, Slots};
use crate::vault::Vault;
use likeness_types::error::{OperatorError, Result};
use likeness_types::names::RandomId;

const FORMAT_FILE: &str = "FORMAT";
const SLOTS_FILE: &str = "slots";
const RECORDS_DIRECTORY: &str = "records";
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
    let format = data.join(FORMAT_FILE);
    match fs::read_to_string(&format) {
        Ok(text) => codec::check_format_text(&text, ring.deployment)?,
        Err(e) if e.kind() == ErrorKind::NotFound => make(data, &codec::format_text(ring.deployment))?,
        Err(e) if e.kind() == ErrorKind::InvalidData => codec::check_format_text("", ring.deployment)?,
        Err(e) => return Err(OperatorError::file("reading", format, e).into()),
    }
    // A directory from before its files were private, or one that a backup program put back.
    private::tighten(data);
    private::tighten(keys);
    let (slots_path, records_path) = (data.join(SLOTS_FILE), data.join(RECORDS_DIRECTORY));
    let slots_bytes = fs::metadata(&slots_path).map_or(0, |m| m.len());
    let records_exist = records_path.join("CURRENT").exists();
    // ORDER: slots before records, here and at the first start, so that a crash between leaves
    // nothing that looks like records whose slots were lost.
    if records_exist && slots_bytes < SLOT_BYTES as u64 {
        return Err(incomplete(
            "the slot file that belongs to the records",
            "none, or an empty one",
        ));
    }
    if !records_exist && slots_bytes > SLOT_BYTES as u64 {
        return Err(incomplete("the records that belong to the slot file", "none"));
    }
    let slots = Slots::open(Box::new(slots::open_file(&slots_path)?), Arc::clone(&ring))?;
    sync_directory(data)?;
    let records = RocksRecords::open(&records_path)?;
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

fn make(data: &Path, format: &str) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .map_err(|e| OperatorError::file("creating", data, e))?;
    let mut entries = fs::read_dir(data).map_err(|e| OperatorError::file("listing", data, e))?;
    let unfinished = data.join("FORMAT.new");
    if let Some(Ok(entry)) = entries.find(|e| !e.as_ref().is_ok_and(|e| e.path() == unfinished)) {
        let found = format!("{} and no {FORMAT_FILE} file", entry.file_name().display());
        return Err(incomplete(
            "a data directory, or an empty one to make one in",
            &found,
        ));
    }
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&unfinished)?;
        file.write_all(format.as_bytes())?;
        file.sync_all()?;
        fs::rename(&unfinished, data.join(FORMAT_FILE))
    };
    write().map_err(|e| OperatorError::file("writing the format file in", data, e))?;
    sync_directory(data)?;
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

fn sync_directory(data: &Path) -> Result<()> {
    File::open(data)
        .and_then(|directory| directory.sync_all())
        .map_err(|e| OperatorError::file("syncing", data, e).into())
}

fn incomplete(expected: &str, found: &str) -> likeness_types::error::Error {
    OperatorError::Format {
        what: "data directory",
        expected: expected.to_owned(),
        found: found.to_owned(),
    }
    .into()
}
