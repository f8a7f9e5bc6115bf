//! The tables, and what a change does to them.

use redb::{
    Database, ReadOnlyTable, ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction,
};

use crate::model::{AttemptId, DecisionRecord, DeliveryId, MessageId};

use super::SpoolError;
use super::board::Effect;
use super::seen::SeenTables;
use super::stored::{
    Body, FORMAT, StoredDelivery, StoredMessage, decode, delivery_key, delivery_of_key, encode,
};

type Key16 = &'static [u8; 16];
type Key18 = &'static [u8; 18];
type Key32 = &'static [u8; 32];
type Octets = &'static [u8];

/// Facts about the store itself.
const META: TableDefinition<&str, Octets> = TableDefinition::new("meta");
/// Message → [`StoredMessage`].
const MESSAGES: TableDefinition<Key16, Octets> = TableDefinition::new("messages");
/// Message → content, where it is small.
const CONTENT: TableDefinition<Key16, Octets> = TableDefinition::new("content");
/// Delivery → [`StoredDelivery`].
const DELIVERIES: TableDefinition<Key18, Octets> = TableDefinition::new("deliveries");
/// Attempt → [`DecisionRecord`]. Stays after the message is settled.
const RECORDS: TableDefinition<Key16, Octets> = TableDefinition::new("records");
/// Message and attempt: the records of a message.
const RECORDS_OF: TableDefinition<Key32, ()> = TableDefinition::new("records_of");

const FORMAT_KEY: &str = "format";

/// Lays out an empty store, or checks the format of one that is there.
pub(super) fn prepare(database: &Database) -> Result<(), SpoolError> {
    let transaction = database.begin_write()?;
    let found = transaction.open_table(META)?.get(FORMAT_KEY)?.map(|value| value.value().to_vec());
    match found {
        Some(octets) if octets == FORMAT.to_be_bytes() => {}
        Some(octets) => {
            let found = <[u8; 4]>::try_from(octets.as_slice())
                .map_or_else(|_| "unreadable".to_owned(), |octets| u32::from_be_bytes(octets).to_string());
            return Err(SpoolError::Format { found, known: FORMAT });
        }
        None => {
            transaction.open_table(META)?.insert(FORMAT_KEY, FORMAT.to_be_bytes().as_slice())?;
        }
    }
    drop(Tables::open(&transaction)?);
    transaction.commit()?;
    Ok(())
}

/// All tables of one write transaction, and what has to follow once it is on disk.
pub(super) struct Tables<'txn> {
    messages: Table<'txn, Key16, Octets>,
    content: Table<'txn, Key16, Octets>,
    deliveries: Table<'txn, Key18, Octets>,
    records: Table<'txn, Key16, Octets>,
    records_of: Table<'txn, Key32, ()>,
    pub(super) seen: SeenTables<'txn>,
    pub(super) effects: Vec<Effect>,
}

impl<'txn> Tables<'txn> {
    pub(super) fn open(transaction: &'txn WriteTransaction) -> Result<Self, SpoolError> {
        Ok(Self {
            messages: transaction.open_table(MESSAGES)?,
            content: transaction.open_table(CONTENT)?,
            deliveries: transaction.open_table(DELIVERIES)?,
            records: transaction.open_table(RECORDS)?,
            records_of: transaction.open_table(RECORDS_OF)?,
            seen: SeenTables::open(transaction)?,
            effects: Vec::new(),
        })
    }

    pub(super) fn message(&self, id: MessageId) -> Result<StoredMessage, SpoolError> {
        get_message(&self.messages, id)
    }

    pub(super) fn delivery(&self, id: DeliveryId) -> Result<StoredDelivery, SpoolError> {
        get_delivery(&self.deliveries, id)
    }

    pub(super) fn deliveries_of(
        &self,
        id: MessageId,
    ) -> Result<Vec<(DeliveryId, StoredDelivery)>, SpoolError> {
        list_deliveries(&self.deliveries, id)
    }

    pub(super) fn has_message(&self, id: MessageId) -> Result<bool, SpoolError> {
        Ok(self.messages.get(&id.to_bytes())?.is_some())
    }

