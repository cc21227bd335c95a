//! Opens the erasure log: decides which of the two copies is the log, and whether it is complete.
//!
//! The anchor decides. It is signed, and advanced before any erasure is acknowledged. A copy that reaches the anchor
//! with its hash holds every acknowledged erasure. What follows the anchor counts only as far as its signatures are
//! valid, because a crash may have torn it.

use std::collections::HashSet;
use std::io;

use ed25519_dalek::{SigningKey, VerifyingKey};
use parking_lot::Mutex;

use crate::erasure_log::{ANCHOR_PLACE_BYTES, ErasureFiles, ErasureLog, LogFile, Noted, State, failed};
use crate::keys::{KeyRing, Purpose};
use crate::receipts;
use crate::receipts::checkpoint::{CHECKPOINT_BYTES, Checkpoint};
use crate::receipts::{Malformed, Receipt, ReceiptKind};
use likeness_types::error::{OperatorError, Result};
use likeness_types::names::RandomId;

/// What one copy holds, up to where it stops being a log.
struct Walked {
    state: State,
    heads: Vec<[u8; 32]>,
    destroyed: HashSet<RandomId>,
    /// Anchors that the operator accepted to fall short of.
    overridden: Vec<(u64, [u8; 32])>,
    /// The key that the copy introduced last.
    signer: Option<VerifyingKey>,
    /// A key that the one before it vouches for, and that is not of this key store.
    unknown_signer: Option<RandomId>,
    /// Something follows that is no receipt, and no receipt cut off by a crash either.
    damaged: bool,
}

impl Walked {
    fn size(&self) -> u64 {
        self.state.size()
    }
}

/// What decides.
struct Judge {
    deployment: RandomId,
    /// Keys that receipts may be signed with, each in its time.
    trusted: Vec<VerifyingKey>,
    anchor: Option<Checkpoint>,
    /// Where the anchor lies, and its bytes.
    place: Option<(u64, Vec<u8>)>,
    /// Nothing has been erased yet, and no record is there.
    begins: bool,
}

/// The copy that is the log.
struct Chosen {
    walked: Walked,
    bytes: Vec<u8>,
    /// The copy that lies with the data has what the anchor has seen.
    is_in_the_data: bool,
    /// It falls short of this anchor, and the operator accepts it.
    short_of: Option<(u64, [u8; 32])>,
}

impl ErasureLog {
    /// Opens the log of data that are not in use yet, or that have an anchor.
    #[cfg(any(test, feature = "testing"))]
    pub fn open(
        files: ErasureFiles,
        ring: &KeyRing,
        accept_short: bool,
    ) -> Result<(Self, HashSet<RandomId>)> {
        Self::open_beside(files, ring, accept_short, &|| Ok(false))
    }

    /// Opens the log, completes the copy that a crash or a restored backup left behind, and holds it
    /// against its anchor. Also answers which keys are destroyed. `is_in_use` says whether records or keys are there:
    /// the anchor is made before the first of them, so that with them no log begins.
    ///
    /// # Errors
    /// No copy that reaches the anchor, or no anchor beside data that are in use, unless `accept_short`: then that is
    /// written into the log. Two copies that disagree, a log or an anchor of another deployment.
    pub(crate) fn open_beside(
        files: ErasureFiles,
        ring: &KeyRing,
        accept_short: bool,
        is_in_use: &dyn Fn() -> Result<bool>,
    ) -> Result<(Self, HashSet<RandomId>)> {
        let read = |file: &dyn LogFile| file.read_all().map_err(|e| failed("reading the erasure log", e));
        let copies = [read(files.local.as_ref())?, read(files.copy.as_ref())?];
        let judge = Judge::new(&files, &copies, ring, is_in_use)?;
        let mut chosen = judge.choose(&copies, accept_short)?;
        let signing = signing_key(ring, chosen.walked.signer)?;
        chosen.walked.state.anchor.clone_from(&judge.place);
        // ORDER: nothing is written before the log is accepted: a refused one stays as it was found.
        for (file, found) in [&files.local, &files.copy].into_iter().zip(&copies) {
            complete(file.as_ref(), found, &chosen.bytes)?;
        }
        let log = Self {
            files,
            deployment: ring.deployment,
            anchored: judge.anchor.filter(|_| chosen.is_in_the_data),
            signing: Mutex::new(signing),
            state: Mutex::new(chosen.walked.state),
        };
        if log.size() == 0 {
            let public = log.signing.lock().verifying_key().to_bytes();
            log.append(vec![log.plain(ReceiptKind::SigningKey, public, 0)])?;
        }
        if let Some((size, head)) = chosen.short_of {
            tracing::warn!(
                expected = size,
                found = log.size(),
                "a short erasure log was accepted"
            );
            log.append(vec![log.plain(ReceiptKind::Override, head, size)])?;
            // What was lost may have let in the key that signs now.
            log.introduce(ring.signing().secret.expose())?;
        }
        if judge.anchor.is_none() {
            // ORDER: before anything can be erased, for only a log that begins may be without an anchor.
            log.checkpoint(0)?;
        }
        Ok((log, chosen.walked.destroyed))
    }
}

