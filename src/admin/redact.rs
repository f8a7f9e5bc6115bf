//! Addresses in logs: as pseudonyms, unless the operator wants them clear.

use std::borrow::Cow;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;

use crate::config::LogAddresses;

/// How many octets of the keyed hash are shown: enough to follow one sender through a day, no more.
const SHOWN_OCTETS: usize = 5;

/// Writes addresses the way the operator chose (OPS-008).
///
/// A pseudonym is a keyed hash of the local part, with the domain in clear: `~3f9a0c11d2@b.example`. The key is made at
/// start and kept in memory only, so lines of one run can be told together, and nobody can go back to a person or
/// compare two runs.
pub struct Redactor {
    key: Option<hmac::Key>,
}

impl Redactor {
    /// With a fresh key.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn new(addresses: LogAddresses) -> Result<Self, aws_lc_rs::error::Unspecified> {
        let key = match addresses {
            LogAddresses::Clear => None,
            LogAddresses::Pseudonymous => Some(hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())?),
        };
        Ok(Self { key })
    }

    /// An address, or the empty text of the null sender.
    #[must_use]
    pub fn address<'a>(&self, address: &'a str) -> Cow<'a, str> {
        let Some(key) = &self.key else { return Cow::Borrowed(address) };
        let Some((local, domain)) = address.rsplit_once('@') else { return Cow::Borrowed(address) };
        let tag = hmac::sign(key, local.to_lowercase().as_bytes());
        let shown: String =
            tag.as_ref().iter().take(SHOWN_OCTETS).map(|octet| format!("{octet:02x}")).collect();
        Cow::Owned(format!("~{shown}@{domain}"))
    }

    /// A text of somebody else, such as a reply, with every address in it rewritten and control characters replaced.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        let printable: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        if self.key.is_none() || !printable.contains('@') {
            return printable;
        }
        let mut out = String::with_capacity(printable.len());
        let mut rest = printable.as_str();
        while let Some(at) = rest.find('@') {
            let start = local_start(&rest[..at]);
            let end = at + 1 + domain_length(&rest[at + 1..]);
            out.push_str(&rest[..start]);
            out.push_str(&self.address(&rest[start..end]));
            rest = &rest[end..];
        }
        out.push_str(rest);
        out
    }
}

/// Where the local part before an `@` begins: after the last character that can only stand outside of it.
fn local_start(before: &str) -> usize {
    if let Some(inner) = before.strip_suffix('"') {
        return inner.rfind('"').unwrap_or(0);
    }
    let outside = |c: char| c.is_whitespace() || "<>()[]:;,\\\"@".contains(c);
    before.rfind(outside).map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8))
}

fn domain_length(after: &str) -> usize {
    let outside = |c: char| !(c.is_alphanumeric() || c == '.' || c == '-');
    let end = after.find(outside).unwrap_or(after.len());
    after[..end].trim_end_matches('.').len()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    /// Proves: +OPS-008
    #[test]
    fn a_pseudonym_is_stable_within_a_run_and_keeps_the_domain() {
        let redactor = Redactor::new(LogAddresses::Pseudonymous).unwrap();
        let (one, other) = (redactor.address("Jan@b.example"), redactor.address("piet@b.example"));
        assert_eq!(one, redactor.address("jan@b.example"));
        assert_ne!(one, other);
        assert!(one.starts_with('~') && one.ends_with("@b.example"));
        let next_run = Redactor::new(LogAddresses::Pseudonymous).unwrap();
        assert_ne!(one, next_run.address("jan@b.example"));
        assert_eq!(redactor.address(""), "");
    }

    /// Proves: -OPS-008
    #[test]
    fn replies_of_others_lose_their_addresses_and_control_characters() {
        let redactor = Redactor::new(LogAddresses::Pseudonymous).unwrap();
        for text in [
            "<jan.de.vries@b.example>: unknown, ask postmaster@b.example.",
            "mailto:jan.de.vries@b.example",
            "\"jan de vries\"@b.example",
            "rcpt=<jan.de.vries@b.example>,<jan.de.vries@c.example>",
            "jan.de.vries@b.example jan.de.vries@b.example",
        ] {
            let shown = redactor.text(text);
            assert!(!shown.contains("vries") && !shown.contains("postmaster@"), "{shown}");
            assert!(shown.contains("@b.example"), "{shown}");
        }
        assert_eq!(redactor.text("no such user\r\n"), "no such user\u{fffd}\u{fffd}");
        let clear = Redactor::new(LogAddresses::Clear).unwrap();
        assert_eq!(clear.text("<jan@b.example>"), "<jan@b.example>");
    }

    proptest! {
        #[test]
        fn no_local_part_survives(before in "[ -~]{0,12}[ <(,;]", local in "[a-z]{9}", after in "[ -~]{0,12}") {
            let redactor = Redactor::new(LogAddresses::Pseudonymous).unwrap();
            let shown = redactor.text(&format!("{before}{local}@b.example {after}"));
            prop_assert!(!shown.contains(&local), "{}", shown);
        }
    }
}
