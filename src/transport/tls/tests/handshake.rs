//! Our server and our client, over a pipe.

use jiff::Timestamp;
use rustls::AlertDescription;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::super::testing::{
    Authority, Pair, Validity, leaf, leaf_valid, pem_key_rsa, rsa_1024, signed_with_sha1,
};
use super::super::*;
use super::dane::{HOST, record};
use crate::model::{DomainName, IdentityRule, Reason};

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn host() -> DomainName {
    HOST.parse().unwrap()
}

fn dane(pair: &Pair, numbers: &str, at: usize) -> ServerProof {
    ServerProof::Dane { records: vec![record(numbers, &pair.chain[at])], names: vec![host()] }
}

type ServerEnd = Result<(tokio_rustls::server::TlsStream<DuplexStream>, HandshakeFacts), HandshakeError>;

async fn shake(
    server: &ServerTls,
    client: &ClientTls,
    proof: &ServerProof,
) -> (Result<Secured, HandshakeError>, ServerEnd) {
    let (near, far) = tokio::io::duplex(1 << 16);
    let host = host();
    tokio::join!(client.connect(near, &host, proof, now()), server.accept(far))
}

/// The alert that the server was sent.
fn alert(end: &ServerEnd) -> Option<AlertDescription> {
    match end {
        Err(HandshakeError::Tls(rustls::Error::AlertReceived(alert))) => Some(*alert),
        _ => None,
    }
}

/// In TLS 1.3 the server has finished before it hears the client's refusal.
async fn late_alert(end: ServerEnd) -> Option<AlertDescription> {
    if let Some(alert) = alert(&end) {
        return Some(alert);
    }
    let error = end.ok()?.0.read_u8().await.unwrap_err();
    match tls_error(&error)? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

/// Proves: +TLS-001 +TLS-002 +TLS-003 +TLS-008 +DANE-009 +DANE-010
#[tokio::test]
async fn both_sides_show_their_certificates() {
    let (ours, theirs) = (leaf(&["client.example.nl"]), leaf(&[HOST]));
    let server = ServerTls::new(theirs.ring());
    let client = ClientTls::new(ours.ring());
    let (near, far) = shake(&server, &client, &dane(&theirs, "3 1 1", 0)).await;
    let (Secured { stream: mut near, facts, peer }, (mut far, seen)) = (near.unwrap(), far.unwrap());
    assert_eq!((facts.version(), facts.cipher()), ("TLSv1.3", "TLS_AES_256_GCM_SHA384"));
    assert_eq!(facts.group(), Some("X25519MLKEM768"));
    assert_eq!(*facts.own_certificate(), OwnCertificate::Sent(vec!["client.example.nl".parse().unwrap()]));
    assert_eq!((peer.rule(), peer.evidence()), (IdentityRule::Dane, "dane 3 1 1"));
    assert_eq!(peer.names(), [host()]);
    assert_eq!(seen.chain(), ours.chain);
    assert_eq!(far.get_ref().1.server_name(), Some(HOST));
    let record = facts.to_record();
    assert_eq!(record.client_certificate_sent, Some(true));
    assert_eq!(record.peer_key_type.as_deref(), Some("ECDSA P-256"));
    assert_eq!(seen.to_record().client_certificate_sent, None);
    near.write_all(b"to").await.unwrap();
    near.flush().await.unwrap();
    let mut octets = [0; 2];
    far.read_exact(&mut octets).await.unwrap();
    assert_eq!(&octets, b"to");
}

/// Proves: +TLS-008
#[tokio::test]
async fn a_client_without_certificate_is_served_and_one_not_asked_says_so() {
    let theirs = leaf(&[HOST]);
    let proof = dane(&theirs, "3 1 1", 0);
    let (near, far) = shake(&ServerTls::new(theirs.ring()), &ClientTls::anonymous(), &proof).await;
    assert_eq!(*near.unwrap().facts.own_certificate(), OwnCertificate::NoneSuitable);
    let (_, seen) = far.unwrap();
    assert!(seen.chain().is_empty());
    assert!(matches!(Presented::from_handshake(&seen), Presented::Nothing));

    // A foreign server that does not ask.
    let config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(theirs.ring());
    let (near, far) = tokio::io::duplex(1 << 16);
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let client = ClientTls::new(leaf(&["client.example.nl"]).ring());
    let host = host();
    let (near, _far) = tokio::join!(client.connect(near, &host, &proof, now()), acceptor.accept(far));
    let near = near.unwrap();
    assert_eq!(*near.facts.own_certificate(), OwnCertificate::NotRequested);
    assert_eq!(near.facts.to_record().client_certificate_sent, Some(false));
}

/// Proves: -DANE-005 -DANE-006 -DANE-007
#[tokio::test]
async fn t15_a_server_that_fails_hears_why() {
    let root = Authority::root("root");
    let wrong = leaf(&[HOST]);
    let expired = root.issue_valid(&[HOST], Validity::Past);
    let misnamed = root.issue(&["other.example"]);
    let anchored = |pair: &Pair| dane(pair, "2 1 1", 1);
    for (pair, proof, reason, expected) in [
        (
            &leaf(&[HOST]),
            dane(&wrong, "3 1 1", 0),
            Reason::TlsaMismatch,
            AlertDescription::CertificateUnknown,
        ),
        (&expired, anchored(&expired), Reason::CertificateInvalid, AlertDescription::CertificateExpired),
        (&misnamed, anchored(&misnamed), Reason::CertificateInvalid, AlertDescription::BadCertificate),
    ] {
        let server = ServerTls::new(pair.ring());
        let (near, far) = shake(&server, &ClientTls::anonymous(), &proof).await;
        assert_eq!(near.err().unwrap().reason(), reason);
        assert_eq!(late_alert(far).await, Some(expected), "{reason}");
    }
}

/// Proves: -TLS-006 -DANE-009
#[tokio::test]
async fn a_copied_certificate_does_not_authenticate() {
    let (theirs, thief) = (leaf(&[HOST]), leaf(&[HOST]));
    let proof = dane(&theirs, "3 1 1", 0);
    // The library refuses to load such a pair, so the copy is put together below its checks.
    let key = rustls_pki_types::pem::PemObject::from_pem_slice(thief.key_pem.as_bytes()).unwrap();
    let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    let copied = rustls::sign::CertifiedKey::new(theirs.chain.clone(), signing);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let config = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(std::sync::Arc::new(rustls::sign::SingleCertAndKey::from(copied.clone())));
        let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
        let (near, far) = tokio::io::duplex(1 << 16);
        let (client, host) = (ClientTls::anonymous(), host());
        let (near, _far) = tokio::join!(client.connect(near, &host, &proof, now()), acceptor.accept(far));
        let error = near.err().unwrap();
        assert_eq!(error.reason(), Reason::TlsHandshake, "{error}");
    }
}

