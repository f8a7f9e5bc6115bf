//! Object identifiers, as DER content octets, and the algorithms behind them.

use aws_lc_rs::digest::{self, Context};
use aws_lc_rs::signature::{self, VerificationAlgorithm};

use super::ber::{self, Der};

/// `id-data`, 1.2.840.113549.1.7.1.
pub(super) const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
/// `id-signedData`, 1.2.840.113549.1.7.2.
pub(super) const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// `id-envelopedData`, 1.2.840.113549.1.7.3.
pub(super) const ENVELOPED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x03];
/// `id-ct-authEnvelopedData`, 1.2.840.113549.1.9.16.1.23.
pub(super) const AUTH_ENVELOPED_DATA: &[u8] =
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01, 0x17];
/// `id-contentType`, 1.2.840.113549.1.9.3 (RFC 5652 section 11.1).
pub(super) const CONTENT_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03];
/// `id-messageDigest`, 1.2.840.113549.1.9.4 (RFC 5652 section 11.2).
pub(super) const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04];
/// `id-signingTime`, 1.2.840.113549.1.9.5 (RFC 5652 section 11.3).
pub(super) const SIGNING_TIME: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x05];
/// `id-aa-signingCertificate`, 1.2.840.113549.1.9.16.2.12 (RFC 5035 section 5).
pub(super) const SIGNING_CERTIFICATE: &[u8] =
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x02, 0x0c];
/// `id-aa-signingCertificateV2`, 1.2.840.113549.1.9.16.2.47 (RFC 5035 section 3).
pub(super) const SIGNING_CERTIFICATE_V2: &[u8] =
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x02, 0x2f];
/// `id-mgf1`, 1.2.840.113549.1.1.8.
const MGF1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08];
/// `rsaEncryption`, 1.2.840.113549.1.1.1.
pub(super) const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// `id-RSASSA-PSS`, 1.2.840.113549.1.1.10.
const RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
/// `id-ecPublicKey`, 1.2.840.10045.2.1: some write it where the signature's algorithm belongs.
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// `ecdsa-with-SHA256` and `-SHA384`, 1.2.840.10045.4.3.2 and .3.
pub(super) const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
pub(super) const ECDSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];
const ECDSA_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04];
/// `sha256WithRSAEncryption` and its like, 1.2.840.113549.1.1.11 to .13.
const RSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
const RSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c];
const RSA_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d];
/// MD5, SHA-1, and signatures with them: 1.2.840.113549.2.5, 1.3.14.3.2.26, 1.2.840.113549.1.1.4 and .5, 1.2.840.10045.4.1.
const BROKEN: [&[u8]; 5] = [
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02, 0x05],
    &[0x2b, 0x0e, 0x03, 0x02, 0x1a],
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04],
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05],
    &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01],
];

/// A hash that still counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

/// Why an algorithm gives no verdict of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// MD5 or SHA-1: anybody with a budget can make two contents with one digest.
    Broken,
    /// It is none that is known here.
    Unknown,
}

impl Hash {
    pub(super) const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    /// 2.16.840.1.101.3.4.2.1 to .3.
    pub(super) const fn oid(self) -> &'static [u8] {
        match self {
            Self::Sha256 => &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01],
            Self::Sha384 => &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02],
            Self::Sha512 => &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03],
        }
    }

    pub(super) fn of(oid: &[u8]) -> Result<Self, Unusable> {
        Self::ALL.into_iter().find(|hash| hash.oid() == oid).ok_or_else(|| unusable(oid))
    }

    /// Its name in `micalg` (RFC 8551 section 3.5.3.2) and in records.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha-256",
            Self::Sha384 => "sha-384",
            Self::Sha512 => "sha-512",
        }
    }

    /// The one with this name in `micalg`; older programs leave the hyphen out.
    pub(super) fn named(name: &str) -> Option<Self> {
        let name = name.trim().to_ascii_lowercase();
        Self::ALL.into_iter().find(|hash| name == hash.as_str() || name == hash.as_str().replace('-', ""))
    }

    const fn algorithm(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        }
    }

    pub(super) fn context(self) -> Context {
        Context::new(self.algorithm())
    }

    pub(super) fn digest(self, octets: &[u8]) -> Vec<u8> {
        digest::digest(self.algorithm(), octets).as_ref().to_vec()
    }

    /// Its `AlgorithmIdentifier`, without parameters (RFC 5754 section 2).
    pub(super) fn identifier(self) -> Vec<u8> {
        ber::element(ber::SEQUENCE, &ber::element(ber::OID, self.oid()))
    }
}

fn unusable(oid: &[u8]) -> Unusable {
    if BROKEN.contains(&oid) { Unusable::Broken } else { Unusable::Unknown }
}

/// What kind of key a signature needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// RSASSA-PKCS1-v1_5 with this hash.
    Pkcs1(Hash),
    /// RSASSA-PSS with this hash, also in its mask, and a salt of its length.
    Pss(Hash),
    /// ECDSA with this hash; the key says on which curve.
    Ecdsa(Hash),
}

