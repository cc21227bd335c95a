//! Group commit: one thread takes the changes that have gathered, makes them durable with two or
//! three syncs in all, shows them to the index, and only then lets their callers go on.

pub(crate) mod edit;
mod plan;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use self::plan::{plan_change, plan_passage};
use crate::access::census::{Census, Rooms};
use crate::gallery::collection::Collection;
use crate::gallery::commit::edit::{Changed, Current, Edit, Making, Passage, Place, Planned};
use crate::gallery::storage::Storage;
use crate::guard::comparison_limiter::WRITE_EVERY;
use crate::guard::idempotency::Claim;
use likeness_store::codec::Digest;
use likeness_store::vault::{CHANGES_PER_COMMIT_MAX, Plan};
use likeness_types::error::{Error, OperatorError, Result};
use likeness_types::names::RandomId;
use likeness_types::wipe::wipe_stack;

/// Changes that may wait for the writer; more callers wait outside.
const QUEUE_MAX: usize = 1024;

/// What a change came to, once it is durable.
pub(crate) type Outcome = Receiver<Result<Changed>>;

enum Job {
    Change(Change),
    /// Something that must not run beside any change.
    Alone(Box<dyn FnOnce(&Storage) + Send>),
}

struct Change {
    at: Place,
    making: Making,
    claim: Option<Claim>,
    reply: SyncSender<Result<Changed>>,
}

impl Change {
    /// Everybody it is about.
    fn persons(&self) -> impl Iterator<Item = (RandomId, Digest)> {
        let to = match &self.making {
            Making::Edit(_) | Making::Looking(_) => None,
            Making::Passage(_, to) => Some(to),
        };
        let places = std::iter::once(&self.at).chain(to);
        places.map(|place| (place.collection.id, place.digest))
    }
}

/// A change that was planned and waits for the disk.
struct Pending {
    planned: Planned,
    reply: SyncSender<Result<Changed>>,
}

/// The writer's end for everyone else.
pub(crate) struct Writer {
    queue: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub fn start(vault: Arc<Storage>, census: Arc<Census>) -> Result<Self> {
        let (queue, jobs) = sync_channel(QUEUE_MAX);
        let thread = std::thread::Builder::new()
            .name("likeness-writer".to_owned())
            .spawn(move || run(&vault, &census, &jobs))
            .map_err(|e| OperatorError::Store {
                doing: "starting the writer",
                detail: e.to_string(),
            })?;
        Ok(Self {
            queue: Some(queue),
            thread: Some(thread),
        })
    }

    /// Changes one person, and returns what is kept now. When this returns `Ok`, the change is
    /// durable and every later search sees it.
    pub fn change(
        &self,
        collection: &Arc<Collection>,
        digest: Digest,
        claim: Option<Claim>,
        edit: impl FnOnce(Current) -> Result<Edit> + Send + 'static,
    ) -> Result<Changed> {
        let collection = Arc::clone(collection);
        let making = Making::Edit(Box::new(edit));
        let outcome = self.submit(Place { collection, digest }, making, claim)?;
        outcome.recv().map_err(|_| OperatorError::Poisoned)?
    }

    /// As [`Self::change`], for an edit that looks at the index: it finds there what every change before it
    /// made, and none after it was begun. It costs the syncs of a group of its own.
    pub fn change_looking(
        &self,
        collection: &Arc<Collection>,
        digest: Digest,
        claim: Option<Claim>,
        edit: impl FnOnce(Current) -> Result<Edit> + Send + 'static,
    ) -> Result<Changed> {
        let collection = Arc::clone(collection);
        let making = Making::Looking(Box::new(edit));
        let outcome = self.submit(Place { collection, digest }, making, claim)?;
        outcome.recv().map_err(|_| OperatorError::Poisoned)?
    }

    /// As [`Self::change`], without waiting.
    pub fn begin(
        &self,
        at: Place,
        edit: impl FnOnce(Current) -> Result<Edit> + Send + 'static,
    ) -> Result<Outcome> {
        self.submit(at, Making::Edit(Box::new(edit)), None)
    }

    /// Copies or renames: one change of two places, which are not the same. Whoever is at the second is
    /// a refusal.
    pub fn pass(
        &self,
        at: Place,
        to: Place,
        claim: Option<Claim>,
        passage: impl FnOnce(Current) -> Result<Passage> + Send + 'static,
    ) -> Result<Changed> {
        debug_assert!(at.collection.id != to.collection.id || at.digest != to.digest);
        let outcome = self.submit(at, Making::Passage(Box::new(passage), to), claim)?;
        outcome.recv().map_err(|_| OperatorError::Poisoned)?
    }

    fn submit(&self, at: Place, making: Making, claim: Option<Claim>) -> Result<Outcome> {
        let (reply, outcome) = sync_channel(1);
        self.send(Job::Change(Change {
            at,
            making,
            claim,
            reply,
        }))?;
        Ok(outcome)
    }

    /// Runs something while no change runs.
    pub fn alone<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Storage) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, outcome) = sync_channel(1);
        // The caller may have gone; what was done stays.
        self.send(Job::Alone(Box::new(move |vault| drop(reply.send(work(vault))))))?;
        outcome.recv().map_err(|_| OperatorError::Poisoned)?
    }

    fn send(&self, job: Job) -> Result<()> {
        let queue = self.queue.as_ref().expect("taken only when the writer goes");
        // The thread ends early only by a panic; what it had not acknowledged is then unknown.
        queue.send(job).map_err(|_| OperatorError::Poisoned.into())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // A panic in the writer was already answered with `Poisoned`.
            let _ = thread.join();
        }
    }
}

