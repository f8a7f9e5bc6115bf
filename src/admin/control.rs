//! The control interface: HTTP/1.1 over a UNIX socket.
//!
//! Whoever may open the socket may do everything here, so its file permissions are the access control (OPS-004).

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::{Path as UrlPath, Query, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::sync::mpsc;

use super::operations::{ContentStream, Operations, ReloadRefusal, Reloaded};
use super::reply::{ReplyRefusal, ReplyReport};
use crate::config::Control;
use crate::model::{DecisionRecord, DeliveryId, Envelope, MessageId, Recipient};
use crate::spool::{DeliveryView, Filter, MessageView, SpoolError};

/// Blocks of content on their way from the socket into the spool: memory stays flat whatever the size (LIM-007).
const BLOCKS: usize = 4;

/// Everything the control socket offers. The same router may be served over another, authenticated listener.
pub fn router(node: Arc<dyn Operations>) -> Router {
    Router::new()
        .route("/status", get(status))
        .route("/send", post(send))
        .route("/explain", post(explain_message))
        .route("/explain/{id}", get(explain_stored))
        .route("/spool", get(list))
        .route("/spool/scrub", post(scrub))
        .route("/spool/backup", post(back_up))
        .route("/spool/{id}", get(show))
        .route("/spool/{id}/{action}", post(act))
        .route("/reload", post(post_reload))
        .with_state(node)
}

/// Makes the socket, with its permissions before anybody can connect. A socket left by a crash is replaced; one that
/// answers is not.
///
/// # Errors
/// A node is running there already, or the file system refuses.
pub fn bind(control: &Control) -> io::Result<UnixListener> {
    let path = control.socket.as_path();
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        let what = format!("a node is running already: {} answers", path.display());
        return Err(io::Error::new(io::ErrorKind::AddrInUse, what));
    }
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    // Bound and restricted under another name, then moved: the name that clients use never leads to an open socket.
    let fresh = path.with_extension(format!("{}.new", std::process::id()));
    remove_if_there(&fresh)?;
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(&fresh);
    rustix::process::umask(before);
    let listener = bound?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(control.mode))?;
    std::fs::rename(&fresh, path)?;
    Ok(listener)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A refusal, for the client to print.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What is wrong.
    pub error: String,
}

impl Refusal {
    fn answer(status: StatusCode, error: impl ToString) -> Response {
        (status, Json(Self { error: error.to_string() })).into_response()
    }
}

/// A message of the spool and the decision records of its attempts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shown {
    /// The message; `None` once it is settled.
    pub message: Option<MessageView>,
    /// Its attempts, oldest first.
    pub records: Vec<DecisionRecord>,
}

/// The list of the spool.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listed {
    /// The deliveries, those of the oldest message first.
    pub deliveries: Vec<DeliveryView>,
}

/// What became of a delivery that was acted upon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Acted {
    /// The delivery.
    pub delivery: DeliveryId,
    /// What was done.
    pub action: Action,
}

/// What an operator can do to a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// No more attempts until it is released; its clock of return runs on.
    Hold,
    /// Go on with one that is held, now.
    Release,
    /// Try one that waits, now.
    Retry,
    /// Give up, and report to the sender, now.
    Return,
}

impl Action {
    /// The word in the path.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Retry => "retry",
            Self::Return => "return",
        }
    }
}

type Node = State<Arc<dyn Operations>>;

async fn status(State(node): Node) -> Response {
    Json(node.status()).into_response()
}

async fn list(State(node): Node, Query(filter): Query<Filter>) -> Response {
    match node.spool().list(filter).await {
        Ok(deliveries) => Json(Listed { deliveries }).into_response(),
        Err(error) => spool_error(&error),
    }
}

async fn show(State(node): Node, UrlPath(id): UrlPath<String>) -> Response {
    let Some(message) = message_of(&id) else { return no_identifier(&id) };
    let records = match node.spool().records_of(message).await {
        Ok(records) => records,
        Err(error) => return spool_error(&error),
    };
    match node.spool().message(message).await {
        Ok(view) => Json(Shown { message: Some(view), records }).into_response(),
        Err(SpoolError::NoMessage(_)) if !records.is_empty() => {
            Json(Shown { message: None, records }).into_response()
        }
        Err(error) => spool_error(&error),
    }
}

/// The message of an identifier; that of a delivery begins with its message's.
fn message_of(id: &str) -> Option<MessageId> {
    id.split_once('.').map_or(id, |(message, _)| message).parse().ok()
}

fn no_identifier(id: &str) -> Response {
    Refusal::answer(StatusCode::BAD_REQUEST, format!("{id} is not an identifier of this node"))
}

async fn act(State(node): Node, UrlPath((id, action)): UrlPath<(String, Action)>) -> Response {
    let Ok(delivery) = id.parse::<DeliveryId>() else {
        let what = format!(
            "{id} is not the identifier of a delivery (MESSAGE.ROUTE, as `sluis spool list` prints them)"
        );
        return Refusal::answer(StatusCode::BAD_REQUEST, what);
    };
    let spool = node.spool();
    let done = match action {
        Action::Hold => spool.hold(delivery).await,
        Action::Release => spool.release(delivery).await,
        Action::Retry => spool.retry(delivery).await,
        Action::Return => spool.return_(delivery).await,
    };
    match done {
        Ok(()) => {
            if matches!(action, Action::Retry | Action::Release) {
                node.hurry(delivery);
            }
            tracing::info!(%delivery, action = action.as_str(), "operator changed a delivery");
            Json(Acted { delivery, action }).into_response()
        }
        Err(error) => spool_error(&error),
    }
}

async fn scrub(State(node): Node) -> Response {
    match node.spool().scrub().await {
        Ok(scrubbed) => Json(scrubbed).into_response(),
        Err(error) => spool_error(&error),
    }
}

