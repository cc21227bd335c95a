//! Idempotency tokens: what was done under each in the last 24 hours, so that nothing is done twice.
//!
//! ```text
//! row key  keyed digest of account, interface and token 32
//! row      format u8 | expires u64 | nonce 24 | sealed
//! ```
//!
//! A row is written in the batch of the change that it stands for. It holds nothing of a person: of whom
//! was enrolled or changed it has a digest of that record's own random mark, which is gone with the record.
//! So an erasure needs to touch no row, and a token of an erased person fits nobody any more. Rows are
//! sealed under a key that only the digest key and the client's token give together. docs/idempotency.md has
//! the whole story.

pub(crate) mod key;
mod replay;
mod replayed;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::erasure_receipt::Nonce;
use crate::guard::idempotency::key::Once;
use likeness_store::codec;
use likeness_store::records::{Change, Family, Scan, Write};
use likeness_store::vault::{Plan, Vault};
use likeness_types::clock::Clock;
use likeness_types::crypto;
use likeness_types::crypto::{NONCE_BYTES, Secret};
use likeness_types::error::{Error, OperatorError, RequestError, Result};
use likeness_types::names::{CollectionName, RandomId};
use likeness_types::person::{Person, Timestamp};

const FORMAT: u8 = 1;
const HEAD_BYTES: usize = 1 + 8;
/// How long a write is remembered.
pub(crate) const KEPT_MS: u64 = likeness_store::retention::TOKENS_KEPT_MS;
/// Rows of a deployment at any time: 24 hours of writes, at some 200 bytes each on disk.
pub(crate) const ROWS_MAX: u64 = 4_000_000;
/// Rows looked at between two groups of changes: a few milliseconds.
const SWEPT_TOGETHER: usize = 4096;

/// What was done under a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Done {
    /// A person or a collection was made or changed.
    Kept { mark: [u8; 16] },
    /// Faces were deleted of a person who stayed; the receipt is at this place of the log or later.
    Reduced { mark: [u8; 16], faces: u32, from: u64 },
    /// A person was erased in each of these; the receipts are at this place or later.
    Erased { places: Vec<Where>, from: u64 },
    /// A collection was erased, with so many people and receipts; 0 receipts while it was not complete.
    Collection { persons: u64, receipts: u32, from: u64 },
}

/// Where somebody was erased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Where {
    /// A collection's name.
    Named(String),
    /// The id of a collection whose own record cannot be read, which alone knows its name.
    Unnamed([u8; 16]),
}

impl Where {
    pub fn named(name: &CollectionName) -> Self {
        Self::Named(name.as_str().to_owned())
    }

