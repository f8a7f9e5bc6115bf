//! How single values are read: names, words, addresses, files.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use toml::Spanned;

use crate::config::error::{Problems, nearest};
use crate::config::file::{Text, Texts};
use crate::model::{Digest, DomainName, Level};
use crate::transport::tls::Authorities;

/// The state of one check.
pub(super) struct Check<'p, 't> {
    pub(super) problems: &'p mut Problems<'t>,
    pub(super) warnings: Vec<String>,
    pub(super) base: &'p Path,
    pub(super) now: Timestamp,
}

impl Check<'_, '_> {
    /// Reports a problem with a value that is there.
    pub(super) fn wrong<T>(
        &mut self,
        value: &Spanned<T>,
        key: &str,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.problems.add(Some(value.span()), key, what, advice);
    }

    /// The value, which must be there. Nothing is added when the key is known to be wrong already.
    pub(super) fn need<'v, T>(&mut self, value: &'v Option<T>, key: &str, advice: &str) -> Option<&'v T> {
        if value.is_none() && !self.problems.mentions(key) {
            self.problems.add(None, key, "is missing", advice);
        }
        value.as_ref()
    }

    /// As [`Self::need`], for a key of a repeated section that stands at `section`.
    pub(super) fn need_in<'v, T>(
        &mut self,
        section: Range<usize>,
        value: &'v Option<T>,
        key: &str,
        advice: &str,
    ) -> Option<&'v T> {
        if value.is_none() && !self.problems.mentions(key) {
            self.problems.add(Some(section), key, "is missing", advice);
        }
        value.as_ref()
    }

    pub(super) fn domain(&mut self, text: &Spanned<String>, key: &str) -> Option<DomainName> {
        match text.get_ref().parse() {
            Ok(name) => Some(name),
            Err(error) => {
                let what = format!("`{}` is no domain name: {error}", text.get_ref());
                self.wrong(text, key, what, "write a name such as nta-a.example.nl");
                None
            }
        }
    }

    /// All names of a list; `None` when one is wrong or stands there twice.
    pub(super) fn domains(
        &mut self,
        texts: &Spanned<Vec<Spanned<String>>>,
        key: &str,
    ) -> Option<Vec<DomainName>> {
        self.list(texts, key, Self::domain)
    }

    /// The values of a list, none twice; `None` when one is wrong.
    pub(super) fn list<T: PartialEq>(
        &mut self,
        texts: &Spanned<Vec<Spanned<String>>>,
        key: &str,
        read: impl Fn(&mut Self, &Spanned<String>, &str) -> Option<T>,
    ) -> Option<Vec<T>> {
        let mut values: Vec<T> = Vec::new();
        let mut complete = true;
        for text in texts.get_ref() {
            match read(self, text, key) {
                Some(value) if values.contains(&value) => {
                    let what = format!("`{}` stands here twice", text.get_ref());
                    self.wrong(text, key, what, "remove one of them");
                    complete = false;
                }
                Some(value) => values.push(value),
                None => complete = false,
            }
        }
        complete.then_some(values)
    }

    /// One of a few words; `default` when nothing is written, `None` when something else is.
    pub(super) fn word<T: Copy>(
        &mut self,
        text: &Text,
        key: &str,
        words: &[(&str, T)],
        default: T,
    ) -> Option<T> {
        let Some(text) = text else { return Some(default) };
        if let Some((_, value)) = words.iter().find(|(word, _)| word == text.get_ref()) {
            return Some(*value);
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let advice = match nearest(text.get_ref(), known.iter().copied()) {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None => format!("write one of: {}", known.join(", ")),
        };
        self.wrong(text, key, format!("`{}` is not known here", text.get_ref()), advice);
        None
    }

    /// A floor. IDEN-001: there are two levels and nothing below them.
    pub(super) fn floor(&mut self, text: &Text, key: &str, default: Level) -> Option<Level> {
        let Some(text) = text else { return Some(default) };
        let level =
            [Level::Mutual, Level::Nta7516].into_iter().find(|level| level.as_str() == text.get_ref());
        if level.is_none() {
            self.wrong(
                text,
                key,
                format!("`{}` is no assurance level", text.get_ref()),
                "write \"mutual\" (both ends proven by their keys) or \"nta7516\" (server proven by DANE, sender by DKIM, \
                 DMARC and SPF); nothing weaker exists, so no setting can name it",
            );
        }
        level
    }

    pub(super) fn socket(&mut self, text: &Spanned<String>, key: &str) -> Option<SocketAddr> {
        let address = SocketAddr::from_str(text.get_ref()).ok();
        if address.is_none() {
            let what = format!("`{}` is no address with port", text.get_ref());
            self.wrong(
                text,
                key,
                what,
                "write it as 192.0.2.1:25 or [2001:db8::1]:25, with a number and no name",
            );
        }
        address
    }

    /// Listening addresses; at least one.
    pub(super) fn sockets(&mut self, texts: &Texts, key: &str, advice: &str) -> Option<Vec<SocketAddr>> {
        let texts = self.need(texts, key, advice)?;
        let addresses = self.list(texts, key, Self::socket)?;
        if addresses.is_empty() {
            self.wrong(texts, key, "is empty", advice);
            return None;
        }
        Some(addresses)
    }

    pub(super) fn pins(&mut self, texts: &Spanned<Vec<Spanned<String>>>, key: &str) -> Option<Vec<Digest>> {
        let pins = self.list(texts, key, Self::pin)?;
        if pins.is_empty() {
            self.wrong(texts, key, "is empty", "write at least one pin, or leave the key out");
            return None;
        }
        Some(pins)
    }

    fn pin(&mut self, text: &Spanned<String>, key: &str) -> Option<Digest> {
        let pin = text.get_ref().parse().ok();
        if pin.is_none() {
            self.wrong(
                text,
                key,
                format!("`{}` is no pin", text.get_ref()),
                "write `sha256:` and 64 hexadecimal digits: the SHA-256 of the public key (SubjectPublicKeyInfo), the same \
                 digits as in a TLSA 3 1 1 record",
            );
        }
        pin
    }

    /// A path; relative ones count from the directory of the configuration file.
    pub(super) fn path(&self, text: &Spanned<String>) -> PathBuf {
        self.base.join(text.get_ref())
    }

    /// A file that must be readable now.
    pub(super) fn read(
        &mut self,
        text: &Spanned<String>,
        key: &str,
        advice: &str,
    ) -> Option<(PathBuf, Vec<u8>)> {
        let path = self.path(text);
        match std::fs::read(&path) {
            Ok(octets) => Some((path, octets)),
            Err(error) => {
                self.wrong(text, key, format!("cannot read {}: {error}", path.display()), advice);
                None
            }
        }
    }

    /// The authorities of a PEM file; at least one.
    pub(super) fn authorities(
        &mut self,
        text: &Spanned<String>,
        key: &str,
        advice: &str,
    ) -> Option<(Authorities, Vec<CertificateDer<'static>>)> {
        let (path, octets) = self.read(text, key, advice)?;
        match Authorities::from_pem(&octets) {
            Ok(authorities) => {
                let certificates = CertificateDer::pem_slice_iter(&octets).filter_map(Result::ok).collect();
                Some((authorities, certificates))
            }
            Err(error) => {
                let advice = "the file needs the certificate of the authority itself, in PEM form";
                self.wrong(text, key, format!("{}: {error}", path.display()), advice);
                None
            }
        }
    }
}
