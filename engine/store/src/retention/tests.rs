//! Schedules on a clock that the test moves, and the table.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use likeness_types::clock::Clock;
use likeness_types::error::{OperatorError, Result};
use likeness_types::person::Timestamp;
use parking_lot::Mutex;
use proptest::prelude::*;

use super::schedule::{RETRY_MIN, Schedule};
use super::{DataClass, Lane, Pace, Periods, Progress, Registry, Sweep, Sweeper};
use crate::records::Family;

const HOUR: Duration = Duration::from_secs(3600);
/// The wall clock of the tests is this far ahead of their process.
const START_MS: u64 = 1_000_000_000_000;

/// Data with deadlines, as media will be.
#[derive(Clone)]
struct Media {
    class: &'static str,
    interval: Duration,
    /// Until then every sweep fails.
    fails_until: Timestamp,
    panics: bool,
    deadlines: Arc<Mutex<Vec<Timestamp>>>,
    /// Each deadline, and when it was destroyed.
    destroyed: Arc<Mutex<Vec<(Timestamp, Timestamp)>>>,
}

fn media(class: &'static str, interval: Duration, deadlines: &[u64]) -> Media {
    let deadlines = deadlines.iter().map(|ms| Timestamp(START_MS + ms)).collect();
    Media {
        class,
        interval,
        fails_until: Timestamp(0),
        panics: false,
        deadlines: Arc::new(Mutex::new(deadlines)),
        destroyed: Arc::default(),
    }
}

impl Sweep for Media {
    fn class(&self) -> &'static str {
        self.class
    }

    fn pace(&self) -> Pace {
        Pace {
            lane: Lane::Short,
            interval: Some(self.interval),
            wake_delay: Duration::ZERO,
            retry_max: Duration::from_secs(60),
        }
    }

    fn sweep(&mut self, now: Timestamp) -> Result<Progress> {
        if now < self.fails_until {
            assert!(!self.panics, "as the test wants it");
            return Err(OperatorError::Poisoned.into());
        }
        let mut destroyed = self.destroyed.lock();
        self.deadlines.lock().retain(|deadline| {
            let due = *deadline <= now;
            if due {
                destroyed.push((*deadline, now));
            }
            !due
        });
        Ok(Progress::Done)
    }
}

/// Runs a lane as its thread does, until this time of the process.
fn run_until(schedule: &mut Schedule, clock: &Cell<Duration>, end: Duration) {
    while let Some(due) = schedule.next_due().filter(|due| *due <= end) {
        clock.set(clock.get().max(due));
        let now = Timestamp(START_MS + u64::try_from(clock.get().as_millis()).expect("small"));
        assert!(schedule.run_one(now, &|| clock.get()), "a sweep is due");
    }
    clock.set(end);
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).expect("small")
}

#[test]
fn data_with_a_deadline_of_two_hours_are_destroyed_within_one_interval_after_it() {
    let (mut schedule, clock) = (Schedule::default(), Cell::new(Duration::ZERO));
    let frames = media(
        "liveness_media",
        Duration::from_secs(60),
        &[millis(2 * HOUR), millis(2 * HOUR) + 30_000],
    );
    schedule.add(Box::new(frames.clone()), Duration::ZERO);
    run_until(&mut schedule, &clock, 2 * HOUR - Duration::from_millis(1));
    assert_eq!(frames.destroyed.lock().len(), 0, "not before their time");
    run_until(&mut schedule, &clock, 2 * HOUR + Duration::from_secs(90));
    assert_eq!(frames.deadlines.lock().len(), 0);
    for (deadline, at) in frames.destroyed.lock().iter() {
        assert!(*at >= *deadline && at.0 - deadline.0 <= 60_000);
    }
}

#[test]
fn a_class_that_fails_is_tried_again_with_longer_pauses_and_is_overdue_until_it_succeeds() {
    let (mut schedule, clock) = (Schedule::default(), Cell::new(Duration::ZERO));
    let mut frames = media("liveness_media", Duration::from_secs(1), &[0]);
    frames.fails_until = Timestamp(START_MS + 1_000_000);
    schedule.add(Box::new(frames.clone()), Duration::ZERO);
    let mut attempts = Vec::new();
    while frames.destroyed.lock().is_empty() {
        let due = schedule.next_due().expect("an interval");
        run_until(&mut schedule, &clock, due);
        attempts.push(clock.get());
        schedule.wake("liveness_media", clock.get());
        let since = schedule.owed().next().expect("a class").since.expect("owed");
        let expected = match frames.destroyed.lock().is_empty() {
            true => Duration::from_secs(1),
            false => clock.get(),
        };
        assert!(since >= expected && (since == expected || !frames.destroyed.lock().is_empty()));
    }
    let pauses: Vec<_> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let seconds: Vec<_> = pauses.iter().take(7).map(Duration::as_secs).collect();
    assert_eq!(
        seconds,
        [2, 4, 8, 16, 32, 60, 60],
        "a wake-up brings no retry forward"
    );
    assert_eq!(pauses[0], RETRY_MIN);
}

