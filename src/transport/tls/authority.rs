//! Keys and authorities that our configuration names, each for one peer alone.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};

use super::chain::{self, ChainFault, Usage};
use crate::model::{Digest, DomainName};

/// SHA-256 digests of the public keys (`SubjectPublicKeyInfo`) that a peer or our environment may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pins(Vec<Digest>);

impl Pins {
    /// These keys and no others; an empty set admits nobody.
    #[must_use]
    pub const fn new(keys: Vec<Digest>) -> Self {
        Self(keys)
    }

    /// Whether this key is among them.
    #[must_use]
    pub fn contains(&self, key: &Digest) -> bool {
        self.0.contains(key)
    }

    /// The digests, for the check that no key is configured for two peers (IDEN-018).
    #[must_use]
    pub fn digests(&self) -> &[Digest] {
        &self.0
    }
}

/// Certification authorities of one peer. Starts empty: nothing is ever taken from the system (attack class T9).
#[derive(Clone, Debug)]
pub struct Authorities {
    anchors: Vec<TrustAnchor<'static>>,
    keys: Vec<Digest>,
}

/// A configured authority that can't be used. The operator has to act.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AuthorityError {
    /// No certificate in the file, or one that can't be read.
    #[error("the authority file can't be read: {0}")]
    Unreadable(String),
    /// A certificate that may not issue others.
    #[error("certificate {0} of the file is no certification authority")]
    NoAuthority(usize),
}

impl Authorities {
    /// The certificates of a PEM text, all of them authorities.
    ///
    /// # Errors
    /// See [`AuthorityError`]. Dates are not looked at: an authority that expires stops verifying, not the node.
    pub fn from_pem(pem: &[u8]) -> Result<Self, AuthorityError> {
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        Self::from_der(&read.map_err(|error| AuthorityError::Unreadable(error.to_string()))?)
    }

    /// These certificates, all of them authorities.
    ///
    /// # Errors
    /// As [`Self::from_pem`].
    pub fn from_der(certificates: &[CertificateDer<'_>]) -> Result<Self, AuthorityError> {
        let (mut anchors, mut keys) = (Vec::new(), Vec::new());
        for (index, der) in certificates.iter().enumerate() {
            let certificate = super::Certificate::parse(der)
                .map_err(|error| AuthorityError::Unreadable(error.to_string()))?;
            if !chain::is_authority(der) {
                return Err(AuthorityError::NoAuthority(index + 1));
            }
            let anchor = webpki::anchor_from_trusted_cert(der)
                .map_err(|error| AuthorityError::Unreadable(error.to_string()))?;
            anchors.push(anchor.to_owned());
            keys.push(certificate.key_digest());
        }
        if anchors.is_empty() {
            return Err(AuthorityError::Unreadable("no certificate in it".to_owned()));
        }
        Ok(Self { anchors, keys })
    }

    /// The digests of the authorities' keys, for the check that none is configured for two peers (IDEN-018).
    #[must_use]
    pub fn digests(&self) -> &[Digest] {
        &self.keys
    }

    pub(super) fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        usage: Usage,
        names: &[DomainName],
        now: UnixTime,
    ) -> Result<(), ChainFault> {
        chain::verify(chain, &self.anchors, usage, names, now)
    }
}
