//! Searches of one collection that come together share a pass over its index.
//!
//! A pass uses every core that is idle, so few of them go on at once: more would take turns on the same cores, and
//! each read all from memory for itself. Whoever comes while as many go on as may waits, and when one ends the first
//! who waits leads the next one, for all who wait by then.
//!
//! Whoever finds room begins at once where nobody else is on the way. Where calls are, their photographs being
//! looked at right now, the leader gathers: it waits for them, for a time that the operator sets, and costs no core
//! meanwhile. So a search alone never waits for company. By default nobody else does either: under load enough
//! come during a pass to share the next one, and whoever gathers makes all of them wait for the largest pass.
//!
//! Everybody is answered by a pass that began after their call: what was acknowledged before the call is seen.
//! What is shared is the look into the index alone. Each caller has its own token among the readers, its own
//! look at the generation, and reads the records itself.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::cores::CORES;
use likeness_types::digest::Digest;
use likeness_types::template::Probe;

/// Most probes that share a pass: it holds up whoever wants to change the collection, among a million people
/// for some 20 ms.
pub const PROBES_MAX: usize = 32;

/// Cores for each pass that may go on at once: the others are its own, where they are idle.
const CORES_PER_PASS: usize = 4;

/// What one caller looks for: among all faces, by the best one of each person.
pub struct Wanted {
    pub probes: Vec<Arc<Probe>>,
    pub k: usize,
    pub similarity_min: f32,
    pub exact: bool,
}

/// Who was seen in the index.
pub struct Seen {
    /// For each probe, best first, with the similarity.
    pub hits: Vec<Vec<(Digest, f32)>>,
    /// Faces that each was compared with.
    pub compared: usize,
}

/// For whom a leader may wait.
#[derive(Default)]
pub struct Company {
    /// How long at most.
    pub gather: Duration,
    /// That the caller was on the way; it has come when it joins.
    pub coming: Option<Coming>,
}

/// A call that is on its way to a pass; dropped, it comes no more.
pub struct Coming(Option<Arc<Passes>>);

/// The passes over one collection.
pub struct Passes {
    at_once: usize,
    state: Mutex<State>,
    /// Somebody came to where a leader gathers, or will not come any more.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    under_way: usize,
    /// Calls on the way.
    coming: usize,
    /// Whether a leader gathers: one at a time.
    gathering: bool,
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    wanted: Wanted,
    seat: Arc<Seat>,
}

/// Where somebody waits.
#[derive(Default)]
struct Seat {
    told: Mutex<Option<Told>>,
    changed: Condvar,
}

/// What those who wait are told.
enum Told {
    /// Somebody looked for them.
    Answer(Seen),
    /// It is their turn to look, for themselves, who come first, and for these.
    Lead(Vec<Wanted>, Vec<Arc<Seat>>),
    /// Who looked for them failed: they look for themselves.
    Alone(Wanted),
}

/// A pass under way. When it is dropped, by a panic too, nobody waits for it any more.
struct Pass<'a> {
    passes: &'a Passes,
    /// The leader's own, and the others'.
    wanted: Vec<Wanted>,
    /// Of the others who are still to be told.
    seats: Vec<Arc<Seat>>,
}

impl Default for Passes {
    fn default() -> Self {
        Self::new(CORES.div_ceil(CORES_PER_PASS))
    }
}

