//! A hook in memory that says what it is told to say, to the octet.
#![allow(clippy::unwrap_used)]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use crate::world::{Link, Network};

/// What one side can send before the other one reads.
pub(crate) const WINDOW: usize = 4096;

/// What the hook does with every question.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// What it answers, octet for octet.
    pub(crate) answer: Vec<u8>,
    /// How much of the message it reads before.
    pub(crate) reads: Reads,
    /// Whether it closes the connection then; otherwise it waits until the other side has.
    pub(crate) closes: bool,
}

/// How much a hook reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    Nothing,
    Head,
    All,
}

impl Script {
    /// Reads all, answers, closes.
    pub(crate) fn saying(answer: impl Into<Vec<u8>>) -> Self {
        Self { answer: answer.into(), reads: Reads::All, closes: true }
    }
}

/// An answer without a body.
pub(crate) const PASS: &str = "HTTP/1.1 204 No Content\r\n\r\n";

/// An answer that changes the message.
pub(crate) fn changed(message: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: message/rfc822\r\nContent-Length: {}\r\n\r\n",
        message.len()
    );
    [head.as_bytes(), message].concat()
}

/// The same in chunks of `step` octets.
pub(crate) fn in_chunks(message: &[u8], step: usize) -> Vec<u8> {
    let mut out =
        b"HTTP/1.1 200 OK\r\nContent-Type: message/rfc822\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for chunk in message.chunks(step) {
        out.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        out.extend(chunk);
        out.extend(b"\r\n");
    }
    out.extend(b"0\r\n\r\n");
    out
}

/// An answer that rejects the message.
pub(crate) fn rejecting(status: u16, words: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status} No\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\r\n{words}",
        words.len()
    )
    .into_bytes()
}

/// A hook, and the network on which it is. Clones are handles to the same one.
#[derive(Clone)]
pub(crate) struct FakeHook(Arc<Mutex<State>>);

struct State {
    script: Option<Script>,
    heard: Vec<Vec<u8>>,
}

impl FakeHook {
    pub(crate) fn new(script: Script) -> Self {
        Self(Arc::new(Mutex::new(State { script: Some(script), heard: Vec::new() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// From now on; `None`: nobody listens.
    pub(crate) fn script(&self, script: Option<Script>) {
        self.state().script = script;
    }

    /// The questions so far, head and body as far as they were read.
    pub(crate) fn heard(&self) -> Vec<Vec<u8>> {
        self.state().heard.clone()
    }

    /// The body of the last question.
    pub(crate) fn last_body(&self) -> Vec<u8> {
        let question = self.state().heard.last().unwrap().clone();
        let end = memchr::memmem::find(&question, b"\r\n\r\n").unwrap() + 4;
        question[end..].to_vec()
    }

    async fn serve(self, mut stream: DuplexStream, script: Script) -> io::Result<()> {
        let question = read(&mut stream, script.reads).await?;
        self.state().heard.push(question);
        stream.write_all(&script.answer).await?;
        if !script.closes {
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await?;
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

async fn read(stream: &mut DuplexStream, reads: Reads) -> io::Result<Vec<u8>> {
    let mut question = Vec::new();
    let mut wanted = (reads != Reads::Nothing).then_some(usize::MAX);
    while wanted.is_some_and(|wanted| question.len() < wanted) {
        let mut piece = vec![0; if reads == Reads::Head { 1 } else { WINDOW }];
        let count = stream.read(&mut piece).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        question.extend(&piece[..count]);
        let Some(end) = memchr::memmem::find(&question, b"\r\n\r\n") else { continue };
        let head = String::from_utf8(question[..end].to_vec()).unwrap().to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let body = if reads == Reads::All { length.parse::<usize>().unwrap() } else { 0 };
        wanted = Some(end + 4 + body);
    }
    Ok(question)
}

#[async_trait]
impl Network for FakeHook {
    async fn connect(&self, _target: SocketAddr, _source: Option<IpAddr>) -> io::Result<Link> {
        let Some(script) = self.state().script.clone() else {
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        let (near, far) = duplex(WINDOW);
        // Whoever asked may be gone.
        tokio::spawn(self.clone().serve(far, script));
        Ok(Box::new(near))
    }
}
