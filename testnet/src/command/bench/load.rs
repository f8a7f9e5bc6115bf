//! The load generator: so many connections that submit messages one after the other, as Postfix's `smtp-source -d` does,
//! with STARTTLS where that has none.
//!
//! The same for every server that is measured. Each command waits for the reply to the one before it; nothing is pipelined,
//! because `smtp-source` does not either. Connecting and the handshakes are inside the measured time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::pki_types::ServerName;
use testnet::net::anybody;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsConnector;

use super::super::Failure;

/// How long a server may take over one reply.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(500);
/// Line of the content: 76 octets and CRLF, as base64 has them.
pub const LINE: &[u8; 78] =
    b"QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5ejAxMjM0\r\n";
/// Digits of the number that makes each message another one.
const DIGITS: usize = 10;

/// What is sent where.
#[derive(Debug, Clone)]
pub struct Load {
    /// The server.
    pub server: SocketAddr,
    /// Its name, for TLS; in clear text if there is none.
    pub tls: Option<String>,
    /// Connections at once.
    pub connections: usize,
    /// Messages in all.
    pub messages: usize,
    /// Messages after which a connection is closed and another one opened.
    pub per_connection: usize,
    /// Octets of each message.
    pub octets: usize,
    /// Envelope sender, and author.
    pub sender: String,
    /// Recipients; each message goes to one, in turn.
    pub recipients: Vec<String>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Sent {
    /// From the first connection to the last reply.
    pub elapsed: Duration,
    /// Positive replies to the end of content.
    pub acknowledged: usize,
    /// How long each of them took, from the last octet of content.
    pub replies: Vec<Duration>,
}

impl Sent {
    /// Acknowledged messages per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.acknowledged as f64 / self.elapsed.as_secs_f64()
    }
}

impl Load {
    /// Sends everything; `progress` hears how many messages are acknowledged, now and then.
    ///
    /// # Errors
    /// A connection broke, or a server said anything but yes: then there is nothing to measure.
    pub async fn run(&self, mut progress: impl FnMut(usize)) -> Result<Sent, Failure> {
        let shared = Arc::new(Shared {
            load: self.clone(),
            tls: self.tls.is_some().then(connector).transpose()?,
            next: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
        });
        let started = Instant::now();
        let mut tasks = JoinSet::new();
        for _ in 0..self.connections.min(self.messages) {
            tasks.spawn(client(Arc::clone(&shared)));
        }
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sent = Sent::default();
        loop {
            tokio::select! {
                ended = tasks.join_next() => match ended {
                    None => break,
                    Some(ended) => sent.replies.extend(ended.map_err(broken)??),
                },
                _ = looks.tick() => progress(shared.done.load(Ordering::Relaxed)),
            }
        }
        sent.elapsed = started.elapsed();
        sent.acknowledged = sent.replies.len();
        Ok(sent)
    }
}

/// What the connections of one load have in common.
struct Shared {
    load: Load,
    tls: Option<TlsConnector>,
    /// Number of the next message.
    next: AtomicUsize,
    /// Acknowledged messages.
    done: AtomicUsize,
}

impl Shared {
    /// The number of a message nobody else sends, while there are any.
    fn take(&self) -> Option<usize> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        (number < self.load.messages).then_some(number)
    }
}

/// One connection after the other, until there is nothing left to send.
async fn client(shared: Arc<Shared>) -> Result<Vec<Duration>, Failure> {
    let mut wire = Wire::new(&shared.load);
    let mut replies = Vec::new();
    let mut next = shared.take();
    while let Some(first) = next {
        let load = &shared.load;
        let stream = TcpStream::connect(load.server).await.map_err(broken)?;
        // Commands are short, and each waits for the reply to the one before it.
        stream.set_nodelay(true).map_err(broken)?;
        let mut clear = Session::new(stream);
        clear.expect(b"", "220").await?;
        clear.expect(b"EHLO platform.invalid\r\n", "250").await?;
        next = match (&shared.tls, &load.tls) {
            (Some(tls), Some(name)) => {
                clear.expect(b"STARTTLS\r\n", "220").await?;
                let name = ServerName::try_from(name.clone()).map_err(broken)?;
                let stream = tls.connect(name, clear.stream.into_inner()).await.map_err(broken)?;
                let mut secured = Session::new(stream);
                secured.expect(b"EHLO platform.invalid\r\n", "250").await?;
                secured.messages(&shared, first, &mut wire, &mut replies).await?
            }
            _ => clear.messages(&shared, first, &mut wire, &mut replies).await?,
        };
    }
    Ok(replies)
}

/// A message as it goes over the wire. Only its number changes; no line begins with a dot.
struct Wire {
    octets: Vec<u8>,
    /// Where the number stands.
    number: usize,
}

