//! The key store: a directory apart from the data, without which the data are noise.
//!
//! ```text
//! root.key   the root key, 0600; it wraps the keyring and nothing else
//! keyring    random keys, sealed under the root key
//! ```
//!
//! Keys that will ever have to be destroyed are random, never derived: a derived key lives as long
//! as what it was derived from.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::crypto::{self, NONCE_BYTES, Secret};
use crate::error::{OperatorError, Result};
use crate::names::RandomId;

const ROOT_FILE: &str = "root.key";
const ROOT_PREFIX: &str = "likeness-root-key-1:";
const KEYRING_FILE: &str = "keyring";
const KEYRING_MAGIC: &[u8; 20] = b"likeness-keyring-1\r\n";
const KEYRING_CONTEXT: &str = "likeness v1 the root key seals the keyring";

/// What a key of the ring is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Purpose {
    /// Rotates features before their signs are kept; one per key group.
    Projection,
    /// Turns names into the digests that are kept on disk.
    Digest,
    /// Wraps the data keys in their slots.
    Wrapping,
    /// Signs receipts.
    Signing,
}

/// One random key of the ring.
pub(crate) struct RingKey {
    pub id: RandomId,
    pub purpose: Purpose,
    /// The key group a projection key belongs to; empty for the others.
    pub group: String,
    pub secret: Secret,
}

