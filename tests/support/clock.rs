//! Another clock for a program, by libfaketime.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// The library for programs of many threads; `scripts/setup.sh` installs it.
fn libfaketime() -> PathBuf {
    let mut folders: Vec<PathBuf> = ["/usr/lib", "/usr/lib64", "/usr/local/lib"]
        .map(PathBuf::from)
        .into();
    // Debian keeps a folder for each architecture.
    let of_architectures = fs::read_dir("/usr/lib").expect("a directory");
    folders.extend(of_architectures.map(|entry| entry.unwrap().path()));
    let mut libraries = folders
        .iter()
        .map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    let library = libraries.find(|library| library.exists());
    library.expect("libfaketime is missing: run `make setup`")
}

/// Shifts the program's clock by this much, as in `+730d` or `-3600s`. Its waits are as long as ever.
pub fn shift(command: &mut Command, by: &str) {
    command.env("LD_PRELOAD", libfaketime());
    command.env("FAKETIME", by);
    command
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("DONT_FAKE_MONOTONIC", "1");
}
