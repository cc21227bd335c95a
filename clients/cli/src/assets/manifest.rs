//! The manifest's `[[package]]` tables: what is fetched, and what it must be.
//!
//! Everything is checked here, once: a [`Package`] that exists has names that are safe to hand to a
//! client and paths that stay inside the assets directory.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::error::AssetsError;
use super::pin::Pin;

/// The manifest's format that this file reads.
const FORMAT: u32 = 1;

/// What is fetched, from where, and what it must be.
#[derive(Debug)]
pub struct Manifest {
    packages: Vec<Package>,
    models: Vec<Model>,
}

/// One archive of a registry and the files wanted from it.
#[derive(Debug)]
pub struct Package {
    /// Its name in the registry.
    pub name: String,
    /// The one version taken.
    pub version: String,
    /// Who fetches it.
    pub client: Client,
    /// Architecture and system it is for, as in "x86_64-linux"; `None` where it serves all.
    pub machine: Option<String>,
    /// The archive's file name.
    pub archive: String,
    /// How the archive is read.
    pub kind: ArchiveKind,
    /// The archive's size and digest.
    pub pin: Pin,
    /// Under which terms it comes.
    pub licence: String,
    /// What is taken out of it.
    pub files: Vec<PinnedFile>,
}

/// A registry's ordinary client, with what it has to be told.
#[derive(Debug)]
pub enum Client {
    /// `npm pack`
    Npm,
    /// `pip download` of a wheel for a stated Python and platform, whatever this machine's are.
    PipWheel {
        /// As in "3.12".
        python: String,
        /// As in "manylinux_2_28_x86_64".
        platform: String,
    },
    /// `pip download` of a source distribution.
    PipSdist,
}

/// The two forms in which the registries pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveKind {
    /// `.tgz`, `.tar.gz`
    TarGz,
    /// `.whl`, `.zip`
    Zip,
}

/// One file of an archive and where it goes.
#[derive(Debug)]
pub struct PinnedFile {
    /// Its name inside the archive; only ever compared, never used as a path.
    pub member: String,
    /// Where it goes, under the assets directory.
    pub to: PathBuf,
    /// Its size and digest.
    pub pin: Pin,
}

/// A model's file as the `[[model]]` tables name it; the engine reads the rest of those tables.
#[derive(Debug)]
pub struct Model {
    /// As in "detector".
    pub role: String,
    /// Its file name in the directory of models.
    pub file: String,
    /// BLAKE3 of the file.
    pub blake3: String,
    /// Under which terms it comes.
    pub licence: String,
}

#[derive(Deserialize)]
struct RawManifest {
    format: u32,
    #[serde(default)]
    package: Vec<RawPackage>,
    #[serde(default)]
    model: Vec<RawModel>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPackage {
    client: String,
    name: String,
    version: String,
    machine: Option<String>,
    python: Option<String>,
    platform: Option<String>,
    archive: String,
    bytes: u64,
    blake3: String,
    licence: String,
    file: Vec<RawFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    path: String,
    to: PathBuf,
    bytes: u64,
    blake3: String,
}

#[derive(Deserialize)]
struct RawModel {
    role: String,
    file: String,
    blake3: String,
    #[serde(default)]
    licence: String,
}

impl Manifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// [`AssetsError::Manifest`] names the place, what belongs there and what stands there.
    pub fn parse(text: &str) -> Result<Self, AssetsError> {
        let raw: RawManifest = toml::from_str(text)
            .map_err(|error| invalid("as a whole", "TOML of the manifest's form", error.to_string()))?;
        if raw.format != FORMAT {
            return Err(invalid("format", FORMAT.to_string(), raw.format.to_string()));
        }
        let packages = raw
            .package
            .into_iter()
            .map(RawPackage::check)
            .collect::<Result<Vec<_>, _>>()?;
        no_two_to_one_place(&packages)?;
        let models = raw
            .model
            .into_iter()
            .map(RawModel::check)
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self { packages, models })
    }

    /// The packages that `machine` needs, in the manifest's order.
    ///
    /// # Errors
    /// [`AssetsError::Machine`] when a package is pinned for other machines only.
    pub fn packages_for(&self, machine: &str) -> Result<Vec<&Package>, AssetsError> {
        let serves = |package: &&Package| package.machine.as_deref().is_none_or(|served| served == machine);
        let chosen: Vec<&Package> = self.packages.iter().filter(serves).collect();
        let missing = self
            .packages
            .iter()
            .find(|package| !chosen.iter().any(|other| other.name == package.name));
        match missing {
            None => Ok(chosen),
            Some(missing) => {
                let offered = self
                    .packages
                    .iter()
                    .filter(|package| package.name == missing.name);
                Err(AssetsError::Machine {
                    package: missing.name.clone(),
                    machine: machine.to_owned(),
                    offered: offered
                        .filter_map(|package| package.machine.clone())
                        .collect::<Vec<_>>()
                        .join(", "),
                })
            }
        }
    }

    /// The models' files, for a directory of an operator's own models.
    pub fn models(&self) -> &[Model] {
        &self.models
    }
}

