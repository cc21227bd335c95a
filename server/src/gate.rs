//! The one way from a handler to blocking work: a bounded number at work, a bounded time to wait for it.
//!
//! Calls wait in a line of their account's own, and the lines take turns: however many calls one account sends,
//! another's next call is served after one of them. Whoever would wait too long, by what calls took of late, is
//! refused at once, so that those who are accepted stay fast however many come (as CoDel does, at the door
//! instead of inside: nothing that was accepted is thrown away later).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use likeness_engine::{Account, Call, Step};
use tokio::sync::oneshot;

use crate::status::Refusal;

/// What calls are taken to need before any was measured.
const SERVICE_AT_FIRST: Duration = Duration::from_millis(10);
/// The newest of so many calls has as much weight as the ones before together lose.
const SERVICE_MEAN_OF: u32 = 16;
/// An account may take so many times what the others have left of the queue: alone three quarters of it, and
/// there is a place for the next one.
const SHARE: usize = 3;
/// Nobody is told to come back sooner, or later.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// How many may work, and wait, and how long.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Calls at work at once.
    pub working_max: usize,
    /// Calls that wait.
    pub waiting_max: usize,
    /// Longest time a call is let wait.
    pub wait_max: Duration,
}

/// Who comes to the gate.
#[derive(Debug, Clone, Default)]
pub struct Arrival {
    /// Whose line it waits in.
    pub account: Account,
    /// When its answer is too late.
    pub deadline: Option<Instant>,
    /// It waits for its turn however long that takes, because its stream has few at a time.
    pub is_patient: bool,
}

/// Lets a bounded number of calls do blocking work at once.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    room: Room,
    state: Mutex<State>,
}

struct State {
    free: usize,
    waiting: usize,
    /// The next turn is the first line's. No line is empty.
    lines: VecDeque<Line>,
    next_ticket: u64,
    /// The mean of late.
    service: Duration,
}

struct Line {
    account: Account,
    tickets: VecDeque<(u64, oneshot::Sender<Permit>)>,
}

/// The right to work; given back on drop, with what the work took.
struct Permit {
    gate: Option<Gate>,
    began: Instant,
}

impl Gate {
    /// A gate with this room.
    pub fn new(room: Room) -> Self {
        Self(Arc::new(Inner {
            room,
            state: Mutex::new(State {
                free: room.working_max,
                waiting: 0,
                lines: VecDeque::new(),
                next_ticket: 0,
                service: SERVICE_AT_FIRST,
            }),
        }))
    }

    /// Calls that wait now.
    pub fn waiting(&self) -> usize {
        self.lock().waiting
    }

