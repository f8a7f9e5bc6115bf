//! The content hook: the provider's own filter between the spool and the environment, asked over HTTP.
//!
//! # Guarantees
//! - Silence is no verdict: whatever is not a complete answer of a known kind is an error, and the caller keeps the message
//!   (HOOK-003; attack class T32).
//! - A changed message is given on octet by octet as it comes, and vouched for only by [`Answer::Changed`], after its last
//!   octet: it ends where its framing says, it obeys the rules for content from the wire, and it has the author it had
//!   (HOOK-004 to HOOK-006; attack class T2).
//! - Memory holds a header section and a few pieces, however large the message and the answer (HOOK-010).
//! - A message leaves this machine inside TLS only, towards a key or authority that was configured (HOOK-002).
//!
//! # Errors
//! [`HookError`]: the message waits. The operator acts.
//!
//! # Standards
//! RFC 9110, RFC 9112 (HTTP/1.1), RFC 5322. Our text: `spec/13-content-hook.md`.

mod answer;
mod changed;
mod configured;
mod question;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

pub use changed::ChangeFacts;
pub use configured::hook;
pub use question::Question;

use crate::model::{Digest, Reason};
use crate::transport::smtp::dialogue::{Endpoint, StepLimits};
use crate::transport::tls::ClientTls;
use crate::trust::HeaderLimits;
use crate::world::{Link, World};
use answer::Given;
use question::{Offered, Seen};

/// What hyper holds of either direction, in octets, beside the piece that is under way.
const BUFFER_OCTETS: usize = 64 << 10;

/// A hook. There is no way to make one that a message would reach in the clear beyond this machine.
#[derive(Clone)]
pub struct Hook {
    endpoint: Endpoint,
    /// Target of the request.
    path: String,
    /// Its `Host:`.
    host: String,
    tls: ClientTls,
    world: World,
    limits: HookLimits,
}

/// What a hook may cost.
#[derive(Clone, Copy, Debug)]
pub struct HookLimits {
    /// Of these, connection and handshake count.
    pub steps: StepLimits,
    /// From the connection to the end of the answer (`hook_seconds`).
    pub total: Duration,
    /// Octets of a changed message (`hook_answer_octets`).
    pub answer_octets: u64,
    /// Header section of a changed message.
    pub header: HeaderLimits,
}

/// Takes a changed message as it comes. It counts only once [`Answer::Changed`] says so.
#[async_trait]
pub trait Keep: Send {
    /// The next octets.
    ///
    /// # Errors
    /// There is no room for them. The keeper knows why.
    async fn keep(&mut self, octets: &[u8]) -> Result<(), NotKept>;
}

/// A keeper cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotKept;

/// What a hook said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The message goes on as it is.
    Passed,
    /// What the keeper has goes on in its place.
    Changed(Changed),
    /// It goes back to its sender, with these words.
    Rejected(String),
}

/// A changed message that may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Its digest.
    pub digest: Digest,
    /// Its octets.
    pub size: u64,
    /// Whether any of them is above 127.
    pub eight_bit: bool,
}

/// An answer, and what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The answer.
    pub answer: Answer,
    /// Digest of the message as it was offered; `None` when the answer came before its end, which only a rejection may.
    pub before: Option<Digest>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// No link, or not to whom it should be.
    #[error("the content hook cannot be reached: {0}")]
    Unreachable(String),
    /// It took too long.
    #[error("the content hook gave no whole answer within {0} seconds")]
    Timeout(u64),
    /// The exchange broke off.
    #[error("the exchange with the content hook broke off: {0}")]
    Broken(String),
    /// A status that says nothing about the message.
    #[error("the content hook answered with status {0}, which decides nothing")]
    Status(u16),
    /// An answer that cannot be used.
    #[error("the answer of the content hook is not used: {0}")]
    Unusable(String),
    /// Our own content could not be read.
    #[error("reading the content: {0}")]
    Content(io::Error),
    /// The changed message could not be kept.
    #[error("the changed message could not be kept")]
    NotKept,
}

impl HookError {
    /// The named check that failed.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Content(_) | Self::NotKept => Reason::LocalFault,
            Self::Unreachable(_)
            | Self::Timeout(_)
            | Self::Broken(_)
            | Self::Status(_)
            | Self::Unusable(_) => Reason::HookUnavailable,
        }
    }

    fn broken(error: impl std::error::Error) -> Self {
        // The cause says more than "error reading a body from connection".
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        Self::Broken(format!("{error}{cause}"))
    }

    fn unusable(what: impl Into<String>) -> Self {
        Self::Unusable(what.into())
    }
}

