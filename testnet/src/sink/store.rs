//! Messages on disk: one file each, and an index with one line each.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A message the sink has accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// 1 for the first.
    pub number: usize,
    /// When its transaction began: the client was alive then.
    pub began: Timestamp,
    /// When the last line had come.
    pub arrived: Timestamp,
    /// Envelope sender; empty for the null sender.
    pub sender: String,
    /// The recipients that were accepted, in the order of RCPT.
    pub recipients: Vec<String>,
    /// Parameters of MAIL, as sent.
    pub parameters: Vec<String>,
    /// Length of the content in octets.
    pub octets: u64,
    /// File name of the content within the directory.
    pub name: String,
    /// The directory, for [`Stored::file`]; not in the index, so that it can be moved.
    #[serde(skip)]
    directory: PathBuf,
}

impl Stored {
    /// The file with the exact content.
    pub fn file(&self) -> PathBuf {
        self.directory.join(&self.name)
    }

    /// The exact content.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn content(&self) -> io::Result<Vec<u8>> {
        std::fs::read(self.file())
    }
}

/// The envelope of a message to be stored.
#[derive(Debug, Clone)]
pub(super) struct Envelope {
    pub(super) began: Timestamp,
    pub(super) arrived: Timestamp,
    pub(super) sender: String,
    pub(super) recipients: Vec<String>,
    pub(super) parameters: Vec<String>,
}

/// The directory.
#[derive(Debug)]
pub(super) struct Store {
    directory: PathBuf,
    index: File,
    messages: Vec<Stored>,
    drafts: u64,
}

/// Content on its way to the disk. Dropped without being kept, it leaves nothing behind.
#[derive(Debug)]
pub(super) struct Draft {
    path: PathBuf,
    file: BufWriter<File>,
    octets: u64,
}

impl Draft {
    pub(super) fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        self.octets += octets.len() as u64;
        self.file.write_all(octets)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // A kept draft has been renamed; a file left behind by an error harms nobody.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Store {
    /// Opens or makes the directory and reads its index.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let index =
            OpenOptions::new().create(true).read(true).append(true).open(directory.join("index.jsonl"))?;
        let mut messages = Vec::new();
        for line in BufReader::new(&index).lines() {
            let mut stored: Stored = serde_json::from_str(&line?).map_err(io::Error::other)?;
            stored.directory = directory.to_owned();
            messages.push(stored);
        }
        Ok(Self { directory: directory.to_owned(), index, messages, drafts: 0 })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn messages(&self) -> &[Stored] {
        &self.messages
    }

    /// Begins a message.
    pub(super) fn draft(&mut self) -> io::Result<Draft> {
        self.drafts += 1;
        let path = self.directory.join(format!(".draft-{}", self.drafts));
        let file = BufWriter::new(File::create(&path)?);
        Ok(Draft { path, file, octets: 0 })
    }

    /// Finishes a message: content, then its place in the index, then the directory. Only after this may it be
    /// answered for.
    pub(super) fn keep(&mut self, mut draft: Draft, envelope: Envelope) -> io::Result<()> {
        draft.file.flush()?;
        draft.file.get_ref().sync_all()?;
        let octets = draft.octets;
        let number = self.messages.len() + 1;
        let name = format!("{number:06}.eml");
        std::fs::rename(&draft.path, self.directory.join(&name))?;
        let Envelope { began, arrived, sender, recipients, parameters } = envelope;
        let directory = self.directory.clone();
        let stored =
            Stored { number, began, arrived, sender, recipients, parameters, octets, name, directory };
        let mut line = serde_json::to_vec(&stored)?;
        line.push(b'\n');
        self.index.write_all(&line)?;
        self.index.sync_all()?;
        File::open(&self.directory)?.sync_all()?;
        self.messages.push(stored);
        Ok(())
    }
}
