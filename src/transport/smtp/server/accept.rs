//! The listener: takes connections, gives each its limits, and lets go of them in good order.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::connected::Connected;
use super::gate::{Gate, SessionId};
use super::link::Stop;
use super::replies;
use super::settings::Settings;
use super::slots::{Slot, Slots};
use crate::transport::tls::ServerTls;
use crate::world::Stream;

/// The first wait after an error of `accept`; it doubles.
const BACK_OFF_FIRST: Duration = Duration::from_millis(50);
/// The longest wait after an error of `accept`.
const BACK_OFF_MAX: Duration = Duration::from_secs(2);
/// How many connections in a row may fail by themselves before that counts as trouble of ours.
const ABORTED_MAX: u32 = 16;
/// What sessions get to write their records after they were cut off.
const LAST_MOMENT: Duration = Duration::from_secs(5);

/// Numbers sessions over all listeners of the process.
static SESSIONS: AtomicU64 = AtomicU64::new(1);

/// A listener.
pub struct Server<A = TcpListener> {
    source: A,
    settings: Arc<ArcSwap<Settings>>,
    slots: Arc<Slots>,
}

impl Server<TcpListener> {
    /// Listens at `address`. Settings can be exchanged while it runs and hold for new sessions.
    ///
    /// # Errors
    /// Those of the system: address in use, not ours, or not allowed.
    pub async fn bind(
        address: SocketAddr,
        settings: Arc<ArcSwap<Settings>>,
        slots: Arc<Slots>,
    ) -> io::Result<Self> {
        Ok(Self::on(TcpListener::bind(address).await?, settings, slots))
    }

    /// Where it listens.
    ///
    /// # Errors
    /// Those of the system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.source.local_addr()
    }
}

impl<A: Accept> Server<A> {
    /// Uses something that is listening already.
    #[must_use]
    pub const fn on(source: A, settings: Arc<ArcSwap<Settings>>, slots: Arc<Slots>) -> Self {
        Self { source, settings, slots }
    }

    /// Serves until `stop`. Then idle sessions are told to come back later, transactions under way get
    /// [`Settings::stop_time`], and it returns when all sessions have ended.
    pub async fn serve<G: Gate>(self, gate: Arc<G>, tls: ServerTls, stop: CancellationToken) {
        let Self { source, settings, slots } = self;
        serve_on(source, &settings, &slots, &gate, &tls, stop).await;
    }
}

/// Where connections come from; another source in tests.
pub trait Accept: Send + 'static {
    /// What a connection is.
    type Stream: Stream + 'static;

    /// The next connection, with the client's address and the one it connected to. Dropped halfway it loses none.
    ///
    /// # Errors
    /// Those of the system; the next call may succeed.
    fn next(&mut self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr, SocketAddr)>> + Send;
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn next(&mut self) -> io::Result<(TcpStream, SocketAddr, SocketAddr)> {
        let (stream, remote) = self.accept().await?;
        // Replies are short, and each waits for the one before it.
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?;
        Ok((stream, remote, local))
    }
}

pub(super) async fn serve_on<A: Accept, G: Gate>(
    mut source: A,
    settings: &ArcSwap<Settings>,
    slots: &Arc<Slots>,
    gate: &Arc<G>,
    tls: &ServerTls,
    stop: CancellationToken,
) {
    let now = CancellationToken::new();
    let mut sessions = JoinSet::new();
    let mut trouble = Trouble::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(ended) = sessions.join_next(), if !sessions.is_empty() => {
                report(ended);
                continue;
            }
            accepted = source.next() => accepted,
        };
        let (mut stream, remote, local) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                let wait = trouble.after(&error);
                tracing::warn!(%error, wait_ms = wait.as_millis(), "cannot take a connection");
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = sleep(wait) => continue,
                }
            }
        };
        trouble = Trouble::default();
        let settings = settings.load_full();
        let Some(slot) = slots.take(remote.ip(), &settings) else {
            tracing::info!(%remote, "no session free");
            turn_away(&mut stream).await;
            continue;
        };
        let id = SessionId(SESSIONS.fetch_add(1, Ordering::Relaxed));
        let stop = Stop { soon: stop.clone(), now: now.clone() };
        let connected = Connected { stream, id, remote, local, settings, stop };
        sessions.spawn(session(connected, slot, Arc::clone(gate), tls.clone()));
    }
    drop(source);
    wind_up(sessions, settings.load().stop_time, &now).await;
}

async fn session<S, G>(connected: Connected<S>, slot: Slot, gate: Arc<G>, tls: ServerTls)
where
    S: Stream + 'static,
    G: Gate,
{
    let (id, remote) = (connected.id, connected.remote);
    tracing::debug!(session = %id, %remote, "session begins");
    let ended = connected.serve(&*gate, &tls).await;
    tracing::debug!(session = %id, ?ended, "session ends");
    drop(slot);
}

/// Says 421 if that takes no waiting: whoever floods us must not hold anything of ours.
async fn turn_away<S: AsyncWrite + Unpin>(stream: &mut S) {
    let wire = replies::too_many_sessions().to_wire();
    let _ = timeout(Duration::ZERO, stream.write_all(wire.as_bytes())).await;
}

async fn wind_up(mut sessions: JoinSet<()>, grace: Duration, now: &CancellationToken) {
    if timeout(grace, all(&mut sessions)).await.is_err() {
        tracing::warn!(sessions = sessions.len(), "cutting off transactions under way");
        now.cancel();
        if timeout(LAST_MOMENT, all(&mut sessions)).await.is_err() {
            sessions.shutdown().await;
        }
    }
}

async fn all(sessions: &mut JoinSet<()>) {
    while let Some(ended) = sessions.join_next().await {
        report(ended);
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a session ended by a fault of ours");
    }
}

/// Errors of `accept` in a row.
#[derive(Default)]
struct Trouble {
    errors: u32,
}

impl Trouble {
    /// How long to wait after `error`: out of descriptors or memory, trying again at once would only burn the processor
    /// that the open sessions need to end (attack class T26).
    fn after(&mut self, error: &io::Error) -> Duration {
        use io::ErrorKind as K;
        let by_client = matches!(
            error.kind(),
            K::ConnectionAborted | K::ConnectionReset | K::Interrupted | K::NotConnected
        );
        self.errors = self.errors.saturating_add(1);
        if by_client && self.errors <= ABORTED_MAX {
            return Duration::ZERO;
        }
        BACK_OFF_FIRST.saturating_mul(1 << self.errors.saturating_sub(1).min(16)).min(BACK_OFF_MAX)
    }
}
