//! The clockwork: takes what is due from the spool, and keeps a bound on how much is under way.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::disposition::Ends;
use super::node::Node;
use super::refusal::Refusal;
use super::shares::{Share, Shares};
use super::{handoff, outbound};
use crate::admin::Alarm;
use crate::model::{DecisionRecord, DeliveryId, Direction, DomainName, Reason};
use crate::spool::{Admission, Attempt, Claim, Due, Leash, Route, SpoolError};

/// How many claims are looked at in one round.
const ROUND: usize = 256;
/// The longest sleep: budgets and idle links want tidying.
const TIDY: Duration = Duration::from_secs(10);
/// How often decision records past their time are removed.
const PRUNE_SECONDS: i64 = 3600;
/// How long one suspect is alone: what kills, kills at once, and a slow peer must not stop the rest.
const ALONE: Duration = Duration::from_secs(5);
/// How long all suspects together keep everything else waiting after a start.
const TRIALS: Duration = Duration::from_secs(60);

/// Works until `stop`, then waits for what is under way.
pub(super) async fn work(node: Node, stop: CancellationToken) {
    let shares = Shares::new(&node.live().config.limits);
    let mut running = JoinSet::new();
    let mut pruned = None;
    try_suspects(&node, &shares, &mut running, &stop).await;
    while !stop.is_cancelled() && node.inner.spool.health().is_ok() {
        while let Some(ended) = running.try_join_next() {
            reap(ended);
        }
        hear(&node);
        let now = node.inner.world.now();
        let admit = |route: &Route, due| admit(&node, &shares, route, due, now);
        for (claim, share) in node.inner.spool.take_due_with(now, ROUND, admit) {
            running.spawn(carry_out(node.clone(), claim, share));
        }
        for domain in node.inner.breakers.to_look_up(now) {
            running.spawn(look_up(node.clone(), domain));
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = node.inner.spool.changed() => {}
            () = node.inner.breakers.changed() => {}
            () = tokio::time::sleep(nap(&node)) => {}
            Some(ended) = running.join_next(), if !running.is_empty() => reap(ended),
        }
        node.inner.budgets.load().tidy();
        let now = node.inner.world.now();
        node.inner.breakers.tidy(now);
        if pruned.is_none_or(|at| now.duration_since(at).as_secs() >= PRUNE_SECONDS) {
            pruned = Some(now);
            running.spawn(prune(node.clone()));
        }
        node.live().roads.pool.sweep().await;
    }
    if let Err(error) = node.inner.spool.health() {
        node.inner.observer.alarm(Alarm::SpoolBroken, &error.to_string());
    }
    // What does not end in time is broken off; nobody is blamed for that.
    let patience = Duration::from_secs(node.live().config.limits.stop_seconds);
    let ended = timeout(patience, async { while running.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        tracing::warn!(attempts = running.len(), "broken off: they did not end within stop_seconds");
        running.shutdown().await;
    }
    node.live().roads.pool.clear().await;
}

/// Tries, one by one and with nothing beside it, what was under way when the node last stopped without being told to: if it
/// stops again, it is clear because of which (SPOOL-044).
async fn try_suspects(node: &Node, shares: &Shares, running: &mut JoinSet<()>, stop: &CancellationToken) {
    let mut suspects = node.inner.spool.suspects();
    if suspects.is_empty() {
        return;
    }
    tracing::warn!(
        deliveries = suspects.len(),
        "under way when the node stopped: tried alone, before all others"
    );
    // In another order at each start, so that slow ones do not always stand in front of the guilty one.
    suspects.sort_by_cached_key(|_| node.inner.world.random.next());
    let end = Instant::now() + TRIALS;
    for delivery in suspects {
        if stop.is_cancelled() || Instant::now() >= end {
            return;
        }
        let Some(claim) = node.inner.spool.claim(delivery) else { continue };
        let Some(share) = shares.take(claim.route(), claim.due()) else { continue };
        let (over, ended) = oneshot::channel::<()>();
        let node = node.clone();
        running.spawn(async move {
            carry_out(node, claim, share).await;
            // Also when it is dropped on the way.
            drop(over);
        });
        let _either_way_the_next = timeout(ALONE, ended).await;
    }
}

/// The end of a task.
fn reap(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a worker stopped; its delivery is tried once more, and held if that happens again");
    }
}

/// Passes on what the breakers have learned about routes.
fn hear(node: &Node) {
    for (route, back) in node.inner.breakers.news() {
        if back {
            node.inner.spool.hasten(&route);
        } else {
            node.inner.spool.reopen(&route);
        }
    }
    node.inner.observer.metrics().resting(node.inner.breakers.count());
}

