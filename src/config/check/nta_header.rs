//! `[nta_header]`.

use super::values::Check;
use crate::config::checked::{NtaHeader, NtaInbound};
use crate::config::file;

/// A name and a short value fit on one line of a message (RFC 5322 section 2.1.1).
const NAME_OCTETS_MAX: usize = 70;
const VALUE_OCTETS_MAX: usize = 200;
/// What may stand in braces in a value.
const PLACES: [&str; 3] = ["{domain}", "{provider}", "{node}"];
/// Fields that mean something else, to anybody.
const TAKEN: [&str; 11] = [
    "from",
    "to",
    "cc",
    "subject",
    "date",
    "message-id",
    "received",
    "dkim-signature",
    "authentication-results",
    "federation-assurance",
    "federation-content-changed",
];

impl Check<'_, '_> {
    pub(super) fn nta_header(&mut self, written: &file::NtaHeader) -> Option<NtaHeader> {
        let words =
            [("off", NtaInbound::Off), ("observe", NtaInbound::Observe), ("enforce", NtaInbound::Enforce)];
        let inbound = self.word(&written.inbound, "nta_header.inbound", &words, NtaInbound::Observe)?;
        let mut right = true;
        if let Some(name) = &written.name {
            let text = name.get_ref();
            let graphic = text.bytes().all(|octet| octet.is_ascii_graphic() && octet != b':');
            if text.is_empty() || text.len() > NAME_OCTETS_MAX || !graphic {
                let advice =
                    "write the name alone, such as \"X-NTA7516\": printable ASCII without blanks and colon";
                self.wrong(name, "nta_header.name", format!("`{text}` is no field name"), advice);
                right = false;
            } else if TAKEN.iter().any(|taken| text.eq_ignore_ascii_case(taken)) {
                let what = format!("`{text}` means something else in every message");
                self.wrong(
                    name,
                    "nta_header.name",
                    what,
                    "write the name of the header that your peers expect",
                );
                right = false;
            }
        }
        if let Some(value) = &written.value {
            if let Err(what) = template(value.get_ref()) {
                let advice =
                    format!("write printable ASCII, with {} where they are meant", PLACES.join(", "));
                self.wrong(value, "nta_header.value", what, advice);
                right = false;
            } else if written.name.is_none() {
                let what = "has a value for a header without a name";
                self.wrong(value, "nta_header.value", what, "set nta_header.name too, or neither");
                right = false;
            }
        }
        if let (NtaInbound::Enforce, None, Some(text)) = (inbound, &written.name, &written.inbound) {
            let what = "asks for a header of which nobody has said the name";
            self.wrong(text, "nta_header.inbound", what, "set nta_header.name, or write \"observe\"");
            right = false;
        }
        let text = |text: &file::Text| text.as_ref().map(|text| text.get_ref().clone());
        right.then(|| NtaHeader { name: text(&written.name), value: text(&written.value), inbound })
    }
}

/// Whether a value can stand in a header field, and all its braces are known.
fn template(text: &str) -> Result<(), String> {
    if text.trim().is_empty() || text.len() > VALUE_OCTETS_MAX {
        return Err(format!("a value has from 1 to {VALUE_OCTETS_MAX} octets"));
    }
    if !text.bytes().all(|octet| octet.is_ascii_graphic() || octet == b' ') {
        return Err("the value holds what is not printable ASCII".to_owned());
    }
    let bare = PLACES.iter().fold(text.to_owned(), |text, place| text.replace(place, ""));
    if bare.contains(['{', '}']) {
        return Err(format!("`{text}` has braces around something that is not known"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{Bench, GOOD};

    #[test]
    fn the_section_is_read_and_what_contradicts_itself_is_refused() {
        let bench = Bench::new();
        let read = |lines: &str| {
            bench.parse(&format!("{GOOD}\n[nta_header]\n{lines}\n")).map(|config| config.nta_header)
        };
        assert_eq!(read("").ok(), Some(NtaHeader::default()));
        let named = read("name = \"X-NTA\"\nvalue = \"{provider}\"\ninbound = \"enforce\"").ok();
        let expected = NtaHeader {
            name: Some("X-NTA".into()),
            value: Some("{provider}".into()),
            inbound: NtaInbound::Enforce,
        };
        assert_eq!(named, Some(expected));
        for wrong in [
            "inbound = \"enforce\"",
            "inbound = \"perhaps\"",
            "value = \"x\"",
            "name = \"X NTA\"",
            "name = \"\"",
            "name = \"Subject\"",
            "name = \"X-NTA\"\nvalue = \"{nobody}\"",
            "header = \"X-NTA\"",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn values_are_one_line_with_known_places() {
        for good in ["yes", "NTA7516; provider={provider}; domain={domain}", "{node}"] {
            assert!(template(good).is_ok(), "{good}");
        }
        for bad in ["", "  ", "a\r\nb", "é", "{sender}", "{domain", "a}", &"x".repeat(VALUE_OCTETS_MAX + 1)]
        {
            assert!(template(bad).is_err(), "{bad}");
        }
    }
}
