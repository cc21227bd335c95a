//! What is counted of people beside their records: the store writes and deletes these rows in the commits of the
//! records, and their owner above keeps its memory in step.

use std::collections::HashSet;

use likeness_types::error::Result;
use likeness_types::names::RandomId;

use crate::vault::{Plan, Vault};

/// Where counters lie: under a record's key, or under a lineage.
pub type CounterKey = [u8; 32];

/// What a plan changes of counters.
#[derive(Default)]
pub struct CounterChanges {
    /// Keys whose counters in memory are no longer of a record from the commit on.
    pub forgotten: Vec<Vec<u8>>,
    /// Records that join a lineage with the commit, and where its counters lie.
    pub joining: Vec<(CounterKey, CounterKey)>,
    /// Counters that become a lineage's: the record that they were of, where they lie from then on, and their row as
    /// it was when that was planned.
    pub begun: Vec<(CounterKey, CounterKey, Vec<u8>)>,
    /// Lineages that a record leaves.
    pub left: HashSet<RandomId>,
}

impl CounterChanges {
    /// Takes over what one more change wants.
    pub fn append(&mut self, other: Self) {
        self.forgotten.extend(other.forgotten);
        self.joining.extend(other.joining);
        self.begun.extend(other.begun);
        self.left.extend(other.left);
    }
}

/// The owner of the counters.
pub trait Counters: Send + Sync {
    /// Plans the end of the rows beside a person's record. Answers the keys under which something was on disk.
    ///
    /// # Errors
    /// The store failed.
    fn plan_forget(&self, vault: &Vault, plan: &mut Plan, record: &[u8]) -> Result<Vec<Vec<u8>>>;

    /// Adds what only all changes of a commit together decide.
    ///
    /// # Errors
    /// The store failed.
    fn complete(&self, vault: &Vault, plan: &mut Plan) -> Result<()>;

    /// A commit is about to write its rows.
    fn before_write(&self, changes: &CounterChanges);

    /// The rows are durable.
    fn after_write(&self, changes: &CounterChanges);
}
