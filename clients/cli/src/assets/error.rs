//! Errors of assets, grouped by the party that can act.

use std::path::PathBuf;

use likeness_server::config::ModelFilesError;

use super::pin::Pin;

/// Why assets could not be obtained or vouched for. Messages say what was expected and what came.
#[derive(Debug, thiserror::Error)]
pub enum AssetsError {
    /// Whoever wrote the manifest has to mend it; nothing was fetched.
    #[error("the manifest, {place}: expected {expected}, found {found}")]
    Manifest {
        /// Where in the manifest.
        place: String,
        /// What belongs there.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// The manifest pins the package for other machines only: pin it for this one, or bring the files.
    #[error("{package} is not pinned for this machine: expected {machine}, the manifest has {offered}")]
    Machine {
        /// The package's name.
        package: String,
        /// What this machine is.
        machine: String,
        /// What the manifest has instead.
        offered: String,
    },
    /// The operator installs the client, or brings the files.
    #[error(
        "cannot start `{client}` to fetch {package}: {source}; \
         `make setup` installs it, or bring the file yourself with `likeness models fetch --from DIR`"
    )]
    ClientMissing {
        /// The program.
        client: String,
        /// Package name and version.
        package: String,
        /// Why it did not start.
        source: std::io::Error,
    },
    /// The client ran and failed: the network, the registry or the client's own settings.
    /// Running again continues after what was already obtained.
    #[error(
        "`{client}` did not fetch {package}: {how}; it said:\n{said}\n\
         Run again to go on from here, or bring the file yourself with `likeness models fetch --from DIR`"
    )]
    ClientFailed {
        /// The program.
        client: String,
        /// Package name and version.
        package: String,
        /// Exit status or the limit that it passed.
        how: String,
        /// The last lines of its output.
        said: String,
    },
    /// What came is not what the manifest pins. It was not kept. Either the registry or the archive was
    /// tampered with, or the manifest is to be pinned anew by someone who has looked at the new file.
    #[error("refused {what}: expected {expected}; received {received}; nothing of it was kept")]
    Mismatch {
        /// File, package and version.
        what: String,
        /// As pinned.
        expected: Pin,
        /// As it came.
        received: String,
    },
    /// An archive as pinned does not hold what the manifest names, or cannot be read.
    #[error("{archive}: {member}: expected {expected}, found {found}")]
    Archive {
        /// The archive.
        archive: PathBuf,
        /// The member of it.
        member: String,
        /// What belongs there.
        expected: String,
        /// What was there.
        found: String,
    },
    /// The directory given instead of a registry lacks something.
    #[error("{directory} has neither {archive} ({package}) nor {file}")]
    NotInDirectory {
        /// The operator's directory.
        directory: PathBuf,
        /// The archive that would have done.
        archive: String,
        /// Package name and version.
        package: String,
        /// The names of the file that would have done.
        file: String,
    },
    /// A verification ended with files missing or changed.
    #[error("{wrong} of {files} files are missing or not as pinned")]
    NotAsPinned {
        /// How many are not right.
        wrong: usize,
        /// How many were looked at.
        files: usize,
    },
    /// The environment names no assets directory.
    #[error(transparent)]
    NoDirectory(#[from] ModelFilesError),
    /// The file system said no.
    #[error("{doing} {path}: {source}")]
    File {
        /// As in "reading".
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl AssetsError {
    /// For `map_err`: an i/o error with what was being done to which file.
    pub(super) fn file(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { doing, path, source }
    }
}
