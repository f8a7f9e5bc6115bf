//! What the testnet plays itself: a server that behaves as its topology says and remembers what it was told, and a
//! listener where nobody may knock.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::NetError;
use super::anybody::{self, AskClients};
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
        for (listener, name) in listeners(plan, placed).await? {
            let server = Server {
                manner: placed.provider.server,
                name,
                tls: acceptor(&placed.certificate, placed.provider.server)?,
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

/// The hosts of a provider that must be left before anybody connects to them. Dropped, it stops.
pub struct Tripwire {
    touched: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Tripwire {
    pub(super) async fn start(plan: &Plan, placed: &Placed) -> Result<Self, NetError> {
        let touched = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        for (listener, _) in listeners(plan, placed).await? {
            let touched = Arc::clone(&touched);
            tasks.spawn(async move {
                loop {
                    // Closed as soon as it is counted: there is nobody to talk to.
                    if let Ok(connection) = listener.accept().await {
                        touched.fetch_add(1, Ordering::Relaxed);
                        drop(connection);
                    }
                }
            });
        }
        Ok(Self { touched, _tasks: tasks })
    }

    /// How often somebody connected.
    #[must_use]
    pub fn touched(&self) -> usize {
        self.touched.load(Ordering::Relaxed)
    }
}

/// A listener for every host of a provider, with the host's name.
async fn listeners(plan: &Plan, placed: &Placed) -> Result<Vec<(TcpListener, String)>, NetError> {
    let mut listeners = Vec::new();
    for (name, ip) in &placed.hosts {
        let address = SocketAddr::new(*ip, plan.topology.smtp_port);
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(NetError::machine(format!("listening on {address}")))?;
        listeners.push((listener, name.clone()));
    }
    Ok(listeners)
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
                    let injected = self.server.manner == ServerManner::InjectsAfterStarttls;
                    // In one write: the client has it all before it can begin its handshake.
                    self.say(if injected { "220 go ahead\r\n250 injected" } else { "220 go ahead" }).await?;
                    return Ok(true);
                }
                ("MAIL", _) if self.server.manner == ServerManner::TalksNonsense => {
                    self.say("pleased to hear it").await?;
                }
                ("MAIL", _) if self.server.manner == ServerManner::HangsUp => return Ok(false),
                ("RCPT", _) if self.server.manner == ServerManner::RefusesRecipients => {
                    self.say("550 5.1.1 nobody of that name").await?;
                }
                ("RCPT", _) if self.server.manner == ServerManner::BusyWithRecipients => {
                    self.say("451 4.2.1 not now").await?;
                }
                ("MAIL" | "RCPT" | "RSET" | "NOOP", _) => self.say("250 ok").await?,
                ("DATA", _) => {
                    self.data().await?;
                    match self.server.manner {
                        ServerManner::LosesReply => return Ok(false),
                        ServerManner::RefusesContent => self.say("554 5.6.0 not like that").await?,
                        ServerManner::BusyWithContent => self.say("452 4.3.1 no room now").await?,
                        _ => self.say("250 taken").await?,
                    }
                }
                ("QUIT", _) => {
                    self.say("221 bye").await?;
                    return Ok(false);
                }
                _ => self.say("502 not here").await?,
            }
        }
    }

    fn keywords(&self, phase: Phase) -> String {
        let manner = self.server.manner;
        let offered = [
            ("8BITMIME", manner != ServerManner::SevenBitOnly),
            ("SIZE 100", manner == ServerManner::SmallMessagesOnly),
            ("STARTTLS", phase == Phase::Clear && manner != ServerManner::NoStarttls),
        ];
        let mut lines = vec![self.server.name.as_str()];
        lines.extend(offered.into_iter().filter(|(_, offers)| *offers).map(|(keyword, _)| keyword));
        let (last, before) = lines.split_last().unwrap_or((&"", &[]));
        let before: String = before.iter().map(|line| format!("250-{line}\r\n")).collect();
        format!("{before}250 {last}")
    }

    /// Takes content, and does not answer it yet.
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
        Ok(())
    }
}

/// TLS that asks for a certificate, unless it is its manner not to, and takes any or none.
fn acceptor(identity: &Identity, manner: ServerManner) -> Result<TlsAcceptor, NetError> {
    let ask = if manner == ServerManner::NoCertificateRequest { AskClients::No } else { AskClients::Yes };
    Ok(TlsAcceptor::from(Arc::new(anybody::server(identity, ask)?)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::loopback::Prefix;
    use crate::net::client::{Call, Carriage, Envelope, connect};
    use crate::topology::Topology;

    /// A plan in which provider `b` behaves in this manner.
    fn plan(manner: ServerManner, prefix: &Prefix) -> Plan {
        let mut topology = Topology::three_providers();
        topology.providers[1].server = manner;
        Plan::new(topology, prefix, crate::clock::system()()).unwrap()
    }

    fn call<'a>(plan: &'a Plan, identity: Option<&'a Identity>) -> Call<'a> {
        let placed = &plan.providers[1];
        let address = SocketAddr::new(placed.hosts[0].1, plan.topology.smtp_port);
        Call { address, server: &placed.hosts[0].0, helo: "nta.a.nl", identity }
    }

    #[tokio::test]
    async fn a_good_one_takes_mail_from_anybody_and_remembers() {
        let prefix = Prefix::pick(rand::random, &[2_525]).unwrap();
        let plan = plan(ServerManner::Good, &prefix);
        let fake = Fake::start(&plan, &plan.providers[1]).await.unwrap();
        for identity in [None, Some(&plan.providers[0].certificate)] {
            let mut client = connect(&call(&plan, identity)).await.unwrap();
            assert_eq!(client.keywords(), ["8BITMIME"]);
            let offered = client
                .offer(&Envelope::plain("a@a.nl", "b@b.nl", b".x\r\n"), b".x\r\n", Carriage::Data)
                .await
                .unwrap();
            assert_eq!((offered.step, offered.reply.code), ("content", 250));
        }
        assert!(fake.was_offered_mail());
        assert_eq!(fake.heard().iter().filter(|line| *line == "content 5").count(), 2, "{:?}", fake.heard());
    }

    #[tokio::test]
    async fn bad_manners_end_before_mail() {
        for (manner, says) in
            [(ServerManner::NoStarttls, "STARTTLS: 502"), (ServerManner::Tls11Only, "TLS with")]
        {
            let prefix = Prefix::pick(rand::random, &[2_525]).unwrap();
            let plan = plan(manner, &prefix);
            let fake = Fake::start(&plan, &plan.providers[1]).await.unwrap();
            let error = connect(&call(&plan, None)).await.err().unwrap().to_string();
            assert!(error.contains(says), "{error}");
            assert!(!fake.was_offered_mail());
            assert!(!fake.heard().is_empty());
        }
    }

    #[tokio::test]
    async fn a_tripwire_counts_who_comes() {
        let prefix = Prefix::pick(rand::random, &[2_525]).unwrap();
        let plan = plan(ServerManner::Good, &prefix);
        let wire = Tripwire::start(&plan, &plan.providers[1]).await.unwrap();
        assert_eq!(wire.touched(), 0);
        // It has been counted when it is closed.
        let error = connect(&call(&plan, None)).await.err().unwrap().to_string();
        assert!(error.contains("reading a reply"), "{error}");
        assert_eq!(wire.touched(), 1);
    }
}
