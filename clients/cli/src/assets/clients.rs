//! Running the registries' ordinary clients.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::error::AssetsError;
use super::manifest::{Client, Package};

/// A client still running then is ended: it hangs, or the network is too slow for anyone.
const CLIENT_SECONDS_MAX: u64 = 30 * 60;
/// Room for what a client keeps besides the archive while it works, as pip does.
const SPARE_BYTES: u64 = 256 * 1024 * 1024;
/// How often a running client is looked at.
const GLANCE: Duration = Duration::from_millis(100);
/// How much of a failed client's output is passed on.
const SAID_LINES: usize = 15;

/// The programs that fetch, each with its leading arguments.
#[derive(Debug, Clone)]
pub struct Clients {
    /// Called with `pack ...`.
    pub npm: Vec<OsString>,
    /// Called with `download ...`.
    pub pip: Vec<OsString>,
}

impl Default for Clients {
    /// `npm`, and the pip of `python3`: a `pip` on the path may be any Python's.
    fn default() -> Self {
        let words = |words: &[&str]| words.iter().map(OsString::from).collect();
        Self {
            npm: words(&["npm"]),
            pip: words(&["python3", "-m", "pip"]),
        }
    }
}

impl Clients {
    /// Fetches the package's archive into `staging` and returns its path. What came is not yet looked at.
    pub(super) fn fetch(
        &self,
        package: &Package,
        staging: &Path,
        received: &mut dyn FnMut(u64),
    ) -> Result<PathBuf, AssetsError> {
        let fetched = emptied(staging, "fetched")?;
        let scratch = emptied(staging, "scratch")?;
        let program = match package.client {
            Client::Npm => &self.npm,
            Client::PipWheel { .. } | Client::PipSdist => &self.pip,
        };
        let said = staging.join("said");
        let run = Run {
            package,
            client: program[0].to_string_lossy().into_owned(),
            said: &said,
            staging,
        };
        let output = File::create(&said).map_err(AssetsError::file("making", &said))?;
        let second = output.try_clone().map_err(AssetsError::file("opening", &said))?;
        let child = Command::new(&program[0])
            .args(&program[1..])
            .args(arguments(package, &fetched))
            .current_dir(&fetched)
            // Here pip's half-fetched files are seen growing, and go with the staging directory.
            .env("TMPDIR", &scratch)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(second)
            .spawn()
            .map_err(|source| AssetsError::ClientMissing {
                client: run.client.clone(),
                package: package.to_string(),
                source,
            })?;
        let status = run.wait(child, received)?;
        let archive = fetched.join(&package.archive);
        if !status.success() {
            Err(run.failed(format!("it ended with {status}")))
        } else if !archive.is_file() {
            Err(run.failed(format!(
                "expected {}, it left {}",
                package.archive,
                names(&fetched)
            )))
        } else {
            Ok(archive)
        }
    }
}

/// What the client is told. Registries and proxies are left to the client's own settings.
fn arguments(package: &Package, fetched: &Path) -> Vec<OsString> {
    let mut words: Vec<OsString> = Vec::new();
    let mut say = |text: &[&str]| words.extend(text.iter().map(OsString::from));
    match &package.client {
        Client::Npm => say(&["pack", "--ignore-scripts", "--loglevel=error"]),
        Client::PipWheel { python, platform } => {
            say(&[
                "download",
                "--no-deps",
                "--no-input",
                "--disable-pip-version-check",
                "--progress-bar=off",
            ]);
            say(&[
                "--only-binary=:all:",
                "--implementation=cp",
                "--python-version",
                python,
                "--platform",
                platform,
            ]);
        }
        Client::PipSdist => {
            say(&[
                "download",
                "--no-deps",
                "--no-input",
                "--disable-pip-version-check",
                "--progress-bar=off",
            ]);
            // pip asks a source distribution for its metadata even to download it. In an isolated build it
            // obtains the setuptools for that as a wheel, so this machine needs none; hence also not
            // `--no-binary=:all:`, which would ask for setuptools in source.
            say(&["--use-pep517", "--no-binary", &package.name]);
        }
    }
    match &package.client {
        Client::Npm => words.push(format!("{}@{}", package.name, package.version).into()),
        Client::PipWheel { .. } | Client::PipSdist => {
            words.push("--dest".into());
            words.push(fetched.into());
            words.push(format!("{}=={}", package.name, package.version).into());
        }
    }
    words
}

/// One run of a client.
struct Run<'a> {
    package: &'a Package,
    client: String,
    said: &'a Path,
    staging: &'a Path,
}

impl Run<'_> {
    /// Waits for the end, telling how much has come, and ends what passes a limit.
    fn wait(&self, mut child: Child, received: &mut dyn FnMut(u64)) -> Result<ExitStatus, AssetsError> {
        let begun = Instant::now();
        let bytes_max = self
            .package
            .pin
            .bytes
            .saturating_mul(4)
            .saturating_add(SPARE_BYTES);
        loop {
            let status = child
                .try_wait()
                .map_err(AssetsError::file("waiting for", &self.client))?;
            if let Some(status) = status {
                return Ok(status);
            }
            let bytes = size_of(self.staging);
            received(bytes);
            let over = if bytes > bytes_max {
                format!(
                    "it had fetched {bytes} bytes where {} were expected",
                    self.package.pin.bytes
                )
            } else if begun.elapsed().as_secs() > CLIENT_SECONDS_MAX {
                format!("it was not done after {CLIENT_SECONDS_MAX} seconds")
            } else {
                std::thread::sleep(GLANCE);
                continue;
            };
            // Whatever becomes of it, the package is refused.
            let _ = child.kill();
            let _ = child.wait();
            return Err(self.failed(over));
        }
    }

    fn failed(&self, how: String) -> AssetsError {
        let said = fs::read(self.said).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = &lines[lines.len().saturating_sub(SAID_LINES)..];
        AssetsError::ClientFailed {
            client: self.client.clone(),
            package: self.package.to_string(),
            how,
            said: if last.is_empty() {
                "(nothing)".to_owned()
            } else {
                last.join("\n")
            },
        }
    }
}

/// A new, empty directory of this name, whatever an earlier client left there.
fn emptied(staging: &Path, name: &str) -> Result<PathBuf, AssetsError> {
    let path = staging.join(name);
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(AssetsError::file("emptying", &path)(error));
        }
        _ => {}
    }
    fs::create_dir(&path).map_err(AssetsError::file("making", &path))?;
    Ok(path)
}

/// The names in a directory, for a message.
fn names(directory: &Path) -> String {
    let names: Vec<String> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    if names.is_empty() {
        "nothing".to_owned()
    } else {
        names.join(", ")
    }
}

/// The bytes under a directory. A glance at something that changes, so what is gone by then counts as nothing.
fn size_of(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size_of(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
