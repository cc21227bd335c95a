//! The erasure log: every erasure durable in two places before anything is erased.
//!
//! One copy lies with the data, one with the keys, so that a backup of the data that is put back finds
//! what was erased since. The anchor, a signed checkpoint beside the keys, says how long the log must at
//! least be.

use std::collections::{BTreeMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ed25519_dalek::SigningKey;
use parking_lot::Mutex;

use crate::error::{OperatorError, Result};
use crate::gallery::records::Family;
use crate::keys::{self, KeyRing};
use crate::names::RandomId;
use crate::person::Timestamp;
use crate::receipts::checkpoint::Checkpoint;
use crate::receipts::{self, DestroyedKey, KEYS_PER_RECEIPT_MAX, Malformed, Receipt, ReceiptKind};

/// A file that grows at its end. The second implementation drops unsynced writes, in the crash tests.
pub(crate) trait LogFile: Send + Sync {
    fn read_all(&self) -> io::Result<Vec<u8>>;
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()>;
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    fn truncate(&self, length: u64) -> io::Result<()>;
    /// Returns only when every earlier write would survive a power cut.
    fn sync(&self) -> io::Result<()>;
}

/// A small file that is replaced as a whole.
pub(crate) trait AnchorFile: Send + Sync {
    fn read(&self) -> io::Result<Option<Vec<u8>>>;
    /// Whole and durable when it returns; after a crash either the old or the new.
    fn replace(&self, bytes: &[u8]) -> Result<()>;
}

impl LogFile for File {
    fn read_all(&self) -> io::Result<Vec<u8>> {
        let length = usize::try_from(self.metadata()?.len()).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        self.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(bytes, offset)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }
    fn truncate(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

impl AnchorFile for PathBuf {
    fn read(&self) -> io::Result<Option<Vec<u8>>> {
        match std::fs::read(self) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }
    fn replace(&self, bytes: &[u8]) -> Result<()> {
        keys::store::write_durably(self, bytes)
    }
}

/// Opens or makes a log file, private to its owner.
pub(crate) fn open_file(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|e| OperatorError::file("opening the erasure log", path, e).into())
}

/// Where the log lies.
pub(crate) struct ErasureFiles {
    pub local: Box<dyn LogFile>,
    pub copy: Box<dyn LogFile>,
    pub anchor: Box<dyn AnchorFile>,
}

/// A receipt as it was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// Its place in the log.
    pub sequence: u64,
    /// Its bytes, in the layout of [`Receipt`].
    pub bytes: Vec<u8>,
}

/// Where in the records something was removed, for the purge.
pub(crate) type Touched = (Family, Vec<u8>);

/// An erasure that is about to be logged.
pub(crate) struct Erasure {
    pub kind: ReceiptKind,
    pub request: RandomId,
    pub subject: [u8; 32],
    pub generation: u64,
    pub faces: u32,
    pub keys: Vec<DestroyedKey>,
    pub touched: Vec<Touched>,
    /// Filled when the receipt is durable.
    pub issued: Arc<OnceLock<Issued>>,
}

/// An erasure whose bytes are still in the data files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unpurged {
    pub since: Timestamp,
    /// `None` when it happened before this start: then it may be anywhere.
    pub touched: Option<Vec<Touched>>,
}

/// What is erased and not yet purged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Erasures.
    pub erasures: usize,
    /// When the oldest of them was.
    pub oldest: Option<Timestamp>,
}

pub(crate) struct ErasureLog {
    files: ErasureFiles,
    deployment: RandomId,
    signing: SigningKey,
    signing_id: RandomId,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Where each receipt begins, and at last where the next one will.
    offsets: Vec<u64>,
    head: [u8; 32],
    destroyed: u64,
    unpurged: BTreeMap<u64, Unpurged>,
}

impl State {
    fn size(&self) -> u64 {
        self.offsets.len() as u64 - 1
    }

    fn end(&self) -> u64 {
        *self.offsets.last().expect("begins with the start of the file")
    }

