//! An SMTP client with STARTTLS that believes any server: the platform of a provider, and clients that misbehave.
//!
//! Deliberately not the node's code, and deliberately without checks: what a server does is for the cases to judge.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{NetError, anybody};
use crate::pki::Identity;

/// For any single reply, and for each piece of content to be taken.
const PATIENCE: Duration = Duration::from_secs(60);
/// Content is sent in pieces of this many octets.
const PIECE: usize = 64 * 1_024;

/// A reply: code and text of all lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The three digits.
    pub code: u16,
    /// The lines without codes.
    pub lines: Vec<String>,
}

impl Reply {
    /// The lines, joined by blanks.
    pub fn text(&self) -> String {
        self.lines.join(" ")
    }
}

/// What became of an offered message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// The command whose reply ended it: `MAIL`, `RCPT`, `DATA` or `content` (which all of BDAT is).
    pub step: &'static str,
    /// That reply.
    pub reply: Reply,
}

/// Who is told to send to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Reverse-path; empty for the null sender.
    pub sender: String,
    /// Parameters of MAIL, as sent.
    pub parameters: Vec<String>,
    /// In the order of RCPT.
    pub recipients: Vec<Recipient>,
}

/// One recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// Forward-path.
    pub address: String,
    /// Parameters of RCPT, as sent.
    pub parameters: Vec<String>,
}

impl Envelope {
    /// One sender, one recipient, and `BODY=8BITMIME` if `content` needs it.
    #[must_use]
    pub fn plain(sender: &str, recipient: &str, content: &[u8]) -> Self {
        let parameters = if content.is_ascii() { Vec::new() } else { vec!["BODY=8BITMIME".to_owned()] };
        let recipient = Recipient { address: recipient.to_owned(), parameters: Vec::new() };
        Self { sender: sender.to_owned(), parameters, recipients: vec![recipient] }
    }
}

/// How content is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carriage {
    /// DATA, with dots doubled.
    Data,
    /// DATA, as it stands: no dot is doubled, whatever comes of it.
    Verbatim,
    /// BDAT, in chunks of this many octets, the last one marked.
    Chunks(usize),
}

/// A connection that broke during a transaction.
#[derive(Debug)]
pub struct Broken {
    /// What was under way: `MAIL`, `RCPT`, `DATA`, `content`, or `reply` when the whole content had been sent.
    pub step: &'static str,
    /// How it broke.
    pub error: NetError,
}

/// Where to connect to, and as whom.
pub struct Call<'a> {
    /// The server's address.
    pub address: SocketAddr,
    /// The server's name, for SNI.
    pub server: &'a str,
    /// What to say in EHLO.
    pub helo: &'a str,
    /// The client certificate, if any.
    pub identity: Option<&'a Identity>,
}

/// A session with a server, inside TLS.
pub struct Client<S> {
    stream: BufStream<S>,
    /// The EHLO keywords the server offers inside TLS, without its greeting.
    keywords: Vec<String>,
    /// What the server showed.
    certificate: Option<CertificateDer<'static>>,
}

/// A session as [`connect`] opens it.
pub type Session = Client<tokio_rustls::client::TlsStream<TcpStream>>;

