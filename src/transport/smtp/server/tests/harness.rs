//! The gate of the tests, and clients that write a script and read the answer.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::super::connected::Connected;
use super::super::dialogue::{Dialogue, Ended, Tally};
use super::super::gate::{Content, Gate, SecuredSession, SessionId};
use super::super::link::{Link, Stop};
use super::super::settings::Settings;
use crate::model::Recipient;
use crate::transport::smtp::Reply;
use crate::transport::smtp::command::Mail;
use crate::transport::tls::ServerTls;
use crate::transport::tls::testing::leaf;

/// What the gate was asked, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Admit,
    InClear { helo: String, sender: String },
    Secured { certificates: usize },
    Mail(String),
    Rcpt(String),
    Content { sender: String, recipients: Vec<String> },
    Finished,
    Abandoned(u16),
}

/// A message that was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) sender: String,
    pub(super) recipients: Vec<String>,
    pub(super) content: Vec<u8>,
}

/// Says no to whom it is told to: senders and recipients named `no`, `later`, `bye`, transactions with a recipient `nodata`,
/// content with the words `WRITE-NO` and `FINISH-NO`.
#[derive(Clone, Default)]
pub(super) struct TestGate {
    asked: Arc<Mutex<Vec<Asked>>>,
    accepted: Arc<Mutex<Vec<Message>>>,
    largest_write: Arc<AtomicUsize>,
    admits_nobody: bool,
}

impl TestGate {
    /// Turns every connection away.
    pub(super) fn closed() -> Self {
        Self { admits_nobody: true, ..Self::default() }
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub(super) fn accepted(&self) -> Vec<Message> {
        self.accepted.lock().unwrap().clone()
    }

    /// The most octets the gate was given at once.
    pub(super) fn largest_write(&self) -> usize {
        self.largest_write.load(Ordering::SeqCst)
    }

    fn note(&self, asked: Asked) {
        self.asked.lock().unwrap().push(asked);
    }
}

/// What the names mean.
pub(super) fn verdict(address: &str) -> Result<(), Reply> {
    match address.split('@').next().unwrap() {
        "no" => Err(Reply::sanitised(550, (5, 7, 1), "no")),
        "later" => Err(Reply::sanitised(451, (4, 7, 1), "later")),
        "bye" => Err(Reply::sanitised(421, (4, 7, 0), "bye")),
        "bug" => Err(Reply::sanitised(250, (2, 0, 0), "a positive refusal")),
        _ => Ok(()),
    }
}

pub(super) struct Transaction {
    sender: String,
    recipients: Vec<String>,
}

#[async_trait]
impl Gate for TestGate {
    type Peer = ();
    type Transaction = Transaction;

    async fn admit(&self, _from: SocketAddr) -> Result<(), Reply> {
        self.note(Asked::Admit);
        if self.admits_nobody { Err(Reply::sanitised(554, (5, 7, 1), "not you")) } else { Ok(()) }
    }

    async fn in_clear(&self, _from: SocketAddr, helo: &str, mail: &Mail, why: &Reply) {
        assert_eq!(why.code(), 530);
        self.note(Asked::InClear { helo: helo.to_owned(), sender: mail.sender.to_string() });
    }

    async fn secured(&self, session: &SecuredSession) {
        self.note(Asked::Secured { certificates: session.tls.chain().len() });
    }

    fn keywords(&self, (): &()) -> Vec<String> {
        vec!["XPEERLEVEL mutual a.nl".to_owned()]
    }

    async fn mail(&self, (): &(), _helo: &str, mail: &Mail) -> Result<Transaction, Reply> {
        self.note(Asked::Mail(mail.sender.to_string()));
        verdict(&mail.sender.to_string())?;
        Ok(Transaction { sender: mail.sender.to_string(), recipients: Vec::new() })
    }

    async fn rcpt(&self, (): &(), transaction: &mut Transaction, recipient: &Recipient) -> Result<(), Reply> {
        self.note(Asked::Rcpt(recipient.address.to_string()));
        verdict(&recipient.address.to_string())?;
        transaction.recipients.push(recipient.address.to_string());
        Ok(())
    }

