//! Which account owns each receipt. The bytes of a receipt name no person and no account, so the owner is noted beside
//! the log: in memory, and in a row of the records, as a keyed digest of the account's name. An account sees its own
//! receipts only; the operator sees all.
//!
//! The rows are written with the commit that erases, or soon after. A receipt without a row is the operator's alone: a
//! crash came between, an older copy of the data was put back, or the receipt was issued by a program without rows. A
//! PURGED receipt belongs to the owner of the receipt that it completes. SIGNING_KEY and OVERRIDE are visible to all.

use std::collections::HashMap;

use crate::codec::Digest;
use crate::erasure_log::{Backlog, ErasureLog};
use crate::receipts::{Receipt, ReceiptKind};
use crate::records::{Change, Family, Scan, Write};
use crate::vault::Vault;
use likeness_types::error::Result;
use likeness_types::names::Account;

/// What the keys of the rows begin with; the receipt's number follows, the larger end first.
const OWNER_PREFIX: &[u8] = &[1];

/// The number of an owner: small, because memory holds one for every receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owner(u32);

impl Owner {
    const OPERATOR: Self = Self(u32::MAX);
    const ALL: Self = Self(u32::MAX - 1);
}

#[derive(Default)]
pub(super) struct Owners {
    /// Of each receipt, in their order.
    of: Vec<Owner>,
    numbers: HashMap<Digest, Owner>,
    /// Receipts that complete others, and which, as long as the rows are not read.
    completing: Vec<(u64, u64)>,
    /// The rows are read: what is noted from here on needs a row.
    are_known: bool,
    unwritten: Vec<(u64, Digest)>,
}

impl Owners {
    pub(crate) fn take_in(&mut self, receipt: &Receipt, owner: Option<Digest>) {
        let number = match receipt.kind {
            ReceiptKind::SigningKey | ReceiptKind::Override => Owner::ALL,
            ReceiptKind::Erased | ReceiptKind::Reduced => {
                self.unwritten
                    .extend(owner.map(|owner| (receipt.sequence, owner)));
                owner.map_or(Owner::OPERATOR, |owner| self.number(owner))
            }
            ReceiptKind::Purged => {
                if !self.are_known {
                    self.completing.push((receipt.sequence, receipt.about));
                }
                self.get(receipt.about)
            }
        };
        self.of.push(number);
    }

    /// Takes the rows; answers those that are of no receipt of an erasure.
    fn know(&mut self, rows: Vec<(u64, Digest)>) -> Vec<u64> {
        let mut stray = Vec::new();
        for (sequence, owner) in rows {
            // Neither a receipt that completes another nor one that is visible to all has a row.
            let completes = self
                .completing
                .binary_search_by_key(&sequence, |(own, _)| *own)
                .is_ok();
            if completes || self.is_past_the_end(sequence) || self.get(sequence) == Owner::ALL {
                stray.push(sequence);
                continue;
            }
            let number = self.number(owner);
            self.set(sequence, number);
        }
        for (sequence, about) in std::mem::take(&mut self.completing) {
            self.set(sequence, self.get(about));
        }
        self.are_known = true;
        stray
    }

    fn number(&mut self, owner: Digest) -> Owner {
        let next = u32::try_from(self.numbers.len()).expect("the accounts of a deployment are limited");
        *self.numbers.entry(owner).or_insert(Owner(next))
    }

    fn is_past_the_end(&self, sequence: u64) -> bool {
        sequence >= self.of.len() as u64
    }

    fn get(&self, sequence: u64) -> Owner {
        let at = usize::try_from(sequence).ok();
        at.and_then(|at| self.of.get(at))
            .copied()
            .unwrap_or(Owner::OPERATOR)
    }

    fn set(&mut self, sequence: u64, number: Owner) {
        let at = usize::try_from(sequence).ok();
        if let Some(of) = at.and_then(|at| self.of.get_mut(at)) {
            *of = number;
        }
    }

    /// Which owners' receipts a reader sees.
    fn sight(&self, reader: Reader<'_>) -> Sight {
        match reader {
            None => Sight::Everything,
            // An account without receipts of its own sees those that are visible to all.
            Some(reader) => Sight::Of(self.numbers.get(reader).copied().unwrap_or(Owner::ALL)),
        }
    }
}

