//! The store of sealed records in RocksDB. No other file names RocksDB.
//!
//! Keys are keyed digests and values are sealed: nothing in the store tells whom a record is of.

pub(crate) mod beside;
pub(crate) mod logs;
pub(crate) mod opening;
pub(crate) mod quarantine;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{MappedRwLockReadGuard, Mutex, RwLock, RwLockReadGuard};
use rocksdb::properties::{
    BACKGROUND_ERRORS, CUR_SIZE_ALL_MEM_TABLES, ESTIMATE_NUM_KEYS, LIVE_SST_FILES_SIZE,
};
use rocksdb::{
    BottommostLevelCompaction, CompactOptions, DB, DEFAULT_COLUMN_FAMILY_NAME, ErrorKind, FlushOptions,
    ReadOptions, WriteBatch, WriteOptions,
};

use self::beside::{Beside, Gap};
pub use self::quarantine::DamagedFile;
use self::quarantine::{Quarantine, is_damage};
use crate::gaps;
use likeness_types::error::{Error, OperatorError, Result};

/// What kind of record a key names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Settings of collections: sealed records.
    Collections,
    /// People with their templates: sealed records.
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
    /// Every family.
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

    /// Those of which nothing else proves what they held: whether a key of an account was revoked, a call was made
    /// before, a person was compared too often. A start without all of their rows is refused.
    pub(crate) const UNPROVEN: [Self; 4] = [Self::Accounts, Self::Tokens, Self::Audit, Self::Meter];

    /// Whether everything else may be served while none of its rows can be read.
    const fn may_be_hidden(self) -> bool {
        matches!(self, Self::RunningLog | Self::Usage)
    }

    /// The name of its column family in RocksDB.
    pub const fn name(self) -> &'static str {
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
pub struct Write {
    /// The family that changes.
    pub family: Family,
    /// The key within the family.
    pub key: Vec<u8>,
    /// What becomes of the key.
    pub change: Change,
}

/// What becomes of a key.
pub enum Change {
    /// It has this value.
    Put(Vec<u8>),
    /// It is deleted.
    Delete,
    /// Every key that begins with this one is deleted.
    DeleteAll,
}

/// How much there is of a family, roughly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extent {
    /// Rows, by an estimate of the store.
    pub rows: u64,
    /// Bytes in data files, and of rows that wait in memory for one.
    pub bytes: u64,
}

/// Whether a scan goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// The next row is visited.
    Continue,
    /// No further row is visited.
    Stop,
}

/// What is done with each row of a scan that may fail on it: its key, and its bytes.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<()> + 'a;

/// The disk below the records. The second implementation drops unsynced writes, in the crash tests.
pub trait Records: Send + Sync {
    /// # Errors
    /// [`OperatorError::DamagedPlace`] where a damaged place of the disk may hold this record.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>>;

    /// Whether a change may begin. Nothing was written when this fails, and with [`OperatorError::NoDescriptors`] a
    /// later call may succeed.
    fn ready(&self) -> Result<()>;

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

