//! Turns of the calls at work, and how they give way between two steps.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use likeness_engine::{Account, Lease};

use super::places::{Gate, Permit};

/// How often a call that gave its place away in the middle of a photograph looks whether its time is up.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A call's turn at the gate, on the thread that works for it.
#[derive(Clone)]
pub struct Turn(Arc<Mutex<Holding>>);

struct Holding {
    gate: Gate,
    account: Account,
    /// None when the work is over, or the call's time was before it had its place again.
    permit: Option<Permit>,
    /// When this turn, or the part of it since it last gave way, began.
    since: Instant,
    /// What the parts before took.
    worked: Duration,
    /// Turns that the call needs, this one included.
    turns: u32,
}

/// Ends the turn, by a panic too.
pub struct Working(pub Turn);

impl Drop for Working {
    fn drop(&mut self) {
        let mut holding = self.0.holding();
        holding.end_turn();
        // ORDER: the call may be kept, and its turn with it: the place is not.
        drop(holding.permit.take());
    }
}

impl Turn {
    /// The first of a call that needs so many at most.
    pub fn new(permit: Permit, turns: u32) -> Self {
        let gate = permit.gate().cloned().expect("it was not given back yet");
        Self(Arc::new(Mutex::new(Holding {
            gate,
            account: permit.account().clone(),
            permit: Some(permit),
            since: Instant::now(),
            worked: Duration::ZERO,
            turns,
        })))
    }

    /// One photograph is done, and others follow: whether other calls go first.
    pub fn is_over(&self) -> bool {
        let mut holding = self.holding();
        holding.end_turn();
        let Holding { gate, account, .. } = &*holding;
        gate.is_crowded() && gate.lock(|lines| lines.is_over(account))
    }

    fn holding(&self) -> MutexGuard<'_, Holding> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Holding {
    /// Counts what a turn took.
    fn end_turn(&mut self) {
        if self.permit.is_none() {
            return;
        }
        let took = self.worked + self.since.elapsed();
        (self.worked, self.since) = (Duration::ZERO, Instant::now());
        self.turns = self.turns.saturating_sub(1).max(1);
        let Self { gate, account, .. } = self;
        gate.lock(|lines| lines.served(account, took));
    }

    /// Gives the place away, if another account goes first, and waits for the next.
    fn give_way(&mut self, is_over: &dyn Fn() -> bool) -> Duration {
        let Self { gate, turns, .. } = self;
        let Some(permit) = &mut self.permit else {
            return Duration::ZERO;
        };
        let (wake, woken) = mpsc::sync_channel(1);
        let Some((ticket, used)) = permit.step_back(*turns, wake) else {
            return Duration::ZERO;
        };
        gate.charge(&self.account, used);
        self.worked += self.since.elapsed();
        let waits = Instant::now();
        self.permit = self.wait(ticket, &woken, is_over);
        self.since = Instant::now();
        waits.elapsed().max(Duration::from_nanos(1))
    }

    fn wait(
        &self,
        ticket: u64,
        woken: &mpsc::Receiver<Permit>,
        is_over: &dyn Fn() -> bool,
    ) -> Option<Permit> {
        loop {
            match woken.recv_timeout(LOOK_EVERY) {
                Ok(permit) => return Some(permit),
                Err(_) if !is_over() => {}
                // The call ends at its next step; it needs no place for that.
                Err(_) if self.gate.lock(|lines| lines.leave(ticket)) => return None,
                // Its turn came just now.
                Err(_) => return woken.recv().ok(),
            }
        }
    }
}

impl Lease for Turn {
    fn give_way(&self, is_over: &dyn Fn() -> bool) -> Duration {
        let mut holding = self.holding();
        match holding.gate.is_crowded() {
            true => holding.give_way(is_over),
            false => Duration::ZERO,
        }
    }

    fn decodes(&self, pixels: u64) {
        let holding = self.holding();
        if let Some(budgets) = holding.gate.budgets() {
            budgets.decodes(&holding.account, pixels);
        }
    }
}
