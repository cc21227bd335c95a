//! Access: API keys, and the calls that each scope allows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use likeness_engine::{CollectionName, NewApiKey, Scope, Scopes, Timestamp};
use likeness_proto::credential::Credential;
use likeness_proto::v1;
use likeness_proto::v1::account_service_client::AccountServiceClient;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic_health::pb::health_client::HealthClient;

use crate::interfaces::check;
use crate::support::child::{Child, Home, Program};
use crate::support::pictures::astronaut_small;
use crate::support::{Client, Refused, Server, checkout, raw, refusal};

fn required() -> Refused {
    Refused::new(Code::Unauthenticated, "KEY_REQUIRED")
}

fn not_valid() -> Refused {
    Refused::new(Code::Unauthenticated, "KEY_NOT_VALID")
}

fn no_collection() -> Refused {
    Refused::new(Code::NotFound, "COLLECTION_NOT_FOUND")
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_every_call_but_health_is_refused() {
    let server = Server::start().await;
    let nobody = Client::connect(&server.url(), Credential::default()).await;
    for method in raw::methods() {
        let refused = refusal::of(raw::call(&nobody.channel, &method, &[]).await);
        assert_eq!(refused, required(), "{method}");
    }
    for reflection in ["v1", "v1alpha"] {
        let method = format!("grpc.reflection.{reflection}.ServerReflection/ServerReflectionInfo");
        let refused = refusal::of(raw::call(&nobody.channel, &method, &[]).await);
        assert_eq!(refused, required(), "{method}");
    }
    let mut health = HealthClient::new(nobody.channel);
    health.check(check("")).await.expect("health is everybody's");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_a_wrong_a_revoked_and_an_expired_key_get_the_same_answer() {
    let server = Server::start().await;
    let all = || NewApiKey {
        scopes: Scopes::ALL,
        ..NewApiKey::default()
    };
    let revoked = server.key("default", all()).await;
    let soon = Timestamp(Timestamp::now().0 + 50);
    let expired = server
        .key(
            "default",
            NewApiKey {
                expires: Some(soon),
                ..all()
            },
        )
        .await;
    let right = server.key("default", all()).await.text().to_string();
    // The first and the last digit of its name, and of its secret.
    let wrong = [0, 31, 33, 96].map(|place| with_another_digit(&right, "likeness_".len() + place));

    let mut accounts = AccountServiceClient::new(server.client().await.channel);
    let request = v1::RevokeApiKeyRequest {
        key_id: revoked.id().to_string(),
        ..Default::default()
    };
    accounts.revoke_api_key(request.clone()).await.expect("revoked");
    let again = refusal::of(accounts.revoke_api_key(request).await);
    assert_eq!(again, Refused::new(Code::NotFound, "API_KEY_NOT_FOUND"));
    while Timestamp::now() <= soon {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    let mut answers = Vec::new();
    let ended = [&revoked, &expired].map(|key| key.text().to_string());
    for key in ended.iter().chain(&wrong) {
        let client = Client::connect(&server.url(), Credential::parse(key).expect("of the form")).await;
        let Err(refused) = client.collection("staff").await else {
            panic!("somebody is known by it");
        };
        assert_eq!(refusal::read(&refused), not_valid());
        answers.push(refused.message().to_owned());
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    let good = Client::connect(&server.url(), Credential::parse(&right).expect("a key")).await;
    assert_eq!(refusal::of(good.collection("staff").await), no_collection());
}

/// A key that differs from another in the hex digit at a place.
fn with_another_digit(key: &str, place: usize) -> String {
    let digit = u8::from_str_radix(&key[place..=place], 16).expect("a hex digit");
    format!("{}{:x}{}", &key[..place], digit ^ 1, &key[place + 1..])
}

/// What the contract says of every call: its comment's line that begins with "Key:".
fn contract() -> BTreeMap<String, String> {
    let files = fs::read_dir(checkout().join("proto/likeness/v1")).expect("a contract");
    let text: String = files
        .map(|file| fs::read_to_string(file.unwrap().path()).expect("a text"))
        .collect();
    let mut said = BTreeMap::new();
    let mut key = None;
    for line in text.lines().map(str::trim) {
        if let Some(needs) = line.strip_prefix("// Key: ") {
            key = Some(needs.to_owned());
        } else if let Some(call) = line.strip_prefix("rpc ") {
            let name = call.split('(').next().expect("a name").to_owned();
            let needs = key
                .take()
                .unwrap_or_else(|| panic!("nothing is said of {name}'s key"));
            said.insert(name, needs);
        }
    }
    said
}

/// The scope that such a line names first.
fn scope_of(needs: &str) -> Option<Scope> {
    let rest = needs.strip_prefix("scope ")?;
    let name = rest.split(|c: char| !c.is_ascii_lowercase()).next()?;
    let scope = Scope::ALL.into_iter().find(|scope| scope.name() == name);
    Some(scope.unwrap_or_else(|| panic!("no scope is called {name}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_asks_for_the_scope_that_the_contract_says() {
    let server = Server::start().await;
    let contract = contract();
    let mut clients = Vec::new();
    for scope in Scope::ALL {
        clients.push((scope, server.client_for("branch", &[scope]).await));
    }
    let mut seen = 0;
    for method in raw::methods() {
        let (_, name) = method.split_once('/').expect("a path");
        let needs = &contract[name];
        let asked = scope_of(needs);
        for (scope, client) in &clients {
            let reason = match raw::call(&client.channel, &method, &[]).await {
                Ok(_) => String::new(),
                Err(status) => refusal::read_details(&status).reason,
            };
            let lacks = asked.is_some_and(|asked| asked != *scope);
            assert_eq!(reason == "SCOPE_MISSING", lacks, "{name}, {scope:?}: {reason}");
            let operators = needs.contains("operator's account") && asked.is_some();
            assert_eq!(reason == "OPERATOR_ONLY", operators && !lacks, "{name}: {reason}");
            seen += 1;
        }
    }
    assert!(seen > 300, "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_for_some_collections_knows_of_no_other() {
    let server = Server::start().await;
    let all = server.client().await;
    all.create("staff").await;
    all.create("visitors").await;
    let photo = astronaut_small();
    all.enroll("visitors", "eileen", &[&photo])
        .await
        .expect("enrolled");
    let only = BTreeSet::from([CollectionName::parse("staff").unwrap()]);
    let new = NewApiKey {
        scopes: Scopes::ALL,
        collections: Some(only),
        ..NewApiKey::default()
    };
    let key = server.key("default", new).await;
    let restricted = Client::connect(&server.url(), likeness_server::credential::of(&key)).await;

    restricted
        .enroll("staff", "eileen", &[&photo])
        .await
        .expect("enrolled");
    for name in ["visitors", "no-such-collection"] {
        assert_eq!(refusal::of(restricted.collection(name).await), no_collection());
        assert_eq!(
            refusal::of(restricted.person(name, "eileen").await),
            no_collection()
        );
        assert_eq!(
            refusal::of(restricted.enroll(name, "x", &[&photo]).await),
            no_collection()
        );
        assert_eq!(
            refusal::of(restricted.search(name, &photo).await),
            no_collection()
        );
        assert_eq!(
            refusal::of(restricted.verify(name, "eileen", &photo).await),
            no_collection()
        );
        assert_eq!(
            refusal::of(restricted.delete(name, "eileen").await),
            no_collection()
        );
        assert_eq!(
            refusal::of(restricted.delete_collection(name).await),
            no_collection()
        );
        let request = v1::CreateCollectionRequest {
            name: name.to_owned(),
            ..Default::default()
        };
        let made = restricted.collections.clone().create_collection(request).await;
        assert_eq!(refusal::of(made), no_collection());
        let request = v1::CopyPersonRequest {
            collection: "staff".to_owned(),
            person_id: "eileen".to_owned(),
            target_collection: name.to_owned(),
            ..Default::default()
        };
        let copied = restricted.persons.clone().copy_person(request).await;
        assert_eq!(refusal::of(copied), no_collection());
    }
    let request = v1::ListCollectionsRequest::default();
    let listed = restricted.collections.clone().list_collections(request).await;
    let names = listed.expect("listed").into_inner().collections;
    assert_eq!(
        names.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(),
        ["staff"]
    );
    let request = v1::EraseEverywhereRequest {
        person_id: "eileen".to_owned(),
        ..Default::default()
    };
    let erased = refusal::of(restricted.persons.clone().erase_everywhere(request).await);
    assert_eq!(erased, Refused::new(Code::PermissionDenied, "KEY_RESTRICTED"));
    // Nor can it make itself a key without the restriction.
    let mut accounts = AccountServiceClient::new(restricted.channel.clone());
    let request = v1::CreateApiKeyRequest {
        scopes: vec![v1::Scope::Admin.into()],
        ..Default::default()
    };
    let made = refusal::of(accounts.create_api_key(request).await);
    assert_eq!(made, Refused::new(Code::PermissionDenied, "KEY_RESTRICTED"));
    assert_eq!(all.people("visitors").await, ["eileen"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_is_refused_on_a_stream_that_is_open() {
    let server = Server::start().await;
    let all = server.client().await;
    all.create("staff").await;
    let photo = astronaut_small();
    for id in ["one", "two"] {
        all.enroll("staff", id, &[&photo]).await.expect("enrolled");
    }
    let new = NewApiKey {
        scopes: [Scope::Erase].into_iter().collect(),
        ..NewApiKey::default()
    };
    let key = server.key("default", new).await;
    let client = Client::connect(&server.url(), likeness_server::credential::of(&key)).await;
    let item = |sequence, person_id: &str| v1::DeletePersonsRequest {
        sequence,
        collection: "staff".to_owned(),
        person_id: person_id.to_owned(),
    };
    let (items, stream) = tokio::sync::mpsc::channel(1);
    items.send(item(1, "one")).await.unwrap();
    let mut answers = client
        .persons
        .clone()
        .delete_persons(ReceiverStream::new(stream))
        .await
        .expect("begun")
        .into_inner();
    let first = answers.message().await.expect("answered").expect("an answer");
    assert_eq!(first.sequence, 1);

    let mut accounts = AccountServiceClient::new(all.channel.clone());
    let request = v1::RevokeApiKeyRequest {
        key_id: key.id().to_string(),
        ..Default::default()
    };
    accounts.revoke_api_key(request).await.expect("revoked");
    items.send(item(2, "two")).await.unwrap();
    let ended = answers
        .message()
        .await
        .map(drop)
        .expect_err("the stream is ended");
    assert_eq!(refusal::read_details(&ended), not_valid());
    assert_eq!(all.people("staff").await, ["two"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_stays_revoked_when_an_older_copy_of_the_data_is_put_back() {
    let home = Home::new();
    let arguments = |rest: &[&str]| {
        let (keys, data) = (home.keys(), home.data());
        let mut all: Vec<String> = rest.iter().map(|&word| word.to_owned()).collect();
        for (option, path) in [("--keys", keys), ("--data", data)] {
            all.extend([option.to_owned(), path.display().to_string()]);
        }
        all
    };
    let run = |rest: &[&str]| {
        let all = arguments(rest);
        let words: Vec<_> = all.iter().map(String::as_str).collect();
        Program::run(&words).expect(0)
    };
    let made = run(&[
        "api-key", "create", "--scope", "read", "--label", "lost", "--json",
    ])
    .json();
    let (id, text) = (
        made["key_id"].as_str().unwrap(),
        made["api_key"].as_str().unwrap(),
    );
    let copy = home.path().join("copy");
    crate::erasure::copy(&home.data(), &copy);
    assert!(run(&["api-key", "list"]).stdout.contains("lost"));
    run(&["api-key", "revoke", id]);
    assert!(!run(&["api-key", "list"]).stdout.contains("lost"));

    fs::remove_dir_all(home.data()).unwrap();
    fs::rename(&copy, home.data()).unwrap();
    // Its audit log does not know that the key was revoked.
    home.refused_start().expect(78);
    let server = Child::start(home.command().arg("--accept-short-audit-log"));
    let client = Client::connect(&server.url, Credential::parse(text).unwrap()).await;
    assert_eq!(refusal::of(client.collection("staff").await), not_valid());
    server.ask(&["collection", "list"]).expect(0);
}

#[test]
fn a_key_is_shown_once_and_taken_from_a_file_or_the_environment() {
    let home = Home::new();
    let server = home.serve();
    let made = server
        .ask(&["api-key", "create", "--scope", "search,verify", "--label", "door"])
        .expect(0);
    assert!(made.stdout.starts_with("likeness_"), "{made:?}");
    let file = home.path().join("api-key");
    fs::write(&file, &made.stdout).unwrap();
    let file = file.display().to_string();
    let url = server.url.as_str();
    let listed = server.ask(&["api-key", "list"]).expect(0).stdout;
    let secret = made.stdout.trim().rsplit('_').next().unwrap();
    assert!(
        listed.contains("search,verify  door") && !listed.contains(secret),
        "{listed}"
    );

    let asked = |more: &[&str]| Program::run(&[&["--server", url, "collection", "list"], more].concat());
    asked(&["--api-key-file", &file]).expect(0);
    let without = asked(&[]).expect(77);
    assert!(without.stderr.contains("KEY_REQUIRED"), "{without:?}");
    asked(&["--api-key-file", "/no/such/file"]).expect(66);
    let refused = Program::run(&["--server", url, "--api-key-file", &file, "api-key", "list"]).expect(77);
    assert!(refused.stderr.contains("SCOPE_MISSING"), "{refused:?}");
    let log = server.stop();
    assert!(!log.contains(secret) && !made.stderr.contains(secret));
}

#[test]
fn reflection_is_open_where_the_operator_opens_it() {
    let home = Home::new().with(&["--open-reflection"]);
    let server = home.serve();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let nobody = Client::connect(&server.url, Credential::default()).await;
        let listed = crate::interfaces::services(&nobody).await;
        assert!(listed.iter().any(|name| name == "likeness.v1.AccountService"));
        assert_eq!(refusal::of(nobody.collection("staff").await), required());
    });
}
