//! What must not be left anywhere: in logs, on disk, in the memory of the server.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use likeness_proto::v1;
use likeness_proto::v1::import_persons_request::Part;
use likeness_proto::v1::import_persons_response::Outcome;

use crate::support::child::{Child, Home};
use crate::support::client::photographs;
use crate::support::pictures::{fixture, plain, png, sample};
use crate::support::{Client, PATIENCE, asset};

/// Bytes of a needle. A photograph's data repeat themselves nowhere at this length.
const NEEDLE: usize = 24;
const PERSON_ID: &str = "quetzalcoatl@example.org";
const COPY_ID: &str = "copy.of.quetzalcoatl";
const NEW_ID: &str = "quetzal.renamed";
const EMBEDDED_ID: &str = "import.of.features";
const IMPORTED_ID: &str = "import.of.photograph";
const TOKEN: &str = "token-of-enrolment-31415926";
const IMPORT_TOKEN: &str = "token-of-import-27182818";
const SECRETS: [&str; 13] = [
    PERSON_ID,
    COPY_ID,
    NEW_ID,
    EMBEDDED_ID,
    IMPORTED_ID,
    TOKEN,
    IMPORT_TOKEN,
    "Ada Xylophone",
    "tag-zymurgy",
    "purpose-wyvern",
    "Bob Yttrium",
    "Cem Quagga",
    "tag-imported",
];

/// Pieces of a file, from all over it, past the header that other files may share.
fn pieces(bytes: &[u8]) -> Vec<Vec<u8>> {
    let step = bytes.len() / 9;
    (1..8).map(|i| bytes[i * step..][..NEEDLE].to_vec()).collect()
}

/// Features of the length that the embedder makes, which no real face has.
fn features() -> Vec<f32> {
    let mut state = 0x9E37_79B9_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state) / f64::from(u32::MAX) - 0.5
    };
    (0..512).map(|_| next() as f32).collect()
}

/// Six values in a row, from all over some features, as they lie in memory: as they came, and at length 1.
fn pieces_of_features(features: &[f32]) -> Vec<Vec<u8>> {
    let length = features.iter().map(|value| value * value).sum::<f32>().sqrt();
    let bytes = |values: Vec<f32>| values.into_iter().flat_map(f32::to_le_bytes).collect::<Vec<u8>>();
    let normalised = features.iter().map(|value| value / length).collect();
    let mut needles = pieces(&bytes(features.to_vec()));
    needles.extend(pieces(&bytes(normalised)));
    needles
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
        let bytes = match fs::read(&path) {
            // The store deletes files meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            bytes => bytes.unwrap(),
        };
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
        idempotency_token: TOKEN.to_owned(),
        ..Default::default()
    };
    let person = client
        .enroll_as(request.clone())
        .await
        .expect("enrolled")
        .person
        .expect("a person");
    let again = client.enroll_as(request.clone()).await.expect("replayed");
    assert!(again.call.expect("call info").replayed);
    let mut another = request.clone();
    another.name = "Cem Quagga".to_owned();
    client.enroll_as(another).await.err().expect("another request");
    let without = v1::EnrollPersonRequest {
        idempotency_token: String::new(),
        ..request
    };
    client.enroll_as(without).await.err().expect("taken");
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
    move_about(&client).await;
    import(&client, photo).await;
}

/// Copies, renames, exports, lists consents, and looks for who is enrolled twice.
async fn move_about(client: &Client) {
    let mut persons = client.persons.clone();
    let copy = v1::CopyPersonRequest {
        collection: "staff".to_owned(),
        person_id: PERSON_ID.to_owned(),
        target_collection: "staff".to_owned(),
        target_person_id: COPY_ID.to_owned(),
        ..Default::default()
    };
    persons.copy_person(copy.clone()).await.expect("copied");
    persons.copy_person(copy).await.err().expect("taken");
    let rename = v1::RenamePersonRequest {
        collection: "staff".to_owned(),
        person_id: COPY_ID.to_owned(),
        new_person_id: NEW_ID.to_owned(),
        ..Default::default()
    };
    persons.rename_person(rename).await.expect("renamed");
    let export = v1::ExportPersonRequest {
        person_id: PERSON_ID.to_owned(),
    };
    let exported = persons.export_person(export).await.expect("exported");
    assert_eq!(exported.into_inner().persons.len(), 1);
    let consents = v1::ListConsentsRequest {
        collection: "staff".to_owned(),
        ..Default::default()
    };
    let listed = persons.list_consents(consents).await.expect("listed");
    assert_eq!(listed.into_inner().consents.len(), 2);
    let twice = v1::FindDuplicatesRequest {
        collection: "staff".to_owned(),
        ..Default::default()
    };
    let begun = client.matching.clone().find_duplicates(twice).await;
    let mut answers = begun.expect("begun").into_inner();
    let mut pairs = 0;
    while let Some(answer) = answers.message().await.expect("it goes on") {
        pairs += answer.pairs.len();
    }
    assert_eq!(pairs, 1, "the person and the copy");
}