    fn take_in(&mut self, receipt: &Receipt, bytes: &[u8], touched: Option<Vec<Touched>>) {
        match receipt.kind {
            ReceiptKind::Erased | ReceiptKind::Reduced => {
                let since = receipt.time;
                self.unpurged
                    .insert(receipt.sequence, Unpurged { since, touched });
                self.destroyed += receipt.keys.len() as u64;
            }
            ReceiptKind::Purged => drop(self.unpurged.remove(&receipt.about)),
            ReceiptKind::SigningKey | ReceiptKind::Override => {}
        }
        self.head = receipts::hash(bytes);
        self.offsets.push(self.end() + bytes.len() as u64);
    }
}

/// What a log on disk holds, up to its last whole receipt.
struct Walked {
    state: State,
    heads: Vec<[u8; 32]>,
    destroyed: HashSet<RandomId>,
    /// Why it stops where it stops.
    stopped: Option<Malformed>,
}

fn walk(bytes: &[u8], deployment: RandomId) -> Walked {
    let mut walked = Walked {
        state: State {
            offsets: vec![0],
            ..State::default()
        },
        heads: Vec::new(),
        destroyed: HashSet::new(),
        stopped: None,
    };
    let mut rest = bytes;
    while !rest.is_empty() {
        let state = &mut walked.state;
        match Receipt::parse(rest) {
            Ok((receipt, length))
                if receipt.sequence == state.size()
                    && receipt.previous == state.head
                    && receipt.deployment == deployment =>
            {
                state.take_in(&receipt, &rest[..length], None);
                walked.heads.push(state.head);
                walked.destroyed.extend(receipt.keys.iter().map(|key| key.id));
                rest = &rest[length..];
            }
            Ok(_) => {
                walked.stopped = Some(Malformed::Format);
                return walked;
            }
            Err(malformed) => {
                walked.stopped = Some(malformed);
                return walked;
            }
        }
    }
    walked
}

impl ErasureLog {
    /// Opens the log, completes the copy that a crash or a restored backup left behind, and holds it
    /// against its anchor. Also answers which keys are destroyed.
    ///
    /// # Errors
    /// Two copies that disagree, damage in both, another deployment's anchor, or a log shorter than its
    /// anchor says, unless `accept_short`: then that is written into the log.
    pub fn open(
        files: ErasureFiles,
        ring: &KeyRing,
        accept_short: bool,
    ) -> Result<(Self, HashSet<RandomId>)> {
        let signing = SigningKey::from_bytes(ring.signing().secret.expose());
        let local = files
            .local
            .read_all()
            .map_err(|e| failed("reading the erasure log", e))?;
        let copy = files
            .copy
            .read_all()
            .map_err(|e| failed("reading the erasure log's copy", e))?;
        let (of_local, of_copy) = (walk(&local, ring.deployment), walk(&copy, ring.deployment));
        let (local_end, copy_end) = (of_local.state.end(), of_copy.state.end());
        let both = usize::try_from(local_end.min(copy_end))
            .map_err(|e| failed("reading the erasure log", io::Error::other(e)))?;
        if local[..both] != copy[..both] {
            return Err(wrong("two copies that agree", "copies of different logs"));
        }
        let (longer, from) = if local_end >= copy_end {
            (of_local, &local)
        } else {
            (of_copy, &copy)
        };
        // A cut-off tail was never acknowledged; anything else at the end of both is damage.
        if longer.stopped == Some(Malformed::Format) && from.len() as u64 > longer.state.end() {
            return Err(wrong("whole receipts", "damage in both copies"));
        }
        let end = usize::try_from(longer.state.end())
            .map_err(|e| failed("reading the erasure log", io::Error::other(e)))?;
        for (file, bytes, valid) in [(&files.local, &local, local_end), (&files.copy, &copy, copy_end)] {
            complete(file.as_ref(), bytes, valid, &from[..end])?;
        }
        let log = Self {
            files,
            deployment: ring.deployment,
            signing_id: receipts::signing_key_id(&signing.verifying_key()),
            signing,
            state: Mutex::new(longer.state),
        };
        log.hold_against_anchor(&longer.heads, accept_short)?;
        if log.state.lock().size() == 0 {
            let public = log.signing.verifying_key().to_bytes();
            log.append(vec![log.plain(ReceiptKind::SigningKey, public, 0)])?;
        }
        Ok((log, longer.destroyed))
    }

