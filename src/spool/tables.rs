//! The tables, and what a change does to them.

use std::sync::Arc;

use redb::{
    ReadOnlyTable, ReadTransaction, ReadableTable, ReadableTableMetadata, Table, TableDefinition,
    WriteTransaction,
};

use crate::model::{AttemptId, DecisionRecord, DeliveryId, MessageId, Outcome, ReportAction};

use super::SpoolError;
use super::board::Effect;
use super::entry::Entry;
use super::seal::{Place, Vault};
use super::seen::SeenTables;
use super::stored::{
    Body, StoredDelivery, StoredMessage, decode, delivery_key, delivery_of_key, encode, open_octets,
    seal_octets,
};

type Key16 = &'static [u8; 16];
type Key18 = &'static [u8; 18];
type Key32 = &'static [u8; 32];
type Octets = &'static [u8];

/// Facts about the store itself.
pub(super) const META: TableDefinition<&str, Octets> = TableDefinition::new("meta");
/// Message → [`StoredMessage`].
pub(super) const MESSAGES: TableDefinition<Key16, Octets> = TableDefinition::new("messages");
/// Message → content, where it is small.
pub(super) const CONTENT: TableDefinition<Key16, Octets> = TableDefinition::new("content");
/// Delivery → [`StoredDelivery`].
pub(super) const DELIVERIES: TableDefinition<Key18, Octets> = TableDefinition::new("deliveries");
/// Delivery → [`Entry`]: what the board has to know of it.
pub(super) const SCHEDULE: TableDefinition<Key18, Octets> = TableDefinition::new("schedule");
/// Attempt → [`DecisionRecord`]. Stays after the message is settled.
pub(super) const RECORDS: TableDefinition<Key16, Octets> = TableDefinition::new("records");
/// Message and attempt: the records of a message.
pub(super) const RECORDS_OF: TableDefinition<Key32, ()> = TableDefinition::new("records_of");

/// The spool's own keys, sealed, by epoch. Without them nothing can be read, so they stand there twice, on pages of
/// their own.
pub(super) const KEYS: TableDefinition<u32, Octets> = TableDefinition::new("keys");
pub(super) const KEYS_COPY: TableDefinition<u32, Octets> = TableDefinition::new("keys_copy");

/// A row of [`SCHEDULE`] that does not open, for a delivery that does not open either.
pub(super) const NO_ROW: &[u8] = &[];

/// All tables of one write transaction, and what has to follow once it is on disk.
pub(super) struct Tables<'txn> {
    messages: Table<'txn, Key16, Octets>,
    content: Table<'txn, Key16, Octets>,
    deliveries: Table<'txn, Key18, Octets>,
    schedule: Table<'txn, Key18, Octets>,
    records: Table<'txn, Key16, Octets>,
    records_of: Table<'txn, Key32, ()>,
    pub(super) vault: &'txn Vault,
    pub(super) seen: SeenTables<'txn>,
    pub(super) effects: Vec<Effect>,
}

impl<'txn> Tables<'txn> {
    pub(super) fn open(transaction: &'txn WriteTransaction, vault: &'txn Vault) -> Result<Self, SpoolError> {
        Ok(Self {
            vault,
            messages: transaction.open_table(MESSAGES)?,
            content: transaction.open_table(CONTENT)?,
            deliveries: transaction.open_table(DELIVERIES)?,
            schedule: transaction.open_table(SCHEDULE)?,
            records: transaction.open_table(RECORDS)?,
            records_of: transaction.open_table(RECORDS_OF)?,
            seen: SeenTables::open(transaction)?,
            effects: Vec::new(),
        })
    }

    pub(super) fn message(&self, id: MessageId) -> Result<StoredMessage, SpoolError> {
        get_message(&self.messages, self.vault, id)
    }

    pub(super) fn delivery(&self, id: DeliveryId) -> Result<StoredDelivery, SpoolError> {
        get_delivery(&self.deliveries, self.vault, id)
    }

    pub(super) fn deliveries_of(
        &self,
        id: MessageId,
    ) -> Result<Vec<(DeliveryId, StoredDelivery)>, SpoolError> {
        list_deliveries(&self.deliveries, self.vault, id)
    }

