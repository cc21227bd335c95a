//! The root key: it seals the keyring and nothing else. It is read from a file or from the output of a command.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use zeroize::Zeroizing;

use super::mismatch;
use likeness_types::crypto;
use likeness_types::crypto::Secret;
use likeness_types::error::{OperatorError, Result};

const PREFIX: &str = "likeness-root-key-1:";
const FORM: &str = "the line `likeness-root-key-1:` and 64 hex digits";

/// Where the root key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RootSource {
    /// A file of mode 0600.
    File(PathBuf),
    /// A command line for the shell that prints the key: a client of a KMS or HSM, say.
    Command(String),
}

impl RootSource {
    /// Reads the key.
    ///
    /// # Errors
    /// A missing, world-readable or malformed file; a command that fails or prints something else.
    pub(crate) fn read(&self) -> Result<Secret> {
        match self {
            Self::File(path) => parse(&read_private(path)?),
            Self::Command(command) => parse(&run(command)?),
        }
    }
}

/// A new key as it is written to its file.
pub fn text(root: &Secret) -> Zeroizing<String> {
    let digits = Zeroizing::new(crypto::hex(root.expose()));
    Zeroizing::new(format!("{PREFIX}{}\n", &*digits))
}

fn parse(text: &[u8]) -> Result<Secret> {
    let wrong = || mismatch("root key", FORM, format!("{} bytes of another form", text.len()));
    let digits = std::str::from_utf8(text)
        .ok()
        .and_then(|t| t.trim_end().strip_prefix(PREFIX))
        .ok_or_else(wrong)?;
    let mut bytes = crypto::unhex::<32>(digits).ok_or_else(wrong)?;
    Ok(Secret::take(&mut bytes).locked())
}

fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let found = format!(
                "nothing at {}; make one with `likeness key init`, or restore it",
                path.display()
            );
            return Err(mismatch("root key", "a root key file", found));
        }
        Err(e) => return Err(OperatorError::file("reading the root key", path, e).into()),
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let found = format!("mode {mode:04o} on {}", path.display());
        let expected = "a file that only its owner may read (mode 0600)";
        return Err(mismatch("root key", expected, found));
    }
    let bytes = fs::read(path).map_err(|e| OperatorError::file("reading the root key", path, e))?;
    Ok(Zeroizing::new(bytes))
}

/// What the command prints; what it complains of goes to our own standard error.
fn run(command: &str) -> Result<Zeroizing<Vec<u8>>> {
    let output = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| OperatorError::file("running a shell for the root key command,", "/bin/sh", e))?;
    let printed = Zeroizing::new(output.stdout);
    if !output.status.success() {
        let found = output.status.to_string();
        return Err(mismatch("root key command", "exit status: 0", found));
    }
    Ok(printed)
}