    pub(super) fn put_message(
        &mut self,
        id: MessageId,
        message: &StoredMessage,
        inline: Option<&[u8]>,
    ) -> Result<(), SpoolError> {
        self.messages.insert(&id.to_bytes(), encode(message)?.as_slice())?;
        if let Some(content) = inline {
            self.content.insert(&id.to_bytes(), content)?;
        }
        self.effects.push(Effect::Added { octets: message.size });
        Ok(())
    }

    pub(super) fn put_delivery(
        &mut self,
        id: DeliveryId,
        delivery: &StoredDelivery,
    ) -> Result<(), SpoolError> {
        self.deliveries.insert(&delivery_key(id), encode(delivery)?.as_slice())?;
        self.effects.push(Effect::Delivery(id, Box::new(delivery.clone())));
        Ok(())
    }

    pub(super) fn put_record(&mut self, record: &DecisionRecord) -> Result<(), SpoolError> {
        self.records.insert(&record.attempt.to_bytes(), encode(record)?.as_slice())?;
        if let Some(message) = record.message {
            self.records_of.insert(&record_key(message, record.attempt), ())?;
        }
        Ok(())
    }

    /// Removes a message, its content and its deliveries. Its decision records stay.
    pub(super) fn remove_message(
        &mut self,
        id: MessageId,
        message: &StoredMessage,
    ) -> Result<(), SpoolError> {
        self.messages.remove(&id.to_bytes())?;
        self.content.remove(&id.to_bytes())?;
        for route in 0..message.routes {
            let delivery = DeliveryId { message: id, route };
            self.deliveries.remove(&delivery_key(delivery))?;
            self.effects.push(Effect::Gone(delivery));
        }
        self.effects.push(Effect::Removed { octets: message.size });
        if message.body == Body::File {
            self.effects.push(Effect::DropBody(id));
        }
        Ok(())
    }

    /// Removes the records of attempts begun before `before`; returns how many. At most `limit` at once, so that one
    /// change stays small.
    pub(super) fn prune_records(&mut self, before: AttemptId, limit: usize) -> Result<usize, SpoolError> {
        let mut old = Vec::new();
        for entry in self.records.range::<&[u8; 16]>(..&before.to_bytes())?.take(limit) {
            let (key, value) = entry?;
            let message =
                decode::<DecisionRecord>(value.value(), "a decision record").ok().and_then(|r| r.message);
            old.push((*key.value(), message));
        }
        for (key, message) in &old {
            self.records.remove(key)?;
            if let Some(message) = message {
                self.records_of.remove(&record_key(*message, AttemptId::from_bytes(*key)))?;
            }
        }
        Ok(old.len())
    }
}

/// All tables as of one instant.
pub(super) struct Snapshot {
    messages: ReadOnlyTable<Key16, Octets>,
    content: ReadOnlyTable<Key16, Octets>,
    deliveries: ReadOnlyTable<Key18, Octets>,
    records: ReadOnlyTable<Key16, Octets>,
    records_of: ReadOnlyTable<Key32, ()>,
}

impl Snapshot {
    pub(super) fn open(transaction: &ReadTransaction) -> Result<Self, SpoolError> {
        Ok(Self {
            messages: transaction.open_table(MESSAGES)?,
            content: transaction.open_table(CONTENT)?,
            deliveries: transaction.open_table(DELIVERIES)?,
            records: transaction.open_table(RECORDS)?,
            records_of: transaction.open_table(RECORDS_OF)?,
        })
    }

    pub(super) fn message(&self, id: MessageId) -> Result<StoredMessage, SpoolError> {
        get_message(&self.messages, id)
    }

    pub(super) fn deliveries_of(
        &self,
        id: MessageId,
    ) -> Result<Vec<(DeliveryId, StoredDelivery)>, SpoolError> {
        list_deliveries(&self.deliveries, id)
    }

    pub(super) fn inline(&self, id: MessageId) -> Result<Option<Vec<u8>>, SpoolError> {
        Ok(self.content.get(&id.to_bytes())?.map(|value| value.value().to_vec()))
    }

