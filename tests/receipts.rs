//! An account sees the receipts of its own erasures, and no others.

use std::time::Instant;

use likeness_engine::receipts::{Receipt, ReceiptKind};
use likeness_engine::{NewApiKey, Scope, Scopes};
use likeness_proto::v1;
use likeness_proto::v1::account_service_client::AccountServiceClient;
use likeness_proto::v1::erasure_service_client::ErasureServiceClient;
use tonic::Code;

use crate::support::pictures::astronaut_small;
use crate::support::{Client, PATIENCE, Refused, Server, refusal};

/// The receipts that a key sees, two at a time.
async fn listed(client: &Client) -> Vec<Receipt> {
    let mut erasures = ErasureServiceClient::new(client.channel.clone());
    let (mut receipts, mut first) = (Vec::new(), 0);
    loop {
        let request = v1::ListErasureReceiptsRequest { first, page_size: 2 };
        let page = erasures
            .list_erasure_receipts(request)
            .await
            .expect("listed")
            .into_inner();
        assert!(page.receipts.len() <= 2);
        receipts.extend(
            page.receipts
                .iter()
                .map(|bytes| Receipt::parse(bytes).expect("whole").0),
        );
        first = page.next;
        if first == 0 {
            return receipts;
        }
    }
}

async fn status(client: &Client) -> v1::GetErasureStatusResponse {
    let mut erasures = ErasureServiceClient::new(client.channel.clone());
    let reply = erasures.get_erasure_status(v1::GetErasureStatusRequest {}).await;
    reply.expect("answered").into_inner()
}

async fn wait_for_purge(client: &Client) {
    let began = Instant::now();
    while status(client).await.unpurged > 0 {
        assert!(began.elapsed() < PATIENCE, "it is never purged");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Enrols, reduces, renames and erases; answers the receipts' numbers.
async fn live_through(client: &Client) -> Vec<u64> {
    let photo = astronaut_small();
    client.create("staff").await;
    let made = client
        .enroll("staff", "eileen", &[&photo, &photo])
        .await
        .expect("enrolled");
    let face_id = made.person.expect("a person").faces[0].face_id.clone();
    let mut persons = client.persons.clone();
    let reduce = v1::DeleteFacesRequest {
        collection: "staff".to_owned(),
        person_id: "eileen".to_owned(),
        face_ids: vec![face_id],
        ..Default::default()
    };
    let reduced = persons.delete_faces(reduce).await.expect("reduced").into_inner();
    let erase = v1::DeletePersonRequest {
        collection: "staff".to_owned(),
        person_id: "eileen".to_owned(),
        ..Default::default()
    };
    let erased = persons.delete_person(erase).await.expect("erased").into_inner();
    client
        .enroll("staff", "eileen", &[&photo])
        .await
        .expect("enrolled");
    let everywhere = v1::EraseEverywhereRequest {
        person_id: "eileen".to_owned(),
        ..Default::default()
    };
    let everywhere = persons
        .erase_everywhere(everywhere)
        .await
        .expect("erased")
        .into_inner();
    let gone = v1::DeleteCollectionRequest {
        name: "staff".to_owned(),
        ..Default::default()
    };
    let gone = client
        .collections
        .clone()
        .delete_collection(gone)
        .await
        .expect("erased")
        .into_inner();
    let mut receipts = vec![
        reduced.receipt,
        erased.receipt,
        everywhere.erasures[0].receipt.clone(),
    ];
    receipts.extend(gone.receipts.into_iter().map(Some));
    receipts
        .into_iter()
        .map(|receipt| receipt.expect("a receipt").sequence)
        .collect()
}

/// Of an account: every erasure that it was given a receipt of, what completes these, and the deployment's keys.
fn assert_sees_its_own(seen: &[Receipt], own: &[u64], whose: &str) {
    let mut erasures = Vec::new();
    for receipt in seen {
        match receipt.kind {
            ReceiptKind::Erased | ReceiptKind::Reduced => erasures.push(receipt.sequence),
            ReceiptKind::Purged => assert!(own.contains(&receipt.about), "{whose}: {receipt:?}"),
            ReceiptKind::SigningKey => assert_eq!(receipt.sequence, 0),
            ReceiptKind::Override => panic!("{whose}: nothing was lost"),
        }
    }
    assert_eq!(erasures, own, "{whose}");
    let purged = seen
        .iter()
        .filter(|receipt| receipt.kind == ReceiptKind::Purged)
        .count();
    assert_eq!(purged, own.len(), "{whose}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_sees_its_own_receipts_and_the_operator_all_also_after_a_restart() {
    let server = Server::start().await;
    let one = server.client_for("one", &Scope::ALL).await;
    let two = server.client_for("two", &Scope::ALL).await;
    let operator = server.client().await;
    let mut own = live_through(&one).await;
    let theirs = live_through(&two).await;
    // A key that is revoked is its account's as well.
    let key = server
        .key(
            "one",
            NewApiKey {
                scopes: Scopes::ALL,
                ..NewApiKey::default()
            },
        )
        .await;
    let request = v1::RevokeApiKeyRequest {
        key_id: key.id().to_string(),
        ..Default::default()
    };
    AccountServiceClient::new(one.channel.clone())
        .revoke_api_key(request)
        .await
        .expect("revoked");
    for client in [&operator, &one, &two] {
        wait_for_purge(client).await;
    }
    let seen = listed(&one).await;
    // The revocation answers without a receipt: it is the last erasure of the account.
    let last = seen.iter().rfind(|receipt| receipt.kind == ReceiptKind::Erased);
    own.push(last.expect("of the key").sequence);
    assert_sees_its_own(&seen, &own, "one");
    assert_sees_its_own(&listed(&two).await, &theirs, "two");
    assert_eq!(status(&one).await.size, seen.len() as u64);
    assert_eq!(status(&one).await.checkpoint, [0; 0]);

    let all = listed(&operator).await;
    let numbers: Vec<_> = all.iter().map(|receipt| receipt.sequence).collect();
    assert_eq!(numbers, (0..all.len() as u64).collect::<Vec<_>>());
    assert_eq!(status(&operator).await.size, all.len() as u64);
    assert!(!status(&operator).await.checkpoint.is_empty());

    for (client, sequence) in [(&one, theirs[0]), (&two, own[0]), (&one, all.len() as u64)] {
        let mut erasures = ErasureServiceClient::new(client.channel.clone());
        let request = v1::GetErasureReceiptRequest { sequence };
        let refused = refusal::of(erasures.get_erasure_receipt(request).await);
        assert_eq!(refused, Refused::new(Code::NotFound, "RECEIPT_NOT_FOUND"));
    }
    for (client, sequence) in [(&one, own[0]), (&two, theirs[0]), (&operator, own[0])] {
        let mut erasures = ErasureServiceClient::new(client.channel.clone());
        let request = v1::GetErasureReceiptRequest { sequence };
        let found = erasures
            .get_erasure_receipt(request)
            .await
            .expect("seen")
            .into_inner();
        assert_eq!(
            Receipt::parse(&found.receipt).expect("whole").0.sequence,
            sequence
        );
    }

    let server = server.stop().await.start().await;
    let one = server.client_for("one", &[Scope::Audit]).await;
    let two = server.client_for("two", &[Scope::Audit]).await;
    assert_sees_its_own(&listed(&one).await, &own, "one, after a restart");
    assert_sees_its_own(&listed(&two).await, &theirs, "two, after a restart");
}
