//! Queues for workers: one for each account, and the order between them.
//!
//! The next turn is that of the account which has had the least time of the workers, as far as that is remembered: an
//! account that waits is never behind one that has been served more. An account that comes after a pause begins level
//! with the least served of those who are there, so that no account saves up time (as the Linux scheduler of 2007 to 2023
//! does for processes).

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use likeness_engine::Account;
use tokio::sync::oneshot;

use super::room::{Arrival, Room};
use crate::refusal::Refusal;

/// What turns are taken to need before any was measured.
const SERVICE_AT_FIRST: Duration = Duration::from_millis(10);
/// The newest of so many turns has as much weight as the ones before together lose.
const SERVICE_MEAN_OF: u32 = 16;
/// Accounts whose mean is remembered while they are away.
const SERVICES_MAX: usize = 1024;
/// An account may take so many times what the others have left of the queue: alone three quarters of it, and
/// there is a place for the next one.
const SHARE: usize = 3;
/// A call works at least so long before another one goes first: each change costs some hundredth of a millisecond.
const SLICE: Duration = Duration::from_millis(5);
/// A client is told to come back no sooner, and no later.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// The right to work, as the lines hand it out.
pub trait Permit: Sized {
    /// What gives permits out, and takes them back.
    type Issuer;

    /// A permit of an account, that began so long after the gate.
    fn issue(issuer: &Self::Issuer, account: &Account, began: Duration) -> Self;

    /// Drops it without giving it back; answers when it began.
    fn disarm(self) -> Duration;
}

/// The lines of one gate.
pub struct Lines<P> {
    room: Room,
    /// Places for work that are not taken.
    free: usize,
    /// Calls in all lines that hold no picture: they have not begun, or are between two photographs.
    waiting: usize,
    /// Calls in all lines that gave their place away in the middle of a photograph.
    parked: usize,
    lines: Vec<Line<P>>,
    /// What the least served account has had, of those who work or wait. It never goes back.
    level: Duration,
    next_ticket: u64,
    /// What a turn takes of late, over all accounts and of each.
    service: Duration,
    services: HashMap<Account, Duration>,
    began: Instant,
}

/// An account that works or waits, or has had more than the others.
struct Line<P> {
    account: Account,
    tickets: VecDeque<Ticket<P>>,
    /// Calls at work, and the sum of when they began, since the gate did.
    working: u32,
    began_sum: Duration,
    /// What its calls at work will add is not in it.
    used: Duration,
}

/// A place in a line.
struct Ticket<P> {
    number: u64,
    /// Turns that the call still needs.
    turns: u32,
    wake: Wake<P>,
}

/// How a call learns that its turn has come.
enum Wake<P> {
    /// It waits for a thread.
    Task(oneshot::Sender<P>),
    /// It has one, and a picture in memory.
    Thread(mpsc::SyncSender<P>),
}

impl<P> Ticket<P> {
    fn is_parked(&self) -> bool {
        matches!(self.wake, Wake::Thread(_))
    }
}

impl<P> Line<P> {
    fn is_idle(&self) -> bool {
        self.tickets.is_empty() && self.working == 0
    }

    /// What it has had, with what its calls at work have had so far.
    fn used(&self, now: Duration) -> Duration {
        self.used + (now * self.working).saturating_sub(self.began_sum)
    }
}

impl<P: Permit> Lines<P> {
    pub fn new(room: Room) -> Self {
        Self {
            room,
            free: room.working_max,
            waiting: 0,
            parked: 0,
            lines: Vec::new(),
            level: Duration::ZERO,
            next_ticket: 0,
            service: SERVICE_AT_FIRST,
            services: HashMap::new(),
            began: Instant::now(),
        }
    }

    pub fn waiting(&self) -> usize {
        self.waiting
    }

    pub fn parked(&self) -> usize {
        self.parked
    }

