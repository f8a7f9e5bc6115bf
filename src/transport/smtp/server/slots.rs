//! How many sessions there are, in total and per network.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::settings::Settings;

/// Counts sessions. Listeners that share one of these share the limits (LIM-004).
#[derive(Default)]
pub struct Slots {
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    total: usize,
    networks: HashMap<IpAddr, usize>,
}

impl Slots {
    /// No sessions yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Sessions at this moment.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.counts().total
    }

    /// A place for a session from `address`, if there is one.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr, settings: &Settings) -> Option<Slot> {
        let network = network(address);
        let mut counts = self.counts();
        let here = counts.networks.get(&network).copied().unwrap_or(0);
        if counts.total >= settings.sessions || here >= settings.sessions_per_network {
            return None;
        }
        counts.total += 1;
        counts.networks.insert(network, here + 1);
        Some(Slot { slots: Arc::clone(self), network })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // The counts are whole between any two statements, so a panic elsewhere has not broken them.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One session's place; free again when dropped.
pub(super) struct Slot {
    slots: Arc<Slots>,
    network: IpAddr,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.slots.counts();
        counts.total -= 1;
        if let Some(here) = counts.networks.get_mut(&self.network) {
            *here -= 1;
            if *here == 0 {
                counts.networks.remove(&self.network);
            }
        }
    }
}

/// The network whose sessions are counted together: what one customer of an access provider gets.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            const PREFIX: u128 = !0 << 64;
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & PREFIX))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Proves: +LIM-004 -LIM-004
    #[test]
    fn t26_places_are_limited_in_total_and_per_network() {
        let mut settings = Settings::new("a.nl".parse().unwrap());
        (settings.sessions, settings.sessions_per_network) = (3, 2);
        let slots = Slots::new();
        let take = |address: &str| slots.take(address.parse().unwrap(), &settings);
        let first = take("2001:db8::1").unwrap();
        let _second = take("2001:db8::2").unwrap();
        assert!(take("2001:db8::3").is_none(), "the same /64");
        let _third = take("::ffff:192.0.2.1").unwrap();
        assert!(take("192.0.2.2").is_none(), "the total");
        drop(first);
        assert_eq!(slots.in_use(), 2);
        let fourth = take("192.0.2.1").unwrap();
        drop(fourth);
        assert_eq!(slots.counts().networks.len(), 2);
    }
}
