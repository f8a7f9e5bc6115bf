//! What was accepted from peers a short while ago, so that a message that is sent again is recognised (SPOOL-042).
//!
//! A sender that loses the reply to the end of content sends again (RFC 1047). Whether it is the same message is decided
//! in the transaction that would accept it, so two copies that come at the same time are one acceptance and one
//! repetition.
//!
//! What is stored tells nothing: a digest, under a key of the spool, over everything that makes two transactions the
//! same; a time; an identifier (SPOOL-020).

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};

use crate::model::{DecisionRecord, Digest, DomainName, Envelope, Hasher, Level, MessageId, Outcome};

use super::committer::Room;
use super::draft::{Accepted, Staged};
use super::seal::Vault;
use super::tables::Tables;
use super::{PRUNE_AT_ONCE, Spool, SpoolError};

/// How long an acceptance is remembered by default: longer than peers of our kind try (24 hours), with room for others.
pub const REPEAT_WINDOW: Duration = Duration::from_secs(2 * 24 * 60 * 60);

/// Imprint → [`First`].
pub(super) const SEEN: TableDefinition<&[u8; 32], &[u8]> = TableDefinition::new("seen");
/// Time and imprint: what is forgotten next.
pub(super) const SEEN_AT: TableDefinition<&[u8; 40], ()> = TableDefinition::new("seen_at");

/// Sets our digests apart from all others over the same octets.
const DOMAIN: &[u8] = b"sluis: seen, 1";
const VERSION: u8 = 1;
const CHECKSUM_OCTETS: usize = 8;

/// All that makes two transactions the same message, as one digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Imprint([u8; 32]);

impl Imprint {
    /// Of a message from the sender domain `domain`, proven at `level`, with this content as it came and this envelope.
    /// The order of recipients does not matter. The domain stands for the peer: it may try again from another host.
    #[must_use]
    pub fn new(level: Level, domain: &DomainName, content: Digest, envelope: &Envelope) -> Self {
        let mut recipients: Vec<_> =
            envelope.recipients.iter().map(|recipient| recipient.address.to_string()).collect();
        recipients.sort_unstable();
        let sender = envelope.sender.to_string();
        let mut hasher = Hasher::default();
        let parts = [
            DOMAIN,
            level.as_str().as_bytes(),
            domain.as_str().as_bytes(),
            content.as_bytes(),
            sender.as_bytes(),
        ];
        for part in parts.into_iter().chain(recipients.iter().map(String::as_bytes)) {
            // With its length in front no part can run into the next.
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        Self(*hasher.finish().as_bytes())
    }

    /// As it is stored. A digest alone would tell whoever has the message in question that it was here.
    fn concealed(self, vault: &Vault) -> Self {
        Self(vault.name(&self.0))
    }
}

/// What became of a message that must not be accepted twice. It is on stable storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrived {
    /// It is new, and this node answers for it now.
    New(Accepted),
    /// This node answers for it already, or has: nothing of this copy was kept.
    Again(Repeated),
}

/// Proof that a message was accepted before. Only the spool can make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeated {
    first: MessageId,
    at: Timestamp,
}

impl Repeated {
    /// The message that was accepted.
    #[must_use]
    pub const fn first(&self) -> MessageId {
        self.first
    }

    /// When it was.
    #[must_use]
    pub const fn at(&self) -> Timestamp {
        self.at
    }

    /// Enters it into the record of the transaction.
    pub fn enter(&self, record: &mut DecisionRecord) {
        record.outcome = Outcome::Repeated;
        record.message = Some(self.first);
        record
            .warnings
            .push(format!("the same message was accepted at {}; its reply may have been lost", self.at));
    }
}

/// Both tables of one write transaction.
pub(super) struct SeenTables<'txn> {
    by_imprint: Table<'txn, &'static [u8; 32], &'static [u8]>,
    by_time: Table<'txn, &'static [u8; 40], ()>,
}

impl<'txn> SeenTables<'txn> {
    pub(super) fn open(transaction: &'txn WriteTransaction) -> Result<Self, SpoolError> {
        Ok(Self { by_imprint: transaction.open_table(SEEN)?, by_time: transaction.open_table(SEEN_AT)? })
    }

    /// The acceptance with this imprint. One that cannot be read is none: at worst a message arrives twice.
    fn find(&self, imprint: Imprint) -> Result<Option<Repeated>, SpoolError> {
        Ok(self.by_imprint.get(&imprint.0)?.and_then(|value| decode(value.value())))
    }