    pub(super) fn has_message(&self, id: MessageId) -> Result<bool, SpoolError> {
        Ok(self.messages.get(&id.to_bytes())?.is_some())
    }

    /// Puts in a message that [`seal_message`] has sealed.
    pub(super) fn put_message(
        &mut self,
        id: MessageId,
        sealed: &[u8],
        octets: u64,
        inline: Option<&[u8]>,
    ) -> Result<(), SpoolError> {
        let key = id.to_bytes();
        self.messages.insert(&key, sealed)?;
        if let Some(content) = inline {
            self.content.insert(&key, content)?;
        }
        self.effects.push(Effect::Added { octets });
        Ok(())
    }

    pub(super) fn put_delivery(
        &mut self,
        id: DeliveryId,
        delivery: &StoredDelivery,
    ) -> Result<(), SpoolError> {
        self.put_sealed_delivery(SealedDelivery::new(self.vault, id, delivery)?)
    }

    /// The same, for one that is sealed already.
    pub(super) fn put_sealed_delivery(&mut self, sealed: SealedDelivery) -> Result<(), SpoolError> {
        let SealedDelivery { id, delivery, row, entry } = sealed;
        let key = delivery_key(id);
        self.deliveries.insert(&key, delivery.as_slice())?;
        self.schedule.insert(&key, row.as_slice())?;
        self.effects.push(Effect::Delivery(id, entry));
        Ok(())
    }

    /// Makes the row of a delivery again. One that does not open has a row that does not open either.
    pub(super) fn mend_row(&mut self, id: DeliveryId) -> Result<(), SpoolError> {
        let row = match self.delivery(id) {
            Ok(delivery) => seal_entry(self.vault, id, &Entry::of(&delivery))?,
            Err(SpoolError::NoDelivery(_)) => {
                self.schedule.remove(&delivery_key(id))?;
                return Ok(());
            }
            Err(SpoolError::Damaged(_)) => NO_ROW.to_vec(),
            Err(error) => return Err(error),
        };
        self.schedule.insert(&delivery_key(id), row.as_slice())?;
        Ok(())
    }

    pub(super) fn put_record(&mut self, record: &DecisionRecord) -> Result<(), SpoolError> {
        let sealed = seal_record(self.vault, record)?;
        self.put_sealed_record(record, &sealed)
    }

