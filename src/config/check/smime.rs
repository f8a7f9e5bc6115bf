//! `[smime]`: the authorities by which mail is judged, and the keys that sign it (SMIME-014).

use toml::Spanned;

use super::values::Check;
use crate::config::checked::{Node, Smime, SmimeKey};
use crate::config::file;
use crate::model::{Address, DomainName};
use crate::trust::smime::{MailAnchors, SmimeKeyError, SmimeSigner};

const ANCHORS: &str = "smime.trust_anchors";
const ADDRESSES: &str = "smime.signer.addresses";
const DOMAINS: &str = "smime.signer.domains";
const CERTIFICATE: &str = "smime.signer.certificate";
const KEY: &str = "smime.signer.key";
const FILE: &str = "create the file, or correct the path; relative paths count from this file's directory";

impl Check<'_, '_> {
    pub(super) fn smime(&mut self, written: &file::Smime, node: Option<&Node>) -> Option<Smime> {
        let anchors = match &written.trust_anchors {
            Some(text) => self.mail_anchors(text).map(Some),
            None => Some(None),
        };
        let read: Vec<Option<SmimeKey>> =
            written.signer.iter().map(|entry| self.smime_key(entry, node)).collect();
        let signers: Vec<SmimeKey> = read.into_iter().collect::<Option<_>>()?;
        let mut complete = true;
        for (index, (key, entry)) in signers.iter().zip(&written.signer).enumerate() {
            let before = signers[..index].iter().filter(|other| other.sign && key.sign);
            for other in before {
                let address = key.addresses.iter().find(|address| other.addresses.contains(address));
                let domain = key.domains.iter().find(|domain| other.domains.contains(domain));
                let twice = address.map(ToString::to_string).or_else(|| domain.map(ToString::to_string));
                if let Some(twice) = twice {
                    let what = format!("two certificates sign for {twice}");
                    let advice = "a message gets one signature: set `sign = false` in one of the entries";
                    self.problems.add(Some(entry.span()), "smime.signer", what, advice);
                    complete = false;
                }
            }
        }
        let anchors = anchors?;
        complete.then_some(Smime { anchors, signers })
    }

    fn mail_anchors(&mut self, text: &Spanned<String>) -> Option<(MailAnchors, std::path::PathBuf)> {
        let (path, pem) = self.read(text, ANCHORS, FILE)?;
        match MailAnchors::from_pem(&pem) {
            Ok(anchors) => Some((anchors, path)),
            Err(error) => {
                let advice = "the file needs the certificates of the authorities themselves, in PEM form";
                self.wrong(text, ANCHORS, format!("{}: {error}", path.display()), advice);
                None
            }
        }
    }

    fn smime_key(&mut self, entry: &Spanned<file::SmimeSigner>, node: Option<&Node>) -> Option<SmimeKey> {
        let (written, span) = (entry.get_ref(), entry.span());
        if written.addresses.is_none() && written.domains.is_none() {
            let advice = "list the senders in `addresses`, or whole domains of node.domains in `domains`";
            self.problems.add(Some(span), ADDRESSES, "neither addresses nor domains are listed", advice);
            return None;
        }
        let advice = "name the PEM file with the certificate, and those above it behind it";
        let certificate = self.need_in(span.clone(), &written.certificate, CERTIFICATE, advice);
        let key = self.need_in(span, &written.key, KEY, "name the PEM file with the private key");
        let addresses = match &written.addresses {
            Some(texts) => self.list(texts, ADDRESSES, Self::smime_address),
            None => Some(Vec::new()),
        };
        let domains = match &written.domains {
            Some(texts) => self.domains(texts, DOMAINS),
            None => Some(Vec::new()),
        };
        let (signer, certificate_file, key_file) = self.smime_signer(certificate?, key?)?;
        let (addresses, domains) = (addresses?, domains?);
        let listed = written.addresses.iter().chain(&written.domains);
        self.smime_scope(&addresses, &domains, &signer, listed, node?)?;
        if !signer.is_valid_at(self.now) {
            self.warnings.push(format!(
                "{}: the certificate is not valid now (it ends on {}); mail goes unsigned",
                certificate_file.display(),
                signer.not_after()
            ));
        }
        Some(SmimeKey {
            addresses,
            domains,
            signer,
            certificate: certificate_file,
            key: key_file,
            sign: written.sign.unwrap_or(true),
        })
    }

