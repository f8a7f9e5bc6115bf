//! The other end of the control socket, for the subcommands.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body, Frame};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::control::{Acted, Action, BackUp, ENVELOPE_HEADER, Listed, Refusal, SendEnvelope, Shown};
use super::operations::{ContentStream, ReloadRefusal, Reloaded, Status, SubmitRefusal, Submitted};
use super::reply::ReplyReport;
use crate::spool::{BackedUp, Filter, Scrubbed};

/// The longest answer that is read; a spool list of a hundred thousand deliveries fits.
const ANSWER_OCTETS_MAX: usize = 256 * 1024 * 1024;

/// A running node, through its socket.
#[derive(Clone, Debug)]
pub struct ControlClient {
    socket: PathBuf,
}

/// Why the node did not do as it was told.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens there.
    #[error("no node answers at {}: {error}\n    start it with `sluis run`, or correct control.socket", socket.display())]
    NotRunning {
        /// The socket.
        socket: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The node refuses.
    #[error("{0}")]
    Refused(String),
    /// The message is not taken.
    #[error("{}not accepted: {} ({}, {})", .0.recipient.as_ref().map(|to| format!("{to}: ")).unwrap_or_default(),
        .0.detail, .0.requirement, .0.reason)]
    NotSubmitted(SubmitRefusal),
    /// The new configuration is not taken.
    #[error(transparent)]
    NotReloaded(ReloadRefusal),
    /// The conversation broke.
    #[error("the node's control socket: {0}")]
    Broken(String),
}

impl ControlClient {
    /// For the node with this socket.
    #[must_use]
    pub const fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// How the node is.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn status(&self) -> Result<Status, ControlError> {
        self.ask(Method::GET, "/status").await
    }

    /// The deliveries that match.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn list(&self, filter: &Filter) -> Result<Listed, ControlError> {
        let mut query = Vec::new();
        if let Some(phase) = filter.phase {
            let word =
                serde_json::to_value(phase).map_err(|error| ControlError::Broken(error.to_string()))?;
            query.push(format!("phase={}", word.as_str().unwrap_or_default()));
        }
        query.extend(filter.domain.as_ref().map(|domain| format!("domain={domain}")));
        query.extend(filter.message.map(|message| format!("message={message}")));
        query.extend(filter.limit.map(|limit| format!("limit={limit}")));
        self.ask(Method::GET, &format!("/spool?{}", query.join("&"))).await
    }

    /// A message and its attempts. `id` is that of a message or delivery.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn show(&self, id: &str) -> Result<Shown, ControlError> {
        self.ask(Method::GET, &format!("/spool/{}", path_segment(id)?)).await
    }

    /// Whether a reply to a message of the spool would stay secure.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn explain(&self, id: &str, dns_only: bool) -> Result<ReplyReport, ControlError> {
        self.ask(Method::GET, &format!("/explain/{}?dns_only={dns_only}", path_segment(id)?)).await
    }

    /// The same for a message that is not there; `content` with CRLF line ends.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn explain_message(
        &self,
        content: ContentStream,
        dns_only: bool,
    ) -> Result<ReplyReport, ControlError> {
        let path = format!("/explain?dns_only={dns_only}");
        let (status, answer) =
            self.exchange(build(Method::POST, &path, None, Blocks(content).boxed())?).await?;
        accept(status, &answer)
    }

    /// Acts on a delivery.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn act(&self, id: &str, action: Action) -> Result<Acted, ControlError> {
        self.ask(Method::POST, &format!("/spool/{}/{}", path_segment(id)?, action.as_str())).await
    }

    /// Has the node read everything in its spool.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn scrub(&self) -> Result<Scrubbed, ControlError> {
        self.ask(Method::POST, "/spool/scrub").await
    }

    /// Has the node copy its spool to `dir`.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn back_up(&self, dir: PathBuf) -> Result<BackedUp, ControlError> {
        let body =
            serde_json::to_vec(&BackUp { dir }).map_err(|error| ControlError::Broken(error.to_string()))?;
        let mut request = build(Method::POST, "/spool/backup", None, Full::new(Bytes::from(body)).boxed())?;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let (status, answer) = self.exchange(request).await?;
        accept(status, &answer)
    }

    /// Has the node read its configuration again.
    ///
    /// # Errors
    /// [`ControlError::NotReloaded`] with every reason.
    pub async fn reload(&self) -> Result<Reloaded, ControlError> {
        let request = build(Method::POST, "/reload", None, Empty::new().boxed())?;
        let (status, answer) = self.exchange(request).await?;
        if status == StatusCode::CONFLICT {
            return Err(ControlError::NotReloaded(read(&answer)?));
        }
        accept(status, &answer)
    }

    /// Submits a message; `content` as the node takes it, with CRLF line ends.
    ///
    /// # Errors
    /// [`ControlError::NotSubmitted`] when the node does not take it.
    pub async fn send(
        &self,
        envelope: &SendEnvelope,
        content: ContentStream,
    ) -> Result<Submitted, ControlError> {
        let envelope = ascii_json(envelope)?;
        let body = Blocks(content).boxed();
        let request = build(Method::POST, "/send", Some(&envelope), body)?;
        let (status, answer) = self.exchange(request).await?;
        if matches!(status, StatusCode::UNPROCESSABLE_ENTITY | StatusCode::SERVICE_UNAVAILABLE) {
            return Err(ControlError::NotSubmitted(read(&answer)?));
        }
        accept(status, &answer)
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T, ControlError> {
        let (status, answer) = self.exchange(build(method, path, None, Empty::new().boxed())?).await?;
        accept(status, &answer)
    }

    async fn exchange(&self, request: Request<Outgoing>) -> Result<(StatusCode, Bytes), ControlError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|error| ControlError::NotRunning { socket: self.socket.clone(), error })?;
        let broken = |error: hyper::Error| ControlError::Broken(error.to_string());
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Its end is seen as an error of the request.
        tokio::spawn(connection);
        let answer = sender.send_request(request).await.map_err(broken)?;
        let status = answer.status();
        let body = http_body_util::Limited::new(answer.into_body(), ANSWER_OCTETS_MAX);
        let body = body.collect().await.map_err(|error| ControlError::Broken(error.to_string()))?;
        Ok((status, body.to_bytes()))
    }
}

