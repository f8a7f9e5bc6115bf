//! Peers in trouble: replies that get lost, hosts that are away.
//!
//! The client here is a bare one of its own: it has to stop in the middle of things.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use serde_json::Value;
use testnet::net::{Build, Home, Net, NodeProcess, Part, anybody, locate};
use testnet::pki::Identity;
use testnet::topology::{PlayedBy, Topology};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// For anything on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Three providers, of which `id` is played by `who`.
async fn net(id: &str, who: PlayedBy) -> Net {
    let mut topology = Topology::three_providers();
    topology.every_pair = None;
    topology.providers.iter_mut().find(|provider| provider.id == id).unwrap().played_by = who;
    let program = locate(None, Build::IfNeeded).await.unwrap();
    Net::start(topology, &program, Home::Temporary, |_| ()).await.unwrap_or_else(|error| panic!("{error}"))
}

async fn reply<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufStream<S>) -> String {
    let mut lines = String::new();
    loop {
        let start = lines.len();
        let read = timeout(PATIENCE, stream.read_line(&mut lines)).await.unwrap().unwrap();
        assert!(read > 0, "the server hung up after {lines:?}");
        if lines.as_bytes()[start + 3] == b' ' {
            return lines;
        }
    }
}

async fn say<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufStream<S>, line: &str, code: &str) -> String {
    stream.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let reply = reply(stream).await;
    assert!(reply.starts_with(code), "{line}: {reply}");
    reply
}

type Link = BufStream<TlsStream<TcpStream>>;

/// A session inside TLS, as far as EHLO.
async fn link(address: SocketAddr, server: &str, identity: Option<&Identity>) -> Link {
    let mut clear = BufStream::new(TcpStream::connect(address).await.unwrap());
    assert!(reply(&mut clear).await.starts_with("220"));
    say(&mut clear, "EHLO client.invalid", "250").await;
    say(&mut clear, "STARTTLS", "220").await;
    let config = anybody::client(identity).unwrap();
    let name = ServerName::try_from(server.to_owned()).unwrap();
    let tls = TlsConnector::from(Arc::new(config)).connect(name, clear.into_inner()).await.unwrap();
    let mut link = BufStream::new(tls);
    say(&mut link, "EHLO client.invalid", "250").await;
    link
}

fn letter(from: &str, to: &str, token: &str) -> Vec<u8> {
    format!("From: {from}\r\nTo: {to}\r\nMessage-ID: <{token}>\r\nSubject: {token}\r\n\r\n{token}\r\n")
        .into_bytes()
}

/// What the node of `id` counts as not settled.
async fn unsettled(node: &NodeProcess) -> u64 {
    node.ask(&["status"]).await.unwrap()["spool"]["messages"].as_u64().unwrap()
}

fn logged<'a>(node: &NodeProcess, direction: &'a str, outcome: &'a str) -> usize {
    let printed = node.printed();
    let lines = printed.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["direction"] == direction && line["outcome"] == outcome).count()
}

// ------------------------------------------------------------------------------------------- replies that get lost

/// How content is sent.
#[derive(Clone, Copy, Debug)]
enum Verb {
    Data,
    Bdat,
}

impl Verb {
    /// Everything after RCPT, up to and with the end of the content.
    fn wire(self, content: &[u8]) -> (String, Vec<u8>) {
        match self {
            Self::Data => ("DATA".to_owned(), [content, b".\r\n"].concat()),
            Self::Bdat => (format!("BDAT {} LAST", content.len()), content.to_vec()),
        }
    }
}

/// Sends a message, and goes away after `cut` octets of what follows RCPT; without one it stays for the reply.
async fn send(link: &mut Link, verb: Verb, from: &str, to: &str, content: &[u8], cut: Option<usize>) {
    say(link, &format!("MAIL FROM:<{from}>"), "250").await;
    say(link, &format!("RCPT TO:<{to}>"), "250").await;
    let (command, wire) = verb.wire(content);
    match verb {
        Verb::Data => {
            say(link, &command, "354").await;
        }
        Verb::Bdat => link.write_all(format!("{command}\r\n").as_bytes()).await.unwrap(),
    }
    link.write_all(&wire[..cut.unwrap_or(wire.len())]).await.unwrap();
    link.flush().await.unwrap();
    if cut.is_none() {
        assert!(reply(link).await.starts_with("250"));
    }
}

