//! A flipped bit in the data directory of a server: what its clients and its operator see of it.

use std::fs;
use std::path::PathBuf;

use tonic::Code;

use crate::support::child::{Child, Home};
use crate::support::pictures::tiny;
use crate::support::refusal::{self, Refused};

/// The exit code for keys, models or data that do not fit.
const CONFIGURATION: i32 = 78;
/// Several blocks of a data file.
const PEOPLE: usize = 40;

fn records(home: &Home, is_wanted: impl Fn(&str, &[u8]) -> bool) -> PathBuf {
    let files = fs::read_dir(home.data().join("records")).unwrap();
    let mut files = files.map(|entry| entry.unwrap().path());
    let wanted = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        is_wanted(&name, &fs::read(path).unwrap())
    };
    files.find(wanted).expect("there is such a file")
}

fn flip(path: &PathBuf, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 4;
    fs::write(path, bytes).unwrap();
}

/// A home whose data hold some people, in data files.
async fn lived_in() -> Home {
    let home = Home::new();
    let server = home.serve();
    let client = server.client().await;
    client.create("staff").await;
    let photo = tiny();
    for n in 0..PEOPLE {
        client
            .enroll("staff", &format!("p{n}"), &[&photo])
            .await
            .expect("enrolled");
    }
    drop(client);
    server.stop();
    home
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lies_in_a_damaged_place_is_refused_with_store_failed_and_everybody_else_is_served() {
    let home = lived_in().await;
    let holds = |bytes: &[u8], text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    // The properties of a table say what it holds.
    let table = records(&home, |name, bytes| {
        name.ends_with(".sst") && holds(bytes, b"persons")
    });
    let middle = fs::read(&table).unwrap().len() / 2;
    flip(&table, middle);

    let server = Child::start(home.command().args(["--metrics", "127.0.0.1:0"]));
    let client = server.client().await;
    let (mut served, mut hidden) = (Vec::new(), Vec::new());
    for n in 0..PEOPLE {
        let who = format!("p{n}");
        match client.person("staff", &who).await {
            Ok(_) => served.push(who),
            Err(status) => {
                assert_eq!(
                    refusal::read(&status),
                    Refused::new(Code::Unavailable, "STORE_FAILED")
                );
                hidden.push(who);
            }
        }
    }
    assert!(
        !hidden.is_empty() && served.len() > PEOPLE / 2,
        "{hidden:?} are hidden"
    );
    let again = client.enroll("staff", &hidden[0], &[&tiny()]).await;
    let again = refusal::read(&again.map(drop).expect_err("somebody may be there"));
    assert_eq!(again, Refused::new(Code::Unavailable, "STORE_FAILED"));
    // Whoever's place is whole is enrolled; one in a damaged place is refused.
    let mut newcomers = 0;
    for n in 0..10 {
        match client.enroll("staff", &format!("new-{n}"), &[&tiny()]).await {
            Ok(_) => newcomers += 1,
            Err(status) => assert_eq!(
                refusal::read(&status),
                Refused::new(Code::Unavailable, "STORE_FAILED")
            ),
        }
    }
    assert!(newcomers > 0);
    client.delete("staff", &served[0]).await.expect("erased");

    let status = server.ask(&["receipt", "status", "--json"]).expect(0).json();
    assert_eq!(
        (&status["quarantined_files"], &status["unpurged"]),
        (&1.into(), &1.into())
    );
    let said = server.ask(&["receipt", "status"]).expect(0).stdout;
    assert!(said.contains("damaged data files: 1"), "{said}");
    assert!(server.scraped().contains("likeness_quarantined_files 1"));
    drop(client);
    let log = server.stop();
    let name = table.file_name().unwrap().to_string_lossy().into_owned();
    assert!(log.contains(&name) && log.contains("persons"), "{log}");
    assert!(
        !hidden.iter().any(|who| log.contains(&format!("\"{who}\""))),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_which_nothing_can_be_proved_is_refused_by_name() {
    let home = lived_in().await;
    let holds = |bytes: &[u8], text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    let manifest = records(&home, |name, _| name.starts_with("MANIFEST-"));
    let accounts = records(&home, |name, bytes| {
        name.ends_with(".sst") && holds(bytes, b"accounts")
    });
    for (file, at) in [(manifest, 100), (accounts, 20)] {
        flip(&file, at);
        let refused = home.refused_start().expect(CONFIGURATION);
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        assert!(refused.stderr.contains(&name), "{name}: {}", refused.stderr);
        assert!(refused.stderr.contains("put back a copy"), "{}", refused.stderr);
        flip(&file, at);
    }
    home.serve().stop();
}
