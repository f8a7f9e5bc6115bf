//! Connections: real sockets and TLS, the limits on sessions, trouble with `accept`, and the end.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::super::accept::{Accept, Server, serve_on};
use super::super::dialogue::Ended;
use super::super::settings::Settings;
use super::super::slots::Slots;
use super::harness::{Asked, TestGate, connected, settings};
use crate::transport::tls::testing::{Authority, Pair, leaf};
use crate::transport::tls::{ServerTls, provider};

/// Reads one reply, gives its lines.
async fn reply<S: AsyncRead + Unpin>(stream: &mut S) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(stream.read_u8().await.unwrap());
        }
        lines.push(String::from_utf8(line).unwrap().trim_end().to_owned());
        if lines.last().unwrap().as_bytes()[3] == b' ' {
            return lines;
        }
    }
}

async fn ask<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, command: &str) -> String {
    stream.write_all(format!("{command}\r\n").as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    reply(stream).await.pop().unwrap()
}

fn connector(root: &Authority, certificate: Option<&Pair>) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(root.certificate()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match certificate {
        None => config.with_no_client_auth(),
        Some(pair) => {
            let key = PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes()).unwrap();
            config.with_client_auth_cert(pair.chain.clone(), key).unwrap()
        }
    };
    TlsConnector::from(Arc::new(config))
}

fn shared(settings: Settings) -> Arc<ArcSwap<Settings>> {
    Arc::new(ArcSwap::from_pointee(settings))
}

/// Proves: +SMTP-001 +SMTP-002 -SMTP-002 +SMTP-005
#[tokio::test]
async fn t03_a_message_over_a_real_connection_and_nothing_crosses_the_handshake() {
    let root = Authority::root("the test's");
    let server =
        Server::bind("127.0.0.1:0".parse().unwrap(), shared(settings()), Slots::new()).await.unwrap();
    let address = server.local_addr().unwrap();
    let (gate, stop) = (Arc::new(TestGate::default()), CancellationToken::new());
    let tls = ServerTls::new(root.issue(&["mx.b.nl"]).ring());
    let serving = tokio::spawn(server.serve(Arc::clone(&gate), tls, stop.clone()));
    for certificate in [None, Some(leaf(&["out.a.nl"]))] {
        let mut clear = TcpStream::connect(address).await.unwrap();
        assert_eq!(reply(&mut clear).await, ["220 mx.b.nl ESMTP"]);
        assert_eq!(ask(&mut clear, "EHLO a.nl").await, "250 STARTTLS");
        assert!(ask(&mut clear, "STARTTLS").await.starts_with("220 "));
        let connector = connector(&root, certificate.as_ref());
        let name = ServerName::try_from("mx.b.nl").unwrap();
        let mut stream = connector.connect(name, clear).await.unwrap();
        // EHLO was said in clear text; here it was not.
        assert!(ask(&mut stream, "MAIL FROM:<a@a.nl>").await.starts_with("503 5.5.1"));
        assert!(ask(&mut stream, "EHLO a.nl").await.starts_with("250 XPEERLEVEL"));
        for (command, code) in [
            ("MAIL FROM:<a@a.nl>", "250"),
            ("RCPT TO:<b@b.nl>", "250"),
            ("DATA", "354"),
            ("Subject: x\r\n\r\ny\r\n.", "250 2.6.0"),
            ("QUIT", "221"),
        ] {
            assert!(ask(&mut stream, command).await.starts_with(code), "{command}");
        }
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0, "closed in good order");
    }
    stop.cancel();
    serving.await.unwrap();
    let accepted = gate.accepted();
    assert_eq!(accepted.len(), 2);
    assert_eq!(accepted[1].content, b"Subject: x\r\n\r\ny\r\n");
    let handshakes: Vec<_> =
        gate.asked().into_iter().filter(|asked| matches!(asked, Asked::Secured { .. })).collect();
    assert_eq!(handshakes, [Asked::Secured { certificates: 0 }, Asked::Secured { certificates: 1 }]);
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

/// A stop while a message is on its way: it arrives, and the session ends after it.
#[tokio::test]
async fn a_stop_waits_for_the_message_under_way() {
    let root = Authority::root("the test's");
    let slots = Slots::new();
    let server =
        Server::bind("127.0.0.1:0".parse().unwrap(), shared(settings()), slots.clone()).await.unwrap();
    let address = server.local_addr().unwrap();
    let (gate, stop) = (Arc::new(TestGate::default()), CancellationToken::new());
    let tls = ServerTls::new(root.issue(&["mx.b.nl"]).ring());
    let serving = tokio::spawn(server.serve(Arc::clone(&gate), tls, stop.clone()));
    let mut clear = TcpStream::connect(address).await.unwrap();
    reply(&mut clear).await;
    ask(&mut clear, "STARTTLS").await;
    let name = ServerName::try_from("mx.b.nl").unwrap();
    let mut stream = connector(&root, None).connect(name, clear).await.unwrap();
    for command in ["EHLO a.nl", "MAIL FROM:<a@a.nl>", "RCPT TO:<b@b.nl>", "DATA"] {
        ask(&mut stream, command).await;
    }
    assert_eq!(slots.in_use(), 1);
    stop.cancel();
    assert!(ask(&mut stream, "a\r\n.").await.starts_with("250 2.6.0"));
    assert!(reply(&mut stream).await[0].starts_with("421 4.3.2"));
    serving.await.unwrap();
    assert_eq!((gate.accepted().len(), slots.in_use()), (1, 0));
}

/// Connections and errors, as the test says.
#[derive(Clone, Default)]
struct Source {
    script: Arc<Mutex<VecDeque<io::Result<DuplexStream>>>>,
    calls: Arc<Mutex<Vec<Instant>>>,
}

