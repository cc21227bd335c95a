//! The audit log: what administrators did, each entry chained to the one before it.
//!
//! An act is written down before it is done; if it fails, a second entry says so. Entries name accounts, keys and
//! collections, and no enrolled person. They are sealed, because the name of a collection may be confidential, and are
//! never changed or removed.

pub mod anchor;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::audit::anchor::Head;
use crate::codec;
use crate::records::{Change, Family, Scan, Write};
use crate::vault::{Plan, Vault};
use likeness_types::act::{Act, AuditEntry, Audited};
use likeness_types::crypto;
use likeness_types::crypto::{NONCE_BYTES, Secret};
use likeness_types::error::{OperatorError, RequestError, Result};
use likeness_types::names::{Account, RandomId};
use likeness_types::person::Timestamp;

/// Entries of a deployment: acts beyond it are refused, because they could not be written down.
const ENTRIES_MAX: u64 = 10_000_000;
/// The last of them are kept for acts that end something, so that no account can keep another from it ...
const KEPT_TO_END: u64 = 100_000;
/// ... and of these the last for the operator, whose acts no account can keep off.
const KEPT_FOR_OPERATOR: u64 = 50_000;
const FORMAT: u8 = 1;
const SEAL_CONTEXT: &str = "likeness v1 audit log seal";

/// Where the chain is.
pub struct AuditLog {
    head: Mutex<Head>,
    seal: Secret,
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
    /// Reads the chain to its end, and holds it against its anchor. A chain that falls short of it is taken only
    /// where the operator accepts that, and then it says so.
    ///
    /// # Errors
    /// An entry is missing or cannot be read, at the end too: somebody was at it, an older copy of the data was put
    /// back, or the disk is damaged.
    pub fn open(vault: &Vault, accept_short: bool, now: Timestamp) -> Result<Self> {
        let digest = vault.ring.digest();
        let log = Self {
            head: Mutex::new(Head::default()),
            seal: Secret::take(&mut crypto::keyed_digest(&digest.secret, SEAL_CONTEXT, &[])),
        };
        let anchor = vault.audit_anchor.latest();
        let (mut head, mut broken) = (Head::default(), None);
        let mut reaches = anchor == Some(head);
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
                    reaches |= anchor == Some(head);
                    Scan::Continue
                }
                _ => {
                    broken = Some(head.size);
                    Scan::Stop
                }
            },
        )?;
        vault.refuse_unproven_damage()?;
        if let Some(at) = broken {
            return Err(OperatorError::Format {
                what: "audit log",
                expected: format!("entry {at}, chained to the one before it"),
                found: "another, or one that cannot be read".to_owned(),
            }
            .into());
        }
        *log.head.lock() = head;
        match anchor {
            Some(anchor) if reaches && anchor == head => {}
            // A crash came between an entry and the anchor.
            Some(_) if reaches => vault.advance_audit_anchor(head)?,
            // Only a log that begins may be without an anchor.
            None if head == Head::default() => vault.advance_audit_anchor(head)?,
            anchor if accept_short => log.accept(vault, anchor, now)?,
            anchor => {
                return Err(OperatorError::AuditLogShort {
                    expected: anchor.map(|anchor| anchor.size),
                    found: head.size,
                }
                .into());
            }
        }
        Ok(log)
    }

    /// From here on the log as it is holds, and says that it did not reach its anchor.
    fn accept(&self, vault: &Vault, anchor: Option<Head>, now: Timestamp) -> Result<()> {
        let found = self.size();
        let expected = anchor.map_or_else(|| "an anchor".to_owned(), |anchor| anchor.size.to_string());
        tracing::warn!(
            expected,
            found,
            "an audit log that does not reach its anchor was accepted"
        );
        let entry = AuditEntry {
            account: Account::default(),
            key: None,
            request: RandomId::random(),
            act: Act::AcceptAuditLog,
            of: Account::default(),
            object: format!("expected {expected}, found {found}"),
        };
        self.append(vault, &entry, false, now).map(drop)
    }

    /// Adds an entry, durably.
    pub fn append(&self, vault: &Vault, entry: &AuditEntry, failed: bool, now: Timestamp) -> Result<u64> {
        let mut head = self.head.lock();
        let most = entries_max(entry);
        if head.size >= most {
            return Err(RequestError::TooMany {
                what: "entries of the audit log",
                max: usize::try_from(most).unwrap_or(usize::MAX),
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
        // ORDER: the entry before the anchor: a crash between leaves an entry more than the anchor knows, which a start
        // takes in. And the anchor before the act: what is done cannot be taken out of the log unnoticed.
        vault.advance_audit_anchor(*head)?;
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
            account: Account::parse(read.account).ok()?,
            key: read.key.map(RandomId),
            request: RandomId(read.request),
            act: Act::numbered(read.act)?,
            of: Account::parse(read.of).ok()?,
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

/// How many there may be before this one.
fn entries_max(entry: &AuditEntry) -> u64 {
    // Each takes something away that can be made no more by then; a key group can be destroyed again and again.
    let ends = matches!(
        entry.act,
        Act::CloseAccount | Act::RevokeApiKey | Act::DeleteCollection
    );
    let kept = match (entry.account == Account::default(), ends) {
        (true, _) => 0,
        (false, true) => KEPT_FOR_OPERATOR,
        (false, false) => KEPT_TO_END,
    };
    ENTRIES_MAX - kept
}

/// In the order of their numbers.
fn key_of(sequence: u64) -> Vec<u8> {
    sequence.to_be_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_account_can_use_up_what_is_kept_to_end_things() {
        let max = |account: Account, act| {
            entries_max(&AuditEntry {
                of: account.clone(),
                account,
                key: None,
                request: RandomId::default(),
                act,
                object: String::new(),
            })
        };
        let tenant = || Account::parse("branch").expect("a name");
        let [changes, revokes] = [Act::UpdateCollection, Act::RevokeApiKey].map(|act| max(tenant(), act));
        assert_eq!(revokes - changes, KEPT_TO_END - KEPT_FOR_OPERATOR);
        for act in Act::ALL {
            assert_eq!(max(Account::default(), *act), ENTRIES_MAX);
            assert!(max(tenant(), *act) <= ENTRIES_MAX - KEPT_FOR_OPERATOR);
        }
    }
}
