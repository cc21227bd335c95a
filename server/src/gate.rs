//! The one way from a handler to blocking work: a bounded number at work, a bounded time to wait for it.
//!
//! Calls wait in a line of their account's own, and the next turn is that of the account which has had the least
//! time ([`lines`]): however many calls one account sends, and however much work is in each, another's next call is
//! served after one step of them. A call that computes gives its place away between two steps where another account
//! goes first, and between two photographs where any call does. A call that would wait too long, by what turns took
//! of late, is refused at once, so that those that are accepted stay fast however many come (as CoDel does, at the
//! door instead of inside: nothing that was accepted is thrown away later).

mod lines;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use likeness_engine::{Account, Call, Lease, Step, wipe_stack};
use tokio::sync::oneshot;

use self::lines::Lines;
use crate::budgets::Budgets;
use crate::status::Refusal;

/// How often a call that gave its place away in the middle of a photograph looks whether its time is up.
const LOOK_EVERY: Duration = Duration::from_millis(50);

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

/// Lets a bounded number of calls do blocking work at once.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    lines: Mutex<Lines>,
    /// Whether any call waits: asked between any two steps, without the lock.
    is_crowded: AtomicBool,
    /// Who is charged for the time.
    budgets: Option<Arc<Budgets>>,
}

/// The right to work; given back on drop.
struct Permit {
    /// None once it is given back.
    gate: Option<Gate>,
    account: Account,
    /// Since the gate began.
    began: Duration,
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

