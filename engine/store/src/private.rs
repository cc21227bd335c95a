//! Files that are their owner's alone: data and keys are read by the user that the server runs as, and by no other.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;

/// The rights of group and others, which neither get of a file or a directory.
const WITHHELD: u32 = 0o077;

/// From now on this process makes every file and directory private, also where a library makes it.
pub(crate) fn make_files_private() {
    rustix::process::umask(Mode::from_raw_mode(WITHHELD));
}

/// Takes the rights of group and others from a directory and everything below it; symbolic links are not followed.
///
/// A file whose rights cannot be changed, as on a file system that has none, is warned of and left: the server worked
/// with it before. A root key that others can read is refused when it is read, before this is called: it may be known.
pub(crate) fn tighten(directory: &Path) {
    let mut tightened = Tightened::default();
    tighten_below(directory, &mut tightened);
    if tightened.entries > 0 {
        tracing::warn!(
            directory = %directory.display(),
            entries = tightened.entries,
            "others could read these files and directories; from now on their owner alone can"
        );
    }
    if let Some((path, error)) = tightened.failed {
        tracing::warn!(
            path = %path.display(),
            %error,
            more = tightened.failures - 1,
            "the mode of a file could not be restricted to its owner"
        );
    }
}

#[derive(Default)]
struct Tightened {
    entries: usize,
    failures: usize,
    /// The first of them.
    failed: Option<(PathBuf, io::Error)>,
}

impl Tightened {
    fn note(&mut self, path: &Path, outcome: io::Result<bool>) {
        match outcome {
            Ok(changed) => self.entries += usize::from(changed),
            // Gone meanwhile: RocksDB removes files by itself.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                self.failures += 1;
                self.failed.get_or_insert_with(|| (path.to_owned(), error));
            }
        }
    }
}

fn tighten_below(directory: &Path, tightened: &mut Tightened) {
    // ORDER: a directory before what is in it: from then on others open nothing in it.
    let outcome = fs::metadata(directory).and_then(|found| restrict(directory, &found));
    tightened.note(directory, outcome);
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => return tightened.note(directory, Err(error)),
    };
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => tighten_below(&path, tightened),
            Ok(found) if found.is_file() => tightened.note(&path, restrict(&path, &found)),
            Ok(_) => {}
            Err(error) => tightened.note(&path, Err(error)),
        }
    }
}

/// Answers whether the rights had to be changed.
fn restrict(path: &Path, found: &Metadata) -> io::Result<bool> {
    let mode = found.permissions().mode();
    if mode & WITHHELD == 0 {
        return Ok(false);
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o7777 & !WITHHELD))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("there").permissions().mode() & 0o777
    }

    #[test]
    fn everything_below_a_directory_becomes_its_owners_and_what_a_link_leads_to_stays() {
        let home = tempfile::tempdir().expect("temporary directory");
        let (data, outside) = (home.path().join("data"), home.path().join("outside"));
        fs::create_dir_all(data.join("records")).expect("made");
        let files = [
            data.join("slots"),
            data.join("records/000012.sst"),
            outside.clone(),
        ];
        for file in &files {
            fs::write(file, b"x").expect("written");
            fs::set_permissions(file, fs::Permissions::from_mode(0o664)).expect("chmod");
        }
        for directory in [&data, &data.join("records")] {
            fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).expect("chmod");
        }
        std::os::unix::fs::symlink(&outside, data.join("link")).expect("linked");
        tighten(&data);
        assert_eq!((mode(&data), mode(&data.join("records"))), (0o700, 0o700));
        assert_eq!((mode(&files[0]), mode(&files[1])), (0o600, 0o600));
        assert_eq!(mode(&outside), 0o664);
    }
}
