//! Search batcher: searches that wait for one collection's index share a pass over it.
//!
//! A pass uses every idle core, so few passes run at once: more of them would take turns on the same cores, and each
//! would read all templates from memory for itself. A search that finds as many passes under way as may be waits.
//! When a pass ends, the search that waited longest leads the next one, for as many of the waiting ones as share a
//! pass. A search that finds room begins at once: it never waits for searches that have yet to arrive.
//!
//! Each search is answered by a pass that began after the search arrived, so it sees every change that was
//! acknowledged before. Only the scan of the index is shared. Each caller has its own token among the readers, its
//! own check of the generation, and reads the records itself.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::cores::CORES;
use likeness_types::digest::Digest;
use likeness_types::template::Probe;

/// Most probes that share a pass. Such a pass makes changes of the collection wait: some 20 ms among a million people.
pub const PROBES_MAX: usize = 32;

/// Cores for each pass that may run at once. A pass also uses the cores of the others while they are idle.
const CORES_PER_PASS: usize = 4;

/// One caller's search: among all faces, by the best one of each person.
pub struct BatchRequest {
    /// Probes of the scheme of the collection; each has an answer of its own.
    pub probes: Vec<Arc<Probe>>,
    /// Most persons in the answer to each probe.
    pub k: usize,
    /// The estimated cosine, -1 to 1, that an answered face reaches.
    pub similarity_min: f32,
    /// Whether every face at `similarity_min` or above is found, and not only all but one in a million.
    pub exact: bool,
}

/// The people that the index answers to a [`BatchRequest`].
pub struct BatchReply {
    /// For each probe, best first, with the similarity.
    pub hits: Vec<Vec<(Digest, f32)>>,
    /// Faces that each probe was compared with.
    pub compared: usize,
}

/// Distributes the searches of one collection over passes.
pub struct SearchBatcher {
    passes_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    passes: usize,
    queue: VecDeque<Queued>,
}

struct Queued {
    request: BatchRequest,
    waiter: Arc<Waiter>,
}

/// Where a queued caller sleeps until it receives its handoff.
#[derive(Default)]
struct Waiter {
    handoff: Mutex<Option<Handoff>>,
    changed: Condvar,
}

/// What a queued caller receives.
enum Handoff {
    /// The reply, from the pass of another caller.
    Reply(BatchReply),
    /// The lead of the next pass: for its own request, which is the first, and those of these waiters.
    Lead(Vec<BatchRequest>, Vec<Arc<Waiter>>),
    /// Its own request: the pass that it was part of failed, and it scans for itself.
    Retry(BatchRequest),
}

/// A pass under way. Dropped, by a panic too, it leaves no caller asleep.
struct Pass<'a> {
    batcher: &'a SearchBatcher,
    /// The leader's request, then those of the waiters.
    requests: Vec<BatchRequest>,
    /// The waiters that have received nothing yet.
    waiters: Vec<Arc<Waiter>>,
}

impl Default for SearchBatcher {
    fn default() -> Self {
        Self::new(CORES.div_ceil(CORES_PER_PASS))
    }
}

impl SearchBatcher {
    /// With so many passes at once.
    pub fn new(passes_max: usize) -> Self {
        Self {
            passes_max,
            state: Mutex::default(),
        }
    }

    /// Whether a search that arrives now would wait, as far as can be told before it arrives.
    pub fn is_full(&self) -> bool {
        let state = self.state.lock();
        state.passes >= self.passes_max || !state.queue.is_empty()
    }

    /// The reply of `scan` to `own`, called by this caller or by another one. The scan begins after this call, and
    /// answers each of the requests that it is given.
    pub fn search(&self, own: BatchRequest, scan: impl Fn(&[BatchRequest]) -> Vec<BatchReply>) -> BatchReply {
        let mut state = self.state.lock();
        if state.passes < self.passes_max {
            state.passes += 1;
            let (requests, waiters) = state.take_batch(own);
            drop(state);
            return self.pass(requests, waiters).lead(scan);
        }
        let waiter = Arc::new(Waiter::default());
        state.queue.push_back(Queued {
            request: own,
            waiter: Arc::clone(&waiter),
        });
        drop(state);
        match waiter.wait() {
            Handoff::Reply(reply) => reply,
            Handoff::Lead(requests, waiters) => self.pass(requests, waiters).lead(scan),
            Handoff::Retry(own) => only(scan(&[own])),
        }
    }

    fn pass(&self, requests: Vec<BatchRequest>, waiters: Vec<Arc<Waiter>>) -> Pass<'_> {
        Pass {
            batcher: self,
            requests,
            waiters,
        }
    }

    /// After a pass: the caller that waited longest leads the next one.
    fn start_next(&self) {
        let mut state = self.state.lock();
        let Some(first) = state.queue.pop_front() else {
            state.passes -= 1;
            return;
        };
        let (requests, waiters) = state.take_batch(first.request);
        drop(state);
        first.waiter.hand(Handoff::Lead(requests, waiters));
    }

    /// Passes that may run at once.
    #[cfg(any(test, feature = "testing"))]
    pub fn passes_max(&self) -> usize {
        self.passes_max
    }

    /// Callers that wait.
    #[cfg(any(test, feature = "testing"))]
    pub fn waiting(&self) -> usize {
        self.state.lock().queue.len()
    }

    /// Passes under way.
    #[cfg(any(test, feature = "testing"))]
    pub fn passes(&self) -> usize {
        self.state.lock().passes
    }
}

impl State {
    /// The leader's request, and as many of the queued ones as share a pass with it.
    fn take_batch(&mut self, leader: BatchRequest) -> (Vec<BatchRequest>, Vec<Arc<Waiter>>) {
        let mut probes = leader.probes.len();
        let (mut requests, mut waiters) = (vec![leader], Vec::new());
        while let Some(next) = self.queue.pop_front() {
            probes += next.request.probes.len();
            if probes > PROBES_MAX {
                self.queue.push_front(next);
                break;
            }
            requests.push(next.request);
            waiters.push(next.waiter);
        }
        (requests, waiters)
    }
}

impl Pass<'_> {
    fn lead(mut self, scan: impl Fn(&[BatchRequest]) -> Vec<BatchReply>) -> BatchReply {
        let mut replies = scan(&self.requests);
        assert_eq!(replies.len(), self.requests.len(), "a scan answers every request");
        let others = replies.split_off(1);
        for (waiter, reply) in mem::take(&mut self.waiters).into_iter().zip(others) {
            waiter.hand(Handoff::Reply(reply));
        }
        only(replies)
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let requests = self.requests.drain(..).skip(1);
        for (waiter, request) in self.waiters.drain(..).zip(requests) {
            waiter.hand(Handoff::Retry(request));
        }
        self.batcher.start_next();
    }
}

impl Waiter {
    fn hand(&self, handoff: Handoff) {
        *self.handoff.lock() = Some(handoff);
        self.changed.notify_one();
    }

    fn wait(&self) -> Handoff {
        let mut handoff = self.handoff.lock();
        loop {
            if let Some(handoff) = handoff.take() {
                return handoff;
            }
            self.changed.wait(&mut handoff);
        }
    }
}

fn only(replies: Vec<BatchReply>) -> BatchReply {
    replies.into_iter().next().expect("a scan answers every request")
}
