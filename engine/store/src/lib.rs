//! What is kept and how it is erased: sealed records, slots with their keys, the erasure log with its receipts, the audit log, retention and the purge.

#![forbid(unsafe_code)]
#![warn(unreachable_pub)]

pub mod audit;
pub mod codec;
pub mod counters;
pub mod directory;
pub mod erasure_log;
mod gaps;
pub mod keys;
mod layout;
mod private;
pub mod purge;
pub mod receipts;
pub mod records;
pub mod residue;
pub mod retention;
pub mod slots;
#[cfg(any(test, feature = "testing"))]
#[allow(missing_docs, reason = "tests alone see it")]
pub mod testing;
pub mod upgrade;
pub mod vault;
