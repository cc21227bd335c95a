//! Checkpoints: the length and the end of a log at one time. One that is published, or kept elsewhere, shows whether
//! the end of a log is missing or its beginning was rewritten.
//!
//! ```text
//!   0  "likeness-checkpoint-1\r\n\0"  24     88  keys created, u64
//!  24  deployment, 16                        96  keys destroyed, u64
//!  40  receipts in the log, u64             104  keys live, u64
//!  48  hash of the last one, 32             112  time, ms since 1970, u64
//!  80  erasures not purged, u64              120  signing key's id, 16
//!                                           136  signature, 64
//! ```

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};

use crate::receipts::{Malformed, signed_by, signing_key_id};
use likeness_types::names::RandomId;
use likeness_types::person::Timestamp;

const MAGIC: &[u8; 24] = b"likeness-checkpoint-1\r\n\0";
const UNSIGNED_BYTES: usize = 136;
/// Bytes of a checkpoint.
pub(crate) const CHECKPOINT_BYTES: usize = UNSIGNED_BYTES + 64;

/// The state of a log at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// Whose log.
    pub deployment: RandomId,
    /// Receipts in it.
    pub size: u64,
    /// Hash of the last of them.
    pub head: [u8; 32],
    /// Erasures whose bytes have not left the data files yet.
    pub unpurged: u64,
    /// The two below together, by construction: it is not counted by itself, and so checks neither of
    /// them. Keys that a change of name or tags replaced are in none of the three: nobody was erased with
    /// them, and the log does not name them.
    pub created: u64,
    /// Keys that the log says are destroyed.
    pub destroyed: u64,
    /// Slots that are not empty.
    pub live: u64,
    /// When.
    pub time: Timestamp,
    /// Which key signed it.
    pub signing_key: RandomId,
}

impl Checkpoint {
    /// The checkpoint in its fixed layout, signed.
    pub fn sign(&self, key: &SigningKey) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(CHECKPOINT_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.deployment.0);
        bytes.extend_from_slice(&self.size.to_le_bytes());
        bytes.extend_from_slice(&self.head);
        for number in [
            self.unpurged,
            self.created,
            self.destroyed,
            self.live,
            self.time.0,
        ] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&self.signing_key.0);
        let signature = key.sign(&bytes);
        bytes.extend_from_slice(&signature.to_bytes());
        bytes
    }

    /// Reads a checkpoint; says nothing of its signature.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() < CHECKPOINT_BYTES {
            return Err(Malformed::Short);
        }
        if bytes.len() > CHECKPOINT_BYTES || bytes[..24] != *MAGIC {
            return Err(Malformed::Format);
        }
        let large = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let id = |at: usize| RandomId(bytes[at..at + 16].try_into().expect("16 bytes"));
        Ok(Self {
            deployment: id(24),
            size: large(40),
            head: bytes[48..80].try_into().expect("32 bytes"),
            unpurged: large(80),
            created: large(88),
            destroyed: large(96),
            live: large(104),
            time: Timestamp(large(112)),
            signing_key: id(120),
        })
    }

    /// Whether this key signed these bytes, and is the key they name.
    pub(crate) fn is_signed(&self, key: &VerifyingKey, bytes: &[u8]) -> bool {
        signing_key_id(key) == self.signing_key && signed_by(key, bytes)
    }
}