    /// Visits the rows in the places that scans of the whole family passed over since the last visit, as far as each
    /// can be read by itself.
    fn scan_beside(&self, family: Family, visit: &mut Visit<'_>) -> Result<()>;

    /// Roughly how much there is of a family, on disk and on the way there.
    fn extent(&self, family: Family) -> Result<Extent>;

    /// The damaged data files that were met so far.
    fn damaged_files(&self) -> Vec<DamagedFile>;

    /// Reads what a start does not, as long as `goes_on`; files are rewritten only afterwards, and only where nothing
    /// is damaged.
    fn verify(&self, goes_on: &dyn Fn() -> bool) -> Result<()>;
}

/// Small files keep a purge small; nothing is compressed because sealed bytes do not compress.
const FILE_BYTES: u64 = 4 << 20;
const WRITE_BUFFER_BYTES: usize = 16 << 20;
/// Of all families together.
const BLOCK_CACHE_BYTES: usize = 64 << 20;
const OPEN_FILES_MAX: i32 = 512;
/// Open files beside those that `OPEN_FILES_MAX` counts: write-ahead logs, manifest, lock, info log, directories, and
/// what flushes and compactions write.
const OPEN_FILES_BESIDE: usize = 64;
/// The most file descriptors that the records take.
pub const DESCRIPTORS_MAX: usize = OPEN_FILES_MAX as usize + OPEN_FILES_BESIDE;
/// Descriptors that must be free before a change begins: a new write-ahead log, and the files of the flushes and
/// compactions that follow it.
const SPARE_DESCRIPTORS: usize = 16;
/// What opening the store takes at once, with the tables that it looks at in advance.
const REOPENING_DESCRIPTORS: usize = 192;
/// What a scan of everything reads at a time.
const READ_AHEAD_BYTES: usize = 2 << 20;
/// Bytes of every key.
const KEY_BYTES: usize = 32;

/// The manifest names the first and last key of every file, of files long gone too, until it is written
/// anew: with these settings whenever it is longer than a new one would be.
const MANIFEST_SETTINGS: &str = "max_manifest_file_size=1;max_manifest_space_amp_pct=0";
/// Files of the topmost level that may wait for a compaction before writing is slowed down, where there is none.
const WAITING_FILES_MAX: i32 = 10_000;
/// With as many files as there may be that wait for one.
const NO_COMPACTIONS: [(&str, &str); 3] = [
    ("disable_auto_compactions", "true"),
    ("level0_slowdown_writes_trigger", "10000"),
    ("level0_stop_writes_trigger", "10000"),
];
const COMPACTIONS: [(&str, &str); 1] = [("disable_auto_compactions", "false")];
/// Changes of the files until a manifest surely was written anew: one that makes it longer, and the next.
const MANIFEST_CHANGES: usize = 2;

/// Records in RocksDB.
pub(crate) struct RocksRecords {
    /// None where it could not be opened again.
    store: RwLock<Option<DB>>,
    path: PathBuf,
    /// What is duplicated to learn whether descriptors are free.
    probe: File,
    /// Background errors that did not stop the open store.
    errors_seen: AtomicU64,
    /// Held by every scan: an open iterator keeps the files it reads, whatever was purged from them.
    scanning: RwLock<()>,
    quarantine: Quarantine,
    /// What the last scan of each whole family passed over.
    passed: Mutex<Vec<Gap>>,
    /// Whether every file was read since the store was opened, as far as files may be rewritten.
    verified: Mutex<bool>,
}

impl RocksRecords {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        beside::remove_leftovers(path)?;
        let probe = File::open("/dev/null").map_err(|e| OperatorError::file("opening", "/dev/null", e))?;
        let (db, quarantine) = opening::open(path)?;
        Ok(Self {
            store: RwLock::new(Some(db)),
            path: path.to_owned(),
            probe,
            errors_seen: AtomicU64::new(0),
            scanning: RwLock::new(()),
            quarantine,
            passed: Mutex::default(),
            verified: Mutex::new(false),
        })
    }

    /// The open store. Recursive, because a visitor of a scan may read.
    fn db(&self) -> Result<MappedRwLockReadGuard<'_, DB>> {
        RwLockReadGuard::try_map(self.store.read_recursive(), Option::as_ref).map_err(|_| {
            let (doing, detail) = ("reading records", "the store is not open".to_owned());
            OperatorError::Store { doing, detail }.into()
        })
    }

    /// # Errors
    /// Fewer descriptors than these are free.
    fn spare(&self, descriptors: usize) -> Result<()> {
        let found: std::result::Result<Vec<_>, _> =
            (0..descriptors).map(|_| self.probe.try_clone()).collect();
        match found {
            Ok(_) => Ok(()),
            Err(_) => Err(OperatorError::NoDescriptors {
                expected: descriptors,
            }
            .into()),
        }
    }

    /// Opens the store again after it stopped for want of descriptors: then nothing that it acknowledged is lost,
    /// for every write is in the write-ahead log and synced, and no write of ours was under way.
    fn reopen(&self) -> Result<()> {
        // What is known of a damaged place is known of the open store.
        if !self.quarantine.is_empty() {
            return Err(OperatorError::Poisoned.into());
        }
        // ORDER: looked at before the store is closed: a closed one that cannot be opened serves no reads either.
        self.spare(REOPENING_DESCRIPTORS)?;
        let mut verified = self.verified.lock();
        let mut store = self.store.write();
        // ORDER: the old one goes first: it holds the lock of the directory.
        drop(store.take());
        match opening::open(&self.path) {
            Ok((opened, quarantine)) => {
                self.quarantine.take_over(quarantine);
                *store = Some(opened);
            }
            // Other threads took them meanwhile; a later call tries again.
            Err(_) if self.spare(REOPENING_DESCRIPTORS).is_err() => {
                let expected = REOPENING_DESCRIPTORS;
                return Err(OperatorError::NoDescriptors { expected }.into());
            }
            Err(error) => return Err(error),
        }
        self.errors_seen.store(0, Ordering::Relaxed);
        *verified = false;
        tracing::warn!("the store was opened again after it had lacked file descriptors");
        Ok(())
    }

    /// A place cannot be read. A compaction that meets it ends all writing to the store: from here on there is none.
    fn note_damage(&self, db: &DB, family: &str, error: &rocksdb::Error) {
        if !self.quarantine.note(db, family, error) {
            return;
        }
        if let Err(error) = set_compactions(db, &NO_COMPACTIONS) {
            tracing::error!(%error, "compactions beside a damaged data file could not be stopped");
        }
    }

    /// Reads all rows under a handle; answers whether it came to the end.
    fn read_through(
        &self,
        db: &DB,
        handle: &rocksdb::ColumnFamily,
        family: &str,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<bool> {
        let _scanning = self.scanning.read();
        let mut rows = db.raw_iterator_cf_opt(handle, with_deleted_ranges());
        rows.seek_to_first();
        while rows.valid() {
            if !goes_on() {
                return Ok(false);
            }
            rows.next();
        }
        match rows.status() {
            Err(error) if is_damage(&error) => self.note_damage(db, family, &error),
            status => status.map_err(|e| failed("reading every data file", e))?,
        }
        Ok(true)
    }
}

