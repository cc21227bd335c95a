//! What a connection has shown so far, and what was decided about it: shared by its transport, its calls and the roster.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use likeness_engine::Account;
use tokio::sync::Notify;
use tokio::time::Instant;
use tonic::codegen::http::Extensions;

use super::closed::Closed;
use super::speed::{Bucket, Speed};
use crate::config::LimitArgs;

/// How long a connection stays after its last call: with the time that its end takes, less than a second.
const REST_MAX: Duration = Duration::from_millis(500);
/// From one look to the next of a connection that waits for its turn.
const TURN: Duration = Duration::from_millis(10);

/// How long a connection may go without a call.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// From its beginning to its first call.
    pub first_call: Duration,
    /// From one call to the next, where none but calls for health were made.
    pub keyless: Duration,
    /// From its beginning to its end, whatever it does.
    pub age: Duration,
    /// From the end of a call to the connection's end, where none follows. What HTTP/2 and TLS read and wrote last stays
    /// in their buffers for as long as the connection lives, and no layer can reach it; calls for health say nothing
    /// that matters.
    pub rest: Duration,
}

impl Times {
    /// As the operator limits them.
    pub fn of(limits: &LimitArgs) -> Self {
        Self {
            first_call: limits.stall_time_max(),
            keyless: Duration::from_secs(limits.keyless_idle_seconds),
            age: Duration::from_secs(limits.connection_seconds),
            rest: REST_MAX,
        }
    }
}

/// What a connection tells of itself to the list of all connections, and asks of it.
pub trait ConnectedClients: Send + Sync {
    /// A connection was closed for this reason.
    fn note(&self, closed: Closed);

    /// Whether a newcomer from this address might find no place, or lose it again before it can show a key.
    fn is_pressed(&self, address: SocketAddr) -> bool;

    /// A valid key of this account was shown on it.
    fn keyed(&self, id: u64, account: &Account);

    /// It asked for health.
    fn asked_health(&self, id: u64);
}

/// A connection, in the extensions of its requests.
#[derive(Clone)]
pub struct Link(Arc<Shared>);

struct Shared {
    id: u64,
    address: SocketAddr,
    clients: Arc<dyn ConnectedClients>,
    began: Instant,
    speed: Speed,
    /// Beginnings of all connections of its address.
    beginning: Arc<Bucket>,
    /// A valid key was shown on it.
    keyed: AtomicBool,
    /// It asked for health.
    asked_health: AtomicBool,
    /// Calls under way, and those of them that ask for health.
    open: AtomicU32,
    open_health: AtomicU32,
    /// When the last call began or ended, in milliseconds from the beginning; 0 before the first.
    used_ms: AtomicU64,
    /// The same of calls for anything but health.
    called_ms: AtomicU64,
    /// It is to end once its calls are over; at once; it has ended.
    ending: AtomicBool,
    cut: AtomicBool,
    gone: AtomicBool,
    /// One of these has changed.
    asked: Notify,
    /// Of the transport.
    reader: Mutex<Option<Waker>>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({})", self.0.id)
    }
}

impl Link {
    pub(super) fn new(
        id: u64,
        address: SocketAddr,
        clients: Arc<dyn ConnectedClients>,
        speed: Speed,
        beginning: Arc<Bucket>,
    ) -> Self {
        Self(Arc::new(Shared {
            id,
            address,
            clients,
            began: Instant::now(),
            speed,
            beginning,
            keyed: AtomicBool::new(false),
            asked_health: AtomicBool::new(false),
            open: AtomicU32::new(0),
            open_health: AtomicU32::new(0),
            used_ms: AtomicU64::new(0),
            called_ms: AtomicU64::new(0),
            ending: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            asked: Notify::new(),
            reader: Mutex::new(None),
        }))
    }

    /// The connection that a request came on.
    pub fn of(extensions: &Extensions) -> Option<&Self> {
        extensions.get()
    }

    /// Where it comes from.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// A valid key of this account was shown on it.
    pub fn show_key(&self, account: &Account) {
        if self.0.keyed.swap(true, Ordering::Relaxed) {
            return;
        }
        self.0.clients.keyed(self.0.id, account);
        self.wake_reader();
    }

    /// A call begins on it, which ends with what is answered.
    pub fn begin(&self, asks_health: bool) -> OpenCall {
        let is_first = self.used(asks_health);
        self.0.open.fetch_add(1, Ordering::Relaxed);
        if asks_health {
            self.0.open_health.fetch_add(1, Ordering::Relaxed);
            if !self.is_keyed() && !self.0.asked_health.swap(true, Ordering::Relaxed) {
                self.0.clients.asked_health(self.0.id);
            }
        } else if is_first {
            // From here on it may stay for another time.
            self.0.asked.notify_one();
        }
        OpenCall {
            link: self.clone(),
            asks_health,
        }
    }

    /// Answers whether it is the first call for anything but health.
    fn used(&self, by_health: bool) -> bool {
        let now = u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.used_ms.store(now.max(1), Ordering::Relaxed);
        !by_health && self.0.called_ms.swap(now.max(1), Ordering::Relaxed) == 0
    }