impl Judge {
    /// The latest of the anchors that are signed; whatever is no anchor, torn by a crash, is passed over,
    /// unless there is nothing else where there must be one.
    fn new(
        files: &ErasureFiles,
        copies: &[Vec<u8>; 2],
        ring: &KeyRing,
        is_in_use: &dyn Fn() -> Result<bool>,
    ) -> Result<Self> {
        let deployment = ring.deployment;
        let public = |keys: Vec<SigningKey>| keys.iter().map(SigningKey::verifying_key).collect::<Vec<_>>();
        let current = public(signing_keys(ring, Purpose::Signing));
        let trusted = [
            public(signing_keys(ring, Purpose::FormerSigning)),
            current.clone(),
        ]
        .concat();
        let found = files
            .anchor
            .read_all()
            .map_err(|e| failed("reading the erasure log's anchor", e))?;
        let place_bytes = usize::try_from(ANCHOR_PLACE_BYTES).expect("a sector");
        let places = found.chunks(place_bytes).zip(0..2);
        let signed = places.filter_map(|(bytes, place)| {
            let bytes = bytes.get(..CHECKPOINT_BYTES)?;
            let anchor = Checkpoint::parse(bytes).ok()?;
            // A former key may have leaked: what it signed counts only where the log has it in its place.
            let signed = current.iter().any(|key| anchor.is_signed(key, bytes));
            let own = anchor.size > 0 && anchor.deployment == deployment && signed;
            own.then(|| (anchor, (place, bytes.to_vec())))
        });
        let latest = signed.max_by_key(|(anchor, _)| (anchor.size, anchor.time));
        let judge = |anchor, place, begins| Self {
            deployment,
            trusted: trusted.clone(),
            anchor,
            place,
            begins,
        };
        Ok(match latest {
            Some((anchor, place)) => judge(Some(anchor), Some(place), false),
            None => {
                let judge = judge(None, None, begins(copies) && !is_in_use()?);
                if !judge.begins && found.iter().any(|byte| *byte != 0) {
                    return Err(wrong(
                        "an anchor signed with this deployment's key",
                        "another one, or a damaged one",
                    ));
                }
                judge
            }
        })
    }