/// Files that could not be rewritten since the store was opened: a compaction reports nothing to its caller.
fn not_rewritten(db: &DB) -> Result<Option<u64>> {
    let errors = db.property_int_value(BACKGROUND_ERRORS);
    errors.map_err(|e| failed("purging records", e))
}

fn set_compactions(db: &DB, options: &[(&str, &str)]) -> Result<()> {
    for handle in handles(db) {
        db.set_options_cf(handle, options)
            .map_err(|e| failed("setting when files are rewritten", e))?;
    }
    Ok(())
}

fn flush(db: &DB) -> Result<()> {
    let mut waiting = FlushOptions::default();
    waiting.set_wait(true);
    db.flush_cfs_opt(&handles(db), &waiting)
        .map_err(|e| failed("flushing records", e))
}

fn handles(db: &DB) -> Vec<&rocksdb::ColumnFamily> {
    let mut handles: Vec<_> = Family::ALL.iter().map(|family| handle(db, *family)).collect();
    handles.extend(db.cf_handle(DEFAULT_COLUMN_FAMILY_NAME));
    handles
}

fn handle(db: &DB, family: Family) -> &rocksdb::ColumnFamily {
    db.cf_handle(family.name()).expect("every family was opened")
}

impl Drop for RocksRecords {
    /// While nothing runs, a damaged data file hides the rows in it, and a damaged write-ahead log forbids the start:
    /// so what the log holds goes into data files before.
    fn drop(&mut self) {
        let Some(db) = self.store.get_mut() else { return };
        if let Err(error) = flush(db) {
            tracing::warn!(%error, "the write-ahead log is left for the next start");
        }
    }
}

