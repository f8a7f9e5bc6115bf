//! The layout of a store: its format, and its keys. An empty one is laid out, one of the format before is brought to this one.

use redb::{Database, ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};

use super::SpoolError;
use super::seal::{MasterKeys, Opened, SealedKey, Vault};
use super::stored::FORMAT;
use super::tables::{KEYS, KEYS_COPY, META, Tables};
use super::upgrade::from_2;

type Octets = &'static [u8];

const FORMAT_KEY: &str = "format";

/// Lays out an empty store, or checks the format of one that is there and brings it to this one; opens its keys in any case.
/// All of that is one commit.
pub(super) fn prepare(database: &Database, master: &MasterKeys) -> Result<Vault, SpoolError> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    let found = format(&transaction.open_table(META)?)?;
    let vault = match found {
        None => {
            let vault = store_keys(&transaction, Vault::make(master)?)?;
            put_format(&transaction, FORMAT)?;
            vault
        }
        Some(FORMAT) => store_keys(&transaction, unlock(&transaction, master)?)?,
        Some(from_2::FORMAT) => {
            let vault = store_keys(&transaction, unlock(&transaction, master)?)?;
            from_2::upgrade(&transaction, &vault)?;
            put_format(&transaction, FORMAT)?;
            vault
        }
        Some(found) => return Err(SpoolError::Format { found: found.to_string(), known: FORMAT }),
    };
    drop(Tables::open(&transaction, &vault)?);
    transaction.commit()?;
    Ok(vault)
}

/// Lays out an empty store of an earlier format, but for its tables.
pub(super) fn begin_earlier(
    transaction: &WriteTransaction,
    master: &MasterKeys,
    format: u32,
) -> Result<Vault, SpoolError> {
    put_format(transaction, format)?;
    store_keys(transaction, Vault::make(master)?)
}

fn store_keys(transaction: &WriteTransaction, opened: Opened) -> Result<Vault, SpoolError> {
    if let Some(keys) = &opened.store {
        put_keys(transaction, KEYS, keys)?;
        put_keys(transaction, KEYS_COPY, keys)?;
    }
    Ok(opened.vault)
}

fn put_format(transaction: &WriteTransaction, format: u32) -> Result<(), SpoolError> {
    transaction.open_table(META)?.insert(FORMAT_KEY, format.to_be_bytes().as_slice())?;
    Ok(())
}

/// The format of a store that is there.
pub(super) fn format_of(transaction: &ReadTransaction) -> Result<Option<u32>, SpoolError> {
    format(&transaction.open_table(META)?)
}

/// The format of a store; `None` if it is empty.
fn format(meta: &impl ReadableTable<&'static str, Octets>) -> Result<Option<u32>, SpoolError> {
    let Some(value) = meta.get(FORMAT_KEY)? else { return Ok(None) };
    let octets = <[u8; 4]>::try_from(value.value())
        .map_err(|_| SpoolError::Format { found: "unreadable".to_owned(), known: FORMAT })?;
    Ok(Some(u32::from_be_bytes(octets)))
}

fn unlock(transaction: &WriteTransaction, master: &MasterKeys) -> Result<Opened, SpoolError> {
    match Vault::unlock(&keys(transaction, KEYS)?, master) {
        Err(SpoolError::Damaged(what)) => {
            tracing::error!("{what} is damaged on disk; trying its copy");
            let copy = keys(transaction, KEYS_COPY)?;
            let opened = Vault::unlock(&copy, master)?;
            Ok(Opened { store: Some(opened.store.unwrap_or(copy)), ..opened })
        }
        other => other,
    }
}

fn keys(
    transaction: &WriteTransaction,
    table: TableDefinition<u32, Octets>,
) -> Result<Vec<SealedKey>, SpoolError> {
    let table = transaction.open_table(table)?;
    let mut found = Vec::new();
    for entry in table.iter()? {
        let (epoch, octets) = entry?;
        found.push(SealedKey { epoch: epoch.value(), octets: octets.value().to_vec() });
    }
    Ok(found)
}

fn put_keys(
    transaction: &WriteTransaction,
    table: TableDefinition<u32, Octets>,
    keys: &[SealedKey],
) -> Result<(), SpoolError> {
    let mut table = transaction.open_table(table)?;
    for key in keys {
        table.insert(key.epoch, key.octets.as_slice())?;
    }
    Ok(())
}
