//! Whatever any call is given, how ever it ends: no log, file or metric holds it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use likeness_proto::v1;
use likeness_proto::{Message, v1::import_persons_request::Part};
use serde_json::Value;

use crate::logs::{files, lines};
use crate::support::asset;
use crate::support::child::{Child, Home};
use crate::support::client::{photograph, photographs};
use crate::support::pictures::sample;
use crate::support::raw::{self, Contract};

const WHO: &str = "person-marker-Quetzalcoatl";
const COPY: &str = "copy-marker-Quetzalcoatl";
const RENAMED: &str = "renamed-marker-Quetzalcoatl";
const IMPORTED: &str = "imported-marker-Quetzalcoatl";
/// No name, for its space.
const TEXT: &str = "text marker Xylophone";
const LABEL: &str = "label-marker-Yttrium";
const TOKEN: &str = "token-marker-31415926535";
/// In the place of photographs in calls that fail.
const BYTES: &[u8] = b"photograph-marker-and-no-photograph-at-all";

fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// Pieces of bytes from all over them.
fn pieces(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let step = bytes.len() / 9;
    (1..8).map(move |i| bytes[i * step..][..24].to_vec())
}

/// Features that no face has, and their bytes.
fn features() -> Vec<f32> {
    (0..512_u16)
        .map(|n| (f32::from(n) * 0.37).sin() + 0.001)
        .collect()
}

fn needles(home: &Home) -> Vec<Vec<u8>> {
    let mut needles: Vec<Vec<u8>> = [WHO, COPY, RENAMED, IMPORTED, TEXT, LABEL, TOKEN]
        .map(|text| text.as_bytes().to_vec())
        .into();
    needles.push(BYTES.to_vec());
    needles.extend(pieces(&sample("obama.jpg")));
    let features: Vec<u8> = features().into_iter().flat_map(f32::to_le_bytes).collect();
    needles.extend(pieces(&features));
    let root = fs::read_to_string(home.keys().join("root.key")).unwrap();
    let hex = root
        .split_whitespace()
        .max_by_key(|word| word.len())
        .unwrap()
        .to_owned();
    assert!(hex.len() >= 32, "a key");
    needles.push(hex.into_bytes());
    needles.extend(pieces(&fs::read(home.keys().join("keyring")).unwrap()));
    needles
}

