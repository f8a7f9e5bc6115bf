//! The disk as the spool sees it: three small seams that a test may replace, and the real ones.
//!
//! [`redb::StorageBackend`] is the file of the database, [`Bodies`] the directory of large contents, [`Volume`] the room
//! there is. A simulated power cut replaces all three.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::backends::FileBackend;
use redb::{Builder, Database, StorageBackend};

use super::SpoolError;

/// Contents too large for the database: one file each, written once, never changed.
pub trait Bodies: fmt::Debug + Send + Sync + 'static {
    /// A new, empty file; an error if the name is taken.
    ///
    /// # Errors
    /// What the system says.
    fn create(&self, name: &str) -> io::Result<Box<dyn BodyFile>>;
    /// Opens a file for reading from its start.
    ///
    /// # Errors
    /// What the system says.
    fn open(&self, name: &str) -> io::Result<Box<dyn Read + Send>>;
    /// Flushes the directory: what was created in it is found again after a power cut.
    ///
    /// # Errors
    /// What the system says; the state of the directory is unknown then.
    fn sync_directory(&self) -> io::Result<()>;
    /// Removes a file. That it is gone already is no error.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Calls `each` with the name of each file. There may be a million, so they are not all in memory at once.
    ///
    /// # Errors
    /// What the system says.
    fn each_name(&self, each: &mut dyn FnMut(&str)) -> io::Result<()>;
}

/// A content file that is being written.
pub trait BodyFile: Send {
    /// Appends all of `octets`.
    ///
    /// # Errors
    /// What the system says; the file is of no use then.
    fn append(&mut self, octets: &[u8]) -> io::Result<()>;
    /// Flushes contents and length.
    ///
    /// # Errors
    /// What the system says; must not be tried again.
    fn sync(&mut self) -> io::Result<()>;
}

/// How much room there is, and a reserve of it that is ours already.
pub trait Volume: fmt::Debug + Send + Sync + 'static {
    /// Octets an unprivileged process can still allocate, the reserve not counted.
    ///
    /// # Errors
    /// What the system says.
    fn available(&self) -> io::Result<u64>;
    /// Takes the reserve back after [`Self::release`]; nothing happens when it is there.
    ///
    /// # Errors
    /// No room for it.
    fn reserve(&self) -> io::Result<()>;
    /// Gives the reserve up, so that a commit under way can be completed.
    ///
    /// # Errors
    /// What the system says.
    fn release(&self) -> io::Result<()>;
    /// Whether the reserve is in place.
    fn is_reserved(&self) -> bool;
}

/// Everything the spool needs of a disk.
#[derive(Debug)]
pub struct Disk {
    /// The file of the database.
    pub database: Box<dyn StorageBackend>,
    /// Large contents.
    pub bodies: Arc<dyn Bodies>,
    /// Room.
    pub volume: Arc<dyn Volume>,
    /// Keeps other processes out for as long as it exists.
    pub lock: Option<Lock>,
}

/// The file of the database.
pub(super) const DATABASE: &str = "spool.redb";
/// The directory of large contents.
pub(super) const CONTENT_DIR: &str = "content";

/// A directory that no other process uses as its spool.
#[derive(Debug)]
pub struct Lock {
    dir: PathBuf,
    _file: File,
}

impl Lock {
    /// Makes `dir` (mode 0700) if it is not there, and locks it.
    ///
    /// # Errors
    /// [`SpoolError::Locked`] and [`SpoolError::Open`].
    pub fn take(dir: &Path) -> Result<Self, SpoolError> {
        let io = |what: &'static str| {
            move |error: io::Error| SpoolError::Open {
                dir: dir.display().to_string(),
                detail: format!("{what}: {error}"),
            }
        };
        make_directory(dir).map_err(io("directory"))?;
        let file = open_private(&dir.join("lock")).map_err(io("lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { dir: dir.to_owned(), _file: file }),
            Err(TryLockError::WouldBlock) => Err(SpoolError::Locked(dir.display().to_string())),
            Err(TryLockError::Error(error)) => Err(io("lock")(error)),
        }
    }

    /// Whether there is a database already.
    pub(super) fn has_database(&self) -> bool {
        self.dir.join(DATABASE).exists()
    }
}

impl Disk {
    /// Opens, or lays out, a locked directory with a reserve of `reserve` octets.
    ///
    /// # Errors
    /// [`SpoolError::Open`].
    pub fn open(lock: Lock, reserve: u64) -> Result<Self, SpoolError> {
        let dir = lock.dir.as_path();
        let failed = |detail: String| SpoolError::Open { dir: dir.display().to_string(), detail };
        let io = |what: &'static str| move |error: io::Error| failed(format!("{what}: {error}"));
        let bodies = dir.join(CONTENT_DIR);
        make_directory(&bodies).map_err(io(CONTENT_DIR))?;
        let path = dir.join(DATABASE);
        if !path.try_exists().map_err(io(DATABASE))? {
            create_database(dir, &path).map_err(failed)?;
        }
        let file = open_private(&path).map_err(io(DATABASE))?;
        let database = FileBackend::new(file).map_err(|error| failed(format!("{DATABASE}: {error}")))?;
        let volume = Directory::new(dir, reserve);
        // A reserve that does not fit is no reason to refuse: what is in the spool should leave it, and new mail is
        // answered with 452 until there is room.
        if let Err(error) = volume.reserve() {
            tracing::warn!(%error, "no room for the spool's reserve: nothing is accepted until there is");
        }
        sync_directory(dir).map_err(io("directory"))?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_directory(parent).map_err(io("parent directory"))?;
        }
        Ok(Self {
            database: Box::new(database),
            bodies: Arc::new(BodyDirectory { dir: bodies }),
            volume: Arc::new(volume),
            lock: Some(lock),
        })
    }
}