    pub fn name(&self) -> Option<CollectionName> {
        match self {
            Self::Named(name) => CollectionName::parse(name).ok(),
            Self::Unnamed(_) => None,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Contents {
    payload: [u8; 32],
    done: Done,
}

/// The right to make one write, and what stands for it on disk.
#[derive(Clone)]
pub(crate) struct Claim {
    once: Arc<Once>,
    /// The row's key.
    pub key: [u8; 32],
    secret: Arc<Secret>,
}

impl Claim {
    pub fn new(digest_key: &Secret, once: &Arc<Once>) -> Self {
        let parts: [&[u8]; 3] = [
            once.account.as_str().as_bytes(),
            once.interface.as_bytes(),
            once.token.as_bytes(),
        ];
        let mut secret = crypto::keyed_digest(digest_key, "likeness v1 token secret", &parts);
        Self {
            once: Arc::clone(once),
            key: crypto::keyed_digest(digest_key, "likeness v1 token", &parts),
            secret: Arc::new(Secret::take(&mut secret)),
        }
    }

    /// Stands for a record in this row and in no other.
    pub fn mark(&self, record: RandomId) -> [u8; 16] {
        crypto::keyed_digest(&self.secret, "likeness v1 token mark", &[&record.0])
    }

    /// The nonce of a receipt of this write, the same whenever it is asked for again: it is kept nowhere, and
    /// only the same call under the same token gives it.
    pub fn nonce(&self, place: &Where) -> Nonce {
        let place = match place {
            Where::Named(name) => name.as_bytes(),
            Where::Unnamed(id) => &id[..],
        };
        let parts = [&self.once.payload[..], place];
        Nonce(crypto::keyed_digest(
            &self.secret,
            "likeness v1 token nonce",
            &parts,
        ))
    }

    /// An earlier call made the write.
    pub fn set_replayed(&self) {
        self.once.set_replayed();
    }

    fn seal_key(&self) -> Secret {
        Secret::take(&mut crypto::keyed_digest(
            &self.secret,
            "likeness v1 token seal",
            &[],
        ))
    }

    fn row(&self, done: Done, expires: Timestamp) -> Vec<u8> {
        let contents = crypto::plain_bytes(&Contents {
            payload: self.once.payload,
            done,
        });
        let mut row = vec![FORMAT];
        row.extend_from_slice(&expires.0.to_le_bytes());
        let bound = [&self.key[..], &row].concat();
        let nonce: [u8; NONCE_BYTES] = crypto::random();
        row.extend_from_slice(&nonce);
        row.extend_from_slice(&crypto::seal(&self.seal_key(), &nonce, &contents, &bound));
        row
    }

    /// What was done, unless that is too long ago.
    ///
    /// # Errors
    /// Another call was made under the token. A row that cannot be read counts as spent: nothing may be done
    /// twice.
    fn read(&self, row: &[u8], now: Timestamp) -> Result<Option<Done>> {
        if expires(row).is_some_and(|expires| expires <= now) {
            return Ok(None);
        }
        let contents = self.open(row).ok_or(RequestError::TokenSpent)?;
        if contents.payload != self.once.payload {
            return Err(RequestError::TokenReused.into());
        }
        Ok(Some(contents.done))
    }

    fn open(&self, row: &[u8]) -> Option<Contents> {
        let (head, rest) = row.split_at_checked(HEAD_BYTES)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>()?;
        let bound = [&self.key[..], head].concat();
        let contents = crypto::open(&self.seal_key(), nonce, sealed, &bound)?;
        codec::from_contents(&contents).ok()
    }
}

/// The nonce of a receipt: random; under a token the one that the token gives, so that it can be told again.
pub(crate) fn nonce_of(claim: Option<&Claim>, place: &Where) -> Nonce {
    claim.map_or_else(Nonce::new, |claim| claim.nonce(place))
}

/// When a row may go; none of one that cannot be read.
fn expires(row: &[u8]) -> Option<Timestamp> {
    let (format, rest) = row.split_first()?;
    let ms = rest.first_chunk().copied().map(u64::from_le_bytes)?;
    (*format == FORMAT).then_some(Timestamp(ms))
}

/// How many rows there are, and the time.
pub(crate) struct Tokens {
    vault: Arc<Vault>,
    rows: AtomicU64,
    clock: Clock,
}

impl Tokens {
    pub fn new(vault: Arc<Vault>, clock: Clock) -> Self {
        Self {
            vault,
            rows: AtomicU64::new(0),
            clock,
        }
    }

    /// As if there were so many.
    #[cfg(test)]
    pub fn set_rows(&self, rows: u64) {
        self.rows.store(rows, Ordering::Relaxed);
    }

    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }
}

impl Tokens {
    /// What was done under the token, if anything was in the last 24 hours.
    ///
    /// # Errors
    /// As of [`Claim::read`]; and when there is no room for another row.
    pub fn done(&self, claim: &Claim) -> Result<Option<Done>> {
        match self.vault.token_row(&claim.key) {
            Ok(None) if self.rows() >= ROWS_MAX => {
                Err(RequestError::TooManyTokens { tokens_max: ROWS_MAX }.into())
            }
            Ok(None) => Ok(None),
            Ok(Some(row)) => claim.read(&row, self.clock.now()),
            Err(Error::Operator(OperatorError::DamagedPlace)) => Err(RequestError::TokenSpent.into()),
            Err(error) => Err(error),
        }
    }

    /// The same for a call that may have no token.
    pub fn done_before(&self, claim: Option<&Claim>) -> Result<Option<Done>> {
        claim.map_or(Ok(None), |claim| self.done(claim))
    }

    /// Plans the row of a write that is in the same plan.
    pub fn plan_done(&self, plan: &mut Plan, claim: &Claim, done: Done) {
        self.rows.fetch_add(1, Ordering::Relaxed);
        self.plan_done_anew(plan, claim, done);
    }

    /// Plans the row of a call, if it has a token, that leaves this person.
    pub fn plan_kept(&self, plan: &mut Plan, claim: Option<&Claim>, person: &Person) {
        if let Some(claim) = claim {
            let mark = claim.mark(person.mark);
            self.plan_done(plan, claim, Done::Kept { mark });
        }
    }

    /// Plans to say more of what was done under a token that has its row.
    pub fn plan_done_anew(&self, plan: &mut Plan, claim: &Claim, done: Done) {
        let expires = Timestamp(self.clock.now().0.saturating_add(KEPT_MS));
        plan.write(Write {
            family: Family::Tokens,
            key: claim.key.to_vec(),
            change: Change::Put(claim.row(done, expires)),
        });
    }

    /// Removes expired rows among the next few after a key; answers where to go on, or none at the end.
    pub fn sweep_tokens(&self, after: &[u8]) -> Result<Option<Vec<u8>>> {
        let (now, mut plan) = (self.clock.now(), Plan::default());
        let (mut seen, mut expired, mut last) = (0, 0, Vec::new());
        self.vault.scan(Family::Tokens, &[], after, &mut |key, row| {
            // What cannot be read goes too: it stands for nothing any more but an eternal refusal.
            if expires(row).is_none_or(|expires| expires <= now) {
                expired += 1;
                plan.write(Write {
                    family: Family::Tokens,
                    key: key.to_vec(),
                    change: Change::Delete,
                });
            }
            seen += 1;
            last = key.to_vec();
            if seen < SWEPT_TOGETHER {
                Scan::Continue
            } else {
                Scan::Stop
            }
        })?;
        if !plan.is_empty() {
            self.vault.commit(plan)?;
            let rows = self.rows().saturating_sub(expired);
            self.rows.store(rows, Ordering::Relaxed);
        }
        Ok((seen == SWEPT_TOGETHER).then_some(last))
    }

    /// Counts the rows, at a start.
    pub fn count_tokens(&self) -> Result<()> {
        let mut rows = 0;
        self.vault.scan(Family::Tokens, &[], &[], &mut |_, _| {
            rows += 1;
            Scan::Continue
        })?;
        self.rows.store(rows, Ordering::Relaxed);
        Ok(())
    }

    /// Removes the expired rows, at a start.
    pub fn sweep_all_tokens(&self) -> Result<()> {
        let mut after = Vec::new();
        while let Some(last) = self.sweep_tokens(&after)? {
            after = last;
        }
        Ok(())
    }
}
