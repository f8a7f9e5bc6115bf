//! Path validation below authorities that somebody named: a TLSA record, or our configuration. Never the system's.

use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, KeyUsage, VerifiedPath};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

use super::suites::provider;
use crate::model::DomainName;

/// Why a chain does not hold, although its authority is the right one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainFault {
    /// A signature is wrong, a link is missing, or a certificate is not allowed to sign.
    #[error("the chain does not lead to the authority: {0}")]
    Broken(String),
    /// A certificate of the chain is not valid at this time.
    #[error("a certificate of the chain has expired or is not valid yet")]
    Dates,
    /// The certificate may be used for servers only, or for clients only, and this is the other role.
    #[error("the certificate's extended key usage does not allow this role")]
    Purpose,
    /// No name of the certificate is one we expected.
    #[error("the certificate is for other names")]
    Name,
}

/// Which extended key usages an end-entity certificate may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Usage {
    /// That of a TLS server, if it says anything.
    Server,
    /// That of a TLS client, if it says anything.
    Client,
    /// Any: public authorities no longer issue for clients, and a TLSA record says enough (IDEN-020).
    Any,
}

impl ExtendedKeyUsageValidator for Usage {
    fn validate(&self, mut purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        match self {
            Self::Server => KeyUsage::server_auth().validate(purposes),
            Self::Client => KeyUsage::required_if_present(CLIENT_AUTH_OID).validate(purposes),
            Self::Any => purposes.try_for_each(|purpose| purpose.map(drop)),
        }
    }
}

/// `id-kp-clientAuth`, 1.3.6.1.5.5.7.3.2, as DER content octets.
const CLIENT_AUTH_OID: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];

/// Checks that `chain` leads to one of `anchors` at `now`, and that its first certificate carries one of `names`.
pub(super) fn verify(
    chain: &[CertificateDer<'_>],
    anchors: &[TrustAnchor<'_>],
    usage: Usage,
    names: &[DomainName],
    now: UnixTime,
) -> Result<(), ChainFault> {
    let (first, intermediates) =
        chain.split_first().ok_or_else(|| ChainFault::Broken("no certificate".to_owned()))?;
    let leaf = EndEntityCert::try_from(first).map_err(|error| fault(&error))?;
    let algorithms = provider().signature_verification_algorithms.all;
    let signers = |path: &VerifiedPath<'_>| {
        path.intermediate_certificates().try_for_each(|certificate| {
            may_sign(&certificate.der()).then_some(()).ok_or(webpki::Error::UnknownIssuer)
        })
    };
    leaf.verify_for_usage(algorithms, anchors, intermediates, now, usage, None, Some(&signers))
        .map_err(|error| fault(&error))?;
    let expected = |name: &DomainName| {
        ServerName::try_from(name.as_str())
            .is_ok_and(|name| leaf.verify_is_valid_for_subject_name(&name).is_ok())
    };
    if names.iter().any(expected) { Ok(()) } else { Err(ChainFault::Name) }
}

/// Checks the certificate of an authority itself, which path validation takes on trust: dates and the right to sign.
pub(super) fn check_authority(der: &CertificateDer<'_>, now: UnixTime) -> Result<(), ChainFault> {
    let Ok((_, x509)) = X509Certificate::from_der(der) else {
        return Err(ChainFault::Broken("the authority's certificate can't be read".to_owned()));
    };
    if !is_authority(der) {
        return Err(ChainFault::Broken("the record names a certificate that is no authority".to_owned()));
    }
    let now = i64::try_from(now.as_secs()).ok().and_then(|seconds| ASN1Time::from_timestamp(seconds).ok());
    if now.is_some_and(|now| x509.validity().is_valid_at(now)) { Ok(()) } else { Err(ChainFault::Dates) }
}

/// Whether a certificate may issue others.
pub(super) fn is_authority(der: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(der).is_ok_and(|(_, x509)| x509.is_ca()) && may_sign(der)
}

/// RFC 5280 section 6.1.4 (n): where key usage is stated, it includes signing certificates.
fn may_sign(der: &CertificateDer<'_>) -> bool {
    let Ok((_, x509)) = X509Certificate::from_der(der) else { return false };
    match x509.key_usage() {
        Ok(Some(usage)) => usage.value.key_cert_sign(),
        Ok(None) => true,
        Err(_) => false,
    }
}

fn fault(error: &webpki::Error) -> ChainFault {
    use webpki::Error as E;
    match error {
        E::CertExpired { .. } | E::CertNotValidYet { .. } => ChainFault::Dates,
        E::RequiredEkuNotFoundContext(_) => ChainFault::Purpose,
        other => ChainFault::Broken(other.to_string()),
    }
}
