//! Damaged data files: each is logged once, and none is rewritten.
//!
//! RocksDB answers an error to every read that has to go through a damaged place, and never the row below it. So a file
//! that is left as it is cannot bring back a deleted row. A compaction that meets a damaged place ends all writing to
//! the store: while a file is in quarantine there are no compactions and no purge.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use rocksdb::{DB, Error, ErrorKind};

/// A data file with a place that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedFile {
    /// Its name in the folder of the records; empty where RocksDB does not say it.
    pub name: String,
    /// What kind of rows it holds; empty where it is not known.
    pub family: String,
}

/// The damaged files that were met so far, by name.
#[derive(Default)]
pub(super) struct Quarantine(Mutex<BTreeMap<String, DamagedFile>>);

impl Quarantine {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    pub(crate) fn files(&self) -> Vec<DamagedFile> {
        self.0.lock().values().cloned().collect()
    }

    /// Takes in the files that another opening of the same store has met.
    pub(crate) fn take_over(&self, other: Self) {
        self.0.lock().extend(other.0.into_inner());
    }

    /// Takes in the file that an error speaks of; answers whether it is the first of all.
    pub(crate) fn note(&self, db: &DB, family: &str, error: &Error) -> bool {
        self.note_file(db, table_in(error.as_ref()).unwrap_or_default(), family, error)
    }

    /// The same of a file by its name, which the error does not always say.
    pub(crate) fn note_file(&self, db: &DB, name: &str, family: &str, error: &Error) -> bool {
        let mut files = self.0.lock();
        let is_of_known = name.is_empty() && files.values().any(|file| file.family == family);
        if files.contains_key(name) || is_of_known {
            return false;
        }
        let live = db.live_files().unwrap_or_default();
        let live = live.iter().find(|file| file.name.trim_start_matches('/') == name);
        let family = live
            .map_or(family, |file| file.column_family_name.as_str())
            .to_owned();
        let key = |key: Option<&Vec<u8>>| key.map(|key| hex(key)).unwrap_or_default();
        // The keys are keyed digests: they name nobody.
        tracing::error!(
            file = name,
            family,
            level = live.map(|file| file.level),
            first_key = key(live.and_then(|file| file.start_key.as_ref())),
            last_key = key(live.and_then(|file| file.end_key.as_ref())),
            %error,
            "a data file is damaged: what lies in the damaged place answers STORE_FAILED, no file is rewritten, and no \
             erasure is said to be purged, until a copy of the data directory is put back"
        );
        let is_first = files.is_empty();
        let name = name.to_owned();
        files.insert(name.clone(), DamagedFile { name, family });
        is_first
    }
}

/// Whether an error says that the disk does not hold what was written there.
pub(super) fn is_damage(error: &Error) -> bool {
    error.kind() == ErrorKind::Corruption
        // What a disk answers that cannot read a sector.
        || (error.kind() == ErrorKind::IOError && error.as_ref().contains("Input/output error"))
}

/// The data file that RocksDB speaks of.
pub(super) fn table_in(text: &str) -> Option<&str> {
    let end = text.find(".sst")?;
    let digits = text[..end].bytes().rev().take_while(u8::is_ascii_digit).count();
    (digits > 0).then(|| &text[end - digits..end + ".sst".len()])
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_an_error_speaks_of_is_found_in_its_text() {
        let text = "Corruption: block checksum mismatch in /var/lib/records/000123.sst offset 0 size 4066";
        assert_eq!(table_in(text), Some("000123.sst"));
        assert_eq!(table_in("Corruption: bad entry in block"), None);
        assert_eq!(table_in("Corruption: in /var/lib/x.sst"), None);
    }
}
