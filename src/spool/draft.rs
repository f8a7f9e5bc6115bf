//! A message on its way in, and the one instant of acceptance.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use jiff::Timestamp;
use serde::Serialize;
use tokio::io::{AsyncRead, ReadBuf};

use crate::model::{DecisionRecord, DeliveryId, Digest, Envelope, Hasher, MessageId};

use super::committer::Room;
use super::content::Content;
use super::disk::{BodyFile, is_full};
use super::seal::{ContentKey, Opener, Sealer, sealed_size};
use super::seen::{Arrived, Imprint, insert_once};
use super::store::Receiving;
use super::stored::{Aim, Body, State, StoredDelivery, StoredMessage, StoredRecipient};
use super::tables::{SealedDelivery, Tables, seal_message, seal_record};
use super::{Arrival, Fate, Origin, Route, Spool, SpoolError};

/// Content goes to its file in pieces of about this size.
const PIECE_OCTETS: usize = 256 << 10;

/// What is to be known of a message when it is accepted.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// Sender, recipients and their wishes.
    pub envelope: Envelope,
    /// Which recipients (positions in `envelope.recipients`) go which way. Every recipient stands in exactly one.
    pub routes: Vec<(Route, Vec<usize>)>,
    /// What was known of the other side.
    pub arrival: Arrival,
    /// How it came to be ours.
    pub origin: Origin,
    /// The decision record of the transaction, stored in the same commit.
    pub record: Option<DecisionRecord>,
}

/// Proof that a message is on stable storage and this node answers for it. Only the spool can make one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Accepted {
    message: MessageId,
    deliveries: Vec<DeliveryId>,
    received_digest: Digest,
    content_digest: Digest,
    size: u64,
}

impl Accepted {
    /// The message.
    #[must_use]
    pub const fn message(&self) -> MessageId {
        self.message
    }

    /// One delivery per route, in the order given.
    #[must_use]
    pub fn deliveries(&self) -> &[DeliveryId] {
        &self.deliveries
    }

    /// Digest of the content as it came, before our field was put on top.
    #[must_use]
    pub const fn received_digest(&self) -> Digest {
        self.received_digest
    }

    /// Digest of the content as every later hop gets it.
    #[must_use]
    pub const fn content_digest(&self) -> Digest {
        self.content_digest
    }

    /// Octets of the content as every later hop gets it.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }
}

/// A message that is being received. Dropped without [`Draft::accept`], it leaves nothing behind.
#[must_use = "a draft that is not accepted is forgotten"]
pub struct Draft {
    spool: Spool,
    id: MessageId,
    buffer: Vec<u8>,
    file: Option<(BodyGuard, SealedFile)>,
    /// Made when it is first needed.
    key: Option<ContentKey>,
    received: Hasher,
    size: u64,
    content: Hasher,
    total: u64,
    failed: Option<SpoolError>,
    _receiving: Receiving,
}

impl Draft {
    pub(super) fn new(spool: Spool, id: MessageId, prefix: &[u8]) -> Self {
        let mut content = Hasher::default();
        content.update(prefix);
        Self {
            _receiving: Receiving::begin(&spool.inner.store),
            spool,
            id,
            buffer: prefix.to_vec(),
            file: None,
            key: None,
            received: Hasher::default(),
            size: 0,
            content,
            total: prefix.len() as u64,
            failed: None,
        }
    }

    /// The identifier the message will have.
    #[must_use]
    pub const fn message(&self) -> MessageId {
        self.id
    }

    /// Octets written so far, without the prefix: the size as the other side counts it.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Digest of what was written so far, without the prefix.
    #[must_use]
    pub fn received_digest(&self) -> Digest {
        self.received.clone().finish()
    }

    /// Digest of prefix and what was written so far: what every later hop will get.
    #[must_use]
    pub fn content_digest(&self) -> Digest {
        self.content.clone().finish()
    }

    /// Puts another field of ours below the prefix. It belongs before the first octet of the content.
    pub fn add_prefix(&mut self, field: &[u8]) {
        debug_assert_eq!(self.size, 0, "content has been written");
        self.content.update(field);
        self.total += field.len() as u64;
        self.buffer.extend_from_slice(field);
    }

    /// Takes the next octets of the content, after transparency is undone.
    ///
    /// # Errors
    /// [`SpoolError::Full`], [`SpoolError::NotKept`] or [`SpoolError::Broken`]; the draft can no longer be accepted then.
    pub async fn write(&mut self, octets: &[u8]) -> Result<(), SpoolError> {
        self.usable()?;
        self.received.update(octets);
        self.content.update(octets);
        self.size += octets.len() as u64;
        self.total += octets.len() as u64;
        let limit = if self.file.is_some() { PIECE_OCTETS } else { self.spool.settings().inline_body_max };
        self.buffer.extend_from_slice(octets);
        if self.buffer.len() > limit {
            self.spill(Flush::No).await?;
        }
        Ok(())
    }

