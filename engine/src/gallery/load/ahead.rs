//! Records read from disk on one thread, opened on every core, and taken in the order of the disk.
//!
//! Batches go round the cores, and their results are collected by the same round: so the order needs no
//! sorting, and what is in memory at once is bounded by the queues.

use std::num::NonZero;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, Scope, available_parallelism, scope};

use likeness_store::records::Scan;
use likeness_types::error::{OperatorError, Result};

/// Records of a batch: at some 4 us each, a queue is asked a thousand times a second and not a million.
const BATCH: usize = 256;
/// Batches that wait for a core, and for being taken from it: some 160 KiB each.
const WAITING: usize = 4;

/// What a scan calls with each record and its key.
pub(super) type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Scan + 'a;

/// Records one behind the other, in one piece of memory.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    /// Where each record's key ends, and where the record does.
    ends: Vec<(usize, usize)>,
}

impl Batch {
    fn push(&mut self, key: &[u8], record: &[u8]) {
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(record);
        self.ends.push((key_end, self.bytes.len()));
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let begins = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        begins
            .zip(&self.ends)
            .map(|(begin, (key_end, end))| (&self.bytes[begin..*key_end], &self.bytes[*key_end..*end]))
    }
}

/// Has `scan` visit every record, each opened by `open` on any core and then taken by `take` on this thread,
/// in the order of the visits; answers what the scan does.
///
/// # Errors
/// The scan's, or the first that `take` answers, after which nothing more is taken.
pub(super) fn in_order<T: Send>(
    scan: impl FnOnce(&mut Visit<'_>) -> Result<usize> + Send,
    open: impl Fn(&[u8], &[u8]) -> T + Sync,
    mut take: impl FnMut(T) -> Result<()>,
) -> Result<usize> {
    let cores = available_parallelism().map_or(1, NonZero::get);
    scope(|scope| {
        let (mut cores_in, mut cores_out) = (Vec::new(), Vec::new());
        for _ in 0..cores {
            let (core_in, waiting) = sync_channel::<Batch>(WAITING);
            let (opened, core_out) = sync_channel::<Vec<T>>(WAITING);
            let open = &open;
            start(scope, move || open_all(&waiting, &opened, open))?;
            cores_in.push(core_in);
            cores_out.push(core_out);
        }
        let reader = start(scope, move || read(scan, &cores_in))?;
        // A core that is done has nothing where the next batch would be: the others have nothing after it.
        for opened in cores_out.iter().cycle().map_while(|core| core.recv().ok()) {
            opened.into_iter().try_for_each(&mut take)?;
        }
        reader
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn read(scan: impl FnOnce(&mut Visit<'_>) -> Result<usize>, cores: &[SyncSender<Batch>]) -> Result<usize> {
    let (mut batch, mut turn) = (Batch::default(), cores.iter().cycle());
    let mut send = |batch| turn.next().is_some_and(|core| core.send(batch).is_ok());
    let outcome = scan(&mut |key, record| {
        batch.push(key, record);
        // Nobody receives any more once something was refused.
        if batch.ends.len() == BATCH && !send(std::mem::take(&mut batch)) {
            return Scan::Stop;
        }
        Scan::Continue
    })?;
    send(batch);
    Ok(outcome)
}

fn open_all<T>(waiting: &Receiver<Batch>, opened: &SyncSender<Vec<T>>, open: impl Fn(&[u8], &[u8]) -> T) {
    for batch in waiting {
        let results = batch.iter().map(|(key, record)| open(key, record)).collect();
        if opened.send(results).is_err() {
            return;
        }
    }
}

fn start<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<std::thread::ScopedJoinHandle<'scope, T>> {
    let named = Builder::new().name("likeness-load".to_owned());
    named.spawn_scoped(scope, work).map_err(|e| {
        OperatorError::Store {
            doing: "starting to open records",
            detail: e.to_string(),
        }
        .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use likeness_types::error::RequestError;

    fn scanning(records: usize) -> impl FnOnce(&mut Visit<'_>) -> Result<usize> + Send {
        move |visit| {
            let visited = (0..records).take_while(|n| visit(&n.to_le_bytes(), &[7]) == Scan::Continue);
            Ok(visited.count())
        }
    }

    fn number(key: &[u8], record: &[u8]) -> usize {
        assert_eq!(record, [7]);
        usize::from_le_bytes(key.try_into().expect("eight bytes"))
    }

    #[test]
    fn every_record_is_taken_once_and_in_order() {
        for records in [0, 1, BATCH - 1, BATCH, BATCH + 1, 40 * BATCH + 3] {
            let mut taken = Vec::new();
            let scanned = in_order(scanning(records), number, |n| {
                taken.push(n);
                Ok(())
            });
            assert_eq!(scanned.expect("nothing fails"), records);
            assert!(taken.into_iter().eq(0..records));
        }
    }

    #[test]
    fn the_first_refusal_ends_everything() {
        let (records, refused) = (1000 * BATCH, 10 * BATCH + 5);
        let mut taken = 0;
        let outcome = in_order(scanning(records), number, |n| {
            taken += 1;
            (n < refused)
                .then_some(())
                .ok_or_else(|| RequestError::Damaged.into())
        });
        assert!(outcome.is_err());
        assert_eq!(taken, refused + 1);
    }

    #[test]
    fn a_scan_that_fails_is_no_end() {
        let failing = |visit: &mut Visit<'_>| {
            scanning(BATCH + 1)(visit)?;
            Err(RequestError::Damaged.into())
        };
        assert!(in_order(failing, number, |_| Ok(())).is_err());
    }
}
