//! The NTA header that strict receivers are said to check. No public text gives its name or value, so it is told by its
//! looks, and by the name that is configured (JUDGE-009).

use super::header::Field;

/// Different names that are noted of one message.
const NAMES_MAX: usize = 16;
/// Octets of a name, and of a value, that are noted.
const OCTETS_MAX: usize = 100;

/// Which field names are those of an NTA header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NtaNames {
    configured: Option<String>,
}

impl NtaNames {
    /// Those that look like it, and the one that is configured.
    #[must_use]
    pub fn new(configured: Option<&str>) -> Self {
        Self { configured: configured.map(str::to_ascii_lowercase) }
    }

    /// Whether this is the configured name.
    #[must_use]
    pub fn is_configured(&self, name: &str) -> bool {
        self.configured.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(name.trim()))
    }

    /// Whether a field of this name is, or could be taken for, an NTA header: `nta`, alone or with digits behind it, as a
    /// word of the name, or `7516` anywhere in it, in any case.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let looks = name.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| {
            let word = word.to_ascii_lowercase();
            let numbered =
                word.strip_prefix("nta").is_some_and(|rest| rest.bytes().all(|octet| octet.is_ascii_digit()));
            numbered || word.contains("7516")
        });
        looks || self.is_configured(name)
    }

    /// What is noted of a message: the names in lower case, each once, at most 16; with the value of the configured one.
    pub(super) fn noted(&self, fields: &[Field<'_>]) -> Vec<String> {
        let mut noted: Vec<String> = Vec::new();
        for field in fields {
            let name = String::from_utf8_lossy(field.name).to_ascii_lowercase();
            if !self.matches(&name) {
                continue;
            }
            let mut note: String = name.chars().take(OCTETS_MAX).collect();
            if self.is_configured(&name) {
                note.push_str(": ");
                note.extend(field.unfolded().trim_ascii().iter().take(OCTETS_MAX).map(|octet| {
                    if octet.is_ascii_graphic() || *octet == b' ' { char::from(*octet) } else { '?' }
                }));
            }
            if !noted.contains(&note) && noted.len() < NAMES_MAX {
                noted.push(note);
            }
        }
        noted
    }

    /// Whether the configured header stands there, once and with a value.
    pub(super) fn holds_configured(&self, fields: &[Field<'_>]) -> bool {
        let mut own = fields.iter().filter(|field| self.is_configured(&String::from_utf8_lossy(field.name)));
        let first = own.next().is_some_and(|field| !field.unfolded().trim_ascii().is_empty());
        first && own.next().is_none()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::header::fields;
    use super::*;

    /// Proves: +JUDGE-009 -JUDGE-009
    #[test]
    fn names_are_told_by_whole_words() {
        let names = NtaNames::new(Some("X-Secure-Mail"));
        for name in [
            "NTA",
            "X-NTA",
            "x-nta-7516",
            "NTA7516",
            "X-Nta7516-Version",
            "NEN7516",
            "nta_status",
            "x-secure-MAIL",
        ] {
            assert!(names.matches(name), "{name}");
        }
        for name in
            ["Montana", "X-Santa", "Content-Type", "X-Mentation", "From", "X-751-6", "ntax", "X-Secure"]
        {
            assert!(!names.matches(name), "{name}");
        }
        assert!(!NtaNames::default().matches("X-Secure-Mail"));
    }

    /// Proves: +JUDGE-009 -JUDGE-009
    #[test]
    fn only_the_value_of_the_configured_one_is_noted() {
        let section = b"X-NTA: secret\r\nFrom: a@a.nl\r\nx-nta : again\r\nNTA-7516: yes\xff\r\n really\r\n";
        let fields = fields(section, 10).unwrap();
        let names = NtaNames::new(Some("nta-7516"));
        assert_eq!(names.noted(&fields), ["x-nta", "nta-7516: yes? really"]);
        assert_eq!(NtaNames::default().noted(&fields), ["x-nta", "nta-7516"]);
        assert!(names.holds_configured(&fields) && !NtaNames::default().holds_configured(&fields));
    }

    #[test]
    fn t27_a_stranger_cannot_choose_how_much_is_noted() {
        let section: String = (0..40).map(|n| format!("X-NTA-{n}{}: x\r\n", "y".repeat(300))).collect();
        let noted = NtaNames::default().noted(&fields(section.as_bytes(), 100).unwrap());
        assert_eq!((noted.len(), noted[0].len()), (NAMES_MAX, OCTETS_MAX));
    }
}
