//! The audit log: what administrators did, each entry chained to the one before it.
//!
//! An act is written down before it is done, so that nothing is done unnoticed; if it fails, a second entry says
//! so. Entries name accounts, keys and collections, and nobody who is enrolled. They are sealed, because a
//! collection's name may say more than a stranger should know, and are never changed or removed.

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::access::{Act, AuditEntry, Audited};
use crate::crypto::{self, NONCE_BYTES, Secret};
use crate::error::{OperatorError, RequestError, Result};
use crate::gallery::codec;
use crate::gallery::records::{Change, Family, Scan, Write};
use crate::gallery::vault::{Plan, Vault};
use crate::names::RandomId;
use crate::person::Timestamp;

/// Entries of a deployment: acts beyond it are refused, because they could not be written down.
const ENTRIES_MAX: u64 = 10_000_000;
const FORMAT: u8 = 1;
const SEAL_CONTEXT: &str = "likeness v1 audit log seal";

/// Where the chain is.
pub(crate) struct AuditLog {
    head: Mutex<Head>,
    seal: Secret,
}

#[derive(Clone, Copy, Default)]
struct Head {
    size: u64,
    hash: [u8; 32],
}

#[derive(Serialize, Deserialize)]
struct Contents<'a> {
    previous: [u8; 32],
    time_ms: u64,
    account: &'a str,
    key: Option<[u8; 16]>,
    request: [u8; 16],
    act: u8,
    of: &'a str,
    object: &'a str,
    failed: bool,
}

impl AuditLog {
    /// Reads the chain to its end.
    ///
    /// # Errors
    /// An entry is missing or cannot be read: somebody was at it, or the disk is damaged.
    pub fn open(vault: &Vault) -> Result<Self> {
        let digest = vault.ring.digest();
        let log = Self {
            head: Mutex::new(Head::default()),
            seal: Secret::take(&mut crypto::keyed_digest(&digest.secret, SEAL_CONTEXT, &[])),
        };
        let (mut head, mut broken) = (Head::default(), None);
        vault.scan(
            Family::Audit,
            &[],
            &[],
            &mut |key, row| match log.read(head.size, key, row) {
                Some((entry, hash)) if entry.previous == head.hash => {
                    head = Head {
                        size: head.size + 1,
                        hash,
                    };
                    Scan::Continue
                }
                _ => {
                    broken = Some(head.size);
                    Scan::Stop
                }
            },
        )?;
        if let Some(at) = broken {
            return Err(OperatorError::Format {
                what: "audit log",
                expected: format!("entry {at}, chained to the one before it"),
                found: "another, or one that cannot be read".to_owned(),
            }
            .into());
        }
        *log.head.lock() = head;
        Ok(log)
    }

    /// Adds an entry, durably.
    pub fn append(&self, vault: &Vault, entry: &AuditEntry, failed: bool, now: Timestamp) -> Result<u64> {
        let mut head = self.head.lock();
        if head.size >= ENTRIES_MAX {
            return Err(RequestError::TooMany {
                what: "entries of the audit log",
                max: usize::try_from(ENTRIES_MAX).unwrap_or(usize::MAX),
            }
            .into());
        }
        let contents = crypto::plain_bytes(&Contents {
            previous: head.hash,
            time_ms: now.0,
            account: entry.account.as_str(),
            key: entry.key.map(|key| key.0),
            request: entry.request.0,
            act: entry.act.number(),
            of: entry.of.as_str(),
            object: &entry.object,
            failed,
        });
        let key = key_of(head.size);
        let nonce: [u8; NONCE_BYTES] = crypto::random();
        let mut row = vec![FORMAT];
        row.extend_from_slice(&nonce);
        row.extend_from_slice(&crypto::seal(&self.seal, &nonce, &contents, &key));
        let mut plan = Plan::default();
        plan.write(Write {
            family: Family::Audit,
            key,
            change: Change::Put(row),
        });
        vault.commit(plan)?;
        let sequence = head.size;
        *head = Head {
            size: sequence + 1,
            hash: *blake3::hash(&contents).as_bytes(),
        };
        Ok(sequence)
    }

    /// How many entries there are.
    pub fn size(&self) -> u64 {
        self.head.lock().size
    }

    /// Entries from this number on, as long as they are wanted.
    pub fn visit(&self, vault: &Vault, first: u64, wanted: &mut dyn FnMut(Audited) -> bool) -> Result<()> {
        let after = first.checked_sub(1).map_or_else(Vec::new, key_of);
        let (mut sequence, mut damaged) = (first, false);
        vault.scan(Family::Audit, &[], &after, &mut |key, row| {
            let Some((read, hash)) = self.read(sequence, key, row) else {
                damaged = true;
                return Scan::Stop;
            };
            let entry = Audited {
                sequence,
                previous: read.previous,
                hash,
                time: Timestamp(read.time_ms),
                failed: read.failed,
                entry: read.entry,
            };
            sequence += 1;
            if wanted(entry) { Scan::Continue } else { Scan::Stop }
        })?;
        if damaged {
            return Err(OperatorError::Store {
                doing: "reading the audit log",
                detail: format!("entry {sequence} cannot be read"),
            }
            .into());
        }
        Ok(())
    }

    fn read(&self, sequence: u64, key: &[u8], row: &[u8]) -> Option<(Read, [u8; 32])> {
        if key != key_of(sequence) {
            return None;
        }
        let (format, rest) = row.split_first()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>()?;
        let contents = crypto::open(&self.seal, nonce, sealed, key).filter(|_| *format == FORMAT)?;
        let hash = *blake3::hash(&contents).as_bytes();
        let read: Contents<'_> = codec::from_contents(&contents).ok()?;
        let entry = AuditEntry {
            account: crate::Account::parse(read.account).ok()?,
            key: read.key.map(RandomId),
            request: RandomId(read.request),
            act: Act::numbered(read.act)?,
            of: crate::Account::parse(read.of).ok()?,
            object: read.object.to_owned(),
        };
        let read = Read {
            previous: read.previous,
            time_ms: read.time_ms,
            failed: read.failed,
            entry,
        };
        Some((read, hash))
    }
}

struct Read {
    previous: [u8; 32],
    time_ms: u64,
    failed: bool,
    entry: AuditEntry,
}

/// In the order of their numbers.
fn key_of(sequence: u64) -> Vec<u8> {
    sequence.to_be_bytes().to_vec()
}
