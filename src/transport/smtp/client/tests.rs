#![allow(clippy::unwrap_used)]
//! Links to scripted peers with real TLS.

use tokio::io::DuplexStream;
use tokio_rustls::server::TlsStream;

use super::*;
use crate::discovery::{Host, Secure, TlsaSet};
use crate::model::{ContentLeft, IdentityRule};
use crate::transport::smtp::dialogue::testing::{Peer, content, envelope};
use crate::transport::tls::testing::{Pair, leaf};
use crate::transport::tls::{Certificate, HandshakeFacts, ServerTls, provider};
use crate::world::{ManualClock, SeededRandom};

const HOST: &str = "mx.b.nl";

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn settings() -> ClientSettings {
    ClientSettings { name: "out.a.nl".parse().unwrap(), source: None, limits: StepLimits::default() }
}

/// A candidate that vouches for this pair's key, and for some that cannot be used.
fn candidate(pair: &Pair) -> Candidate {
    let mut rdata = vec![3, 1, 1];
    rdata.extend_from_slice(Certificate::parse(&pair.chain[0]).unwrap().key_digest().as_bytes());
    let set = TlsaSet::from_rdata(&[rdata, vec![3, 1, 1], vec![1, 1, 1, 0]]);
    assert_eq!(set.usable.len(), 1);
    let name: DomainName = HOST.parse().unwrap();
    Candidate {
        host: Host { name: name.clone(), preference: 10, mail_domain: None },
        base: name.clone(),
        reference_names: vec![name],
        addresses: vec!["127.0.0.1".parse().unwrap()],
        port: 25,
        tlsa: Secure::assumed(set),
    }
}

/// Establishes over a pipe while `script` plays the server. The link's outcome, and what the script returned.
async fn link<T>(
    candidate: &Candidate,
    client: &ClientTls,
    script: impl AsyncFnOnce(Peer<DuplexStream>) -> T,
) -> (Result<Session, (DialogueError, HostFacts)>, T) {
    let (near, far) = tokio::io::duplex(1 << 16);
    let settings = settings();
    let mut facts = facts_of(candidate, "127.0.0.1:25".parse().unwrap());
    let work = async {
        let outcome = establish(near, candidate, &settings, client, now(), &mut facts).await;
        outcome.map_err(|error| {
            note_failure(&mut facts, &error);
            (error, facts)
        })
    };
    tokio::join!(work, script(Peer::new(far)))
}

/// The clear-text part, as every good host plays it.
async fn opening(peer: &mut Peer<DuplexStream>) {
    peer.say("220 ready\r\n").await;
    let offers = "250-mx\r\n250-CHUNKING\r\n250-XPEERLEVEL mutual out.a.nl\r\n250-SIZE 1\r\n250 STARTTLS\r\n";
    peer.expect("EHLO out.a.nl", offers).await;
    peer.expect("STARTTLS", "220 go\r\n").await;
}

/// The handshake, and EHLO inside it.
async fn secured(
    peer: Peer<DuplexStream>,
    pair: &Pair,
    answer: &str,
) -> (Peer<TlsStream<DuplexStream>>, HandshakeFacts) {
    let (stream, facts) = ServerTls::new(pair.ring()).accept(peer.stream).await.unwrap();
    let mut inside = Peer::new(stream);
    inside.expect("EHLO out.a.nl", answer).await;
    (inside, facts)
}

const CONFIRMED: &str =
    "250-mx\r\n250-PIPELINING\r\n250-XPEERLEVEL mutual out.a.nl other.a.nl\r\n250 8BITMIME\r\n";

/// Proves: +SMTP-003 +SMTP-004 +IDEN-003 +IDEN-005 +DANE-005
#[tokio::test]
async fn a_good_link_is_mutual_and_confirmed() {
    let (ours, theirs) = (leaf(&["out.a.nl"]), leaf(&[HOST]));
    let (session, (_peer, seen)) =
        link(&candidate(&theirs), &ClientTls::new(ours.ring()), async |mut peer| {
            opening(&mut peer).await;
            secured(peer, &theirs, CONFIRMED).await
        })
        .await;
    let session = session.ok().unwrap();
    assert_eq!(session.level(), Level::Mutual);
    assert_eq!(session.confirmation().unwrap().names.len(), 2);
    assert_eq!(session.server().rule(), IdentityRule::Dane);
    assert_eq!(seen.chain(), ours.chain);
    let facts = session.facts();
    assert_eq!((facts.host.as_str(), facts.preference), (HOST, Some(10)));
    assert_eq!((facts.tlsa.as_slice(), facts.tlsa_unusable), (&["3 1 1".to_owned()][..], 2));
    let tls = facts.tls.as_ref().unwrap();
    assert_eq!(tls.authenticated_by.as_deref(), Some("dane 3 1 1"));
    assert_eq!((tls.version.as_str(), tls.client_certificate_sent), ("TLSv1.3", Some(true)));
    assert_eq!(facts.ehlo, ["PIPELINING", "XPEERLEVEL mutual out.a.nl other.a.nl", "8BITMIME"]);
    assert_eq!((facts.reason, facts.step.as_deref()), (None, Some("hello_secured")));
}

