//! One row of the running log: one call, and one of the people it was about.
//!
//! ```text
//! key     log id 16 | time of access, milliseconds u64 big endian | and microseconds u16 big endian | random 6
//! row     format u8 | nonce 24 | sealed
//! sealed  length u32 | contents | zeros up to a multiple of 128
//! ```
//!
//! The log id is random and says nothing; when a row was made can be read from its key, because a person's rows
//! are kept in that order; rows from before had random bytes for microseconds. Everything else is sealed under the person's own log key.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use likeness_store::codec;
use likeness_store::codec::Unreadable;
use likeness_types::Inside;
use likeness_types::crypto;
use likeness_types::crypto::NONCE_BYTES;
use likeness_types::names::RandomId;
use likeness_types::person::{LogKey, Timestamp};

/// Counts up when any byte above changes its meaning.
const FORMAT: u8 = 1;
const PAD_BYTES: usize = 128;

/// What a call was about a person.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Part {
    /// The call named the person.
    Subject,
    /// The person was compared with a photograph, and is the one on it or not.
    Compared {
        /// Whether it counted as the same person.
        same: bool,
    },
    /// A search, or the check for duplicates, answered with the person.
    Found {
        /// Which of the faces that were looked for, from 0.
        face: u32,
        /// The place among those found, from 1.
        rank: u32,
        /// The similarity, as it was told.
        similarity: f32,
    },
    /// The same, where the similarity was not told.
    Named {
        /// Which of the faces that were looked for, from 0.
        face: u32,
        /// The place among those found, from 1.
        rank: u32,
    },
    /// A search for duplicates answered with the person in a pair, or in several.
    Paired {
        /// The similarity of the first of them, where it was told.
        similarity: Option<f32>,
    },
}

impl Part {
    /// Whether the call did not name the person, and its answer did.
    pub(crate) fn is_found(self) -> bool {
        matches!(
            self,
            Self::Found { .. } | Self::Named { .. } | Self::Paired { .. }
        )
    }
}

/// A row, as it is read. It has no `Debug`: names and addresses reach no message.
#[derive(Clone, PartialEq)]
pub struct LogRow {
    /// Names the call.
    pub request: RandomId,
    /// When the call arrived.
    pub requested: Timestamp,
    /// When it was done with the person.
    pub accessed: Timestamp,
    /// Whose call.
    pub account: String,
    /// Under which of the account's keys; may be empty.
    pub sub_account: String,
    /// The client's address; may be empty.
    pub client: String,
    /// Of the deployment.
    pub region: String,
    /// Which call.
    pub interface: String,
    /// Whether it counts on a bill.
    pub billed: bool,
    /// "OK", or the reason of the refusal.
    pub result: String,
    /// Where the person is enrolled.
    pub collection: String,
    /// The PersonID at the time.
    pub person_id: String,
    /// What the call was about the person.
    pub part: Part,
}

/// A row, as it is written.
#[derive(Serialize, Deserialize)]
pub(crate) struct Contents<'a> {
    pub request: [u8; 16],
    pub requested_ms: u64,
    pub account: &'a str,
    pub sub_account: &'a str,
    pub client: &'a str,
    pub region: &'a str,
    pub interface: &'a str,
    pub billed: bool,
    pub result: &'a str,
    pub collection: &'a str,
    pub person_id: &'a str,
    pub part: Part,
}

/// The key of a new row.
pub(crate) fn key(log: RandomId, accessed: Duration) -> [u8; 32] {
    let ms = u64::try_from(accessed.as_millis()).unwrap_or(u64::MAX);
    let micros = (accessed.subsec_micros() % 1000) as u16;
    let mut key = [0; 32];
    key[..16].copy_from_slice(&log.0);
    key[16..24].copy_from_slice(&ms.to_be_bytes());
    key[24..26].copy_from_slice(&micros.to_be_bytes());
    key[26..].copy_from_slice(&crypto::random::<6>());
    key
}

fn bound(deployment: RandomId, key: &[u8]) -> Vec<u8> {
    crypto::length_prefixed(&[b"likeness v1 running log", &[FORMAT], &deployment.0, key])
}

