//! Our own keys: read from PEM, checked, and replaced while links are open.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::certificate::{Certificate, KeyKind, RSA_BITS_MIN, SignedWith};
use super::suites::provider;
use crate::model::DomainName;

/// The most dNSNames a certificate that claims an identity may carry (IDEN-007).
pub const NAMES_MAX: usize = 4;

/// A certificate chain and its private key, both PEM.
#[derive(Clone, Copy)]
pub struct PemPair<'a> {
    /// The chain, our own certificate first.
    pub chain: &'a [u8],
    /// The private key: PKCS#8, PKCS#1 or SEC1.
    pub key: &'a [u8],
}

/// What a key is for, and so which rules its names obey.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyUse {
    /// Links with other providers: 1 to 4 dNSNames, at least one of them usable as an identity (IDEN-007).
    Federation,
    /// Links with our own environment, where keys are pinned and names are the operator's own affair.
    Environment,
}

/// Why a key is not taken into use. The operator has to act.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeyError {
    /// No key was given at all.
    #[error("no certificate and key given")]
    Nothing,
    /// The PEM text has no certificate, or one that can't be read.
    #[error("the certificate file can't be read: {0}")]
    Chain(String),
    /// The PEM text has no private key, or one that can't be read.
    #[error("the key file can't be read: {0}")]
    Key(String),
    /// The key belongs to another certificate.
    #[error("the private key does not belong to the first certificate of the chain")]
    Mismatch,
    /// RSA below 2048 bits (TLS-006).
    #[error("an RSA key of {0} bits is too weak; use ECDSA P-256, or RSA with 3072 bits")]
    Weak(usize),
    /// Not ECDSA P-256 or P-384, Ed25519 or RSA.
    #[error("{0} is not a key type for this use; take ECDSA P-256 or P-384, Ed25519, or RSA with 3072 bits")]
    Type(String),
    /// The certificate is signed with SHA-1 or MD5 (TLS-006).
    #[error("the certificate is signed with SHA-1 or MD5; issue a new one")]
    BrokenSignature,
    /// More than four dNSNames (IDEN-007).
    #[error("the certificate has {0} dNSNames; peers look up at most {NAMES_MAX}")]
    TooManyNames(usize),
    /// No dNSName that could be an identity (IDEN-007).
    #[error("the certificate has no dNSName without a wildcard, so it can't identify this node")]
    NoName,
}

/// Something about a key that works but should change; for `sluis check`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyWarning {
    /// RSA below 3072 bits (TLS-009).
    #[error("{0} is being phased out; take ECDSA P-256, or RSA with 3072 bits")]
    PhasingOut(KeyKind),
    /// A wildcard, which no peer accepts as a name.
    #[error("the dNSName {0} proves nothing to a peer")]
    NotAnIdentity(String),
}

impl std::fmt::Display for OwnKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.certificate.key(), self.certificate.key_digest())
    }
}

/// One of our keys with its certificate.
#[derive(Clone, Debug)]
pub struct OwnKey {
    certificate: Certificate,
    certified: Arc<CertifiedKey>,
}

impl OwnKey {
    /// The certificate we show with it.
    #[must_use]
    pub const fn certificate(&self) -> &Certificate {
        &self.certificate
    }
}

/// The keys of one listener or client: usually one, or ECDSA beside RSA (TLS-007). Never empty.
#[derive(Clone, Debug)]
pub struct KeyMaterial {
    keys: Vec<OwnKey>,
    warnings: Vec<KeyWarning>,
}

impl KeyMaterial {
    /// Reads and checks key pairs; the order is the order of preference.
    ///
    /// # Errors
    /// The first rule of [`KeyError`] that a pair breaks.
    pub fn from_pem(pairs: &[PemPair<'_>], purpose: KeyUse) -> Result<Self, KeyError> {
        if pairs.is_empty() {
            return Err(KeyError::Nothing);
        }
        let mut material = Self { keys: Vec::new(), warnings: Vec::new() };
        for pair in pairs {
            let key = read_pair(pair)?;
            check(&key.certificate, purpose, &mut material.warnings)?;
            material.keys.push(key);
        }
        Ok(material)
    }

    /// The keys, in order of preference.
    #[must_use]
    pub fn keys(&self) -> &[OwnKey] {
        &self.keys
    }

    /// What should change about them.
    #[must_use]
    pub fn warnings(&self) -> &[KeyWarning] {
        &self.warnings
    }

    /// The names that the certificates can prove, each once.
    #[must_use]
    pub fn identities(&self) -> Vec<DomainName> {
        let mut names: Vec<DomainName> =
            self.keys.iter().flat_map(|key| key.certificate.identities()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// The first key that can sign with one of `schemes`.
    fn choose(&self, schemes: &[SignatureScheme]) -> Option<&OwnKey> {
        self.keys.iter().find(|key| key.certified.key.choose_scheme(schemes).is_some())
    }
}

fn read_pair(pair: &PemPair<'_>) -> Result<OwnKey, KeyError> {
    let chain = CertificateDer::pem_slice_iter(pair.chain)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| KeyError::Chain(error.to_string()))?;
    let first = chain.first().ok_or_else(|| KeyError::Chain("no certificate in it".to_owned()))?;
    let certificate = Certificate::parse(first).map_err(|error| KeyError::Chain(error.to_string()))?;
    // Before the library sees the key: it has its own, vaguer words for a short one.
    if let KeyKind::Rsa(bits) = *certificate.key()
        && bits < RSA_BITS_MIN
    {
        return Err(KeyError::Weak(bits));
    }
    let key = PrivateKeyDer::from_pem_slice(pair.key).map_err(|error| KeyError::Key(error.to_string()))?;
    let certified = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => KeyError::Mismatch,
        other => KeyError::Key(other.to_string()),
    })?;
    Ok(OwnKey { certificate, certified: Arc::new(certified) })
}