    fn choose(&self, copies: &[Vec<u8>; 2], accept_short: bool) -> Result<Chosen> {
        for copy in copies {
            if Receipt::parse(copy).is_ok_and(|(first, _)| first.deployment != self.deployment) {
                return Err(wrong("this deployment's log", "another one's"));
            }
        }
        // Signatures are checked from the anchor on: before it, its own speaks for every hash.
        let from = self.anchor.map_or(0, |anchor| anchor.size);
        let walked = copies.each_ref().map(|bytes| self.walk(bytes, from));
        // ORDER: before anything is chosen: what such a key signed would pass for damage, and be cut off.
        if let Some(unknown) = walked.iter().find_map(|w| w.unknown_signer) {
            return Err(no_signing_key(unknown));
        }
        let good = match self.anchor {
            // Only a log that was about to begin has none yet.
            None => [self.begins; 2],
            Some(anchor) => walked.each_ref().map(|w| reaches(w, &anchor)),
        };
        let [local, copy] = walked;
        match good {
            [true, true] => {
                let (longer, bytes, shorter) = if local.size() >= copy.size() {
                    (local, &copies[0], copy)
                } else {
                    (copy, &copies[1], local)
                };
                if !longer.heads.starts_with(&shorter.heads) {
                    return Err(wrong("two copies that agree", "copies of different logs"));
                }
                Ok(Chosen::new(longer, bytes, None).in_the_data())
            }
            [true, false] => Ok(Chosen::new(local, &copies[0], None).in_the_data()),
            [false, true] => Ok(Chosen::new(copy, &copies[1], None)),
            [false, false] if accept_short => self.longest_signed(copies),
            [false, false] => Err(self.refusal([&local, &copy])),
        }
    }

    /// Without a copy that reaches the anchor: what of either is signed from its beginning.
    fn longest_signed(&self, copies: &[Vec<u8>; 2]) -> Result<Chosen> {
        let [local, copy] = copies.each_ref().map(|bytes| self.walk(bytes, 0));
        let (longer, bytes) = if local.size() >= copy.size() {
            (local, &copies[0])
        } else {
            (copy, &copies[1])
        };
        match self.anchor {
            Some(anchor) if longer.size() >= anchor.size => Err(wrong(
                "the log that the anchor has seen",
                "another one, signed with the same key",
            )),
            anchor => {
                let short_of = anchor.map_or((0, [0; 32]), |anchor| (anchor.size, anchor.head));
                Ok(Chosen::new(longer, bytes, Some(short_of)))
            }
        }
    }

    fn refusal(&self, walked: [&Walked; 2]) -> likeness_types::error::Error {
        let found = walked.map(Walked::size).into_iter().max().unwrap_or(0);
        match self.anchor {
            None => wrong(
                "the log's copy and its anchor in the key store",
                "none, beside data that are in use; restore the key store that belongs to them, or \
                 --accept-short-erasure-log starts without what was erased since",
            ),
            Some(anchor) if found < anchor.size && !walked.iter().any(|w| w.damaged) => {
                OperatorError::ErasureLogShort {
                    expected: anchor.size,
                    found,
                }
                .into()
            }
            Some(_) => wrong(
                "a copy that holds what the anchor has seen",
                "damage in both copies, or another log",
            ),
        }
    }

    /// Follows the chain; signatures are checked from receipt `from` on, and of and after every receipt
    /// that excuses a missing end.
    fn walk(&self, bytes: &[u8], from: u64) -> Walked {
        let mut walked = Walked {
            state: State::new(),
            heads: Vec::new(),
            destroyed: HashSet::new(),
            overridden: Vec::new(),
            signer: None,
            unknown_signer: None,
            damaged: false,
        };
        let mut rest = bytes;
        while !rest.is_empty() {
            let (receipt, length) = match Receipt::parse(rest) {
                Ok(parsed) => parsed,
                Err(malformed) => {
                    walked.damaged = malformed == Malformed::Format;
                    return walked;
                }
            };
            let (one, state) = (&rest[..length], &mut walked.state);
            let brought = match receipt.kind {
                ReceiptKind::SigningKey => VerifyingKey::from_bytes(&receipt.subject).ok(),
                _ => None,
            };
            // As in `receipts::chain`: the first key signs for itself, each later one is signed for.
            let signer = walked.signer.or(brought);
            let is_signed =
                signer.is_some_and(|key| self.trusted.contains(&key) && receipts::signed_by(&key, one));
            let excuse = receipt.kind == ReceiptKind::Override;
            let must_be_signed = receipt.sequence >= from || excuse || !walked.overridden.is_empty();
            if receipt.sequence != state.size()
                || receipt.previous != state.head
                || receipt.deployment != self.deployment
                || (must_be_signed && !is_signed)
            {
                walked.damaged = true;
                return walked;
            }
            if let Some(key) = brought {
                walked.signer = Some(key);
                let known = self.trusted.contains(&key) || !must_be_signed;
                walked.unknown_signer = (!known).then(|| receipts::signing_key_id(&key));
            }
            state.take_in(&receipt, one, Noted::default());
            walked.heads.push(state.head);
            walked.destroyed.extend(receipt.keys.iter().map(|key| key.id));
            if excuse {
                walked.overridden.push((receipt.about, receipt.subject));
            }
            rest = &rest[length..];
        }
        walked
    }
}