type Outgoing = http_body_util::combinators::BoxBody<Bytes, io::Error>;

/// Content from a channel as a body.
struct Blocks(mpsc::Receiver<io::Result<Bytes>>);

impl Body for Blocks {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(context).map(|block| block.map(|block| block.map(Frame::data)))
    }
}

fn build(
    method: Method,
    path: &str,
    envelope: Option<&str>,
    body: impl Into<OutgoingBody>,
) -> Result<Request<Outgoing>, ControlError> {
    let mut request = Request::builder().method(method).uri(path).header("host", "sluis");
    if let Some(envelope) = envelope {
        request = request.header(ENVELOPE_HEADER, envelope).header("content-type", "message/rfc822");
    }
    request.body(body.into().0).map_err(|error| ControlError::Broken(error.to_string()))
}

/// Either kind of body, in one type.
struct OutgoingBody(Outgoing);

impl From<http_body_util::combinators::BoxBody<Bytes, std::convert::Infallible>> for OutgoingBody {
    fn from(body: http_body_util::combinators::BoxBody<Bytes, std::convert::Infallible>) -> Self {
        Self(body.map_err(|never| match never {}).boxed())
    }
}

impl From<Outgoing> for OutgoingBody {
    fn from(body: Outgoing) -> Self {
        Self(body)
    }
}

/// A JSON text that can stand in a header field: everything beyond ASCII is escaped.
fn ascii_json(envelope: &SendEnvelope) -> Result<String, ControlError> {
    let text = serde_json::to_string(envelope).map_err(|error| ControlError::Broken(error.to_string()))?;
    let mut ascii = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() {
            ascii.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                ascii.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    Ok(ascii)
}

/// Identifiers are letters, digits and a dot; anything else does not get into a path.
fn path_segment(id: &str) -> Result<&str, ControlError> {
    if !id.is_empty() && id.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'.') {
        Ok(id)
    } else {
        Err(ControlError::Refused(format!("{id:?} is not an identifier, as `sluis spool list` prints them")))
    }
}

fn accept<T: DeserializeOwned>(status: StatusCode, answer: &[u8]) -> Result<T, ControlError> {
    if status.is_success() {
        return read(answer);
    }
    let what = serde_json::from_slice::<Refusal>(answer)
        .map_or_else(|_| format!("{status}: {}", String::from_utf8_lossy(answer)), |refusal| refusal.error);
    Err(ControlError::Refused(what))
}

fn read<T: DeserializeOwned>(answer: &[u8]) -> Result<T, ControlError> {
    serde_json::from_slice(answer)
        .map_err(|error| ControlError::Broken(format!("an answer that can't be read: {error}")))
}
