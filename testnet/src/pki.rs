//! Keys and certificates, good and bad ones, made at start; and the TLSA data that fits them.
//!
//! ```
//! use testnet::pki::{Ca, CertSpec, KeyKind, Matching, Selector, Usage, Validity};
//!
//! let now = jiff::Timestamp::now();
//! let host = CertSpec::new("nta.a.nl").self_signed(now)?;
//! let tlsa = host.tlsa(Usage::DaneEe, Selector::Spki, Matching::Sha256)?;
//! assert_eq!(&tlsa[..3], &[3, 1, 1]);
//!
//! // An expired leaf below a private authority.
//! let ca = Ca::root(&CertSpec::new("Federation root"), now)?;
//! let issuing = ca.intermediate(&CertSpec::new("Federation issuing"), now)?;
//! let leaf = issuing.issue(&CertSpec::new("nta.b.nl").validity(Validity::Expired), now)?;
//! assert_eq!(leaf.chain().len(), 3, "leaf, issuing, root: the anchor is sent along (RFC 7671 section 5.2)");
//! # Ok::<_, testnet::pki::PkiError>(())
//! ```
//!
//! # Guarantees
//! Key files are created with mode 0600. Nothing here is random but the keys; dates come from the argument `now`.
//!
//! # Errors
//! [`PkiError`] names the certificate. Except for a full disk they are mistakes of whoever wrote the topology.

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, RsaKeySize,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PkiError {
    /// The library refuses to make it, for instance because a name is none.
    #[error("certificate for {subject}: {source}")]
    Make {
        /// For whom.
        subject: String,
        /// Why not.
        source: rcgen::Error,
    },
    /// Not a certificate.
    #[error("this is not a certificate: {0}")]
    NotACertificate(String),
    /// A key that signs mail can't be made.
    #[error("a key that signs mail can't be made")]
    SigningKey,
    /// A file can't be written.
    #[error("writing {path}: {source}", path = path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Kinds of key. What the guidelines call good, sufficient and to be phased out (our `spec/`, transport).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyKind {
    /// Good, and the quickest to make.
    #[default]
    EcdsaP256,
    /// Good.
    EcdsaP384,
    /// Good.
    Ed25519,
    /// Sufficient: for peers that know nothing else.
    Rsa3072,
    /// To be phased out.
    Rsa2048,
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Validity {
    /// From a day ago for 90 days.
    #[default]
    Good,
    /// Until yesterday.
    Expired,
    /// From tomorrow on.
    NotYet,
}

/// Extended key usages of a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Purpose {
    /// TLS server and client.
    #[default]
    ServerAndClient,
    /// TLS server only, as public authorities issue since 2026.
    Server,
    /// TLS client only.
    Client,
}

/// What a certificate is to say.
#[derive(Debug, Clone)]
pub struct CertSpec {
    subject: String,
    names: Vec<String>,
    key: KeyKind,
    validity: Validity,
    purpose: Purpose,
}

impl CertSpec {
    /// A P-256 certificate for one host name, valid now, for servers and clients. For an authority the name is only
    /// its subject.
    pub fn new(name: impl Into<String>) -> Self {
        let subject = name.into();
        Self {
            names: vec![subject.clone()],
            subject,
            key: KeyKind::default(),
            validity: Validity::default(),
            purpose: Purpose::default(),
        }
    }

