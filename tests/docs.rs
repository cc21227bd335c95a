//! The documents name what exists.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::child::{Child, Home, Program, likeness};
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
        "engine/", "server/", "clients/", "proto/", "tests/", "bench/", "scripts/", "docs/", ".ci/",
        ".config/",
    ];
    let link = name.starts_with("./") || name.ends_with(".md");
    (link || tops.iter().any(|top| name.starts_with(top))) && !name.contains([' ', '<', '*', '{'])
}

/// The README and the pages it links, by their paths in the checkout.
fn pages() -> Vec<String> {
    let beside = [
        "README.md",
        "bench/README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
    ];
    let mut pages: Vec<_> = beside.map(str::to_owned).into();
    for page in fs::read_dir(checkout().join("docs")).expect("pages") {
        let name = page.unwrap().file_name();
        pages.push(format!("docs/{}", name.to_str().expect("a plain name")));
    }
    pages
}

#[test]
fn every_path_named_in_the_pages_exists() {
    for page in pages() {
        let path = checkout().join(&page);
        let beside = path.parent().expect("a directory");
        let text = fs::read_to_string(&path).expect("a page");
        let paths = named(&text).into_iter().filter(|name| is_path(name));
        let missing: Vec<_> = paths
            .filter(|path| {
                let path = path.split('#').next().unwrap_or(path);
                !checkout().join(path).exists() && !beside.join(path).exists()
            })
            .collect();
        assert!(missing.is_empty(), "{page} names {missing:?}");
    }
}

#[test]
fn the_readme_links_every_page_and_the_contract_names_every_reason() {
    let readme = fs::read_to_string(checkout().join("README.md")).expect("a README");
    for page in pages().iter().skip(1) {
        assert!(
            readme.contains(&format!("({page})")),
            "README.md does not link {page}"
        );
    }
    let contract =
        fs::read_to_string(checkout().join("proto/likeness/v1/likeness.proto")).expect("a contract");
    let header = contract.split("syntax = ").next().expect("a header");
    let status = fs::read_to_string(checkout().join("server/src/refusal.rs")).expect("a source");
    let status = status.split("mod tests").next().expect("the code");
    let reason = |text: &&str| {
        text.contains('_') && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') || *text == "BUSY"
    };
    let reasons: Vec<_> = status.split('"').skip(1).step_by(2).filter(reason).collect();
    assert!(reasons.len() > 15);
    for reason in reasons {
        assert!(
            header.contains(reason),
            "the contract's header does not name {reason}"
        );
    }
}

#[test]
fn the_readme_has_at_most_12_kb_and_the_page_of_the_benchmarks_150_lines() {
    let read = |page: &str| fs::read_to_string(checkout().join(page)).expect("a page");
    let bytes = read("README.md").len();
    assert!(bytes <= 12_000, "README.md has {bytes} bytes");
    let lines = read("bench/README.md").lines().count();
    assert!(lines <= 150, "bench/README.md has {lines} lines");
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
    let photographs = with_photographs(&home);
    let commands = commands(&page);
    assert!(commands.len() > 15);
    for (command, code) in commands {
        let ended = shell(&command, &photographs, &server);
        assert_eq!(ended.code, code, "{command}: {ended:?}");
    }
}

/// The sample photographs, and the models beside them, in a directory of their own.
fn with_photographs(home: &Home) -> PathBuf {
    let photographs = home.path().join("photographs");
    for name in ["photographs", "models"] {
        fs::create_dir(home.path().join(name)).unwrap();
        for file in fs::read_dir(asset(name)).expect("assets") {
            let path = file.unwrap().path();
            fs::copy(&path, home.path().join(name).join(path.file_name().unwrap())).unwrap();
        }
    }
    photographs
}

/// Runs a line of a page as a reader would.
fn shell(command: &str, directory: &Path, server: &Child) -> Program {
    let program = PathBuf::from(likeness().get_program());
    let programs = program.parent().expect("a directory").display().to_string();
    let path = format!("{programs}:{}", std::env::var("PATH").expect("a PATH"));
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", command]).current_dir(directory);
    shell.env("PATH", &path);
    shell.envs(
        server
            .asking()
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    Program::finish(&mut shell, &[])
}

/// The commands of a page's sessions, each with the lines that it is shown to print.
fn sessions(markdown: &str) -> Vec<(String, Vec<String>)> {
    let mut said: Vec<(String, Vec<String>)> = Vec::new();
    let blocks = markdown.split("```console\n").skip(1);
    for line in blocks.flat_map(|block| block.split("```").next().unwrap_or("").lines()) {
        match line.strip_prefix("$ ") {
            Some(command) => said.push((command.to_owned(), Vec::new())),
            None => said.last_mut().expect("a command").1.push(line.to_owned()),
        }
    }
    said
}

/// What a line says, whatever the numbers, the ids, and the order of two people.
fn words(line: &str) -> Vec<String> {
    let id = |word: &str| {
        let word = word.trim_end_matches(',');
        word.len() >= 32 && word.bytes().all(|b| b.is_ascii_hexdigit())
    };
    let plain = |word: &str| word.replace(|c: char| c.is_ascii_digit() || "~.-:".contains(c), "");
    let mut words: Vec<_> = line
        .split_whitespace()
        .map(|word| if id(word) { "ID".to_owned() } else { plain(word) })
        .collect();
    words.sort();
    words
}

#[test]
fn the_sessions_of_the_pages_go_as_they_are_shown() {
    for page in [
        "README.md",
        "docs/scores.md",
        "docs/enrolment.md",
        "docs/search.md",
    ] {
        let text = fs::read_to_string(checkout().join(page)).expect("a page");
        let home = Home::new();
        let server = home.serve();
        let photographs = with_photographs(&home);
        let said = sessions(&text);
        assert!(said.len() > 3, "{page} shows a session");
        for (command, shown) in said {
            let ended = shell(&command, &photographs, &server);
            let printed = format!("{}{}", ended.stdout, ended.stderr);
            let printed: Vec<_> = printed.lines().map(words).collect();
            for line in shown {
                assert!(
                    printed.contains(&words(&line)),
                    "{page}: {command}: {line}: {ended:?}"
                );
            }
        }
    }
}

#[test]
fn paths_are_told_from_other_words() {
    let text = "`engine/src/lib.rs` and `make demo`\n```\n`server/none`\n```\n[x](docs/a.md#b) `likeness/v1`";
    let paths: Vec<_> = named(text).into_iter().filter(|name| is_path(name)).collect();
    assert_eq!(paths, ["engine/src/lib.rs", "docs/a.md#b"]);
}