impl RawPackage {
    fn check(self) -> Result<Package, AssetsError> {
        let place = format!("package {}", self.name);
        let name = token(&place, "name", self.name, "@/._-")?;
        let version = token(&place, "version", self.version, "._+!-")?;
        let archive = token(&place, "archive", self.archive, "._+-")?;
        let kind = ArchiveKind::of(&archive).ok_or_else(|| {
            invalid(
                &place,
                "an archive named .tgz, .tar.gz, .whl or .zip",
                archive.clone(),
            )
        })?;
        let client = match (self.client.as_str(), self.python, self.platform) {
            ("npm", None, None) => Client::Npm,
            ("pip-sdist", None, None) => Client::PipSdist,
            ("pip-wheel", Some(python), Some(platform)) => Client::PipWheel {
                python: token(&place, "python", python, ".")?,
                platform: token(&place, "platform", platform, "._")?,
            },
            (client, ..) => {
                let expected = "client npm or pip-sdist, or pip-wheel with python and platform";
                return Err(invalid(
                    &place,
                    expected,
                    format!("client {client} with other fields"),
                ));
            }
        };
        let files = self
            .file
            .into_iter()
            .map(|file| file.check(&place))
            .collect::<Result<_, _>>()?;
        Ok(Package {
            name,
            version,
            client,
            machine: self.machine,
            archive,
            kind,
            pin: pin(&place, self.bytes, &self.blake3)?,
            licence: self.licence,
            files,
        })
    }
}

impl RawFile {
    fn check(self, package: &str) -> Result<PinnedFile, AssetsError> {
        let place = format!("{package}, file {}", self.path);
        let plain = |part: Component<'_>| matches!(part, Component::Normal(name) if !name.as_encoded_bytes().starts_with(b"."));
        // Names with a leading dot are the fetcher's own, as its lock.
        if self.to.as_os_str().is_empty() || !self.to.components().all(plain) {
            let expected = "a relative `to` without `..` and without names that start with a dot";
            return Err(invalid(&place, expected, self.to.display().to_string()));
        }
        Ok(PinnedFile {
            pin: pin(&place, self.bytes, &self.blake3)?,
            member: self.path,
            to: self.to,
        })
    }
}

impl RawModel {
    fn check(self) -> Result<Model, AssetsError> {
        let mut parts = Path::new(&self.file).components();
        if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
            return Err(invalid(
                &format!("model {}", self.role),
                "a plain file name",
                self.file,
            ));
        }
        Ok(Model {
            role: self.role,
            file: self.file,
            blake3: self.blake3,
            licence: self.licence,
        })
    }
}

impl ArchiveKind {
    fn of(archive: &str) -> Option<Self> {
        let ends = |endings: &[&str]| endings.iter().any(|ending| archive.ends_with(ending));
        if ends(&[".tgz", ".tar.gz"]) {
            Some(Self::TarGz)
        } else if ends(&[".whl", ".zip"]) {
            Some(Self::Zip)
        } else {
            None
        }
    }
}

impl Client {
    /// The registry's program, as a person would call it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Npm => "npm",
            Self::PipWheel { .. } | Self::PipSdist => "pip",
        }
    }
}

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

fn invalid(place: &str, expected: impl Into<String>, found: impl Into<String>) -> AssetsError {
    AssetsError::Manifest {
        place: place.to_owned(),
        expected: expected.into(),
        found: found.into(),
    }
}

fn pin(place: &str, bytes: u64, blake3: &str) -> Result<Pin, AssetsError> {
    let blake3 = blake3::Hash::from_hex(blake3).map_err(|_| {
        invalid(
            place,
            "a BLAKE3 digest of 64 hexadecimal digits",
            format!("'{blake3}'"),
        )
    })?;
    Ok(Pin { bytes, blake3 })
}

/// A word that a client cannot take for an option or a path out of its directory.
fn token(place: &str, field: &str, text: String, also: &str) -> Result<String, AssetsError> {
    let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric() || (c == '@' && also.contains('@')));
    let holds = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || also.contains(c));
    if starts && holds && !text.contains("..") {
        Ok(text)
    } else {
        let expected =
            format!("{field} of letters, digits and any of {also}, starting with a letter or digit");
        Err(invalid(place, expected, format!("'{text}'")))
    }
}

/// Two packages may name one place only when no machine takes both.
fn no_two_to_one_place(packages: &[Package]) -> Result<(), AssetsError> {
    let places = |package: &Package| {
        package
            .files
            .iter()
            .map(|file| file.to.clone())
            .collect::<Vec<_>>()
    };
    let apart = |a: &Package, b: &Package| matches!((&a.machine, &b.machine), (Some(a), Some(b)) if a != b);
    for (at, package) in packages.iter().enumerate() {
        let mut taken: Vec<PathBuf> = packages[..at]
            .iter()
            .filter(|other| !apart(package, other))
            .flat_map(places)
            .collect();
        for place in places(package) {
            if taken.contains(&place) {
                let found = format!("a second {}", place.display());
                return Err(invalid(
                    &format!("package {}", package.name),
                    "each `to` once",
                    found,
                ));
            }
            taken.push(place);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