/// A curve that is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
}

impl Scheme {
    /// The scheme of a `signatureAlgorithm`, with its parameters; `digest` is the signer's hash, for identifiers that name
    /// none.
    pub(super) fn of(oid: &[u8], parameters: Option<&[u8]>, digest: Hash) -> Result<Self, Unusable> {
        match oid {
            RSA => Ok(Self::Pkcs1(digest)),
            RSA_SHA256 => Ok(Self::Pkcs1(Hash::Sha256)),
            RSA_SHA384 => Ok(Self::Pkcs1(Hash::Sha384)),
            RSA_SHA512 => Ok(Self::Pkcs1(Hash::Sha512)),
            RSA_PSS => pss(parameters.ok_or(Unusable::Broken)?),
            EC => Ok(Self::Ecdsa(digest)),
            ECDSA_SHA256 => Ok(Self::Ecdsa(Hash::Sha256)),
            ECDSA_SHA384 => Ok(Self::Ecdsa(Hash::Sha384)),
            ECDSA_SHA512 => Ok(Self::Ecdsa(Hash::Sha512)),
            other => Err(unusable(other)),
        }
    }

    pub(super) const fn hash(self) -> Hash {
        match self {
            Self::Pkcs1(hash) | Self::Pss(hash) | Self::Ecdsa(hash) => hash,
        }
    }

    pub(super) const fn is_rsa(self) -> bool {
        matches!(self, Self::Pkcs1(_) | Self::Pss(_))
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Pkcs1(_) => "rsa",
            Self::Pss(_) => "rsa-pss",
            Self::Ecdsa(_) => "ecdsa",
        }
    }

    /// How the library verifies it. RSA keys under 2048 bits never do.
    pub(super) fn algorithm(self, curve: Option<Curve>) -> Option<&'static dyn VerificationAlgorithm> {
        Some(match (self, curve) {
            (Self::Pkcs1(Hash::Sha256), None) => &signature::RSA_PKCS1_2048_8192_SHA256,
            (Self::Pkcs1(Hash::Sha384), None) => &signature::RSA_PKCS1_2048_8192_SHA384,
            (Self::Pkcs1(Hash::Sha512), None) => &signature::RSA_PKCS1_2048_8192_SHA512,
            (Self::Pss(Hash::Sha256), None) => &signature::RSA_PSS_2048_8192_SHA256,
            (Self::Pss(Hash::Sha384), None) => &signature::RSA_PSS_2048_8192_SHA384,
            (Self::Pss(Hash::Sha512), None) => &signature::RSA_PSS_2048_8192_SHA512,
            (Self::Ecdsa(Hash::Sha256), Some(Curve::P256)) => &signature::ECDSA_P256_SHA256_ASN1,
            (Self::Ecdsa(Hash::Sha384), Some(Curve::P256)) => &signature::ECDSA_P256_SHA384_ASN1,
            (Self::Ecdsa(Hash::Sha512), Some(Curve::P256)) => &signature::ECDSA_P256_SHA512_ASN1,
            (Self::Ecdsa(Hash::Sha256), Some(Curve::P384)) => &signature::ECDSA_P384_SHA256_ASN1,
            (Self::Ecdsa(Hash::Sha384), Some(Curve::P384)) => &signature::ECDSA_P384_SHA384_ASN1,
            (Self::Ecdsa(Hash::Sha512), Some(Curve::P384)) => &signature::ECDSA_P384_SHA512_ASN1,
            _ => return None,
        })
    }
}

/// `RSASSA-PSS-params` (RFC 4055 section 3.1). Whatever is left out means SHA-1.
fn pss(parameters: &[u8]) -> Result<Scheme, Unusable> {
    let read = || -> Result<_, ber::Malformed> {
        let mut outer = Der::new(Der::new(parameters).need(ber::SEQUENCE)?.content);
        let (hash, mask, salt) = (outer.optional(0xa0)?, outer.optional(0xa1)?, outer.optional(0xa2)?);
        let (Some(hash), Some(mask), Some(salt)) = (hash, mask, salt) else { return Ok(None) };
        let algorithm = |octets| Ok(Der::new(Der::new(octets).need(ber::SEQUENCE)?.content));
        let hash = algorithm(hash.content)?.need(ber::OID)?.content;
        let mut mask = algorithm(mask.content)?;
        let function = mask.need(ber::OID)?.content;
        let mask_hash = Der::new(mask.need(ber::SEQUENCE)?.content).need(ber::OID)?.content;
        let salt = Der::new(salt.content).need(ber::INTEGER)?.content;
        Ok(Some((hash, function, mask_hash, salt)))
    };
    let (hash, function, mask_hash, salt) = read().map_err(|_| Unusable::Unknown)?.ok_or(Unusable::Broken)?;
    let hash = Hash::of(hash)?;
    let length = u8::try_from(hash.algorithm().output_len).unwrap_or(0);
    let usual = function == MGF1 && mask_hash == hash.oid() && salt == [length];
    usual.then_some(Scheme::Pss(hash)).ok_or(Unusable::Unknown)
}