    /// With exactly these dNSNames; possibly none, possibly the wrong ones.
    pub fn names<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.names = names.into_iter().map(Into::into).collect();
        self
    }

    /// With another kind of key.
    pub fn key(mut self, key: KeyKind) -> Self {
        self.key = key;
        self
    }

    /// Valid at another time.
    pub fn validity(mut self, validity: Validity) -> Self {
        self.validity = validity;
        self
    }

    /// For another purpose.
    pub fn purpose(mut self, purpose: Purpose) -> Self {
        self.purpose = purpose;
        self
    }

    /// Makes a key and a certificate that it signs itself.
    ///
    /// # Errors
    /// If the library refuses, for instance because a name is none.
    pub fn self_signed(&self, now: Timestamp) -> Result<Identity, PkiError> {
        let key = self.make_key()?;
        let certificate = self.leaf(now)?.self_signed(&key).map_err(|source| self.failed(source))?;
        Ok(Identity { chain: vec![certificate.der().clone()], key: key.serialize_der() })
    }

    /// Makes a certificate for a key that exists: a renewal that keeps the key, or somebody else's key.
    ///
    /// # Errors
    /// If the library refuses, for instance because a name is none.
    pub fn self_signed_with(&self, key: &Identity, now: Timestamp) -> Result<Identity, PkiError> {
        let pair = key.pair().map_err(|source| self.failed(source))?;
        let certificate = self.leaf(now)?.self_signed(&pair).map_err(|source| self.failed(source))?;
        Ok(Identity { chain: vec![certificate.der().clone()], key: key.key.clone() })
    }

    fn make_key(&self) -> Result<KeyPair, PkiError> {
        match self.key {
            KeyKind::EcdsaP256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            KeyKind::EcdsaP384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
            KeyKind::Ed25519 => KeyPair::generate_for(&rcgen::PKCS_ED25519),
            KeyKind::Rsa3072 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_3072),
            KeyKind::Rsa2048 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048),
        }
        .map_err(|source| self.failed(source))
    }

    fn leaf(&self, now: Timestamp) -> Result<CertificateParams, PkiError> {
        let mut params = CertificateParams::new(self.names.clone()).map_err(|source| self.failed(source))?;
        self.common(&mut params, now);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match self.purpose {
            Purpose::ServerAndClient => {
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
            }
            Purpose::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Purpose::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }

    fn authority(&self, now: Timestamp) -> CertificateParams {
        let mut params = CertificateParams::default();
        self.common(&mut params, now);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
    }

    fn common(&self, params: &mut CertificateParams, now: Timestamp) {
        const DAY: Duration = Duration::from_secs(86_400);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, self.subject.as_str());
        // Before 1970 there was neither DNS nor X.509.
        let now = Duration::from_secs(u64::try_from(now.as_second()).unwrap_or_default());
        let at = |since_1970: Duration| rcgen::date_time_ymd(1970, 1, 1) + since_1970;
        let (from, to) = match self.validity {
            Validity::Good => (now.saturating_sub(DAY), now + 90 * DAY),
            Validity::Expired => (now.saturating_sub(90 * DAY), now.saturating_sub(DAY)),
            Validity::NotYet => (now + DAY, now + 90 * DAY),
        };
        params.not_before = at(from);
        params.not_after = at(to);
    }

    fn failed(&self, source: rcgen::Error) -> PkiError {
        PkiError::Make { subject: self.subject.clone(), source }
    }
}

/// A certificate authority of our own, at the root or below one.
pub struct Ca {
    /// This one's certificate first, the root's last.
    chain: Vec<CertificateDer<'static>>,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ca").field("depth", &self.chain.len()).finish_non_exhaustive()
    }
}

impl Ca {
    /// A new root.
    ///
    /// # Errors
    /// If the library refuses.
    pub fn root(spec: &CertSpec, now: Timestamp) -> Result<Self, PkiError> {
        let key = spec.make_key()?;
        let params = spec.authority(now);
        let certificate = params.self_signed(&key).map_err(|source| spec.failed(source))?;
        Ok(Self { chain: vec![certificate.der().clone()], issuer: Issuer::new(params, key) })
    }