/// Proves: -SMTP-003 -IDEN-005
#[tokio::test]
async fn t03_what_was_offered_in_the_clear_is_forgotten() {
    let (ours, theirs) = (leaf(&["out.a.nl"]), leaf(&[HOST]));
    let (session, mut inside) = link(&candidate(&theirs), &ClientTls::new(ours.ring()), async |mut peer| {
        opening(&mut peer).await;
        secured(peer, &theirs, "250 mx\r\n").await.0
    })
    .await;
    let mut session = session.ok().unwrap();
    assert!(session.facts().ehlo.is_empty());
    assert_eq!(session.confirmation(), None);
    assert_eq!(session.level(), Level::Mutual);
    // The clear-text EHLO offered CHUNKING and a SIZE of 1: neither exists here.
    let mut reader = &b"Subject: x\r\n"[..];
    let envelope = envelope(&["b@b.nl"]);
    let (transfer, ()) = tokio::join!(session.send(&envelope, content(&mut reader)), async {
        inside.expect("MAIL FROM:<a@a.nl>", "250 ok\r\n").await;
        inside.expect("RCPT TO:<b@b.nl>", "250 ok\r\n").await;
        inside.expect("DATA", "354 go on\r\n").await;
        inside.content().await;
        inside.say("250 2.0.0 queued\r\n").await;
    });
    assert_eq!(transfer.unwrap().content_left, ContentLeft::Yes);
    assert_eq!(session.facts().code.as_deref(), Some("250 2.0.0"));
    assert_eq!(session.facts().step.as_deref(), Some("final_dot"));
}

/// Proves: -SMTP-003
#[tokio::test]
async fn t03_octets_after_the_reply_to_starttls_end_the_link() {
    let (ours, theirs) = (leaf(&["out.a.nl"]), leaf(&[HOST]));
    for injected in ["220 go\r\n250-mx\r\n250 XPEERLEVEL mutual out.a.nl\r\n", "220 go\r\n\x16"] {
        let (session, heard) = link(&candidate(&theirs), &ClientTls::new(ours.ring()), async |mut peer| {
            peer.say("220 ready\r\n").await;
            peer.expect("EHLO out.a.nl", "250-mx\r\n250 STARTTLS\r\n").await;
            peer.expect("STARTTLS", injected).await;
            peer.rest().await
        })
        .await;
        let (error, facts) = session.err().unwrap();
        assert_eq!(
            (error.reason(), facts.reason),
            (Reason::StarttlsInjection, Some(Reason::StarttlsInjection))
        );
        assert_eq!(heard, b"EHLO out.a.nl\r\nSTARTTLS\r\n");
    }
}

/// Proves: -SMTP-004 -SMTP-021
#[tokio::test]
async fn t22_no_starttls_no_mail_whatever_the_message_says() {
    let (ours, theirs) = (leaf(&["out.a.nl"]), leaf(&[HOST]));
    for (offer, answer) in [("250 mx\r\n", None), ("250-mx\r\n250 STARTTLS\r\n", Some("454 4.7.0 no\r\n"))] {
        let (session, heard) = link(&candidate(&theirs), &ClientTls::new(ours.ring()), async |mut peer| {
            peer.say("220 ready\r\n").await;
            peer.expect("EHLO out.a.nl", offer).await;
            if let Some(answer) = answer {
                peer.expect("STARTTLS", answer).await;
            }
            peer.rest().await
        })
        .await;
        // A message is needed to say `TLS-Required: no`, and no message can be given to a link that is not.
        let (error, facts) = session.err().unwrap();
        assert_eq!((error.reason(), error.content_left()), (Reason::StarttlsAbsent, ContentLeft::Never));
        assert_eq!(facts.step.as_deref(), Some("starttls"));
        assert_eq!(facts.tls, None);
        let heard = String::from_utf8(heard).unwrap();
        assert!(!heard.contains("MAIL") && heard.starts_with("EHLO"), "{heard}");
    }
}