    fn smime_address(&mut self, text: &Spanned<String>, key: &str) -> Option<Address> {
        let address = text.get_ref().parse().ok();
        if address.is_none() {
            let what = format!("`{}` is no e-mail address", text.get_ref());
            self.wrong(text, key, what, "write it as name@domain, without a display name");
        }
        address
    }

    fn smime_signer(
        &mut self,
        certificate: &Spanned<String>,
        key: &Spanned<String>,
    ) -> Option<(SmimeSigner, std::path::PathBuf, std::path::PathBuf)> {
        let chain = self.read(certificate, CERTIFICATE, FILE);
        let private = self.read(key, KEY, FILE);
        let ((chain_file, chain), (key_file, private)) = (chain?, private?);
        match SmimeSigner::from_pem(&chain, &private) {
            Ok(signer) => {
                self.warn_if_public(&key_file);
                Some((signer, chain_file, key_file))
            }
            Err(error) => {
                let (text, name, file, advice) = match &error {
                    SmimeKeyError::NoKey => (
                        key,
                        KEY,
                        &key_file,
                        "the file needs one -----BEGIN PRIVATE KEY----- section, not encrypted",
                    ),
                    SmimeKeyError::Mismatch => {
                        (key, KEY, &key_file, "name the key that the certificate was made for")
                    }
                    SmimeKeyError::Chain(_) => (
                        certificate,
                        CERTIFICATE,
                        &chain_file,
                        "put the signer's certificate first, those above it behind it",
                    ),
                    SmimeKeyError::Kind | SmimeKeyError::Purpose(_) | SmimeKeyError::NoAddress => (
                        certificate,
                        CERTIFICATE,
                        &chain_file,
                        "ask your authority for an S/MIME certificate: with the sender's address, and emailProtection as \
                         extended key usage",
                    ),
                };
                self.wrong(text, name, format!("{}: {error}", file.display()), advice);
                None
            }
        }
    }

