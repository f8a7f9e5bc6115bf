//! At start: check the format, end what was under way, and remove what nobody refers to.
//!
//! What is read is the schedule, one small row for each delivery, and nothing else of what waits. What does not open there is
//! looked up in its delivery; if rows are missing, every delivery is looked at. Whatever was found so is written down.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use redb::{Database, Durability, ReadableDatabase};

use crate::model::{DeliveryId, MessageId};
use crate::world::{Threads, World};

use super::board::{Board, Crowd};
use super::disk::Bodies;
use super::entry::{Entry, Standing};
use super::layout::prepare;
use super::seal::{MasterKeys, Vault};
use super::stored::{Body, Hold, State, StoredDelivery};
use super::tables::{Slice, Snapshot, Tables};
use super::{Settings, SpoolError, attempt};

/// How many read a large store at once: as many questions as a disk likes to have. (On the one measured, 16 random reads at once got
/// 17,000 answers a second, 64 twice as many.)
const READERS: usize = 64;
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
    let mut survey = survey(&tables, &mut board, world.threads)?;
    let rows = complete(&tables, &mut survey, &mut board)?;
    board.restore(usize::try_from(tables.lengths()?.0).unwrap_or(usize::MAX), survey.octets);
    let lost = clear_bodies(bodies, &tables, &mut survey.files)?;
    let mut broken = Vec::new();
    let from_lost = lost.iter().flat_map(|&id| board.remove_all_of(id)).collect::<Vec<_>>();
    survey.under_way.retain(|id| !lost.contains(&id.message));
    for id in survey.under_way.into_iter().chain(from_lost) {
        match tables.delivery(id) {
            Ok(delivery) => broken.push((id, delivery)),
            Err(error @ (SpoolError::Damaged(_) | SpoolError::NoDelivery(_))) => {
                tracing::error!(%error, "damaged on disk: left alone");
                board.remove(id);
                board.damaged += 1;
            }
            Err(error) => return Err(error),
        }
    }
    // In whatever order the readers came by.
    broken.sort_unstable_by_key(|(id, _)| *id);
    drop(tables);
    for (id, delivery) in mend(database, &vault, &Mending { broken, lost, rows }, settings, world)? {
        board.put_found(id, &Entry::of(&delivery));
    }
    board.suspects.sort_unstable();
    Ok(Recovered { board, vault })
}

/// What is in the schedule.
#[derive(Default)]
struct Survey {
    /// Its rows, those that do not open included.
    rows: u64,
    /// Of the content of all messages.
    octets: u64,
    files: Files,
    /// Deliveries with an attempt under way.
    under_way: Vec<DeliveryId>,
    /// Deliveries whose rows do not open. All others are on the board.
    unreadable: Vec<DeliveryId>,
}

/// Which messages have their content in a file.
#[derive(Default)]
struct Files {
    certain: Vec<MessageId>,
    /// Those whose deliveries are damaged: if there is a file, it stays for whoever repairs them.
    perhaps: HashSet<MessageId>,
}

impl Survey {
    /// Counts a delivery, and its message with the first one.
    fn count(&mut self, id: DeliveryId, delivery: &Entry) {
        if id.route == 0 {
            self.octets += delivery.size;
        }
        if delivery.body == Body::File && self.files.certain.last() != Some(&id.message) {
            self.files.certain.push(id.message);
        }
        if delivery.standing == Standing::Attempting {
            self.under_way.push(id);
        }
    }

    fn add(&mut self, mut other: Self) {
        self.rows += other.rows;
        self.octets += other.octets;
        self.files.certain.append(&mut other.files.certain);
        self.files.perhaps.extend(other.files.perhaps);
        self.under_way.append(&mut other.under_way);
        self.unreadable.append(&mut other.unreadable);
    }
}

