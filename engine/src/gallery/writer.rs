//! Group commit: one thread takes the changes that have gathered, makes them durable with two or
//! three syncs in all, shows them to the index, and only then lets their callers go on.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::error::{Error, OperatorError, RequestError, Result};
use crate::gallery::codec::{self, Digest, Header};
use crate::gallery::collection::Collection;
use crate::gallery::erasures::Issued;
use crate::gallery::records::Family;
use crate::gallery::vault::{Asked, Found, NewRecord, Plan, Ticket, Vault};
use crate::person::Person;

/// Changes that may wait for the writer; more callers wait outside.
const QUEUE_MAX: usize = 1024;
/// Changes made durable together.
const GROUP_MAX: usize = 128;

/// What a change finds under the PersonID.
pub(crate) enum Current {
    Absent,
    Present(Person),
    Damaged,
}

/// What a change makes of it.
pub(crate) enum Edit {
    /// A person with everything that was there, and perhaps more.
    Keep(Person),
    /// A person with something else in the place of what was there: under a new key, but not in the
    /// erasure log, for what the log names would be missing as a whole person after an old copy of the
    /// data was put back.
    Replace(Person),
    /// A person without faces that were there.
    Reduce(Person, Asked),
    /// No person.
    Erase(Asked),
    /// What was there before; whoever asked learns the reason by another way.
    Leave,
}

/// What a change made.
pub(crate) struct Changed {
    /// Who is kept now.
    pub person: Option<Person>,
    /// For whatever was removed.
    pub receipt: Option<Issued>,
}

type EditFn = Box<dyn FnOnce(Current) -> Result<Edit> + Send>;

enum Job {
    Change(Change),
    /// Something that must not run beside any change.
    Alone(Box<dyn FnOnce(&Vault) + Send>),
}

struct Change {
    collection: Arc<Collection>,
    digest: Digest,
    edit: EditFn,
    /// It looks at the index, and must find there what every change before it made.
    looks: bool,
    reply: SyncSender<Result<Changed>>,
}

/// A change that was planned and waits for the disk.
struct Pending {
    change: (Arc<Collection>, Digest),
    person: Option<Person>,
    ticket: Option<Ticket>,
    reply: SyncSender<Result<Changed>>,
}

/// The writer's end for everyone else.
pub(crate) struct Writer {
    queue: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub fn start(vault: Arc<Vault>) -> Result<Self> {
        let (queue, jobs) = sync_channel(QUEUE_MAX);
        let thread = std::thread::Builder::new()
            .name("likeness-writer".to_owned())
            .spawn(move || run(&vault, &jobs))
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
        edit: impl FnOnce(Current) -> Result<Edit> + Send + 'static,
    ) -> Result<Changed> {
        self.submit(collection, digest, false, Box::new(edit))
    }

    /// As [`Self::change`], for an edit that looks at the index: it finds there what every change before it
    /// made, and none after it was begun. It costs the syncs of a group of its own.
    pub fn change_looking(
        &self,
        collection: &Arc<Collection>,
        digest: Digest,
        edit: impl FnOnce(Current) -> Result<Edit> + Send + 'static,
    ) -> Result<Changed> {
        self.submit(collection, digest, true, Box::new(edit))
    }

    fn submit(
        &self,
        collection: &Arc<Collection>,
        digest: Digest,
        looks: bool,
        edit: EditFn,
    ) -> Result<Changed> {
        let (reply, outcome) = sync_channel(1);
        let change = Change {
            collection: Arc::clone(collection),
            digest,
            edit,
            looks,
            reply,
        };
        self.send(Job::Change(change))?;
        outcome.recv().map_err(|_| OperatorError::Poisoned)?
    }

    /// Runs something while no change runs.
    pub fn alone<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Vault) -> Result<T> + Send + 'static,
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

fn run(vault: &Vault, jobs: &Receiver<Job>) {
    let mut waiting = VecDeque::new();
    loop {
        if waiting.is_empty() {
            match jobs.recv() {
                Ok(job) => waiting.push_back(job),
                Err(_) => return,
            }
        }
        waiting.extend(jobs.try_iter().take(GROUP_MAX.saturating_sub(waiting.len())));
        commit(vault, next_group(&mut waiting));
        if matches!(waiting.front(), Some(Job::Alone(_)))
            && let Some(Job::Alone(work)) = waiting.pop_front()
        {
            work(vault);
        }
    }
}

/// The longest run of waiting changes in which nobody appears twice, and only the first looks at the index:
/// a change must find on disk, and there, what the ones before it made.
fn next_group(waiting: &mut VecDeque<Job>) -> Vec<Change> {
    let mut seen = HashSet::new();
    let together = waiting.iter().take_while(|job| match job {
        Job::Change(change) if change.looks && !seen.is_empty() => false,
        Job::Change(change) => seen.insert((change.collection.id, change.digest)),
        Job::Alone(_) => false,
    });
    let together = together.count();
    let changes = waiting.drain(..together).filter_map(|job| match job {
        Job::Change(change) => Some(change),
        Job::Alone(_) => None,
    });
    changes.collect()
}