#[derive(Clone, Copy)]
enum Sight {
    Everything,
    Of(Owner),
}

impl Sight {
    fn has(self, owner: Owner) -> bool {
        match self {
            Self::Everything => true,
            Self::Of(own) => owner == own || owner == Owner::ALL,
        }
    }
}

/// The reader of receipts: an account by its digest; none is the operator, which sees all.
pub(crate) type Reader<'a> = Option<&'a Digest>;

impl ErasureLog {
    /// The next receipts from a number on that a reader sees, and the number of the one after them.
    pub fn seen_by(&self, reader: Reader<'_>, first: u64, most: usize) -> (Vec<u64>, Option<u64>) {
        let state = self.state.lock();
        let sight = state.owners.sight(reader);
        let begin = usize::try_from(first).unwrap_or(usize::MAX);
        let mut seen = (first..)
            .zip(state.owners.of.iter().skip(begin))
            .filter(|(_, owner)| sight.has(**owner))
            .map(|(sequence, _)| sequence);
        let page = seen.by_ref().take(most).collect();
        (page, seen.next())
    }

    /// Whether a reader sees a receipt that there is.
    pub fn is_seen_by(&self, reader: Reader<'_>, sequence: u64) -> bool {
        let state = self.state.lock();
        !state.owners.is_past_the_end(sequence) && state.owners.sight(reader).has(state.owners.get(sequence))
    }

    /// How many receipts a reader sees.
    pub fn size_for(&self, reader: Reader<'_>) -> u64 {
        let state = self.state.lock();
        let sight = state.owners.sight(reader);
        let seen = state.owners.of.iter().filter(|owner| sight.has(**owner));
        seen.count() as u64
    }

    /// What is erased and not yet purged, as far as a reader sees it.
    pub fn backlog_for(&self, reader: Reader<'_>) -> Backlog {
        let state = self.state.lock();
        let sight = state.owners.sight(reader);
        let mut backlog = Backlog::default();
        for (sequence, erasure) in &state.unpurged {
            if sight.has(state.owners.get(*sequence)) {
                backlog.erasures += 1;
                let oldest = backlog
                    .oldest
                    .map_or(erasure.since, |oldest| oldest.min(erasure.since));
                backlog.oldest = Some(oldest);
            }
        }
        backlog
    }

    /// Rows that are yet to be written, for a batch of the records.
    pub(crate) fn take_owner_rows(&self) -> Vec<Write> {
        let unwritten = std::mem::take(&mut self.state.lock().owners.unwritten);
        let row = |(sequence, owner): (u64, Digest)| Write {
            family: Family::Commits,
            key: row_key(sequence),
            change: Change::Put(owner.0.to_vec()),
        };
        unwritten.into_iter().map(row).collect()
    }
}

fn row_key(sequence: u64) -> Vec<u8> {
    [OWNER_PREFIX, &sequence.to_be_bytes()].concat()
}

impl Vault {
    /// The digest under which receipts of an account are noted.
    pub fn owner(&self, account: &Account) -> Digest {
        Digest::of_account(&self.ring.digest().secret, account)
    }

    /// Reads the owners of all receipts, at a start. Rows of receipts that the log has lost are deleted: another receipt
    /// may get the number.
    pub fn read_owners(&self) -> Result<()> {
        let mut rows = Vec::new();
        // A damaged place hides rows: then those receipts are the operator's alone.
        self.scan(Family::Commits, OWNER_PREFIX, &[], &mut |key, owner| {
            let sequence = key
                .get(OWNER_PREFIX.len()..)
                .and_then(|rest| rest.try_into().ok());
            let row = sequence
                .map(u64::from_be_bytes)
                .zip(owner.try_into().ok().map(Digest));
            rows.extend(row);
            Scan::Continue
        })?;
        let stray = self.log.state.lock().owners.know(rows);
        let gone = stray.into_iter().map(|sequence| Write {
            family: Family::Commits,
            key: row_key(sequence),
            change: Change::Delete,
        });
        self.write_rows_of_commits(gone.collect())
    }

    /// Writes the rows that no commit has taken along: of receipts that were issued after its records.
    pub fn write_owner_rows(&self) -> Result<()> {
        self.write_rows_of_commits(self.log.take_owner_rows())
    }
}
