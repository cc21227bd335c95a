//! The keeper: one thread that links new faces into the graphs of all collections, and builds a graph anew when too
//! much of it is dead. Searches and changes go on meanwhile: what it has not come to yet is compared with in full.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::RwLock;

use crate::gallery::collection::Collection;
use crate::gallery::collection::Collections;
use likeness_types::error::{OperatorError, Result};

/// How often the keeper looks for something to do. What came since is compared with in full: a second's enrolments
/// cost a search nothing that could be seen.
pub(crate) const KEEP: Duration = Duration::from_secs(1);
/// Faces linked until another collection has its turn: about a second's.
const ROWS_MAX: usize = 1000;

/// The thread that keeps the graphs.
pub(crate) struct Keeper {
    stop: Arc<AtomicBool>,
    stopped: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    pub fn start(collections: Arc<RwLock<Collections>>, pause: Duration) -> Result<Self> {
        let (stopped, waits) = sync_channel::<()>(0);
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("likeness-keeper".to_owned())
            .spawn(move || {
                // At once: after a start there is all to do.
                keep(&collections, &told);
                while waits.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                    keep(&collections, &told);
                }
            })
            .map_err(|e| OperatorError::Store {
                doing: "starting the keeper of the graphs",
                detail: e.to_string(),
            })?;
        Ok(Self {
            stop,
            stopped: Some(stopped),
            thread: Some(thread),
        })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.stopped.take());
        if let Some(thread) = self.thread.take() {
            // The next start builds every graph anew.
            let _ = thread.join();
        }
    }
}

/// Works until there is nothing left to do, a turn at a time for each collection.
pub(super) fn keep(collections: &RwLock<Collections>, stop: &AtomicBool) {
    loop {
        let all: Vec<_> = collections.read().values().map(Arc::clone).collect();
        let worked = all.iter().filter(|collection| take_turn(collection, stop));
        if worked.count() == 0 || stop.load(Ordering::Relaxed) {
            return;
        }
    }
}

/// Does the next piece of work for a collection, if there is any.
fn take_turn(collection: &Collection, stop: &AtomicBool) -> bool {
    if stop.load(Ordering::Relaxed) {
        return false;
    }
    drop(collection.take_left());
    if !collection.people.read().index.has_work() {
        return false;
    }
    let Some(mut work) = collection.people.write().index.work(ROWS_MAX) else {
        return false;
    };
    // What a panic leaves half done is not adopted, and this graph is left as it is until the next start: whoever is
    // not in it is compared with in full.
    if catch_unwind(AssertUnwindSafe(|| work.run(stop))).is_err() {
        tracing::error!("a graph could not be kept; faces that it lacks are compared with in full");
        collection.people.write().index.give_up(&work);
        return false;
    }
    let left = collection.people.write().index.adopt(work);
    drop(left);
    true
}