/// The body of `POST /spool/backup`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackUp {
    /// Where the copy goes, on the node's machine: absolute, and not there yet or empty.
    pub dir: PathBuf,
}

async fn back_up(State(node): Node, Json(BackUp { dir }): Json<BackUp>) -> Response {
    if !dir.is_absolute() {
        return Refusal::answer(StatusCode::BAD_REQUEST, format!("{} is no absolute path", dir.display()));
    }
    match node.spool().back_up(dir).await {
        Ok(backed_up) => Json(backed_up).into_response(),
        Err(error) => spool_error(&error),
    }
}

fn spool_error(error: &SpoolError) -> Response {
    let status = match error {
        SpoolError::NoMessage(_) | SpoolError::NoDelivery(_) => StatusCode::NOT_FOUND,
        SpoolError::State { .. } => StatusCode::CONFLICT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Refusal::answer(status, error)
}

/// The envelope of `POST /send`, as a JSON object in the header `sluis-envelope`. It is not in the URL, because URLs end
/// up in logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendEnvelope {
    /// `MAIL FROM`; empty for the null sender.
    pub from: String,
    /// `RCPT TO`; at least one.
    pub to: Vec<String>,
    /// Whether header or addresses hold UTF-8.
    #[serde(default)]
    pub smtputf8: bool,
}

/// The header field that carries a [`SendEnvelope`].
pub const ENVELOPE_HEADER: &str = "sluis-envelope";

async fn send(State(node): Node, request: Request) -> Response {
    let envelope = match envelope_of(&request) {
        Ok(envelope) => envelope,
        Err(what) => return Refusal::answer(StatusCode::BAD_REQUEST, what),
    };
    match node.submit(envelope, stream(request.into_body())).await {
        Ok(submitted) => Json(submitted).into_response(),
        Err(refusal) => {
            let temporary = refusal.temporary;
            let status =
                if temporary { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::UNPROCESSABLE_ENTITY };
            (status, Json(refusal)).into_response()
        }
    }
}

fn envelope_of(request: &Request) -> Result<Envelope, String> {
    let value =
        request.headers().get(ENVELOPE_HEADER).ok_or_else(|| format!("{ENVELOPE_HEADER}: is missing"))?;
    let written: SendEnvelope =
        serde_json::from_slice(value.as_bytes()).map_err(|error| format!("{ENVELOPE_HEADER}: {error}"))?;
    let sender = if written.from.is_empty() {
        crate::model::ReversePath::Null
    } else {
        let address = written.from.parse().map_err(|error| format!("from: {error}"))?;
        crate::model::ReversePath::Address(address)
    };
    if written.to.is_empty() {
        return Err("to: is missing".to_owned());
    }
    let recipient =
        |text: &String| text.parse().map(Recipient::plain).map_err(|error| format!("to {text}: {error}"));
    Ok(Envelope {
        sender,
        recipients: written.to.iter().map(recipient).collect::<Result<_, _>>()?,
        body: crate::model::BodyType::EightBitMime,
        smtputf8: written.smtputf8,
        ret: None,
        envid: None,
    })
}

/// The body, block by block. When the reader goes away the rest is not read.
fn stream(mut body: axum::body::Body) -> ContentStream {
    let (sender, receiver) = mpsc::channel(BLOCKS);
    tokio::spawn(async move {
        while let Some(frame) = body.frame().await {
            let block = match frame {
                Ok(frame) => match frame.into_data() {
                    Ok(data) => Ok(data),
                    Err(_) => continue,
                },
                Err(error) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, error)),
            };
            let broken = block.is_err();
            if sender.send(block).await.is_err() || broken {
                return;
            }
        }
    });
    receiver
}

/// The query of `/explain`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct Explain {
    /// Whether to ask DNS only.
    #[serde(default)]
    dns_only: bool,
}

/// `POST /explain`: the body is a message (`message/rfc822`), of which the header section is read.
async fn explain_message(State(node): Node, Query(how): Query<Explain>, request: Request) -> Response {
    replies(node.explain_message(stream(request.into_body()), how.dns_only).await)
}

/// `GET /explain/ID`: of a message in the spool.
async fn explain_stored(
    State(node): Node,
    UrlPath(id): UrlPath<String>,
    Query(how): Query<Explain>,
) -> Response {
    let Some(message) = message_of(&id) else { return no_identifier(&id) };
    replies(node.explain_stored(message, how.dns_only).await)
}

fn replies(explained: Result<ReplyReport, ReplyRefusal>) -> Response {
    match explained {
        Ok(report) => Json(report).into_response(),
        Err(ReplyRefusal::Spool(error)) => spool_error(&error),
        Err(refusal) => Refusal::answer(StatusCode::UNPROCESSABLE_ENTITY, refusal),
    }
}

/// Reloads a node, and logs and counts how it went.
///
/// # Errors
/// The old configuration stays in force.
pub async fn reload(node: &dyn Operations) -> Result<Reloaded, ReloadRefusal> {
    let result = node.reload().await;
    let metrics = node.observer().metrics();
    match &result {
        Ok(done) => {
            metrics.reload(super::Reload::Taken);
            tracing::info!(
                changed = done.changed.len(),
                needs_restart = done.needs_restart.len(),
                "reloaded"
            );
        }
        Err(refusal) => {
            metrics.reload(super::Reload::Refused);
            tracing::error!(problems = %refusal.problems.join("; "), "reload refused");
        }
    }
    result
}

async fn post_reload(State(node): Node) -> Response {
    match reload(node.as_ref()).await {
        Ok(done) => Json(done).into_response(),
        Err(refusal) => (StatusCode::CONFLICT, Json(refusal)).into_response(),
    }
}