/// Proves: +SMTP-021
#[tokio::test]
async fn t22_the_header_field_travels_on_inside_tls() {
    let (ours, theirs) = (leaf(&["out.a.nl"]), leaf(&[HOST]));
    let (session, mut inside) = link(&candidate(&theirs), &ClientTls::new(ours.ring()), async |mut peer| {
        opening(&mut peer).await;
        secured(peer, &theirs, "250-mx\r\n250 CHUNKING\r\n").await.0
    })
    .await;
    let mut session = session.ok().unwrap();
    let message = b"TLS-Required: no\r\nSubject: x\r\n\r\n";
    let (mut reader, envelope) = (&message[..], envelope(&["b@b.nl"]));
    let (transfer, ()) = tokio::join!(session.send(&envelope, content(&mut reader)), async {
        inside.expect("MAIL FROM:<a@a.nl>", "250 ok\r\n").await;
        inside.expect("RCPT TO:<b@b.nl>", "250 ok\r\n").await;
        assert_eq!(inside.line().await, format!("BDAT {} LAST", message.len()));
        assert_eq!(inside.octets(message.len()).await, message);
        inside.say("250 ok\r\n").await;
    });
    assert!(transfer.is_ok());
}

/// Proves: -DANE-005 -DANE-006 -SMTP-004
#[tokio::test]
async fn another_certificate_than_the_one_vouched_for_ends_the_link() {
    let (ours, theirs, other) = (leaf(&["out.a.nl"]), leaf(&[HOST]), leaf(&[HOST]));
    let (session, accepted) = link(&candidate(&other), &ClientTls::new(ours.ring()), async |mut peer| {
        opening(&mut peer).await;
        match ServerTls::new(theirs.ring()).accept(peer.stream).await {
            // TLS 1.3: the server is done before it hears the verdict, and then hears nothing else.
            Ok((stream, _)) => Peer::new(stream).rest().await,
            Err(_) => Vec::new(),
        }
    })
    .await;
    let (error, facts) = session.err().unwrap();
    assert_eq!((error.reason(), error.step()), (Reason::TlsaMismatch, Step::Handshake));
    assert_eq!(facts.reason, Some(Reason::TlsaMismatch));
    assert!(accepted.is_empty(), "not a word inside");
}

/// Proves: +DANE-010 -DANE-010
#[tokio::test]
async fn the_name_sent_is_the_tlsa_base_domain_and_not_the_alias() {
    let (ours, theirs) = (leaf(&["out.a.nl"]), leaf(&["whatever.example"]));
    let mut aliased = candidate(&theirs);
    aliased.base = "real.c.nl".parse().unwrap();
    let (session, asked) = link(&aliased, &ClientTls::new(ours.ring()), async |mut peer| {
        opening(&mut peer).await;
        let (inside, _) = secured(peer, &theirs, CONFIRMED).await;
        inside.stream.get_ref().1.server_name().map(str::to_owned)
    })
    .await;
    assert!(session.is_ok());
    assert_eq!(asked.as_deref(), Some("real.c.nl"));
    assert_ne!(asked.as_deref(), Some(HOST));
}

/// Proves: +IDEN-003 -IDEN-003
#[tokio::test]
async fn a_server_that_does_not_ask_makes_no_mutual_link() {
    let (ours, theirs) = (leaf(&["out.a.nl"]), leaf(&[HOST]));
    let (session, ()) = link(&candidate(&theirs), &ClientTls::new(ours.ring()), async |mut peer| {
        opening(&mut peer).await;
        let config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(theirs.ring());
        let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
        let mut inside = Peer::new(acceptor.accept(peer.stream).await.unwrap());
        inside.expect("EHLO out.a.nl", CONFIRMED).await;
    })
    .await;
    let session = session.ok().unwrap();
    assert_eq!(session.level(), Level::Nta7516);
    assert_eq!(*session.own_certificate(), OwnCertificate::NotRequested);
    // It cannot have proved what it never saw.
    assert_eq!(session.confirmation(), None);
}

#[tokio::test]
async fn t07_a_server_that_rejects_our_certificate_says_so_by_alert() {
    let (ours, theirs) = (leaf(&["out.a.nl"]), leaf(&[HOST]));
    let (session, ()) = link(&candidate(&theirs), &ClientTls::new(ours.ring()), async |mut peer| {
        opening(&mut peer).await;
        let mut roots = rustls::RootCertStore::empty();
        let root = crate::transport::tls::testing::Authority::root("theirs");
        roots.add(root.certificate()).unwrap();
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
            std::sync::Arc::new(roots),
            provider(),
        )
        .build()
        .unwrap();
        let config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(theirs.ring());
        let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
        assert!(acceptor.accept(peer.stream).await.is_err());
    })
    .await;
    let (error, facts) = session.err().unwrap();
    assert_eq!((error.reason(), error.step()), (Reason::TlsHandshake, Step::HelloSecured), "{error}");
    assert_eq!(error.content_left(), ContentLeft::Never);
    assert!(facts.tls.is_some());
}