    fn put(&mut self, imprint: Imprint, first: Repeated) -> Result<(), SpoolError> {
        if let Some(old) = self.find(imprint)? {
            self.by_time.remove(&time_key(old.at, imprint))?;
        }
        self.by_imprint.insert(&imprint.0, encode(first).as_slice())?;
        self.by_time.insert(&time_key(first.at, imprint), ())?;
        Ok(())
    }

    /// Forgets what was accepted before `before`, at most `limit` at once; returns how many.
    fn prune(&mut self, before: Timestamp, limit: usize) -> Result<usize, SpoolError> {
        let end = time_key(before, Imprint([0; 32]));
        let mut old = Vec::new();
        for entry in self.by_time.range::<&[u8; 40]>(..&end)?.take(limit) {
            old.push(*entry?.0.value());
        }
        for key in &old {
            self.by_time.remove(key)?;
            let mut imprint = [0; 32];
            imprint.copy_from_slice(&key[8..]);
            self.by_imprint.remove(&imprint)?;
        }
        Ok(old.len())
    }
}

impl Spool {
    /// Forgets acceptances older than [`super::Settings::repeat_window`]; returns how many.
    ///
    /// # Errors
    /// [`SpoolError::Broken`].
    pub async fn prune_seen(&self) -> Result<usize, SpoolError> {
        let before = earlier(self.world().now(), self.settings().repeat_window);
        let mut removed = 0;
        loop {
            let work = move |tables: &mut Tables<'_>| tables.seen.prune(before, PRUNE_AT_ONCE);
            let now = self.change(Room::Settles, work).await?;
            removed += now;
            if now < PRUNE_AT_ONCE {
                return Ok(removed);
            }
        }
    }
}

/// Puts a message into the transaction, unless one with its imprint was accepted within `window`.
pub(super) fn insert_once(
    mut staged: Staged,
    imprint: Imprint,
    window: Duration,
    tables: &mut Tables<'_>,
) -> Result<Arrived, SpoolError> {
    let now = staged.accepted();
    let imprint = imprint.concealed(tables.vault);
    let known = tables.seen.find(imprint)?.filter(|first| first.at >= earlier(now, window));
    // Somebody who was told that it failed and sends the same octets once more wants it tried once more.
    let known = match known {
        Some(repeated) if tables.was_given_up(repeated.first)? => None,
        other => other,
    };
    if let Some(repeated) = known {
        if let Some(mut record) = staged.take_record() {
            repeated.enter(&mut record);
            tables.put_record(&record)?;
        }
        // What was received of this copy goes with `staged`.
        return Ok(Arrived::Again(repeated));
    }
    let accepted = staged.insert(tables)?;
    tables.seen.put(imprint, Repeated { first: accepted.message(), at: now })?;
    Ok(Arrived::New(accepted))
}

fn earlier(now: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by).ok().and_then(|by| now.checked_sub(by).ok()).unwrap_or(Timestamp::MIN)
}

/// Time in front, so that the oldest come first.
fn time_key(at: Timestamp, imprint: Imprint) -> [u8; 40] {
    let mut key = [0; 40];
    key[..8].copy_from_slice(&milliseconds(at).to_be_bytes());
    key[8..].copy_from_slice(&imprint.0);
    key
}

fn milliseconds(at: Timestamp) -> u64 {
    u64::try_from(at.as_millisecond()).unwrap_or(0)
}

/// Version, checksum, time in milliseconds, identifier.
fn encode(first: Repeated) -> Vec<u8> {
    let mut body = milliseconds(first.at).to_be_bytes().to_vec();
    body.extend_from_slice(&first.first.to_bytes());
    let mut octets = vec![VERSION];
    octets.extend_from_slice(&Digest::of(&body).as_bytes()[..CHECKSUM_OCTETS]);
    octets.extend_from_slice(&body);
    octets
}

fn decode(octets: &[u8]) -> Option<Repeated> {
    let (version, rest) = octets.split_first()?;
    let (checksum, body) = rest.split_at_checked(CHECKSUM_OCTETS)?;
    let (time, id) = body.split_at_checked(8)?;
    if *version != VERSION || Digest::of(body).as_bytes()[..CHECKSUM_OCTETS] != *checksum {
        return None;
    }
    let at = i64::try_from(u64::from_be_bytes(time.try_into().ok()?)).ok()?;
    let first = MessageId::from_bytes(id.try_into().ok()?);
    Some(Repeated { first, at: Timestamp::from_millisecond(at).ok()? })
}
