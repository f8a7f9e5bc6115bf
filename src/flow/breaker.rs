//! Which hosts are worth a try now (SMTP-027 to SMTP-029).
//!
//! A host that failed several times in a row rests: attempts pass it by, until its next probe. A probe is an ordinary
//! delivery, one at a time for each host. While all hosts of a route rest, the route is closed: its deliveries wait in
//! the spool without an attempt, a record or a commit each, and are still returned in time. When a host is back, every
//! route that waited for it is due at once.
//!
//! What is known here is gone after a restart, and learned again by the first attempts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;

use super::refusal::Refusal;
use crate::admin::Resting;
use crate::config::Limits;
use crate::model::{Digest, DomainName, Reason};
use crate::spool::{EXPIRY_MAX, Retry, Route};

/// How many domains one round looks up again.
const LOOKS: usize = 8;

/// What can be out of order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Post {
    /// A host of another provider.
    Host(DomainName),
    /// A whole domain: DNS does not answer for it, or its hosts do not meet the terms.
    Domain(DomainName),
    /// Our own environment.
    Environment,
    /// The fallback.
    Fallback,
}

impl Post {
    /// What speaks for a route as a whole.
    pub(super) fn of(route: &Route) -> Self {
        match route {
            Route::Federation(domain) => Self::Domain(domain.clone()),
            Route::Environment => Self::Environment,
            Route::Fallback => Self::Fallback,
        }
    }
}

impl fmt::Display for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(name) => write!(f, "host {name}"),
            Self::Domain(domain) => write!(f, "domain {domain}"),
            Self::Environment => f.write_str("environment"),
            Self::Fallback => f.write_str("fallback"),
        }
    }
}

/// What is known of a post that failed; one that works is not remembered.
struct Trouble {
    /// In a row.
    failures: u32,
    /// Probes that failed.
    probes: u32,
    since: Timestamp,
    last: Timestamp,
    reason: Reason,
    /// It rests until then; `None`: not enough failures yet.
    rests_until: Option<Timestamp>,
    /// The route whose attempt probes it now, and when that counts as lost.
    probing: Option<(Route, Timestamp)>,
    /// When a contact last had it tried early.
    hurried: Option<Timestamp>,
    /// The routes that failed because of it.
    routes: BTreeSet<Route>,
}

/// A route that is closed.
struct Closed {
    /// All of these rest.
    posts: Vec<Post>,
    looked: Timestamp,
    /// What DNS said when somebody first looked; `None` inside: nothing to be believed.
    print: Option<Option<Digest>>,
}

#[derive(Default)]
struct State {
    posts: HashMap<Post, Trouble>,
    closed: HashMap<Route, Closed>,
    /// Routes to be asked about again; `true`: the other side is back.
    news: BTreeMap<Route, bool>,
}

/// The state of everything we connect to.
pub struct Breakers {
    failures: u32,
    retry: Retry,
    lease: Duration,
    state: Mutex<State>,
    changed: Notify,
}

