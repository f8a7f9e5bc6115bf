//! A disk in memory that can lose power, fill up, and fail to flush.
//!
//! What was written since the last flush survives a cut only in part, as a drive with a cache of its own may leave it
//! (`Fate`): each write whole, not at all, or torn at a sector; or sectors in any order, as far as it got; or none; or all.
//! Content files are as unreliable: content counts after its own flush, the name after the directory's.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Cursor, Read};
use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;

use super::Disk;
use super::disk::{Bodies, BodyFile, Volume};
use crate::world::{Random, SeededRandom};

const SECTOR: usize = 512;

#[derive(Clone, Default)]
pub(crate) struct PowerDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    image: Vec<u8>,
    /// What is on the platter for certain.
    flushed: Vec<u8>,
    pending: Vec<Pending>,
    files: BTreeMap<String, FileState>,
    /// Names that survive a cut, with the content that does.
    flushed_names: BTreeMap<String, Vec<u8>>,
    removed: Vec<String>,
    /// Operations so far that change something.
    operations: u64,
    /// The power goes before this operation.
    cut_at: Option<u64>,
    dead: bool,
    fail_flush: bool,
    /// A flush has failed.
    flush_failed: bool,
    fail_body_flush: bool,
    lie: Option<Lie>,
    /// Flushes of the database so far: before how many operations each was.
    flushes: Vec<u64>,
    /// A flush that was promised and not done yet ([`Lie::Early`]).
    owed: bool,
    free: Option<u64>,
    no_space_writes: u32,
    reserved: bool,
    released: u32,
}

/// What a store that is broken on purpose would look like from below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// No flush of the database happens.
    Database,
    /// This one flush of the database does not happen (counted from 0); the next one makes up for it.
    OneFlush(u64),
    /// A flush of the database happens after everybody was told that it had: before the next operation.
    Early,
    /// No flush of a content file happens.
    File,
    /// No flush of the directory happens.
    Directory,
}

/// What becomes of unflushed writes in a cut.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Each is there, is not, or is torn.
    Each,
    /// Their sectors went to the platter in any order, until the cut.
    Reordered,
    None,
    All,
}

impl Fate {
    fn pick(random: &SeededRandom) -> Self {
        match random.next() % 8 {
            0 => Self::None,
            1 => Self::All,
            2..=4 => Self::Reordered,
            _ => Self::Each,
        }
    }
}

#[derive(Clone)]
enum Pending {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

#[derive(Clone, Default)]
struct FileState {
    content: Vec<u8>,
    flushed: Vec<u8>,
}

impl fmt::Debug for PowerDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PowerDisk")
    }
}

fn apply(image: &mut Vec<u8>, change: &Pending) {
    match change {
        Pending::Write(offset, data) => {
            let start = usize::try_from(*offset).unwrap();
            if image.len() < start + data.len() {
                image.resize(start + data.len(), 0);
            }
            image[start..start + data.len()].copy_from_slice(data);
        }
        Pending::SetLen(len) => image.resize(usize::try_from(*len).unwrap(), 0),
    }
}

impl State {
    /// Counts an operation; an error once the power is gone.
    fn step(&mut self) -> io::Result<()> {
        if self.cut_at.is_some_and(|at| self.operations >= at) {
            self.dead = true;
        }
        if self.dead {
            return Err(io::Error::other("no power"));
        }
        self.operations += 1;
        if self.owed {
            self.owed = false;
            self.flush();
        }
        Ok(())
    }

    /// What was written is on the platter.
    fn flush(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            apply(&mut self.flushed, &change);
        }
    }
}

/// The image after a cut.
fn image_after(state: &State, random: &SeededRandom) -> Vec<u8> {
    let mut image = state.flushed.clone();
    match Fate::pick(random) {
        Fate::None => {}
        Fate::All => state.pending.iter().for_each(|change| apply(&mut image, change)),
        Fate::Each => {
            for change in &state.pending {
                match (random.next() % 3, change) {
                    (0, change) => apply(&mut image, change),
                    (1, Pending::Write(offset, data)) if data.len() > SECTOR => {
                        let kept = below(random, data.len() / SECTOR) * SECTOR;
                        apply(&mut image, &Pending::Write(*offset, data[..kept].to_vec()));
                    }
                    _ => {}
                }
            }
        }
        Fate::Reordered => {
            let mut sectors = Vec::new();
            for change in &state.pending {
                match change {
                    Pending::Write(offset, data) => {
                        let each = (*offset..).step_by(SECTOR).zip(data.chunks(SECTOR));
                        sectors.extend(each.map(|(at, piece)| Pending::Write(at, piece.to_vec())));
                    }
                    // A file's length is in the journal of the file system, which keeps its own order.
                    Pending::SetLen(len) => apply(&mut image, &Pending::SetLen(*len)),
                }
            }
            for last in (1..sectors.len()).rev() {
                sectors.swap(last, below(random, last + 1));
            }
            let done = below(random, sectors.len() + 1);
            sectors[..done].iter().for_each(|sector| apply(&mut image, sector));
        }
    }
    image
}

