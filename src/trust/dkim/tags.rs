//! The tag-list of DKIM (RFC 6376 section 3.2), read strictly.

/// Tags in one list. RFC 6376 defines some twenty; what goes far beyond is meant to be searched, not read.
const TAGS_MAX: usize = 64;

/// Names and values, in the order of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tags<'t>(Vec<(&'t str, &'t str)>);

impl<'t> Tags<'t> {
    /// Reads a list. Octets outside ASCII may stand in values, as RFC 8616 section 4 admits.
    ///
    /// # Errors
    /// A tag twice, an item that is no tag, a character that no value has: the whole list is malformed then, because two
    /// readers could take different things from it.
    pub fn read(text: &'t [u8]) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(text).map_err(|_| "is neither ASCII nor UTF-8")?;
        // One semicolon may end the list.
        let text = trim(text);
        let text = text.strip_suffix(';').unwrap_or(text);
        let mut tags: Vec<(&str, &str)> = Vec::new();
        for item in text.split(';') {
            let (name, value) = item.split_once('=').ok_or("has an item that is no tag")?;
            let (name, value) = (trim(name), trim(value));
            if !is_name(name) {
                return Err("has a tag without a name");
            }
            if !value.chars().all(is_value) {
                return Err("has a character that no value can hold");
            }
            if tags.iter().any(|(before, _)| *before == name) {
                return Err("has a tag twice");
            }
            if tags.len() == TAGS_MAX {
                return Err("has too many tags");
            }
            tags.push((name, value));
        }
        Ok(Self(tags))
    }

    /// The value of a tag; names are case-sensitive.
    pub fn get(&self, name: &str) -> Option<&'t str> {
        self.0.iter().find(|(own, _)| *own == name).map(|(_, value)| *value)
    }

    /// The name of the first tag.
    pub fn first(&self) -> Option<&'t str> {
        self.0.first().map(|(name, _)| *name)
    }
}

/// Folding white space, folds already known to be well-formed.
const fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

pub(super) fn trim(text: &str) -> &str {
    text.trim_matches(is_blank)
}

/// The text without any folding white space, as the base64 of `b=`, `bh=` and `p=` is read.
pub(super) fn without_blanks(text: &str) -> String {
    text.chars().filter(|c| !is_blank(*c)).collect()
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'_')
}

fn is_value(c: char) -> bool {
    is_blank(c) || (c != ';' && if c.is_ascii() { c.is_ascii_graphic() } else { !c.is_control() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lists_are_read_as_the_grammar_has_them() {
        let tags = Tags::read(b" v = 1;\r\n\ta=x  y ; b=;\tc_1==; ").unwrap();
        assert_eq!(tags.first(), Some("v"));
        for (name, value) in
            [("v", Some("1")), ("a", Some("x  y")), ("b", Some("")), ("c_1", Some("=")), ("V", None)]
        {
            assert_eq!(tags.get(name), value, "{name}");
        }
        assert_eq!(without_blanks("a\r\n b\tc "), "abc");
        assert_eq!(Tags::read("d=voorbeeld-é.nl".as_bytes()).unwrap().get("d"), Some("voorbeeld-é.nl"));
    }

    #[test]
    fn t06_lists_that_could_be_read_in_two_ways_are_malformed() {
        for text in
            ["", ";", "v=1;;a=2", "v=1;;", "v", "v=1; a", "=1", "v=1; v=1", "1a=2", "a b=2", "a=\u{7}"]
        {
            assert!(Tags::read(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(Tags::read(b"a=\xff").is_err());
        let many: String = (0..=TAGS_MAX).map(|n| format!("a{n}=;")).collect();
        assert!(Tags::read(many.as_bytes()).is_err());
    }
}
