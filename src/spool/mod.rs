//! Messages this node answers for, and the one instant of acceptance.
//!
//! # Guarantees
//! - [`Draft::accept`] returns [`Accepted`] only after content, envelope and the reference between them are on stable
//!   storage; nothing else makes an [`Accepted`] (SPOOL-001).
//! - An attempt is on stable storage before [`Spool::begin_attempt`] returns, and its end, its decision record and a
//!   report it caused are one commit. An attempt that is found without an end was `unknown` (SPOOL-006).
//! - That a sender was told of a delay, and the notice that says so, are one commit ([`Overdue::told`], SPOOL-015).
//! - Content is read back octet for octet as it was accepted, or ends in an error (SPOOL-007, SPOOL-013).
//! - Memory does not grow with a message: content above [`Settings::inline_body_max`] streams through a file.
//!
//! What a crash leaves behind:
//!
//! ```text
//! state        content file   record   after a crash
//! draft        perhaps        no       file removed: nobody was told we have it
//! waiting      perhaps        yes      waits
//! attempting   perhaps        yes      attempt recorded as unknown; a suspect, tried again alone
//! settled      perhaps        no       file removed; the decision records remain
//! ```
//!
//! # Errors
//! [`SpoolError::Full`] is an operating condition: answer `452` and go on. [`SpoolError::Broken`] is final: after a failed
//! flush nobody knows what is on disk, so nothing is tried again and nothing accepted until a restart (SPOOL-003).
//!
//! # How
//! One redb database, written by one thread that batches (`committer`), content up to 256 KiB inside it, larger content
//! in a file each under `content/`, flushed by the receiving task before the commit. What is due when is kept in memory
//! (`board`) and rebuilt at start. Everything but identifiers and times is encrypted (`seal`). The disk is behind three
//! seams (`disk`), which tests replace by one that loses power.
//!
//! # Standards
//! RFC 5321 sections 4.5.4 and 6.1. Our text: `spec/06-spool.md`.

mod attempt;
mod board;
mod committer;
mod content;
pub mod disk;
mod draft;
mod entry;
mod error;
mod late;
mod layout;
mod maintain;
mod operate;
mod recover;
mod schedule;
mod seal;
mod seen;
mod store;
mod stored;
mod tables;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod upgrade;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use redb::ReadableDatabase;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::model::{AttemptId, DecisionRecord, DeliveryId, MessageId};
use crate::world::World;

pub use attempt::{Attempt, AttemptEnd, Claim, ContentFacts, Finished, Leash, Pending, RecipientEnd};
pub use board::{Admission, Due};
pub use content::Content;
pub use disk::Disk;
pub use draft::{Accepted, Draft, Kept, NewMessage};
pub use error::SpoolError;
pub use late::Overdue;
pub use maintain::{BackedUp, Scrubbed};
pub use operate::{DeliveryView, Filter, MessageView, RecipientView};
pub use schedule::{EXPIRY_MAX, Retry};
pub use seal::{KeySource, MasterKeys};
pub use seen::{Arrived, Imprint, REPEAT_WINDOW, Repeated};
pub use stored::{Arrival, Fate, Hold, Note, Origin, Outgoing, Phase, Route};

use committer::{Job, Room};
use disk::Lock;
use seal::{Absent, Opener};
use store::Store;
use tables::{Snapshot, Tables};
use upgrade::from_1;

/// How many old decision records one change removes.
const PRUNE_AT_ONCE: usize = 1000;

