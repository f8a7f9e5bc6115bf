//! The key record at `<selector>._domainkey.<domain>` (RFC 6376 section 3.6.1, RFC 8301, RFC 8463), and verifying with it.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::results::DkimWord;
use super::signature::{Algorithm, Signature, Unfit};
use super::tags::{Tags, trim, without_blanks};

/// RSA keys below this are no proof (RFC 8301 section 3.2).
const RSA_BITS_MIN: usize = 1024;
/// Longer ones cost more than they prove; RFC 8301 asks verifiers for 4096.
const RSA_BITS_MAX: usize = 8192;
const ED25519_OCTETS: usize = 32;

/// A key that may be used for one signature.
#[derive(Debug)]
pub(in crate::trust) enum Key {
    /// `RSAPublicKey` of RFC 8017 in DER.
    Rsa(Vec<u8>),
    /// The 32 octets of RFC 8032.
    Ed25519(Vec<u8>),
}

impl Key {
    /// The key in `record`, if it may be used for this signature.
    ///
    /// # Errors
    /// The word to record, and why.
    pub fn read(record: &[u8], signature: &Signature) -> Result<Self, Unfit> {
        let malformed = |detail| (DkimWord::Permerror, detail);
        let tags = Tags::read(record).map_err(malformed)?;
        if tags.get("v").is_some_and(|version| version != "DKIM1" || tags.first() != Some("v")) {
            return Err(malformed("is of another version"));
        }
        let has = |tag: &str, wanted: &[&str]| {
            tags.get(tag).map(|value| {
                value.split(':').any(|item| wanted.iter().any(|word| trim(item).eq_ignore_ascii_case(word)))
            })
        };
        if has("h", &["sha256"]) == Some(false) {
            return Err(malformed("does not admit sha256"));
        }
        if has("s", &["*", "email"]) == Some(false) {
            return Err(malformed("is not for mail"));
        }
        if has("t", &["y"]) == Some(true) {
            return Err((DkimWord::Policy, "is in test mode"));
        }
        if has("t", &["s"]) == Some(true) && signature.identity != signature.domain {
            return Err(malformed("admits no subdomain in i="));
        }
        let octets = match tags.get("p").map(without_blanks) {
            None => return Err(malformed("has no p=")),
            Some(text) if text.is_empty() => return Err(malformed("is revoked")),
            Some(text) => STANDARD.decode(text).map_err(|_| malformed("holds no base64 in p="))?,
        };
        let kind = tags.get("k").unwrap_or("rsa").to_ascii_lowercase();
        match (kind.as_str(), signature.algorithm) {
            ("rsa", Algorithm::RsaSha256) => rsa(&octets).map(Self::Rsa),
            ("ed25519", Algorithm::Ed25519Sha256) if octets.len() == ED25519_OCTETS => {
                Ok(Self::Ed25519(octets))
            }
            ("ed25519", Algorithm::Ed25519Sha256) => Err(malformed("has not the length of an Ed25519 key")),
            _ => Err(malformed("is for another algorithm")),
        }
    }

    /// Whether `signature` is one of this key over `signed`.
    pub fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Rsa(key) => UnparsedPublicKey::new(&RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, key)
                .verify(signed, signature),
            // The digest is what is signed (RFC 8463 section 3).
            Self::Ed25519(key) => {
                UnparsedPublicKey::new(&ED25519, key).verify(digest(&SHA256, signed).as_ref(), signature)
            }
        }
        .is_ok()
    }
}

/// The `RSAPublicKey` in a `SubjectPublicKeyInfo`, which the field publishes, or standing alone, which RFC 6376 says.
fn rsa(octets: &[u8]) -> Result<Vec<u8>, Unfit> {
    const MALFORMED: Unfit = (DkimWord::Permerror, "holds no RSA key");
    /// `rsaEncryption` with its NULL parameters (RFC 8017 appendix A).
    const RSA: &[u8] = &[0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01, 0x05, 0x00];
    let (outer, rest) = der(0x30, octets).ok_or(MALFORMED)?;
    let key = match der(0x30, outer) {
        Some((algorithm, bits)) if algorithm == RSA => {
            let (bits, end) = der(0x03, bits).ok_or(MALFORMED)?;
            // No unused bits in the last octet.
            bits.strip_prefix(&[0]).filter(|_| end.is_empty()).ok_or(MALFORMED)?
        }
        Some(_) => return Err(MALFORMED),
        None => octets,
    };
    let (numbers, end) = der(0x30, key).ok_or(MALFORMED)?;
    let (modulus, exponent) = der(0x02, numbers).ok_or(MALFORMED)?;
    let exact =
        rest.is_empty() && end.is_empty() && der(0x02, exponent).is_some_and(|(_, end)| end.is_empty());
    if !exact {
        return Err(MALFORMED);
    }
    let first = modulus.iter().position(|octet| *octet != 0).ok_or(MALFORMED)?;
    let modulus = &modulus[first..];
    let bits = modulus.len() * 8 - modulus[0].leading_zeros() as usize;
    match bits {
        0..RSA_BITS_MIN => Err((DkimWord::Policy, "is shorter than 1024 bits")),
        RSA_BITS_MIN..=RSA_BITS_MAX => Ok(key.to_vec()),
        _ => Err((DkimWord::Policy, "is longer than 8192 bits")),
    }
}

/// The value of the element with this tag at the start of `octets`, and what follows it (X.690 section 8.1).
fn der(tag: u8, octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&own, rest) = octets.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7F => (usize::from(length), rest),
        0x81..=0x83 => {
            let (octets, rest) = rest.split_at_checked(usize::from(length & 0x7F))?;
            (octets.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet)), rest)
        }
        _ => return None,
    };
    (own == tag).then(|| rest.split_at_checked(length)).flatten()
}
