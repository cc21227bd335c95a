//! Who is connected, and who goes when there are as many as may be.
//!
//! A connection on which no valid key was shown (keyless) costs its client nothing, so these give way: first those of
//! the address that has the most of them, and of these the oldest. Part of their places is for addresses from which a
//! valid key came lately; a few of those that ask for health stay. A connection with a key gives way only to one of
//! the first newcomers, only while no call is under way on it, and first where an account has the most.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use likeness_engine::Account;

use super::clients::{Clients, LEAVING_MAX, Most};
use super::closed::Closed;
use super::link::{ConnectedClients, Link};

/// Who is connected.
#[derive(Clone)]
pub struct Roster(Arc<Shared>);

struct Shared {
    most: Most,
    state: Mutex<Clients>,
    closed: [AtomicU64; Closed::ALL.len()],
    slowed: AtomicU64,
}

/// A place on the roster, given back on drop.
pub struct Seat {
    pub(super) link: Link,
    id: u64,
    roster: Roster,
}

impl Seat {
    /// Its connection was closed for this reason.
    pub fn note(&self, closed: Closed) {
        self.roster.note(closed);
    }

    /// Its connection is read slowly for a while.
    pub(super) fn note_slowed(&self) {
        self.roster.0.slowed.fetch_add(1, Ordering::Relaxed);
    }

    /// Its connection, for whoever decides about it.
    pub fn link(&self) -> &Link {
        &self.link
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.link.note_gone();
        self.roster.lock().gone(self.id);
    }
}

