//! Links to our own environment.

use tokio::net::{TcpListener, UnixListener};

use super::*;
use crate::model::Reason;
use crate::transport::tls::testing::{Authority, Pair, leaf, pem};
use crate::transport::tls::{Authorities, Certificate, ClientTls, Pins, ServerProof, ServerTls};
use crate::world::{Link, ManualClock, SeededRandom, World};

fn world() -> World {
    World::with(ManualClock::at("2026-11-22T12:00:00Z".parse().unwrap()), SeededRandom::new(1))
}

async fn reach(endpoint: &Endpoint) -> Result<Dialogue<Link>, DialogueError> {
    let tls = ClientTls::anonymous();
    connect(endpoint, Dialect::Lmtp, &name(), StepLimits::default(), &tls, &world()).await
}

async fn greet<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(stream: S, offer: &str) -> Peer<S> {
    let mut peer = Peer::new(stream);
    peer.say("220 ready\r\n").await;
    peer.expect("LHLO client.a.nl", offer).await;
    peer
}

/// Proves: +HAND-002 -HAND-002
#[test]
fn clear_text_stays_on_the_machine() {
    assert!(Endpoint::loopback("127.0.0.1:24".parse().unwrap()).is_ok());
    assert!(Endpoint::loopback("[::1]:24".parse().unwrap()).is_ok());
    for away in ["10.0.0.1:24", "192.0.2.1:24", "0.0.0.0:24", "[::]:24", "[fe80::1]:24"] {
        let away = away.parse().unwrap();
        assert_eq!(Endpoint::loopback(away).err(), Some(EndpointError::NotLoopback(away)));
    }
    let dane = ServerProof::Dane { records: vec![], names: vec![] };
    let refused = Endpoint::tls("mail.a.nl:25".to_owned(), name(), dane, TlsStart::Starttls);
    assert_eq!(refused.err(), Some(EndpointError::Proof));
}

#[tokio::test]
async fn a_socket_and_loopback_are_reached() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lmtp");
    let socket = UnixListener::bind(&path).unwrap();
    let endpoint = Endpoint::unix(path);
    assert!(endpoint.describe().starts_with("unix:/"));
    let (dialogue, _peer) = tokio::join!(reach(&endpoint), async {
        greet(socket.accept().await.unwrap().0, "250 here\r\n").await
    });
    assert!(dialogue.is_ok());
    drop(socket);
    let error = reach(&endpoint).await.err().unwrap();
    assert_eq!((error.reason(), error.step()), (Reason::ConnectFailed, Step::Connect));

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::loopback(listener.local_addr().unwrap()).unwrap();
    let (dialogue, _peer) = tokio::join!(reach(&endpoint), async {
        greet(listener.accept().await.unwrap().0, "250 here\r\n").await
    });
    assert!(dialogue.is_ok());
}

/// Proves: +HAND-002 -HAND-002
#[tokio::test]
async fn far_hand_offs_prove_their_key_before_they_hear_a_message() {
    let authority = Authority::root("ours");
    let (theirs, stranger) = (authority.issue(&["mail.a.nl"]), leaf(&["mail.a.nl"]));
    let pin = |pair: &Pair| {
        ServerProof::Pinned(Pins::new(vec![Certificate::parse(&pair.chain[0]).unwrap().key_digest()]))
    };
    let issued =
        ServerProof::Authority(Authorities::from_pem(pem(&authority.certificate()).as_bytes()).unwrap());
    for start in [TlsStart::Starttls, TlsStart::Immediate] {
        for (proof, shown, reason) in [
            (pin(&theirs), &theirs, None),
            (pin(&theirs), &stranger, Some(Reason::PinMismatch)),
            (issued.clone(), &theirs, None),
            (issued.clone(), &stranger, Some(Reason::PinMismatch)),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let authority = listener.local_addr().unwrap().to_string();
            let endpoint = Endpoint::tls(authority, "mail.a.nl".parse().unwrap(), proof, start).unwrap();
            let script = async {
                let mut stream = listener.accept().await.unwrap().0;
                if start == TlsStart::Starttls {
                    let mut peer = greet(stream, "250-here\r\n250 STARTTLS\r\n").await;
                    peer.expect("STARTTLS", "220 go\r\n").await;
                    stream = peer.stream;
                }
                let Ok((inside, _)) = ServerTls::new(shown.ring()).accept(stream).await else {
                    return Vec::new();
                };
                let mut inside = Peer::new(inside);
                if start == TlsStart::Immediate {
                    inside.say("220 ready\r\n").await;
                }
                if reason.is_none() {
                    inside.expect("LHLO client.a.nl", "250 here\r\n").await;
                }
                inside.rest().await
            };
            let client = async { reach(&endpoint).await.map(|dialogue| dialogue.capabilities().clone()) };
            let (outcome, heard) = tokio::join!(client, script);
            assert_eq!(outcome.err().map(|error| error.reason()), reason, "{start:?}");
            assert_eq!(heard.is_empty(), reason.is_some());
        }
    }
}

#[tokio::test]
async fn a_far_hand_off_without_starttls_is_none() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    let proof = ServerProof::Pinned(Pins::new(vec![]));
    let endpoint = Endpoint::tls(authority, name(), proof, TlsStart::Starttls).unwrap();
    let (outcome, heard) = tokio::join!(reach(&endpoint), async {
        greet(listener.accept().await.unwrap().0, "250 here\r\n").await.rest().await
    });
    assert_eq!(outcome.err().unwrap().reason(), Reason::StarttlsAbsent);
    assert_eq!(heard, b"LHLO client.a.nl\r\n");
}
