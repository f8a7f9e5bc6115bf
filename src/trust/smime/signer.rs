//! A key of ours that signs mail with S/MIME, and the signature it makes: CAdES-B, detached (ETSI EN 319 122-1 section 6;
//! RFC 5652, RFC 5035).

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::Context;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256,
    UnparsedPublicKey,
};
use jiff::Timestamp;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::ber::{self, constructed, element};
use super::certificate::{Certificate, Key, MailUse, is_same};
use super::oid::{self, Curve, Hash, Scheme};
use crate::model::{Address, Digest, SmimeFacts};

/// Certificates that are sent along with a signature.
const CHAIN_MAX: usize = 8;
/// The word in records for what this node signed.
const SIGNED: &str = "signed";

/// Why certificate and key do not sign mail. The operator acts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SmimeKeyError {
    /// No certificate in the text, one that can't be read, or more than a signature may carry.
    #[error("the certificate file needs 1 to {CHAIN_MAX} certificates in PEM form, the signer's first: {0}")]
    Chain(String),
    /// No private key in the text.
    #[error("there is no private key in PEM form")]
    NoKey,
    /// The certificate has a key that is not used for this.
    #[error("the certificate's key is none of ECDSA P-256, ECDSA P-384, and RSA of 2048 bits or more")]
    Kind,
    /// The key belongs to another certificate.
    #[error("the private key does not belong to the first certificate")]
    Mismatch,
    /// The certificate is limited to other things.
    #[error("the certificate may not sign mail: {0}")]
    Purpose(&'static str),
    /// Nobody could tell whose signature it is.
    #[error("the certificate carries no e-mail address")]
    NoAddress,
}

/// A key that signs mail, with its certificates. Clones share it.
#[derive(Clone)]
pub struct SmimeSigner {
    inner: Arc<Inner>,
}

struct Inner {
    /// The signer's first.
    chain: Vec<Vec<u8>>,
    key: PrivateKey,
    issuer: Vec<u8>,
    serial: Vec<u8>,
    addresses: Vec<Address>,
    valid: (Timestamp, Timestamp),
    facts: SmimeFacts,
}

enum PrivateKey {
    Rsa(rsa::KeyPair),
    Ec(Curve, EcdsaKeyPair),
}

impl fmt::Debug for SmimeSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SmimeSigner({:?})", self.inner.facts)
    }
}

impl PartialEq for SmimeSigner {
    fn eq(&self, other: &Self) -> bool {
        self.inner.chain == other.inner.chain
    }
}

impl Eq for SmimeSigner {}

impl SmimeSigner {
    /// Reads a chain, the signer's certificate first, and its private key: PKCS #8, PKCS #1 or SEC 1, not encrypted.
    ///
    /// # Errors
    /// [`SmimeKeyError`]. Dates are the caller's affair: they change while a node runs.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, SmimeKeyError> {
        let broken = |why: String| SmimeKeyError::Chain(why);
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .map_err(|error| broken(error.to_string()))?;
        let (count, all) = (chain.len(), chain.iter().all(|der| Certificate::read(der).is_some()));
        let first = chain.first().filter(|_| count <= CHAIN_MAX).and_then(|der| Certificate::read(der));
        let certificate = match first {
            Some(certificate) if all => certificate,
            _ => {
                return Err(broken(format!("it has {count}{}", if all { "" } else { ", not all readable" })));
            }
        };
        let private = PrivateKeyDer::from_pem_slice(key).map_err(|_| SmimeKeyError::NoKey)?;
        let key = PrivateKey::read(&private, certificate.key())?;
        match certificate.mail_use() {
            MailUse::Yes => {}
            MailUse::NoSigning => return Err(SmimeKeyError::Purpose("its key usage leaves signing out")),
            MailUse::NoMail => {
                return Err(SmimeKeyError::Purpose("its extended key usage does not name emailProtection"));
            }
        }
        let addresses = certificate.addresses();
        let signer = addresses.first().ok_or(SmimeKeyError::NoAddress)?.to_string();
        let scheme = key.scheme();
        let facts = SmimeFacts {
            verdict: SIGNED.to_owned(),
            detail: None,
            signer: Some(signer),
            subject: Some(certificate.subject()),
            issuer: Some(certificate.issuer()),
            serial: Some(certificate.serial()),
            certificate: Some(certificate.fingerprint().to_string()),
            digest: Some(scheme.hash().as_str().to_owned()),
            signature: Some(format!("{} with {}", scheme.as_str(), scheme.hash().as_str())),
            signed_at: None,
            cades: true,
        };
        let inner = Inner {
            issuer: certificate.issuer_der().to_vec(),
            serial: certificate.serial_octets().to_vec(),
            valid: certificate.validity(),
            chain: chain.iter().map(|der| der.to_vec()).collect(),
            addresses,
            key,
            facts,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The addresses its certificate is for; at least one.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.inner.addresses
    }

    /// Whether its certificate is for this address.
    #[must_use]
    pub fn is_for(&self, address: &Address) -> bool {
        self.inner.addresses.iter().any(|ours| is_same(ours, address))
    }

