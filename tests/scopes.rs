//! The table of docs/access.md: what each call asks of a key, and what its reply tells to a key of which scopes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, SystemTime};

use likeness_engine::{CollectionName, NewApiKey, Scope};
use likeness_proto::{Message, v1};
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorSet};
use tonic::Code;

use crate::support::client::{photograph, photographs};
use crate::support::pictures::{astronaut_small, sample};
use crate::support::{Client, Refused, Server, checkout, raw, refusal};

/// What keys a call may be made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keys {
    Collections,
    Account,
    Operator,
}

/// One row of the table.
struct Row {
    /// None for any key.
    scope: Option<Scope>,
    keys: Keys,
    /// Fields that every caller gets, by path.
    fields: BTreeSet<String>,
    /// Further ones, by the scope that gets them.
    further: BTreeMap<Scope, BTreeSet<String>>,
}

/// The contract: the reply of each call, and the fields of each message.
struct Contract {
    replies: BTreeMap<String, String>,
    messages: BTreeMap<String, DescriptorProto>,
}

impl Contract {
    fn read() -> Self {
        let set = FileDescriptorSet::decode(v1::DESCRIPTORS).expect("descriptors");
        let (mut replies, mut messages) = (BTreeMap::new(), BTreeMap::new());
        for file in set.file.iter().filter(|file| file.package() == "likeness.v1") {
            for message in &file.message_type {
                messages.insert(format!(".likeness.v1.{}", message.name()), message.clone());
            }
            for method in file.service.iter().flat_map(|service| &service.method) {
                replies.insert(method.name().to_owned(), method.output_type().to_owned());
            }
        }
        Self { replies, messages }
    }

    /// Messages of whose fields the table tells apart.
    fn is_told_apart(name: &str) -> bool {
        ["Person", "StoredFace", "Match"]
            .iter()
            .any(|known| name == format!(".likeness.v1.{known}"))
    }

    /// The paths of a message's fields.
    fn paths(&self, message: &str) -> BTreeSet<String> {
        let mut paths = BTreeSet::new();
        for field in &self.messages[message].field {
            if field.type_name() == ".likeness.v1.CallInfo" {
                continue;
            }
            if Self::is_told_apart(field.type_name()) {
                let below = self.paths(field.type_name());
                paths.extend(below.iter().map(|path| format!("{}.{path}", field.name())));
            } else {
                paths.insert(field.name().to_owned());
            }
        }
        paths
    }

    /// The paths of the fields that are set in an encoded message.
    fn set(&self, message: &str, mut encoded: &[u8]) -> BTreeSet<String> {
        let mut paths = BTreeSet::new();
        while !encoded.is_empty() {
            let tag = varint(&mut encoded);
            let number = i32::try_from(tag >> 3).expect("a number");
            let value: &[u8] = match tag & 7 {
                0 => {
                    varint(&mut encoded);
                    &[]
                }
                1 => take(&mut encoded, 8),
                2 => {
                    let length = usize::try_from(varint(&mut encoded)).expect("a length");
                    take(&mut encoded, length)
                }
                5 => take(&mut encoded, 4),
                other => panic!("wire type {other}"),
            };
            let fields = &self.messages[message].field;
            let field = fields
                .iter()
                .find(|field| field.number() == number)
                .expect("known");
            if field.type_name() == ".likeness.v1.CallInfo" {
                continue;
            }
            if field.r#type() == Type::Message && Self::is_told_apart(field.type_name()) {
                let below = self.set(field.type_name(), value);
                paths.extend(below.iter().map(|path| format!("{}.{path}", field.name())));
            } else {
                paths.insert(field.name().to_owned());
            }
        }
        paths
    }
}

fn varint(encoded: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = take(encoded, 1)[0];
        value |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return value;
        }
        shift += 7;
    }
}

fn take<'a>(encoded: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (first, rest) = encoded.split_at(length);
    *encoded = rest;
    first
}