    /// Whether any call waits.
    pub fn is_crowded(&self) -> bool {
        self.waiting + self.parked > 0
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// A place to work, if one is free for this account.
    pub fn enter(&mut self, account: &Account, issuer: &P::Issuer) -> Option<P> {
        let at = self.line(account);
        (self.free > 0 && self.may_work_more(at)).then(|| self.work(at, issuer))
    }

    /// A place in the account's line, at its end.
    ///
    /// # Errors
    /// The call would wait too long.
    pub fn wait(&mut self, arrival: &Arrival, wake: oneshot::Sender<P>) -> Result<u64, Refusal> {
        let at = self.line(&arrival.account);
        if !arrival.is_patient {
            self.admit(at, arrival)?;
        }
        self.waiting += 1;
        let ticket = self.ticket(arrival.turns, Wake::Task(wake));
        let number = ticket.number;
        self.lines[at].tickets.push_back(ticket);
        Ok(number)
    }

    /// Gives the place of a call at work to the next one, for a place at the head of its account's line; answers which,
    /// and for how long the account had the other, whose permit is void then. None where the call goes on, because no other account goes first.
    pub fn step_back(
        &mut self,
        (account, began): (&Account, Duration),
        issuer: &P::Issuer,
        turns: u32,
        wake: mpsc::SyncSender<P>,
    ) -> Option<(u64, Duration)> {
        let now = self.now();
        if now.saturating_sub(began) < SLICE {
            return None;
        }
        let at = self.line(account);
        let first = self.first_after(now, at)?;
        let is_first = first == at || self.lines[first].used(now) >= self.lines[at].used(now);
        // A call that goes on where it stopped takes no more memory.
        let swaps = self.lines[first].tickets.front().is_some_and(Ticket::is_parked);
        if is_first || self.parked >= self.room.parked_max && !swaps {
            return None;
        }
        self.parked += 1;
        let ticket = self.ticket(turns, Wake::Thread(wake));
        let number = ticket.number;
        self.lines[at].tickets.push_front(ticket);
        Some((number, self.release(account, began, issuer)))
    }

    /// Whether a call between two photographs gives its place away.
    pub fn is_over(&mut self, account: &Account) -> bool {
        let now = self.now();
        let at = self.line(account);
        match self.first_after(now, at) {
            None => false,
            Some(first) => first == at || self.lines[first].used(now) < self.lines[at].used(now),
        }
    }

    /// The call waits no longer; answers whether it was still in its line.
    pub fn leave(&mut self, number: u64) -> bool {
        for line in &mut self.lines {
            if let Some(at) = line.tickets.iter().position(|ticket| ticket.number == number) {
                let ticket = line.tickets.remove(at).expect("found just now");
                *match ticket.is_parked() {
                    true => &mut self.parked,
                    false => &mut self.waiting,
                } -= 1;
                return true;
            }
        }
        false
    }

    /// What one turn of a call took.
    pub fn served(&mut self, account: &Account, took: Duration) {
        // A rotation of keys takes minutes, and says nothing of the calls that wait behind it.
        let took = took.min(self.room.wait_max);
        let mean = |mean: Duration| mean * (SERVICE_MEAN_OF - 1) / SERVICE_MEAN_OF + took / SERVICE_MEAN_OF;
        let before = self.service;
        self.service = mean(before);
        if self.services.len() >= SERVICES_MAX && !self.services.contains_key(account) {
            self.services.clear();
        }
        let own = self.services.entry(account.clone()).or_insert(before);
        *own = mean(*own);
    }

    /// Takes a place at work back, and gives it to the next call; answers for how long the account had it.
    pub fn release(&mut self, account: &Account, began: Duration, issuer: &P::Issuer) -> Duration {
        let now = self.now();
        let at = self.line(account);
        let (line, used) = (&mut self.lines[at], now.saturating_sub(began));
        line.working -= 1;
        line.began_sum = line.began_sum.saturating_sub(began);
        line.used += used;
        self.free += 1;
        while self.free > 0 {
            let Some(first) = self.first(now) else { break };
            let ticket = self.lines[first]
                .tickets
                .pop_front()
                .expect("its line is not empty");
            *match ticket.is_parked() {
                true => &mut self.parked,
                false => &mut self.waiting,
            } -= 1;
            let permit = self.work(first, issuer);
            let gone = match ticket.wake {
                Wake::Task(wake) => wake.send(permit).err(),
                Wake::Thread(wake) => wake.try_send(permit).err().map(|error| match error {
                    mpsc::TrySendError::Full(permit) | mpsc::TrySendError::Disconnected(permit) => permit,
                }),
            };
            // The call has gone. ORDER: disarmed before it is dropped, for dropping it takes the lock.
            if let Some(permit) = gone {
                let began = permit.disarm();
                let line = &mut self.lines[first];
                line.working -= 1;
                line.began_sum = line.began_sum.saturating_sub(began);
                self.free += 1;
            }
        }
        used
    }

    fn work(&mut self, at: usize, issuer: &P::Issuer) -> P {
        let began = self.now();
        self.free -= 1;
        let line = &mut self.lines[at];
        line.working += 1;
        line.began_sum += began;
        P::issue(issuer, &line.account, began)
    }

    fn ticket(&mut self, turns: u32, wake: Wake<P>) -> Ticket<P> {
        self.next_ticket += 1;
        Ticket {
            number: self.next_ticket,
            turns: turns.max(1),
            wake,
        }
    }

    fn may_work_more(&self, at: usize) -> bool {
        (self.lines[at].working as usize) < self.room.own_working_max
    }

    /// The line whose turn is next: of those with the least time, the one that has waited longest.
    fn first(&self, now: Duration) -> Option<usize> {
        self.first_of(now, |at| self.may_work_more(at))
    }

    /// The same once a call of a line gives its place back: then its account may work more.
    fn first_after(&self, now: Duration, giving: usize) -> Option<usize> {
        self.first_of(now, |at| at == giving || self.may_work_more(at))
    }

    fn first_of(&self, now: Duration, may_work: impl Fn(usize) -> bool) -> Option<usize> {
        let waiting = self.lines.iter().enumerate();
        let waiting = waiting.filter_map(|(at, line)| Some((at, line, line.tickets.front()?)));
        waiting
            .filter(|(at, ..)| may_work(*at))
            .min_by_key(|(_, line, ticket)| (line.used(now), ticket.number))
            .map(|(at, ..)| at)
    }

    /// The account's line; one that was away begins level with the others.
    fn line(&mut self, account: &Account) -> usize {
        let known = |lines: &[Line<P>]| lines.iter().position(|line| line.account == *account);
        let known_at = known(&self.lines);
        if let Some(at) = known_at
            && !self.lines[at].is_idle()
        {
            return at;
        }
        let now = self.now();
        let busy = self.lines.iter().filter(|line| !line.is_idle());
        let least = busy.map(|line| line.used(now)).min();
        self.level = self.level.max(least.unwrap_or_default());
        // Where no account is there, none is behind.
        let level = self.level;
        self.lines
            .retain(|line| !line.is_idle() || least.is_some() && line.used > level);
        known(&self.lines).unwrap_or_else(|| {
            self.lines.push(Line {
                account: account.clone(),
                tickets: VecDeque::new(),
                working: 0,
                began_sum: Duration::ZERO,
                used: level,
            });
            self.lines.len() - 1
        })
    }

    fn service_of(&self, line: &Line<P>) -> Duration {
        self.services.get(&line.account).copied().unwrap_or(self.service)
    }

    /// Whether one more may wait.
    fn admit(&self, at: usize, arrival: &Arrival) -> Result<(), Refusal> {
        let own = &self.lines[at];
        let has_place =
            own.tickets.len() < SHARE.saturating_mul(self.room.waiting_max.saturating_sub(self.waiting));
        let service = self.service_of(own);
        let (wait, turns) = (self.wait_of(at, 1), arrival.turns.max(1));
        let ends = self.wait_of(at, turns) + service;
        let left = arrival
            .deadline
            .map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
        if has_place && wait <= self.room.wait_max && ends <= left {
            return Ok(());
        }
        // By then what waits now has been served, as far as is known.
        Err(Refusal::Busy(wait.clamp(RETRY_MIN, RETRY_MAX)))
    }

    /// How long a call waits, as far as is known, until it has the last of so many turns: the calls of a line take
    /// turns, and meanwhile each other account has as much time as this one.
    fn wait_of(&self, at: usize, turns: u32) -> Duration {
        let own = &self.lines[at];
        let (service, workers) = (self.service_of(own), self.room.working_max.max(1));
        let before: u32 = own.tickets.iter().map(|ticket| ticket.turns.min(turns)).sum();
        let own_time = service.saturating_mul(before.saturating_add(turns));
        let others = self.lines.iter().enumerate().filter(|(other, _)| *other != at);
        let others = others.map(|(_, line)| {
            let turns: u32 = line.tickets.iter().map(|ticket| ticket.turns).sum();
            self.service_of(line).saturating_mul(turns).min(own_time)
        });
        let time = others.fold(own_time, Duration::saturating_add);
        time / u32::try_from(workers).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
impl<P> Lines<P> {
    pub fn free(&self) -> usize {
        self.free
    }

    pub fn assume(&mut self, service: Duration) {
        self.service = service;
    }
}
