//! The server: UDP and TCP on one address, until dropped.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use super::answer::{Action, Transport, reply};
use super::error::TreeError;
use super::key::{Anchor, Keyring};
use super::sign::Snapshot;
use super::tree::Tree;

/// Questions remembered for [`DnsServer::questions`]; older ones are forgotten.
const QUESTIONS_MAX: usize = 10_000;
/// A TCP connection on which nothing was asked for this long is closed.
const TCP_IDLE: Duration = Duration::from_secs(30);
/// Tries to find a port that is free for both UDP and TCP.
const PORT_TRIES: usize = 16;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The tree can't be served as described.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The address can't be had.
    #[error("listening on {addr}: {source}")]
    Listen {
        /// The address wanted.
        addr: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

/// A question the server was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// In lower case, with the last dot.
    pub name: String,
    /// `TXT`, `TLSA`, …
    pub rtype: String,
    /// How it arrived.
    pub transport: Transport,
}

/// A running server. It stops when dropped.
#[derive(Debug)]
pub struct DnsServer {
    addr: SocketAddr,
    anchor: Anchor,
    shared: Arc<Shared>,
    tasks: [JoinHandle<()>; 2],
}

struct Shared {
    state: Mutex<State>,
    questions: Mutex<VecDeque<Question>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

struct State {
    tree: Tree,
    now: Timestamp,
    keys: Keyring,
    snapshot: Arc<Snapshot>,
}

impl DnsServer {
    /// Signs the tree with new keys and serves it on UDP and TCP.
    ///
    /// `now` decides when signatures hold. With port 0 a port is chosen that is free for both.
    ///
    /// # Errors
    /// The tree can't be served as described, or the address can't be had.
    pub async fn start(tree: Tree, now: Timestamp, addr: SocketAddr) -> Result<Self, StartError> {
        let (udp, tcp) = listen(addr).await.map_err(|source| StartError::Listen { addr, source })?;
        let addr = tcp.local_addr().map_err(|source| StartError::Listen { addr, source })?;
        let mut keys = Keyring::new()?;
        let anchor = keys.anchor()?;
        let snapshot = Arc::new(Snapshot::compile(&tree, &mut keys, now, addr.ip())?);
        let shared = Arc::new(Shared {
            state: Mutex::new(State { tree, now, keys, snapshot }),
            questions: Mutex::default(),
        });
        let tasks =
            [tokio::spawn(serve_udp(udp, shared.clone())), tokio::spawn(serve_tcp(tcp, shared.clone()))];
        Ok(Self { addr, anchor, shared, tasks })
    }

    /// Where it listens, with the real port.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The published trust anchor. It stays the same for the life of the server, also when the root is rolled.
    pub fn anchor(&self) -> &Anchor {
        &self.anchor
    }

    /// The trust anchor as one DS record in presentation format.
    pub fn anchor_ds(&self) -> String {
        self.anchor.ds()
    }

    /// Changes the tree and signs it again, with the same keys. Replies change all at once.
    ///
    /// # Errors
    /// If the changed tree can't be served; the old one then stays.
    pub fn update(&self, change: impl FnOnce(&mut Tree)) -> Result<(), TreeError> {
        let mut state = lock(&self.shared.state);
        let mut tree = state.tree.clone();
        change(&mut tree);
        let now = state.now;
        state.put(tree, now, self.addr)
    }

    /// Moves the clock of the tree: everything is signed as of then.
    ///
    /// # Errors
    /// If signing fails; the old signatures then stay.
    pub fn set_now(&self, now: Timestamp) -> Result<(), TreeError> {
        let mut state = lock(&self.shared.state);
        let tree = state.tree.clone();
        state.put(tree, now, self.addr)
    }

    /// A copy of the tree as it is described now.
    pub fn tree(&self) -> Tree {
        lock(&self.shared.state).tree.clone()
    }

    /// The questions so far, oldest first, at most the last 10,000.
    pub fn questions(&self) -> Vec<Question> {
        lock(&self.shared.questions).iter().cloned().collect()
    }

    /// Forgets the questions so far.
    pub fn forget_questions(&self) {
        lock(&self.shared.questions).clear();
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl State {
    fn put(&mut self, tree: Tree, now: Timestamp, addr: SocketAddr) -> Result<(), TreeError> {
        self.snapshot = Arc::new(Snapshot::compile(&tree, &mut self.keys, now, addr.ip())?);
        self.tree = tree;
        self.now = now;
        Ok(())
    }
}

impl Shared {
    fn reply(&self, request: &[u8], transport: Transport) -> Action {
        let snapshot = lock(&self.state).snapshot.clone();
        let (action, query) = reply(&snapshot, request, transport);
        if let Some(query) = query {
            let mut questions = lock(&self.questions);
            if questions.len() == QUESTIONS_MAX {
                questions.pop_front();
            }
            questions.push_back(Question {
                name: query.name().to_lowercase().to_ascii(),
                rtype: query.query_type().to_string(),
                transport,
            });
        }
        action
    }
}

/// A panic elsewhere must not become a second one here: the data is replaced whole, never half.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn listen(addr: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let mut tries = 0;
    loop {
        tries += 1;
        let tcp = TcpListener::bind(addr).await?;
        match UdpSocket::bind(tcp.local_addr()?).await {
            Ok(udp) => return Ok((udp, tcp)),
            // Somebody else has the UDP port that goes with the TCP port we were given.
            Err(_) if addr.port() == 0 && tries < PORT_TRIES => {}
            Err(error) => return Err(error),
        }
    }
}

async fn serve_udp(socket: UdpSocket, shared: Arc<Shared>) {
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        // Errors here are those of earlier datagrams (port unreachable); the socket itself stays good.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        if let Action::Send(octets) = shared.reply(&buffer[..length], Transport::Udp) {
            let _ = socket.send_to(&octets, from).await;
        }
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, and the connections with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                connections.spawn(serve_connection(stream, shared.clone()));
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Errors end the connection; there is nobody to tell.
async fn serve_connection(mut stream: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    let _ = stream.set_nodelay(true);
    loop {
        let length = timeout(TCP_IDLE, stream.read_u16()).await??;
        let mut request = vec![0; usize::from(length)];
        timeout(TCP_IDLE, stream.read_exact(&mut request)).await??;
        match shared.reply(&request, Transport::Tcp) {
            Action::Send(octets) => {
                let length = u16::try_from(octets.len()).map_err(io::Error::other)?;
                let mut framed = length.to_be_bytes().to_vec();
                framed.extend_from_slice(&octets);
                stream.write_all(&framed).await?;
            }
            Action::Silence => {}
            Action::Close => return Ok(()),
        }
    }
}
