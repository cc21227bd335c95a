//! What must not be left anywhere: in logs, on disk, in the memory of the server.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use likeness_proto::v1;

use crate::support::PATIENCE;
use crate::support::child::{Child, Home};
use crate::support::client::photographs;
use crate::support::pictures::{fixture, plain, png, sample};

/// Bytes of a needle. A photograph's data repeat themselves nowhere at this length.
const NEEDLE: usize = 24;
const PERSON_ID: &str = "quetzalcoatl@example.org";
const SECRETS: [&str; 5] = [
    PERSON_ID,
    "Ada Xylophone",
    "tag-zymurgy",
    "purpose-wyvern",
    "Bob Yttrium",
];

/// Pieces of a file, from all over it, past the header that other files may share.
fn pieces(bytes: &[u8]) -> Vec<Vec<u8>> {
    let step = bytes.len() / 9;
    (1..8).map(|i| bytes[i * step..][..NEEDLE].to_vec()).collect()
}

/// The needles that occur in a haystack.
fn found<'a>(needles: &'a [Vec<u8>], haystack: &[u8]) -> BTreeSet<&'a [u8]> {
    let mut starts = vec![false; 1 << 16];
    let start = |bytes: &[u8]| usize::from(u16::from_le_bytes([bytes[0], bytes[1]]));
    for needle in needles {
        starts[start(needle)] = true;
    }
    let mut hits = BTreeSet::new();
    for at in 0..haystack.len().saturating_sub(1) {
        if starts[start(&haystack[at..])] {
            let here = &haystack[at..];
            hits.extend(
                needles
                    .iter()
                    .filter(|needle| here.starts_with(needle))
                    .map(Vec::as_slice),
            );
        }
    }
    hits
}

/// Every file under a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.push(path);
        }
    }
    all
}

/// Fails if any file under the directory holds a needle.
fn assert_clean(directory: &Path, needles: &[Vec<u8>]) {
    let files = files(directory);
    assert!(!files.is_empty(), "nothing to search in {}", directory.display());
    for path in files {
        let bytes = fs::read(&path).unwrap();
        let hits: Vec<_> = found(needles, &bytes)
            .into_iter()
            .map(String::from_utf8_lossy)
            .collect();
        assert!(hits.is_empty(), "{} holds {hits:?}", path.display());
    }
}

