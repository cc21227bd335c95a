//! Retention: how long each class of data is kept, and the sweeper that destroys what is past its period.
//!
//! [`classes`] is the table: one row for each class, with its period, purpose, legal basis and way of destruction. The
//! policy that operators and clients read is made from it, and so are the limits of the running server.
//!
//! [`Sweeper`] runs the sweeps. This crate knows the sweeps of its own data only; owners of other data (persons, tokens,
//! log files, later media with deadlines of hours) implement [`Sweep`] and register. A class gets there all that makes a
//! deadline hold: an interval, wake-ups, retries with back-off, and a figure of how long it is overdue.

pub mod classes;
mod schedule;
mod sweep;
mod sweeper;

#[cfg(test)]
mod tests;

pub use self::classes::{
    ChangedBy, DESTINATIONS, DataClass, Destination, Destruction, LegalBasis, Period, Periods, Place,
    Purpose, TOKENS_KEPT_MS,
};
pub use self::sweep::{Lane, Pace, Progress, Sweep};
pub use self::sweeper::{Registry, Sweeper};