impl Passes {
    pub fn new(at_once: usize) -> Self {
        Self {
            at_once,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Notes that a call is on its way.
    pub fn announce(self: &Arc<Self>) -> Coming {
        self.state.lock().coming += 1;
        Coming(Some(Arc::clone(self)))
    }

    /// Whether whoever joins now, announced or not, would wait for nobody, as far as can be told before.
    pub fn is_free(&self, gather: Duration) -> bool {
        let state = self.state.lock();
        let alone = gather.is_zero() || state.coming <= 1;
        alone && !state.gathering && state.under_way < self.at_once && state.waiting.is_empty()
    }

    /// What `look` sees for `own`, called here or by somebody else. It begins after this call, and answers
    /// each of what it is given.
    pub fn join(&self, own: Wanted, company: Company, look: impl Fn(&[Wanted]) -> Vec<Seen>) -> Seen {
        let mut state = self.state.lock();
        if let Some(coming) = company.coming {
            coming.come(&mut state);
        }
        if state.under_way < self.at_once && !state.gathering {
            state.under_way += 1;
            self.gather(&mut state, own.probes.len(), company.gather);
            let (wanted, seats) = state.board(own);
            drop(state);
            return self.pass(wanted, seats).lead(look);
        }
        let seat = Arc::new(Seat::default());
        state.waiting.push_back(Waiting {
            wanted: own,
            seat: Arc::clone(&seat),
        });
        drop(state);
        self.changed.notify_one();
        match seat.wait() {
            Told::Answer(seen) => seen,
            Told::Lead(wanted, seats) => self.pass(wanted, seats).lead(look),
            Told::Alone(own) => one(look(&[own])),
        }
    }

    /// Waits for those who are on the way.
    fn gather(&self, state: &mut MutexGuard<'_, State>, own: usize, at_most: Duration) {
        let Some(until) = Instant::now().checked_add(at_most) else {
            return;
        };
        state.gathering = !at_most.is_zero();
        while state.gathering && state.coming > 0 && own + state.probes() < PROBES_MAX {
            state.gathering = !self.changed.wait_until(state, until).timed_out();
        }
        state.gathering = false;
    }

    fn pass(&self, wanted: Vec<Wanted>, seats: Vec<Arc<Seat>>) -> Pass<'_> {
        Pass {
            passes: self,
            wanted,
            seats,
        }
    }

    /// Lets the first who waits look, for as many as share a pass.
    fn hand_over(&self) {
        let mut state = self.state.lock();
        let Some(first) = state.waiting.pop_front() else {
            state.under_way -= 1;
            return;
        };
        let (wanted, seats) = state.board(first.wanted);
        drop(state);
        first.seat.tell(Told::Lead(wanted, seats));
    }

    /// Passes that may go on at once.
    #[cfg(any(test, feature = "testing"))]
    pub fn at_once(&self) -> usize {
        self.at_once
    }

    /// Callers who wait.
    #[cfg(any(test, feature = "testing"))]
    pub fn waiting(&self) -> usize {
        self.state.lock().waiting.len()
    }

    /// Passes under way.
    #[cfg(any(test, feature = "testing"))]
    pub fn under_way(&self) -> usize {
        self.state.lock().under_way
    }
}

impl State {
    /// Probes that wait.
    fn probes(&self) -> usize {
        self.waiting.iter().map(|one| one.wanted.probes.len()).sum()
    }

    /// The leader's, and of those who wait as many as share a pass with it.
    fn board(&mut self, leader: Wanted) -> (Vec<Wanted>, Vec<Arc<Seat>>) {
        let mut probes = leader.probes.len();
        let (mut wanted, mut seats) = (vec![leader], Vec::new());
        while let Some(next) = self.waiting.pop_front() {
            probes += next.wanted.probes.len();
            if probes > PROBES_MAX {
                self.waiting.push_front(next);
                break;
            }
            wanted.push(next.wanted);
            seats.push(next.seat);
        }
        (wanted, seats)
    }
}

impl Coming {
    /// It has come, to where the lock is held already.
    fn come(mut self, state: &mut State) {
        if self.0.take().is_some() {
            state.coming -= 1;
        }
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        if let Some(passes) = self.0.take() {
            passes.state.lock().coming -= 1;
            passes.changed.notify_one();
        }
    }
}

impl Pass<'_> {
    fn lead(mut self, look: impl Fn(&[Wanted]) -> Vec<Seen>) -> Seen {
        let mut seen = look(&self.wanted);
        assert_eq!(seen.len(), self.wanted.len(), "everybody is answered");
        let others = seen.split_off(1);
        for (seat, seen) in mem::take(&mut self.seats).into_iter().zip(others) {
            seat.tell(Told::Answer(seen));
        }
        one(seen)
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let wanted = self.wanted.drain(..).skip(1);
        for (seat, wanted) in self.seats.drain(..).zip(wanted) {
            seat.tell(Told::Alone(wanted));
        }
        self.passes.hand_over();
    }
}

impl Seat {
    fn tell(&self, told: Told) {
        *self.told.lock() = Some(told);
        self.changed.notify_one();
    }

    fn wait(&self) -> Told {
        let mut told = self.told.lock();
        loop {
            if let Some(told) = told.take() {
                return told;
            }
            self.changed.wait(&mut told);
        }
    }
}

fn one(seen: Vec<Seen>) -> Seen {
    seen.into_iter().next().expect("everybody is answered")
}