#[test]
fn a_class_without_an_interval_is_swept_after_a_wake_up_and_one_sweep_serves_several() {
    struct Purge(Arc<AtomicU64>);
    impl Sweep for Purge {
        fn class(&self) -> &'static str {
            "deleted_records"
        }
        fn pace(&self) -> Pace {
            Pace {
                lane: Lane::Long,
                interval: None,
                wake_delay: Duration::from_millis(250),
                retry_max: Duration::from_secs(10),
            }
        }
        fn sweep(&mut self, _: Timestamp) -> Result<Progress> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(Progress::Done)
        }
    }
    let (mut schedule, clock) = (Schedule::default(), Cell::new(Duration::ZERO));
    let sweeps = Arc::new(AtomicU64::new(0));
    schedule.add(Box::new(Purge(Arc::clone(&sweeps))), Duration::ZERO);
    assert_eq!(schedule.next_due(), None);
    schedule.wake("another_class", Duration::ZERO);
    assert_eq!(schedule.next_due(), None);
    for at in [0, 100, 200] {
        schedule.wake("deleted_records", Duration::from_millis(at));
    }
    assert_eq!(schedule.next_due(), Some(Duration::from_millis(250)));
    run_until(&mut schedule, &clock, HOUR);
    assert_eq!((sweeps.load(Ordering::SeqCst), schedule.next_due()), (1, None));
}

#[test]
fn a_class_with_much_to_do_takes_turns_with_the_others() {
    struct Endless(Arc<AtomicU64>);
    impl Sweep for Endless {
        fn class(&self) -> &'static str {
            "expired_persons"
        }
        fn pace(&self) -> Pace {
            media("", Duration::from_secs(1), &[]).pace()
        }
        fn sweep(&mut self, _: Timestamp) -> Result<Progress> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(Progress::More(Duration::ZERO))
        }
    }
    let (mut schedule, parts) = (Schedule::default(), Arc::new(AtomicU64::new(0)));
    let frames = media("liveness_media", Duration::from_secs(1), &[0]);
    schedule.add(Box::new(Endless(Arc::clone(&parts))), Duration::ZERO);
    schedule.add(Box::new(frames.clone()), Duration::ZERO);
    let clock = Cell::new(Duration::from_secs(1));
    for _ in 0..4 {
        assert!(schedule.run_one(Timestamp(START_MS), &|| {
            clock.set(clock.get() + Duration::from_millis(1));
            clock.get()
        }));
    }
    assert_eq!(frames.destroyed.lock().len(), 1);
    assert_eq!(parts.load(Ordering::SeqCst), 3);
}

proptest! {
    /// Every deadline is kept by every class, whatever fails beside it, and however long that fails.
    #[test]
    fn a_failing_class_delays_no_other_and_no_deadline_is_passed_by_more_than_an_interval(
        deadlines in prop::collection::vec(prop::collection::vec(0_u64..24 * 3_600_000, 0..20), 1..6),
        intervals in prop::collection::vec(1_u64..600, 6),
        failing in prop::collection::vec((0_u64..30 * 3_600_000, any::<bool>()), 0..4),
    ) {
        const NAMES: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
        let (mut schedule, clock) = (Schedule::default(), Cell::new(Duration::ZERO));
        let mut kept = Vec::new();
        for (number, deadlines) in deadlines.iter().enumerate() {
            let class = media(NAMES[number], Duration::from_secs(intervals[number]), deadlines);
            schedule.add(Box::new(class.clone()), Duration::ZERO);
            kept.push(class);
        }
        for (number, (until, panics)) in failing.iter().enumerate() {
            let mut class = media(NAMES[6 + number], Duration::from_secs(1), &[0]);
            class.fails_until = Timestamp(START_MS + until);
            class.panics = *panics;
            schedule.add(Box::new(class.clone()), Duration::ZERO);
            kept.push(class);
        }
        let end = Duration::from_secs(31 * 3600);
        run_until(&mut schedule, &clock, end);
        for class in kept {
            prop_assert_eq!(class.deadlines.lock().len(), 0, "{} is destroyed", class.class);
            if class.fails_until != Timestamp(0) {
                continue;
            }
            for (deadline, at) in class.destroyed.lock().iter() {
                prop_assert!(at >= deadline);
                prop_assert!(at.0 - deadline.0 <= millis(class.interval), "{deadline:?} {at:?}");
            }
        }
    }
}