    /// Runs `work` on a blocking thread, never on the async ones. The time spent waiting is added to
    /// the call's steps.
    ///
    /// # Errors
    /// [`Refusal::Busy`] at once when the call would wait too long; otherwise what `work` answers.
    pub async fn pass<T: Send + 'static>(
        &self,
        mut call: Call,
        arrival: Arrival,
        work: impl FnOnce(&mut Call, &Turn) -> Result<T, Refusal> + Send + 'static,
    ) -> (Call, Result<T, Refusal>) {
        let arrived = Instant::now();
        let permit = match self.arrive(&arrival) {
            Ok(Entered::Now(permit)) => permit,
            Ok(Entered::Waits(place)) => place.permit().await,
            Err(refusal) => return (call, Err(refusal)),
        };
        call.add(Step::Queue, arrived.elapsed());
        let worked = tokio::task::spawn_blocking(move || {
            let turn = Turn::new(permit, arrival.turns);
            // The place goes back only when the work is over, even if its caller went away earlier.
            let working = Working(turn.clone());
            call.compute_by(Some(Arc::new(turn.clone())));
            let answer = work(&mut call, &turn);
            call.compute_by(None);
            drop(working);
            wipe_stack();
            (call, answer)
        });
        match worked.await {
            Ok(worked) => worked,
            // The panic's own message may hold anything, so it is not passed on.
            Err(_) => (Call::default(), Err(Refusal::Panicked)),
        }
    }

    fn arrive(&self, arrival: &Arrival) -> Result<Entered, Refusal> {
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

    fn lock<T>(&self, change: impl FnOnce(&mut Lines) -> T) -> T {
        // Nothing under the lock leaves it half changed.
        let mut lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = change(&mut lines);
        self.0.is_crowded.store(lines.is_crowded(), Ordering::Relaxed);
        answer
    }

    fn charge(&self, account: &Account, used: Duration) {
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
struct Working(Turn);

impl Drop for Working {
    fn drop(&mut self) {
        let mut holding = self.0.holding();
        holding.end_turn();
        // ORDER: the call may be kept, and its turn with it: the place is not.
        drop(holding.permit.take());
    }
}

impl Turn {
    fn new(permit: Permit, turns: u32) -> Self {
        let gate = permit.gate.clone().expect("given back by nobody yet");
        Self(Arc::new(Mutex::new(Holding {
            gate,
            account: permit.account.clone(),
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
        gate.0.is_crowded.load(Ordering::Relaxed) && gate.lock(|lines| lines.is_over(account))
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
        let stepped_back = gate.lock(|lines| lines.step_back(permit, *turns, wake));
        let Some((ticket, used)) = stepped_back else {
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
        match holding.gate.0.is_crowded.load(Ordering::Relaxed) {
            true => holding.give_way(is_over),
            false => Duration::ZERO,
        }
    }

    fn decodes(&self, pixels: u64) {
        let holding = self.holding();
        if let Some(budgets) = &holding.gate.0.budgets {
            budgets.decodes(&holding.account, pixels);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(working_max: usize, waiting_max: usize) -> Gate {
        Gate::new(Room {
            working_max,
            own_working_max: working_max,
            parked_max: working_max,
            waiting_max,
            wait_max: Duration::from_secs(2),
        })
    }

    fn free(gate: &Gate) -> usize {
        gate.lock(|lines| lines.free())
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
        let (gate, before) = (gate.clone(), free(gate));
        assert!(before > 0, "a place is free");
        let work = async move {
            let passed = gate.pass(Call::default(), Arrival::default(), move |_, _| {
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
        until(|| free(&gate) == 0).await;
        let second = tokio::spawn({
            let gate = gate.clone();
            async move { gate.pass(Call::default(), of("a"), |_, _| Ok(2)).await.1 }
        });
        until(|| gate.waiting() == 1).await;
        let third = gate.pass(Call::default(), of("a"), |_, _| Ok(3)).await.1;
        assert!(matches!(third, Err(Refusal::Busy(wait)) if wait >= Duration::from_millis(100)));
        release.send(()).expect("the first waits");
        first.await.expect("served");
        assert!(matches!(second.await, Ok(Ok(2))));
        until(|| free(&gate) == 1).await;
    }

    #[tokio::test]
    async fn whoever_would_wait_too_long_is_refused_at_once() {
        let gate = gate(1, 100);
        gate.lock(|lines| lines.assume(Duration::from_millis(1500)));
        let (release, first) = hold(&gate);
        until(|| free(&gate) == 0).await;
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
        assert_eq!(gate.waiting(), 0, "whoever went away has no place");
        assert_eq!(free(&gate), 1);
    }

    #[tokio::test]
    async fn accounts_take_turns_and_none_takes_every_place() {
        let gate = gate(1, 8);
        gate.lock(|lines| lines.assume(Duration::ZERO));
        let (release, first) = hold(&gate);
        until(|| free(&gate) == 0).await;
        let (served, order) = mpsc::channel();
        let mut calls = tokio::task::JoinSet::new();
        let mut refused = 0;
        for account in ["flood"; 12].into_iter().chain(["other"]) {
            let (served, waiting) = (served.clone(), gate.waiting());
            match gate.arrive(&of(account)) {
                Ok(Entered::Waits(place)) => {
                    calls.spawn(async move {
                        let _permit = place.permit().await;
                        served.send(account).expect("heard");
                    });
                    until(|| gate.waiting() == waiting + 1).await;
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
        assert_eq!(free(&gate), 1);
    }

    /// Steps of so long, each followed by a look whether another call goes first; answers how often it stepped back.
    fn steps(turn: &Turn, count: usize, each: Duration) -> usize {
        let step = |_| {
            std::thread::sleep(each);
            !turn.give_way(&|| false).is_zero()
        };
        (0..count).map(step).filter(|waited| *waited).count()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn another_account_waits_for_a_step_of_a_long_call_and_not_for_its_end() {
        const STEP: Duration = Duration::from_millis(20);
        let gate = gate(2, 100);
        let mut long = tokio::task::JoinSet::new();
        for _ in 0..2 {
            let gate = gate.clone();
            long.spawn(async move {
                let work = |_: &mut Call, turn: &Turn| Ok(steps(turn, 50, STEP));
                gate.pass(Call::default(), of("long"), work).await.1.ok()
            });
        }
        until(|| free(&gate) == 0).await;
        let mut waited = Vec::new();
        for _ in 0..8 {
            let (call, _) = gate.pass(Call::default(), of("short"), |_, _| Ok(())).await;
            waited.extend(call.steps().iter().map(|(_, took)| *took));
        }
        assert!(waited.iter().all(|wait| *wait < STEP * 4), "{waited:?}");
        let stepped_back: usize = long.join_all().await.into_iter().flatten().sum();
        assert!((1..=8).contains(&stepped_back), "{stepped_back}");
        assert_eq!((free(&gate), gate.parked(), gate.waiting()), (2, 0, 0));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_two_accounts_each_has_half_of_a_worker_however_long_its_calls_are() {
        let gate = gate(1, 100);
        let over = Arc::new(AtomicBool::new(false));
        let worked = |account: &'static str, calls: usize, steps_each: usize| {
            let (gate, over) = (gate.clone(), Arc::clone(&over));
            async move {
                let mut each = tokio::task::JoinSet::new();
                for _ in 0..calls {
                    let (gate, over) = (gate.clone(), Arc::clone(&over));
                    each.spawn(async move {
                        let mut had = 0;
                        while !over.load(Ordering::Relaxed) {
                            let work = move |_: &mut Call, turn: &Turn| {
                                steps(turn, steps_each, Duration::from_millis(6));
                                Ok(steps_each)
                            };
                            had += gate.pass(Call::default(), of(account), work).await.1.unwrap_or(0);
                        }
                        had
                    });
                }
                each.join_all().await.into_iter().sum::<usize>()
            }
        };
        let (few, many) = (
            tokio::spawn(worked("few", 1, 2)),
            tokio::spawn(worked("many", 8, 40)),
        );
        tokio::time::sleep(Duration::from_secs(3)).await;
        over.store(true, Ordering::Relaxed);
        let (few, many) = (few.await.expect("ends"), many.await.expect("ends"));
        // Those that had begun are finished after the end.
        assert!(few >= 120, "{few} steps of 480, and the other {many}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_call_that_stepped_back_ends_when_its_time_is_up_and_holds_no_place() {
        let gate = gate(1, 100);
        let stepped = {
            let gate = gate.clone();
            tokio::spawn(async move {
                let work = |_: &mut Call, turn: &Turn| {
                    let began = Instant::now();
                    while turn
                        .give_way(&|| began.elapsed() > Duration::from_millis(200))
                        .is_zero()
                    {
                        std::thread::sleep(Duration::from_millis(6));
                    }
                    Ok(began.elapsed())
                };
                gate.pass(Call::default(), of("late"), work).await.1
            })
        };
        until(|| free(&gate) == 0).await;
        let (release, held) = mpsc::channel::<()>();
        let holder = {
            let gate = gate.clone();
            tokio::spawn(async move {
                let work = move |_: &mut Call, _: &Turn| Ok(held.recv().is_ok());
                gate.pass(Call::default(), of("other"), work).await.1
            })
        };
        let took = stepped.await.expect("ends").expect("worked");
        assert!(took < Duration::from_secs(2), "{took:?}");
        assert_eq!((free(&gate), gate.parked()), (0, 0), "the other one is at work");
        release.send(()).expect("it waits");
        assert!(matches!(holder.await, Ok(Ok(true))));
        assert_eq!(free(&gate), 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn no_more_calls_keep_their_pictures_while_others_work_than_may() {
        let gate = gate(1, 100);
        let most = Arc::new(Mutex::new(0));
        let mut calls = tokio::task::JoinSet::new();
        for account in ["a", "b", "c", "d", "e"] {
            let (gate, most) = (gate.clone(), Arc::clone(&most));
            calls.spawn(async move {
                let inner = gate.clone();
                let work = move |_: &mut Call, turn: &Turn| {
                    for _ in 0..20 {
                        steps(turn, 1, Duration::from_millis(6));
                        let mut most = most.lock().expect("whole");
                        *most = inner.parked().max(*most);
                    }
                    Ok(())
                };
                let arrival = Arrival {
                    is_patient: true,
                    ..of(account)
                };
                gate.pass(Call::default(), arrival, work).await.1.is_ok()
            });
        }
        assert!(calls.join_all().await.into_iter().all(|served| served));
        assert_eq!(*most.lock().expect("whole"), 1);
    }

    #[tokio::test]
    async fn a_call_of_many_photographs_is_refused_where_its_last_one_would_be_late() {
        let gate = gate(1, 100);
        gate.lock(|lines| lines.assume(Duration::from_millis(100)));
        let (release, first) = hold(&gate);
        until(|| free(&gate) == 0).await;
        let arrival = |turns| Arrival {
            deadline: Some(Instant::now() + Duration::from_secs(1)),
            turns,
            ..of("a")
        };
        assert!(matches!(gate.arrive(&arrival(20)), Err(Refusal::Busy(_))));
        let waits = gate.arrive(&arrival(5));
        assert!(waits.is_ok());
        // One photograph waits for one of the others.
        assert!(gate.arrive(&arrival(1)).is_ok());
        drop(waits);
        release.send(()).expect("the first waits");
        first.await.expect("served");
    }

    #[tokio::test]
    async fn where_work_cannot_step_back_an_account_leaves_places_to_the_others() {
        let gate = Gate::new(Room {
            working_max: 4,
            own_working_max: 3,
            parked_max: 0,
            waiting_max: 8,
            wait_max: Duration::from_secs(2),
        });
        let own: Vec<_> = (0..4).map(|_| gate.arrive(&of("a")).expect("a place")).collect();
        assert!(matches!(own[..], [.., Entered::Now(_), Entered::Waits(_)]));
        assert!(matches!(gate.arrive(&of("b")), Ok(Entered::Now(_))));
        drop(own);
        until(|| free(&gate) == 4).await;
    }

    #[tokio::test]
    async fn a_panic_in_the_work_refuses_its_call_and_no_other() {
        let gate = gate(1, 1);
        let refused = gate
            .pass(Call::default(), of("a"), |_, _| -> Result<(), Refusal> {
                panic!("on purpose")
            })
            .await
            .1;
        assert!(matches!(refused, Err(Refusal::Panicked)));
        assert!(matches!(
            gate.pass(Call::default(), of("a"), |_, _| Ok(1)).await.1,
            Ok(1)
        ));
    }
}
