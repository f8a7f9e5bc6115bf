//! At start: check the format, end what was under way, and remove what nobody refers to.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use redb::{Database, Durability, ReadableDatabase};

use crate::model::{DeliveryId, MessageId};
use crate::world::World;

use super::board::Board;
use super::disk::Bodies;
use super::seal::{MasterKeys, Vault};
use super::stored::{Body, Hold, State, StoredDelivery};
use super::tables::{Snapshot, Tables, prepare};
use super::{Phase, Settings, SpoolError, attempt};

/// A store in which no attempt is under way.
pub(super) struct Recovered {
    pub(super) board: Board,
    pub(super) vault: Arc<Vault>,
}

/// Brings the store into that state.
pub(super) fn recover(
    database: &Database,
    bodies: &dyn Bodies,
    keys: &MasterKeys,
    settings: &Settings,
    world: &World,
) -> Result<Recovered, SpoolError> {
    let vault = Arc::new(prepare(database, keys)?);
    let mut found = survey(database, &vault, settings, world)?;
    // Without its message a delivery can neither be tried nor returned: it is left as it is, for whoever repairs it.
    let unreadable = &found.unreadable;
    found.deliveries.retain(|(id, _)| !unreadable.contains(&id.message));
    let lost = clear_bodies(bodies, &found.with_file)?;
    let changed = mend(database, &vault, &found.deliveries, &lost, settings, world)?;
    for (id, delivery) in found.deliveries.into_iter().chain(changed) {
        if delivery.unknown > 0 && delivery.phase() == Phase::Waiting {
            found.board.suspects.push(id);
        }
        found.board.put(id, &delivery);
    }
    Ok(Recovered { board: found.board, vault })
}

struct Survey {
    board: Board,
    deliveries: Vec<(DeliveryId, StoredDelivery)>,
    /// Messages whose content is in a file.
    with_file: HashSet<String>,
    unreadable: HashSet<MessageId>,
}

fn survey(
    database: &Database,
    vault: &Arc<Vault>,
    settings: &Settings,
    world: &World,
) -> Result<Survey, SpoolError> {
    let tables = Snapshot::open(&database.begin_read()?, vault)?;
    let mut board = Board::new(settings.retry, world.now());
    let mut with_file = HashSet::new();
    let mut unreadable = HashSet::new();
    let mut damaged = 0;
    tables.each_message(|id, message| match message {
        Ok(message) => {
            board.add_message(message.size);
            if message.body == Body::File {
                with_file.insert(id.to_string());
            }
        }
        Err(error) => {
            tracing::error!(%error, "left alone");
            damaged += 1;
            // Its record may have named a file: keep that for whoever repairs it.
            with_file.insert(id.to_string());
            unreadable.insert(id);
        }
    })?;
    let mut deliveries = Vec::new();
    tables.each_delivery(|id, delivery| {
        match delivery {
            Ok(delivery) => deliveries.push((id, delivery)),
            Err(error) => {
                tracing::error!(%error, "left alone");
                damaged += 1;
            }
        }
        ControlFlow::Continue(())
    })?;
    board.damaged = damaged;
    Ok(Survey { board, deliveries, with_file, unreadable })
}

/// Removes content files that no record names (SPOOL-002); returns the messages whose file is missing.
fn clear_bodies(bodies: &dyn Bodies, named: &HashSet<String>) -> Result<HashSet<MessageId>, SpoolError> {
    let io = |error: std::io::Error| SpoolError::broken(format_args!("bodies: {error}"));
    let present: HashSet<String> = bodies.names().map_err(io)?.into_iter().collect();
    let orphans: Vec<_> = present.difference(named).collect();
    for name in &orphans {
        bodies.remove(name).map_err(io)?;
    }
    if !orphans.is_empty() {
        tracing::info!(
            files = orphans.len(),
            "removed content files of messages that were never accepted or are settled"
        );
    }
    Ok(named.difference(&present).filter_map(|name| name.parse().ok()).collect())
}

/// Ends attempts that were under way, and holds deliveries whose content is missing. Returns what it changed.
fn mend(
    database: &Database,
    vault: &Vault,
    deliveries: &[(DeliveryId, StoredDelivery)],
    lost: &HashSet<MessageId>,
    settings: &Settings,
    world: &World,
) -> Result<Vec<(DeliveryId, StoredDelivery)>, SpoolError> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    transaction.set_quick_repair(true);
    let mut tables = Tables::open(&transaction, vault)?;
    let mut changed = Vec::new();
    let under_way = |delivery: &StoredDelivery| matches!(delivery.state, State::Attempting { .. });
    let alone = deliveries.iter().filter(|(_, delivery)| under_way(delivery)).take(2).count() == 1;
    let blame = if alone { attempt::Blame::Alone } else { attempt::Blame::Among };
    for (id, delivery) in deliveries {
        if under_way(delivery) {
            tracing::warn!(delivery = %id, "the node stopped during an attempt; its end is unknown");
            let random = world.random.next();
            let (now, retry) = (world.now(), settings.retry);
            attempt::abandon(&mut tables, *id, delivery.clone(), blame, now, retry, random)?;
            changed.push((*id, tables.delivery(*id)?));
        }
        if lost.contains(&id.message) && !delivery.phase().is_settled() {
            tracing::error!(delivery = %id, "held: the content file of its message is missing");
            let mut delivery = tables.delivery(*id)?;
            delivery.state = State::Held { by: Hold::Damaged };
            tables.put_delivery(*id, &delivery)?;
            changed.push((*id, delivery));
        }
    }
    drop(tables);
    transaction.commit()?;
    Ok(changed)
}
