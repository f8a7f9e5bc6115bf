//! Tests of the spool, on a simulated disk unless they are about the real one.
#![allow(clippy::unwrap_used)]

mod acceptance;
mod at_rest;
mod attempts;
mod crash;
mod golden;
mod kept;
mod late;
mod maintain;
mod poison;
mod queues;
mod schedule;
mod seen;

use std::sync::Arc;

use jiff::Timestamp;
use redb::ReadableDatabase;
use tokio::io::AsyncReadExt;

use crate::model::{
    AttemptId, BodyType, DecisionRecord, Direction, Envelope, MessageId, Recipient, ReversePath,
};
use crate::world::{ManualClock, SeededRandom, World};

use super::testing::PowerDisk;
use super::*;

/// 2026-11-22, as good as any day.
const START: i64 = 1_795_305_600;

/// A world that stands still, and the clock that moves it.
fn world() -> (World, Arc<ManualClock>) {
    let clock = ManualClock::at(Timestamp::from_second(START).unwrap());
    (World::with(Arc::clone(&clock) as _, SeededRandom::new(7)), clock)
}

/// Settings without a directory, for simulated disks. Small contents stand in the database.
fn settings() -> Settings {
    Settings { cache_bytes: 1 << 20, inline_body_max: 4096, reserve_octets: 0, ..Settings::at("simulated") }
}

/// The keys of all spools on simulated disks.
fn keys() -> MasterKeys {
    MasterKeys::parse("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=").unwrap()
}

fn open(disk: &PowerDisk, world: &World) -> Spool {
    Spool::open_on(disk.disk(), &keys(), settings(), world.clone()).unwrap()
}

fn envelope(sender: &str, recipients: &[&str]) -> Envelope {
    Envelope {
        sender: if sender.is_empty() {
            ReversePath::Null
        } else {
            ReversePath::Address(sender.parse().unwrap())
        },
        recipients: recipients.iter().map(|address| Recipient::plain(address.parse().unwrap())).collect(),
        body: BodyType::SevenBit,
        smtputf8: false,
        ret: None,
        envid: None,
    }
}

fn federation(domain: &str) -> Route {
    Route::Federation(domain.parse().unwrap())
}

/// A message from `jan@a.nl` to `piet@b.nl` on one route.
fn one_recipient() -> NewMessage {
    NewMessage {
        envelope: envelope("jan@a.nl", &["piet@b.nl"]),
        routes: vec![(federation("b.nl"), vec![0])],
        arrival: Arrival::default(),
        origin: Origin::Submission,
        record: None,
    }
}

/// Accepts `message` with `content`.
async fn accept(spool: &Spool, message: NewMessage, content: &[u8]) -> Result<Accepted, SpoolError> {
    let mut draft = spool.draft(spool.world().message_id(), b"Received: here\r\n");
    for piece in content.chunks(1500) {
        draft.write(piece).await?;
    }
    draft.accept(message).await
}

async fn content_of(spool: &Spool, id: MessageId) -> std::io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    spool.content(id).await.map_err(std::io::Error::other)?.read_to_end(&mut octets).await?;
    Ok(octets)
}

/// What stands in the database for a message: the second half, which holds nothing in clear.
fn sealed(
    spool: &Spool,
    table: redb::TableDefinition<&'static [u8; 16], &'static [u8]>,
    id: MessageId,
) -> Vec<u8> {
    sealed_at(spool, table, &id.to_bytes())
}

/// The same for a delivery.
fn sealed_of(
    spool: &Spool,
    table: redb::TableDefinition<&'static [u8; 18], &'static [u8]>,
    id: DeliveryId,
) -> Vec<u8> {
    sealed_at(spool, table, &stored::delivery_key(id))
}

fn sealed_at<const N: usize>(
    spool: &Spool,
    table: redb::TableDefinition<&'static [u8; N], &'static [u8]>,
    key: &[u8; N],
) -> Vec<u8> {
    let transaction = spool.inner.store.database().unwrap().begin_read().unwrap();
    let value = transaction.open_table(table).unwrap().get(key).unwrap().unwrap();
    value.value()[value.value().len() / 2..].to_vec()
}

/// Changes the database of a closed spool behind its back.
fn tamper(disk: &PowerDisk, change: impl FnOnce(&redb::WriteTransaction)) {
    let database = redb::Builder::new().create_with_backend(disk.clone()).unwrap();
    let transaction = database.begin_write().unwrap();
    change(&transaction);
    transaction.commit().unwrap();
}

/// Content of `size` octets that differs for each `seed`.
fn body(seed: u64, size: usize) -> Vec<u8> {
    let random = SeededRandom::new(seed);
    let mut octets = Vec::with_capacity(size + 8);
    while octets.len() < size {
        octets.extend_from_slice(&crate::world::Random::next(random.as_ref()).to_le_bytes());
    }
    octets.truncate(size);
    octets
}

fn record(spool: &Spool) -> DecisionRecord {
    DecisionRecord::begin(AttemptId::from_parts(0, 0), Direction::Outbound, spool.world().now())
}

/// Begins the one attempt that is due.
async fn begin(spool: &Spool) -> Attempt {
    let mut due = spool.take_due(spool.world().now(), 10);
    assert_eq!(due.len(), 1, "exactly one delivery is due");
    spool.begin_attempt(due.remove(0)).await.unwrap()
}

/// The end of an attempt in which every pending recipient has the same fate.
fn all(attempt: &Attempt, spool: &Spool, fate: Fate) -> AttemptEnd {
    AttemptEnd {
        record: record(spool),
        recipients: attempt
            .pending()
            .iter()
            .map(|pending| RecipientEnd { index: pending.index, fate, note: None })
            .collect(),
        not_before: None,
        report: None,
    }
}
