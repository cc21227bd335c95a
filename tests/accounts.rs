//! Accounts: what they cannot see of each other, what they may hold, and how they end.

use std::fs;

use likeness_engine::receipts::{Receipt, chain};
use likeness_engine::{Scope, Scopes};
use likeness_proto::credential::KeyedChannel;
use likeness_proto::v1;
use likeness_proto::v1::account_service_client::AccountServiceClient;
use likeness_proto::v1::erasure_service_client::ErasureServiceClient;
use tonic::Code;

use crate::support::child::{Home, KEY, Program, likeness};
use crate::support::pictures::{astronaut_small, tiny};
use crate::support::server::Setup;
use crate::support::{Client, Refused, Server, refusal};

pub fn accounts(client: &Client) -> AccountServiceClient<KeyedChannel> {
    AccountServiceClient::new(client.channel.clone())
}

async fn make(operator: &Client, name: &str, quotas: v1::Quotas) {
    let request = v1::CreateAccountRequest {
        name: name.to_owned(),
        quotas: Some(quotas),
        ..Default::default()
    };
    accounts(operator).create_account(request).await.expect("made");
}

async fn account(client: &Client, name: &str) -> v1::Account {
    let request = v1::GetAccountRequest {
        name: name.to_owned(),
    };
    let reply = accounts(client).get_account(request).await.expect("known");
    reply.into_inner().account.expect("an account")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_is_exact_however_many_enrol_at_once() {
    const PEOPLE: u64 = 5;
    let server = Server::start().await;
    let operator = server.client().await;
    make(
        &operator,
        "branch",
        v1::Quotas {
            persons: PEOPLE,
            faces: 7,
            ..Default::default()
        },
    )
    .await;
    let client = server.client_for("branch", &Scope::ALL).await;
    client.create("one").await;
    client.create("two").await;
    let photo = tiny();
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..12 {
        let (client, photo) = (client.clone(), photo.clone());
        calls.spawn(async move {
            let collection = if n % 2 == 0 { "one" } else { "two" };
            client
                .enroll_in_turn(collection, &format!("person-{n}"), &[&photo])
                .await
                .map(drop)
        });
    }
    let mut kept = 0;
    while let Some(answer) = calls.join_next().await {
        match answer.unwrap() {
            Ok(()) => kept += 1,
            Err(status) => assert_eq!(
                refusal::read(&status),
                Refused::new(Code::ResourceExhausted, "QUOTA_PEOPLE")
            ),
        }
    }
    assert_eq!(kept, PEOPLE);
    let held = account(&operator, "branch").await;
    assert_eq!((held.persons, held.faces, held.collections), (PEOPLE, PEOPLE, 2));

    let someone = client.people("one").await.pop().expect("somebody");
    let quota_faces = Refused::new(Code::ResourceExhausted, "QUOTA_FACES");
    let three = [&photo[..]; 3];
    assert_eq!(
        refusal::of(client.add_faces("one", &someone, &three).await),
        quota_faces
    );
    client
        .add_faces("one", &someone, &three[..2])
        .await
        .expect("two are left");
    assert_eq!(
        refusal::of(client.add_faces("one", &someone, &three[..1]).await),
        quota_faces
    );
    let request = v1::CopyPersonRequest {
        collection: "one".to_owned(),
        person_id: someone.clone(),
        target_collection: "two".to_owned(),
        target_person_id: "a-copy".to_owned(),
        ..Default::default()
    };
    let copied = refusal::of(client.persons.clone().copy_person(request).await);
    assert_eq!(copied, Refused::new(Code::ResourceExhausted, "QUOTA_PEOPLE"));
    // Who goes makes room.
    client.delete("one", &someone).await.expect("erased");
    client
        .enroll("two", "new", &[&photo])
        .await
        .expect("there is room");

    let request = v1::UpdateAccountRequest {
        name: "branch".to_owned(),
        quotas: Some(v1::Quotas::default()),
        ..Default::default()
    };
    accounts(&operator)
        .update_account(request)
        .await
        .expect("changed");
    client
        .enroll("two", "more", &[&photo])
        .await
        .expect("no limit any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_of_another_region_is_refused_here() {
    let mut setup = Setup::new();
    setup.config.region = "here".to_owned();
    let server = setup.start().await;
    let operator = server.client().await;
    make(&operator, "branch", v1::Quotas::default()).await;
    let client = server.client_for("branch", &Scope::ALL).await;
    client.create("staff").await;
    for (region, welcome) in [("here", true), ("elsewhere", false), ("", true)] {
        let request = v1::UpdateAccountRequest {
            name: "branch".to_owned(),
            region: Some(region.to_owned()),
            ..Default::default()
        };
        accounts(&operator)
            .update_account(request)
            .await
            .expect("changed");
        match client.collection("staff").await {
            Ok(_) => assert!(welcome, "{region}"),
            Err(status) => {
                assert!(!welcome, "{region}");
                let expected = Refused::new(Code::FailedPrecondition, "WRONG_REGION");
                assert_eq!(refusal::read(&status), expected);
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_account_leaves_nothing_but_a_last_receipt() {
    let server = Server::start().await;
    let operator = server.client().await;
    make(&operator, "branch", v1::Quotas::default()).await;
    make(&operator, "other", v1::Quotas::default()).await;
    let client = server.client_for("branch", &Scope::ALL).await;
    let other = server.client_for("other", &Scope::ALL).await;
    let photo = astronaut_small();
    for (who, id) in [(&client, "eileen"), (&other, "eileen")] {
        who.create("staff").await;
        who.enroll("staff", id, &[&photo]).await.expect("enrolled");
    }
    let close = |confirm: &str| v1::CloseAccountRequest {
        name: "branch".to_owned(),
        confirm_name: confirm.to_owned(),
    };
    let refused = accounts(&operator).close_account(close("brunch")).await;
    assert_eq!(refusal::fields(refused), ["confirm_name"]);
    let refused = refusal::of(accounts(&other).close_account(close("branch")).await);
    assert_eq!(refused, Refused::new(Code::PermissionDenied, "OPERATOR_ONLY"));
    client.collection("staff").await.map(drop).expect("it is open");

    let closed = accounts(&operator).close_account(close("branch")).await;
    let closed = closed.expect("closed").into_inner();
    assert_eq!(closed.persons_erased, 1);
    let last = closed.final_receipt.expect("a receipt");
    let subject = refusal::of(client.collection("staff").await);
    assert_eq!(subject, Refused::new(Code::Unauthenticated, "KEY_NOT_VALID"));
    let kept = account(&operator, "branch").await;
    assert_eq!(
        (kept.persons, kept.api_keys, kept.final_receipt),
        (0, 0, Some(last.sequence))
    );
    assert!(kept.closed.is_some());
    for refused in [
        refusal::of(accounts(&operator).close_account(close("branch")).await),
        refusal::of({
            let request = v1::CreateApiKeyRequest {
                account: "branch".to_owned(),
                scopes: vec![v1::Scope::Read.into()],
                ..Default::default()
            };
            accounts(&operator).create_api_key(request).await
        }),
    ] {
        assert_eq!(refused, Refused::new(Code::FailedPrecondition, "ACCOUNT_CLOSED"));
    }
    let again = v1::CreateAccountRequest {
        name: "branch".to_owned(),
        ..Default::default()
    };
    let again = refusal::of(accounts(&operator).create_account(again).await);
    assert_eq!(again, Refused::new(Code::AlreadyExists, "ACCOUNT_EXISTS"));
    assert_eq!(other.found("staff", &photo).await, ["eileen"]);

    let mut erasures = ErasureServiceClient::new(operator.channel.clone());
    let request = v1::ListErasureReceiptsRequest::default();
    let log = erasures
        .list_erasure_receipts(request)
        .await
        .expect("listed")
        .into_inner();
    let whole = log.receipts.concat();
    chain::verify(&whole, None, None).expect("every receipt holds");
    // It is about the account, for whoever holds the nonce, and about nothing else of that name.
    let (receipt, _) = Receipt::parse(&log.receipts[last.sequence as usize]).expect("a receipt");
    let subject = |collection, account| {
        let arguments = [
            "receipt",
            "subject",
            collection,
            "",
            &hex(&last.nonce),
            "--account",
            account,
        ];
        Program::run(&arguments).expect(0).stdout
    };
    assert_eq!(subject("", "branch").trim(), hex(&receipt.subject));
    for other in [subject("", "other"), subject("branch", "branch")] {
        assert_ne!(other.trim(), hex(&receipt.subject));
    }

    // A restart knows all of it.
    drop((client, other, operator, erasures));
    let server = server.stop().await.start().await;
    let operator = server.client().await;
    let kept = account(&operator, "branch").await;
    assert_eq!((kept.api_keys, kept.final_receipt), (0, Some(last.sequence)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_administrators_do_is_in_the_audit_log_and_who_is_enrolled_is_not() {
    let server = Server::start().await;
    let operator = server.client().await;
    make(&operator, "branch", v1::Quotas::default()).await;
    let client = server.client_for("branch", &Scope::ALL).await;
    client.create("staff").await;
    client
        .enroll("staff", "eileen", &[&astronaut_small()])
        .await
        .expect("enrolled");
    let request = v1::CreateAccountRequest {
        name: "branch".to_owned(),
        ..Default::default()
    };
    let failed = accounts(&operator).create_account(request).await;
    assert_eq!(refusal::of(failed).reason, "ACCOUNT_EXISTS");
    client.delete_collection("staff").await.expect("erased");

    let log = |client: &Client| {
        let mut accounts = accounts(client);
        async move {
            let reply = accounts.list_audit_log(v1::ListAuditLogRequest::default()).await;
            reply.expect("listed").into_inner().entries
        }
    };
    let all = log(&operator).await;
    let mut previous = vec![0; 32];
    for (n, entry) in all.iter().enumerate() {
        assert_eq!(entry.sequence, n as u64);
        assert_eq!(entry.previous_hash, previous, "entry {n} is chained");
        previous.clone_from(&entry.hash);
        assert!(!entry.object.contains("eileen"));
    }
    let acts: Vec<_> = all
        .iter()
        .map(|entry| {
            (
                entry.account.as_str(),
                entry.act.as_str(),
                entry.of_account.as_str(),
                entry.failed,
            )
        })
        .collect();
    assert_eq!(
        acts,
        [
            ("default", "create-account", "branch", false),
            ("branch", "create-collection", "branch", false),
            ("default", "create-account", "branch", false),
            ("default", "create-account", "branch", true),
            ("branch", "delete-collection", "branch", false),
        ]
    );
    assert_eq!(
        log(&client).await.len(),
        all.len(),
        "all of them are about this account"
    );
    let third = server.client_for("third", &Scope::ALL).await;
    assert!(log(&third).await.is_empty(), "nobody else's are listed");
}

#[test]
fn a_deployment_is_closed_with_everything_in_it() {
    let home = Home::new();
    let server = home.serve();
    server.ask(&["collection", "create", "staff"]).expect(0);
    let made = server.ask(&["account", "create", "branch", "--persons", "10"]);
    let made = made.expect(0).stdout;
    assert!(made.contains("renew the copy"), "{made}");
    let key = server
        .ask(&["api-key", "create", "--account", "branch", "--all-scopes"])
        .expect(0)
        .stdout;
    let (keys, data) = (
        home.keys().display().to_string(),
        home.data().display().to_string(),
    );
    let close = |words: &str| {
        let arguments = [
            "account",
            "close-deployment",
            "--confirm",
            words,
            "--keys",
            &keys,
            "--data",
            &data,
        ];
        Program::run(&arguments)
    };
    close("close everything").expect(78);
    let listed = server.ask(&["account", "list"]).expect(0).stdout;
    assert!(
        listed.contains("branch: 0 people, 0 faces, 1 API key, at most 10 people"),
        "{listed}"
    );
    assert!(
        server
            .ask(&["audit", "log"])
            .expect(0)
            .stdout
            .contains("create-account of branch")
    );
    let mut asks = likeness();
    asks.env("LIKENESS_SERVER", &server.url).env(KEY, key.trim());
    let own = Program::finish(asks.args(["account", "get"]), &[])
        .expect(0)
        .stdout;
    assert!(own.starts_with("branch"), "{own}");
    server.stop();

    close("everything").expect(64);
    assert!(home.keys().join("keyring").exists());
    let said = close("close everything").expect(0).stdout;
    assert!(
        said.contains("2 accounts") && said.contains("checkpoint"),
        "{said}"
    );
    for gone in ["keyring", "root.key"] {
        assert!(!home.keys().join(gone).exists(), "{gone}");
    }
    assert!(said.starts_with(&fs::read_to_string(home.keys().join("closed")).unwrap()));
    home.refused_start().expect(78);
    close("close everything").expect(78);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_is_told_once_when_an_account_holds_many_faces() {
    let home = Home::new().with(&["--faces-warning", "2"]);
    let server = home.serve();
    let client = server.client().await;
    client.create("staff").await;
    for id in ["one", "two", "three"] {
        client
            .enroll("staff", id, &[&astronaut_small()])
            .await
            .expect("enrolled");
    }
    let held = account(&client, "").await;
    assert_eq!((held.faces, held.faces_warning, held.above_warning), (3, 2, true));
    drop(client);
    let log = server.stop();
    assert_eq!(
        log.matches("as many faces as the operator wanted").count(),
        1,
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_account_is_that_accounts() {
    let server = Server::start().await;
    let new = likeness_engine::NewApiKey {
        scopes: Scopes::ALL,
        ..Default::default()
    };
    let key = server.key("branch", new).await;
    let client = Client::connect(&server.url(), likeness_server::credential::of(&key)).await;
    client.create("staff").await;
    let operator = server.client().await;
    let missing = refusal::of(operator.collection("staff").await);
    assert_eq!(missing, Refused::new(Code::NotFound, "COLLECTION_NOT_FOUND"));
    let own = account(&client, "").await;
    assert_eq!((own.name.as_str(), own.collections), ("branch", 1));
}