    async fn content(&self, (): &(), transaction: Transaction) -> Result<Box<dyn Content>, Reply> {
        let Transaction { sender, recipients } = transaction;
        self.note(Asked::Content { sender: sender.clone(), recipients: recipients.clone() });
        if recipients.iter().any(|recipient| recipient.starts_with("nodata@")) {
            return Err(Reply::sanitised(452, (4, 3, 1), "no room"));
        }
        Ok(Box::new(Store {
            gate: self.clone(),
            message: Message { sender, recipients, content: Vec::new() },
        }))
    }
}

struct Store {
    gate: TestGate,
    message: Message,
}

pub(super) fn holds(content: &[u8], word: &str) -> bool {
    memchr::memmem::find(content, word.as_bytes()).is_some()
}

#[async_trait]
impl Content for Store {
    async fn write(&mut self, octets: &[u8]) -> Result<(), Reply> {
        self.gate.largest_write.fetch_max(octets.len(), Ordering::SeqCst);
        self.message.content.extend_from_slice(octets);
        if holds(&self.message.content, "WRITE-NO") {
            return Err(Reply::sanitised(554, (5, 7, 0), "not that"));
        }
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<Reply, Reply> {
        self.gate.note(Asked::Finished);
        if holds(&self.message.content, "FINISH-NO") {
            return Err(Reply::sanitised(452, (4, 3, 1), "disk full"));
        }
        self.gate.accepted.lock().unwrap().push(self.message);
        Ok(Reply::sanitised(250, (2, 6, 0), "stored"))
    }

    async fn abandon(self: Box<Self>, why: &Reply) {
        self.gate.note(Asked::Abandoned(why.code()));
    }
}

pub(super) fn settings() -> Settings {
    Settings::new("mx.b.nl".parse().unwrap())
}

/// A client at one end of a pipe, a session at the other.
pub(super) struct Client {
    reader: ReadHalf<DuplexStream>,
    writer: WriteHalf<DuplexStream>,
    pub(super) gate: TestGate,
    pub(super) stop: Stop,
    session: JoinHandle<Ended>,
}

const PIPE_OCTETS: usize = 4 << 20;

fn client(gate: TestGate, stop: Stop, near: DuplexStream, session: JoinHandle<Ended>) -> Client {
    let (reader, writer) = split(near);
    Client { reader, writer, gate, stop, session }
}

/// A session that has just been secured. How that comes about is the subject of `clear` and `listener`.
pub(super) fn secured(settings: Settings) -> Client {
    let (near, far) = duplex(PIPE_OCTETS);
    let (gate, stop) = (TestGate::default(), Stop::default());
    let (theirs, ends) = (gate.clone(), Instant::now() + settings.session_time);
    let link = Link::new(far, Arc::new(settings), stop.clone(), ends);
    let session = tokio::spawn(async move {
        Dialogue { link, gate: &theirs, peer: (), tally: Tally::default() }.run().await
    });
    client(gate, stop, near, session)
}

/// A session at its very beginning.
pub(super) fn connected(settings: Settings, gate: TestGate) -> Client {
    let (near, far) = duplex(PIPE_OCTETS);
    let (stop, theirs) = (Stop::default(), gate.clone());
    let connected = Connected {
        stream: far,
        id: SessionId(7),
        remote: "127.0.0.9:999".parse().unwrap(),
        local: "127.0.0.1:25".parse().unwrap(),
        settings: Arc::new(settings),
        stop: stop.clone(),
    };
    let tls = ServerTls::new(leaf(&["mx.b.nl"]).ring());
    let session = tokio::spawn(async move { connected.serve(&theirs, &tls).await });
    client(gate, stop, near, session)
}

impl Client {
    pub(super) async fn send(&mut self, text: impl AsRef<[u8]>) {
        self.try_send(text).await.unwrap();
    }

    /// Sends, if the session still listens.
    pub(super) async fn try_send(&mut self, text: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.writer.write_all(text.as_ref()).await
    }

    /// Reads until a reply is complete; gives its last line.
    pub(super) async fn reply(&mut self) -> String {
        self.whole_reply().await.pop().unwrap()
    }

    /// All lines of one reply, without CRLF.
    pub(super) async fn whole_reply(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                line.push(self.reader.read_u8().await.unwrap());
            }
            let line = String::from_utf8(line).unwrap().trim_end().to_owned();
            let last = line.as_bytes()[3] == b' ';
            lines.push(line);
            if last {
                return lines;
            }
        }
    }

    /// Sends a command and reads its reply.
    pub(super) async fn ask(&mut self, command: &str) -> String {
        self.send(format!("{command}\r\n")).await;
        self.reply().await
    }

    /// Sends commands one by one and expects these codes.
    pub(super) async fn expect(&mut self, exchanges: &[(&str, &str)]) {
        for (command, reply) in exchanges {
            let found = self.ask(command).await;
            assert!(found.starts_with(reply), "{command}: expected {reply}, found {found}");
        }
    }

    /// Closes the client's side, reads what is left, and waits for the session: code of each reply, and how it ended.
    pub(super) async fn finish(mut self) -> (Vec<u16>, Ended) {
        // The session may have closed before us.
        let _ = self.writer.shutdown().await;
        self.rest().await
    }

    /// Reads what is left without closing first.
    pub(super) async fn rest(mut self) -> (Vec<u16>, Ended) {
        let mut text = String::new();
        self.reader.read_to_string(&mut text).await.unwrap();
        (codes(&text), self.session.await.unwrap())
    }

    /// Vanishes, as a client does whose machine lost power.
    pub(super) async fn vanish(self) -> Ended {
        drop((self.reader, self.writer));
        self.session.await.unwrap()
    }
}

/// The code of each reply in a text.
pub(super) fn codes(text: &str) -> Vec<u16> {
    assert!(text.is_empty() || text.ends_with("\r\n"), "{text:?}");
    text.split_terminator("\r\n")
        .filter(|line| line.as_bytes()[3] == b' ')
        .map(|line| line[..3].parse().unwrap())
        .collect()
}

/// Runs a whole script, pipelined, against a secured session.
pub(super) async fn pipelined(settings: Settings, script: &[u8]) -> (Vec<u16>, Ended, TestGate) {
    let mut client = secured(settings);
    let gate = client.gate.clone();
    client.send(script).await;
    let (codes, ended) = client.finish().await;
    (codes, ended, gate)
}
