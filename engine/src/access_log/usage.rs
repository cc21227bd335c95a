//! How much was asked: totals by account, interface and day. They are about nobody, so no erasure touches them.
//!
//! ```text
//! key  digest of the account 16 | day since 1970 u32 big endian | digest of the interface 12
//! row  format u8 | checksum 4 | account, interface, calls, billed, errors
//! ```
//!
//! Nothing here is sealed: who the accounts of a deployment are, and how much they ask, is no secret of anybody
//! who is enrolled.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use likeness_store::codec;
use likeness_store::records::{Change, Family, Scan, Write};
use likeness_store::vault::Vault;
use likeness_types::crypto;
use likeness_types::error::{Error, OperatorError, Result};
use likeness_types::names::Account;
use likeness_types::person::Timestamp;

/// What a call comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Charge {
    /// It was carried out, and counts on a bill.
    Billed,
    /// It was carried out, and its items count by themselves.
    Free,
    /// It was refused or failed.
    Refused,
}

const FORMAT: u8 = 1;

const CHECKSUM_BYTES: usize = 4;

const DAY_MS: u64 = 24 * 3600 * 1000;

/// Totals held in memory between two writes; beyond it they are read again.
const HELD_MAX: usize = 16_384;

/// What was asked, and how it ended.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Asked {
    pub account: Account,
    pub interface: &'static str,
    pub day: u32,
    pub charge: Charge,
}

/// The day of a moment, counted from 1970 (UTC).
pub fn day_of(time: Timestamp) -> u32 {
    u32::try_from(time.0 / DAY_MS).unwrap_or(u32::MAX)
}

/// What an account asked of one interface on one day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Whose.
    pub account: String,
    /// Of which call; items of a stream count as calls of their own.
    pub interface: String,
    /// Counted from 1970 (UTC).
    pub day: u32,
    /// Whatever came of them.
    pub calls: u64,
    /// Those that count on a bill.
    pub billed: u64,
    /// Those that were refused or failed.
    pub errors: u64,
}

fn digest<const N: usize>(name: &str) -> [u8; N] {
    let digest = blake3::hash(name.as_bytes());
    *digest.as_bytes().first_chunk().expect("a digest is longer")
}

fn prefix(account: &Account) -> [u8; 16] {
    digest(account.as_str())
}

fn key(account: &Account, day: u32, interface: &str) -> Vec<u8> {
    let interface: [u8; 12] = digest(interface);
    [&prefix(account)[..], &day.to_be_bytes(), &interface].concat()
}

fn to_row(usage: &Usage) -> Vec<u8> {
    let plain = crypto::plain_bytes(usage);
    let checksum: [u8; CHECKSUM_BYTES] = *blake3::hash(&plain).as_bytes().first_chunk().expect("longer");
    [&[FORMAT], &checksum[..], &plain].concat()
}

fn from_row(row: &[u8]) -> Option<Usage> {
    let (format, rest) = row.split_first()?;
    let (checksum, plain) = rest.split_first_chunk::<CHECKSUM_BYTES>()?;
    let whole = *format == FORMAT && blake3::hash(plain).as_bytes().starts_with(checksum);
    whole.then(|| codec::from_contents(plain).ok()).flatten()
}

/// The totals as the thread of the log knows them.
#[derive(Default)]
pub(crate) struct Totals(HashMap<Vec<u8>, Usage>);

impl Totals {
    /// Adds calls; answers what is to be written for it.
    pub fn add(&mut self, vault: &Vault, asked: HashMap<Asked, u64>) -> Result<Vec<Write>> {
        if self.0.len() > HELD_MAX {
            self.0.clear();
        }
        let mut changed = HashMap::new();
        for (asked, calls) in asked {
            let key = key(&asked.account, asked.day, asked.interface);
            let held = match self.0.entry(key.clone()) {
                Entry::Occupied(held) => held.into_mut(),
                Entry::Vacant(place) => {
                    // One that cannot be read begins anew: a total is a sum, and wrong for ever after anyway.
                    let row = match vault.total(&key) {
                        Err(Error::Operator(OperatorError::DamagedPlace)) => None,
                        row => row?,
                    };
                    let stored = row.and_then(|row| from_row(&row));
                    place.insert(stored.unwrap_or_else(|| Usage {
                        account: asked.account.as_str().to_owned(),
                        interface: asked.interface.to_owned(),
                        day: asked.day,
                        calls: 0,
                        billed: 0,
                        errors: 0,
                    }))
                }
            };
            held.calls += calls;
            match asked.charge {
                Charge::Billed => held.billed += calls,
                Charge::Free => {}
                Charge::Refused => held.errors += calls,
            }
            changed.insert(key, to_row(held));
        }
        let writes = changed.into_iter().map(|(key, row)| Write {
            family: Family::Usage,
            key,
            change: Change::Put(row),
        });
        Ok(writes.collect())
    }

    /// After a write that failed: the disk has the truth.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}

/// The totals of an account on these days, by day.
pub(crate) fn of_account(vault: &Vault, account: &Account, days: &RangeInclusive<u32>) -> Result<Vec<Usage>> {
    let after = [&prefix(account)[..], &days.start().to_be_bytes()].concat();
    let mut found = Vec::new();
    let gaps = vault.scan(Family::Usage, &prefix(account), &after, &mut |_, row| {
        match from_row(row) {
            Some(usage) if usage.day > *days.end() => return Scan::Stop,
            Some(usage) => found.push(usage),
            None => {}
        }
        Scan::Continue
    })?;
    // A bill that lacks a day would be believed.
    match gaps {
        0 => Ok(found),
        _ => Err(OperatorError::DamagedPlace.into()),
    }
}
