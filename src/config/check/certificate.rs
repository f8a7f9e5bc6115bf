//! `[[tls.certificate]]`: our own keys.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use toml::Spanned;
use x509_parser::prelude::{GeneralName, X509Certificate};
use x509_parser::public_key::PublicKey;

use super::values::Check;
use crate::config::checked::{Certificate, KeyKind};
use crate::config::file;
use crate::model::{Digest, DomainName};

/// More names make every receiver refuse the certificate (IDEN-007).
const NAMES_MAX: usize = 4;
const RSA_BITS_MIN: usize = 2048;
const RSA_BITS_GOOD: usize = 3072;
const CHAIN: &str = "tls.certificate.chain";
const KEY: &str = "tls.certificate.key";

impl Check<'_, '_> {
    pub(super) fn certificates(
        &mut self,
        written: &file::Tls,
        node_name: Option<&DomainName>,
    ) -> Option<Vec<Certificate>> {
        if written.certificate.is_empty() {
            if !self.problems.mentions("tls.certificate") {
                let advice = "add [[tls.certificate]] with `chain` and `key`: the node's own key, as server and as client";
                self.problems.add(None, "tls.certificate", "is missing", advice);
            }
            return None;
        }
        let all: Vec<Option<Certificate>> =
            written.certificate.iter().map(|entry| self.certificate(entry, node_name)).collect();
        let all: Vec<Certificate> = all.into_iter().collect::<Option<_>>()?;
        for (index, certificate) in all.iter().enumerate() {
            let kind = std::mem::discriminant(&certificate.kind);
            if all.iter().take(index).any(|other| std::mem::discriminant(&other.kind) == kind) {
                self.warnings.push(format!(
                    "{}: a second key of the same kind ({}) is only shown to clients that take no other",
                    certificate.chain_file.display(),
                    certificate.kind
                ));
            }
        }
        Some(all)
    }

    fn certificate(
        &mut self,
        entry: &Spanned<file::Certificate>,
        node_name: Option<&DomainName>,
    ) -> Option<Certificate> {
        let (written, span) = (entry.get_ref(), entry.span());
        let chain_text =
            self.need_in(span.clone(), &written.chain, CHAIN, "name the PEM file with the certificate");
        let key_text = self.need_in(span, &written.key, KEY, "name the PEM file with the private key");
        let advice = "create the file, or correct the path; relative paths count from this file's directory";
        let chain = chain_text.and_then(|text| self.pem_certificates(text, CHAIN, advice));
        let key = key_text.and_then(|text| self.private_key(text, advice));
        let ((chain_file, chain), (key_file, key)) = (chain?, key?);
        let (chain_text, key_text) = (chain_text?, key_text?);
        let leaf = chain.first()?.clone();
        let (_, parsed) = x509_parser::parse_x509_certificate(&leaf).ok()?;
        let names = self.certificate_names(chain_text, &chain_file, &parsed, node_name);
        let kind = self.key_kind(chain_text, &chain_file, &parsed);
        let matches = self.key_belongs(key_text, &key_file, &key, &chain);
        let not_after =
            Timestamp::from_second(parsed.validity().not_after.timestamp()).unwrap_or(Timestamp::MAX);
        if not_after <= self.now {
            self.warnings.push(format!(
                "{}: the certificate expired on {not_after}; DANE usage 3 does not look at dates, testers do",
                chain_file.display()
            ));
        }
        let spki = Digest::of(parsed.public_key().raw);
        matches?;
        Some(Certificate {
            names: names?,
            kind: kind?,
            key: Arc::new(key),
            chain_file,
            key_file,
            chain,
            spki,
            not_after,
        })
    }

    fn private_key(
        &mut self,
        text: &Spanned<String>,
        advice: &str,
    ) -> Option<(std::path::PathBuf, PrivateKeyDer<'static>)> {
        let (path, octets) = self.read(text, KEY, advice)?;
        self.warn_if_public(&path);
        match PrivateKeyDer::from_pem_slice(&octets) {
            Ok(key) => Some((path, key)),
            Err(error) => {
                let what = format!("{} holds no private key: {error}", path.display());
                self.wrong(
                    text,
                    KEY,
                    what,
                    "the file needs one -----BEGIN PRIVATE KEY----- section, not encrypted",
                );
                None
            }
        }
    }