impl Records for RocksRecords {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let db = self.db()?;
        match db.get_cf(handle(&db, family), key) {
            Err(error) if is_damage(&error) => {
                self.note_damage(&db, family.name(), &error);
                Err(OperatorError::DamagedPlace.into())
            }
            got => got.map_err(|e| failed("reading a record", e)),
        }
    }

    fn ready(&self) -> Result<()> {
        self.spare(SPARE_DESCRIPTORS)?;
        let looked = match &*self.store.read_recursive() {
            None => None,
            Some(db) => {
                let errors = not_rewritten(db)?.unwrap_or_default();
                if errors == self.errors_seen.load(Ordering::Relaxed) {
                    return Ok(());
                }
                // A note of no content: a store that has stopped refuses it, and says why it stopped.
                let refused = db.put(b"purged", []).err();
                if refused.is_none() {
                    self.errors_seen.store(errors, Ordering::Relaxed);
                    return Ok(());
                }
                refused
            }
        };
        match looked {
            Some(error) if !lacked_descriptors(&error) => Err(failed("writing records", error)),
            _ => self.reopen(),
        }
    }

    fn write(&self, batch: Vec<Write>) -> Result<()> {
        let db = self.db()?;
        let mut writes = WriteBatch::default();
        for Write { family, key, change } in batch {
            match change {
                Change::Put(value) => writes.put_cf(handle(&db, family), key, value),
                Change::Delete => writes.delete_cf(handle(&db, family), key),
                Change::DeleteAll => {
                    let end = end_of(&key);
                    writes.delete_range_cf(handle(&db, family), key, end);
                }
            }
        }
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        db.write_opt(writes, &synced)
            .map_err(|e| failed("writing records", e))
    }

    fn purge(&self, places: Option<&[(Family, Vec<u8>)]>) -> Result<()> {
        // ORDER: every file is read before one is rewritten, for a compaction that meets damage ends all writing.
        self.ready()?;
        self.verify(&|| true)?;
        if !self.quarantine.is_empty() {
            return Err(OperatorError::Store {
                doing: "purging records",
                detail: "expected data files that can all be read, found damaged places; nothing is rewritten before a \
                         copy was put back"
                    .to_owned(),
            }
            .into());
        }
        let db = self.db()?;
        // ORDER: every family that shares the write-ahead log is flushed, for a log file goes only when
        // nothing in it is needed any more.
        flush(&db)?;
        let before = not_rewritten(&db)?;
        let mut forced = CompactOptions::default();
        // Not what the same compaction has just written there: that would be written twice.
        forced.set_bottommost_level_compaction(BottommostLevelCompaction::ForceOptimized);
        match places {
            None => {
                for family in Family::ALL {
                    db.compact_range_cf_opt(handle(&db, family), None::<&[u8]>, None::<&[u8]>, &forced);
                }
            }
            Some(places) => {
                for (family, key) in places {
                    db.compact_range_cf_opt(handle(&db, *family), Some(key), Some(&end_of(key)), &forced);
                }
            }
        }
        let after = not_rewritten(&db)?;
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
            db.put(b"purged", []).map_err(|e| failed("purging records", e))?;
            flush(&db)?;
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
        let db = self.db()?;
        let mut iterator = db.raw_iterator_cf_opt(handle(&db, family), within(prefix));
        let mut last = if after > prefix { after } else { prefix }.to_vec();
        let mut gaps = 0;
        let is_whole = prefix.is_empty() && after.is_empty();
        if is_whole {
            self.passed.lock().retain(|gap| gap.family != family);
        }
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
                Err(error) if is_damage(&error) => {
                    self.note_damage(&db, family.name(), &error);
                    gaps += 1;
                }
                Err(error) => return Err(failed("scanning records", error)),
            }
            // A damaged block is read by nobody; the blocks after it are as good as ever.
            last.resize(KEY_BYTES, 0);
            // A fresh look each time: an iterator that met damage may take it for the end.
            let look = |place: &[u8]| {
                let mut fresh = db.raw_iterator_cf_opt(handle(&db, family), within(prefix));
                fresh.seek(place);
                fresh
            };
            let next = gaps::next_readable(&last, |place| look(place).status().is_ok());
            if is_whole {
                self.passed.lock().push(Gap {
                    family,
                    after: last.clone(),
                    before: next.clone(),
                });
            }
            match next {
                Some(place) => {
                    iterator = look(&place);
                    last = place;
                }
                None => return Ok(gaps),
            }
        }
    }

    fn scan_beside(&self, family: Family, visit: &mut Visit<'_>) -> Result<()> {
        let gaps: Vec<_> = {
            let mut passed = self.passed.lock();
            passed.extract_if(.., |gap| gap.family == family).collect()
        };
        if gaps.is_empty() {
            return Ok(());
        }
        let beside = match Beside::open(&*self.db()?, &self.path, &self.quarantine.files()) {
            Ok(beside) => beside,
            Err(error) => {
                tracing::error!(%error, "rows beside a damaged place are not looked for, and are hidden with it");
                return Ok(());
            }
        };
        for gap in gaps {
            beside.keys_in(&gap, &mut |key| match self.get(family, key) {
                Ok(Some(row)) => visit(key, &row),
                Ok(None) | Err(Error::Operator(OperatorError::DamagedPlace)) => Ok(()),
                Err(error) => Err(error),
            })?;
        }
        Ok(())
    }

    fn extent(&self, family: Family) -> Result<Extent> {
        let db = self.db()?;
        let number = |property: &rocksdb::properties::PropName| {
            let found = db.property_int_value_cf(handle(&db, family), property);
            found
                .map(Option::unwrap_or_default)
                .map_err(|e| failed("measuring records", e))
        };
        Ok(Extent {
            rows: number(ESTIMATE_NUM_KEYS)?,
            bytes: number(LIVE_SST_FILES_SIZE)? + number(CUR_SIZE_ALL_MEM_TABLES)?,
        })
    }

    fn damaged_files(&self) -> Vec<DamagedFile> {
        self.quarantine.files()
    }

    fn verify(&self, goes_on: &dyn Fn() -> bool) -> Result<()> {
        let mut verified = self.verified.lock();
        if *verified {
            return Ok(());
        }
        let db = self.db()?;
        let unread = [Family::RunningLog, Family::Usage, Family::Audit]
            .map(|family| (handle(&db, family), family.name()));
        let default = db.cf_handle(DEFAULT_COLUMN_FAMILY_NAME);
        let default = default.map(|handle| (handle, DEFAULT_COLUMN_FAMILY_NAME));
        for (handle, family) in unread.into_iter().chain(default) {
            if !self.read_through(&db, handle, family, goes_on)? {
                return Ok(());
            }
        }
        if self.quarantine.is_empty() {
            set_compactions(&db, &COMPACTIONS)?;
            // A read may have met damage meanwhile.
            if !self.quarantine.is_empty() {
                set_compactions(&db, &NO_COMPACTIONS)?;
            }
        }
        *verified = true;
        Ok(())
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

/// Blocks of which every row is deleted are read too, for a compaction reads them.
#[allow(deprecated, reason = "meant for speed, where nothing is slow here")]
fn with_deleted_ranges() -> ReadOptions {
    let mut reading = within(&[]);
    reading.set_ignore_range_deletions(true);
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
fn if_locked(error: &rocksdb::Error) -> Option<likeness_types::error::Error> {
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

/// RocksDB says so in the text of the error only, with the system's own words. Only opening a file fails so: nothing
/// was written to that file.
fn lacked_descriptors(error: &rocksdb::Error) -> bool {
    error.kind() == ErrorKind::IOError && error.as_ref().contains("Too many open files")
}

fn failed(doing: &'static str, error: rocksdb::Error) -> likeness_types::error::Error {
    OperatorError::Store {
        doing,
        detail: error.to_string(),
    }
    .into()
}

/// The data files below a path that no process uses: each by its name, with family and level.
#[cfg(any(test, feature = "testing"))]
pub fn data_files(path: &Path) -> Vec<(String, String)> {
    let families = Family::ALL
        .map(Family::name)
        .into_iter()
        .chain([DEFAULT_COLUMN_FAMILY_NAME]);
    let db =
        DB::open_cf_for_read_only(&rocksdb::Options::default(), path, families, false).expect("it opens");
    let files = db.live_files().expect("listed");
    let named = files.into_iter().map(|file| {
        let name = file.name.trim_start_matches('/').to_owned();
        (name, format!("{} L{}", file.column_family_name, file.level))
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The limit is the whole process's: a process of its own has it.
    #[test]
    fn a_store_that_lacked_descriptors_is_opened_again_and_lost_nothing() {
        const INSIDE: &str = "LIKENESS_TEST_DESCRIPTORS";
        let name = "records::tests::a_store_that_lacked_descriptors_is_opened_again_and_lost_nothing";
        if std::env::var_os(INSIDE).is_none() {
            let mut alone = std::process::Command::new(std::env::current_exe().expect("a path"));
            alone.args(["--exact", name, "--nocapture"]).env(INSIDE, "1");
            assert!(alone.status().expect("it runs").success());
            return;
        }
        let home = tempfile::tempdir().expect("temporary directory");
        let records = RocksRecords::open(home.path()).expect("a fresh place");
        let put = |key: &[u8]| {
            vec![Write {
                family: Family::Persons,
                key: key.to_vec(),
                change: Change::Put(b"v".to_vec()),
            }]
        };
        records.write(put(b"before")).expect("written");
        let open = std::fs::read_dir("/proc/self/fd").expect("Linux").count() as u64;
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let allow = |current| {
            let maximum = limit.maximum;
            let limit = rustix::process::Rlimit { current, maximum };
            rustix::process::setrlimit(rustix::process::Resource::Nofile, limit)
                .expect("below the hard limit");
        };
        allow(Some(open));
        flush(&records.db().expect("it is open")).expect_err("a flush opens a file");
        records.write(put(b"refused")).expect_err("the store has stopped");
        let short = records.ready().expect_err("there are none");
        assert!(
            matches!(
                short,
                likeness_types::error::Error::Operator(OperatorError::NoDescriptors { .. })
            ),
            "{short}"
        );
        allow(limit.current);
        records.ready().expect("opened again");
        records.write(put(b"after")).expect("written");
        let there = |key: &[u8]| records.get(Family::Persons, key).expect("read").is_some();
        assert!(there(b"before") && there(b"after") && !there(b"refused"));
        records.purge(None).expect("purged");
    }

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
