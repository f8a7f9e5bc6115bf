//! `[[tls.certificate]]`: our own keys.

use std::mem::discriminant;
use std::path::Path;

use toml::Spanned;

use super::values::Check;
use crate::config::checked::KeyFiles;
use crate::config::file;
use crate::model::DomainName;
use crate::transport::tls::{KeyError, KeyMaterial, KeyUse, PemPair};

const CHAIN: &str = "tls.certificate.chain";
const KEY: &str = "tls.certificate.key";

/// The text of one pair of files.
struct Pair {
    files: KeyFiles,
    chain: Vec<u8>,
    key: Vec<u8>,
}

impl Pair {
    fn pem(&self) -> PemPair<'_> {
        PemPair { chain: &self.chain, key: &self.key }
    }
}

impl Check<'_, '_> {
    pub(super) fn keys(
        &mut self,
        written: &file::Tls,
        node_name: Option<&DomainName>,
    ) -> Option<(KeyMaterial, Vec<KeyFiles>)> {
        if written.certificate.is_empty() {
            if !self.problems.mentions("tls.certificate") {
                let advice = "add [[tls.certificate]] with `chain` and `key`: the node's own key, as server and as client";
                self.problems.add(None, "tls.certificate", "is missing", advice);
            }
            return None;
        }
        let pairs: Vec<Option<Pair>> =
            written.certificate.iter().map(|entry| self.pair(entry, node_name)).collect();
        let pairs: Vec<Pair> = pairs.into_iter().collect::<Option<_>>()?;
        let texts: Vec<PemPair<'_>> = pairs.iter().map(Pair::pem).collect();
        // Each was accepted alone, so together they are too.
        let material = KeyMaterial::from_pem(&texts, KeyUse::Federation).ok()?;
        let files: Vec<KeyFiles> = pairs.into_iter().map(|pair| pair.files).collect();
        self.warn_of_twins(&material, &files);
        Some((material, files))
    }

    fn warn_of_twins(&mut self, material: &KeyMaterial, files: &[KeyFiles]) {
        for (index, (key, files)) in material.keys().iter().zip(files).enumerate() {
            let kind = key.certificate().key();
            let before = material.keys().iter().take(index);
            if before
                .map(|other| discriminant(other.certificate().key()))
                .any(|other| other == discriminant(kind))
            {
                let shown = files.chain.display();
                self.warnings
                    .push(format!("{shown}: a second key of the same kind ({kind}) is hardly ever shown"));
            }
        }
    }

    fn pair(&mut self, entry: &Spanned<file::Certificate>, node_name: Option<&DomainName>) -> Option<Pair> {
        let (written, span) = (entry.get_ref(), entry.span());
        let chain_text =
            self.need_in(span.clone(), &written.chain, CHAIN, "name the PEM file with the certificate");
        let key_text = self.need_in(span, &written.key, KEY, "name the PEM file with the private key");
        let advice = "create the file, or correct the path; relative paths count from this file's directory";
        let chain = chain_text.and_then(|text| self.read(text, CHAIN, advice));
        let key = key_text.and_then(|text| self.read(text, KEY, advice));
        let (chain_text, key_text) = (chain_text?, key_text?);
        let ((chain_file, chain), (key_file, key)) = (chain?, key?);
        let pair = Pair { files: KeyFiles { chain: chain_file, key: key_file }, chain, key };
        let material = match KeyMaterial::from_pem(&[pair.pem()], KeyUse::Federation) {
            Ok(material) => material,
            Err(error) => {
                self.key_error(&error, chain_text, key_text, &pair.files);
                return None;
            }
        };
        self.warn_if_public(&pair.files.key);
        let chain_file = pair.files.chain.display().to_string();
        self.warnings.extend(material.warnings().iter().map(|warning| format!("{chain_file}: {warning}")));
        for key in material.keys() {
            let ends = key.certificate().not_after();
            if ends <= self.now {
                self.warnings.push(format!(
                    "{chain_file}: the certificate expired on {ends}; DANE usage 3 does not look at dates, testers do"
                ));
            }
        }
        self.carries_our_name(&material, chain_text, &chain_file, node_name?)?;
        Some(pair)
    }

    /// The certificate carries the node's name, for usage 2 and as the identity of a client.
    fn carries_our_name(
        &mut self,
        material: &KeyMaterial,
        text: &Spanned<String>,
        shown: &str,
        name: &DomainName,
    ) -> Option<()> {
        let names = material.identities();
        if names.contains(name) {
            return Some(());
        }
        let names: Vec<&str> = names.iter().map(DomainName::as_str).collect();
        let what =
            format!("the certificate in {shown} does not carry node.name {name}, but {}", names.join(", "));
        let advice = "make a certificate with this name; it is how other nodes recognise us, and wildcards count for nothing";
        self.wrong(text, CHAIN, what, advice);
        None
    }

    fn key_error(
        &mut self,
        error: &KeyError,
        chain: &Spanned<String>,
        key: &Spanned<String>,
        files: &KeyFiles,
    ) {
        let (text, name, file, advice) = match error {
            KeyError::Key(_) => (
                key,
                KEY,
                &files.key,
                "the file needs one -----BEGIN PRIVATE KEY----- section, not encrypted",
            ),
            KeyError::Mismatch => (key, KEY, &files.key, "name the key that the certificate was made for"),
            KeyError::Chain(_) | KeyError::Nothing => (
                chain,
                CHAIN,
                &files.chain,
                "the file needs -----BEGIN CERTIFICATE----- sections, ours first",
            ),
            KeyError::Weak(_) | KeyError::Type(_) | KeyError::BrokenSignature => (
                chain,
                CHAIN,
                &files.chain,
                "make an ECDSA P-256 key, or RSA with 3072 bits, and a certificate for it",
            ),
            KeyError::TooManyNames(_) | KeyError::NoName => {
                (chain, CHAIN, &files.chain, "make a certificate for node.name alone")
            }
        };
        self.wrong(text, name, format!("{}: {error}", file.display()), advice);
    }

    pub(super) fn warn_if_public(&mut self, path: &Path) {
        use std::os::unix::fs::PermissionsExt;
        let others = std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o007 != 0);
        if others {
            self.warnings
                .push(format!("{}: everybody on this machine may read the private key", path.display()));
        }
    }
}
