//! Finds the rows that a scan passes over because of a damaged block.
//!
//! A scan cannot pass between the rows of a damaged block. In a file of the topmost level the few rows of a block lie
//! far apart, so the scan would hide all rows of other files between them. A read of one key is not affected: the
//! file's filter says that the file does not hold the key. Only the keys to look for are missing.
//!
//! The other data files hold them. They are linked into a folder of their own, and RocksDB's repair makes a store of
//! them. That store also holds rows that were deleted. Therefore only keys are taken from it, and each key is looked up
//! in the store itself, which knows the row or refuses.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rocksdb::{DB, LogLevel, Options};

use super::quarantine::DamagedFile;
use super::{Family, failed};
use likeness_types::error::{OperatorError, Result};

const DOING: &str = "looking for rows beside a damaged place";

/// Keys that a scan passed over, both ends excluded.
pub(super) struct Gap {
    pub family: Family,
    pub after: Vec<u8>,
    /// None: to the last key.
    pub before: Option<Vec<u8>>,
}

fn quiet() -> Options {
    let mut options = Options::default();
    options.set_log_level(LogLevel::Fatal);
    options
}

/// The store of the whole files; its folder goes with it.
pub(super) struct Beside {
    /// Closed before the folder goes.
    store: Option<DB>,
    folder: PathBuf,
}

/// Where it lies while a start looks for rows.
fn folder(records: &Path) -> PathBuf {
    records.with_extension("beside")
}

/// Removes what a start left that was cut short: the folder holds data files under second names.
pub(super) fn remove_leftovers(records: &Path) -> Result<()> {
    let folder = folder(records);
    match fs::remove_dir_all(&folder) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(OperatorError::file("removing", folder, e).into()),
        _ => Ok(()),
    }
}

/// The data files that cannot be opened: RocksDB does not always say which one it is.
pub(super) fn unreadable(db: &DB, records: &Path) -> Result<Vec<String>> {
    let beside = Beside::repaired(db, records, &[])?;
    // Where a repair puts aside what it cannot read.
    let lost = beside.folder.join("lost");
    let listed = match fs::read_dir(&lost) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(|e| OperatorError::file("listing", &lost, e))?,
    };
    let mut names = Vec::new();
    for entry in listed {
        let name = entry
            .map_err(|e| OperatorError::file("listing", &lost, e))?
            .file_name();
        names.extend(
            name.to_str()
                .filter(|name| name.ends_with(".sst"))
                .map(str::to_owned),
        );
    }
    Ok(names)
}

impl Beside {
    /// A store of all data files but the damaged ones.
    pub(crate) fn open(db: &DB, records: &Path, damaged: &[DamagedFile]) -> Result<Self> {
        let mut beside = Self::repaired(db, records, damaged)?;
        let options = quiet();
        let families = DB::list_cf(&options, &beside.folder).map_err(|e| failed(DOING, e))?;
        let store = DB::open_cf_for_read_only(&options, &beside.folder, families, false);
        beside.store = Some(store.map_err(|e| failed(DOING, e))?);
        Ok(beside)
    }

    /// Links to all data files but the damaged ones, with a manifest that a repair has made.
    fn repaired(db: &DB, records: &Path, damaged: &[DamagedFile]) -> Result<Self> {
        remove_leftovers(records)?;
        let folder = folder(records);
        let beside = Self { store: None, folder };
        let folder = &beside.folder;
        let made = DirBuilder::new().mode(0o700).create(folder);
        made.map_err(|e| OperatorError::file("creating", folder, e))?;
        for file in db.live_files().map_err(|e| failed(DOING, e))? {
            let name = file.name.trim_start_matches('/');
            if damaged.iter().all(|damaged| damaged.name != name) {
                let link = folder.join(name);
                fs::hard_link(records.join(name), &link)
                    .map_err(|e| OperatorError::file("linking", link, e))?;
            }
        }
        DB::repair(&quiet(), folder).map_err(|e| failed(DOING, e))?;
        Ok(beside)
    }

    /// Visits the keys in a gap, of rows deleted since too.
    pub(crate) fn keys_in(&self, gap: &Gap, visit: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let store = self.store.as_ref().expect("opened with the folder");
        let Some(handle) = store.cf_handle(gap.family.name()) else {
            // No whole file has a row of the family.
            return Ok(());
        };
        let mut rows = store.raw_iterator_cf(handle);
        rows.seek(&gap.after);
        while let Some(key) = rows.key() {
            if gap.before.as_deref().is_some_and(|before| key >= before) {
                break;
            }
            if key > gap.after.as_slice() {
                visit(key)?;
            }
            rows.next();
        }
        rows.status().map_err(|e| failed(DOING, e))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        drop(self.store.take());
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            tracing::error!(%error, "the links to the data files could not be removed; the next start tries again");
        }
    }
}