fn commit(vault: &Vault, group: Vec<Change>) {
    let mut plan = Plan::default();
    let mut pending = Vec::with_capacity(group.len());
    for Change {
        collection,
        digest,
        edit,
        looks: _,
        reply,
    } in group
    {
        match plan_change(vault, &mut plan, &collection, digest, edit) {
            Ok(Some((person, ticket))) => pending.push(Pending {
                change: (collection, digest),
                person,
                ticket,
                reply,
            }),
            // The caller may have gone; nothing was changed for it.
            Ok(None) => drop(reply.send(Ok(Changed {
                person: None,
                receipt: None,
            }))),
            Err(error) => drop(reply.send(Err(error))),
        }
    }
    if plan.is_empty() {
        return;
    }
    let removes = pending.iter().any(|change| change.ticket.is_some());
    // ORDER: store before index. A crash between loses nothing (the index is rebuilt); the other
    // order could match a person who was never saved.
    let mut outcome = vault.commit(plan);
    if outcome.is_ok() {
        for Pending { change, person, .. } in &pending {
            show(&change.0, change.1, person.as_ref());
        }
        // ORDER: the anchor after the bits in memory are overwritten, and before anybody hears of it.
        if removes {
            outcome = vault.advance_anchor();
        }
    }
    for Pending {
        person,
        ticket,
        reply,
        ..
    } in pending
    {
        let answer = match &outcome {
            Ok(()) => Ok(Changed {
                person,
                receipt: ticket.and_then(|ticket| ticket.get().cloned()),
            }),
            Err(error) => Err(same_for_everyone(error)),
        };
        // The caller may have gone; the change stays.
        drop(reply.send(answer));
    }
}

fn show(collection: &Collection, digest: Digest, person: Option<&Person>) {
    let mut people = collection.people.write();
    match person {
        Some(person) => people.set(digest, person, &collection.scheme),
        None => people.remove(digest),
    }
}

/// A failed group fails for each of its callers; the first error speaks for all.
fn same_for_everyone(error: &Error) -> Error {
    match error {
        Error::Operator(OperatorError::Poisoned) => OperatorError::Poisoned,
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

fn plan_change(
    vault: &Vault,
    plan: &mut Plan,
    collection: &Collection,
    digest: Digest,
    edit: EditFn,
) -> Result<Option<(Option<Person>, Option<Ticket>)>> {
    if collection.is_deleted() {
        return Err(RequestError::NoCollection.into());
    }
    let key = codec::person_key(collection.id, digest);
    let binding = collection.person_binding(vault.ring.deployment, digest);
    let (current, header) = read_current(vault, &key, collection, digest)?;
    if matches!(current, Current::Damaged) {
        collection.people.write().set_damaged(digest);
    }
    let (person, resealed) = match edit(current)? {
        Edit::Erase(mut asked) => {
            asked.generation = collection.next_generation();
            let ticket = plan.begin_erasure(asked);
            vault.plan_erase(plan, Family::Persons, key, header.as_ref())?;
            return Ok(Some((None, Some(ticket))));
        }
        Edit::Leave => return Ok(None),
        Edit::Keep(person) => (person, None),
        Edit::Replace(person) => (person, Some(None)),
        Edit::Reduce(person, asked) => (person, Some(Some(asked))),
    };
    let contents = codec::person_to_contents(&person);
    let record = NewRecord {
        family: Family::Persons,
        key,
        binding,
        scheme: collection.scheme.id(),
        contents: &contents,
    };
    let generation = collection.next_generation();
    let ticket = match (header, resealed) {
        (Some(header), Some(asked)) => {
            let asked = asked.map(|asked| Asked { generation, ..asked });
            vault.plan_reseal(plan, &record, &header, asked)?
        }
        (header, _) => {
            vault.plan_put(plan, &record, header.as_ref())?;
            None
        }
    };
    Ok(Some((Some(person), ticket)))
}

fn read_current(
    vault: &Vault,
    key: &[u8],
    collection: &Collection,
    digest: Digest,
) -> Result<(Current, Option<Header>)> {
    let binding = collection.person_binding(vault.ring.deployment, digest);
    Ok(match vault.read(Family::Persons, key, &binding)? {
        Found::Nothing => (Current::Absent, None),
        Found::Damaged(header) => (Current::Damaged, header),
        Found::Open { header, contents } => match codec::person_from_contents(&contents) {
            Ok(person) => (Current::Present(person), Some(header)),
            Err(codec::Unreadable) => (Current::Damaged, Some(header)),
        },
    })
}