/// The connection is cut at each octet around the end of the content, and after it, before the reply. Each time the sender
/// does what a sender must: it sends again.
/// Proves: +SPOOL-042 -SPOOL-042
#[tokio::test]
async fn t39_a_message_sent_again_after_a_lost_reply_arrives_once() {
    let net = net("c", PlayedBy::Testnet).await;
    let (b, c) = (net.provider("b").unwrap(), net.provider("c").unwrap());
    let (server, ip) = &b.placed.hosts[0];
    let address = SocketAddr::new(*ip, net.plan.topology.smtp_port);
    let identity = Some(&c.placed.certificate);
    let (from, to) = ("carol@c.nl", "bob@b.nl");
    let signed = |token: &str| c.placed.sign(from, &letter(from, to, token)).unwrap();
    let mut tokens = Vec::new();
    let mut lost = 0;
    for verb in [Verb::Data, Verb::Bdat] {
        let length = verb.wire(&signed("data-00@c.nl")).1.len();
        for cut in length - 8..=length {
            let token = format!(
                "{}-{:02}@c.nl",
                if matches!(verb, Verb::Data) { "data" } else { "bdat" },
                tokens.len()
            );
            let content = signed(&token);
            assert_eq!(verb.wire(&content).1.len(), length);
            let mut broken = link(address, server, identity).await;
            send(&mut broken, verb, from, to, &content, Some(cut)).await;
            // The octets are on their way; nobody waits for the answer.
            drop(broken);
            let mut again = link(address, server, identity).await;
            send(&mut again, verb, from, to, &content, None).await;
            lost += usize::from(cut == length);
            tokens.push(token);
        }
    }
    let (node, sink) = (b.node().unwrap(), b.sink().unwrap());
    let all = timeout(PATIENCE, sink.wait_for(tokens.len())).await.unwrap();
    let settling = async { while unsettled(node).await > 0 {} };
    timeout(PATIENCE, settling).await.unwrap();
    assert!(all.len() == tokens.len() && sink.messages().len() == tokens.len(), "one copy of each");
    for (stored, token) in sink.messages().iter().zip(&tokens) {
        let content = String::from_utf8(stored.content().unwrap()).unwrap();
        assert!(
            tokens.iter().filter(|token| content.contains(&format!("<{token}>"))).count() == 1,
            "{token}"
        );
    }
    assert_eq!(logged(node, "inbound", "repeated"), lost, "of each that was there already a record says so");
    assert_eq!(logged(node, "inbound", "accepted"), tokens.len());
    net.stop().await;
}

/// Proves: +SUBM-005 -SUBM-005
#[tokio::test]
async fn a_submitted_message_without_message_id_is_given_one_and_others_keep_theirs() {
    let net = net("b", PlayedBy::Nobody).await;
    let (a, c) = (net.provider("a").unwrap(), net.provider("c").unwrap());
    let mut platform = link(a.node().unwrap().submission(), &a.placed.hosts[0].0, None).await;
    let (from, to) = ("alice@a.nl", "carol@c.nl");
    let own = letter(from, to, "own@a.nl");
    let without = b"From: alice@a.nl\r\nSubject: none\r\n\r\nMessage-ID: <not.this@a.nl>\r\n";
    let header_only = b"From: alice@a.nl\r\nSubject: short\r\n";
    for content in [&own[..], without, header_only] {
        send(&mut platform, Verb::Data, from, to, content, None).await;
    }
    let stored = timeout(PATIENCE, c.sink().unwrap().wait_for(3)).await.unwrap();
    for message in stored {
        let content = String::from_utf8(message.content().unwrap()).unwrap();
        let ours =
            content.lines().filter(|line| line.starts_with("Message-ID: <") && line.ends_with("@nta.a.nl>"));
        let all: Vec<&[u8]> = vec![&own, without, header_only];
        let sent = all.iter().position(|sent| content.as_bytes().ends_with(sent)).unwrap();
        assert_eq!(ours.count(), usize::from(sent > 0), "{content}");
    }
    net.stop().await;
}

