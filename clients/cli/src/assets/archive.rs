//! Taking pinned files out of an archive.
//!
//! Members are found by comparing names; a member's name is never used as a path, so an archive cannot
//! place anything anywhere. Sizes are limited by the pins.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use super::error::AssetsError;
use super::manifest::{ArchiveKind, Package, PinnedFile};
use super::place::Place;

/// How far a tar is unpacked in search of its members: far above any package we know, and an end to a bomb.
const UNPACKED_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// Takes `wanted` out of the archive at `archive` and places each.
pub(super) fn unpack(
    archive: &Path,
    package: &Package,
    wanted: &[&PinnedFile],
    place: &Place,
    placed: &mut dyn FnMut(&PinnedFile),
) -> Result<(), AssetsError> {
    let file = File::open(archive).map_err(AssetsError::file("opening", archive))?;
    let unpacking = Unpacking {
        archive,
        package,
        place,
    };
    match package.kind {
        ArchiveKind::TarGz => unpacking.tar_gz(file, wanted, placed),
        ArchiveKind::Zip => unpacking.zip(file, wanted, placed),
    }
}

struct Unpacking<'a> {
    archive: &'a Path,
    package: &'a Package,
    place: &'a Place,
}

impl Unpacking<'_> {
    fn tar_gz(
        &self,
        file: File,
        wanted: &[&PinnedFile],
        placed: &mut dyn FnMut(&PinnedFile),
    ) -> Result<(), AssetsError> {
        let unpacked = flate2::bufread::GzDecoder::new(BufReader::new(file)).take(UNPACKED_BYTES_MAX);
        let mut tar = tar::Archive::new(unpacked);
        let mut left: Vec<&PinnedFile> = wanted.to_vec();
        let damaged = |error: io::Error| self.damaged("the archive", &error);
        for entry in tar.entries().map_err(damaged)? {
            let mut entry = entry.map_err(damaged)?;
            let name = entry.path_bytes().into_owned();
            let Some(at) = left.iter().position(|file| file.member.as_bytes() == name) else {
                continue;
            };
            let file = left.swap_remove(at);
            if !entry.header().entry_type().is_file() {
                return Err(self.not_a_file(file));
            }
            self.place.put(file, &self.origin(file), &mut entry)?;
            placed(file);
            if left.is_empty() {
                return Ok(());
            }
        }
        match left.first() {
            Some(file) => Err(self.refuse(&file.member, "a member of this name", "none")),
            None => Ok(()),
        }
    }

    fn zip(
        &self,
        file: File,
        wanted: &[&PinnedFile],
        placed: &mut dyn FnMut(&PinnedFile),
    ) -> Result<(), AssetsError> {
        let mut zip = zip::ZipArchive::new(BufReader::new(file))
            .map_err(|error| self.damaged("the archive", &error))?;
        for file in wanted {
            let mut member = zip.by_name(&file.member).map_err(|error| match error {
                zip::result::ZipError::FileNotFound => {
                    self.refuse(&file.member, "a member of this name", "none")
                }
                error => self.damaged(&file.member, &error),
            })?;
            if !member.is_file() || member.is_symlink() {
                return Err(self.not_a_file(file));
            }
            self.place.put(file, &self.origin(file), &mut member)?;
            placed(file);
        }
        Ok(())
    }

    fn origin(&self, file: &PinnedFile) -> String {
        format!("{} ({} in {})", self.package, file.member, self.package.archive)
    }

    fn not_a_file(&self, file: &PinnedFile) -> AssetsError {
        self.refuse(&file.member, "a plain file", "a link or a directory")
    }

    fn damaged(&self, member: &str, error: &dyn std::error::Error) -> AssetsError {
        self.refuse(member, "a readable archive", &error.to_string())
    }

    fn refuse(&self, member: &str, expected: &str, found: &str) -> AssetsError {
        AssetsError::Archive {
            archive: self.archive.to_owned(),
            member: member.to_owned(),
            expected: expected.to_owned(),
            found: found.to_owned(),
        }
    }
}
