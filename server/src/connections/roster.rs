//! The open connections, and which of them is displaced when all places are taken.
//!
//! A connection without a valid key (keyless) costs its client nothing, so these are displaced: first those of the
//! address that has the most of them, and of these the oldest. Part of their places is for addresses with a valid key
//! within the last hour; a few of those that ask for health stay. A connection with a key gives way only to one of
//! the first newcomers, only while no call is under way on it, and first where an account has the most.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use likeness_engine::Account;
use tokio::time::Instant;

use super::LEAVING_MAX;
use super::link::Link;
use super::speed::{self, Bucket, Speed};

/// Of all places, this part is for newcomers even where connections with keys have the rest.
const NEWCOMERS_PART: usize = 16;
/// Keyless connections that ask for health and stay while others give way: in all, and of an address.
const HEALTH_MAX: usize = 16;
const HEALTH_PER_ADDRESS_MAX: usize = 2;
/// So long an address is known after a valid key came from it.
const KNOWN: Duration = Duration::from_secs(3600);
/// Addresses that are known at once.
const KNOWN_MAX: usize = 4096;
/// Addresses whose speed is remembered, beyond those that are connected.
const ADDRESSES_MAX: usize = 4096;

/// Why a connection was closed, or not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// There are as many as may be, and none of them gives way.
    Full,
    /// It had shown no valid key, or none of its calls was under way, and gave way to another.
    Displaced,
    /// Its TLS handshake failed, or took too long.
    Handshake,
    /// It did not begin, or took no bytes.
    Stalled,
    /// It had no call for too long.
    Idle,
    /// It was as old as one may be.
    Age,
    /// Its calls were over: its buffers, which hold what was said last, go with it.
    Rested,
}

impl Closed {
    const ALL: [Self; 7] = [
        Self::Full,
        Self::Displaced,
        Self::Handshake,
        Self::Stalled,
        Self::Idle,
        Self::Age,
        Self::Rested,
    ];

    /// Its label.
    const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Displaced => "displaced",
            Self::Handshake => "handshake",
            Self::Stalled => "stalled",
            Self::Idle => "idle",
            Self::Age => "age",
            Self::Rested => "rested",
        }
    }
}

/// How many connections there may be.
#[derive(Debug, Clone, Copy)]
pub struct Most {
    /// In all.
    pub connections: usize,
    /// Of them, keyless ones.
    pub keyless: usize,
    /// Of them, one address's.
    pub keyless_per_address: usize,
    /// New ones of one address that begin in a second.
    pub new_per_second: u32,
}

/// Where a connection comes from: an IPv4 address, or the network of an IPv6 one, of which a client has them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Origin(IpAddr);

impl From<SocketAddr> for Origin {
    fn from(address: SocketAddr) -> Self {
        Self(match address.ip().to_canonical() {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => {
                let network = address.to_bits() >> 64 << 64;
                Ipv6Addr::from_bits(network).into()
            }
        })
    }
}

/// What is remembered of an address.
struct Address {
    /// Its keyless connections that give way, by when they came.
    keyless: BTreeSet<u64>,
    /// Those that stay, because they ask for health.
    health: usize,
    beginning: Arc<Bucket>,
    frames: Arc<Bucket>,
}

struct Keyless {
    link: Link,
    origin: Origin,
    /// A valid key came from its address lately.
    is_known: bool,
    /// It asks for health, and stays.
    stays: bool,
}

struct Keyed {
    link: Link,
    origin: Origin,
    account: Account,
}

#[derive(Default)]
struct State {
    next: u64,
    keyless: BTreeMap<u64, Keyless>,
    keyed: HashMap<u64, Keyed>,
    addresses: HashMap<Origin, Address>,
    known: HashMap<Origin, Instant>,
    /// Told to go, and not gone yet.
    leaving: usize,
    is_closing: bool,
}

/// Who is connected.
#[derive(Clone)]
pub struct Roster(Arc<Shared>);

struct Shared {
    most: Most,
    state: Mutex<State>,
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

    fn lock(&self) -> MutexGuard<'_, State> {
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

    /// Whether a newcomer from this address might find no place, or lose it again before it can show a key.
    pub(super) fn is_pressed(&self, address: SocketAddr) -> bool {
        let (most, state) = (self.most(), self.lock());
        let own = state.addresses.get(&Origin::from(address));
        own.is_some_and(|own| own.keyless.len() >= most.keyless_per_address.div_ceil(2))
            || state.size() >= most.connections - most.connections / 4
            || state.leaving >= LEAVING_MAX / 2
    }

