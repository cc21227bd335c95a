//! The erasure log: every erasure is durable in two places before anything is erased.
//!
//! One copy lies with the data and one with the keys, so that a start on a restored backup of the data finds what was
//! erased since. The anchor, a signed checkpoint beside the keys, says how long the log must be at least.

pub(crate) mod open;
pub(crate) mod owners;

use std::collections::{BTreeMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use ed25519_dalek::SigningKey;
use parking_lot::Mutex;

use crate::codec::Digest;
use crate::erasure_log::owners::Owners;
use crate::receipts;
use crate::receipts::checkpoint::Checkpoint;
use crate::receipts::{DestroyedKey, KEYS_PER_RECEIPT_MAX, Receipt, ReceiptKind};
use crate::records::Family;
use likeness_types::error::{OperatorError, Result};
use likeness_types::names::RandomId;
use likeness_types::person::Timestamp;

/// A file that grows at its end. The second implementation drops unsynced writes, in the crash tests.
pub trait LogFile: Send + Sync {
    /// The whole file.
    fn read_all(&self) -> io::Result<Vec<u8>>;
    /// Fills `bytes` from this offset on, in bytes.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()>;
    /// Writes at this offset, in bytes.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts the file to this length, in bytes.
    fn truncate(&self, length: u64) -> io::Result<()>;
    /// Returns only when every earlier write would survive a power cut.
    fn sync(&self) -> io::Result<()>;
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

/// Opens or makes a log file, private to its owner.
pub fn open_file(path: &Path) -> Result<File> {
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
pub struct ErasureFiles {
    /// The log beside the data.
    pub local: Box<dyn LogFile>,
    /// The copy beside the keys.
    pub copy: Box<dyn LogFile>,
    /// Two checkpoints, a sector each, written in turn: what a crash tears is never the latest whole one.
    pub anchor: Box<dyn LogFile>,
}

/// A receipt as it was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// Its place in the log.
    pub sequence: u64,
    /// Its bytes, in the layout of [`Receipt`].
    pub bytes: Vec<u8>,
}

/// Between the two places of the anchor: no sector holds both.
pub(crate) const ANCHOR_PLACE_BYTES: u64 = 4096;

/// Receipts that one search for a subject reads: the largest erasure has some hundred, and purges come
/// between.
const LOOKED_THROUGH_MAX: u64 = 65_536;

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
    /// The account that owns the receipt.
    pub owner: Option<Digest>,
    /// Filled when the receipt is durable.
    pub issued: Arc<OnceLock<Issued>>,
}

/// What is known of a receipt besides its bytes.
#[derive(Default)]
struct Noted {
    touched: Option<Vec<Touched>>,
    owner: Option<Digest>,
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

/// The log of all receipts, in two copies, and its anchor.
pub struct ErasureLog {
    files: ErasureFiles,
    deployment: RandomId,
    state: Mutex<State>,
    /// What the anchor counted, if the data's own copy of the log has all that the anchor has seen: then the data are not
    /// older than it.
    anchored: Option<Checkpoint>,
    /// The key that the log introduced last. Locked by whoever holds the state.
    signing: Mutex<SigningKey>,
}

struct State {
    /// Where each receipt begins, and at last where the next one will.
    offsets: Vec<u64>,
    head: [u8; 32],
    destroyed: u64,
    unpurged: BTreeMap<u64, Unpurged>,
    /// The latest anchor, and in which of its two places it lies.
    anchor: Option<(u64, Vec<u8>)>,
    owners: Owners,
    /// An append failed: what is on disk is known again only after a restart.
    failed: bool,
}

impl State {
    fn new() -> Self {
        Self {
            offsets: vec![0],
            head: [0; 32],
            destroyed: 0,
            unpurged: BTreeMap::new(),
            anchor: None,
            owners: Owners::default(),
            failed: false,
        }
    }

    fn size(&self) -> u64 {
        self.offsets.len() as u64 - 1
    }

    fn end(&self) -> u64 {
        *self.offsets.last().expect("begins with the start of the file")
    }

    fn take_in(&mut self, receipt: &Receipt, bytes: &[u8], noted: Noted) {
        let Noted { touched, owner } = noted;
        self.owners.take_in(receipt, owner);
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

impl ErasureLog {
    /// A receipt that destroys nothing. Its place and its signing key are filled in when it is appended.
    fn plain(&self, kind: ReceiptKind, subject: [u8; 32], about: u64) -> (Receipt, Noted) {
        let receipt = Receipt {
            kind,
            deployment: self.deployment,
            sequence: 0,
            previous: [0; 32],
            time: Timestamp::now(),
            signing_key: RandomId([0; 16]),
            request: RandomId([0; 16]),
            subject,
            generation: 0,
            about,
            faces: 0,
            keys: Vec::new(),
        };
        (receipt, Noted::default())
    }

    /// Makes erasures durable: when this returns, they have happened, whatever comes after.
    pub(crate) fn erase(&self, erasures: Vec<Erasure>) -> Result<()> {
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
            let noted = Noted {
                touched: Some(erasure.touched),
                owner: erasure.owner,
            };
            planned.push((receipt, noted));
            tickets.push(erasure.issued);
        }
        for (ticket, issued) in tickets.iter().zip(self.append(planned)?) {
            // Nobody else has this ticket.
            let _ = ticket.set(issued);
        }
        Ok(())
    }

    /// Says of erasures that their bytes have left the data files.
    pub fn purged(&self, erasures: &[u64]) -> Result<()> {
        let receipts = erasures
            .iter()
            .map(|about| self.plain(ReceiptKind::Purged, [0; 32], *about));
        self.append(receipts.collect()).map(drop)
    }

    /// From now on receipts and checkpoints are signed with this key, which the present one vouches for
    /// in the log.
    pub(crate) fn introduce(&self, secret: &[u8; 32]) -> Result<()> {
        let mut state = self.state.lock();
        let next = SigningKey::from_bytes(secret);
        let public = next.verifying_key();
        if self.signing.lock().verifying_key() == public {
            return Ok(());
        }
        self.append_to(
            &mut state,
            vec![self.plain(ReceiptKind::SigningKey, public.to_bytes(), 0)],
        )?;
        *self.signing.lock() = next;
        Ok(())
    }

    /// # Errors
    /// After any error nothing more is appended: where the next receipt belongs is known again only
    /// after a restart.
    fn append(&self, receipts: Vec<(Receipt, Noted)>) -> Result<Vec<Issued>> {
        self.append_to(&mut self.state.lock(), receipts)
    }

    fn append_to(&self, state: &mut State, receipts: Vec<(Receipt, Noted)>) -> Result<Vec<Issued>> {
        let signing = self.signing.lock();
        let signing_key = receipts::signing_key_id(&signing.verifying_key());
        if state.failed {
            return Err(OperatorError::Poisoned.into());
        }
        let start = state.end();
        let (mut bytes, mut previous, mut sequence) = (Vec::new(), state.head, state.size());
        let mut signed = Vec::with_capacity(receipts.len());
        for (mut receipt, noted) in receipts {
            receipt.sequence = sequence;
            receipt.previous = previous;
            receipt.signing_key = signing_key;
            let one = receipt.sign(&signing);
            sequence += 1;
            previous = receipts::hash(&one);
            bytes.extend_from_slice(&one);
            signed.push((receipt, one, noted));
        }
        state.failed = true;
        // ORDER: both copies written, then both synced: what is acknowledged is in both places. After a
        // crash between, the longer one completes the other.
        for file in [&self.files.local, &self.files.copy] {
            file.write_at(start, &bytes)
                .map_err(|e| failed("writing the erasure log", e))?;
        }
        for file in [&self.files.local, &self.files.copy] {
            file.sync().map_err(|e| failed("syncing the erasure log", e))?;
        }
        state.failed = false;
        let issued = signed.into_iter().map(|(receipt, bytes, noted)| {
            state.take_in(&receipt, &bytes, noted);
            Issued {
                sequence: receipt.sequence,
                bytes,
            }
        });
        Ok(issued.collect())
    }

    /// Advances the anchor: a signed checkpoint of the log as it is now.
    pub fn checkpoint(&self, live: u64) -> Result<()> {
        let mut state = self.state.lock();
        let signing = self.signing.lock();
        let checkpoint = Checkpoint {
            deployment: self.deployment,
            size: state.size(),
            head: state.head,
            unpurged: state.unpurged.len() as u64,
            created: state.destroyed + live,
            destroyed: state.destroyed,
            live,
            time: Timestamp::now(),
            signing_key: receipts::signing_key_id(&signing.verifying_key()),
        };
        let bytes = checkpoint.sign(&signing);
        // Syncing in place takes one wait for the disk; a new file under the old name takes two more.
        let place = state.anchor.as_ref().map_or(0, |(place, _)| 1 - place);
        let written = self.files.anchor.write_at(place * ANCHOR_PLACE_BYTES, &bytes);
        let written = written.and_then(|()| self.files.anchor.sync());
        written.map_err(|e| failed("advancing the erasure log's anchor", e))?;
        state.anchor = Some((place, bytes));
        Ok(())
    }

    /// The latest checkpoint, if there is one yet.
    pub fn anchor(&self) -> Option<Vec<u8>> {
        self.state.lock().anchor.as_ref().map(|(_, bytes)| bytes.clone())
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

    /// Receipts of erasures about these subjects, in order, among the next from a place on; no
    /// more than `most` of them.
    pub fn about(
        &self,
        subjects: &HashSet<[u8; 32]>,
        from: u64,
        most: usize,
    ) -> Result<Vec<(Receipt, Issued)>> {
        let mut found = Vec::new();
        let end = self.size().min(from.saturating_add(LOOKED_THROUGH_MAX));
        for sequence in from..end {
            let Some(bytes) = self.receipt(sequence)? else {
                break;
            };
            let parsed = Receipt::parse(&bytes)
                .map_err(|e| failed("reading the erasure log", io::Error::other(format!("{e:?}"))))?;
            let receipt = parsed.0;
            let erases = matches!(receipt.kind, ReceiptKind::Erased | ReceiptKind::Reduced);
            if erases && subjects.contains(&receipt.subject) {
                found.push((receipt, Issued { sequence, bytes }));
                if found.len() >= most {
                    break;
                }
            }
        }
        Ok(found)
    }

    /// How many keys must be live at least, going by the anchor that the start found: those that it counted, without
    /// those that the log has destroyed since. None where the data may be older than the anchor.
    pub(crate) fn live_at_least(&self) -> Option<u64> {
        let anchor = self.anchored?;
        let since = self.state.lock().destroyed.saturating_sub(anchor.destroyed);
        Some(anchor.live.saturating_sub(since))
    }

    /// Everything that is erased and not yet purged.
    pub(crate) fn unpurged(&self) -> BTreeMap<u64, Unpurged> {
        self.state.lock().unpurged.clone()
    }

    /// How much is erased and not yet purged.
    pub fn backlog(&self) -> Backlog {
        let state = self.state.lock();
        Backlog {
            erasures: state.unpurged.len(),
            oldest: state.unpurged.values().map(|u| u.since).min(),
        }
    }
}

fn failed(doing: &'static str, error: io::Error) -> likeness_types::error::Error {
    OperatorError::Store {
        doing,
        detail: error.to_string(),
    }
    .into()
}
