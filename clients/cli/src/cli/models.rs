//! `likeness models`: obtaining, checking and listing what the engine loads.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use likeness_server::config::assets_dir;
use serde_json::json;

use crate::assets::{self, AssetsError, Clients, Found, Manifest, Progress, Source};

/// Obtain, check and list models, runtime and sample photographs
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  likeness models fetch\n  likeness models verify\n  likeness models list"
)]
pub struct ModelsCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fetch missing files through npm and pip; refuse files that are not as pinned
    #[command(after_help = FETCH_EXAMPLES)]
    Fetch {
        /// Destination [default: the assets directory]
        #[arg(long, value_name = "DIR", env = "LIKENESS_ASSETS")]
        to: Option<PathBuf>,
        /// Take the archives, or the files themselves, from this directory; no program is run
        #[arg(long, value_name = "DIR")]
        from: Option<PathBuf>,
    },
    /// Check that every file is there and as pinned
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify {
        /// Check the models of this directory instead, against its models.toml or, without one, the built-in manifest
        #[arg(long, value_name = "DIR")]
        models: Option<PathBuf>,
        /// The assets directory [default: in the user's cache]
        #[arg(long, value_name = "DIR", env = "LIKENESS_ASSETS", conflicts_with = "models")]
        assets: Option<PathBuf>,
    },
    /// List packages, files and licences
    #[command(after_help = "Example:\n  likeness models list --json")]
    List {
        /// The assets directory [default: in the user's cache]
        #[arg(long, value_name = "DIR", env = "LIKENESS_ASSETS")]
        assets: Option<PathBuf>,
    },
}

const FETCH_EXAMPLES: &str = "\
Examples:
  likeness models fetch
  likeness models fetch --to /opt/likeness
  likeness models fetch --from /media/usb --to /opt/likeness   # no network

An interrupted fetch continues; a finished one does nothing.";

const VERIFY_EXAMPLES: &str = "\
Examples:
  likeness models verify
  likeness models verify --models /opt/our-models --json

`likeness models fetch` restores missing and changed files.";

impl ModelsCommand {
    /// Carries the command out and prints its result.
    ///
    /// # Errors
    /// As of [`assets::fetch`] and [`assets::verify`]; a failed verification is an error after its report.
    pub fn run(self, json: bool) -> Result<(), AssetsError> {
        let shipped = Manifest::parse(assets::DEFAULT_MANIFEST)?;
        match self.command {
            Command::Fetch { to, from } => fetch(&shipped, to, from, json),
            Command::Verify {
                models: Some(models), ..
            } => verify_models(&shipped, &models, json),
            Command::Verify { assets, .. } => verify_assets(&shipped, assets, json),
            Command::List { assets } => list(&shipped, assets, json),
        }
    }
}

fn directory(given: Option<PathBuf>) -> Result<PathBuf, AssetsError> {
    Ok(given.map_or_else(assets_dir, Ok)?)
}

fn fetch(
    manifest: &Manifest,
    to: Option<PathBuf>,
    from: Option<PathBuf>,
    as_json: bool,
) -> Result<(), AssetsError> {
    let to = directory(to)?;
    let source = match from {
        Some(from) => Source::Directory(from),
        None => Source::Registries(Clients::default()),
    };
    let mut progress = Progress::on_stderr();
    let report = assets::fetch(manifest, &source, &to, &mut |event| progress.show(&event))?;
    let text = match report.placed {
        0 => format!(
            "{}: all {} files are there and as pinned",
            to.display(),
            report.files
        ),
        placed => format!(
            "{}: {placed} files fetched; all {} are as pinned",
            to.display(),
            report.files
        ),
    };
    let json = json!({ "directory": to, "files": report.files, "placed": report.placed });
    print(as_json, &text, &json)
}

/// One checked file, for both kinds of verification.
struct Checked {
    file: PathBuf,
    source: String,
    expected: String,
    found: Option<String>,
}

impl Checked {
    fn state(&self) -> &'static str {
        match &self.found {
            Some(found) if *found == self.expected => "ok",
            Some(_) => "changed",
            None => "missing",
        }
    }
}