    /// A place for a connection from this address; another may have to give way.
    pub fn admit(&self, address: SocketAddr) -> Result<Seat, Closed> {
        let mut state = self.lock();
        let (id, link) = state
            .admit(self, address)
            .inspect_err(|closed| self.note(*closed))?;
        Ok(Seat {
            link,
            id,
            roster: self.clone(),
        })
    }

    /// A valid key of this account was shown on it.
    pub(super) fn keyed(&self, id: u64, account: &Account) {
        self.lock().keyed(id, account);
    }

    /// It asked for health.
    pub(super) fn asked_health(&self, id: u64) {
        self.lock().asked_health(id);
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

impl State {
    fn size(&self) -> usize {
        self.keyless.len() + self.keyed.len()
    }

    fn admit(&mut self, roster: &Roster, address: SocketAddr) -> Result<(u64, Link), Closed> {
        let (most, origin, now) = (roster.most(), Origin::from(address), Instant::now());
        if self.is_closing || self.leaving >= LEAVING_MAX {
            return Err(Closed::Full);
        }
        let is_known = self
            .known
            .get(&origin)
            .is_some_and(|seen| now.saturating_duration_since(*seen) < KNOWN);
        self.make_room(roster, origin, is_known)?;
        let id = self.next;
        self.next += 1;
        let of_the_address = self.address(origin, most);
        of_the_address.keyless.insert(id);
        let speed = Speed::new(Arc::clone(&of_the_address.frames));
        let beginning = Arc::clone(&of_the_address.beginning);
        let link = Link::new(id, address, roster.clone(), speed, beginning);
        let keyless = Keyless {
            link: link.clone(),
            origin,
            is_known,
            stays: false,
        };
        self.keyless.insert(id, keyless);
        Ok((id, link))
    }

    fn address(&mut self, origin: Origin, most: Most) -> &mut Address {
        if self.addresses.len() >= ADDRESSES_MAX + most.connections && !self.addresses.contains_key(&origin) {
            self.addresses.retain(|_, address| address.is_connected());
        }
        let per_second = f64::from(most.new_per_second);
        self.addresses.entry(origin).or_insert_with(|| Address {
            keyless: BTreeSet::new(),
            health: 0,
            beginning: Arc::new(Bucket::new(per_second, per_second)),
            frames: speed::of_an_address(),
        })
    }

    /// Has others give way, where there are as many as may be.
    fn make_room(&mut self, roster: &Roster, origin: Origin, is_known: bool) -> Result<(), Closed> {
        let most = roster.most();
        let own = self.addresses.get(&origin).map(|address| &address.keyless);
        if own.is_some_and(|own| own.len() >= most.keyless_per_address)
            && let Some(oldest) = own.and_then(BTreeSet::first).copied()
        {
            self.displace_keyless(roster, oldest);
        }
        // Half of the places are for addresses from which a key came.
        let kept = most.keyless.div_ceil(2);
        let of_its_kind = if is_known {
            kept
        } else {
            (most.keyless - most.keyless / 2).max(1)
        };
        let like_it = self
            .keyless
            .values()
            .filter(|other| other.is_known == is_known && !other.stays);
        if like_it.count() >= of_its_kind {
            let victim = self.keyless_victim(Some(is_known)).ok_or(Closed::Full)?;
            self.displace_keyless(roster, victim);
        }
        if self.size() < most.connections {
            return Ok(());
        }
        if self.keyless.len() < most.connections / NEWCOMERS_PART
            && let Some(victim) = self.keyed_victim()
        {
            self.displace_keyed(roster, victim);
            return Ok(());
        }
        let victim = self
            .keyless_victim(Some(false))
            .or_else(|| self.keyless_victim(None))
            .ok_or(Closed::Full)?;
        self.displace_keyless(roster, victim);
        Ok(())
    }

    /// The oldest of the address that has the most of them, among those that are known, or are not.
    fn keyless_victim(&self, is_known: Option<bool>) -> Option<u64> {
        let fits = |id: &u64| {
            let keyless = self.keyless.get(id);
            keyless.is_some_and(|keyless| is_known.is_none_or(|is_known| keyless.is_known == is_known))
        };
        self.addresses
            .values()
            .filter_map(|address| {
                let oldest = address.keyless.iter().find(|id| fits(id))?;
                Some((address.keyless.len(), Reverse(*oldest)))
            })
            .max()
            .map(|(_, Reverse(oldest))| oldest)
    }

    /// Of the account that has the most without a call under way, the one that was used longest ago.
    fn keyed_victim(&self) -> Option<u64> {
        let mut by_account: HashMap<&Account, (usize, Reverse<Instant>, u64)> = HashMap::new();
        for (id, keyed) in self.keyed.iter().filter(|(_, keyed)| !keyed.link.is_open()) {
            let used = Reverse(keyed.link.last_used());
            let of_account = by_account.entry(&keyed.account).or_insert((0, used, *id));
            of_account.0 += 1;
            if used >= of_account.1 {
                (of_account.1, of_account.2) = (used, *id);
            }
        }
        by_account.into_values().max().map(|(_, _, id)| id)
    }

    fn displace_keyless(&mut self, roster: &Roster, id: u64) {
        let Some(keyless) = self.keyless.remove(&id) else {
            return;
        };
        self.forget_keyless(id, &keyless);
        keyless.link.cut();
        self.leaving += 1;
        roster.note(Closed::Displaced);
    }

    fn displace_keyed(&mut self, roster: &Roster, id: u64) {
        let Some(keyed) = self.keyed.remove(&id) else {
            return;
        };
        self.know(keyed.origin);
        keyed.link.ask_to_end();
        self.leaving += 1;
        roster.note(Closed::Displaced);
    }

    fn forget_keyless(&mut self, id: u64, keyless: &Keyless) {
        let Some(address) = self.addresses.get_mut(&keyless.origin) else {
            return;
        };
        address.keyless.remove(&id);
        if keyless.stays {
            address.health = address.health.saturating_sub(1);
        }
    }

    fn keyed(&mut self, id: u64, account: &Account) {
        // One that was displaced has no place any more.
        let Some(keyless) = self.keyless.remove(&id) else {
            return;
        };
        self.forget_keyless(id, &keyless);
        self.know(keyless.origin);
        let keyed = Keyed {
            link: keyless.link,
            origin: keyless.origin,
            account: account.clone(),
        };
        self.keyed.insert(id, keyed);
    }

    fn asked_health(&mut self, id: u64) {
        let staying = self.keyless.values().filter(|keyless| keyless.stays).count();
        let Some(keyless) = self.keyless.get_mut(&id).filter(|_| staying < HEALTH_MAX) else {
            return;
        };
        let Some(address) = self.addresses.get_mut(&keyless.origin) else {
            return;
        };
        if address.health < HEALTH_PER_ADDRESS_MAX {
            address.health += 1;
            address.keyless.remove(&id);
            keyless.stays = true;
        }
    }

    /// A valid key came from there.
    fn know(&mut self, origin: Origin) {
        let now = Instant::now();
        if self.known.len() >= KNOWN_MAX && !self.known.contains_key(&origin) {
            self.known
                .retain(|_, seen| now.saturating_duration_since(*seen) < KNOWN);
            if self.known.len() >= KNOWN_MAX {
                let longest_ago = self.known.iter().min_by_key(|(_, seen)| **seen);
                if let Some(origin) = longest_ago.map(|(origin, _)| *origin) {
                    self.known.remove(&origin);
                }
            }
        }
        self.known.insert(origin, now);
    }

    fn gone(&mut self, id: u64) {
        if let Some(keyless) = self.keyless.remove(&id) {
            self.forget_keyless(id, &keyless);
        } else if let Some(keyed) = self.keyed.remove(&id) {
            // It may have been used for hours.
            self.know(keyed.origin);
        } else {
            self.leaving = self.leaving.saturating_sub(1);
        }
    }
}

impl Address {
    fn is_connected(&self) -> bool {
        !self.keyless.is_empty() || self.health > 0 || !self.beginning.is_full() || !self.frames.is_full()
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn an_ipv6_network_is_one_address() {
        let origin = |text: &str| Origin::from(text.parse::<SocketAddr>().expect("an address"));
        assert_eq!(origin("[2001:db8::1]:1"), origin("[2001:db8::ffff:2]:2"));
        assert_ne!(origin("[2001:db8::1]:1"), origin("[2001:db8:0:1::1]:1"));
        assert_eq!(origin("[::ffff:192.0.2.1]:1"), origin("192.0.2.1:2"));
    }
}
