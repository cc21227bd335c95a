//! The assets directory: each file appears in it whole and as pinned, or not at all.

use std::fs::{self, File, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::error::AssetsError;
use super::manifest::{Package, PinnedFile};
use super::pin::Pin;

/// Held while files are placed, so that two runs do not fetch the same at once.
const LOCK: &str = ".lock";
/// Archives as pinned whose files are not all placed yet: an interrupted run goes on from here.
const ARCHIVES: &str = ".archives";
/// What is not yet known to be as pinned; swept away when a run begins.
const STAGING: &str = ".staging-";

/// The assets directory, held by this run alone.
pub(super) struct Place {
    root: PathBuf,
    staging: TempDir,
    /// Last, so that the staging directory is gone before another run may begin.
    _lock: File,
}

impl Place {
    /// Makes the directory where needed and waits until no other run holds it; `waiting` is told once if so.
    pub fn hold(root: &Path, waiting: impl FnOnce()) -> Result<Self, AssetsError> {
        fs::create_dir_all(root).map_err(AssetsError::file("making", root))?;
        let path = root.join(LOCK);
        let lock = File::create(&path).map_err(AssetsError::file("making", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                waiting();
                lock.lock().map_err(AssetsError::file("locking", &path))?;
            }
            Err(TryLockError::Error(error)) => return Err(AssetsError::file("locking", &path)(error)),
        }
        sweep(root)?;
        let staging = tempfile::Builder::new()
            .prefix(STAGING)
            .tempdir_in(root)
            .map_err(AssetsError::file("making a directory in", root))?;
        Ok(Self {
            root: root.to_owned(),
            staging,
            _lock: lock,
        })
    }

    /// Where a client may leave what it fetched.
    pub fn staging(&self) -> &Path {
        self.staging.path()
    }

    /// The package's archive, if an interrupted run left it as pinned.
    pub fn archive(&self, package: &Package) -> Result<Option<PathBuf>, AssetsError> {
        let path = self.root.join(ARCHIVES).join(&package.archive);
        let found = Pin::of_file(&path).map_err(AssetsError::file("reading", &path))?;
        Ok((found == Some(package.pin)).then_some(path))
    }

    /// Keeps an archive that is as pinned until its files are placed.
    pub fn keep_archive(&self, package: &Package, from: &Path) -> Result<PathBuf, AssetsError> {
        check_archive(package, from)?;
        let directory = self.root.join(ARCHIVES);
        fs::create_dir_all(&directory).map_err(AssetsError::file("making", &directory))?;
        let path = directory.join(&package.archive);
        fs::rename(from, &path).map_err(AssetsError::file("writing", &path))?;
        Ok(path)
    }

    /// The files of this package are placed; its archive is needed no more.
    pub fn drop_archive(&self, archive: &Path) -> Result<(), AssetsError> {
        fs::remove_file(archive).map_err(AssetsError::file("removing", archive))?;
        // Another package's archive may still be in there, from an interrupted run.
        let _ = fs::remove_dir(self.root.join(ARCHIVES));
        Ok(())
    }

    /// Copies what `from` yields to where `file` belongs, if it is as pinned.
    ///
    /// Nothing is synced: what a power cut leaves half-written is not as pinned, and the next run sees that.
    /// `origin` says to a person where it comes from.
    pub fn put(&self, file: &PinnedFile, origin: &str, from: &mut dyn Read) -> Result<(), AssetsError> {
        let staged = self.staging().join("file");
        let mut out = File::create(&staged).map_err(AssetsError::file("making", &staged))?;
        let over = file.pin.bytes.saturating_add(1);
        let doing = AssetsError::file("unpacking", self.root.join(&file.to));
        let received = Pin::copy(&mut from.take(over), &mut out).map_err(doing)?;
        if received != file.pin {
            return Err(AssetsError::Mismatch {
                what: format!("{} from {origin}", file.to.display()),
                expected: file.pin,
                received: if received.bytes == over {
                    format!("more than {} bytes", file.pin.bytes)
                } else {
                    received.to_string()
                },
            });
        }
        let path = self.root.join(&file.to);
        let directory = path.parent().expect("the root is above it");
        fs::create_dir_all(directory).map_err(AssetsError::file("making", directory))?;
        fs::rename(&staged, &path).map_err(AssetsError::file("writing", &path))
    }
}

/// Refuses an archive that is not as pinned.
pub(super) fn check_archive(package: &Package, path: &Path) -> Result<(), AssetsError> {
    match Pin::of_file(path).map_err(AssetsError::file("reading", path))? {
        Some(found) if found == package.pin => Ok(()),
        found => Err(AssetsError::Mismatch {
            what: format!("{} ({package}, by {})", package.archive, package.client.name()),
            expected: package.pin,
            received: found.map_or_else(|| "no file".to_owned(), |found| found.to_string()),
        }),
    }
}

/// Removes what a run that was killed left half-done.
fn sweep(root: &Path) -> Result<(), AssetsError> {
    let entries = fs::read_dir(root).map_err(AssetsError::file("reading", root))?;
    for entry in entries {
        let entry = entry.map_err(AssetsError::file("reading", root))?;
        if entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(STAGING.as_bytes())
        {
            // A client that outlived its run may still be writing there: then a later run removes the rest.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}