impl Breakers {
    /// Nothing is out of order.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let seconds = Duration::from_secs;
        // A probe has come as far as EHLO by then, or hangs.
        let lease = limits.connect_seconds
            + limits.greeting_seconds
            + 3 * limits.ehlo_seconds
            + limits.handshake_seconds
            + 4 * limits.dns_question_seconds;
        // Where messages are tried more often than hosts would be probed, hosts are too.
        let first = limits.probe_first_seconds.min(limits.retry_first_seconds);
        let longest = limits.probe_longest_seconds.min(limits.retry_longest_seconds).max(first);
        Self {
            failures: u32::try_from(limits.host_failures).unwrap_or(u32::MAX),
            retry: Retry {
                first: seconds(first),
                longest: seconds(longest),
                expiry: EXPIRY_MAX,
                warning: EXPIRY_MAX,
            },
            lease: seconds(lease),
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Whether an attempt on `route` has anything to try. If its posts all rest and one is due for its probe, the probe is
    /// this attempt's.
    ///
    /// # Errors
    /// Not before that time.
    pub(super) fn may_try(&self, route: &Route, now: Timestamp) -> Result<(), Timestamp> {
        let mut state = self.lock();
        let State { posts, closed, .. } = &mut *state;
        let Some(entry) = closed.get(route) else { return Ok(()) };
        let mut earliest = None;
        for post in &entry.posts {
            let Some(trouble) = posts.get_mut(post) else { return Ok(()) };
            match trouble.ask(None, now) {
                Ok(()) => {
                    trouble.probing = trouble.rests_until.map(|_| (route.clone(), later(now, self.lease)));
                    return Ok(());
                }
                Err(until) => earliest = Some(earliest.map_or(until, |time: Timestamp| time.min(until))),
            }
        }
        earliest.map_or(Ok(()), Err)
    }

    /// Whether an attempt on `route` may try `post`.
    ///
    /// # Errors
    /// It rests: [`Reason::HostResting`].
    pub(super) fn ask(&self, post: &Post, route: &Route, now: Timestamp) -> Result<(), Refusal> {
        let mut state = self.lock();
        let Some(trouble) = state.posts.get_mut(post) else { return Ok(()) };
        match trouble.ask(Some(route), now) {
            Ok(()) => {
                trouble.probing = trouble.rests_until.map(|_| (route.clone(), later(now, self.lease)));
                Ok(())
            }
            Err(until) => {
                let Trouble { failures, reason, since, .. } = trouble;
                let detail = format!(
                    "{post} failed {failures} times in a row since {since}, last {reason}; next try at {until}"
                );
                Err(Refusal::new(Reason::HostResting, detail))
            }
        }
    }

    /// `post` failed an attempt on `route`.
    pub(super) fn failed(&self, post: &Post, route: &Route, reason: Reason, now: Timestamp, random: u64) {
        // That is no fault of the other side.
        if reason == Reason::LocalFault {
            return;
        }
        let mut state = self.lock();
        let trouble = state.posts.entry(post.clone()).or_insert_with(|| Trouble::new(reason, now));
        trouble.failures = trouble.failures.saturating_add(1);
        (trouble.reason, trouble.last) = (reason, now);
        trouble.routes.insert(route.clone());
        if trouble.probing.as_ref().is_some_and(|(prober, _)| prober == route) {
            trouble.probing = None;
        }
        // Attempts that were under way when it began to rest say nothing new.
        let resting = trouble.rests_until.is_some_and(|until| now < until);
        if trouble.failures >= self.failures && !resting {
            trouble.probes = trouble.probes.saturating_add(1);
            let until = self.retry.next_try(now, now, trouble.probes, None, random);
            if trouble.rests_until.replace(until).is_none() {
                tracing::warn!(what = %post, %reason, failures = trouble.failures, next = %until, "rests: it failed too often");
            }
        }
        let routes = trouble.routes.clone();
        self.tell(state, routes, false);
    }

    /// A link of `route` to `post` is there: both are in order, and so is every route that waited for either.
    pub(super) fn reached(&self, post: &Post, route: &Route, now: Timestamp) {
        self.answered(&[post.clone(), Post::of(route)], route, now);
    }

    /// `posts` are in order, as an attempt on `route` has found. Nothing is hurried for trouble that was over within the first
    /// pause: a host that answers every other time would have all its mail tried all the time.
    pub(super) fn answered(&self, posts: &[Post], route: &Route, now: Timestamp) {
        let mut state = self.lock();
        let mut routes = BTreeSet::new();
        if state.closed.remove(route).is_some() {
            routes.insert(route.clone());
        }
        for post in posts {
            if let Some(trouble) = state.posts.remove(post) {
                if trouble.rests_until.is_some() {
                    tracing::info!(what = %post, since = %trouble.since, "is back");
                }
                let lasted = now.duration_since(trouble.since).unsigned_abs();
                if trouble.rests_until.is_some() || lasted >= self.retry.first {
                    routes.extend(trouble.routes);
                }
            }
        }
        for route in &routes {
            state.closed.remove(route);
        }
        self.tell(state, routes, true);
    }

    /// An attempt on `route` came to no link, for `reason`. Closes the route if everything it could use rests: the route as
    /// a whole, or each of `hosts`.
    pub(super) fn no_link(&self, route: &Route, hosts: &[Post], reason: Reason, now: Timestamp, random: u64) {
        let whole = Post::of(route);
        // It was probed, and whatever failed now, the probe was no success.
        let probed = {
            let state = self.lock();
            state
                .posts
                .get(&whole)
                .is_some_and(|trouble| trouble.rests_until.is_some_and(|until| until <= now))
        };
        if probed {
            self.failed(&whole, route, reason, now, random);
        }
        let mut state = self.lock();
        let rests = |post: &Post| state.posts.get(post).is_some_and(|trouble| trouble.rests_until.is_some());
        let posts = if rests(&whole) {
            vec![whole]
        } else if !hosts.is_empty() && hosts.iter().all(rests) {
            hosts.to_vec()
        } else {
            return;
        };
        for post in &posts {
            if let Some(trouble) = state.posts.get_mut(post) {
                trouble.routes.insert(route.clone());
            }
        }
        match state.closed.get_mut(route) {
            Some(closed) => closed.posts = posts,
            None => {
                state.closed.insert(route.clone(), Closed { posts, looked: now, print: None });
            }
        }
    }

    /// An attempt on `route` is over, whatever came of it: it probes nothing any more.
    pub(super) fn release(&self, route: &Route) {
        let mut state = self.lock();
        let mut waiting = BTreeSet::new();
        let State { posts, closed, .. } = &mut *state;
        for post in closed.get(route).into_iter().flat_map(|closed| &closed.posts) {
            let Some(trouble) = posts.get_mut(post) else { continue };
            if trouble.probing.as_ref().is_some_and(|(prober, _)| prober == route) {
                trouble.probing = None;
                waiting.extend(trouble.routes.iter().cloned());
            }
        }
        self.tell(state, waiting, false);
    }

    /// Hosts of these names were here themselves: whoever waits for them tries at once (SMTP-029). That they can reach us
    /// does not prove that we can reach them, so one that rests is probed first.
    pub(super) fn contact(&self, names: &[DomainName], now: Timestamp) {
        let mut state = self.lock();
        let mut routes = BTreeSet::new();
        for name in names {
            let Some(trouble) = state.posts.get_mut(&Post::Host(name.clone())) else { continue };
            let pause = trouble.hurried.map(|last| now.duration_since(last).unsigned_abs());
            if pause.is_some_and(|pause| pause < self.retry.first) {
                continue;
            }
            trouble.hurry(now);
            routes.extend(trouble.routes.iter().cloned());
        }
        self.tell(state, routes, true);
    }

    /// An operator wants `route` tried now: what rests there is probed.
    pub(super) fn hurry(&self, route: &Route, now: Timestamp) {
        let mut state = self.lock();
        let State { posts, closed, .. } = &mut *state;
        for post in closed.get(route).into_iter().flat_map(|closed| &closed.posts) {
            if let Some(trouble) = posts.get_mut(post) {
                trouble.hurry(now);
            }
        }
        self.tell(state, BTreeSet::from([route.clone()]), false);
    }

    /// Closed domains that DNS is to be asked about again.
    pub(super) fn to_look_up(&self, now: Timestamp) -> Vec<DomainName> {
        let mut state = self.lock();
        let pause = self.retry.first;
        let due = state.closed.iter_mut().filter_map(|(route, closed)| match route {
            Route::Federation(domain) if now.duration_since(closed.looked).unsigned_abs() >= pause => {
                closed.looked = now;
                Some(domain.clone())
            }
            _ => None,
        });
        due.take(LOOKS).collect()
    }

    /// What DNS says about a closed domain now; something else than before has it tried at once (SMTP-029). `None`: nothing
    /// to be believed, which is no news.
    pub(super) fn looked_up(&self, domain: &DomainName, print: Option<Digest>, now: Timestamp) {
        let mut state = self.lock();
        let route = Route::Federation(domain.clone());
        let State { posts, closed, .. } = &mut *state;
        let Some(entry) = closed.get_mut(&route) else { return };
        let Some(before) = entry.print else {
            entry.print = Some(print);
            return;
        };
        if print.is_none() || before == print {
            return;
        }
        entry.print = Some(print);
        for post in &entry.posts {
            if let Some(trouble) = posts.get_mut(post) {
                trouble.hurry(now);
            }
        }
        self.tell(state, BTreeSet::from([route]), true);
    }

    /// Routes to be asked about again, and whether their other side is back.
    pub(super) fn news(&self) -> BTreeMap<Route, bool> {
        std::mem::take(&mut self.lock().news)
    }

    /// Waits for [`Self::news`].
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Forgets what nothing can wait for any more.
    pub(super) fn tidy(&self, now: Timestamp) {
        let mut state = self.lock();
        state.posts.retain(|_, trouble| now.duration_since(trouble.last).unsigned_abs() < EXPIRY_MAX);
        let State { posts, closed, .. } = &mut *state;
        closed.retain(|_, closed| closed.posts.iter().all(|post| posts.contains_key(post)));
    }

    /// What rests, for `sluis status`, each with the routes that are closed because of it.
    pub(super) fn resting(&self) -> Vec<(Resting, Vec<Route>)> {
        let state = self.lock();
        let closed = |route: &&Route| state.closed.contains_key(route);
        let mut resting: Vec<_> = state
            .posts
            .iter()
            .filter_map(|(post, trouble)| {
                let row = Resting {
                    what: post.to_string(),
                    since: trouble.since,
                    failures: trouble.failures,
                    reason: trouble.reason,
                    next_probe: trouble.rests_until?,
                    waiting: 0,
                };
                Some((row, trouble.routes.iter().filter(closed).cloned().collect()))
            })
            .collect();
        resting.sort_by(|(a, _), (b, _)| a.what.cmp(&b.what));
        resting
    }

    /// How many rest.
    pub(super) fn count(&self) -> usize {
        self.lock().posts.values().filter(|trouble| trouble.rests_until.is_some()).count()
    }

    /// Remembers news: all of `routes` when the other side is back, else those that are closed.
    fn tell(&self, mut state: MutexGuard<'_, State>, routes: BTreeSet<Route>, back: bool) {
        let State { closed, news, .. } = &mut *state;
        for route in routes {
            if back || closed.contains_key(&route) {
                *news.entry(route).or_default() |= back;
            }
        }
        let some = !news.is_empty();
        drop(state);
        if some {
            self.changed.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change leaves a state that can be worked with: at worst a route is asked about once too often.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trouble {
    const fn new(reason: Reason, now: Timestamp) -> Self {
        Self {
            failures: 0,
            probes: 0,
            since: now,
            last: now,
            reason,
            rests_until: None,
            probing: None,
            hurried: None,
            routes: BTreeSet::new(),
        }
    }

    /// Whether `route` may try it, or when somebody may.
    fn ask(&self, route: Option<&Route>, now: Timestamp) -> Result<(), Timestamp> {
        let Some(until) = self.rests_until else { return Ok(()) };
        match &self.probing {
            Some((prober, lease)) if now < *lease => {
                if route == Some(prober) {
                    Ok(())
                } else {
                    Err(*lease)
                }
            }
            _ if now < until => Err(until),
            _ => Ok(()),
        }
    }

    /// Has its probe now.
    fn hurry(&mut self, now: Timestamp) {
        self.hurried = Some(now);
        self.rests_until = self.rests_until.map(|until| until.min(now));
    }
}

fn later(now: Timestamp, wait: Duration) -> Timestamp {
    SignedDuration::try_from(wait).ok().and_then(|wait| now.checked_add(wait).ok()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;