/// Everything a client can do, also wrongly.
async fn live(server: &Child, photo: &[u8]) {
    let client = server.client().await;
    client.create("staff").await;
    let request = v1::EnrollPersonRequest {
        collection: "staff".to_owned(),
        person_id: PERSON_ID.to_owned(),
        photographs: photographs(&[photo, &sample("obama3.jpg"), &fixture("still.gif")]),
        name: "Ada Xylophone".to_owned(),
        tags: vec!["tag-zymurgy".to_owned()],
        consent: Some(v1::Consent {
            purpose: "purpose-wyvern".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let person = client
        .enroll_as(request.clone())
        .await
        .expect("enrolled")
        .person
        .expect("a person");
    client.enroll_as(request).await.err().expect("taken");
    client.search("staff", photo).await.expect("searched");
    client.verify("staff", PERSON_ID, photo).await.expect("verified");
    client.compare(photo, photo).await.expect("compared");
    client.detect(photo).await.expect("detected");
    client
        .search("staff", &photo[..photo.len() / 2])
        .await
        .err()
        .expect("truncated");
    client
        .search("staff", &png(&plain(99, 99)))
        .await
        .err()
        .expect("no face");
    client
        .person("staff", &format!("{PERSON_ID}!"))
        .await
        .err()
        .expect("no such form");
    client
        .person("nowhere", PERSON_ID)
        .await
        .err()
        .expect("no such collection");
    let update = v1::UpdatePersonRequest {
        collection: "staff".to_owned(),
        person_id: PERSON_ID.to_owned(),
        name: Some("Bob Yttrium".to_owned()),
        tags: None,
        ..Default::default()
    };
    client
        .persons
        .clone()
        .update_person(update)
        .await
        .expect("changed");
    client
        .delete_faces("staff", PERSON_ID, &[&person.faces[0].face_id])
        .await
        .expect("deleted");
    client.people("staff").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_log_nor_disk_tells_who_is_enrolled_or_what_they_look_like() {
    let photo = sample("obama.jpg");
    let mut needles = pieces(&photo);
    needles.extend(SECRETS.map(|secret| secret.as_bytes().to_vec()));
    let home = Home::new();
    let server = Child::start(home.command().env("LIKENESS_LOG", "trace"));
    live(&server, &photo).await;
    // While it serves, and after it has put everything on disk.
    assert_clean(&home.data(), &needles);
    let client = server.client().await;
    client.delete("staff", PERSON_ID).await.expect("erased");
    drop(client);
    let log = server.stop();
    assert_clean(&home.data(), &needles);
    assert_clean(&home.keys(), &needles);

    assert!(
        log.contains("EnrollPerson") && log.contains("TRACE"),
        "the log is there to be searched"
    );
    let log_file = home.path().join("log");
    fs::write(&log_file, &log).unwrap();
    assert_clean(&home.path().join("."), &needles);

    // The search finds what is there.
    fs::write(&log_file, format!("{log}{PERSON_ID}")).unwrap();
    assert_eq!(found(&needles, &fs::read(&log_file).unwrap()).len(), 1);
    let within = [&[7; 5000][..], &photo].concat();
    assert_eq!(found(&needles, &within).len(), pieces(&photo).len());
}

/// The needles in another process's writable memory, and where.
fn in_memory(pid: u32, needles: &[Vec<u8>]) -> Vec<String> {
    const CHUNK: usize = 1 << 20;
    let mut memory = File::open(format!("/proc/{pid}/mem")).expect("a parent may read its child");
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("it runs");
    let mut bytes = vec![0; CHUNK + NEEDLE];
    let mut hits = Vec::new();
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (Some(range), Some(rights)) = (words.next(), words.next()) else {
            continue;
        };
        if !rights.starts_with("rw") || line.contains("[v") {
            continue;
        }
        let (from, to) = range.split_once('-').expect("from-to");
        let [from, to] = [from, to].map(|at| usize::from_str_radix(at, 16).expect("an address"));
        for start in (from..to).step_by(CHUNK) {
            let length = (CHUNK + NEEDLE).min(to - start);
            // Memory may go while it is searched; then there is nothing in it.
            let read = memory
                .seek(SeekFrom::Start(start as u64))
                .and_then(|_| memory.read_exact(&mut bytes[..length]));
            if read.is_ok() {
                let here = found(needles, &bytes[..length]).len();
                if here > 0 {
                    hits.push(format!("{here} in {line} at {start:x}"));
                }
            }
        }
    }
    hits
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_call_the_servers_memory_holds_nothing_of_the_photograph() {
    let photo = sample("obama.jpg");
    let needles = pieces(&photo);
    let home = Home::new().with(&["--workers", "1"]);
    let server = home.serve();
    let client = server.client().await;
    client.create("staff").await;

    // While calls are at work the photograph is there: the search finds what is there.
    let working = tokio::spawn({
        let (client, photo) = (client.clone(), photo.clone());
        async move {
            loop {
                let request = client.enroll("staff", "busy", &[&photo[..]; 20]).await;
                // Taken, from the second time on.
                drop(request);
            }
        }
    });
    let until = Instant::now() + PATIENCE;
    let (pid, search) = (server.pid(), needles.clone());
    let seen = move || !in_memory(pid, &search).is_empty();
    while !tokio::task::spawn_blocking(seen.clone()).await.unwrap() {
        assert!(
            Instant::now() < until,
            "the search never found a photograph at work"
        );
    }
    working.abort();
    let _ = working.await;

    client
        .enroll("staff", "barack", &[&photo])
        .await
        .expect("enrolled");
    assert!(client.found("staff", &photo).await.contains(&"barack".to_owned()));
    drop(client);
    // The connection's end has no acknowledgement to wait for.
    let until = Instant::now() + Duration::from_secs(5);
    let left = loop {
        let left = in_memory(server.pid(), &needles);
        if left.is_empty() || Instant::now() > until {
            break left;
        }
    };
    assert!(left.is_empty(), "left in memory: {left:#?}");
    // It is the server that was searched, and it lives.
    let client = server.client().await;
    assert!(client.found("staff", &photo).await.contains(&"barack".to_owned()));
}