// ------------------------------------------------------------------------------------------- hosts that are away

/// Provider b is away (it hangs up on everybody) with many messages for it; c is not slowed, and b is tried as soon as it
/// makes contact.
/// Proves: +SMTP-027 +SMTP-028 +SMTP-029 -SMTP-028 -SMTP-029
#[tokio::test]
async fn t34_mail_for_a_dead_peer_costs_a_few_attempts_and_nobody_else() {
    const MESSAGES: usize = 30;
    let net = net("b", PlayedBy::Nobody).await;
    let (a, b, c) = (net.provider("a").unwrap(), net.provider("b").unwrap(), net.provider("c").unwrap());
    let Part::Nobody(tripwire) = &b.part else { panic!("nobody plays b") };
    let node = a.node().unwrap();
    let mut platform = link(node.submission(), &a.placed.hosts[0].0, None).await;
    for number in 0..MESSAGES {
        let content = letter("alice@a.nl", "bob@b.nl", &format!("away-{number}@a.nl"));
        send(&mut platform, Verb::Data, "alice@a.nl", "bob@b.nl", &content, None).await;
    }
    let content = letter("alice@a.nl", "carol@c.nl", "there@a.nl");
    send(&mut platform, Verb::Data, "alice@a.nl", "carol@c.nl", &content, None).await;
    timeout(PATIENCE, c.sink().unwrap().wait_for(1)).await.unwrap();

    let resting = async {
        loop {
            let status = node.ask(&["status"]).await.unwrap();
            match status["resting"].get(0) {
                Some(row) if status["spool"]["attempting"] == 0 => return row.clone(),
                _ => {}
            }
        }
    };
    let row = timeout(PATIENCE, resting).await.unwrap();
    assert_eq!((&row["what"], &row["reason"]), (&"host nta.b.nl".into(), &"connection_lost".into()), "{row}");
    // Those under way when it began to rest, and not one more.
    let attempts = tripwire.touched();
    assert!((5..5 + 8).contains(&attempts), "{attempts}");
    let waiting = usize::try_from(row["waiting"].as_u64().unwrap()).unwrap();
    assert_eq!(waiting, MESSAGES, "{row}");
    assert!(node.command(&["status"]).await.unwrap().stdout.windows(5).any(|word| word == b"rests"));

    // Its own client is there: one delivery tries the host at once, and finds it as it was.
    let (server, ip) = &a.placed.hosts[0];
    let address = SocketAddr::new(*ip, net.plan.topology.smtp_port);
    link(address, server, Some(&b.placed.certificate)).await;
    let probed = async {
        while tripwire.touched() == attempts {
            tokio::task::yield_now().await
        }
    };
    timeout(PATIENCE / 4, probed).await.unwrap();
    let failed = async {
        while logged(node, "outbound", "later") <= attempts {
            tokio::task::yield_now().await
        }
    };
    timeout(PATIENCE, failed).await.unwrap();
    // On a slow machine a probe by the clock may have come in between.
    let few = attempts + 1..=attempts + 3;
    assert!(few.contains(&tripwire.touched()), "a probe, and not all its mail: {}", tripwire.touched());
    // Knocking again a moment later changes nothing.
    link(address, server, Some(&b.placed.certificate)).await;
    let content = letter("alice@a.nl", "carol@c.nl", "still-there@a.nl");
    send(&mut platform, Verb::Data, "alice@a.nl", "carol@c.nl", &content, None).await;
    timeout(PATIENCE, c.sink().unwrap().wait_for(2)).await.unwrap();
    assert!(few.contains(&tripwire.touched()), "{}", tripwire.touched());
    net.stop().await;
}