/// Whether the table calls a field, by its path, an id: what is no record.
fn is_id(path: &str) -> bool {
    let last = path.rsplit('.').next().unwrap_or(path);
    ["person_id", "face_id", "collection", "similarity", "estimate"].contains(&last)
}

/// Fields as a cell names them: all of a field, or its ids, or its record.
fn fields_of(cell: &str, paths: &BTreeSet<String>) -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    for item in cell
        .split(", ")
        .filter(|item| *item != "nothing" && !item.is_empty())
    {
        let (name, rest) = item[1..].split_once('`').expect("a name between backticks");
        let own = paths
            .iter()
            .filter(|path| *path == name || path.starts_with(&format!("{name}.")));
        let named: Vec<_> = match rest.trim() {
            "ids" => own.filter(|path| is_id(path)).cloned().collect(),
            "record" => own.filter(|path| !is_id(path)).cloned().collect(),
            "" | "to the operator" => own.cloned().collect(),
            other => panic!("{item}: {other}"),
        };
        assert!(!named.is_empty(), "the contract has no field of {item}");
        for field in named {
            assert!(fields.insert(field), "{item} is named twice");
        }
    }
    fields
}

fn scope(name: &str) -> Scope {
    let found = Scope::ALL.into_iter().find(|scope| scope.name() == name);
    found.unwrap_or_else(|| panic!("no scope is called {name}"))
}

fn between_backticks(text: &str) -> &str {
    text.split('`').nth(1).unwrap_or_else(|| panic!("{text}"))
}

/// The table of the page.
fn table(contract: &Contract) -> BTreeMap<String, Row> {
    let page = fs::read_to_string(checkout().join("docs/access.md")).expect("a page");
    let section = page
        .split("## Calls, scopes and replies")
        .nth(1)
        .expect("a section");
    let mut rows = BTreeMap::new();
    for line in section
        .lines()
        .skip_while(|line| !line.starts_with("|---"))
        .skip(1)
    {
        let Some(line) = line.strip_prefix("| ") else {
            break;
        };
        let cells: Vec<_> = line.trim_end_matches('|').split('|').map(str::trim).collect();
        let [call, needs, keys, reply, further] = cells[..] else {
            panic!("five cells: {line}");
        };
        let call = between_backticks(call);
        let reply_message = contract
            .replies
            .get(call)
            .unwrap_or_else(|| panic!("no call {call}"));
        let paths = contract.paths(reply_message);
        let needed = between_backticks(needs);
        let row = Row {
            scope: (needed != "any").then(|| scope(needed)),
            keys: match keys {
                "collections" => Keys::Collections,
                "account" => Keys::Account,
                "operator" => Keys::Operator,
                other => panic!("{call}: {other}"),
            },
            fields: fields_of(reply, &paths),
            further: further
                .split("; ")
                .filter(|some| !some.is_empty())
                .map(|some| {
                    let (with, fields) = some.split_once(": ").expect("a scope and fields");
                    (scope(between_backticks(with)), fields_of(fields, &paths))
                })
                .collect(),
        };
        assert!(rows.insert(call.to_owned(), row).is_none(), "{call} has two rows");
    }
    rows
}

impl Row {
    /// What a key of these scopes gets.
    fn told(&self, scopes: &[Scope]) -> BTreeSet<String> {
        let mut told = self.fields.clone();
        for scope in scopes {
            told.extend(self.further.get(scope).into_iter().flatten().cloned());
        }
        told
    }
}

