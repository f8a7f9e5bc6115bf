//! From format 2, in which a start read every message and every delivery, to format 3, in which it reads the schedule.
//!
//! Deliveries learn the size of their message's content and where that is, and each gets its row (`entry`). All of it is one
//! commit, with the number of the format in it.

use std::ops::Bound;

use redb::{ReadableTable, ReadableTableMetadata, WriteTransaction};
use serde_json::Value;

use super::super::SpoolError;
use super::super::seal::Vault;
use super::super::stored::{Body, StoredDelivery, StoredMessage, decode, delivery_of_key};
use super::super::tables::{
    DELIVERIES, MESSAGES, NO_ROW, SCHEDULE, SealedDelivery, delivery_place, message_place,
};
use crate::model::MessageId;

/// The format that is brought up to date.
pub(in crate::spool) const FORMAT: u32 = 2;
/// How many deliveries are in memory at once.
const AT_ONCE: usize = 1_000;

/// Brings a store up to date, but for the number of its format.
pub(in crate::spool) fn upgrade(transaction: &WriteTransaction, vault: &Vault) -> Result<(), SpoolError> {
    let messages = transaction.open_table(MESSAGES)?;
    let mut deliveries = transaction.open_table(DELIVERIES)?;
    let mut schedule = transaction.open_table(SCHEDULE)?;
    let all = deliveries.len()?;
    tracing::info!(deliveries = all, "the spool is of an earlier version; it is being brought up to date");
    let mut facts = None;
    let mut done: Option<[u8; 18]> = None;
    loop {
        let after = done.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut some = Vec::with_capacity(AT_ONCE);
        for entry in deliveries.range::<&[u8; 18]>((after, Bound::Unbounded))?.take(AT_ONCE) {
            let (key, value) = entry?;
            some.push((*key.value(), value.value().to_vec()));
        }
        let Some((last, _)) = some.last() else { break };
        done = Some(*last);
        for (key, octets) in some {
            let id = delivery_of_key(&key).message;
            let facts = match facts {
                Some((known, facts)) if known == id => facts,
                _ => {
                    let value = messages.get(&id.to_bytes())?;
                    let read = Facts::read(vault, id, value.as_ref().map(redb::AccessGuard::value));
                    facts.insert((id, read)).1
                }
            };
            let Some(sealed) = facts.added_to(vault, &key, &octets)? else {
                // Left alone, as before: nobody can read it, and it stays for whoever repairs it.
                schedule.insert(&key, NO_ROW)?;
                continue;
            };
            deliveries.insert(&key, sealed.delivery.as_slice())?;
            schedule.insert(&key, sealed.row.as_slice())?;
        }
    }
    tracing::info!(deliveries = all, "the spool is up to date now");
    Ok(())
}

/// What deliveries learn of their message.
#[derive(Clone, Copy)]
struct Facts {
    size: u64,
    body: Body,
}

impl Facts {
    fn read(vault: &Vault, id: MessageId, octets: Option<&[u8]>) -> Self {
        let read = |octets| {
            decode::<StoredMessage>(
                vault,
                message_place(&id.to_bytes()),
                octets,
                format_args!("message {id}"),
            )
        };
        match octets.map(read) {
            Some(Ok(message)) => Self { size: message.size, body: message.body },
            // Its content may be in a file: that stays then, for whoever repairs its record. If there is none, the start holds
            // its deliveries.
            _ => Self { size: 0, body: Body::File },
        }
    }

    /// A delivery that knows them; `None` if it cannot be read.
    fn added_to(
        self,
        vault: &Vault,
        key: &[u8; 18],
        octets: &[u8],
    ) -> Result<Option<SealedDelivery>, SpoolError> {
        let id = delivery_of_key(key);
        let read = decode::<Value>(vault, delivery_place(key), octets, format_args!("delivery {id}"));
        let delivery = read.ok().and_then(|mut json| {
            let fields = json.as_object_mut()?;
            fields.insert("size".to_owned(), self.size.into());
            fields.insert("body".to_owned(), serde_json::to_value(self.body).ok()?);
            serde_json::from_value::<StoredDelivery>(json).ok()
        });
        delivery.map(|delivery| SealedDelivery::new(vault, id, &delivery)).transpose()
    }
}
