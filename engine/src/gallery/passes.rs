//! Searches of one collection that come together share a pass over its index.
//!
//! As many passes go on at once as there are cores: more would take turns on them, and each read all from
//! memory for itself. Whoever comes while so many go on waits, and when one ends the first who waits leads
//! the next one, for all who wait by then. So nobody waits for company, and whoever finds a core idle begins.
//!
//! Everybody is answered by a pass that began after their call: what was acknowledged before the call is seen.
//! What is shared is the look into the index alone. Each caller has its own token among the readers, its own
//! look at the generation, and reads the records itself.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, LazyLock};
use std::thread;

use parking_lot::{Condvar, Mutex};

use crate::gallery::codec::Digest;
use crate::template::Probe;

/// Most probes that share a pass: it holds up whoever wants to change the collection, among a million people
/// for some 20 ms.
pub(super) const PROBES_MAX: usize = 32;

/// Passes of one collection at once.
static CORES: LazyLock<usize> = LazyLock::new(|| thread::available_parallelism().map_or(1, usize::from));

/// What one caller looks for: among all faces, by the best one of each person.
pub(crate) struct Wanted {
    pub probes: Vec<Arc<Probe>>,
    pub k: usize,
    pub similarity_min: f32,
    pub exact: bool,
}

/// Who was seen in the index.
pub(crate) struct Seen {
    /// For each probe, best first, with the similarity.
    pub hits: Vec<Vec<(Digest, f32)>>,
    /// Faces that each was compared with.
    pub compared: usize,
}

/// The passes over one collection.
pub(crate) struct Passes {
    at_once: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    under_way: usize,
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
        Self::new(*CORES)
    }
}

impl Passes {
    pub fn new(at_once: usize) -> Self {
        Self {
            at_once,
            state: Mutex::default(),
        }
    }

    /// What `look` sees for `own`, called here or by somebody else. It begins after this call, and answers
    /// each of what it is given.
    pub fn join(&self, own: Wanted, look: impl Fn(&[Wanted]) -> Vec<Seen>) -> Seen {
        let seat = Arc::new(Seat::default());
        let mut state = self.state.lock();
        if state.under_way < self.at_once {
            state.under_way += 1;
            drop(state);
            return self.pass(vec![own], Vec::new()).lead(look);
        }
        state.waiting.push_back(Waiting {
            wanted: own,
            seat: Arc::clone(&seat),
        });
        drop(state);
        match seat.wait() {
            Told::Answer(seen) => seen,
            Told::Lead(wanted, seats) => self.pass(wanted, seats).lead(look),
            Told::Alone(own) => one(look(&[own])),
        }
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
        let mut probes = first.wanted.probes.len();
        let (mut wanted, mut seats) = (vec![first.wanted], Vec::new());
        while let Some(next) = state.waiting.pop_front() {
            probes += next.wanted.probes.len();
            if probes > PROBES_MAX {
                state.waiting.push_front(next);
                break;
            }
            wanted.push(next.wanted);
            seats.push(next.seat);
        }
        drop(state);
        first.seat.tell(Told::Lead(wanted, seats));
    }

    /// Callers who wait.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.state.lock().waiting.len()
    }

    /// Passes under way.
    #[cfg(test)]
    pub fn under_way(&self) -> usize {
        self.state.lock().under_way
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
