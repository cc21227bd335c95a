//! The key store: a directory apart from the data. Without it the data cannot be read.
//!
//! ```text
//! root.key   the root key, 0600; absent where a command provides it
//! keyring    random keys, sealed under the root key
//! lock       locked by the process that uses the store
//! ended      the deployment was closed: its keys are destroyed, or will be at the next use
//! erasures   the copy of the erasure log; its anchor, and the audit log's, lie beside it
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::root::{self, RootSource};
use super::{KeyRing, mismatch};
use crate::{private, receipts};
use likeness_types::Inside;
use likeness_types::crypto::Secret;
use likeness_types::error::{OperatorError, Result};

const ROOT_FILE: &str = "root.key";
const NEXT_ROOT_FILE: &str = "root.key.next";
const KEYRING_FILE: &str = "keyring";
const LOCK_FILE: &str = "lock";
/// The keys are to be destroyed, or are: there from before the first goes.
const ENDED_FILE: &str = "ended";

/// How the name of a file ends that is being written, and will have another name.
const UNFINISHED: &str = "new";

/// Where the keys of a deployment lie, and where their root key comes from.
#[derive(Debug, Clone)]
pub struct KeyStore {
    directory: PathBuf,
    root: RootSource,
}

/// Nobody else uses the key store while this lives.
pub struct KeyStoreLock(File);