fn signing_keys(ring: &KeyRing, purpose: Purpose) -> Vec<SigningKey> {
    let keys = ring.all(purpose);
    keys.iter()
        .map(|key| SigningKey::from_bytes(key.secret.expose()))
        .collect()
}

/// The key that the log goes on with: the one it introduced last. A newer one of the ring waits for a
/// rotation to be finished.
fn signing_key(ring: &KeyRing, signer: Option<VerifyingKey>) -> Result<SigningKey> {
    let Some(signer) = signer else {
        return Ok(SigningKey::from_bytes(ring.signing().secret.expose()));
    };
    let keys = [Purpose::Signing, Purpose::FormerSigning].map(|purpose| signing_keys(ring, purpose));
    let found = keys
        .into_iter()
        .flatten()
        .find(|key| key.verifying_key() == signer);
    found.ok_or_else(|| no_signing_key(receipts::signing_key_id(&signer)))
}

fn no_signing_key(id: RandomId) -> likeness_types::error::Error {
    OperatorError::Keys {
        what: "signing key",
        expected: format!("{id}, with which the erasure log is signed"),
        found: "a keyring without it: an older one?".to_owned(),
    }
    .into()
}

/// Whether nothing was ever erased: a log is anchored before anything comes after its first receipt.
fn begins(copies: &[Vec<u8>; 2]) -> bool {
    copies.iter().all(|bytes| bytes.len() <= receipts::PLAIN_BYTES)
}

/// Whether a copy holds what the anchor has seen, or says that the operator does without.
fn reaches(walked: &Walked, anchor: &Checkpoint) -> bool {
    let last = usize::try_from(anchor.size - 1).ok();
    last.and_then(|last| walked.heads.get(last)) == Some(&anchor.head)
        || walked.overridden.contains(&(anchor.size, anchor.head))
}

impl Chosen {
    fn new(walked: Walked, bytes: &[u8], short_of: Option<(u64, [u8; 32])>) -> Self {
        let end = usize::try_from(walked.state.end()).expect("it was read into memory");
        Self {
            bytes: bytes[..end].to_vec(),
            walked,
            is_in_the_data: false,
            short_of,
        }
    }

    fn in_the_data(self) -> Self {
        Self {
            is_in_the_data: true,
            ..self
        }
    }
}

/// Makes a copy what the log is; what both begin with is not written again.
fn complete(file: &dyn LogFile, found: &[u8], whole: &[u8]) -> Result<()> {
    if found == whole {
        return Ok(());
    }
    let same = found.iter().zip(whole).take_while(|(a, b)| a == b).count();
    tracing::warn!(
        bytes = whole.len() - same,
        "a copy of the erasure log is completed from the other"
    );
    let mend = || -> io::Result<()> {
        file.truncate(same as u64)?;
        file.write_at(same as u64, &whole[same..])?;
        file.sync()
    };
    mend().map_err(|e| failed("completing the erasure log", e))
}

fn wrong(expected: &str, found: &str) -> likeness_types::error::Error {
    OperatorError::Format {
        what: "erasure log",
        expected: expected.to_owned(),
        found: found.to_owned(),
    }
    .into()
}