/// Proves: -TLS-008 -IDEN-008
#[tokio::test]
async fn a_client_with_a_copied_certificate_gets_no_link() {
    let (copied, thief, theirs) = (leaf(&["client.example.nl"]), leaf(&["client.example.nl"]), leaf(&[HOST]));
    let key = rustls_pki_types::pem::PemObject::from_pem_slice(thief.key_pem.as_bytes()).unwrap();
    let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    let forged = rustls::sign::CertifiedKey::new(copied.chain.clone(), signing);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let config = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(std::sync::Arc::new(Anybody))
            .with_client_cert_resolver(std::sync::Arc::new(rustls::sign::SingleCertAndKey::from(
                forged.clone(),
            )));
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
        let (near, far) = tokio::io::duplex(1 << 16);
        let name = rustls::pki_types::ServerName::try_from(HOST).unwrap();
        let server = ServerTls::new(theirs.ring());
        let (_near, far) = tokio::join!(connector.connect(name, near), server.accept(far));
        // Neither served nor treated as one who showed nothing.
        assert_eq!(far.err().unwrap().reason(), Reason::TlsHandshake);
    }
}

/// Proves: -TLS-006
#[tokio::test]
async fn a_peer_with_a_short_key_gets_no_link() {
    let (chain, key) = rsa_1024();
    let chain = super::super::testing::certificates(&chain);
    let pair = Pair { chain, key_pem: key };
    let pem = PemPair { chain: pair.chain_pem().into_bytes().leak(), key: pair.key_pem.as_bytes() };
    assert_eq!(KeyMaterial::from_pem(&[pem], KeyUse::Environment).unwrap_err(), KeyError::Weak(1024));
    let (chain, key) = signed_with_sha1();
    let pem = PemPair { chain: chain.as_bytes(), key: key.as_bytes() };
    assert_eq!(KeyMaterial::from_pem(&[pem], KeyUse::Federation).unwrap_err(), KeyError::BrokenSignature);
    // And nothing below 2048 bits or with an old hash is among the signatures we verify.
    for scheme in super::super::signature::schemes() {
        let name = format!("{scheme:?}");
        assert!(!name.contains("SHA1") && !name.contains("MD5"), "{name}");
    }
}

