//! A provider played by the testnet: a server that behaves as its topology says, and remembers what it was told.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::NetError;
use crate::pki::Identity;
use crate::topology::{Placed, Plan, ServerManner};

/// A running fake. Dropped, it stops.
pub struct Fake {
    heard: Heard,
    _tasks: JoinSet<()>,
}

/// What clients said, one line each: commands, and `content N` for N octets of content.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    fn note(&self, line: impl Into<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line.into());
    }
}

impl Fake {
    pub(super) async fn start(plan: &Plan, placed: &Placed) -> Result<Self, NetError> {
        let heard = Heard::default();
        let mut tasks = JoinSet::new();
        for (_, ip) in &placed.hosts {
            let address = SocketAddr::new(*ip, plan.topology.smtp_port);
            let listener = TcpListener::bind(address)
                .await
                .map_err(NetError::machine(format!("listening on {address}")))?;
            let server = Server {
                manner: placed.provider.server,
                name: placed.provider.hosts[0].clone(),
                tls: acceptor(&placed.certificate)?,
                heard: heard.clone(),
            };
            tasks.spawn(serve(listener, Arc::new(server)));
        }
        Ok(Self { heard, _tasks: tasks })
    }

    /// Everything that was said to it after the greeting.
    #[must_use]
    pub fn heard(&self) -> Vec<String> {
        self.heard.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a message, or even its envelope, got as far as this server.
    #[must_use]
    pub fn was_offered_mail(&self) -> bool {
        let telling = |line: &String| {
            let line = line.to_ascii_uppercase();
            ["MAIL", "RCPT", "DATA", "BDAT", "CONTENT"].iter().any(|word| line.starts_with(word))
        };
        self.heard().iter().any(telling)
    }
}

struct Server {
    manner: ServerManner,
    name: String,
    tls: TlsAcceptor,
    heard: Heard,
}

async fn serve(listener: TcpListener, server: Arc<Server>) {
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                let server = Arc::clone(&server);
                sessions.spawn(async move {
                    // A client that hangs up ends its own session only.
                    let _ = session(stream, &server).await;
                });
            },
            Some(_) = sessions.join_next() => {}
        }
    }
}

async fn session(stream: TcpStream, server: &Server) -> std::io::Result<()> {
    if server.manner == ServerManner::Silent {
        let mut stream = stream;
        let mut nothing = [0; 512];
        while stream.read(&mut nothing).await? > 0 {}
        return Ok(());
    }
    let mut clear = Talk { stream: BufStream::new(stream), server };
    clear.say(&format!("220 {} ESMTP", server.name)).await?;
    if !clear.listen(Phase::Clear).await? {
        return Ok(());
    }
    let mut stream = clear.stream.into_inner();
    if server.manner == ServerManner::Tls11Only {
        return answer_with_tls11(&mut stream).await;
    }
    let secured = server.tls.accept(stream).await?;
    Talk { stream: BufStream::new(secured), server }.listen(Phase::Secured).await.map(drop)
}

/// Answers the ClientHello with a ServerHello of TLS 1.1: all that a client can see of a server that knows nothing newer.
async fn answer_with_tls11(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut head = [0; 5];
    stream.read_exact(&mut head).await?;
    let mut hello = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
    stream.read_exact(&mut hello).await?;
    // Handshake: type 2, length 38; version 3.2; random; no session; TLS_RSA_WITH_AES_128_CBC_SHA; no compression.
    let mut body = vec![2, 0, 0, 38, 3, 2];
    body.extend_from_slice(&[0x5A; 32]);
    body.extend_from_slice(&[0, 0x00, 0x2F, 0]);
    let mut record = vec![22, 3, 2, 0, u8::try_from(body.len()).unwrap_or(u8::MAX)];
    record.extend_from_slice(&body);
    stream.write_all(&record).await?;
    let mut rest = [0; 512];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Clear,
    Secured,
}

struct Talk<'a, S> {
    stream: BufStream<S>,
    server: &'a Server,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Talk<'_, S> {
    async fn say(&mut self, line: &str) -> std::io::Result<()> {
        self.stream.write_all(format!("{line}\r\n").as_bytes()).await?;
        self.stream.flush().await
    }

    /// Answers commands; `true` when the client may start TLS now.
    async fn listen(&mut self, phase: Phase) -> std::io::Result<bool> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.stream.read_line(&mut line).await? == 0 {
                return Ok(false);
            }
            self.server.heard.note(line.trim_end());
            let verb: String =
                line.chars().take_while(char::is_ascii_alphabetic).collect::<String>().to_ascii_uppercase();
            match (verb.as_str(), phase) {
                ("EHLO", _) => self.say(&self.keywords(phase)).await?,
                ("STARTTLS", Phase::Clear) if self.server.manner != ServerManner::NoStarttls => {
                    self.say("220 go ahead").await?;
                    return Ok(true);
                }
                ("MAIL" | "RCPT" | "RSET" | "NOOP", _) => self.say("250 ok").await?,
                ("DATA", _) => self.data().await?,
                ("QUIT", _) => {
                    self.say("221 bye").await?;
                    return Ok(false);
                }
                _ => self.say("502 not here").await?,
            }
        }
    }

    fn keywords(&self, phase: Phase) -> String {
        let starttls = phase == Phase::Clear && self.server.manner != ServerManner::NoStarttls;
        let lines: &[&str] = if starttls { &["8BITMIME", "STARTTLS"] } else { &["8BITMIME"] };
        let mut text = format!("250-{}", self.server.name);
        for (at, keyword) in lines.iter().enumerate() {
            text.push_str(if at + 1 == lines.len() { "\r\n250 " } else { "\r\n250-" });
            text.push_str(keyword);
        }
        text
    }

    async fn data(&mut self) -> std::io::Result<()> {
        self.say("354 go ahead").await?;
        let mut octets = 0;
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = self.stream.read_until(b'\n', &mut line).await?;
            if read == 0 || line == b".\r\n" {
                break;
            }
            octets += read;
        }
        self.server.heard.note(format!("content {octets}"));
        self.say("250 taken").await
    }
}

/// TLS that asks for a certificate and takes any, or none.
fn acceptor(identity: &Identity) -> Result<TlsAcceptor, NetError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(identity.certificate().clone()).map_err(NetError::machine("a certificate"))?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .map_err(NetError::machine("TLS"))?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(NetError::machine("TLS"))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain().to_vec(), identity.key())
        .map_err(NetError::machine("a certificate"))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
