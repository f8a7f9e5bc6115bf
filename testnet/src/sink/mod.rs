//! The recipient environment of a provider: an LMTP server that stores what it gets and is strict about how.
//!
//! ```
//! use testnet::sink::{Answer, Listen, Sink};
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let directory = tempfile::tempdir()?;
//! let listen = Listen::Unix(directory.path().join("lmtp.sock"));
//! let sink = Sink::start(listen, &directory.path().join("mail"), testnet::clock::system()).await?;
//! sink.answer("nobody@a.nl", Answer::Unknown);
//! println!("LMTP at {}", sink.address());
//! // let messages = sink.wait_for(1).await;
//! # Ok::<_, std::io::Error>(())
//! # }).unwrap();
//! ```
//!
//! # Guarantees
//! - A message is on disk, file, index and directory flushed, before it is answered for ([`Stored::file`] has its
//!   exact octets). `index.jsonl` beside it has one line per message, oldest first; an index that exists is continued.
//! - Waiting is for an event, never for a time ([`Sink::wait_until`]).
//! - What a well-behaved client never does (a bare LF, a NUL, an unknown parameter, a command out of order, a line
//!   over 998 octets) is refused and kept as a [`Violation`]: a test asserts that there are none.
//!
//! # Standards
//! RFC 2033 (LMTP), 2034, 2920, 6152, 6531, 1870.

mod session;
mod store;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::clock::Clock;
use store::Store;
pub use store::Stored;

/// Where a sink listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A UNIX socket; one that exists is replaced.
    Unix(PathBuf),
    /// A TCP address; with port 0 one is chosen.
    Tcp(SocketAddr),
}

impl std::fmt::Display for Listen {
    /// As configuration files write it: `unix:/path` or `127.0.0.1:24`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(addr) => addr.fmt(f),
        }
    }
}

/// What a recipient gets told. Everybody not spoken of is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Answer {
    /// `250` to RCPT and to the data.
    #[default]
    Accept,
    /// `550 5.1.1` to RCPT.
    Unknown,
    /// `451 4.3.0` to RCPT.
    TemporaryAtRcpt,
    /// `250` to RCPT, `451 4.3.0` to the data.
    Temporary,
    /// `250` to RCPT, `550 5.7.1` to the data.
    Reject,
    /// The message is stored, then the connection is closed without a word.
    LoseReply,
    /// Nothing is stored, and there is no reply to the data; the connection stays open.
    Silence,
}

/// Something a well-behaved client would not have done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// What, with the offending line where there is one.
    pub what: String,
}

/// A running sink. It stops when dropped; what it stored stays.
#[derive(Debug)]
pub struct Sink {
    listen: Listen,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// What sessions share.
struct Shared {
    clock: Clock,
    store: Mutex<Store>,
    answers: Mutex<Answers>,
    violations: Mutex<Vec<Violation>>,
    /// Counts stored messages; changes only after they are in `store`.
    stored: watch::Sender<usize>,
}

#[derive(Default)]
struct Answers {
    everybody: Answer,
    by_address: BTreeMap<String, Answer>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Sink {
    /// Listens, and stores messages in `directory`, which is made if it does not exist.
    ///
    /// # Errors
    /// If it can't listen, or the directory can't be used.
    pub async fn start(listen: Listen, directory: &Path, clock: Clock) -> io::Result<Self> {
        let store = Store::open(directory)?;
        let (stored, _) = watch::channel(store.messages().len());
        let shared = Arc::new(Shared {
            clock,
            store: Mutex::new(store),
            answers: Mutex::default(),
            violations: Mutex::default(),
            stored,
        });
        let (listen, task) = serve(listen, shared.clone()).await?;
        Ok(Self { listen, shared, task })
    }

    /// Stops listening and ends every session, as if its machine had gone. What is stored stays.
    pub async fn down(&mut self) {
        self.task.abort();
        if !self.task.is_finished() {
            // It was cancelled, as asked.
            let _ = (&mut self.task).await;
        }
    }

    /// Listens again where it did.
    ///
    /// # Errors
    /// If it can't.
    pub async fn up(&mut self) -> io::Result<()> {
        self.task.abort();
        (self.listen, self.task) = serve(self.listen.clone(), self.shared.clone()).await?;
        Ok(())
    }

    /// Where it listens, with the real port.
    pub fn address(&self) -> &Listen {
        &self.listen
    }

    /// Where messages are stored.
    pub fn directory(&self) -> PathBuf {
        lock(&self.shared.store).directory().to_owned()
    }

    /// Decides what one recipient gets told from now on.
    pub fn answer(&self, recipient: &str, answer: Answer) {
        lock(&self.shared.answers).by_address.insert(recipient.to_ascii_lowercase(), answer);
    }

    /// Decides what all other recipients get told from now on.
    pub fn answer_everybody(&self, answer: Answer) {
        lock(&self.shared.answers).everybody = answer;
    }

    /// The messages so far, oldest first.
    pub fn messages(&self) -> Vec<Stored> {
        lock(&self.shared.store).messages().to_vec()
    }

    /// The messages after the first `count`, oldest first.
    pub fn messages_after(&self, count: usize) -> Vec<Stored> {
        lock(&self.shared.store).messages().get(count..).unwrap_or_default().to_vec()
    }

    /// What clients did wrong so far.
    pub fn violations(&self) -> Vec<Violation> {
        lock(&self.shared.violations).clone()
    }

    /// Waits until there are at least so many messages, counted since the directory was new. Put a time limit around it.
    pub async fn wait_for(&self, count: usize) -> Vec<Stored> {
        self.wait_until(|messages| messages.len() >= count).await
    }

    /// Waits until the messages are as asked. Put a time limit around it.
    pub async fn wait_until(&self, mut enough: impl FnMut(&[Stored]) -> bool) -> Vec<Stored> {
        let mut stored = self.shared.stored.subscribe();
        loop {
            stored.mark_unchanged();
            let messages = self.messages();
            if enough(&messages) {
                return messages;
            }
            // The sender lives in `self`, so this can't fail; if it did, waiting on would be right too.
            if stored.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn answer_for(&self, recipient: &str) -> Answer {
        let answers = lock(&self.answers);
        answers.by_address.get(&recipient.to_ascii_lowercase()).copied().unwrap_or(answers.everybody)
    }

    fn violation(&self, what: String) {
        lock(&self.violations).push(Violation { what });
    }
}

/// Data behind these locks is replaced or extended whole, so a panic elsewhere leaves it good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Listens; returns where, with the real port.
async fn serve(listen: Listen, shared: Arc<Shared>) -> io::Result<(Listen, JoinHandle<()>)> {
    match listen {
        Listen::Unix(path) => {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let listener = UnixListener::bind(&path)?;
            Ok((Listen::Unix(path), tokio::spawn(serve_unix(listener, shared))))
        }
        Listen::Tcp(addr) => {
            let listener = TcpListener::bind(addr).await?;
            Ok((Listen::Tcp(listener.local_addr()?), tokio::spawn(serve_tcp(listener, shared))))
        }
    }
}

async fn serve_unix(listener: UnixListener, shared: Arc<Shared>) {
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                sessions.spawn(session::serve(stream, shared.clone()));
            },
            Some(_) = sessions.join_next() => {}
        }
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Shared>) {
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                sessions.spawn(session::serve(stream, shared.clone()));
            },
            Some(_) = sessions.join_next() => {}
        }
    }
}
