//! The connection under a session: lines in, replies out, each wait with its end.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::replies;
use super::settings::Settings;
use crate::transport::smtp::line::{Framer, LineFault, Octets, SentAhead};
use crate::transport::smtp::reply::Reply;

/// How long a farewell may take. The client has nothing to lose by then.
const FAREWELL: Duration = Duration::from_secs(5);
/// How much may wait to be sent before it is sent, in octets.
const OUT_OCTETS: usize = 16 * 1024;

/// Tells sessions that the node stops: first those that are idle, in the end all.
#[derive(Clone, Debug, Default)]
pub(super) struct Stop {
    /// No new transactions.
    pub(super) soon: CancellationToken,
    /// Not even those that are under way.
    pub(super) now: CancellationToken,
}

/// Whether a session has something to lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Busy {
    /// It can be closed at any time.
    Idle,
    /// A transaction is open.
    InTransaction,
}

/// Why nothing more will be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Break {
    /// The client closed the connection, or it failed.
    Lost,
    /// The time of the step is over.
    Late,
    /// The node stops.
    Stopping,
}

impl Break {
    /// What the client is told, or would be.
    pub(super) fn reply(self) -> Reply {
        match self {
            Self::Lost => replies::lost(),
            Self::Late => replies::late(),
            Self::Stopping => replies::stopping(),
        }
    }
}

/// A stream that speaks in lines and replies.
pub(super) struct Link<S> {
    octets: Octets<S>,
    framer: Framer,
    out: Vec<u8>,
    settings: Arc<Settings>,
    stop: Stop,
    ends: Instant,
}

impl<S> Link<S> {
    /// A link whose session is over at `ends`, whatever happens.
    pub(super) fn new(stream: S, settings: Arc<Settings>, stop: Stop, ends: Instant) -> Self {
        let framer = Framer::new(settings.command_line_octets);
        Self { octets: Octets::new(stream), framer, out: Vec::new(), settings, stop, ends }
    }

    /// The settings of the listener.
    pub(super) fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// When the session is over.
    pub(super) fn ends(&self) -> Instant {
        self.ends
    }

    /// Says `reply`, at the latest before the next wait for the client: replies to pipelined commands travel together.
    pub(super) fn say(&mut self, reply: &Reply) {
        self.out.extend_from_slice(reply.to_wire().as_bytes());
    }

    /// What has been read and not used.
    pub(super) fn available(&self) -> &[u8] {
        self.octets.available()
    }

    /// Marks octets as used.
    pub(super) fn consume(&mut self, count: usize) {
        self.octets.consume(count);
    }

    /// Gives the stream back for a handshake; see [`Octets::into_stream`].
    pub(super) fn into_stream(self) -> Result<S, SentAhead> {
        self.octets.into_stream()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    /// Waits until there is something to read, until `until` at most.
    pub(super) async fn fill(&mut self, until: Instant, busy: Busy) -> Result<(), Break> {
        if self.octets.available().is_empty() {
            self.flush().await?;
        }
        let stop = match busy {
            Busy::Idle => &self.stop.soon,
            Busy::InTransaction => &self.stop.now,
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => Err(Break::Stopping),
            () = sleep_until(until.min(self.ends)) => Err(Break::Late),
            read = self.octets.fill() => match read {
                Ok(0) | Err(_) => Err(Break::Lost),
                Ok(_) => Ok(()),
            },
        }
    }

    /// The next line, whole within the time for a command and before `until`.
    pub(super) async fn line(
        &mut self,
        until: Option<Instant>,
        busy: Busy,
    ) -> Result<Result<Vec<u8>, LineFault>, Break> {
        let mut deadline = Instant::now() + self.settings.command_time;
        deadline = until.map_or(deadline, |until| deadline.min(until));
        loop {
            self.fill(deadline, busy).await?;
            let (used, line) = self.framer.push(self.octets.available());
            self.octets.consume(used);
            if let Some(line) = line {
                if self.out.len() > OUT_OCTETS {
                    self.flush().await?;
                }
                return Ok(line);
            }
        }
    }

    /// Sends what was said.
    pub(super) async fn flush(&mut self) -> Result<(), Break> {
        if self.out.is_empty() {
            return Ok(());
        }
        let until = self.ends.min(Instant::now() + self.settings.command_time);
        let stream = self.octets.stream();
        // Taken at once: what was sent in part must not be sent again by `close`.
        let out = std::mem::take(&mut self.out);
        let sent = timeout_at(until, async {
            stream.write_all(&out).await?;
            stream.flush().await
        });
        let sent = tokio::select! {
            biased;
            sent = sent => sent,
            () = self.stop.now.cancelled() => return Err(Break::Stopping),
        };
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Break::Lost),
            Err(_) => Err(Break::Late),
        }
    }

    /// Sends what was said and closes, in a moment or not at all.
    pub(super) async fn close(mut self) {
        let stream = self.octets.stream();
        let farewell = async {
            stream.write_all(&self.out).await?;
            stream.shutdown().await
        };
        // Nobody is left who could act on a failure.
        let _ = timeout(FAREWELL, farewell).await;
    }
}
