//! What is kept and how it is erased: sealed records, slots with their keys, the erasure log with its receipts, the audit log, the purge.

#![forbid(unsafe_code)]

pub mod audit;
pub mod codec;
pub mod counters;
pub mod directory;
pub mod erasure_log;
pub mod gaps;
pub mod keys;
pub mod private;
pub mod purge;
pub mod receipts;
pub mod records;
pub mod residue;
pub mod slots;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod upgrade;
pub mod vault;
