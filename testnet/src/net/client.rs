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
    /// The lines without codes, joined by blanks.
    pub text: String,
}

/// What became of an offered message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// The command whose reply ended it: `MAIL`, `RCPT`, `DATA` or `content`.
    pub step: &'static str,
    /// That reply.
    pub reply: Reply,
}

/// A session with a server.
pub struct Client<S> {
    stream: BufStream<S>,
}

/// Connects, does STARTTLS with `identity` as client certificate if there is one, and says EHLO again.
///
/// # Errors
/// The server does not get as far.
pub async fn connect(
    address: SocketAddr,
    name: &str,
    identity: Option<&Identity>,
) -> Result<Client<tokio_rustls::client::TlsStream<TcpStream>>, NetError> {
    let stream = TcpStream::connect(address).await.map_err(NetError::machine(format!("{address}")))?;
    let mut clear = Client { stream: BufStream::new(stream) };
    clear.expect("", 220).await?;
    clear.expect(&format!("EHLO {name}"), 250).await?;
    clear.expect("STARTTLS", 220).await?;
    let connector = TlsConnector::from(Arc::new(config(identity)?));
    let host = ServerName::try_from("server.invalid").map_err(NetError::machine("a constant name"))?;
    let stream = connector
        .connect(host, clear.stream.into_inner())
        .await
        .map_err(NetError::machine(format!("TLS with {address}")))?;
    let mut client = Client { stream: BufStream::new(stream) };
    client.expect(&format!("EHLO {name}"), 250).await?;
    Ok(client)
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Offers a message to one recipient, and says good-bye.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn offer(&mut self, from: &str, to: &str, content: &[u8]) -> Result<Offered, NetError> {
        let eight = if content.is_ascii() { "" } else { " BODY=8BITMIME" };
        let mut offered = None;
        for (step, command, good) in [
            ("MAIL", format!("MAIL FROM:<{from}>{eight}"), 250),
            ("RCPT", format!("RCPT TO:<{to}>"), 250),
            ("DATA", "DATA".to_owned(), 354),
        ] {
            let reply = self.command(&command).await?;
            if reply.code != good {
                offered = Some(Offered { step, reply });
                break;
            }
        }
        let offered = match offered {
            Some(offered) => offered,
            None => {
                self.write(&dotted(content)).await?;
                Offered { step: "content", reply: self.reply().await? }
            }
        };
        self.command("QUIT").await?;
        Ok(offered)
    }

    async fn expect(&mut self, command: &str, code: u16) -> Result<Reply, NetError> {
        let reply = if command.is_empty() { self.reply().await? } else { self.command(command).await? };
        if reply.code == code {
            return Ok(reply);
        }
        Err(NetError::Machine {
            what: if command.is_empty() { "greeting".to_owned() } else { command.to_owned() },
            why: format!("{} {}", reply.code, reply.text),
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
        match timeout(PATIENCE, sending).await {
            Ok(sent) => sent.map_err(NetError::machine("sending")),
            Err(_) => Err(late()),
        }
    }

    async fn reply(&mut self) -> Result<Reply, NetError> {
        let mut texts = Vec::new();
        loop {
            let mut line = String::new();
            match timeout(PATIENCE, self.stream.read_line(&mut line)).await {
                Err(_) => return Err(late()),
                Ok(read) => read.map_err(NetError::machine("reading a reply"))?,
            };
            let line = line.trim_end();
            let code = line.get(..3).and_then(|digits| digits.parse().ok());
            let Some(code) = code else {
                return Err(NetError::Machine { what: "a reply".to_owned(), why: format!("{line:?}") });
            };
            texts.push(line.get(4..).unwrap_or_default().to_owned());
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(Reply { code, text: texts.join(" ") });
            }
        }
    }
}

fn late() -> NetError {
    NetError::Machine { what: "a reply".to_owned(), why: "none within a minute".to_owned() }
}

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