    fn hold_against_anchor(&self, heads: &[[u8; 32]], accept_short: bool) -> Result<()> {
        let bytes = self
            .files
            .anchor
            .read()
            .map_err(|e| failed("reading the erasure log's anchor", e))?;
        let Some(bytes) = bytes else {
            // Only the very first receipts can be older than the first anchor.
            return if heads.len() <= 1 || accept_short {
                Ok(())
            } else {
                Err(wrong("an anchor in the key store", "none"))
            };
        };
        let anchor = Checkpoint::parse(&bytes).ok();
        let anchor = anchor
            .filter(|a| a.deployment == self.deployment && a.is_signed(&self.signing.verifying_key(), &bytes))
            .ok_or_else(|| {
                wrong(
                    "an anchor signed with this deployment's key",
                    "another one, or a damaged one",
                )
            })?;
        let size = heads.len() as u64;
        if anchor.size > size {
            if !accept_short {
                return Err(OperatorError::ErasureLogShort {
                    expected: anchor.size,
                    found: size,
                }
                .into());
            }
            tracing::warn!(
                expected = anchor.size,
                found = size,
                "the operator accepts a short erasure log"
            );
            return self.append(vec![self.plain(ReceiptKind::Override, anchor.head, anchor.size)]);
        }
        let seen = anchor
            .size
            .checked_sub(1)
            .and_then(|last| heads.get(usize::try_from(last).ok()?));
        if seen.is_some_and(|head| *head != anchor.head) {
            return Err(wrong(
                "the log that the anchor has seen",
                "another one of the same deployment",
            ));
        }
        Ok(())
    }

    /// A receipt that destroys nothing.
    fn plain(&self, kind: ReceiptKind, subject: [u8; 32], about: u64) -> (Receipt, Option<Vec<Touched>>) {
        let receipt = Receipt {
            kind,
            deployment: self.deployment,
            sequence: 0,
            previous: [0; 32],
            time: Timestamp::now(),
            signing_key: self.signing_id,
            request: RandomId([0; 16]),
            subject,
            generation: 0,
            about,
            faces: 0,
            keys: Vec::new(),
        };
        (receipt, None)
    }

    /// Makes erasures durable: when this returns, they have happened, whatever comes after.
    pub fn erase(&self, erasures: Vec<Erasure>) -> Result<()> {
        let mut tickets = Vec::with_capacity(erasures.len());
        let mut planned = Vec::with_capacity(erasures.len());
        for erasure in erasures {
            debug_assert!(erasure.keys.len() <= KEYS_PER_RECEIPT_MAX, "whoever plans splits");
            let (plain, _) = self.plain(erasure.kind, erasure.subject, 0);
            let receipt = Receipt {
                request: erasure.request,
                generation: erasure.generation,
                faces: erasure.faces,
                keys: erasure.keys,
                ..plain
            };
            planned.push((receipt, Some(erasure.touched)));
            tickets.push(erasure.issued);
        }
        let first = self.state.lock().size();
        self.append(planned)?;
        for (sequence, ticket) in (first..).zip(tickets) {
            let bytes = self.receipt(sequence)?.unwrap_or_default();
            // Nobody else has this ticket.
            let _ = ticket.set(Issued { sequence, bytes });
        }
        Ok(())
    }

    /// Says of erasures that their bytes have left the data files.
    pub fn purged(&self, erasures: &[u64]) -> Result<()> {
        let receipts = erasures
            .iter()
            .map(|about| self.plain(ReceiptKind::Purged, [0; 32], *about));
        self.append(receipts.collect())
    }