/// A content file after a cut: what was flushed, and perhaps more, of which any sector may be empty.
fn content_after(file: &FileState, random: &SeededRandom) -> Vec<u8> {
    let more = file.content.get(file.flushed.len()..).unwrap_or_default();
    let mut content = file.flushed.clone();
    for piece in more[..below(random, more.len() + 1)].chunks(SECTOR) {
        if random.next().is_multiple_of(2) {
            content.extend_from_slice(piece);
        } else {
            content.resize(content.len() + piece.len(), 0);
        }
    }
    content
}

fn below(random: &SeededRandom, bound: usize) -> usize {
    usize::try_from(random.next() % u64::try_from(bound).unwrap()).unwrap()
}

impl PowerDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn disk(&self) -> Disk {
        self.state().reserved = true;
        Disk {
            database: Box::new(self.clone()),
            bodies: Arc::new(self.clone()),
            volume: Arc::new(self.clone()),
            lock: None,
        }
    }

    /// The power goes now.
    pub(crate) fn power_off(&self) {
        self.state().dead = true;
    }

    /// Whether the power went or a flush failed: what is on it must be opened anew.
    pub(crate) fn has_failed(&self) -> bool {
        let state = self.state();
        state.dead || state.flush_failed
    }

    /// Nothing goes wrong any more.
    pub(crate) fn calm(&self) {
        let mut state = self.state();
        (state.cut_at, state.fail_flush) = (None, false);
    }

    /// Whether the power went.
    pub(crate) fn is_dead(&self) -> bool {
        self.state().dead
    }

    pub(crate) fn operations(&self) -> u64 {
        self.state().operations
    }

    /// How many flushes of the database there were before this operation.
    pub(crate) fn flushes_before(&self, operation: u64) -> u64 {
        self.state().flushes.iter().filter(|at| **at <= operation).count() as u64
    }

    /// Cuts the power before the operation with this number (counted from 0).
    pub(crate) fn cut_at(&self, operation: u64) {
        self.state().cut_at = Some(operation);
    }

    pub(crate) fn fail_flushes(&self) {
        self.state().fail_flush = true;
    }

    pub(crate) fn fail_body_flushes(&self) {
        self.state().fail_body_flush = true;
    }

    pub(crate) fn lie_about(&self, lie: Lie) {
        self.state().lie = Some(lie);
    }

    pub(crate) fn set_free(&self, octets: u64) {
        self.state().free = Some(octets);
    }

    /// The next writes to the database find no space, until the reserve is given up.
    pub(crate) fn no_space_for_writes(&self, count: u32) {
        self.state().no_space_writes = count;
    }

    pub(crate) fn times_released(&self) -> u32 {
        self.state().released
    }

    pub(crate) fn file_names(&self) -> Vec<String> {
        self.state().files.keys().cloned().collect()
    }

    pub(crate) fn corrupt_file(&self, name: &str, position: usize) {
        self.state().files.get_mut(name).unwrap().content[position] ^= 1;
    }

    /// Exchanges two pieces of a content file.
    pub(crate) fn exchange_in_file(&self, name: &str, first: usize, second: usize, length: usize) {
        let mut state = self.state();
        let content = &mut state.files.get_mut(name).unwrap().content;
        for position in 0..length {
            content.swap(first + position, second + position);
        }
    }

    /// Changes one octet of the database wherever `needle` stands in it; says whether it was found.
    pub(crate) fn corrupt_database(&self, needle: &[u8]) -> bool {
        let mut state = self.state();
        let mut found = false;
        let mut at = 0;
        while let Some(step) = memchr::memmem::find(&state.image[at..], needle) {
            at += step;
            state.image[at] ^= 1;
            found = true;
        }
        found
    }

    /// What a restarted machine finds when nothing survives that was not flushed.
    pub(crate) fn after_cut_without_luck(&self) -> Self {
        let state = self.state();
        Self::on_platter(state.flushed.clone(), state.flushed_names.clone())
    }

    /// A disk with all of this on it, flushed.
    pub(crate) fn on_platter(image: Vec<u8>, names: BTreeMap<String, Vec<u8>>) -> Self {
        let file = |content: &Vec<u8>| FileState { flushed: content.clone(), content: content.clone() };
        let files = names.iter().map(|(name, content)| (name.clone(), file(content))).collect();
        let flushed = image.clone();
        Self(Arc::new(Mutex::new(State { flushed, image, files, flushed_names: names, ..State::default() })))
    }

    /// What a restarted machine finds: everything flushed, and any part of the rest.
    pub(crate) fn after_cut(&self, seed: u64) -> Self {
        let random = SeededRandom::new(seed);
        let state = self.state();
        let image = image_after(&state, &random);
        let mut names = BTreeMap::new();
        for (name, file) in &state.files {
            if state.flushed_names.contains_key(name) || random.next().is_multiple_of(2) {
                names.insert(name.clone(), content_after(file, &random));
            }
        }
        // A removal that was not flushed may not have happened.
        for name in &state.removed {
            if random.next().is_multiple_of(2)
                && let Some(content) = state.flushed_names.get(name)
            {
                names.insert(name.clone(), content.clone());
            }
        }
        Self::on_platter(image, names)
    }
}

