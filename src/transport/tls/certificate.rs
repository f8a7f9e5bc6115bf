//! What a certificate says, as far as we care: names, key, dates, digests, and the TLSA data that would pin it.

use std::fmt;

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_SIG_ED25519,
};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::dane::{Side, match_chain};
use crate::discovery::Tlsa;
use crate::model::{Digest, DomainName};

/// RSA keys below this are refused (TLS-006).
pub(super) const RSA_BITS_MIN: usize = 2048;
/// RSA keys below this are being phased out (TLS-009).
const RSA_BITS_SUFFICIENT: usize = 3072;

/// A certificate that could be read.
#[derive(Clone, Debug)]
pub struct Certificate {
    der: CertificateDer<'static>,
    spki: Vec<u8>,
    dns_names: Vec<String>,
    key: KeyKind,
    signed_with: SignedWith,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// The octets are no X.509 certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an X.509 certificate: {0}")]
pub struct CertificateMalformed(String);

/// Kind and strength of a public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA with this many bits in its modulus.
    Rsa(usize),
    /// ECDSA on the curve with this name.
    Ecdsa(&'static str),
    /// Ed25519.
    Ed25519,
    /// Anything else, by its object identifier.
    Other(String),
}

impl KeyKind {
    /// Whether NCSC-NL calls this key "to be phased out" (TLS-009).
    #[must_use]
    pub const fn phasing_out(&self) -> bool {
        matches!(self, Self::Rsa(bits) if *bits < RSA_BITS_SUFFICIENT)
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "RSA-{bits}"),
            Self::Ecdsa(curve) => write!(f, "ECDSA {curve}"),
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::Other(oid) => write!(f, "key type {oid}"),
        }
    }
}

/// The hash under a certificate's own signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignedWith {
    /// MD5 or SHA-1: anybody with a budget can forge such a signature.
    Broken,
    /// Anything newer.
    Sound,
}

/// `1.2.840.113549.1.1.4`, `…5`: RSA with MD5 and SHA-1; `1.2.840.10045.4.1`: ECDSA with SHA-1.
const BROKEN_SIGNATURES: [&str; 4] =
    ["1.2.840.113549.1.1.2", "1.2.840.113549.1.1.4", "1.2.840.113549.1.1.5", "1.2.840.10045.4.1"];

impl Certificate {
    /// Reads one certificate.
    ///
    /// # Errors
    /// The octets don't parse, or something follows the certificate.
    pub fn parse(der: &CertificateDer<'_>) -> Result<Self, CertificateMalformed> {
        let (rest, x509) =
            X509Certificate::from_der(der).map_err(|error| CertificateMalformed(error.to_string()))?;
        if !rest.is_empty() {
            return Err(CertificateMalformed("octets after the end".to_owned()));
        }
        let broken = BROKEN_SIGNATURES.contains(&x509.signature_algorithm.algorithm.to_id_string().as_str());
        Ok(Self {
            der: der.clone().into_owned(),
            spki: x509.public_key().raw.to_vec(),
            dns_names: dns_names(&x509)?,
            key: key_kind(x509.public_key()),
            signed_with: if broken { SignedWith::Broken } else { SignedWith::Sound },
            not_before: timestamp(x509.validity().not_before.timestamp()),
            not_after: timestamp(x509.validity().not_after.timestamp()),
        })
    }

    /// The whole certificate.
    #[must_use]
    pub const fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// Its `SubjectPublicKeyInfo`, DER.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-256 of [`Self::spki`]: what `3 1 1` records and configured pins hold.
    #[must_use]
    pub fn key_digest(&self) -> Digest {
        Digest::of(&self.spki)
    }