/// Settings of the spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The directory; made with mode 0700 if it is not there. On a local disk: its flushes must mean what they say.
    pub dir: PathBuf,
    /// Where the keys come from that everything in the spool is sealed with. Default: a file beside the directory, with
    /// `.key` behind its name.
    pub key: KeySource,
    /// Memory of the database for pages, in octets. Default 32 MiB; redb's own ceiling would be 1 GiB.
    pub cache_bytes: usize,
    /// Content up to this many octets stands in the database, larger content in a file of its own. Default 256 KiB,
    /// where a second flush costs less than carrying the content through the database.
    pub inline_body_max: usize,
    /// Octets kept aside on the disk so that what is in the spool can leave it when the disk is full. Default 64 MiB,
    /// several times what one commit writes at most.
    pub reserve_octets: u64,
    /// Octets of content of all messages together; beyond it the spool is full. Default `None`: as much as the disk takes.
    pub content_octets_max: Option<u64>,
    /// When deliveries are tried again, and given up.
    pub retry: Retry,
    /// How long decision records are kept. Default `None`: until somebody decides.
    pub record_retention: Option<Duration>,
    /// How long a message that a peer sends again is recognised. Default [`REPEAT_WINDOW`].
    pub repeat_window: Duration,
}

impl Settings {
    /// Whether there is a spool already that was sealed with keys, and the file they come from is not there: it will not open
    /// (SPOOL-020).
    #[must_use]
    pub fn lacks_key(&self) -> bool {
        let KeySource::File(key) = &self.key else { return false };
        !key.exists() && self.dir.join(disk::DATABASE).exists() && !from_1::is_due(&self.dir)
    }

    /// The defaults, in `dir`.
    #[must_use]
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        let dir = dir.into();
        Self {
            key: KeySource::beside(&dir),
            dir,
            cache_bytes: 32 << 20,
            inline_body_max: 256 << 10,
            reserve_octets: 64 << 20,
            content_octets_max: None,
            retry: Retry::default(),
            record_retention: None,
            repeat_window: REPEAT_WINDOW,
        }
    }
}

/// How much is in the spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Messages not settled.
    pub messages: usize,
    /// Octets of their content.
    pub octets: u64,
    /// Deliveries that wait.
    pub waiting: usize,
    /// Deliveries with an attempt under way.
    pub attempting: usize,
    /// Deliveries that are held.
    pub held: usize,
    /// Those among them that stopped the node or a worker twice (SPOOL-014).
    #[serde(default)]
    pub poison: usize,
    /// Messages and deliveries whose records turned out to be damaged. They are left alone.
    pub damaged: usize,
}

/// The spool. Clones are handles to the same one.
#[derive(Clone)]
pub struct Spool {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<Store>,
    jobs: mpsc::UnboundedSender<Job>,
    world: World,
}

impl Spool {
    /// Opens the spool in [`Settings::dir`], makes it if it is not there, and clears up after a crash. Blocks.
    ///
    /// # Errors
    /// [`SpoolError::Locked`], [`SpoolError::Open`], [`SpoolError::Format`], [`SpoolError::Key`].
    pub fn open(settings: Settings, world: World) -> Result<Self, SpoolError> {
        let lock = Lock::take(&settings.dir)?;
        let sealed = lock.has_database() && !from_1::is_due(&settings.dir);
        let keys = settings.key.load(if sealed { Absent::Refuse } else { Absent::Make })?;
        from_1::upgrade(&settings.dir, &keys)?;
        let disk = Disk::open(lock, settings.reserve_octets)?;
        Self::open_on(disk, &keys, settings, world)
    }

    /// Opens the spool on a given disk, with given keys. Blocks.
    ///
    /// # Errors
    /// As [`Spool::open`].
    pub fn open_on(
        disk: Disk,
        keys: &MasterKeys,
        settings: Settings,
        world: World,
    ) -> Result<Self, SpoolError> {
        let failed = |detail: String| SpoolError::Open { dir: settings.dir.display().to_string(), detail };
        let database = disk::open_database(disk.database, Arc::clone(&disk.volume), settings.cache_bytes)
            .map_err(failed)?;
        // What opens may still turn out to be damaged inside, and redb may panic on that.
        let recovered =
            disk::guarded(|| recover::recover(&database, disk.bodies.as_ref(), keys, &settings, &world));
        let recovered = match recovered {
            Ok(Ok(recovered)) => recovered,
            Ok(Err(SpoolError::Broken(detail))) => return Err(failed(detail.to_string())),
            Ok(Err(error)) => return Err(error),
            Err(stopped) => return Err(failed(stopped)),
        };
        let store =
            Arc::new(Store::new(settings.clone(), disk.bodies, disk.volume, database, recovered, disk.lock));
        let (jobs, queue) = mpsc::unbounded_channel();
        committer::start(Arc::clone(&store), queue, world.threads)
            .map_err(|error| failed(format!("thread: {error}")))?;
        Ok(Self { inner: Arc::new(Inner { store, jobs, world }) })
    }