impl StorageBackend for PowerDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().image.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        if state.dead {
            return Err(io::Error::other("no power"));
        }
        let start = usize::try_from(offset).unwrap();
        let data = state.image.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(data);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        let change = Pending::SetLen(len);
        apply(&mut state.image, &change);
        state.pending.push(change);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        if state.fail_flush {
            // The worst that a failed flush can do: the pages are dropped, and the next flush reports success.
            state.fail_flush = false;
            state.flush_failed = true;
            state.pending.clear();
            return Err(io::Error::other("flush failed"));
        }
        let (flush, operation) = (state.flushes.len() as u64, state.operations);
        state.flushes.push(operation);
        match state.lie {
            Some(Lie::Database) => return Ok(()),
            Some(Lie::OneFlush(number)) if number == flush => return Ok(()),
            Some(Lie::Early) => {
                state.owed = true;
                return Ok(());
            }
            _ => {}
        }
        state.flush();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        if state.no_space_writes > 0 {
            state.no_space_writes -= 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.step()?;
        let change = Pending::Write(offset, data.to_vec());
        apply(&mut state.image, &change);
        state.pending.push(change);
        Ok(())
    }
}

impl Bodies for PowerDisk {
    fn create(&self, name: &str) -> io::Result<Box<dyn BodyFile>> {
        let mut state = self.state();
        state.step()?;
        if state.files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.files.insert(name.to_owned(), FileState::default());
        Ok(Box::new(PowerFile(self.clone(), name.to_owned())))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Read + Send>> {
        let state = self.state();
        let file = state.files.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(Cursor::new(file.content.clone())))
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        if state.lie == Some(Lie::Directory) {
            return Ok(());
        }
        state.flushed_names =
            state.files.iter().map(|(name, file)| (name.clone(), file.flushed.clone())).collect();
        state.removed.clear();
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        state.files.remove(name);
        state.removed.push(name.to_owned());
        Ok(())
    }

    fn each_name(&self, each: &mut dyn FnMut(&str)) -> io::Result<()> {
        self.file_names().iter().for_each(|name| each(name));
        Ok(())
    }
}

struct PowerFile(PowerDisk, String);

impl BodyFile for PowerFile {
    fn append(&mut self, octets: &[u8]) -> io::Result<()> {
        let mut state = self.0.state();
        state.step()?;
        if state.free.is_some_and(|free| free < octets.len() as u64) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.files.get_mut(&self.1).unwrap().content.extend_from_slice(octets);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.0.state();
        state.step()?;
        if state.fail_body_flush {
            return Err(io::Error::other("flush failed"));
        }
        if state.lie == Some(Lie::File) {
            return Ok(());
        }
        let file = state.files.get_mut(&self.1).unwrap();
        file.flushed = file.content.clone();
        Ok(())
    }
}

impl Volume for PowerDisk {
    fn available(&self) -> io::Result<u64> {
        Ok(self.state().free.unwrap_or(u64::MAX))
    }

    fn reserve(&self) -> io::Result<()> {
        self.state().reserved = true;
        Ok(())
    }

    fn release(&self) -> io::Result<()> {
        let mut state = self.state();
        state.reserved = false;
        state.released += 1;
        state.no_space_writes = 0;
        Ok(())
    }

    fn is_reserved(&self) -> bool {
        self.state().reserved
    }
}
