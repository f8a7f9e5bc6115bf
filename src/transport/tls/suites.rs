//! Which TLS we speak: the choices that NCSC-NL calls good or sufficient (guidelines of May 2025).

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{cipher_suite as suite, default_provider, kx_group};
use rustls::{CipherSuite, NamedGroup, ProtocolVersion, SupportedProtocolVersion};

/// TLS 1.3 (good) and 1.2 (sufficient); rustls has nothing older (TLS-001).
pub(super) static VERSIONS: &[&SupportedProtocolVersion] =
    &[&rustls::version::TLS13, &rustls::version::TLS12];

/// Suites and groups in our order of preference (TLS-002, TLS-003).
///
/// Signature algorithms are those of rustls: it has no SHA-1, no MD5, and no RSA below 2048 bits (TLS-006).
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            suite::TLS13_AES_256_GCM_SHA384,
            suite::TLS13_CHACHA20_POLY1305_SHA256,
            suite::TLS13_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        ],
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1],
        ..default_provider()
    })
});

/// The cryptography of every TLS link of this node.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::clone(&PROVIDER)
}

/// `TLSv1.3` or `TLSv1.2`.
pub(super) fn version_name(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_3 => "TLSv1.3",
        ProtocolVersion::TLSv1_2 => "TLSv1.2",
        _ => "unknown",
    }
}

/// The IANA name of a suite. rustls marks those of TLS 1.3 with `TLS13_`, the registry does not.
pub(super) fn suite_name(suite: CipherSuite) -> String {
    suite.as_str().unwrap_or("unknown").replacen("TLS13_", "TLS_", 1)
}

/// The IANA name of a group.
pub(super) fn group_name(group: NamedGroup) -> String {
    match group {
        NamedGroup::X25519 => "x25519".to_owned(),
        other => other.as_str().unwrap_or("unknown").to_owned(),
    }
}
