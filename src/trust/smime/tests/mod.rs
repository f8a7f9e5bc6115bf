//! Certificates, messages and the judge that OpenSSL is.
#![allow(clippy::unwrap_used)]

mod openssl;
mod verdicts;
mod wrapping;

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::OnceLock;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};

use super::*;
use crate::model::Address;

/// Whose certificates these are.
pub(crate) const AUTHOR: &str = "jan@a.example";

/// The kinds of keys that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    P256,
    P384,
    Rsa,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::P256, Self::P384, Self::Rsa];

    pub(crate) fn key(self) -> KeyPair {
        match self {
            Self::P256 => KeyPair::generate().unwrap(),
            Self::P384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap(),
            Self::Rsa => crate::transport::tls::testing::pem_key_rsa(2048),
        }
    }
}

/// An authority for mail, and one below it that issues.
pub(crate) struct Pki {
    root: CertifiedIssuer<'static, KeyPair>,
    middle: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its chain and key, PEM.
#[derive(Clone)]
pub(crate) struct Mailbox {
    pub(crate) chain: String,
    pub(crate) key: String,
}

fn authority(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2090, 1, 1));
    params
}

/// What a certificate for this address says.
pub(crate) fn mailbox(address: &str) -> CertificateParams {
    let mut params = params("Jan Jansen");
    params.subject_alt_names = vec![SanType::Rfc822Name(address.try_into().unwrap())];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection];
    params.is_ca = IsCa::ExplicitNoCa;
    params
}

impl Pki {
    pub(crate) fn new() -> Self {
        let root =
            CertifiedIssuer::self_signed(authority("Mail root"), KeyPair::generate().unwrap()).unwrap();
        let middle =
            CertifiedIssuer::signed_by(authority("Mail, issuing"), KeyPair::generate().unwrap(), &root)
                .unwrap();
        Self { root, middle }
    }

    /// The same one in every test that needs no other.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Pki> = OnceLock::new();
        SHARED.get_or_init(Self::new)
    }

    pub(crate) fn root(&self) -> String {
        self.root.pem()
    }

    pub(crate) fn anchors(&self) -> MailAnchors {
        MailAnchors::from_pem(self.root().as_bytes()).unwrap()
    }

    pub(crate) fn issue(&self, params: &CertificateParams, key: &KeyPair) -> Mailbox {
        let leaf = params.signed_by(key, &self.middle).unwrap();
        Mailbox { chain: format!("{}{}", leaf.pem(), self.middle.pem()), key: key.serialize_pem() }
    }

    pub(crate) fn author(&self, kind: Kind) -> Mailbox {
        self.issue(&mailbox(AUTHOR), &kind.key())
    }
}

impl Mailbox {
    pub(crate) fn signer(&self) -> SmimeSigner {
        SmimeSigner::from_pem(self.chain.as_bytes(), self.key.as_bytes()).unwrap()
    }
}

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

/// The verdict over a message of [`AUTHOR`], by these authorities.
fn judge(message: &[u8], anchors: Option<&MailAnchors>) -> Option<SmimeVerdict> {
    let from: [Address; 1] = [AUTHOR.parse().unwrap()];
    // OpenSSL signs by the clock of this machine.
    let now = now().max(Timestamp::now());
    SmimeEvidence::of(message).judge(&SmimeCase { from: &from, sender: None, anchors, now })
}

/// Its word, and why.
fn word(message: &[u8]) -> (String, String) {
    let facts = judge(message, Some(&Pki::shared().anchors())).map(|verdict| verdict.facts);
    facts.map_or_else(Default::default, |facts| (facts.verdict, facts.detail.unwrap_or_default()))
}

/// A message as a client of ours submits it: header section and body.
const SECTION: &str = "From: Jan <jan@a.example>\r\nContent-Type: text/plain; charset=utf-8\r\nSubject: hallo\r\n\
                       Content-Transfer-Encoding: 8bit\r\n";
const BODY: &str = "Beste Piet,\r\n\r\n--niet\r\nhet is zover \u{20ac}  \r\n\r\n";

/// The whole of it, signed by us.
fn signed(signer: SmimeSigner, section: &str, body: &str) -> Vec<u8> {
    let boundary = "=_sluis_0123456789abcdef0123456789abcdef".to_owned();
    let (mut wrap, mut message) = SmimeWrap::begin(section.as_bytes(), signer, boundary).unwrap();
    for piece in body.as_bytes().chunks(5) {
        wrap.body(piece);
        message.extend_from_slice(piece);
    }
    message.extend_from_slice(&wrap.finish(now()).unwrap().0);
    message
}

/// Runs the openssl command in a directory of its own.
struct OpenSsl {
    dir: tempfile::TempDir,
}

impl OpenSsl {
    fn new() -> Self {
        let openssl = Self { dir: tempfile::tempdir().unwrap() };
        openssl.file("root.pem", Pki::shared().root().as_bytes());
        openssl
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new("openssl")
            .args(arguments)
            .current_dir(self.dir.path())
            .output()
            .expect("the openssl command is one of the tools that ./check brings")
    }

    /// `openssl cms` with these arguments makes a message, which comes with CRLF line ends and a sender.
    fn make(&self, mailbox: &Mailbox, entity: &str, arguments: &[&str]) -> Vec<u8> {
        self.file("chain.pem", mailbox.chain.as_bytes());
        let above = mailbox.chain.rfind("-----BEGIN").unwrap();
        let above = if above == 0 { Pki::shared().root() } else { mailbox.chain[above..].to_owned() };
        self.file("above.pem", above.as_bytes());
        self.file("key.pem", mailbox.key.as_bytes());
        self.file("entity", entity.as_bytes());
        let base = ["cms", "-in", "entity", "-out", "message"];
        let made = self.run(&[&base[..], arguments].concat());
        assert!(made.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&made.stderr));
        let text = std::fs::read(self.dir.path().join("message")).unwrap();
        let text = String::from_utf8(text).unwrap().replace("\r\n", "\n").replace('\n', "\r\n");
        format!("From: {AUTHOR}\r\n{text}").into_bytes()
    }

    /// `openssl cms -sign` by this mailbox.
    fn sign(&self, mailbox: &Mailbox, arguments: &[&str]) -> Vec<u8> {
        let base = ["-sign", "-signer", "chain.pem", "-certfile", "above.pem", "-inkey", "key.pem"];
        self.make(mailbox, ENTITY, &[&base[..], arguments].concat())
    }

    /// Whether `openssl cms -verify` accepts a message; with `-cades` when it is to be CAdES.
    fn accepts(&self, message: &[u8], cades: bool) -> bool {
        self.file("judged", message);
        let cades: &[&str] = if cades { &["-cades"] } else { &[] };
        let base = ["cms", "-verify", "-in", "judged", "-CAfile", "root.pem", "-out", "content"];
        let judged = self.run(&[&base[..], cades].concat());
        let said = String::from_utf8_lossy(&judged.stderr).to_lowercase();
        assert!(judged.status.success() == said.contains("verification successful"), "{said}");
        judged.status.success()
    }
}

/// What is signed.
const ENTITY: &str = "Content-Type: text/plain\r\n\r\nBeste Piet,\r\n\r\n--het is zover\r\n\r\n";