/// Seals what a row says.
pub(crate) fn seal(log: &LogKey, deployment: RandomId, key: &[u8; 32], contents: &Contents<'_>) -> Vec<u8> {
    let plain = crypto::plain_bytes(contents);
    let length = u32::try_from(plain.len()).expect("names are short");
    let padded_bytes = (4 + plain.len()).next_multiple_of(PAD_BYTES);
    let mut padded = Zeroizing::new(Vec::with_capacity(padded_bytes));
    padded.extend_from_slice(&length.to_le_bytes());
    padded.extend_from_slice(&plain);
    padded.resize(padded_bytes, 0);
    let nonce: [u8; NONCE_BYTES] = crypto::random();
    let sealed = crypto::seal(log.secret(Inside), &nonce, &padded, &bound(deployment, key));
    [&[FORMAT], &nonce[..], &sealed].concat()
}

/// Opens what [`seal`] made.
pub(crate) fn open(log: &LogKey, deployment: RandomId, key: &[u8], row: &[u8]) -> Result<LogRow, Unreadable> {
    let accessed = key
        .get(16..24)
        .and_then(|ms| ms.try_into().ok())
        .ok_or(Unreadable)?;
    let (format, rest) = row.split_first().ok_or(Unreadable)?;
    let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(Unreadable)?;
    if *format != FORMAT {
        return Err(Unreadable);
    }
    let padded =
        crypto::open(log.secret(Inside), nonce, sealed, &bound(deployment, key)).ok_or(Unreadable)?;
    let (length, plain) = padded.split_first_chunk::<4>().ok_or(Unreadable)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| Unreadable)?;
    let contents: Contents<'_> = codec::from_contents(plain.get(..length).ok_or(Unreadable)?)?;
    Ok(LogRow {
        request: RandomId(contents.request),
        requested: Timestamp(contents.requested_ms),
        accessed: Timestamp(u64::from_be_bytes(accessed)),
        account: contents.account.to_owned(),
        sub_account: contents.sub_account.to_owned(),
        client: contents.client.to_owned(),
        region: contents.region.to_owned(),
        interface: contents.interface.to_owned(),
        billed: contents.billed,
        result: contents.result.to_owned(),
        collection: contents.collection.to_owned(),
        person_id: contents.person_id.to_owned(),
        part: contents.part,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents() -> Contents<'static> {
        Contents {
            request: [7; 16],
            requested_ms: 1,
            account: "default",
            sub_account: "door",
            client: "127.0.0.1",
            region: "local",
            interface: "SearchPersons",
            billed: true,
            result: "OK",
            collection: "staff",
            person_id: "ada",
            part: Part::Found {
                face: 0,
                rank: 1,
                similarity: 0.77,
            },
        }
    }

    #[test]
    fn a_row_opens_under_its_own_key_place_and_deployment_only() {
        let (log, other, deployment) = (LogKey::random(), LogKey::random(), RandomId([1; 16]));
        let key = key(log.id, Duration::from_millis(42));
        let row = seal(&log, deployment, &key, &contents());
        let read = open(&log, deployment, &key, &row).expect("its own");
        assert_eq!((read.accessed, read.person_id.as_str()), (Timestamp(42), "ada"));
        assert_eq!((read.part, read.billed), (contents().part, true));
        let elsewhere = super::key(log.id, Duration::from_millis(43));
        assert!(open(&other, deployment, &key, &row).is_err());
        assert!(open(&log, RandomId([2; 16]), &key, &row).is_err());
        assert!(open(&log, deployment, &elsewhere, &row).is_err());
        for bit in 0..row.len() * 8 {
            let mut flipped = row.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&log, deployment, &key, &flipped).is_err());
        }
    }

    #[test]
    fn rows_of_one_millisecond_are_in_their_order_too() {
        let log = RandomId([1; 16]);
        let at = |micros| key(log, Duration::from_micros(micros));
        let keys = [41_999, 42_000, 42_001, 42_256, 42_999, 43_000].map(at);
        assert!(keys.is_sorted());
    }

    #[test]
    fn the_length_of_a_row_does_not_tell_a_short_name_from_a_longer_one() {
        let (log, deployment) = (LogKey::random(), RandomId([1; 16]));
        let key = key(log.id, Duration::from_millis(42));
        let sealed = |person_id| {
            let contents = Contents {
                person_id,
                ..contents()
            };
            seal(&log, deployment, &key, &contents).len()
        };
        assert_eq!(sealed("a"), sealed("ada.lovelace@example.org"));
    }
}
