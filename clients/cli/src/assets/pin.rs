//! A file's identity: its size and BLAKE3 digest.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// Size and digest of a file, as pinned or as found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    /// Size.
    pub bytes: u64,
    /// BLAKE3 of the content.
    pub blake3: blake3::Hash,
}

impl Pin {
    /// The pin of what `from` yields, while it is copied to `to`.
    pub(super) fn copy(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<Self> {
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; 128 * 1024];
        let mut bytes = 0;
        loop {
            let read = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            hasher.update(&buffer[..read]);
            to.write_all(&buffer[..read])?;
            bytes += read as u64;
        }
        Ok(Self {
            bytes,
            blake3: hasher.finalize(),
        })
    }

    /// The pin of the file at `path`; `None` where there is no file.
    pub(super) fn of_file(path: &Path) -> io::Result<Option<Self>> {
        match File::open(path) {
            Ok(mut file) => Self::copy(&mut file, &mut io::sink()).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, BLAKE3 {}", self.bytes, self.blake3.to_hex())
    }
}
