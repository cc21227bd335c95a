//! Which clients are connected, and which of them gives way to a newcomer.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use likeness_engine::Account;
use tokio::time::Instant;

use super::closed::Closed;
use super::link::{ConnectedClients, Link};
use super::speed::{self, Bucket, Speed};
use crate::config::LimitArgs;

/// Connections that were told to go and have not gone yet; while there are as many, no other is taken.
pub const LEAVING_MAX: usize = 256;
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

impl Most {
    /// As the operator limits them.
    pub fn of(limits: &LimitArgs) -> Self {
        Self {
            connections: limits.connections as usize,
            keyless: limits.keyless_connections.min(limits.connections) as usize,
            keyless_per_address: limits.keyless_connections_per_address as usize,
            new_per_second: limits.new_connections_per_second,
        }
    }
}

/// Where a connection comes from: an IPv4 address, or the network of an IPv6 one, of which a client has them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Origin(IpAddr);

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
pub struct Address {
    /// Its keyless connections that give way, by when they came.
    pub keyless: BTreeSet<u64>,
    /// Those that stay, because they ask for health.
    pub health: usize,
    pub beginning: Arc<Bucket>,
    pub frames: Arc<Bucket>,
}

/// A connection on which no valid key was shown.
pub struct Keyless {
    pub link: Link,
    pub origin: Origin,
    /// A valid key came from its address lately.
    pub is_known: bool,
    /// It asks for health, and stays.
    pub stays: bool,
}

/// A connection on which one was.
pub struct Keyed {
    pub link: Link,
    pub origin: Origin,
    pub account: Account,
}

/// Everything that is connected, and what is remembered of addresses.
#[derive(Default)]
pub struct Clients {
    pub next: u64,
    pub keyless: BTreeMap<u64, Keyless>,
    pub keyed: HashMap<u64, Keyed>,
    pub addresses: HashMap<Origin, Address>,
    pub known: HashMap<Origin, Instant>,
    /// Told to go, and not gone yet.
    pub leaving: usize,
    pub is_closing: bool,
}

impl Clients {
    /// Connections of an address that may have to give way.
    pub fn keyless_of(&self, address: SocketAddr) -> usize {
        let own = self.addresses.get(&Origin::from(address));
        own.map_or(0, |own| own.keyless.len())
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        self.keyless.len() + self.keyed.len()
    }

    /// A place for a connection from this address.
    ///
    /// # Errors
    /// There is none, and none gives way.
    pub fn admit(
        &mut self,
        clients: &Arc<dyn ConnectedClients>,
        most: Most,
        address: SocketAddr,
    ) -> Result<(u64, Link), Closed> {
        let (origin, now) = (Origin::from(address), Instant::now());
        if self.is_closing || self.leaving >= LEAVING_MAX {
            return Err(Closed::Full);
        }
        let is_known = self
            .known
            .get(&origin)
            .is_some_and(|seen| now.saturating_duration_since(*seen) < KNOWN);
        self.make_room(&**clients, most, origin, is_known)?;
        let id = self.next;
        self.next += 1;
        let of_the_address = self.address(origin, most);
        of_the_address.keyless.insert(id);
        let speed = Speed::new(Arc::clone(&of_the_address.frames));
        let beginning = Arc::clone(&of_the_address.beginning);
        let link = Link::new(id, address, Arc::clone(clients), speed, beginning);
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
    fn make_room(
        &mut self,
        clients: &dyn ConnectedClients,
        most: Most,
        origin: Origin,
        is_known: bool,
    ) -> Result<(), Closed> {
        let own = self.addresses.get(&origin).map(|address| &address.keyless);
        if own.is_some_and(|own| own.len() >= most.keyless_per_address)
            && let Some(oldest) = own.and_then(BTreeSet::first).copied()
        {
            self.displace_keyless(clients, oldest);
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
            self.displace_keyless(clients, victim);
        }
        if self.size() < most.connections {
            return Ok(());
        }
        if self.keyless.len() < most.connections / NEWCOMERS_PART
            && let Some(victim) = self.keyed_victim()
        {
            self.displace_keyed(clients, victim);
            return Ok(());
        }
        let victim = self
            .keyless_victim(Some(false))
            .or_else(|| self.keyless_victim(None))
            .ok_or(Closed::Full)?;
        self.displace_keyless(clients, victim);
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

    fn displace_keyless(&mut self, clients: &dyn ConnectedClients, id: u64) {
        let Some(keyless) = self.keyless.remove(&id) else {
            return;
        };
        self.forget_keyless(id, &keyless);
        keyless.link.cut();
        self.leaving += 1;
        clients.note(Closed::Displaced);
    }

    fn displace_keyed(&mut self, clients: &dyn ConnectedClients, id: u64) {
        let Some(keyed) = self.keyed.remove(&id) else {
            return;
        };
        self.know(keyed.origin);
        keyed.link.ask_to_end();
        self.leaving += 1;
        clients.note(Closed::Displaced);
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

    pub fn keyed(&mut self, id: u64, account: &Account) {
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

    pub fn asked_health(&mut self, id: u64) {
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

    pub fn gone(&mut self, id: u64) {
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

    #[test]
    fn an_ipv6_network_is_one_address() {
        let origin = |text: &str| Origin::from(text.parse::<SocketAddr>().expect("an address"));
        assert_eq!(origin("[2001:db8::1]:1"), origin("[2001:db8::ffff:2]:2"));
        assert_ne!(origin("[2001:db8::1]:1"), origin("[2001:db8:0:1::1]:1"));
        assert_eq!(origin("[::ffff:192.0.2.1]:1"), origin("192.0.2.1:2"));
    }
}
