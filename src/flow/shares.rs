//! How much may be under way at once, and how much of it for one route.
//!
//! A route gets another slot only while more are free than it has already, a quarter of all not counted: that is for those
//! who have none. So the first attempt of a route finds room although many others are slow and take what they can, and a
//! single busy route still gets all it may have.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::Limits;
use crate::spool::{Due, Route};

/// How many returns are written at once, beside the attempts: they open no link and wait for nobody.
const RETURNS: usize = 16;

/// The slots of all routes.
pub(super) struct Shares(Arc<Mutex<Inner>>);

struct Inner {
    free: usize,
    /// Kept for routes that have no slot.
    reserve: usize,
    each: usize,
    returns: usize,
    busy: HashMap<Route, usize>,
}

/// A slot, until it is dropped.
pub(super) struct Share {
    shares: Arc<Mutex<Inner>>,
    /// Whose; `None`: a return.
    route: Option<Route>,
}

impl Shares {
    pub(super) fn new(limits: &Limits) -> Self {
        let count = |limit: u64| usize::try_from(limit).unwrap_or(usize::MAX);
        Self(Arc::new(Mutex::new(Inner {
            free: count(limits.links),
            reserve: count(limits.links / 4),
            each: count(limits.links_per_peer),
            returns: RETURNS,
            busy: HashMap::new(),
        })))
    }

    /// A slot for what is due on `route`, if it may have one now.
    pub(super) fn take(&self, route: &Route, due: Due) -> Option<Share> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let shares = Arc::clone(&self.0);
        if due != Due::Attempt {
            inner.returns = inner.returns.checked_sub(1)?;
            return Some(Share { shares, route: None });
        }
        let own = inner.busy.get(route).copied().unwrap_or(0);
        let free = if own == 0 { inner.free } else { inner.free.saturating_sub(inner.reserve) };
        if own >= inner.each || own >= free {
            return None;
        }
        inner.free -= 1;
        inner.busy.insert(route.clone(), own + 1);
        Some(Share { shares, route: Some(route.clone()) })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut inner = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(route) = &self.route else {
            inner.returns += 1;
            return;
        };
        inner.free += 1;
        // Routes with nothing under way hold no state worth keeping.
        match inner.busy.get_mut(route) {
            Some(own) if *own > 1 => *own -= 1,
            _ => {
                inner.busy.remove(route);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn route(number: usize) -> Route {
        Route::Federation(format!("d{number}.nl").parse().unwrap())
    }

    /// Takes for `route` what it can get.
    fn fill(shares: &Shares, route: &Route) -> Vec<Share> {
        std::iter::from_fn(|| shares.take(route, Due::Attempt)).collect()
    }

    /// Proves: +SPOOL-040 -SPOOL-040
    #[test]
    fn t34_slow_peers_cannot_take_every_slot() {
        let shares = Shares::new(&Limits { links: 64, links_per_peer: 8, ..Limits::default() });
        let slow: Vec<_> = (0..20).map(|number| fill(&shares, &route(number))).collect();
        let taken: usize = slow.iter().map(Vec::len).sum();
        assert!(taken < 64, "{taken}");
        assert_eq!(slow[0].len(), 8, "while there is room, one has all it may have");
        let fast = shares.take(&route(99), Due::Attempt);
        assert!(fast.is_some(), "somebody else still finds one");
        drop(fast);
        for _ in 0..1000 {
            assert!(shares.take(&route(99), Due::Attempt).is_some());
        }
        drop(slow);
        assert_eq!(fill(&shares, &route(99)).len(), 8);
    }

    /// Proves: +SPOOL-040
    #[test]
    fn returns_wait_for_no_link_and_a_dropped_slot_is_free() {
        let shares = Shares::new(&Limits { links: 1, links_per_peer: 8, ..Limits::default() });
        let all = fill(&shares, &route(1));
        assert_eq!(all.len(), 1, "one link is enough to work with");
        assert!(shares.take(&route(2), Due::Attempt).is_none());
        let returns: Vec<_> = std::iter::from_fn(|| shares.take(&route(1), Due::Expired)).collect();
        assert_eq!(returns.len(), RETURNS);
        drop(all);
        assert!(shares.take(&route(2), Due::Attempt).is_some());
        drop(returns);
        assert!(shares.take(&route(1), Due::ReturnAsked).is_some());
    }
}
