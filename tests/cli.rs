//! The command line: its commands, wrong words, and what each exit code means.

use std::fs;

use crate::support::child::{Home, Program, likeness};
use crate::support::pictures::{astronaut_small, plain, png, sample, tiny};
use crate::support::{PATIENCE, asset, directory};

/// A sample photograph's path.
pub fn photo(name: &str) -> String {
    asset("photographs").join(name).display().to_string()
}

/// Every command, with the words that lead to it.
const COMMANDS: &[&[&str]] = &[
    &["serve"],
    &["account"],
    &["account", "create"],
    &["account", "get"],
    &["account", "list"],
    &["account", "update"],
    &["account", "close"],
    &["account", "close-deployment"],
    &["api-key"],
    &["api-key", "create"],
    &["api-key", "list"],
    &["api-key", "revoke"],
    &["audit", "log"],
    &["audit", "verify"],
    &["log"],
    &["log", "list"],
    &["log", "export"],
    &["log", "usage"],
    &["policy"],
    &["tls"],
    &["tls", "dev-cert"],
    &["collection"],
    &["collection", "create"],
    &["collection", "get"],
    &["collection", "list"],
    &["collection", "update"],
    &["collection", "delete"],
    #[cfg(feature = "graph")]
    &["index"],
    #[cfg(feature = "graph")]
    &["index", "measure"],
    &["enroll"],
    &["import"],
    &["search"],
    &["verify"],
    &["compare"],
    &["detect"],
    &["duplicates"],
    &["person"],
    &["person", "get"],
    &["person", "list"],
    &["person", "update"],
    &["person", "add-faces"],
    &["person", "delete-faces"],
    &["person", "copy"],
    &["person", "rename"],
    &["person", "export"],
    &["consent"],
    &["consent", "list"],
    &["consent", "withdraw"],
    &["delete"],
    &["log"],
    &["log", "list"],
    &["log", "export"],
    &["log", "usage"],
    &["policy"],
    &["key"],
    &["key", "init"],
    &["key", "rotate"],
    &["key", "rotate", "root"],
    &["key", "rotate", "wrapping"],
    &["key", "rotate", "signing"],
    &["key", "destroy-group"],
    &["receipt"],
    &["receipt", "status"],
    &["receipt", "get"],
    &["receipt", "export"],
    &["receipt", "verify"],
    &["receipt", "subject"],
    &["audit"],
    &["audit", "residue"],
    &["audit", "residue", "prepare"],
    &["audit", "residue", "scan"],
    &["person", "erase-everywhere"],
    &["models"],
    &["models", "fetch"],
    &["models", "verify"],
    &["models", "list"],
    &["eval"],
    &["calibrate"],
    &["demo"],
    &[],
];

#[test]
fn every_command_explains_itself_with_an_example() {
    for command in COMMANDS {
        let program = Program::run(&[*command, &["--help"]].concat()).expect(0);
        let example = format!("  likeness {}", command.join(" "));
        assert!(
            program.stdout.contains(example.trim_end()) && program.stdout.contains("Usage:"),
            "{command:?} has no example: {}",
            program.stdout
        );
        assert_eq!(program.stderr, "");
    }
}

#[test]
fn the_list_of_commands_above_is_whole() {
    let mut parents: Vec<&[&str]> = COMMANDS.iter().copied().filter(|c| c.is_empty()).collect();
    parents.extend([
        &["account"][..],
        &["api-key"],
        &["tls"],
        #[cfg(feature = "graph")]
        &["index"],
        &["collection"],
        &["person"],
        &["consent"],
        &["key"],
        &["log"],
        &["key", "rotate"],
        &["receipt"],
        &["audit"],
        &["audit", "residue"],
        &["models"],
    ]);
    for parent in parents {
        let help = Program::run(&[parent, &["--help"]].concat()).expect(0).stdout;
        let listed = help
            .split("Commands:\n")
            .nth(1)
            .expect("commands")
            .split("\n\n")
            .next()
            .unwrap();
        for line in listed.lines() {
            let name = line.split_whitespace().next().expect("a name");
            let command = [parent, &[name]].concat();
            assert!(name == "help" || COMMANDS.contains(&&command[..]), "{command:?}");
        }
    }
}

#[test]
fn settings_are_read_under_their_earlier_names_which_the_help_does_not_show() {
    let serve = ["serve", "--keys", "none", "--data", "none"];
    let refused = Program::run(&[&serve[..], &["--doubts", "many"]].concat()).expect(64);
    assert!(refused.stderr.contains("--borderline-accepts"), "{refused:?}");
    let mut command = likeness();
    command.args(serve).env("LIKENESS_DOUBT_HOURS", "many");
    let refused = Program::finish(&mut command, &[]).expect(64);
    assert!(
        refused.stderr.contains("--borderline-recovery-hours"),
        "{refused:?}"
    );
    let help = Program::run(&["serve", "--help"]).expect(0).stdout;
    assert!(!help.contains("doubt") && help.contains("--borderline-margin"));
}

#[test]
fn the_help_of_the_server_has_no_options_of_its_clients() {
    let help = Program::run(&["serve", "--help"]).expect(0).stdout;
    assert!(help.contains("--plaintext-off-loopback"), "{help}");
    for option in ["--api-key-file", "--tls-ca ", "--plaintext-key-off-loopback"] {
        assert!(!help.contains(option), "{option}: {help}");
    }
}

