//! Lines out, replies in, each within the time of its step.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::error::{DialogueError, Fault};
use super::replies::{LINE_OCTETS_MAX, ReplyLines};
use super::step::{Step, StepLimits};
use crate::transport::smtp::Reply;
use crate::transport::smtp::line::{Framer, Octets};

/// A stream with its read buffer and its clock.
pub(super) struct Wire<S> {
    octets: Octets<S>,
    limits: StepLimits,
    usable: Usable,
}

/// Whether more can be said on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Usable {
    /// Both sides know where they are.
    Yes,
    /// A transaction may be open over there: RSET comes first.
    AfterReset,
    /// Something failed, and nobody knows where the other side is.
    No,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) fn new(stream: S, limits: StepLimits) -> Self {
        Self { octets: Octets::new(stream), limits, usable: Usable::Yes }
    }

    pub(super) const fn usable(&self) -> Usable {
        self.usable
    }

    pub(super) const fn set_usable(&mut self, usable: Usable) {
        self.usable = usable;
    }

    /// Gives the stream up if nothing was read ahead (attack class T3).
    pub(super) fn into_stream(self) -> Result<S, DialogueError> {
        self.octets
            .into_stream()
            .map_err(|ahead| DialogueError::new(Step::Starttls, Fault::StarttlsInjection(ahead.0)))
    }

    /// Writes `octets` and lets them go.
    pub(super) async fn write(&mut self, step: Step, octets: &[u8]) -> Result<(), DialogueError> {
        let stream = self.octets.stream();
        let work = async {
            stream.write_all(octets).await?;
            stream.flush().await
        };
        let outcome = timeout(self.limits.of(step), work).await;
        self.written(step, outcome)
    }

    /// Writes part of the content; what has to wait may wait.
    pub(super) async fn write_part(&mut self, octets: &[u8]) -> Result<(), DialogueError> {
        let outcome = timeout(self.limits.block, self.octets.stream().write_all(octets)).await;
        self.written(Step::Content, outcome)
    }

    fn written(&mut self, step: Step, outcome: Result<io::Result<()>, Elapsed>) -> Result<(), DialogueError> {
        let fault = match outcome {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => Fault::from(error),
            Err(_) => Fault::Timeout,
        };
        self.usable = Usable::No;
        Err(DialogueError::new(step, fault))
    }

    /// The next reply. `421` is passed on like any other, but ends the link (RFC 5321 section 3.8).
    pub(super) async fn reply(&mut self, step: Step) -> Result<Reply, DialogueError> {
        let outcome = timeout(self.limits.of(step), read_reply(&mut self.octets)).await;
        let fault = match outcome {
            Ok(Ok(reply)) => {
                if reply.code() == 421 {
                    self.usable = Usable::No;
                }
                return Ok(reply);
            }
            Ok(Err(fault)) => fault,
            Err(_) => Fault::Timeout,
        };
        self.usable = Usable::No;
        Err(DialogueError::new(step, fault))
    }

    /// One command, one reply.
    pub(super) async fn command(&mut self, step: Step, line: &str) -> Result<Reply, DialogueError> {
        self.write(step, line.as_bytes()).await?;
        self.reply(step).await
    }
}

async fn read_reply<S: AsyncRead + Unpin>(octets: &mut Octets<S>) -> Result<Reply, Fault> {
    let mut framer = Framer::new(LINE_OCTETS_MAX);
    let mut lines = ReplyLines::default();
    loop {
        if octets.fill().await? == 0 {
            return Err(Fault::Lost(io::ErrorKind::UnexpectedEof.into()));
        }
        let (used, line) = framer.push(octets.available());
        octets.consume(used);
        let Some(line) = line else { continue };
        let line = line.map_err(super::replies::ReplyFault::from)?;
        if let Some(reply) = lines.push(&line)? {
            return Ok(reply);
        }
    }
}
