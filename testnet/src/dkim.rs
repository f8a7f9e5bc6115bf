//! Keys with which a provider's node signs its mail, and the records that publish them (RFC 6376 section 3.6.1, RFC 8463).
//!
//! They are for tests alone. The RSA key is made once in a run and shared by all providers, because making one is slow; a real
//! provider would have a key of its own.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::pki::{PkiError, pem, write_file};

/// One key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningKey {
    /// Its name below the domain.
    pub selector: &'static str,
    /// The text of its TXT record. That of an RSA key is longer than one character-string.
    pub record: String,
    pem: String,
    pkcs8: Vec<u8>,
}

impl SigningKey {
    /// An Ed25519 key of the provider's own and the shared RSA key.
    ///
    /// # Errors
    /// The library makes no key.
    pub fn both() -> Result<Vec<Self>, PkiError> {
        Ok(vec![ed25519().ok_or(PkiError::SigningKey)?, rsa().ok_or(PkiError::SigningKey)?])
    }

    /// The TXT record's owner name at a domain.
    #[must_use]
    pub fn name(&self, domain: &str) -> String {
        format!("{}._domainkey.{domain}", self.selector)
    }

    /// Whether it is an RSA key.
    #[must_use]
    pub fn is_rsa(&self) -> bool {
        self.record.contains("k=rsa")
    }

    /// The private key as dkimpy reads it: PEM of an RSA key, the seed of an Ed25519 one in base64.
    #[must_use]
    pub fn for_dkimpy(&self) -> String {
        if self.is_rsa() {
            return self.pem.clone();
        }
        // The seed ends the structure (RFC 8410 section 7).
        STANDARD.encode(&self.pkcs8[self.pkcs8.len() - 32..])
    }

    /// Content with a signature of `domain` on top: over the last `From:` field and the body as they stand (`simple`, RFC 6376
    /// section 3.4), because what is sent here is meant to arrive as it is. Content of any form has one.
    ///
    /// Deliberately not the node's code.
    ///
    /// # Errors
    /// The key is none for this: only Ed25519 ones are.
    pub fn sign(&self, domain: &str, content: &[u8]) -> Result<Vec<u8>, PkiError> {
        let pair =
            Ed25519KeyPair::from_pkcs8_maybe_unchecked(&self.pkcs8).map_err(|_| PkiError::SigningKey)?;
        let (from, body) = (from_field(content), body(content));
        let hash = STANDARD.encode(digest(&SHA256, &body));
        let field = format!(
            "DKIM-Signature: v=1; a=ed25519-sha256; c=simple/simple; d={domain}; s={}; h=From;\r\n bh={hash}; b=",
            self.selector
        );
        let signature = pair.sign(digest(&SHA256, &[from, field.as_bytes()].concat()).as_ref());
        Ok([field.as_bytes(), STANDARD.encode(signature).as_bytes(), b"\r\n", content].concat())
    }

    /// Writes the private key, mode 0600.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write(&self, directory: &Path) -> Result<PathBuf, PkiError> {
        let path = directory.join(format!("dkim-{}.pem", self.selector));
        write_file(&path, &self.pem, 0o600)?;
        Ok(path)
    }
}

/// The end of the header section, its last line end included.
fn header_end(content: &[u8]) -> usize {
    if content.starts_with(b"\r\n") {
        return 0;
    }
    let end = content.windows(4).position(|octets| octets == b"\r\n\r\n");
    end.map_or(content.len(), |at| at + 2)
}

/// The last field of that name; nothing if there is none.
fn from_field(content: &[u8]) -> &[u8] {
    let header = &content[..header_end(content)];
    let mut fields: Vec<&[u8]> = Vec::new();
    let mut start = 0;
    for end in 2..=header.len() {
        let goes_on = header.get(end).is_some_and(|next| b" \t".contains(next));
        if header[..end].ends_with(b"\r\n") && !goes_on {
            fields.push(&header[start..end]);
            start = end;
        }
    }
    let named = |field: &&[u8]| {
        let name = field.split(|octet| *octet == b':').next().unwrap_or_default();
        name.trim_ascii_end().eq_ignore_ascii_case(b"from")
    };
    fields.into_iter().rfind(named).unwrap_or_default()
}

/// Empty lines at the end count as none, and there is one line end at least (RFC 6376 section 3.4.3).
fn body(content: &[u8]) -> Vec<u8> {
    let mut body = content.get(header_end(content) + 2..).unwrap_or_default();
    while let Some(shorter) = body.strip_suffix(b"\r\n") {
        body = shorter;
    }
    [body, b"\r\n"].concat()
}

fn ed25519() -> Option<SigningKey> {
    let pair = Ed25519KeyPair::generate().ok()?;
    let public = STANDARD.encode(pair.public_key().as_ref());
    let pkcs8 = pair.to_pkcs8v1().ok()?.as_ref().to_vec();
    Some(SigningKey {
        selector: "ed25519",
        record: format!("v=DKIM1; k=ed25519; p={public}"),
        pem: pem("PRIVATE KEY", &pkcs8),
        pkcs8,
    })
}

fn rsa() -> Option<SigningKey> {
    static SHARED: OnceLock<Option<SigningKey>> = OnceLock::new();
    let make = || {
        let pair = KeyPair::generate(KeySize::Rsa2048).ok()?;
        let private: Pkcs8V1Der<'_> = pair.as_der().ok()?;
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().ok()?;
        Some(SigningKey {
            selector: "rsa",
            record: format!("v=DKIM1; k=rsa; p={}", STANDARD.encode(public.as_ref())),
            pem: pem("PRIVATE KEY", private.as_ref()),
            pkcs8: private.as_ref().to_vec(),
        })
    };
    SHARED.get_or_init(make).clone()
}