    fn warn_if_public(&mut self, path: &Path) {
        use std::os::unix::fs::PermissionsExt;
        let others = std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o007 != 0);
        if others {
            self.warnings
                .push(format!("{}: everybody on this machine may read the private key", path.display()));
        }
    }

    /// Whether key and certificate are a pair.
    fn key_belongs(
        &mut self,
        text: &Spanned<String>,
        path: &Path,
        key: &PrivateKeyDer<'static>,
        chain: &[CertificateDer<'static>],
    ) -> Option<()> {
        let signer = match rustls::crypto::aws_lc_rs::sign::any_supported_type(key) {
            Ok(signer) => signer,
            Err(error) => {
                let what = format!("the key in {} cannot be used: {error}", path.display());
                self.wrong(text, KEY, what, "use ECDSA P-256 or P-384, Ed25519, or RSA with 3072 bits");
                return None;
            }
        };
        let pair = rustls::sign::CertifiedKey::new(chain.to_vec(), signer);
        if let Err(error) = pair.keys_match() {
            let what = format!("the key in {} is not that of the certificate: {error}", path.display());
            self.wrong(text, KEY, what, "name the key that the certificate was made for");
            return None;
        }
        Some(())
    }

    /// The certificate carries the node's name, for usage 2 and as the identity of a client; no wildcard, at most four.
    fn certificate_names(
        &mut self,
        text: &Spanned<String>,
        path: &Path,
        parsed: &X509Certificate<'_>,
        node_name: Option<&DomainName>,
    ) -> Option<Vec<DomainName>> {
        let names = dns_names(parsed);
        let name = node_name?;
        let path = path.display();
        if !names.contains(name) {
            let shown: Vec<&str> = names.iter().map(DomainName::as_str).collect();
            let found = if shown.is_empty() { "none".to_owned() } else { shown.join(", ") };
            self.wrong(
                text,
                CHAIN,
                format!("the certificate in {path} does not carry node.name {name} (dNSNames: {found})"),
                "make a certificate with this name; it is how other nodes recognise us, and wildcards count for nothing",
            );
            return None;
        }
        if names.len() > NAMES_MAX {
            let what = format!(
                "the certificate in {path} has {} dNSNames; peers accept at most {NAMES_MAX}",
                names.len()
            );
            self.wrong(text, CHAIN, what, "make a certificate for this node alone");
            return None;
        }
        Some(names)
    }

    fn key_kind(
        &mut self,
        text: &Spanned<String>,
        path: &Path,
        parsed: &X509Certificate<'_>,
    ) -> Option<KeyKind> {
        let kind = match parsed.public_key().parsed() {
            Ok(PublicKey::RSA(rsa)) => KeyKind::Rsa(rsa.key_size()),
            Ok(PublicKey::EC(_)) => KeyKind::Ecdsa,
            _ => KeyKind::Ed25519,
        };
        match kind {
            KeyKind::Rsa(bits) if bits < RSA_BITS_MIN => {
                let what = format!(
                    "the key of {} has {bits} bits; peers refuse RSA under {RSA_BITS_MIN}",
                    path.display()
                );
                self.wrong(text, CHAIN, what, "make an ECDSA P-256 key, or RSA with 3072 bits");
                None
            }
            KeyKind::Rsa(bits) if bits < RSA_BITS_GOOD => {
                self.warnings.push(format!(
                    "{}: RSA with {bits} bits is being phased out (NCSC-NL 2025-05); take {RSA_BITS_GOOD} or ECDSA",
                    path.display()
                ));
                Some(kind)
            }
            KeyKind::Rsa(_) | KeyKind::Ecdsa | KeyKind::Ed25519 => Some(kind),
        }
    }
}

/// The certificate's dNSNames that are names; wildcards and malformed ones prove nothing and are left out.
fn dns_names(parsed: &X509Certificate<'_>) -> Vec<DomainName> {
    let Ok(Some(extension)) = parsed.subject_alternative_name() else { return Vec::new() };
    let names = extension.value.general_names.iter();
    names
        .filter_map(|name| if let GeneralName::DNSName(text) = name { text.parse().ok() } else { None })
        .collect()
}
