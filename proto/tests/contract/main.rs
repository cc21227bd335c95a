//! The contract changes compatibly, and its page in the documentation is the one that its comments make.
//!
//! With `LIKENESS_WRITE` in the environment (`make api`) both files are written anew; an incompatible change is
//! refused then too.

mod listing;
mod page;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{env, fs};

use likeness_proto::{Message as _, v1};
use prost_types::{FileDescriptorProto, FileDescriptorSet};

const PACKAGE: &str = "likeness.v1";
/// The contract with comments about all of it.
const ROOT: &str = "likeness/v1/likeness.proto";

/// The files of the contract: the one with comments about all of it, then those it imports, in its order.
fn files() -> Vec<FileDescriptorProto> {
    let set = FileDescriptorSet::decode(v1::DESCRIPTORS).expect("descriptors");
    let find = |name: &str| set.file.iter().find(|file| file.name() == name).cloned();
    let root = find(ROOT).expect("the contract");
    let imported: Vec<_> = root.dependency.iter().filter_map(|name| find(name)).collect();
    let imported = imported.into_iter().filter(|file| file.package() == PACKAGE);
    std::iter::once(root.clone()).chain(imported).collect()
}

fn checkout() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().expect("a package of a workspace").to_owned()
}

fn writes() -> bool {
    env::var_os("LIKENESS_WRITE").is_some()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn no_field_value_or_call_of_the_contract_is_removed_or_changed() {
    let path = checkout().join("proto/contract.txt");
    let present = listing::lines(&files());
    let recorded: BTreeSet<String> = read(&path).lines().map(str::to_owned).collect();
    let broken: Vec<_> = recorded.difference(&present).collect();
    assert!(
        broken.is_empty(),
        "clients of an earlier version break: the contract lacks {broken:#?}"
    );
    if writes() {
        let text: String = present.iter().map(|line| format!("{line}\n")).collect();
        fs::write(&path, text).expect("written");
    } else {
        let added: Vec<_> = present.difference(&recorded).collect();
        assert!(
            added.is_empty(),
            "proto/contract.txt lacks {added:#?}: run `make api`"
        );
    }
}

#[test]
fn the_page_of_the_api_is_made_of_the_comments_of_the_contract() {
    let path = checkout().join("docs/api.md");
    let before = read(&path);
    let after = page::page(&before, &files());
    if writes() {
        fs::write(&path, after).expect("written");
    } else {
        assert!(
            before == after,
            "docs/api.md differs from the protocol: run `make api`"
        );
    }
}