fn run(vault: &Storage, census: &Census, jobs: &Receiver<Job>) {
    let mut waiting = VecDeque::new();
    let mut metered = Instant::now();
    loop {
        if metered.elapsed() >= WRITE_EVERY {
            write_meter(vault);
            metered = Instant::now();
        }
        if waiting.is_empty() {
            wipe_stack();
            match jobs.recv_timeout(WRITE_EVERY) {
                Ok(job) => waiting.push_back(job),
                Err(RecvTimeoutError::Timeout) => {
                    complete(vault);
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    write_meter(vault);
                    return complete(vault);
                }
            }
        }
        waiting.extend(
            jobs.try_iter()
                .take(CHANGES_PER_COMMIT_MAX.saturating_sub(waiting.len())),
        );
        commit(vault, census, next_group(&mut waiting));
        if matches!(waiting.front(), Some(Job::Alone(_)))
            && let Some(Job::Alone(work)) = waiting.pop_front()
        {
            work(vault);
        }
    }
}

/// Writes what no commit waits for, while there is none.
fn complete(vault: &Storage) {
    if let Err(error) = vault.write_owner_rows().and_then(|()| vault.settle_turn()) {
        tracing::error!(%error, "what completes the last commit could not be written");
    }
}

fn write_meter(vault: &Storage) {
    if let Err(error) = vault.limiter.write_meter() {
        tracing::error!(%error, "counters of comparisons could not be written");
    }
}

/// The longest run of waiting changes in which neither a person nor a token appears twice, and only the
/// first looks at the index: a change must find on disk, and there, what the ones before it made.
fn next_group(waiting: &mut VecDeque<Job>) -> Vec<Change> {
    let (mut seen, mut claims) = (HashSet::new(), HashSet::new());
    let together = waiting.iter().take_while(|job| match job {
        Job::Change(Change {
            making: Making::Looking(_),
            ..
        }) if !seen.is_empty() => false,
        Job::Change(change) => {
            change.persons().all(|person| seen.insert(person))
                && change.claim.as_ref().is_none_or(|claim| claims.insert(claim.key))
        }
        Job::Alone(_) => false,
    });
    let together = together.count();
    let changes = waiting.drain(..together).filter_map(|job| match job {
        Job::Change(change) => Some(change),
        Job::Alone(_) => None,
    });
    changes.collect()
}

fn commit(vault: &Storage, census: &Census, group: Vec<Change>) {
    let (mut plan, mut rooms) = (Plan::default(), Rooms::of(census));
    let mut pending = Vec::with_capacity(group.len());
    for Change {
        at,
        making,
        claim,
        reply,
    } in group
    {
        // ORDER: on this thread, after every change before it is durable: of two calls under one token the
        // second finds what the first did.
        match vault.tokens.done_before(claim.as_ref()) {
            Ok(None) => {}
            // The caller may have gone; nothing was changed for it.
            known => {
                let _ = reply.send(known.map(|done| Changed {
                    done,
                    ..Changed::default()
                }));
                continue;
            }
        }
        // A plan of its own: of a change that is refused half-way nothing may be written.
        let (claim, mut own) = (claim.as_ref(), Plan::default());
        let planned = match making {
            Making::Edit(edit) | Making::Looking(edit) => {
                plan_change(vault, &mut own, &mut rooms, at, claim, edit)
            }
            Making::Passage(passage, to) => {
                plan_passage(vault, &mut own, &mut rooms, (at, to), claim, passage).map(Some)
            }
        };
        match planned {
            Ok(Some(planned)) => {
                plan.append(own);
                pending.push(Pending { planned, reply });
            }
            // The caller may have gone; nothing was changed for it.
            refused => {
                vault.forgo(own);
                let _ = reply.send(refused.map(|_| Changed::default()));
            }
        }
    }
    if plan.is_empty() {
        return;
    }
    let removes = pending.iter().any(|change| change.planned.ticket.is_some());
    // ORDER: store before index. A crash between loses nothing (the index is rebuilt); the other
    // order could match a person who was never saved.
    let mut outcome = vault.commit(plan);
    if outcome.is_ok() {
        for Pending { planned, .. } in &pending {
            show(planned);
        }
        rooms.grown().for_each(|account| census.warn_once(&account));
        // ORDER: the anchor after the bits in memory are overwritten, and before anybody hears of it.
        if removes {
            outcome = vault.advance_anchor();
        }
    }
    for Pending { planned, reply } in pending {
        let Planned { person, ticket, .. } = planned;
        let answer = match &outcome {
            Ok(()) => Ok(Changed {
                done: None,
                person,
                receipt: ticket.and_then(|ticket| ticket.get().cloned()),
            }),
            Err(error) => Err(same_for_everyone(error)),
        };
        // The caller may have gone; the change stays.
        drop(reply.send(answer));
    }
}

fn show(planned: &Planned) {
    let Place { collection, digest } = &planned.at;
    let mut people = collection.people.write();
    if let Some(left) = planned.left {
        people.remove(left);
    }
    match &planned.person {
        Some(person) => people.set(*digest, person, &collection.scheme),
        None => people.remove(*digest),
    }
}

/// A failed group fails for each of its callers; the first error speaks for all.
fn same_for_everyone(error: &Error) -> Error {
    match error {
        Error::Operator(OperatorError::Poisoned) => OperatorError::Poisoned,
        Error::Operator(OperatorError::NoDescriptors { expected }) => {
            OperatorError::NoDescriptors { expected: *expected }
        }
        Error::Operator(OperatorError::Store { doing, detail }) => OperatorError::Store {
            doing,
            detail: detail.clone(),
        },
        other => OperatorError::Store {
            doing: "writing a group of changes",
            detail: other.to_string(),
        },
    }
    .into()
}