#[test]
fn the_threads_sweep_by_the_given_clock_and_end_with_the_sweeper() {
    let time = Arc::new(AtomicU64::new(START_MS));
    let sweeper = Sweeper::start(&Clock::Set(Arc::clone(&time))).expect("threads");
    let frames = media("liveness_media", Duration::from_millis(1), &[millis(2 * HOUR)]);
    sweeper.registry().register(Box::new(frames.clone()));
    until(|| {
        let overdue = sweeper.registry().overdue();
        overdue.iter().any(|(class, _)| *class == "liveness_media")
    });
    assert_eq!(frames.destroyed.lock().len(), 0);
    time.store(START_MS + millis(2 * HOUR), Ordering::SeqCst);
    until(|| frames.destroyed.lock().len() == 1);
    assert!(Arc::strong_count(&frames.destroyed) > 1);
    drop(sweeper);
    assert_eq!(
        Arc::strong_count(&frames.destroyed),
        1,
        "the sweep went with its thread"
    );
}

#[test]
fn a_sweep_of_minutes_delays_no_sweep_of_the_short_lane_and_shows_as_overdue() {
    struct Slow {
        ends: Arc<AtomicBool>,
        registry: Registry,
    }
    impl Sweep for Slow {
        fn class(&self) -> &'static str {
            "deleted_records"
        }
        fn pace(&self) -> Pace {
            Pace {
                lane: Lane::Long,
                interval: None,
                wake_delay: Duration::ZERO,
                retry_max: Duration::from_secs(10),
            }
        }
        fn sweep(&mut self, _: Timestamp) -> Result<Progress> {
            self.registry.wake("deleted_records");
            until(|| self.ends.load(Ordering::SeqCst));
            Ok(Progress::Done)
        }
    }
    let sweeper = Sweeper::start(&Clock::System).expect("threads");
    let ends = Arc::new(AtomicBool::new(false));
    let registry = sweeper.registry();
    registry.register(Box::new(Slow {
        ends: Arc::clone(&ends),
        registry: registry.clone(),
    }));
    registry.wake("deleted_records");
    let overdue = || {
        let overdue = registry.overdue().into_iter();
        overdue
            .filter(|(class, _)| *class == "deleted_records")
            .map(|(_, late)| late)
            .max()
    };
    until(|| overdue().is_some_and(|late| late > Duration::from_millis(20)));
    let frames = media("liveness_media", Duration::from_millis(1), &[]);
    frames.deadlines.lock().push(Timestamp(0));
    registry.register(Box::new(frames.clone()));
    until(|| frames.destroyed.lock().len() == 1);
    ends.store(true, Ordering::SeqCst);
    // The wake-up during the sweep is a second sweep.
    until(|| overdue() == Some(Duration::ZERO));
    drop(sweeper);
}

fn until(holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < end, "it never holds");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn the_operator_s_periods_are_in_the_table_and_no_name_is_there_twice() {
    let periods = Periods {
        operation_log_days: 90,
        ..Periods::default()
    };
    let table = DataClass::table(&periods);
    let names: BTreeSet<_> = table.iter().map(|class| class.name).collect();
    assert_eq!(names.len(), table.len());
    let period = |name| {
        table
            .iter()
            .find(|class| class.name == name)
            .map(|class| class.period)
    };
    assert_eq!(
        period("operation_log"),
        Some(super::Period::Seconds(90 * 24 * 3600))
    );
    assert_eq!(period("error_log"), Some(super::Period::Bytes(2_000_000_000)));
    assert_eq!(period("idempotency_tokens"), Some(super::Period::Seconds(86_400)));
}

#[test]
fn every_family_of_rows_has_its_classes_in_the_table() {
    let classes = |family: Family| match family {
        Family::Collections => &["collections"][..],
        Family::Persons => &["person_id", "consent", "face_features", "expired_persons"],
        Family::Tokens => &["idempotency_tokens"],
        Family::Accounts => &["accounts"],
        Family::RunningLog => &["running_log"],
        Family::Usage => &["usage_totals"],
        Family::Audit => &["audit_log"],
        Family::Meter => &["comparison_counters"],
        // The owner of each receipt.
        Family::Commits => &["erasure_log"],
    };
    let table = DataClass::table(&Periods::default());
    for family in Family::ALL {
        for name in classes(family) {
            assert!(table.iter().any(|class| class.name == *name), "{name}");
        }
    }
}
