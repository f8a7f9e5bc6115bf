//! From format 1, in which everything stood in clear, to format 2.
//!
//! The new store is made beside the old one and takes its place in one step, so a stop at any point leaves one of the
//! two, whole: until the rename the old one counts, afterwards the new one, and what is left over is removed at the next
//! start. The old content directory `bodies/` is the sign that there is something to do; later formats keep content in
//! `content/`.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use redb::{Builder, Database, ReadTransaction, ReadableDatabase, ReadableTable, WriteTransaction};

use crate::model::{Digest, MessageId};

use super::super::SpoolError;
use super::super::disk::{CONTENT_DIR, DATABASE, make_directory, open_private, sync_directory};
use super::super::draft::seal;
use super::super::layout::{begin_earlier, format_of};
use super::super::seal::{ContentKey, MasterKeys, Place, Sealer, Vault};
use super::super::stored::{Body, StoredMessage, encode, seal_octets};
use super::super::tables::{
    CONTENT, DELIVERIES, MESSAGES, RECORDS, RECORDS_OF, delivery_place, message_place, record_place,
};
use super::from_2;

/// Where format 1 keeps large contents.
const OLD_CONTENT_DIR: &str = "bodies";
/// The format that is brought up to date.
const OLD_FORMAT: u32 = 1;
/// In front of the JSON of a value of format 1: a version and a part of its SHA-256.
const OLD_CHECKSUM_OCTETS: usize = 8;
const OLD_VERSION: u8 = 1;
const PIECE_OCTETS: usize = 256 << 10;

/// Whether [`upgrade`] has something to do in `dir`.
pub(in crate::spool) fn is_due(dir: &Path) -> bool {
    dir.join(OLD_CONTENT_DIR).is_dir()
}

/// Brings the store in `dir` to format 2, if it is of format 1.
///
/// # Errors
/// [`SpoolError::Open`] with what stood in the way; the old store is as it was.
pub(in crate::spool) fn upgrade(dir: &Path, keys: &MasterKeys) -> Result<(), SpoolError> {
    if !is_due(dir) {
        return Ok(());
    }
    let work = Work { dir, old_content: dir.join(OLD_CONTENT_DIR) };
    let database = dir.join(DATABASE);
    if database.exists() && work.is_old(&database)? {
        tracing::info!("the spool is of an earlier version; everything in it is being encrypted");
        work.rewrite(&database, keys)?;
        tracing::info!("the spool is encrypted now");
    }
    // From here on nothing refers to it.
    work.io(fs::remove_dir_all(&work.old_content))
}

struct Work<'a> {
    dir: &'a Path,
    old_content: PathBuf,
}

