//! The rows of lineages on disk, and what a plan writes of them.

use std::collections::HashSet;

use super::counts::Counts;
use likeness_store::counters::CounterKey as Key;
use likeness_store::records::{Change, Family, Scan, Write};
use likeness_store::vault::{Plan, Vault};
use likeness_types::error::{Error, OperatorError, Result};
use likeness_types::names::RandomId;

/// A record's row that names its lineage. Rows of counters begin with smaller numbers.
pub(crate) const FORMAT_OF: u8 = 0x81;

/// A row that says that a record carries a lineage.
pub(crate) const FORMAT_CARRIER: u8 = 0x82;

/// The counters of a person and of all copies, by a random id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Lineage(pub(crate) RandomId);

/// A row of the family of counters.
pub(crate) enum Row {
    Counts(Counts),
    /// The record is of this lineage, by this carrier.
    Of(Lineage, RandomId),
    Carrier,
    Unreadable,
}

pub(crate) fn row(bytes: &[u8]) -> Row {
    match bytes {
        [FORMAT_OF, rest @ ..] => match rest.as_chunks::<16>() {
            ([lineage, carrier], []) => Row::Of(Lineage(RandomId(*lineage)), RandomId(*carrier)),
            _ => Row::Unreadable,
        },
        [FORMAT_CARRIER] => Row::Carrier,
        counts => Counts::from_row(counts).map_or(Row::Unreadable, Row::Counts),
    }
}

pub(crate) fn joined(first: RandomId, second: RandomId) -> Key {
    [first.0, second.0]
        .concat()
        .try_into()
        .expect("two names of 16 bytes")
}

pub(crate) fn put(key: &[u8], row: Vec<u8>) -> Write {
    Write {
        family: Family::Meter,
        key: key.to_vec(),
        change: Change::Put(row),
    }
}

/// Plans the end of a record's row, and that it carries its lineage no more. Answers the keys under which something
/// was on disk.
pub(crate) fn plan_forget(vault: &Vault, plan: &mut Plan, record: &[u8]) -> Result<Vec<Vec<u8>>> {
    plan.unmeter(record.to_vec());
    let bytes = match vault.meter_row(record) {
        Ok(None) => return Ok(Vec::new()),
        Ok(Some(bytes)) => bytes,
        // A row that cannot be read goes too.
        Err(Error::Operator(OperatorError::DamagedPlace)) => Vec::new(),
        Err(error) => return Err(error),
    };
    let delete = |key: &[u8]| Write {
        family: Family::Meter,
        key: key.to_vec(),
        change: Change::Delete,
    };
    plan.write(delete(record));
    let mut touched = vec![record.to_vec()];
    if let Row::Of(lineage, carrier) = row(&bytes) {
        plan.write(delete(&joined(lineage.0, carrier)));
        plan.counters.left.insert(lineage.0);
        // The carrier's row, and the counters if this was the last.
        touched.push(lineage.0.0.to_vec());
    }
    Ok(touched)
}

/// Adds the end of every lineage that nobody carries after this plan.
///
/// ORDER: for all changes of a commit together: two that erase the last two copies each see the other's carrier.
pub(crate) fn end(vault: &Vault, plan: &mut Plan) -> Result<()> {
    for lineage in std::mem::take(&mut plan.counters.left) {
        if is_carried(vault, Lineage(lineage), plan)? {
            continue;
        }
        let counters = Lineage(lineage).counters().to_vec();
        plan.write(Write {
            family: Family::Meter,
            key: counters.clone(),
            change: Change::Delete,
        });
        plan.unmeter(counters);
    }
    Ok(())
}

pub(crate) fn is_carried(vault: &Vault, lineage: Lineage, plan: &Plan) -> Result<bool> {
    let mut carriers = carriers(vault, lineage)?;
    for write in plan.writes().iter().filter(|write| write.family == Family::Meter) {
        let is_own = write.key.starts_with(&lineage.0.0) && write.key != lineage.counters();
        match write.change {
            Change::Put(_) if is_own => drop(carriers.insert(write.key.clone())),
            Change::Delete if is_own => drop(carriers.remove(&write.key)),
            _ => {}
        }
    }
    Ok(!carriers.is_empty())
}

pub(crate) fn carriers(vault: &Vault, lineage: Lineage) -> Result<HashSet<Vec<u8>>> {
    let (mut carriers, counters) = (HashSet::new(), lineage.counters());
    let hidden = vault.scan(Family::Meter, &lineage.0.0, &[], &mut |key, _| {
        if key != counters {
            carriers.insert(key.to_vec());
        }
        Scan::Continue
    })?;
    if hidden > 0 {
        // A carrier may be behind the damage: the counters stay.
        carriers.insert(Vec::new());
    }
    Ok(carriers)
}

/// Whether a record is there that these counters are of.
pub(crate) fn has_counters(vault: &Vault, key: &Key) -> Result<bool> {
    let (first, second) = key.split_at(16);
    if second == [0; 16] {
        let lineage = Lineage(RandomId(first.try_into().expect("16 bytes")));
        return carriers(vault, lineage).map(|carriers| !carriers.is_empty());
    }
    vault
        .record_bytes(Family::Persons, key)
        .map(|bytes| bytes.is_some())
}

pub(crate) fn carry(plan: &mut Plan, record: Key, lineage: Lineage) {
    let carrier = RandomId::random();
    let of = [&[FORMAT_OF][..], &lineage.0.0, &carrier.0].concat();
    plan.write(put(&record, of));
    plan.write(put(&joined(lineage.0, carrier), vec![FORMAT_CARRIER]));
    plan.counters.joining.push((record, lineage.counters()));
}

impl Lineage {
    /// Where its counters lie.
    pub fn counters(self) -> Key {
        joined(self.0, RandomId::default())
    }
}