impl Drop for KeyStoreLock {
    /// Unlocks by name. Closing the file does not, while a child that another thread has just forked, and that has
    /// not yet become its program, shares it.
    fn drop(&mut self) {
        // Where it fails the file is closed nevertheless, and its lock ends with the last who shares it.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

impl KeyStore {
    /// A key store in a directory, with its root key in a file there or, if given, from a command.
    pub fn new(directory: impl Into<PathBuf>, root_command: Option<String>) -> Self {
        let directory = directory.into();
        let root = root_command.map_or_else(
            || RootSource::File(directory.join(ROOT_FILE)),
            RootSource::Command,
        );
        Self { directory, root }
    }

    /// Where the key store is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Makes the keys of a new deployment: a root key, unless a command provides it, and a keyring with
    /// one key for each purpose. Answers the public key that receipts of erasure will be signed with.
    ///
    /// # Errors
    /// When the directory holds a key store already, or `data` holds data: new keys beside old data
    /// would only hide that the old keys are missing.
    pub fn init(&self, data: &Path) -> Result<[u8; 32]> {
        private::make_files_private();
        refuse_if_data_exist(data)?;
        let keys = &self.directory;
        fs::create_dir_all(keys).map_err(|e| OperatorError::file("creating", keys, e))?;
        fs::set_permissions(keys, fs::Permissions::from_mode(0o700))
            .map_err(|e| OperatorError::file("restricting", keys, e))?;
        sync_parent(keys)?;
        for file in [ROOT_FILE, NEXT_ROOT_FILE, KEYRING_FILE, ENDED_FILE] {
            if keys.join(file).exists() {
                let found = format!("{file} in {}", keys.display());
                return Err(mismatch("initialising", "a directory without a key store", found));
            }
        }
        self.remove_unfinished()?;
        let root = match &self.root {
            RootSource::File(_) => Secret::random(),
            command => command.read()?,
        };
        // ORDER: keyring before root key. A crash between leaves a keyring that nothing can open and no
        // root key, which the next start refuses by name; the other order could pass for a lost keyring.
        let ring = KeyRing::generate();
        write_durably(&self.keyring_path(), &ring.seal(&root))?;
        if let RootSource::File(path) = &self.root {
            write_durably(path, root::text(&root).as_bytes())?;
        }
        Ok(receipts::public_key(ring.signing().secret.expose()))
    }

    /// Keeps everybody else away.
    ///
    /// # Errors
    /// Somebody uses the key store.
    pub fn lock(&self, _: Inside) -> Result<KeyStoreLock> {
        // A process that uses the keys makes files beside them, or in the data directory.
        private::make_files_private();
        let path = self.directory.join(LOCK_FILE);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|e| match e.kind() {
                std::io::ErrorKind::NotFound => {
                    let found = format!(
                        "no directory at {}; make one with `likeness key init`, or restore it",
                        self.directory.display()
                    );
                    mismatch("key store", "a key store", found)
                }
                _ => OperatorError::file("opening", &path, e).into(),
            })?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            let found = format!("a process that uses {}", self.directory.display());
            mismatch("key store", "to be alone with it", found)
        })?;
        Ok(KeyStoreLock(file))
    }

    /// Opens the keyring.
    ///
    /// # Errors
    /// A missing, world-readable, short or wrong root key, or a damaged keyring: each by its name.
    pub fn open(&self, _: Inside) -> Result<KeyRing> {
        if self.directory.join(ENDED_FILE).exists() {
            // A crash may have come between.
            self.destroy(Inside)?;
            let found = "a deployment that was closed: its keys are destroyed".to_owned();
            return Err(mismatch("key store", "keys", found));
        }
        self.remove_unfinished()?;
        let path = self.keyring_path();
        let root = self.root.read();
        let next = self.directory.join(NEXT_ROOT_FILE);
        if next.exists() {
            return self.finish_rotation(root, &next);
        }
        let root = root?;
        let sealed = fs::read(&path).map_err(|e| OperatorError::file("reading the keyring", &path, e))?;
        KeyRing::unseal(&root, &sealed)
    }

    /// A rotation of the root key was interrupted: either key may be the one that the keyring is sealed
    /// with, and that one stays.
    fn finish_rotation(&self, root: Result<Secret>, next: &Path) -> Result<KeyRing> {
        let path = self.keyring_path();
        let sealed = fs::read(&path).map_err(|e| OperatorError::file("reading the keyring", &path, e))?;
        let new_root = RootSource::File(next.to_owned()).read()?;
        if let Ok(ring) = KeyRing::unseal(&new_root, &sealed) {
            self.install(next)?;
            return Ok(ring);
        }
        let ring = KeyRing::unseal(&root?, &sealed)?;
        fs::remove_file(next).map_err(|e| OperatorError::file("removing", next, e))?;
        Ok(ring)
    }

    fn install(&self, next: &Path) -> Result<()> {
        let path = self.directory.join(ROOT_FILE);
        overwrite(&path)?;
        fs::rename(next, &path).map_err(|e| OperatorError::file("installing", &path, e))?;
        sync(&self.directory)
    }

    /// Writes the ring, sealed under the root key as it is read anew.
    pub fn save(&self, ring: &KeyRing, _: Inside) -> Result<()> {
        self.replace_keyring(&ring.seal(&self.root.read()?))
    }

    /// What it replaces is overwritten: keys that the new one lacks were destroyed.
    fn replace_keyring(&self, sealed: &[u8]) -> Result<()> {
        let path = self.keyring_path();
        let replaced = OpenOptions::new().write(true).open(&path);
        write_durably(&path, sealed)?;
        replaced.map_or(Ok(()), |file| overwrite_open(file, &path))
    }

    /// Seals the keyring under another root key: a new one in the file, or the one that
    /// `new_root_command` prints. Whoever had only the old root key and an old keyring can still open
    /// that old keyring: after a leak rotate the wrapping key as well.
    ///
    /// # Errors
    /// A server uses the key store, or the present root key does not fit.
    pub fn rotate_root(&self, new_root_command: Option<String>) -> Result<()> {
        let _lock = self.lock(Inside)?;
        let ring = self.open(Inside)?;
        let file = self.directory.join(ROOT_FILE);
        match new_root_command {
            Some(command) => {
                let root = RootSource::Command(command).read()?;
                // ORDER: keyring before the old key goes: a crash between leaves a root key file too
                // many, and nothing too few.
                self.replace_keyring(&ring.seal(&root))?;
                if file.exists() {
                    overwrite(&file)?;
                    fs::remove_file(&file).map_err(|e| OperatorError::file("removing", &file, e))?;
                }
                sync(&self.directory)
            }
            None => {
                let (root, next) = (Secret::random(), self.directory.join(NEXT_ROOT_FILE));
                // ORDER: the new root key, then the keyring under it, then the new key in the place of
                // the old. A crash anywhere leaves both keys until the next opening chooses.
                write_durably(&next, root::text(&root).as_bytes())?;
                self.replace_keyring(&ring.seal(&root))?;
                self.install(&next)
            }
        }
    }

    /// Overwrites and removes the keys. The copy of the erasure log and its anchor stay: they are what is left to
    /// show. What a crash leaves of the keys goes when anybody wants to open them.
    pub fn destroy(&self, _: Inside) -> Result<()> {
        // ORDER: before a file is written that would take the place of an unfinished one, and not its bytes.
        self.remove_unfinished()?;
        // ORDER: said before anything goes: what is half gone would pass for damage otherwise.
        let ended = self.directory.join(ENDED_FILE);
        if !ended.exists() {
            write_durably(&ended, b"")?;
        }
        // ORDER: the keyring first: what it holds is what the data need, and a root key without it opens
        // nothing.
        for file in [KEYRING_FILE, NEXT_ROOT_FILE, ROOT_FILE] {
            let path = self.directory.join(file);
            overwrite(&path)?;
            match fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(OperatorError::file("removing", &path, e).into());
                }
                _ => sync(&self.directory)?,
            }
        }
        Ok(())
    }

    /// Overwrites and removes files that were being written when the power went: each may hold a keyring or a root key,
    /// and none is ever read.
    fn remove_unfinished(&self) -> Result<()> {
        let keys = &self.directory;
        let entries = match fs::read_dir(keys) {
            Ok(entries) => entries,
            // A missing directory is refused by its name elsewhere.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(OperatorError::file("listing", keys, e).into()),
        };
        let mut removed = false;
        for entry in entries {
            let path = entry.map_err(|e| OperatorError::file("listing", keys, e))?.path();
            let is_file = fs::symlink_metadata(&path).is_ok_and(|found| found.is_file());
            if !is_file || path.extension().is_none_or(|extension| extension != UNFINISHED) {
                continue;
            }
            // ORDER: overwritten before the name goes: without a name the bytes cannot be overwritten.
            overwrite(&path)?;
            fs::remove_file(&path).map_err(|e| OperatorError::file("removing", &path, e))?;
            removed = true;
        }
        match removed {
            true => sync(keys),
            false => Ok(()),
        }
    }

    fn keyring_path(&self) -> PathBuf {
        self.directory.join(KEYRING_FILE)
    }
}

