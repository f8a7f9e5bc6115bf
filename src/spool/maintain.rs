//! Care of a running spool: reading everything back, and a copy of it for safe keeping.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{
    Builder, Database, Key, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, Value,
    WriteTransaction,
};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;

use crate::model::MessageId;

use super::disk::{CONTENT_DIR, DATABASE, make_directory, open_private, sync_directory};
use super::entry::Entry;
use super::seen::{SEEN, SEEN_AT};
use super::stored::Body;
use super::tables::{
    CONTENT, DELIVERIES, EVERYTHING, KEYS, KEYS_COPY, MESSAGES, META, RECORDS, RECORDS_OF, SCHEDULE,
    Snapshot, message_of,
};
use super::{Spool, SpoolError};

/// Octets of content that are in memory at a time.
const PIECE_OCTETS: usize = 64 << 10;

/// What reading everything back has shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scrubbed {
    /// Messages that were read.
    pub messages: u64,
    /// Octets of their content.
    pub octets: u64,
    /// Deliveries that were read.
    pub deliveries: u64,
    /// Decision records that were read.
    pub records: u64,
    /// What is damaged, in words. A delivery whose content is damaged is held at its next attempt.
    pub damaged: Vec<String>,
}

/// A copy of the spool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackedUp {
    /// Where it is.
    pub dir: PathBuf,
    /// Messages in it.
    pub messages: u64,
    /// Octets of its database.
    pub octets: u64,
}

impl Spool {
    /// Reads every value and every content and says what is damaged (SPOOL-023). Nothing is changed, except that damaged
    /// content is remembered: its deliveries are held when next tried (SPOOL-013).
    ///
    /// # Errors
    /// [`SpoolError::Broken`].
    pub async fn scrub(&self) -> Result<Scrubbed, SpoolError> {
        let (mut scrubbed, messages) = self.read(scrub_values).await?;
        for id in messages {
            match self.scrub_content(id).await {
                Ok(octets) => scrubbed.octets += octets,
                // Settled in the meantime.
                Err(SpoolError::NoMessage(_)) => {}
                Err(SpoolError::Damaged(what)) => scrubbed.damaged.push(what),
                Err(error) => return Err(error),
            }
        }
        Ok(scrubbed)
    }

    async fn scrub_content(&self, id: MessageId) -> Result<u64, SpoolError> {
        let (mut content, mut piece, mut octets) = (self.content(id).await?, vec![0; PIECE_OCTETS], 0);
        loop {
            match content.read(&mut piece).await {
                Ok(0) => return Ok(octets),
                Ok(count) => octets += count as u64,
                Err(error) => {
                    return Err(SpoolError::Damaged(format!("the content of message {id} ({error})")));
                }
            }
        }
    }

    /// Copies the spool, as of one instant, to `dir`, which must not exist or be empty (SPOOL-024). The copy is sealed
    /// with the same keys, and opens as a spool. Messages delivered after that instant are in it too: a node started on
    /// it delivers them once more.
    ///
    /// # Errors
    /// [`SpoolError::Open`] with what stood in the way; [`SpoolError::Broken`]. The spool itself is untouched.
    pub async fn back_up(&self, dir: PathBuf) -> Result<BackedUp, SpoolError> {
        let (store, vault) = (self.inner.store.database()?, Arc::clone(&self.inner.store.vault));
        let own = self.settings().dir.clone();
        let copied = self.inner.world.threads.run(move || {
            let copy = Copy { from: own, to: dir };
            copy.run(&store, |transaction| Snapshot::open(transaction, &vault))
        });
        copied.await.unwrap_or_else(|_| Err(SpoolError::broken("the copying task stopped")))
    }
}

/// Reads all values; returns the messages whose content is to be read.
fn scrub_values(tables: &Snapshot) -> Result<(Scrubbed, Vec<MessageId>), SpoolError> {
    let (mut scrubbed, mut messages, mut damaged) = (Scrubbed::default(), Vec::new(), Vec::new());
    tables.each_message(|id, message| match message {
        Ok(_) => messages.push(id),
        Err(error) => damaged.push(what(error)),
    })?;
    scrub_deliveries(tables, &mut scrubbed, &mut damaged)?;
    tables.each_record(|record| {
        scrubbed.records += 1;
        damaged.extend(record.err().map(what));
    })?;
    scrubbed.messages = messages.len() as u64;
    scrubbed.damaged = damaged;
    Ok((scrubbed, messages))
}

