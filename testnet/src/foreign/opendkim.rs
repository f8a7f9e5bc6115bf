//! OpenDKIM as the signing milter of a Postfix.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::ForeignError;
use super::process::{Running, run};
use super::root::{Account, Root};

/// A running OpenDKIM with a key of its own.
#[derive(Debug)]
pub struct OpenDkim {
    running: Running,
    root: Root,
    addr: SocketAddr,
    domain: String,
    record: String,
}

const PORT: u16 = 8891;
/// The selector that it signs with.
const SELECTOR: &str = "real";
const KEY: &str = "/etc/opendkim/key.pem";

impl OpenDkim {
    /// Makes an RSA key of 2,048 bits and starts signing mail from `domain`, as a milter at `address`. `resolver` (port
    /// 53) is asked only by [`OpenDkim::verify`].
    ///
    /// # Errors
    /// See [`ForeignError`].
    pub fn start(address: IpAddr, domain: &str, resolver: IpAddr) -> Result<Self, ForeignError> {
        let root = Root::new("opendkim")?;
        let (private, public) = key()?;
        root.write_secret(KEY, private, Account::Opendkim)?;
        root.write("/etc/opendkim/opendkim.conf", config(address, domain))?;
        root.write("/etc/opendkim/ours", "127.0.0.0/8\nlocalhost\n")?;
        root.write("/etc/resolv.conf", format!("nameserver {resolver}\n"))?;

        let mut command = root.command("/usr/sbin/opendkim");
        command.args(["-f", "-x", "/etc/opendkim/opendkim.conf"]);
        let addr = (address, PORT).into();
        let mut running = root.start("opendkim", command, None)?;
        running.until_listening(addr)?;
        Ok(Self {
            running,
            root,
            addr,
            domain: domain.to_owned(),
            record: format!("v=DKIM1; k=rsa; p={public}"),
        })
    }

    /// Where the milter listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Name and text of the TXT record that publishes the key. The text is longer than one character-string.
    pub fn record(&self) -> (String, &str) {
        (format!("{SELECTOR}._domainkey.{}", self.domain), &self.record)
    }

    /// Judges the signatures of a message with OpenDKIM's own verifier and the published key.
    ///
    /// # Errors
    /// [`ForeignError::Unexpected`] with its reason if a signature does not hold or there is none.
    pub fn verify(&self, message: &[u8]) -> Result<(), ForeignError> {
        if !String::from_utf8_lossy(message).contains("DKIM-Signature:") {
            return Err(ForeignError::Unexpected {
                what: "looking for a signature".into(),
                reply: "none".into(),
            });
        }
        run("opendkim-testmsg", self.root.command("/usr/sbin/opendkim-testmsg"), message).map(drop)
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.running.log()
    }
}

/// A new key: private as PEM, public in base64 as DKIM publishes it.
fn key() -> Result<(String, String), ForeignError> {
    let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| ForeignError::Key("RSA-2048".into()))?;
    let private: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| ForeignError::Key("PKCS #8".into()))?;
    let public: PublicKeyX509Der<'_> =
        pair.public_key().as_der().map_err(|_| ForeignError::Key("public key".into()))?;
    let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
    let text = STANDARD.encode(private.as_ref());
    for line in text.as_bytes().chunks(64) {
        let _ = writeln!(pem, "{}", String::from_utf8_lossy(line));
    }
    pem += "-----END PRIVATE KEY-----\n";
    Ok((pem, STANDARD.encode(public.as_ref())))
}

fn config(address: IpAddr, domain: &str) -> String {
    format!(
        "Mode s\n\
         Domain {domain}\n\
         Selector {SELECTOR}\n\
         KeyFile {KEY}\n\
         Canonicalization relaxed/relaxed\n\
         OversignHeaders From\n\
         Socket inet:{PORT}@{address}\n\
         InternalHosts /etc/opendkim/ours\n\
         UserID opendkim\n\
         Syslog no\n"
    )
}
