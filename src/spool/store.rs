//! What the handles of the spool and its committing thread share.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwapOption;
use redb::Database;
use tokio::sync::Notify;

use crate::model::MessageId;

use super::board::{Board, Effect};
use super::disk::{Bodies, Lock, Volume};
use super::recover::Recovered;
use super::seal::Vault;
use super::{Settings, SpoolError};

/// Room that must be left on the disk beside the reserve when a message is accepted, so that what is in the spool can
/// leave it.
const MARGIN_OCTETS: u64 = 16 << 20;
/// What a commit writes for each octet of content in the database: the value, and pages copied around it.
const INLINE_FACTOR: u64 = 3;

pub(super) struct Store {
    pub(super) settings: Settings,
    pub(super) bodies: Arc<dyn Bodies>,
    pub(super) vault: Arc<Vault>,
    volume: Arc<dyn Volume>,
    database: ArcSwapOption<Database>,
    board: Mutex<Board>,
    broken: OnceLock<Arc<str>>,
    lock: Mutex<Option<Lock>>,
    /// Messages whose content turned out to be damaged or gone.
    damaged: Mutex<HashSet<MessageId>>,
    /// Messages whose content is on its way.
    receiving: AtomicUsize,
    pub(super) news: Notify,
}

/// A message whose content is on its way, until this is dropped.
pub(super) struct Receiving(Arc<Store>);

impl Receiving {
    pub(super) fn begin(store: &Arc<Store>) -> Self {
        store.receiving.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(store))
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        self.0.receiving.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Store {
    pub(super) fn new(
        settings: Settings,
        bodies: Arc<dyn Bodies>,
        volume: Arc<dyn Volume>,
        database: Database,
        recovered: Recovered,
        lock: Option<Lock>,
    ) -> Self {
        Self {
            settings,
            bodies,
            vault: recovered.vault,
            volume,
            database: ArcSwapOption::from_pointee(database),
            board: Mutex::new(recovered.board),
            broken: OnceLock::new(),
            lock: Mutex::new(lock),
            damaged: Mutex::default(),
            receiving: AtomicUsize::new(0),
            news: Notify::new(),
        }
    }

    /// The database, unless the store is broken or closed.
    pub(super) fn database(&self) -> Result<Arc<Database>, SpoolError> {
        self.check()?;
        self.database.load_full().ok_or_else(|| SpoolError::broken("it was closed"))
    }

    /// How many messages are being received. A hint, not more: nothing is decided by it but how long to wait for them.
    pub(super) fn receiving(&self) -> usize {
        self.receiving.load(Ordering::Relaxed)
    }

    /// An error once the store is broken.
    pub(super) fn check(&self) -> Result<(), SpoolError> {
        self.broken.get().map_or(Ok(()), |detail| Err(SpoolError::Broken(Arc::clone(detail))))
    }

    /// Marks the store broken, for good.
    pub(super) fn poison(&self, error: &SpoolError) {
        let detail: Arc<str> = match error {
            SpoolError::Broken(detail) => Arc::clone(detail),
            other => other.to_string().into(),
        };
        if self.broken.set(detail).is_ok() {
            tracing::error!(%error, "the spool accepts nothing more: its disk failed; restart the node once it is repaired");
        }
        self.news.notify_one();
    }

    /// Closes the database and gives up the lock.
    pub(super) fn shut(&self) {
        self.database.store(None);
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    pub(super) fn board(&self) -> MutexGuard<'_, Board> {
        // A panic while the lock was held can only have come from arithmetic on counters; the order of the due times
        // is rebuilt from the store at the next start.
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers that the content of a message is damaged: the attempt that found out ends in `held` (SPOOL-013).
    pub(super) fn mark_damaged(&self, id: MessageId) {
        if self.damaged.lock().unwrap_or_else(PoisonError::into_inner).insert(id) {
            tracing::error!(content = %id, "the stored content is damaged or gone; its deliveries are held when next tried");
        }
    }

    /// Whether [`Self::mark_damaged`] was called.
    pub(super) fn is_damaged(&self, id: MessageId) -> bool {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }

    /// An operator lets a message go on: what is damaged will be found again.
    pub(super) fn forget_damage(&self, id: MessageId) {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// Whether a message of `octets` can be accepted, when `inline` octets go into the same commit.
    pub(super) fn room_for(&self, octets: u64, inline: u64) -> Result<(), SpoolError> {
        let full = |detail: String| Err(SpoolError::Full(detail));
        if let Some(limit) = self.settings.content_octets_max {
            let held = self.board().octets();
            if held.saturating_add(octets) > limit {
                return full(format!("{held} octets of {limit} are in use"));
            }
        }
        let available = self
            .volume
            .available()
            .map_err(|error| SpoolError::Full(format!("free space unknown: {error}")))?;
        if !self.volume.is_reserved() {
            let wanted = self.settings.reserve_octets.saturating_add(MARGIN_OCTETS);
            if available < wanted || self.volume.reserve().is_err() {
                return full("the disk has no room for the reserve".to_owned());
            }
            tracing::info!("the spool has its reserve again");
            return self.room_for(octets, inline);
        }
        let needed = inline.saturating_mul(INLINE_FACTOR).saturating_add(MARGIN_OCTETS);
        if available < needed {
            return full(format!("{available} octets are free on the disk, {needed} are needed"));
        }
        Ok(())
    }

    /// Does what has to follow a commit.
    pub(super) fn follow(&self, effects: Vec<Effect>) {
        let mut dropped = Vec::new();
        {
            let mut board = self.board();
            for effect in effects {
                match effect {
                    Effect::Delivery(id, delivery) => board.put(id, &delivery),
                    Effect::PutOff(id, at) => board.put_off(id, at),
                    Effect::Gone(id) => board.remove(id),
                    Effect::Added { octets } => board.add_message(octets),
                    Effect::Removed { octets } => board.remove_message(octets),
                    Effect::DropBody(id) => dropped.push(id),
                }
            }
        }
        for id in dropped {
            self.drop_body(id);
        }
        self.news.notify_one();
    }

    /// Removes a content file. If that fails, it goes at the next start (SPOOL-002).
    pub(super) fn drop_body(&self, id: MessageId) {
        if let Err(error) = self.bodies.remove(&id.to_string()) {
            tracing::warn!(content = %id, %error, "a content file could not be removed; it goes at the next start");
        }
    }
}