/// The keys of a deployment, unsealed and held for as long as it serves.
pub(crate) struct KeyRing {
    pub deployment: RandomId,
    keys: Vec<RingKey>,
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

/// Makes the key store of a new deployment: a root key, and a keyring with one key for each purpose.
///
/// # Errors
/// When `keys` holds a key store already, or `data` holds data: new keys beside old data would only
/// hide that the old keys are missing.
pub fn init(keys: &Path, data: &Path) -> Result<()> {
    refuse_if_data_exist(data)?;
    fs::create_dir_all(keys).map_err(|e| OperatorError::file("creating", keys, e))?;
    fs::set_permissions(keys, fs::Permissions::from_mode(0o700))
        .map_err(|e| OperatorError::file("restricting", keys, e))?;
    sync_parent(keys)?;
    for file in [ROOT_FILE, KEYRING_FILE] {
        if keys.join(file).exists() {
            let found = format!("{file} in {}", keys.display());
            return Err(mismatch("initialising", "a directory without a key store", found));
        }
    }
    let root = Secret::random();
    let ring = KeyRing::new();
    let text = Zeroizing::new(format!("{ROOT_PREFIX}{}\n", crypto::hex(root.expose())));
    // ORDER: keyring before root key. A crash between leaves a keyring that nothing can open and no
    // root key, which the next start refuses by name; the other order could pass for a lost keyring.
    write_durably(&keys.join(KEYRING_FILE), &ring.seal(&root))?;
    write_durably(&keys.join(ROOT_FILE), text.as_bytes())?;
    Ok(())
}

fn refuse_if_data_exist(data: &Path) -> Result<()> {
    let entries = match fs::read_dir(data) {
        Ok(entries) => entries.count(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => 0,
        Err(e) => return Err(OperatorError::file("listing", data, e).into()),
    };
    if entries == 0 {
        return Ok(());
    }
    let found = format!(
        "files in {}; restore the key store that belongs to them",
        data.display()
    );
    Err(mismatch(
        "initialising",
        "an empty or absent data directory",
        found,
    ))
}

impl KeyRing {
    /// A new deployment's keys.
    pub fn new() -> Self {
        let key = |purpose, group: &str| RingKey {
            id: RandomId::random(),
            purpose,
            group: group.to_owned(),
            secret: Secret::random(),
        };
        Self {
            deployment: RandomId::random(),
            keys: vec![
                key(Purpose::Projection, crate::names::Account::default().as_str()),
                key(Purpose::Digest, ""),
                key(Purpose::Wrapping, ""),
                key(Purpose::Signing, ""),
            ],
        }
    }

    /// The same keys but for the one that wraps.
    #[cfg(test)]
    pub fn with_another_wrapping_key(&self) -> Self {
        let other = Self::new();
        let keys = self
            .keys
            .iter()
            .zip(other.keys)
            .map(|(own, other)| match own.purpose {
                Purpose::Wrapping => other,
                _ => RingKey {
                    id: own.id,
                    purpose: own.purpose,
                    group: own.group.clone(),
                    secret: Secret::take(&mut own.secret.expose().to_owned()),
                },
            });
        Self {
            deployment: self.deployment,
            keys: keys.collect(),
        }
    }

    /// Opens the key store in `keys`.
    ///
    /// # Errors
    /// A missing, world-readable, short or wrong root key, or a damaged keyring: each by its name.
    pub fn open(keys: &Path) -> Result<Self> {
        let root = read_root(&keys.join(ROOT_FILE))?;
        let path = keys.join(KEYRING_FILE);
        let sealed = fs::read(&path).map_err(|e| OperatorError::file("reading the keyring", &path, e))?;
        Self::unseal(&root, &sealed)
    }

    /// The key with this id, if it has not been destroyed.
    pub fn by_id(&self, purpose: Purpose, id: RandomId) -> Option<&RingKey> {
        self.keys.iter().find(|k| k.purpose == purpose && k.id == id)
    }

    /// The projection key of a key group.
    pub fn projection(&self, group: &str) -> Option<&RingKey> {
        self.newest(Purpose::Projection, group)
    }

    /// Every projection key of the ring.
    pub fn projections(&self) -> impl Iterator<Item = &RingKey> {
        self.keys.iter().filter(|k| k.purpose == Purpose::Projection)
    }

    pub fn digest(&self) -> &Secret {
        &self
            .newest(Purpose::Digest, "")
            .expect("checked when the ring was opened")
            .secret
    }

    pub fn signing(&self) -> &Secret {
        &self
            .newest(Purpose::Signing, "")
            .expect("checked when the ring was opened")
            .secret
    }

    pub fn wrapping(&self) -> &RingKey {
        self.newest(Purpose::Wrapping, "")
            .expect("checked when the ring was opened")
    }

    /// Later entries supersede earlier ones; earlier ones stay to read what they sealed.
    fn newest(&self, purpose: Purpose, group: &str) -> Option<&RingKey> {
        self.keys
            .iter()
            .rev()
            .find(|k| k.purpose == purpose && k.group == group)
    }

    /// `magic 20 | deployment 16 | nonce 24 | sealed`, with everything before the nonce bound.
    fn seal(&self, root: &Secret) -> Vec<u8> {
        let stored: Vec<StoredKey> = self
            .keys
            .iter()
            .map(|k| StoredKey {
                id: k.id.0,
                purpose: k.purpose,
                group: k.group.clone(),
                secret: *k.secret.expose(),
            })
            .collect();
        let plain = Zeroizing::new(postcard::to_stdvec(&stored).expect("plain values serialise"));
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
            .map(|mut k| RingKey {
                id: RandomId(k.id),
                purpose: k.purpose,
                group: std::mem::take(&mut k.group),
                secret: Secret::take(&mut k.secret),
            })
            .collect();
        let ring = Self {
            deployment: RandomId(*deployment),
            keys,
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

fn read_root(path: &Path) -> Result<Secret> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let found = format!(
                "nothing at {}; make one with `likeness key init`, or restore it",
                path.display()
            );
            return Err(mismatch("root key", "a root key file", found));
        }
        Err(e) => return Err(OperatorError::file("reading the root key", path, e).into()),
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let found = format!("mode {mode:04o} on {}", path.display());
        return Err(mismatch(
            "root key",
            "a file that only its owner may read (mode 0600)",
            found,
        ));
    }
    let text = fs::read(path).map_err(|e| OperatorError::file("reading the root key", path, e))?;
    let text = Zeroizing::new(text);
    let expected = "the line `likeness-root-key-1:` and 64 hex digits";
    let wrong = || {
        mismatch(
            "root key",
            expected,
            format!("{} bytes of another form", text.len()),
        )
    };
    let digits = std::str::from_utf8(&text)
        .ok()
        .and_then(|t| t.trim_end().strip_prefix(ROOT_PREFIX))
        .ok_or_else(wrong)?;
    let mut bytes = crypto::unhex::<32>(digits).ok_or_else(wrong)?;
    Ok(Secret::take(&mut bytes))
}

/// Makes the name of a directory outlive a power cut: without its key store no data could be read.
fn sync_parent(directory: &Path) -> Result<()> {
    let parent = directory.parent().filter(|p| !p.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    File::open(parent)
        .and_then(|parent| parent.sync_all())
        .map_err(|e| OperatorError::file("syncing", parent, e).into())
}

/// Writes a private file so that after a crash it is whole or absent.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let temporary: PathBuf = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(|e| OperatorError::file("writing", path, e).into())
}

fn mismatch(what: &'static str, expected: &str, found: String) -> crate::Error {
    OperatorError::Keys {
        what,
        expected: expected.to_owned(),
        found,
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let home = tempfile::tempdir().expect("temporary directory");
        let (keys, data) = (home.path().join("keys"), home.path().join("data"));
        init(&keys, &data).expect("a fresh place");
        (home, keys, data)
    }

    fn refusal(keys: &Path) -> String {
        KeyRing::open(keys).err().expect("must be refused").to_string()
    }

    #[test]
    fn a_fresh_key_store_opens_and_is_private() {
        let (_home, keys, _) = fresh();
        let ring = KeyRing::open(&keys).expect("just made");
        assert!(ring.projection("default").is_some());
        assert!(ring.projection("another").is_none());
        for file in [ROOT_FILE, KEYRING_FILE] {
            let mode = fs::metadata(keys.join(file))
                .expect("exists")
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
    }

    #[test]
    fn a_second_init_is_refused_and_changes_nothing() {
        let (_home, keys, data) = fresh();
        let before = fs::read(keys.join(ROOT_FILE)).expect("exists");
        assert!(init(&keys, &data).is_err());
        assert_eq!(fs::read(keys.join(ROOT_FILE)).expect("exists"), before);
    }

    #[test]
    fn keys_are_never_made_beside_existing_data() {
        let home = tempfile::tempdir().expect("temporary directory");
        let data = home.path().join("data");
        fs::create_dir(&data).expect("create");
        fs::write(data.join("slots"), b"x").expect("write");
        let refused = init(&home.path().join("keys"), &data).expect_err("data exist");
        assert!(refused.to_string().contains("restore the key store"), "{refused}");
        assert!(!home.path().join("keys").exists());
    }

    #[test]
    fn a_missing_readable_short_or_wrong_root_key_is_refused_by_name() {
        let (_home, keys, _) = fresh();
        let root = keys.join(ROOT_FILE);
        let good = fs::read(&root).expect("exists");

        fs::set_permissions(&root, fs::Permissions::from_mode(0o604)).expect("chmod");
        assert!(refusal(&keys).contains("mode 0604"));
        fs::set_permissions(&root, fs::Permissions::from_mode(0o600)).expect("chmod");

        fs::write(&root, &good[..good.len() - 8]).expect("write");
        assert!(refusal(&keys).contains("64 hex digits"));

        fs::write(&root, format!("{ROOT_PREFIX}{}\n", "7".repeat(64))).expect("write");
        assert!(refusal(&keys).contains("another root key"));

        fs::remove_file(&root).expect("remove");
        assert!(refusal(&keys).contains("likeness key init"));
    }

    #[test]
    fn every_flipped_bit_of_the_keyring_is_noticed() {
        let (_home, keys, _) = fresh();
        let path = keys.join(KEYRING_FILE);
        let good = fs::read(&path).expect("exists");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad).expect("write");
            assert!(KeyRing::open(&keys).is_err(), "byte {at}");
        }
    }
}
