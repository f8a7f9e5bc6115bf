//! How much one client may ask of this node per minute, and how much we ask of one peer (LIM-003).

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::refusal::Refusal;
use crate::config::Limits;
use crate::model::{Digest, DomainName, Reason};
use crate::spool::Route;

/// Whose budget: a proven client's by its key, everybody else's by network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Account {
    /// A client that proved a name.
    Key(Digest),
    /// An IPv4 address, or an IPv6 network of 64 bits: what one host can choose from.
    Network(IpAddr),
}

impl Account {
    /// The account of an address that proved nothing (yet).
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::Network(v4.into()),
            IpAddr::V6(v6) => Self::Network(std::net::Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into()),
        }
    }
}

/// Budgets of sessions and messages.
pub(super) struct Budgets {
    sessions: DefaultKeyedRateLimiter<Account>,
    messages: DefaultKeyedRateLimiter<Account>,
    outbound: DefaultKeyedRateLimiter<DomainName>,
}

impl Budgets {
    /// Full budgets.
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            sessions: RateLimiter::keyed(per_minute(limits.sessions_per_peer_per_minute)),
            messages: RateLimiter::keyed(per_minute(limits.messages_per_peer_per_minute)),
            outbound: RateLimiter::keyed(per_minute(limits.messages_to_peer_per_minute)),
        }
    }

    /// One more session.
    pub(super) fn session(&self, account: Account) -> Result<(), Refusal> {
        Self::spend(&self.sessions, account, "sessions")
    }

    /// One more message.
    pub(super) fn message(&self, account: Account) -> Result<(), Refusal> {
        Self::spend(&self.messages, account, "messages")
    }

    /// One more message to another provider.
    ///
    /// # Errors
    /// Not before so long.
    pub(super) fn outbound(&self, route: &Route) -> Result<(), Duration> {
        let Route::Federation(domain) = route else { return Ok(()) };
        self.outbound.check_key(domain).map_err(|early| early.wait_time_from(DefaultClock::default().now()))
    }

    /// Forgets accounts that are full again. Called from a timer, so that memory does not grow with strangers.
    pub(super) fn tidy(&self) {
        self.sessions.retain_recent();
        self.messages.retain_recent();
        self.outbound.retain_recent();
    }

    fn spend(
        limiter: &DefaultKeyedRateLimiter<Account>,
        account: Account,
        what: &str,
    ) -> Result<(), Refusal> {
        limiter.check_key(&account).map_err(|_| {
            Refusal::new(Reason::OverBudget, format!("too many {what} per minute from {account:?}"))
        })
    }
}

fn per_minute(count: u64) -> Quota {
    let count = u32::try_from(count).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
    Quota::per_minute(count)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Proves: +LIM-003 -LIM-003
    #[test]
    fn each_account_has_its_own_budget() {
        let limits = Limits { messages_per_peer_per_minute: 2, ..Limits::default() };
        let budgets = Budgets::new(&limits);
        let (a, b) = (Account::Key(Digest::of(b"a")), Account::of("2001:db8::1".parse().unwrap()));
        assert!(budgets.message(a).is_ok() && budgets.message(a).is_ok());
        assert_eq!(budgets.message(a).unwrap_err().reason, Reason::OverBudget);
        assert!(budgets.message(b).is_ok(), "another client is not slowed");
        assert_eq!(b, Account::of("2001:db8::ffff".parse().unwrap()), "one network, one budget");
        assert_ne!(b, Account::of("2001:db8:0:1::1".parse().unwrap()));
    }

    /// Proves: +LIM-008 -LIM-008
    #[test]
    fn each_peer_gets_so_much_a_minute_and_the_rest_waits() {
        let limits = Limits { messages_to_peer_per_minute: 2, ..Limits::default() };
        let budgets = Budgets::new(&limits);
        let (b, c) = (Route::Federation("b.nl".parse().unwrap()), Route::Federation("c.nl".parse().unwrap()));
        assert!(budgets.outbound(&b).is_ok() && budgets.outbound(&b).is_ok());
        let wait = budgets.outbound(&b).unwrap_err();
        assert!(wait > Duration::from_secs(20) && wait <= Duration::from_secs(30), "{wait:?}");
        assert!(budgets.outbound(&c).is_ok(), "another peer is not slowed");
        for _ in 0..9 {
            assert!(budgets.outbound(&Route::Environment).is_ok(), "our own house has no budget");
        }
    }
}