    /// Ends the committing thread after what has queued, closes the database and gives up the lock. Every later call on
    /// any handle fails with [`SpoolError::Broken`].
    pub async fn close(&self) {
        let (answer, ended) = oneshot::channel();
        if self.inner.jobs.send(Job::Stop(answer)).is_ok() {
            // An error here means that the thread has ended already.
            let _ = ended.await;
        }
    }

    /// Whether the spool works.
    ///
    /// # Errors
    /// [`SpoolError::Broken`], for good, after a failed flush.
    pub fn health(&self) -> Result<(), SpoolError> {
        self.inner.store.check()
    }

    /// Begins to receive a message. `prefix` is our own trace field, which becomes the start of the stored content.
    /// `message` is a fresh identifier of [`World::message_id`], which that field may name.
    pub fn draft(&self, message: MessageId, prefix: &[u8]) -> Draft {
        Draft::new(self.clone(), message, prefix)
    }

    /// The content of a message, as a stream.
    ///
    /// # Errors
    /// [`SpoolError::NoMessage`], [`SpoolError::Damaged`] when its content is gone, [`SpoolError::NotRead`],
    /// [`SpoolError::Broken`].
    pub async fn content(&self, id: MessageId) -> Result<Content, SpoolError> {
        let (store, threads) = (Arc::clone(&self.inner.store), self.inner.world.threads);
        self.read(move |tables| {
            let message = tables.message(id)?;
            let digest = message.content_digest;
            let opener = Opener::new(&message.content_key, id, message.size)?;
            let found = match message.body {
                stored::Body::Inline => tables
                    .inline(id)?
                    .and_then(|sealed| Content::inline(Arc::clone(&store), id, &sealed, opener, digest)),
                stored::Body::File => match store.bodies.open(&id.to_string()) {
                    Ok(file) => Some(Content::file(Arc::clone(&store), threads, id, file, opener, digest)),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                    Err(error) => return Err(SpoolError::NotRead(error.to_string())),
                },
            };
            found.ok_or_else(|| {
                store.mark_damaged(id);
                SpoolError::Damaged(format!("the content of message {id}"))
            })
        })
        .await
    }

