//! `[[dkim]]`: the keys that sign mail (SIGN-003, SIGN-004).

use toml::Spanned;

use super::values::Check;
use crate::config::checked::{DkimKey, Node};
use crate::config::file;
use crate::discovery::OwnerName;
use crate::trust::{SigningKey, SigningKeyError};

const DOMAINS: &str = "dkim.domains";
const SELECTOR: &str = "dkim.selector";
const KEY: &str = "dkim.key";
/// Signatures of one message at most. Whoever verifies stops after some, and the other keys wait with `sign = false`.
const SIGNERS_MAX: usize = 4;

impl Check<'_, '_> {
    pub(super) fn dkim(
        &mut self,
        written: &[Spanned<file::Dkim>],
        node: Option<&Node>,
    ) -> Option<Vec<DkimKey>> {
        let read: Vec<Option<DkimKey>> = written.iter().map(|entry| self.dkim_key(entry, node)).collect();
        let keys: Vec<DkimKey> = read.into_iter().collect::<Option<_>>()?;
        let mut complete = true;
        for (index, (key, entry)) in keys.iter().zip(written).enumerate() {
            let before = &keys[..index];
            for domain in &key.domains {
                let here = |other: &&DkimKey| other.domains.contains(domain);
                if before.iter().filter(here).any(|other| other.selector == key.selector) {
                    let what = format!("{}._domainkey.{domain} has two keys", key.selector);
                    let advice = "give the second key a selector of its own: a name in DNS can hold one key";
                    self.problems.add(Some(entry.span()), SELECTOR, what, advice);
                    complete = false;
                }
                let signing = before.iter().filter(here).filter(|other| other.sign).count();
                if key.sign && signing == SIGNERS_MAX {
                    let what = format!("more than {SIGNERS_MAX} keys sign for {domain}");
                    let advice = "set `sign = false` for those that only have to stay published";
                    self.problems.add(Some(entry.span()), "dkim.sign", what, advice);
                    complete = false;
                }
            }
            let twin = before.iter().find(|other| other.key == key.key);
            let mut domains: Vec<_> =
                twin.iter().flat_map(|twin| &twin.domains).chain(&key.domains).collect();
            domains.sort_unstable();
            domains.dedup();
            if let [first, .., last] = domains.as_slice() {
                self.warnings.push(format!(
                    "{}: one key signs for several domains ({first} to {last}); whoever has it speaks for all of them",
                    key.file.display()
                ));
            }
        }
        complete.then_some(keys)
    }

    fn dkim_key(&mut self, entry: &Spanned<file::Dkim>, node: Option<&Node>) -> Option<DkimKey> {
        let (written, span) = (entry.get_ref(), entry.span());
        let advice = "list the domains of node.domains that this key signs for";
        let domains = self.need_in(span.clone(), &written.domains, DOMAINS, advice);
        let advice = "write the name of the key below the domain, such as \"2026a\"";
        let selector = self.need_in(span.clone(), &written.selector, SELECTOR, advice);
        let key = self.need_in(span, &written.key, KEY, "name the PEM file with the private key");
        let domains = domains.and_then(|texts| self.dkim_domains(texts, node));
        let selector = selector.and_then(|text| self.selector(text));
        let (file, key) = key.and_then(|text| self.signing_key(text))?;
        Some(DkimKey {
            domains: domains?,
            selector: selector?,
            key,
            file,
            sign: written.sign.unwrap_or(true),
        })
    }

    fn dkim_domains(
        &mut self,
        texts: &Spanned<Vec<Spanned<String>>>,
        node: Option<&Node>,
    ) -> Option<Vec<crate::model::DomainName>> {
        let domains = self.domains(texts, DOMAINS)?;
        if domains.is_empty() {
            self.wrong(texts, DOMAINS, "is empty", "list at least one domain of node.domains");
            return None;
        }
        let ours = &node?.domains;
        let mut complete = true;
        for (domain, text) in domains.iter().zip(texts.get_ref()) {
            if !ours.contains(domain) {
                let advice =
                    "add it to node.domains, or remove it here: a node signs for its own customers alone";
                self.wrong(text, DOMAINS, format!("{domain} is no domain of this node"), advice);
                complete = false;
            }
        }
        complete.then_some(domains)
    }