/// Whether what is due on a route may go: there is a slot, the peer's budget is not spent, and somebody may be there.
fn admit(node: &Node, shares: &Shares, route: &Route, due: Due, now: Timestamp) -> Admission<Share> {
    let Some(share) = shares.take(route, due) else { return Admission::Busy };
    if due == Due::Attempt {
        if let Err(wait) = node.inner.budgets.load().outbound(route) {
            return Admission::NotBefore(now + wait);
        }
        if let Err(until) = node.inner.breakers.may_try(route, now) {
            return Admission::NotBefore(until);
        }
    }
    Admission::Yes(share)
}

async fn carry_out(node: Node, claim: Claim, share: Share) {
    let underway = Underway { node: node.clone(), route: claim.route().clone() };
    let (delivery, leash) = (claim.delivery(), claim.leash());
    let limit = Duration::from_secs(node.live().config.limits.attempt_seconds);
    supervise(limit, delivery, &leash, attempt(&node, claim)).await;
    drop((underway, share));
}

/// Sees an attempt to its end. One that takes longer than every limit of its steps together has stalled: it is broken off,
/// and that counts against its delivery as a panic does (SPOOL-043).
async fn supervise(
    limit: Duration,
    delivery: DeliveryId,
    leash: &Leash,
    attempt: impl Future<Output = Result<(), SpoolError>>,
) {
    tokio::pin!(attempt);
    match timeout(limit, &mut attempt).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%delivery, %error, "an attempt could not be recorded"),
        Err(_) => {
            leash.blame();
            tracing::error!(%delivery, "an attempt stalled; it is tried once more, and held if that happens again");
        }
    }
}

/// An attempt, until it ends in whatever way.
struct Underway {
    node: Node,
    route: Route,
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.node.inner.breakers.release(&self.route);
    }
}

/// Looks whether DNS says something new about a domain whose hosts all rest.
async fn look_up(node: Node, domain: DomainName) {
    let print = node.live().roads.print(&domain).await;
    node.inner.breakers.looked_up(&domain, print, node.inner.world.now());
}

async fn prune(node: Node) {
    match node.inner.spool.prune_records().await {
        Ok(0) => {}
        Ok(records) => tracing::info!(records, "removed decision records past their time"),
        Err(error) => tracing::warn!(%error, "decision records past their time could not be removed"),
    }
    if let Err(error) = node.inner.spool.prune_seen().await {
        tracing::warn!(%error, "acceptances past their time could not be forgotten");
    }
}

/// Until the next delivery is due, within [`TIDY`]. Deliveries that wait for a slot are past due: then a finished attempt
/// wakes us, or the shortest nap.
fn nap(node: &Node) -> Duration {
    const SHORTEST: Duration = Duration::from_millis(50);
    let due = node.inner.spool.next_due();
    let wait = due.map(|due| due.duration_since(node.inner.world.now()));
    wait.map_or(TIDY, |wait| Duration::try_from(wait).unwrap_or(SHORTEST).clamp(SHORTEST, TIDY))
}

async fn attempt(node: &Node, claim: Claim) -> Result<(), SpoolError> {
    let due = claim.due();
    if due == Due::Late {
        return node.tell_late(claim).await;
    }
    let attempt = match node.inner.spool.begin_attempt(claim).await {
        Ok(attempt) => attempt,
        // An operator was faster, or a record is gone and its delivery set aside: nothing to do here.
        Err(SpoolError::State { .. } | SpoolError::NoDelivery(_) | SpoolError::NoMessage(_)) => return Ok(()),
        Err(SpoolError::Damaged(what)) => {
            node.inner.observer.alarm(Alarm::DamagedContent, &format!("{what} is left alone (SPOOL-013)"));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let live = node.live();
    match attempt.route().clone() {
        _ if due == Due::Expired => give_up(node, attempt, Reason::QueueExpired).await,
        _ if due == Due::ReturnAsked => give_up(node, attempt, Reason::OperatorReturned).await,
        Route::Federation(domain) => outbound::deliver(node, attempt, &domain).await,
        Route::Environment => handoff::hand_off(node, attempt, &live.environment).await,
        Route::Fallback => match &live.fallback {
            Some(fallback) => handoff::hand_off(node, attempt, fallback).await,
            None => give_up(node, attempt, Reason::RecordAbsent).await,
        },
    }
}

/// Returns what cannot be delivered any more.
async fn give_up(node: &Node, attempt: Attempt, reason: Reason) -> Result<(), SpoolError> {
    let direction = match attempt.route() {
        Route::Federation(_) => Direction::Outbound,
        Route::Environment | Route::Fallback => Direction::Handoff,
    };
    let mut record = DecisionRecord::begin(attempt.id(), direction, attempt.started());
    record.message = Some(attempt.message());
    record.sender = Some(attempt.envelope().sender.to_string());
    if let Route::Federation(domain) = attempt.route() {
        record.peer_domain = Some(domain.clone());
    }
    let waited = node.inner.world.now().duration_since(attempt.accepted()).as_secs();
    let mut ends = Ends::new(&attempt);
    ends.give_up(&Refusal::new(reason, format!("after {waited} s in the spool")), &mut record);
    node.conclude(attempt, record, ends).await
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