/// Connects, does STARTTLS, and says EHLO again.
///
/// # Errors
/// The server does not get as far.
pub async fn connect(call: &Call<'_>) -> Result<Session, NetError> {
    let Call { address, server, helo, identity } = *call;
    let stream = TcpStream::connect(address).await.map_err(NetError::machine(format!("{address}")))?;
    // Commands are short, and each waits for the reply to the one before it.
    stream.set_nodelay(true).map_err(NetError::machine(format!("{address}")))?;
    let mut clear = Client::new(stream);
    clear.expect("", 220).await?;
    let offered = clear.expect(&format!("EHLO {helo}"), 250).await?.text();
    if offered.contains("XPEERLEVEL") {
        let what = "EHLO in clear text".to_owned();
        return Err(NetError::Machine { what, why: "it already speaks of a level".to_owned() });
    }
    clear.expect("STARTTLS", 220).await?;
    let connector = TlsConnector::from(Arc::new(anybody::client(identity)?));
    let name = ServerName::try_from(server.to_owned()).map_err(NetError::machine(server))?;
    let handshake = connector.connect(name, clear.stream.into_inner());
    let stream = timeout(PATIENCE, handshake)
        .await
        .map_err(|_| late("the TLS handshake"))?
        .map_err(NetError::machine(format!("TLS with {address}")))?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first().cloned());
    let mut client = Client::new(stream);
    client.certificate = certificate;
    client.keywords = client.expect(&format!("EHLO {helo}"), 250).await?.lines.split_off(1);
    Ok(client)
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    fn new(stream: S) -> Self {
        Self { stream: BufStream::new(stream), keywords: Vec::new(), certificate: None }
    }

    /// The certificate the server showed.
    pub fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.certificate.as_ref()
    }

    /// The EHLO keywords the server offers inside TLS.
    pub fn keywords(&self) -> &[String] {
        &self.keywords
    }

    /// Offers a message in a transaction of its own. The session goes on, whatever the answer.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn offer(
        &mut self,
        envelope: &Envelope,
        content: &[u8],
        carriage: Carriage,
    ) -> Result<Offered, NetError> {
        self.transact(envelope, content, carriage).await.map_err(|broken| broken.error)
    }

    /// The same; an error has the step at which the connection broke.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn transact(
        &mut self,
        envelope: &Envelope,
        content: &[u8],
        carriage: Carriage,
    ) -> Result<Offered, Broken> {
        let words = |parameters: &[String]| -> String {
            parameters.iter().map(|parameter| format!(" {parameter}")).collect()
        };
        let mail = format!("MAIL FROM:<{}>{}", envelope.sender, words(&envelope.parameters));
        let mut steps = vec![("MAIL", mail)];
        steps.extend(envelope.recipients.iter().map(|Recipient { address, parameters }| {
            ("RCPT", format!("RCPT TO:<{address}>{}", words(parameters)))
        }));
        for (step, command) in steps {
            let reply = self.command(&command).await.map_err(|error| Broken { step, error })?;
            if reply.code != 250 {
                return Ok(Offered { step, reply });
            }
        }
        match carriage {
            Carriage::Data => self.data(&dotted(content)).await,
            Carriage::Verbatim => self.data(&[content, b"\r\n.\r\n"].concat()).await,
            Carriage::Chunks(size) => self.chunks(content, size).await,
        }
    }

    /// Says good-bye. The verdicts are there; a server that hangs up first changes nothing in them.
    pub async fn quit(mut self) {
        let _ = self.command("QUIT").await;
    }

    async fn data(&mut self, wire: &[u8]) -> Result<Offered, Broken> {
        let reply = self.command("DATA").await.map_err(|error| Broken { step: "DATA", error })?;
        if reply.code != 354 {
            return Ok(Offered { step: "DATA", reply });
        }
        self.write(wire).await.map_err(|error| Broken { step: "content", error })?;
        let reply = self.reply().await.map_err(|error| Broken { step: "reply", error })?;
        Ok(Offered { step: "content", reply })
    }

    /// The reply to the last chunk, or to the first one that was refused.
    async fn chunks(&mut self, content: &[u8], size: usize) -> Result<Offered, Broken> {
        let mut rest = content;
        loop {
            let (chunk, after) = rest.split_at(rest.len().min(size));
            let last = if after.is_empty() { " LAST" } else { "" };
            let wire = [format!("BDAT {}{last}\r\n", chunk.len()).as_bytes(), chunk].concat();
            self.write(&wire).await.map_err(|error| Broken { step: "content", error })?;
            let step = if after.is_empty() { "reply" } else { "content" };
            let reply = self.reply().await.map_err(|error| Broken { step, error })?;
            if reply.code != 250 || after.is_empty() {
                return Ok(Offered { step: "content", reply });
            }
            rest = after;
        }
    }

    async fn expect(&mut self, command: &str, code: u16) -> Result<Reply, NetError> {
        let reply = if command.is_empty() { self.reply().await? } else { self.command(command).await? };
        if reply.code == code {
            return Ok(reply);
        }
        Err(NetError::Machine {
            what: if command.is_empty() { "greeting".to_owned() } else { command.to_owned() },
            why: format!("{} {}", reply.code, reply.text()),
        })
    }

    /// Sends one line, and reads the reply.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn command(&mut self, line: &str) -> Result<Reply, NetError> {
        self.write(format!("{line}\r\n").as_bytes()).await?;
        self.reply().await
    }

    /// Sends octets as they are.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn write(&mut self, octets: &[u8]) -> Result<(), NetError> {
        for piece in octets.chunks(PIECE) {
            let sent = timeout(PATIENCE, self.stream.write_all(piece)).await;
            sent.map_err(|_| late("sending"))?.map_err(NetError::machine("sending"))?;
        }
        let sent = timeout(PATIENCE, self.stream.flush()).await;
        sent.map_err(|_| late("sending"))?.map_err(NetError::machine("sending"))
    }

    /// Reads a reply.
    ///
    /// # Errors
    /// The connection broke, or it is none.
    pub async fn reply(&mut self) -> Result<Reply, NetError> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let read = timeout(PATIENCE, self.stream.read_line(&mut line)).await;
            let read = read.map_err(|_| late("a reply"))?.map_err(NetError::machine("reading a reply"))?;
            if read == 0 {
                return Err(NetError::Machine {
                    what: "reading a reply".to_owned(),
                    why: "the server closed the connection".to_owned(),
                });
            }
            let line = line.trim_end();
            let Some(code) = line.get(..3).and_then(|digits| digits.parse().ok()) else {
                return Err(NetError::Machine { what: "a reply".to_owned(), why: format!("{line:?}") });
            };
            lines.push(line.get(4..).unwrap_or_default().to_owned());
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(Reply { code, lines });
            }
        }
    }
}