/// Overwrites a key file in place before it goes, as far as the storage does so.
fn overwrite(path: &Path) -> Result<()> {
    match OpenOptions::new().write(true).open(path) {
        Ok(file) => overwrite_open(file, path),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(OperatorError::file("overwriting", path, e).into()),
    }
}

/// The same of one that may have another name by now, or none.
fn overwrite_open(mut file: File, path: &Path) -> Result<()> {
    let mut write = || -> std::io::Result<()> {
        let length = usize::try_from(file.metadata()?.len()).map_err(std::io::Error::other)?;
        file.write_all(&vec![0; length])?;
        file.sync_all()
    };
    write().map_err(|e| OperatorError::file("overwriting", path, e).into())
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

/// Makes the name of a directory outlive a power cut: without its key store no data could be read.
fn sync_parent(directory: &Path) -> Result<()> {
    let parent = directory.parent().filter(|p| !p.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    File::open(parent)
        .and_then(|parent| parent.sync_all())
        .map_err(|e| OperatorError::file("syncing", parent, e).into())
}

fn sync(directory: &Path) -> Result<()> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|e| OperatorError::file("syncing", directory, e).into())
}

/// Writes a private file so that after a crash it is whole or absent.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let temporary: PathBuf = path.with_extension(UNFINISHED);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let home = tempfile::tempdir().expect("temporary directory");
        let (keys, data) = (home.path().join("keys"), home.path().join("data"));
        store(&keys).init(&data).expect("a fresh place");
        (home, keys, data)
    }

    fn store(keys: &Path) -> KeyStore {
        KeyStore::new(keys, None)
    }

    fn refusal(keys: &Path) -> String {
        store(keys)
            .open(Inside)
            .err()
            .expect("must be refused")
            .to_string()
    }

    #[test]
    fn a_keyring_that_was_replaced_is_overwritten() {
        let (home, keys, _) = fresh();
        let another = home.path().join("another");
        fs::hard_link(keys.join(KEYRING_FILE), &another).expect("linked");
        let ring = store(&keys).open(Inside).expect("just made");
        store(&keys).save(&ring, Inside).expect("saved");
        let replaced = fs::read(&another).expect("read");
        assert!(!replaced.is_empty() && replaced.iter().all(|byte| *byte == 0));
        store(&keys).rotate_root(None).expect("rotated");
        store(&keys).open(Inside).expect("as before");
    }

    /// Files as a crash leaves them that comes before they get their names, each linked to from elsewhere.
    fn leave_unfinished(keys: &Path, elsewhere: &Path) -> Vec<(PathBuf, PathBuf)> {
        let left = ["keyring.new", "root.new", "root.key.new", "ended.new"].map(|name| {
            let (left, link) = (keys.join(name), elsewhere.join(name));
            fs::copy(keys.join(KEYRING_FILE), &left).expect("copied");
            let _ = fs::remove_file(&link);
            fs::hard_link(&left, &link).expect("linked");
            (left, link)
        });
        left.into()
    }

    #[test]
    fn files_that_a_crash_left_unfinished_are_overwritten_and_removed() {
        let (home, keys, data) = fresh();
        let overwritten = |left: &[(PathBuf, PathBuf)], what: &str| {
            for (left, link) in left {
                assert!(!left.exists(), "{what}: {}", left.display());
                let bytes = fs::read(link).expect("linked");
                assert!(!bytes.is_empty() && bytes.iter().all(|byte| *byte == 0), "{what}");
            }
        };
        let left = leave_unfinished(&keys, home.path());
        store(&keys).open(Inside).expect("the keys are whole");
        overwritten(&left, "opened");
        let left = leave_unfinished(&keys, home.path());
        store(&keys).rotate_root(None).expect("rotated");
        overwritten(&left, "rotated");
        let left = leave_unfinished(&keys, home.path());
        store(&keys).destroy(Inside).expect("destroyed");
        overwritten(&left, "destroyed");

        // A first making of keys that was cut short before the first of them had its name.
        let (home, keys, _) = fresh();
        let left = leave_unfinished(&keys, home.path());
        for file in [ROOT_FILE, KEYRING_FILE] {
            fs::remove_file(keys.join(file)).expect("removed");
        }
        store(&keys).init(&data).expect("a fresh place");
        overwritten(&left, "made anew");
    }

    #[test]
    fn a_fresh_key_store_opens_and_is_private() {
        let (_home, keys, _) = fresh();
        let ring = store(&keys).open(Inside).expect("just made");
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
        assert!(store(&keys).init(&data).is_err());
        assert_eq!(fs::read(keys.join(ROOT_FILE)).expect("exists"), before);
    }

    #[test]
    fn keys_are_never_made_beside_existing_data() {
        let home = tempfile::tempdir().expect("temporary directory");
        let data = home.path().join("data");
        fs::create_dir(&data).expect("create");
        fs::write(data.join("slots"), b"x").expect("write");
        let refused = store(&home.path().join("keys"))
            .init(&data)
            .expect_err("data exist");
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

        fs::write(&root, format!("likeness-root-key-1:{}\n", "7".repeat(64))).expect("write");
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
            assert!(store(&keys).open(Inside).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_rotated_root_key_opens_the_same_ring_and_the_old_one_does_not() {
        let (_home, keys, _) = fresh();
        let before = store(&keys).open(Inside).expect("opens").digest().id;
        let old = fs::read(keys.join(ROOT_FILE)).expect("exists");
        store(&keys).rotate_root(None).expect("rotated");
        assert_eq!(store(&keys).open(Inside).expect("opens").digest().id, before);
        assert_ne!(fs::read(keys.join(ROOT_FILE)).expect("exists"), old);
        fs::write(keys.join(ROOT_FILE), old).expect("write");
        assert!(refusal(&keys).contains("another root key"));
    }

    #[test]
    fn a_rotation_that_was_interrupted_anywhere_is_finished_or_forgotten() {
        let (_home, keys, _) = fresh();
        let ring = store(&keys).open(Inside).expect("opens");
        let new = Secret::random();
        let next = keys.join(NEXT_ROOT_FILE);
        write_durably(&next, root::text(&new).as_bytes()).expect("written");
        assert_eq!(
            store(&keys).open(Inside).expect("the old key fits").deployment,
            ring.deployment
        );
        assert!(
            !next.exists(),
            "a rotation that had not reached the keyring is forgotten"
        );
        write_durably(&next, root::text(&new).as_bytes()).expect("written");
        write_durably(&keys.join(KEYRING_FILE), &ring.seal(&new)).expect("written");
        assert_eq!(
            store(&keys).open(Inside).expect("the new key fits").deployment,
            ring.deployment
        );
        assert!(!next.exists(), "one that had is finished");
        assert!(store(&keys).open(Inside).is_ok());
    }

    #[test]
    fn a_command_can_provide_the_root_key() {
        let home = tempfile::tempdir().expect("temporary directory");
        let keys = home.path().join("keys");
        let command = format!("echo likeness-root-key-1:{}", "5".repeat(64));
        let by_command = KeyStore::new(&keys, Some(command));
        by_command.init(&home.path().join("data")).expect("a fresh place");
        assert!(!keys.join(ROOT_FILE).exists());
        assert!(by_command.open(Inside).is_ok());
        let failing = KeyStore::new(&keys, Some("exit 3".to_owned())).open(Inside).err();
        assert!(failing.expect("refused").to_string().contains("exit status: 3"));
        let other = KeyStore::new(&keys, Some("echo nonsense".to_owned()))
            .open(Inside)
            .err();
        assert!(other.expect("refused").to_string().contains("64 hex digits"));
        by_command
            .rotate_root(Some(format!("echo likeness-root-key-1:{}", "6".repeat(64))))
            .expect("rotated");
        assert!(by_command.open(Inside).is_err());
    }

    #[test]
    fn a_key_store_in_use_is_not_rotated() {
        let (_home, keys, _) = fresh();
        let _server = store(&keys).lock(Inside).expect("alone");
        let refused = store(&keys).rotate_root(None).expect_err("in use").to_string();
        assert!(refused.contains("to be alone with it"), "{refused}");
    }

    #[test]
    fn a_key_store_given_back_is_free_whoever_shares_the_open_file() {
        let (_home, keys, _) = fresh();
        let lock = store(&keys).lock(Inside).expect("alone");
        let forked = lock
            .0
            .try_clone()
            .expect("a second descriptor of the same open file");
        drop(lock);
        assert!(store(&keys).lock(Inside).is_ok());
        drop(forked);
    }

    #[test]
    fn an_end_that_was_cut_short_anywhere_is_carried_out_by_whoever_opens_the_keys_next() {
        let half_gone = |keys: &Path, gone: usize| {
            fs::write(keys.join(ENDED_FILE), b"").expect("write");
            for (number, file) in [KEYRING_FILE, NEXT_ROOT_FILE, ROOT_FILE].into_iter().enumerate() {
                // Each is overwritten, then removed.
                if 2 * number < gone && keys.join(file).exists() {
                    overwrite(&keys.join(file)).expect("overwritten");
                }
                if 2 * number + 1 < gone {
                    let _ = fs::remove_file(keys.join(file));
                }
            }
        };
        for gone in 0..=6 {
            let (_home, keys, _) = fresh();
            half_gone(&keys, gone);
            for _ in 0..2 {
                let said = refusal(&keys);
                assert!(said.contains("was closed"), "{gone}: {said}");
                for file in [KEYRING_FILE, NEXT_ROOT_FILE, ROOT_FILE] {
                    assert!(!keys.join(file).exists(), "{gone}: {file}");
                }
            }
        }
    }
}