    pub(super) fn is_keyed(&self) -> bool {
        self.0.keyed.load(Ordering::Relaxed)
    }

    pub(super) fn speed(&self) -> &Speed {
        &self.0.speed
    }

    /// Whether a call is under way.
    pub(super) fn is_open(&self) -> bool {
        self.0.open.load(Ordering::Relaxed) > 0
    }

    /// Whether one is that is not for health.
    fn is_called(&self) -> bool {
        self.0.open.load(Ordering::Relaxed) > self.0.open_health.load(Ordering::Relaxed)
    }

    /// When the last call began or ended, or the connection itself.
    pub(super) fn last_used(&self) -> Instant {
        self.0.began + Duration::from_millis(self.0.used_ms.load(Ordering::Relaxed))
    }

    /// Asks it to end once its calls are over.
    pub fn ask_to_end(&self) {
        self.0.ending.store(true, Ordering::Release);
        self.0.asked.notify_one();
    }

    /// Ends it now, whatever it does.
    pub fn cut(&self) {
        self.0.cut.store(true, Ordering::Release);
        self.0.asked.notify_one();
        self.wake_reader();
    }

    pub(super) fn is_cut(&self) -> bool {
        self.0.cut.load(Ordering::Acquire)
    }

    /// The transport is closed.
    pub(super) fn note_gone(&self) {
        self.0.gone.store(true, Ordering::Release);
        self.0.asked.notify_one();
    }

    /// Wakes this reader when the connection is cut, or may be read faster.
    pub(super) fn wait(&self, context: &Context<'_>) {
        let mut reader = lock(&self.0.reader);
        if !reader
            .as_ref()
            .is_some_and(|waker| waker.will_wake(context.waker()))
        {
            *reader = Some(context.waker().clone());
        }
    }

    fn wake_reader(&self) {
        if let Some(waker) = lock(&self.0.reader).take() {
            waker.wake();
        }
    }

    fn is_over(&self) -> bool {
        [&self.0.ending, &self.0.cut, &self.0.gone]
            .iter()
            .any(|flag| flag.load(Ordering::Acquire))
    }

    /// Waits while as many connections of its address have begun as may in a second.
    pub async fn until_its_turn(&self) {
        while !self.0.beginning.take() {
            tokio::time::sleep(TURN).await;
        }
    }

    /// Waits until it is not wanted any more.
    pub async fn until_unwanted(&self) {
        while !self.is_over() {
            self.0.asked.notified().await;
        }
    }

    /// Waits until it is to end: it was asked to, has gone, has had no call for too long, or is too old.
    pub async fn until_over(&self, times: Times) {
        while !self.is_over() {
            let (due, _) = self.due(times);
            if tokio::time::timeout_at(due, self.0.asked.notified())
                .await
                .is_ok()
            {
                continue;
            }
            // A call may have come meanwhile.
            let (due, reason) = self.due(times);
            if due <= Instant::now() {
                self.0.clients.note(reason);
                return;
            }
        }
    }

    /// When it is to end, as things are, and why.
    fn due(&self, times: Times) -> (Instant, Closed) {
        let used = self.0.used_ms.load(Ordering::Relaxed);
        let called = self.0.called_ms.load(Ordering::Relaxed);
        // Of what is under way it is looked again then: a call that ends wakes nothing.
        let (idle, reason) = if used == 0 {
            (self.0.began + times.first_call, Closed::Idle)
        } else if self.is_called() {
            (Instant::now() + times.rest, Closed::Rested)
        } else if called > 0 {
            let since = self.0.began + Duration::from_millis(called);
            // A client that could not come back keeps what it has, for a time.
            match self.is_keyed() && self.0.clients.is_pressed(self.0.address) {
                true => (
                    (Instant::now() + times.rest).min(since + times.keyless),
                    Closed::Rested,
                ),
                false => (since + times.rest, Closed::Rested),
            }
        } else if self.is_open() {
            (Instant::now() + times.keyless, Closed::Idle)
        } else {
            (self.last_used() + times.keyless, Closed::Idle)
        };
        let age = self.0.began + times.age;
        if age < idle {
            (age, Closed::Age)
        } else {
            (idle, reason)
        }
    }

    /// Waits until no call but one for health is under way for so long.
    ///
    /// Counted in looks, not by the clock: a process that was stopped meanwhile has not read what its client sent.
    pub async fn until_quiet(&self, grace: Duration) {
        const LOOKS: u32 = 4;
        let mut quiet = 0;
        while quiet < LOOKS {
            tokio::time::sleep(grace / LOOKS).await;
            quiet = if self.is_called() { 0 } else { quiet + 1 };
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A call that is under way on a connection.
#[derive(Debug)]
pub struct OpenCall {
    link: Link,
    asks_health: bool,
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.link.used(self.asks_health);
        self.link.0.open.fetch_sub(1, Ordering::Relaxed);
        if self.asks_health {
            self.link.0.open_health.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
