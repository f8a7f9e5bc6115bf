//! Certificates for tests: small authorities made on the spot, and two relics that no library makes any more.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, RsaKeySize, date_time_ymd,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};

use super::{KeyMaterial, KeyRing, KeyUse, PemPair};

/// A chain with the key of its first certificate.
pub(crate) struct Pair {
    /// First certificate first; authorities follow.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// PKCS#8 or SEC1.
    pub(crate) key_pem: String,
}

impl Pair {
    /// The chain as PEM text.
    pub(crate) fn chain_pem(&self) -> String {
        self.chain.iter().map(pem).collect()
    }

    /// The key taken into use for links with peers.
    pub(crate) fn ring(&self) -> std::sync::Arc<KeyRing> {
        let chain = self.chain_pem();
        let pair = PemPair { chain: chain.as_bytes(), key: self.key_pem.as_bytes() };
        KeyRing::new(KeyMaterial::from_pem(&[pair], KeyUse::Environment).expect("made a moment ago"))
    }
}

/// One certificate as PEM text.
pub(crate) fn pem(der: &CertificateDer<'_>) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("base64 is ASCII")).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Validity {
    Now,
    Past,
    Future,
}

/// What a certificate may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    ServerOnly,
}

/// Noon of the day on which these tests live.
pub(crate) fn today() -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_795_348_800))
}

fn params(common_name: &str, names: &[&str], validity: Validity) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("test names are valid");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    (params.not_before, params.not_after) = match validity {
        Validity::Now => (date_time_ymd(2020, 1, 1), date_time_ymd(2090, 1, 1)),
        Validity::Past => (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1)),
        Validity::Future => (date_time_ymd(2089, 1, 1), date_time_ymd(2090, 1, 1)),
    };
    params
}

/// An authority with the chain above it.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    above: Vec<CertificateDer<'static>>,
}

impl Authority {
    /// A self-signed authority.
    pub(crate) fn root(name: &str) -> Self {
        Self::root_valid(name, Validity::Now)
    }

    /// A self-signed authority with these dates.
    pub(crate) fn root_valid(name: &str, validity: Validity) -> Self {
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(authority_params(name, validity), key).expect("a root");
        Self { issuer, above: Vec::new() }
    }

    /// An authority below this one.
    pub(crate) fn intermediate(&self, name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let params = authority_params(name, Validity::Now);
        let issuer = CertifiedIssuer::signed_by(params, key, &self.issuer).expect("an intermediate");
        Self { issuer, above: self.chain() }
    }

    /// This authority's certificate.
    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// This certificate and those above it.
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        let mut chain = vec![self.certificate()];
        chain.extend(self.above.iter().cloned());
        chain
    }

    /// A certificate for `names`, valid now.
    pub(crate) fn issue(&self, names: &[&str]) -> Pair {
        self.issue_valid(names, Validity::Now)
    }

    /// A certificate for `names` with these dates.
    pub(crate) fn issue_valid(&self, names: &[&str], validity: Validity) -> Pair {
        self.sign(&KeyPair::generate().expect("a key"), params("leaf", names, validity))
    }

    /// A certificate for `names` that is limited to a purpose.
    pub(crate) fn issue_for(&self, names: &[&str], purpose: Purpose) -> Pair {
        let mut params = params("leaf", names, Validity::Now);
        if purpose == Purpose::ServerOnly {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        }
        self.sign(&KeyPair::generate().expect("a key"), params)
    }

    /// A certificate for `names` with a given key.
    pub(crate) fn issue_with(&self, key: KeyPair, names: &[&str]) -> Pair {
        self.sign(&key, params("leaf", names, Validity::Now))
    }

    fn sign(&self, key: &KeyPair, params: CertificateParams) -> Pair {
        let certificate = params.signed_by(key, &self.issuer).expect("a certificate");
        let mut chain = vec![certificate.der().clone()];
        chain.extend(self.chain());
        Pair { chain, key_pem: key.serialize_pem() }
    }
}

fn authority_params(name: &str, validity: Validity) -> CertificateParams {
    let mut params = params(name, &[], validity);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// A self-signed ECDSA certificate, as nodes have them.
pub(crate) fn leaf(names: &[&str]) -> Pair {
    leaf_valid(names, Validity::Now)
}

/// A self-signed ECDSA certificate with these dates.
pub(crate) fn leaf_valid(names: &[&str], validity: Validity) -> Pair {
    let key = KeyPair::generate().expect("a key");
    let certificate = params("leaf", names, validity).self_signed(&key).expect("a certificate");
    Pair { chain: vec![certificate.der().clone()], key_pem: key.serialize_pem() }
}

/// An RSA key of 2048 or 3072 bits.
pub(crate) fn pem_key_rsa(bits: usize) -> KeyPair {
    let size = if bits == 2048 { RsaKeySize::_2048 } else { RsaKeySize::_3072 };
    KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size).expect("a key")
}

/// A key of 1024 bits, which libraries rightly refuse to make: chain and key as PEM. It protects nothing.
pub(crate) fn rsa_1024() -> (String, String) {
    (include_str!("testdata/rsa-1024.pem").to_owned(), include_str!("testdata/rsa-1024.key").to_owned())
}

/// A certificate signed with SHA-1: chain and key as PEM. The key protects nothing.
pub(crate) fn signed_with_sha1() -> (String, String) {
    (
        include_str!("testdata/signed-with-sha1.pem").to_owned(),
        include_str!("testdata/signed-with-sha1.key").to_owned(),
    )
}

/// The certificates of a PEM text.
pub(crate) fn certificates(text: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(text.as_bytes()).map(|der| der.expect("a certificate")).collect()
}