    /// Runs `work` on a blocking thread, never on the async ones. The time spent waiting is added to
    /// the call's steps.
    ///
    /// # Errors
    /// [`Refusal::Busy`] at once when the call would wait too long; otherwise what `work` answers.
    pub async fn pass<T: Send + 'static>(
        &self,
        mut call: Call,
        arrival: Arrival,
        work: impl FnOnce(&mut Call) -> Result<T, Refusal> + Send + 'static,
    ) -> (Call, Result<T, Refusal>) {
        let arrived = Instant::now();
        let permit = match self.arrive(&arrival) {
            Ok(Entered::Now(permit)) => permit,
            Ok(Entered::Waits(place)) => place.permit().await,
            Err(refusal) => return (call, Err(refusal)),
        };
        call.add(Step::Queue, arrived.elapsed());
        let worked = tokio::task::spawn_blocking(move || {
            // The permit goes back only when the work is over, even if its caller went away earlier.
            let _permit = permit;
            let answer = work(&mut call);
            (call, answer)
        });
        match worked.await {
            Ok(worked) => worked,
            // The panic's own message may hold anything, so it is not passed on.
            Err(_) => (Call::default(), Err(Refusal::Panicked)),
        }
    }

    fn arrive(&self, arrival: &Arrival) -> Result<Entered, Refusal> {
        let mut state = self.lock();
        if state.free > 0 {
            state.free -= 1;
            return Ok(Entered::Now(self.permit()));
        }
        if !arrival.is_patient {
            state.admit(&self.0.room, arrival)?;
        }
        let (sender, receiver) = oneshot::channel();
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.line(&arrival.account).push_back((ticket, sender));
        state.waiting += 1;
        Ok(Entered::Waits(Place {
            gate: self.clone(),
            ticket,
            receiver: Some(receiver),
        }))
    }

    fn permit(&self) -> Permit {
        Permit {
            gate: Some(self.clone()),
            began: Instant::now(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock leaves it half changed.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn line(&mut self, account: &Account) -> &mut VecDeque<(u64, oneshot::Sender<Permit>)> {
        let at = self.lines.iter().position(|line| line.account == *account);
        let at = at.unwrap_or_else(|| {
            self.lines.push_back(Line {
                account: account.clone(),
                tickets: VecDeque::new(),
            });
            self.lines.len() - 1
        });
        &mut self.lines[at].tickets
    }

    /// Whether one more may wait.
    fn admit(&self, room: &Room, arrival: &Arrival) -> Result<(), Refusal> {
        let own = self.lines.iter().find(|line| line.account == arrival.account);
        let own = own.map_or(0, |line| line.tickets.len());
        // The lines take turns: of each at most as many go before.
        let before = self
            .lines
            .iter()
            .map(|line| match line.account == arrival.account {
                true => own,
                false => line.tickets.len().min(own + 1),
            });
        let before: usize = before.sum();
        let turns = u32::try_from((before + 1).div_ceil(room.working_max.max(1))).unwrap_or(u32::MAX);
        let wait = self.service.saturating_mul(turns);
        let left = arrival
            .deadline
            .map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
        let has_place = own < SHARE.saturating_mul(room.waiting_max.saturating_sub(self.waiting));
        if has_place && wait <= room.wait_max && wait.saturating_add(self.service) <= left {
            return Ok(());
        }
        // By then what waits now has been served, as far as is known.
        Err(Refusal::Busy(wait.clamp(RETRY_MIN, RETRY_MAX)))
    }

    /// Whose turn it is.
    fn next(&mut self) -> Option<oneshot::Sender<Permit>> {
        let mut line = self.lines.pop_front()?;
        let (_, sender) = line.tickets.pop_front()?;
        if !line.tickets.is_empty() {
            self.lines.push_back(line);
        }
        self.waiting -= 1;
        Some(sender)
    }

    /// Somebody waits no longer.
    fn leave(&mut self, ticket: u64) {
        let waiting = self.lines.iter_mut().enumerate();
        let found = waiting.into_iter().find_map(|(at, line)| {
            let place = line.tickets.iter().position(|(number, _)| *number == ticket)?;
            line.tickets.remove(place);
            Some((at, line.tickets.is_empty()))
        });
        if let Some((at, is_empty)) = found {
            self.waiting -= 1;
            if is_empty {
                self.lines.remove(at);
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(gate) = self.gate.take() else {
            return;
        };
        // A rotation of keys takes minutes, and says nothing of the calls that wait behind it.
        let took = self.began.elapsed().min(gate.0.room.wait_max);
        let mut state = gate.lock();
        state.service = state.service * (SERVICE_MEAN_OF - 1) / SERVICE_MEAN_OF + took / SERVICE_MEAN_OF;
        while let Some(sender) = state.next() {
            match sender.send(gate.permit()) {
                Ok(()) => return,
                // Whoever waited has gone. ORDER: disarmed before it is dropped, for dropping it takes the lock.
                Err(mut permit) => drop(permit.gate.take()),
            }
        }
        state.free += 1;
    }
}

enum Entered {
    Now(Permit),
    Waits(Place),
}

/// A place among those who wait, given back on drop.
struct Place {
    gate: Gate,
    ticket: u64,
    receiver: Option<oneshot::Receiver<Permit>>,
}

impl Place {
    async fn permit(mut self) -> Permit {
        let receiver = self.receiver.as_mut().expect("taken on drop only");
        let mut permit = receiver.await.expect("lines keep senders until their turn comes");
        permit.began = Instant::now();
        permit
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gate.lock().leave(self.ticket);
        // ORDER: not under the lock: a permit that has just been sent goes back by taking it.
        drop(self.receiver.take());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn gate(working_max: usize, waiting_max: usize) -> Gate {
        Gate::new(Room {
            working_max,
            waiting_max,
            wait_max: Duration::from_secs(2),
        })
    }

    fn of(account: &str) -> Arrival {
        Arrival {
            account: Account::parse(account).expect("a name"),
            ..Arrival::default()
        }
    }

    /// Somebody at work until told to end.
    fn hold(gate: &Gate) -> (mpsc::Sender<()>, tokio::task::JoinHandle<()>) {
        let (release, held) = mpsc::channel::<()>();
        let (gate, before) = (gate.clone(), gate.lock().free);
        assert!(before > 0, "a place is free");
        let work = async move {
            let passed = gate.pass(Call::default(), Arrival::default(), move |_| {
                Ok(held.recv().is_ok())
            });
            assert!(matches!(passed.await.1, Ok(true)));
        };
        (release, tokio::spawn(work))
    }

    async fn until(what: impl Fn() -> bool) {
        while !what() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn whoever_finds_the_queue_full_is_refused_at_once_and_the_others_are_served() {
        let gate = gate(1, 1);
        let (release, first) = hold(&gate);
        until(|| gate.lock().free == 0).await;
        let second = tokio::spawn({
            let gate = gate.clone();
            async move { gate.pass(Call::default(), of("a"), |_| Ok(2)).await.1 }
        });
        until(|| gate.lock().waiting == 1).await;
        let third = gate.pass(Call::default(), of("a"), |_| Ok(3)).await.1;
        assert!(matches!(third, Err(Refusal::Busy(wait)) if wait >= RETRY_MIN));
        release.send(()).expect("the first waits");
        first.await.expect("served");
        assert!(matches!(second.await, Ok(Ok(2))));
        until(|| gate.lock().free == 1).await;
    }

    #[tokio::test]
    async fn whoever_would_wait_too_long_is_refused_at_once() {
        let gate = gate(1, 100);
        gate.lock().service = Duration::from_millis(1500);
        let (release, first) = hold(&gate);
        until(|| gate.lock().free == 0).await;
        let hurried = Arrival {
            deadline: Some(Instant::now() + Duration::from_secs(2)),
            ..of("a")
        };
        // It would be served after 1.5 s, and done after 3.
        assert!(matches!(gate.arrive(&hurried), Err(Refusal::Busy(_))));
        let waits = gate.arrive(&of("a"));
        assert!(waits.is_ok(), "1.5 s are within 2");
        let refused = gate.arrive(&of("a"));
        assert!(matches!(refused, Err(Refusal::Busy(wait)) if wait == Duration::from_secs(3)));
        let patient = Arrival {
            is_patient: true,
            ..of("a")
        };
        assert!(gate.arrive(&patient).is_ok());
        drop(waits);
        release.send(()).expect("the first waits");
        first.await.expect("served");
        assert_eq!(gate.lock().waiting, 0, "whoever went away has no place");
        assert_eq!(gate.lock().free, 1);
    }

    #[tokio::test]
    async fn accounts_take_turns_and_none_takes_every_place() {
        let gate = gate(1, 8);
        gate.lock().service = Duration::ZERO;
        let (release, first) = hold(&gate);
        until(|| gate.lock().free == 0).await;
        let (served, order) = mpsc::channel();
        let mut calls = tokio::task::JoinSet::new();
        let mut refused = 0;
        for account in ["flood"; 12].into_iter().chain(["other"]) {
            let (served, waiting) = (served.clone(), gate.lock().waiting);
            match gate.arrive(&of(account)) {
                Ok(Entered::Waits(place)) => {
                    calls.spawn(async move {
                        let _permit = place.permit().await;
                        served.send(account).expect("heard");
                    });
                    until(|| gate.lock().waiting == waiting + 1).await;
                }
                Ok(Entered::Now(_)) => panic!("somebody is at work"),
                Err(_) => refused += 1,
            }
        }
        assert_eq!(refused, 6, "of one account six wait of eight");
        release.send(()).expect("the first waits");
        first.await.expect("served");
        calls.join_all().await;
        drop(served);
        let order: Vec<_> = order.iter().collect();
        assert_eq!(order.iter().position(|who| *who == "other"), Some(1), "{order:?}");
        assert_eq!(order.len(), 7);
        assert_eq!(gate.lock().free, 1);
    }

    #[tokio::test]
    async fn a_panic_in_the_work_refuses_its_call_and_no_other() {
        let gate = gate(1, 1);
        let refused = gate
            .pass(Call::default(), of("a"), |_| -> Result<(), Refusal> {
                panic!("on purpose")
            })
            .await
            .1;
        assert!(matches!(refused, Err(Refusal::Panicked)));
        assert!(matches!(
            gate.pass(Call::default(), of("a"), |_| Ok(1)).await.1,
            Ok(1)
        ));
    }
}
