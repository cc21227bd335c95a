//! Opens the store, also with data files that RocksDB cannot open.
//!
//! RocksDB refuses a whole store for one table whose index or footer is damaged. Its own repair is not used: it makes
//! a new manifest of the tables that it can read, and deleted rows return. Where the usual open is refused, there are
//! two more:
//!
//! 1. The first reads manifest and write-ahead log as strictly as the usual one, leaves the tables alone, and writes the
//!    contents of the log into a table. If it refuses, the store is refused.
//! 2. The second passes over tables that it cannot open: each read that has to go through such a table answers an error,
//!    and never the row below it. It would also pass over a damaged write-ahead log, and therefore requires an empty
//!    one. It has no filters, which a read can do without, and no compactions, which would fail.
//!
//! A table of the topmost level may hold rows anywhere between its first and its last key, and is part of every scan:
//! where it cannot be opened, its family cannot be scanned.

use std::fs;
use std::path::Path;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode,
    DEFAULT_COLUMN_FAMILY_NAME, Error, LogLevel, Options,
};

use super::quarantine::{Quarantine, table_in};
use super::{
    BLOCK_CACHE_BYTES, FILE_BYTES, Family, KEY_BYTES, MANIFEST_SETTINGS, OPEN_FILES_MAX, WAITING_FILES_MAX,
    WRITE_BUFFER_BYTES, beside, failed, if_locked, lacked_descriptors, logs,
};
use likeness_types::error::{OperatorError, Result};

const DOING: &str = "opening the records";
/// Leaves the tables alone at an open, and does not ask them for statistics.
const TABLES_LATER: &str = "open_files_async=true;skip_stats_update_on_db_open=true";

/// How a store is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Everything is checked.
    Usual,
    /// Everything but the tables.
    TablesLater,
    /// Tables that cannot be opened are passed over.
    PastTables,
}

/// Opens the store; damaged files that were met are in the quarantine.
///
/// # Errors
/// A damaged file besides the tables, or a table without which nothing of its family can be told.
pub(super) fn open(path: &Path) -> Result<(DB, Quarantine)> {
    logs::check(path)?;
    let quarantine = Quarantine::default();
    let error = match open_by(path, Way::Usual) {
        Ok(db) => return Ok((db, quarantine)),
        Err(error) => error,
    };
    if let Some(locked) = if_locked(&error) {
        return Err(locked);
    }
    // A table that no descriptor is left for is not damaged.
    if lacked_descriptors(&error) {
        return Err(failed(DOING, error));
    }
    drop(open_by(path, Way::TablesLater).map_err(|error| failed(DOING, error))?);
    refuse_unwritten_log(path)?;
    let db = open_by(path, Way::PastTables).map_err(|error| failed(DOING, error))?;
    match table_in(error.as_ref()) {
        Some(_) => drop(quarantine.note(&db, "", &error)),
        None => {
            for name in beside::unreadable(&db, path)? {
                quarantine.note_file(&db, &name, "", &error);
            }
            // Without a name too, nothing is rewritten.
            if quarantine.is_empty() {
                quarantine.note(&db, "", &error);
            }
        }
    }
    for family in Family::ALL {
        let handle = db.cf_handle(family.name()).expect("every family was opened");
        let mut past_all = db.raw_iterator_cf(handle);
        past_all.seek([u8::MAX; KEY_BYTES + 1]);
        let Err(error) = past_all.status() else { continue };
        quarantine.note(&db, family.name(), &error);
        if !family.may_be_hidden() {
            return Err(unprovable(family, &quarantine, &error));
        }
    }
    Ok((db, quarantine))
}

fn open_by(path: &Path, way: Way) -> std::result::Result<DB, Error> {
    let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES);
    let of_family = || family_options(&cache, way);
    let mut options = of_family().get_options_from_string(MANIFEST_SETTINGS)?;
    if way == Way::TablesLater {
        options = options.get_options_from_string(TABLES_LATER)?;
    }
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_paranoid_checks(way != Way::PastTables);
    // Every write is synced, so only the last may be incomplete. The default would also take
    // damage in the middle for the end, and lose what was acknowledged after it.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_max_open_files(OPEN_FILES_MAX);
    // The info log names keys: one file, warnings only.
    options.set_keep_log_file_num(1);
    options.set_log_level(LogLevel::Warn);
    // A recycled log file would keep erased bytes past its end.
    options.set_recycle_log_file_num(0);
    let families = Family::ALL
        .map(Family::name)
        .into_iter()
        .chain([DEFAULT_COLUMN_FAMILY_NAME])
        .map(|name| ColumnFamilyDescriptor::new(name, of_family()));
    DB::open_cf_descriptors(&options, path, families)
}

fn family_options(cache: &Cache, way: Way) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    // A filter that cannot be read is one more reason to refuse a table.
    if way == Way::Usual {
        blocks.set_bloom_filter(10.0, false);
    }
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::None);
    options.set_target_file_size_base(FILE_BYTES);
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    // Until every file was read once: a compaction that meets a damaged place ends all writing to the store.
    options.set_disable_auto_compactions(true);
    if way == Way::PastTables {
        options.set_level_zero_slowdown_writes_trigger(WAITING_FILES_MAX);
        options.set_level_zero_stop_writes_trigger(WAITING_FILES_MAX);
    }
    options
}

/// The log's contents must be in a table by now: the last open would pass over damage in it.
fn refuse_unwritten_log(path: &Path) -> Result<()> {
    let listed = fs::read_dir(path).map_err(|e| OperatorError::file("listing", path, e))?;
    for entry in listed {
        let entry = entry.map_err(|e| OperatorError::file("listing", path, e))?;
        let is_log = entry
            .path()
            .extension()
            .is_some_and(|extension| extension == "log");
        let length = entry.metadata().map_or(u64::MAX, |found| found.len());
        if is_log && length > 0 {
            return Err(OperatorError::Store {
                doing: DOING,
                detail: format!(
                    "expected an empty write-ahead log beside a damaged data file, found {} of {length} bytes",
                    entry.file_name().display()
                ),
            }
            .into());
        }
    }
    Ok(())
}

/// A table that nothing of its family can be told without.
fn unprovable(family: Family, quarantine: &Quarantine, error: &Error) -> likeness_types::error::Error {
    let files = quarantine.files();
    let of_family = files.iter().filter(|file| file.family == family.name());
    let names: Vec<_> = of_family.map(|file| file.name.as_str()).collect();
    OperatorError::Format {
        what: "records",
        expected: format!(
            "the newest data files of the family '{}' whole, for nothing else proves which of its rows were deleted or \
             replaced since",
            family.name()
        ),
        found: format!(
            "damage in {} ({error}); put back a copy of the data directory",
            names.join(", ")
        ),
    }
    .into()
}