impl Roster {
    /// Of nobody yet.
    pub fn new(most: Most) -> Self {
        Self(Arc::new(Shared {
            most,
            state: Mutex::default(),
            closed: Default::default(),
            slowed: AtomicU64::new(0),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Clients> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection was closed for this reason.
    pub fn note(&self, closed: Closed) {
        self.0.closed[closed as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Times that a connection was read slowly.
    pub fn slowed(&self) -> u64 {
        self.0.slowed.load(Ordering::Relaxed)
    }

    /// How many were closed, by reason.
    pub fn closed(&self) -> [(&'static str, u64); Closed::ALL.len()] {
        Closed::ALL.map(|closed| {
            let count = self.0.closed[closed as usize].load(Ordering::Relaxed);
            (closed.name(), count)
        })
    }

    /// How many there may be.
    pub fn most(&self) -> Most {
        self.0.most
    }

    /// How many there are, and how many of them are keyless.
    pub fn size(&self) -> (usize, usize) {
        let state = self.lock();
        (state.size(), state.keyless.len())
    }

    /// Whether so many were told to go that newcomers should wait a moment: they are closed as fast as tasks run.
    pub fn is_crowded(&self) -> bool {
        self.lock().leaving >= LEAVING_MAX / 2
    }

    /// A place for a connection from this address; another may have to give way.
    pub fn admit(&self, address: SocketAddr) -> Result<Seat, Closed> {
        let clients: Arc<dyn ConnectedClients> = Arc::new(self.clone());
        let (id, link) = self
            .lock()
            .admit(&clients, self.most(), address)
            .inspect_err(|closed| self.note(*closed))?;
        Ok(Seat {
            link,
            id,
            roster: self.clone(),
        })
    }

    /// Asks all of them to end once their calls are over.
    pub fn close(&self) {
        let mut state = self.lock();
        state.is_closing = true;
        let keyless = state.keyless.values().map(|keyless| &keyless.link);
        for link in keyless.chain(state.keyed.values().map(|keyed| &keyed.link)) {
            link.ask_to_end();
        }
    }
}

impl ConnectedClients for Roster {
    fn note(&self, closed: Closed) {
        Self::note(self, closed);
    }

    fn is_pressed(&self, address: SocketAddr) -> bool {
        let (most, state) = (self.most(), self.lock());
        state.keyless_of(address) >= most.keyless_per_address.div_ceil(2)
            || state.size() >= most.connections - most.connections / 4
            || state.leaving >= LEAVING_MAX / 2
    }

    fn keyed(&self, id: u64, account: &Account) {
        self.lock().keyed(id, account);
    }

    fn asked_health(&self, id: u64) {
        self.lock().asked_health(id);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    const MOST: Most = Most {
        connections: 32,
        keyless: 16,
        keyless_per_address: 6,
        new_per_second: 1000,
    };

    fn from(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 4000))
    }

    fn account(name: &str) -> Account {
        Account::parse(name).expect("a name")
    }

    fn admit(roster: &Roster, last: u8) -> Seat {
        roster
            .admit(from(last))
            .unwrap_or_else(|closed| panic!("{closed:?}"))
    }

    #[tokio::test]
    async fn the_oldest_of_the_address_with_the_most_keyless_connections_gives_way() {
        let roster = Roster::new(MOST);
        let lone = admit(&roster, 1);
        let crowd: Vec<_> = (0..40).map(|number| admit(&roster, 2 + number % 4)).collect();
        assert!(!lone.link.is_cut(), "it is the only one of its address");
        assert!(crowd[..20].iter().all(|seat| seat.link.is_cut()));
        assert!(!crowd[39].link.is_cut());
        assert!(roster.size().0 <= MOST.keyless);
        drop(crowd);
        assert_eq!((roster.size(), roster.lock().leaving), ((1, 1), 0));
    }

    #[tokio::test]
    async fn one_address_has_so_many_keyless_connections_and_its_oldest_go() {
        let roster = Roster::new(MOST);
        let seats: Vec<_> = (0..10).map(|_| admit(&roster, 1)).collect();
        let cut: Vec<_> = seats.iter().map(|seat| seat.link.is_cut()).collect();
        assert_eq!(cut, [vec![true; 4], vec![false; 6]].concat());
    }

    #[tokio::test]
    async fn connections_with_keys_stay_and_an_idle_one_gives_way_to_the_first_newcomers_only() {
        let roster = Roster::new(MOST);
        let keyed: Vec<_> = (0..MOST.connections)
            .map(|number| {
                let seat = admit(&roster, 1);
                seat.link
                    .show_key(&account(if number < 3 { "small" } else { "large" }));
                seat
            })
            .collect();
        let busy = keyed[3].link.begin(false);
        let first = admit(&roster, 2);
        let second = admit(&roster, 2);
        let ended: Vec<_> = (0..keyed.len())
            .filter(|n| !roster.lock().keyed.contains_key(&(*n as u64)))
            .collect();
        assert_eq!(ended.len(), 2, "{ended:?}");
        assert!(
            ended.iter().all(|n| *n > 3),
            "the larger account's, without a call: {ended:?}"
        );
        // As many newcomers as have places kept: the next displaces one of them.
        let third = admit(&roster, 3);
        assert!(first.link.is_cut() && !second.link.is_cut() && !third.link.is_cut());
        assert_eq!(roster.size(), (MOST.connections, 2));
        drop(busy);
    }

    #[tokio::test]
    async fn half_of_the_keyless_places_are_for_addresses_from_which_a_key_came() {
        let roster = Roster::new(MOST);
        admit(&roster, 1).link.show_key(&account("known"));
        let known = admit(&roster, 1);
        let strangers: Vec<_> = (2..100).map(|last| roster.admit(from(last))).collect();
        assert!(!known.link.is_cut(), "strangers have the other half");
        drop(strangers);
    }

    #[tokio::test]
    async fn some_that_ask_for_health_stay_and_no_address_takes_all_of_these_places() {
        let roster = Roster::new(MOST);
        let watching: Vec<_> = (0..4).map(|_| admit(&roster, 1)).collect();
        for seat in &watching {
            drop(seat.link.begin(true));
        }
        let crowd: Vec<_> = (0..30).map(|number| admit(&roster, 1 + number % 3)).collect();
        let cut = watching.iter().filter(|seat| seat.link.is_cut()).count();
        assert_eq!(cut, 2, "two of an address stay");
        drop(crowd);
    }

    #[tokio::test]
    async fn so_many_connections_of_an_address_begin_in_a_second_and_the_next_wait() {
        let most = Most {
            new_per_second: 5,
            ..MOST
        };
        let (roster, began) = (Roster::new(most), Instant::now());
        let seats: Vec<_> = (0..6).map(|_| admit(&roster, 1)).collect();
        for seat in &seats[..5] {
            seat.link.until_its_turn().await;
        }
        assert!(
            began.elapsed() < Duration::from_millis(100),
            "{:?}",
            began.elapsed()
        );
        seats[5].link.until_its_turn().await;
        assert!(
            began.elapsed() > Duration::from_millis(150),
            "{:?}",
            began.elapsed()
        );
        let other = Instant::now();
        admit(&roster, 2).link.until_its_turn().await;
        assert!(
            other.elapsed() < Duration::from_millis(100),
            "{:?}",
            other.elapsed()
        );
    }
}