fn check(certificate: &Certificate, purpose: KeyUse, warnings: &mut Vec<KeyWarning>) -> Result<(), KeyError> {
    match certificate.key() {
        KeyKind::Rsa(_) | KeyKind::Ed25519 | KeyKind::Ecdsa("P-256" | "P-384") => {}
        other => return Err(KeyError::Type(other.to_string())),
    }
    if certificate.key().phasing_out() {
        warnings.push(KeyWarning::PhasingOut(certificate.key().clone()));
    }
    if certificate.signed_with() == SignedWith::Broken {
        return Err(KeyError::BrokenSignature);
    }
    if purpose == KeyUse::Federation {
        let names = certificate.dns_names();
        if names.len() > NAMES_MAX {
            return Err(KeyError::TooManyNames(names.len()));
        }
        if certificate.identities().is_empty() {
            return Err(KeyError::NoName);
        }
        let useless = names.iter().filter(|name| name.parse::<DomainName>().is_err());
        warnings.extend(useless.map(|name| KeyWarning::NotAnIdentity(name.clone())));
    }
    Ok(())
}

/// The keys in use now. Open links keep the key they began with; the next handshake takes the new one.
#[derive(Debug)]
pub struct KeyRing {
    material: ArcSwap<KeyMaterial>,
    /// Whether links with these keys are simulated ones.
    #[cfg(test)]
    simulated: bool,
}

impl KeyRing {
    /// A ring with these keys.
    #[must_use]
    pub fn new(material: KeyMaterial) -> Arc<Self> {
        Arc::new(Self {
            material: ArcSwap::from_pointee(material),
            #[cfg(test)]
            simulated: false,
        })
    }

    /// A ring whose links are those of [`super::simulated`].
    #[cfg(test)]
    pub(crate) fn simulated(material: KeyMaterial) -> Arc<Self> {
        Arc::new(Self { material: ArcSwap::from_pointee(material), simulated: true })
    }

    #[cfg(test)]
    pub(super) const fn is_simulated(&self) -> bool {
        self.simulated
    }

    /// The keys in use now.
    #[must_use]
    pub fn current(&self) -> Arc<KeyMaterial> {
        self.material.load_full()
    }

    /// Takes other keys into use.
    pub fn replace(&self, material: KeyMaterial) {
        self.material.store(Arc::new(material));
    }

    /// The key to show to a side that verifies `schemes`.
    pub(super) fn choose(&self, schemes: &[SignatureScheme]) -> Option<OwnKey> {
        self.material.load().choose(schemes).cloned()
    }
}

impl OwnKey {
    pub(super) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }
}

impl ResolvesServerCert for KeyRing {
    /// By signature algorithms only: with DANE the name asked for decides nothing, and a client without SNI is as
    /// welcome as one with it. When none fits, the first: the library then finds nothing in common and says so with the
    /// right alert (attack class T15), where no key at all would be "access denied".
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.material.load();
        let fitting = current.choose(hello.signature_schemes());
        fitting.or_else(|| current.keys.first()).map(OwnKey::certified)
    }
}

