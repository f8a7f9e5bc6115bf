//! What our server answers to a hand-made ClientHello: the alert, octet for octet (attack classes T13, T15).

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::testing::leaf;
use super::super::*;
use super::dane::HOST;

const TLS_1_0: [u8; 2] = [3, 1];
const TLS_1_1: [u8; 2] = [3, 2];
const TLS_1_2: [u8; 2] = [3, 3];

const ECDHE_ECDSA_AES_256_GCM: [u8; 2] = [0xc0, 0x2c];
const ECDHE_ECDSA_AES_128_CBC: [u8; 2] = [0xc0, 0x09];
const RSA_AES_128_GCM: [u8; 2] = [0x00, 0x9c];
const RSA_RC4: [u8; 2] = [0x00, 0x05];
const RSA_3DES: [u8; 2] = [0x00, 0x0a];
const NULL_SHA256: [u8; 2] = [0x00, 0x3b];

const X25519: [u8; 2] = [0x00, 0x1d];
const SECP256K1: [u8; 2] = [0x00, 0x16];
const SECP192R1: [u8; 2] = [0x00, 0x13];

const ECDSA_SHA256: [u8; 2] = [4, 3];
const ECDSA_SHA1: [u8; 2] = [2, 3];

struct Hello {
    version: [u8; 2],
    suite: [u8; 2],
    group: [u8; 2],
    scheme: [u8; 2],
    extended_master_secret: bool,
    compression: &'static [u8],
}

const GOOD: Hello = Hello {
    version: TLS_1_2,
    suite: ECDHE_ECDSA_AES_256_GCM,
    group: X25519,
    scheme: ECDSA_SHA256,
    extended_master_secret: true,
    compression: &[0],
};

fn short(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap().to_be_bytes()
}

impl Hello {
    fn extensions(&self) -> Vec<u8> {
        let mut all = Vec::new();
        let mut add = |kind: u16, body: &[u8]| {
            all.extend(kind.to_be_bytes());
            all.extend(short(body.len()));
            all.extend_from_slice(body);
        };
        add(10, &[&[0, 2], &self.group[..]].concat());
        add(11, &[1, 0]);
        add(13, &[&[0, 2], &self.scheme[..]].concat());
        if self.extended_master_secret {
            add(23, &[]);
        }
        all
    }

    /// The record that carries it.
    fn to_wire(&self) -> Vec<u8> {
        let extensions = self.extensions();
        let mut body = self.version.to_vec();
        body.extend([7; 32]);
        body.push(0);
        body.extend([0, 2]);
        body.extend(self.suite);
        body.push(u8::try_from(self.compression.len()).unwrap());
        body.extend(self.compression);
        body.extend(short(extensions.len()));
        body.extend(extensions);
        let mut message = vec![1, 0];
        message.extend(short(body.len()));
        message.extend(body);
        let mut record = vec![22, 3, 1];
        record.extend(short(message.len()));
        record.extend(message);
        record
    }
}

/// What the server sends first: the type of the record, and an alert's number.
async fn answer(hello: &Hello) -> (u8, Option<u8>) {
    let (mut near, far) = tokio::io::duplex(1 << 16);
    let server = ServerTls::new(leaf(&[HOST]).ring());
    near.write_all(&hello.to_wire()).await.unwrap();
    let client = async {
        let mut head = [0; 5];
        near.read_exact(&mut head).await.unwrap();
        let mut body = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
        near.read_exact(&mut body).await.unwrap();
        drop(near);
        (head[0], (head[0] == 21).then(|| body[1]))
    };
    let (answer, accepted) = tokio::join!(client, server.accept(far));
    assert!(accepted.is_err(), "nobody finishes this handshake");
    answer
}

const HANDSHAKE: (u8, Option<u8>) = (22, None);

fn alert(number: u8) -> (u8, Option<u8>) {
    (21, Some(number))
}

const HANDSHAKE_FAILURE: u8 = 40;
const ILLEGAL_PARAMETER: u8 = 47;
const PROTOCOL_VERSION: u8 = 70;

/// Proves: +TLS-001 -TLS-001
#[tokio::test]
async fn t13_old_versions_get_protocol_version() {
    assert_eq!(answer(&GOOD).await, HANDSHAKE);
    for version in [TLS_1_0, TLS_1_1, [3, 0]] {
        assert_eq!(answer(&Hello { version, ..GOOD }).await, alert(PROTOCOL_VERSION), "{version:?}");
    }
}

/// Proves: -TLS-002
#[tokio::test]
async fn t13_weak_suites_get_handshake_failure() {
    for suite in [ECDHE_ECDSA_AES_128_CBC, RSA_AES_128_GCM, RSA_RC4, RSA_3DES, NULL_SHA256] {
        assert_eq!(answer(&Hello { suite, ..GOOD }).await, alert(HANDSHAKE_FAILURE), "{suite:?}");
    }
    assert_eq!(answer(&Hello { extended_master_secret: false, ..GOOD }).await, alert(HANDSHAKE_FAILURE));
}

/// Proves: -TLS-003
#[tokio::test]
async fn t13_weak_groups_get_handshake_failure() {
    for group in [SECP192R1, SECP256K1] {
        assert_eq!(answer(&Hello { group, ..GOOD }).await, alert(HANDSHAKE_FAILURE), "{group:?}");
    }
}

/// Proves: -TLS-006
#[tokio::test]
async fn t13_sha1_signatures_get_handshake_failure() {
    assert_eq!(answer(&Hello { scheme: ECDSA_SHA1, ..GOOD }).await, alert(HANDSHAKE_FAILURE));
}

/// Proves: +TLS-004 -TLS-004
#[tokio::test]
async fn t13_compression_is_not_taken_up() {
    // DEFLATE beside none: none is chosen. DEFLATE alone: refused.
    assert_eq!(answer(&Hello { compression: &[1, 0], ..GOOD }).await, HANDSHAKE);
    assert_eq!(answer(&Hello { compression: &[1], ..GOOD }).await, alert(ILLEGAL_PARAMETER));
}
