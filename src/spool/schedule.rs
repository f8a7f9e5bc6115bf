//! When a delivery is tried again, and when it is given up. Arithmetic only.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// The longest a message may wait (NTA 7516 section 6.1.3; SPOOL-010).
pub const EXPIRY_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How far an interval is spread, in percent either way, so that a host that comes back is not met by all its mail at
/// once (SPOOL-009).
const JITTER_PERCENT: u64 = 20;

/// The schedule of tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// From the first failure to the second try. Default 1 minute.
    pub first: Duration,
    /// The interval doubles with each try up to this. Default 30 minutes.
    pub longest: Duration,
    /// From acceptance to return. Default and ceiling 24 hours; a greater value counts as 24 hours.
    pub expiry: Duration,
    /// From acceptance to the notice of delay. Default 4 hours (SPOOL-015).
    pub warning: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(60),
            longest: Duration::from_secs(30 * 60),
            expiry: EXPIRY_MAX,
            warning: Duration::from_secs(4 * 60 * 60),
        }
    }
}

impl Retry {
    /// When a message accepted at `accepted` has waited long enough.
    #[must_use]
    pub fn expires(&self, accepted: Timestamp) -> Timestamp {
        after(accepted, self.expiry.min(EXPIRY_MAX))
    }

    /// When the sender of a message accepted at `accepted` is to be told that it is late.
    #[must_use]
    pub fn late(&self, accepted: Timestamp) -> Timestamp {
        after(accepted, self.warning)
    }

    /// The pause after the `tries`-th try (counted from 1), before it is spread.
    #[must_use]
    pub fn interval(&self, tries: u32) -> Duration {
        let doublings = tries.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.longest).max(Duration::from_secs(1))
    }

    /// When to try again after the `tries`-th try ended at `now`: the interval, spread by `random`, but not before
    /// `not_before` and not after the message expires. From then on the delivery is returned, not tried; if even that
    /// fails (no room for the report), it is due again after the interval.
    #[must_use]
    pub fn next_try(
        &self,
        accepted: Timestamp,
        now: Timestamp,
        tries: u32,
        not_before: Option<Timestamp>,
        random: u64,
    ) -> Timestamp {
        let spread = after(now, spread(self.interval(tries), random));
        let expires = self.expires(accepted);
        if now >= expires {
            return spread;
        }
        not_before.map_or(spread, |earliest| spread.max(earliest)).min(expires)
    }
}

/// `interval` ± 20 %, evenly.
fn spread(interval: Duration, random: u64) -> Duration {
    let whole = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX / 200);
    let range = whole.saturating_mul(JITTER_PERCENT) / 100;
    let low = whole - range;
    Duration::from_millis(low + random % (2 * range + 1))
}

/// `start` + `wait`, or the end of time.
pub(super) fn after(start: Timestamp, wait: Duration) -> Timestamp {
    SignedDuration::try_from(wait)
        .ok()
        .and_then(|wait| start.checked_add(wait).ok())
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const START: Timestamp = Timestamp::UNIX_EPOCH;

    fn minutes(count: u64) -> Duration {
        Duration::from_secs(60 * count)
    }

    /// Proves: +SPOOL-009
    #[test]
    fn intervals_double_from_one_minute_to_thirty() {
        let retry = Retry::default();
        let shown: Vec<_> = (1..=8).map(|tries| retry.interval(tries).as_secs() / 60).collect();
        assert_eq!(shown, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(retry.interval(u32::MAX), minutes(30));
        assert_eq!(retry.interval(0), minutes(1));
    }

    proptest! {
        /// Proves: +SPOOL-009 -SPOOL-009
        #[test]
        fn no_random_number_leads_out_of_twenty_percent(tries in 0u32..200, random: u64) {
            let retry = Retry::default();
            let base = retry.interval(tries);
            let wait = retry.next_try(START, START, tries, None, random).duration_since(START).unsigned_abs();
            prop_assert!(wait >= base * 8 / 10 && wait <= base * 12 / 10, "{wait:?} after {base:?}");
        }

        /// Proves: +SPOOL-010 -SPOOL-010
        #[test]
        fn no_try_is_set_after_expiry(
            tries in 0u32..200, random: u64, hours in 1u64..10_000, minute in 0u64..1440, asked in 0u64..100,
        ) {
            let retry = Retry { expiry: Duration::from_secs(hours * 3600), ..Retry::default() };
            let now = after(START, minutes(minute.min(hours * 60 - 1)));
            let not_before = after(START, Duration::from_secs(asked * 3600));
            let next = retry.next_try(START, now, tries, Some(not_before), random);
            prop_assert!(next <= after(START, EXPIRY_MAX));
            prop_assert!(next <= retry.expires(START));
        }
    }

    /// Proves: +SPOOL-009
    #[test]
    fn both_ends_of_the_spread_are_reached() {
        let retry = Retry::default();
        let at = |random| retry.next_try(START, START, 1, None, random).duration_since(START).as_millis();
        assert_eq!((at(0), at(24_000)), (48_000, 72_000));
    }

    #[test]
    fn what_could_not_be_returned_at_once_is_not_asked_about_in_a_circle() {
        let retry = Retry::default();
        let expired = retry.expires(START);
        assert_eq!(retry.next_try(START, expired, 1, None, 12_000), after(expired, minutes(1)));
    }

    #[test]
    fn a_busy_peer_may_ask_for_more_time() {
        let retry = Retry::default();
        let later = after(START, minutes(45));
        assert_eq!(retry.next_try(START, START, 1, Some(later), 0), later);
    }
}