impl ResolvesClientCert for KeyRing {
    /// Whatever authorities the server names: ours is judged by DNS, not by its issuer.
    fn resolve(&self, _authorities: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.choose(schemes).map(|key| key.certified())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::testing::{Authority, Pair, leaf, pem_key_rsa, rsa_1024};
    use super::*;

    fn load(pair: &Pair, purpose: KeyUse) -> Result<KeyMaterial, KeyError> {
        KeyMaterial::from_pem(
            &[PemPair { chain: pair.chain_pem().as_bytes(), key: pair.key_pem.as_bytes() }],
            purpose,
        )
    }

    #[test]
    fn good_keys_load_and_tell_their_names() {
        let material = load(&leaf(&["b.nl", "a.nl"]), KeyUse::Federation).unwrap();
        assert_eq!(material.identities(), ["a.nl".parse().unwrap(), "b.nl".parse().unwrap()]);
        assert!(material.warnings().is_empty());
    }

    /// Proves: -IDEN-007
    #[test]
    fn names_that_identify_nobody_are_refused_for_the_federation_only() {
        let five = leaf(&["a.nl", "b.nl", "c.nl", "d.nl", "e.nl"]);
        assert_eq!(load(&five, KeyUse::Federation).unwrap_err(), KeyError::TooManyNames(5));
        assert!(load(&five, KeyUse::Environment).is_ok());
        assert_eq!(load(&leaf(&["*.a.nl"]), KeyUse::Federation).unwrap_err(), KeyError::NoName);
        assert_eq!(load(&leaf(&[]), KeyUse::Federation).unwrap_err(), KeyError::NoName);
        assert!(load(&leaf(&[]), KeyUse::Environment).is_ok());
        let mixed = load(&leaf(&["a.nl", "*.a.nl"]), KeyUse::Federation).unwrap();
        assert_eq!(mixed.warnings(), [KeyWarning::NotAnIdentity("*.a.nl".to_owned())]);
    }

    /// Proves: +TLS-006 -TLS-006 +TLS-009
    #[test]
    fn weak_keys_are_refused_and_fading_ones_warned_of() {
        let (chain, key) = rsa_1024();
        let short = PemPair { chain: chain.as_bytes(), key: key.as_bytes() };
        assert_eq!(KeyMaterial::from_pem(&[short], KeyUse::Federation).unwrap_err(), KeyError::Weak(1024));
        let fading = Authority::root("ca").issue_with(pem_key_rsa(2048), &["a.nl"]);
        let material = load(&fading, KeyUse::Federation).unwrap();
        assert_eq!(material.warnings(), [KeyWarning::PhasingOut(KeyKind::Rsa(2048))]);
        let good = Authority::root("ca").issue_with(pem_key_rsa(3072), &["a.nl"]);
        assert!(load(&good, KeyUse::Federation).unwrap().warnings().is_empty());
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let (one, other) = (leaf(&["a.nl"]), leaf(&["a.nl"]));
        let mixed = Pair { chain: one.chain.clone(), key_pem: other.key_pem };
        assert_eq!(load(&mixed, KeyUse::Federation).unwrap_err(), KeyError::Mismatch);
        let empty = KeyMaterial::from_pem(&[PemPair { chain: b"", key: b"" }], KeyUse::Federation);
        assert!(matches!(empty, Err(KeyError::Chain(_))));
        let keyless = PemPair { chain: one.chain_pem().as_bytes(), key: b"nothing" }.chain.to_vec();
        let keyless = KeyMaterial::from_pem(&[PemPair { chain: &keyless, key: b"" }], KeyUse::Federation);
        assert!(matches!(keyless, Err(KeyError::Key(_))));
        assert_eq!(KeyMaterial::from_pem(&[], KeyUse::Federation).unwrap_err(), KeyError::Nothing);
    }

    /// Proves: +TLS-007
    #[test]
    fn the_key_follows_the_signature_algorithms_and_can_be_replaced() {
        let ecdsa = leaf(&["a.nl"]);
        let rsa = Authority::root("ca").issue_with(pem_key_rsa(3072), &["a.nl"]);
        let (ecdsa_chain, rsa_chain) = (ecdsa.chain_pem(), rsa.chain_pem());
        let both = [
            PemPair { chain: ecdsa_chain.as_bytes(), key: ecdsa.key_pem.as_bytes() },
            PemPair { chain: rsa_chain.as_bytes(), key: rsa.key_pem.as_bytes() },
        ];
        let ring = KeyRing::new(KeyMaterial::from_pem(&both, KeyUse::Federation).unwrap());
        let kind =
            |schemes: &[SignatureScheme]| ring.choose(schemes).map(|key| key.certificate.key().clone());
        use SignatureScheme as S;
        assert_eq!(kind(&[S::RSA_PSS_SHA256, S::ECDSA_NISTP256_SHA256]), Some(KeyKind::Ecdsa("P-256")));
        assert_eq!(kind(&[S::RSA_PSS_SHA256]), Some(KeyKind::Rsa(3072)));
        assert_eq!(kind(&[S::RSA_PKCS1_SHA1]), None);
        ring.replace(KeyMaterial::from_pem(&both[1..], KeyUse::Federation).unwrap());
        assert_eq!(kind(&[S::RSA_PSS_SHA256, S::ECDSA_NISTP256_SHA256]), Some(KeyKind::Rsa(3072)));
    }
}
