//! An SMTP client with STARTTLS that believes any server: the platform of a provider, and clients that misbehave.
//!
//! Deliberately not the node's code, and deliberately without checks: what a server does is for the cases to judge.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::NetError;
use crate::pki::Identity;

/// For any single reply.
const PATIENCE: Duration = Duration::from_secs(60);

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
    /// The command whose reply ended it: `MAIL`, `RCPT`, `DATA` or `content`.
    pub step: &'static str,
    /// That reply.
    pub reply: Reply,
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
}

/// Connects, does STARTTLS, and says EHLO again.
///
/// # Errors
/// The server does not get as far.
pub async fn connect(
    call: &Call<'_>,
) -> Result<Client<tokio_rustls::client::TlsStream<TcpStream>>, NetError> {
    let Call { address, server, helo, identity } = *call;
    let stream = TcpStream::connect(address).await.map_err(NetError::machine(format!("{address}")))?;
    let mut clear = Client { stream: BufStream::new(stream), keywords: Vec::new() };
    clear.expect("", 220).await?;
    let offered = clear.expect(&format!("EHLO {helo}"), 250).await?.text();
    if offered.contains("XPEERLEVEL") {
        let what = "EHLO in clear text".to_owned();
        return Err(NetError::Machine { what, why: "it already speaks of a level".to_owned() });
    }
    clear.expect("STARTTLS", 220).await?;
    let connector = TlsConnector::from(Arc::new(config(identity)?));
    let name = ServerName::try_from(server.to_owned()).map_err(NetError::machine(server))?;
    let handshake = connector.connect(name, clear.stream.into_inner());
    let stream = timeout(PATIENCE, handshake)
        .await
        .map_err(|_| late("the TLS handshake"))?
        .map_err(NetError::machine(format!("TLS with {address}")))?;
    let mut client = Client { stream: BufStream::new(stream), keywords: Vec::new() };
    client.keywords = client.expect(&format!("EHLO {helo}"), 250).await?.lines.split_off(1);
    Ok(client)
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// The EHLO keywords the server offers inside TLS.
    pub fn keywords(&self) -> &[String] {
        &self.keywords
    }

    /// Offers a message to one recipient, and says good-bye.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn offer(&mut self, from: &str, to: &str, content: &[u8]) -> Result<Offered, NetError> {
        let offered = self.transact(from, &[to], content).await.map_err(|broken| broken.error)?;
        self.quit().await;
        Ok(offered)
    }

    /// Offers a message, and stays.
    ///
    /// # Errors
    /// The connection broke, with the step at which it did.
    pub async fn transact(&mut self, from: &str, to: &[&str], content: &[u8]) -> Result<Offered, Broken> {
        let eight = if content.is_ascii() { "" } else { " BODY=8BITMIME" };
        let mut steps = vec![("MAIL", format!("MAIL FROM:<{from}>{eight}"), 250)];
        steps.extend(to.iter().map(|to| ("RCPT", format!("RCPT TO:<{to}>"), 250)));
        steps.push(("DATA", "DATA".to_owned(), 354));
        for (step, command, good) in steps {
            let reply = self.command(&command).await.map_err(|error| Broken { step, error })?;
            if reply.code != good {
                return Ok(Offered { step, reply });
            }
        }
        self.write(&dotted(content)).await.map_err(|error| Broken { step: "content", error })?;
        let reply = self.reply().await.map_err(|error| Broken { step: "reply", error })?;
        Ok(Offered { step: "content", reply })
    }

    /// Says good-bye. The verdict is there; a server that hangs up first changes nothing in it.
    pub async fn quit(&mut self) {
        let _ = self.command("QUIT").await;
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

    async fn command(&mut self, line: &str) -> Result<Reply, NetError> {
        self.write(format!("{line}\r\n").as_bytes()).await?;
        self.reply().await
    }

    async fn write(&mut self, octets: &[u8]) -> Result<(), NetError> {
        let sending = async {
            self.stream.write_all(octets).await?;
            self.stream.flush().await
        };
        let sent = timeout(PATIENCE, sending).await.map_err(|_| late("sending"))?;
        sent.map_err(NetError::machine("sending"))
    }

    async fn reply(&mut self) -> Result<Reply, NetError> {
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

/// Content as it goes over the wire: dots at line starts doubled, and the line that ends it (RFC 5321 section 4.5.2).
fn dotted(content: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(content.len() + 64);
    for line in content.split_inclusive(|octet| *octet == b'\n') {
        if line.starts_with(b".") {
            wire.push(b'.');
        }
        wire.extend_from_slice(line);
    }
    wire.extend_from_slice(b".\r\n");
    wire
}

fn config(identity: Option<&Identity>) -> Result<ClientConfig, NetError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(NetError::machine("TLS"))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody));
    match identity {
        None => Ok(builder.with_no_client_auth()),
        Some(identity) => builder
            .with_client_auth_cert(identity.chain().to_vec(), identity.key())
            .map_err(NetError::machine("a client certificate")),
    }
}

/// Takes any certificate: which server this is, is not what the testnet's client is about.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
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
    }

    /// What a client makes of a server that says `words` whatever it hears.
    async fn offer_to(words: &str) -> (Result<Offered, NetError>, String) {
        let (ours, mut theirs) = tokio::io::duplex(4_096);
        theirs.write_all(words.as_bytes()).await.unwrap();
        let mut client = Client { stream: BufStream::new(ours), keywords: Vec::new() };
        let hearing = tokio::spawn(async move {
            let mut heard = String::new();
            // The other half stays open until the client is done; then its end is the end of what was said.
            theirs.read_to_string(&mut heard).await.unwrap();
            heard
        });
        let offered = client.offer("a@a.nl", "b@b.nl", b"x\r\n").await;
        drop(client);
        (offered, hearing.await.unwrap())
    }

    #[tokio::test]
    async fn the_reply_that_ends_it_is_reported_with_its_step() {
        let (offered, heard) = offer_to("250 ok\r\n550-5.7.1 no\r\n550 5.7.1 never\r\n221 bye\r\n").await;
        let Offered { step, reply } = offered.unwrap();
        assert_eq!((step, reply.code, reply.text()), ("RCPT", 550, "5.7.1 no 5.7.1 never".to_owned()));
        assert_eq!(heard, "MAIL FROM:<a@a.nl>\r\nRCPT TO:<b@b.nl>\r\nQUIT\r\n");
        let (offered, heard) = offer_to("250 ok\r\n250 ok\r\n354 go\r\n250 taken\r\n221 bye\r\n").await;
        assert_eq!(offered.unwrap().step, "content");
        assert!(heard.contains("DATA\r\nx\r\n.\r\nQUIT"), "{heard}");
    }

    #[tokio::test]
    async fn nonsense_is_an_error() {
        let (offered, _) = offer_to("hello\r\n").await;
        assert!(offered.unwrap_err().to_string().contains("hello"));
    }
}
