//! The threads of the sweeper, one for each lane, and what the rest of the program needs of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::schedule::{Owed, Schedule};
use super::sweep::{Lane, Sweep};
use likeness_types::clock::Clock;
use likeness_types::error::{OperatorError, Result};
use likeness_types::wipe::wipe_stack;

/// Sweeps until it is dropped.
pub struct Sweeper {
    registry: Registry,
    threads: Vec<JoinHandle<()>>,
}

/// Where sweeps are registered and woken.
#[derive(Clone)]
pub struct Registry(Arc<Shared>);

struct Shared {
    started: Instant,
    stopping: AtomicBool,
    short: LaneQueue,
    long: LaneQueue,
}

#[derive(Default)]
struct LaneQueue {
    inbox: Mutex<Inbox>,
    changed: Condvar,
}

#[derive(Default)]
struct Inbox {
    registered: Vec<Box<dyn Sweep>>,
    woken: Vec<&'static str>,
    owed: Vec<Owed>,
}

impl Sweeper {
    /// Starts the threads; they have nothing to do until something is registered.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(clock: &Clock) -> Result<Self> {
        let mut sweeper = Self {
            registry: Registry(Arc::new(Shared {
                started: Instant::now(),
                stopping: AtomicBool::new(false),
                short: LaneQueue::default(),
                long: LaneQueue::default(),
            })),
            threads: Vec::new(),
        };
        for (lane, name) in [(Lane::Short, "likeness-sweep"), (Lane::Long, "likeness-purge")] {
            let (shared, clock) = (Arc::clone(&sweeper.registry.0), clock.clone());
            let thread = std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || shared.run(lane, &clock))
                .map_err(|e| OperatorError::Store {
                    doing: "starting the sweeper",
                    detail: e.to_string(),
                })?;
            sweeper.threads.push(thread);
        }
        Ok(sweeper)
    }

    /// Where sweeps are registered and woken.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        let shared = &self.registry.0;
        shared.stopping.store(true, Ordering::Release);
        for lane in [Lane::Short, Lane::Long] {
            let queue = shared.lane(lane);
            // ORDER: under the lock, so that no thread looks at the flag before and waits after.
            let inbox = queue.inbox.lock();
            queue.changed.notify_all();
            drop(inbox);
        }
        for thread in self.threads.drain(..) {
            // The next start sweeps what is left. A panic of a sweep does not reach the thread.
            let _ = thread.join();
        }
        // A sweep may hold a registry: what no thread took is dropped here.
        for lane in [Lane::Short, Lane::Long] {
            let registered = std::mem::take(&mut shared.lane(lane).inbox.lock().registered);
            drop(registered);
        }
    }
}

impl Registry {
    /// Sweeps a class from now on.
    pub fn register(&self, sweep: Box<dyn Sweep>) {
        let queue = self.0.lane(sweep.pace().lane);
        let mut inbox = queue.inbox.lock();
        if self.0.goes_on() {
            inbox.registered.push(sweep);
            queue.changed.notify_all();
        }
    }

    /// Something of a class is to be swept soon. Never waits for a sweep.
    pub fn wake(&self, class: &'static str) {
        for lane in [Lane::Short, Lane::Long] {
            let queue = self.0.lane(lane);
            let mut inbox = queue.inbox.lock();
            if !inbox.woken.contains(&class) {
                inbox.woken.push(class);
            }
            queue.changed.notify_all();
        }
    }

    /// For each class that is swept, for how long a sweep has been due that did not succeed yet.
    pub fn overdue(&self) -> Vec<(&'static str, Duration)> {
        let at = self.0.started.elapsed();
        let mut overdue: Vec<(&'static str, Duration)> = Vec::new();
        for lane in [Lane::Short, Lane::Long] {
            for Owed { class, since } in &self.0.lane(lane).inbox.lock().owed {
                let late = since.map_or(Duration::ZERO, |since| at.saturating_sub(since));
                match overdue.iter_mut().find(|(known, _)| known == class) {
                    Some((_, latest)) => *latest = late.max(*latest),
                    None => overdue.push((class, late)),
                }
            }
        }
        overdue
    }
}

impl Shared {
    fn lane(&self, lane: Lane) -> &LaneQueue {
        match lane {
            Lane::Short => &self.short,
            Lane::Long => &self.long,
        }
    }

    fn goes_on(&self) -> bool {
        !self.stopping.load(Ordering::Acquire)
    }

    fn run(&self, lane: Lane, clock: &Clock) {
        let (queue, mut schedule) = (self.lane(lane), Schedule::default());
        let elapsed = || self.started.elapsed();
        loop {
            let registered = {
                let mut inbox = queue.inbox.lock();
                std::mem::take(&mut inbox.registered)
            };
            for mut sweep in registered {
                let prepared = catch_unwind(AssertUnwindSafe(|| sweep.prepare(&|| self.goes_on())));
                if prepared.is_err() {
                    tracing::error!(
                        class = sweep.class(),
                        "what comes before the first sweep panicked"
                    );
                }
                schedule.add(sweep, elapsed());
            }
            let mut inbox = queue.inbox.lock();
            // What was registered meanwhile may be what was woken.
            if inbox.registered.is_empty() {
                for class in std::mem::take(&mut inbox.woken) {
                    schedule.wake(class, elapsed());
                }
            }
            inbox.owed.clear();
            inbox.owed.extend(schedule.owed());
            if !self.goes_on() {
                return;
            }
            if inbox.registered.is_empty() {
                let pause = schedule.next_due().map(|due| due.saturating_sub(elapsed()));
                match pause {
                    Some(Duration::ZERO) => {}
                    Some(pause) => {
                        queue.changed.wait_for(&mut inbox, pause);
                        continue;
                    }
                    None => {
                        queue.changed.wait(&mut inbox);
                        continue;
                    }
                }
            }
            drop(inbox);
            schedule.run_one(clock.now(), &elapsed);
            wipe_stack();
        }
    }
}
