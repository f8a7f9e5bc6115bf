//! Keys with which a provider's node signs its mail, and the records that publish them (RFC 6376 section 3.6.1, RFC 8463).
//!
//! They are for tests alone. The RSA key is made once in a run and shared by all providers, because making one is slow; a real
//! provider would have a key of its own.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

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

fn ed25519() -> Option<SigningKey> {
    let pair = Ed25519KeyPair::generate().ok()?;
    let public = STANDARD.encode(pair.public_key().as_ref());
    Some(SigningKey {
        selector: "ed25519",
        record: format!("v=DKIM1; k=ed25519; p={public}"),
        pem: pem("PRIVATE KEY", pair.to_pkcs8v1().ok()?.as_ref()),
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
        })
    };
    SHARED.get_or_init(make).clone()
}
