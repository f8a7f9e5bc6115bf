//! A provider's own filter, as the node asks it: a small HTTP server that looks at each message and has it passed, changed or
//! rejected.
//!
//! It reads a request strictly, on a connection of its own, and answers as it is told; what it was asked is kept.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

/// The most of a message that this server takes.
const MESSAGE_OCTETS_MAX: usize = 256 << 20;

/// Makes another message of one.
pub type Change = fn(&[u8]) -> Vec<u8>;

/// What a filter does with a message.
#[derive(Clone)]
pub enum Answer {
    /// Has it passed.
    Pass,
    /// Puts another one in its place, in chunks of about so many octets.
    Change(Change, usize),
    /// Rejects it, with this reason.
    Reject(&'static str),
    /// Says this, octet for octet.
    Raw(Vec<u8>),
    /// Breaks off after so many octets of a changed message.
    DieAfter(Change, usize),
}

/// What the filter was asked.
#[derive(Debug, Clone)]
pub struct Question {
    /// The first line of the request.
    pub line: String,
    /// Its header fields, names in lower case.
    pub fields: BTreeMap<String, String>,
    /// The message.
    pub message: Vec<u8>,
    /// What was put in its place.
    pub changed: Option<Vec<u8>>,
}

/// A running filter. Dropped, it is gone.
pub struct Hook {
    path: PathBuf,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    answer: Mutex<Answer>,
    questions: Mutex<Vec<Question>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is replaced or extended whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hook {
    /// Listens on the UNIX socket `path`.
    ///
    /// # Errors
    /// It can't.
    pub fn start(path: &Path, answer: Answer) -> io::Result<Self> {
        let listener = UnixListener::bind(path)?;
        let shared = Arc::new(Shared { answer: Mutex::new(answer), questions: Mutex::default() });
        let task = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Ok(Self { path: path.to_owned(), shared, task })
    }

    /// What it does from now on.
    pub fn answer(&self, answer: Answer) {
        *lock(&self.shared.answer) = answer;
    }

    /// What it was asked so far.
    #[must_use]
    pub fn questions(&self) -> Vec<Question> {
        lock(&self.shared.questions).clone()
    }

    /// The section of a node's configuration that has it asked.
    #[must_use]
    pub fn section(&self) -> String {
        let address = toml::Value::from(format!("unix:{}", self.path.display()));
        format!("\n[content_hook]\naddress = {address}\npath = \"/filter\"\n")
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: UnixListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        // A client that breaks the protocol gets no answer.
        tokio::spawn(async move { drop(session(stream, &shared).await) });
    }
}

async fn session(stream: UnixStream, shared: &Shared) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let Some(mut question) = read(&mut stream).await? else { return Ok(()) };
    let answer = lock(&shared.answer).clone();
    let octets = match answer {
        Answer::Pass => b"HTTP/1.1 204 No Content\r\nDate: today\r\n\r\n".to_vec(),
        Answer::Reject(reason) => format!(
            "HTTP/1.1 422 Unprocessable\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\r\n{reason}",
            reason.len()
        )
        .into_bytes(),
        Answer::Raw(octets) => octets,
        Answer::Change(change, step) => {
            let changed = change(&question.message);
            let octets = in_chunks(&changed, step);
            question.changed = Some(changed);
            octets
        }
        Answer::DieAfter(change, octets) => {
            let mut whole = in_chunks(&change(&question.message), 100);
            whole.truncate(octets);
            whole
        }
    };
    lock(&shared.questions).push(question);
    stream.write_all(&octets).await?;
    stream.shutdown().await
}

/// Reads a request; `None` when somebody only looked whether we are here.
async fn read(stream: &mut BufReader<UnixStream>) -> io::Result<Option<Question>> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return if lines.is_empty() { Ok(None) } else { Err(bad("half a head")) };
        }
        let line = line.strip_suffix("\r\n").ok_or_else(|| bad("a line without CRLF"))?;
        if line.is_empty() {
            break;
        }
        lines.push(line.to_owned());
    }
    let mut fields = BTreeMap::new();
    for line in lines.iter().skip(1) {
        let (name, value) = line.split_once(": ").ok_or_else(|| bad("no field"))?;
        if fields.insert(name.to_ascii_lowercase(), value.to_owned()).is_some() {
            return Err(bad("a field twice"));
        }
    }
    let length = fields.get("content-length").and_then(|length| length.parse().ok());
    let length: usize =
        length.filter(|&length| length <= MESSAGE_OCTETS_MAX).ok_or_else(|| bad("no length"))?;
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(Some(Question { line: lines.swap_remove(0), fields, message, changed: None }))
}

fn in_chunks(message: &[u8], step: usize) -> Vec<u8> {
    let mut out = b"HTTP/1.1 200 OK\r\nServer: filter\r\nContent-Type: message/rfc822\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for chunk in message.chunks(step.max(1)) {
        out.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

/// The digest of a message, as the node writes it.
#[must_use]
pub fn sha256(message: &[u8]) -> String {
    let hex: String = digest(&SHA256, message).as_ref().iter().map(|octet| format!("{octet:02x}")).collect();
    format!("sha256:{hex}")
}
