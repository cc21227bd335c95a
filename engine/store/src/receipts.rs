//! Receipts of erasure: what was destroyed and when, chained and signed. They name no person.
//!
//! Two receipts prove an erasure: ERASED, written before a key is overwritten, and PURGED, written when the bytes of
//! the record have left the data files too. Each carries the BLAKE3 of the one before it, so none can be changed,
//! removed or moved without breaking the chain, and each is signed with the deployment's key. A chain cannot show its
//! own end; [`checkpoint`]s do.
//!
//! Receipts do not show that the operator runs this program and not another one, and that no copy of the data was made
//! before the erasure.
//!
//! ```text
//!   0  length of the whole receipt, u32     88  request id, 16
//!   4  format, u16                         104  subject, or public key, 32
//!   6  kind, u8; zero, u8                  136  index generation, u64
//!   8  deployment, 16                      144  about: sequence of another receipt, u64
//!  24  sequence, u64                       152  faces removed, u32
//!  32  hash of the receipt before, 32      156  number of keys, u32
//!  64  time, ms since 1970, u64            160  keys: data-key id 16, commitment 16, each
//!  72  signing key's id, 16                     signature, 64
//! ```
//! Numbers are little endian. The hash of a receipt covers its signature.

pub mod chain;
pub mod checkpoint;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use likeness_types::crypto;
use likeness_types::names::{Account, CollectionName, PersonId, RandomId};
use likeness_types::person::Timestamp;

/// Counts up when any byte above changes its meaning.
const FORMAT: u16 = 1;
/// Everything before the keys.
pub const HEAD_BYTES: usize = 160;
const KEY_BYTES: usize = 32;
const SIGNATURE_BYTES: usize = 64;
/// A receipt without keys, as the first of every log is.
pub(crate) const PLAIN_BYTES: usize = HEAD_BYTES + SIGNATURE_BYTES;
/// Keys that one receipt names; a larger erasure is several receipts.
pub const KEYS_PER_RECEIPT_MAX: usize = 4096;

/// What a receipt is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiptKind {
    /// From here on signatures are made with the public key in `subject`.
    SigningKey,
    /// A person, or several, are erased: the keys named are overwritten.
    Erased,
    /// Something was removed from a person who stays: the key named is superseded. Without a key and a
    /// subject: a person was given another PersonID.
    Reduced,
    /// The bytes of the records that [`Self::Erased`] or [`Self::Reduced`] were about have left the
    /// data files.
    Purged,
    /// The operator accepted a log that is shorter than its anchor.
    Override,
}

impl ReceiptKind {
    const ALL: [Self; 5] = [
        Self::SigningKey,
        Self::Erased,
        Self::Reduced,
        Self::Purged,
        Self::Override,
    ];

    const fn code(self) -> u8 {
        match self {
            Self::SigningKey => 1,
            Self::Erased => 2,
            Self::Reduced => 3,
            Self::Purged => 4,
            Self::Override => 5,
        }
    }

    /// The word for people and scripts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SigningKey => "SIGNING_KEY",
            Self::Erased => "ERASED",
            Self::Reduced => "REDUCED",
            Self::Purged => "PURGED",
            Self::Override => "OVERRIDE",
        }
    }
}

/// A data key that is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DestroyedKey {
    /// Its random name.
    pub id: RandomId,
    /// A digest that commits to it; zeros where the key was too damaged to be known.
    pub commitment: [u8; 16],
}

/// One receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// What it is about.
    pub kind: ReceiptKind,
    /// Whose log it belongs to.
    pub deployment: RandomId,
    /// Its place in the log, from 0.
    pub sequence: u64,
    /// BLAKE3 of the receipt before it; zeros for the first.
    pub previous: [u8; 32],
    /// When.
    pub time: Timestamp,
    /// Which key signed it: the beginning of the BLAKE3 of the public key.
    pub signing_key: RandomId,
    /// The call that asked for it; zeros where none did.
    pub request: RandomId,
    /// Who was erased, as a digest that only the holder of the nonce can recompute; zeros where several
    /// were. For [`ReceiptKind::SigningKey`], the public key.
    pub subject: [u8; 32],
    /// The state of the collection's index after it.
    pub generation: u64,
    /// Which receipt this one completes.
    pub about: u64,
    /// Faces removed.
    pub faces: u32,
    /// The keys destroyed.
    pub keys: Vec<DestroyedKey>,
}

