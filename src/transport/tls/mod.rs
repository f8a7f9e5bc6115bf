//! TLS on both sides of a link, and the proof of who is at the other end.
//!
//! # Guarantees
//! - Versions, suites, groups and keys are those NCSC-NL calls good or sufficient; nothing weaker can be configured
//!   (TLS-001 to TLS-007).
//! - A link as a client exists only after the server was authenticated: by DANE, by a pinned key, or by an authority
//!   that our configuration names for this peer. There is no branch that reads the system's authorities (DANE-005).
//! - As a server we request a certificate, complete the handshake without one, and judge afterwards (TLS-008).
//! - No session is resumed and no early data is taken, so each link authenticates both sides afresh (TLS-004, TLS-005).
//! - Keys are replaced without a pause: see [`KeyRing`].
//!
//! # Errors
//! [`HandshakeError`] (a link that is not), [`KeyError`] and [`AuthorityError`] (configuration; the operator acts),
//! [`ClientJudgement`] (a verdict, not an error: policy decides).
//!
//! # Standards
//! RFC 8446, 5246, 7627; RFC 6698, 7671, 7672; draft-ietf-dance-client-auth. Our text: `spec/03-transport.md`,
//! `spec/04-identity.md`.

mod authority;
mod certificate;
mod chain;
mod client;
mod dane;
mod error;
mod facts;
mod judge;
mod keys;
mod server;
mod signature;
#[cfg(test)]
mod simulated;
mod suites;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use authority::{Authorities, AuthorityError, Pins};
pub use certificate::{Certificate, CertificateMalformed, KeyKind};
pub use chain::ChainFault;
pub use client::{ClientTls, Secured, ServerProof};
pub use dane::{Matched, Side, match_chain};
pub(in crate::transport) use error::tls_error;
pub use error::{DaneMismatch, HandshakeError};
pub use facts::{HandshakeFacts, OwnCertificate};
pub use judge::{ClientJudgement, ClientRule, Presented, PresentedCertificate, judge_client};
pub use keys::{KeyError, KeyMaterial, KeyRing, KeyUse, KeyWarning, NAMES_MAX, OwnKey, PemPair};
pub use server::ServerTls;
pub use suites::provider;

use jiff::Timestamp;
use rustls::pki_types::UnixTime;

/// Our clock's time in the TLS library's type. Before 1970 nothing was valid.
fn unix_time(now: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::try_from(now.as_duration()).unwrap_or_default())
}
