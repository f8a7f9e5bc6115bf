//! The one thread that writes: it takes what has queued, commits it with one flush, and only then answers.
//!
//! What counts on a real disk is the number of flushes one after the other, so everybody who waits shares the next one.
//! An error of a commit leaves the state of the file unknown: the store is broken from then on (SPOOL-003), and
//! everybody who waits, or comes later, is told so.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use redb::{Database, Durability};
use tokio::sync::{mpsc, oneshot};

use crate::model::MessageId;
use crate::world::Threads;

use super::SpoolError;
use super::store::Store;
use super::tables::Tables;

/// At most this many changes share a flush: enough that flushing is no longer what limits.
const BATCH_CHANGES: usize = 256;
/// A batch is closed once it holds this many octets of content, so that a commit fits into the reserve.
const BATCH_OCTETS: u64 = 8 << 20;

/// How long a commit waits, at most, for messages whose content is on its way. No longer than the last commit took either.
const GATHER: Duration = Duration::from_millis(4);
/// Between two looks whether they have come.
const GATHER_STEP: Duration = Duration::from_micros(200);

/// What a change does to the room on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// It brings a message of `octets`, of which `inline` go into the database. Refused when there is no room.
    Takes { octets: u64, inline: u64 },
    /// It is needed to get rid of something. Goes ahead, out of the reserve if it must.
    Settles,
}