    /// RFC 6376 section 3.1: labels of letters, digits and hyphens, with dots between them.
    fn selector(&mut self, text: &Spanned<String>) -> Option<String> {
        let selector = text.get_ref().to_ascii_lowercase();
        let is_label = |label: &str| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-')
        };
        // The longest domain may be too long for it, but none that exists.
        let name = format!("{selector}._domainkey.example.nl").parse::<OwnerName>();
        if !selector.split('.').all(is_label) || name.is_err() {
            let what = format!("`{}` is no selector", text.get_ref());
            self.wrong(text, SELECTOR, what, "write letters, digits and hyphens, such as \"2026a\"");
            return None;
        }
        Some(selector)
    }

    fn signing_key(&mut self, text: &Spanned<String>) -> Option<(std::path::PathBuf, SigningKey)> {
        let advice = "create the file, or correct the path; relative paths count from this file's directory";
        let (path, pem) = self.read(text, KEY, advice)?;
        match SigningKey::from_pem(&pem) {
            Ok(key) => {
                self.warn_if_public(&path);
                Some((path, key))
            }
            Err(error) => {
                let advice = match error {
                    SigningKeyError::NoKey => {
                        "the file needs one -----BEGIN PRIVATE KEY----- section, not encrypted"
                    }
                    SigningKeyError::Kind | SigningKeyError::Length(_) => {
                        "make an Ed25519 key (openssl genpkey -algorithm ed25519) or an RSA key of 2048 bits"
                    }
                };
                self.wrong(text, KEY, format!("{}: {error}", path.display()), advice);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::config::tests::{Bench, GOOD};

    const ED25519: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";

    fn bench() -> Bench {
        let bench = Bench::new();
        bench.write("ed.pem", ED25519);
        bench.write("weak.pem", include_str!("../../trust/signing/testdata/rsa-1024.pem"));
        bench
    }

    fn key(domains: &str, selector: &str, file: &str, more: &str) -> String {
        format!("[[dkim]]\ndomains = {domains}\nselector = \"{selector}\"\nkey = \"{file}\"\n{more}\n")
    }

    /// Proves: +SIGN-004
    #[test]
    fn selectors_may_overlap_and_one_key_for_two_domains_is_said() {
        let text = [
            GOOD,
            &key("[\"a.example\"]", "2026a", "ed.pem", ""),
            &key("[\"a.example\"]", "2026B.x", "ed.pem", "sign = false"),
        ]
        .concat();
        let config = bench().parse(&text).unwrap();
        let domain = "a.example".parse().unwrap();
        let signers: Vec<_> = config.signers(&domain).map(|(selector, _)| selector).collect();
        assert_eq!(signers, ["2026a"]);
        assert_eq!(config.dkim[1].selector, "2026b.x");
        assert!(config.warnings.iter().all(|warning| !warning.contains("signs for several")));

        let text = format!("{GOOD}{}", key("[\"a.example\", \"hospital.example\"]", "s", "ed.pem", ""));
        let config = bench().parse(&text).unwrap();
        assert!(config.warnings.iter().any(|warning| warning.contains("one key signs for several domains")));
    }

    /// Proves: -SIGN-003 -SIGN-004
    #[test]
    fn what_cannot_sign_is_refused_with_its_place() {
        let a = "[\"a.example\"]";
        let five: String = (0..5).map(|n| key(a, &format!("s{n}"), "ed.pem", "")).collect();
        for (text, said) in [
            (key("[\"b.example\"]", "s", "ed.pem", ""), "b.example is no domain of this node"),
            (key("[]", "s", "ed.pem", ""), "is empty"),
            (key(a, "s", "ed.pem", "").repeat(2), "s._domainkey.a.example has two keys"),
            (key(a, "s", "weak.pem", ""), "an RSA key of 1024 bits"),
            (key(a, "s", "ours.key", ""), "neither Ed25519 nor RSA"),
            (key(a, "s", "ours.pem", ""), "no private key"),
            (key(a, "s", "nowhere.pem", ""), "cannot read"),
            (key(a, "s_1", "ed.pem", ""), "is no selector"),
            (key(a, "", "ed.pem", ""), "is no selector"),
            (key(a, "s", "ed.pem", "sing = true"), "no such key"),
            ("[[dkim]]\n".to_owned(), "dkim.domains: is missing"),
            (five, "more than 4 keys sign for a.example"),
        ] {
            let error = bench().parse(&format!("{GOOD}{text}")).unwrap_err().to_string();
            assert!(error.contains(said), "{said}: {error}");
        }
    }

    #[test]
    fn a_key_that_everybody_may_read_is_said() {
        use std::os::unix::fs::PermissionsExt as _;
        let bench = bench();
        let file = bench.path().with_file_name("ed.pem");
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let config = bench.parse(&format!("{GOOD}{}", key("[\"a.example\"]", "s", "ed.pem", ""))).unwrap();
        assert!(config.warnings.iter().any(|warning| warning.contains("may read the private key")));
    }
}
