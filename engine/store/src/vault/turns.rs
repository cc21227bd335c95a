//! The number of the last turn, in the slots and in the records: it shows whether the two are of one moment.
//!
//! Records that are older than their slots name fewer of them. A slot without a record would be taken for free, and the
//! people enrolled since would be overwritten. So a start compares the two numbers first. The slots are written before
//! the records: after a crash they are at most one turn ahead. The records must have every turn that the header calls
//! done.

use super::{Named, Vault};
use crate::records::{Change, Family, Write};
use crate::slots::Turns;
use likeness_types::error::{OperatorError, Result};

/// The row with the number of the last turn that is written to the records.
const TURN_KEY: &[u8] = &[0];

/// Changes that one commit makes durable.
pub const CHANGES_PER_COMMIT_MAX: usize = 128;
/// Keys without records that one commit can leave, each of its changes one: what a crash may have left where turns
/// were not counted yet.
pub const KEYS_PER_COMMIT_MAX: usize = CHANGES_PER_COMMIT_MAX;

impl Vault {
    pub(super) fn turn_row(turn: u64) -> Write {
        Write {
            family: Family::Commits,
            key: TURN_KEY.to_vec(),
            change: Change::Put(turn.to_le_bytes().to_vec()),
        }
    }

    /// Whether slots and records were ever written with the number of a turn.
    pub fn counts_turns(&self) -> bool {
        self.slots.turns().begun > 0
    }

    /// # Errors
    /// The records are older than the slots, or newer. Nothing was overwritten.
    pub fn refuse_records_of_another_moment(&self) -> Result<()> {
        let Turns { begun, done } = self.slots.turns();
        // In a damaged place: then no slot is given up that a record in such a place may name.
        let Some(turn) = self.turn_of_records()? else {
            return Ok(());
        };
        if (done..=begun).contains(&turn) {
            return Ok(());
        }
        let (what, other) = match turn < done {
            true => ("records", "the slot file"),
            false => ("slot file", "the records"),
        };
        Err(OperatorError::Format {
            what,
            expected: format!("one as new as {other}: of change {}", turn.max(begun)),
            found: format!(
                "an older one, of change {}; put back all parts of one copy of the data directory",
                turn.min(begun)
            ),
        }
        .into())
    }

    /// Where turns were not counted yet: records that name fewer keys than the erasure log's anchor has counted are older
    /// than it, and the keys that they do not name are no leftovers.
    pub(super) fn refuse_fewer_keys_than_anchored(&self, named: &Named) -> Result<()> {
        let found = named.slots.len();
        match self.log.live_at_least() {
            Some(expected) if !self.counts_turns() && found < expected => Err(OperatorError::Format {
                what: "records",
                expected: format!(
                    "those of the slot file, with {expected} keys as the erasure log's anchor counted them"
                ),
                found: format!(
                    "older ones, with {found}; put back all parts of one copy of the data directory"
                ),
            }
            .into()),
            _ => Ok(()),
        }
    }

    /// After a start has finished what a crash left: from here on both have the number of the last turn.
    pub fn agree_on_the_turn(&self) -> Result<()> {
        let Turns { begun, .. } = self.slots.turns();
        // ORDER: the records before the header, which says of them that they are written.
        if self.turn_of_records()? != Some(begun) {
            self.records.write(vec![Self::turn_row(begun)])?;
        }
        self.slots.settle_turn()
    }

    /// Says with the slots that the records of the last turn are durable: from then on older ones are refused.
    pub fn settle_turn(&self) -> Result<()> {
        let _live = self.live.lock();
        self.refuse_if_poisoned()?;
        self.poison_on_error(self.slots.settle_turn())
    }

    /// Writes rows that belong to commits that are durable.
    pub(crate) fn write_rows_of_commits(&self, rows: Vec<Write>) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        self.refuse_if_poisoned()?;
        self.poison_on_error(self.records.write(rows))
    }

    /// None where it cannot be read; 0 in records from before turns were counted.
    fn turn_of_records(&self) -> Result<Option<u64>> {
        let row = match self.records.get(Family::Commits, TURN_KEY) {
            Err(error) if error.is_damage() => return Ok(None),
            row => row?,
        };
        Ok(match row {
            None => Some(0),
            Some(row) => row.try_into().ok().map(u64::from_le_bytes),
        })
    }
}