/// A request for every call of the contract that is carried out, in an order in which all of them are.
fn carried_out() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let staff = || "staff".to_owned();
    let photo = sample("obama.jpg");
    let one = |message: &dyn Fn() -> Vec<u8>| vec![message()];
    macro_rules! request {
        ($name:literal, $message:expr) => {
            ($name, one(&|| $message.encode_to_vec()))
        };
    }
    let enroll = |who: &str, token: &str| v1::EnrollPersonRequest {
        collection: staff(),
        person_id: who.to_owned(),
        photographs: photographs(&[&photo]),
        name: TEXT.to_owned(),
        tags: vec![TEXT.to_owned()],
        consent: Some(v1::Consent {
            purpose: TEXT.to_owned(),
            of_age_or_parental: true,
            ..Default::default()
        }),
        idempotency_token: token.to_owned(),
        ..Default::default()
    };
    let import = |part| v1::ImportPersonsRequest { part: Some(part) }.encode_to_vec();
    let header = v1::ImportHeader {
        collection: staff(),
        import_token: TOKEN.to_owned(),
        embedding_model: blake3::hash(&fs::read(asset("models/fr_feature.onnx")).unwrap()).to_string(),
        embedding_dim: 512,
        ..Default::default()
    };
    let item = v1::ImportItem {
        sequence: 1,
        person_id: IMPORTED.to_owned(),
        embeddings: vec![v1::FaceEmbedding { values: features() }],
        ..Default::default()
    };
    let named = || (staff(), WHO.to_owned());
    vec![
        request!(
            "CreateCollection",
            v1::CreateCollectionRequest {
                name: staff(),
                ..Default::default()
            }
        ),
        request!("GetCollection", v1::GetCollectionRequest { name: staff() }),
        request!("ListCollections", v1::ListCollectionsRequest::default()),
        request!(
            "UpdateCollection",
            v1::UpdateCollectionRequest {
                name: staff(),
                consent_required: Some(false),
                ..Default::default()
            }
        ),
        request!("EnrollPerson", enroll(WHO, TOKEN)),
        (
            "ImportPersons",
            vec![import(Part::Header(header)), import(Part::Item(item))],
        ),
        request!(
            "AddFaces",
            v1::AddFacesRequest {
                collection: named().0,
                person_id: named().1,
                photographs: photographs(&[&sample("obama3.jpg")]),
                ..Default::default()
            }
        ),
        request!(
            "GetPerson",
            v1::GetPersonRequest {
                collection: named().0,
                person_id: named().1
            }
        ),
        request!(
            "ListPersons",
            v1::ListPersonsRequest {
                collection: staff(),
                ..Default::default()
            }
        ),
        request!(
            "UpdatePerson",
            v1::UpdatePersonRequest {
                collection: named().0,
                person_id: named().1,
                name: Some(TEXT.to_owned()),
                ..Default::default()
            }
        ),
        request!(
            "ListConsents",
            v1::ListConsentsRequest {
                collection: staff(),
                ..Default::default()
            }
        ),
        request!(
            "CopyPerson",
            v1::CopyPersonRequest {
                collection: named().0,
                person_id: named().1,
                target_collection: staff(),
                target_person_id: COPY.to_owned(),
                ..Default::default()
            }
        ),
        request!(
            "RenamePerson",
            v1::RenamePersonRequest {
                collection: staff(),
                person_id: COPY.to_owned(),
                new_person_id: RENAMED.to_owned(),
                ..Default::default()
            }
        ),
        request!(
            "ExportPerson",
            v1::ExportPersonRequest {
                person_id: WHO.to_owned()
            }
        ),
        request!(
            "DetectFaces",
            v1::DetectFacesRequest {
                photograph: Some(photograph(&photo)),
                ..Default::default()
            }
        ),
        request!(
            "CompareFaces",
            v1::CompareFacesRequest {
                first: Some(photograph(&photo)),
                second: Some(photograph(&photo)),
                ..Default::default()
            }
        ),
        request!(
            "VerifyPerson",
            v1::VerifyPersonRequest {
                collection: named().0,
                person_id: named().1,
                photograph: Some(photograph(&photo)),
                ..Default::default()
            }
        ),
        request!(
            "SearchPersons",
            v1::SearchPersonsRequest {
                collections: vec![staff()],
                photograph: Some(photograph(&photo)),
                ..Default::default()
            }
        ),
        request!(
            "FindDuplicates",
            v1::FindDuplicatesRequest {
                collection: staff(),
                ..Default::default()
            }
        ),
        request!(
            "MeasureIndex",
            v1::MeasureIndexRequest {
                collection: staff(),
                ..Default::default()
            }
        ),
        request!(
            "PrepareResidueAudit",
            v1::PrepareResidueAuditRequest {
                collection: named().0,
                person_id: named().1
            }
        ),
        request!(
            "ListRunningLog",
            v1::ListRunningLogRequest {
                collection: named().0,
                person_id: named().1,
                ..Default::default()
            }
        ),
        request!(
            "ExportRunningLog",
            v1::ExportRunningLogRequest { collection: staff() }
        ),
        request!("GetUsage", v1::GetUsageRequest::default()),
        request!("GetPolicy", v1::GetPolicyRequest::default()),
        request!(
            "CreateAccount",
            v1::CreateAccountRequest {
                name: "branch".to_owned(),
                ..Default::default()
            }
        ),
        request!(
            "GetAccount",
            v1::GetAccountRequest {
                name: "branch".to_owned()
            }
        ),
        request!("ListAccounts", v1::ListAccountsRequest::default()),
        request!(
            "UpdateAccount",
            v1::UpdateAccountRequest {
                name: "branch".to_owned(),
                ..Default::default()
            }
        ),
        request!(
            "CreateApiKey",
            v1::CreateApiKeyRequest {
                account: "branch".to_owned(),
                scopes: vec![v1::Scope::Read.into()],
                label: LABEL.to_owned(),
                ..Default::default()
            }
        ),
        request!(
            "ListApiKeys",
            v1::ListApiKeysRequest {
                account: "branch".to_owned()
            }
        ),
        // The id of a key is known when there is one.
        ("RevokeApiKey", Vec::new()),
        request!(
            "CloseAccount",
            v1::CloseAccountRequest {
                name: "branch".to_owned(),
                confirm_name: "branch".to_owned()
            }
        ),
        request!("ListAuditLog", v1::ListAuditLogRequest::default()),
        request!(
            "WithdrawConsent",
            v1::WithdrawConsentRequest {
                collection: staff(),
                person_id: RENAMED.to_owned(),
                ..Default::default()
            }
        ),
        request!(
            "DeletePersons",
            v1::DeletePersonsRequest {
                collection: staff(),
                person_id: IMPORTED.to_owned(),
                ..Default::default()
            }
        ),
        request!(
            "DeletePerson",
            v1::DeletePersonRequest {
                collection: named().0,
                person_id: named().1,
                ..Default::default()
            }
        ),
        request!(
            "EraseEverywhere",
            v1::EraseEverywhereRequest {
                person_id: WHO.to_owned(),
                ..Default::default()
            }
        ),
        request!("GetErasureReceipt", v1::GetErasureReceiptRequest { sequence: 1 }),
        request!("ListErasureReceipts", v1::ListErasureReceiptsRequest::default()),
        request!("GetErasureStatus", v1::GetErasureStatusRequest {}),
        request!("RotateWrappingKey", v1::RotateWrappingKeyRequest {}),
        request!("RotateSigningKey", v1::RotateSigningKeyRequest {}),
        request!(
            "DeleteCollection",
            v1::DeleteCollectionRequest {
                name: staff(),
                ..Default::default()
            }
        ),
        request!(
            "DestroyKeyGroup",
            v1::DestroyKeyGroupRequest {
                key_group: "default".to_owned()
            }
        ),
    ]
}

