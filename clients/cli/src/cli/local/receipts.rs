//! Receipts of erasure, read and verified without a server.

use std::fmt::Write as _;

use likeness_engine::receipts::checkpoint::Checkpoint;
use likeness_engine::receipts::{self, Receipt, chain};
use likeness_engine::{Account, CollectionName, PersonId};
use serde_json::{Value, json};

use crate::cli::Outcome;
use crate::cli::client::{RECEIPTS_BYTES_MAX, hex};
use crate::cli::exit::Failure;
use crate::cli::receipt::PAGE_RECEIPTS;

const _: () =
    assert!(PAGE_RECEIPTS as usize * (224 + 32 * receipts::KEYS_PER_RECEIPT_MAX) < RECEIPTS_BYTES_MAX);

/// The digest in a receipt of what was erased, for the holder of its nonce.
pub fn subject(account: &str, collection: &str, person_id: &str, nonce: &str) -> Result<[u8; 32], Failure> {
    let given = |text: &'_ str| !text.is_empty();
    let collection = given(collection)
        .then(|| CollectionName::parse(collection))
        .transpose()?;
    let person_id = given(person_id).then(|| PersonId::parse(person_id)).transpose()?;
    Ok(receipts::subject(
        &key_argument("NONCE", nonce)?,
        &Account::parse(account)?,
        collection.as_ref(),
        person_id.as_ref(),
    ))
}

/// What a checkpoint says of the log and of keys, for people and for scripts.
pub fn checkpoint(bytes: &[u8]) -> Option<(String, Value)> {
    let checkpoint = Checkpoint::parse(bytes).ok()?;
    let text = format!(
        "checkpoint: {} receipts; {} keys destroyed, {} live\n",
        checkpoint.size, checkpoint.destroyed, checkpoint.live
    );
    let keys = json!({
        "created": checkpoint.created, "destroyed": checkpoint.destroyed, "live": checkpoint.live,
    });
    Some((text, keys))
}

/// Shows one receipt.
pub fn receipt(sequence: u64, bytes: &[u8]) -> Result<Outcome, Failure> {
    let (receipt, _) =
        Receipt::parse(bytes).map_err(|e| Failure::Verification(format!("receipt {sequence}: {e}")))?;
    let json = receipt_json(&receipt, bytes);
    let mut text = format!("receipt {sequence}: {}\n", receipt.kind.name());
    for field in ["time", "request", "subject", "about", "faces", "keys"] {
        let _ = writeln!(text, "  {field}: {}", json[field]);
    }
    Ok(Outcome::done(json, text))
}

/// Verifies an exported log.
pub fn verify_receipts(
    log: &[u8],
    checkpoint: Option<&[u8]>,
    public_key: Option<&str>,
) -> Result<Outcome, Failure> {
    let trusted = public_key
        .map(|text| key_argument("--public-key", text))
        .transpose()?;
    let summary = match chain::verify(log, checkpoint, trusted.as_ref()) {
        Ok(summary) => summary,
        Err(error) => {
            return Ok(Outcome {
                json: json!({ "valid": false, "error": error.to_string() }),
                text: format!("not valid: {error}\n"),
                holds: false,
            });
        }
    };
    let keys: Vec<String> = summary.public_keys.iter().map(|key| hex(key)).collect();
    let mut text = format!(
        "valid: {} receipts of deployment {}: {} erasures, {} reductions, {} purged, {} keys destroyed\n",
        summary.size,
        summary.deployment,
        summary.erased,
        summary.reduced,
        summary.purged,
        summary.keys_destroyed
    );
    if summary.overrides > 0 {
        let _ = writeln!(
            text,
            "{} times the operator accepted a log that had lost receipts",
            summary.overrides
        );
    }
    if trusted.is_none() {
        let _ = writeln!(
            text,
            "signed with {}: make sure that it is the deployment's",
            keys[0]
        );
    }
    if checkpoint.is_none() {
        let _ = writeln!(
            text,
            "without an earlier checkpoint a missing end cannot be noticed"
        );
    }
    let json = json!({
        "valid": true,
        "deployment": summary.deployment.to_string(),
        "size": summary.size,
        "erased": summary.erased,
        "reduced": summary.reduced,
        "purged": summary.purged,
        "keys_destroyed": summary.keys_destroyed,
        "overrides": summary.overrides,
        "public_keys": keys,
    });
    Ok(Outcome::done(json, text))
}

fn receipt_json(receipt: &Receipt, bytes: &[u8]) -> Value {
    json!({
        "kind": receipt.kind.name(),
        "deployment": receipt.deployment.to_string(),
        "sequence": receipt.sequence,
        "previous": hex(&receipt.previous),
        "time": receipt.time.0,
        "signing_key": receipt.signing_key.to_string(),
        "request": receipt.request.to_string(),
        "subject": hex(&receipt.subject),
        "generation": receipt.generation,
        "about": receipt.about,
        "faces": receipt.faces,
        "keys": receipt.keys.iter().map(|key| json!({
            "id": key.id.to_string(), "commitment": hex(&key.commitment),
        })).collect::<Vec<_>>(),
        "bytes": hex(bytes),
    })
}

fn key_argument(what: &str, text: &str) -> Result<[u8; 32], Failure> {
    unhex(text)
        .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
        .ok_or_else(|| {
            Failure::Usage(format!(
                "{what}: expected 64 hex digits, received {} bytes",
                text.len()
            ))
        })
}

/// Hex digits as bytes.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    digits
        .chunks_exact(2)
        .map(|pair| u8::try_from(pair[0] * 16 + pair[1]).ok())
        .collect()
}
