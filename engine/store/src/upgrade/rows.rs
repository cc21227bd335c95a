//! Rewrites the rows of a family in batches. Each batch also writes the position in the family: a restart continues there,
//! and rewrites no row twice.

use crate::keys::KeyRing;
use crate::records::{Change, DamagedFile, Family, Records, Scan, Write};
use likeness_types::error::{OperatorError, Result};

/// What becomes of a row, by its key and its bytes; none: it stays. It stays too where it cannot be parsed: the start
/// that follows meets it as the damaged row that it is. No row is removed, for a record has to go with its slot.
pub type RewriteRow = fn(&KeyRing, &[u8], &[u8]) -> Option<Vec<u8>>;

/// Rows of a batch.
pub(super) const GROUP_ROWS_MAX: usize = 8192;

/// Bytes of the new rows of a batch, but for the last one.
const GROUP_BYTES_MAX: usize = 4 << 20;

/// The row with the position. Beside the number of the last turn ([0]) and the owners of receipts ([1]).
const POSITION_KEY: &[u8] = &[2];

const COMPLETE: u8 = 1;

/// The part that a position belongs to.
#[derive(Clone, Copy)]
pub(super) struct Mark([u8; 8]);

impl Mark {
    pub(super) fn new(to: u32, part: usize) -> Self {
        let part = u32::try_from(part).expect("a step has few parts");
        let mut mark = [0; 8];
        mark[..4].copy_from_slice(&to.to_le_bytes());
        mark[4..].copy_from_slice(&part.to_le_bytes());
        Self(mark)
    }
}

enum Position {
    /// Behind this key; at the beginning where it is empty.
    After(Vec<u8>),
    Complete,
}

/// The family to be rewritten.
pub(super) struct Rows<'a> {
    pub records: &'a dyn Records,
    pub ring: &'a KeyRing,
    pub family: Family,
    pub rewrite: RewriteRow,
    pub mark: Mark,
    pub group_rows_max: usize,
}

impl Rows<'_> {
    pub(super) fn rewrite(&self, say: &dyn Fn(&'static str, u64, u64)) -> Result<()> {
        let about = self.records.extent(self.family)?.rows;
        let (mut position, mut done) = (self.position()?, 0);
        while let Position::After(after) = position {
            let (mut writes, next, rows) = self.group(after)?;
            writes.push(self.position_row(&next));
            say("rewriting rows", done, about);
            // ORDER: rows and position in one batch, which is durable as a whole or not at all.
            self.records.write(writes)?;
            done += rows;
            position = next;
        }
        Ok(())
    }

    fn group(&self, after: Vec<u8>) -> Result<(Vec<Write>, Position, u64)> {
        let (mut writes, mut rows, mut bytes) = (Vec::new(), 0, 0);
        let (mut last, mut is_full) = (after.clone(), false);
        let gaps = self.records.scan(self.family, &[], &after, &mut |key, row| {
            if self.family == Family::Commits && key == POSITION_KEY {
                return Scan::Continue;
            }
            rows += 1;
            if let Some(new) = (self.rewrite)(self.ring, key, row) {
                bytes += new.len();
                writes.push(Write {
                    family: self.family,
                    key: key.to_vec(),
                    change: Change::Put(new),
                });
            }
            last.clear();
            last.extend_from_slice(key);
            is_full = rows >= self.group_rows_max || bytes >= GROUP_BYTES_MAX;
            if is_full { Scan::Stop } else { Scan::Continue }
        })?;
        if gaps > 0 {
            return Err(damage(&self.records.damaged_files()));
        }
        let next = if is_full {
            Position::After(last)
        } else {
            Position::Complete
        };
        Ok((writes, next, rows as u64))
    }

    fn position(&self) -> Result<Position> {
        let row = self.records.get(Family::Commits, POSITION_KEY)?;
        let of_this_part = row.as_deref().and_then(|row| row.strip_prefix(&self.mark.0));
        Ok(match of_this_part.and_then(<[u8]>::split_first) {
            Some((&COMPLETE, _)) => Position::Complete,
            Some((_, after)) => Position::After(after.to_vec()),
            None => Position::After(Vec::new()),
        })
    }

    fn position_row(&self, position: &Position) -> Write {
        let mut row = self.mark.0.to_vec();
        match position {
            Position::After(key) => {
                row.push(0);
                row.extend_from_slice(key);
            }
            Position::Complete => row.push(COMPLETE),
        }
        Write {
            family: Family::Commits,
            key: POSITION_KEY.to_vec(),
            change: Change::Put(row),
        }
    }
}

/// Until no data file holds an old version of a row, nor a position, which is a person's key.
pub(super) fn remove_old_versions(records: &dyn Records, say: &dyn Fn(&'static str, u64, u64)) -> Result<()> {
    say("removing the position", 0, 0);
    records.write(vec![Write {
        family: Family::Commits,
        key: POSITION_KEY.to_vec(),
        change: Change::Delete,
    }])?;
    say("purging the old rows", 0, 0);
    records.purge(None)
}

/// The refusal of an upgrade over damaged data files.
pub(super) fn damage(damaged: &[DamagedFile]) -> likeness_types::error::Error {
    let names: Vec<_> = damaged.iter().map(|file| file.name.as_str()).collect();
    OperatorError::Format {
        what: "upgrade",
        expected: "whole data files, for all of them are rewritten".to_owned(),
        found: format!(
            "damage in records/{}; put back a copy of the data directory",
            names.join(", ")
        ),
    }
    .into()
}
