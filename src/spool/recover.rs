//! At start: check the format, end what was under way, and remove what nobody refers to.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use redb::{Database, Durability, ReadableDatabase};

use crate::model::{DeliveryId, MessageId};
use crate::world::{Threads, World};

use super::board::Board;
use super::disk::Bodies;
use super::seal::{MasterKeys, Vault};
use super::stored::{Body, Hold, State, StoredDelivery};
use super::tables::{Slice, Snapshot, Tables, prepare};
use super::{Phase, Settings, SpoolError, attempt};

/// How many read a large store at once: as many questions as a disk likes to have.
const READERS: usize = 16;
/// In how many slices; more than readers, because messages do not come at a steady rate.
const SLICES: u128 = 256;
/// How many deliveries a reader enters at once.
const AT_ONCE: usize = 256;

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
    let Survey { messages, under_way: mut broken } = survey(&tables, &mut board, world.threads)?;
    board.restore(messages.count, messages.octets, messages.unreadable.len());
    // Without its message a delivery can neither be tried nor returned: it is left as it is, for whoever repairs it.
    for &id in &messages.unreadable {
        board.remove_all_of(id);
    }
    broken.retain(|(id, _)| !messages.unreadable.contains(&id.message));
    // In whatever order the readers came by.
    broken.sort_unstable_by_key(|(id, _)| *id);
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

/// What is in the tables.
#[derive(Default)]
struct Survey {
    messages: Messages,
    /// Deliveries with an attempt under way. All others are on the board.
    under_way: Vec<(DeliveryId, StoredDelivery)>,
}

#[derive(Default)]
struct Messages {
    /// Those that can be read, and the octets of their content.
    count: usize,
    octets: u64,
    /// Those whose content is in a file.
    with_file: HashSet<String>,
    /// Those whose record is damaged.
    unreadable: HashSet<MessageId>,
}

impl Survey {
    fn add(&mut self, other: Self) {
        let Self { messages, under_way } = other;
        self.messages.count += messages.count;
        self.messages.octets += messages.octets;
        self.messages.with_file.extend(messages.with_file);
        self.messages.unreadable.extend(messages.unreadable);
        self.under_way.extend(under_way);
    }
}

/// Looks at every message and enters the deliveries. With a million of them that is a hundred thousand pages all over the
/// file: one after the other each would wait for the disk, so many readers ask at once, each for one slice after the other.
fn survey(tables: &Snapshot, board: &mut Board, threads: Threads) -> Result<Survey, SpoolError> {
    let readers = if threads == Threads::Apart { READERS } else { 1 };
    let slices = tables.slices(SLICES)?;
    let (next, board) = (AtomicUsize::new(0), Mutex::new(board));
    let read = || {
        let mut found = Survey::default();
        while let Some(slice) = slices.get(next.fetch_add(1, Ordering::Relaxed)) {
            survey_messages(tables, slice, &mut found.messages)?;
            survey_deliveries(tables, slice, &board, &mut found.under_way)?;
        }
        Ok::<_, SpoolError>(found)
    };
    let all = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..readers.min(slices.len())).map(|_| scope.spawn(read)).collect();
        let joined = readers.into_iter().map(|reader| {
            // What redb thinks of a damaged file is the caller's affair, in whichever thread it comes up.
            reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        joined.collect::<Result<Vec<_>, _>>()
    })?;
    let mut survey = Survey::default();
    all.into_iter().for_each(|found| survey.add(found));
    Ok(survey)
}

fn survey_messages(tables: &Snapshot, slice: &Slice, found: &mut Messages) -> Result<(), SpoolError> {
    tables.each_message_of(slice, |id, message| match message {
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
    })
}

/// There may be a million deliveries, so they are not all in memory at once.
fn survey_deliveries(
    tables: &Snapshot,
    slice: &Slice,
    board: &Mutex<&mut Board>,
    under_way: &mut Vec<(DeliveryId, StoredDelivery)>,
) -> Result<(), SpoolError> {
    let board = || board.lock().unwrap_or_else(PoisonError::into_inner);
    let mut some = Vec::with_capacity(AT_ONCE);
    let flush = |some: &mut Vec<_>| {
        let mut board = board();
        some.drain(..).for_each(|(id, delivery)| enter(&mut board, id, &delivery));
    };
    tables.each_delivery_of(slice, |id, delivery| {
        match delivery {
            Ok(delivery) if is_under_way(&delivery) => under_way.push((id, delivery)),
            Ok(delivery) => some.push((id, delivery)),
            Err(error) => {
                tracing::error!(%error, "left alone");
                board().damaged += 1;
            }
        }
        if some.len() >= AT_ONCE {
            flush(&mut some);
        }
        ControlFlow::Continue(())
    })?;
    flush(&mut some);
    Ok(())
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