    /// A new authority below this one.
    ///
    /// # Errors
    /// If the library refuses.
    pub fn intermediate(&self, spec: &CertSpec, now: Timestamp) -> Result<Self, PkiError> {
        let key = spec.make_key()?;
        let mut params = spec.authority(now);
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).map_err(|source| spec.failed(source))?;
        Ok(Self { chain: self.below(certificate.der()), issuer: Issuer::new(params, key) })
    }

    /// A leaf. Its chain holds every authority above it, the root too: a DANE-TA anchor has to be sent along.
    ///
    /// # Errors
    /// If the library refuses.
    pub fn issue(&self, spec: &CertSpec, now: Timestamp) -> Result<Identity, PkiError> {
        let key = spec.make_key()?;
        let certificate =
            spec.leaf(now)?.signed_by(&key, &self.issuer).map_err(|source| spec.failed(source))?;
        Ok(Identity { chain: self.below(certificate.der()), key: key.serialize_der() })
    }

    /// This authority's own certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.chain[0]
    }

    /// This authority's certificate as PEM, for `ca_file` settings.
    pub fn pem(&self) -> String {
        pem("CERTIFICATE", self.certificate())
    }

    /// TLSA data for this authority's certificate.
    ///
    /// # Errors
    /// Never for certificates made here.
    pub fn tlsa(&self, usage: Usage, selector: Selector, matching: Matching) -> Result<Vec<u8>, PkiError> {
        tlsa_rdata(self.certificate(), usage, selector, matching)
    }

    fn below(&self, certificate: &CertificateDer<'static>) -> Vec<CertificateDer<'static>> {
        std::iter::once(certificate.clone()).chain(self.chain.iter().cloned()).collect()
    }
}

/// A key with its certificate, and those above it.
#[derive(Clone)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("certificates", &self.chain.len()).finish_non_exhaustive()
    }
}

/// Where an [`Identity`] was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PemFiles {
    /// The chain, leaf first.
    pub chain: PathBuf,
    /// The key, PKCS#8, mode 0600.
    pub key: PathBuf,
}

impl Identity {
    /// The certificates, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The leaf.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.chain[0]
    }

    /// The same with only the first `certificates` of the chain: a server that forgets to send an intermediate.
    #[must_use]
    pub fn truncated(&self, certificates: usize) -> Self {
        Self { chain: self.chain[..certificates.clamp(1, self.chain.len())].to_vec(), key: self.key.clone() }
    }

    /// The private key, PKCS#8, for rustls.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()))
    }

    /// TLSA data for the leaf.
    ///
    /// # Errors
    /// Never for certificates made here.
    pub fn tlsa(&self, usage: Usage, selector: Selector, matching: Matching) -> Result<Vec<u8>, PkiError> {
        tlsa_rdata(self.certificate(), usage, selector, matching)
    }

    /// The usual TLSA data: `3 1 1`.
    ///
    /// # Errors
    /// Never for certificates made here.
    pub fn tlsa_311(&self) -> Result<Vec<u8>, PkiError> {
        self.tlsa(Usage::DaneEe, Selector::Spki, Matching::Sha256)
    }

    /// Writes `<stem>.crt.pem` and `<stem>.key.pem` into a directory, replacing what was there.
    ///
    /// # Errors
    /// If a file can't be written.
    pub fn write(&self, directory: &Path, stem: &str) -> Result<PemFiles, PkiError> {
        let chain: String = self.chain.iter().map(|certificate| pem("CERTIFICATE", certificate)).collect();
        let files = PemFiles {
            chain: directory.join(format!("{stem}.crt.pem")),
            key: directory.join(format!("{stem}.key.pem")),
        };
        write_file(&files.chain, &chain, 0o644)?;
        write_file(&files.key, &pem("PRIVATE KEY", &self.key), 0o600)?;
        Ok(files)
    }

    fn pair(&self) -> Result<KeyPair, rcgen::Error> {
        KeyPair::try_from(self.key.as_slice())
    }
}

/// Certificate usage of a TLSA record (RFC 6698 section 2.1.1, names of RFC 7218).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// 0: not for mail.
    PkixTa = 0,
    /// 1: not for mail.
    PkixEe = 1,
    /// 2: an authority in the chain.
    DaneTa = 2,
    /// 3: the server's own certificate or key.
    DaneEe = 3,
}

/// What of the certificate is matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selector {
    /// 0: all of it.
    Cert = 0,
    /// 1: its public key.
    Spki = 1,
}

