//! What is written down of calls: everything that is promised, nothing that is not, and nothing for longer.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use likeness_engine::Scope;
use likeness_proto::v1;
use likeness_proto::v1::import_persons_request::Part;
use likeness_proto::v1::log_service_client::LogServiceClient;
use likeness_server::config::STREAMS_PER_ACCOUNT_MAX;
use serde_json::Value;
use tonic::Code;

use crate::support::child::{Home, Program, likeness};
use crate::support::client::{photograph, photographs, similarity};
use crate::support::pictures::{sample, tiny};
use crate::support::server::Setup;
use crate::support::{Client, PATIENCE, Refused, Server, refusal};

const SUBJECT: &str = "PERSON_PART_SUBJECT";
const FOUND: &str = "PERSON_PART_FOUND";
const NOT_SAME: &str = "PERSON_PART_NOT_SAME";

/// Every file below a directory.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.extend(files(&path)),
            false => all.push(path),
        }
    }
    all
}
/// The lines of one log, all of them whole.
pub fn lines(data: &Path, class: &str) -> Vec<Value> {
    let mut files = files(&data.join("logs").join(class));
    files.sort();
    let text: String = files
        .iter()
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

async fn rows(client: &Client, who: &str) -> Vec<v1::RunningLogRow> {
    let request = v1::ListRunningLogRequest {
        collection: "staff".to_owned(),
        person_id: who.to_owned(),
        page_size: 1000,
        cursor: String::new(),
    };
    let mut logs = LogServiceClient::new(client.channel.clone());
    let reply = logs.list_running_log(request).await.expect("listed").into_inner();
    assert_eq!((reply.damaged_rows, reply.next_cursor.as_str()), (0, ""));
    reply.rows
}

fn brief(rows: &[v1::RunningLogRow]) -> Vec<(&str, &str, &str)> {
    let brief = rows.iter();
    brief
        .map(|row| {
            (
                row.interface.as_str(),
                row.result.as_str(),
                row.part().as_str_name(),
            )
        })
        .collect()
}

/// Of every row of the collection, whom it names.
async fn everybody(client: &Client) -> Vec<String> {
    let mut logs = LogServiceClient::new(client.channel.clone());
    let request = v1::ExportRunningLogRequest {
        collection: "staff".to_owned(),
    };
    let answers = logs.export_running_log(request).await;
    let mut answers = answers.expect("begun").into_inner();
    let mut all = Vec::new();
    while let Some(answer) = answers.message().await.expect("it goes on") {
        all.extend(answer.rows.into_iter().map(|row| row.person_id));
    }
    all
}

async fn totals(client: &Client) -> BTreeMap<String, (u64, u64, u64)> {
    let mut logs = LogServiceClient::new(client.channel.clone());
    let reply = logs.get_usage(v1::GetUsageRequest::default()).await;
    let usage = reply.expect("told").into_inner().usage;
    usage
        .into_iter()
        .filter(|usage| {
            ["EnrollPerson", "VerifyPerson", "SearchPersons", "GetPerson"].contains(&usage.interface.as_str())
        })
        .map(|usage| (usage.interface, (usage.calls, usage.billed, usage.errors)))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_s_log_has_every_call_and_goes_with_the_person_while_the_bill_stays() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let obama = sample("obama.jpg");
    client
        .enroll("staff", "barack", &[&obama])
        .await
        .expect("enrolled");
    client
        .enroll("staff", "eileen", &[&sample("astronaut.png")])
        .await
        .expect("enrolled");
    client
        .search("staff", &sample("obama2.jpg"))
        .await
        .expect("searched");
    let verified = client.verify("staff", "barack", &sample("astronaut.png")).await;
    assert!(!verified.expect("verified").same_person);
    client
        .verify("staff", "barack", &obama[..1000])
        .await
        .err()
        .expect("no photograph");
    client
        .verify("staff", "nobody", &obama)
        .await
        .err()
        .expect("nobody of that name");
    client.person("staff", "barack").await.expect("there");

    let barack = rows(&client, "barack").await;
    let refused = barack[3].result.clone();
    assert_eq!(
        brief(&barack),
        [
            ("EnrollPerson", "OK", SUBJECT),
            ("SearchPersons", "OK", FOUND),
            ("VerifyPerson", "OK", NOT_SAME),
            ("VerifyPerson", refused.as_str(), SUBJECT),
            ("GetPerson", "OK", SUBJECT),
        ]
    );
    assert!(refused != "OK" && !barack[3].billed && barack[2].billed);
    let found = &barack[1];
    assert_eq!((found.face, found.rank, found.similarity.is_some()), (0, 1, true));
    assert_eq!(
        barack[2].similarity, None,
        "a refused comparison tells no similarity"
    );
    assert!(barack.iter().all(|row| {
        let named = (row.account.as_str(), row.region.as_str(), row.client.as_str());
        named == ("default", "local", "127.0.0.1")
            && (row.collection.as_str(), row.person_id.as_str()) == ("staff", "barack")
            && row.requested.is_some()
            && row.accessed.is_some()
            && row.request_id.len() == 32
    }));
    assert_eq!(
        brief(&rows(&client, "eileen").await),
        [("EnrollPerson", "OK", SUBJECT)]
    );

    let before = totals(&client).await;
    assert_eq!(before["VerifyPerson"], (3, 1, 2));
    client.delete("staff", "barack").await.expect("erased");
    assert_eq!(totals(&client).await, before, "the bill is as it was");
    client
        .enroll("staff", "barack", &[&obama])
        .await
        .expect("enrolled again");
    assert_eq!(
        brief(&rows(&client, "barack").await),
        [("EnrollPerson", "OK", SUBJECT)]
    );

    let mut all = everybody(&client).await;
    all.sort();
    assert_eq!(all, ["barack", "eileen"]);
}

/// A photograph of somebody who comes by an import.
async fn import(client: &Client, person_id: &str, photo: &[u8]) {
    let header = v1::ImportHeader {
        collection: "staff".to_owned(),
        import_token: format!("an-import-of-{person_id}"),
        ..Default::default()
    };
    let item = v1::ImportItem {
        person_id: person_id.to_owned(),
        photographs: photographs(&[photo]),
        ..Default::default()
    };
    let parts = [Part::Header(header), Part::Item(item)];
    let parts = parts.map(|part| v1::ImportPersonsRequest { part: Some(part) });
    let mut persons = client.persons.clone();
    let answers = persons.import_persons(tokio_stream::iter(parts)).await;
    let mut answers = answers.expect("begun").into_inner();
    while answers.message().await.expect("it goes on").is_some() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_erased_is_in_no_row_however_they_came_and_whoever_asked() {
    const PEOPLE: [&str; 3] = ["barack", "copied", "imported"];
    let server = Server::start().await;
    let client = server.client().await;
    let other = server
        .client_for("default", &[Scope::Search, Scope::Verify])
        .await;
    client.create("staff").await;
    let (obama, probe) = (sample("obama.jpg"), sample("obama2.jpg"));
    client
        .enroll("staff", "barack", &[&obama])
        .await
        .expect("enrolled");
    client
        .add_faces("staff", "barack", &[&probe])
        .await
        .expect("added");
    let copy = v1::CopyPersonRequest {
        collection: "staff".to_owned(),
        person_id: "barack".to_owned(),
        target_collection: "staff".to_owned(),
        target_person_id: "copied".to_owned(),
        ..Default::default()
    };
    client.persons.clone().copy_person(copy).await.expect("copied");
    import(&client, "imported", &obama).await;
    let mut found = other.found("staff", &probe).await;
    found.sort();
    assert_eq!(found, PEOPLE);
    for who in PEOPLE {
        let verified = other.verify("staff", who, &sample("astronaut.png")).await;
        assert!(!verified.expect("verified").same_person);
    }
    let came = |who: &str| match who {
        "barack" => vec!["EnrollPerson", "AddFaces", "CopyPerson"],
        "copied" => vec!["CopyPerson"],
        _ => vec!["ImportPersons"],
    };
    for who in PEOPLE {
        let seen = rows(&client, who).await;
        let interfaces: Vec<_> = seen.iter().map(|row| row.interface.as_str()).collect();
        assert_eq!(
            interfaces,
            [came(who), vec!["SearchPersons", "VerifyPerson"]].concat()
        );
        let askers = seen.iter().map(|row| &row.sub_account).collect::<BTreeSet<_>>();
        assert_eq!(askers.len(), 2, "both callers are said");
    }

    let billed = totals(&client).await;
    for who in PEOPLE {
        client.delete("staff", who).await.expect("erased");
    }
    assert_eq!(totals(&client).await, billed, "the bill is as it was");
    assert!(everybody(&client).await.is_empty());
    for who in PEOPLE {
        client
            .enroll("staff", who, &[&obama])
            .await
            .expect("enrolled again");
        assert_eq!(
            brief(&rows(&client, who).await),
            [("EnrollPerson", "OK", SUBJECT)]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_a_copy_and_a_rename_are_in_the_logs_of_those_they_are_about() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let obama = sample("obama.jpg");
    client
        .enroll("staff", "barack", &[&obama])
        .await
        .expect("enrolled");
    let again = v1::EnrollPersonRequest {
        collection: "staff".to_owned(),
        person_id: "another".to_owned(),
        photographs: photographs(&[&obama]),
        checks: Some(v1::EnrollmentChecks {
            duplicate_strictness: 4,
            ..Default::default()
        }),
        ..Default::default()
    };
    let reply = client.enroll_as(again).await.expect("answered");
    assert_eq!(reply.duplicates.len(), 1);
    let mut persons = client.persons.clone();
    let copy = v1::CopyPersonRequest {
        collection: "staff".to_owned(),
        person_id: "barack".to_owned(),
        target_collection: "staff".to_owned(),
        target_person_id: "copied".to_owned(),
        ..Default::default()
    };
    persons.copy_person(copy).await.expect("copied");
    let rename = v1::RenamePersonRequest {
        collection: "staff".to_owned(),
        person_id: "barack".to_owned(),
        new_person_id: "renamed".to_owned(),
        ..Default::default()
    };
    persons.rename_person(rename).await.expect("renamed");
    assert_eq!(
        brief(&rows(&client, "renamed").await),
        [
            ("EnrollPerson", "OK", SUBJECT),
            ("EnrollPerson", "OK", FOUND),
            ("CopyPerson", "OK", SUBJECT),
            ("RenamePerson", "OK", SUBJECT),
        ]
    );
    assert_eq!(
        brief(&rows(&client, "copied").await),
        [("CopyPerson", "OK", SUBJECT)]
    );
}

/// The fields that the policy names, by log.
const FIELDS: [(&str, &[&str]); 3] = [
    (
        "error",
        &[
            "time",
            "success",
            "code",
            "parameters",
            "output",
            "upstream",
            "downstream",
            "account",
            "sub_account",
            "region",
        ],
    ),
    (
        "operation",
        &[
            "account",
            "call",
            "time",
            "steps",
            "request",
            "response",
            "region",
            "sub_account",
        ],
    ),
    (
        "monitoring",
        &[
            "account",
            "interface",
            "result",
            "call",
            "start",
            "end",
            "region",
            "fee_units",
            "volume",
            "sub_account",
        ],
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_logs_have_every_field_of_the_policy_and_survive_a_kill() {
    let home = Home::new().with(&["--region", "eu-test"]);
    let mut server = home.serve();
    let client = server.client().await;
    client.create("staff").await;
    let obama = sample("obama.jpg");
    client
        .enroll("staff", "barack", &[&obama])
        .await
        .expect("enrolled");
    client
        .search("staff", &obama[..1000])
        .await
        .err()
        .expect("no photograph");
    let all = client.search_as(v1::SearchPersonsRequest {
        collections: vec!["staff".to_owned()],
        photograph: Some(photograph(&obama)),
        threshold: Some(similarity(0.5)),
        ..Default::default()
    });
    assert_eq!(all.await.expect("searched").results[0].matches.len(), 1);
    // Listing the log waits until it is written; the others write at once, one after the other.
    assert_eq!(rows(&client, "barack").await.len(), 2);
    let written = || lines(&home.data(), "monitoring").len() >= 5;
    let until = std::time::Instant::now() + crate::support::PATIENCE;
    while !written() {
        assert!(std::time::Instant::now() < until, "five calls are logged");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    drop(client);
    server.kill();

    let server = home.serve();
    let client = server.client().await;
    assert_eq!(
        rows(&client, "barack").await.len(),
        2,
        "what was written outlives the kill"
    );
    drop(client);
    let log = server.stop();
    assert!(!log.contains("ERROR"), "{log}");
    for (class, fields) in FIELDS {
        let lines = lines(&home.data(), class);
        assert!(!lines.is_empty(), "{class}");
        for line in &lines {
            for field in fields {
                assert!(!line[field].is_null(), "{class} has no {field}: {line}");
            }
            assert_eq!(line["region"], "eu-test");
        }
    }
    let errors = lines(&home.data(), "error");
    assert_eq!(errors.len(), 1, "what was carried out whole is none");
    assert_eq!(
        (&errors[0]["success"], &errors[0]["interface"]),
        (&Value::Bool(false), &"SearchPersons".into())
    );
    assert_eq!(errors[0]["parameters"]["photograph_bytes"], 1000);
    let operations = lines(&home.data(), "operation");
    let search = operations
        .iter()
        .find(|line| line["interface"] == "SearchPersons" && line["code"] == "OK")
        .expect("a line");
    assert_eq!(
        (&search["response"]["faces"], &search["response"]["named"]),
        (&1.into(), &1.into())
    );
    assert!(search["steps"].as_array().expect("a list").len() > 3);
    let monitoring = lines(&home.data(), "monitoring");
    let units: u64 = monitoring
        .iter()
        .map(|line| line["fee_units"].as_u64().unwrap())
        .sum();
    assert_eq!(units, monitoring.len() as u64 - 1, "all but the refused one");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_is_what_the_server_was_started_with_in_every_language() {
    let settings = [
        "--operation-log-days",
        "90",
        "--error-log-mb",
        "5",
        "--region",
        "eu-test",
        "--controller",
        "Example Ltd",
        "--controller-contact",
        "privacy@example.org",
    ];
    let home = Home::new().with(&settings);
    let server = home.serve();
    for (language, days, megabytes, none) in [
        ("en", "90 days", "at most 5 MB", ": none\n"),
        ("zh", "90 天", "不超过 5 MB", ": 无\n"),
        ("id", "90 hari", "paling banyak 5 MB", ": tidak ada\n"),
    ] {
        let asked = server.ask(&["policy", "--language", language]).expect(0).stdout;
        for part in [
            days,
            megabytes,
            none,
            "eu-test",
            "Example Ltd",
            "privacy@example.org",
        ] {
            assert!(asked.contains(part), "{part}: {asked}");
        }
        let mut offline = likeness();
        offline
            .args(["policy", "--offline", "--lang", language])
            .args(settings);
        assert_eq!(
            Program::finish(&mut offline, &[]).expect(0).stdout,
            asked,
            "from the same table, also by the earlier name of the option"
        );
    }
    let policy = server.ask(&["policy", "--json"]).expect(0);
    let policy: Value = serde_json::from_str(&policy.stdout).expect("JSON");
    assert_eq!(policy["controller"], "Example Ltd");
    assert_eq!(policy["destinations"], Value::Array(Vec::new()));
    let classes = policy["classes"].as_array().expect("a list");
    for class in classes {
        for field in [
            "kept",
            "changed_by",
            "purpose",
            "legal_basis",
            "place",
            "destruction",
        ] {
            assert!(!class[field].as_str().expect("a text").is_empty(), "{class}");
        }
        assert_eq!(class["region"], "eu-test");
    }
    let usage = server.ask(&["log", "usage", "--json"]).expect(0);
    let usage: Value = serde_json::from_str(&usage.stdout).expect("JSON");
    assert_eq!(usage["usage"][0]["interface"], "GetPolicy");
    server.stop();
}

#[test]
fn a_server_whose_logs_cannot_be_opened_never_says_that_it_serves() {
    let home = Home::new();
    home.serve().stop();
    let logs = home.data().join("logs");
    fs::remove_dir_all(&logs).unwrap();
    fs::write(&logs, "a file where the folder should be").unwrap();
    let program = home.refused_start();
    assert!(program.stderr.contains("opening the logs"), "{}", program.stderr);
    assert_eq!(program.stdout, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_that_nobody_reads_hold_up_no_erasure_and_are_let_go() {
    let mut setup = Setup::new();
    setup.config.call_seconds = 3;
    let server = setup.start().await;
    let client = server.client().await;
    client.create("staff").await;
    // More than the transport asks for before it has sent anything.
    for number in 0..12 {
        let who = format!("person-{number}");
        client.enroll("staff", &who, &[&tiny()]).await.expect("enrolled");
    }
    let request = || v1::ExportRunningLogRequest {
        collection: "staff".to_owned(),
    };
    let mut unread = LogServiceClient::new(server.unread().await);
    let mut held = Vec::new();
    for _ in 0..STREAMS_PER_ACCOUNT_MAX {
        held.push(unread.export_running_log(request()).await.expect("begun"));
    }
    let mut logs = LogServiceClient::new(client.channel.clone());
    assert_eq!(
        refusal::of(logs.export_running_log(request()).await),
        Refused::new(Code::ResourceExhausted, "BUSY")
    );
    let began = Instant::now();
    client.delete("staff", "person-7").await.expect("erased");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let until = Instant::now() + PATIENCE;
    while let Err(status) = logs.export_running_log(request()).await {
        assert!(Instant::now() < until, "{status:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