    /// Are these senders ours, and is the certificate for them?
    fn smime_scope<'t>(
        &mut self,
        addresses: &[Address],
        domains: &[DomainName],
        signer: &SmimeSigner,
        mut listed: impl Iterator<Item = &'t Spanned<Vec<Spanned<String>>>>,
        node: &Node,
    ) -> Option<()> {
        let place = listed.next()?;
        let foreign = addresses
            .iter()
            .map(Address::domain)
            .chain(domains)
            .find(|domain| !node.domains.contains(domain));
        let carried: Vec<String> = signer.addresses().iter().map(ToString::to_string).collect();
        let carried = carried.join(", ");
        if let Some(domain) = foreign {
            let advice =
                "add it to node.domains, or remove it here: a node signs for its own customers alone";
            self.wrong(place, "smime.signer", format!("{domain} is no domain of this node"), advice);
            return None;
        }
        if addresses.is_empty() && domains.is_empty() {
            self.wrong(place, "smime.signer", "nobody is listed", "list at least one address or domain");
            return None;
        }
        if let Some(missing) = addresses.iter().find(|address| !signer.is_for(address)) {
            let what = format!("the certificate is for {carried}, and not for {missing}");
            let advice =
                "list only addresses that the certificate carries: recipients compare them with From:";
            self.wrong(place, ADDRESSES, what, advice);
            return None;
        }
        if !domains.is_empty() {
            self.warnings.push(format!(
                "smime.signer: a certificate for {carried} signs for whole domains; recipients' programs will say that others' \
                 mail is signed by somebody else"
            ));
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::config::tests::{Bench, GOOD};
    use crate::trust::smime::tests::{AUTHOR, Kind, Pki, mailbox};

    fn bench() -> Bench {
        let (bench, pki) = (Bench::new(), Pki::shared());
        bench.write("root.pem", &pki.root());
        let key = Kind::P256.key();
        let write = |name: &str, params: &rcgen::CertificateParams| {
            let made = pki.issue(params, &key);
            bench.write(&format!("{name}.pem"), &made.chain);
            bench.write(&format!("{name}.key"), &made.key);
        };
        write("jan", &mailbox(AUTHOR));
        let mut server = mailbox(AUTHOR);
        server.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        write("server", &server);
        let mut old = mailbox(AUTHOR);
        (old.not_before, old.not_after) =
            (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2021, 1, 1));
        write("old", &old);
        bench
    }

    fn signer(scope: &str, name: &str, key: &str, more: &str) -> String {
        format!("[[smime.signer]]\n{scope}\ncertificate = \"{name}.pem\"\nkey = \"{key}.key\"\n{more}\n")
    }

    const JAN: &str = "addresses = [\"jan@a.example\"]";

    /// Proves: +SMIME-014 +SMIME-010 -SMIME-010
    #[test]
    fn who_is_listed_is_signed_for_and_nobody_else() {
        let config = bench().parse(GOOD).unwrap();
        let from = |address: &str| [address.parse().unwrap()];
        assert!(config.smime.signer_of(&from(AUTHOR)).is_none() && config.smime.anchors.is_none());
        let text = format!("{GOOD}[smime]\ntrust_anchors = \"root.pem\"\n{}", signer(JAN, "jan", "jan", ""));
        let config = bench().parse(&text).unwrap();
        assert_eq!(config.smime.anchors.as_ref().unwrap().0.count(), 1);
        assert!(config.smime.signer_of(&from("Jan@a.example")).is_some());
        assert!(config.smime.signer_of(&from("piet@a.example")).is_none());
        assert!(config.smime.signer_of(&from("jan@hospital.example")).is_none());
        let off = config_of(&signer(JAN, "jan", "jan", "sign = false"));
        assert!(off.smime.signer_of(&from(AUTHOR)).is_none());
        let domain = config_of(&signer("domains = [\"a.example\"]", "jan", "jan", ""));
        assert!(domain.smime.signer_of(&from("piet@a.example")).is_some());
        assert!(domain.warnings.iter().any(|warning| warning.contains("signs for whole domains")));
    }

    fn config_of(text: &str) -> crate::config::Config {
        bench().parse(&format!("{GOOD}{text}")).unwrap()
    }

    /// Proves: -SMIME-014
    #[test]
    fn what_nobody_would_believe_is_refused_with_its_place() {
        for (text, said) in [
            (signer(JAN, "server", "server", ""), "does not name emailProtection"),
            (signer(JAN, "jan", "ours", ""), "the private key does not belong"),
            (signer(JAN, "empty", "jan", ""), "the certificate file needs"),
            (signer(JAN, "nowhere", "jan", ""), "cannot read"),
            (signer("addresses = [\"piet@a.example\"]", "jan", "jan", ""), "and not for piet@a.example"),
            (
                signer("addresses = [\"jan@b.example\"]", "jan", "jan", ""),
                "b.example is no domain of this node",
            ),
            (signer("domains = [\"b.example\"]", "jan", "jan", ""), "b.example is no domain of this node"),
            (signer("domains = []", "jan", "jan", ""), "nobody is listed"),
            (signer("addresses = [\"Jan\"]", "jan", "jan", ""), "is no e-mail address"),
            (signer("", "jan", "jan", ""), "neither addresses nor domains"),
            (signer(JAN, "jan", "jan", "").repeat(2), "two certificates sign for jan@a.example"),
            (signer(JAN, "jan", "jan", "sing = true"), "no such key"),
            ("[smime]\ntrust_anchors = \"empty.pem\"\n".to_owned(), "there is no certificate in it"),
            ("[smime]\ntrust_anchors = \"ours.pem\"\n".to_owned(), "is no certification authority"),
            ("[smime]\ntrust_anchors = \"nowhere.pem\"\n".to_owned(), "cannot read"),
            (format!("[[smime.signer]]\n{JAN}\n"), "smime.signer.certificate: is missing"),
        ] {
            let error = bench().parse(&format!("{GOOD}{text}")).unwrap_err().to_string();
            assert!(error.contains(said), "{said}: {error}");
        }
        let twice = signer(JAN, "jan", "jan", "") + &signer(JAN, "jan", "jan", "sign = false");
        assert_eq!(config_of(&twice).smime.signers.len(), 2);
    }

    /// Proves: +SMIME-015
    #[test]
    fn a_certificate_that_has_expired_is_said_and_keeps_nobody_from_starting() {
        let config = config_of(&signer(JAN, "old", "old", ""));
        let said = |warning: &String| warning.contains("old.pem: the certificate is not valid now");
        assert!(config.warnings.iter().any(said), "{:?}", config.warnings);
        assert!(!config.smime.signers[0].signer.is_valid_at("2026-11-22T12:00:00Z".parse().unwrap()));
        let config = config_of(&signer(JAN, "jan", "jan", ""));
        assert!(!config.warnings.iter().any(|warning| warning.contains("not valid now")));
    }
}
