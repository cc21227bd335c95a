//! The keys of a deployment, unsealed and in memory while the process runs.
//!
//! Keys that will have to be destroyed are random, never derived: a derived key exists as long as its source. [`store`]
//! says where they are stored, and [`root`] what seals them.

pub mod root;
pub mod store;

use std::sync::Arc;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use likeness_types::crypto;
use likeness_types::crypto::{NONCE_BYTES, Secret};
use likeness_types::error::{OperatorError, Result};
use likeness_types::names::{Account, RandomId};

const KEYRING_MAGIC: &[u8; 20] = b"likeness-keyring-1\r\n";
const KEYRING_CONTEXT: &str = "likeness v1 the root key seals the keyring";

/// What a key of the ring is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// Rotates features before their signs are kept; one per key group.
    Projection,
    /// Turns names into the digests that are kept on disk.
    Digest,
    /// Wraps the data keys in their slots.
    Wrapping,
    /// Signs receipts.
    Signing,
    /// Signed receipts once. It still vouches for what it signed in its time, and signs no more, except to
    /// let the next key in again when the operator accepts a log that has lost the place where it did.
    FormerSigning,
}

/// One random key of the ring.
pub struct RingKey {
    /// Its name: not secret.
    pub id: RandomId,
    /// What it is for.
    pub purpose: Purpose,
    /// The key group a projection key belongs to; empty for the others.
    pub group: String,
    /// The key itself.
    pub secret: Secret,
}

impl RingKey {
    /// A new key.
    pub fn random(purpose: Purpose, group: &str) -> Self {
        Self {
            id: RandomId::random(),
            purpose,
            group: group.to_owned(),
            secret: Secret::random().locked(),
        }
    }
}

/// The ring itself. Only a rotation, or the end of a key group, changes it.
pub struct KeyRing {
    /// The deployment that the keys belong to.
    pub deployment: RandomId,
    keys: RwLock<Vec<Arc<RingKey>>>,
}

/// How a key is written inside the sealed keyring.
#[derive(Serialize, Deserialize)]
struct StoredKey {
    id: [u8; 16],
    purpose: Purpose,
    group: String,
    secret: [u8; 32],
}

impl Drop for StoredKey {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl KeyRing {
    /// A new deployment's keys.
    pub fn generate() -> Self {
        let keys = [
            RingKey::random(Purpose::Projection, Account::default().as_str()),
            RingKey::random(Purpose::Digest, ""),
            RingKey::random(Purpose::Wrapping, ""),
            RingKey::random(Purpose::Signing, ""),
        ];
        Self {
            deployment: RandomId::random(),
            keys: RwLock::new(keys.into_iter().map(Arc::new).collect()),
        }
    }

    /// The key with this id, if it has not been destroyed.
    pub fn by_id(&self, purpose: Purpose, id: RandomId) -> Option<Arc<RingKey>> {
        let keys = self.keys.read();
        keys.iter().find(|k| k.purpose == purpose && k.id == id).cloned()
    }

    /// The projection key of a key group.
    pub fn projection(&self, group: &str) -> Option<Arc<RingKey>> {
        self.newest(Purpose::Projection, group)
    }

    /// Every key of a purpose, oldest first.
    pub fn all(&self, purpose: Purpose) -> Vec<Arc<RingKey>> {
        let keys = self.keys.read();
        keys.iter().filter(|k| k.purpose == purpose).cloned().collect()
    }

    /// The key of digests.
    pub fn digest(&self) -> Arc<RingKey> {
        self.newest(Purpose::Digest, "")
            .expect("checked when the ring was opened")
    }

    /// The key that signs receipts.
    pub fn signing(&self) -> Arc<RingKey> {
        self.newest(Purpose::Signing, "")
            .expect("checked when the ring was opened")
    }

    /// The key that wraps data keys.
    pub fn wrapping(&self) -> Arc<RingKey> {
        self.newest(Purpose::Wrapping, "")
            .expect("checked when the ring was opened")
    }

    /// Later entries supersede earlier ones; earlier ones stay to read what they sealed.
    fn newest(&self, purpose: Purpose, group: &str) -> Option<Arc<RingKey>> {
        let keys = self.keys.read();
        let mut newest_first = keys.iter().rev();
        newest_first
            .find(|k| k.purpose == purpose && k.group == group)
            .cloned()
    }