    fn append(&self, receipts: Vec<(Receipt, Option<Vec<Touched>>)>) -> Result<()> {
        let mut state = self.state.lock();
        let start = state.end();
        let (mut bytes, mut previous, mut sequence) = (Vec::new(), state.head, state.size());
        let mut signed = Vec::with_capacity(receipts.len());
        for (mut receipt, touched) in receipts {
            receipt.sequence = sequence;
            receipt.previous = previous;
            let one = receipt.sign(&self.signing);
            sequence += 1;
            previous = receipts::hash(&one);
            bytes.extend_from_slice(&one);
            signed.push((receipt, one, touched));
        }
        // ORDER: both copies written, then both synced: what is acknowledged is in both places. After a
        // crash between, the longer one completes the other.
        for file in [&self.files.local, &self.files.copy] {
            file.write_at(start, &bytes)
                .map_err(|e| failed("writing the erasure log", e))?;
        }
        for file in [&self.files.local, &self.files.copy] {
            file.sync().map_err(|e| failed("syncing the erasure log", e))?;
        }
        for (receipt, one, touched) in signed {
            state.take_in(&receipt, &one, touched);
        }
        Ok(())
    }

    /// Advances the anchor: a signed checkpoint of the log as it is now.
    pub fn checkpoint(&self, live: u64) -> Result<Vec<u8>> {
        let state = self.state.lock();
        let checkpoint = Checkpoint {
            deployment: self.deployment,
            size: state.size(),
            head: state.head,
            unpurged: state.unpurged.len() as u64,
            created: state.destroyed + live,
            destroyed: state.destroyed,
            live,
            time: Timestamp::now(),
            signing_key: self.signing_id,
        };
        let bytes = checkpoint.sign(&self.signing);
        self.files.anchor.replace(&bytes)?;
        Ok(bytes)
    }

    /// The latest checkpoint, if there is one yet.
    pub fn anchor(&self) -> Result<Option<Vec<u8>>> {
        self.files
            .anchor
            .read()
            .map_err(|e| failed("reading the erasure log's anchor", e))
    }

    /// Receipts in the log.
    pub fn size(&self) -> u64 {
        self.state.lock().size()
    }

    /// The bytes of one receipt.
    pub fn receipt(&self, sequence: u64) -> Result<Option<Vec<u8>>> {
        let (from, to) = {
            let state = self.state.lock();
            let Some(at) = usize::try_from(sequence)
                .ok()
                .filter(|at| at + 1 < state.offsets.len())
            else {
                return Ok(None);
            };
            (state.offsets[at], state.offsets[at + 1])
        };
        let length =
            usize::try_from(to - from).map_err(|e| failed("reading the erasure log", io::Error::other(e)))?;
        let mut bytes = vec![0; length];
        self.files
            .local
            .read_at(from, &mut bytes)
            .map_err(|e| failed("reading the erasure log", e))?;
        Ok(Some(bytes))
    }

    /// Everything that is erased and not yet purged.
    pub fn unpurged(&self) -> BTreeMap<u64, Unpurged> {
        self.state.lock().unpurged.clone()
    }

    pub fn backlog(&self) -> Backlog {
        let state = self.state.lock();
        Backlog {
            erasures: state.unpurged.len(),
            oldest: state.unpurged.values().map(|u| u.since).min(),
        }
    }
}

/// Gives a copy what it lacks.
fn complete(file: &dyn LogFile, has: &[u8], valid: u64, whole: &[u8]) -> Result<()> {
    let damaged_end = has.len() as u64 > valid;
    if !damaged_end && valid == whole.len() as u64 {
        return Ok(());
    }
    let keep =
        usize::try_from(valid).map_err(|e| failed("completing the erasure log", io::Error::other(e)))?;
    let mend = || -> io::Result<()> {
        file.truncate(valid)?;
        file.write_at(valid, &whole[keep..])?;
        file.sync()
    };
    mend().map_err(|e| failed("completing the erasure log", e))
}

fn failed(doing: &'static str, error: io::Error) -> crate::Error {
    OperatorError::Store {
        doing,
        detail: error.to_string(),
    }
    .into()
}

fn wrong(expected: &str, found: &str) -> crate::Error {
    OperatorError::Format {
        what: "erasure log",
        expected: expected.to_owned(),
        found: found.to_owned(),
    }
    .into()
}