/// A change that waits for its flush.
pub(super) trait Change: Send {
    /// What it does to the room.
    fn room(&self) -> Room;
    /// Applies it, or remembers why not without having changed anything. An error ends the store.
    fn apply(&mut self, tables: &mut Tables<'_>) -> Result<(), SpoolError>;
    /// Remembers that it was not applied.
    fn refuse(&mut self, error: SpoolError);
    /// Answers whoever waits, after the flush.
    fn answer(self: Box<Self>, flushed: Result<(), SpoolError>);
}

/// What the thread can be told.
pub(super) enum Job {
    /// Commit this.
    Change(Box<dyn Change>),
    /// Remove a content file nobody refers to.
    DropBody(MessageId),
    /// End, then answer.
    Stop(oneshot::Sender<()>),
}

/// A change made of a closure, with its answer.
struct Pending<F, T> {
    room: Room,
    work: Option<F>,
    result: Option<Result<T, SpoolError>>,
    answer: oneshot::Sender<Result<T, SpoolError>>,
}

impl<F, T> Change for Pending<F, T>
where
    F: FnOnce(&mut Tables<'_>) -> Result<T, SpoolError> + Send,
    T: Send,
{
    fn room(&self) -> Room {
        self.room
    }

    fn apply(&mut self, tables: &mut Tables<'_>) -> Result<(), SpoolError> {
        let Some(work) = self.work.take() else { return Ok(()) };
        match work(tables) {
            Err(fatal @ SpoolError::Broken(_)) => Err(fatal),
            result => {
                self.result = Some(result);
                Ok(())
            }
        }
    }

    fn refuse(&mut self, error: SpoolError) {
        self.work = None;
        self.result = Some(Err(error));
    }

    fn answer(self: Box<Self>, flushed: Result<(), SpoolError>) {
        let result = match (flushed, self.result) {
            (Ok(()), Some(result)) => result,
            (Ok(()), None) => Err(SpoolError::broken("a change was neither applied nor refused")),
            (Err(error), _) => Err(error),
        };
        // Nobody waits any more: the change stands all the same, and a message accepted so is delivered.
        let _ = self.answer.send(result);
    }
}

/// A change that runs `work`, and where its answer will be.
pub(super) fn change<T, F>(room: Room, work: F) -> (Job, oneshot::Receiver<Result<T, SpoolError>>)
where
    T: Send + 'static,
    F: FnOnce(&mut Tables<'_>) -> Result<T, SpoolError> + Send + 'static,
{
    let (answer, receiver) = oneshot::channel();
    (Job::Change(Box::new(Pending { room, work: Some(work), result: None, answer })), receiver)
}

/// Starts what commits. It ends when told to, or when nobody can tell it anything any more.
///
/// # Errors
/// The system gives no thread.
pub(super) fn start(
    store: Arc<Store>,
    mut jobs: mpsc::UnboundedReceiver<Job>,
    threads: Threads,
) -> io::Result<()> {
    let mut committer = Committer { store, threads, patience: Duration::ZERO };
    match threads {
        Threads::Apart => {
            let thread = std::thread::Builder::new().name("spool".to_owned());
            thread.spawn(move || {
                while let Some(first) = jobs.blocking_recv()
                    && committer.round(first, &mut jobs)
                {}
                committer.store.shut();
            })?;
        }
        Threads::One => {
            tokio::spawn(async move {
                while let Some(first) = jobs.recv().await
                    && committer.round(first, &mut jobs)
                {}
                committer.store.shut();
            });
        }
    }
    Ok(())
}

/// What commits.
struct Committer {
    store: Arc<Store>,
    threads: Threads,
    /// How long the next commit may wait for messages that are on their way.
    patience: Duration,
}

impl Committer {
    /// Commits what has queued, with one flush. Whether there is to be another round.
    fn round(&mut self, first: Job, jobs: &mut mpsc::UnboundedReceiver<Job>) -> bool {
        let mut batch = Batch::default();
        batch.add(&self.store, first);
        batch.drain(&self.store, jobs);
        // On the one thread there is, nothing comes while it waits.
        if self.threads == Threads::Apart {
            batch.gather(&self.store, jobs, self.patience);
        }
        if !batch.changes.is_empty() {
            let started = Instant::now();
            commit(&self.store, batch.changes);
            self.patience = started.elapsed().min(GATHER);
        }
        let Some(answer) = batch.stop else { return true };
        self.store.shut();
        let _ = answer.send(());
        false
    }
}

/// What shares a flush.
#[derive(Default)]
struct Batch {
    changes: Vec<Box<dyn Change>>,
    octets: u64,
    /// Whoever told the thread to end; nothing comes after that.
    stop: Option<oneshot::Sender<()>>,
}

impl Batch {
    fn is_closed(&self) -> bool {
        self.stop.is_some() || self.changes.len() >= BATCH_CHANGES || self.octets >= BATCH_OCTETS
    }

    fn add(&mut self, store: &Store, job: Job) {
        match job {
            Job::Change(change) => {
                if let Room::Takes { inline, .. } = change.room() {
                    self.octets += inline;
                }
                self.changes.push(change);
            }
            Job::DropBody(id) => store.drop_body(id),
            Job::Stop(answer) => self.stop = Some(answer),
        }
    }

    /// Adds what has queued.
    fn drain(&mut self, store: &Store, jobs: &mut mpsc::UnboundedReceiver<Job>) {
        while !self.is_closed()
            && let Ok(job) = jobs.try_recv()
        {
            self.add(store, job);
        }
    }

    /// Waits a moment for messages that are being received. A commit costs the same pages and flushes for one message and
    /// for many; on a disk that flushes fast the queue would hardly ever hold more than a few, and the commits take the
    /// processor from those who receive. A message that comes alone waits for nobody, and nobody waits longer than until twice
    /// as many are here as are still on their way: those are received while these are committed.
    fn gather(&mut self, store: &Store, jobs: &mut mpsc::UnboundedReceiver<Job>, patience: Duration) {
        if self.octets == 0 {
            return;
        }
        let until = Instant::now() + patience;
        while !self.is_closed() && store.receiving() > self.changes.len() / 2 && Instant::now() < until {
            std::thread::sleep(GATHER_STEP);
            self.drain(store, jobs);
        }
    }
}

/// Commits a batch and answers it.
fn commit(store: &Store, mut batch: Vec<Box<dyn Change>>) {
    let flushed = store.database().and_then(|database| {
        // redb has panicked on a full disk (its issue 620). Whatever it does, a batch ends with an answer.
        catch_unwind(AssertUnwindSafe(|| write(store, &database, &mut batch)))
            .unwrap_or_else(|_| Err(SpoolError::broken("the database engine stopped during a commit")))
    });
    let flushed = flushed.inspect_err(|error| store.poison(error));
    for change in batch {
        change.answer(flushed.clone());
    }
}

fn write(store: &Store, database: &Database, batch: &mut [Box<dyn Change>]) -> Result<(), SpoolError> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    transaction.set_quick_repair(true);
    let mut tables = Tables::open(&transaction, &store.vault)?;
    let mut taken = 0;
    for change in batch {
        if let Room::Takes { octets, inline } = change.room() {
            if let Err(error) = store.room_for(octets, taken + inline) {
                change.refuse(error);
                continue;
            }
            taken += inline;
        }
        change.apply(&mut tables)?;
    }
    let effects = std::mem::take(&mut tables.effects);
    drop(tables);
    transaction.commit()?;
    store.follow(effects);
    Ok(())
}