#[test]
fn the_table_has_every_call_of_the_contract_and_every_field_of_every_reply() {
    let contract = Contract::read();
    let table = table(&contract);
    let calls: Vec<_> = contract.replies.keys().collect();
    assert_eq!(table.keys().collect::<Vec<_>>(), calls);
    for (call, row) in &table {
        let named = row.told(&Scope::ALL);
        assert_eq!(named, contract.paths(&contract.replies[call]), "{call}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_is_refused_to_every_key_but_those_that_the_table_lets_in() {
    let server = Server::start().await;
    let table = table(&Contract::read());
    let staff = CollectionName::parse("staff").unwrap();
    let mut seen = 0;
    for scope in Scope::ALL {
        let operators = server.client_for("default", &[scope]).await;
        let others = server.client_for("branch", &[scope]).await;
        let restricted = NewApiKey {
            scopes: [scope].into_iter().collect(),
            collections: Some(BTreeSet::from([staff.clone()])),
            ..NewApiKey::default()
        };
        let restricted = likeness_server::credential::of(&server.key("default", restricted).await);
        let restricted = Client::connect(&server.url(), restricted).await;
        for method in raw::methods() {
            let (_, name) = method.split_once('/').expect("a path");
            let row = &table[name];
            let has = row.scope.is_none_or(|needed| needed == scope);
            for (whose, client) in [
                ("operator", &operators),
                ("other", &others),
                ("restricted", &restricted),
            ] {
                let refused = match whose {
                    _ if !has => "SCOPE_MISSING",
                    "restricted" if row.keys != Keys::Collections => "KEY_RESTRICTED",
                    "other" if row.keys == Keys::Operator => "OPERATOR_ONLY",
                    _ => "",
                };
                // A message that says nothing: it is the next thing to be refused, where anything is missing.
                let reason = match raw::call(&client.channel, &method, &[]).await {
                    Ok(_) => String::new(),
                    Err(status) => refusal::read_details(&status).reason,
                };
                let by_key = ["SCOPE_MISSING", "KEY_RESTRICTED", "OPERATOR_ONLY"].contains(&reason.as_str());
                let found = if by_key { reason.as_str() } else { "" };
                assert_eq!(found, refused, "{name}, {scope:?}, {whose}: {reason}");
                seen += 1;
            }
        }
    }
    assert!(seen > 900, "{seen}");
}

/// A person of whom everything is kept that can be.
fn whole(person_id: &str, photos: &[&[u8]]) -> v1::EnrollPersonRequest {
    v1::EnrollPersonRequest {
        collection: "staff".to_owned(),
        person_id: person_id.to_owned(),
        photographs: photographs(photos),
        name: "A Name".to_owned(),
        tags: vec!["a-tag".to_owned()],
        consent: Some(v1::Consent {
            purpose: "a purpose".to_owned(),
            of_age_or_parental: true,
            ..Default::default()
        }),
        expires: later(Duration::from_secs(86_400)),
        ..Default::default()
    }
}

fn later(time: Duration) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp::from(SystemTime::now() + time))
}

fn token(name: &str, scopes: &[Scope]) -> String {
    let scopes: Vec<_> = scopes.iter().map(|scope| scope.name()).collect();
    format!("a-token-of-{name}-{}", scopes.join("-"))
}

