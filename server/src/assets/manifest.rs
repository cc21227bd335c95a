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
mod tests {
    use super::*;

    const DIGEST: &str = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";

    fn package(fields: &str, to: &str) -> String {
        format!(
            "format = 1\n[[package]]\nname = 'a'\nversion = '1'\narchive = 'a-1.tgz'\nbytes = 0\nblake3 = '{DIGEST}'\n\
             licence = 'MIT'\n{fields}\n[[package.file]]\npath = 'p'\nto = '{to}'\nbytes = 0\nblake3 = '{DIGEST}'\n"
        )
    }

    fn refusal(text: &str) -> String {
        Manifest::parse(text).expect_err("must be refused").to_string()
    }

    #[test]
    fn the_default_manifest_parses_and_serves_the_machines_it_names() {
        let manifest = Manifest::parse(super::super::DEFAULT_MANIFEST).unwrap();
        for machine in ["x86_64-linux", "aarch64-linux"] {
            let packages = manifest.packages_for(machine).unwrap();
            let places: Vec<_> = packages
                .iter()
                .flat_map(|package| &package.files)
                .map(|file| &file.to)
                .collect();
            assert_eq!(places.len(), 12, "{machine}");
            assert!(places.contains(&&PathBuf::from("runtime/libonnxruntime.so")));
        }
    }

    #[test]
    fn a_model_and_the_package_that_brings_it_are_pinned_alike() {
        let manifest = Manifest::parse(super::super::DEFAULT_MANIFEST).unwrap();
        let packages = manifest.packages_for("x86_64-linux").unwrap();
        for model in manifest.models().iter().filter(|model| !model.blake3.is_empty()) {
            let to = Path::new("models").join(&model.file);
            let file = packages
                .iter()
                .flat_map(|package| &package.files)
                .find(|file| file.to == to)
                .unwrap();
            assert_eq!(file.pin.blake3.to_hex().as_str(), model.blake3, "{}", model.role);
        }
    }

    #[test]
    fn a_machine_without_a_package_is_told_which_ones_have_it() {
        let manifest = Manifest::parse(super::super::DEFAULT_MANIFEST).unwrap();
        let error = manifest.packages_for("riscv64-linux").unwrap_err().to_string();
        assert!(
            error.contains("onnxruntime") && error.contains("riscv64-linux"),
            "{error}"
        );
        assert!(error.contains("x86_64-linux, aarch64-linux"), "{error}");
    }

    #[test]
    fn a_place_outside_the_assets_directory_is_refused() {
        for to in [
            "../escape",
            "/etc/escape",
            "models/../../escape",
            "",
            ".lock",
            "models/.hidden",
        ] {
            let error = refusal(&package("client = 'npm'", to));
            assert!(error.contains("relative `to`"), "{to}: {error}");
        }
    }

    #[test]
    fn a_name_that_a_client_could_take_for_an_option_is_refused() {
        for (good, bad) in [
            ("name = 'a'", "name = '--global'"),
            ("version = '1'", "version = '1 --x'"),
        ] {
            let text = package("client = 'npm'", "p").replace(good, bad);
            assert!(refusal(&text).contains("letters, digits"), "{bad}");
        }
        let text = package("client = 'npm'", "p").replace("a-1.tgz", "../a-1.tgz");
        assert!(refusal(&text).contains("archive"));
    }

    #[test]
    fn a_wheel_needs_its_python_and_platform() {
        assert!(
            refusal(&package("client = 'pip-wheel'\npython = '3.12'", "p")).contains("python and platform")
        );
        assert!(refusal(&package("client = 'wget'", "p")).contains("client wget"));
    }

    #[test]
    fn a_digest_that_is_none_is_refused() {
        let error = refusal(&package("client = 'npm'", "p").replace(DIGEST, "af13"));
        assert!(
            error.contains("64 hexadecimal digits") && error.contains("'af13'"),
            "{error}"
        );
    }

    #[test]
    fn two_packages_share_a_place_only_on_different_machines() {
        let second = |fields: &str| package(fields, "p").replace("format = 1", "");
        let both = |a: &str, b: &str| package(a, "p") + &second(b);
        let x86 = "client = 'npm'\nmachine = 'x86_64-linux'";
        let arm = "client = 'npm'\nmachine = 'aarch64-linux'";
        Manifest::parse(&both(x86, arm)).unwrap();
        assert!(refusal(&both(x86, x86)).contains("each `to` once"));
        assert!(refusal(&both(x86, "client = 'npm'")).contains("each `to` once"));
    }

    #[test]
    fn another_format_is_refused() {
        assert!(refusal("format = 2").contains("expected 1, found 2"));
    }
}