impl Wire {
    fn new(load: &Load) -> Self {
        let head = format!(
            "From: <{0}>\r\nTo: undisclosed-recipients:;\r\nSubject: load\r\nDate: Sun, 22 Nov 2026 12:00:00 +0000\r\n\
             Message-ID: <",
            load.sender
        );
        let number = head.len();
        let mut octets = head.into_bytes();
        octets.extend_from_slice(format!("{:0DIGITS$}.load@{}>\r\n\r\n", 0, domain(&load.sender)).as_bytes());
        while octets.len() + LINE.len() <= load.octets {
            octets.extend_from_slice(LINE);
        }
        // The last line is as long as it has to be for the size that was asked for.
        let rest = load.octets.saturating_sub(octets.len() + 2);
        octets.extend_from_slice(&LINE[..rest.min(LINE.len() - 2)]);
        octets.extend_from_slice(b"\r\n.\r\n");
        Self { octets, number }
    }

    fn of(&mut self, number: usize) -> &[u8] {
        self.octets[self.number..self.number + DIGITS]
            .copy_from_slice(format!("{number:0DIGITS$}").as_bytes());
        &self.octets
    }
}

fn domain(address: &str) -> &str {
    address.split_once('@').map_or("", |(_, domain)| domain)
}

struct Session<S> {
    stream: BufReader<S>,
    line: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    fn new(stream: S) -> Self {
        Self { stream: BufReader::new(stream), line: Vec::new() }
    }

    /// Sends messages from number `first` on, as many as one connection carries; returns the number that comes next.
    async fn messages(
        &mut self,
        shared: &Shared,
        first: usize,
        wire: &mut Wire,
        replies: &mut Vec<Duration>,
    ) -> Result<Option<usize>, Failure> {
        let load = &shared.load;
        let mail = format!("MAIL FROM:<{}>\r\n", load.sender);
        let mut next = Some(first);
        for _ in 0..load.per_connection {
            let Some(number) = next else { break };
            let recipient = &load.recipients[number % load.recipients.len()];
            self.expect(mail.as_bytes(), "250").await?;
            self.expect(format!("RCPT TO:<{recipient}>\r\n").as_bytes(), "250").await?;
            self.expect(b"DATA\r\n", "354").await?;
            self.send(wire.of(number)).await?;
            let ended = Instant::now();
            self.reply("250").await?;
            replies.push(ended.elapsed());
            shared.done.fetch_add(1, Ordering::Relaxed);
            next = shared.take();
        }
        self.expect(b"QUIT\r\n", "221").await?;
        Ok(next)
    }

    async fn expect(&mut self, command: &[u8], code: &str) -> Result<(), Failure> {
        self.send(command).await?;
        self.reply(code).await
    }

    async fn send(&mut self, octets: &[u8]) -> Result<(), Failure> {
        if octets.is_empty() {
            return Ok(());
        }
        let sent = async {
            self.stream.write_all(octets).await?;
            self.stream.flush().await
        };
        timeout(PATIENCE, sent).await.map_err(broken)?.map_err(broken)
    }

    async fn reply(&mut self, code: &str) -> Result<(), Failure> {
        loop {
            self.line.clear();
            let read = timeout(PATIENCE, self.stream.read_until(b'\n', &mut self.line)).await;
            let read = read.map_err(broken)?.map_err(broken)?;
            if read == 0 || !self.line.starts_with(code.as_bytes()) {
                let said = String::from_utf8_lossy(&self.line).trim_end().to_owned();
                return Err(broken(format!("instead of {code} the server said {said:?}")));
            }
            if self.line.get(3) != Some(&b'-') {
                return Ok(());
            }
        }
    }
}

fn broken(why: impl std::fmt::Display) -> Failure {
    Failure::Tool { what: "sending the load", why: why.to_string() }
}

/// Which server this is, is not what is measured.
fn connector() -> Result<TlsConnector, Failure> {
    Ok(TlsConnector::from(Arc::new(anybody::client(None)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(octets: usize) -> Load {
        Load {
            server: ([127, 0, 0, 1], 25).into(),
            tls: None,
            connections: 1,
            messages: 1,
            per_connection: 1,
            octets,
            sender: "a@a.nl".to_owned(),
            recipients: vec!["b@b.nl".to_owned()],
        }
    }

    #[test]
    fn a_message_has_the_size_that_was_asked_for_and_its_own_number() {
        for octets in [300, 301, 378, 379, 2_048, 20_480] {
            let mut wire = Wire::new(&load(octets));
            let first = wire.of(1).to_vec();
            let second = wire.of(2).to_vec();
            assert_eq!(first.len(), octets + b".\r\n".len(), "{octets}");
            assert_ne!(first, second);
            let text = String::from_utf8_lossy(&second);
            assert!(text.contains("Message-ID: <0000000002.load@a.nl>\r\n\r\n"), "{text}");
            assert!(text.ends_with("\r\n.\r\n"));
            assert!(
                text.trim_end_matches(".\r\n").lines().all(|line| !line.starts_with('.') && line.len() < 120)
            );
        }
    }
}