/// Every call whose reply depends on the key, made by one: what is set in each reply.
async fn replies(
    client: &Client,
    prefix: &str,
    scopes: &[Scope],
) -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let (one, photo, other) = (format!("{prefix}-one"), sample("obama.jpg"), sample("obama3.jpg"));
    let (collection, mut persons) = ("staff".to_owned(), client.persons.clone());
    let mut replies = Vec::new();
    if scopes.contains(&Scope::Enrol) {
        let enroll = v1::EnrollPersonRequest {
            idempotency_token: token("enrol", scopes),
            ..whole(&one, &[&photo])
        };
        for how in ["at first", "replayed"] {
            let reply = persons.enroll_person(enroll.clone()).await.expect("enrolled");
            replies.push(("EnrollPerson", how, reply.into_inner().encode_to_vec()));
        }
        let checks = Some(v1::EnrollmentChecks {
            duplicate_strictness: 4,
            ..Default::default()
        });
        let doubled = v1::EnrollPersonRequest {
            checks,
            ..whole(&format!("{prefix}-doubled"), &[&other])
        };
        let reply = persons
            .enroll_person(doubled)
            .await
            .expect("answered")
            .into_inner();
        assert!(!reply.duplicates.is_empty(), "somebody is enrolled already");
        replies.push(("EnrollPerson", "duplicates", reply.encode_to_vec()));
        let add = v1::AddFacesRequest {
            collection: collection.clone(),
            person_id: one.clone(),
            photographs: photographs(&[&other]),
            idempotency_token: token("add", scopes),
            ..Default::default()
        };
        for how in ["at first", "replayed"] {
            let reply = persons.add_faces(add.clone()).await.expect("added").into_inner();
            replies.push(("AddFaces", how, reply.encode_to_vec()));
        }
        let update = v1::UpdatePersonRequest {
            collection: collection.clone(),
            person_id: one.clone(),
            idempotency_token: token("update", scopes),
            ..Default::default()
        };
        for how in ["changing nothing", "replayed"] {
            let reply = persons.update_person(update.clone()).await.expect("changed");
            replies.push(("UpdatePerson", how, reply.into_inner().encode_to_vec()));
        }
        let copy = v1::CopyPersonRequest {
            collection: collection.clone(),
            person_id: one.clone(),
            target_collection: collection.clone(),
            target_person_id: format!("{prefix}-copy"),
            idempotency_token: token("copy", scopes),
        };
        for how in ["at first", "replayed"] {
            let reply = persons
                .copy_person(copy.clone())
                .await
                .expect("copied")
                .into_inner();
            replies.push(("CopyPerson", how, reply.encode_to_vec()));
        }
        let rename = v1::RenamePersonRequest {
            collection: collection.clone(),
            person_id: format!("{prefix}-copy"),
            new_person_id: format!("{prefix}-renamed"),
            idempotency_token: token("rename", scopes),
        };
        for how in ["at first", "replayed"] {
            let reply = persons.rename_person(rename.clone()).await.expect("renamed");
            replies.push(("RenamePerson", how, reply.into_inner().encode_to_vec()));
        }
    }
    replies
}

