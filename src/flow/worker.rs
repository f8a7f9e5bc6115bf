//! The clockwork: takes what is due from the spool, and keeps a bound on how much is under way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::disposition::Ends;
use super::node::Node;
use super::refusal::Refusal;
use super::{handoff, outbound};
use crate::model::{DecisionRecord, Direction, Reason};
use crate::spool::{Attempt, Claim, Due, Route, SpoolError};

/// How many claims are looked at in one round.
const ROUND: usize = 256;
/// The longest sleep: budgets and idle links want tidying.
const TIDY: Duration = Duration::from_secs(10);
/// How often decision records past their time are removed.
const PRUNE_SECONDS: i64 = 3600;

/// Works until `stop`, then waits for what is under way.
pub(super) async fn work(node: Node, stop: CancellationToken) {
    let slots = Slots::new(&node);
    let mut running = JoinSet::new();
    let mut pruned = None;
    while !stop.is_cancelled() && node.inner.spool.health().is_ok() {
        while running.try_join_next().is_some() {}
        let due = node.inner.spool.take_due_with(node.inner.world.now(), ROUND, |route| slots.take(route));
        for (claim, slot) in due {
            let node = node.clone();
            running.spawn(async move {
                if let Err(error) = attempt(&node, claim).await {
                    tracing::error!(%error, "an attempt could not be recorded");
                }
                drop(slot);
            });
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = node.inner.spool.changed() => {}
            () = tokio::time::sleep(nap(&node)) => {}
            Some(_) = running.join_next(), if !running.is_empty() => {}
        }
        node.inner.budgets.load().tidy();
        let now = node.inner.world.now();
        if pruned.is_none_or(|at| now.duration_since(at).as_secs() >= PRUNE_SECONDS) {
            pruned = Some(now);
            running.spawn(prune(node.clone()));
        }
        node.live().roads.pool.sweep().await;
    }
    while running.join_next().await.is_some() {}
    node.live().roads.pool.clear().await;
}

async fn prune(node: Node) {
    match node.inner.spool.prune_records().await {
        Ok(0) => {}
        Ok(records) => tracing::info!(records, "removed decision records past their time"),
        Err(error) => tracing::warn!(%error, "decision records past their time could not be removed"),
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

/// A bound on all attempts, and one on those of each route, so that a dead peer does not take every slot.
struct Slots {
    all: Arc<Semaphore>,
    each: usize,
    routes: Mutex<HashMap<Route, Arc<Semaphore>>>,
}

impl Slots {
    fn new(node: &Node) -> Self {
        let limits = &node.live().config.limits;
        let count = |limit: u64| usize::try_from(limit).unwrap_or(usize::MAX >> 4);
        Self {
            all: Arc::new(Semaphore::new(count(limits.links))),
            each: count(limits.links_per_peer),
            routes: Mutex::default(),
        }
    }

    fn take(&self, route: &Route) -> Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
        let all = Arc::clone(&self.all).try_acquire_owned().ok()?;
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        // Routes with nothing under way hold no state worth keeping.
        routes.retain(|_, slots| slots.available_permits() < self.each);
        let slots = routes.entry(route.clone()).or_insert_with(|| Arc::new(Semaphore::new(self.each)));
        let own = Arc::clone(slots).try_acquire_owned().ok()?;
        Some((all, own))
    }
}
