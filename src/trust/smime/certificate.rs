//! The certificate of somebody who signs mail (RFC 8550), and the authorities it is judged by.

use jiff::Timestamp;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{
    EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeId, KeyPurposeIdIter, KeyUsage, VerifiedPath,
};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::X509Name;

use super::cms::SignerId;
use super::oid::{self, Curve};
use crate::model::{Address, Digest};

/// Characters of a name that are kept for records.
const NAME_CHARACTERS_MAX: usize = 200;
/// Addresses of one certificate that are looked at.
const ADDRESSES_MAX: usize = 32;
/// RSA keys below this are refused, as everywhere (TLS-006).
const RSA_BITS_MIN: usize = 2048;

/// `prime256v1` and `secp384r1`, as the DER of the parameters.
const P256: &str = "1.2.840.10045.3.1.7";
const P384: &str = "1.3.132.0.34";

/// A certificate of somebody who signs mail.
pub(super) struct Certificate<'a> {
    der: &'a [u8],
    x509: X509Certificate<'a>,
}

/// A public key, as the library wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key<'a> {
    /// `RSAPublicKey`.
    Rsa(&'a [u8]),
    /// RSA that is too short to count.
    WeakRsa,
    /// A point, uncompressed.
    Ec(Curve, &'a [u8]),
    Other,
}

/// What a certificate says it may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MailUse {
    /// Signing mail.
    Yes,
    /// Its key usage leaves signing out (RFC 8550 section 4.4.2).
    NoSigning,
    /// Its extended key usage does not name mail (RFC 8550 section 4.4.4), or there is none.
    NoMail,
}

impl<'a> Certificate<'a> {
    pub(super) fn read(der: &'a [u8]) -> Option<Self> {
        match X509Certificate::from_der(der) {
            Ok(([], x509)) => Some(Self { der, x509 }),
            _ => None,
        }
    }

    pub(super) const fn der(&self) -> &'a [u8] {
        self.der
    }

    pub(super) fn fingerprint(&self) -> Digest {
        Digest::of(self.der)
    }

    /// `Name` of its issuer, with tag and length.
    pub(super) fn issuer_der(&self) -> &[u8] {
        self.x509.issuer().as_raw()
    }

    /// Content octets of its serial number.
    pub(super) fn serial_octets(&self) -> &[u8] {
        self.x509.raw_serial()
    }

    /// Its serial number in hexadecimal digits.
    pub(super) fn serial(&self) -> String {
        self.serial_octets().iter().take(32).map(|octet| format!("{octet:02x}")).collect()
    }

    pub(super) fn subject(&self) -> String {
        name(self.x509.subject())
    }

    pub(super) fn issuer(&self) -> String {
        name(self.x509.issuer())
    }

    pub(super) fn is_named_by(&self, id: &SignerId<'_>) -> bool {
        match *id {
            SignerId::Issuer(issuer, serial) => issuer == self.issuer_der() && serial == self.serial_octets(),
            SignerId::Key(key) => self.x509.extensions().iter().any(|extension| {
                matches!(extension.parsed_extension(), ParsedExtension::SubjectKeyIdentifier(id) if id.0 == key)
            }),
        }
    }

    /// The addresses it is for (RFC 8550 section 3): `rfc822Name`, and `emailAddress` of the subject.
    pub(super) fn addresses(&self) -> Vec<Address> {
        let alternative = self.x509.subject_alternative_name().ok().flatten();
        let names = alternative.iter().flat_map(|extension| &extension.value.general_names);
        let alternative = names.filter_map(|name| match name {
            GeneralName::RFC822Name(address) => Some(*address),
            _ => None,
        });
        let subject = self.x509.subject().iter_email().filter_map(|address| address.as_str().ok());
        let mut addresses: Vec<Address> = Vec::new();
        for address in alternative.chain(subject).filter_map(|text| text.parse().ok()).take(ADDRESSES_MAX) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    pub(super) fn key(&self) -> Key<'_> {
        let info = self.x509.public_key();
        let octets: &[u8] = &info.subject_public_key.data;
        let algorithm = &info.algorithm;
        if algorithm.algorithm.as_bytes() == oid::RSA {
            return match info.parsed() {
                Ok(PublicKey::RSA(rsa)) if bits(rsa.modulus) >= RSA_BITS_MIN => Key::Rsa(octets),
                Ok(PublicKey::RSA(_)) => Key::WeakRsa,
                _ => Key::Other,
            };
        }
        let curve = algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
        match curve.map(|curve| curve.to_id_string()).as_deref() {
            Some(P256) => Key::Ec(Curve::P256, octets),
            Some(P384) => Key::Ec(Curve::P384, octets),
            _ => Key::Other,
        }
    }

    pub(super) fn mail_use(&self) -> MailUse {
        let signs = match self.x509.key_usage() {
            Ok(Some(usage)) => usage.value.digital_signature() || usage.value.non_repudiation(),
            Ok(None) => true,
            Err(_) => false,
        };
        let mail = match self.x509.extended_key_usage() {
            Ok(Some(usage)) => usage.value.email_protection || usage.value.any,
            Ok(None) | Err(_) => false,
        };
        match (signs, mail) {
            (false, _) => MailUse::NoSigning,
            (true, false) => MailUse::NoMail,
            (true, true) => MailUse::Yes,
        }
    }

    /// First and last instant of its validity.
    pub(super) fn validity(&self) -> (Timestamp, Timestamp) {
        let validity = self.x509.validity();
        let at = |seconds: i64, otherwise| Timestamp::from_second(seconds).unwrap_or(otherwise);
        (
            at(validity.not_before.timestamp(), Timestamp::MAX),
            at(validity.not_after.timestamp(), Timestamp::MIN),
        )
    }
}