    /// The ring with one more key.
    pub fn with(&self, key: RingKey) -> Self {
        let mut keys = self.keys.read().clone();
        keys.push(Arc::new(key));
        Self {
            deployment: self.deployment,
            keys: RwLock::new(keys),
        }
    }

    /// The ring without some of its keys.
    pub fn without(&self, gone: impl Fn(&RingKey) -> bool) -> Self {
        let keys = self.keys.read().iter().filter(|k| !gone(k)).cloned().collect();
        Self {
            deployment: self.deployment,
            keys: RwLock::new(keys),
        }
    }

    /// The ring in which only the newest signing key signs.
    pub fn with_one_signing_key(&self) -> Self {
        let newest = self.signing().id;
        let retired = |key: &Arc<RingKey>| {
            if key.purpose != Purpose::Signing || key.id == newest {
                return Arc::clone(key);
            }
            Arc::new(RingKey {
                id: key.id,
                purpose: Purpose::FormerSigning,
                group: String::new(),
                secret: Secret::take(&mut { *key.secret.expose() }).locked(),
            })
        };
        Self {
            deployment: self.deployment,
            keys: RwLock::new(self.keys.read().iter().map(retired).collect()),
        }
    }

    /// From now on this ring is that one.
    pub fn replace_by(&self, other: &Self) {
        *self.keys.write() = other.keys.read().clone();
    }

    /// `magic 20 | deployment 16 | nonce 24 | sealed`, with everything before the nonce bound.
    fn seal(&self, root: &Secret) -> Vec<u8> {
        let keys = self.keys.read();
        let stored: Vec<StoredKey> = keys
            .iter()
            .map(|k| StoredKey {
                id: k.id.0,
                purpose: k.purpose,
                group: k.group.clone(),
                secret: *k.secret.expose(),
            })
            .collect();
        let plain = crypto::plain_bytes(&stored);
        let nonce: [u8; NONCE_BYTES] = crypto::random();
        let mut file = KEYRING_MAGIC.to_vec();
        file.extend_from_slice(&self.deployment.0);
        let sealed = crypto::seal(&keyring_key(root), &nonce, &plain, &file);
        file.extend_from_slice(&nonce);
        file.extend_from_slice(&sealed);
        file
    }

    fn unseal(root: &Secret, file: &[u8]) -> Result<Self> {
        let damaged = |found: &str| mismatch("keyring", "a keyring of format 1", found.to_owned());
        let body = file
            .strip_prefix(KEYRING_MAGIC)
            .ok_or_else(|| damaged("another format, or a damaged file"))?;
        let (deployment, body) = body
            .split_first_chunk::<16>()
            .ok_or_else(|| damaged("a short file"))?;
        let (nonce, sealed) = body
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or_else(|| damaged("a short file"))?;
        let bound = &file[..KEYRING_MAGIC.len() + 16];
        let plain = crypto::open(&keyring_key(root), nonce, sealed, bound).ok_or_else(|| {
            mismatch(
                "root key",
                "the root key this keyring was sealed with",
                "another root key, or a damaged keyring".to_owned(),
            )
        })?;
        let stored: Vec<StoredKey> =
            postcard::from_bytes(&plain).map_err(|_| damaged("contents this version cannot read"))?;
        let keys = stored
            .into_iter()
            .map(|mut k| {
                Arc::new(RingKey {
                    id: RandomId(k.id),
                    purpose: k.purpose,
                    group: std::mem::take(&mut k.group),
                    secret: Secret::take(&mut k.secret).locked(),
                })
            })
            .collect();
        let ring = Self {
            deployment: RandomId(*deployment),
            keys: RwLock::new(keys),
        };
        for purpose in [Purpose::Digest, Purpose::Wrapping, Purpose::Signing] {
            if ring.newest(purpose, "").is_none() {
                return Err(damaged(&format!("no {purpose:?} key")));
            }
        }
        Ok(ring)
    }
}

/// The root key is used under one context only, so that it can never serve as another key by mistake.
fn keyring_key(root: &Secret) -> Secret {
    let mut key = blake3::derive_key(KEYRING_CONTEXT, root.expose());
    Secret::take(&mut key)
}

fn mismatch(what: &'static str, expected: &str, found: String) -> likeness_types::error::Error {
    OperatorError::Keys {
        what,
        expected: expected.to_owned(),
        found,
    }
    .into()
}
