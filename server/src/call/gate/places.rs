//! Places to work, and the lines of those who wait for one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use likeness_engine::Account;
use tokio::sync::oneshot;

use super::lines::{self, Lines};
use super::room::{Arrival, Room};
use crate::call::budgets::Budgets;
use crate::refusal::Refusal;

/// Lets a bounded number of calls do blocking work at once.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    lines: Mutex<Lines<Permit>>,
    /// Whether any call waits: asked between any two steps, without the lock.
    is_crowded: AtomicBool,
    /// Who is charged for the time.
    budgets: Option<Arc<Budgets>>,
}

/// The right to work; given back on drop.
pub struct Permit {
    /// None once it is given back.
    gate: Option<Gate>,
    account: Account,
    /// Since the gate began.
    began: Duration,
}

impl lines::Permit for Permit {
    type Issuer = Gate;

    fn issue(gate: &Gate, account: &Account, began: Duration) -> Self {
        Self {
            gate: Some(gate.clone()),
            account: account.clone(),
            began,
        }
    }

    fn disarm(mut self) -> Duration {
        self.gate = None;
        self.began
    }
}

impl Permit {
    /// Whose it is.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// The gate that it is of, until it is given back.
    pub fn gate(&self) -> Option<&Gate> {
        self.gate.as_ref()
    }

    /// Gives the place to another call, if one goes first, for a place at the head of the account's line; answers which,
    /// and for how long the account had it.
    pub fn step_back(&mut self, turns: u32, wake: mpsc::SyncSender<Self>) -> Option<(u64, Duration)> {
        let gate = self.gate.clone()?;
        let held = (&self.account, self.began);
        let stepped_back = gate.lock(|lines| lines.step_back(held, &gate, turns, wake))?;
        self.gate = None;
        Some(stepped_back)
    }
}

impl Gate {
    /// A gate with this room.
    pub fn new(room: Room) -> Self {
        Self::charging(room, None)
    }

    /// The same, which charges accounts for the time that their calls are at work.
    pub fn charging(room: Room, budgets: Option<Arc<Budgets>>) -> Self {
        Self(Arc::new(Inner {
            lines: Mutex::new(Lines::new(room)),
            is_crowded: AtomicBool::new(false),
            budgets,
        }))
    }

    /// Calls that wait now.
    pub fn waiting(&self) -> usize {
        self.lock(|lines| lines.waiting())
    }

    /// Calls that gave their place away in the middle of a photograph.
    pub fn parked(&self) -> usize {
        self.lock(|lines| lines.parked())
    }

    /// A permit, or a place in the line for one.
    ///
    /// # Errors
    /// The call would wait too long.
    pub fn arrive(&self, arrival: &Arrival) -> Result<Entered, Refusal> {
        self.lock(|lines| {
            if let Some(permit) = lines.enter(&arrival.account, self) {
                return Ok(Entered::Now(permit));
            }
            let (sender, receiver) = oneshot::channel();
            let ticket = lines.wait(arrival, sender)?;
            Ok(Entered::Waits(Place {
                gate: self.clone(),
                ticket,
                receiver: Some(receiver),
            }))
        })
    }

    /// Changes the lines.
    pub fn lock<T>(&self, change: impl FnOnce(&mut Lines<Permit>) -> T) -> T {
        // Nothing under the lock leaves it half changed.
        let mut lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = change(&mut lines);
        self.0.is_crowded.store(lines.is_crowded(), Ordering::Relaxed);
        answer
    }

    /// Whether any call waits.
    pub fn is_crowded(&self) -> bool {
        self.0.is_crowded.load(Ordering::Relaxed)
    }

    /// What accounts may have, if their time is charged.
    pub fn budgets(&self) -> Option<&Budgets> {
        self.0.budgets.as_deref()
    }

    /// Charges the account for its time.
    pub fn charge(&self, account: &Account, used: Duration) {
        if let Some(budgets) = &self.0.budgets {
            budgets.worked(account, used);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(gate) = self.gate.take() {
            let used = gate.lock(|lines| lines.release(&self.account, self.began, &gate));
            gate.charge(&self.account, used);
        }
    }
}

/// What a call finds at the gate.
pub enum Entered {
    /// A place to work.
    Now(Permit),
    /// A place in its line.
    Waits(Place),
}

/// A place among those who wait, given back on drop.
pub struct Place {
    gate: Gate,
    ticket: u64,
    receiver: Option<oneshot::Receiver<Permit>>,
}

impl Place {
    /// When its turn has come.
    pub async fn permit(mut self) -> Permit {
        let receiver = self.receiver.as_mut().expect("taken on drop only");
        receiver.await.expect("lines keep senders until their turn comes")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gate.lock(|lines| lines.leave(self.ticket));
        // ORDER: not under the lock: a permit that has just been sent goes back by taking it.
        drop(self.receiver.take());
    }
}