/// The same of what erases, of a person with two faces.
async fn erasures(
    client: &Client,
    (person_id, face_id): (&str, &str),
    scopes: &[Scope],
) -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let mut persons = client.persons.clone();
    let mut replies = Vec::new();
    let delete = v1::DeleteFacesRequest {
        collection: "staff".to_owned(),
        person_id: person_id.to_owned(),
        face_ids: vec![face_id.to_owned()],
        idempotency_token: token("faces", scopes),
    };
    for how in ["at first", "replayed"] {
        let reply = persons.delete_faces(delete.clone()).await.expect("deleted");
        replies.push(("DeleteFaces", how, reply.into_inner().encode_to_vec()));
    }
    let withdraw = v1::WithdrawConsentRequest {
        collection: "staff".to_owned(),
        person_id: person_id.to_owned(),
        ..Default::default()
    };
    let reply = persons.withdraw_consent(withdraw).await.expect("withdrawn");
    replies.push(("WithdrawConsent", "", reply.into_inner().encode_to_vec()));
    replies
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_has_the_fields_that_the_table_gives_its_key_and_no_others() {
    let server = Server::start().await;
    let (contract, all) = (Contract::read(), server.client().await);
    let table = table(&contract);
    all.create("staff").await;
    let (enrol, erase) = (Scope::Enrol, Scope::Erase);
    let sets = [
        vec![enrol],
        vec![enrol, Scope::Search],
        vec![
            enrol,
            Scope::Import,
            Scope::Verify,
            Scope::Erase,
            Scope::Admin,
            Scope::Audit,
        ],
        vec![enrol, Scope::Read],
        vec![erase],
        vec![erase, enrol, Scope::Search],
        vec![erase, Scope::Read],
    ];
    let mut whole_ones = 0;
    for (number, scopes) in sets.iter().enumerate() {
        let client = server.client_for("default", scopes).await;
        let mut found = replies(&client, &format!("set-{number}"), scopes).await;
        if scopes.contains(&erase) {
            let goes = format!("goes-{number}");
            let photos = [sample("obama.jpg"), sample("obama3.jpg")];
            let made = all.enroll_as(whole(&goes, &[&photos[0], &photos[1]])).await;
            let faces = made.expect("enrolled").person.expect("a person").faces;
            found.extend(erasures(&client, (&goes, &faces[0].face_id), scopes).await);
        }
        for (call, how, reply) in found {
            let set = contract.set(&contract.replies[call], &reply);
            let told = table[call].told(scopes);
            let what = format!("{call} {how}, {scopes:?}");
            assert!(set.is_subset(&told), "{what}: {:?}", set.difference(&told));
            // Of a person everything is kept: so whatever may be told is.
            if set.contains("person.person_id") {
                let of_person = |path: &&String| path.starts_with("person.");
                let expected: Vec<_> = told.iter().filter(of_person).collect();
                assert_eq!(
                    set.iter().filter(of_person).collect::<Vec<_>>(),
                    expected,
                    "{what}"
                );
                whole_ones += usize::from(expected.len() > 2);
            }
        }
        // For the next one nobody is enrolled already but by itself.
        all.delete_collection("staff").await.expect("erased");
        all.create("staff").await;
    }
    assert!(whole_ones >= 10, "{whole_ones}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_expiry_is_an_erasure_and_needs_the_scope_that_erases() {
    let server = Server::start().await;
    let all = server.client().await;
    all.create("staff").await;
    let photo = astronaut_small();
    let enrols = server.client_for("default", &[Scope::Enrol]).await;
    let erases = server.client_for("default", &[Scope::Enrol, Scope::Erase]).await;
    let hour = Duration::from_secs(3600);
    let expires_in = |time| v1::ExpiryChange { expires: later(time) };
    let update = |client: &Client, person_id: &str, expiry: v1::ExpiryChange| {
        let request = v1::UpdatePersonRequest {
            collection: "staff".to_owned(),
            person_id: person_id.to_owned(),
            expiry: Some(expiry),
            ..Default::default()
        };
        let mut persons = client.persons.clone();
        async move { persons.update_person(request).await }
    };
    let missing = || Refused::new(Code::PermissionDenied, "SCOPE_MISSING");

    all.enroll("staff", "for-good", &[&photo])
        .await
        .expect("enrolled");
    let soon = Duration::from_millis(1500);
    for time in [soon, hour, 1000 * hour] {
        let refused = update(&enrols, "for-good", expires_in(time)).await;
        assert_eq!(refusal::of(refused), missing(), "where there was none");
    }
    let guest = v1::EnrollPersonRequest {
        collection: "staff".to_owned(),
        person_id: "guest".to_owned(),
        photographs: vec![photograph(&photo)],
        expires: later(24 * hour),
        ..Default::default()
    };
    enrols
        .enroll_as(guest)
        .await
        .expect("whoever enrols says for how long");
    for time in [soon, hour, 23 * hour] {
        let refused = update(&enrols, "guest", expires_in(time)).await;
        assert_eq!(refusal::of(refused), missing(), "before the one on record");
    }
    update(&enrols, "guest", expires_in(25 * hour))
        .await
        .expect("later");
    let stored = all.person("staff", "guest").await.expect("there").expires;
    let same = v1::ExpiryChange { expires: stored };
    update(&enrols, "guest", same).await.expect("the same one");
    let never = v1::ExpiryChange { expires: None };
    update(&enrols, "guest", never).await.expect("never");
    let refused = update(&enrols, "guest", expires_in(1000 * hour)).await;
    assert_eq!(refusal::of(refused), missing(), "where there is none any more");
    // Another change of the same call is not made either.
    let request = v1::UpdatePersonRequest {
        collection: "staff".to_owned(),
        person_id: "for-good".to_owned(),
        name: Some("Somebody Else".to_owned()),
        expiry: Some(expires_in(hour)),
        ..Default::default()
    };
    let refused = enrols.persons.clone().update_person(request).await;
    assert_eq!(refusal::of(refused), missing());
    assert_eq!(all.person("staff", "for-good").await.expect("there").name, "");

    update(&erases, "guest", expires_in(hour))
        .await
        .expect("with both scopes");
    update(&erases, "guest", expires_in(soon))
        .await
        .expect("with both scopes");
    tokio::time::sleep(2 * soon).await;
    assert_eq!(all.people("staff").await, ["for-good"]);
}