    /// Last instant at which its certificate is valid.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.inner.valid.1
    }

    /// Whether its certificate is valid at this time.
    #[must_use]
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        (self.inner.valid.0..=self.inner.valid.1).contains(&now)
    }

    /// SHA-256 of its certificate.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.inner.chain[0])
    }

    /// What the record of a message says that it signed.
    #[must_use]
    pub fn facts(&self) -> SmimeFacts {
        self.inner.facts.clone()
    }

    /// The hash over the content, in the words of `micalg`.
    pub(super) fn micalg(&self) -> &'static str {
        self.inner.key.scheme().hash().as_str()
    }

    pub(super) fn context(&self) -> Context {
        self.inner.key.scheme().hash().context()
    }

    /// The signature over content with this digest, DER; `None` if the library fails.
    pub(super) fn sign(&self, digest: &[u8], at: Timestamp) -> Option<Vec<u8>> {
        let inner = &*self.inner;
        let hash = inner.key.scheme().hash();
        let attributes = self.attributes(digest, at);
        let signature = inner.key.sign(&element(ber::SET, &attributes))?;
        let version = element(ber::INTEGER, &[1]);
        let serial = element(ber::INTEGER, &inner.serial);
        let signer = constructed(
            ber::SEQUENCE,
            &[
                &version,
                &constructed(ber::SEQUENCE, &[&inner.issuer, &serial]),
                &hash.identifier(),
                &element(0xa0, &attributes),
                &inner.key.identifier(),
                &element(ber::OCTET_STRING, &signature),
            ],
        );
        let mut certificates = inner.chain.clone();
        certificates.sort_unstable();
        let signed = constructed(
            ber::SEQUENCE,
            &[
                &version,
                &element(ber::SET, &hash.identifier()),
                &element(ber::SEQUENCE, &element(ber::OID, oid::DATA)),
                &element(0xa0, &certificates.concat()),
                &element(ber::SET, &signer),
            ],
        );
        Some(constructed(ber::SEQUENCE, &[&element(ber::OID, oid::SIGNED_DATA), &element(0xa0, &signed)]))
    }

    /// The signed attributes of a CAdES-B signature, in the order of DER.
    fn attributes(&self, digest: &[u8], at: Timestamp) -> Vec<u8> {
        let attribute = |id: &[u8], value: &[u8]| {
            constructed(ber::SEQUENCE, &[&element(ber::OID, id), &element(ber::SET, value)])
        };
        let mut all = [
            attribute(oid::CONTENT_TYPE, &element(ber::OID, oid::DATA)),
            attribute(oid::MESSAGE_DIGEST, &element(ber::OCTET_STRING, digest)),
            attribute(oid::SIGNING_TIME, &ber::time(at)),
            attribute(oid::SIGNING_CERTIFICATE_V2, &self.signing_certificate()),
        ];
        all.sort_unstable();
        all.concat()
    }

    /// `SigningCertificateV2` with SHA-256, which is its default and so is not written (RFC 5035 section 3).
    fn signing_certificate(&self) -> Vec<u8> {
        let issuer = element(ber::SEQUENCE, &element(0xa4, &self.inner.issuer));
        let serial = element(ber::INTEGER, &self.inner.serial);
        let entry = constructed(
            ber::SEQUENCE,
            &[
                &element(ber::OCTET_STRING, &Hash::Sha256.digest(&self.inner.chain[0])),
                &constructed(ber::SEQUENCE, &[&issuer, &serial]),
            ],
        );
        element(ber::SEQUENCE, &element(ber::SEQUENCE, &entry))
    }
}

impl PrivateKey {
    /// The key for a certificate with this public one.
    fn read(der: &PrivateKeyDer<'_>, public: Key<'_>) -> Result<Self, SmimeKeyError> {
        let octets = der.secret_der();
        let (key, curve, point) = match public {
            Key::Rsa(public) => {
                let pair = match der {
                    PrivateKeyDer::Pkcs1(_) => rsa::KeyPair::from_der(octets),
                    _ => rsa::KeyPair::from_pkcs8(octets),
                };
                (Self::Rsa(pair.map_err(|_| SmimeKeyError::Mismatch)?), None, public)
            }
            Key::Ec(curve, public) => {
                let algorithm = match curve {
                    Curve::P256 => &ECDSA_P256_SHA256_ASN1_SIGNING,
                    Curve::P384 => &ECDSA_P384_SHA384_ASN1_SIGNING,
                };
                let pair = EcdsaKeyPair::from_private_key_der(algorithm, octets);
                (Self::Ec(curve, pair.map_err(|_| SmimeKeyError::Mismatch)?), Some(curve), public)
            }
            Key::WeakRsa | Key::Other => return Err(SmimeKeyError::Kind),
        };
        // The plainest proof that they belong together.
        let proof = key.sign(b"proof").ok_or(SmimeKeyError::Mismatch)?;
        let algorithm = key.scheme().algorithm(curve).ok_or(SmimeKeyError::Kind)?;
        let fits = UnparsedPublicKey::new(algorithm, point).verify(b"proof", &proof);
        fits.map(|()| key).map_err(|_| SmimeKeyError::Mismatch)
    }

    const fn scheme(&self) -> Scheme {
        match self {
            Self::Rsa(_) => Scheme::Pkcs1(Hash::Sha256),
            Self::Ec(Curve::P256, _) => Scheme::Ecdsa(Hash::Sha256),
            Self::Ec(Curve::P384, _) => Scheme::Ecdsa(Hash::Sha384),
        }
    }

    /// `AlgorithmIdentifier` of its signatures (RFC 3370 section 3.2, RFC 5754 section 3).
    fn identifier(&self) -> Vec<u8> {
        match self {
            Self::Rsa(_) => {
                let null = element(ber::NULL, &[]);
                constructed(ber::SEQUENCE, &[&element(ber::OID, oid::RSA), &null])
            }
            Self::Ec(Curve::P256, _) => element(ber::SEQUENCE, &element(ber::OID, oid::ECDSA_SHA256)),
            Self::Ec(Curve::P384, _) => element(ber::SEQUENCE, &element(ber::OID, oid::ECDSA_SHA384)),
        }
    }

    fn sign(&self, octets: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, octets, &mut signature).ok()?;
                Some(signature)
            }
            Self::Ec(_, pair) => Some(pair.sign(&random, octets).ok()?.as_ref().to_vec()),
        }
    }
}
