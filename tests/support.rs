//! What the tests share.

pub mod child;
pub mod client;
pub mod clock;
pub mod pictures;
pub mod raw;
pub mod refusal;
pub mod scan;
pub mod server;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use client::Client;
pub use refusal::Refused;
pub use server::Server;

/// No wait of a test is longer. Generous, for machines that are busy with something else.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A file that `make assets` has obtained.
pub fn asset(name: &str) -> PathBuf {
    let assets = likeness_server::config::assets_dir().expect("a home directory");
    let path = assets.join(name);
    assert!(path.exists(), "{} is missing: run `make assets`", path.display());
    path
}

/// The checkout.
pub fn checkout() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).expect("it is in clients/").to_owned()
}

/// A directory that goes with its handle.
pub fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}
