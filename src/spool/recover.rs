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
    let tables = Snapshot::open(&database.begin_read()?, &vault)?;
    let mut board = Board::new(settings.retry, world.now());
    // A million messages take seconds to open, and neither table needs the other one: side by side.
    let (messages, under_way) = std::thread::scope(|scope| {
        let messages = scope.spawn(|| survey_messages(&tables));
        let under_way = survey_deliveries(&tables, &mut board);
        (messages.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), under_way)
    });
    let (messages, mut broken) = (messages?, under_way?);
    board.restore(messages.count, messages.octets, messages.unreadable.len());
    // Without its message a delivery can neither be tried nor returned: it is left as it is, for whoever repairs it.
    for &id in &messages.unreadable {
        board.remove_all_of(id);
    }
    broken.retain(|(id, _)| !messages.unreadable.contains(&id.message));
    let lost = clear_bodies(bodies, &messages.with_file)?;
    for &id in &lost {
        for id in board.remove_all_of(id) {
            broken.push((id, tables.delivery(id)?));
        }
    }
    drop(tables);
    for (id, delivery) in mend(database, &vault, &broken, &lost, settings, world)? {
        enter(&mut board, id, &delivery);
    }
    Ok(Recovered { board, vault })
}

fn enter(board: &mut Board, id: DeliveryId, delivery: &StoredDelivery) {
    if delivery.unknown > 0 && delivery.phase() == Phase::Waiting {
        board.suspects.push(id);
    }
    board.put(id, delivery);
}

struct Messages {
    /// Those that can be read, and the octets of their content.
    count: usize,
    octets: u64,
    /// Those whose content is in a file.
    with_file: HashSet<String>,
    /// Those whose record is damaged.
    unreadable: HashSet<MessageId>,
}

fn survey_messages(tables: &Snapshot) -> Result<Messages, SpoolError> {
    let mut found = Messages { count: 0, octets: 0, with_file: HashSet::new(), unreadable: HashSet::new() };
    tables.each_message(|id, message| match message {
        Ok(message) => {
            found.count += 1;
            found.octets += message.size;
            if message.body == Body::File {
                found.with_file.insert(id.to_string());
            }
        }
        Err(error) => {
            tracing::error!(%error, "left alone");
            // Its record may have named a file: keep that for whoever repairs it.
            found.with_file.insert(id.to_string());
            found.unreadable.insert(id);
        }
    })?;
    Ok(found)
}

/// Enters the deliveries and returns those with an attempt under way. There may be a million, so they are not all in memory
/// at once.
fn survey_deliveries(
    tables: &Snapshot,
    board: &mut Board,
) -> Result<Vec<(DeliveryId, StoredDelivery)>, SpoolError> {
    let mut under_way = Vec::new();
    tables.each_delivery(|id, delivery| {
        match delivery {
            Ok(delivery) if is_under_way(&delivery) => under_way.push((id, delivery)),
            Ok(delivery) => enter(board, id, &delivery),
            Err(error) => {
                tracing::error!(%error, "left alone");
                board.damaged += 1;
            }
        }
        ControlFlow::Continue(())
    })?;
    Ok(under_way)
}

const fn is_under_way(delivery: &StoredDelivery) -> bool {
    matches!(delivery.state, State::Attempting { .. })
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

/// Ends attempts that were under way, and holds deliveries whose content is missing. Returns all as they are now.
fn mend(
    database: &Database,
    vault: &Vault,
    broken: &[(DeliveryId, StoredDelivery)],
    lost: &HashSet<MessageId>,
    settings: &Settings,
    world: &World,
) -> Result<Vec<(DeliveryId, StoredDelivery)>, SpoolError> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    transaction.set_quick_repair(true);
    let mut tables = Tables::open(&transaction, vault)?;
    let alone = broken.iter().filter(|(_, delivery)| is_under_way(delivery)).take(2).count() == 1;
    let blame = if alone { attempt::Blame::Alone } else { attempt::Blame::Among };
    let mut mended = Vec::new();
    for (id, delivery) in broken {
        if is_under_way(delivery) {
            tracing::warn!(delivery = %id, "the node stopped during an attempt; its end is unknown");
            let random = world.random.next();
            let (now, retry) = (world.now(), settings.retry);
            attempt::abandon(&mut tables, *id, delivery.clone(), blame, now, retry, random)?;
        }
        let mut delivery = tables.delivery(*id)?;
        if lost.contains(&id.message) && !delivery.phase().is_settled() {
            tracing::error!(delivery = %id, "held: the content file of its message is missing");
            delivery.state = State::Held { by: Hold::Damaged };
            tables.put_delivery(*id, &delivery)?;
        }
        mended.push((*id, delivery));
    }
    drop(tables);
    transaction.commit()?;
    Ok(mended)
}
