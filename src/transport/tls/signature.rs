//! The handshake's signature: proof that the other side holds the key it shows (DANE-009).
//!
//! Verified with the bare key of the first certificate, whatever else that certificate says: under DANE usage 3 nothing
//! else of it counts, and one that is odd is judged after the handshake, with a reason that names the oddity.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use rustls::{CertificateError, DigitallySignedStruct, Error, PeerMisbehaved, SignatureScheme};
use webpki::RawPublicKeyEntity;

use super::certificate::spki_of;
use super::suites::provider;

/// For TLS 1.3, where a scheme fixes the curve.
pub(super) fn verify_tls13(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let algorithms = provider().signature_verification_algorithms;
    rustls::crypto::verify_tls13_signature_with_raw_key(message, &key_of(certificate)?, signed, &algorithms)
}

/// For TLS 1.2, where a scheme may fit several curves.
pub(super) fn verify_tls12(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let spki = key_of(certificate)?;
    let key = RawPublicKeyEntity::try_from(&spki).map_err(|_| bad_encoding())?;
    let provider = provider();
    let mapping = provider.signature_verification_algorithms.mapping;
    let (_, algorithms) = mapping
        .iter()
        .find(|(scheme, _)| *scheme == signed.scheme)
        .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
    for algorithm in *algorithms {
        match key.verify_signature(*algorithm, message, signed.signature()) {
            Ok(()) => return Ok(HandshakeSignatureValid::assertion()),
            Err(webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)) => {}
            Err(_) => break,
        }
    }
    Err(CertificateError::BadSignature.into())
}

/// The schemes we verify, best first: those of rustls, without SHA-1, MD5 and RSA below 2048 bits (TLS-006).
pub(super) fn schemes() -> Vec<SignatureScheme> {
    provider().signature_verification_algorithms.supported_schemes()
}

fn key_of(certificate: &CertificateDer<'_>) -> Result<SubjectPublicKeyInfoDer<'static>, Error> {
    spki_of(certificate).map(SubjectPublicKeyInfoDer::from).ok_or_else(bad_encoding)
}

fn bad_encoding() -> Error {
    CertificateError::BadEncoding.into()
}