/// Whether two addresses are one: domains are compared as such, what stands before the `@` without regard to case.
pub(super) fn is_same(one: &Address, other: &Address) -> bool {
    one.domain() == other.domain() && one.local().eq_ignore_ascii_case(other.local())
}

fn bits(modulus: &[u8]) -> usize {
    let first = modulus.iter().position(|octet| *octet != 0).unwrap_or(modulus.len());
    let unused = modulus.get(first).map_or(0, |octet| octet.leading_zeros() as usize);
    (modulus.len() - first) * 8 - unused
}

/// A name on one line, bounded, without anything that could pass for something else on a screen.
fn name(name: &X509Name<'_>) -> String {
    printable(&name.to_string())
}

pub(super) fn printable(text: &str) -> String {
    let plain = |c: char| if c.is_control() || is_format(c) { '\u{fffd}' } else { c };
    text.chars().take(NAME_CHARACTERS_MAX).map(plain).collect()
}

/// Characters that are not seen and change the order or the look of others.
const fn is_format(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The authorities whose certificates count for mail. There are none but those an operator names.
#[derive(Clone, Debug)]
pub struct MailAnchors {
    anchors: Vec<TrustAnchor<'static>>,
    certificates: Vec<Digest>,
}

impl PartialEq for MailAnchors {
    fn eq(&self, other: &Self) -> bool {
        self.certificates == other.certificates
    }
}

impl Eq for MailAnchors {}

/// A file of authorities that can't be used. The operator acts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MailAnchorError {
    /// It can't be read.
    #[error("it can't be read: {0}")]
    Unreadable(String),
    /// There is none in it.
    #[error("there is no certificate in it")]
    Empty,
    /// One of them may not issue others.
    #[error("certificate {0} of the file is no certification authority")]
    NoAuthority(usize),
}

impl MailAnchors {
    /// The certificates of a PEM text, all of them authorities. Dates are not looked at.
    ///
    /// # Errors
    /// [`MailAnchorError`]
    pub fn from_pem(pem: &[u8]) -> Result<Self, MailAnchorError> {
        let unreadable = |error: &dyn std::fmt::Display| MailAnchorError::Unreadable(error.to_string());
        let (mut anchors, mut certificates) = (Vec::new(), Vec::new());
        for (index, der) in CertificateDer::pem_slice_iter(pem).enumerate() {
            let der = der.map_err(|error| unreadable(&error))?;
            if !may_issue(&der) {
                return Err(MailAnchorError::NoAuthority(index + 1));
            }
            let anchor = webpki::anchor_from_trusted_cert(&der).map_err(|error| unreadable(&error))?;
            anchors.push(anchor.to_owned());
            certificates.push(Digest::of(&der));
        }
        if anchors.is_empty() { Err(MailAnchorError::Empty) } else { Ok(Self { anchors, certificates }) }
    }

    /// How many there are; at least one.
    #[must_use]
    pub fn count(&self) -> usize {
        self.anchors.len()
    }

    /// Whether a certificate leads to one of them at this time, over some of `others`. Revocation is not looked at.
    pub(super) fn verify(&self, first: &[u8], others: &[&[u8]], now: Timestamp) -> Result<(), webpki::Error> {
        let first = CertificateDer::from(first);
        let others: Vec<CertificateDer<'_>> = others.iter().map(|der| CertificateDer::from(*der)).collect();
        let seconds = u64::try_from(now.as_second()).unwrap_or(0);
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let issuers = |path: &VerifiedPath<'_>| {
            let may =
                |der: &CertificateDer<'_>| may_issue(der).then_some(()).ok_or(webpki::Error::UnknownIssuer);
            path.intermediate_certificates().try_for_each(|certificate| may(&certificate.der()))
        };
        EndEntityCert::try_from(&first)?
            .verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &self.anchors,
                &others,
                now,
                Mail,
                None,
                Some(&issuers),
            )
            .map(|_| ())
    }
}

/// Whether a certificate may issue others (RFC 5280 sections 4.2.1.3 and 4.2.1.9).
fn may_issue(der: &[u8]) -> bool {
    let Ok((_, x509)) = X509Certificate::from_der(der) else { return false };
    let usage = match x509.key_usage() {
        Ok(Some(usage)) => usage.value.key_cert_sign(),
        Ok(None) => true,
        Err(_) => false,
    };
    usage && x509.is_ca()
}

/// `id-kp-emailProtection`, 1.3.6.1.5.5.7.3.4, and `anyExtendedKeyUsage`, 2.5.29.37.0.
const EMAIL_PROTECTION: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x04];
const ANY: &[u8] = &[0x55, 0x1d, 0x25, 0x00];

/// Every certificate of the chain whose extended key usage says something allows mail.
struct Mail;

impl ExtendedKeyUsageValidator for Mail {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        let (mut says, mut mail) = (false, false);
        for purpose in purposes {
            let purpose = purpose?;
            says = true;
            mail |= purpose == KeyPurposeId::new(EMAIL_PROTECTION) || purpose == KeyPurposeId::new(ANY);
        }
        if mail || !says {
            return Ok(());
        }
        Err(webpki::Error::RequiredEkuNotFoundContext(webpki::RequiredEkuNotFoundContext {
            required: KeyUsage::required_if_present(EMAIL_PROTECTION),
            present: Vec::new(),
        }))
    }
}