/// Makes an empty database under another name and moves it into place once it is flushed: a power cut during the very
/// first start leaves no half-made file that would have to be removed by hand.
fn create_database(dir: &Path, path: &Path) -> Result<(), String> {
    let io = |error: io::Error| format!("{DATABASE}: {error}");
    let unfinished = dir.join(format!("{DATABASE}.new"));
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    let file = open_private(&unfinished).map_err(io)?;
    let backend = FileBackend::new(file).map_err(|error| error.to_string())?;
    let database = Builder::new().create_with_backend(backend).map_err(|error| error.to_string())?;
    database.close().map_err(|error| error.to_string())?;
    File::open(&unfinished).and_then(|file| file.sync_all()).map_err(io)?;
    fs::rename(&unfinished, path).map_err(io)?;
    sync_directory(dir).map_err(io)
}

/// Opens the database on `backend`, which may use up the reserve of `volume` when the disk is full.
pub(super) fn open_database(
    backend: Box<dyn StorageBackend>,
    volume: Arc<dyn Volume>,
    cache_bytes: usize,
) -> Result<Database, String> {
    let backend = Reserved { inner: backend, volume };
    guarded(|| Builder::new().set_cache_size(cache_bytes).create_with_backend(backend))?
        .map_err(|error| error.to_string())
}

/// Runs `work`, in which redb may panic over a damaged file; an operator needs a sentence instead.
pub(super) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).map_err(|_| {
        "the database engine stopped while it read the file, which is probably damaged".to_owned()
    })
}

/// A backend that turns "no space" during a commit into the use of the reserve.
///
/// To redb any failed write is the end of the store. A write that found no room, though, is known not to have happened
/// (unlike a failed flush), so it may be done again once there is room.
#[derive(Debug)]
struct Reserved {
    inner: Box<dyn StorageBackend>,
    volume: Arc<dyn Volume>,
}

impl Reserved {
    fn with_room(&self, write: impl Fn() -> io::Result<()>) -> io::Result<()> {
        match write() {
            Err(error) if is_full(&error) && self.volume.is_reserved() => {
                tracing::warn!("the disk is full; the spool completes what it has begun out of its reserve");
                self.volume.release()?;
                write()
            }
            other => other,
        }
    }
}

impl StorageBackend for Reserved {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with_room(|| self.inner.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.with_room(|| self.inner.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }
}

/// Whether an error says that there is no room, on the disk or in a quota.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[derive(Debug)]
struct BodyDirectory {
    dir: PathBuf,
}

impl Bodies for BodyDirectory {
    fn create(&self, name: &str) -> io::Result<Box<dyn BodyFile>> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.dir.join(name))?;
        Ok(Box::new(SystemFile(file)))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(File::open(self.dir.join(name))?))
    }

    fn sync_directory(&self) -> io::Result<()> {
        sync_directory(&self.dir)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.dir.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn each_name(&self, each: &mut dyn FnMut(&str)) -> io::Result<()> {
        fs::read_dir(&self.dir)?.try_for_each(|entry| {
            each(&entry?.file_name().to_string_lossy());
            Ok(())
        })
    }
}

struct SystemFile(File);

impl BodyFile for SystemFile {
    fn append(&mut self, octets: &[u8]) -> io::Result<()> {
        self.0.write_all(octets)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_all()
    }
}

/// The reserve is a file with allocated blocks beside the database.
#[derive(Debug)]
struct Directory {
    dir: PathBuf,
    reserve: u64,
    reserved: AtomicBool,
}

impl Directory {
    fn new(dir: &Path, reserve: u64) -> Self {
        Self { dir: dir.to_owned(), reserve, reserved: AtomicBool::new(false) }
    }

    fn file(&self) -> io::Result<File> {
        open_private(&self.dir.join("reserve"))
    }
}

impl Volume for Directory {
    fn available(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn reserve(&self) -> io::Result<()> {
        if self.is_reserved() {
            return Ok(());
        }
        let file = self.file()?;
        if self.reserve > 0 {
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, self.reserve).or_else(
                |error| {
                    // Not every file system can allocate ahead; there the check of the free space has to do.
                    if error == rustix::io::Errno::OPNOTSUPP { Ok(()) } else { Err(error) }
                },
            )?;
        }
        file.set_len(self.reserve)?;
        self.reserved.store(true, Ordering::SeqCst);
        Ok(())
    }

    fn release(&self) -> io::Result<()> {
        self.reserved.store(false, Ordering::SeqCst);
        self.file()?.set_len(0)
    }

    fn is_reserved(&self) -> bool {
        self.reserved.load(Ordering::SeqCst)
    }
}

/// Makes a directory that only our own user can enter, and mends the mode of one that is there.
pub(super) fn make_directory(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).recursive(true).create(dir)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
}

pub(super) fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

pub(super) fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
