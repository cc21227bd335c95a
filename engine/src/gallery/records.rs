//! Sealed records on disk: the only file that names RocksDB.
//!
//! Keys are keyed digests and values are sealed, so that nothing here can tell who is in it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use rocksdb::properties::{
    BACKGROUND_ERRORS, CUR_SIZE_ALL_MEM_TABLES, ESTIMATE_NUM_KEYS, LIVE_SST_FILES_SIZE,
};
use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, ColumnFamilyDescriptor, CompactOptions, DB,
    DBCompressionType, DBRecoveryMode, DEFAULT_COLUMN_FAMILY_NAME, ErrorKind, FlushOptions, LogLevel,
    Options, ReadOptions, WriteBatch, WriteOptions,
};

use crate::error::{OperatorError, RequestError, Result};
use crate::gallery::gaps;

/// What kind of record a key names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Family {
    Collections,
    Persons,
    /// Rows of idempotency tokens: no records, and no slots belong to them.
    Tokens,
    /// Accounts and their keys.
    Accounts,
    /// Rows of the running log, a range for each person; sealed under keys that lie in the persons' records.
    RunningLog,
    /// How much was asked of each interface; about nobody.
    Usage,
    /// What administrators did: no records, and no slots belong to them.
    Audit,
    /// How often each person was compared of late: counters under the person's own key.
    Meter,
    /// Of the commits themselves: the last turn, and the owner of each receipt of erasure. No records, and no slots.
    Commits,
}

impl Family {
    pub const ALL: [Self; 9] = [
        Self::Collections,
        Self::Persons,
        Self::Tokens,
        Self::Accounts,
        Self::RunningLog,
        Self::Usage,
        Self::Audit,
        Self::Meter,
        Self::Commits,
    ];
    /// Those whose records name slots.
    pub const SEALED: [Self; 3] = [Self::Collections, Self::Persons, Self::Accounts];

    const fn name(self) -> &'static str {
        match self {
            Self::Collections => "collections",
            Self::Persons => "persons",
            Self::Tokens => "tokens",
            Self::RunningLog => "running-log",
            Self::Usage => "usage",
            Self::Meter => "meter",
            Self::Accounts => "accounts",
            Self::Audit => "audit",
            Self::Commits => "commits",
        }
    }
}

/// One change of a batch.
pub(crate) struct Write {
    pub family: Family,
    pub key: Vec<u8>,
    pub change: Change,
}

/// What becomes of a key.
pub(crate) enum Change {
    Put(Vec<u8>),
    Delete,
    /// Every key that begins with this one is deleted.
    DeleteAll,
}

/// How much there is of a family, roughly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    pub rows: u64,
    pub bytes: u64,
}

/// Whether a scan goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scan {
    Continue,
    Stop,
}

/// The disk below the records. The second implementation drops unsynced writes, in the crash tests.
pub(crate) trait Records: Send + Sync {
    /// # Errors
    /// [`RequestError::Damaged`] where a damaged place of the disk may hold this record.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>>;

    /// Applies all or nothing, and returns only when it would survive a power cut.
    fn write(&self, batch: Vec<Write>) -> Result<()>;

    /// Rewrites the data files around all keys that begin with these (`None`: all there are) until no byte of
    /// a deleted record is left in any file.
    fn purge(&self, places: Option<&[(Family, Vec<u8>)]>) -> Result<()>;

    /// Visits, in key order, the records whose keys begin with `prefix` and come after `after`; answers how
    /// many damaged places it had to pass over.
    fn scan(
        &self,
        family: Family,
        prefix: &[u8],
        after: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Scan,
    ) -> Result<usize>;

    /// Roughly how much there is of a family, on disk and on the way there.
    fn extent(&self, family: Family) -> Result<Extent>;
}

/// Small files keep a purge small; nothing is compressed because sealed bytes do not compress.
const FILE_BYTES: u64 = 4 << 20;
const WRITE_BUFFER_BYTES: usize = 16 << 20;
/// Of all families together.
const BLOCK_CACHE_BYTES: usize = 64 << 20;
const OPEN_FILES_MAX: i32 = 512;
/// What a scan of everything reads at a time.
const READ_AHEAD_BYTES: usize = 2 << 20;
/// Bytes of every key.
const KEY_BYTES: usize = 32;

/// The manifest names the first and last key of every file, of files long gone too, until it is written
/// anew: with these settings whenever it is longer than a new one would be.
const MANIFEST_SETTINGS: &str = "max_manifest_file_size=1;max_manifest_space_amp_pct=0";
/// With as many files as there may be that wait for one.
const NO_COMPACTIONS: [(&str, &str); 3] = [
    ("disable_auto_compactions", "true"),
    ("level0_slowdown_writes_trigger", "10000"),
    ("level0_stop_writes_trigger", "10000"),
];
/// Changes of the files until a manifest surely was written anew: one that makes it longer, and the next.
const MANIFEST_CHANGES: usize = 2;