    /// Calls `each` for every message, damaged ones included, oldest first.
    pub(super) fn each_message(
        &self,
        mut each: impl FnMut(MessageId, Result<StoredMessage, SpoolError>),
    ) -> Result<(), SpoolError> {
        for entry in self.messages.iter()? {
            let (key, value) = entry?;
            let id = MessageId::from_bytes(*key.value());
            each(id, decode(value.value(), format_args!("message {id}")));
        }
        Ok(())
    }

    /// Calls `each` for every delivery, damaged ones included, oldest message first, until it says to stop.
    pub(super) fn each_delivery(
        &self,
        mut each: impl FnMut(DeliveryId, Result<StoredDelivery, SpoolError>) -> std::ops::ControlFlow<()>,
    ) -> Result<(), SpoolError> {
        for entry in self.deliveries.iter()? {
            let (key, value) = entry?;
            let id = delivery_of_key(key.value());
            if each(id, decode(value.value(), format_args!("delivery {id}"))).is_break() {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn record(&self, attempt: AttemptId) -> Result<Option<DecisionRecord>, SpoolError> {
        self.records.get(&attempt.to_bytes())?.map(|value| decode_record(attempt, value.value())).transpose()
    }

    pub(super) fn records_of(&self, message: MessageId) -> Result<Vec<DecisionRecord>, SpoolError> {
        let (first, last) = (record_key(message, lowest()), record_key(message, highest()));
        let mut found = Vec::new();
        for entry in self.records_of.range::<&[u8; 32]>(&first..=&last)? {
            let (key, _) = entry?;
            let mut attempt = [0; 16];
            attempt.copy_from_slice(&key.value()[16..]);
            found.extend(self.record(AttemptId::from_bytes(attempt))?);
        }
        Ok(found)
    }

    pub(super) fn recent_records(&self, limit: usize) -> Result<Vec<DecisionRecord>, SpoolError> {
        let mut found = Vec::new();
        for entry in self.records.iter()?.rev().take(limit) {
            let (key, value) = entry?;
            found.push(decode_record(AttemptId::from_bytes(*key.value()), value.value())?);
        }
        Ok(found)
    }
}

fn lowest() -> AttemptId {
    AttemptId::from_bytes([0; 16])
}

fn highest() -> AttemptId {
    AttemptId::from_bytes([0xff; 16])
}

fn decode_record(attempt: AttemptId, octets: &[u8]) -> Result<DecisionRecord, SpoolError> {
    decode(octets, format_args!("decision record {attempt}"))
}

fn record_key(message: MessageId, attempt: AttemptId) -> [u8; 32] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(&message.to_bytes());
    key[16..].copy_from_slice(&attempt.to_bytes());
    key
}

fn get_message(
    table: &impl ReadableTable<Key16, Octets>,
    id: MessageId,
) -> Result<StoredMessage, SpoolError> {
    let value = table.get(&id.to_bytes())?.ok_or(SpoolError::NoMessage(id))?;
    decode(value.value(), format_args!("message {id}"))
}

fn get_delivery(
    table: &impl ReadableTable<Key18, Octets>,
    id: DeliveryId,
) -> Result<StoredDelivery, SpoolError> {
    let value = table.get(&delivery_key(id))?.ok_or(SpoolError::NoDelivery(id))?;
    decode(value.value(), format_args!("delivery {id}"))
}

fn list_deliveries(
    table: &impl ReadableTable<Key18, Octets>,
    message: MessageId,
) -> Result<Vec<(DeliveryId, StoredDelivery)>, SpoolError> {
    let first = delivery_key(DeliveryId { message, route: 0 });
    let last = delivery_key(DeliveryId { message, route: u16::MAX });
    let mut found = Vec::new();
    for entry in table.range::<&[u8; 18]>(&first..=&last)? {
        let (key, value) = entry?;
        let id = delivery_of_key(key.value());
        found.push((id, decode(value.value(), format_args!("delivery {id}"))?));
    }
    Ok(found)
}