/// Proves: +DANE-006
#[tokio::test]
async fn t18_expired_and_misnamed_servers_pass_under_usage_3() {
    let theirs = leaf_valid(&["other.example"], Validity::Past);
    let (near, _) =
        shake(&ServerTls::new(theirs.ring()), &ClientTls::anonymous(), &dane(&theirs, "3 0 1", 0)).await;
    assert_eq!(near.unwrap().peer.evidence(), "dane 3 0 1");
}

/// Proves: -IDEN-012
#[tokio::test]
async fn t09_no_authority_counts_but_the_configured_one() {
    let (ours, public) = (Authority::root("ours"), Authority::root("public"));
    let authorities = |authority: &Authority| {
        let pem = super::super::testing::pem(&authority.certificate());
        ServerProof::Authority(Authorities::from_pem(pem.as_bytes()).unwrap())
    };
    let server = ServerTls::new(public.issue(&[HOST]).ring());
    let (near, far) = shake(&server, &ClientTls::anonymous(), &authorities(&ours)).await;
    assert_eq!(near.err().unwrap().reason(), Reason::PinMismatch);
    assert_eq!(late_alert(far).await, Some(AlertDescription::UnknownCA));
    let server = ServerTls::new(ours.issue(&[HOST]).ring());
    let (near, _) = shake(&server, &ClientTls::anonymous(), &authorities(&ours)).await;
    assert_eq!(near.unwrap().peer.rule(), IdentityRule::FederationCa);
    let server = ServerTls::new(ours.issue(&["other.example"]).ring());
    let (near, _) = shake(&server, &ClientTls::anonymous(), &authorities(&ours)).await;
    assert!(matches!(near.err(), Some(HandshakeError::Authority(ChainFault::Name))));
}

#[tokio::test]
async fn a_pinned_key_is_the_key_and_nothing_else() {
    let (theirs, other) = (leaf_valid(&["whatever.example"], Validity::Past), leaf(&[HOST]));
    let pin = |pair: &Pair| {
        ServerProof::Pinned(Pins::new(vec![Certificate::parse(&pair.chain[0]).unwrap().key_digest()]))
    };
    let server = ServerTls::new(theirs.ring());
    let (near, _) = shake(&server, &ClientTls::anonymous(), &pin(&theirs)).await;
    assert_eq!(near.unwrap().peer.rule(), IdentityRule::Pinned);
    let (near, far) = shake(&server, &ClientTls::anonymous(), &pin(&other)).await;
    assert!(matches!(near.err(), Some(HandshakeError::Pin(_))));
    assert_eq!(late_alert(far).await, Some(AlertDescription::CertificateUnknown));
    let (near, _) = shake(&server, &ClientTls::anonymous(), &ServerProof::Pinned(Pins::new(vec![]))).await;
    assert!(near.is_err());
}

/// Proves: +TLS-009 -TLS-009
#[tokio::test]
async fn a_fading_key_is_marked() {
    for (bits, expected) in [(2048, "RSA-2048, being phased out"), (3072, "RSA-3072")] {
        let theirs = Authority::root("root").issue_with(pem_key_rsa(bits), &[HOST]);
        let proof = dane(&theirs, "3 1 1", 0);
        let (near, _far) = shake(&ServerTls::new(theirs.ring()), &ClientTls::anonymous(), &proof).await;
        assert_eq!(near.unwrap().facts.to_record().peer_key_type.as_deref(), Some(expected));
    }
}