    /// The key of the content.
    fn key(&mut self) -> Result<ContentKey, SpoolError> {
        match &self.key {
            Some(key) => Ok(key.clone()),
            None => Ok(self.key.insert(ContentKey::make()?).clone()),
        }
    }

    fn usable(&self) -> Result<(), SpoolError> {
        self.spool.health()?;
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Moves the buffer to the content file, which is made when there is none yet.
    async fn spill(&mut self, flush: Flush) -> Result<(), SpoolError> {
        let (guard, file) = match self.file.take() {
            Some((guard, file)) => (guard, Some(file)),
            None => (BodyGuard { spool: self.spool.clone(), id: self.id, armed: true }, None),
        };
        let file = match file {
            Some(file) => SpillTo::Open(file),
            None => SpillTo::New { name: self.id.to_string(), sealer: Sealer::new(&self.key()?, self.id)? },
        };
        let mut buffer = std::mem::take(&mut self.buffer);
        let bodies = self.spool.bodies();
        let written = self
            .spool
            .world()
            .threads
            .run(move || {
                let mut file = match file {
                    SpillTo::Open(file) => file,
                    SpillTo::New { name, sealer } => SealedFile {
                        file: bodies.create(&name).map_err(BodyError::Write)?,
                        sealer: Some(sealer),
                        sealed: Vec::new(),
                    },
                };
                file.append(&buffer, flush)?;
                if flush == Flush::Yes {
                    file.file.sync().map_err(BodyError::Flush)?;
                    bodies.sync_directory().map_err(BodyError::Flush)?;
                }
                buffer.clear();
                Ok((file, buffer))
            })
            .await
            .unwrap_or_else(|_| Err(BodyError::Write(std::io::Error::other("the writing task stopped"))));
        match written {
            Ok((file, buffer)) => {
                self.buffer = buffer;
                self.file = Some((guard, file));
                Ok(())
            }
            Err(error) => {
                let error = self.judge(error);
                self.failed = Some(error.clone());
                Err(error)
            }
        }
    }

    fn judge(&self, error: BodyError) -> SpoolError {
        match error {
            // Nothing refers to the file and it is removed, so even a flush that found no room has harmed nobody.
            BodyError::Write(error) | BodyError::Flush(error) if is_full(&error) => {
                SpoolError::Full(error.to_string())
            }
            BodyError::Write(error) => SpoolError::NotKept(error.to_string()),
            BodyError::Seal(error) => error,
            BodyError::Flush(error) => {
                let error = SpoolError::broken(format_args!("flushing a content file: {error}"));
                self.spool.poison(&error);
                error
            }
        }
    }

    /// Takes responsibility for the message. Returns only when it is on stable storage (SPOOL-001).
    ///
    /// # Errors
    /// [`SpoolError::Full`]: answer `452`. [`SpoolError::Broken`]: answer `451`. [`SpoolError::Misuse`]: the routes do
    /// not fit the recipients. Nothing is kept in any of these cases, except after [`SpoolError::Broken`], when nobody
    /// knows: the message may turn up after a restart, and is delivered then.
    pub async fn accept(self, message: NewMessage) -> Result<Accepted, SpoolError> {
        let spool = self.spool.clone();
        let staged = self.stage(message).await?;
        spool.change(staged.room(), move |tables| staged.insert(tables)).await
    }

    /// As [`Draft::accept`], unless a message with the same imprint was accepted within [`super::Settings::repeat_window`]:
    /// then nothing of this copy is kept, and its record is stored with that outcome (SPOOL-042).
    ///
    /// # Errors
    /// As [`Draft::accept`].
    pub async fn accept_once(self, message: NewMessage, imprint: Imprint) -> Result<Arrived, SpoolError> {
        let spool = self.spool.clone();
        let window = spool.settings().repeat_window;
        let staged = self.stage(message).await?;
        spool.change(staged.room(), move |tables| insert_once(staged, imprint, window, tables)).await
    }

    /// Ends a draft that becomes no message: what was written can be read from its start, whole, as long as [`Kept`] lives.
    /// Nothing of it outlives that, or this process; on disk it is sealed as any content is.
    ///
    /// # Errors
    /// As [`Draft::write`].
    pub async fn keep(mut self) -> Result<Kept, SpoolError> {
        self.usable()?;
        let (size, digest) = (self.total, self.content_digest());
        if self.file.is_none() {
            let store = Arc::clone(&self.spool.inner.store);
            let content = Content::memory(store, self.id, std::mem::take(&mut self.buffer), digest);
            return Ok(Kept { content, size, digest, _guard: None });
        }
        // The last chunk is written together with a flush. That costs little where it is not needed, as here.
        self.spill(Flush::Yes).await?;
        let opener = Opener::new(&self.key()?, self.id, size)?;
        let (bodies, name, threads) = (self.spool.bodies(), self.id.to_string(), self.spool.world().threads);
        let opened = threads.run(move || bodies.open(&name)).await;
        let file = opened
            .map_err(|_| SpoolError::NotRead("the reading task stopped".to_owned()))?
            .map_err(|error| SpoolError::NotRead(error.to_string()))?;
        let store = Arc::clone(&self.spool.inner.store);
        let content = Content::file(store, threads, self.id, file, opener, digest);
        Ok(Kept { content, size, digest, _guard: self.file.take().map(|(guard, _)| guard) })
    }

    /// Everything but the commit.
    pub(super) async fn stage(mut self, message: NewMessage) -> Result<Staged, SpoolError> {
        self.usable()?;
        check_routes(&message)?;
        if self.file.is_some() {
            self.spill(Flush::Yes).await?;
        }
        let key = self.key()?;
        let accepted = self.spool.world().now();
        let body = if self.file.is_some() { Body::File } else { Body::Inline };
        let stored = StoredMessage {
            accepted,
            origin: message.origin,
            arrival: message.arrival,
            envelope: message.envelope,
            body,
            size: self.total,
            received_digest: self.received_digest(),
            content_digest: self.content_digest(),
            content_key: key.clone(),
            routes: u16::try_from(message.routes.len())
                .map_err(|_| SpoolError::Misuse("more than 65535 routes"))?,
        };
        let vault = &self.spool.inner.store.vault;
        let record = message
            .record
            .map(|mut record| {
                record.message = Some(self.id);
                Ok::<_, SpoolError>((seal_record(vault, &record)?, record))
            })
            .transpose()?;
        let deliveries = deliveries(self.id, &stored, &message.routes);
        let deliveries = deliveries.iter().map(|(id, delivery)| SealedDelivery::new(vault, *id, delivery));
        Ok(Staged {
            id: self.id,
            message: seal_message(vault, self.id, &stored)?,
            deliveries: deliveries.collect::<Result<_, _>>()?,
            stored,
            record,
            inline: match body {
                Body::Inline => Some(seal(&key, self.id, &self.buffer)?),
                Body::File => None,
            },
            guard: self.file.take().map(|(guard, _)| guard),
        })
    }
}

/// The deliveries of a message, one for each route.
fn deliveries(
    id: MessageId,
    message: &StoredMessage,
    routes: &[(Route, Vec<usize>)],
) -> Vec<(DeliveryId, StoredDelivery)> {
    let delivery = |(route, (to, members)): (u16, &(Route, Vec<usize>))| {
        let delivery = StoredDelivery {
            route: to.clone(),
            accepted: message.accepted,
            state: State::Waiting { due: message.accepted, aim: Aim::Deliver },
            tries: 0,
            unknown: 0,
            recipients: members.iter().map(|&index| recipient(index)).collect(),
            warned: None,
            notices: 0,
            size: message.size,
            body: message.body,
        };
        (DeliveryId { message: id, route }, delivery)
    };
    (0..).zip(routes).map(delivery).collect()
}

/// Content that belongs to no message ([`Draft::keep`]). Dropped, it is gone.
#[must_use = "what is kept is gone when this is dropped"]
pub struct Kept {
    content: Content,
    size: u64,
    digest: Digest,
    _guard: Option<BodyGuard>,
}

impl Kept {
    /// Octets.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Digest of all of it.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }
}

/// Reads it; ends in an error instead of an end when it is not what was written.
impl AsyncRead for Kept {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.content).poll_read(context, out)
    }
}