/// Proves: -SMTP-022
#[tokio::test(start_paused = true)]
async fn a_handshake_that_does_not_move_times_out() {
    let (ours, theirs) = (leaf(&["out.a.nl"]), leaf(&[HOST]));
    let (session, _heard) = link(&candidate(&theirs), &ClientTls::new(ours.ring()), async |mut peer| {
        opening(&mut peer).await;
        peer.rest().await
    })
    .await;
    let (error, _) = session.err().unwrap();
    assert_eq!((error.reason(), error.step()), (Reason::PeerTimeout, Step::Handshake));
}

#[tokio::test]
async fn nobody_at_the_port_is_a_failed_connection() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let mut candidate = candidate(&leaf(&[HOST]));
    candidate.port = port;
    let (tls, world) = (ClientTls::anonymous(), World::with(ManualClock::at(now()), SeededRandom::new(1)));
    let error =
        connect(&candidate, "127.0.0.1".parse().unwrap(), &settings(), &tls, &world).await.err().unwrap();
    assert_eq!((error.reason(), error.error().step()), (Reason::ConnectFailed, Step::Connect));
    let facts = error.into_facts();
    assert_eq!(facts.address, Some(format!("127.0.0.1:{port}")));
    assert_eq!((facts.step.as_deref(), facts.reason), (Some("connect"), Some(Reason::ConnectFailed)));
}

/// A session with somebody who answers RSET and QUIT until the link ends.
async fn pooled(ours: &ClientTls, theirs: &Pair) -> Session {
    let (near, far) = tokio::io::duplex(1 << 16);
    let pair = Pair { chain: theirs.chain.clone(), key_pem: theirs.key_pem.clone() };
    tokio::spawn(async move {
        let mut peer = Peer::new(far);
        opening(&mut peer).await;
        let (mut inside, _) = secured(peer, &pair, CONFIRMED).await;
        loop {
            match inside.line().await.as_str() {
                "RSET" => inside.say("250 ok\r\n").await,
                _ => return inside.say("221 bye\r\n").await,
            }
        }
    });
    let candidate = candidate(theirs);
    let mut facts = HostFacts::default();
    establish(near, &candidate, &settings(), ours, now(), &mut facts).await.ok().unwrap()
}

/// Proves: +SMTP-023 -SMTP-023
#[tokio::test(start_paused = true)]
async fn a_link_is_used_again_on_the_same_terms_only() {
    let (ours, theirs) = (ClientTls::new(leaf(&["out.a.nl"]).ring()), leaf(&[HOST]));
    let pool = Pool::new(PoolSettings { messages: 2, ..PoolSettings::default() });
    let address = "127.0.0.1".parse().unwrap();
    let good = candidate(&theirs);
    let key = LinkKey::new(&good, address, Level::Mutual, &ours);
    pool.keep(key.clone(), pooled(&ours, &theirs).await).await;
    assert_eq!(pool.len(), 1);

    let mut rolled_over = good.clone();
    rolled_over.tlsa = candidate(&leaf(&[HOST])).tlsa;
    let mut other_domain = good.clone();
    other_domain.reference_names.push("c.nl".parse().unwrap());
    let mut other_port = good.clone();
    other_port.port = 2525;
    let new_keys = ClientTls::new(leaf(&["out.a.nl"]).ring());
    for other in [
        LinkKey::new(&good, address, Level::Nta7516, &ours),
        LinkKey::new(&good, "127.0.0.2".parse().unwrap(), Level::Mutual, &ours),
        LinkKey::new(&good, address, Level::Mutual, &new_keys),
        LinkKey::new(&rolled_over, address, Level::Mutual, &ours),
        LinkKey::new(&other_domain, address, Level::Mutual, &ours),
        LinkKey::new(&other_port, address, Level::Mutual, &ours),
    ] {
        assert!(pool.take(&other).await.is_none());
    }
    let mut session = pool.take(&key).await.unwrap();
    assert!(pool.is_empty());
    session.messages = 2;
    pool.keep(key.clone(), session).await;
    assert!(pool.is_empty(), "it has carried its share");

    // Idle for too long: not used again, and closed by the next sweep.
    pool.keep(key.clone(), pooled(&ours, &theirs).await).await;
    tokio::time::advance(PoolSettings::default().idle).await;
    assert!(pool.take(&key).await.is_none());
    pool.keep(key.clone(), pooled(&ours, &theirs).await).await;
    pool.sweep().await;
    assert_eq!(pool.len(), 1);
    tokio::time::advance(PoolSettings::default().idle).await;
    pool.sweep().await;
    assert!(pool.is_empty());

    // The other side hung up in the meantime.
    let mut session = pooled(&ours, &theirs).await;
    session.dialogue.hang_up().await;
    pool.keep(key.clone(), session).await;
    assert_eq!(pool.len(), 1);
    assert!(pool.take(&key).await.is_none());
}
