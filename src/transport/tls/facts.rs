//! What a handshake agreed on, and who showed what.

use rustls::CommonState;
use rustls::pki_types::CertificateDer;

use super::certificate::Certificate;
use super::suites::{group_name, suite_name, version_name};
use crate::model::{DomainName, TlsFacts};

/// What became of our own certificate in a handshake where we were the client (TLS-008, IDEN-003).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnCertificate {
    /// We were the server: ours is always shown.
    Served,
    /// The server did not ask for one.
    NotRequested,
    /// The server asked, but we have none whose signature it can verify.
    NoneSuitable,
    /// The server asked and we sent the one that names us so.
    Sent(Vec<DomainName>),
}

/// A finished handshake, from either side.
#[derive(Clone, Debug)]
pub struct HandshakeFacts {
    version: &'static str,
    cipher: String,
    group: Option<String>,
    chain: Vec<CertificateDer<'static>>,
    certificate: Option<Certificate>,
    own: OwnCertificate,
}

impl HandshakeFacts {
    pub(super) fn of(connection: &CommonState, own: OwnCertificate) -> Self {
        let chain: Vec<_> = connection.peer_certificates().unwrap_or_default().to_vec();
        Self {
            version: connection.protocol_version().map_or("unknown", version_name),
            cipher: connection
                .negotiated_cipher_suite()
                .map_or_else(|| "unknown".to_owned(), |suite| suite_name(suite.suite())),
            group: connection.negotiated_key_exchange_group().map(|group| group_name(group.name())),
            certificate: chain.first().and_then(|der| Certificate::parse(der).ok()),
            chain,
            own,
        }
    }

    /// Those of a link without TLS.
    #[cfg(test)]
    pub(super) fn simulated(chain: Vec<CertificateDer<'static>>, own: OwnCertificate) -> Self {
        let certificate = chain.first().and_then(|der| Certificate::parse(der).ok());
        Self { version: "simulated", cipher: "none".to_owned(), group: None, chain, certificate, own }
    }

    /// `TLSv1.3` or `TLSv1.2`.
    #[must_use]
    pub const fn version(&self) -> &'static str {
        self.version
    }

    /// Cipher suite, IANA name.
    #[must_use]
    pub fn cipher(&self) -> &str {
        &self.cipher
    }

    /// Key exchange group, IANA name.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }

    /// What the other side showed, its own certificate first; empty when it showed none.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The first certificate of the chain, when it can be read.
    #[must_use]
    pub const fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_ref()
    }

    /// What became of our own certificate.
    #[must_use]
    pub const fn own_certificate(&self) -> &OwnCertificate {
        &self.own
    }

    /// The same for the decision record. Who authenticated the other side is not known here.
    #[must_use]
    pub fn to_record(&self) -> TlsFacts {
        TlsFacts {
            version: self.version.to_owned(),
            cipher: self.cipher.clone(),
            group: self.group.clone(),
            peer_key: self.certificate.as_ref().map(|certificate| certificate.key_digest().to_string()),
            peer_key_type: self.certificate.as_ref().map(|certificate| {
                let key = certificate.key();
                if key.phasing_out() { format!("{key}, being phased out") } else { key.to_string() }
            }),
            authenticated_by: None,
            client_certificate_sent: match self.own {
                OwnCertificate::Served => None,
                OwnCertificate::NotRequested | OwnCertificate::NoneSuitable => Some(false),
                OwnCertificate::Sent(_) => Some(true),
            },
        }
    }
}
