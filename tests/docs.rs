//! The documents name what exists.

use std::fs;

use crate::support::child::{Home, Program, likeness};
use crate::support::{asset, checkout};

/// Words between backticks, and the targets of links.
fn named(markdown: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut fenced = false;
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            names.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
            let links = line.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
            names.extend(links.map(|(target, _)| target.to_owned()));
        }
    }
    names
}

/// Whether a name claims to be a path of the checkout: it begins with one of its directories.
fn is_path(name: &str) -> bool {
    let tops = [
        "engine/", "server/", "proto/", "tests/", "bench/", "scripts/", "docs/", ".ci/", ".config/",
    ];
    let link = name.starts_with("./") || name.ends_with(".md");
    (link || tops.iter().any(|top| name.starts_with(top))) && !name.contains([' ', '<', '*', '{'])
}

#[test]
fn every_path_named_in_the_readme_exists() {
    let readme = fs::read_to_string(checkout().join("README.md")).expect("a README");
    let paths: Vec<_> = named(&readme).into_iter().filter(|name| is_path(name)).collect();
    let missing: Vec<_> = paths
        .iter()
        .filter(|path| !checkout().join(path.split('#').next().unwrap_or(path)).exists())
        .collect();
    assert!(missing.is_empty(), "README.md names {missing:?}");
}

#[test]
fn the_readme_names_both_commands_and_every_exit_of_the_program() {
    let readme = fs::read_to_string(checkout().join("README.md")).expect("a README");
    for command in ["make demo", "make test"] {
        assert!(readme.contains(command), "README.md does not name `{command}`");
    }
    let help = Program::run(&["--help"]).expect(0).stdout;
    for code in [
        "0 done",
        "1 no match",
        "64",
        "65",
        "66",
        "69",
        "70",
        "73",
        "75",
        "78",
    ] {
        assert!(help.contains(code), "the help does not name exit code {code}");
    }
}

/// The lines of a page's shell blocks, each with the exit code that it promises.
fn commands(markdown: &str) -> Vec<(String, i32)> {
    let blocks = markdown.split("```sh\n").skip(1);
    let lines = blocks.flat_map(|block| block.split("```").next().unwrap_or("").lines());
    let promised = |line: &str| {
        let (_, comment) = line.split_once("# exit code ")?;
        comment.split(':').next()?.parse().ok()
    };
    lines
        .map(|line| (line.to_owned(), promised(line).unwrap_or(0)))
        .collect()
}

#[test]
fn the_page_on_people_runs_as_it_stands() {
    let page = fs::read_to_string(checkout().join("docs/people.md")).expect("a page");
    let home = Home::new();
    let server = home.serve();
    for photograph in fs::read_dir(asset("photographs")).expect("photographs") {
        let path = photograph.unwrap().path();
        fs::copy(&path, home.path().join(path.file_name().unwrap())).unwrap();
    }
    let program = std::path::PathBuf::from(likeness().get_program());
    let directory = program.parent().expect("a directory").display().to_string();
    let path = format!("{directory}:{}", std::env::var("PATH").expect("a PATH"));
    let commands = commands(&page);
    assert!(commands.len() > 15);
    for (command, code) in commands {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &command]).current_dir(home.path());
        shell.env("PATH", &path).env("LIKENESS_SERVER", &server.url);
        let ended = Program::finish(&mut shell, &[]);
        assert_eq!(ended.code, code, "{command}: {ended:?}");
    }
}

#[test]
fn paths_are_told_from_other_words() {
    let text = "`engine/src/lib.rs` and `make demo`\n```\n`server/none`\n```\n[x](docs/a.md#b) `likeness/v1`";
    let paths: Vec<_> = named(text).into_iter().filter(|name| is_path(name)).collect();
    assert_eq!(paths, ["engine/src/lib.rs", "docs/a.md#b"]);
}