    /// The same, for one that [`seal_record`] has sealed.
    pub(super) fn put_sealed_record(
        &mut self,
        record: &DecisionRecord,
        sealed: &[u8],
    ) -> Result<(), SpoolError> {
        self.records.insert(&record.attempt.to_bytes(), sealed)?;
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
            self.schedule.remove(&delivery_key(delivery))?;
            self.effects.push(Effect::Gone(delivery));
        }
        self.effects.push(Effect::Removed { octets: message.size });
        if message.body == Body::File {
            self.effects.push(Effect::DropBody(id));
        }
        Ok(())
    }

    /// Whether a recipient of a message was given up, as far as the decision records say.
    pub(super) fn was_given_up(&self, message: MessageId) -> Result<bool, SpoolError> {
        let (first, last) = (record_key(message, lowest()), record_key(message, highest()));
        for entry in self.records_of.range::<&[u8; 32]>(&first..=&last)? {
            let (key, _) = entry?;
            let mut attempt = [0; 16];
            attempt.copy_from_slice(&key.value()[16..]);
            let value = self.records.get(&attempt)?;
            let record = value.and_then(|value| {
                decode_record(self.vault, AttemptId::from_bytes(attempt), value.value()).ok()
            });
            let failed = |record: DecisionRecord| {
                let says = record.report.map(|report| report.says).unwrap_or_default();
                record.outcome == Outcome::Returned
                    || says.iter().any(|said| said.action == ReportAction::Failed)
            };
            if record.is_some_and(failed) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes the records of attempts begun before `before`; returns how many. At most `limit` at once, so that one
    /// change stays small.
    pub(super) fn prune_records(&mut self, before: AttemptId, limit: usize) -> Result<usize, SpoolError> {
        let mut old = Vec::new();
        for entry in self.records.range::<&[u8; 16]>(..&before.to_bytes())?.take(limit) {
            let (key, value) = entry?;
            let key = *key.value();
            let record = decode_record(self.vault, AttemptId::from_bytes(key), value.value()).ok();
            old.push((key, record.and_then(|record| record.message)));
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

/// Identifiers of messages, as numbers, from one to another.
pub(super) type Slice = std::ops::RangeInclusive<u128>;
/// All of them.
pub(super) const EVERYTHING: Slice = 0..=u128::MAX;
/// Deliveries from which on it is worth while to read in slices. Few in tests, so that all of them read so.
const SLICED: u64 = if cfg!(test) { 4 } else { 4_096 };

/// Cuts all numbers into `count` slices that divide what lies between `first` and `last` evenly; one if there is not enough.
fn cut(first: u128, last: u128, count: u128) -> Vec<Slice> {
    let step = last.saturating_sub(first) / count.max(1);
    if step == 0 {
        return vec![EVERYTHING];
    }
    let starts: Vec<_> = (1..count).map(|number| first + number * step).collect();
    let ends = starts.iter().map(|start| start - 1).chain([u128::MAX]);
    [0].iter().chain(&starts).zip(ends).map(|(start, end)| *start..=end).collect()
}

/// All tables as of one instant.
pub(super) struct Snapshot {
    messages: ReadOnlyTable<Key16, Octets>,
    content: ReadOnlyTable<Key16, Octets>,
    deliveries: ReadOnlyTable<Key18, Octets>,
    schedule: ReadOnlyTable<Key18, Octets>,
    records: ReadOnlyTable<Key16, Octets>,
    records_of: ReadOnlyTable<Key32, ()>,
    vault: Arc<Vault>,
}

impl Snapshot {
    pub(super) fn open(transaction: &ReadTransaction, vault: &Arc<Vault>) -> Result<Self, SpoolError> {
        Ok(Self {
            vault: Arc::clone(vault),
            messages: transaction.open_table(MESSAGES)?,
            content: transaction.open_table(CONTENT)?,
            deliveries: transaction.open_table(DELIVERIES)?,
            schedule: transaction.open_table(SCHEDULE)?,
            records: transaction.open_table(RECORDS)?,
            records_of: transaction.open_table(RECORDS_OF)?,
        })
    }

    pub(super) fn message(&self, id: MessageId) -> Result<StoredMessage, SpoolError> {
        get_message(&self.messages, &self.vault, id)
    }

    pub(super) fn delivery(&self, id: DeliveryId) -> Result<StoredDelivery, SpoolError> {
        get_delivery(&self.deliveries, &self.vault, id)
    }

    pub(super) fn deliveries_of(
        &self,
        id: MessageId,
    ) -> Result<Vec<(DeliveryId, StoredDelivery)>, SpoolError> {
        list_deliveries(&self.deliveries, &self.vault, id)
    }

    pub(super) fn inline(&self, id: MessageId) -> Result<Option<Vec<u8>>, SpoolError> {
        Ok(self.content.get(&id.to_bytes())?.map(|value| value.value().to_vec()))
    }

    /// All there can be of messages, in about so many slices with about as many in each, if they came at a steady rate. A
    /// small spool is one slice.
    pub(super) fn slices(&self, count: u128) -> Result<Vec<Slice>, SpoolError> {
        let (first, last) = (self.schedule.first()?, self.schedule.last()?);
        let (Some((first, _)), Some((last, _))) = (first, last) else { return Ok(vec![EVERYTHING]) };
        let [first, last] = [first, last].map(|key| u128::from_be_bytes(message_of(key.value()).to_bytes()));
        let count = if self.schedule.len()? < SLICED { 1 } else { count };
        Ok(cut(first, last, count))
    }

    /// How many messages, and how many deliveries, there are by the tables' own count.
    pub(super) fn lengths(&self) -> Result<(u64, u64), SpoolError> {
        Ok((self.messages.len()?, self.deliveries.len()?))
    }

    pub(super) fn has_message(&self, id: MessageId) -> Result<bool, SpoolError> {
        Ok(self.messages.get(&id.to_bytes())?.is_some())
    }

    /// What the schedule says of a delivery, if anything.
    pub(super) fn entry(&self, id: DeliveryId) -> Result<Option<Entry>, SpoolError> {
        let row = self.schedule.get(&delivery_key(id))?;
        Ok(row.and_then(|row| open_entry(&self.vault, id, row.value())))
    }

    /// Calls `each` for every row of the schedule of the messages of a slice, oldest message first; with `None` for one that
    /// does not open.
    pub(super) fn each_entry_of(
        &self,
        slice: &Slice,
        mut each: impl FnMut(DeliveryId, Option<Entry>),
    ) -> Result<(), SpoolError> {
        let (start, end) = delivery_keys(slice);
        for row in self.schedule.range::<&[u8; 18]>(&start..=&end)? {
            let (key, value) = row?;
            let id = delivery_of_key(key.value());
            each(id, open_entry(&self.vault, id, value.value()));
        }
        Ok(())
    }

    /// Calls `each` for every message, damaged ones included, oldest first.
    pub(super) fn each_message(
        &self,
        mut each: impl FnMut(MessageId, Result<StoredMessage, SpoolError>),
    ) -> Result<(), SpoolError> {
        for entry in self.messages.iter()? {
            let (key, value) = entry?;
            let id = MessageId::from_bytes(*key.value());
            each(id, decode_message(&self.vault, id, value.value()));
        }
        Ok(())
    }

    /// Calls `each` for every delivery, damaged ones included, oldest message first, until it says to stop.
    pub(super) fn each_delivery(
        &self,
        each: impl FnMut(DeliveryId, Result<StoredDelivery, SpoolError>) -> std::ops::ControlFlow<()>,
    ) -> Result<(), SpoolError> {
        self.each_delivery_of(&EVERYTHING, each)
    }

    /// The same for those of the messages of a slice.
    pub(super) fn each_delivery_of(
        &self,
        slice: &Slice,
        mut each: impl FnMut(DeliveryId, Result<StoredDelivery, SpoolError>) -> std::ops::ControlFlow<()>,
    ) -> Result<(), SpoolError> {
        let (start, end) = delivery_keys(slice);
        for entry in self.deliveries.range::<&[u8; 18]>(&start..=&end)? {
            let (key, value) = entry?;
            let id = delivery_of_key(key.value());
            if each(id, decode_delivery(&self.vault, id, value.value())).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Calls `each` for every decision record, damaged ones included, oldest first.
    pub(super) fn each_record(
        &self,
        mut each: impl FnMut(Result<DecisionRecord, SpoolError>),
    ) -> Result<(), SpoolError> {
        for entry in self.records.iter()? {
            let (key, value) = entry?;
            each(decode_record(&self.vault, AttemptId::from_bytes(*key.value()), value.value()));
        }
        Ok(())
    }

    pub(super) fn record(&self, attempt: AttemptId) -> Result<Option<DecisionRecord>, SpoolError> {
        let value = self.records.get(&attempt.to_bytes())?;
        value.map(|value| decode_record(&self.vault, attempt, value.value())).transpose()
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
            found.push(decode_record(&self.vault, AttemptId::from_bytes(*key.value()), value.value())?);
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

/// Where a message's record stands.
pub(super) const fn message_place(key: &[u8; 16]) -> Place<'_> {
    Place { table: "messages", key }
}

/// Where a delivery stands.
pub(super) const fn delivery_place(key: &[u8; 18]) -> Place<'_> {
    Place { table: "deliveries", key }
}

/// Where the row of a delivery stands in the schedule.
pub(super) const fn entry_place(key: &[u8; 18]) -> Place<'_> {
    Place { table: "schedule", key }
}

/// Where a decision record stands.
pub(super) const fn record_place(key: &[u8; 16]) -> Place<'_> {
    Place { table: "records", key }
}

/// Seals the record of a message.
pub(super) fn seal_message(
    vault: &Vault,
    id: MessageId,
    message: &StoredMessage,
) -> Result<Vec<u8>, SpoolError> {
    encode(vault, message_place(&id.to_bytes()), message)
}

/// A delivery and its row in the schedule, sealed.
pub(super) struct SealedDelivery {
    pub(super) id: DeliveryId,
    pub(super) delivery: Vec<u8>,
    pub(super) row: Vec<u8>,
    pub(super) entry: Box<Entry>,
}

impl SealedDelivery {
    pub(super) fn new(vault: &Vault, id: DeliveryId, delivery: &StoredDelivery) -> Result<Self, SpoolError> {
        let entry = Entry::of(delivery);
        Ok(Self {
            id,
            delivery: encode(vault, delivery_place(&delivery_key(id)), delivery)?,
            row: seal_entry(vault, id, &entry)?,
            entry: Box::new(entry),
        })
    }
}

fn seal_entry(vault: &Vault, id: DeliveryId, entry: &Entry) -> Result<Vec<u8>, SpoolError> {
    seal_octets(vault, entry_place(&delivery_key(id)), &entry.encode())
}

fn open_entry(vault: &Vault, id: DeliveryId, octets: &[u8]) -> Option<Entry> {
    open_octets(vault, entry_place(&delivery_key(id)), octets).and_then(|row| Entry::decode(&row))
}

/// The first and the last key that a delivery of a slice can have.
fn delivery_keys(slice: &Slice) -> ([u8; 18], [u8; 18]) {
    let bound = |message: &u128, route| {
        delivery_key(DeliveryId { message: MessageId::from_bytes(message.to_be_bytes()), route })
    };
    (bound(slice.start(), 0), bound(slice.end(), u16::MAX))
}

/// Seals a decision record.
pub(super) fn seal_record(vault: &Vault, record: &DecisionRecord) -> Result<Vec<u8>, SpoolError> {
    encode(vault, record_place(&record.attempt.to_bytes()), record)
}

fn decode_message(vault: &Vault, id: MessageId, octets: &[u8]) -> Result<StoredMessage, SpoolError> {
    decode(vault, message_place(&id.to_bytes()), octets, format_args!("message {id}"))
}

fn decode_delivery(vault: &Vault, id: DeliveryId, octets: &[u8]) -> Result<StoredDelivery, SpoolError> {
    decode(vault, delivery_place(&delivery_key(id)), octets, format_args!("delivery {id}"))
}

fn decode_record(vault: &Vault, attempt: AttemptId, octets: &[u8]) -> Result<DecisionRecord, SpoolError> {
    decode(vault, record_place(&attempt.to_bytes()), octets, format_args!("decision record {attempt}"))
}

/// The message a delivery belongs to, by its key.
pub(super) fn message_of(key: &[u8; 18]) -> MessageId {
    delivery_of_key(key).message
}

fn record_key(message: MessageId, attempt: AttemptId) -> [u8; 32] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(&message.to_bytes());
    key[16..].copy_from_slice(&attempt.to_bytes());
    key
}

fn get_message(
    table: &impl ReadableTable<Key16, Octets>,
    vault: &Vault,
    id: MessageId,
) -> Result<StoredMessage, SpoolError> {
    let value = table.get(&id.to_bytes())?.ok_or(SpoolError::NoMessage(id))?;
    decode_message(vault, id, value.value())
}

fn get_delivery(
    table: &impl ReadableTable<Key18, Octets>,
    vault: &Vault,
    id: DeliveryId,
) -> Result<StoredDelivery, SpoolError> {
    let value = table.get(&delivery_key(id))?.ok_or(SpoolError::NoDelivery(id))?;
    decode_delivery(vault, id, value.value())
}

fn list_deliveries(
    table: &impl ReadableTable<Key18, Octets>,
    vault: &Vault,
    message: MessageId,
) -> Result<Vec<(DeliveryId, StoredDelivery)>, SpoolError> {
    let first = delivery_key(DeliveryId { message, route: 0 });
    let last = delivery_key(DeliveryId { message, route: u16::MAX });
    let mut found = Vec::new();
    for entry in table.range::<&[u8; 18]>(&first..=&last)? {
        let (key, value) = entry?;
        let id = delivery_of_key(key.value());
        found.push((id, decode_delivery(vault, id, value.value())?));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_leave_nothing_out_and_have_nothing_twice() {
        for (first, last, count, expected) in [
            (0, 0, 256, 1),
            (7, 9, 256, 1),
            (1, 1_000, 4, 4),
            (5, u128::MAX, 256, 256),
            (1, 900, 1, 1),
            (9, 5, 2, 1),
        ] {
            let slices = cut(first, last, count);
            assert_eq!(slices.len(), expected, "{first} {last} {count}");
            assert_eq!(
                (slices.first().map(|slice| *slice.start()), slices.last().map(|slice| *slice.end())),
                (Some(0), Some(u128::MAX))
            );
            assert!(slices.windows(2).all(|two| two[0].end() + 1 == *two[1].start()));
        }
    }
}
