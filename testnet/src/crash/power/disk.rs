//! A disk with a cache that loses power: a FUSE file system with one file, in memory.
//!
//! What the kernel's loop driver makes of it is an ordinary disk: it writes, and where the file system above asks for a
//! flush, it calls `fsync`. Between two of those, what was written may be on the platter or not.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::wire::{self, Operation, Reply, Request};
use crate::crash::seed::Seed;

/// What a drive writes whole or not at all.
const SECTOR: usize = 512;

/// What is on the disk.
struct State {
    /// As the kernel sees it.
    now: Vec<u8>,
    /// What is on the platter for certain.
    flushed: Vec<u8>,
    /// Written since.
    pending: Vec<(usize, Vec<u8>)>,
    /// Flushes so far.
    flushes: usize,
    /// The power is gone.
    cut: bool,
    /// It says that it flushed, and does not.
    lies: bool,
}

/// A disk that is mounted. Dropped, it is unmounted.
pub struct Disk {
    state: Arc<Mutex<State>>,
    mountpoint: PathBuf,
}

impl Disk {
    /// Puts a disk with this content on the directory `mountpoint`. One that `lies` says that it flushed, and does not.
    ///
    /// # Errors
    /// No root, no `/dev/fuse`, and the like.
    pub fn mount(content: Vec<u8>, mountpoint: &Path, lies: bool) -> io::Result<Self> {
        let state = State {
            now: content.clone(),
            flushed: content,
            pending: Vec::new(),
            flushes: 0,
            cut: false,
            lies,
        };
        let state = Arc::new(Mutex::new(state));
        let device = File::options().read(true).write(true).open("/dev/fuse")?;
        let data = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        let data = CString::new(data)?;
        mount("testnet", mountpoint, "fuse", MountFlags::NODEV | MountFlags::NOSUID, Some(data.as_c_str()))?;
        let served = Arc::clone(&state);
        std::thread::Builder::new().name("disk".to_owned()).spawn(move || serve(device, &served))?;
        Ok(Self { state, mountpoint: mountpoint.to_owned() })
    }

    /// The file to make a loop device of.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.mountpoint.join(wire::FILE)
    }

    /// From here on it says that it flushed, and does not.
    pub fn lie(&self) {
        lock(&self.state).lies = true;
    }

    /// The power goes: from here on nothing is written and no flush succeeds. Returns how many flushes there were.
    pub fn cut(&self) -> usize {
        let mut state = lock(&self.state);
        state.cut = true;
        state.flushes
    }

    /// What is left after [`Self::cut`]: everything flushed, and of the rest what `seed` says: nothing, half of the writes,
    /// some of their sectors in any order, or all.
    #[must_use]
    pub fn left(&self, seed: &mut Seed) -> Vec<u8> {
        let state = lock(&self.state);
        let mut left = state.flushed.clone();
        let mut write = |at: usize, data: &[u8]| left[at..at + data.len()].copy_from_slice(data);
        match seed.below(4) {
            // What a lying disk has forgotten would be there by luck else.
            _ if state.lies => {}
            0 => {}
            1 => state.pending.iter().for_each(|(at, data)| write(*at, data)),
            2 => {
                for (at, data) in &state.pending {
                    if seed.below(2) == 0 {
                        write(*at, data);
                    }
                }
            }
            _ => {
                let mut sectors: Vec<(usize, &[u8])> = Vec::new();
                for (at, data) in &state.pending {
                    sectors.extend((*at..).step_by(SECTOR).zip(data.chunks(SECTOR)));
                }
                for last in (1..sectors.len()).rev() {
                    sectors.swap(last, usize::try_from(seed.below(last as u64 + 1)).unwrap_or_default());
                }
                let done = usize::try_from(seed.below(sectors.len() as u64 + 1)).unwrap_or_default();
                sectors[..done].iter().for_each(|(at, data)| write(*at, data));
            }
        }
        left
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A mount that is still in use goes when its last user does; then the kernel hangs up, and the thread ends. Waiting
        // for that here would be waiting for a user that may be ended after us.
        let _ = unmount(&self.mountpoint, UnmountFlags::DETACH);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers the kernel until it hangs up.
fn serve(mut device: File, state: &Mutex<State>) {
    let mut buffer = vec![0; wire::REQUEST_MAX];
    loop {
        let length = match device.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // A request was withdrawn before we had read it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            // Unmounted.
            Err(_) => return,
        };
        let Some(request) = Request::read(&buffer[..length]) else { return };
        let reply = answer(&request.operation, &mut lock(state));
        if let Some(reply) = reply {
            // Whoever asked may be gone by now.
            let _ = device.write_all(&request.reply(&reply));
        }
    }
}

fn answer(operation: &Operation<'_>, state: &mut State) -> Option<Reply> {
    let size = state.now.len();
    Some(match operation {
        Operation::Hello => Reply::Hello,
        Operation::Attributes(inode) => Reply::Attributes { inode: *inode, size: size as u64 },
        Operation::Find(name) if *name == wire::FILE.as_bytes() => Reply::Found { size: size as u64 },
        Operation::Find(_) => Reply::Error(wire::NOT_THERE),
        Operation::Open => Reply::Opened,
        Operation::Close => Reply::Done,
        Operation::Read { offset, octets } => {
            let start = usize::try_from(*offset).unwrap_or(usize::MAX).min(size);
            let end = start.saturating_add(*octets).min(size);
            Reply::Octets(state.now[start..end].to_vec())
        }
        Operation::Write { offset, data } => {
            let start = usize::try_from(*offset).unwrap_or(usize::MAX);
            let fits = start.checked_add(data.len()).is_some_and(|end| end <= size);
            if state.cut || !fits {
                return Some(Reply::Error(wire::INPUT_OUTPUT));
            }
            state.now[start..start + data.len()].copy_from_slice(data);
            state.pending.push((start, data.to_vec()));
            Reply::Written(data.len())
        }
        Operation::Flush if state.cut => Reply::Error(wire::INPUT_OUTPUT),
        Operation::Flush if state.lies => {
            state.flushes += 1;
            Reply::Done
        }
        Operation::Flush => {
            for (at, data) in state.pending.drain(..) {
                state.flushed[at..at + data.len()].copy_from_slice(&data);
            }
            state.flushes += 1;
            Reply::Done
        }
        Operation::Unanswered => return None,
        Operation::Unknown => Reply::Error(wire::NO_SUCH_CALL),
    })
}