impl Accept for Source {
    type Stream = DuplexStream;

    async fn next(&mut self) -> io::Result<(DuplexStream, SocketAddr, SocketAddr)> {
        self.calls.lock().unwrap().push(Instant::now());
        let next = self.script.lock().unwrap().pop_front();
        let stream = match next {
            Some(next) => next?,
            None => std::future::pending().await,
        };
        Ok((stream, "192.0.2.1:999".parse().unwrap(), "192.0.2.2:25".parse().unwrap()))
    }
}

impl Source {
    fn then(&self, next: io::Result<DuplexStream>) {
        self.script.lock().unwrap().push_back(next);
    }

    fn connect(&self) -> DuplexStream {
        let (near, far) = duplex(1 << 16);
        self.then(Ok(far));
        near
    }

    fn serve(
        &self,
        settings: Settings,
        gate: &Arc<TestGate>,
        stop: &CancellationToken,
    ) -> tokio::task::JoinHandle<()> {
        let (source, gate, stop) = (self.clone(), Arc::clone(gate), stop.clone());
        let tls = ServerTls::new(leaf(&["mx.b.nl"]).ring());
        let (settings, slots) = (shared(settings), Slots::new());
        tokio::spawn(async move { serve_on(source, &settings, &slots, &gate, &tls, stop).await })
    }
}

/// Out of descriptors, a server that tries again at once burns the processor it needs to get out of trouble.
///
/// Proves: +LIM-004
#[tokio::test(start_paused = true)]
async fn t26_out_of_descriptors_it_waits_and_then_goes_on() {
    let source = Source::default();
    for errno in [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE, rustix::io::Errno::NOBUFS] {
        for _ in 0..10 {
            source.then(Err(io::Error::from_raw_os_error(errno.raw_os_error())));
        }
    }
    let begun = Instant::now();
    let mut client = source.connect();
    let (gate, stop) = (Arc::new(TestGate::default()), CancellationToken::new());
    let serving = source.serve(settings(), &gate, &stop);
    assert_eq!(reply(&mut client).await, ["220 mx.b.nl ESMTP"]);
    let calls = source.calls.lock().unwrap().clone();
    assert_eq!(calls[30].duration_since(begun), begun.elapsed());
    let waits: Vec<_> = calls.windows(2).take(30).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
    assert_eq!(waits[..7], [50, 100, 200, 400, 800, 1600, 2000]);
    assert!(waits[7..].iter().all(|wait| *wait == 2000));
    // Connections that failed by themselves cost no time, unless there is no end to them.
    for _ in 0..20 {
        source.then(Err(io::ErrorKind::ConnectionAborted.into()));
    }
    stop.cancel();
    serving.await.unwrap();
    let again = Source { script: source.script.clone(), ..Source::default() };
    let mut client = again.connect();
    let stop = CancellationToken::new();
    let serving = again.serve(settings(), &gate, &stop);
    reply(&mut client).await;
    let calls = again.calls.lock().unwrap().clone();
    assert!(calls[16] == calls[0] && calls[20] > calls[17]);
    stop.cancel();
    serving.await.unwrap();
}

/// Proves: +LIM-004 -LIM-004
#[tokio::test(start_paused = true)]
async fn t26_beyond_the_number_of_sessions_the_answer_is_421() {
    let source = Source::default();
    let mut few = settings();
    few.sessions_per_network = 2;
    let (gate, stop) = (Arc::new(TestGate::default()), CancellationToken::new());
    let (mut first, mut second, mut third) = (source.connect(), source.connect(), source.connect());
    let serving = source.serve(few.clone(), &gate, &stop);
    for client in [&mut first, &mut second] {
        assert!(reply(client).await[0].starts_with("220 "));
    }
    assert!(reply(&mut third).await[0].starts_with("421 4.3.2 LIM-004 "));
    assert_eq!(third.read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(gate.asked(), [Asked::Admit, Asked::Admit]);
    stop.cancel();
    assert!(reply(&mut first).await[0].starts_with("421 4.3.2"));
    serving.await.unwrap();
}

/// A place is free again when its session has ended.
#[tokio::test]
async fn t26_a_place_is_given_back() {
    let mut one = settings();
    one.sessions = 1;
    let (gate, stop) = (Arc::new(TestGate::default()), CancellationToken::new());
    let root = Authority::root("the test's");
    let server = Server::bind("127.0.0.1:0".parse().unwrap(), shared(one), Slots::new()).await.unwrap();
    let address = server.local_addr().unwrap();
    let tls = ServerTls::new(root.issue(&["mx.b.nl"]).ring());
    let serving = tokio::spawn(server.serve(gate, tls, stop.clone()));
    for _ in 0..3 {
        let mut client = TcpStream::connect(address).await.unwrap();
        assert!(reply(&mut client).await[0].starts_with("220 "));
        let mut turned_away = TcpStream::connect(address).await.unwrap();
        assert!(reply(&mut turned_away).await[0].starts_with("421 "));
        assert!(ask(&mut client, "QUIT").await.starts_with("221"));
        // The place is free once the session has closed its side, which is the last thing it does before.
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
        tokio::task::yield_now().await;
    }
    stop.cancel();
    serving.await.unwrap();
}

/// Proves: -LIM-005
#[tokio::test(start_paused = true)]
async fn t26_a_handshake_has_its_own_limit() {
    let mut client = connected(settings(), TestGate::default());
    client.reply().await;
    client.expect(&[("STARTTLS", "220")]).await;
    let begun = Instant::now();
    let (codes, ended) = client.rest().await;
    assert_eq!((codes, ended), (vec![], Ended::Late));
    assert_eq!(begun.elapsed().as_secs(), 30);
}