impl Receipt {
    fn unsigned(&self) -> Vec<u8> {
        let length = HEAD_BYTES + self.keys.len() * KEY_BYTES + SIGNATURE_BYTES;
        let mut bytes = Vec::with_capacity(length);
        let length = u32::try_from(length).expect("the keys of a receipt are limited");
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&[self.kind.code(), 0]);
        bytes.extend_from_slice(&self.deployment.0);
        bytes.extend_from_slice(&self.sequence.to_le_bytes());
        bytes.extend_from_slice(&self.previous);
        bytes.extend_from_slice(&self.time.0.to_le_bytes());
        bytes.extend_from_slice(&self.signing_key.0);
        bytes.extend_from_slice(&self.request.0);
        bytes.extend_from_slice(&self.subject);
        bytes.extend_from_slice(&self.generation.to_le_bytes());
        bytes.extend_from_slice(&self.about.to_le_bytes());
        bytes.extend_from_slice(&self.faces.to_le_bytes());
        let count = u32::try_from(self.keys.len()).expect("the keys of a receipt are limited");
        bytes.extend_from_slice(&count.to_le_bytes());
        for key in &self.keys {
            bytes.extend_from_slice(&key.id.0);
            bytes.extend_from_slice(&key.commitment);
        }
        bytes
    }

    /// The receipt in its fixed layout, signed.
    pub fn sign(&self, key: &SigningKey) -> Vec<u8> {
        let mut bytes = self.unsigned();
        let signature = key.sign(&bytes);
        bytes.extend_from_slice(&signature.to_bytes());
        bytes
    }

    /// Reads the receipt at the beginning of `bytes`, and how long it is. Says nothing of its signature.
    pub fn parse(bytes: &[u8]) -> Result<(Self, usize), Malformed> {
        let head = bytes.first_chunk::<HEAD_BYTES>().ok_or(Malformed::Short)?;
        let number = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
        let large = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
        let id = |at: usize| RandomId(head[at..at + 16].try_into().expect("16 bytes"));
        let digest = |at: usize| -> [u8; 32] { head[at..at + 32].try_into().expect("32 bytes") };
        if head[4..6] != FORMAT.to_le_bytes() || head[7] != 0 {
            return Err(Malformed::Format);
        }
        let kind = ReceiptKind::ALL.into_iter().find(|k| k.code() == head[6]);
        let kind = kind.ok_or(Malformed::Format)?;
        let count = number(156) as usize;
        let length = HEAD_BYTES + count.min(KEYS_PER_RECEIPT_MAX + 1) * KEY_BYTES + SIGNATURE_BYTES;
        if count > KEYS_PER_RECEIPT_MAX || number(0) as usize != length {
            return Err(Malformed::Format);
        }
        let body = bytes
            .get(HEAD_BYTES..length - SIGNATURE_BYTES)
            .ok_or(Malformed::Short)?;
        if bytes.len() < length {
            return Err(Malformed::Short);
        }
        let keys = body.chunks_exact(KEY_BYTES).map(|key| DestroyedKey {
            id: RandomId(key[..16].try_into().expect("16 bytes")),
            commitment: key[16..].try_into().expect("16 bytes"),
        });
        let receipt = Self {
            kind,
            deployment: id(8),
            sequence: large(24),
            previous: digest(32),
            time: Timestamp(large(64)),
            signing_key: id(72),
            request: id(88),
            subject: digest(104),
            generation: large(136),
            about: large(144),
            faces: number(152),
            keys: keys.collect(),
        };
        Ok((receipt, length))
    }
}

/// Bytes that are not a receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// They end too early: a tail that was being written.
    #[error("the receipt is cut off")]
    Short,
    /// Another format, or damage.
    #[error("not a receipt of format 1")]
    Format,
}

/// Whom a receipt is about, for whoever holds the nonce: BLAKE3, keyed with it, of account, collection
/// and, unless it is the collection's own receipt, PersonID, each after its length (u32). A collection
/// that could not be read had no name: it is an empty text.
pub fn subject(
    nonce: &[u8; 32],
    account: &Account,
    collection: Option<&CollectionName>,
    person: Option<&PersonId>,
) -> [u8; 32] {
    let collection = collection.map_or("", CollectionName::as_str);
    let mut parts = vec![account.as_str().as_bytes(), collection.as_bytes()];
    parts.extend(person.map(|id| id.as_str().as_bytes()));
    *blake3::keyed_hash(nonce, &crypto::length_prefixed(&parts)).as_bytes()
}

/// The hash that the next receipt carries.
pub fn hash(receipt: &[u8]) -> [u8; 32] {
    *blake3::hash(receipt).as_bytes()
}

/// The public half of a signing key.
pub fn public_key(secret: &[u8; 32]) -> [u8; 32] {
    SigningKey::from_bytes(secret).verifying_key().to_bytes()
}

/// The name of a signing key: whoever knows the public key can recompute it.
pub(crate) fn signing_key_id(key: &VerifyingKey) -> RandomId {
    let digest = blake3::hash(key.as_bytes());
    RandomId(digest.as_bytes()[..16].try_into().expect("16 of 32 bytes"))
}

/// Checks the signature at the end of a receipt or checkpoint, strictly: one message, one signature.
pub fn signed_by(key: &VerifyingKey, bytes: &[u8]) -> bool {
    let Some((message, signature)) = bytes.split_last_chunk::<SIGNATURE_BYTES>() else {
        return false;
    };
    key.verify_strict(message, &Signature::from_bytes(signature))
        .is_ok()
}