    /// SHA-256 of the whole certificate.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.der)
    }

    /// The dNSNames as written, wildcards and oddities included.
    #[must_use]
    pub fn dns_names(&self) -> &[String] {
        &self.dns_names
    }

    /// The dNSNames that can be an identity: well-formed and without a wildcard (IDEN-007). Each once, in order.
    #[must_use]
    pub fn identities(&self) -> Vec<DomainName> {
        let mut names = Vec::new();
        for name in self.dns_names.iter().filter_map(|name| name.parse::<DomainName>().ok()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Kind and strength of its key.
    #[must_use]
    pub const fn key(&self) -> &KeyKind {
        &self.key
    }

    pub(super) const fn signed_with(&self) -> SignedWith {
        self.signed_with
    }

    /// First instant of validity. DANE usage 3 ignores it.
    #[must_use]
    pub const fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// Last instant of validity. DANE usage 3 ignores it.
    #[must_use]
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// The TLSA record that pins this certificate's key: `3 1 1` and the digest in hexadecimal, as a zone file has it.
    #[must_use]
    pub fn tlsa_rdata(&self) -> String {
        let hex: String = self.key_digest().as_bytes().iter().map(|octet| format!("{octet:02x}")).collect();
        format!("3 1 1 {hex}")
    }

    /// Whether one of `records`, found at `name`, matches this certificate, by DANE's rules at the time `now`.
    #[must_use]
    pub fn matches(&self, records: &[Tlsa], name: &DomainName, now: Timestamp) -> bool {
        let (chain, names) = ([self.der.clone()], [name.clone()]);
        match_chain(&chain, records, Side::Client, &names, super::unix_time(now)).is_ok()
    }
}

/// `SubjectPublicKeyInfo` of a certificate, whatever else is odd about it.
pub(super) fn spki_of(der: &CertificateDer<'_>) -> Option<Vec<u8>> {
    X509Certificate::from_der(der).ok().map(|(_, x509)| x509.public_key().raw.to_vec())
}

fn dns_names(x509: &X509Certificate<'_>) -> Result<Vec<String>, CertificateMalformed> {
    let extension = x509
        .subject_alternative_name()
        .map_err(|error| CertificateMalformed(format!("subjectAltName: {error}")))?;
    Ok(extension
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        })
        .collect())
}

fn key_kind(spki: &SubjectPublicKeyInfo<'_>) -> KeyKind {
    if let Ok(PublicKey::RSA(rsa)) = spki.parsed() {
        let significant: &[u8] = match rsa.modulus.iter().position(|octet| *octet != 0) {
            Some(first) => &rsa.modulus[first..],
            None => &[],
        };
        let unused = significant.first().map_or(0, |octet| octet.leading_zeros() as usize);
        return KeyKind::Rsa(significant.len() * 8 - unused);
    }
    let algorithm = &spki.algorithm.algorithm;
    let curve = spki.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY
        && let Some(curve) = curve
    {
        if curve == OID_EC_P256 {
            return KeyKind::Ecdsa("P-256");
        } else if curve == OID_NIST_EC_P384 {
            return KeyKind::Ecdsa("P-384");
        } else if curve == OID_NIST_EC_P521 {
            return KeyKind::Ecdsa("P-521");
        }
        return KeyKind::Other(curve.to_id_string());
    }
    if *algorithm == OID_SIG_ED25519 {
        return KeyKind::Ed25519;
    }
    KeyKind::Other(algorithm.to_id_string())
}

fn timestamp(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap_or(if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::testing::{Authority, leaf, pem_key_rsa};
    use super::*;

    #[test]
    fn names_key_and_digests_are_read() {
        let pair = leaf(&["mx.example.nl", "*.example.nl", "MX.example.nl"]);
        let certificate = Certificate::parse(&pair.chain[0]).unwrap();
        assert_eq!(certificate.dns_names().len(), 3);
        assert_eq!(certificate.identities(), ["mx.example.nl".parse().unwrap()]);
        assert_eq!(*certificate.key(), KeyKind::Ecdsa("P-256"));
        assert!(!certificate.key().phasing_out());
        assert_eq!(certificate.fingerprint(), Digest::of(&pair.chain[0]));
        assert!(certificate.tlsa_rdata().starts_with("3 1 1 "));
        assert_eq!(certificate.tlsa_rdata().len(), 6 + 64);
    }

    /// Proves: +TLS-009
    #[test]
    fn rsa_sizes_are_counted_in_bits() {
        for (bits, phasing_out) in [(2048, true), (3072, false)] {
            let pair = Authority::root("ca").issue_with(pem_key_rsa(bits), &["a.nl"]);
            let certificate = Certificate::parse(&pair.chain[0]).unwrap();
            assert_eq!(*certificate.key(), KeyKind::Rsa(bits));
            assert_eq!(certificate.key().phasing_out(), phasing_out);
        }
    }

    #[test]
    fn t14_garbage_is_an_error_and_no_panic() {
        let good = leaf(&["mx.example.nl"]).chain[0].to_vec();
        for cut in 0..good.len() {
            assert!(Certificate::parse(&CertificateDer::from(good[..cut].to_vec())).is_err());
        }
        for at in 0..good.len() {
            let mut bent = good.clone();
            bent[at] ^= 0x55;
            let _either = Certificate::parse(&CertificateDer::from(bent));
        }
        let mut longer = good;
        longer.push(0);
        assert!(Certificate::parse(&CertificateDer::from(longer)).is_err());
    }
}