async fn contract(server: &Child) -> Contract {
    let client = server.client().await;
    Contract::of(&crate::interfaces::described(&client).await)
}

/// Calls in which no text can be wrong, or which answer what is wrong item by item.
const NEVER_FAIL: [&str; 7] = [
    "ListAuditLog",
    "GetErasureStatus",
    "GetErasureReceipt",
    "ListErasureReceipts",
    "RotateWrappingKey",
    "RotateSigningKey",
    "DeletePersons",
];

#[tokio::test(flavor = "multi_thread")]
async fn no_log_file_or_metric_holds_what_any_call_was_given() {
    let home = Home::new();
    let mut needles = needles(&home);
    let shown = ["--metrics", "127.0.0.1:0"];
    let server = Child::start(home.command().args(shown).env("LIKENESS_LOG", "trace"));
    let contract = contract(&server).await;
    let methods: BTreeMap<_, _> = contract.methods.iter().map(|m| (m.name.as_str(), m)).collect();
    let channel = server.client().await.channel;
    let carried_out = carried_out();
    let covered: BTreeSet<_> = carried_out.iter().map(|(name, _)| *name).collect();
    let all: BTreeSet<_> = methods
        .keys()
        .copied()
        .filter(|name| *name != "DeleteFaces")
        .collect();
    assert_eq!(covered, all, "every call that reflection finds is made");

    needles.push(server.key.clone().into_bytes());
    let (mut told, mut key_id) = (Vec::new(), String::new());
    for (name, mut messages) in carried_out {
        if name == "GetPerson" {
            delete_a_face(&server).await;
        }
        // Once to fail: every text and all bytes of the request are markers.
        let path = &methods[name].path;
        for text in [WHO, TEXT] {
            let failed =
                raw::exchange(&channel, path, vec![contract.marked(methods[name], text, BYTES)]).await;
            let failed = match &failed {
                Err(status) => {
                    let said = format!("{status:?}");
                    assert!(!said.contains(WHO) && !said.contains(TEXT), "{name}: {said}");
                    true
                }
                Ok(_) => false,
            };
            let may = text == WHO || NEVER_FAIL.contains(&name);
            assert!(failed || may, "{name} was carried out with {text}");
        }
        // And once to succeed.
        if name == "RevokeApiKey" {
            let revoke = v1::RevokeApiKeyRequest {
                account: "branch".to_owned(),
                key_id: std::mem::take(&mut key_id),
            };
            messages = vec![revoke.encode_to_vec()];
        }
        let answers = raw::exchange(&channel, path, messages).await;
        if name == "MeasureIndex" && !cfg!(feature = "graph") {
            let refused = answers.expect_err("there is no graph to measure");
            assert_eq!(refused.code(), tonic::Code::Unimplemented);
            continue;
        }
        let answers = answers.unwrap_or_else(|status| panic!("{name}: {status:?}"));
        if name == "CreateApiKey" {
            let made = v1::CreateApiKeyResponse::decode(&answers[0][..]).expect("a reply");
            key_id = made.api_key.expect("a key").key_id;
            needles.push(made.secret_text.into_bytes());
        }
        if ["GetUsage", "GetPolicy", "GetErasureStatus"].contains(&name) {
            told.extend(answers);
        }
    }
    let metrics = server.scraped();
    for name in ["EnrollPerson", "INVALID_ARGUMENT", "likeness_running_log_bytes"] {
        assert!(metrics.contains(name), "{metrics}");
    }
    told.push(metrics.into_bytes());
    // Everything that was left is in the files: the server writes the rest before it ends.
    assert_clean(&home.data(), &needles);
    let log = server.stop();
    assert_clean(&home.data(), &needles);
    fs::write(home.path().join("log"), &log).unwrap();
    fs::write(home.path().join("told"), told.concat()).unwrap();
    fs::remove_dir_all(home.keys()).unwrap();
    assert_clean(home.path(), &needles);
    // What is searched is there.
    for class in ["error", "operation", "monitoring"] {
        let lines = lines(&home.data(), class);
        let of = |line: &Value| line["interface"].as_str().map(str::to_owned);
        let interfaces: BTreeSet<_> = lines.iter().filter_map(of).collect();
        assert!(interfaces.len() > 25, "{class}: {interfaces:?}");
    }
    assert!(log.contains("EnrollPerson") && log.contains("TRACE") && !told.is_empty());
    fs::write(home.path().join("log"), format!("{log}{COPY}")).unwrap();
    assert!(holds(
        &fs::read(home.path().join("log")).unwrap(),
        COPY.as_bytes()
    ));
}

/// Needs the id of a face, which only a reply has.
async fn delete_a_face(server: &Child) {
    let client = server.client().await;
    let person = client.person("staff", WHO).await.expect("enrolled");
    let wrong = client.delete_faces("staff", WHO, &[TEXT]).await;
    wrong.err().expect("no such face");
    client
        .delete_faces("staff", WHO, &[&person.faces[0].face_id])
        .await
        .expect("deleted");
}

fn assert_clean(directory: &Path, needles: &[Vec<u8>]) {
    for file in files(directory) {
        let bytes = fs::read(&file).unwrap_or_default();
        for needle in needles {
            let text = String::from_utf8_lossy(needle);
            assert!(!holds(&bytes, needle), "{} holds {text}", file.display());
        }
    }
}
