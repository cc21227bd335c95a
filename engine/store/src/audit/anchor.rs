//! The anchor of the audit log: its length and its end, stored beside the keys, so that a missing end is noticed.
//!
//! ```text
//!   0  "likeness-audit-anchor\r\n\0"  24     48  entries, u64
//!  24  deployment, 16                        56  hash of the last of them, 32
//!  40  how many anchors were before, u64     88  keyed digest of all before, 32
//! ```
//! Numbers are little endian. There are two anchors, a sector each, written in turn: a crash never tears the latest
//! whole one. The later one counts, even if it has fewer entries: the operator may have accepted a shorter log.

use parking_lot::Mutex;

use crate::erasure_log::{ANCHOR_PLACE_BYTES, LogFile};
use crate::keys::KeyRing;
use likeness_types::crypto;
use likeness_types::error::{OperatorError, Result};
use likeness_types::names::RandomId;

const MAGIC: &[u8; 24] = b"likeness-audit-anchor\r\n\0";
const KEYED_BYTES: usize = 88;
const BYTES: usize = KEYED_BYTES + 32;
const CONTEXT: &str = "likeness v1 audit log anchor";

/// Where the chain is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Head {
    /// Entries.
    pub size: u64,
    /// Of the last of them; zeros where there is none.
    pub hash: [u8; 32],
}

/// The file in the key store.
pub struct Anchor {
    file: Box<dyn LogFile>,
    /// The latest, and its number, by which its place goes.
    latest: Mutex<Option<(u64, Head)>>,
}

impl Anchor {
    /// Reads the latest anchor; what is none, torn by a crash or of another deployment, is passed over.
    pub fn open(file: Box<dyn LogFile>, ring: &KeyRing) -> Result<Self> {
        let found = file
            .read_all()
            .map_err(|e| failed("reading the audit log's anchor", &e))?;
        let place_bytes = usize::try_from(ANCHOR_PLACE_BYTES).expect("a sector");
        let places = found.chunks(place_bytes);
        let whole = places.filter_map(|place| parse(place.get(..BYTES)?, ring));
        let latest = whole.max_by_key(|(number, _)| *number);
        Ok(Self {
            file,
            latest: Mutex::new(latest),
        })
    }

    /// How long the log was at least.
    pub fn latest(&self) -> Option<Head> {
        self.latest.lock().map(|(_, head)| head)
    }

    /// Says that the log is so long; when this returns, it is durable.
    pub fn advance(&self, head: Head, ring: &KeyRing) -> Result<()> {
        let mut latest = self.latest.lock();
        let number = latest.map_or(0, |(number, _)| number + 1);
        let written = self
            .file
            .write_at(number % 2 * ANCHOR_PLACE_BYTES, &bytes(number, head, ring))
            .and_then(|()| self.file.sync());
        written.map_err(|e| failed("advancing the audit log's anchor", &e))?;
        *latest = Some((number, head));
        Ok(())
    }
}

fn bytes(number: u64, head: Head, ring: &KeyRing) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&ring.deployment.0);
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&head.size.to_le_bytes());
    bytes.extend_from_slice(&head.hash);
    bytes.extend_from_slice(&keyed(&bytes, ring));
    bytes
}

fn parse(bytes: &[u8], ring: &KeyRing) -> Option<(u64, Head)> {
    let (told, digest) = bytes.split_at_checked(KEYED_BYTES)?;
    // Compared by BLAKE3's own type, in constant time.
    if blake3::Hash::from_bytes(keyed(told, ring)) != *digest.first_chunk()? {
        return None;
    }
    let deployment = RandomId(told.get(24..40)?.try_into().ok()?);
    (told.starts_with(MAGIC) && deployment == ring.deployment).then_some(())?;
    let number = |at: usize| Some(u64::from_le_bytes(told.get(at..at + 8)?.try_into().ok()?));
    let head = Head {
        size: number(48)?,
        hash: told.get(56..88)?.try_into().ok()?,
    };
    Some((number(40)?, head))
}

fn keyed(told: &[u8], ring: &KeyRing) -> [u8; 32] {
    crypto::keyed_digest(&ring.digest().secret, CONTEXT, &[told])
}

fn failed(doing: &'static str, error: &std::io::Error) -> likeness_types::error::Error {
    OperatorError::Store {
        doing,
        detail: error.to_string(),
    }
    .into()
}