#[test]
fn wrong_arguments_are_the_callers_mistake() {
    for arguments in [
        &[][..],
        &["unknown"],
        &["enroll"],
        &["enroll", "staff", "ada"],
        &["search", "staff", "x.jpg", "--top", "many"],
        &["detect", "x.jpg", "--face", "middle"],
        &["search", "staff", "x.jpg", "--score", "60", "--threshold", "0.4"],
        &[
            "search",
            "staff",
            "x.jpg",
            "--max-far",
            "1e-4",
            "--max-fpir",
            "1e-3",
        ],
        &["verify", "staff", "ada", "x.jpg", "--max-fpir", "1e-3"],
        &["--server", "not a url", "collection", "list"],
        &["serve"],
        &["person", "update", "staff", "ada", "--tag", "x", "--no-tags"],
        &["person", "update", "staff", "ada", "--expires", "soon"],
        &[
            "person",
            "update",
            "staff",
            "ada",
            "--expires",
            "1d",
            "--never-expires",
        ],
        &[
            "person",
            "update",
            "staff",
            "ada",
            "--consent-given",
            "2026-01-01",
        ],
        &["delete", "staff"],
        &["delete", "staff", "ada", "--from", "list.txt"],
    ] {
        let program = Program::run(arguments).expect(64);
        assert!(!program.stderr.is_empty(), "{arguments:?}");
    }
    let home = Home::new().with(&["--listen", "0.0.0.0:0"]);
    let mut command = likeness();
    command
        .args(["serve", "--listen", "0.0.0.0:0", "--keys"])
        .arg(home.keys());
    let program = Program::finish(command.arg("--data").arg(home.data()), &[]).expect(64);
    assert!(
        program.stderr.contains("expected a loopback address"),
        "{program:?}"
    );
    assert!(
        Program::run(&["--version"])
            .expect(0)
            .stdout
            .starts_with("likeness ")
    );
}

#[test]
fn a_server_that_is_not_there_is_said_so() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let program = Program::run(&["--server", &url, "collection", "list"]).expect(69);
    assert!(program.stderr.contains("likeness serve"), "{program:?}");
    let error = &Program::run(&["--json", "--server", &url, "collection", "list"])
        .expect(69)
        .json()["error"];
    assert_eq!(error["exit_code"], 69);
}

#[test]
fn photographs_and_values_that_are_refused_have_a_code_of_their_own() {
    let home = Home::new();
    let server = home.serve();
    server.ask(&["collection", "create", "staff"]).expect(0);
    let files = directory();
    let empty = files.path().join("empty.png").display().to_string();
    fs::write(&empty, png(&plain(320, 240))).unwrap();
    let refused = server.ask(&["enroll", "staff", "nobody", &empty]).expect(65);
    assert!(
        refused.stderr.contains("NO_FACE") && refused.stderr.contains("request "),
        "{refused:?}"
    );
    let json = server
        .ask(&["--json", "enroll", "staff", "nobody", &empty])
        .expect(65)
        .json();
    assert_eq!(json["error"]["reason"], "NO_FACE");
    let part = server
        .ask(&[
            "--json",
            "enroll",
            "staff",
            "ada",
            &empty,
            &photo("astronaut.png"),
        ])
        .expect(0);
    assert!(part.stdout.contains("NO_FACE"), "{part:?}");
    server
        .ask(&[
            "enroll",
            "staff",
            "b",
            &empty,
            &photo("biden.jpg"),
            "--all-or-nothing",
        ])
        .expect(65);
    server
        .ask(&["search", "staff", &photo("biden.jpg"), "--threshold", "2"])
        .expect(65);
    server
        .ask(&["enroll", "staff", "not an id", &photo("biden.jpg")])
        .expect(65);
    server
        .ask(&["enroll", "nowhere", "ada", &photo("biden.jpg")])
        .expect(66);
    server
        .ask(&["enroll", "staff", "ada", &photo("biden.jpg")])
        .expect(73);
    let missing = server.ask(&["detect", "no-such-file.jpg"]).expect(66);
    assert!(missing.stderr.contains("no-such-file.jpg"), "{missing:?}");
}

#[test]
fn a_photograph_comes_from_standard_input_as_well() {
    let home = Home::new();
    let server = home.serve();
    server.ask(&["collection", "create", "staff"]).expect(0);
    let piped = |arguments: &[&str], input: &[u8]| Program::finish(server.asking().args(arguments), input);
    piped(&["enroll", "staff", "eileen", "-"], &astronaut_small()).expect(0);
    piped(&["search", "staff", "-"], &sample("astronaut.png")).expect(0);
    piped(&["verify", "staff", "eileen", "-"], &sample("biden.jpg")).expect(1);
    piped(&["compare", "-", &photo("astronaut.png")], &astronaut_small()).expect(0);
    piped(&["detect", "-"], b"no photograph").expect(65);
    piped(&["detect", "-"], b"").expect(65);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_server_is_worth_another_try() {
    let home = Home::new().with(&["--workers", "1", "--queue", "0"]);
    let server = home.serve();
    let client = server.client().await;
    client.create("staff").await;
    let working = tokio::spawn({
        let client = client.clone();
        async move {
            let photo = tiny();
            for number in 0.. {
                let person_id = format!("person-{number}");
                drop(client.enroll("staff", &person_id, &[&photo[..]; 20]).await);
                // Once the server is gone a call fails without waiting, and who never waits is never aborted.
                tokio::task::yield_now().await;
            }
        }
    });
    let tries = move || {
        let until = std::time::Instant::now() + PATIENCE;
        loop {
            let program = server.ask(&["--json", "detect", &photo("obama.jpg")]);
            if program.code != 0 {
                return program.expect(75);
            }
            assert!(std::time::Instant::now() < until, "it was never busy");
        }
    };
    let refused = tokio::task::spawn_blocking(tries).await.unwrap().json();
    assert_eq!(refused["error"]["reason"], "BUSY");
    working.abort();
}
