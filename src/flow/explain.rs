//! What would happen, and why: the record of an attempt without its message.

use super::assemble;
use super::refusal::Refusal;
use super::road::{Reached, Roads};
use crate::config::Config;
use crate::discovery::ResolverError;
use crate::model::{Address, DecisionRecord, Direction, Outcome, Reason};
use crate::policy::{Outbound, consequence};
use crate::world::World;

/// How far to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// DNS only: no connection to the other provider.
    Dns,
    /// Up to EHLO inside TLS, then QUIT. No MAIL, RCPT or content.
    Link,
}

/// Walks the road to `to` as a delivery would (REC-003). `from` is a sender of ours; it must be in one of our domains.
///
/// # Errors
/// The resolver could not be started.
pub async fn explain(
    config: &Config,
    world: World,
    to: &Address,
    from: Option<&Address>,
    depth: Depth,
) -> Result<DecisionRecord, ResolverError> {
    let roads = assemble::roads(config, world).await?;
    Ok(foretell(config, &roads, to, from, depth).await)
}

/// The same on roads that exist.
pub(super) async fn foretell(
    config: &Config,
    roads: &Roads,
    to: &Address,
    from: Option<&Address>,
    depth: Depth,
) -> DecisionRecord {
    let world = &roads.world;
    let mut record = DecisionRecord::begin(world.attempt_id(), Direction::Outbound, world.now());
    record.sender = from.map(ToString::to_string);
    let walked = walk(config, roads, to, from, depth, &mut record).await;
    let elapsed = world.now().duration_since(record.started);
    record.duration_ms = u64::try_from(elapsed.as_millis()).unwrap_or(0);
    match walked {
        Ok(()) => record.outcome = Outcome::WouldDeliver,
        Err(refusal) => {
            let outcome = match consequence(refusal.reason).outbound {
                Some(Outbound::NextHost | Outbound::Later) => Outcome::Later,
                Some(Outbound::Return) | None => Outcome::Returned,
            };
            refusal.enter(&mut record, outcome);
        }
    }
    record
}

async fn walk(
    config: &Config,
    roads: &Roads,
    to: &Address,
    from: Option<&Address>,
    depth: Depth,
    record: &mut DecisionRecord,
) -> Result<(), Refusal> {
    if let Some(from) = from
        && !config.node.domains.contains(from.domain())
    {
        let detail = format!("{} is no domain of this node", from.domain());
        return Err(Refusal::new(Reason::SenderNotAllowed, detail));
    }
    if config.node.domains.contains(to.domain()) {
        record.peer_domain = Some(to.domain().clone());
        record
            .warnings
            .push("the recipient is in our own environment; the message would not leave".to_owned());
        return Ok(());
    }
    let mut road = roads.find(to.domain(), record).await?;
    match depth {
        Depth::Dns => roads.look(&mut road, record).await,
        Depth::Link => {
            let Reached { session, .. } = roads.next(&mut road, record).await?;
            session.quit().await;
            Ok(())
        }
    }
}