impl Hook {
    /// A hook at this endpoint, which is asked with this path.
    #[must_use]
    pub fn new(
        endpoint: Endpoint,
        path: String,
        host: String,
        tls: ClientTls,
        world: World,
        limits: HookLimits,
    ) -> Self {
        Self { endpoint, path, host, tls, world, limits }
    }

    /// Where it is, for records.
    #[must_use]
    pub fn describe(&self) -> String {
        format!("hook {}", self.endpoint.describe())
    }

    /// Whether it is there: a link, with TLS where it is configured, over which nothing is said.
    ///
    /// # Errors
    /// [`HookError::Unreachable`].
    pub async fn reach(&self) -> Result<(), HookError> {
        self.link().await.map(drop)
    }

    async fn link(&self) -> Result<Link, HookError> {
        let link = self.endpoint.open(&self.limits.steps, &self.tls, &self.world).await;
        link.map_err(|error| HookError::Unreachable(error.to_string()))
    }

    /// Asks what is to become of a message. A changed one goes to `keep` as it comes.
    ///
    /// # Errors
    /// [`HookError`]: nobody has said anything, and what `keep` got is worth nothing.
    pub async fn ask<R>(
        &self,
        question: &Question<'_>,
        content: R,
        keep: &mut dyn Keep,
    ) -> Result<Asked, HookError>
    where
        R: AsyncRead + Send + Unpin + 'static,
    {
        let (offered, seen) = Offered::new(content, question.size);
        let exchange = self.exchange(question, offered, &seen, keep);
        let asked = timeout(self.limits.total, exchange)
            .await
            .unwrap_or(Err(HookError::Timeout(self.limits.total.as_secs())));
        // When our own content could not be read, what else went wrong followed from that.
        asked.map_err(|error| seen.fault().map_or(error, HookError::Content))
    }

    async fn exchange<R>(
        &self,
        question: &Question<'_>,
        offered: Offered<R>,
        seen: &Seen,
        keep: &mut dyn Keep,
    ) -> Result<Asked, HookError>
    where
        R: AsyncRead + Send + Unpin + 'static,
    {
        let request = question.request(&self.host, &self.path, offered)?;
        let link = TokioIo::new(self.link().await?);
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(BUFFER_OCTETS)
            .handshake(link)
            .await
            .map_err(HookError::broken)?;
        let talk = async {
            let response = sender.send_request(request).await.map_err(HookError::broken)?;
            answer::read(response, &self.limits, keep).await
        };
        let (mut talk, mut drive) = (std::pin::pin!(talk), std::pin::pin!(connection.without_shutdown()));
        let mut driven = None;
        let given = loop {
            tokio::select! {
                biased;
                given = &mut talk => break given?,
                ended = &mut drive, if driven.is_none() => driven = Some(ended),
            }
        };
        if let Given::Rejected(words) = given {
            // Nothing is passed on, so nothing depends on what else there may be to hear.
            let before = seen.whole().map(|whole| whole.digest);
            return Ok(Asked { answer: Answer::Rejected(words), before });
        }
        let driven = match driven {
            Some(driven) => driven,
            None => drive.await,
        };
        let parts = driven.map_err(HookError::broken)?;
        if !parts.read_buf.is_empty() {
            return Err(surplus());
        }
        nothing_follows(parts.io.into_inner()).await?;
        let whole = seen
            .whole()
            .ok_or_else(|| HookError::unusable("it came before the message was sent to its end"))?;
        let answer = match given {
            Given::Changed(changed, _) if changed.digest == whole.digest => Answer::Passed,
            Given::Changed(changed, after) => {
                let before = whole.header.map_err(|fault| {
                    HookError::unusable(format!("the message as it came cannot be compared: {fault}"))
                })?;
                changed::same_author(&before, &after).map_err(HookError::Unusable)?;
                Answer::Changed(changed)
            }
            Given::Passed | Given::Rejected(_) => Answer::Passed,
        };
        Ok(Asked { answer, before: Some(whole.digest) })
    }
}

fn surplus() -> HookError {
    HookError::unusable("octets follow its end")
}

/// Waits for the end of the connection. We asked for it, and the server closes after its last answer (RFC 9112 section 9.6).
/// A length that was counted in characters, say, cuts a message short and leaves its rest here (HOOK-004).
async fn nothing_follows(mut link: Link) -> Result<(), HookError> {
    // Whoever waits for us to close need not.
    let _courtesy = link.shutdown().await;
    let mut octet = [0; 1];
    match link.read(&mut octet).await {
        Ok(1..) => Err(surplus()),
        // Whatever way it closes: the answer was complete before.
        Ok(0) | Err(_) => Ok(()),
    }
}
