//! The clockwork: takes what is due from the spool, and keeps a bound on how much is under way.

use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::disposition::Ends;
use super::node::Node;
use super::refusal::Refusal;
use super::shares::{Share, Shares};
use super::{handoff, outbound};
use crate::model::{DecisionRecord, Direction, DomainName, Reason};
use crate::spool::{Admission, Attempt, Claim, Due, Route, SpoolError};

/// How many claims are looked at in one round.
const ROUND: usize = 256;
/// The longest sleep: budgets and idle links want tidying.
const TIDY: Duration = Duration::from_secs(10);
/// How often decision records past their time are removed.
const PRUNE_SECONDS: i64 = 3600;

/// Works until `stop`, then waits for what is under way.
pub(super) async fn work(node: Node, stop: CancellationToken) {
    let shares = Shares::new(&node.live().config.limits);
    let mut running = JoinSet::new();
    let mut pruned = None;
    while !stop.is_cancelled() && node.inner.spool.health().is_ok() {
        while running.try_join_next().is_some() {}
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
            Some(_) = running.join_next(), if !running.is_empty() => {}
        }
        node.inner.budgets.tidy();
        let now = node.inner.world.now();
        node.inner.breakers.tidy(now);
        if pruned.is_none_or(|at| now.duration_since(at).as_secs() >= PRUNE_SECONDS) {
            pruned = Some(now);
            running.spawn(prune(node.clone()));
        }
        node.live().roads.pool.sweep().await;
    }
    while running.join_next().await.is_some() {}
    node.live().roads.pool.clear().await;
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
        if let Err(wait) = node.inner.budgets.outbound(route) {
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
    if let Err(error) = attempt(&node, claim).await {
        tracing::error!(%error, "an attempt could not be recorded");
    }
    drop((underway, share));
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
    let attempt = match node.inner.spool.begin_attempt(claim).await {
        Ok(attempt) => attempt,
        // An operator was faster, or the record is damaged and set aside: nothing to do here.
        Err(SpoolError::State { .. } | SpoolError::NoDelivery(_) | SpoolError::Damaged(_)) => return Ok(()),
        Err(error) => return Err(error),
    };
    let live = node.live();
    match (due, attempt.route().clone()) {
        (Due::Expired, _) => give_up(node, attempt, Reason::QueueExpired).await,
        (Due::ReturnAsked, _) => give_up(node, attempt, Reason::OperatorReturned).await,
        (Due::Attempt, Route::Federation(domain)) => outbound::deliver(node, attempt, &domain).await,
        (Due::Attempt, Route::Environment) => handoff::hand_off(node, attempt, &live.environment).await,
        (Due::Attempt, Route::Fallback) => match &live.fallback {
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