/// One person by a photograph, one by features, and one who is refused.
async fn import(client: &Client, photo: &[u8]) {
    let header = v1::ImportHeader {
        collection: "staff".to_owned(),
        import_token: IMPORT_TOKEN.to_owned(),
        embedding_model: blake3::hash(&fs::read(asset("models/fr_feature.onnx")).unwrap()).to_string(),
        embedding_dim: 512,
        ..Default::default()
    };
    let item = |sequence, person_id: &str| v1::ImportItem {
        sequence,
        person_id: person_id.to_owned(),
        name: "Cem Quagga".to_owned(),
        tags: vec!["tag-imported".to_owned()],
        ..Default::default()
    };
    let by_photograph = v1::ImportItem {
        photographs: photographs(&[photo]),
        ..item(1, IMPORTED_ID)
    };
    let by_features = v1::ImportItem {
        embeddings: vec![v1::FaceEmbedding { values: features() }],
        ..item(2, EMBEDDED_ID)
    };
    let refused = v1::ImportItem {
        embeddings: vec![v1::FaceEmbedding {
            values: features()[1..].to_vec(),
        }],
        ..item(3, PERSON_ID)
    };
    let items = [by_photograph, by_features, refused].map(Part::Item);
    let parts = std::iter::once(Part::Header(header)).chain(items);
    let requests: Vec<_> = parts
        .map(|part| v1::ImportPersonsRequest { part: Some(part) })
        .collect();
    let reply = client
        .persons
        .clone()
        .import_persons(tokio_stream::iter(requests))
        .await;
    let mut answers = reply.expect("begun").into_inner();
    let mut imported = BTreeSet::new();
    while let Some(answer) = answers.message().await.expect("it goes on") {
        if let Some(Outcome::Imported(_)) = answer.outcome {
            imported.insert(answer.sequence);
        }
    }
    assert_eq!(imported, BTreeSet::from([1, 2]));
}

/// Everybody goes: by a withdrawal, by a stream, and the first by a call.
async fn leave(client: &Client) {
    let mut persons = client.persons.clone();
    let withdrawal = v1::WithdrawConsentRequest {
        collection: "staff".to_owned(),
        person_id: NEW_ID.to_owned(),
        ..Default::default()
    };
    persons.withdraw_consent(withdrawal).await.expect("withdrawn");
    let items = [IMPORTED_ID, EMBEDDED_ID, COPY_ID].map(|person_id| v1::DeletePersonsRequest {
        sequence: 0,
        collection: "staff".to_owned(),
        person_id: person_id.to_owned(),
    });
    let reply = persons.delete_persons(tokio_stream::iter(items)).await;
    let mut answers = reply.expect("begun").into_inner();
    let mut erased = 0;
    while let Some(answer) = answers.message().await.expect("it goes on") {
        erased += usize::from(matches!(
            answer.outcome,
            Some(v1::delete_persons_response::Outcome::Erased(_))
        ));
    }
    assert_eq!(erased, 2, "the copy has another PersonID by now");
    client.delete("staff", PERSON_ID).await.expect("erased");
    assert!(client.people("staff").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_log_nor_disk_tells_who_is_enrolled_or_what_they_look_like() {
    let photo = sample("obama.jpg");
    let mut needles = pieces(&photo);
    needles.extend(pieces_of_features(&features()));
    needles.extend(SECRETS.map(|secret| secret.as_bytes().to_vec()));
    let home = Home::new();
    let server = Child::start(home.command().env("LIKENESS_LOG", "trace"));
    needles.push(server.key.clone().into_bytes());
    // The secret alone, and as it is on the wire.
    let (_, secret) = server.key.rsplit_once('_').expect("two parts");
    needles.push(secret.as_bytes().to_vec());
    live(&server, &photo).await;
    // While it serves, and after it has put everything on disk.
    assert_clean(&home.data(), &needles);
    let client = server.client().await;
    leave(&client).await;
    drop(client);
    let log = server.stop();
    assert_clean(&home.data(), &needles);
    assert_clean(&home.keys(), &needles);

    for there in [
        "EnrollPerson",
        "ImportPersons",
        "DeletePersons",
        "FindDuplicates",
        "TRACE",
    ] {
        assert!(log.contains(there), "the log is there to be searched: {there}");
    }
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