/// How it is matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matching {
    /// 0: the octets themselves.
    Full = 0,
    /// 1: their SHA-256.
    Sha256 = 1,
    /// 2: their SHA-512.
    Sha512 = 2,
}

/// The RDATA of the TLSA record that fits a certificate.
///
/// # Errors
/// If the octets are no certificate.
pub fn tlsa_rdata(
    certificate: &CertificateDer<'_>,
    usage: Usage,
    selector: Selector,
    matching: Matching,
) -> Result<Vec<u8>, PkiError> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|error| PkiError::NotACertificate(error.to_string()))?;
    let selected: &[u8] = match selector {
        Selector::Cert => certificate,
        Selector::Spki => parsed.tbs_certificate.subject_pki.raw,
    };
    let mut rdata = vec![usage as u8, selector as u8, matching as u8];
    match matching {
        Matching::Full => rdata.extend_from_slice(selected),
        Matching::Sha256 => rdata.extend_from_slice(digest(&SHA256, selected).as_ref()),
        Matching::Sha512 => rdata.extend_from_slice(digest(&SHA512, selected).as_ref()),
    }
    Ok(rdata)
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(64) {
        text.extend(line.iter().map(|octet| char::from(*octet)));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// Creates the file anew, so that an existing one's wider mode does not stay.
pub(crate) fn write_file(path: &Path, text: &str, mode: u32) -> Result<(), PkiError> {
    let write = || {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())
    };
    write().map_err(|source| PkiError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Arc;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-22T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn every_kind_of_key_makes_a_certificate() {
        for (kind, oid) in [
            (KeyKind::EcdsaP256, "1.2.840.10045.2.1"),
            (KeyKind::EcdsaP384, "1.2.840.10045.2.1"),
            (KeyKind::Ed25519, "1.3.101.112"),
            (KeyKind::Rsa2048, "1.2.840.113549.1.1.1"),
            (KeyKind::Rsa3072, "1.2.840.113549.1.1.1"),
        ] {
            let identity = CertSpec::new("nta.a.nl").key(kind).self_signed(now()).unwrap();
            let (_, parsed) = x509_parser::parse_x509_certificate(identity.certificate()).unwrap();
            assert_eq!(parsed.public_key().algorithm.algorithm.to_id_string(), oid, "{kind:?}");
            if let x509_parser::public_key::PublicKey::RSA(rsa) = parsed.public_key().parsed().unwrap() {
                let bits = if kind == KeyKind::Rsa3072 { 3_072 } else { 2_048 };
                assert_eq!(rsa.key_size(), bits);
            }
        }
    }

    #[test]
    fn dates_and_names_are_as_asked() {
        for (validity, valid) in
            [(Validity::Good, true), (Validity::Expired, false), (Validity::NotYet, false)]
        {
            let spec = CertSpec::new("nta.a.nl").validity(validity).names(["x.nl", "y.nl"]);
            let identity = spec.self_signed(now()).unwrap();
            let (_, parsed) = x509_parser::parse_x509_certificate(identity.certificate()).unwrap();
            let at = x509_parser::time::ASN1Time::from_timestamp(now().as_second()).unwrap();
            assert_eq!(parsed.validity().is_valid_at(at), valid, "{validity:?}");
            let names = parsed.subject_alternative_name().unwrap().unwrap();
            assert_eq!(names.value.general_names.len(), 2);
        }
    }

    #[test]
    fn chains_go_up_to_the_root_and_verify() {
        let ca = Ca::root(&CertSpec::new("root"), now()).unwrap();
        let issuing = ca.intermediate(&CertSpec::new("issuing"), now()).unwrap();
        let leaf = issuing.issue(&CertSpec::new("nta.a.nl"), now()).unwrap();
        let parsed: Vec<_> =
            leaf.chain().iter().map(|der| x509_parser::parse_x509_certificate(der).unwrap().1).collect();
        assert_eq!(parsed.len(), 3);
        for pair in parsed.windows(2) {
            assert_eq!(pair[0].issuer(), pair[1].subject());
            assert!(pair[1].is_ca());
        }
        verify(&leaf, ca.certificate(), "nta.a.nl").unwrap();
        verify(&leaf, ca.certificate(), "nta.b.nl").unwrap_err();
        verify(&leaf.truncated(1), ca.certificate(), "nta.a.nl").unwrap_err();
        let old = issuing.issue(&CertSpec::new("nta.a.nl").validity(Validity::Expired), now()).unwrap();
        verify(&old, ca.certificate(), "nta.a.nl").unwrap_err();
        let other = Ca::root(&CertSpec::new("root"), now()).unwrap();
        verify(&leaf, other.certificate(), "nta.a.nl").unwrap_err();
        assert_eq!(leaf.truncated(2).chain().len(), 2);
        assert_eq!(leaf.truncated(0).chain().len(), 1, "never without the leaf");
    }

    fn verify(leaf: &Identity, root: &CertificateDer<'static>, name: &str) -> Result<(), rustls::Error> {
        use rustls::client::danger::ServerCertVerifier as _;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(root.clone())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .unwrap();
        let name = rustls_pki_types::ServerName::try_from(name).unwrap();
        let now = Duration::from_secs(u64::try_from(now().as_second()).unwrap());
        let now = rustls_pki_types::UnixTime::since_unix_epoch(now);
        verifier.verify_server_cert(leaf.certificate(), &leaf.chain()[1..], &name, &[], now).map(|_| ())
    }

    #[test]
    fn a_renewal_keeps_the_key_and_so_the_spki_digest() {
        let spec = CertSpec::new("nta.a.nl");
        let first = spec.self_signed(now()).unwrap();
        let second = spec.clone().validity(Validity::Expired).self_signed_with(&first, now()).unwrap();
        assert_eq!(first.tlsa_311().unwrap(), second.tlsa_311().unwrap());
        let whole =
            |identity: &Identity| identity.tlsa(Usage::DaneEe, Selector::Cert, Matching::Sha256).unwrap();
        assert_ne!(whole(&first), whole(&second));
    }

    #[test]
    fn tlsa_data_has_the_length_of_its_matching_type() {
        let identity = CertSpec::new("nta.a.nl").self_signed(now()).unwrap();
        let length = |m| identity.tlsa(Usage::DaneTa, Selector::Cert, m).unwrap().len();
        assert_eq!(length(Matching::Sha256), 35);
        assert_eq!(length(Matching::Sha512), 67);
        assert_eq!(length(Matching::Full), 3 + identity.certificate().len());
        assert_eq!(identity.tlsa(Usage::PkixEe, Selector::Spki, Matching::Sha512).unwrap()[..3], [1, 1, 2]);
        assert!(
            tlsa_rdata(&CertificateDer::from(vec![1, 2]), Usage::DaneEe, Selector::Cert, Matching::Full)
                .is_err()
        );
    }

    #[test]
    fn key_files_are_for_their_owner_only_even_when_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let identity = CertSpec::new("nta.a.nl").self_signed(now()).unwrap();
        let loose = directory.path().join("host.key.pem");
        std::fs::write(&loose, "old").unwrap();
        std::fs::set_permissions(&loose, std::fs::Permissions::from_mode(0o666)).unwrap();
        let files = identity.write(directory.path(), "host").unwrap();
        assert_eq!(std::fs::metadata(&files.key).unwrap().permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&files.key).unwrap();
        assert_eq!(KeyPair::from_pem(&text).unwrap().serialize_der(), identity.key);
        let gone = directory.path().join("no such directory");
        assert!(matches!(identity.write(&gone, "host"), Err(PkiError::Write { .. })));
    }

    #[test]
    fn a_name_that_is_none_is_refused() {
        assert!(matches!(CertSpec::new("nöpe.nl").self_signed(now()), Err(PkiError::Make { .. })));
    }
}
