//! What an account learns of another's collections and people: nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use likeness_engine::Scope;
use likeness_proto::{Message, v1};
use tonic::{Code, Status};

use crate::accounts::accounts;
use crate::support::client::photograph;
use crate::support::pictures::astronaut_small;
use crate::support::{Refused, Server, raw, refusal};

/// Every call that names a collection or a person, with a message that names these.
fn naming(collection: &str, person_id: &str) -> BTreeMap<&'static str, Vec<u8>> {
    let (collection, person_id) = (collection.to_owned(), person_id.to_owned());
    let photo = || Some(photograph(&astronaut_small()));
    let mut calls = BTreeMap::new();
    macro_rules! call {
        ($service:literal, $method:literal, $request:ident { $($field:ident: $value:expr),* $(,)? }) => {
            #[allow(clippy::needless_update, reason = "some of the messages have no other fields")]
            let request = v1::$request { $($field: $value,)* ..Default::default() };
            calls.insert(concat!("likeness.v1.", $service, "/", $method), request.encode_to_vec());
        };
    }
    call!(
        "CollectionService",
        "GetCollection",
        GetCollectionRequest {
            name: collection.clone()
        }
    );
    call!(
        "CollectionService",
        "UpdateCollection",
        UpdateCollectionRequest {
            name: collection.clone(),
            threshold: Some(0.5)
        }
    );
    call!(
        "CollectionService",
        "DeleteCollection",
        DeleteCollectionRequest {
            name: collection.clone()
        }
    );
    call!(
        "PersonService",
        "EnrollPerson",
        EnrollPersonRequest {
            collection: collection.clone(),
            person_id: person_id.clone(),
            photographs: vec![photo().unwrap()]
        }
    );
    call!(
        "PersonService",
        "AddFaces",
        AddFacesRequest {
            collection: collection.clone(),
            person_id: person_id.clone(),
            photographs: vec![photo().unwrap()]
        }
    );
    call!(
        "PersonService",
        "GetPerson",
        GetPersonRequest {
            collection: collection.clone(),
            person_id: person_id.clone()
        }
    );
    call!(
        "PersonService",
        "ListPersons",
        ListPersonsRequest {
            collection: collection.clone()
        }
    );
    call!(
        "PersonService",
        "ListConsents",
        ListConsentsRequest {
            collection: collection.clone()
        }
    );
    call!(
        "PersonService",
        "UpdatePerson",
        UpdatePersonRequest {
            collection: collection.clone(),
            person_id: person_id.clone(),
            name: Some("x".to_owned())
        }
    );
    call!(
        "PersonService",
        "DeleteFaces",
        DeleteFacesRequest {
            collection: collection.clone(),
            person_id: person_id.clone(),
            face_ids: vec!["0".repeat(32)]
        }
    );
    call!(
        "PersonService",
        "DeletePerson",
        DeletePersonRequest {
            collection: collection.clone(),
            person_id: person_id.clone()
        }
    );
    call!(
        "PersonService",
        "DeletePersons",
        DeletePersonsRequest {
            sequence: 1,
            collection: collection.clone(),
            person_id: person_id.clone()
        }
    );
    call!(
        "PersonService",
        "WithdrawConsent",
        WithdrawConsentRequest {
            collection: collection.clone(),
            person_id: person_id.clone()
        }
    );
    call!(
        "PersonService",
        "EraseEverywhere",
        EraseEverywhereRequest {
            person_id: person_id.clone()
        }
    );
    call!(
        "PersonService",
        "ExportPerson",
        ExportPersonRequest {
            person_id: person_id.clone()
        }
    );
    call!(
        "PersonService",
        "CopyPerson",
        CopyPersonRequest {
            collection: collection.clone(),
            person_id: person_id.clone(),
            target_collection: "own".to_owned()
        }
    );
    call!(
        "PersonService",
        "RenamePerson",
        RenamePersonRequest {
            collection: collection.clone(),
            person_id: person_id.clone(),
            new_person_id: "another".to_owned()
        }
    );
    let header = v1::ImportHeader {
        collection: collection.clone(),
        import_token: "an-import-of-nobody".to_owned(),
        ..Default::default()
    };
    call!(
        "PersonService",
        "ImportPersons",
        ImportPersonsRequest {
            part: Some(v1::import_persons_request::Part::Header(header))
        }
    );
    call!(
        "MatchingService",
        "VerifyPerson",
        VerifyPersonRequest {
            collection: collection.clone(),
            person_id: person_id.clone(),
            photograph: photo()
        }
    );
    call!(
        "MatchingService",
        "SearchPersons",
        SearchPersonsRequest {
            collections: vec!["own".to_owned(), collection.clone()],
            photograph: photo()
        }
    );
    call!(
        "CollectionService",
        "MeasureIndex",
        MeasureIndexRequest {
            collection: collection.clone()
        }
    );
    call!(
        "MatchingService",
        "FindDuplicates",
        FindDuplicatesRequest {
            collection: collection.clone()
        }
    );
    call!(
        "ErasureService",
        "PrepareResidueAudit",
        PrepareResidueAuditRequest {
            collection: collection.clone(),
            person_id: person_id.clone()
        }
    );
    call!(
        "LogService",
        "ListRunningLog",
        ListRunningLogRequest {
            collection: collection.clone(),
            person_id: person_id.clone()
        }
    );
    call!(
        "LogService",
        "ExportRunningLog",
        ExportRunningLogRequest {
            collection: collection.clone()
        }
    );
    calls
}