/// Proves: +TLS-005 -TLS-005
#[tokio::test]
async fn t08_nothing_is_resumed() {
    let theirs = leaf(&[HOST]);
    let server = ServerTls::new(theirs.ring());
    // A client that would resume if it could: it keeps what it gets.
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(std::sync::Arc::new(Anybody))
        .with_no_client_auth();
    config.enable_early_data = true;
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    for _ in 0..3 {
        let (near, far) = tokio::io::duplex(1 << 16);
        let name = rustls::pki_types::ServerName::try_from(HOST).unwrap();
        let (near, far) = tokio::join!(connector.connect(name, near), server.accept(far));
        let (mut near, (mut far, _)) = (near.unwrap(), far.unwrap());
        far.write_all(b"x").await.unwrap();
        far.flush().await.unwrap();
        near.read_u8().await.unwrap();
        assert_eq!(near.get_ref().1.tls13_tickets_received(), 0);
        assert_eq!(near.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
        assert_eq!(far.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
}

/// Proves: +TLS-001 +TLS-007 -TLS-007
#[tokio::test]
async fn a_client_of_2020_gets_tls_1_2_and_the_rsa_certificate() {
    let (ecdsa, root) = (leaf(&[HOST]), Authority::root("root"));
    let rsa = root.issue_with(pem_key_rsa(3072), &[HOST]);
    let (one, two) = (ecdsa.chain_pem(), rsa.chain_pem());
    let both = [
        PemPair { chain: one.as_bytes(), key: ecdsa.key_pem.as_bytes() },
        PemPair { chain: two.as_bytes(), key: rsa.key_pem.as_bytes() },
    ];
    let server = |pairs: &[PemPair<'_>]| {
        ServerTls::new(KeyRing::new(KeyMaterial::from_pem(pairs, KeyUse::Federation).unwrap()))
    };
    let old = rustls::crypto::CryptoProvider {
        cipher_suites: vec![rustls::crypto::aws_lc_rs::cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256],
        ..rustls::crypto::aws_lc_rs::default_provider()
    };
    let config = rustls::ClientConfig::builder_with_provider(std::sync::Arc::new(old))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(std::sync::Arc::new(RsaOnly))
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    for (listener, expected) in [(server(&both), Some(&rsa.chain)), (server(&both[..1]), None)] {
        let (near, far) = tokio::io::duplex(1 << 16);
        let name = rustls::pki_types::ServerName::try_from(HOST).unwrap();
        let (near, far) = tokio::join!(connector.connect(name, near), listener.accept(far));
        let shown = near.ok().map(|near| near.get_ref().1.peer_certificates().unwrap().to_vec());
        assert_eq!(shown.as_ref(), expected);
        assert_eq!(far.is_ok(), expected.is_some());
        if let Ok((_, facts)) = far {
            assert_eq!((facts.version(), facts.group()), ("TLSv1.2", Some("x25519")));
        }
    }
}

macro_rules! trusting {
    ($name:ident, $schemes:expr) => {
        #[derive(Debug)]
        struct $name;

        impl rustls::client::danger::ServerCertVerifier for $name {
            fn verify_server_cert(
                &self,
                _: &rustls::pki_types::CertificateDer<'_>,
                _: &[rustls::pki_types::CertificateDer<'_>],
                _: &rustls::pki_types::ServerName<'_>,
                _: &[u8],
                _: rustls::pki_types::UnixTime,
            ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
                Ok(rustls::client::danger::ServerCertVerified::assertion())
            }

            fn verify_tls12_signature(
                &self,
                message: &[u8],
                cert: &rustls::pki_types::CertificateDer<'_>,
                dss: &rustls::DigitallySignedStruct,
            ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
                super::super::signature::verify_tls12(message, cert, dss)
            }

            fn verify_tls13_signature(
                &self,
                message: &[u8],
                cert: &rustls::pki_types::CertificateDer<'_>,
                dss: &rustls::DigitallySignedStruct,
            ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
                super::super::signature::verify_tls13(message, cert, dss)
            }

            fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
                $schemes
            }
        }
    };
}

trusting!(Anybody, super::super::signature::schemes());
trusting!(RsaOnly, vec![rustls::SignatureScheme::RSA_PSS_SHA256, rustls::SignatureScheme::RSA_PKCS1_SHA256]);