impl Work<'_> {
    fn failed(&self, detail: impl std::fmt::Display) -> SpoolError {
        let detail = format!("bringing it up to date: {detail}");
        SpoolError::Open { dir: self.dir.display().to_string(), detail }
    }

    fn io<T>(&self, result: io::Result<T>) -> Result<T, SpoolError> {
        result.map_err(|error| self.failed(error))
    }

    fn is_old(&self, path: &Path) -> Result<bool, SpoolError> {
        let database = Builder::new().open(path).map_err(|error| self.failed(error))?;
        Ok(format_of(&database.begin_read()?)? == Some(OLD_FORMAT))
    }

    fn rewrite(&self, path: &Path, keys: &MasterKeys) -> Result<(), SpoolError> {
        let unfinished = self.dir.join(format!("{DATABASE}.new"));
        let content = self.dir.join(CONTENT_DIR);
        // What an earlier try has left.
        self.io(fs::remove_file(&unfinished).or_else(gone))?;
        self.io(fs::remove_dir_all(&content).or_else(gone))?;
        self.io(make_directory(&content))?;
        let old = Builder::new().open(path).map_err(|error| self.failed(error))?;
        drop(self.io(open_private(&unfinished))?);
        let new = Database::create(&unfinished).map_err(|error| self.failed(error))?;
        let (from, to) = (old.begin_read()?, new.begin_write()?);
        let vault = begin_earlier(&to, keys, from_2::FORMAT)?;
        self.copy_messages(&from, &to, &vault)?;
        copy_values(&from, &to, &vault)?;
        to.commit()?;
        drop(new);
        drop(from);
        drop(old);
        self.io(File::open(&unfinished).and_then(|file| file.sync_all()))?;
        self.io(sync_directory(&content))?;
        self.io(fs::rename(&unfinished, path))?;
        self.io(sync_directory(self.dir))
    }

    fn copy_messages(
        &self,
        from: &ReadTransaction,
        to: &WriteTransaction,
        vault: &Vault,
    ) -> Result<(), SpoolError> {
        let (messages, inline) = (from.open_table(MESSAGES)?, from.open_table(CONTENT)?);
        let (mut new_messages, mut new_inline) = (to.open_table(MESSAGES)?, to.open_table(CONTENT)?);
        for entry in messages.iter()? {
            let (key, value) = entry?;
            let (key, place) = (*key.value(), message_place(key.value()));
            let id = MessageId::from_bytes(key);
            let content_key = ContentKey::make()?;
            let Some(message) = read_message(value.value(), &content_key) else {
                // Left alone, as before: nobody can read it, and it stays for whoever repairs it.
                new_messages.insert(&key, seal_octets(vault, place, value.value())?.as_slice())?;
                continue;
            };
            match message.body {
                Body::Inline => {
                    if let Some(content) = inline.get(&key)? {
                        let sealed = seal(&content_key, id, content.value())?;
                        new_inline.insert(&key, sealed.as_slice())?;
                    }
                }
                Body::File => self.copy_content(id, Sealer::new(&content_key, id)?)?,
            }
            new_messages.insert(&key, encode(vault, place, &message)?.as_slice())?;
        }
        Ok(())
    }

    /// Seals a content file. One that is missing stays missing: the next step of the start holds its message.
    fn copy_content(&self, id: MessageId, mut sealer: Sealer) -> Result<(), SpoolError> {
        let Ok(mut from) = File::open(self.old_content.join(id.to_string())) else { return Ok(()) };
        let mut to = self.io(open_private(&self.dir.join(CONTENT_DIR).join(id.to_string())))?;
        let (mut piece, mut sealed) = (vec![0; PIECE_OCTETS], Vec::new());
        loop {
            let count = self.io(from.read(&mut piece))?;
            if count == 0 {
                break;
            }
            sealer.push(&piece[..count], &mut sealed)?;
            self.io(to.write_all(&sealed))?;
            sealed.clear();
        }
        sealer.finish(&mut sealed)?;
        self.io(to.write_all(&sealed).and_then(|()| to.sync_all()))
    }
}

fn gone(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// The record of a message, which had no key of its content yet.
fn read_message(octets: &[u8], content_key: &ContentKey) -> Option<StoredMessage> {
    let mut json: serde_json::Value = serde_json::from_slice(read_json(octets)?).ok()?;
    let key = serde_json::to_value(content_key).ok()?;
    json.as_object_mut()?.insert("content_key".to_owned(), key);
    serde_json::from_value(json).ok()
}

/// The JSON of a value, if its checksum is right.
fn read_json(octets: &[u8]) -> Option<&[u8]> {
    let (version, rest) = octets.split_first()?;
    let (checksum, json) = rest.split_at_checked(OLD_CHECKSUM_OCTETS)?;
    let right = Digest::of(json).as_bytes()[..OLD_CHECKSUM_OCTETS] == *checksum;
    (*version == OLD_VERSION && right).then_some(json)
}

/// Deliveries and decision records, which changed in nothing but being sealed.
fn copy_values(from: &ReadTransaction, to: &WriteTransaction, vault: &Vault) -> Result<(), SpoolError> {
    // A damaged value stays one: sealed as it is, it opens and is no JSON.
    let seal =
        |place: Place<'_>, octets: &[u8]| seal_octets(vault, place, read_json(octets).unwrap_or(octets));
    let (deliveries, mut new) = (from.open_table(DELIVERIES)?, to.open_table(DELIVERIES)?);
    for entry in deliveries.iter()? {
        let (key, value) = entry?;
        new.insert(key.value(), seal(delivery_place(key.value()), value.value())?.as_slice())?;
    }
    let (records, mut new) = (from.open_table(RECORDS)?, to.open_table(RECORDS)?);
    for entry in records.iter()? {
        let (key, value) = entry?;
        new.insert(key.value(), seal(record_place(key.value()), value.value())?.as_slice())?;
    }
    let (records_of, mut new) = (from.open_table(RECORDS_OF)?, to.open_table(RECORDS_OF)?);
    for entry in records_of.iter()? {
        new.insert(entry?.0.value(), ())?;
    }
    Ok(())
}
