//! Models, inference runtime and sample photographs: obtained as pinned, or refused.
//!
//! [`fetch`] brings the assets directory to what the [`Manifest`] says, through the registries' ordinary
//! clients or out of a directory that the operator filled. It can be stopped at any time and run again;
//! with everything there it reads the files, touches nothing and asks no network. [`verify`] only looks.
//!
//! ```text
//! <assets>/models/fr_detect.onnx ...      <assets>/runtime/libonnxruntime.so
//! <assets>/photographs/obama.jpg ...
//! ```

mod archive;
mod clients;
mod error;
mod manifest;
mod pin;
mod place;
mod progress;

use std::env;
use std::fs::File;
use std::path::{Path, PathBuf};

pub use clients::Clients;
pub use error::AssetsError;
pub use manifest::{Manifest, Model, Package, PinnedFile};
pub use pin::Pin;
pub use progress::{Event, Progress};

use place::{Place, check_archive};

/// The manifest of this build of Likeness.
pub const DEFAULT_MANIFEST: &str = include_str!("../../../engine/faces/models.toml");

/// The source of archives.
#[derive(Debug, Clone)]
pub enum Source {
    /// The registries, through their clients.
    Registries(Clients),
    /// A directory with the archives, or with the files themselves; no program is run.
    Directory(PathBuf),
}

/// A file of the manifest, and what is there.
#[derive(Debug)]
pub struct Found<'a> {
    /// The package that has it.
    pub package: &'a Package,
    /// What it must be.
    pub file: &'a PinnedFile,
    /// What is there, if anything.
    pub found: Option<Pin>,
}

impl Found<'_> {
    /// Whether what is there is what must be.
    pub fn as_pinned(&self) -> bool {
        self.found == Some(self.file.pin)
    }
}

/// What a fetch did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Files that the manifest names for this machine; all are there now.
    pub files: usize,
    /// How many of them were not there before.
    pub placed: usize,
}

/// This machine's architecture and system, as the manifest writes them.
pub fn machine() -> String {
    format!("{}-{}", env::consts::ARCH, env::consts::OS)
}

/// Looks at every file that the manifest names for `machine` under `root`.
///
/// # Errors
/// When a file cannot be read, or a package is not pinned for the machine; a missing or changed file is no error.
pub fn verify<'a>(manifest: &'a Manifest, machine: &str, root: &Path) -> Result<Vec<Found<'a>>, AssetsError> {
    let mut files = Vec::new();
    for package in manifest.packages_for(machine)? {
        for file in &package.files {
            let path = root.join(&file.to);
            let found = Pin::of_file(&path).map_err(AssetsError::file("reading", &path))?;
            files.push(Found { package, file, found });
        }
    }
    Ok(files)
}

/// The manifest's models, each with the digest of its file in `directory`, if it is there: for a directory of an
/// operator's own models, which no package supplies.
///
/// # Errors
/// When a file cannot be read; a missing or changed file is no error.
pub fn verify_models<'a>(
    manifest: &'a Manifest,
    directory: &Path,
) -> Result<Vec<(&'a Model, Option<blake3::Hash>)>, AssetsError> {
    let look = |model: &'a Model| {
        let path = directory.join(&model.file);
        let found = Pin::of_file(&path).map_err(AssetsError::file("reading", &path))?;
        Ok((model, found.map(|pin| pin.blake3)))
    };
    manifest.models().iter().map(look).collect()
}

/// Brings `root` to what the manifest says for this machine.
///
/// # Errors
/// A file that is not as pinned is refused and not kept; files placed before stay, and the next run continues there.
pub fn fetch(
    manifest: &Manifest,
    source: &Source,
    root: &Path,
    progress: &mut dyn FnMut(Event<'_>),
) -> Result<Report, AssetsError> {
    let machine = machine();
    let files = verify(manifest, &machine, root)?;
    if files.iter().all(Found::as_pinned) {
        // Nothing was touched: the directory may well be read-only.
        return Ok(Report {
            files: files.len(),
            placed: 0,
        });
    }
    let place = Place::hold(root, || progress(Event::Waiting))?;
    // ORDER: look again under the lock, so that what another run has just placed is not fetched again.
    let files = verify(manifest, &machine, root)?;
    let mut placed = 0;
    for package in manifest.packages_for(&machine)? {
        let lacking = files
            .iter()
            .filter(|found| std::ptr::eq(found.package, package) && !found.as_pinned());
        let lacking: Vec<&PinnedFile> = lacking.map(|found| found.file).collect();
        if !lacking.is_empty() {
            supply(package, &lacking, source, &place, progress)?;
            placed += lacking.len();
        }
    }
    progress(Event::Done);
    Ok(Report {
        files: files.len(),
        placed,
    })
}

/// Places the `lacking` files of one package.
fn supply(
    package: &Package,
    lacking: &[&PinnedFile],
    source: &Source,
    place: &Place,
    progress: &mut dyn FnMut(Event<'_>),
) -> Result<(), AssetsError> {
    let clients = match source {
        Source::Directory(directory) => return from_directory(package, lacking, directory, place, progress),
        Source::Registries(clients) => clients,
    };
    let archive = match place.archive(package)? {
        Some(archive) => archive,
        None => {
            progress(Event::Fetching { package });
            let archive = clients.fetch(package, place.staging(), &mut |bytes| {
                progress(Event::Received { bytes })
            })?;
            place.keep_archive(package, &archive)?
        }
    };
    archive::unpack(&archive, package, lacking, place, &mut |file| {
        progress(Event::Placed { file })
    })?;
    place.drop_archive(&archive)
}

/// Places files out of the operator's directory: from the archive if it is there, else each file by its name.
fn from_directory(
    package: &Package,
    lacking: &[&PinnedFile],
    directory: &Path,
    place: &Place,
    progress: &mut dyn FnMut(Event<'_>),
) -> Result<(), AssetsError> {
    let archive = directory.join(&package.archive);
    if archive.is_file() {
        check_archive(package, &archive)?;
        return archive::unpack(&archive, package, lacking, place, &mut |file| {
            progress(Event::Placed { file })
        });
    }
    for file in lacking {
        let inner = file.member.rsplit('/').next().unwrap_or(&file.member);
        let name = file.to.file_name().expect("checked with the manifest");
        let candidates = [
            directory.join(&file.to),
            directory.join(name),
            directory.join(inner),
        ];
        let found =
            candidates
                .iter()
                .find(|path| path.is_file())
                .ok_or_else(|| AssetsError::NotInDirectory {
                    directory: directory.to_owned(),
                    archive: package.archive.clone(),
                    package: package.to_string(),
                    file: format!("{}, {} or {inner}", file.to.display(), name.display()),
                })?;
        let mut from = File::open(found).map_err(AssetsError::file("opening", found))?;
        place.put(file, &found.display().to_string(), &mut from)?;
        progress(Event::Placed { file });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
