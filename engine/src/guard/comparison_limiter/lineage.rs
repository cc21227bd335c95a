//! What copies of one person have in common: one set of counters, as long as one of them is there.

use super::counts::Counts;
use super::{ComparisonLimiter, Key};
use crate::guard::comparison_limiter::lineage_rows::{Lineage, carry, joined, put};
use crate::guard::comparison_limiter::{Row, row};
use likeness_store::vault::Plan;
use likeness_types::error::{Error, OperatorError, Result};
use likeness_types::names::RandomId;

/// What becomes of the record that a lineage is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It stays, and carries the lineage too.
    Stays,
    /// It goes in the same plan.
    Goes,
}

impl ComparisonLimiter {
    /// Plans that the record `to` is counted with the record `from`: both carry one lineage, which begins now if
    /// `from` has none yet.
    pub fn plan_lineage(&self, plan: &mut Plan, from: &[u8], to: &[u8], origin: Origin) -> Result<()> {
        let [from, to]: [Key; 2] = [from, to].map(|key| key.try_into().expect("a record key has 32 bytes"));
        let lineage = match self.row_of(&from)? {
            Row::Of(lineage, _) => lineage,
            _ => {
                let lineage = Lineage(RandomId::random());
                let memory = self.counters.memory.lock();
                let known = memory.people.get(&from).map(|metered| metered.counts.clone());
                drop(memory);
                let counts = known.map_or_else(|| self.on_disk(&from).map(|(_, counts)| counts), Ok)?;
                if origin == Origin::Stays {
                    carry(plan, from, lineage);
                }
                if counts != Counts::default() {
                    plan.write(put(&lineage.counters(), counts.to_row()));
                }
                plan.counters
                    .begun
                    .push((from, lineage.counters(), counts.to_row()));
                lineage
            }
        };
        carry(plan, to, lineage);
        Ok(())
    }

    /// Bytes on disk of the counters of a record's person: rows of the record, and those of its lineage.
    pub fn counter_bytes(&self, record: &[u8]) -> Result<usize> {
        let Some(own) = self.vault.meter_row(record)? else {
            return Ok(0);
        };
        let mut bytes = record.len() + own.len();
        if let Row::Of(lineage, carrier) = row(&own) {
            for key in [lineage.counters(), joined(lineage.0, carrier)] {
                bytes += self.vault.meter_row(&key)?.map_or(0, |row| key.len() + row.len());
            }
        }
        Ok(bytes)
    }

    fn row_of(&self, record: &Key) -> Result<Row> {
        match self.vault.meter_row(record) {
            Ok(bytes) => Ok(bytes.map_or(Row::Counts(Counts::default()), |bytes| row(&bytes))),
            Err(Error::Operator(OperatorError::DamagedPlace)) => Ok(Row::Unreadable),
            Err(error) => Err(error),
        }
    }
}
