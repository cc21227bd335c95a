//! Who works, who waits, and who is refused.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use likeness_engine::{Account, Lease as _};

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