fn late(what: &str) -> NetError {
    NetError::Machine { what: what.to_owned(), why: "it took more than a minute".to_owned() }
}

/// Content as it goes over the wire: dots at line starts doubled, and the line that ends it (RFC 5321 section 4.5.2). Only
/// CRLF ends a line. Content whose last line has no end gets one, since without it there is no end of DATA either.
fn dotted(content: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(content.len() + 64);
    let mut at_line_start = true;
    for piece in content.split_inclusive(|octet| *octet == b'\n') {
        if at_line_start && piece.starts_with(b".") {
            wire.push(b'.');
        }
        wire.extend_from_slice(piece);
        at_line_start = piece.ends_with(b"\r\n");
    }
    wire.extend_from_slice(if at_line_start { b".\r\n" } else { b"\r\n.\r\n" });
    wire
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[test]
    fn dots_at_line_starts_are_doubled_and_nothing_else_changes() {
        assert_eq!(dotted(b"a\r\n.b\r\n..\r\n"), b"a\r\n..b\r\n...\r\n.\r\n");
        assert_eq!(dotted(b".\r\n"), b"..\r\n.\r\n");
        assert_eq!(dotted(b"a. \r\n"), b"a. \r\n.\r\n");
        assert_eq!(dotted(b""), b".\r\n");
        assert_eq!(dotted(b"a"), b"a\r\n.\r\n");
        assert_eq!(dotted(b"a\n.\nb\r\n"), b"a\n.\nb\r\n.\r\n", "a LF alone ends no line");
    }

    /// What a client makes of a server that says `words` whatever it hears.
    async fn offer_to(words: &str, carriage: Carriage) -> (Result<Offered, NetError>, String) {
        let (ours, mut theirs) = tokio::io::duplex(4_096);
        theirs.write_all(words.as_bytes()).await.unwrap();
        let mut client = Client::new(ours);
        let hearing = tokio::spawn(async move {
            let mut heard = String::new();
            // The other half stays open until the client is done; then its end is the end of what was said.
            theirs.read_to_string(&mut heard).await.unwrap();
            heard
        });
        let envelope = Envelope::plain("a@a.nl", "b@b.nl", b"x\r\n");
        let offered = client.offer(&envelope, b"x\r\n", carriage).await;
        // After nonsense nobody waits for a good-bye.
        match &offered {
            Ok(_) => client.quit().await,
            Err(_) => drop(client),
        }
        (offered, hearing.await.unwrap())
    }

    #[tokio::test]
    async fn the_reply_that_ends_it_is_reported_with_its_step() {
        let (offered, heard) =
            offer_to("250 ok\r\n550-5.7.1 no\r\n550 5.7.1 never\r\n221 bye\r\n", Carriage::Data).await;
        let Offered { step, reply } = offered.unwrap();
        assert_eq!((step, reply.code, reply.text()), ("RCPT", 550, "5.7.1 no 5.7.1 never".to_owned()));
        assert_eq!(heard, "MAIL FROM:<a@a.nl>\r\nRCPT TO:<b@b.nl>\r\nQUIT\r\n");
        let (offered, heard) =
            offer_to("250 ok\r\n250 ok\r\n354 go\r\n250 taken\r\n221 bye\r\n", Carriage::Data).await;
        assert_eq!(offered.unwrap().step, "content");
        assert!(heard.contains("DATA\r\nx\r\n.\r\nQUIT"), "{heard}");
        let four = "250 ok\r\n250 ok\r\n250 more\r\n250 taken\r\n221 bye\r\n";
        let (offered, heard) = offer_to(four, Carriage::Chunks(2)).await;
        assert_eq!(offered.unwrap().reply.text(), "taken");
        assert!(heard.contains("BDAT 2\r\nx\rBDAT 1 LAST\r\n\nQUIT"), "{heard}");
    }

    #[tokio::test]
    async fn nonsense_is_an_error() {
        let (offered, _) = offer_to("hello\r\n", Carriage::Data).await;
        assert!(offered.unwrap_err().to_string().contains("hello"));
    }
}