    /// When the next delivery is due that nobody has claimed; in the past if one is due already.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.inner.store.board().next_due()
    }

    /// Claims up to `limit` deliveries that are due at `now`: of each route in turn, the longest due first. Nobody else gets
    /// them until the claim is dropped or its attempt is over.
    pub fn take_due(&self, now: Timestamp, limit: usize) -> Vec<Claim> {
        let all = self.take_due_with(now, limit, |_, _| Admission::Yes(()));
        all.into_iter().map(|(claim, ())| claim).collect()
    }

    /// As [`Spool::take_due`], for those that `admit` lets go: it gives what the attempt needs, such as a slot of its peer. A
    /// route it refuses is passed over, so that a peer that takes nothing does not keep others waiting behind its mail;
    /// what is to be returned is asked about apart from what is to be tried. It must not call the spool.
    pub fn take_due_with<T>(
        &self,
        now: Timestamp,
        limit: usize,
        admit: impl FnMut(&Route, Due) -> Admission<T>,
    ) -> Vec<(Claim, T)> {
        let taken = self.inner.store.board().take_due(now, limit, admit);
        let claim = |(delivery, route, due, admitted)| {
            (Claim { spool: self.clone(), delivery, route, due, leash: Leash::default() }, admitted)
        };
        taken.into_iter().map(claim).collect()
    }

    /// What was under way when the node last stopped without being told to, and may be the cause: to be tried alone, before
    /// anything else (SPOOL-044). Answers once.
    #[must_use]
    pub fn suspects(&self) -> Vec<DeliveryId> {
        std::mem::take(&mut self.inner.store.board().suspects)
    }

    /// Claims one delivery, if it is due and nobody has it.
    #[must_use]
    pub fn claim(&self, delivery: DeliveryId) -> Option<Claim> {
        let (route, due) = self.inner.store.board().claim(delivery, self.world().now())?;
        Some(Claim { spool: self.clone(), delivery, route, due, leash: Leash::default() })
    }

    /// Has a route asked about again that [`Admission::NotBefore`] closed.
    pub fn reopen(&self, route: &Route) {
        self.inner.store.board().reopen(route);
        self.inner.store.news.notify_one();
    }

    /// The other side of a route is back: everything that waits for its next try there is due now. In memory only; after a
    /// restart the stored times count again.
    pub fn hasten(&self, route: &Route) {
        let now = self.world().now();
        self.inner.store.board().hasten(route, now);
        self.inner.store.news.notify_one();
    }

    /// Where a delivery goes, while it is in the spool.
    #[must_use]
    pub fn route_of(&self, delivery: DeliveryId) -> Option<Route> {
        self.inner.store.board().route_of(delivery)
    }

    /// How many deliveries of a route wait, held ones included.
    #[must_use]
    pub fn queued(&self, route: &Route) -> usize {
        self.inner.store.board().queued(route)
    }

    /// Waits until something in the spool has changed since the last call: [`Spool::next_due`] may be earlier now. One
    /// task only may wait.
    pub async fn changed(&self) {
        self.inner.store.news.notified().await;
    }

    /// Begins an attempt: its intent is on stable storage when this returns (SPOOL-006).
    ///
    /// # Errors
    /// [`SpoolError::State`] or [`SpoolError::NoDelivery`] if it is no longer due (an operator was faster);
    /// [`SpoolError::Damaged`], after which it is not due any more; [`SpoolError::Broken`].
    pub async fn begin_attempt(&self, claim: Claim) -> Result<Attempt, SpoolError> {
        attempt::begin(claim).await
    }

    /// Begins the notice of a delivery that is [`Due::Late`] (SPOOL-015); `None` when it has stopped the node or its worker too
    /// often, and is given up now (SPOOL-045).
    ///
    /// # Errors
    /// [`SpoolError::State`] if its sender was told or an operator was faster; [`SpoolError::NoDelivery`] or [`SpoolError::NoMessage`] if it is gone; [`SpoolError::Damaged`], after which it is
    /// not due any more; [`SpoolError::Broken`].
    pub async fn overdue(&self, claim: Claim) -> Result<Option<Overdue>, SpoolError> {
        late::overdue(claim).await
    }

    /// Stores the decision record of something that left no message in the spool, such as a refused transaction.
    ///
    /// # Errors
    /// [`SpoolError::Broken`].
    pub async fn note(&self, record: DecisionRecord) -> Result<(), SpoolError> {
        self.change(Room::Settles, move |tables| tables.put_record(&record)).await
    }

    /// The decision record of an attempt.
    ///
    /// # Errors
    /// [`SpoolError::Damaged`], [`SpoolError::Broken`].
    pub async fn record(&self, attempt: AttemptId) -> Result<Option<DecisionRecord>, SpoolError> {
        self.read(move |tables| tables.record(attempt)).await
    }

    /// The decision records of a message, oldest first; also after it is settled.
    ///
    /// # Errors
    /// As [`Spool::record`].
    pub async fn records_of(&self, message: MessageId) -> Result<Vec<DecisionRecord>, SpoolError> {
        self.read(move |tables| tables.records_of(message)).await
    }

    /// The latest decision records, newest first.
    ///
    /// # Errors
    /// As [`Spool::record`].
    pub async fn recent_records(&self, limit: usize) -> Result<Vec<DecisionRecord>, SpoolError> {
        self.read(move |tables| tables.recent_records(limit)).await
    }

    /// Removes decision records older than [`Settings::record_retention`]; returns how many. Does nothing without one.
    ///
    /// # Errors
    /// [`SpoolError::Broken`].
    pub async fn prune_records(&self) -> Result<usize, SpoolError> {
        let Some(retention) = self.settings().record_retention else { return Ok(0) };
        let age = jiff::SignedDuration::try_from(retention).unwrap_or(jiff::SignedDuration::MAX);
        let Ok(before) = self.world().now().checked_sub(age) else { return Ok(0) };
        let Ok(before) = u64::try_from(before.as_millisecond()) else { return Ok(0) };
        let before = AttemptId::from_parts(before, 0);
        let mut removed = 0;
        loop {
            let now =
                self.change(Room::Settles, move |tables| tables.prune_records(before, PRUNE_AT_ONCE)).await?;
            removed += now;
            if now < PRUNE_AT_ONCE {
                return Ok(removed);
            }
        }
    }

    /// How much is in the spool, from memory.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.inner.store.board().counts()
    }

    fn settings(&self) -> &Settings {
        &self.inner.store.settings
    }

    fn world(&self) -> &World {
        &self.inner.world
    }

    fn bodies(&self) -> Arc<dyn disk::Bodies> {
        Arc::clone(&self.inner.store.bodies)
    }

    fn poison(&self, error: &SpoolError) {
        self.inner.store.poison(error);
    }

    fn unclaim(&self, delivery: DeliveryId) {
        self.inner.store.board().unclaim(delivery);
    }

    fn put_off(&self, delivery: DeliveryId, at: Timestamp) {
        self.inner.store.board().put_off(delivery, at);
    }

    fn is_damaged(&self, message: MessageId) -> bool {
        self.inner.store.is_damaged(message)
    }

    fn forget_damage(&self, message: MessageId) {
        self.inner.store.forget_damage(message);
    }

    /// Takes a delivery off the schedule whose record, or whose message's, is damaged or gone: it can be neither tried nor
    /// returned, and would be due for ever.
    fn set_aside_if_damaged(&self, delivery: DeliveryId, error: &SpoolError) {
        let damage =
            matches!(error, SpoolError::Damaged(_) | SpoolError::NoDelivery(_) | SpoolError::NoMessage(_));
        // One that was settled in the meantime is on no schedule.
        if damage && self.inner.store.board().set_aside(delivery) {
            tracing::error!(%delivery, %error, "damaged on disk: left alone");
        }
    }

    /// Has the committing thread remove a content file, after what has queued.
    fn drop_body(&self, message: MessageId) {
        // If the thread has ended, the file goes at the next start.
        let _ = self.inner.jobs.send(Job::DropBody(message));
    }

    /// Has a change committed, and waits for its flush.
    async fn change<T, F>(&self, room: Room, work: F) -> Result<T, SpoolError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tables<'_>) -> Result<T, SpoolError> + Send + 'static,
    {
        self.health()?;
        let (job, answer) = committer::change(room, work);
        self.inner.jobs.send(job).map_err(|_| SpoolError::broken("it was closed"))?;
        match answer.await {
            Ok(result) => result,
            Err(_) => {
                self.health()?;
                Err(SpoolError::broken("it was closed"))
            }
        }
    }

    /// Has a change committed, without waiting.
    fn change_later<F>(&self, work: F)
    where
        F: FnOnce(&mut Tables<'_>) -> Result<(), SpoolError> + Send + 'static,
    {
        let (job, _) = committer::change(Room::Settles, work);
        // If the thread has ended, the next start finds what there is to do.
        let _ = self.inner.jobs.send(job);
    }

    /// Reads from the state of the last commit, off the async threads.
    async fn read<T, F>(&self, work: F) -> Result<T, SpoolError>
    where
        T: Send + 'static,
        F: FnOnce(&Snapshot) -> Result<T, SpoolError> + Send + 'static,
    {
        let (database, vault) = (self.inner.store.database()?, Arc::clone(&self.inner.store.vault));
        self.inner
            .world
            .threads
            .run(move || {
                let transaction = database.begin_read()?;
                work(&Snapshot::open(&transaction, &vault)?)
            })
            .await
            .unwrap_or_else(|_| Err(SpoolError::broken("a reading task stopped")))
    }
}
