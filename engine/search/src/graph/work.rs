//! What a keeper does for a graph: the rows that it links, while the graph is searched and changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::Links;
use super::arena::Arena;
use crate::cores;
use crate::cores::Busy;
use crate::index::Row;

/// Rows that a keeper links with the cores that are idle at that moment: a fraction of a second's work.
const ROWS_PER_TURN: usize = 64;
/// When somebody came for a borrowed core, the keeper works alone for so long: a search waits for a core at most as
/// long as a row takes, and where searches come one after another hardly one in a hundred does.
const ALONE: Duration = Duration::from_secs(3);

/// Rows on their way into a graph, and what else a keeper needs: nothing of it holds up a search.
pub struct Work {
    pub(super) arena: Arc<Arena>,
    pub(super) links: Arc<Links>,
    pub(super) rows: Vec<Row>,
    /// So many of the first rows outside are among them.
    pub(super) first: usize,
    /// A graph of its own, to take the place of the old one.
    pub(super) anew: bool,
    /// Dead rows that the new graph will not know.
    pub(super) released: Vec<Row>,
    pub(super) stopped: bool,
}

impl Work {
    /// Nothing yet to be linked in `links`.
    pub(super) fn new(arena: &Arc<Arena>, links: Arc<Links>) -> Self {
        Self {
            arena: Arc::clone(arena),
            links,
            rows: Vec::new(),
            first: 0,
            anew: false,
            released: Vec::new(),
            stopped: false,
        }
    }

    /// Links the rows, with whatever cores are idle and without holding anything up; stops early when told to.
    pub fn run(&mut self, stop: &AtomicBool) {
        let _own = cores::busy();
        let (mut linked, mut alone_until) = (0, Instant::now());
        while linked < self.rows.len() {
            // The first alone: rows that are linked together need a point to begin at.
            let turn = if linked == 0 { 1 } else { ROWS_PER_TURN };
            let end = (linked + turn).min(self.rows.len());
            let may_borrow = Instant::now() >= alone_until;
            let borrowed = cores::idle(if may_borrow { turn - 1 } else { 0 });
            let (done, sent_back) = self.link(&self.rows[linked..end], &borrowed, stop);
            if sent_back {
                alone_until = Instant::now() + ALONE;
            }
            linked += done;
            if linked < end {
                self.rows.truncate(linked);
                self.stopped = true;
            }
        }
    }

    /// How many were linked, from the first one on, and whether somebody else came for a guest's core.
    fn link(&self, rows: &[Row], borrowed: &Busy, stop: &AtomicBool) -> (usize, bool) {
        let (next, sent_back) = (AtomicUsize::new(0), AtomicBool::new(false));
        let link = |is_guest: bool| {
            while !stop.load(Ordering::Relaxed) && !self.arena.is_wiped() {
                let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) else {
                    return;
                };
                self.links.insert((&[u64::from(row.0)], row.0 as usize));
                if is_guest && borrowed.leave() {
                    return sent_back.store(true, Ordering::Relaxed);
                }
            }
        };
        cores::together(&mut vec![(); borrowed.cores()], || link(false), |()| link(true));
        (next.into_inner().min(rows.len()), sent_back.into_inner())
    }
}
