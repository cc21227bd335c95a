//! Rows of the running log. No row exists without the record that it belongs to.
//!
//! A row is written only while the record that holds its key exists, and while no commit runs. The commit that erases a
//! record deletes its rows in the same batch. So nothing has to be swept after an erasure, or after a crash during one;
//! a row that arrives later is not written, because its record is gone. The exception are records that go and cannot
//! say which rows are theirs.

use std::collections::HashMap;

use super::{Named, Plan, Vault};
use crate::codec::Header;
use crate::records::{Change, Extent, Family, Scan, Write};
use likeness_types::error::{Error, OperatorError, Result};
use likeness_types::names::RandomId;

/// Renames that are remembered for rows on their way: more than are made while one waits.
const MOVED_MAX: usize = 1024;

/// A sealed row on its way.
pub struct Row {
    /// The record key of the person.
    pub person: Vec<u8>,
    /// Of the person's running log.
    pub log: RandomId,
    /// The key of the row.
    pub key: [u8; 32],
    /// The row, sealed under the person's log key.
    pub sealed: Vec<u8>,
}

impl Vault {
    /// Writes rows and totals, durably; answers how many rows were of people who are gone, and not written.
    pub fn write_rows(&self, rows: Vec<Row>, totals: Vec<Write>) -> Result<usize> {
        // ORDER: no commit between the look at a record and the row: an erasure deletes every row that there is,
        // and none comes after it.
        let _live = self.live.lock();
        self.refuse_unless_ready()?;
        let (mut batch, mut known, mut late) = (totals, HashMap::new(), 0);
        for Row {
            person,
            log,
            key,
            sealed,
        } in rows
        {
            let is_there = match known.get(&log) {
                Some(is_there) => *is_there,
                None => {
                    let is_there = self.is_log_of(&person, log)? || self.is_moved(log)?;
                    known.insert(log, is_there);
                    is_there
                }
            };
            if !is_there {
                late += 1;
                continue;
            }
            batch.push(Write {
                family: Family::RunningLog,
                key: key.to_vec(),
                change: Change::Put(sealed),
            });
        }
        if batch.is_empty() {
            return Ok(late);
        }
        self.poison_on_error(self.records.write(batch)).map(|()| late)
    }

    /// Visits rows in the order of time.
    pub fn scan_rows(
        &self,
        log: RandomId,
        after: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Scan,
    ) -> Result<usize> {
        self.records.scan(Family::RunningLog, &log.0, after, visit)
    }

    /// The row of a total.
    pub fn total(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.records.get(Family::Usage, key)
    }

    /// Roughly how large the running log is.
    pub fn rows_extent(&self) -> Result<Extent> {
        self.records.extent(Family::RunningLog)
    }

    fn is_log_of(&self, person: &[u8], log: RandomId) -> Result<bool> {
        let record = match self.records.get(Family::Persons, person) {
            // A record that cannot be read may be anybody's; while it is there, so are its rows.
            Err(Error::Operator(OperatorError::DamagedPlace)) => return Ok(true),
            record => record?,
        };
        Ok(record.is_some_and(|record| Header::parse(&record).is_ok_and(|header| header.log == log)))
    }

    fn is_moved(&self, log: RandomId) -> Result<bool> {
        let moved = self.moved.lock();
        let to = moved.iter().rev().find(|(moved, _)| *moved == log);
        let to = to.map(|(_, to)| to.clone());
        drop(moved);
        to.map_or(Ok(false), |to| self.is_log_of(&to, log))
    }

    pub(super) fn note_move(&self, log: RandomId, to: &[u8]) {
        let mut moved = self.moved.lock();
        if moved.len() >= MOVED_MAX {
            moved.pop_front();
        }
        moved.push_back((log, to.to_vec()));
    }

    /// Plans the end of all rows that belong to none of these logs.
    pub(super) fn plan_nobodys_rows(
        &self,
        plan: &mut Plan,
        mut logs: Vec<RandomId>,
        erasure: Option<usize>,
    ) -> Result<()> {
        logs.sort_unstable();
        let mut after = Vec::new();
        loop {
            let mut next = None;
            self.records
                .scan(Family::RunningLog, &[], &after, &mut |key, _| {
                    next = key.first_chunk().copied().map(RandomId);
                    Scan::Stop
                })?;
            let Some(log) = next else {
                return Ok(());
            };
            if logs.binary_search(&log).is_err() {
                let rows = log.0.to_vec();
                if let Some(erasure) = erasure.and_then(|number| plan.erasures.get_mut(number)) {
                    erasure.touched.push((Family::RunningLog, rows.clone()));
                }
                plan.write(Write {
                    family: Family::RunningLog,
                    key: rows,
                    change: Change::DeleteAll,
                });
            }
            after = [log.0, [u8::MAX; 16]].concat();
        }
    }

    /// Deletes all rows that belong to nobody, at a start. While some record cannot say which rows are its, they
    /// stay: some of them may be.
    pub fn remove_nobodys_rows(&self, named: Named) -> Result<()> {
        if named.silent > 0 {
            return Ok(());
        }
        let mut plan = Plan::default();
        self.plan_nobodys_rows(&mut plan, named.logs, None)?;
        if plan.is_empty() {
            return Ok(());
        }
        self.commit(plan)
    }
}
