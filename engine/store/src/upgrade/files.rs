//! Replaces one file by its new version, and destroys the old one.
//!
//! ```text
//! 1  NAME            NAME.upgraded   the new one is written and synced
//! 2  NAME.replaced   NAME.upgraded   renamed
//! 3  NAME.replaced   NAME            renamed; NAME.replaced is overwritten with zeros, synced
//! 4                  NAME            after FORMAT counts the part: NAME.replaced is removed
//! ```
//!
//! The directory is synced after each. `NAME.replaced` says that the new version is whole: it stays until the part counts
//! as done, so that a restart does not rewrite what was rewritten.

use std::fs;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::keys::KeyRing;
use crate::layout;
use likeness_types::error::{OperatorError, Result};

/// A new version of a file by the old one. Files are read as a whole.
pub type RewriteFile = fn(&KeyRing, &[u8]) -> Result<Vec<u8>>;

/// The directory that a file lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileOf {
    /// The data directory.
    Data,
    /// The key store.
    KeyStore,
}

/// No `.new`: an opened key store destroys files that end so.
const UPGRADED: &str = "upgraded";
const REPLACED: &str = "replaced";
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

pub(super) fn replace(
    directory: &Path,
    name: &str,
    rewrite: &dyn Fn(&[u8]) -> Result<Vec<u8>>,
    say: &dyn Fn(&'static str, u64, u64),
) -> Result<()> {
    assert_ne!(name, layout::SLOTS_FILE, "slots are rewritten in place");
    let [path, upgraded, replaced] = paths(directory, name);
    if !replaced.exists() {
        let old = match fs::read(&path) {
            Ok(old) => old,
            // A directory that was never used.
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(OperatorError::file("reading", path, e).into()),
        };
        // What an earlier attempt left may be longer than the new version.
        say("destroying an unfinished file", 0, 0);
        destroy(&upgraded)?;
        let new = rewrite(&old)?;
        say("writing a new version of a file", 0, 0);
        write(&upgraded, &new)?;
        layout::sync_directory(directory)?;
        say("renaming the old version of a file", 0, 0);
        rename(&path, &replaced)?;
        layout::sync_directory(directory)?;
    }
    if !path.exists() {
        say("naming the new version of a file", 0, 0);
        rename(&upgraded, &path)?;
        layout::sync_directory(directory)?;
    }
    say("overwriting the old version of a file", 0, 0);
    overwrite(&replaced)
}

/// Once the part counts as done.
pub(super) fn remove_replaced(
    directory: &Path,
    name: &str,
    say: &dyn Fn(&'static str, u64, u64),
) -> Result<()> {
    let [_, _, replaced] = paths(directory, name);
    if !replaced.exists() {
        return Ok(());
    }
    say("removing the old version of a file", 0, 0);
    destroy(&replaced)?;
    layout::sync_directory(directory)
}

fn paths(directory: &Path, name: &str) -> [std::path::PathBuf; 3] {
    [
        directory.join(name),
        directory.join(format!("{name}.{UPGRADED}")),
        directory.join(format!("{name}.{REPLACED}")),
    ]
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|e| OperatorError::file("writing", path, e).into())
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|e| OperatorError::file("renaming", from, e).into())
}

/// ORDER: overwritten before the name goes: without a name the bytes cannot be overwritten.
fn destroy(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    overwrite(path)?;
    fs::remove_file(path).map_err(|e| OperatorError::file("removing", path, e).into())
}

fn overwrite(path: &Path) -> Result<()> {
    let overwrite = || -> std::io::Result<()> {
        let mut file: File = OpenOptions::new().write(true).open(path)?;
        let mut left = file.metadata()?.len();
        while left > 0 {
            let some = left.min(ZEROS.len() as u64);
            file.write_all(&ZEROS[..usize::try_from(some).map_err(std::io::Error::other)?])?;
            left -= some;
        }
        file.sync_all()
    };
    overwrite().map_err(|e| OperatorError::file("overwriting", path, e).into())
}