/// Enters every delivery that has a row. Of a million rows the pages lie all over the file: one after the other each would
/// wait for the disk, so many readers ask at once, each for one slice after the other.
fn survey(tables: &Snapshot, board: &mut Board, threads: Threads) -> Result<Survey, SpoolError> {
    let readers = if threads == Threads::Apart { READERS } else { 1 };
    let slices = tables.slices(SLICES)?;
    let (next, crowded) = (AtomicUsize::new(0), Mutex::new((board, Crowd::default())));
    let read = || {
        let mut found = Survey::default();
        while let Some(slice) = slices.get(next.fetch_add(1, Ordering::Relaxed)) {
            survey_slice(tables, slice, &crowded, &mut found)?;
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
    let (board, crowd) = crowded.into_inner().unwrap_or_else(PoisonError::into_inner);
    board.put_all(crowd);
    let mut survey = Survey::default();
    all.into_iter().for_each(|found| survey.add(found));
    Ok(survey)
}

/// There may be a million deliveries, so they are not all in memory at once.
fn survey_slice(
    tables: &Snapshot,
    slice: &Slice,
    crowded: &Mutex<(&mut Board, Crowd)>,
    found: &mut Survey,
) -> Result<(), SpoolError> {
    let mut some = Vec::with_capacity(AT_ONCE);
    let flush = |some: &mut Vec<_>| {
        let mut crowded = crowded.lock().unwrap_or_else(PoisonError::into_inner);
        let (board, crowd) = &mut *crowded;
        for (id, delivery) in some.drain(..) {
            board.announce(crowd, id, &delivery);
        }
    };
    tables.each_entry_of(slice, |id, delivery| {
        found.rows += 1;
        let Some(delivery) = delivery else {
            found.unreadable.push(id);
            return;
        };
        found.count(id, &delivery);
        some.push((id, delivery));
        if some.len() >= AT_ONCE {
            flush(&mut some);
        }
    })?;
    flush(&mut some);
    Ok(())
}

/// Enters deliveries whose rows are damaged or missing. Returns those whose rows have to be made again.
fn complete(
    tables: &Snapshot,
    survey: &mut Survey,
    board: &mut Board,
) -> Result<Vec<DeliveryId>, SpoolError> {
    let mut rows = Vec::new();
    let mut missing = survey.rows != tables.lengths()?.1;
    let mut left_alone = HashSet::new();
    for id in std::mem::take(&mut survey.unreadable) {
        match tables.delivery(id) {
            Ok(delivery) => {
                tracing::error!(delivery = %id, "its row in the schedule is damaged on disk; it is made again");
                take_in(survey, board, id, &delivery);
                rows.push(id);
            }
            Err(SpoolError::NoDelivery(_)) => {
                tracing::error!(delivery = %id, "a row in the schedule is damaged on disk: there is no such delivery");
                rows.push(id);
                missing = true;
            }
            Err(error) => {
                leave_alone(survey, board, id, error)?;
                left_alone.insert(id);
            }
        }
    }
    if missing {
        tracing::error!("the schedule is damaged on disk; it is made again from all deliveries");
        let mut failed = Ok(());
        tables.each_delivery(|id, delivery| {
            if board.has(id) || left_alone.contains(&id) {
                return ControlFlow::Continue(());
            }
            rows.push(id);
            match delivery {
                Ok(delivery) => take_in(survey, board, id, &delivery),
                Err(error) => failed = leave_alone(survey, board, id, error),
            }
            if failed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        failed?;
    }
    Ok(rows)
}

fn take_in(survey: &mut Survey, board: &mut Board, id: DeliveryId, delivery: &StoredDelivery) {
    let delivery = Entry::of(delivery);
    survey.count(id, &delivery);
    board.put_found(id, &delivery);
}

fn leave_alone(
    survey: &mut Survey,
    board: &mut Board,
    id: DeliveryId,
    error: SpoolError,
) -> Result<(), SpoolError> {
    let SpoolError::Damaged(_) = error else { return Err(error) };
    tracing::error!(%error, "left alone");
    board.damaged += 1;
    survey.files.perhaps.insert(id.message);
    Ok(())
}

/// Removes content files that no record names (SPOOL-002); returns the messages whose file is missing.
fn clear_bodies(
    bodies: &dyn Bodies,
    tables: &Snapshot,
    files: &mut Files,
) -> Result<HashSet<MessageId>, SpoolError> {
    let io = |error: std::io::Error| SpoolError::broken(format_args!("bodies: {error}"));
    files.certain.sort_unstable();
    files.certain.dedup();
    let mut present = vec![false; files.certain.len()];
    let mut others = Vec::new();
    let mut look = |name: &str| {
        let id = name.parse::<MessageId>().ok().filter(|id| id.to_string() == name);
        match id.and_then(|id| files.certain.binary_search(&id).ok()) {
            Some(place) => present[place] = true,
            None => others.push((name.to_owned(), id)),
        }
    };
    bodies.each_name(&mut look).map_err(io)?;
    let mut removed = 0;
    for (name, id) in others {
        match id {
            Some(id) if files.perhaps.contains(&id) => {}
            // Nothing but its record may say that it is there.
            Some(id) if tables.has_message(id)? => {
                tracing::error!(content = %id, "no delivery of its message has a content file; damaged on disk: left alone");
            }
            _ => {
                bodies.remove(&name).map_err(io)?;
                removed += 1;
            }
        }
    }
    if removed > 0 {
        tracing::info!(
            files = removed,
            "removed content files of messages that were never accepted or are settled"
        );
    }
    let missing = files.certain.iter().zip(present).filter(|(_, present)| !present);
    Ok(missing.map(|(id, _)| *id).collect())
}

/// What is to be put in order.
struct Mending {
    /// Deliveries with an attempt under way, or without their content file.
    broken: Vec<(DeliveryId, StoredDelivery)>,
    /// Messages without their content file.
    lost: HashSet<MessageId>,
    /// Deliveries whose rows in the schedule are to be made again.
    rows: Vec<DeliveryId>,
}

const fn is_under_way(delivery: &StoredDelivery) -> bool {
    matches!(delivery.state, State::Attempting { .. })
}

/// Ends attempts that were under way, and holds deliveries whose content is missing. Returns all as they are now.
fn mend(
    database: &Database,
    vault: &Vault,
    Mending { broken, lost, rows }: &Mending,
    settings: &Settings,
    world: &World,
) -> Result<Vec<(DeliveryId, StoredDelivery)>, SpoolError> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    transaction.set_quick_repair(true);
    let mut tables = Tables::open(&transaction, vault)?;
    for &id in rows {
        tables.mend_row(id)?;
    }
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
