//! The private keys that sign mail, and the record that publishes each.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;

/// Shorter RSA keys are refused (RFC 8301 section 3.2: signers should use at least this).
pub const RSA_BITS_MIN: usize = 2048;
/// Longer ones need not be understood by anybody who verifies (RFC 8301 section 3.2).
pub const RSA_BITS_MAX: usize = 4096;

/// Why a file holds no key to sign with. The operator acts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyError {
    /// There is no private key in the text.
    #[error("there is no private key in PEM form")]
    NoKey,
    /// A key of another kind, or a damaged one.
    #[error("the key is neither Ed25519 nor RSA, or it is damaged")]
    Kind,
    /// RSA of a length that is not used.
    #[error("an RSA key of {0} bits; {RSA_BITS_MIN} to {RSA_BITS_MAX} are used")]
    Length(usize),
}

/// The algorithm of a signature; it follows from the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningAlgorithm {
    /// RFC 8463.
    Ed25519,
    /// RFC 6376 section 3.3.2.
    Rsa,
}

impl SigningAlgorithm {
    /// The value of `a=` in a signature.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519-sha256",
            Self::Rsa => "rsa-sha256",
        }
    }

    /// The value of `k=` in a key record.
    #[must_use]
    pub const fn key_type(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::Rsa => "rsa",
        }
    }
}

/// A private key that signs mail. Clones share it.
#[derive(Clone)]
pub struct SigningKey {
    pair: Arc<Pair>,
    public: Vec<u8>,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    Rsa(rsa::KeyPair),
}

impl fmt::Debug for SigningKey {
    /// What is public of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({self} {})", self.public_text())
    }
}

impl fmt::Display for SigningKey {
    /// Kind and length.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.pair {
            Pair::Ed25519(_) => f.write_str("Ed25519"),
            Pair::Rsa(pair) => write!(f, "RSA {} bits", pair.public_modulus_len() * 8),
        }
    }
}

impl PartialEq for SigningKey {
    fn eq(&self, other: &Self) -> bool {
        self.public == other.public
    }
}

impl Eq for SigningKey {}

impl SigningKey {
    /// Reads the first private key of a PEM text: PKCS #8, or PKCS #1 for RSA; not encrypted.
    ///
    /// # Errors
    /// [`SigningKeyError`]; a weak key is one (SIGN-003).
    pub fn from_pem(pem: &[u8]) -> Result<Self, SigningKeyError> {
        let der = PrivateKeyDer::from_pem_slice(pem).map_err(|_| SigningKeyError::NoKey)?;
        if let PrivateKeyDer::Pkcs8(der) = &der
            && let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der())
        {
            let public = pair.public_key().as_ref().to_vec();
            return Ok(Self { pair: Arc::new(Pair::Ed25519(pair)), public });
        }
        let pair = match &der {
            PrivateKeyDer::Pkcs8(der) => rsa::KeyPair::from_pkcs8(der.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(der) => rsa::KeyPair::from_der(der.secret_pkcs1_der()),
            _ => return Err(SigningKeyError::Kind),
        };
        // The library refuses short keys with a word, and reads no length of them.
        let pair = pair.map_err(|error| match error.to_string().as_str() {
            "TooSmall" => SigningKeyError::Length(rsa_bits(&der)),
            "TooLarge" => SigningKeyError::Length(rsa_bits(&der)),
            _ => SigningKeyError::Kind,
        })?;
        let bits = pair.public_modulus_len() * 8;
        if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
            return Err(SigningKeyError::Length(bits));
        }
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(|_| SigningKeyError::Kind)?;
        let public = public.as_ref().to_vec();
        Ok(Self { pair: Arc::new(Pair::Rsa(pair)), public })
    }

    /// The algorithm.
    #[must_use]
    pub fn algorithm(&self) -> SigningAlgorithm {
        match &*self.pair {
            Pair::Ed25519(_) => SigningAlgorithm::Ed25519,
            Pair::Rsa(_) => SigningAlgorithm::Rsa,
        }
    }

    /// The public key as `p=` carries it: the 32 octets of Ed25519 (RFC 8463 section 4), SubjectPublicKeyInfo of RSA (RFC
    /// 6376 section 3.6.1); in base64.
    #[must_use]
    pub fn public_text(&self) -> String {
        STANDARD.encode(&self.public)
    }

    /// The text of the TXT record that publishes the key (RFC 6376 section 3.6.1).
    #[must_use]
    pub fn record(&self) -> String {
        format!("v=DKIM1; k={}; p={}", self.algorithm().key_type(), self.public_text())
    }

    /// Whether a published record is of this key and lets others believe its signatures: right kind and key, not only for
    /// tests, not for another hash or service.
    #[must_use]
    pub fn is_published_by(&self, record: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(record) else { return false };
        let value = |tag: &str| {
            let tags = text.split(';').filter_map(|item| item.split_once('='));
            let mut found = tags.filter(|(name, _)| name.trim() == tag).map(|(_, value)| value);
            // The folding of a value is not part of it.
            found.next().map(|value| value.split_ascii_whitespace().collect::<String>())
        };
        let admits = |tag: &str, words: &[&str]| {
            value(tag).is_none_or(|list| list.split(':').any(|item| words.contains(&item)))
        };
        value("v").is_none_or(|version| version == "DKIM1")
            && value("k").unwrap_or_else(|| "rsa".to_owned()) == self.algorithm().key_type()
            && value("p").is_some_and(|key| key == self.public_text())
            && admits("h", &["sha256"])
            && admits("s", &["*", "email"])
            && value("t").is_none_or(|flags| flags.split(':').all(|flag| flag != "y"))
    }

    /// The signature over the canonical header octets, in base64; `None` if the library fails.
    pub(super) fn sign(&self, covered: &[u8]) -> Option<String> {
        match &*self.pair {
            // The hash is what is signed, not the octets (RFC 8463 section 3).
            Pair::Ed25519(pair) => {
                let signature = pair.try_sign(digest(&SHA256, covered).as_ref()).ok()?;
                Some(STANDARD.encode(signature.as_ref()))
            }
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), covered, &mut signature).ok()?;
                Some(STANDARD.encode(signature))
            }
        }
    }
}

/// About how many bits an RSA key has of which the library says no more than that it will not take it: its private key
/// holds five numbers of half the modulus, the modulus, and the exponent of its length.
fn rsa_bits(der: &PrivateKeyDer<'_>) -> usize {
    let octets = der.secret_der().len() * 8;
    // 9/2 of the modulus, and some dozens of octets of frame.
    (octets * 2 / 9 / 256) * 256
}
