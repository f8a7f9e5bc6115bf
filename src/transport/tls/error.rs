//! Why there is no TLS link.

use std::io;

use super::chain::ChainFault;
use crate::model::Reason;

/// A handshake that did not lead to a link we may use.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The other side broke off, or there is nothing both sides speak: version, suite, group, signature.
    #[error("TLS handshake: {0}")]
    Tls(rustls::Error),
    /// The connection ended or failed before the handshake was over.
    #[error("connection lost in the TLS handshake: {0}")]
    Lost(io::Error),
    /// The server's chain matches none of its TLSA records, or not well enough.
    #[error("DANE: {0}")]
    Dane(DaneMismatch),
    /// The server's key is not one of those configured.
    #[error("the server's key {0} is not one of those pinned for it")]
    Pin(String),
    /// The server's certificate was not issued by the configured authority, or not for this name and time.
    #[error("not acceptable under the configured authority: {0}")]
    Authority(ChainFault),
}

/// No TLSA record of the set matched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DaneMismatch {
    /// The other side showed no certificate, or one that can't be read.
    #[error("no certificate that could be read")]
    NoCertificate,
    /// No record fits any certificate of the chain.
    #[error("the certificate matches none of the TLSA records")]
    NoRecord,
    /// A usage 2 record names an authority of the chain, but the chain below it does not hold.
    #[error("{0}")]
    Chain(ChainFault),
}

impl HandshakeError {
    /// The named check that failed.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Tls(_) => Reason::TlsHandshake,
            Self::Lost(_) => Reason::ConnectionLost,
            Self::Dane(DaneMismatch::NoRecord | DaneMismatch::NoCertificate) => Reason::TlsaMismatch,
            Self::Dane(DaneMismatch::Chain(_)) => Reason::CertificateInvalid,
            Self::Pin(_) | Self::Authority(_) => Reason::PinMismatch,
        }
    }
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        match tls_error(&error) {
            Some(tls) => Self::Tls(tls.clone()),
            None => Self::Lost(error),
        }
    }
}

/// The TLS error inside an I/O error, when that is what it is. In TLS 1.3 a server's verdict about our certificate
/// arrives so, on the first read after the handshake.
pub(in crate::transport) fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())
}
