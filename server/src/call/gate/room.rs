//! How much room a gate has, and what comes to it.

use std::time::{Duration, Instant};

use likeness_engine::Account;

/// How many may work, and wait, and how long.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Calls at work at once.
    pub working_max: usize,
    /// Of them, one account's.
    pub own_working_max: usize,
    /// Calls that gave their place away in the middle of a photograph, and keep its pixels in memory; with as many,
    /// the others go on to the end of theirs.
    pub parked_max: usize,
    /// Calls that wait.
    pub waiting_max: usize,
    /// Longest time a call is let wait.
    pub wait_max: Duration,
}

/// Who comes to the gate.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Whose line it waits in.
    pub account: Account,
    /// When its answer is too late.
    pub deadline: Option<Instant>,
    /// It waits for its turn however long that takes: its stream has few at a time, or it has begun.
    pub is_patient: bool,
    /// Turns it needs, at most: one for each photograph.
    pub turns: u32,
}

impl Default for Arrival {
    fn default() -> Self {
        Self {
            account: Account::default(),
            deadline: None,
            is_patient: false,
            turns: 1,
        }
    }
}
