//! A key and a certificate for a foreign program, and the TLSA record that publishes them.

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};

use super::ForeignError;

/// A self-signed certificate with its key. DANE needs no authority.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate, PEM.
    pub certificate: String,
    /// Its ECDSA P-256 key, PEM (PKCS #8).
    pub key: String,
    spki: Vec<u8>,
}

impl Identity {
    /// A new key, and a certificate for `host` as only dNSName.
    ///
    /// # Errors
    /// [`ForeignError::Key`] if `host` is not a name.
    pub fn generate(host: &str) -> Result<Self, ForeignError> {
        let wrong = |error: rcgen::Error| ForeignError::Key(format!("{host}: {error}"));
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(wrong)?;
        let certificate = CertificateParams::new([host.to_owned()])
            .and_then(|params| params.self_signed(&key))
            .map_err(wrong)?;
        Ok(Self {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            spki: key.subject_public_key_info(),
        })
    }

    /// The data of a TLSA record `3 1 1` for it (RFC 6698): usage, selector, matching type, SHA-256 of the public key.
    pub fn tlsa(&self) -> Vec<u8> {
        [&[3, 1, 1], digest(&SHA256, &self.spki).as_ref()].concat()
    }
}