/// Reads all deliveries, and looks whether the schedule says the same of each, and nothing of others.
fn scrub_deliveries(
    tables: &Snapshot,
    scrubbed: &mut Scrubbed,
    damaged: &mut Vec<String>,
) -> Result<(), SpoolError> {
    let mut failed = None;
    tables.each_delivery(|id, delivery| {
        scrubbed.deliveries += 1;
        let row = match tables.entry(id) {
            Ok(row) => row,
            Err(error) => {
                failed = Some(error);
                return ControlFlow::Break(());
            }
        };
        match delivery {
            Err(error) => damaged.push(what(error)),
            Ok(delivery) if row.as_ref() == Some(&Entry::of(&delivery)) => {}
            Ok(_) => damaged.push(format!("the schedule's row of delivery {id}")),
        }
        ControlFlow::Continue(())
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    let mut rows = 0;
    tables.each_entry_of(&EVERYTHING, |_, _| rows += 1)?;
    if rows > scrubbed.deliveries {
        damaged.push(format!("the schedule: {rows} rows for {} deliveries", scrubbed.deliveries));
    }
    Ok(())
}

fn what(error: SpoolError) -> String {
    match error {
        SpoolError::Damaged(what) => what,
        other => other.to_string(),
    }
}

struct Copy {
    from: PathBuf,
    to: PathBuf,
}

impl Copy {
    fn failed(&self, detail: impl std::fmt::Display) -> SpoolError {
        SpoolError::Open { dir: self.to.display().to_string(), detail: format!("backing up: {detail}") }
    }

    fn io<T>(&self, result: io::Result<T>) -> Result<T, SpoolError> {
        result.map_err(|error| self.failed(error))
    }

    fn run(
        &self,
        database: &Database,
        snapshot: impl Fn(&ReadTransaction) -> Result<Snapshot, SpoolError>,
    ) -> Result<BackedUp, SpoolError> {
        self.io(make_directory(&self.to))?;
        if self.io(fs::read_dir(&self.to))?.next().is_some() {
            return Err(self.failed("the directory is not empty"));
        }
        let content = self.to.join(CONTENT_DIR);
        self.io(make_directory(&content))?;
        let from = database.begin_read()?;
        let gone = self.copy_content(&snapshot(&from)?, &content, || snapshot(&database.begin_read()?))?;
        self.io(sync_directory(&content))?;
        let path = self.to.join(DATABASE);
        drop(self.io(open_private(&path))?);
        let new = Builder::new().create(&path).map_err(|error| self.failed(error))?;
        let to = new.begin_write()?;
        let messages = copy_tables(&from, &to, |id| !gone.contains(&id))?;
        to.commit()?;
        drop(new);
        let octets = self.io(File::open(&path).and_then(|file| {
            file.sync_all()?;
            Ok(file.metadata()?.len())
        }))?;
        self.io(sync_directory(&self.to))?;
        Ok(BackedUp { dir: self.to.clone(), messages, octets })
    }

    /// Copies the content files; returns the messages that were settled, and their files removed, since the snapshot.
    fn copy_content(
        &self,
        tables: &Snapshot,
        to: &Path,
        now: impl Fn() -> Result<Snapshot, SpoolError>,
    ) -> Result<HashSet<MessageId>, SpoolError> {
        let (mut gone, mut files) = (HashSet::new(), Vec::new());
        tables.each_message(|id, message| {
            if !matches!(message, Ok(message) if message.body == Body::Inline) {
                files.push(id);
            }
        })?;
        for id in files {
            let name = id.to_string();
            match copy_file(&self.from.join(CONTENT_DIR).join(&name), &to.join(&name)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if matches!(now()?.message(id), Err(SpoolError::NoMessage(_))) {
                        gone.insert(id);
                    }
                }
                other => self.io(other)?,
            }
        }
        Ok(gone)
    }
}

/// A content file is written once and never changed, so a second name is as good as a copy where the file system allows.
fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            io::copy(&mut File::open(from)?, &mut open_private(to)?)?;
            File::open(to)?.sync_all()
        }
        other => other,
    }
}

fn copy_tables(
    from: &ReadTransaction,
    to: &WriteTransaction,
    keep: impl Fn(MessageId) -> bool,
) -> Result<u64, SpoolError> {
    copy(from, to, META, |_| true)?;
    copy(from, to, KEYS, |_| true)?;
    copy(from, to, KEYS_COPY, |_| true)?;
    copy(from, to, RECORDS, |_| true)?;
    copy(from, to, RECORDS_OF, |_| true)?;
    copy(from, to, SEEN, |_| true)?;
    copy(from, to, SEEN_AT, |_| true)?;
    copy(from, to, CONTENT, |key| keep(MessageId::from_bytes(**key)))?;
    copy(from, to, DELIVERIES, |key| keep(message_of(key)))?;
    copy(from, to, SCHEDULE, |key| keep(message_of(key)))?;
    copy(from, to, MESSAGES, |key| keep(MessageId::from_bytes(**key)))
}

/// Copies the entries of a table that `keep` wants; returns how many.
fn copy<K: Key + 'static, V: Value + 'static>(
    from: &ReadTransaction,
    to: &WriteTransaction,
    table: TableDefinition<K, V>,
    keep: impl Fn(&K::SelfType<'_>) -> bool,
) -> Result<u64, SpoolError> {
    let (from, mut to, mut count) = (from.open_table(table)?, to.open_table(table)?, 0);
    for entry in from.iter()? {
        let (key, value) = entry?;
        if keep(&key.value()) {
            to.insert(key.value(), value.value())?;
            count += 1;
        }
    }
    Ok(count)
}
