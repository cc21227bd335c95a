//! Files of data and keys are their owner's alone, with any mode before the start and under any umask.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::child::{Child, Home};

/// A directory and everything below it.
fn below(directory: &Path, found: &mut Vec<PathBuf>) {
    found.push(directory.to_owned());
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.unwrap().path();
        if path.is_dir() {
            below(&path, found);
        } else {
            found.push(path);
        }
    }
}

fn all(home: &Home) -> Vec<PathBuf> {
    let mut found = Vec::new();
    below(&home.data(), &mut found);
    below(&home.keys(), &mut found);
    found
}

/// Files that group or others have a right to.
fn open_to_others(home: &Home) -> Vec<String> {
    let others = |path: &PathBuf| {
        // The store deletes files meanwhile.
        let mode = fs::metadata(path).ok()?.permissions().mode() & 0o7777;
        (mode & 0o077 != 0).then(|| format!("{mode:04o} {}", path.display()))
    };
    all(home).iter().filter_map(others).collect()
}

/// A server that is started under a umask of 022.
fn serve(home: &Home) -> Child {
    let command = home.command();
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"umask 022; exec "$0" "$@""#]);
    shell.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    Child::start(&mut shell)
}

#[test]
fn a_start_takes_the_rights_of_others_from_data_and_keys_and_makes_new_files_without_them() {
    let home = Home::new();
    let server = serve(&home);
    server.ask(&["collection", "create", "staff"]).expect(0);
    server.stop();
    assert_eq!(open_to_others(&home), [""; 0], "as it was made");

    // As a backup program may put it back, or another program have made it.
    for path in all(&home) {
        let root_key = path.ends_with("root.key");
        let mode = match path.is_dir() {
            true => 0o755,
            false if root_key => 0o600,
            false => 0o644,
        };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
    }
    let server = serve(&home);
    server.ask(&["collection", "create", "others"]).expect(0);
    assert_eq!(open_to_others(&home), [""; 0], "while it serves");
    let log = server.stop();
    assert_eq!(open_to_others(&home), [""; 0], "afterwards");
    assert!(log.contains("from now on their owner alone can"), "{log}");
}