/// Calls that name neither.
const NAMING_NOTHING: [&str; 21] = [
    "CollectionService/CreateCollection",
    "CollectionService/ListCollections",
    "MatchingService/DetectFaces",
    "MatchingService/CompareFaces",
    "ErasureService/GetErasureReceipt",
    "ErasureService/ListErasureReceipts",
    "ErasureService/GetErasureStatus",
    "KeyService/RotateWrappingKey",
    "KeyService/RotateSigningKey",
    "KeyService/DestroyKeyGroup",
    "AccountService/CreateAccount",
    "AccountService/GetAccount",
    "AccountService/ListAccounts",
    "AccountService/UpdateAccount",
    "AccountService/CloseAccount",
    "AccountService/ListAuditLog",
    "AccountService/CreateApiKey",
    "AccountService/ListApiKeys",
    "AccountService/RevokeApiKey",
    "LogService/GetUsage",
    "LogService/GetPolicy",
];

/// What a caller is told: everything but the request id and how long it took.
fn told(answer: Result<Vec<u8>, Status>) -> String {
    match answer {
        // The replies of the few that answer without a word of the collection.
        Ok(reply) => {
            // Its first field is the call's, as in every reply but those of streams; this one has no other.
            let call = v1::RevokeApiKeyResponse::decode(&reply[..]);
            format!(
                "{} bytes",
                reply.len() - call.map_or(0, |call| call.encoded_len())
            )
        }
        Err(status) => format!("{:?} {}", refusal::read_details(&status), status.message()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_accounts_learn_nothing_of_each_other_through_any_call() {
    let server = Server::start().await;
    let one = server.client_for("one", &Scope::ALL).await;
    let two = server.client_for("two", &Scope::ALL).await;
    one.create("staff").await;
    one.enroll("staff", "eileen", &[&astronaut_small()])
        .await
        .expect("enrolled");
    two.create("own").await;

    let (there, nowhere) = (
        naming("staff", "eileen"),
        naming("no-such-place", "nobody-at-all"),
    );
    for method in raw::methods() {
        let known = there.contains_key(method.as_str());
        let names_nothing = NAMING_NOTHING
            .iter()
            .any(|name| method == format!("likeness.v1.{name}"));
        assert!(known != names_nothing, "{method} is in one of the two lists");
        if known {
            let seen = told(raw::call(&two.channel, &method, &there[method.as_str()]).await);
            let unseen = told(raw::call(&two.channel, &method, &nowhere[method.as_str()]).await);
            assert_eq!(seen, unseen, "{method}");
        }
    }
    // Nor by the names of accounts and keys.
    for name in ["one", "no-such-account"] {
        let name = name.to_owned();
        let request = v1::GetAccountRequest { name: name.clone() };
        let refused = refusal::of(accounts(&two).get_account(request).await);
        assert_eq!(refused, Refused::new(Code::NotFound, "ACCOUNT_NOT_FOUND"));
        let request = v1::ListApiKeysRequest {
            account: name.clone(),
        };
        let refused = refusal::of(accounts(&two).list_api_keys(request).await);
        assert_eq!(refused, Refused::new(Code::NotFound, "ACCOUNT_NOT_FOUND"));
        let request = v1::CreateApiKeyRequest {
            account: name,
            scopes: vec![v1::Scope::Read.into()],
            ..Default::default()
        };
        let refused = refusal::of(accounts(&two).create_api_key(request).await);
        assert_eq!(refused, Refused::new(Code::NotFound, "ACCOUNT_NOT_FOUND"));
    }
    let keys = accounts(&one)
        .list_api_keys(v1::ListApiKeysRequest::default())
        .await;
    let key_id = keys.expect("listed").into_inner().api_keys[0].key_id.clone();
    for key_id in [key_id, "0".repeat(32)] {
        let request = v1::RevokeApiKeyRequest {
            account: String::new(),
            key_id,
        };
        let refused = refusal::of(accounts(&two).revoke_api_key(request).await);
        assert_eq!(refused, Refused::new(Code::NotFound, "API_KEY_NOT_FOUND"));
    }
    // The same names are free, and the other's people are not found.
    two.create("staff").await;
    assert!(two.found("staff", &astronaut_small()).await.is_empty());
    assert_eq!(one.found("staff", &astronaut_small()).await, ["eileen"]);
    assert_eq!(one.people("staff").await, ["eileen"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn how_long_an_answer_takes_does_not_tell_anothers_person_from_nobody() {
    let server = Server::start().await;
    let one = server.client_for("one", &Scope::ALL).await;
    let two = server.client_for("two", &Scope::ALL).await;
    one.create("staff").await;
    one.enroll("staff", "eileen", &[&astronaut_small()])
        .await
        .expect("enrolled");
    let mut took = [Vec::new(), Vec::new()];
    for _ in 0..300 {
        for (place, collection) in ["staff", "nowhere"].into_iter().enumerate() {
            let began = Instant::now();
            assert!(two.person(collection, "eileen").await.is_err());
            took[place].push(began.elapsed());
        }
    }
    let [seen, unseen] = took.map(|mut took| {
        took.sort();
        took[took.len() / 2]
    });
    let (shorter, longer) = (seen.min(unseen), seen.max(unseen));
    // A look into the records would take several times as long as one into a table in memory.
    assert!(
        longer < shorter * 2 + Duration::from_micros(200),
        "{seen:?}, {unseen:?}"
    );
}