/// Records in RocksDB.
pub(crate) struct RocksRecords {
    db: DB,
    /// Held by every scan: an open iterator keeps the files it reads, whatever was purged from them.
    scanning: RwLock<()>,
    /// Whether a place of a data file could not be read since it was opened.
    damaged: AtomicBool,
}

impl RocksRecords {
    pub fn open(path: &Path) -> Result<Self> {
        let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES);
        let mut options = family_options(&cache)
            .get_options_from_string(MANIFEST_SETTINGS)
            .map_err(|e| failed("opening the records", e))?;
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_paranoid_checks(true);
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
            .map(|name| ColumnFamilyDescriptor::new(name, family_options(&cache)));
        let db = DB::open_cf_descriptors(&options, path, families)
            .map_err(|e| if_locked(&e).unwrap_or_else(|| failed("opening the records", e)))?;
        Ok(Self {
            db,
            scanning: RwLock::new(()),
            damaged: AtomicBool::new(false),
        })
    }

    /// Files that could not be rewritten since the store was opened: a compaction reports nothing to its caller.
    fn not_rewritten(&self) -> Result<Option<u64>> {
        let errors = self.db.property_int_value(BACKGROUND_ERRORS);
        errors.map_err(|e| failed("purging records", e))
    }

    /// A place cannot be read. A compaction that meets it ends all writing to the store: from here on there is none.
    fn note_damage(&self) {
        if self.damaged.swap(true, Ordering::Relaxed) {
            return;
        }
        for family in Family::ALL {
            if let Err(error) = self.db.set_options_cf(self.handle(family), &NO_COMPACTIONS) {
                tracing::error!(%error, "compactions beside a damaged data file could not be stopped");
            }
        }
    }

    fn flush(&self) -> Result<()> {
        let mut waiting = FlushOptions::default();
        waiting.set_wait(true);
        let mut families: Vec<_> = Family::ALL.iter().map(|family| self.handle(*family)).collect();
        families.extend(self.db.cf_handle(DEFAULT_COLUMN_FAMILY_NAME));
        self.db
            .flush_cfs_opt(&families, &waiting)
            .map_err(|e| failed("flushing records", e))
    }

    fn handle(&self, family: Family) -> &rocksdb::ColumnFamily {
        self.db.cf_handle(family.name()).expect("every family was opened")
    }
}

fn family_options(cache: &Cache) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_bloom_filter(10.0, false);
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::None);
    options.set_target_file_size_base(FILE_BYTES);
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options
}

impl Records for RocksRecords {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>> {
        match self.db.get_cf(self.handle(family), key) {
            Err(error) if error.kind() == ErrorKind::Corruption => {
                self.note_damage();
                Err(RequestError::Damaged.into())
            }
            got => got.map_err(|e| failed("reading a record", e)),
        }
    }

    fn write(&self, batch: Vec<Write>) -> Result<()> {
        let mut writes = WriteBatch::default();
        for Write { family, key, change } in batch {
            match change {
                Change::Put(value) => writes.put_cf(self.handle(family), key, value),
                Change::Delete => writes.delete_cf(self.handle(family), key),
                Change::DeleteAll => {
                    let end = end_of(&key);
                    writes.delete_range_cf(self.handle(family), key, end);
                }
            }
        }
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        self.db
            .write_opt(writes, &synced)
            .map_err(|e| failed("writing records", e))
    }

    fn purge(&self, places: Option<&[(Family, Vec<u8>)]>) -> Result<()> {
        if self.damaged.load(Ordering::Relaxed) {
            return Err(OperatorError::Store {
                doing: "purging records",
                detail: "expected data files that can all be read, found damaged places; nothing is rewritten before a \
                         copy was put back"
                    .to_owned(),
            }
            .into());
        }
        // ORDER: every family that shares the write-ahead log is flushed, for a log file goes only when
        // nothing in it is needed any more.
        self.flush()?;
        let before = self.not_rewritten()?;
        let mut forced = CompactOptions::default();
        // Not what the same compaction has just written there: that would be written twice.
        forced.set_bottommost_level_compaction(BottommostLevelCompaction::ForceOptimized);
        match places {
            None => {
                for family in Family::ALL {
                    self.db
                        .compact_range_cf_opt(self.handle(family), None::<&[u8]>, None::<&[u8]>, &forced);
                }
            }
            Some(places) => {
                for (family, key) in places {
                    self.db.compact_range_cf_opt(
                        self.handle(*family),
                        Some(key),
                        Some(&end_of(key)),
                        &forced,
                    );
                }
            }
        }
        let after = self.not_rewritten()?;
        if after != before {
            return Err(OperatorError::Store {
                doing: "purging records",
                detail: format!(
                    "expected every data file rewritten, found {after:?} that could not be, and {before:?} before"
                ),
            }
            .into());
        }
        // A scan that began before holds the old files open; they go with it.
        drop(self.scanning.write());
        // The manifest still names the keys where the old files began and ended. A note of no content
        // makes a change of the files, and so a new manifest.
        for _ in 0..MANIFEST_CHANGES {
            self.db
                .put(b"purged", [])
                .map_err(|e| failed("purging records", e))?;
            self.flush()?;
        }
        Ok(())
    }