/// A content file and what seals it on the way there.
struct SealedFile {
    file: Box<dyn BodyFile>,
    /// Gone once the last chunk is written.
    sealer: Option<Sealer>,
    sealed: Vec<u8>,
}

impl SealedFile {
    /// Writes `octets`; as the last ones, if the file is to be flushed then.
    fn append(&mut self, octets: &[u8], flush: Flush) -> Result<(), BodyError> {
        self.sealed.clear();
        let Some(sealer) = &mut self.sealer else {
            return Err(BodyError::Seal(SpoolError::Misuse("content after its end")));
        };
        sealer.push(octets, &mut self.sealed).map_err(BodyError::Seal)?;
        if flush == Flush::Yes
            && let Some(sealer) = self.sealer.take()
        {
            sealer.finish(&mut self.sealed).map_err(BodyError::Seal)?;
        }
        self.file.append(&self.sealed).map_err(BodyError::Write)
    }
}

/// Where a buffer goes.
enum SpillTo {
    Open(SealedFile),
    New { name: String, sealer: Sealer },
}

/// Seals content that is whole already.
pub(super) fn seal(key: &ContentKey, message: MessageId, content: &[u8]) -> Result<Vec<u8>, SpoolError> {
    let mut sealed = Vec::with_capacity(usize::try_from(sealed_size(content.len() as u64)).unwrap_or(0));
    let mut sealer = Sealer::new(key, message)?;
    sealer.push(content, &mut sealed)?;
    sealer.finish(&mut sealed)?;
    Ok(sealed)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flush {
    Yes,
    No,
}

enum BodyError {
    Seal(SpoolError),
    Write(std::io::Error),
    Flush(std::io::Error),
}

/// Every recipient stands in one route, every route has one, and no route is there twice.
fn check_routes(message: &NewMessage) -> Result<(), SpoolError> {
    let mut seen = vec![false; message.envelope.recipients.len()];
    for (position, (route, members)) in message.routes.iter().enumerate() {
        if members.is_empty() {
            return Err(SpoolError::Misuse("a route without recipients"));
        }
        if message.routes[..position].iter().any(|(other, _)| other == route) {
            return Err(SpoolError::Misuse("a route is named twice"));
        }
        for &index in members {
            match seen.get_mut(index) {
                Some(seen) if !*seen => *seen = true,
                Some(_) => return Err(SpoolError::Misuse("a recipient on two routes")),
                None => return Err(SpoolError::Misuse("a route names a recipient that does not exist")),
            }
        }
    }
    if seen.is_empty() || seen.len() > usize::from(u16::MAX) || seen.contains(&false) {
        return Err(SpoolError::Misuse("no recipient, too many, or one without a route"));
    }
    Ok(())
}

/// A message whose content is flushed (or inline) and that lacks only its commit. All of it is sealed already: there is one
/// thread that commits, and whatever it need not do itself is done by those who wait for it, side by side.
pub(super) struct Staged {
    id: MessageId,
    stored: StoredMessage,
    message: Vec<u8>,
    deliveries: Vec<SealedDelivery>,
    record: Option<(Vec<u8>, DecisionRecord)>,
    inline: Option<Vec<u8>>,
    guard: Option<BodyGuard>,
}

impl Staged {
    pub(super) fn room(&self) -> Room {
        Room::Takes {
            octets: self.stored.size,
            inline: self.inline.as_ref().map_or(0, |content| content.len() as u64),
        }
    }

    pub(super) const fn accepted(&self) -> Timestamp {
        self.stored.accepted
    }

    pub(super) fn take_record(&mut self) -> Option<DecisionRecord> {
        self.record.take().map(|(_, record)| record)
    }

    /// Puts the message into the transaction. The caller gets the proof only after the commit.
    pub(super) fn insert(mut self, tables: &mut Tables<'_>) -> Result<Accepted, SpoolError> {
        if tables.has_message(self.id)? {
            return Err(SpoolError::Misuse("a message with this identifier exists"));
        }
        tables.put_message(self.id, &self.message, self.stored.size, self.inline.as_deref())?;
        let mut deliveries = Vec::with_capacity(self.deliveries.len());
        for sealed in self.deliveries {
            deliveries.push(sealed.id);
            tables.put_sealed_delivery(sealed)?;
        }
        if let Some((sealed, record)) = &self.record {
            tables.put_sealed_record(record, sealed)?;
        }
        if let Some(guard) = &mut self.guard {
            guard.armed = false;
        }
        Ok(Accepted {
            message: self.id,
            deliveries,
            received_digest: self.stored.received_digest,
            content_digest: self.stored.content_digest,
            size: self.stored.size,
        })
    }
}

fn recipient(index: usize) -> StoredRecipient {
    // `check_routes` refuses more recipients than u16 can count.
    StoredRecipient { index: u16::try_from(index).unwrap_or(u16::MAX), fate: Fate::Pending, note: None }
}

/// Removes the content file of a message that was not accepted.
struct BodyGuard {
    spool: Spool,
    id: MessageId,
    armed: bool,
}

impl Drop for BodyGuard {
    fn drop(&mut self) {
        if self.armed {
            self.spool.drop_body(self.id);
        }
    }
}