fn verify_assets(manifest: &Manifest, assets: Option<PathBuf>, as_json: bool) -> Result<(), AssetsError> {
    let root = directory(assets)?;
    let found = assets::verify(manifest, &assets::machine(), &root)?;
    let checked = found.iter().map(|Found { package, file, found }| Checked {
        file: root.join(&file.to),
        source: package.to_string(),
        expected: file.pin.to_string(),
        found: found.map(|pin| pin.to_string()),
    });
    report(&checked.collect::<Vec<_>>(), as_json)
}

fn verify_models(shipped: &Manifest, directory: &Path, as_json: bool) -> Result<(), AssetsError> {
    let own = directory.join("models.toml");
    let parsed;
    let manifest = match fs::read_to_string(&own) {
        Ok(text) => {
            parsed = Manifest::parse(&text)?;
            &parsed
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => shipped,
        Err(source) => {
            return Err(AssetsError::File {
                doing: "reading",
                path: own,
                source,
            });
        }
    };
    let mut checked = Vec::new();
    for (model, found) in assets::verify_models(manifest, directory)? {
        checked.push(Checked {
            file: directory.join(&model.file),
            source: model.role.clone(),
            expected: format!("BLAKE3 {}", model.blake3),
            found: found.map(|found| format!("BLAKE3 {found}")),
        });
    }
    report(&checked, as_json)
}

/// Prints each file's state; anything not right is an error.
fn report(checked: &[Checked], as_json: bool) -> Result<(), AssetsError> {
    let mut text = String::new();
    for file in checked {
        let _ = write!(
            text,
            "{:8} {} ({})",
            file.state(),
            file.file.display(),
            file.source
        );
        if let (false, Some(found)) = (file.state() == "ok", &file.found) {
            let _ = write!(
                text,
                "\n         expected {}\n         found    {found}",
                file.expected
            );
        }
        text.push('\n');
    }
    let wrong = checked.iter().filter(|file| file.state() != "ok").count();
    let files = checked.iter().map(|file| {
        json!({ "file": file.file, "source": file.source, "state": file.state(), "expected": file.expected, "found": file.found })
    });
    let json = json!({ "files": files.collect::<Vec<_>>(), "wrong": wrong });
    print(as_json, text.trim_end(), &json)?;
    match wrong {
        0 => Ok(()),
        wrong => Err(AssetsError::NotAsPinned {
            wrong,
            files: checked.len(),
        }),
    }
}

fn list(manifest: &Manifest, assets: Option<PathBuf>, as_json: bool) -> Result<(), AssetsError> {
    let root = directory(assets)?;
    let found = assets::verify(manifest, &assets::machine(), &root)?;
    let mut text = String::new();
    let mut packages = Vec::new();
    for package in manifest.packages_for(&assets::machine())? {
        let _ = writeln!(text, "{package} ({}): {}", package.client.name(), package.licence);
        let mut files = Vec::new();
        for file in found.iter().filter(|file| std::ptr::eq(file.package, package)) {
            let state = if file.as_pinned() { "there" } else { "not there" };
            let _ = writeln!(
                text,
                "  {} ({} bytes), {state}",
                file.file.to.display(),
                file.file.pin.bytes
            );
            files.push(json!({
                "to": file.file.to, "bytes": file.file.pin.bytes,
                "blake3": file.file.pin.blake3.to_hex().as_str(), "there": file.as_pinned(),
            }));
        }
        packages.push(json!({
            "name": package.name, "version": package.version, "client": package.client.name(),
            "licence": package.licence, "files": files,
        }));
    }
    let models = manifest.models().iter().map(|model| {
        let _ = writeln!(text, "{}: {}; {}", model.role, model.file, model.licence);
        json!({ "role": model.role, "file": model.file, "licence": model.licence })
    });
    let json = json!({ "models": models.collect::<Vec<_>>(), "directory": root, "packages": packages });
    print(as_json, text.trim_end(), &json)
}

/// Results go to standard output, as text or as one line of JSON.
fn print(as_json: bool, text: &str, json: &serde_json::Value) -> Result<(), AssetsError> {
    let mut out = std::io::stdout().lock();
    let written = if as_json {
        writeln!(out, "{json}")
    } else {
        writeln!(out, "{text}")
    };
    match written {
        // The reader closed the pipe, as `head` does.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|source| AssetsError::File {
            doing: "writing to",
            path: "standard output".into(),
            source,
        }),
    }
}