    fn scan(
        &self,
        family: Family,
        prefix: &[u8],
        after: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Scan,
    ) -> Result<usize> {
        let _scanning = self.scanning.read();
        let mut iterator = self.db.raw_iterator_cf_opt(self.handle(family), within(prefix));
        let mut last = if after > prefix { after } else { prefix }.to_vec();
        let mut gaps = 0;
        iterator.seek(&last);
        loop {
            while let Some((key, value)) = iterator.item() {
                if *key > *after && visit(key, value) == Scan::Stop {
                    return Ok(gaps);
                }
                last.clear();
                last.extend_from_slice(key);
                iterator.next();
            }
            match iterator.status() {
                Ok(()) => return Ok(gaps),
                Err(error) if error.kind() == ErrorKind::Corruption => {
                    self.note_damage();
                    gaps += 1;
                }
                Err(error) => return Err(failed("scanning records", error)),
            }
            // A damaged block is read by nobody; the blocks after it are as good as ever.
            last.resize(KEY_BYTES, 0);
            // A fresh look each time: an iterator that met damage may take it for the end.
            let look = |place: &[u8]| {
                let mut fresh = self.db.raw_iterator_cf_opt(self.handle(family), within(prefix));
                fresh.seek(place);
                fresh
            };
            match gaps::next_readable(&last, |place| look(place).status().is_ok()) {
                Some(place) => {
                    iterator = look(&place);
                    last = place;
                }
                None => return Ok(gaps),
            }
        }
    }

    fn extent(&self, family: Family) -> Result<Extent> {
        let number = |property: &rocksdb::properties::PropName| {
            let found = self.db.property_int_value_cf(self.handle(family), property);
            found
                .map(Option::unwrap_or_default)
                .map_err(|e| failed("measuring records", e))
        };
        Ok(Extent {
            rows: number(ESTIMATE_NUM_KEYS)?,
            bytes: number(LIVE_SST_FILES_SIZE)? + number(CUR_SIZE_ALL_MEM_TABLES)?,
        })
    }
}

/// Behind every key with this prefix.
fn end_of(prefix: &[u8]) -> Vec<u8> {
    successor(prefix).unwrap_or_else(|| vec![u8::MAX; KEY_BYTES + 1])
}

fn within(prefix: &[u8]) -> ReadOptions {
    let mut reading = ReadOptions::default();
    if let Some(end) = successor(prefix) {
        reading.set_iterate_upper_bound(end);
    }
    // Whoever reads everything once would push out what is read often, and fill the cache with it.
    if prefix.is_empty() {
        reading.fill_cache(false);
        reading.set_readahead_size(READ_AHEAD_BYTES);
    }
    reading
}

/// The first key after all keys with this prefix, if there is one.
fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

/// RocksDB says so in the text of the error only.
fn if_locked(error: &rocksdb::Error) -> Option<crate::Error> {
    let locked = error.kind() == rocksdb::ErrorKind::IOError && error.as_ref().contains("lock");
    locked.then(|| {
        OperatorError::Format {
            what: "lock",
            expected: "a data directory that no other process uses".to_owned(),
            found: "another process at work in it".to_owned(),
        }
        .into()
    })
}

fn failed(doing: &'static str, error: rocksdb::Error) -> crate::Error {
    OperatorError::Store {
        doing,
        detail: error.to_string(),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_sees_its_prefix_in_order_and_nothing_else() {
        let home = tempfile::tempdir().expect("temporary directory");
        let records = RocksRecords::open(home.path()).expect("a fresh place");
        let put = |key: &[u8]| Write {
            family: Family::Persons,
            key: key.to_vec(),
            change: Change::Put(b"v".to_vec()),
        };
        let keys: [&[u8]; 6] = [b"a1", b"b1", b"b2", b"b3", b"c1", b"\xff\xff1"];
        records.write(keys.map(put).into()).expect("written");
        let seen = |prefix: &[u8], after: &[u8], most: usize| {
            let mut seen = Vec::new();
            records
                .scan(Family::Persons, prefix, after, &mut |key, _| {
                    seen.push(key.to_vec());
                    if seen.len() == most {
                        Scan::Stop
                    } else {
                        Scan::Continue
                    }
                })
                .expect("scanned");
            seen
        };
        assert_eq!(seen(b"b", b"", 9), [b"b1", b"b2", b"b3"]);
        assert_eq!(seen(b"b", b"b1", 9), [b"b2", b"b3"]);
        assert_eq!(seen(b"b", b"", 1), [b"b1"]);
        assert_eq!(seen(b"\xff\xff", b"", 9), [b"\xff\xff1"]);
        assert_eq!(seen(b"", b"", 9).len(), 6);
        assert!(seen(b"d", b"", 9).is_empty());
    }
}
